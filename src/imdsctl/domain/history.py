"""Scans over time: what is kept of each in numbers, which one somebody means, and how coverage went."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.observations import AccountUnseen, RegionSeen, Scan, ScanHeader
from imdsctl.domain.verdicts import NOT_INSPECTABLE, Count, target_summary

LATEST = "latest"
PREVIOUS = "previous"


class Kind(StrEnum):
    """What is counted, one number of enforced, exposed and unknown each."""

    REGION_DEFAULTS = "region_defaults"
    INSTANCES = "instances"
    LAUNCH_TEMPLATES = "launch_templates"
    IMAGES = "images"
    LAUNCH_CONFIGURATIONS = "launch_configurations"
    GROUPS = "groups"
    FLEETS = "fleets"
    SERVICES = "services"


@dataclass(frozen=True, slots=True)
class ScanRecord:
    """A scan in numbers, as a store keeps them beside what was seen. `finished` is None while it is being taken."""

    scan_id: str
    started: datetime
    finished: datetime | None
    scope: tuple[tuple[str, str], ...]
    accounts: int
    """Accounts that were to be visited."""
    targets: int
    """Accounts times Regions that were read; of an unfinished scan, so far."""
    unseen: int
    """Accounts, Regions and parts of targets that could not be read."""
    counts: Mapping[Kind, Count] = field(default_factory=dict)
    not_entered: int = 0
    """Accounts and Regions that could not be read as a whole: one unknown each."""
    not_inspectable: int = 0
    """Accounts that are not active, and Regions that are not enabled."""

    def count(self, kind: Kind) -> Count:
        """The verdicts on one kind; none when the scan did not look at it."""
        return self.counts.get(kind, Count())

    @property
    def total(self) -> Count:
        """The verdicts on everything."""
        return sum(self.counts.values(), Count(unknown=self.not_entered))


def kinds_of(region: RegionSeen) -> dict[Kind, Count]:
    """A target's verdicts by kind."""
    summary = target_summary(region)
    return {
        Kind.REGION_DEFAULTS: Count.of((summary.default.verdict,)),
        Kind.INSTANCES: summary.counts.instances,
        Kind.LAUNCH_TEMPLATES: summary.counts.templates,
        Kind.IMAGES: summary.counts.images,
        Kind.LAUNCH_CONFIGURATIONS: summary.counts.configurations,
        Kind.GROUPS: summary.counts.groups,
        Kind.FLEETS: summary.counts.fleets,
        Kind.SERVICES: summary.counts.services,
    }


def begun(header: ScanHeader, targets: int) -> ScanRecord:
    """A scan that is not finished."""
    return ScanRecord(header.scan_id, header.started, None, header.scope, len(header.accounts), targets, 0)


def record_of(scan: Scan) -> ScanRecord:
    """A scan in numbers, counted."""
    counts: dict[Kind, Count] = {}
    unseen = len(scan.unseen)
    for region in scan.regions:
        unseen += len(region.unseen)
        for kind, count in kinds_of(region).items():
            counts[kind] = counts.get(kind, Count()) + count
    seen = {kind: count for kind, count in counts.items() if count.total}
    return ScanRecord(
        scan.scan_id,
        scan.started,
        scan.finished,
        scan.scope,
        len(scan.accounts),
        len(scan.regions),
        unseen,
        seen,
        *outside(scan.unseen),
    )


def outside(unseen: Iterable[AccountUnseen]) -> tuple[int, int]:
    """Of accounts and Regions that were not read: how many are unknown, and how many nobody can look into."""
    shut = [each.unseen.code in NOT_INSPECTABLE for each in unseen]
    return shut.count(False), shut.count(True)


def coverage(count: Count) -> float | None:
    """The part that is enforced, 0 to 1. What is unknown counts as not enforced. None when there is nothing."""
    return count.enforced / count.total if count.total else None


def choose(name: str, records: Sequence[ScanRecord], *, place: str | None = None) -> ScanRecord:
    """The finished scan that somebody means.

    `name`: `latest`, `previous` (the one before it), an id or the beginning of one, or a date (YYYY-MM-DD): the last
    scan that finished on that day or before it, in UTC. `records` in any order; `place` says where they are kept.
    Raises DiagnosticError `scan-unknown` or `scan-ambiguous`.
    """
    finished = sorted(
        (each for each in records if each.finished is not None), key=lambda each: (str(each.finished), each.scan_id)
    )
    number = {LATEST: 1, PREVIOUS: 2}.get(name)
    if number is not None:
        if len(finished) < number:
            raise _unknown(f"there is no {name} scan: {len(finished) or 'none'} finished", place)
        return finished[-number]
    exact = [each for each in finished if each.scan_id == name]
    begun = exact or [each for each in finished if name and each.scan_id.startswith(name)]
    day = _date(name)
    if day is not None and not exact:
        until = [each for each in finished if each.finished is not None and each.finished.date() <= day]
        if not until:
            raise _unknown(f"no scan finished on {day} or before", place)
        return until[-1]
    if len(begun) > 1:
        several = ", ".join(f"`{each.scan_id}`" for each in begun[:3])
        raise DiagnosticError(
            Diagnostic(
                "scan-ambiguous",
                f"{len(begun)} scans begin with `{name}`: {several}{' and more' if len(begun) > 3 else ''}",
                place,
                "write more of the id; `imdsctl history` lists them",
            ),
            exit_code=2,
        )
    if not begun:
        if any(each.scan_id == name for each in records):
            raise _unknown(f"the scan `{name}` is not finished", place, "go on with it: `imdsctl scan --resume`")
        raise _unknown(f"there is no scan `{name}`", place)
    return begun[0]


def _date(text: str) -> date | None:
    if len(text) != len("2026-11-03"):
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None


def _unknown(
    summary: str, place: str | None, hint: str = "`imdsctl history` lists the scans; `imdsctl scan` takes one"
) -> DiagnosticError:
    return DiagnosticError(Diagnostic("scan-unknown", summary, place, hint), exit_code=2)


def to_prune(records: Iterable[ScanRecord], *, keep: int | None, older_than: datetime | None) -> tuple[ScanRecord, ...]:
    """The finished scans to delete, oldest first: all but the newest `keep`, of those that finished before a time.

    With both, a scan goes only when both say so. The latest one always stays.
    """
    finished = sorted(
        (each for each in records if each.finished is not None), key=lambda each: (str(each.finished), each.scan_id)
    )
    may_go = finished[: len(finished) - max(keep or 1, 1)]
    return tuple(
        each for each in may_go if older_than is None or (each.finished is not None and each.finished < older_than)
    )
