"""The gates of a wave: approval, maintenance window and evidence before it; soak and rejected calls after it.

Time passes through the clock, figures come through the gauge. Everything that a gate says goes into the journal.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeAlias

from imdsctl.domain.evidence import InstanceEvidence, Use
from imdsctl.domain.journal import Approved, GateChecked, SoakBegan, SoakFailed
from imdsctl.domain.metric_asks import Price
from imdsctl.domain.observations import Target
from imdsctl.domain.openings import next_opening
from imdsctl.domain.waves import OnUnknown, PlannedWave, duration_words
from imdsctl.domain.windows import any_open
from imdsctl.fleet.apply_changes import Clock, Journal
from imdsctl.fleet.apply_report import GateEnded, GateReport, GateVerdict, Listener, Waiting
from imdsctl.fleet.ports import Gauge

APPROVAL, WINDOW, NO_V1_CALLS, SOAK, REJECTED = (
    "approval",
    "maintenance window",
    "no IMDSv1 calls",
    "soak",
    "rejected calls",
)
"""The gates' names, as journal and messages have them."""
SLICE_SECONDS = 1.0
"""How long a wait goes on at most before it is asked whether to stop."""
WATCH_SECONDS_MIN = 60.0
WATCH_SECONDS_MAX = 300.0
"""The pause between two looks at the rejected calls: a tenth of the soak within these. CloudWatch's EC2 metrics come
every minute, or every five, and every look is billed."""
LATE_SECONDS_MAX = 600.0
"""How long after a soak the first datapoint of an instance is waited for: two of CloudWatch's five minutes."""

RECORDED_MAX = 100
"""Instances whose figures a journal entry has."""

Watched: TypeAlias = tuple[Target, str]
"""An instance: its account and Region, and its id."""
Figures: TypeAlias = Mapping[Watched, InstanceEvidence]


@dataclass(frozen=True, slots=True)
class Approval:
    """Somebody's yes: the caller's ARN, the user of this machine, and how it was said."""

    by: str
    user: str
    how: str


Approve: TypeAlias = Callable[[PlannedWave, int], Awaitable[Approval | None]]
"""Asks whether a wave, of so many changes, may begin. None is no."""


async def nobody(wave: PlannedWave, changes: int) -> Approval | None:
    """Approves nothing."""
    return None


class Interrupted(Exception):
    """The run was stopped while a gate waited."""


