"""Messages: SendMessage, ReceiveMessage, DeleteMessage, and the batches of the first and the last.

Source: SQS API Reference; SQS Developer Guide, "Visibility timeout". A receive hides messages for a while and goes to
no log: after a restart of the server they are visible again, which SQS's "at least once" allows at any time. A receive
never waits: it answers at once, also when nothing is there and WaitTimeSeconds would have it wait.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from imdsctl.local.call import AwsError, Call, Operation
from imdsctl.local.sqs.common import BATCH_MAX, handle_of, md5_of, message_of_handle, number_in, queue_of, refused
from imdsctl.local.sqs.state import Message, Queue

DELAY_MAX = 900
WAIT_MAX = 20
VISIBILITY_MAX = 43_200
_BATCH_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
_REFUSED_CHARACTERS = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def send_message(call: Call) -> Mapping[str, Any]:
    """Put one message into a queue. Raises InvalidMessageContents and InvalidParameterValue."""
    queue = queue_of(call)
    message = _checked(call, queue, call.params)
    queue.messages[message.id] = message
    return {"MD5OfMessageBody": md5_of(message.body), "MessageId": message.id}


def send_message_batch(call: Call) -> Mapping[str, Any]:
    """Put up to ten messages into a queue; each may fail for itself.

    Raises EmptyBatchRequest, TooManyEntriesInBatchRequest, BatchEntryIdsNotDistinct, InvalidBatchEntryId and
    BatchRequestTooLong.
    """
    queue, entries = queue_of(call), _entries(call)
    if sum(len(str(each.get("MessageBody") or "").encode()) for each in entries) > queue.number("MaximumMessageSize"):
        raise refused(
            "AWS.SimpleQueueService.BatchRequestTooLong",
            "The length of all the messages put together is more than the limit.",
        )

    def send(entry: dict[str, Any]) -> dict[str, Any]:
        message = _checked(call, queue, entry)
        queue.messages[message.id] = message
        return {"MessageId": message.id, "MD5OfMessageBody": md5_of(message.body)}

    return _each(entries, send)


def receive_message(call: Call) -> Mapping[str, Any]:
    """Up to ten messages, the oldest first, which are then hidden for the visibility timeout; it never waits."""
    queue, params = queue_of(call), call.params
    most = number_in(params, "MaxNumberOfMessages", 1, BATCH_MAX, 1)
    number_in(params, "WaitTimeSeconds", 0, WAIT_MAX, 0)
    hidden = number_in(params, "VisibilityTimeout", 0, VISIBILITY_MAX, queue.number("VisibilityTimeout"))
    wanted = {*(params.get("AttributeNames") or ()), *(params.get("MessageSystemAttributeNames") or ())}
    messages: list[dict[str, Any]] = []
    for message in queue.visible(call.now):
        if len(messages) == most:
            break
        message.received += 1
        message.first_received = message.first_received or call.now
        message.hidden_until = call.now + timedelta(seconds=hidden)
        messages.append(_structure(queue, message, wanted))
    return {"Messages": messages} if messages else {}


def delete_message(call: Call) -> Mapping[str, Any]:
    """Delete a message by the handle of a receive; one that is gone is no mistake. Raises ReceiptHandleIsInvalid."""
    queue = queue_of(call)
    queue.messages.pop(message_of_handle(queue, str(call.params.get("ReceiptHandle") or "")), None)
    return {}


def delete_message_batch(call: Call) -> Mapping[str, Any]:
    """Delete up to ten messages; each may fail for itself.

    Raises EmptyBatchRequest, TooManyEntriesInBatchRequest, BatchEntryIdsNotDistinct and InvalidBatchEntryId.
    """
    queue, entries = queue_of(call), _entries(call)

    def delete(entry: dict[str, Any]) -> dict[str, Any]:
        queue.messages.pop(message_of_handle(queue, str(entry.get("ReceiptHandle") or "")), None)
        return {}

    return _each(entries, delete)


def _checked(call: Call, queue: Queue, asked: Mapping[str, Any]) -> Message:
    """The message that a request or an entry of a batch asks to send."""
    for name in ("MessageAttributes", "MessageSystemAttributes", "MessageGroupId", "MessageDeduplicationId"):
        if asked.get(name):
            raise refused("UnsupportedOperation", f"The local AWS of imdsctl does not implement {name} of messages.")
    body = asked.get("MessageBody")
    if not body:
        raise refused("MissingParameter", "The request must contain the parameter MessageBody.")
    most = queue.number("MaximumMessageSize")
    if len(body.encode()) > most:
        raise refused(
            "InvalidParameterValue",
            f"One or more parameters are invalid. Reason: Message must be shorter than {most} bytes.",
        )
    if _REFUSED_CHARACTERS.search(body):
        raise refused("InvalidMessageContents", "The message contains characters outside the allowed set.")
    delay = number_in(dict(asked), "DelaySeconds", 0, DELAY_MAX, queue.number("DelaySeconds"))
    return Message(call.ids.uuid(), body, call.caller.user_id, call.now, call.now + timedelta(seconds=delay))


def _structure(queue: Queue, message: Message, wanted: set[str]) -> dict[str, Any]:
    out: dict[str, Any] = {
        "MessageId": message.id,
        "ReceiptHandle": handle_of(queue, message.id, message.received),
        "MD5OfBody": md5_of(message.body),
        "Body": message.body,
    }
    assert message.first_received is not None
    attributes = {
        "SenderId": message.sender,
        "SentTimestamp": str(int(message.sent.timestamp() * 1000)),
        "ApproximateReceiveCount": str(message.received),
        "ApproximateFirstReceiveTimestamp": str(int(message.first_received.timestamp() * 1000)),
    }
    chosen = {name: value for name, value in attributes.items() if "All" in wanted or name in wanted}
    return {**out, "Attributes": chosen} if chosen else out


def _entries(call: Call) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = list(call.params.get("Entries") or ())
    if not entries:
        raise refused("AWS.SimpleQueueService.EmptyBatchRequest", "There should be at least one entry in the request.")
    if len(entries) > BATCH_MAX:
        raise refused(
            "AWS.SimpleQueueService.TooManyEntriesInBatchRequest",
            f"Maximum number of entries per request are {BATCH_MAX}. You have sent {len(entries)}.",
        )
    names = [str(each.get("Id") or "") for each in entries]
    if not all(_BATCH_ID.fullmatch(name) for name in names):
        raise refused(
            "AWS.SimpleQueueService.InvalidBatchEntryId",
            "A batch entry id can only contain alphanumeric characters, hyphens and underscores. It can be at most 80 "
            "letters long.",
        )
    if len(set(names)) != len(names):
        raise refused(
            "AWS.SimpleQueueService.BatchEntryIdsNotDistinct",
            "Two or more batch entries in the request have the same Id.",
        )
    return entries


def _each(entries: list[dict[str, Any]], act: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """Carry out every entry by itself: what is refused is listed as failed."""
    successful, failed = [], []
    for entry in entries:
        try:
            successful.append({"Id": entry["Id"], **act(entry)})
        except AwsError as error:
            failed.append({"Id": entry["Id"], "SenderFault": True, "Code": error.code, "Message": error.message})
    return {"Successful": successful, "Failed": failed}


OPERATIONS = {
    "SendMessage": Operation(send_message, writes=True),
    "SendMessageBatch": Operation(send_message_batch, writes=True),
    "ReceiveMessage": Operation(receive_message),
    "DeleteMessage": Operation(delete_message, writes=True),
    "DeleteMessageBatch": Operation(delete_message_batch, writes=True),
}
