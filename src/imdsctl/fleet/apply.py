"""Carry out a plan, and nothing but the plan: wave by wave behind its gates, stage by stage within a wave."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.journal import WaveBegan, WaveEnded, WaveRollbackBegan, WaveRollbackEnded
from imdsctl.domain.observations import Target
from imdsctl.domain.options import HttpTokens, Switch
from imdsctl.domain.plan import Change, Plan, Stage, Surface
from imdsctl.domain.waves import OnFailure, PlannedWave
from imdsctl.fleet.apply_changes import READ_ERRORS, Changes, Clock, Enter, Journal
from imdsctl.fleet.apply_gates import Approve, Gatekeeper, Interrupted, Watched, nobody
from imdsctl.fleet.apply_report import (
    GOOD,
    STOPS,
    ChangeEnded,
    GateReport,
    GateVerdict,
    Listener,
    Outcome,
    Report,
    Result,
    RollbackOfWaveBegan,
    StageBegan,
)
from imdsctl.fleet.enforcement import why_not
from imdsctl.fleet.ports import Aws, Gauge, Lease
from imdsctl.fleet.refreshes import group_instances
from imdsctl.fleet.rollback import RollingBack
from imdsctl.fleet.services import Serves, everywhere
from imdsctl.fleet.surfaces import Ec2

Steps = Sequence[tuple[Stage, Sequence[Change]]]
"""A wave's changes by stage, in order."""


