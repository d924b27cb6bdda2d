"""Write back what an apply has changed: the recorded values, in reverse order, and only where nobody came after it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from imdsctl.domain.journal import Progress, RollbackBegan, RollbackFailed, RolledBack
from imdsctl.domain.observations import Target
from imdsctl.domain.plan import Change, Plan, Surface
from imdsctl.fleet.apply_changes import (
    POLL_SECONDS_MAX,
    POLL_SECONDS_MIN,
    READ_ERRORS,
    Clock,
    Enter,
    Journal,
    batches,
    in_targets,
    stale_detail,
)
from imdsctl.fleet.apply_report import (
    ChangeEnded,
    Listener,
    Outcome,
    Report,
    Result,
    StageBegan,
    failed,
)
from imdsctl.fleet.ports import Aws, Lease, Unreachable
from imdsctl.fleet.restore import RESTORERS, Recorded
from imdsctl.fleet.surfaces import SETTLE_SECONDS_MAX, Ec2, Seen, Standing
from imdsctl.wire.errors import ServiceError


def selected(
    plan: Plan,
    progress: Progress,
    *,
    wave: str | None = None,
    changes: frozenset[str] = frozenset(),
    since: datetime | None = None,
) -> tuple[Change, ...]:
    """What a rollback is about, in the plan's order: what apply has called AWS for, be it put back already or not.

    That stays the same, so that the same command, with the same number confirmed, goes on after an interruption.
    `since` is aware; it takes what was applied, or last begun, then or later.
    """
    return tuple(
        change
        for change in plan.ready
        if change.id in progress.old
        and (wave is None or change.wave == wave)
        and (not changes or change.id in changes)
        and (since is None or datetime.fromisoformat(progress.done_at[change.id]) >= since)
    )


def decided(change: Change, progress: Progress, *, delete_versions: bool) -> Result | None:
    """How it ends, where that needs no look at AWS; else None."""
    is_template = change.surface is Surface.LAUNCH_TEMPLATE
    if change.id in progress.rolled_back and not (delete_versions and is_template):
        return Result(change, Outcome.RESTORED_EARLIER)
    if change.id not in progress.old:
        detail = "apply found it so" if change.id in progress.done else "apply had not begun it"
        return Result(change, Outcome.AS_BEFORE, detail)
    if change.id in progress.failed and not is_template:
        return Result(change, Outcome.AS_BEFORE, "AWS had refused the change")
    if irreversible := RESTORERS[change.surface].irreversible:
        return Result(change, Outcome.IRREVERSIBLE, irreversible, "cannot-restore")
    return None


@dataclass
class RollingBack:
    """One rollback, of the changes named by `only` (their ids). Interrupted anywhere, the same one goes on."""

    plan: Plan
    aws: Aws
    enter: Enter
    journal: Journal
    clock: Clock
    only: frozenset[str]
    listener: Listener = lambda event: None
    stopped: Callable[[], bool] = lambda: False
    lease: Lease | None = None
    delete_versions: bool = False
    results: dict[str, Result] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._writes: dict[tuple[Target, str], dict[str, frozenset[str]]] = defaultdict(dict)
        for change in self.plan.ready:
            self._writes[change.target, change.resource][change.id] = frozenset(change.after)

    async def run(self) -> Report:
        """Put everything back. Refusals of AWS are in the report; a bug, or a journal that is not written, raises."""
        for wave, stage, changes in reversed(self.plan.steps()):
            asked = [change for change in reversed(changes) if change.id in self.only]
            left = [change for change in asked if not self._is_decided(change)]
            if left and not self.stopped():
                self.listener(StageBegan(wave.name, stage, len(left)))
            await in_targets(left, self._target)
        results = tuple(self.results[change.id] for change in self.plan.ready if change.id in self.only)
        return Report(results, any(result.outcome is Outcome.NOT_REACHED for result in results))

    def _is_decided(self, change: Change) -> bool:
        if result := decided(change, self.journal.progress, delete_versions=self.delete_versions):
            self._end(result)
        return result is not None

    async def _target(self, target: Target, changes: Sequence[Change]) -> None:
        for batch in batches(changes):
            await self._batch(target, batch)

    async def _batch(self, target: Target, changes: Sequence[Change]) -> None:
        if self.stopped():
            for change in changes:
                self._not_reached(change)
            return
        try:
            ec2 = Ec2(self.aws, await self.enter(target.account_id), target.region)
            seen = await RESTORERS[changes[0].surface].read(ec2, changes, self.plan.digest)
        except READ_ERRORS as error:
            for change in changes:
                self._end(failed(change, error))
            return
        called = [change for change in changes if await self._one(ec2, change, seen.get(change.id))]
        await self._settle(ec2, called)

    async def _one(self, ec2: Ec2, change: Change, seen: Seen | None) -> bool:
        """One change up to its call. True when AWS was called and its effect has to be read back."""
        if self.stopped():
            self._not_reached(change)
            return False
        if seen is None:
            await self.journal.append(RolledBack(change.id, {}, self._at()))
            self._end(Result(change, Outcome.GONE, "AWS no longer has it: there is nothing to restore"))
            return False
        restorer, recorded = RESTORERS[change.surface], self._recorded(change)
        match restorer.standing(change, recorded, seen, delete_versions=self.delete_versions):
            case Standing.DONE:
                doubt = change.id in self.journal.progress.rollback_in_doubt
                await self._record(change, seen, Outcome.RESTORED if doubt else Outcome.AS_BEFORE)
                return False
            case Standing.STALE:
                why = seen.busy or _stale_detail(change, seen, recorded)
                self._end(Result(change, Outcome.STALE, why, "rollback-stale"))
                return False
            case Standing.READY:
                return await self._call(ec2, change, recorded, seen)

    async def _call(self, ec2: Ec2, change: Change, recorded: Recorded, seen: Seen) -> bool:
        if self.lease is not None:
            await self.lease.check()
        await self.journal.append(RollbackBegan(change.id, seen.values, self._at()))
        try:
            await RESTORERS[change.surface].write(ec2, change, recorded, seen, delete_versions=self.delete_versions)
        except (ServiceError, Unreachable) as error:
            maybe = error.fault == "server" if isinstance(error, ServiceError) else error.maybe_done
            if maybe:
                return True  # AWS may have done it all the same: read it back.
            result = failed(change, error)
            await self.journal.append(RollbackFailed(change.id, result.code, result.detail, self._at()))
            self._end(result)
            return False
        return True

    async def _settle(self, ec2: Ec2, changes: Sequence[Change]) -> None:
        """Read until AWS says the old values, and record it. What does not come to it stays in doubt."""
        waiting = list(changes)
        deadline = self.clock.now() + timedelta(seconds=SETTLE_SECONDS_MAX)
        pause = POLL_SECONDS_MIN
        why = "AWS does not show the old values yet"
        while waiting:
            restorer = RESTORERS[waiting[0].surface]
            try:
                seen = await restorer.read(ec2, waiting, self.plan.digest)
            except READ_ERRORS as error:
                why = f"it could not be read back: {error}"
                break
            for change in tuple(waiting):
                now = seen.get(change.id)
                recorded = self._recorded(change)
                if now is None:
                    waiting.remove(change)
                    await self.journal.append(RolledBack(change.id, {}, self._at()))
                    self._end(Result(change, Outcome.GONE, "AWS no longer has it"))
                elif now.settled and (
                    restorer.standing(change, recorded, now, delete_versions=self.delete_versions) is Standing.DONE
                ):
                    waiting.remove(change)
                    await self._record(change, now, Outcome.RESTORED)
            if not waiting or self.clock.now() >= deadline:
                break
            await self.clock.sleep(pause)
            pause = min(2 * pause, POLL_SECONDS_MAX)
        for change in waiting:
            self._end(Result(change, Outcome.IN_DOUBT, why, "in-doubt"))

    async def _record(self, change: Change, seen: Seen, outcome: Outcome) -> None:
        await self.journal.append(RolledBack(change.id, seen.values, self._at()))
        if seen.values.get("LatestVersion") in seen.made.values():
            outcome = Outcome.BUT_LATEST
        self._end(Result(change, outcome, RESTORERS[change.surface].stays(change, seen)))

    def _recorded(self, change: Change) -> Recorded:
        progress = self.journal.progress
        old = progress.old[change.id]
        others = [names for other, names in self._writes[change.target, change.resource].items() if other != change.id]
        # Nobody has seen the end of what is in doubt: it can only be what the change wanted.
        now = progress.now.get(change.id) or {**old, **change.after}
        return Recorded(old, now, frozenset().union(*others))

    def _not_reached(self, change: Change) -> None:
        self._end(Result(change, Outcome.NOT_REACHED, "the run was stopped before it"))

    def _end(self, result: Result) -> None:
        self.results[result.change.id] = result
        self.listener(ChangeEnded(result))

    def _at(self) -> str:
        return self.clock.now().isoformat()


def _stale_detail(change: Change, seen: Seen, recorded: Recorded) -> str:
    mine = {name: value for name, value in recorded.now.items() if name not in recorded.others or name in change.after}
    now = {name: value for name, value in seen.values.items() if name not in recorded.others or name in change.after}
    return stale_detail(change, now, mine).replace("after the plan was made", "after apply had done its work")
