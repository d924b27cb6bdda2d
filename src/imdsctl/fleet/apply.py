"""Carry out a plan, and nothing but the plan: read again, compare, record, call, record, read until it is so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Protocol, TypeAlias

from imdsctl.domain.journal import Applied, Began, Entry, Failed, Progress
from imdsctl.domain.observations import Target
from imdsctl.domain.options import InvalidOption
from imdsctl.domain.plan import Change, Plan, Stage
from imdsctl.fleet.ports import Aws, Credentials, Unreachable
from imdsctl.fleet.surfaces import HANDLERS, Ec2, Seen, Standing, standing
from imdsctl.wire.errors import ServiceError

TARGETS_CONCURRENT_MAX = 32
"""Accounts and Regions written to at the same time; within one, calls come one after another, because EC2's buckets
are per account and Region (ModifyInstanceMetadataDefaults 2 a second, ModifyInstanceMetadataOptions 5 a second)."""
CHANGES_PER_READ_MAX = 20
"""Resources of a target that are re-read in one call: few enough that the answer is still true at the last one."""
SETTLE_SECONDS_MAX = 120.0
"""How long to wait for AWS to show a change as applied before it is left in doubt."""
POLL_SECONDS_MIN = 0.2
POLL_SECONDS_MAX = 5.0
"""The pause between two looks, doubled each time."""


class Clock(Protocol):
    """Time, so that a test can have its own."""

    def now(self) -> datetime:
        """Aware, UTC."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Journal(Protocol):
    """The plan's memory. `append` returns when the entry would survive a power cut."""

    @property
    def progress(self) -> Progress:
        """What an earlier run left."""
        ...

    async def append(self, entry: Entry) -> None:
        """Record one entry durably."""
        ...


Enter: TypeAlias = Callable[[str], Awaitable[Credentials | None]]
"""Credentials for an account id; raises ServiceError or Unreachable. Called often: it remembers."""


class Outcome(StrEnum):
    """How a change ended."""

    APPLIED = "applied"
    EARLIER = "applied earlier"
    """The journal of an earlier run has it."""
    ALREADY = "already so"
    """Somebody else did it, or the call of a killed run arrived."""
    GONE = "gone"
    """AWS no longer has the resource: nothing is left to change."""
    STALE = "stale"
    """Neither `before` nor `after`: refused."""
    FAILED = "failed"
    IN_DOUBT = "in doubt"
    """The call was made and its end was not seen. The same command reads it back."""
    HELD_BACK = "held back"
    """Not begun because something else went wrong."""
    NOT_REACHED = "not reached"
    """Not begun because the run was stopped."""


GOOD = frozenset({Outcome.APPLIED, Outcome.EARLIER, Outcome.ALREADY, Outcome.GONE})
"""Outcomes after which the resource needs nothing more."""
_STOPS = frozenset({Outcome.FAILED, Outcome.IN_DOUBT})
"""Outcomes that stop a plan before its next wave. A stale change does not: its resource was left alone."""


@dataclass(frozen=True, slots=True)
class Result:
    """How one change ended, and why."""

    change: Change
    outcome: Outcome
    detail: str = ""
    code: str = ""


@dataclass(frozen=True, slots=True)
class StageBegan:
    """A stage of a wave starts, with so many changes."""

    wave: str
    stage: Stage
    changes: int


@dataclass(frozen=True, slots=True)
class ChangeEnded:
    """A change came to its end."""

    result: Result


Event: TypeAlias = StageBegan | ChangeEnded


@dataclass(frozen=True, slots=True)
class Report:
    """How everything ended, in the plan's order."""

    results: tuple[Result, ...]
    interrupted: bool = False

    def count(self, *outcomes: Outcome) -> int:
        """How many changes ended so."""
        return sum(result.outcome in outcomes for result in self.results)

    @property
    def done(self) -> bool:
        """True when every change that the plan could make is made."""
        return all(result.outcome in GOOD for result in self.results)


