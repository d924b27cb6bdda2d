"""`imdsctl iam-policy` prints what is needed and nothing else: a role with exactly that does the whole job.

The local AWS is the judge twice: it authorizes every call by the printed policies, and its CloudTrail tells which calls
were made. What the policy allows and nobody called is named here, with the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import botocore.session
import pytest

from imdsctl.domain.permissions import LAUNCH_DRY_RUN, NEEDS, Mode, Place, policy

ROLE = "imdsctl"
REGIONS = ("us-east-1", "eu-west-1", "eu-west-2", "ap-south-1", "sa-east-1", "us-west-2", "ca-central-1", "eu-north-1")
DRY_RUN = "--launch-dry-run"
NOT_CALLED = {
    "organizations:DescribeEffectivePolicy": "only below an EC2 policy that is attached",
    "cloudwatch:GetMetricData": "a data event: CloudTrail's event history has none",
    "ec2:ModifyImageAttribute": "only when the intent asks for it: it cannot be undone",
    "autoscaling:StartInstanceRefresh": "only when the intent asks for refreshes; tests/contract/test_writes.py does",
    "autoscaling:DescribeInstanceRefreshes": "the same",
    "iam:PassRole": "asked with ec2:RunInstances, and no call by itself",
    "sqs:ReceiveMessage": "only `watch --queue`; tests/journeys/test_watch.py does",
    "sqs:DeleteMessage": "the same",
}


class Stage:
    """The organization, with the role and the user that have exactly what is printed."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self.url = shell.env["AWS_ENDPOINT_URL"]
        admin = {"aws_access_key_id": "AWS_ACCESS_KEY_ID", "aws_secret_access_key": "AWS_SECRET_ACCESS_KEY"}
        self.admin = {name: shell.env[variable] for name, variable in admin.items()}
        self.management = self.client("sts").get_caller_identity()["Account"]
        self.members: dict[str, dict[str, str]] = {}
        for account in self.client("organizations").list_accounts()["Accounts"]:
            self._equip(account["Id"])
        iam = self.client("iam")
        iam.create_user(UserName=ROLE)
        for name, flags in (("caller", ("--caller",)), ("member", (DRY_RUN,))):
            made = iam.create_policy(PolicyName=name, PolicyDocument=self.printed("write", *flags))
            iam.attach_user_policy(UserName=ROLE, PolicyArn=made["Policy"]["Arn"])
        key = iam.create_access_key(UserName=ROLE)["AccessKey"]
        env = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
        self.user = type(shell)(shell.home, {**shell.env, **env})

    def client(self, service: str, region: str = "us-east-1", keys: dict[str, str] | None = None) -> Any:
        return boto3.client(service, region_name=region, endpoint_url=self.url, **(keys or self.admin))

    def printed(self, mode: str, *flags: str) -> str:
        return str(self.shell.imdsctl("iam-policy", mode, "--role", ROLE, *flags).stdout)

    def _equip(self, account_id: str) -> None:
        if account_id == self.management:
            return
        arn = f"arn:aws:iam::{account_id}:role/OrganizationAccountAccessRole"
        try:
            found = self.client("sts").assume_role(RoleArn=arn, RoleSessionName="setup")["Credentials"]
        except self.client("sts").exceptions.ClientError:
            return  # suspended, or it refuses the role
        keys = {
            "aws_access_key_id": found["AccessKeyId"],
            "aws_secret_access_key": found["SecretAccessKey"],
            "aws_session_token": found["SessionToken"],
        }
        self.members[account_id] = keys
        trust = {"Effect": "Allow", "Principal": {"AWS": self.management}, "Action": "sts:AssumeRole"}
        iam = self.client("iam", keys=keys)
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        iam.create_role(RoleName=ROLE, AssumeRolePolicyDocument=document)
        iam.put_role_policy(RoleName=ROLE, PolicyName="p", PolicyDocument=self.printed("write", DRY_RUN))

    def calls(self) -> Iterator[tuple[str, str]]:
        """Every call of the user and of the role: its service's name in IAM, and the operation."""
        for keys in (self.admin, *self.members.values()):
            for region in REGIONS:
                trail = self.client("cloudtrail", region, keys)
                attribute = {"AttributeKey": "ReadOnly", "AttributeValue": "true"}
                for wanted in (attribute, {**attribute, "AttributeValue": "false"}):
                    for page in trail.get_paginator("lookup_events").paginate(LookupAttributes=[wanted]):
                        for event in page["Events"]:
                            record = json.loads(event["CloudTrailEvent"])
                            arn = record["userIdentity"].get("arn", "")
                            if arn.endswith(f":user/{ROLE}") or f":assumed-role/{ROLE}/" in arn:
                                assert "errorCode" not in record or record["errorCode"] not in DENIED, record
                                yield (
                                    PREFIXES.get(source := record["eventSource"].split(".")[0], source),
                                    event["EventName"],
                                )


