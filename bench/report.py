"""What a measurement says: lines of a table with targets, and the raw figures as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.measure import Cores
from bench.servers import REPOSITORY

RESULTS = REPOSITORY / "bench" / "results"


class NotMeasured(Exception):
    """A measurement that could not be made, with the reason."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the table. `ratio` is how many times better we are; None where no peer stands beside."""

    section: str
    what: str
    ours: str
    peer: str
    ratio: float | None = None
    target: str = ""
    passed: bool | None = None


def less(section: str, what: str, ours: float, peer: float, unit: str, times: float | None, digits: int = 2) -> Line:
    """A line about a cost, with how many times less ours has to be."""
    ratio = peer / ours if ours else float("inf")
    return Line(
        section,
        what,
        f"{ours:,.{digits}f} {unit}",
        f"{peer:,.{digits}f} {unit}",
        ratio,
        f">= {times:g}x less" if times else "",
        ratio >= times if times else None,
    )


def at_most(section: str, what: str, ours: float, bound: float, unit: str, digits: int = 2) -> Line:
    """A line about a cost that has a bound of its own, and no peer."""
    return Line(section, what, f"{ours:,.{digits}f} {unit}", "-", None, f"<= {bound:,g} {unit}", ours <= bound)


def table(lines: Sequence[Line]) -> str:
    """The lines as text, grouped by section."""
    rows: list[tuple[str, ...]] = []
    section = None
    for line in lines:
        if line.section != section:
            section = line.section
            rows += [("",), (section,)]
        ratio = "" if line.ratio is None else f"{line.ratio:,.1f}x"
        verdict = {True: "PASS", False: "MISS", None: "" if not line.target else "not measured"}[line.passed]
        rows.append((f"  {line.what}", line.ours, line.peer, ratio, line.target, verdict))
    header = ("", "imdsctl", "peer", "ratio", "target", "")
    full = [header, *(row for row in rows if len(row) > 1)]
    widths = [max(len(row[column]) for row in full) for column in range(len(header))]
    text = []
    for row in [header, *rows]:
        if len(row) == 1:
            text.append(row[0])
        else:
            cells = [row[0].ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(row[1:4], widths[1:4], strict=True)]
            cells += [row[4].ljust(widths[4]), row[5]]
            text.append("  ".join(cells).rstrip())
    return "\n".join(text)


def machine(cores: Cores) -> dict[str, Any]:
    """Where this was measured."""
    return {
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "server_core": cores.server,
        "clients_core": cores.clients,
    }


def save(results: Mapping[str, Any]) -> Path:
    """Write the raw figures; returns where."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{results['measured'].replace(':', '').replace('-', '')}.json"
    path.write_text(json.dumps(results, indent=2) + "\n")
    return path
