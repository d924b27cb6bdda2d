"""Queues: CreateQueue, GetQueueUrl, ListQueues, GetQueueAttributes, PurgeQueue. There are no FIFO queues here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from imdsctl.local.call import Call, Operation
from imdsctl.local.pages import InvalidToken, page
from imdsctl.local.sqs.common import (
    arn_of,
    check_attributes,
    number_in,
    queue_named,
    queue_of,
    refused,
    store_of,
    url_of,
)
from imdsctl.local.sqs.state import NUMBERS, Queue

LIST_MAX = 1000
PURGE_EVERY = timedelta(seconds=60)
_NAME = re.compile(r"[A-Za-z0-9_-]{1,80}")


def create_queue(call: Call) -> Mapping[str, Any]:
    """Make a queue; one that is there with the same attributes is given again.

    Raises InvalidParameterValue, InvalidAttributeName, InvalidAttributeValue and QueueNameExists.
    """
    name = str(call.params.get("QueueName") or "")
    attributes = check_attributes(call.params.get("Attributes") or {})
    if not _NAME.fullmatch(name):
        raise refused(
            "InvalidParameterValue",
            "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length",
        )
    queues = store_of(call).queues
    before = queues.get(name)
    if before is None:
        before = queues[name] = Queue(name, call.now, attributes)
    for attribute, value in attributes.items():
        if _value(before, attribute) != value:
            raise refused(
                "QueueAlreadyExists",
                f"A queue already exists with the same name and a different value for attribute {attribute}",
            )
    return {"QueueUrl": url_of(call, before)}


def get_queue_url(call: Call) -> Mapping[str, Any]:
    """The URL of a queue by its name. Raises AWS.SimpleQueueService.NonExistentQueue."""
    name, owner = str(call.params.get("QueueName") or ""), call.params.get("QueueOwnerAWSAccountId")
    return {"QueueUrl": url_of(call, queue_named(call, name, owner))}


def list_queues(call: Call) -> Mapping[str, Any]:
    """The URLs of the account's queues in the Region, all or those whose names begin so."""
    prefix = str(call.params.get("QueueNamePrefix") or "")
    size = number_in(call.params, "MaxResults", 1, LIST_MAX, LIST_MAX)
    chosen = [each for name, each in sorted(store_of(call).queues.items()) if name.startswith(prefix)]
    place = f"{call.action}/{call.account_id}/{call.region}/{prefix}"
    try:
        shown, token = page(chosen, call.params.get("NextToken"), size, of=place)
    except InvalidToken:
        raise refused("InvalidParameterValue", "The next token is not valid.") from None
    answer: dict[str, Any] = {"QueueUrls": [url_of(call, each) for each in shown]} if shown else {}
    return answer if token is None or "MaxResults" not in call.params else {**answer, "NextToken": token}


def get_queue_attributes(call: Call) -> Mapping[str, Any]:
    """The attributes that are named, or All: settings, how many messages there are, the ARN."""
    queue, names = queue_of(call), call.params.get("AttributeNames") or ()
    visible = sum(1 for _ in queue.visible(call.now))
    waiting = sum(1 for each in queue.messages.values() if not each.received and each.hidden_until > call.now)
    attributes = {
        **{name: str(default) for name, (_, _, default) in NUMBERS.items()},
        "SqsManagedSseEnabled": "true",
        **queue.attributes,
        "ApproximateNumberOfMessages": str(visible),
        "ApproximateNumberOfMessagesNotVisible": str(len(queue.messages) - visible - waiting),
        "ApproximateNumberOfMessagesDelayed": str(waiting),
        "CreatedTimestamp": str(int(queue.created.timestamp())),
        "LastModifiedTimestamp": str(int(queue.created.timestamp())),
        "QueueArn": arn_of(call, queue.name),
    }
    chosen = attributes if "All" in names else {name: attributes[name] for name in names if name in attributes}
    return {"Attributes": chosen} if chosen else {}


def purge_queue(call: Call) -> Mapping[str, Any]:
    """Delete all messages of a queue, at most once a minute. Raises PurgeQueueInProgress."""
    queue = queue_of(call)
    if queue.purged is not None and call.now < queue.purged + PURGE_EVERY:
        raise refused(
            "AWS.SimpleQueueService.PurgeQueueInProgress",
            f"Only one PurgeQueue operation on {queue.name} is allowed every 60 seconds.",
        )
    queue.purged = call.now
    queue.messages.clear()
    return {}


def _value(queue: Queue, attribute: str) -> str:
    default = str(NUMBERS[attribute][2]) if attribute in NUMBERS else ""
    return queue.attributes.get(attribute, default)


OPERATIONS = {
    "CreateQueue": Operation(create_queue, writes=True),
    "GetQueueUrl": Operation(get_queue_url),
    "ListQueues": Operation(list_queues),
    "GetQueueAttributes": Operation(get_queue_attributes),
    "PurgeQueue": Operation(purge_queue, writes=True),
}
