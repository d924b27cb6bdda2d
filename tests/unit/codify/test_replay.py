"""Recorded calls under guardrails: what is stopped, what must change, what nobody can know, and files that are bad."""

from __future__ import annotations

import csv
import gzip
import json
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bench.policy import record, write_events

from imdsctl.cli.app import run
from imdsctl.cli.dependencies import Dependencies
from imdsctl.codify.asked import Known, TemplateKnown
from imdsctl.codify.policy_set import Written, written
from imdsctl.codify.recorded import Incomplete, parameters_of, pipeline_of
from imdsctl.codify.replay import Replay, Verdict
from imdsctl.fleet.memory_store import MemoryStore
from imdsctl.policy.document import PolicyKind
from imdsctl.wire.errors import ServiceError

ACCOUNT = "111122223333"
INSTANCE = "arn:aws:ec2:*:*:instance/*"


def scp(
    action: Any = "ec2:RunInstances", resource: Any = INSTANCE, name: str = "guard", **condition: Any
) -> tuple[Written, ...]:
    tested = condition or {"StringNotEquals": {"ec2:MetadataHttpTokens": "required"}}
    statement = {"Sid": "Stop", "Effect": "Deny", "Action": action, "Resource": resource, "Condition": tested}
    return (written({"Version": "2012-10-17", "Statement": statement}, name=name, kind=PolicyKind.SCP),)


def event(name: str = "RunInstances", params: Any = None, **more: Any) -> dict[str, Any]:
    arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/ci/build-1"
    issuer = {"arn": f"arn:aws:iam::{ACCOUNT}:role/ci"}
    return {
        "eventVersion": "1.09",
        "userIdentity": {
            "type": "AssumedRole",
            "arn": arn,
            "accountId": ACCOUNT,
            "sessionContext": {"sessionIssuer": issuer},
        },
        "eventTime": "2026-11-01T10:00:00Z",
        "eventSource": "ec2.amazonaws.com",
        "eventName": name,
        "awsRegion": "eu-west-1",
        "userAgent": "APN/1.0 HashiCorp/1.0 Terraform/1.5.7",
        "requestParameters": params if params is not None else {"instanceType": "t3.micro"},
        "recipientAccountId": ACCOUNT,
        **more,
    }


def options(**said: Any) -> dict[str, Any]:
    return {"instancesSet": {"items": [{"imageId": "ami-1"}]}, "metadataOptions": said}


def from_template(**more: Any) -> dict[str, Any]:
    return {"launchTemplate": {"launchTemplateId": "lt-1", "version": "2"}, **more}


@pytest.mark.parametrize(
    ("params", "verdict"),
    [
        ({"instanceType": "t3.micro"}, Verdict.STOPPED),
        (options(httpTokens="optional"), Verdict.STOPPED),
        (options(httpTokens="required"), Verdict.PASSES),
        (from_template(), Verdict.UNKNOWN),
        (from_template(metadataOptions={"httpTokens": "required"}), Verdict.PASSES),
        (from_template(metadataOptions={"httpTokens": "optional"}), Verdict.STOPPED),
    ],
)
def test_a_launch_is_judged_by_what_is_recorded(params: Any, verdict: Verdict) -> None:
    replay = Replay(scp())
    assert replay.add(event(params=params)) is verdict
    # What was decided once is decided in the same way again.
    assert replay.add(event(params=params)) is verdict
    assert replay.total(verdict) == 2


def test_what_must_change_is_said_for_each_principal_template_pipeline_and_account() -> None:
    replay = Replay(scp())
    replay.add(event(params=options(httpTokens="optional")))
    group = replay.groups["principal"][f"arn:aws:iam::{ACCOUNT}:role/ci"]
    assert group.changes == {"set MetadataOptions.HttpTokens=required": 1}
    assert replay.statements == {"guard: Stop": 1}
    assert list(replay.groups["pipeline"]) == ["Terraform, session build-1"]
    assert list(replay.groups["account"]) == [ACCOUNT]


