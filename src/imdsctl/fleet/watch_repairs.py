"""What drift is owed a repair, and how much of it a round makes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.domain.drift import Drift, only, together, without_soak
from imdsctl.domain.observations import Target
from imdsctl.domain.plan import Plan
from imdsctl.fleet.apply_report import Outcome
from imdsctl.fleet.watch_events import ChangeRepaired, RepairEnded

REPAIRS_OF_ONE_MAX = 3
"""A change that has to be repaired more often is somebody else's will, or fails: it is told, and left alone."""
HELD_ROUNDS_MAX = 5
"""A change that cannot be made now (the instance is starting, an earlier change is pending) is looked at so often."""
REST = timedelta(minutes=5)
"""After a repair that could not begin, or that a gate held back."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair came to: the outcome of each change, and those after which the resource is as wanted."""

    changes: tuple[ChangeRepaired, ...]
    good: frozenset[str]
    plan: str = ""


Repair = Callable[[Plan], Awaitable[Repaired]]


class Repairs:
    """Drift that is to be repaired. What a round has no room for, or cannot change yet, is owed to the next ones."""

    def __init__(self, repair: Repair, most: int, mended: Callable[[Target, str], None]) -> None:
        self._repair = repair
        self._most = most
        self._mended = mended
        self._owed: dict[Target, set[str]] = {}
        self._done: Counter[str] = Counter()
        self._held: Counter[str] = Counter()
        self._rests_until: datetime | None = None

    def owed(self, now: datetime) -> list[Target]:
        """Targets in which something waits, unless repairs rest."""
        if self._rests_until is not None and now < self._rests_until:
            return []
        return [target for target, changes in self._owed.items() if changes]

    @property
    def left(self) -> int:
        """How many changes are still owed."""
        return sum(map(len, self._owed.values()))

    def owe(self, found: Iterable[Drift]) -> None:
        """What was found is to be repaired: in the next round that repairs."""
        for drift in found:
            self._owed.setdefault(drift.change.target, set()).add(drift.change.id)
            self._held[drift.change.id] = 0

    async def round(
        self, plans: Mapping[Target, Plan], found: Sequence[Drift], now: Callable[[], datetime]
    ) -> RepairEnded | None:
        """Make what the targets that were just read (`plans`) are owed; None when nothing is to be told.

        Raises DiagnosticError when nothing could be begun (somebody else applies, the disk is full): it rests a while.
        """
        self.owe(found)
        if self._rests_until is not None and now() < self._rests_until:
            return None
        self._rests_until = None
        given_up: list[str] = []
        parts: list[Plan] = []
        left, room = 0, self._most
        for target, plan in plans.items():
            part, later, tired = self._part(target, plan, room)
            room -= len(part.changes)
            left += later
            given_up += tired
            if part.changes:
                parts.append(part)
        plan_now = together(parts)
        if plan_now is None:
            return RepairEnded(now(), (), left, tuple(given_up)) if given_up or left else None
        try:
            ended = await self._repair(without_soak(plan_now))
        except DiagnosticError:
            for change in plan_now.changes:
                self._owed.setdefault(change.target, set()).add(change.id)
            self._rests_until = now() + REST
            raise
        waits = {each.change_id for each in ended.changes if each.outcome in (Outcome.HELD_BACK, Outcome.NOT_REACHED)}
        if waits:  # for a window to open, or somebody to approve
            self._rests_until = now() + REST
        for change in plan_now.changes:
            self._done[change.id] += change.id not in waits
            if change.id in ended.good:
                self._mended(change.target, change.id)
            else:
                self._owed.setdefault(change.target, set()).add(change.id)
        return RepairEnded(now(), ended.changes, left, tuple(given_up), ended.plan)

    def _part(self, target: Target, plan: Plan, room: int) -> tuple[Plan, int, list[str]]:
        """The part of a target's plan for this round, how much is left over, and what is given up."""
        owed = self._owed.pop(target, set())
        wanted = [change for change in plan.changes if change.id in owed]
        held = {change.id for change in wanted if change.held}
        self._held.update(held)
        ready = [change for change in wanted if not change.held]
        tired = [change.id for change in ready if self._done[change.id] >= REPAIRS_OF_ONE_MAX]
        due = [Drift(change, plan.made_at) for change in ready if change.id not in tired]
        part = only(plan, due, room)
        later = {each.change.id for each in due} - {change.id for change in part.changes}
        waiting = later | {each for each in held if self._held[each] <= HELD_ROUNDS_MAX}
        if waiting:
            self._owed[target] = waiting
        return part, len(later), tired
