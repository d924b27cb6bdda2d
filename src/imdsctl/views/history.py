"""Scans over time, and what is different between two of them, for a terminal and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

from imdsctl import __version__
from imdsctl.domain.diff import PLACE, Difference, Happened, Option
from imdsctl.domain.history import Kind, ScanRecord, coverage
from imdsctl.domain.json_text import json_bytes
from imdsctl.domain.shown import shown
from imdsctl.domain.verdicts import Count
from imdsctl.views.diagnostics import painted
from imdsctl.views.json import FORMAT_VERSION, count_json, document
from imdsctl.views.text import count_text, percent, table_text

BARS = "▁▂▃▄▅▆▇█"
ASCII_BARS = "_.-=+*%#"
TREND_SCANS_MAX = 40
"""As many scans as a line of the trend has room for; of more, the newest."""


def history_text(records: Sequence[ScanRecord], *, limit: int, colour: bool = False, bars: str = BARS) -> str:
    """A table, the newest scan first, and under it how the coverage of each kind went."""
    if not records:
        return "No scan is kept here.\n\nNext: `imdsctl scan` takes one."
    rows = [["SCAN", "FINISHED", "SCOPE", "ACCOUNTS", "REGIONS", "COVERAGE", "EXPOSED", "UNKNOWN", "NOT INSPECTABLE"]]
    rows += [_row(record, colour) for record in records[:limit]]
    if not any(record.not_inspectable for record in records[:limit]):
        rows = [row[:-1] for row in rows]
    lines = table_text(rows).split("\n")
    parts = ["\n".join([painted(lines[0], "dim", colour), *lines[1:]])]
    if len(records) > limit:
        parts.append(f"  and {len(records) - limit:,} earlier: `--limit`")
    trend = _trend(records, bars)
    if trend:
        parts.append(trend)
    if any(record.finished is None for record in records):
        parts.append("Next: `imdsctl scan --resume` goes on with an unfinished scan.")
    return "\n\n".join(parts)


def _row(record: ScanRecord, colour: bool) -> list[str]:
    total = record.total
    finished = painted("unfinished", "yellow", colour) if record.finished is None else _minute(record.finished)
    numbers = ["-", "-", "-", "-"]
    if record.finished is not None:
        exposed = painted(f"{total.exposed:,}", "red", colour) if total.exposed else "0"
        unknown = painted(f"{total.unknown:,}", "yellow", colour) if total.unknown else "0"
        numbers = [percent(coverage(total)), exposed, unknown, f"{record.not_inspectable:,}"]
    return [
        record.scan_id,
        finished,
        shown(scope_text(record.scope)),
        f"{record.accounts:,}",
        f"{record.targets:,}",
        *numbers,
    ]


def scope_text(scope: Iterable[tuple[str, str]]) -> str:
    """The options that narrowed a scan, short."""
    said = [name if value == "yes" else f"{name}={_short(value)}" for name, value in scope]
    return " ".join(said) or "everything"


def _short(value: str) -> str:
    first, *others = value.split(",")
    return f"{first}+{len(others)}" if others else first


def _minute(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M")


def _trend(records: Sequence[ScanRecord], bars: str) -> str:
    """A line a kind: its coverage in every scan of the newest one's scope, oldest first."""
    done = [record for record in records if record.finished is not None]
    same = [record for record in done if record.scope == done[0].scope][:TREND_SCANS_MAX][::-1]
    if len(same) < 2:
        return ""
    rows = []
    for kind in Kind:
        values = [coverage(record.count(kind)) for record in same]
        known = [value for value in values if value is not None]
        if known:
            chart = "".join(" " if value is None else bars[min(int(value * len(bars)), 7)] for value in values)
            rows.append([kind.replace("_", " "), chart, f"{percent(known[0])} -> {percent(known[-1])}"])
    scope = shown(scope_text(same[0].scope))
    return f"Coverage over {len(same)} scans of {scope}, oldest first:\n{table_text(rows)}" if rows else ""


def history_json(records: Sequence[ScanRecord], *, limit: int) -> str:
    """Scans in numbers, the newest first."""
    return document("history", scans=[_record_json(record) for record in records[:limit]], kept=len(records))


def _record_json(record: ScanRecord) -> dict[str, Any]:
    return {
        "scan_id": record.scan_id,
        "started": record.started,
        "finished": record.finished,
        "scope": dict(record.scope),
        "accounts": record.accounts,
        "targets": record.targets,
        "unseen": record.unseen,
        "coverage": coverage(record.total),
        "verdicts": count_json(record.total),
        "not_entered": record.not_entered,
        "not_inspectable": record.not_inspectable,
        "totals": {str(kind): count_json(count) for kind, count in record.counts.items()},
    }


