"""Keeps looking: by scans at an interval, or by CloudTrail's events as they come; tells drift, and repairs it if asked.

Sans AWS: scans, reads, the actor's look-up and repairs are given as functions, so that time and chance can be a test's.
A message is done with (deleted) only after its target was read again; whatever ends the program in between, it comes
again.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.domain.drift import (
    Drift,
    Look,
    after_partial,
    drifts,
    first_drifts,
    look,
    newly_unseen,
    only,
    plan_of,
    together,
)
from imdsctl.domain.intent import Intent
from imdsctl.domain.observations import Account, RegionSeen, Scan, Target
from imdsctl.domain.plan import Plan
from imdsctl.domain.trail_events import TrailEvent, culprit
from imdsctl.domain.verdicts import NOT_INSPECTABLE
from imdsctl.fleet.ports import Unreachable
from imdsctl.fleet.targets import said
from imdsctl.fleet.watch_events import (
    Began,
    Blind,
    ChangeRepaired,
    Delivery,
    EventSource,
    Listener,
    RepairEnded,
    RoundEnded,
    Trouble,
)
from imdsctl.wire.errors import ServiceError

READS_CONCURRENT_MAX = 8
DELIVERIES_MAX = 5
"""After so many deliveries of a message whose target cannot be read whole it is done with all the same, and said."""
REPAIRS_OF_ONE_MAX = 3
"""A change that has to be repaired more often than this is somebody else's will: it is told, and left alone."""
IDLE_SECONDS = 5.0
"""A source that answers at once that it has nothing is asked again after this."""
TROUBLE_SECONDS_MAX = 60.0

T = TypeVar("T")


