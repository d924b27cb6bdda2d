"""One self-contained HTML file: no script, nothing loaded from elsewhere, every text from AWS escaped.

The page forbids scripts and connections to itself (Content-Security-Policy), so that a name that slipped through could
still do nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import TYPE_CHECKING, Any

from imdsctl import __version__
from imdsctl.domain.coverage import WHOLE_ACCOUNT, Cell, Coverage, TrendPoint
from imdsctl.domain.exposure import Verdict
from imdsctl.domain.findings import UNSEEN, Finding
from imdsctl.domain.report import Report, worst_first
from imdsctl.domain.shown import shown
from imdsctl.domain.verdicts import NOTHING_SEEN, Count
from imdsctl.domain.workloads import exposed_workloads
from imdsctl.views.text import not_inspectable_lines, percent

if TYPE_CHECKING:
    from jinja2 import Template
    from markupsafe import Markup

ACCOUNTS_MAX = 1_000
"""Rows of the heat map; of more accounts the worst are shown, and the page says so."""
WORKLOADS_MAX = 500
UNKNOWNS_MAX = 300
CHART = (640, 160)
"""Width and height of the trend, in CSS pixels."""


def html_text(report: Report) -> Iterator[str]:
    """The whole page, in pieces."""
    unknowns, unknown_count = _unknowns(report)
    workloads = exposed_workloads(report.findings())
    yield from _template().generate(
        report=report,
        version=__version__,
        total=report.coverage.total,
        kinds=list(report.coverage.by_kind.items()),
        units=_units(report.coverage),
        regions=report.coverage.regions,
        by_region=report.coverage.by_region(),
        groups=_groups(report.coverage),
        accounts_left_out=max(0, len(report.coverage.accounts) - ACCOUNTS_MAX),
        workloads=workloads[:WORKLOADS_MAX],
        workloads_left_out=max(0, len(workloads) - WORKLOADS_MAX),
        nothing_seen=NOTHING_SEEN if report.coverage.nothing_seen else "",
        not_inspectable=not_inspectable_lines(shut) if (shut := report.coverage.not_inspectable) else [],
        unknowns=unknowns,
        unknowns_left_out=unknown_count - len(unknowns),
        chart=_chart(report.trend),
        scope=", ".join(name if value == "yes" else f"{name} {value}" for name, value in report.scope),
    )


@cache
def _template() -> Template:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("imdsctl.views.reports", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalized,
    )
    environment.filters |= {"percent": percent, "shade": _shade, "cell": _cell, "share": share, "coded": _coded}
    return environment.get_template("report.html.j2")


def _finalized(value: Any) -> Any:
    """Nothing that turns the direction of text, or breaks a line, comes from a name."""
    return shown(value) if type(value) is str else value


def _coded(sentence: str) -> Markup:
    """What stands in backticks as code; everything is escaped."""
    from markupsafe import Markup, escape

    parts = shown(sentence).split("`")
    return Markup("").join(
        Markup("<code>{}</code>").format(part) if number % 2 else escape(part) for number, part in enumerate(parts)
    )


def share(count: Count) -> float | None:
    """The enforced part of what was judged."""
    return count.enforced / count.total if count.total else None


def _shade(cell: Cell) -> str:
    """The CSS class of a cell of the heat map."""
    if cell.share is None or not cell.count.total:
        return "none"
    if cell.count.unknown and not cell.count.exposed:
        return "unknown"
    return "full" if cell.share == 1 else f"part{min(4, int(5 * cell.share))}"


def _cell(cell: Cell | None) -> str:
    """A cell in words, for the pointer and for a screen reader."""
    if cell is None:
        return "not visited"
    if not cell.count.total:
        return cell.reason or "nothing judged"
    parts = [f"{number} {verdict}" for number, verdict in _numbers(cell.count) if number]
    return ", ".join(parts) + (f"; {cell.reason}" if cell.reason else "")


def _numbers(count: Count) -> tuple[tuple[int, Verdict], ...]:
    return (
        (count.exposed, Verdict.EXPOSED),
        (count.unknown, Verdict.UNKNOWN),
        (count.enforced, Verdict.ENFORCED),
    )


def _units(coverage: Coverage) -> list[tuple[str, Cell]]:
    return list(coverage.by_unit().items())


def _groups(coverage: Coverage) -> list[tuple[str, Cell, list[dict[str, Any]]]]:
    """The heat map: accounts by organizational unit, the worst unit first."""
    by_account = coverage.by_account()
    kept = {account_id for account_id, _ in worst_first(by_account)[:ACCOUNTS_MAX]}
    groups: dict[str, list[dict[str, Any]]] = {}
    totals: dict[str, Cell] = {}
    for account in coverage.accounts:
        whole = by_account[account.account_id]
        unit = account.ou_path or ""
        totals[unit] = totals.get(unit, Cell(inspectable=False)) + whole
        if account.account_id in kept:
            row = {
                "account": account,
                "whole": whole,
                "entered": coverage.cells.get((account.account_id, WHOLE_ACCOUNT)),
                "cells": [coverage.cells.get((account.account_id, region)) for region in coverage.regions],
            }
            groups.setdefault(unit, []).append(row)
    ordered = [unit for unit, _ in worst_first(totals) if unit in groups]
    return [(unit, totals[unit], groups[unit]) for unit in ordered]


def _unknowns(report: Report) -> tuple[list[Finding], int]:
    kept: list[Finding] = []
    count = 0
    for finding in report.findings():
        if finding.rule is UNSEEN or finding.verdict is Verdict.UNKNOWN:
            count += 1
            if len(kept) < UNKNOWNS_MAX:
                kept.append(finding)
    return kept, count


def _chart(trend: tuple[TrendPoint, ...]) -> dict[str, Any] | None:
    """Points of the trend, placed by time; None for fewer than two scans."""
    known = [(point.finished, value, point.count) for point in trend if (value := share(point.count)) is not None]
    if len(known) < 2:
        return None
    width, height = CHART
    first, last = known[0][0], known[-1][0]
    span = (last - first).total_seconds() or 1.0
    points = [
        {
            "x": round((when - first).total_seconds() / span * width, 1),
            "y": round((1 - value) * height, 1),
            "title": f"{when:%Y-%m-%d %H:%M} UTC: {percent(value)} enforced, {count.exposed:,} exposed",
        }
        for when, value, count in known
    ]
    line = " ".join(f"{point['x']},{point['y']}" for point in points)
    return {"width": width, "height": height, "points": points, "line": line, "first": first, "last": last}