_MARKS = {
    Happened.EXPOSED: ("!", "red"),
    Happened.UNKNOWN: ("?", "yellow"),
    Happened.ENFORCED: ("=", "green"),
    Happened.KNOWN: ("+", "cyan"),
    Happened.APPEARED: ("+", "cyan"),
    Happened.VANISHED: ("-", "dim"),
    Happened.READ: ("+", "cyan"),
    Happened.UNREAD: ("?", "dim"),
    Happened.CHANGED: ("~", "cyan"),
    Happened.SEEN: ("+", "cyan"),
    Happened.UNSEEN: ("?", "yellow"),
}


def tallied(differences: Iterable[Difference], tally: Counter[Happened]) -> Iterator[Difference]:
    """Differences as they pass, counted in `tally`."""
    for each in differences:
        tally[each.happened] += 1
        yield each


def diff_lines(differences: Iterable[Difference], *, colour: bool = False) -> Iterator[str]:
    """A heading an account and Region, a line a difference, as they are found."""
    place = None
    for each in differences:
        if each.target != place:
            place = each.target
            yield painted(str(each.target), "bold", colour)
        mark, shade = _MARKS[each.happened]
        yield f"  {painted(mark, shade, colour)} {shown(_difference_text(each))}"


def diff_sums(before: ScanRecord, after: ScanRecord, tally: Counter[Happened]) -> str:
    """The last lines: between which scans, and how much of what."""
    between = f"between {_named(before)} and {_named(after)}"
    said = ", ".join(f"{tally[each]:,} {each}" for each in Happened if tally[each])
    lines = [f"{said} {between}." if said else f"No difference {between}."]
    if before.scope != after.scope:
        scopes = f"{scope_text(before.scope)}, then {scope_text(after.scope)}"
        lines.append(f"The two scans did not look at the same: {shown(scopes)}.")
    return "\n".join(lines)


def _named(record: ScanRecord) -> str:
    return f"{record.scan_id} ({_minute(record.finished)})" if record.finished else record.scan_id


def _difference_text(each: Difference) -> str:
    if each.kind == PLACE:
        inside = f" ({count_text(each.count)})" if each.count is not None and each.count.total else ""
        return f"{each.resource} {each.happened}: {each.reason}{inside}"
    name = f" ({each.name})" if each.name and each.name != each.resource else ""
    verdicts = f", {each.after}" if each.happened in (Happened.APPEARED, Happened.KNOWN, Happened.READ) else ""
    was = f" (was {each.before})" if each.before is not None and each.before is not each.after else ""
    reason = f": {each.reason}" if each.reason else ""
    options = f" [{', '.join(map(_option_text, each.options))}]" if each.options and each.before else ""
    return f"{each.kind.replace('-', ' ')} {each.resource}{name} {each.happened}{verdicts}{was}{reason}{options}"


def _option_text(option: Option) -> str:
    return f"{option.name} {option.before or 'unset'} -> {option.after or 'unset'}"


def diff_json(
    before: ScanRecord, after: ScanRecord, differences: Iterable[Difference], tally: Counter[Happened]
) -> Iterator[str]:
    """One JSON object, in pieces: the differences may be many. `tally` is read when they have passed."""
    head = {
        "imdsctl_version": __version__,
        "format_version": FORMAT_VERSION,
        "kind": "diff",
        "before": _record_json(before),
        "after": _record_json(after),
    }
    yield json_bytes(head).decode()[:-1] + ',\n"differences": ['
    separator = "\n"
    for each in differences:
        yield separator + json_bytes(_difference_json(each)).decode()
        separator = ",\n"
    yield '\n],\n"totals": ' + json_bytes({str(each): tally[each] for each in Happened}).decode() + "}\n"


def _difference_json(each: Difference) -> dict[str, Any]:
    count: Count | None = each.count
    return {
        "happened": each.happened,
        "account_id": each.target.account_id,
        "region": each.target.region,
        "kind": each.kind,
        "resource": each.resource,
        "name": each.name,
        "before": each.before,
        "after": each.after,
        "reason": each.reason,
        "options": [{"name": o.name, "before": o.before, "after": o.after} for o in each.options],
        **({} if count is None else {"count": count_json(count)}),
    }
