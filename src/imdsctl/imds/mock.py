"""A metadata service that stands alone: an instance that is made up, and what happens to it at its time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import blake2b
from typing import Any

from imdsctl.domain.options import MetadataOptions
from imdsctl.imds.facts import EVENT_CODES, Facts, MaintenanceEvent, RoleCredentials, SpotAction
from imdsctl.imds.fixed import DEFAULT_OPTIONS, example_credentials

SPOT_NOTICE = timedelta(minutes=2)
"""EC2 User Guide, "Spot Instance interruption notices": "a warning ... two minutes before"."""

EVENT_STATES = ("active", "completed", "canceled")
SPOT_ACTIONS = ("terminate", "stop", "hibernate")
LIFECYCLE_STATES = (
    "Detached",
    "InService",
    "Standby",
    "Terminated",
    "Warmed:Hibernated",
    "Warmed:Running",
    "Warmed:Stopped",
    "Warmed:Terminated",
)
"""Auto Scaling User Guide, "Retrieve the target lifecycle state through instance metadata"."""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that the metadata shows from a moment on: `at`, or so many seconds after the service began.

    `kind` is `spot` (`value`: the action), `rebalance`, `event` (`value`: a MaintenanceEvent, or an event's code) or
    `lifecycle` (`value`: the state).
    """

    kind: str
    value: Any = None
    after_seconds: float = 0.0
    at: datetime | None = None

    def due(self, began: datetime) -> datetime:
        """When it shows."""
        return self.at if self.at is not None else began + timedelta(seconds=self.after_seconds)

    def shown(self, facts: Facts, due: datetime) -> Facts:
        """The facts with it."""
        if self.kind == "spot":
            return replace(facts, spot_action=SpotAction(self.value, due + SPOT_NOTICE))
        if self.kind == "rebalance":
            return replace(facts, rebalance=due)
        if self.kind == "lifecycle":
            return replace(facts, target_lifecycle_state=self.value)
        event = self.value if isinstance(self.value, MaintenanceEvent) else scheduled(self.value, due)
        if event.state == "active":
            return replace(facts, scheduled_events=(*facts.scheduled_events, event))
        # EC2 User Guide, "View scheduled events": the history's descriptions begin with what became of the event.
        over = replace(event, description=f"[{event.state.capitalize()}] {event.description}")
        return replace(facts, past_events=(*facts.past_events, over))


def scheduled(code: str, announced: datetime) -> MaintenanceEvent:
    """An event as AWS announces it: two weeks ahead, for two hours."""
    begins = announced.replace(microsecond=0) + timedelta(days=14)
    drawn = blake2b(f"{code}/{announced.isoformat()}".encode(), digest_size=9).hexdigest()[:17]
    return MaintenanceEvent(
        code=code,
        description=EVENT_CODES[code],
        event_id=f"instance-event-{drawn}",
        state="active",
        not_before=begins,
        not_after=begins + timedelta(hours=2),
    )


@dataclass(frozen=True, slots=True)
class Mock:
    """What is served alone. `credentials` are those of roles for which real-looking ones are not enough."""

    instance: Facts
    options: MetadataOptions = DEFAULT_OPTIONS
    notices: tuple[Notice, ...] = ()
    credentials: Mapping[str, RoleCredentials] = field(default_factory=dict)


class MockSource:
    """The source of a Mock that began at `began` (aware). Facts are made anew only when a notice falls due."""

    __slots__ = ("_began", "_due", "_facts", "_mock", "_shown", "options")

    def __init__(self, mock: Mock, began: datetime) -> None:
        self.options = mock.options
        self._mock = mock
        self._began = began
        self._due = sorted(notice.due(began).timestamp() for notice in mock.notices)
        self._shown = -1
        self._facts = mock.instance

    def facts(self, now: float) -> Facts:
        """The instance, with the notices that are due at `now`."""
        shown = sum(due <= now for due in self._due)
        if shown != self._shown:
            self._shown = shown
            facts = self._mock.instance
            for notice in self._mock.notices:
                due = notice.due(self._began)
                if due.timestamp() <= now:
                    facts = notice.shown(facts, due)
            self._facts = facts
        return self._facts

    def role_credentials(self, delivery: str, now: float) -> RoleCredentials:
        """The role's credentials: those that were given, or such as no AWS takes."""
        role = self._mock.instance.role
        assert role is not None
        given = self._mock.credentials.get(role)
        if given is None:
            return example_credentials(role, delivery, now)
        if given.expires is not None:
            return given
        # Without a time they are always good: a client that sees expired credentials stops.
        fresh = example_credentials(role, delivery, now)
        return replace(given, updated=fresh.updated, expires=fresh.expires)

    def identity_credentials(self, delivery: str, now: float) -> RoleCredentials:
        """Credentials of the instance identity role."""
        return example_credentials("ec2-instance", delivery, now)
