"""CloudTrail's records, in every wrapping in which they arrive."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from imdsctl.domain.observations import Target
from imdsctl.domain.trail_events import Actor, NotAnEvent, culprit, events_of_text

ARN = "arn:aws:iam::111122223333:user/mallory"
RECORD: dict[str, Any] = {
    "eventVersion": "1.11",
    "userIdentity": {"type": "IAMUser", "arn": ARN, "accountId": "111122223333"},
    "eventTime": "2026-03-01T10:00:00Z",
    "eventSource": "ec2.amazonaws.com",
    "eventName": "ModifyInstanceMetadataOptions",
    "awsRegion": "eu-west-1",
    "sourceIPAddress": "203.0.113.9",
    "userAgent": "aws-cli/2",
    "requestParameters": {"ModifyInstanceMetadataOptionsRequest": {"InstanceId": "i-1", "HttpTokens": "optional"}},
    "responseElements": None,
    "eventID": "e-1",
    "recipientAccountId": "111122223333",
}
WRAPPINGS = {
    "the record itself": RECORD,
    "an event of EventBridge": {"detail-type": "AWS API Call via CloudTrail", "source": "aws.ec2", "detail": RECORD},
    "a log file": {"Records": [RECORD]},
    "a notice of SNS": {"Type": "Notification", "TopicArn": "arn:x", "Message": json.dumps({"detail": RECORD})},
}


@pytest.mark.parametrize("wrapping", WRAPPINGS.values(), ids=WRAPPINGS)
def test_a_record_is_found_in_its_wrapping(wrapping: Any) -> None:
    [event] = events_of_text(json.dumps(wrapping))
    assert event.target == Target("111122223333", "eu-west-1")
    assert event.touches
    assert not event.touches_everything
    assert event.actor == Actor(
        ARN, "203.0.113.9", "aws-cli/2", "e-1", "ModifyInstanceMetadataOptions", datetime(2026, 3, 1, 10, tzinfo=UTC)
    )
    assert "i-1" in event.names


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("hello", "not JSON"),
        ("[]", "no CloudTrail record"),
        ('{"detail": {"state": "running"}}', "no CloudTrail record"),
        ('{"Records": [{"s3": {}}]}', "S3"),
        ('{"s3Bucket": "b", "s3ObjectKey": ["k"]}', "S3"),
        ('{"TopicArn": "t", "Message": "hello"}', "SNS"),
        ('{"eventName": 1, "eventSource": [], "awsRegion": {}, "userIdentity": {"accountId": "1"}}', "no CloudTrail"),
    ],
)
def test_what_is_no_record_is_told_apart(text: str, why: str) -> None:
    with pytest.raises(NotAnEvent, match=why):
        events_of_text(text)


@pytest.mark.parametrize(
    ("change", "touches"),
    [
        ({"eventName": "DescribeInstances"}, False),
        ({"errorCode": "Client.UnauthorizedOperation"}, False),
        ({"eventName": "CreateFleet", "eventSource": "ecs.amazonaws.com"}, False),
        ({"eventName": "UpdateFleet", "eventSource": "appstream.amazonaws.com"}, True),
        ({"eventName": "RunInstances"}, True),
    ],
)
def test_only_a_call_that_succeeded_and_may_change_a_setting_touches_its_target(
    change: dict[str, Any], touches: bool
) -> None:
    [event] = events_of_text(json.dumps({**RECORD, **change}))
    assert event.touches is touches


def test_a_policy_that_changes_touches_everything() -> None:
    record = {**RECORD, "eventSource": "organizations.amazonaws.com", "eventName": "DetachPolicy"}
    [event] = events_of_text(json.dumps(record))
    assert event.touches_everything
    assert not event.touches


def test_the_latest_call_that_names_the_resource_is_to_blame_and_nobody_on_a_guess() -> None:
    later = {**RECORD, "eventTime": "2026-03-01T11:00:00Z", "eventID": "e-2"}
    service = {"type": "AWSService", "invokedBy": "autoscaling.amazonaws.com", "accountId": "111122223333"}
    default = {**RECORD, "eventName": "ModifyInstanceMetadataDefaults", "eventID": "e-3", "userIdentity": service}
    events = events_of_text(json.dumps({"Records": [later, RECORD, default]}))
    blamed = culprit(events, "i-1", "", "eu-west-1")
    assert blamed is not None
    assert blamed.event_id == "e-2"
    blamed = culprit(events, "eu-west-1", "", "eu-west-1")
    assert blamed is not None
    assert (blamed.event_id, blamed.arn) == ("e-3", "autoscaling.amazonaws.com")
    assert culprit(events, "i-2", "", "eu-west-1") is None