class Clock(Protocol):
    """Time, so that a test need not wait."""

    def now(self) -> datetime:
        """The moment, aware, in UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Stopped(Exception):
    """The program was asked to end. What was under way and not done is left as if it had not begun."""


@dataclass(frozen=True, slots=True)
class Repaired:
    """What a repair came to: the outcome of each change, and those after which the resource is as wanted."""

    changes: tuple[ChangeRepaired, ...]
    good: frozenset[str]
    plan: str = ""


@dataclass(frozen=True, slots=True)
class Hands:
    """What watching does to the world outside. `read` and `writes_since` raise ServiceError and Unreachable.

    `watched` says which of the accounts it watches a target belongs to, None for one that the selection leaves out.
    """

    scan: Callable[[], Awaitable[Scan]]
    read: Callable[[Target], Awaitable[RegionSeen]]
    watched: Callable[[Target], Awaitable[Account | None]]
    writes_since: Callable[[Target, datetime], Awaitable[list[TrailEvent]]]
    repair: Callable[[Plan], Awaitable[Repaired]] | None = None


@dataclass
class Watching:
    """One run of `watch`. `interval` None: no scans but the first, only events. `rounds` None: until `stop` is set."""

    hands: Hands
    intent: Intent
    clock: Clock
    stop: asyncio.Event
    tell: Listener
    source: EventSource | None = None
    interval: timedelta | None = timedelta(hours=1)
    rounds: int | None = None
    until_empty: bool = False
    """End when the source has nothing (`--once` with events)."""
    repair_max: int = 10
    scope: tuple[tuple[str, str], ...] = ()
    """The selection, as scans record it: a target that an equal scan did not have is new, and not merely unknown."""

    _looks: dict[Target, Look] = field(default_factory=dict)
    _blind: set[tuple[str, str | None]] = field(default_factory=set)
    _accounts: dict[str, Account] = field(default_factory=dict)
    _comparable: bool = False
    _owed: dict[Target, set[str]] = field(default_factory=dict)
    _repairs: Counter[str] = field(default_factory=Counter)
    _round: int = 0
    _before: int = 0
    """Rounds that only made the baseline: they are not among those that were asked for."""

    async def run(self, baseline: Scan | None) -> int:
        """Watch until the rounds are over or somebody asks to stop; gives the number of rounds.

        Raises DiagnosticError for what cannot be mended by trying again.
        """
        if baseline is not None:
            self._take_as_baseline(baseline)
        self.tell(
            Began(
                baseline.scan_id if baseline is not None else None,
                baseline.finished if baseline is not None else None,
                len(self._looks),
            )
        )
        try:
            if self.source is None:
                await self._by_scans()
            else:
                await self._by_events(self.source, scan_first=baseline is None)
        except Stopped:
            pass
        return self._round

    # -- rounds -------------------------------------------------------------------------------------------------------

    async def _by_scans(self) -> None:
        interval = self.interval or timedelta(hours=1)
        while True:
            await self._scan_round()
            if self._is_over():
                return
            await self._unless_stopped(self.clock.sleep(interval.total_seconds()))

    async def _by_events(self, source: EventSource, *, scan_first: bool) -> None:
        if scan_first:
            await self._scan_round()
            self._before = self._round
        due = self.clock.now() + self.interval if self.interval is not None else None
        trouble = 1.0
        while not self._is_over():
            if due is not None and self.clock.now() >= due and self.interval is not None:
                await self._scan_round()
                due = self.clock.now() + self.interval
                continue
            began = self.clock.now()
            try:
                deliveries = await self._unless_stopped(source.receive())
                trouble = 1.0
            except (ServiceError, Unreachable) as error:
                self.tell(Trouble(self.clock.now(), "events", said(error)))
                await self._unless_stopped(self.clock.sleep(trouble))
                trouble = min(2 * trouble, TROUBLE_SECONDS_MAX)
                continue
            if deliveries or any(self._owed.values()):
                await self._event_round(source, deliveries)
            elif self.until_empty:
                return
            elif self.clock.now() - began < timedelta(seconds=1):
                await self._unless_stopped(self.clock.sleep(IDLE_SECONDS))

    async def _scan_round(self, told: Sequence[TrailEvent] = ()) -> bool:
        """Scan everything and compare. A sweep that fails as a whole is told, and tried again at the next round.

        The first one of all raises DiagnosticError: then something is wrong that somebody has to mend.
        """
        try:
            scan = await self._unless_stopped(self.hands.scan())
        except DiagnosticError as error:
            if not self._looks:
                raise
            for each in error.diagnostics:
                self.tell(Trouble(self.clock.now(), each.subject or "scan", f"{each.summary} ({each.code})"))
            self._round += 1
            return False
        self._accounts = {each.account_id: each for each in scan.accounts}
        found: list[Drift] = []
        blind: list[Blind] = []
        plans: dict[Target, Plan] = {}
        read: set[Target] = set()
        for seen in scan.regions:
            read.add(seen.target)
            before = self._looks.get(seen.target)
            plan = plan_of(seen, self._account(seen.target), self.intent, scan.finished)
            if before is not None:
                drifted = drifts(before, plan)
            elif self._comparable and not self._was_unseen(seen.target):
                drifted = [Drift(change, scan.started) for change in plan.changes]
            else:
                drifted = []
            blind += self._compare(seen, before, plan, scan.started)
            found += drifted
            if drifted or self._owed.get(seen.target):
                plans[seen.target] = plan
        blind += self._lost(scan, read)
        self._note_unseen(scan)
        self._comparable = True
        found = await self._blame(found, dict.fromkeys({each.change.target for each in found}, told))
        self._end_round(
            RoundEnded(self._round, self.clock.now(), len(read), tuple(found), tuple(blind), scan_id=scan.scan_id)
        )
        await self._repair(plans, found)
        return True

    async def _event_round(self, source: EventSource, deliveries: Sequence[Delivery]) -> None:
        events = [event for delivery in deliveries for event in delivery.events]
        for delivery in deliveries:
            if delivery.problem:
                reason = f"a message that says nothing we know is left where it is: {delivery.problem}"
                self.tell(Trouble(self.clock.now(), "events", reason))
        touched: dict[Target, list[TrailEvent]] = {}
        for event in events:
            if event.touches:
                touched.setdefault(event.target, []).append(event)
        for target, owed in self._owed.items():
            if owed:
                touched.setdefault(target, [])
        scanned = False
        if any(event.touches_everything for event in events):
            scanned = await self._scan_round(events)
            read_well = set(touched) if scanned else set()
        else:
            read_well = await self._look_again(touched, len(events))

        def is_done(delivery: Delivery) -> bool:
            if delivery.problem:
                return False
            if delivery.times >= DELIVERIES_MAX:
                return True
            if not scanned and any(event.touches_everything for event in delivery.events):
                return False
            return all(event.target in read_well for event in delivery.events if event.touches)

        finished = [each for each in deliveries if is_done(each)]
        if finished:
            try:
                await source.done(finished)
            except (ServiceError, Unreachable) as error:
                self.tell(Trouble(self.clock.now(), "events", f"messages will come again: {said(error)}"))

    async def _look_again(self, touched: Mapping[Target, list[TrailEvent]], events: int) -> set[Target]:
        """Read the touched targets and compare. Gives those that need not be read again."""
        turn = asyncio.Semaphore(READS_CONCURRENT_MAX)
        answers: dict[Target, RegionSeen | Blind | None] = {}

        async def one(target: Target) -> None:
            async with turn:
                answers[target] = await self._read(target)

        async def all_of_them() -> None:
            async with asyncio.TaskGroup() as group:
                for target in touched:
                    group.create_task(one(target))

        now = self.clock.now()
        await self._unless_stopped(all_of_them())
        found: list[Drift] = []
        blind: list[Blind] = []
        plans: dict[Target, Plan] = {}
        well: set[Target] = set()
        looked = 0
        for target in touched:
            answer = answers[target]
            if isinstance(answer, Blind):
                blind.append(answer)
                continue
            if answer is None:  # not ours to watch
                well.add(target)
                continue
            looked += 1
            before = self._looks.get(target)
            plan = plan_of(answer, self._account(target), self.intent, now)
            names = {name for event in touched[target] for name in event.names} | {target.region}
            found += drifts(before, plan) if before is not None else first_drifts(plan, names, now)
            lost = self._compare(answer, before, plan, now)
            blind += lost
            plans[target] = plan
            if not lost:
                well.add(target)
        found = await self._blame(found, touched)
        self._end_round(RoundEnded(self._round, now, looked, tuple(found), tuple(blind), events=events))
        await self._repair(plans, found)
        return well

    async def _read(self, target: Target) -> RegionSeen | Blind | None:
        try:
            account = await self.hands.watched(target)
            if account is None:
                return None
            self._accounts.setdefault(target.account_id, account)
            return await self.hands.read(target)
        except (ServiceError, Unreachable) as error:
            return Blind(str(target), said(error))

    # -- comparing ----------------------------------------------------------------------------------------------------

    def _take_as_baseline(self, scan: Scan) -> None:
        self._accounts = {each.account_id: each for each in scan.accounts}
        for seen in scan.regions:
            plan = plan_of(seen, self._account(seen.target), self.intent, scan.finished)
            self._looks[seen.target] = look(seen, plan, scan.started)
        self._note_unseen(scan)
        self._comparable = scan.scope == self.scope

    def _compare(self, seen: RegionSeen, before: Look | None, plan: Plan, at: datetime) -> list[Blind]:
        """Keep what this look found; what is unseen now and was not before."""
        self._looks[seen.target] = after_partial(before, look(seen, plan, at))
        lost = newly_unseen(before, seen) if before is not None else ()
        reasons = {each.what: each.reason for each in seen.unseen}
        return [Blind(f"{seen.target}: {what}", reasons[what]) for what in lost]

    def _note_unseen(self, scan: Scan) -> None:
        self._blind = {
            (each.account_id, each.region) for each in scan.unseen if each.unseen.code not in NOT_INSPECTABLE
        }

    def _was_unseen(self, target: Target) -> bool:
        return bool({(target.account_id, None), (target.account_id, target.region)} & self._blind)

    def _lost(self, scan: Scan, read: set[Target]) -> list[Blind]:
        """Accounts and Regions that were read at the last look, and that this scan could not read."""
        known = {target for target in self._looks if target not in read}
        found = []
        for each in scan.unseen:
            if (each.account_id, each.region) in self._blind or each.unseen.code in NOT_INSPECTABLE:
                continue
            if any(each.account_id == one.account_id and each.region in (None, one.region) for one in known):
                subject = f"{each.account_id}/{each.region}" if each.region else each.account_id
                found.append(Blind(subject, each.unseen.reason))
        return found

    def _account(self, target: Target) -> Account:
        return self._accounts.get(target.account_id) or Account(target.account_id, "")

    async def _blame(self, found: list[Drift], told: Mapping[Target, Sequence[TrailEvent]]) -> list[Drift]:
        """The drift with who did it: by the events that came, else by CloudTrail, which is asked once per target."""
        asked: dict[Target, list[TrailEvent]] = {}
        blamed = []
        for drift in found:
            change = drift.change
            arguments = change.resource, change.name, change.target.region
            actor = culprit(list(told.get(change.target, ())), *arguments)
            if actor is None:
                if change.target not in asked:
                    asked[change.target] = await self._unless_stopped(self._history(change.target, drift.since))
                actor = culprit(asked[change.target], *arguments)
            blamed.append(replace(drift, actor=actor))
        return blamed

    async def _history(self, target: Target, since: datetime) -> list[TrailEvent]:
        try:
            return await self.hands.writes_since(target, since)
        except (ServiceError, Unreachable) as error:
            self.tell(Trouble(self.clock.now(), f"{target}: who did it", said(error)))
            return []

    # -- repairing ----------------------------------------------------------------------------------------------------

    async def _repair(self, plans: Mapping[Target, Plan], found: Sequence[Drift]) -> None:
        """Carry out what drift needs, up to the limit; the rest is owed, and comes with the next round."""
        if self.hands.repair is None:
            return
        for drift in found:
            if not drift.change.held:
                self._owed.setdefault(drift.change.target, set()).add(drift.change.id)
        given_up: list[str] = []
        parts: list[Plan] = []
        left, room = 0, self.repair_max
        for target, plan in plans.items():
            owed = self._owed.pop(target, set())
            wanted = [change for change in plan.changes if change.id in owed and not change.held]
            tired = [change.id for change in wanted if self._repairs[change.id] >= REPAIRS_OF_ONE_MAX]
            given_up += tired
            due = [Drift(change, plan.made_at) for change in wanted if change.id not in tired]
            part = only(plan, due, room)
            chosen = {change.id for change in part.changes}
            room -= len(chosen)
            if later := {each.change.id for each in due} - chosen:
                self._owed[target] = later
                left += len(later)
            if chosen:
                parts.append(part)
        plan_now = together(parts)
        if plan_now is None:
            if given_up or left:
                self.tell(RepairEnded(self.clock.now(), (), left, tuple(given_up)))
            return
        ended = await self.hands.repair(plan_now)
        for change in plan_now.changes:
            self._repairs[change.id] += 1
            before = self._looks.get(change.target)
            if change.id in ended.good:
                if before is not None:
                    kept = {name: value for name, value in before.wanted.items() if name != change.id}
                    self._looks[change.target] = replace(before, wanted=kept)
            else:
                self._owed.setdefault(change.target, set()).add(change.id)
        self.tell(RepairEnded(self.clock.now(), ended.changes, left, tuple(given_up), ended.plan))

    # -- time ---------------------------------------------------------------------------------------------------------

    def _end_round(self, ended: RoundEnded) -> None:
        self._round += 1
        self.tell(replace(ended, number=self._round))

    def _is_over(self) -> bool:
        if self.stop.is_set():
            raise Stopped
        return self.rounds is not None and self._round - self._before >= self.rounds

    async def _unless_stopped(self, work: Awaitable[T]) -> T:
        """The work's result. When somebody asks to stop it is cancelled; raises Stopped then."""
        task = asyncio.ensure_future(_coroutine(work))
        stopping = asyncio.ensure_future(self.stop.wait())
        try:
            await asyncio.wait((task, stopping), return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return task.result()
            raise Stopped
        finally:
            for each in (task, stopping):
                if not each.done():
                    each.cancel()
            await asyncio.gather(task, stopping, return_exceptions=True)


def _coroutine(work: Awaitable[T]) -> Coroutine[Any, Any, T]:
    async def wait() -> T:
        return await work

    return wait()
