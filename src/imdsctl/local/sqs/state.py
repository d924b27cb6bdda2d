"""The queues of one account in one Region."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from imdsctl.local.world import World

NUMBERS = {
    # attribute: (least, most, default)
    "DelaySeconds": (0, 900, 0),
    "MaximumMessageSize": (1024, 1_048_576, 1_048_576),
    "MessageRetentionPeriod": (60, 1_209_600, 345_600),
    "ReceiveMessageWaitTimeSeconds": (0, 20, 0),
    "VisibilityTimeout": (0, 43_200, 30),
}
"""The attributes that are numbers (SQS API Reference, CreateQueue)."""


@dataclass(slots=True)
class Message:
    """A message. `hidden_until` and what follows it are of the receives since the server was started."""

    id: str
    body: str
    sender: str
    sent: datetime
    hidden_until: datetime
    received: int = 0
    first_received: datetime | None = None


@dataclass(slots=True)
class Queue:
    """A standard queue: attributes as texts, as SQS has them, and messages in the order of their sending."""

    name: str
    created: datetime
    attributes: dict[str, str] = field(default_factory=dict)
    messages: dict[str, Message] = field(default_factory=dict)
    purged: datetime | None = None

    def number(self, attribute: str) -> int:
        """One of the attributes that are numbers, or its default."""
        return int(self.attributes.get(attribute, NUMBERS[attribute][2]))

    def expire(self, now: datetime) -> None:
        """Forget the messages that are older than the queue keeps them."""
        oldest = now - timedelta(seconds=self.number("MessageRetentionPeriod"))
        for identifier in [each.id for each in self.messages.values() if each.sent <= oldest]:
            del self.messages[identifier]

    def visible(self, now: datetime) -> Iterator[Message]:
        """The messages that a receive may get, the oldest first."""
        return (each for each in self.messages.values() if each.hidden_until <= now)


@dataclass(slots=True)
class QueueStore:
    """The queues by name."""

    queues: dict[str, Queue] = field(default_factory=dict)


def first_state(world: World, account_id: str, region: str) -> QueueStore:
    """No queues: whoever wants one makes it."""
    return QueueStore()
