"""What an apply, or a rollback, tells while it goes and when it has ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import TypeAlias

from imdsctl.domain.evidence import InstanceEvidence
from imdsctl.domain.metric_asks import Price
from imdsctl.domain.options import InvalidOption
from imdsctl.domain.plan import Change, Stage
from imdsctl.fleet.ports import Unreachable
from imdsctl.wire.errors import ServiceError

NOTHING_ASKED = Price()


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
    """Somebody else has changed it: refused."""
    UNSAFE = "would break launches"
    """Enforcement: something that launches in the Region now would be refused, or could not be read. Not begun."""
    FAILED = "failed"
    IN_DOUBT = "in doubt"
    """The call was made and its end was not seen. The same command reads it back."""
    HELD_BACK = "held back"
    """Not begun because something else went wrong."""
    NOT_REACHED = "not reached"
    """Not begun because the run was stopped."""
    RESTORED = "restored"
    """Rollback: the recorded values are there again."""
    RESTORED_EARLIER = "restored earlier"
    BUT_LATEST = "restored but for $Latest"
    """Rollback: the template's recorded $Default is there again; the newest version is still one that apply made."""
    AS_BEFORE = "as before already"
    """Rollback: the resource says the recorded values, without a call."""
    IRREVERSIBLE = "cannot be restored"
    """Rollback: AWS knows no way back."""


GOOD = frozenset(
    {
        Outcome.APPLIED,
        Outcome.EARLIER,
        Outcome.ALREADY,
        Outcome.GONE,
        Outcome.RESTORED,
        Outcome.RESTORED_EARLIER,
        Outcome.BUT_LATEST,
        Outcome.AS_BEFORE,
    }
)
"""Outcomes after which the resource needs nothing more."""
STOPS = frozenset({Outcome.FAILED, Outcome.IN_DOUBT})
"""Outcomes that stop a plan before its next stage. A stale or unsafe change does not: its resource was left alone."""


@dataclass(frozen=True, slots=True)
class Result:
    """How one change ended, and why."""

    change: Change
    outcome: Outcome
    detail: str = ""
    code: str = ""


class GateVerdict(StrEnum):
    """What a gate says."""

    PASSED = "passed"
    FAILED = "failed"
    """The figures say no."""
    UNKNOWN = "unknown"
    """Nobody can tell, and the gate says that this is not enough."""
    CLOSED = "closed"
    """Not yet: nobody has approved, or the maintenance window opens later."""


@dataclass(frozen=True, slots=True)
class GateReport:
    """A gate that did not let a wave pass, with its evidence."""

    wave: str
    gate: str
    verdict: GateVerdict
    detail: str
    instances: tuple[InstanceEvidence, ...] = ()
    """Those whose figures decided."""
    opens: datetime | None = None
    """When it is worth coming back (UTC); None when that is not a matter of time."""


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


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing to do for now: a maintenance window opens, or a soak ends, then (UTC). `why` is a clause."""

    wave: str
    why: str
    until: datetime
    price: Price = NOTHING_ASKED
    """What CloudWatch is asked for meanwhile, as far as this run waits."""


@dataclass(frozen=True, slots=True)
class GateEnded:
    """A gate has spoken."""

    wave: str
    gate: str
    verdict: GateVerdict
    detail: str


@dataclass(frozen=True, slots=True)
class RollbackOfWaveBegan:
    """A wave is being rolled back because of its gate."""

    wave: str
    changes: int


Event: TypeAlias = StageBegan | ChangeEnded | Waiting | GateEnded | RollbackOfWaveBegan
Listener: TypeAlias = Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Report:
    """How everything ended, in the plan's order; `gate` is what ended it early, `rolled_back` what became of that."""

    results: tuple[Result, ...]
    interrupted: bool = False
    gate: GateReport | None = None
    rolled_back: Report | None = None

    def count(self, *outcomes: Outcome) -> int:
        """How many changes ended so."""
        return sum(result.outcome in outcomes for result in self.results)

    def of(self, outcome: Outcome) -> list[Result]:
        """The changes that ended so."""
        return [result for result in self.results if result.outcome is outcome]

    @property
    def done(self) -> bool:
        """True when every change that the plan could make is made, and every gate has let it pass."""
        return self.gate is None and not self.interrupted and all(result.outcome in GOOD for result in self.results)


def failed(change: Change, error: ServiceError | Unreachable | InvalidOption) -> Result:
    """The result of a change that AWS refused or that could not be asked for."""
    if isinstance(error, ServiceError):
        return Result(change, Outcome.FAILED, error.message, error.code)
    if isinstance(error, InvalidOption):
        return Result(change, Outcome.FAILED, str(error), "unknown-value")
    return Result(change, Outcome.FAILED, f"{error.host}: {error.reason}", "unreachable")