@dataclass
class Applying:
    """One run of a plan.

    `stopped` is asked before every change: once it says True nothing new is begun, and what is under way is finished.
    With `keep_going` a failure holds back its own account's Region only; without, the plan ends with that wave.
    """

    plan: Plan
    aws: Aws
    enter: Enter
    journal: Journal
    clock: Clock
    listener: Callable[[Event], None] = lambda event: None
    stopped: Callable[[], bool] = lambda: False
    keep_going: bool = False
    results: dict[str, Result] = field(default_factory=dict)

    async def run(self) -> Report:
        """Carry the plan out. Refusals of AWS are in the report; a bug, or a journal that cannot be written, raises."""
        for wave, stage, changes in self.plan.steps():
            left = self._undecided(stage, changes)
            if left and not self.stopped():
                self.listener(StageBegan(wave.name, stage, len(left)))
            await self._stage(left)
        interrupted = any(result.outcome is Outcome.NOT_REACHED for result in self.results.values())
        return Report(tuple(self.results[change.id] for change in self.plan.ready), interrupted)

    def _undecided(self, stage: Stage, changes: Sequence[Change]) -> list[Change]:
        """The changes of a stage that are to be made: not done in an earlier run, not held back by what went wrong."""
        bad = [result for result in self.results.values() if result.outcome not in GOOD]
        stopping = [result for result in bad if result.outcome in _STOPS]
        bad_here = {result.change.target: result for result in bad}
        stopping_here = {result.change.target: result for result in stopping}
        left = []
        for change in changes:
            blocking = stopping_here.get(change.target) if self.keep_going else next(iter(stopping), None)
            why = ""
            if blocking is not None:
                why = f"{blocking.change.id} is {blocking.outcome}"
            elif stage is Stage.ENFORCEMENT and (missing := bad_here.get(change.target)) is not None:
                why = f"{missing.change.id} is {missing.outcome}: enforcement comes when all else in its Region is done"
            if change.id in self.journal.progress.done:
                self._end(Result(change, Outcome.EARLIER))
            elif why and self.stopped():
                self._not_reached([change])
            elif why:
                self._end(Result(change, Outcome.HELD_BACK, why))
            else:
                left.append(change)
        return left

    async def _stage(self, changes: Sequence[Change]) -> None:
        by_target: dict[Target, list[Change]] = {}
        for change in changes:
            by_target.setdefault(change.target, []).append(change)
        turn = asyncio.Semaphore(TARGETS_CONCURRENT_MAX)

        async def in_turn(target: Target) -> None:
            async with turn:
                await self._target(target, by_target[target])

        async with asyncio.TaskGroup() as group:
            for target in by_target:
                group.create_task(in_turn(target))

    async def _target(self, target: Target, changes: Sequence[Change]) -> None:
        for start in range(0, len(changes), CHANGES_PER_READ_MAX):
            await self._batch(target, changes[start : start + CHANGES_PER_READ_MAX])

    async def _batch(self, target: Target, changes: Sequence[Change]) -> None:
        if self.stopped():
            self._not_reached(changes)
            return
        handler = HANDLERS[changes[0].surface]
        try:
            ec2 = Ec2(self.aws, await self.enter(target.account_id), target.region)
            seen = await handler.read(ec2, changes, self.plan.digest)
        except (ServiceError, Unreachable, InvalidOption) as error:
            # Nothing was sent. What an earlier run left in doubt stays so: the journal is not touched.
            for change in changes:
                self._end(_failed(change, error))
            return
        called = [change for change in changes if await self._one(ec2, change, seen.get(change.id))]
        await self._settle(ec2, called)

    async def _one(self, ec2: Ec2, change: Change, seen: Seen | None) -> bool:
        """One change up to its call. True when AWS was called and its effect has to be read back."""
        if self.stopped():
            self._not_reached([change])
            return False
        if seen is None:
            await self.journal.append(Applied(change.id, {}, self._at()))
            self._end(Result(change, Outcome.GONE, "AWS no longer has it"))
            return False
        match standing(change, seen):
            case Standing.DONE:
                if seen.settled:
                    await self.journal.append(Applied(change.id, seen.values, self._at()))
                    self._end(Result(change, Outcome.ALREADY))
                return not seen.settled
            case Standing.STALE:
                self._end(Result(change, Outcome.STALE, stale_detail(change, seen.values), "plan-stale"))
                return False
            case Standing.READY:
                return await self._call(ec2, change, seen)

    async def _call(self, ec2: Ec2, change: Change, seen: Seen) -> bool:
        await self.journal.append(Began(change.id, seen.values, self._at()))
        try:
            await HANDLERS[change.surface].write(ec2, change, seen, self.plan.digest)
        except ServiceError as error:
            if error.fault == "server":
                return True  # AWS may have done it all the same: read it back.
            await self._record_failure(change, error)
            return False
        except Unreachable as error:
            if error.maybe_done:
                return True
            await self._record_failure(change, error)
            return False
        return True

    async def _record_failure(self, change: Change, error: ServiceError | Unreachable) -> None:
        result = _failed(change, error)
        await self.journal.append(Failed(change.id, result.code, result.detail, self._at()))
        self._end(result)

    async def _settle(self, ec2: Ec2, changes: Sequence[Change]) -> None:
        """Read until AWS says what the plan wants, and record it. What does not come to it stays in doubt."""
        waiting = list(changes)
        deadline = self.clock.now() + timedelta(seconds=SETTLE_SECONDS_MAX)
        pause = POLL_SECONDS_MIN
        why = "AWS does not show the change yet"
        while waiting:
            try:
                seen = await HANDLERS[waiting[0].surface].read(ec2, waiting, self.plan.digest)
            except (ServiceError, Unreachable, InvalidOption) as error:
                why = f"it could not be read back: {error}"
                break
            for change in tuple(waiting):
                now = seen.get(change.id)
                if now is None or (now.settled and standing(change, now) is Standing.DONE):
                    waiting.remove(change)
                    await self.journal.append(Applied(change.id, now.values if now else {}, self._at()))
                    self._end(Result(change, Outcome.APPLIED if now else Outcome.GONE))
            if not waiting or self.clock.now() >= deadline:
                break
            await self.clock.sleep(pause)
            pause = min(2 * pause, POLL_SECONDS_MAX)
        for change in waiting:
            self._end(Result(change, Outcome.IN_DOUBT, why, "in-doubt"))

    def _not_reached(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self._end(Result(change, Outcome.NOT_REACHED, "the run was stopped before it"))

    def _end(self, result: Result) -> None:
        self.results[result.change.id] = result
        self.listener(ChangeEnded(result))

    def _at(self) -> str:
        return self.clock.now().isoformat()


def stale_detail(change: Change, values: Mapping[str, object]) -> str:
    """What is no longer as the plan saw it."""
    names = sorted({*values, *change.before})
    differing = [
        f"{name} was {change.before.get(name, 'unset')}, is {values.get(name, 'unset')}"
        for name in names
        if change.before.get(name) != values.get(name)
    ]
    return "it changed after the plan was made: " + "; ".join(differing)


def _failed(change: Change, error: ServiceError | Unreachable | InvalidOption) -> Result:
    if isinstance(error, ServiceError):
        return Result(change, Outcome.FAILED, error.message, error.code)
    if isinstance(error, InvalidOption):
        return Result(change, Outcome.FAILED, str(error), "unknown-value")
    return Result(change, Outcome.FAILED, f"{error.host}: {error.reason}", "unreachable")
