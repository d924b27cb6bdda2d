"""The intent file: what it may say, and how its mistakes are told."""

from __future__ import annotations

import json
import re
import tomllib
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import jsonschema
import pytest

from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.domain.intent import Images, Intent, Wanted, expired, parse_document, parse_intent
from imdsctl.domain.intent_match import Home
from imdsctl.domain.intent_schema import intent_schema
from imdsctl.domain.observations import Target
from imdsctl.domain.options import HttpTokens, MetadataOptions, Switch
from imdsctl.domain.waves import Gates, OnFailure, OnUnknown, PlannedWave

GUIDE = (Path(__file__).parents[3] / "docs" / "guide.md").read_text()
INTENT_FILE = GUIDE[GUIDE.index("### Intent file") : GUIDE.index("## `imdsctl apply`")]


def problems(text: str) -> list[tuple[str | None, str]]:
    with pytest.raises(DiagnosticError) as caught:
        parse_intent(text, "fleet.toml")
    assert caught.value.exit_code == 2
    return [(each.subject, each.summary) for each in caught.value.diagnostics]


def test_a_file_that_says_nothing_is_the_built_in_intent() -> None:
    assert parse_intent("version = 1") == Intent()


def test_the_built_in_intent_requires_v2_everywhere_and_enforces_it() -> None:
    built_in = Intent()
    assert built_in.region_defaults == Wanted(MetadataOptions(http_tokens=HttpTokens.REQUIRED), 2)
    assert built_in.instances.options == built_in.launch_templates.options
    assert built_in.instances.options == MetadataOptions(http_tokens=HttpTokens.REQUIRED)
    assert built_in.enforce
    assert built_in.images is Images.LEAVE


def test_everything_can_be_said() -> None:
    intent = parse_intent(
        """
        version = 1
        enforce = false
        [region-defaults]
        http-tokens = "leave"
        hop-limit-at-least = 3
        [instances]
        http-endpoint = "disabled"
        instance-metadata-tags = "disabled"
        [launch-templates]
        explicit = true
        [images]
        imds-support = "v2.0"
        [containers]
        hop-limit-at-least = "leave"
        [exclude]
        accounts = ["111122223333"]
        regions = ["eu-west-1"]
        resources = ["i-0123456789abcdef0"]
        """
    )
    assert not intent.enforce
    assert intent.region_defaults == Wanted(MetadataOptions(), 3)
    assert intent.instances.options.http_endpoint is Switch.DISABLED
    assert intent.instances.options.http_tokens is HttpTokens.REQUIRED
    assert intent.explicit_templates
    assert intent.images is Images.V2
    assert intent.container_hop_limit_at_least is None
    assert intent.excludes(Target("111122223333", "us-east-1"))
    assert intent.excludes(Target("999988887777", "eu-west-1"))
    assert not intent.excludes(Target("999988887777", "us-east-1"))
    assert parse_document(intent.to_plain()) == intent


def test_all_problems_are_reported_together_with_their_lines() -> None:
    assert problems(
        """version = 1
enforce = "yes"
colour = "red"

[instances]
http-tokens = "require"
hop-limit-at-least = 65
htp-endpoint = "disabled"

[exclude]
accounts = ["12"]
regions = "eu-west-1"
"""
    ) == [
        ("fleet.toml:2", "`enforce` is `yes`"),
        ("fleet.toml:3", "`colour` is not known here"),
        ("fleet.toml:6", "`http-tokens` is `require`"),
        ("fleet.toml:7", "`hop-limit-at-least` is `65`"),
        ("fleet.toml:8", "`htp-endpoint` is not known here"),
        ("fleet.toml:11", "`12` in `accounts` is not valid"),
        ("fleet.toml:12", "`regions` has to be a list"),
    ]


@pytest.mark.parametrize("wish", ['http-tokens = "optional"', 'http-endpoint = "enabled"'])
def test_opening_what_is_closed_cannot_be_wished_for(wish: str) -> None:
    assert problems(f"version = 1\n[instances]\n{wish}")[0][0] == "fleet.toml:3"


@pytest.mark.parametrize(
    ("text", "place"),
    [("version = ", "fleet.toml:1"), ("version = 1\n[instances\n", "fleet.toml:2"), ("=", "fleet.toml:1")],
)
def test_a_file_that_is_not_toml_names_the_line(text: str, place: str) -> None:
    assert problems(text)[0][0] == place


