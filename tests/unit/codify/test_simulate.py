"""One call or a table of them, decided with every layer's part, and what would change the answer."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from imdsctl.adapters.policy_set_files import of_scan
from imdsctl.cli.app import run
from imdsctl.cli.dependencies import Dependencies
from imdsctl.codify.asked import Asked, Known, TemplateKnown
from imdsctl.codify.flips import smallest_flip
from imdsctl.codify.policy_set import PolicySet, Written, with_full_access, written
from imdsctl.codify.request_rows import row_of
from imdsctl.codify.scan_known import known_of
from imdsctl.codify.simulate import Result, Says, Simulator
from imdsctl.domain.observations import (
    Account,
    ImageSeen,
    InstanceSeen,
    PolicyKind,
    PolicySeen,
    RegionSeen,
    Scan,
    Target,
    TemplateVersionSeen,
)
from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions, Switch
from imdsctl.domain.precedence import Layer
from imdsctl.fleet.memory_store import MemoryStore
from imdsctl.policy.declarative import effective_policy, parse_declarative_policy
from imdsctl.policy.document import PolicyKind as Kind
from imdsctl.policy.request import Principal, PrincipalKind

ANN = Principal(PrincipalKind.USER, "arn:aws:iam::111122223333:user/ann", "111122223333")
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
REQUIRED = {"HttpTokens": "required"}
OPTIONAL = {"HttpTokens": "optional"}


def statement(effect: str, action: Any = "*", resource: Any = "*", **condition: Any) -> dict[str, Any]:
    out = {"Effect": effect, "Action": action, "Resource": resource}
    return {**out, "Condition": condition} if condition else out


def policy(kind: Kind, *statements: Any, name: str = "p") -> Written:
    return written({"Version": "2012-10-17", "Statement": list(statements)}, name=name, kind=kind)


DENY = statement(
    "Deny",
    "ec2:RunInstances",
    "arn:aws:ec2:*:*:instance/*",
    StringNotEquals={"ec2:MetadataHttpTokens": "required"},
)
GUARDED = PolicySet(scps=(("root", with_full_access([policy(Kind.SCP, DENY, name="guard")])),))


def launch(known: Known | None = None, **more: Any) -> Asked:
    return Asked("RunInstances", {"ImageId": "ami-1", **more}, ANN, known=known or Known())


def test_every_layer_says_its_part_and_the_condition_is_shown_with_what_the_call_has() -> None:
    edge = policy(Kind.BOUNDARY, statement("Allow", "ec2:Describe*"), name="edge")
    policies = PolicySet(GUARDED.scps, boundary=edge)
    found = Simulator(policies).outcome(launch(MetadataOptions=OPTIONAL))
    assert found.result is Result.DENIED
    assert found.resource == "arn:aws:ec2:us-east-1:111122223333:instance/*"
    says = {part.layer: part.says for part in found.parts}
    assert says == {
        "SCPs of root": Says.DENIES,
        "identity": Says.ALLOWS,
        "boundary": Says.SILENT,
        "session": Says.ABSENT,
    }
    [cited] = found.parts[0].statements
    [tested] = cited.conditions
    assert (cited.policy, tested.key, tested.wanted, tested.has) == (
        "guard",
        "ec2:MetadataHttpTokens",
        ("required",),
        "optional",
    )


def test_the_whole_launch_is_simulated_to_what_the_instance_gets() -> None:
    own = AccountDefaults(http_tokens=HttpTokens.REQUIRED)
    found = Simulator(PolicySet()).outcome(launch(Known(own, {"ami-1": "v2.0"})))
    assert found.result is Result.ALLOWED
    assert found.options is not None
    assert found.options.http_put_response_hop_limit == 2
    assert found.resolution is not None
    assert found.resolution.http_tokens.layer is Layer.ACCOUNT_DEFAULT
    enforced = AccountDefaults(http_tokens_enforced=Switch.ENABLED)
    refused = Simulator(PolicySet()).outcome(launch(Known(enforced)))
    assert (refused.result, refused.error_code) == (Result.REFUSED, "UnsupportedOperation")
    flip = smallest_flip(Simulator(PolicySet()), launch(Known(enforced)))
    assert flip is not None
    assert flip.changes == ("set MetadataOptions.HttpTokens=required",)


def test_a_template_speaks_where_the_request_does_not() -> None:
    template = TemplateKnown("lt-1", {"1": {"MetadataOptions": OPTIONAL}, "2": {"MetadataOptions": REQUIRED}})
    known = Known(templates={"web": template})
    results = {
        version: Simulator(GUARDED).result(launch(known, LaunchTemplate={"LaunchTemplateName": "web", **asked}))
        for version, asked in {"default": {}, "latest": {"Version": "$Latest"}, "1": {"Version": "1"}}.items()
    }
    assert results == {"default": Result.DENIED, "latest": Result.ALLOWED, "1": Result.DENIED}


def test_a_declarative_policy_lies_over_the_defaults_and_locks_them() -> None:
    content = {"ec2_attributes": {"instance_metadata_defaults": {"http_tokens": {"@@assign": "required"}}}}
    policies = PolicySet(declarative=effective_policy([[parse_declarative_policy(content, name="d")]]))
    found = Simulator(policies).outcome(launch())
    assert found.options is not None
    assert found.options.http_tokens is HttpTokens.REQUIRED
    change = Asked("ModifyInstanceMetadataDefaults", OPTIONAL, ANN)
    assert Simulator(policies).result(change) is Result.REFUSED


@pytest.mark.parametrize(
    ("condition", "params", "changes"),
    [
        ({"StringNotEquals": {"ec2:MetadataHttpTokens": "required"}}, {}, ("set MetadataOptions.HttpTokens=required",)),
        (
            {"NumericGreaterThan": {"ec2:MetadataHttpPutResponseHopLimit": "3"}},
            {"MetadataOptions": {"HttpPutResponseHopLimit": 9}},
            ("set MetadataOptions.HttpPutResponseHopLimit=1",),
        ),
        ({"StringNotEquals": {"aws:RequestTag/team": "red"}}, {}, ("set the instance's tag team=red",)),
        ({"StringNotEquals": {"aws:RequestedRegion": "eu-west-1"}}, {}, ("ask in eu-west-1",)),
    ],
)
def test_the_smallest_change_lets_a_call_through(condition: Any, params: Any, changes: Any) -> None:
    denies = statement("Deny", "ec2:RunInstances", "arn:aws:ec2:*:*:instance/*", **condition)
    simulator = Simulator(PolicySet(scps=(("root", with_full_access([policy(Kind.SCP, denies)])),)))
    flip = smallest_flip(simulator, launch(**params))
    assert flip is not None
    assert (flip.changes, flip.result) == (changes, Result.ALLOWED)


def test_two_changes_where_one_is_not_enough_and_none_where_none_is() -> None:
    hops = statement(
        "Deny",
        "ec2:RunInstances",
        "arn:aws:ec2:*:*:instance/*",
        NumericGreaterThan={"ec2:MetadataHttpPutResponseHopLimit": "1"},
    )
    both = PolicySet(scps=(("root", with_full_access([policy(Kind.SCP, DENY, hops)])),))
    flip = smallest_flip(Simulator(both), launch(MetadataOptions={"HttpPutResponseHopLimit": 3}))
    assert flip is not None
    assert flip.changes == (
        "set MetadataOptions.HttpTokens=required",
        "set MetadataOptions.HttpPutResponseHopLimit=1",
    )
    never = PolicySet(scps=(("root", with_full_access([policy(Kind.SCP, statement("Deny", "ec2:RunInstances"))])),))
    assert smallest_flip(Simulator(never), launch()) is None


def test_an_organization_of_a_scan_gives_its_policies_and_says_what_it_cannot_tell() -> None:
    content = json.dumps({"Version": "2012-10-17", "Statement": [DENY]})
    full = PolicySeen(
        "p-FullAWSAccess",
        "FullAWSAccess",
        PolicyKind.SERVICE_CONTROL_POLICY,
        "",
        ("r-1", "ou-1", "111122223333"),
        True,
    )
    guard = PolicySeen("p-1", "guard", PolicyKind.SERVICE_CONTROL_POLICY, content, ("ou-1",))
    scan = Scan("s1", NOON, NOON, (Account("111122223333", "web"),), (), policies=(full, guard))
    policies, warnings = of_scan(scan, "111122223333", ())
    assert [each.code for each in warnings] == ["policy-place-unknown"]
    assert Simulator(policies).result(launch()) is Result.ALLOWED
    policies, warnings = of_scan(scan, "111122223333", ("ou-1",))
    assert not warnings
    assert Simulator(policies).result(launch()) is Result.DENIED


def test_a_scan_tells_defaults_templates_images_and_instances() -> None:
    region = RegionSeen(
        Target("111122223333", "us-east-1"),
        AccountDefaults(http_tokens=HttpTokens.REQUIRED),
        (InstanceSeen("i-1", "running", MetadataOptions(http_tokens=HttpTokens.OPTIONAL), tags=(("env", "prod"),)),),
        (TemplateVersionSeen("lt-1", "web", 4, True, True, MetadataOptions(), "ami-2"),),
        (ImageSeen("ami-2", imds_support="v2.0"),),
    )
    known = {("111122223333", "us-east-1"): known_of(region)}
    row = row_of({"LaunchTemplate.LaunchTemplateName": "web", "principal": ANN.arn}, "x", known)
    got = Simulator(PolicySet()).outcome(row.asked).resolution
    assert got is not None
    assert (got.http_tokens.layer, got.http_put_response_hop_limit.layer) == (Layer.ACCOUNT_DEFAULT, Layer.IMAGE)
    prod = statement(
        "Deny", "ec2:Modify*", StringEquals={"aws:ResourceTag/env": "prod", "ec2:MetadataHttpTokens": "optional"}
    )
    policies = PolicySet(scps=(("root", with_full_access([policy(Kind.SCP, prod)])),))
    change = {"action": "ModifyInstanceMetadataOptions", "InstanceId": "i-1", "HttpTokens": "required"}
    row = row_of({**change, "principal": ANN.arn}, "x", known)
    assert Simulator(policies).result(row.asked) is Result.DENIED


# -- the command -----------------------------------------------------------------------------------------------------


def main(*argv: str) -> int:
    deps = Dependencies(
        aws=None,  # type: ignore[arg-type]
        scans=lambda url: MemoryStore(),
        now=lambda: NOON,
        new_id=lambda: "s1",
    )
    return run(("policy", "simulate", *argv), deps)


@pytest.fixture
def guard(tmp_path: Path) -> str:
    file = tmp_path / "guard.json"
    file.write_text(json.dumps({"Version": "2012-10-17", "Statement": [{**DENY, "Sid": "RequireV2"}]}))
    return str(file)


def test_a_table_is_held_against_what_is_expected(tmp_path: Path, guard: str, capsys: Any) -> None:
    table = tmp_path / "requests.csv"
    table.write_text(
        "MetadataOptions.HttpTokens,principal,expect\n"
        "required,arn:aws:iam::111122223333:role/ci,allowed\n"
        "optional,,denied\n"
    )
    assert main("--scp", guard, "--requests", str(table)) == 0
    assert "2 requests, 0 not as expected" in capsys.readouterr().out
    table.write_text(table.read_text() + "optional,,allowed\nrequired,nobody,\nhalf,,\n")
    assert main("--scp", guard, "--requests", str(table), "--json") == 1
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert said["partial"]
    assert [each["result"] for each in said["requests"]] == ["allowed", "denied", "denied"]
    assert said["requests"][1]["would_change_it"]["changes"] == ["set MetadataOptions.HttpTokens=required"]
    assert err.count("request-invalid") == 2
    for named in (f"{table}:5", "`nobody` is not the ARN", f"{table}:6", "`half` is not valid"):
        assert named in err


def test_one_request_is_explained_and_mistakes_are_named(tmp_path: Path, guard: str, capsys: Any) -> None:
    assert main("--scp", guard, "--set", "MetadataOptions.HttpTokens=optional") == 0
    said = capsys.readouterr().out
    for named in ("denied", "guard.json: RequireV2", "is `optional`", "set MetadataOptions.HttpTokens=required"):
        assert named in said
    broken = tmp_path / "requests.json"
    broken.write_text('[{"action": "RunInstances"},]')
    assert main("--scp", guard, "--requests", str(broken)) == 2
    assert f"{broken}:1:" in capsys.readouterr().err
    assert main("--scp", guard, "--set", "nothing") == 2
    assert main("--scp", str(tmp_path / "none.json")) == 2
    assert main("--account", "111122223333") == 2
    assert "scan-missing" in capsys.readouterr().err
