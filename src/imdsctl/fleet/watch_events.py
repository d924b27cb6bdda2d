"""What `watch` tells its listeners, and where it hears of CloudTrail's events."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias

from imdsctl.domain.drift import Drift
from imdsctl.domain.plan import Change
from imdsctl.domain.trail_events import TrailEvent


@dataclass(frozen=True, slots=True)
class Began:
    """Watching starts: what it compares with (a scan's id and when it ended; None: the first look will be that)."""

    baseline: str | None
    since: datetime | None
    targets: int
    intent: str = ""
    """The intent's file; empty for the built-in one."""
    without_soak: tuple[str, ...] = ()
    """Waves whose soak, and cap on rejected calls, no repair waits for; empty when nothing is repaired."""


@dataclass(frozen=True, slots=True)
class Blind:
    """What could be read before and cannot be read now: unknown, not clean."""

    subject: str
    reason: str


@dataclass(frozen=True, slots=True)
class RoundEnded:
    """One round: a scan (`scan_id`), or the events that came (`events` of them, of which some made it look)."""

    number: int
    at: datetime
    targets: int
    drifts: tuple[Drift, ...] = ()
    blind: tuple[Blind, ...] = ()
    scan_id: str = ""
    events: int = 0
    lapsed: tuple[Change, ...] = ()
    """What an exception covered at the last look and covers no more. Nobody has changed it: it is not repaired."""


@dataclass(frozen=True, slots=True)
class ChangeRepaired:
    """How one repair ended, in `apply`'s words."""

    change_id: str
    outcome: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class RepairEnded:
    """What was done about the drift of a round. `left` were over the round's limit: the next round comes to them.

    `given_up` were repaired several times, and are not as wanted: somebody else changes them, or AWS refuses.
    """

    at: datetime
    changes: tuple[ChangeRepaired, ...]
    left: int = 0
    given_up: tuple[str, ...] = ()
    plan: str = ""
    """The plan's file; its journal lies beside it."""


@dataclass(frozen=True, slots=True)
class IntentRead:
    """The intent's file says something else than at the round before: from now on this is watched by."""

    at: datetime
    intent: str
    """The file."""
    without_soak: tuple[str, ...] = ()
    """As when watching begins."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something is wrong that the next round may not find wrong any more."""

    at: datetime
    subject: str
    reason: str


WatchEvent: TypeAlias = Began | IntentRead | RoundEnded | RepairEnded | Trouble
Listener: TypeAlias = Callable[[WatchEvent], None]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One message or a piece of a file. `problem` says why nothing could be made of it; `receipt` is its source's."""

    receipt: str
    events: tuple[TrailEvent, ...] = ()
    problem: str = ""
    times: int = 1
    """How often it has been delivered."""


class EventSource(Protocol):
    """Where events come from."""

    async def receive(self) -> Sequence[Delivery]:
        """What came; nothing when nothing did for a while. Raises ServiceError, Unreachable and DiagnosticError."""
        ...

    async def done(self, deliveries: Sequence[Delivery]) -> None:
        """These need not be delivered again. Raises ServiceError and Unreachable."""
        ...