@pytest.mark.parametrize(("tokens", "verdict"), [("required", Verdict.PASSES), ("optional", Verdict.STOPPED)])
def test_a_scan_tells_what_a_template_says(tokens: str, verdict: Verdict) -> None:
    known = Known(templates={"lt-1": TemplateKnown("lt-1", {"2": {"MetadataOptions": {"HttpTokens": tokens}}})})
    replay = Replay(scp(), known={(ACCOUNT, "eu-west-1"): known})
    assert replay.add(event(params=from_template())) is verdict
    configs = {"LaunchTemplateSpecification": {"LaunchTemplateId": "lt-1", "Version": "2"}, "tag": 1}
    fleet = {"CreateFleetRequest": {"LaunchTemplateConfigs": configs, "Type": "instant"}}
    assert replay.add(event("CreateFleet", fleet)) is verdict
    # A version that the scan did not see stays unknown.
    other = {"launchTemplate": {"launchTemplateId": "lt-1", "version": "9"}}
    assert replay.add(event(params=other)) is Verdict.UNKNOWN


def test_a_template_passes_and_its_launches_would_not() -> None:
    replay = Replay(scp())
    request = {"LaunchTemplateName": "web", "LaunchTemplateData": {"MetadataOptions": {"HttpTokens": "optional"}}}
    made = event("CreateLaunchTemplate", {"CreateLaunchTemplateRequest": request})
    assert replay.add(made) is Verdict.LAUNCHES_STOPPED
    assert replay.groups["template"]["web"].changes == {
        "in the launch template: set MetadataOptions.HttpTokens=required": 1
    }
    version = {"LaunchTemplateId": "lt-1", "SourceVersion": "1", "LaunchTemplateData": {"InstanceType": "t3.micro"}}
    assert (
        replay.add(event("CreateLaunchTemplateVersion", {"CreateLaunchTemplateVersionRequest": version}))
        is Verdict.UNKNOWN
    )


def test_a_change_of_an_instance_is_judged_by_what_it_asks_for() -> None:
    guard = scp("ec2:ModifyInstanceMetadataOptions", StringEquals={"ec2:Attribute/HttpTokens": "optional"})
    replay = Replay(guard)
    for tokens, verdict in (("optional", Verdict.STOPPED), ("required", Verdict.PASSES)):
        request = {"InstanceId": "i-1", "HttpTokens": tokens}
        params = {"ModifyInstanceMetadataOptionsRequest": request}
        assert replay.add(event("ModifyInstanceMetadataOptions", params)) is verdict


def test_the_lock_out_of_a_condition_on_everything_is_found() -> None:
    # The image and the subnet of a launch have no such key, and a negated operator matches an absent one.
    assert Replay(scp(resource="*")).add(event(params=options(httpTokens="required"))) is Verdict.STOPPED


@pytest.mark.parametrize(
    "condition",
    [
        {"StringEquals": {"aws:PrincipalTag/team": "red"}},
        {"StringNotEquals": {"aws:PrincipalOrgID": "o-1"}},
        {"StringEquals": {"aws:ResourceTag/env": "prod"}},
    ],
)
def test_what_cloudtrail_does_not_record_is_unknown_and_named(condition: Any) -> None:
    replay = Replay(scp("ec2:ModifyInstanceMetadataOptions", **condition))
    request = {"InstanceId": "i-1", "HttpTokens": "optional"}
    found = replay.add(event("ModifyInstanceMetadataOptions", {"ModifyInstanceMetadataOptionsRequest": request}))
    assert found is Verdict.UNKNOWN
    [reason] = replay.reasons
    [key] = next(iter(condition.values()))
    assert key.lower() in reason


def test_an_unknown_key_does_not_hide_a_condition_that_is_false() -> None:
    guard = scp(StringEquals={"aws:PrincipalTag/team": "red"}, StringNotEquals={"ec2:MetadataHttpTokens": "required"})
    assert Replay(guard).add(event(params=options(httpTokens="required"))) is Verdict.PASSES
    assert Replay(guard).add(event(params=options(httpTokens="optional"))) is Verdict.UNKNOWN


def test_an_allow_list_that_may_allow_is_unknown_whatever_stands_after_it() -> None:
    def allow(action: str, **condition: Any) -> dict[str, Any]:
        more = {"Condition": condition} if condition else {}
        return {"Effect": "Allow", "Action": action, "Resource": "*", **more}

    maybe = allow("ec2:*", StringEquals={"aws:PrincipalTag/team": "red"})
    never = allow("ec2:*", StringEquals={"aws:RequestedRegion": "ap-south-1"})

    def verdict(*statements: Any) -> Verdict | None:
        document = {"Version": "2012-10-17", "Statement": list(statements)}
        return Replay([written(document, name="list", kind=PolicyKind.SCP)]).add(event())

    assert verdict(maybe, never) is verdict(never, maybe) is Verdict.UNKNOWN
    assert verdict(never) is verdict(allow("s3:*")) is Verdict.STOPPED
    assert verdict(maybe, allow("ec2:*")) is Verdict.PASSES