DENIED = {"AccessDenied", "AccessDeniedException", "Client.UnauthorizedOperation", "UnauthorizedOperation"}
PREFIXES = {"monitoring": "cloudwatch"}
"""CloudTrail's names of services that IAM calls differently."""


@pytest.fixture(scope="module")
def place(start_local: Callable[..., Any]) -> Stage:
    return Stage(
        start_local(
            "--accounts", "6", "--instances", "10", "--seed", "3", "--v1-percent", "0", "--regions", ",".join(REGIONS)
        )
    )


@pytest.mark.slow
def test_the_printed_policies_are_enough_for_the_whole_job_and_nothing_in_them_is_idle(
    place: Stage, tmp_path: Path
) -> None:
    user, plan = place.user, str(tmp_path / "plan.json")
    scanned = user.imdsctl("scan", "--role", ROLE, "--json", "--regions", ",".join(REGIONS))
    assert scanned.returncode == 0, scanned.stderr
    refused = [each for each in json.loads(scanned.stdout)["unknown"] if each["code"] in DENIED]
    assert [each for each in refused if each["what"] != "account"] == []
    evidence = user.imdsctl("evidence", "--role", ROLE, "--yes", "--cloudtrail-lookup", "--json")
    assert evidence.returncode == 0, evidence.stderr
    assert not [each for each in json.loads(evidence.stdout).get("unseen", ()) if "not authorized" in str(each)]
    assert user.imdsctl("plan", "-o", plan).returncode == 0
    count = str(json.loads(Path(plan).read_text())["count"])
    applied = user.imdsctl("apply", plan, "--role", ROLE, "--confirm", count)
    assert applied.returncode == 0, applied.stderr
    asked = user.imdsctl("rollback", plan, "--role", ROLE, "--delete-versions", "--confirm", count)
    # Where the Region enforced IMDSv2 before us, nothing goes back to what AWS would refuse: nothing else may fail.
    failed = re.findall(r"failed: .*", asked.stderr)
    assert all("httpTokensEnforced is enabled for this account" in each for each in failed), failed
    assert asked.returncode == (1 if failed else 0), asked.stderr

    verified = user.imdsctl("verify", "--role", ROLE, DRY_RUN, "--json")
    launches = json.loads(verified.stdout)["dry_runs"]
    assert launches, verified.stderr
    assert [each for each in launches if each["launches"] == "unknown"] == []

    used = {f"{prefix}:{operation}" for prefix, operation in place.calls()} - {"sts:GetCallerIdentity"}
    allowed = {action for need in NEEDS for action in need.actions}
    allowed |= {action for _, action, *_ in LAUNCH_DRY_RUN}
    assert used - allowed == set()
    assert allowed - used == set(NOT_CALLED)


def test_a_reading_role_sees_everything_and_can_write_nothing() -> None:
    reading = {action for need in NEEDS if need.mode is Mode.READ for action in need.actions}
    writing = {action for need in NEEDS if need.mode is Mode.WRITE for action in need.actions}
    assert not reading & writing
    assert all(need.place is Place.MEMBER for need in NEEDS if need.mode is Mode.WRITE)


TELLING = {"UserData", "OptionSettings", "Configurations"}
"""Members of AWS's answers that may hold a password."""


def test_what_the_reading_role_shows_beside_settings_is_said_in_the_guide() -> None:
    """A thief of the role sees all that AWS answers, not only what imdsctl decodes. botocore's models are the judge."""
    said = (Path(__file__).parents[2] / "docs" / "security.md").read_text()
    session = botocore.session.get_session()
    for need in (each for each in NEEDS if each.mode is Mode.READ):
        model = session.get_service_model(need.service)
        for operation in need.operations:
            shape = model.operation_model(operation).output_shape
            if shape is not None and TELLING & set(members(shape)):
                assert f"`{operation}`" in said


def members(shape: Any, above: tuple[str, ...] = ()) -> Iterator[str]:
    """The names of all members of an answer."""
    if shape.name in above:
        return
    inner = {"structure": getattr(shape, "members", {}), "list": {"": getattr(shape, "member", None)}}
    for name, each in inner.get(shape.type_name, {}).items():
        yield name
        yield from members(each, (*above, shape.name))


def test_no_policy_allows_a_launch_unless_the_dry_run_is_asked_for() -> None:
    for mode in Mode:
        plain = policy(mode, Place.MEMBER, role=ROLE)
        asked = policy(mode, Place.MEMBER, role=ROLE, launch_dry_run=True)
        assert "RunInstances" not in json.dumps(plain)
        added = asked["Statement"][len(plain["Statement"]) :]
        assert asked["Statement"][: len(plain["Statement"])] == plain["Statement"]
        assert [each["Action"] for each in added] == [["ec2:RunInstances"], ["iam:PassRole"]]
        assert all("*" not in each["Resource"] for each in added)
