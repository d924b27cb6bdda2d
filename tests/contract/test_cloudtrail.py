"""botocore as the client of CloudTrail: every call that is made can be found, told as AWS tells it."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from imdsctl.local.cloudtrail import trail


def events(offline: Any, region: str = "us-east-1", **attribute: str) -> list[dict[str, Any]]:
    client = offline.client("cloudtrail", region=region)
    given = [{"AttributeKey": key, "AttributeValue": value} for key, value in attribute.items()]
    pages = client.get_paginator("lookup_events").paginate(LookupAttributes=given)
    return [event for page in pages for event in page["Events"]]


def told(event: dict[str, Any]) -> dict[str, Any]:
    return dict(json.loads(event["CloudTrailEvent"]))


def test_a_write_is_told_with_who_what_and_how_it_went(offline: Any) -> None:
    ec2 = offline.client("ec2", region="eu-west-1")
    instance = ec2.describe_instances()["Reservations"][0]["Instances"][0]["InstanceId"]
    answer = ec2.modify_instance_metadata_options(InstanceId=instance, HttpTokens="required")
    (event,) = events(offline, "eu-west-1", EventName="ModifyInstanceMetadataOptions")
    assert (event["Username"], event["ReadOnly"]) == ("imdsctl-admin", "false")
    assert event["Resources"] == [{"ResourceType": "AWS::EC2::Instance", "ResourceName": instance}]
    record = told(event)
    key = offline.world.admin_credentials(offline.management)
    assert record["userIdentity"] == {
        "type": "IAMUser",
        "principalId": key.caller.user_id,
        "arn": key.caller.arn,
        "accountId": offline.management,
        "accessKeyId": key.access_key_id,
        "userName": "imdsctl-admin",
    }
    assert record["requestParameters"] == {
        "ModifyInstanceMetadataOptionsRequest": {"InstanceId": instance, "HttpTokens": "required"}
    }
    response = record["responseElements"]["ModifyInstanceMetadataOptionsResponse"]
    assert response["instanceMetadataOptions"]["httpTokens"] == "required"
    assert record["userAgent"].startswith("Botocore/")
    assert record["requestID"] == answer["ResponseMetadata"]["RequestId"]
    fixed = {name: record[name] for name in ("eventSource", "awsRegion", "readOnly", "eventType", "managementEvent")}
    assert fixed == {
        "eventSource": "ec2.amazonaws.com",
        "awsRegion": "eu-west-1",
        "readOnly": False,
        "eventType": "AwsApiCall",
        "managementEvent": True,
    }
    assert (record["eventCategory"], record["recipientAccountId"]) == ("Management", offline.management)
    assert record["eventID"] == event["EventId"]
    (same,) = events(offline, "eu-west-1", EventId=event["EventId"])
    assert same == event


def test_reads_and_refusals_are_told_too(offline: Any) -> None:
    ec2 = offline.client("ec2")
    ec2.describe_instances(Filters=[{"Name": "instance-state-name", "Values": ["running"]}])
    offline.refused(lambda: ec2.start_instances(InstanceIds=["i-00000000000000000"]))
    offline.refused(lambda: ec2.describe_regions(DryRun=True))
    (read,) = events(offline, EventName="DescribeInstances")
    assert told(read)["requestParameters"] == {
        "filterSet": {"items": [{"name": "instance-state-name", "valueSet": {"items": [{"value": "running"}]}}]}
    }
    assert told(read)["responseElements"] is None
    (refused,) = events(offline, EventName="StartInstances")
    assert told(refused)["errorCode"] == "Client.InvalidInstanceID.NotFound"
    assert told(refused)["errorMessage"] == "The instance ID 'i-00000000000000000' does not exist"
    assert told(refused)["requestParameters"] == {"instancesSet": {"items": [{"instanceId": "i-00000000000000000"}]}}
    (dry,) = events(offline, EventName="DescribeRegions")
    assert told(dry)["errorCode"] == "Client.DryRunOperation"


def test_a_role_session_is_told_with_its_issuer(offline: Any) -> None:
    arn = f"arn:aws:iam::{offline.member}:role/OrganizationAccountAccessRole"
    credentials = offline.client("sts").assume_role(RoleArn=arn, RoleSessionName="audit")["Credentials"]
    offline.client("ec2", credentials=credentials).describe_regions()
    trail = offline.client("cloudtrail", credentials=credentials)
    given = [{"AttributeKey": "Username", "AttributeValue": "audit"}]
    found = trail.lookup_events(LookupAttributes=given)["Events"]
    assert [event["EventName"] for event in found] == ["DescribeRegions"]
    identity = told(found[0])["userIdentity"]
    assert identity["type"] == "AssumedRole"
    assert identity["sessionContext"]["sessionIssuer"]["arn"] == arn
    assert identity["sessionContext"]["attributes"]["mfaAuthenticated"] == "false"
    assert identity["sessionContext"]["attributes"]["creationDate"].endswith("Z")
    (assumed,) = events(offline, EventName="AssumeRole")
    assert told(assumed)["responseElements"]["credentials"]["accessKeyId"] == credentials["AccessKeyId"]
    assert credentials["SecretAccessKey"] not in assumed["CloudTrailEvent"]
    assert events(offline, ResourceName=arn) == [assumed]


def test_secrets_are_never_told(offline: Any) -> None:
    iam, ec2 = offline.client("iam", region="eu-west-1"), offline.client("ec2")
    iam.create_user(UserName="ann")
    secret = iam.create_access_key(UserName="ann")["AccessKey"]["SecretAccessKey"]
    offline.client("ssm").put_parameter(Name="p", Value="hush-hush", Type="SecureString")
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]
    size = "t4g.micro" if image["Architecture"] == "arm64" else "t3.micro"
    launched = ec2.run_instances(
        ImageId=image["ImageId"], InstanceType=size, MinCount=1, MaxCount=1, UserData="echo hush-hush"
    )
    everything = "".join(event["CloudTrailEvent"] for event in events(offline))
    for hidden in (secret, "hush-hush", "ZWNobyBodXNoLWh1c2g"):
        assert hidden not in everything
    # IAM is global: its events are in us-east-1, although the calls were signed for eu-west-1.
    assert told(events(offline, EventName="CreateUser")[0])["awsRegion"] == "us-east-1"
    identifier = launched["Instances"][0]["InstanceId"]
    (run,) = events(offline, ResourceName=identifier)
    assert told(run)["responseElements"]["instancesSet"] == {"items": [{"instanceId": identifier}]}


def test_pages_go_on_whatever_is_called_in_between(offline: Any) -> None:
    ec2 = offline.client("ec2")
    for _ in range(120):
        ec2.describe_regions()
    client = offline.client("cloudtrail")
    pages = list(client.get_paginator("lookup_events").paginate())
    found = [event["EventId"] for page in pages for event in page["Events"]]
    assert len(found) == len(set(found)) == 120
    assert [len(page["Events"]) for page in pages] == [50, 50, 20]
    assert [event["EventName"] for event in events(offline)[:3]] == ["LookupEvents"] * 3


def test_times_bound_a_lookup_and_90_days_bound_all(offline: Any) -> None:
    offline.client("ec2").describe_regions()
    client = offline.client("cloudtrail")
    (event,) = client.lookup_events()["Events"]
    when = event["EventTime"]
    read = [{"AttributeKey": "EventName", "AttributeValue": "DescribeRegions"}]
    assert client.lookup_events(StartTime=when, EndTime=when, LookupAttributes=read)["Events"] == [event]
    assert client.lookup_events(EndTime=when - timedelta(seconds=1))["Events"] == []
    assert client.lookup_events(StartTime=when + timedelta(seconds=100))["Events"] == []
    history = offline.world.trail.history(offline.management, "us-east-1").events
    history[0] = (history[0][0] - timedelta(days=91), *history[0][1:])
    assert events(offline, EventName="DescribeRegions") == []


@pytest.mark.parametrize(
    ("parameters", "code"),
    [
        ({"MaxResults": 51}, "InvalidMaxResultsException"),
        ({"NextToken": "x"}, "InvalidNextTokenException"),
        ({"StartTime": 2, "EndTime": 1}, "InvalidTimeRangeException"),
        ({"LookupAttributes": [{"AttributeKey": "Mood", "AttributeValue": "x"}]}, "InvalidLookupAttributesException"),
        (
            {"LookupAttributes": [{"AttributeKey": "EventName", "AttributeValue": "x"}] * 2},
            "InvalidLookupAttributesException",
        ),
        ({"EventCategory": "x"}, "InvalidEventCategoryException"),
    ],
)
def test_a_lookup_that_cannot_be_is_refused(offline: Any, parameters: dict[str, Any], code: str) -> None:
    client = offline.client("cloudtrail", checked=False)
    assert offline.refused(lambda: client.lookup_events(**parameters))[:2] == (code, 400)


def test_writes_are_the_same_events_after_a_restart(make_offline: Any, tmp_path: Path) -> None:
    before = make_offline(tmp_path / "state")
    before.client("ec2").modify_instance_metadata_defaults(HttpTokens="required")
    before.client("iam").create_user(UserName="ann")
    before.client("ec2").describe_regions()
    written = [event for event in events(before) if event["ReadOnly"] == "false"]
    after = make_offline(tmp_path / "state")
    again = events(after, ReadOnly="false")
    assert [event["EventId"] for event in again] == [event["EventId"] for event in written]
    for first, second in zip(written, again, strict=True):
        record = told(first)
        del record["userAgent"]
        assert told(second) == record
    assert events(after, EventName="DescribeRegions") == []


def test_what_is_kept_is_bounded(offline: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trail, "EVENTS_MAX", 10)
    monkeypatch.setattr(trail, "EVENTS_TOTAL_MAX", 15)
    for region in ("eu-west-1", "eu-central-1"):
        for _ in range(12):
            offline.client("ec2", region=region).describe_regions()
    kept = [
        len(offline.world.trail.history(offline.management, region).events) for region in ("eu-west-1", "eu-central-1")
    ]
    assert max(kept) <= 10
    assert 8 <= sum(kept) <= 15


def test_when_all_is_too_much_the_fullest_histories_lose_their_older_halves(
    offline: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trail, "EVENTS_TOTAL_MAX", 40)
    calls = {"eu-west-1": 3, "eu-central-1": 16, "us-west-2": 22}
    for region, number in calls.items():
        for _ in range(number):
            offline.client("ec2", region=region).describe_regions()
    histories = {region: offline.world.trail.history(offline.management, region) for region in calls}
    assert {region: len(each.events) for region, each in histories.items()} == {
        "eu-west-1": 3,
        "eu-central-1": 16,
        "us-west-2": 11,
    }
    assert [position for position, _ in histories["us-west-2"].backwards()] == list(range(21, 10, -1))


def test_of_a_large_call_only_the_short_parameters_are_kept(make_offline: Any, tmp_path: Path) -> None:
    offline = make_offline(tmp_path / "state")
    large = "x" * 2000
    tags = [{"Key": str(number), "Value": "y" * 200} for number in range(50)]
    offline.client("iam").create_user(UserName="ann", Tags=tags)
    offline.refused(lambda: offline.client("ec2").describe_instances(InstanceIds=[large] * 20))
    (made,) = events(offline, EventName="CreateUser")
    assert told(made)["requestParameters"] == {"userName": "ann"}
    (refused,) = events(offline, EventName="DescribeInstances")
    assert len(refused["CloudTrailEvent"]) < 2000
    (again,) = events(make_offline(tmp_path / "state"), EventName="CreateUser")
    assert told(again)["requestParameters"] == {"userName": "ann"}


def test_the_command_line_looks_up_events(aws_shell: Any) -> None:
    shell = aws_shell
    shell.run("aws", "ec2", "describe-key-pairs", "--region", "eu-north-1")
    answer = shell.run(
        "aws", "cloudtrail", "lookup-events", "--region", "eu-north-1",
        "--lookup-attributes", "AttributeKey=EventName,AttributeValue=DescribeKeyPairs",
    )  # fmt: skip
    found = json.loads(answer.stdout)["Events"]
    assert found[0]["EventSource"] == "ec2.amazonaws.com"
    assert "aws-cli" in json.loads(found[0]["CloudTrailEvent"])["userAgent"]
