"""The parts of an intent that are lists: scopes, waves and the register of exceptions."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import Any

from imdsctl.domain.intent_match import EVERYWHERE, MATCH_KEYS, Match
from imdsctl.domain.intent_settings import SETTINGS, TOP, Said
from imdsctl.domain.waves import PlannedWave, duration_text


@dataclass(frozen=True, slots=True)
class Scope:
    """What is wanted differently for a part of the fleet. Only what is said here differs."""

    match: Match
    said: tuple[Said, ...] = ()
    place: str = field(default="", compare=False)
    """Where it stands; only for what is said of the file."""

    def to_plain(self) -> dict[str, Any]:
        """The scope in the words of its file."""
        return {"match": match_to_plain(self.match), **said_to_plain(self.said)}


@dataclass(frozen=True, slots=True)
class WaveRule:
    """Which part of the fleet a wave is, and what holds it back. The first rule that matches a resource has it."""

    wave: PlannedWave
    match: Match = EVERYWHERE
    place: str = field(default="", compare=False)

    def to_plain(self) -> dict[str, Any]:
        """The wave in the words of its file, with nothing left to a default."""
        gates = self.wave.gates
        plain: dict[str, Any] = {
            "name": self.wave.name,
            "match": match_to_plain(self.match),
            "unknown-evidence": str(gates.unknown_evidence),
            "approval": gates.approval,
            "soak": duration_text(gates.soak),
            "windows": list(gates.windows),
            "on-failure": str(self.wave.on_failure),
        }
        if gates.no_v1_calls is not None:
            plain["no-v1-calls"] = duration_text(gates.no_v1_calls)
        if gates.rejected_calls_max is not None:
            plain["rejected-calls-max"] = gates.rejected_calls_max
        return plain


@dataclass(frozen=True, slots=True)
class Exemption:
    """An entry of the register of exceptions: somebody answers for what it matches, until it expires."""

    match: Match
    owner: str
    reason: str
    expires: date
    """The last day, in UTC, on which it holds."""
    place: str = field(default="", compare=False)
    """Where it stands: `imdsctl.toml:41`."""

    def holds(self, at: datetime) -> bool:
        """Whether it still holds at an aware time."""
        return at.astimezone(UTC).date() <= self.expires

    def to_plain(self) -> dict[str, Any]:
        """The entry in the words of its file, with its place."""
        return {
            "match": match_to_plain(self.match),
            "owner": self.owner,
            "reason": self.reason,
            "expires": self.expires.isoformat(),
            "place": self.place,
        }

    def __str__(self) -> str:
        return f"an exception of {self.owner} until {self.expires.isoformat()} ({self.reason})"


def match_to_plain(match: Match) -> dict[str, Any]:
    """A match as its table; criteria that are not used are left out."""
    return {name: list(value) for name in MATCH_KEYS if (value := getattr(match, name))}


def said_to_plain(said: tuple[Said, ...]) -> dict[str, Any]:
    """What was said, as the tables of a file."""
    plain: dict[str, Any] = {}
    for table, key, value in said:
        inside = plain if table == TOP else plain.setdefault(table, {})
        inside[key] = SETTINGS[table][key].kind.plain(value)
    return plain
