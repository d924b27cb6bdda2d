"""A sweep in parts: which accounts go together, what one part is asked to do, and what it answers.

Parts are cut along the order of the accounts, so that what they report, put one after the other, is what one sweep
over all accounts reports.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from imdsctl.domain.diagnostics import Diagnostic
from imdsctl.domain.observations import Account, RegionSeen, Scan, ScanEnd, ScanHeader, Target
from imdsctl.domain.verdicts import NOT_REACHED, Judged
from imdsctl.fleet.events import AccountEntered, AccountSkipped, Event, Listener, TargetRead
from imdsctl.fleet.ports import ScanWriter
from imdsctl.fleet.selection import Selection
from imdsctl.fleet.targets import Caller

ACCOUNTS_PER_SHARD_MAX = 25
"""What is read again when a worker is lost; large enough that starting a shard costs little beside it."""
SHARDS_PER_WORKER_MIN = 4
"""Accounts differ in size: with several shards each, workers end at about the same time."""


@dataclass(frozen=True, slots=True)
class ShardDoor:
    """A profile (None: the usual one) that accounts are entered with, and who its credentials have to be."""

    profile: str | None
    caller: Caller


@dataclass(frozen=True, slots=True)
class ShardOrder:
    """What a worker is asked to do. It holds no secret: a worker's credentials are its own.

    `header` names this shard's accounts only. They are entered through the first of `doors`, but for those that
    `through` names. `database` is where the scan is kept when the worker can reach that (without a password), else
    None: then the worker gives back what it saw. `sweep` and `number` name the order among those of other sweeps.
    """

    header: ScanHeader
    selection: Selection
    doors: tuple[ShardDoor, ...]
    through: tuple[tuple[str, int], ...] = ()
    """Account id and the place of its door among `doors`."""
    roles: tuple[tuple[str, str], ...] = ()
    """Account id and role, for accounts that are entered by another role than the selection's."""
    database: str | None = None
    done: tuple[Target, ...] = ()
    """Targets that an earlier run of the scan has read."""
    sweep: str = ""
    number: int = 0


@dataclass(frozen=True, slots=True)
class ShardDone:
    """What a worker answers. `failed` says why there is no result."""

    end: ScanEnd | None = None
    """Of a shard that was stopped it names what was not reached."""
    regions: tuple[RegionSeen, ...] = ()
    """What was seen, when the worker does not reach the database."""
    judged: tuple[Judged, ...] = ()
    """What was seen in numbers."""
    entered: tuple[AccountEntered, ...] = ()
    read: tuple[TargetRead, ...] = ()
    failed: tuple[Diagnostic, ...] = ()
    exit_code: int = 0

    def tell(self, listener: Listener) -> None:
        """Say what happened in the shard, as a sweep would have."""
        for entered in self.entered:
            listener(entered)
        for read in self.read:
            listener(read)
        for unseen in self.end.unseen if self.end else ():
            if unseen.unseen.code != NOT_REACHED:
                listener(AccountSkipped(unseen))


def split(accounts: Collection[Account], workers: int) -> tuple[tuple[Account, ...], ...]:
    """The accounts in shards, in their order, each account in one of them."""
    everybody = tuple(accounts)
    size = min(ACCOUNTS_PER_SHARD_MAX, max(1, len(everybody) // (max(workers, 1) * SHARDS_PER_WORKER_MIN)))
    return tuple(everybody[start : start + size] for start in range(0, len(everybody), size))


class ShardWriter:
    """Implements `fleet.ports.ScanWriter` for a shard: its end is reported, it does not finish the scan."""

    def __init__(self, order: ShardOrder, kept: ScanWriter | None) -> None:
        """`kept` is where targets go; None: they are collected in `regions`."""
        self._order = order
        self._kept = kept
        self.regions: dict[Target, RegionSeen] = {}
        self.entered: list[AccountEntered] = []
        self.read: list[TargetRead] = []

    @property
    def header(self) -> ScanHeader:
        """The scan, with this shard's accounts."""
        return self._order.header

    @property
    def done(self) -> Collection[Target]:
        """What an earlier run of the scan has read."""
        return frozenset(self._order.done)

    def add(self, region: RegionSeen) -> None:
        """Keep one target."""
        if self._kept is None:
            self.regions[region.target] = region
        else:
            self._kept.add(region)

    def flush(self) -> None:
        """Everything added so far is kept."""
        if self._kept is not None:
            self._kept.flush()

    def finish(self, end: ScanEnd) -> Scan:
        """The shard is whole."""
        self.flush()
        return Scan.of(self.header, tuple(self.regions.values()), end)

    def hear(self, event: Event) -> None:
        """Remember what the listener at the other end wants to know."""
        if isinstance(event, AccountEntered):
            self.entered.append(event)
        elif isinstance(event, TargetRead):
            self.read.append(event)