@pytest.mark.parametrize("version", ["", "version = 2", "version = true", 'version = "1"'])
def test_a_version_that_is_missing_or_unknown_is_refused(version: str) -> None:
    assert "version" in problems(version)[0][1]


def test_a_value_where_a_table_belongs_is_refused() -> None:
    assert problems("version = 1\ninstances = 3") == [("fleet.toml:2", "`instances` has to be a table")]


# Scopes, waves, exceptions


WHOLE = """
version = 1
[[scope]]
match = { ou = "Workloads/Legacy", region = ["eu-*", "us-*"] }
enforce = false
images.imds-support = "v2.0"
[scope.instances]
hop-limit-at-least = "auto"
[scope.launch-templates]
hop-limit-exactly = 3
[[wave]]
name = "sandbox"
match.ou = "Sandbox"
no-v1-calls = "14d"
unknown-evidence = "allow"
[[wave]]
name = "prod"
approval = true
soak = "1d12h"
rejected-calls-max = 0
windows = ["Mon-Fri 09:00-17:00 Europe/Berlin"]
on-failure = "rollback"
[[exception]]
match = { account = "111122223333", tag = "app=billing" }
owner = "billing@example.com"
reason = "its agent knows only IMDSv1"
expires = 2027-03-31
"""


def test_scopes_waves_and_exceptions_are_read_and_come_back_out_of_a_plan() -> None:
    intent = parse_intent(WHOLE, "fleet.toml")
    sandbox, prod = (rule.wave for rule in intent.waves)
    assert sandbox == PlannedWave("sandbox", Gates(timedelta(days=14), OnUnknown.ALLOW))
    assert prod.gates == Gates(
        approval=True,
        soak=timedelta(days=1, hours=12),
        rejected_calls_max=0,
        windows=("Mon-Fri 09:00-17:00 Europe/Berlin",),
    )
    assert prod.on_failure is OnFailure.ROLLBACK
    (exemption,) = intent.exemptions
    assert (exemption.owner, exemption.expires, exemption.place) == (
        "billing@example.com",
        date(2027, 3, 31),
        "fleet.toml:23",
    )
    again = parse_document(json.loads(json.dumps(intent.to_plain())))
    assert again == intent
    assert again.exemptions[0].place == "fleet.toml:23"


def test_a_scope_says_only_what_differs() -> None:
    intent = parse_intent(WHOLE)
    there = intent.at(Home("111122223333", "eu-west-1", ou_path="Root/Workloads/Legacy/One"))
    assert (there.enforce, there.images, there.instances.hop_limit_auto) == (False, Images.V2, True)
    assert there.launch_templates.hop_limit_exactly == 3
    assert there.instances.options == intent.instances.options
    assert there.region_defaults == intent.region_defaults
    elsewhere = intent.at(Home("111122223333", "ap-east-1", ou_path="Root/Workloads/Legacy/One"))
    assert (elsewhere.enforce, elsewhere.images) == (True, Images.LEAVE)