@dataclass
class Gatekeeper:
    """Asks the gates of waves. With `wait` a closed maintenance window is waited for."""

    journal: Journal
    clock: Clock
    gauge: Gauge | None
    approve: Approve
    listener: Listener
    stopped: Callable[[], bool]
    wait: bool = False

    async def before(self, wave: PlannedWave, changes: int, instances: Collection[Watched]) -> GateReport | None:
        """Whether a wave may begin to make so many changes; None when it may. Raises Interrupted."""
        # Evidence last: after a wait for the window it would be old.
        return (
            await self._approval(wave, changes)
            or await self._window(wave)
            or await self._no_v1_calls(wave, frozenset(instances))
        )

    def is_open(self, wave: PlannedWave) -> bool:
        """Whether the wave may change something now, as far as its maintenance windows go."""
        return any_open(wave.gates.windows, self.clock.now())

    async def after(self, wave: PlannedWave, instances: Collection[Watched]) -> GateReport | None:
        """Watch what a wave has changed until its soak is over; None when all is well. Raises Interrupted.

        A soak that an earlier run began goes on until the time that was recorded.
        """
        gates = wave.gates
        if not gates.soak and gates.rejected_calls_max is None:
            return None
        since, until = await self._soak(wave)
        watched = frozenset(instances)
        pause = min(max(gates.soak.total_seconds() / 10, WATCH_SECONDS_MIN), WATCH_SECONDS_MAX)
        looks = math.ceil((until - self.clock.now()).total_seconds() / pause) + 1
        asks = gates.rejected_calls_max is not None and self.gauge is not None
        price = Price(looks * len(watched) if asks else 0)
        while True:
            figures = await self._rejected(wave, watched, since)
            if report := await self._too_many(wave, figures):
                return report
            now = self.clock.now()
            if now >= until and not self._late(wave, figures, until):
                break
            if now < until:
                self.listener(Waiting(wave.name, "what was changed is being watched", until, price))
            await self._pause(min(pause, (until - now).total_seconds()) if now < until else pause)
        return await self._end_of_soak(wave, figures, since)

    # -- before -------------------------------------------------------------------------------------------------------

    async def _approval(self, wave: PlannedWave, changes: int) -> GateReport | None:
        if not wave.gates.approval or self.journal.progress.wave(wave.name).approved:
            return None
        said = await self.approve(wave, changes)
        if said is None:
            return await self._report(wave, APPROVAL, GateVerdict.CLOSED, "nobody has approved this wave")
        await self.journal.append(Approved(wave.name, said.by, said.user, said.how, self._at()))
        self.listener(GateEnded(wave.name, APPROVAL, GateVerdict.PASSED, f"approved by {said.by} ({said.how})"))
        return None

    async def _window(self, wave: PlannedWave) -> GateReport | None:
        opens = next_opening(wave.gates.windows, self.clock.now())
        if opens is None or opens <= self.clock.now():
            return None
        written = " or ".join(wave.gates.windows)
        if not self.wait:
            detail = f"it opens at {opens:%Y-%m-%d %H:%M} UTC ({written})"
            return await self._report(wave, WINDOW, GateVerdict.CLOSED, detail, opens=opens)
        self.listener(Waiting(wave.name, f"it waits for its maintenance window ({written})", opens))
        while (left := (opens - self.clock.now()).total_seconds()) > 0:
            await self._pause(left)
        return None

    async def _no_v1_calls(self, wave: PlannedWave, instances: frozenset[Watched]) -> GateReport | None:
        look_back = wave.gates.no_v1_calls
        if look_back is None or not instances:
            return None
        figures = await self._no_token(instances, self.clock.now() - look_back)
        used = tuple(each for each in figures if each.use is Use.USED)
        unknown = tuple(each for each in figures if each.use is Use.UNKNOWN)
        span = duration_words(look_back)
        if used:
            detail = f"{_some(used, 'instance')} used IMDSv1 in the last {span}"
            return await self._report(wave, NO_V1_CALLS, GateVerdict.FAILED, detail, used)
        if unknown and wave.gates.unknown_evidence is OnUnknown.STOP:
            detail = f"nobody can tell whether {_some(unknown, 'instance')} used IMDSv1 in the last {span}"
            return await self._report(wave, NO_V1_CALLS, GateVerdict.UNKNOWN, detail, unknown)
        passed = f"no IMDSv1 call of {_some(figures, 'instance')} in the last {span}"
        passed += f"; {len(unknown)} of them unknown, which this gate allows" if unknown else ""
        await self._report(wave, NO_V1_CALLS, GateVerdict.PASSED, passed)
        return None

    async def _no_token(self, instances: frozenset[Watched], since: datetime) -> list[InstanceEvidence]:
        if self.gauge is None:
            return [_unasked(each) for each in sorted(instances)]
        figures = await self.gauge.no_token(instances, since)
        return [figures.get(each) or _unasked(each) for each in sorted(instances)]

    # -- after --------------------------------------------------------------------------------------------------------

    async def _soak(self, wave: PlannedWave) -> tuple[datetime, datetime]:
        known = self.journal.progress.wave(wave.name)
        if known.soak_until:
            return datetime.fromisoformat(known.soak_since), datetime.fromisoformat(known.soak_until)
        now = self.clock.now()
        # What was rejected while the wave was still under way counts; what an earlier soak counted does not again.
        since = datetime.fromisoformat(known.began) if known.began and not known.soaks_failed else now
        until = now + wave.gates.soak
        await self.journal.append(SoakBegan(wave.name, since.isoformat(), until.isoformat(), self._at()))
        return since, until

    async def _rejected(
        self, wave: PlannedWave, instances: frozenset[Watched], since: datetime
    ) -> list[InstanceEvidence]:
        if wave.gates.rejected_calls_max is None:
            return []
        if self.gauge is None:
            return [_unasked(each) for each in sorted(instances)]
        figures = await self.gauge.rejected(instances, since)
        return [figures.get(each) or _unasked(each) for each in sorted(instances)]

    async def _too_many(self, wave: PlannedWave, figures: list[InstanceEvidence]) -> GateReport | None:
        most = wave.gates.rejected_calls_max
        guilty = tuple(each for each in figures if each.rejected)
        total = sum(each.rejected or 0 for each in guilty)
        if most is None or total <= most:
            return None
        detail = f"{total:g} IMDSv1 calls of {_some(guilty, 'instance')} were rejected after the change; {most} allowed"
        report = await self._report(wave, REJECTED, GateVerdict.FAILED, detail, guilty)
        await self.journal.append(SoakFailed(wave.name, detail, self._at()))
        return report

    def _late(self, wave: PlannedWave, figures: list[InstanceEvidence], until: datetime) -> bool:
        """Whether datapoints may still come that would tell."""
        waiting = wave.gates.unknown_evidence is OnUnknown.STOP and any(each.rejected is None for each in figures)
        return waiting and self.clock.now() < until + timedelta(seconds=LATE_SECONDS_MAX)

    async def _end_of_soak(
        self, wave: PlannedWave, figures: list[InstanceEvidence], since: datetime
    ) -> GateReport | None:
        unknown = tuple(each for each in figures if each.rejected is None)
        if unknown and wave.gates.unknown_evidence is OnUnknown.STOP:
            detail = f"nobody can tell whether IMDSv1 calls of {_some(unknown, 'instance')} were rejected"
            return await self._report(wave, REJECTED, GateVerdict.UNKNOWN, detail, unknown)
        total = sum(each.rejected or 0 for each in figures)
        counted = f"{total:g} rejected IMDSv1 calls since {since:%Y-%m-%d %H:%M} UTC" if figures else "not counted"
        await self._report(wave, SOAK, GateVerdict.PASSED, f"over after {duration_words(wave.gates.soak)}; {counted}")
        return None

    # -- both ---------------------------------------------------------------------------------------------------------

    async def _report(
        self,
        wave: PlannedWave,
        gate: str,
        verdict: GateVerdict,
        detail: str,
        instances: Iterable[InstanceEvidence] = (),
        opens: datetime | None = None,
    ) -> GateReport:
        instances = tuple(instances)
        figures = "; ".join(
            f"{each.target}/{each.instance_id} {figure_text(each)}" for each in instances[:RECORDED_MAX]
        )
        await self.journal.append(
            GateChecked(wave.name, gate, str(verdict), f"{detail}: {figures}" if figures else detail, self._at())
        )
        self.listener(GateEnded(wave.name, gate, verdict, detail))
        return GateReport(wave.name, gate, verdict, detail, instances, opens)

    async def _pause(self, seconds: float) -> None:
        end = self.clock.now() + timedelta(seconds=seconds)
        while (left := (end - self.clock.now()).total_seconds()) > 0:
            if self.stopped():
                raise Interrupted
            await self.clock.sleep(min(left, SLICE_SECONDS))
        if self.stopped():
            raise Interrupted

    def _at(self) -> str:
        return self.clock.now().isoformat()


def figure_text(each: InstanceEvidence) -> str:
    """What is known of an instance, in a clause: `MetadataNoToken 12, last 2026-11-25 08:10 UTC`."""
    parts = []
    if each.no_token is not None:
        parts.append(f"MetadataNoToken {each.no_token:g}")
    if each.rejected is not None:
        parts.append(f"MetadataNoTokenRejected {each.rejected:g}")
    if each.role_delivery_v1:
        parts.append(f"{each.role_delivery_v1} calls with credentials that IMDSv1 delivered")
    if each.last_used is not None:
        parts.append(f"last {each.last_used:%Y-%m-%d %H:%M} UTC")
    return ", ".join(parts) or f"unknown: {each.reason or 'no datapoints'}"


def _unasked(instance: Watched) -> InstanceEvidence:
    target, instance_id = instance
    return InstanceEvidence(target, instance_id, reason="CloudWatch was not asked")


def _some(instances: Collection[InstanceEvidence], noun: str) -> str:
    return f"{len(instances):,} {noun}{'s' if len(instances) != 1 else ''}"
