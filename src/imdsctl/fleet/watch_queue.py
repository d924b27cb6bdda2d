"""Events from an SQS queue that a rule of EventBridge fills.

Source: SQS Developer Guide, "Visibility timeout" and "Short and long polling"; SQS API Reference, ReceiveMessage and
DeleteMessageBatch. A message that is not deleted comes again: nothing is lost when the program ends in between.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlsplit

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.trail_events import NotAnEvent, events_of_text
from imdsctl.fleet.ports import Aws
from imdsctl.fleet.targets import home_region
from imdsctl.fleet.watch_events import Delivery
from imdsctl.wire.errors import ServiceError

MESSAGES_MAX = 10
WAIT_SECONDS = 20
HIDDEN_SECONDS = 300
"""A message stays with us for this long: a target is read in seconds, a scan of everything in minutes."""

_HOST = re.compile(r"(?:sqs\.([a-z0-9-]+)|([a-z0-9-]+)\.queue|queue)\.amazonaws\.com(?:\.cn)?")
_FATAL = frozenset(
    {
        *("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "InvalidAddress", "AccessDenied"),
        *("AccessDeniedException", "InvalidClientTokenId", "UnrecognizedClientException", "InvalidSecurity"),
    }
)
"""Refusals that the next call will meet too."""


def region_of_queue(url: str, aws: Aws) -> str:
    """The Region in a queue's URL; that of the user's settings for an address that is not AWS's.

    Raises DiagnosticError `queue-invalid`.
    """
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        parts, host = None, ""
    if parts is None or parts.scheme not in ("http", "https") or not host or parts.path.count("/") < 2:
        raise DiagnosticError(
            Diagnostic(
                "queue-invalid",
                "that is not the URL of an SQS queue",
                subject="--queue",
                hint="`aws sqs get-queue-url --queue-name NAME` prints it: https://sqs.REGION.amazonaws.com/ACCOUNT/NAME",
            ),
            exit_code=2,
        )
    named = _HOST.fullmatch(host)
    if named is None:
        return home_region(aws)
    return named[1] or named[2] or "us-east-1"


class SqsEvents:
    """Implements `fleet.watch_events.EventSource`."""

    def __init__(self, aws: Aws, url: str) -> None:
        self._aws = aws
        self._url = url
        self._region = region_of_queue(url, aws)

    async def receive(self) -> Sequence[Delivery]:
        """Up to ten messages, after up to 20 seconds. Raises DiagnosticError `queue-refused`."""
        params = {
            "QueueUrl": self._url,
            "MaxNumberOfMessages": MESSAGES_MAX,
            "WaitTimeSeconds": WAIT_SECONDS,
            "VisibilityTimeout": HIDDEN_SECONDS,
            "MessageSystemAttributeNames": ["ApproximateReceiveCount"],
        }
        try:
            answer = await self._aws.call(None, "sqs", self._region, "ReceiveMessage", params)
        except ServiceError as error:
            if error.code not in _FATAL:
                raise
            raise DiagnosticError(
                Diagnostic(
                    "queue-refused",
                    f"the queue cannot be read ({error.code}: {error.message.rstrip('.')})",
                    subject="--queue",
                    hint="it needs sqs:ReceiveMessage and sqs:DeleteMessage; check the URL, its Region and account",
                )
            ) from None
        return [_delivery(each) for each in answer.get("Messages") or ()]

    async def done(self, deliveries: Sequence[Delivery]) -> None:
        """Delete the messages. One that cannot be deleted comes again, which does no harm."""
        entries = [{"Id": str(number), "ReceiptHandle": each.receipt} for number, each in enumerate(deliveries)]
        for start in range(0, len(entries), MESSAGES_MAX):
            params = {"QueueUrl": self._url, "Entries": entries[start : start + MESSAGES_MAX]}
            await self._aws.call(None, "sqs", self._region, "DeleteMessageBatch", params)


def _delivery(message: dict[str, object]) -> Delivery:
    receipt = str(message.get("ReceiptHandle") or "")
    attributes = message.get("Attributes")
    count = attributes.get("ApproximateReceiveCount", "1") if isinstance(attributes, dict) else "1"
    times = int(count) if str(count).isdecimal() else 1
    try:
        return Delivery(receipt, tuple(events_of_text(str(message.get("Body") or ""))), times=times)
    except NotAnEvent as error:
        return Delivery(receipt, problem=str(error), times=times)
