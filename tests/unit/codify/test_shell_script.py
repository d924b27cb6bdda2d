"""The script of AWS CLI calls and its inverse, read back word by word."""

from __future__ import annotations

import re
import shlex
import subprocess
from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.domain.plan_cases import REGION, scan_of

from imdsctl.codify.shell_script import Unwritable, call, option_name, script, undo_script
from imdsctl.domain.intent import Intent
from imdsctl.domain.plan import Change, Plan, Stage, Surface
from imdsctl.domain.planner import make_plan

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
V2 = {"HttpTokens": "required", "HttpPutResponseHopLimit": 2, "HttpEndpoint": "enabled"}


def plan_of(**region: Any) -> Plan:
    return make_plan(scan_of(region), Intent(), made_at=NOON)


def calls(text: str) -> list[list[str]]:
    """The calls that a script makes, as words, without the name of the program and `--region`."""
    found = []
    for line in text.split("use_account() {")[1].split("}\n", 1)[1].splitlines():
        if match := re.search(r"\baws (ec2|autoscaling) .*", line):
            words = shlex.split(match.group().removesuffix(')"'), comments=True)
            assert words[3:5] == ["--region", REGION]
            found.append(words[2:3] + words[5:])
    return found


def both(plan: Plan) -> tuple[list[list[str]], list[list[str]]]:
    texts = ["".join(made(plan, plan.changes, "reader")) for made in (script, undo_script)]
    for text in texts:
        subprocess.run(["bash", "-n"], input=text.encode(), check=True)
    forward, backward = map(calls, texts)
    return forward, backward


def test_what_had_no_value_becomes_no_preference_and_enforcement_goes_first() -> None:
    forward, backward = both(plan_of(instances=[{"id": "i-1"}]))
    assert forward == [
        ["modify-instance-metadata-defaults", "--http-tokens", "required", "--http-put-response-hop-limit", "2"],
        ["modify-instance-metadata-options", "--instance-id", "i-1", "--http-tokens", "required"],
        ["modify-instance-metadata-defaults", "--http-tokens-enforced", "enabled"],
    ]
    assert backward == [
        ["modify-instance-metadata-defaults", "--http-tokens-enforced", "no-preference"],
        ["modify-instance-metadata-options", "--instance-id", "i-1", "--http-tokens", "optional"],
        ["modify-instance-metadata-defaults", "--http-tokens", "no-preference", "--http-put-response-hop-limit", "-1"],
    ]


def test_recorded_values_are_written_back_and_no_default() -> None:
    _, backward = both(plan_of(defaults={"HttpTokens": "optional", "HttpPutResponseHopLimit": 1}))
    assert backward[1][1:] == ["--http-tokens", "optional", "--http-put-response-hop-limit", "1"]


def test_a_template_gets_a_version_which_the_inverse_finds_and_deletes() -> None:
    template = {"id": "lt-1", "version": 3, "options": {"HttpTokens": "optional", "HttpPutResponseHopLimit": 2}}
    forward, backward = both(plan_of(defaults={**V2, "HttpTokensEnforced": "enabled"}, templates=[template]))
    [create, default] = forward
    mark = create[create.index("--version-description") + 1]
    assert create[:5] == ["create-launch-template-version", "--launch-template-id", "lt-1", "--source-version", "3"]
    assert '{"MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}}' in create
    assert default[-2:] == ["--default-version", "$version"]
    assert backward[0] == ["modify-launch-template", "--launch-template-id", "lt-1", "--default-version", "3"]
    assert backward[1][3:5] == ["--min-version", "4"]
    assert f"[?VersionDescription=='{mark}']" in backward[1][6]
    assert backward[2][0] == "delete-launch-template-versions"


def change(resource: str, **said: Any) -> Change:
    [target] = [each.target for each in scan_of({}).regions]
    return Change("id", Stage.REFRESHES, Surface.AUTO_SCALING_GROUP, target, resource, {}, {}, "why", **said)


def test_hostile_names_stay_words_and_comments() -> None:
    names = ["x'; rm -rf ~ #", "$(id)", "`id`", "--endpoint-url=http://x", "a b"]
    plan = Plan("s1", "", NOON, Intent(), tuple(change(name, name="a\nrm -rf ~") for name in names))
    forward, backward = both(plan)
    assert [each[2] if each[1] == "--auto-scaling-group-name" else each[1] for each in forward] == [
        *names[:3],
        "--auto-scaling-group-name=--endpoint-url=http://x",
        "a b",
    ]
    assert backward == []
    for line in "".join(script(plan, plan.changes, "r")).splitlines():
        assert not line.strip().startswith("rm")
    for hostile in ("file:///etc/passwd", "fileb://x", "a\nb", "a\0"):
        with pytest.raises(Unwritable):
            call(plan.changes[0], "ec2", "x", {"Name": hostile})
        torn = Plan("s1", "", NOON, Intent(), (change(hostile),))
        assert both(torn) == ([], [])
        assert "left out" in "".join(script(torn, torn.changes, "r"))


def test_deferred_changes_are_comments() -> None:
    plan = Plan("s1", "", NOON, Intent(), (change("group", held="wait\n\x1b[2J"),))
    assert both(plan) == ([], [])
    assert "Deferred, so that nothing is called: wait\\u000a\\u001b[2J" in "".join(script(plan, plan.changes, "r"))


def test_the_cli_spells_names_with_dashes() -> None:
    assert option_name("HttpProtocolIpv6") == "http-protocol-ipv6"
    assert option_name("HttpPutResponseHopLimit") == "http-put-response-hop-limit"
