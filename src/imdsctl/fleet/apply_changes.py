"""Make changes in AWS, target by target: read again, compare, record, call, record, read until it is so."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypeAlias

from imdsctl.domain.journal import Applied, Began, Entry, Failed, Progress
from imdsctl.domain.observations import Target
from imdsctl.domain.options import InvalidOption, Switch
from imdsctl.domain.plan import Change, Surface
from imdsctl.fleet.apply_report import Outcome, Result, failed
from imdsctl.fleet.handlers import HANDLERS
from imdsctl.fleet.ports import Aws, Credentials, Lease, Unreachable
from imdsctl.fleet.surfaces import Ec2, Seen, Standing, standing
from imdsctl.wire.errors import ServiceError

TARGETS_CONCURRENT_MAX = 32
"""Accounts and Regions written to at the same time; within one, calls come one after another, because EC2's buckets
are per account and Region (ModifyInstanceMetadataDefaults 2 a second, ModifyInstanceMetadataOptions 5 a second)."""
CHANGES_PER_READ_MAX = 20
"""Resources of a target that are re-read in one call: few enough that the answer is still true at the last one."""
POLL_SECONDS_MIN = 0.2
POLL_SECONDS_MAX = 5.0
"""The pause between two looks, doubled each time."""
READ_ERRORS = (ServiceError, Unreachable, InvalidOption)
"""What a read may end with, as data."""


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
        """All that is recorded up to now."""
        ...

    async def append(self, entry: Entry) -> None:
        """Record one entry durably."""
        ...


Enter: TypeAlias = Callable[[str], Awaitable[Credentials | None]]
"""Credentials for an account id; raises ServiceError or Unreachable. Called often: it remembers."""


async def in_targets(changes: Sequence[Change], work: Callable[[Target, Sequence[Change]], Awaitable[None]]) -> None:
    """Do the work for every target's changes, some targets at a time. What it raises cancels the others."""
    by_target: dict[Target, list[Change]] = {}
    for change in changes:
        by_target.setdefault(change.target, []).append(change)
    turn = asyncio.Semaphore(TARGETS_CONCURRENT_MAX)

    async def in_turn(target: Target) -> None:
        async with turn:
            await work(target, by_target[target])

    async with asyncio.TaskGroup() as group:
        for target in by_target:
            group.create_task(in_turn(target))


def batches(changes: Sequence[Change]) -> list[list[Change]]:
    """A target's changes, in order, in parts that are read together: of one surface, and not too many."""
    found: list[list[Change]] = []
    for change in changes:
        last = found[-1] if found else []
        if not last or last[0].surface is not change.surface or len(last) == CHANGES_PER_READ_MAX:
            found.append([])
        found[-1].append(change)
    return found


