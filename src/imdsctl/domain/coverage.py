"""How far an organization is, by account, Region and organizational unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from imdsctl.domain.observations import Account, AccountUnseen, Scan
from imdsctl.domain.verdicts import NOT_INSPECTABLE, Count, TargetSummary, target_summary

NOTHING = Count()
NOT_ENTERED = "accounts and Regions not seen"
WHOLE_ACCOUNT = ""
"""The Region of what is known of an account as a whole: it could not be entered."""


@dataclass(frozen=True, slots=True)
class Cell:
    """One account in one Region: what was judged there. Without any verdict it could not be inspected."""

    count: Count = NOTHING
    inspectable: bool = True
    reason: str = ""

    def __add__(self, other: Cell) -> Cell:
        return Cell(self.count + other.count, self.inspectable or other.inspectable, self.reason or other.reason)

    @property
    def share(self) -> float | None:
        """The enforced part of what was judged, 0 to 1; None where nothing was."""
        return self.count.enforced / self.count.total if self.count.total else None


@dataclass(frozen=True, slots=True)
class Coverage:
    """Cells by account and Region; totals by kind of thing."""

    accounts: tuple[Account, ...]
    regions: tuple[str, ...]
    """Where anything was judged, or could not be. Regions that no account has enabled are not among them."""
    cells: Mapping[tuple[str, str], Cell]
    by_kind: Mapping[str, Count]
    not_inspectable: tuple[AccountUnseen, ...] = ()
    """Accounts that are not active, and Regions that are not enabled: in no number of enforced, exposed and unknown."""

    @property
    def nothing_seen(self) -> bool:
        """Nothing was read, and nobody refused: there is no verdict that could prove, or fail, anything."""
        return not self.total.total

    def by_account(self) -> dict[str, Cell]:
        """Every account as a whole, in the scan's order."""
        found = {account.account_id: Cell(inspectable=False) for account in self.accounts}
        for (account_id, _), cell in self.cells.items():
            found[account_id] = found.get(account_id, Cell(inspectable=False)) + cell
        return found

    def by_region(self) -> dict[str, Cell]:
        """Every Region over all accounts."""
        found = {region: Cell(inspectable=False) for region in self.regions}
        for (_, region), cell in self.cells.items():
            if region in found:
                found[region] = found[region] + cell
        return found

    def by_unit(self) -> dict[str, Cell]:
        """Every organizational unit's path with all that is below it, root first. Empty when there are no units."""
        found: dict[str, Cell] = {}
        by_account = self.by_account()
        for account in self.accounts:
            for path in _above(account.ou_path):
                found[path] = found.get(path, Cell(inspectable=False)) + by_account[account.account_id]
        return dict(sorted(found.items()))

    @property
    def total(self) -> Count:
        """Everything that was judged."""
        return sum(self.by_kind.values(), Count())


@dataclass
class CoverageMaker:
    """Takes targets one by one; a scan of any size needs one small cell of each."""

    accounts: tuple[Account, ...]
    cells: dict[tuple[str, str], Cell] = field(default_factory=dict)
    by_kind: dict[str, Count] = field(default_factory=dict)

    def add(self, summary: TargetSummary) -> None:
        """One target."""
        total = Count()
        for kind, count in kinds_of(summary):
            total += count
            self.by_kind[kind] = self.by_kind.get(kind, Count()) + count
        target = summary.target
        self.cells[target.account_id, target.region] = Cell(total)

    def coverage(self, scan: Scan) -> Coverage:
        """The whole, with what the scan could not see."""
        for each in scan.unseen:
            unknown = Count(unknown=int(each.unseen.code not in NOT_INSPECTABLE))
            if unknown.total:
                self.by_kind[NOT_ENTERED] = self.by_kind.get(NOT_ENTERED, NOTHING) + unknown
            cell = Cell(unknown, inspectable=False, reason=each.unseen.reason)
            key = each.account_id, each.region or WHOLE_ACCOUNT
            self.cells[key] = self.cells.get(key, Cell(inspectable=False)) + cell
        regions = sorted(
            {region for (_, region), cell in self.cells.items() if region != WHOLE_ACCOUNT and cell.count.total}
        )
        shut = tuple(each for each in scan.unseen if each.unseen.code in NOT_INSPECTABLE)
        return Coverage(self.accounts, tuple(regions), self.cells, self.by_kind, shut)


def kinds_of(summary: TargetSummary) -> Iterator[tuple[str, Count]]:
    """A target's counts by kind of thing, in the words of reports."""
    yield "Region defaults", Count.of([summary.default.verdict])
    yield "instances", summary.instances
    yield "launch template versions", summary.templates
    yield "images", summary.images
    for kind, count in (
        ("launch configurations", summary.counts.configurations),
        ("Auto Scaling groups", summary.counts.groups),
        ("fleets and Spot requests", summary.counts.fleets),
        ("resources of other services", summary.counts.services),
    ):
        if count.total:
            yield kind, count


def coverage_of(scan: Scan) -> Coverage:
    """A whole scan, read once."""
    maker = CoverageMaker(scan.accounts)
    for region in scan.regions:
        maker.add(target_summary(region))
    return maker.coverage(scan)


def _above(path: str) -> Iterator[str]:
    parts = path.split("/") if path else []
    for length in range(1, len(parts) + 1):
        yield "/".join(parts[:length])


@dataclass(frozen=True, slots=True)
class TrendPoint:
    """One earlier scan in numbers."""

    finished: datetime
    count: Count