def test_a_single_subnet_is_unknown_where_the_request_names_none() -> None:
    one = "arn:aws:ec2:eu-west-1:111122223333:subnet/subnet-1"
    replay = Replay(scp(resource=one, Null={"aws:PrincipalArn": "false"}))
    assert replay.add(event(params=options())) is Verdict.UNKNOWN
    assert replay.add(event(params={**options(), "subnetId": "subnet-1"})) is Verdict.STOPPED
    assert replay.add(event(params={**options(), "subnetId": "subnet-2"})) is Verdict.PASSES


def test_services_their_roles_and_failed_calls_are_counted_apart() -> None:
    replay = Replay(scp(), management_account="999999999999")
    linked = f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/autoscaling.amazonaws.com/AWSServiceRoleForAutoScaling"
    identity = {
        "type": "AssumedRole",
        "arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/AWSServiceRoleForAutoScaling/AutoScaling",
        "accountId": ACCOUNT,
        "sessionContext": {"sessionIssuer": {"arn": linked}},
    }
    assert replay.add(event(userIdentity=identity)) is Verdict.NOT_BOUND
    service = {"type": "AWSService", "invokedBy": "ec2.amazonaws.com"}
    assert replay.add(event(userIdentity=service)) is Verdict.NOT_BOUND
    assert replay.add(event(recipientAccountId="999999999999")) is Verdict.NOT_BOUND
    assert replay.add(event(errorCode="Client.UnauthorizedOperation", requestParameters=None)) is Verdict.FAILED


@pytest.mark.parametrize("member", ["userIdentity", "awsRegion", "requestParameters", "eventName"])
def test_an_event_that_lacks_a_member_is_refused_by_name(member: str) -> None:
    broken = event()
    del broken[member]
    with pytest.raises(Incomplete, match=member):
        Replay(scp()).add(broken)


def test_requests_are_spelled_as_the_api_spells_them() -> None:
    recorded = {
        "instancesSet": {"items": [{"imageId": "ami-1", "keyName": "k"}]},
        "metadataOptions": {"httpTokens": "required", "httpPutResponseHopLimit": "2"},
        "tagSpecificationSet": {"items": [{"resourceType": "instance", "tags": [{"key": "a", "value": "b"}]}]},
        "groupSet": {"items": [{"groupId": "sg-1"}]},
    }
    assert parameters_of("RunInstances", recorded) == {
        "ImageId": "ami-1",
        "KeyName": "k",
        "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 2},
        "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "b"}]}],
        "SecurityGroupIds": ["sg-1"],
    }
    assert pipeline_of("aws-cli/2.15 md/x", "gha-20261101-4f3a2b1c") == "aws-cli, session gha-*-*"
    assert pipeline_of("autoscaling.amazonaws.com", "") == "autoscaling.amazonaws.com"


