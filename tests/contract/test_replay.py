"""A replay foretells what happens: calls made before a guardrail, and the same calls made again under it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.exceptions import ClientError
from tests.contract.conftest import Org

from imdsctl.codify.guardrails import Settings, Unset, guardrails
from imdsctl.codify.packing import Form, packed
from imdsctl.codify.policy_set import Written, written
from imdsctl.codify.recorded import NAMES
from imdsctl.codify.replay import Replay, Verdict
from imdsctl.policy.document import PolicyKind


def calls(ec2: Any, image: str, number: int) -> list[tuple[str, dict[str, Any]]]:
    """Calls as pipelines make them; `number` keeps the names of templates apart."""
    one = {"ImageId": image, "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1}
    instance = ec2.run_instances(**one, MetadataOptions={"HttpTokens": "required"})["Instances"][0]["InstanceId"]
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "team", "Value": "red"}]}]
    template = f"plain-{number}"
    return [
        ("run_instances", one),
        ("run_instances", {**one, "MetadataOptions": {"HttpTokens": "required"}, "TagSpecifications": tags}),
        ("run_instances", {**one, "MetadataOptions": {"HttpTokens": "required", "HttpPutResponseHopLimit": 5}}),
        ("run_instances", {**one, "MetadataOptions": {"HttpTokens": "optional"}}),
        (
            "create_launch_template",
            {"LaunchTemplateName": template, "LaunchTemplateData": {"ImageId": image, "InstanceType": "t3.micro"}},
        ),
        ("modify_instance_metadata_options", {"InstanceId": instance, "HttpTokens": "optional"}),
        ("modify_instance_metadata_options", {"InstanceId": instance, "HttpTokens": "required"}),
        ("modify_instance_metadata_options", {"InstanceId": instance, "HttpPutResponseHopLimit": 9}),
        ("modify_instance_metadata_defaults", {"HttpTokens": "optional"}),
        ("modify_instance_metadata_defaults", {"HttpTokens": "required"}),
    ]


def made(ec2: Any, name: str, params: dict[str, Any]) -> bool:
    """Whether a call was let through. Anything but a denial by policy is a failure of the test."""
    try:
        getattr(ec2, name)(**params)
    except ClientError as error:
        if error.response["Error"]["Code"] == "UnauthorizedOperation":
            return False
        raise
    return True


def guard(unset: Unset) -> list[Written]:
    documents = packed(Form.SCP, guardrails(Settings(unset=unset)), "guard")
    return [written(each.minified, name=each.name, kind=PolicyKind.SCP) for each in documents]


@pytest.mark.parametrize("unset", list(Unset))
def test_what_a_replay_says_is_what_the_guardrail_then_does(org: Org, unset: Unset) -> None:
    ec2 = org.offline.client("ec2", org.member)
    filters = [{"Name": "name", "Values": ["amzn2-ami-kernel*"]}, {"Name": "architecture", "Values": ["x86_64"]}]
    image = ec2.describe_images(Owners=["amazon"], Filters=filters)["Images"][0]["ImageId"]
    before = calls(ec2, image, 1)
    assert all(made(ec2, *each) for each in before)
    trail = org.offline.client("cloudtrail", org.member)
    events = [
        json.loads(event["CloudTrailEvent"])
        for page in trail.get_paginator("lookup_events").paginate()
        for event in page["Events"]
    ]
    mine = [each for each in reversed(events) if each["eventName"] in NAMES and not each.get("errorCode")]
    mine = mine[-len(before) :]
    replay = Replay(guard(unset))
    foretold = [replay.add(each) for each in mine]

    again = calls(ec2, image, 2)
    for number, document in enumerate(packed(Form.SCP, guardrails(Settings(unset=unset)), "guard")):
        org.api.attach_policy(PolicyId=org.policy(document.minified, f"guard-{number}"), TargetId=org.root)
    happened = [made(ec2, *each) for each in again]
    assert [verdict is not Verdict.STOPPED for verdict in foretold] == happened
    # A template is let through; a launch from it, with nothing said, is what the replay says it is.
    launched = made(
        ec2, "run_instances", {"LaunchTemplate": {"LaunchTemplateName": "plain-2"}, "MinCount": 1, "MaxCount": 1}
    )
    assert launched is (foretold[4] is Verdict.PASSES)
