"""What `policy check` proves is what happens: bad policies and corrections in the local AWS, by botocore."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imdsctl.adapters.policy_files import vocabulary
from imdsctl.codify.policy_check import check_policies
from imdsctl.codify.policy_file import File

BAD = Path(__file__).parents[1] / "cases" / "guardrails" / "bad"
V1, V2 = {"HttpTokens": "optional"}, {"HttpTokens": "required"}


class Member:
    """An account, and what an SCP lets it do."""

    def __init__(self, org: Any) -> None:
        self.org = org
        self.ec2 = org.offline.client("ec2", org.member, checked=False)
        filters = [
            {"Name": "name", "Values": ["amzn2-ami-kernel*"]},
            {"Name": "architecture", "Values": ["x86_64"]},
        ]
        self.image = self.ec2.describe_images(Owners=["amazon"], Filters=filters)["Images"][0]["ImageId"]
        self.open, self.closed = self.launch(V1), self.launch(V2)

    def launch(self, options: dict[str, Any]) -> str:
        launched = self.ec2.run_instances(
            ImageId=self.image, InstanceType="t3.micro", MinCount=1, MaxCount=1, MetadataOptions=options
        )
        return str(launched["Instances"][0]["InstanceId"])

    def change(self, instance_id: str, **options: Any) -> Any:
        return self.ec2.modify_instance_metadata_options(InstanceId=instance_id, DryRun=True, **options)

    def may(self, call: Callable[[], Any]) -> bool:
        try:
            call()
        except self.ec2.exceptions.ClientError as error:
            refused = error.response["Error"]
        else:
            return True
        assert refused["Code"] in ("UnauthorizedOperation", "DryRunOperation"), refused
        return bool(refused["Code"] == "DryRunOperation")

    def under(self, document: str, calls: list[Callable[[], Any]]) -> list[bool]:
        """Which of the calls pass while the SCP is attached."""
        identifier = self.org.policy(document, "under")
        self.org.api.attach_policy(PolicyId=identifier, TargetId=self.org.member)
        passed = [self.may(call) for call in calls]
        self.org.api.detach_policy(PolicyId=identifier, TargetId=self.org.member)
        self.org.api.delete_policy(PolicyId=identifier)
        return passed


@pytest.fixture
def member(org: Any) -> Member:
    return Member(org)


def corrected(name: str) -> str:
    [statement, *_] = [
        each.corrected for each in check_policies([File(name, (BAD / name).read_text())], vocabulary()).findings
    ]
    return json.dumps({"Version": "2012-10-17", "Statement": statement})


def test_what_is_proven_to_lock_out_does_and_the_correction_does_not(member: Member) -> None:
    calls = [lambda: member.launch(V2), lambda: member.launch(V1)]
    for name in (
        "lock-out-star.json",
        "lock-out-value.json",
        "lock-out-image.json",
        "lock-out-if-exists.json",
        "key-typo.json",
        "key-of-change-on-launch.json",
    ):
        assert member.under((BAD / name).read_text(), calls) == [False, False], name
        assert member.under(corrected(name), calls) == [True, False], name


def test_what_is_proven_to_do_nothing_does_and_the_correction_works(member: Member) -> None:
    calls = [lambda: member.launch(V2), lambda: member.launch(V1)]
    for name in ("resource-plural.json", "value-optional-typo.json", "launch-on-image.json", "resource-colon.json"):
        assert member.under((BAD / name).read_text(), calls) == [True, True], name
        assert member.under(corrected(name), calls) == [True, False], name


def test_what_is_proven_of_changes_is_so(member: Member) -> None:
    calls = [
        lambda: member.change(member.open, HttpTokens="required"),
        lambda: member.change(member.closed, HttpTokens="optional"),
        lambda: member.change(member.open, HttpPutResponseHopLimit=1),
    ]
    as_meant = [True, False, True]
    for name, passed in {
        "change-of-current-value.json": [False, True, False],
        "change-without-null.json": [True, False, False],
        "change-reversed.json": [False, True, True],
    }.items():
        assert member.under((BAD / name).read_text(), calls) == passed, name
        assert member.under(corrected(name), calls) == as_meant, name
    assert member.under((BAD / "enforcer-options.json").read_text(), calls) == [False, False, False]