class History:
    """AWS as far as a look-up asks it: one account, whose second Region refuses."""

    default_region = "eu-west-1"

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def call(self, credentials: Any, service: str, region: str, operation: str, *rest: Any) -> Any:
        assert operation == "GetCallerIdentity"
        return {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/me"}

    async def paginate(
        self, credentials: Any, service: str, region: str, operation: str, params: Any, projection: Any
    ) -> AsyncIterator[Any]:
        [attribute] = params["LookupAttributes"]
        self.asked.append((region, attribute["AttributeValue"]))
        if region == "us-east-1":
            raise ServiceError("AccessDeniedException", "no", 400)
        texts = [json.dumps(STOPPED), "{broken"] if attribute["AttributeValue"] == "RunInstances" else []
        yield {"Events": [{"CloudTrailEvent": text} for text in texts]}


def main(*argv: str, aws: Any = None) -> int:
    @asynccontextmanager
    async def client(profile: str | None) -> AsyncIterator[Any]:
        yield aws

    now = datetime(2026, 11, 3, tzinfo=UTC)
    deps = Dependencies(aws=client, scans=lambda url: MemoryStore(), now=lambda: now, new_id=lambda: "s1")
    return run(argv, deps)


def test_the_event_history_is_asked_in_every_region_and_what_refuses_is_named(guard: Path, capsys: Any) -> None:
    aws = History()
    asked = ("--lookup", "--regions", "eu-west-1,us-east-1", "--json")
    assert main("policy", "replay", "--scp", str(guard), *asked, aws=aws) == 1
    out, err = capsys.readouterr()
    said = json.loads(out)
    assert said["calls"] == {"RunInstances": {"stopped": 1}}
    assert said["partial"]
    assert "cloudtrail-unasked" in err
    assert f"{ACCOUNT}/us-east-1" in err
    assert "1 event(s) cannot be used" in err
    assert len([each for each in aws.asked if each[0] == "eu-west-1"]) == 6


def test_files_or_the_history_and_files_or_the_generated_guardrails(guard: Path, capsys: Any) -> None:
    for wrong in (
        ("--generated",),
        ("--generated", "--lookup", "--cloudtrail", "x"),
        ("--lookup",),
        ("--lookup", "--generated", "--scp", str(guard)),
    ):
        assert main("policy", "replay", *wrong) == 2
        assert "option-conflict" in capsys.readouterr().err


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def guard(tmp_path: Path) -> Path:
    file = tmp_path / "guard.json"
    condition = {"StringNotEquals": {"ec2:MetadataHttpTokens": "required"}}
    statement = {"Effect": "Deny", "Action": "ec2:RunInstances", "Resource": INSTANCE, "Condition": condition}
    file.write_text(json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
    return file


def replayed(capsys: Any, guard: Path, path: Path) -> tuple[int, dict[str, Any], str]:
    code = main("policy", "replay", "--scp", str(guard), "--json", "--cloudtrail", str(path))
    out, err = capsys.readouterr()
    return code, json.loads(out), err


STOPPED = event(params=options(httpTokens="optional"))
PASSES = event(params=options(httpTokens="required"))
OTHER = event("DescribeInstances")
THREE = [STOPPED, PASSES, OTHER]
PARTS = ([STOPPED], [], [], [PASSES, OTHER])


def _athena(folder: Path) -> Path:
    file = folder / "athena.csv"
    with file.open("w", newline="") as out:
        names = [each.lower() for each in STOPPED]
        rows = csv.DictWriter(out, names)
        rows.writeheader()
        for each in THREE:
            row = {name.lower(): value for name, value in each.items()}
            row["requestparameters"] = json.dumps(each["requestParameters"])
            issuer = each["userIdentity"]["sessionContext"]["sessionIssuer"]["arn"]
            row["useridentity"] = (
                f"{{type=AssumedRole, principalid=AROA:build-1, arn={each['userIdentity']['arn']}, accountid={ACCOUNT},"
                f" invokedby=null, sessioncontext={{attributes={{mfaauthenticated=false}}, sessionissuer={{type=Role,"
                f" arn={issuer}, username=ci}}}}}}"
            )
            rows.writerow(row)
    return file


def _written(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    data = text.encode()
    file.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return file


FORMS = ("trail", "trail.gz", "spaced", "lines", "lookup", "list", "lake", "lake-json", "behind", "spaced-behind")


@pytest.mark.parametrize("form", [*FORMS, "marked", "spaced-marked", "athena"])
def test_every_form_of_file_says_the_same(form: str, tmp_path: Path, guard: Path, capsys: Any) -> None:
    compact = json.dumps({"Records": THREE}, separators=(",", ":"))
    texts = {
        "trail": ("a.json", compact),
        "trail.gz": ("a.json.gz", compact),
        "spaced": ("a.json", json.dumps({"Records": THREE}, indent=2)),
        "lines": ("a.jsonl", "\n".join(map(json.dumps, THREE))),
        "lookup": ("a.json", json.dumps({"Events": [{"CloudTrailEvent": json.dumps(each)} for each in THREE]})),
        "list": ("a.json", json.dumps(THREE)),
        "lake-json": ("a.jsonl", "\n".join(json.dumps({"eventJson": json.dumps(each)}) for each in THREE)),
        # Several files put one behind the other, one of them without a record.
        "behind": ("a.json.gz", "\n".join(json.dumps({"Records": r}, separators=(",", ":")) for r in PARTS)),
        "spaced-behind": ("a.json", "".join(json.dumps({"Records": each}) for each in PARTS)),
        "marked": ("a.json", f"\ufeff{compact}"),
        "spaced-marked": ("a.json", "\ufeff" + json.dumps({"Records": THREE}, indent=2)),
        "lake": ("a.jsonl", "\n".join(json.dumps({"eventData": json.dumps(each)}) for each in THREE)),
    }
    path = _athena(tmp_path) if form == "athena" else _written(tmp_path, *texts[form])
    code, said, err = replayed(capsys, guard, path)
    assert (code, err) == (1, "")
    assert (said["events"], said["replayed"], said["partial"]) == (3, 2, False)
    assert said["calls"] == {"RunInstances": {"stopped": 1, "passes": 1}}
    [principal] = said["groups"]["principal"]
    assert principal["name"] == f"arn:aws:iam::{ACCOUNT}:role/ci"


def test_damaged_files_are_named_and_the_rest_is_replayed(tmp_path: Path, guard: Path, capsys: Any) -> None:
    folder = tmp_path / "trail"
    folder.mkdir()
    dice = random.Random(3)
    many = json.dumps({"Records": [record(dice, number) for number in range(300)]}, separators=(",", ":")).encode()
    packed = gzip.compress(many)
    (folder / "cut.json.gz").write_bytes(packed[: len(packed) // 2])
    (folder / "half.json").write_bytes(many[:-40])
    (folder / "whole.json").write_text(json.dumps({"Records": [PASSES]}, separators=(",", ":")))
    lacking = {name: value for name, value in PASSES.items() if name != "userIdentity"}
    (folder / "lacking.jsonl").write_text(json.dumps(lacking) + "\n{not json\n" + json.dumps(STOPPED))
    code, said, err = replayed(capsys, guard, folder)
    assert code == 1
    assert said["partial"]
    assert 300 < said["replayed"] < 602
    assert err.count("cloudtrail-file-damaged") == 2
    for named in ("cut.json.gz", "half.json", "`userIdentity` is missing", "record 2"):
        assert named in err
    assert "whole.json" not in err


def test_members_of_a_gzip_are_one_file(tmp_path: Path, guard: Path, capsys: Any) -> None:
    members = [gzip.compress(json.dumps({"Records": each}, separators=(",", ":")).encode()) for each in PARTS]
    (tmp_path / "all.json.gz").write_bytes(b"".join(members))
    code, said, err = replayed(capsys, guard, tmp_path / "all.json.gz")
    assert (code, err, said["events"], said["partial"]) == (1, "", 3, False)


def test_a_comma_too_many_costs_no_record_and_is_named(tmp_path: Path, guard: Path, capsys: Any) -> None:
    text = json.dumps({"Records": THREE}, separators=(",", ":")).removesuffix("]}") + ",]}"
    code, said, err = replayed(capsys, guard, _written(tmp_path, "a.json", text))
    assert (code, said["events"], said["partial"]) == (1, 3, True)
    assert "a comma too many before the last `]`" in err


def test_digests_beside_the_files_are_no_damage(tmp_path: Path, guard: Path, capsys: Any) -> None:
    folder = tmp_path / "AWSLogs"
    (folder / "CloudTrail-Digest").mkdir(parents=True)
    digest = json.dumps({"awsAccountId": ACCOUNT, "digestStartTime": "2026-11-20T10:00:00Z", "logFiles": []})
    _written(folder / "CloudTrail-Digest", "d.json.gz", digest)
    _written(folder, "a.json.gz", json.dumps({"Records": [PASSES]}))
    code, said, err = replayed(capsys, guard, folder)
    assert (code, err, said["events"], said["partial"]) == (0, "", 1, False)


def test_many_events_of_files_are_counted_once_each(tmp_path: Path, guard: Path, capsys: Any) -> None:
    folder = tmp_path / "trail"
    folder.mkdir()
    write_events(folder, 4_500)
    code, said, err = replayed(capsys, guard, folder)
    assert (code, err) == (1, "")
    assert said["replayed"] == said["events"] == 4_500
    assert sum(sum(each.values()) for each in said["calls"].values()) == 4_500


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"Version": "2012-10-17", "Statement": [],}', "not JSON"),
        ('{"Version": "2012-10-17", // why\n "Statement": []}', "not JSON"),
        ('{"Version": "2012-10-17", "Statement": [{"Effect": "Dney", "Action": "*", "Resource": "*"}]}', "Dney"),
    ],
)
def test_a_guardrail_that_aws_would_refuse_is_refused(text: str, said: str, tmp_path: Path, capsys: Any) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text(text)
    assert main("policy", "replay", "--scp", str(bad), "--cloudtrail", str(tmp_path)) == 2
    err = capsys.readouterr().err
    for named in ("policy-file-malformed", said, "bad.json"):
        assert named in err