@pytest.mark.parametrize(
    ("text", "place", "summary", "hint"),
    [
        ("[[wave]]\nname='a'\nno-v1-call = '14d'", 4, "`no-v1-call` is not known", "did you mean `no-v1-calls`?"),
        ("[[scope]]\nmatch = { acount = 'x' }", 3, "`acount` is not known", "did you mean `account`?"),
        ("[instnaces]\nhttp-tokens = 'required'", 2, "`instnaces` is not known", "did you mean `instances`?"),
        ("[[wave]]\nmatch.ou = 'x'", 2, "`name` is missing", "waves need a name"),
        ("[[wave]]\nname = 'a'\nmatch.ou = 'x'\n[[wave]]\nname = 'a'", 6, "two waves `a`", "a name of its own"),
        ("[[wave]]\nname = 'a'\n[[wave]]\nname = 'b'", 2, "those after it stay empty", "put it last"),
        ("[[wave]]\nname = 'a'\nsoak = 'soon'", 4, "`soak` is `soon`", '"14d", "2h"'),
        ("[[wave]]\nname = 'a'\nsoak = ''", 4, "`soak` is ``", '"14d", "2h"'),
        ("[[wave]]\nname = 'a'\nno-v1-calls = '500d'", 4, "`no-v1-calls` is `500d`", "at most 455d"),
        ("[[wave]]\nname = 'a'\nrejected-calls-max = 0", 4, "this wave has none", 'soak = "1h"'),
        ("[[wave]]\nname = 'a'\nwindows = ['Mon 9-17 UTC']", 4, "window `Mon 9-17 UTC`", "write days, times and zone"),
        ("[[wave]]\nname = 'a'\nwindows = ['Mon 09:00-17:00 Mars/North']", 4, "not valid", "not a time zone"),
        ("[[wave]]\nname = 'a'\nunknown-evidence = 'ignore'", 4, "`ignore`", '"stop" or "allow"'),
        ("[[exception]]\nmatch.account = 'x'\nowner = 'me'\nexpires = 2027-01-01", 2, "`reason` is missing", "say why"),
        ("[[exception]]\nmatch.account = 'x'\nowner = 'me'\nreason = 'x'\nexpires = 'soon'", 6, "`soon`", "2027-03-31"),
        ("[[exception]]\nowner = 'me'\nreason = 'x'\nexpires = 2027-01-01", 2, "would except everything", "say which"),
        ("[[scope]]\nmatch.tag = 'a=b'\nenforce = true", 4, "about a whole Region", "match by `ou`"),
        ("[instances]\nhop-limit-at-least = 2\nhop-limit-exactly = 1", 4, "both say it", "keep one"),
        ("[[scope]]\nmatch.region = []", 3, "`region` is `[]`", "a list of some"),
        ("scope = 3", 2, "has to be a list of tables", "`[[scope]]`"),
    ],
)
def test_a_mistake_is_told_with_its_line_and_the_remedy(text: str, place: int, summary: str, hint: str) -> None:
    with pytest.raises(DiagnosticError) as caught:
        parse_intent(f"version = 1\n{text}", "fleet.toml")
    (found,) = caught.value.diagnostics
    assert found.subject == f"fleet.toml:{place}"
    assert summary in found.summary
    assert hint in (found.hint or "")


def test_an_exception_holds_through_its_last_day_and_names_its_owner_and_line_after_that() -> None:
    intent = parse_intent(WHOLE, "fleet.toml")
    assert expired(intent, datetime(2027, 3, 31, 23, 59, tzinfo=UTC)) == ()
    (found,) = expired(intent, datetime(2027, 4, 1, tzinfo=UTC))
    assert (found.code, found.subject) == ("exception-expired", "fleet.toml:23")
    assert "billing@example.com" in found.summary
    # The day is UTC's, whoever asks.
    assert expired(intent, datetime(2027, 4, 1, 1, tzinfo=timezone(timedelta(hours=9)))) == ()


# The JSON schema


def valid(text: str) -> bool:
    """What an editor would say: TOML's dates come to it as text."""
    document = json.loads(json.dumps(tomllib.loads(text), default=str))
    return bool(jsonschema.Draft202012Validator(intent_schema()).is_valid(document))


def test_the_schema_is_one() -> None:
    jsonschema.Draft202012Validator.check_schema(intent_schema())


@pytest.mark.parametrize("text", ["version = 1", WHOLE, *re.findall(r"```toml\n(.*?)```", INTENT_FILE, re.DOTALL)])
def test_the_schema_takes_what_the_parser_takes(text: str) -> None:
    text = text if "version = 1" in text else f"version = 1\n{text}"
    parse_intent(text)
    assert valid(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "version = 2",
        "version = 1\ncolour = 'red'",
        "version = 1\n[instances]\nhttp-tokens = 'optional'",
        "version = 1\n[instances]\nhop-limit-exactly = 0",
        "version = 1\n[region-defaults]\nhttp-protocol-ipv6 = 'enabled'",
        "version = 1\n[exclude]\naccounts = ['12']",
        "version = 1\n[[scope]]\nmatch.acount = 'x'",
        "version = 1\n[[scope]]\nmatch.ou = []",
        "version = 1\n[[wave]]\nsoak = '1d'",
        "version = 1\n[[wave]]\nname = 'a'\nsoak = 'soon'",
        "version = 1\n[[wave]]\nname = 'a'\nsoak = ''",
        "version = 1\n[[exception]]\nowner = 'me'\nreason = 'x'\nexpires = 2027-01-01",
        "version = 1\n[[exception]]\nmatch.ou = 'x'\nowner = 'me'\nreason = 'x'",
    ],
)
def test_the_schema_refuses_what_the_parser_refuses(text: str) -> None:
    with pytest.raises(DiagnosticError):
        parse_intent(text)
    assert not valid(text)
