"""Waves of a plan: which part of the fleet comes when, and the gates that hold a wave back or end it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum


class OnUnknown(StrEnum):
    """What to do when nobody can tell whether IMDSv1 is used."""

    STOP = "stop"
    ALLOW = "allow"


class OnFailure(StrEnum):
    """What a gate that fails after a wave's changes does."""

    STOP = "stop"
    ROLLBACK = "rollback"
    """Write back the values that the wave's resources had."""


@dataclass(frozen=True, slots=True)
class Gates:
    """What must hold before a wave begins, and after it. None, False and zero: not asked."""

    no_v1_calls: timedelta | None = None
    """Before: no IMDSv1 call, in a look-back of this length, of any instance that the wave changes."""
    unknown_evidence: OnUnknown = OnUnknown.STOP
    """Only with `no_v1_calls`: instances of which CloudWatch has no datapoints."""
    approval: bool = False
    """Before: somebody has to say yes."""
    windows: tuple[str, ...] = ()
    """Before: maintenance windows as written (`Mon-Fri 09:00-17:00 Europe/Berlin`); any of them has to be open."""
    soak: timedelta = timedelta(0)
    """After: how long the changed instances are watched."""
    rejected_calls_max: int | None = None
    """After: how many rejected IMDSv1 calls (MetadataNoTokenRejected) of what was changed, in the soak, are too many
    when there is one more. None: they are not counted."""

    @property
    def text(self) -> str:
        """The gates for a person, in a clause; empty when there are none."""
        parts = []
        if self.no_v1_calls is not None:
            unknown = "unknown evidence stops it" if self.unknown_evidence is OnUnknown.STOP else "unknown is allowed"
            parts.append(f"no IMDSv1 call in {duration_text(self.no_v1_calls)} ({unknown})")
        if self.approval:
            parts.append("approval")
        if self.windows:
            parts.append(f"only {' or '.join(self.windows)}")
        if self.soak:
            counted = (
                "" if self.rejected_calls_max is None else f" with at most {self.rejected_calls_max} rejected calls"
            )
            parts.append(f"a soak of {duration_text(self.soak)}{counted}")
        return "; ".join(parts)


@dataclass(frozen=True, slots=True)
class PlannedWave:
    """A wave of a plan."""

    name: str
    gates: Gates = Gates()
    on_failure: OnFailure = OnFailure.STOP


EVERYTHING = PlannedWave("all")
"""The only wave of a plan whose intent names none: no gates."""

UNASSIGNED = "no wave"
"""The name of the wave, without gates and without a change that can be made, that holds what no wave of the intent
matches: nothing is changed that nobody has put into a wave."""


DURATION_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}


def duration_text(duration: timedelta) -> str:
    """`14d`, `1d12h`, `90s`: in the largest units that say it exactly, as an intent writes it."""
    seconds = int(duration.total_seconds())
    parts = []
    for unit, length in DURATION_UNITS.items():
        count, seconds = divmod(seconds, length)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"


def duration_words(duration: timedelta) -> str:
    """`14 days`, `90 minutes`, `1 second`: in the largest unit that says it alone, for a sentence."""
    seconds = round(duration.total_seconds())
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60), ("second", 1)):
        if seconds % length == 0 and (seconds or length == 1):
            count = seconds // length
            return f"{count} {unit}{'s' if count != 1 else ''}"
    raise AssertionError("every whole number of seconds is one of seconds")
