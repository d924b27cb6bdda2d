"""What guardrails would have done to recorded calls: for a terminal, and as one JSON object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from imdsctl.codify.replay import DIMENSIONS, Group, Replay, Verdict
from imdsctl.domain.shown import shown
from imdsctl.views.diagnostics import painted
from imdsctl.views.json import document
from imdsctl.views.text import table_text

ROWS_MAX = 10
STOPPING = (Verdict.STOPPED, Verdict.LAUNCHES_STOPPED)


def replay_text(replay: Replay, *, full: bool = False, partial: bool = False, colour: bool = False) -> str:
    """Totals, then who would be stopped and what each must change."""
    lines = [
        f"{replay.replayed:,} of {replay.events:,} events are calls that guardrails for IMDS look at.",
        "",
        table_text([["CALL", *(str(each).upper() for each in Verdict)], *_calls(replay)]),
    ]
    for dimension in DIMENSIONS:
        lines += _table(dimension, replay.groups[dimension], full, colour)
    if replay.statements:
        lines += ["", painted("Stopped by", "bold", colour)]
        lines += [f"  {count:,}  {shown(name)}" for name, count in _most(replay.statements)]
    if replay.reasons:
        lines += ["", painted("Unknown, because", "bold", colour)]
        lines += [f"  {count:,}  {shown(name)}" for name, count in _most(replay.reasons)]
    stopped, unknown = replay.total(*STOPPING), replay.total(Verdict.UNKNOWN)
    word = "partial: not everything could be read. " if partial else ""
    lines += ["", f"{word}{stopped:,} would be stopped, {unknown:,} are unknown."]
    return "\n".join(lines)


def replay_json(replay: Replay, *, partial: bool) -> str:
    """Everything that was counted."""
    return document(
        "policy-replay",
        events=replay.events,
        replayed=replay.replayed,
        partial=partial,
        calls={name: _counts(each) for name, each in sorted(replay.calls.items())},
        groups={
            dimension: [
                {"name": name, **_counts(each), "changes": dict(_most(each.changes))}
                for name, each in _ordered(replay.groups[dimension])
            ]
            for dimension in DIMENSIONS
        },
        statements=dict(_most(replay.statements)),
        unknown_because=dict(_most(replay.reasons)),
    )


def _calls(replay: Replay) -> Iterator[list[str]]:
    for name, each in sorted(replay.calls.items()):
        yield [name, *(f"{each.of(verdict):,}" if each.of(verdict) else "-" for verdict in Verdict)]


def _counts(group: Group) -> dict[str, Any]:
    return {verdict.name.lower(): group.of(verdict) for verdict in Verdict if group.of(verdict)}


def _table(dimension: str, groups: dict[str, Group], full: bool, colour: bool) -> list[str]:
    touched = [(name, each) for name, each in _ordered(groups) if each.of(*STOPPING, Verdict.UNKNOWN)]
    if not touched:
        return []
    rows = touched if full else touched[:ROWS_MAX]
    cells = [[dimension.upper(), "STOPPED", "UNKNOWN", "PASSES", "WHAT MUST CHANGE"]]
    for name, each in rows:
        change = next((text for text, _ in _most(each.changes)), "-")
        more = f" (+{len(each.changes) - 1})" if len(each.changes) > 1 else ""
        numbers = (each.of(*STOPPING), each.of(Verdict.UNKNOWN), each.of(Verdict.PASSES))
        cells.append([shown(name), *(f"{number:,}" for number in numbers), shown(change) + more])
    lines = ["", painted(f"By {dimension}", "bold", colour), table_text(cells)]
    if len(rows) < len(touched):
        lines.append(f"and {len(touched) - len(rows):,} more: `--full` shows them")
    return lines


def _ordered(groups: dict[str, Group]) -> list[tuple[str, Group]]:
    return sorted(groups.items(), key=lambda each: (-each[1].of(*STOPPING), -each[1].of(Verdict.UNKNOWN), each[0]))


def _most(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda each: (-each[1], each[0]))