@dataclass
class Applying:
    """One run of a plan.

    `stopped` is asked before every change and while a gate waits: once it says True nothing new is begun, and what is
    under way is finished. With `keep_going` a failure holds back its own account's Region only; without, the plan ends
    with that stage. `wait` waits for maintenance windows. `serves` knows which services exist in a Region.
    """

    plan: Plan
    aws: Aws
    enter: Enter
    journal: Journal
    clock: Clock
    listener: Listener = lambda event: None
    stopped: Callable[[], bool] = lambda: False
    keep_going: bool = False
    gauge: Gauge | None = None
    approve: Approve = nobody
    wait: bool = False
    lease: Lease | None = None
    serves: Serves = everywhere
    results: dict[str, Result] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._changes = Changes(
            self.plan.digest,
            self.aws,
            self.enter,
            self.journal,
            self.clock,
            self._end,
            self._why_not_enforce,
            self._paused,
            self.lease,
        )
        self._changing: PlannedWave | None = None
        self._gates = Gatekeeper(
            self.journal, self.clock, self.gauge, self.approve, self.listener, self.stopped, self.wait
        )

    async def run(self) -> Report:
        """Carry the plan out. Refusals of AWS are in the report; a bug, or a journal that cannot be written, raises.

        Raises DiagnosticError `plan-rolled-back` when the plan, or a part of it, was rolled back.
        """
        gate = self._unfinished_rollback()
        undone: Report | None = None
        interrupted = False
        for wave, parts in groupby(self.plan.steps(), key=lambda step: step[0]):
            steps = [(stage, changes) for _, stage, changes in parts]
            if gate is None and not interrupted:
                try:
                    gate = await self._wave(wave, steps)
                except Interrupted:
                    interrupted = True
            if gate is not None and gate.wave == wave.name and self._is_to_be_rolled_back(wave, gate):
                undone = await self._roll_back(wave, steps)
            self._rest(steps, gate, interrupted=interrupted)
        interrupted |= any(result.outcome is Outcome.NOT_REACHED for result in self.results.values())
        interrupted |= undone is not None and undone.interrupted
        return Report(tuple(self.results[change.id] for change in self.plan.ready), interrupted, gate, undone)

    # -- one wave -----------------------------------------------------------------------------------------------------

    async def _wave(self, wave: PlannedWave, steps: Steps) -> GateReport | None:
        """Make a wave's changes and wait out its gates; the gate that did not let it pass, or None."""
        known = self.journal.progress.wave(wave.name)
        changes = [change for _, members in steps for change in members]
        left = [change for change in changes if change.id not in self.journal.progress.done]
        if left and not self._stopping() and not self.stopped():
            gate = await self._before(wave, left)
            if gate is not None:
                return gate
            await self.journal.append(WaveBegan(wave.name, self._at()))
        if (gate := await self._stages(wave, steps)) is not None:
            return gate
        made = [self.results[change.id] for change in changes]
        if self.stopped() or self._is_unfinished(made):
            return None
        if known.ended and not any(result.outcome is Outcome.APPLIED for result in made):
            return None
        through = [result.change for result in made if result.outcome in GOOD]
        counted = await self._instances(through) if wave.gates.rejected_calls_max is not None else set()
        gate = await self._gates.after(wave, counted)
        if gate is None:
            await self.journal.append(WaveEnded(wave.name, self._at()))
        return gate

    async def _before(self, wave: PlannedWave, left: Sequence[Change]) -> GateReport | None:
        asked = await self._instances(left) if wave.gates.no_v1_calls is not None else set()
        return await self._gates.before(wave, len(left), asked)

    async def _stages(self, wave: PlannedWave, steps: Steps) -> GateReport | None:
        """Make what is left of a wave while its maintenance window is open; the gate when it has closed meanwhile."""
        while True:
            self._changing = wave
            for stage, members in steps:
                undecided = self._undecided(stage, members)
                if undecided and not self._paused():
                    self.listener(StageBegan(wave.name, stage, len(undecided)))
                await self._changes.make(undecided)
            self._changing = None
            ended = [self.results[change.id] for _, members in steps for change in members]
            left = [result.change for result in ended if result.outcome is Outcome.NOT_REACHED]
            if not left or self.stopped():
                return None
            for change in left:
                del self.results[change.id]
            if (gate := await self._before(wave, left)) is not None:
                return gate

    def _paused(self) -> bool:
        """Whether nothing new is begun: the run was asked to stop, or the window of the wave under way has closed."""
        return self.stopped() or (self._changing is not None and not self._gates.is_open(self._changing))

    def _is_unfinished(self, made: Sequence[Result]) -> bool:
        """Whether the wave's changes are still to come to their end, by another run: then it is not watched yet."""
        waiting = [
            result
            for result in made
            if result.outcome in STOPS | {Outcome.NOT_REACHED}
            or (result.outcome is Outcome.HELD_BACK and result.change.stage is not Stage.ENFORCEMENT)
        ]
        return len(waiting) == len(made) if self.keep_going else bool(waiting)

    async def _instances(self, changes: Sequence[Change]) -> set[Watched]:
        """The instances on which IMDSv1 ends, or has ended, by some changes."""
        found: set[Watched] = set()
        for change in changes:
            if change.surface is Surface.INSTANCE and _ends_v1(change):
                found.add((change.target, change.resource))
            if change.surface is Surface.AUTO_SCALING_GROUP:
                found |= await self._members(change)
        return found

    async def _members(self, change: Change) -> set[Watched]:
        try:
            ec2 = Ec2(self.aws, await self.enter(change.target.account_id), change.target.region)
            groups = await group_instances(ec2, [change.resource])
        except READ_ERRORS:
            # Unknown, then: an instance that nobody has figures of.
            return {(change.target, change.resource)}
        return {(change.target, each) for each in groups.get(change.resource, ())}

    async def _why_not_enforce(self, ec2: Ec2, target: Target) -> str:
        now = self.clock.now()
        return await why_not(ec2.aws, ec2.credentials, target, intent=self.plan.intent, serves=self.serves, now=now)

    def _stopping(self) -> Result | None:
        if self.keep_going:
            return None
        return next((result for result in self.results.values() if result.outcome in STOPS), None)

    def _undecided(self, stage: Stage, changes: Sequence[Change]) -> list[Change]:
        """The changes of a stage that are to be made: not done in an earlier run, not held back by what went wrong."""
        bad = [result for result in self.results.values() if result.outcome not in GOOD]
        stopping = [result for result in bad if result.outcome in STOPS]
        bad_here = {result.change.target: result for result in bad}
        stopping_here = {result.change.target: result for result in stopping}
        done = self.journal.progress.done
        left = []
        for change in changes:
            if change.id in self.results:
                continue  # before the window closed
            blocking = stopping_here.get(change.target) if self.keep_going else next(iter(stopping), None)
            why = ""
            if blocking is not None:
                why = f"{blocking.change.id} is {blocking.outcome}"
            elif stage is Stage.ENFORCEMENT and (missing := bad_here.get(change.target)) is not None:
                why = f"{missing.change.id} is {missing.outcome}: enforcement comes when all else in its Region is done"
            if change.id in done:
                self._end(Result(change, Outcome.EARLIER))
            elif why and self._paused():
                self._end(Result(change, Outcome.NOT_REACHED, "the run was stopped before it"))
            elif why:
                self._end(Result(change, Outcome.HELD_BACK, why))
            else:
                left.append(change)
        return left

    def _rest(self, steps: Steps, gate: GateReport | None, *, interrupted: bool) -> None:
        """What has no result yet was not begun: say why."""
        for change in (change for _, members in steps for change in members if change.id not in self.results):
            if change.id in self.journal.progress.done:
                self._end(Result(change, Outcome.EARLIER))
            elif interrupted or gate is None:
                self._end(Result(change, Outcome.NOT_REACHED, "the run was stopped before it"))
            else:
                self._end(Result(change, Outcome.HELD_BACK, f"wave {gate.wave}, {gate.gate}: {gate.detail}"))

    # -- rolled back --------------------------------------------------------------------------------------------------

    def _unfinished_rollback(self) -> GateReport | None:
        """A wave whose rollback an earlier run has begun and not ended. Raises DiagnosticError `plan-rolled-back`."""
        progress = self.journal.progress
        for wave in self.plan.waves:
            known = progress.wave(wave.name)
            failed = known.rollback_began or (known.soaks_failed and wave.on_failure is OnFailure.ROLLBACK)
            if failed and not known.rollback_ended:
                detail = "it failed in an earlier run, whose rollback goes on"
                return GateReport(wave.name, "after the wave", GateVerdict.FAILED, detail)
        if progress.rolled_back or progress.rollback_in_doubt:
            raise DiagnosticError(
                Diagnostic(
                    "plan-rolled-back",
                    f"{len(progress.rolled_back)} changes of this plan were rolled back: it is not applied again",
                    hint="run `imdsctl scan` and `imdsctl plan -o FILE` again, then apply the new file; "
                    "`imdsctl rollback` goes on with the rollback",
                )
            )
        return None

    def _is_to_be_rolled_back(self, wave: PlannedWave, gate: GateReport) -> bool:
        """Only figures that say no undo a wave, never that nobody can tell; and only a wave that is changed."""
        after = self.journal.progress.wave(wave.name).soaks_failed > 0
        return wave.on_failure is OnFailure.ROLLBACK and gate.verdict is GateVerdict.FAILED and after

    async def _roll_back(self, wave: PlannedWave, steps: Steps) -> Report:
        changes = [change for _, members in steps for change in members]
        if not self.journal.progress.wave(wave.name).rollback_began:
            await self.journal.append(WaveRollbackBegan(wave.name, self._at()))
        self.listener(RollbackOfWaveBegan(wave.name, len(changes)))
        rolling = RollingBack(
            plan=self.plan,
            aws=self.aws,
            enter=self.enter,
            journal=self.journal,
            clock=self.clock,
            listener=self.listener,
            stopped=self.stopped,
            lease=self.lease,
            only=frozenset(change.id for change in changes),
        )
        report = await rolling.run()
        if not any(each.outcome in STOPS | {Outcome.NOT_REACHED, Outcome.HELD_BACK} for each in report.results):
            await self.journal.append(WaveRollbackEnded(wave.name, self._at()))
        return report

    def _end(self, result: Result) -> None:
        self.results[result.change.id] = result
        self.listener(ChangeEnded(result))

    def _at(self) -> str:
        return self.clock.now().isoformat()


def _ends_v1(change: Change) -> bool:
    after = change.after
    return after.get("HttpTokens") == HttpTokens.REQUIRED or after.get("HttpEndpoint") == Switch.DISABLED
