"""What the operations of SQS have in common: queues by their URLs, receipt handles, refusals.

Source: SQS API Reference, "Common errors" and each action's errors. The codes are those that clients see, older than
the names of the errors in its model.
"""

from __future__ import annotations

import base64
from hashlib import blake2b, md5
from typing import Any

from imdsctl.local.call import AwsError, Call
from imdsctl.local.sqs.state import NUMBERS, Queue, QueueStore, first_state

BATCH_MAX = 10
TEXTS = ("Policy", "KmsMasterKeyId", "SqsManagedSseEnabled")
"""Attributes that are kept and shown, and that change nothing here."""


def refused(code: str, message: str) -> AwsError:
    """Any refusal of SQS: all of them are HTTP 400."""
    return AwsError(code, message, 400)


def store_of(call: Call) -> QueueStore:
    """The account's queues in the call's Region."""
    return call.world.service_state(first_state, call.account_id, call.region)


def url_of(call: Call, queue: Queue) -> str:
    """The queue's URL, at whatever address the caller reached the server."""
    return f"{call.endpoint_url}/{call.account_id}/{queue.name}"


def arn_of(call: Call, name: str) -> str:
    """The ARN of a queue of the account."""
    return f"arn:aws:sqs:{call.region}:{call.account_id}:{name}"


def queue_named(call: Call, name: str, owner: str | None = None) -> Queue:
    """A queue by name. Raises AWS.SimpleQueueService.NonExistentQueue; nobody sees another account's queues here."""
    found = store_of(call).queues.get(name)
    if found is None or owner not in (None, call.account_id):
        raise refused("AWS.SimpleQueueService.NonExistentQueue", "The specified queue does not exist.")
    found.expire(call.now)
    return found


def queue_of(call: Call) -> Queue:
    """The queue that QueueUrl names. Raises MissingParameter, InvalidAddress and QueueDoesNotExist."""
    url = call.params.get("QueueUrl")
    if not url:
        raise refused("MissingParameter", "The request must contain the parameter QueueUrl.")
    owner, name = name_in_url(str(url))
    if not name:
        raise refused("InvalidAddress", f"The address {url} is not valid for this endpoint.")
    return queue_named(call, name, owner)


def name_in_url(url: str) -> tuple[str, str]:
    """The account and the name of a queue's URL; empty when it is none."""
    parts = url.partition("://")[2].split("/")
    return (parts[-2], parts[-1]) if len(parts) >= 3 else ("", "")


def number_in(params: dict[str, Any], name: str, least: int, most: int, default: int) -> int:
    """A number of a request. Raises InvalidParameterValue."""
    value = params.get(name)
    if value is None:
        return default
    if not least <= value <= most:
        raise refused(
            "InvalidParameterValue",
            f"Value {value} for parameter {name} is invalid. Reason: Must be between {least} and {most}, if provided.",
        )
    return int(value)


def check_attributes(attributes: dict[str, str]) -> dict[str, str]:
    """A queue's attributes. Raises InvalidAttributeName and InvalidAttributeValue, for what is not here too."""
    for name, value in attributes.items():
        if name in NUMBERS:
            least, most, _ = NUMBERS[name]
            if not (value.isascii() and value.isdigit() and len(value) < 10 and least <= int(value) <= most):
                raise refused("InvalidAttributeValue", f"Invalid value for the parameter {name}.")
        elif name not in TEXTS:
            raise refused("InvalidAttributeName", f"Unknown Attribute {name}.")
    return dict(attributes)


def handle_of(queue: Queue, message_id: str, received: int) -> str:
    """The receipt handle of one receive of a message."""
    text = f"{message_id}/{received}"
    return base64.b64encode(_seal(queue, text) + text.encode()).decode()


def message_of_handle(queue: Queue, handle: str) -> str:
    """The id of the message that a receipt handle of this queue names. Raises ReceiptHandleIsInvalid."""
    try:
        opened = base64.b64decode(handle, validate=True)
        seal, text = opened[:16], opened[16:].decode()
    except ValueError:
        seal, text = b"", ""
    if seal != _seal(queue, text):
        raise refused("ReceiptHandleIsInvalid", f'The input receipt handle "{handle}" is not a valid receipt handle.')
    return text.partition("/")[0]


def md5_of(body: str) -> str:
    """The digest with which SQS lets a client see that a body arrived whole."""
    return md5(body.encode(), usedforsecurity=False).hexdigest()


def _seal(queue: Queue, text: str) -> bytes:
    return blake2b(f"{queue.name}/{queue.created.timestamp()}/{text}".encode(), digest_size=16).digest()
