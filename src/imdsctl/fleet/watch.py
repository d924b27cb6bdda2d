"""Keeps looking: by scans at an interval, or by CloudTrail's events as they come; tells drift, and repairs it if asked.

Sans AWS: scans, reads, the actor's look-up and repairs are given as functions, so that time and chance can be a test's.
A message is done with (deleted) only after its target was read again; whatever ends the program in between, it comes
again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.drift import Drift
from imdsctl.domain.intent import Intent
from imdsctl.domain.observations import Account, RegionSeen, Scan, Target
from imdsctl.domain.trail_events import TrailEvent, culprit
from imdsctl.fleet.ports import Unreachable
from imdsctl.fleet.targets import said
from imdsctl.fleet.watch_events import Began, Blind, Delivery, EventSource, IntentRead, Listener, RoundEnded, Trouble
from imdsctl.fleet.watch_looks import Comparison, Looks
from imdsctl.fleet.watch_repairs import Repair, Repairs
from imdsctl.wire.errors import ServiceError

READS_CONCURRENT_MAX = 8
DELIVERIES_MAX = 5
"""After so many deliveries of a message whose target cannot be read whole it is done with all the same, and said."""
SETTLE_SECONDS = 2.0
"""An event may come before AWS shows what it did (EC2 API Reference, "Eventual consistency"): younger ones wait."""
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
class Hands:
    """What watching does to the world outside. `read` and `writes_since` raise ServiceError and Unreachable.

    `watched` says which of the accounts it watches a target belongs to, None for one that the selection leaves out.
    """

    scan: Callable[[], Awaitable[Scan]]
    read: Callable[[Target], Awaitable[RegionSeen]]
    watched: Callable[[Target], Awaitable[Account | None]]
    writes_since: Callable[[Target, datetime], Awaitable[list[TrailEvent]]]
    repair: Repair | None = None
    intent: Callable[[], tuple[Intent, str]] | None = None
    """The intent as its file says it now, and the file; None: it stays as it was. Raises DiagnosticError."""


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
    """The selection, as scans record it."""
    intent_file: str = ""
    """Where the intent was read; empty for the built-in one."""

    _round: int = field(default=0, init=False)
    _before: int = field(default=0, init=False)
    """Rounds that only made the baseline: they are not among those that were asked for."""

    def __post_init__(self) -> None:
        self._looks = Looks(self.intent, self.scope)
        self._mistakes: tuple[Diagnostic, ...] = ()
        """Of the intent's file. While there are any, the last intent that was right counts, and nothing is repaired:
        what was just written down may be the exception for what a repair would change."""
        repair = self.hands.repair
        self._repairs = None if repair is None else Repairs(repair, self.repair_max, self._looks.mended)

    async def run(self, baseline: Scan | None) -> int:
        """Watch until the rounds are over or somebody asks to stop; gives the number of rounds.

        Raises DiagnosticError for what cannot be mended by trying again.
        """
        if baseline is not None:
            self._looks.take(baseline)
        scan_id, since = (None, None) if baseline is None else (baseline.scan_id, baseline.finished)
        self.tell(Began(scan_id, since, len(self._looks), self.intent_file, self._unwatched()))
        try:
            if self.source is None:
                await self._by_scans()
            else:
                await self._by_events(self.source, scan_first=baseline is None)
        except Stopped:
            pass
        if self._repairs is not None and self._repairs.left:
            reason = (
                f"{self._repairs.left} of the changes that drift asks for were not made. The next watch compares with "
                "the latest scan, where it is no drift any more: see to them by `imdsctl plan` and `apply`"
            )
            self.tell(Trouble(self.clock.now(), "repairs", reason))
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
            if due is not None and self.interval is not None and self.clock.now() >= due:
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
            at_once = self.clock.now() - began < timedelta(seconds=1)
            self._read_intent()
            if deliveries or self._owed():
                await self._event_round(source, deliveries)
            elif self.until_empty:
                return
            if at_once and not deliveries:
                await self._unless_stopped(self.clock.sleep(IDLE_SECONDS))

    async def _scan_round(self, told: Sequence[TrailEvent] = ()) -> bool:
        """Scan everything and compare. A sweep that fails as a whole is told, and tried again at the next round.

        The first one of all, and the only one that was asked for, raises DiagnosticError: then something is wrong that
        somebody has to mend.
        """
        try:
            scan = await self._unless_stopped(self.hands.scan())
        except DiagnosticError as error:
            if not len(self._looks) or (self.source is None and self.rounds == 1):
                raise
            for each in error.diagnostics:
                self.tell(Trouble(self.clock.now(), each.subject or "scan", f"{each.summary} ({each.code})"))
            self._round += 1
            return False
        self._read_intent()
        found = self._looks.compare_scan(scan, self._owed())
        targets = {each.change.target for each in found.drifts}
        await self._end_round(found, dict.fromkeys(targets, told), scan_id=scan.scan_id)
        return True

    async def _event_round(self, source: EventSource, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            if delivery.problem and delivery.times <= 1:
                reason = f"a message that says nothing we know is left where it is: {delivery.problem}"
                self.tell(Trouble(self.clock.now(), "events", reason))
        events = [event for delivery in deliveries for event in delivery.events]
        touched: dict[Target, list[TrailEvent]] = {target: [] for target in self._owed()}
        for event in events:
            if event.touches:
                touched.setdefault(event.target, []).append(event)
        await self._settle(events)
        scanned = any(event.touches_everything for event in events) and await self._scan_round(events)
        read_well = set(touched) if scanned else await self._look_again(touched, len(events))

        def is_done(delivery: Delivery) -> bool:
            if delivery.problem:
                return False
            if delivery.times >= DELIVERIES_MAX:
                return True
            if not scanned and any(event.touches_everything for event in delivery.events):
                return False
            return all(event.target in read_well for event in delivery.events if event.touches)

        await self._done(source, [each for each in deliveries if is_done(each)], read_well)

    async def _done(self, source: EventSource, finished: Sequence[Delivery], read_well: set[Target]) -> None:
        for each in finished:
            lost = [event.target for event in each.events if event.touches and event.target not in read_well]
            if lost:
                reason = f"{lost[0]} could not be read whole after {each.times} deliveries of an event: it is given up"
                self.tell(Trouble(self.clock.now(), "events", reason))
        if finished:
            try:
                await source.done(finished)
            except (ServiceError, Unreachable) as error:
                self.tell(Trouble(self.clock.now(), "events", f"messages will come again: {said(error)}"))

    async def _look_again(self, touched: Mapping[Target, list[TrailEvent]], events: int) -> set[Target]:
        """Read the touched targets and compare. Gives those that need not be read again."""
        turn = asyncio.Semaphore(READS_CONCURRENT_MAX)
        answers: dict[Target, tuple[Account, RegionSeen] | Blind | None] = {}

        async def one(target: Target) -> None:
            async with turn:
                answers[target] = await self._read(target)

        async def all_of_them() -> None:
            async with asyncio.TaskGroup() as group:
                for target in touched:
                    group.create_task(one(target))

        now = self.clock.now()
        await self._unless_stopped(all_of_them())
        self._read_intent()
        found = Comparison()
        well: set[Target] = set()
        for target, answer in ((target, answers[target]) for target in touched):
            if isinstance(answer, Blind):
                found.blind.append(answer)
                continue
            if answer is not None:  # ours to watch
                account, seen = answer
                shown = self._looks.compare_target(seen, account, _names(touched[target]), now)
                found.add(shown)
                if shown.blind:
                    continue
            well.add(target)
        await self._end_round(found, touched, events=events)
        return well

    async def _read(self, target: Target) -> tuple[Account, RegionSeen] | Blind | None:
        try:
            account = await self.hands.watched(target)
            return None if account is None else (account, await self.hands.read(target))
        except (ServiceError, Unreachable) as error:
            return Blind(str(target), said(error))
        except DiagnosticError as error:
            return Blind(str(target), "; ".join(each.summary for each in error.diagnostics))

    async def _settle(self, events: Sequence[TrailEvent]) -> None:
        """Wait until the youngest event that matters is old enough for AWS to show what it did."""
        moments = [event.actor.at for event in events if event.actor.at is not None and event.touches]
        if moments:
            age = (self.clock.now() - max(moments)).total_seconds()
            if age < SETTLE_SECONDS:
                await self._unless_stopped(self.clock.sleep(min(SETTLE_SECONDS, SETTLE_SECONDS - age)))

    # -- what came of a round -----------------------------------------------------------------------------------------

    async def _end_round(
        self,
        found: Comparison,
        told: Mapping[Target, Sequence[TrailEvent]],
        *,
        scan_id: str = "",
        events: int = 0,
    ) -> None:
        """Find who did it, tell the round, and repair what it found."""
        drifted = await self._blame(found.drifts, told)
        self._round += 1
        now = self.clock.now()
        self.tell(
            RoundEnded(
                self._round,
                now,
                found.targets,
                tuple(drifted),
                tuple(found.blind),
                scan_id,
                events,
                tuple(found.lapsed),
            )
        )
        if self._repairs is not None and self._mistakes:
            self._repairs.owe(drifted)
        elif self._repairs is not None:
            try:
                ended = await self._repairs.round(found.plans, drifted, self.clock.now)
            except DiagnosticError as error:
                for each in error.diagnostics:
                    self.tell(Trouble(self.clock.now(), each.subject or "repair", f"{each.summary} ({each.code})"))
                return
            if ended is not None:
                self.tell(ended)

    async def _blame(self, found: Sequence[Drift], told: Mapping[Target, Sequence[TrailEvent]]) -> list[Drift]:
        """The drift with who did it: by the events that came, else by CloudTrail, which is asked once per target."""
        asked: dict[Target, list[TrailEvent]] = {}
        blamed = []
        for drift in found:
            change = drift.change
            arguments = change.resource, change.name, change.target.region
            actor = culprit(told.get(change.target, ()), *arguments)
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

    def _owed(self) -> list[Target]:
        return [] if self._repairs is None or self._mistakes else self._repairs.owed(self.clock.now())

    # -- the intent ---------------------------------------------------------------------------------------------------

    def _read_intent(self) -> None:
        """Go by what the intent's file says now; told when that is another thing than before, or no intent any more.

        It is read after AWS and before the two are compared: a sweep takes minutes, in which somebody may register an
        exception.
        """
        if self.hands.intent is None:
            return
        try:
            intent, file = self.hands.intent()
        except DiagnosticError as error:
            if error.diagnostics != self._mistakes:
                self._mistakes = error.diagnostics
                for each in error.diagnostics:
                    self.tell(Trouble(self.clock.now(), each.subject or "intent", f"{each.summary} ({each.code})"))
                so = "it goes on by the intent of before" + (", and repairs nothing" if self._repairs else "")
                self.tell(Trouble(self.clock.now(), "intent", f"the file is not right: until it is, {so}"))
            return
        if intent != self.intent or self._mistakes:
            self.intent, self._mistakes = intent, ()
            self._looks.judge_by(intent)
            self.tell(IntentRead(self.clock.now(), file, self._unwatched()))

    def _unwatched(self) -> tuple[str, ...]:
        """Waves whose soak no repair waits for."""
        waves = () if self._repairs is None else tuple(rule.wave for rule in self.intent.waves)
        return tuple(wave.name for wave in waves if wave.gates.soak)

    # -- time ---------------------------------------------------------------------------------------------------------

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


def _names(events: Sequence[TrailEvent]) -> set[str]:
    """What events name: resources, and the Region for its default."""
    found = {name for event in events for name in event.names}
    defaults = {event.target.region for event in events if event.name == "ModifyInstanceMetadataDefaults"}
    return found | defaults


def _coroutine(work: Awaitable[T]) -> Coroutine[Any, Any, T]:
    async def wait() -> T:
        return await work

    return wait()
