"""botocore as the client of SQS: a queue, its messages, and what hides and deletes them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest


@pytest.fixture
def queue(offline: Any) -> tuple[Any, str]:
    """A client and a new queue's URL."""
    sqs = offline.client("sqs", checked=False)
    return sqs, sqs.create_queue(QueueName="events", Attributes={"VisibilityTimeout": "30"})["QueueUrl"]


def bodies(sqs: Any, url: str, **more: Any) -> list[str]:
    """The bodies of up to ten messages."""
    received = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, **more)
    return [each["Body"] for each in received.get("Messages", ())]


def test_a_queue_is_made_once_and_found_by_its_name(offline: Any, queue: tuple[Any, str]) -> None:
    sqs, url = queue
    assert url.endswith(f"/{offline.management}/events")
    assert sqs.create_queue(QueueName="events")["QueueUrl"] == url
    other = offline.refused(lambda: sqs.create_queue(QueueName="events", Attributes={"VisibilityTimeout": "31"}))
    assert other[:2] == ("QueueAlreadyExists", 400)
    assert sqs.get_queue_url(QueueName="events")["QueueUrl"] == url
    assert sqs.list_queues(QueueNamePrefix="ev")["QueueUrls"] == [url]
    assert "QueueUrls" not in sqs.list_queues(QueueNamePrefix="no")
    for number in range(3):
        sqs.create_queue(QueueName=f"more-{number}")
    pages = sqs.get_paginator("list_queues").paginate(PaginationConfig={"PageSize": 2})
    assert [len(each["QueueUrls"]) for each in pages] == [2, 2]
    with pytest.raises(sqs.exceptions.QueueDoesNotExist) as caught:
        sqs.get_queue_url(QueueName="none")
    assert caught.value.response["Error"]["Code"] == "AWS.SimpleQueueService.NonExistentQueue"


def test_a_message_is_hidden_by_a_receive_comes_back_and_goes_when_it_is_deleted(
    offline: Any, queue: tuple[Any, str]
) -> None:
    sqs, url = queue
    sqs.send_message(QueueUrl=url, MessageBody="one")
    [message] = sqs.receive_message(QueueUrl=url, AttributeNames=["ApproximateReceiveCount"])["Messages"]
    assert message["Attributes"] == {"ApproximateReceiveCount": "1"}
    assert bodies(sqs, url) == []
    numbers = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    assert numbers["ApproximateNumberOfMessages"] == "0"
    assert numbers["ApproximateNumberOfMessagesNotVisible"] == "1"
    assert numbers["QueueArn"] == f"arn:aws:sqs:us-east-1:{offline.management}:events"
    offline.offset += timedelta(seconds=31)
    assert bodies(sqs, url, VisibilityTimeout=0) == ["one"]
    assert bodies(sqs, url, WaitTimeSeconds=20) == ["one"]
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
    offline.offset += timedelta(seconds=31)
    assert bodies(sqs, url) == []


def test_messages_are_delayed_expire_and_are_purged_once_a_minute(offline: Any, queue: tuple[Any, str]) -> None:
    sqs = queue[0]
    url = sqs.create_queue(QueueName="short", Attributes={"MessageRetentionPeriod": "60"})["QueueUrl"]
    sqs.send_message(QueueUrl=url, MessageBody="later", DelaySeconds=5)
    assert bodies(sqs, url) == []
    offline.offset += timedelta(seconds=6)
    assert bodies(sqs, url) == ["later"]
    offline.offset += timedelta(seconds=60)
    assert bodies(sqs, url) == []
    sqs.send_message(QueueUrl=url, MessageBody="one")
    sqs.purge_queue(QueueUrl=url)
    assert bodies(sqs, url) == []
    soon = offline.refused(lambda: sqs.purge_queue(QueueUrl=url))
    assert soon[0] == "AWS.SimpleQueueService.PurgeQueueInProgress"


def test_batches_succeed_and_fail_entry_by_entry(offline: Any, queue: tuple[Any, str]) -> None:
    sqs, url = queue
    entries = [{"Id": "a", "MessageBody": "one"}, {"Id": "b", "MessageBody": "\x00"}]
    sent = sqs.send_message_batch(QueueUrl=url, Entries=entries)
    assert [each["Id"] for each in sent["Successful"]] == ["a"]
    assert [(each["Id"], each["Code"]) for each in sent["Failed"]] == [("b", "InvalidMessageContents")]
    [message] = sqs.receive_message(QueueUrl=url)["Messages"]
    handles = [{"Id": "a", "ReceiptHandle": message["ReceiptHandle"]}, {"Id": "b", "ReceiptHandle": "made-up"}]
    gone = sqs.delete_message_batch(QueueUrl=url, Entries=handles)
    assert [each["Id"] for each in gone["Successful"]] == ["a"]
    assert [each["Code"] for each in gone["Failed"]] == ["ReceiptHandleIsInvalid"]


@pytest.mark.parametrize(
    ("operation", "params", "code"),
    [
        ("create_queue", {"QueueName": "no spaces"}, "InvalidParameterValue"),
        ("create_queue", {"QueueName": "x", "Attributes": {"FifoQueue": "true"}}, "InvalidAttributeName"),
        ("create_queue", {"QueueName": "x", "Attributes": {"DelaySeconds": "901"}}, "InvalidAttributeValue"),
        ("receive_message", {"MaxNumberOfMessages": 11}, "InvalidParameterValue"),
        ("receive_message", {"WaitTimeSeconds": 21}, "InvalidParameterValue"),
        ("send_message", {"MessageBody": ""}, "MissingParameter"),
        ("send_message", {"MessageBody": "x" * 1_048_577}, "InvalidParameterValue"),
        ("send_message_batch", {"Entries": []}, "AWS.SimpleQueueService.EmptyBatchRequest"),
        (
            "send_message_batch",
            {"Entries": [{"Id": "a", "MessageBody": "x"}] * 2},
            "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
        ),
        (
            "delete_message_batch",
            {"Entries": [{"Id": str(n), "ReceiptHandle": "x"} for n in range(11)]},
            "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
        ),
        ("delete_message", {"ReceiptHandle": "made-up"}, "ReceiptHandleIsInvalid"),
        ("receive_message", {"QueueUrl": "nowhere"}, "InvalidAddress"),
    ],
)
def test_what_sqs_refuses(
    offline: Any, queue: tuple[Any, str], operation: str, params: dict[str, Any], code: str
) -> None:
    sqs, url = queue
    place = {} if operation == "create_queue" else {"QueueUrl": url}
    assert offline.refused(lambda: getattr(sqs, operation)(**{**place, **params}))[:2] == (code, 400)


def test_nobody_sees_another_account_s_queue(offline: Any, queue: tuple[Any, str]) -> None:
    theirs = offline.client("sqs", offline.member)
    refusal = offline.refused(lambda: theirs.receive_message(QueueUrl=queue[1]))
    assert refusal[0] == "AWS.SimpleQueueService.NonExistentQueue"
