"""A report as a value: what every format shows, each in its way."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from imdsctl.domain.coverage import Cell, Coverage, TrendPoint
from imdsctl.domain.findings import Finding
from imdsctl.domain.redaction import Redactor


@dataclass(frozen=True, slots=True)
class Report:
    """A scan's results. `findings` gives them anew at every call, one Region after the other."""

    scan_id: str
    finished: datetime
    made_at: datetime
    coverage: Coverage
    findings: Callable[[], Iterable[Finding]]
    scope: tuple[tuple[str, str], ...] = ()
    trend: tuple[TrendPoint, ...] = ()
    """Earlier scans of the same scope, oldest first."""
    evidence_taken: datetime | None = None
    look_back: timedelta | None = None
    redacted: bool = False


def redacted(report: Report, redactor: Redactor) -> Report:
    """The same report without account ids, names and resource ids; figures, Regions and verdicts stay."""
    coverage = report.coverage
    return replace(
        report,
        coverage=Coverage(
            tuple(redactor.account(account) for account in coverage.accounts),
            coverage.regions,
            {
                (redactor.account_id(account_id), region): replace(
                    cell, reason=redactor.text(cell.reason, [cell.reason] if cell.count.unknown else ())
                )
                for (account_id, region), cell in coverage.cells.items()
            },
            coverage.by_kind,
            tuple(
                replace(
                    each,
                    account_id=redactor.account_id(each.account_id),
                    unseen=replace(each.unseen, reason=redactor.text(each.unseen.reason)),
                )
                for each in coverage.not_inspectable
            ),
        ),
        findings=lambda: (redactor.finding(finding) for finding in report.findings()),
        scope=tuple((name, value if value == "yes" else "(hidden)") for name, value in report.scope),
        redacted=True,
    )


def worst_first(cells: dict[str, Cell]) -> list[tuple[str, Cell]]:
    """What has most exposed first; then what is least known; then by name."""
    return sorted(cells.items(), key=lambda each: (-each[1].count.exposed, -each[1].count.unknown, each[0]))
