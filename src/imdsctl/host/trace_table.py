"""Who calls the metadata service, added up. Pure, and bounded: see the constants."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from imdsctl.host.calls import Call, Kind, Outcome
from imdsctl.host.processes import Place, Process

ROWS_MAX = 1_000
"""So many kinds of processes have a row of their own; the rest share one."""
PIDS_COUNTED_MAX = 1_000


class Unattributed(StrEnum):
    """Why nobody knows who made a connection."""

    SOCKET_GONE = "socket-gone"
    OWNER_HIDDEN = "owner-hidden"
    TOO_MANY = "too-many"


REASONS: Mapping[Unattributed, str] = {
    Unattributed.SOCKET_GONE: "no socket of this host has the connection: closed before it was looked up, or a virtual "
    "machine's",
    Unattributed.OWNER_HIDDEN: "the socket belongs to no process that may be looked at",
    Unattributed.TOO_MANY: "more connections at one time than can be looked up",
}


@dataclass(slots=True)
class Tally:
    """Calls added up. Times are seconds since 1970; paths are the first and the last one asked for.

    `unseen` are connects of which the hooks told and no packet came by: nobody knows what was asked there.
    """

    calls: Counter[tuple[Kind, Outcome]] = field(default_factory=Counter)
    connections: int = 0
    unseen: int = 0
    first_at: float | None = None
    last_at: float | None = None
    first_path: str = ""
    last_path: str = ""

    def add(self, call: Call) -> None:
        """Count a call."""
        self.calls[call.asked.kind, call.outcome] += 1
        self._span(call.at, call.at, call.asked.path, call.asked.path)

    def merge(self, other: Tally) -> None:
        """Count everything that `other` counted."""
        self.calls.update(other.calls)
        self.connections += other.connections
        self.unseen += other.unseen
        if other.first_at is not None and other.last_at is not None:
            self._span(other.first_at, other.last_at, other.first_path, other.last_path)

    def _span(self, first: float, last: float, first_path: str, last_path: str) -> None:
        if self.first_at is None or first < self.first_at:
            self.first_at, self.first_path = first, first_path
        if self.last_at is None or last >= self.last_at:
            self.last_at, self.last_path = last, last_path

    def count(self, kind: Kind, *outcomes: Outcome) -> int:
        """How many calls of a kind, with any of these outcomes (none named: whatever came of them)."""
        return sum(self.calls[kind, each] for each in outcomes or Outcome)

    @property
    def falls_back(self) -> bool:
        """It asked for a token, got none, and went on with IMDSv1."""
        failed = self.count(Kind.TOKEN, Outcome.REFUSED, Outcome.HOP_LIMIT, Outcome.NO_ANSWER)
        return bool(failed and self.count(Kind.V1))


@dataclass(frozen=True, slots=True)
class Identity:
    """What makes two processes the same row: everything but their numbers."""

    name: str
    executable: str
    command: str
    uid: int | None
    place: Place


@dataclass(slots=True)
class Row:
    """All processes of one identity. `last` is the one seen last, with its parents."""

    identity: Identity
    last: Process
    pids: set[int] = field(default_factory=set)
    tally: Tally = field(default_factory=Tally)


class TraceTable:
    """The rows, and what belongs to none."""

    def __init__(self) -> None:
        self.rows: dict[Identity, Row] = {}
        self.others = Tally()
        """Of processes that came when there were ROWS_MAX rows."""
        self.unattributed: dict[Unattributed, Tally] = {}

    def of(self, who: Process | Unattributed) -> Tally:
        """Where the calls of this process are counted, or those of nobody."""
        if isinstance(who, Unattributed):
            return self.unattributed.setdefault(who, Tally())
        identity = Identity(who.name, who.executable, who.command, who.uid, who.place)
        row = self.rows.get(identity)
        if row is None:
            if len(self.rows) >= ROWS_MAX:
                return self.others
            row = self.rows[identity] = Row(identity, who)
        row.last = who
        if len(row.pids) < PIDS_COUNTED_MAX:
            row.pids.add(who.pid)
        return row.tally

    def sorted_rows(self) -> Sequence[Row]:
        """Most IMDSv1 calls first, then most calls."""
        return sorted(self.rows.values(), key=lambda row: (-row.tally.count(Kind.V1), -sum(row.tally.calls.values())))

    def total(self) -> Tally:
        """Everything that was seen."""
        whole = Tally()
        for tally in (*(row.tally for row in self.rows.values()), self.others, *self.unattributed.values()):
            whole.merge(tally)
        return whole