@dataclass
class Changes:
    """Makes the changes of a plan. `ended` hears of each one's end.

    `why_not_enforce` is asked before a Region is enforced: why it cannot be, in a clause, or nothing.
    `stopped` is asked before every change: once it says True nothing new is begun, and what is under way is finished.
    `lease`, where there is one, is asked before every write whether it is still ours.
    """

    plan_digest: str
    aws: Aws
    enter: Enter
    journal: Journal
    clock: Clock
    ended: Callable[[Result], None]
    why_not_enforce: Callable[[Ec2, Target], Awaitable[str]]
    stopped: Callable[[], bool] = lambda: False
    lease: Lease | None = None

    async def make(self, changes: Sequence[Change]) -> None:
        """Make them. Refusals of AWS are results; a bug, or a journal that cannot be written, raises."""
        await in_targets(changes, self._target)

    async def _target(self, target: Target, changes: Sequence[Change]) -> None:
        for batch in batches(changes):
            await self._batch(target, batch)

    async def _batch(self, target: Target, changes: Sequence[Change]) -> None:
        if self.stopped():
            self._not_reached(changes)
            return
        handler = HANDLERS[changes[0].surface]
        try:
            ec2 = Ec2(self.aws, await self.enter(target.account_id), target.region)
            seen = await handler.read(ec2, changes, self.plan_digest, self._begun(changes))
        except READ_ERRORS as error:
            # Nothing was sent. What an earlier run left in doubt stays so: the journal is not touched.
            for change in changes:
                self.ended(failed(change, error))
            return
        called = [change for change in changes if await self._one(ec2, change, seen.get(change.id))]
        await self._settle(target, called)

    def _begun(self, changes: Sequence[Change]) -> dict[str, Mapping[str, object]]:
        progress = self.journal.progress
        return {change.id: progress.begun[change.id] for change in changes if change.id in progress.in_doubt}

    async def _one(self, ec2: Ec2, change: Change, seen: Seen | None) -> bool:
        """One change up to its call. True when AWS was called and its effect has to be read back."""
        if self.stopped():
            self._not_reached([change])
            return False
        if seen is None:
            await self.journal.append(Applied(change.id, {}, self._at()))
            self.ended(Result(change, Outcome.GONE, "AWS no longer has it"))
            return False
        if seen.failure is not None:
            await self._record_failure(failed_at_work(change, seen.failure))
            return False
        match standing(change, seen):
            case Standing.DONE:
                if seen.settled:
                    await self.journal.append(Applied(change.id, seen.values, self._at()))
                    self.ended(Result(change, Outcome.ALREADY))
                return not seen.settled
            case Standing.STALE:
                self.ended(Result(change, Outcome.STALE, seen.busy or stale_detail(change, seen.values), "plan-stale"))
                return False
            case Standing.READY:
                return await self._is_safe(ec2, change) and await self._call(ec2, change, seen)

    async def _is_safe(self, ec2: Ec2, change: Change) -> bool:
        """Whether nothing that launches later would fail because of a change; its end is told where something would."""
        if change.after.get("HttpTokensEnforced") != Switch.ENABLED:
            return True
        if why := await self.why_not_enforce(ec2, change.target):
            self.ended(Result(change, Outcome.UNSAFE, f"not enabled: {why}", "enforcement-unsafe"))
        elif self.stopped():
            self._not_reached([change])
        else:
            return True
        return False

    async def _call(self, ec2: Ec2, change: Change, seen: Seen) -> bool:
        if self.lease is not None:
            await self.lease.check()
        await self.journal.append(Began(change.id, seen.values, self._at()))
        try:
            await HANDLERS[change.surface].write(ec2, change, seen, self.plan_digest)
        except ServiceError as error:
            if error.fault == "server":
                return True  # AWS may have done it all the same: read it back.
            await self._record_failure(failed(change, error))
            return False
        except Unreachable as error:
            if error.maybe_done:
                return True
            await self._record_failure(failed(change, error))
            return False
        return True

    async def _record_failure(self, result: Result) -> None:
        await self.journal.append(Failed(result.change.id, result.code, result.detail, self._at()))
        self.ended(result)

    async def _settle(self, target: Target, changes: Sequence[Change]) -> None:
        """Read until AWS says what the plan wants, and record it. What does not come to it stays in doubt."""
        if not changes:
            return
        handler = HANDLERS[changes[0].surface]
        waiting = list(changes)
        deadline = self.clock.now() + timedelta(seconds=handler.settle_seconds_max)
        pause = POLL_SECONDS_MIN
        why = "AWS does not show the change yet"
        while waiting:
            try:
                # Anew each time: an instance refresh outlives a session's credentials.
                ec2 = Ec2(self.aws, await self.enter(target.account_id), target.region)
                seen = await handler.read(ec2, waiting, self.plan_digest, self._begun(waiting))
            except READ_ERRORS as error:
                why = f"it could not be read back: {error}"
                break
            for change in tuple(waiting):
                if await self._settled(change, seen.get(change.id)):
                    waiting.remove(change)
            if not waiting or self.clock.now() >= deadline:
                break
            if self.stopped() and changes[0].surface is Surface.AUTO_SCALING_GROUP:
                why = "the instance refresh goes on by itself: the same command follows it to its end"
                break
            await self.clock.sleep(pause)
            pause = min(2 * pause, POLL_SECONDS_MAX)
        for change in waiting:
            self.ended(Result(change, Outcome.IN_DOUBT, why, "in-doubt"))

    async def _settled(self, change: Change, now: Seen | None) -> bool:
        if now is not None and now.failure is not None:
            await self._record_failure(failed_at_work(change, now.failure))
            return True
        if now is not None and not (now.settled and standing(change, now) is Standing.DONE):
            return False
        await self.journal.append(Applied(change.id, now.values if now else {}, self._at()))
        self.ended(Result(change, Outcome.APPLIED if now else Outcome.GONE))
        return True

    def _not_reached(self, changes: Sequence[Change]) -> None:
        for change in changes:
            self.ended(Result(change, Outcome.NOT_REACHED, "the run was stopped before it"))

    def _at(self) -> str:
        return self.clock.now().isoformat()


def failed_at_work(change: Change, failure: tuple[str, str]) -> Result:
    """The result of a change that was begun and came to a bad end: code and message."""
    code, message = failure
    return Result(change, Outcome.FAILED, message, code)


def stale_detail(change: Change, values: Mapping[str, object], before: Mapping[str, object] | None = None) -> str:
    """What is no longer as the plan saw it, or as `before` says."""
    before = change.before if before is None else before
    names = sorted({*values, *before})
    differing = [
        f"{name} was {before.get(name, 'unset')}, is {values.get(name, 'unset')}"
        for name in names
        if before.get(name) != values.get(name)
    ]
    return "it changed after the plan was made: " + "; ".join(differing)
