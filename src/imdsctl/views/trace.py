"""Who calls the metadata service: a table for a person, an object for a program. No decisions are taken here."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import orjson

from imdsctl import __version__
from imdsctl.domain.diagnostics import Diagnostic, Severity
from imdsctl.domain.json_text import json_bytes
from imdsctl.host.calls import Kind, Outcome
from imdsctl.host.processes import Process
from imdsctl.host.trace import Health
from imdsctl.host.trace_table import REASONS, ROWS_MAX, Row, Tally, TraceTable
from imdsctl.views.diagnostics import painted
from imdsctl.views.json import FORMAT_VERSION
from imdsctl.views.text import table_text

FAILED = (Outcome.HOP_LIMIT, Outcome.NO_ANSWER)
PARENTS_SHOWN_MAX = 3


def trace_text(table: TraceTable, health: Health, *, colour: bool = False) -> str:
    """The table, what could not be told, and what it comes to."""
    rows = table.sorted_rows()
    parts = [_table(table, rows, colour), "\n".join(_notes(table, health, rows)), _verdict(table, health, rows)]
    return "\n\n".join(part for part in parts if part)


def _table(table: TraceTable, rows: Iterable[Row], colour: bool) -> str:
    head = ["PROGRAM", "IMDSv1", "IMDSv2", "TOKENS", "OTHER", "REFUSED", "NO ANSWER", "PROCESS", "RUNS IN", "PATHS"]
    cells = [head]
    details: dict[int, str] = {}
    for row in rows:
        place = row.identity.place
        details[len(cells)] = _detail(row.last)
        where = ", ".join(
            each for each in (place.container, f"pod {place.pod}" if place.pod else "", place.unit) if each
        )
        cells.append([row.identity.name, *_counts(row.tally, colour), _pids(row), where or "-", _paths(row.tally)])
    for name, tally in (("(other programs)", table.others), ("(not attributed)", _all(table.unattributed.values()))):
        if tally.connections or tally.calls:
            cells.append([name, *_counts(tally, colour), "-", "-", _paths(tally)])
    if len(cells) == 1:
        return ""
    lines = table_text(cells).split("\n")
    out = [painted(lines[0], "dim", colour)]
    for number, line in enumerate(lines[1:], 1):
        out.append(line)
        if details.get(number):
            out.append(painted(f"      {details[number]}", "dim", colour))
    return "\n".join(out)


def _counts(tally: Tally, colour: bool) -> list[str]:
    v1 = tally.count(Kind.V1)
    return [
        painted(f"{v1:,}", "red", colour) if v1 else "-",
        *(f"{tally.count(kind):,}" if tally.count(kind) else "-" for kind in (Kind.V2, Kind.TOKEN, Kind.OTHER)),
        *(
            f"{number:,}" if number else "-"
            for number in (_outcomes(tally, Outcome.REFUSED), _outcomes(tally, *FAILED))
        ),
    ]


def _outcomes(tally: Tally, *outcomes: Outcome) -> int:
    return sum(tally.count(kind, *outcomes) for kind in Kind)


def _detail(process: Process) -> str:
    command = process.command or process.executable or "(it ended before its command line could be read)"
    parents = " < ".join(name for _, name in process.parents[:PARENTS_SHOWN_MAX])
    return f"{command}  [child of {parents}]" if parents else command


def _pids(row: Row) -> str:
    return str(row.last.pid) if len(row.pids) == 1 else f"{len(row.pids):,} processes"


def _paths(tally: Tally) -> str:
    first, last = tally.first_path, tally.last_path
    return first if first == last else f"{first} ... {last}"


def _all(tallies: Iterable[Tally]) -> Tally:
    whole = Tally()
    for each in tallies:
        whole.merge(each)
    return whole


def _notes(table: TraceTable, health: Health, rows: Iterable[Row]) -> Iterable[str]:
    for row in rows:
        tally, name = row.tally, row.identity.name
        if tally.falls_back:
            failed = tally.count(Kind.TOKEN, Outcome.REFUSED, *FAILED)
            asked = _many(tally.count(Kind.TOKEN), "request")
            yield f"note: {name} fell back to IMDSv1: {failed:,} of {asked} for a token got none"
        if stopped := _outcomes(tally, Outcome.HOP_LIMIT):
            yield (
                f"note: {_many(stopped, 'answer')} to {name} stopped on this host: the hop limit is too low for where "
                "it runs"
            )
        if tally.unseen:
            yield (
                f"note: {name} made {_many(tally.unseen, 'connection')} whose packets did not come by (another network "
                "namespace, or a firewall): what was asked cannot be told"
            )
    for reason, tally in table.unattributed.items():
        yield f"note: {_many(tally.connections, 'connection')} not attributed: {REASONS[reason]}"
    if table.others.connections:
        yield f"note: more than {ROWS_MAX:,} different programs; the rest is counted together"
    if health.connections_given_up:
        yield f"note: {_many(health.connections_given_up, 'connection')} given up to stay within memory"


def _verdict(table: TraceTable, health: Health, rows: Iterable[Row]) -> str:
    total = table.total()
    calls = sum(total.calls.values())
    said = f"{_many(calls, 'call')} in {health.seconds:.0f} s"
    v1 = total.count(Kind.V1)
    if v1:
        programs = sum(bool(row.tally.count(Kind.V1)) for row in rows)
        whose = _many(programs, "known program")
        return f"{said}, {_many(v1, 'IMDSv1 call')} by {whose}: these need a token once HttpTokens=required."
    if calls:
        return f"{said}, none by IMDSv1. What runs rarely shows only in a long trace."
    if total.unseen:
        return f"{said}: no call came by, {_many(total.unseen, 'connection')} stayed out of sight."
    return f"{said}: nothing on this host asked the metadata service for anything."


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def lost_packets(health: Health) -> Diagnostic | None:
    """The warning that counts are too low; None while nothing was lost."""
    if not health.packets_lost:
        return None
    return Diagnostic(
        "capture-lost-packets",
        f"{health.packets_lost:,} of {health.packets:,} packets were lost before they were read; counts are too low",
        hint="this host was too busy to keep up; trace again",
        severity=Severity.WARNING,
    )


def trace_json(table: TraceTable, health: Health, *, final: bool) -> str:
    """Everything that was counted so far, as one line."""
    total = table.total()
    return json_bytes(
        {
            "imdsctl_version": __version__,
            "format_version": FORMAT_VERSION,
            "kind": "trace",
            "final": final,
            "seconds": round(health.seconds, 3),
            "attribution": "sockets" if health.hooks_problem else "connect-hooks",
            "packets": health.packets,
            "packets_lost": health.packets_lost,
            "connections_given_up": health.connections_given_up,
            "total": _tally(total),
            "programs": [_row(row) for row in table.sorted_rows()],
            "other_programs": _tally(table.others),
            "not_attributed": [
                {"reason": reason, "meaning": REASONS[reason], **_tally(tally)}
                for reason, tally in table.unattributed.items()
            ],
        },
        orjson.OPT_APPEND_NEWLINE,
    ).decode()


def _row(row: Row) -> dict[str, Any]:
    identity = row.identity
    return {
        "name": identity.name,
        "executable": identity.executable or None,
        "command": identity.command or None,
        "uid": identity.uid,
        "container": identity.place.container,
        "pod": identity.place.pod,
        "unit": identity.place.unit,
        "processes": len(row.pids),
        "last_pid": row.last.pid,
        "parents": [{"pid": pid, "name": name} for pid, name in row.last.parents],
        "falls_back_to_v1": row.tally.falls_back,
        **_tally(row.tally),
    }


def _tally(tally: Tally) -> dict[str, Any]:
    return {
        "connections": tally.connections,
        "connections_unseen": tally.unseen,
        "calls": {str(kind): {str(outcome): tally.count(kind, outcome) for outcome in Outcome} for kind in Kind},
        "first_seen": _time(tally.first_at),
        "last_seen": _time(tally.last_at),
        "first_path": tally.first_path or None,
        "last_path": tally.last_path or None,
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
