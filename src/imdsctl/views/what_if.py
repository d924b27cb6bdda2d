"""The answer to `imdsctl plan --what-if`: what every launch gets now and would get."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from imdsctl.domain.exposure import Verdict
from imdsctl.domain.options import MetadataOptions
from imdsctl.domain.shown import shown
from imdsctl.domain.what_if import Answer, Launch
from imdsctl.views.diagnostics import painted
from imdsctl.views.json import document
from imdsctl.views.text import table_text, verdict_text

ROWS_MAX = 40
"""More launch sources than this are only counted, unless asked for in full."""


def answer_text(answer: Answer, names: Mapping[str, str], *, full: bool = False, colour: bool = False) -> str:
    """A table of what would change, what would fail and what would open, and a line that can be counted."""
    changed = [each for each in answer.launches if each.changes]
    lines = [painted(f"What if: {shown(answer.question.sentence)}", "bold", colour), ""]
    rows = changed if full else changed[:ROWS_MAX]
    if rows:
        cells = [["WHERE", "LAUNCH", "NOW", "THEN"], *(_row(each, names, colour) for each in rows)]
        lines += [table_text(cells), ""]
    if len(rows) < len(changed):
        lines += [f"and {len(changed) - len(rows)} more: `--full` shows them", ""]
    lines += _section("Would fail", (f"{_where(e)}: {e.title}: HttpTokensEnforced refuses it" for e in answer.failing))
    lines += _section("Would allow IMDSv1 again", (f"{_where(e)}: {e.title}" for e in answer.opened))
    lines += _section("Unknown", answer.unknown)
    lines.append(
        f"{len(answer.launches)} launch sources in {answer.targets} targets (account and Region): "
        f"{len(changed)} would get something else, {len(answer.closed)} would no longer allow IMDSv1, "
        f"{len(answer.opened)} would allow it, {len(answer.failing)} would fail."
    )
    lines.append("Nothing was written: this is an answer, not a plan.")
    return "\n".join(lines)


def answer_json(answer: Answer) -> str:
    """The whole answer as one JSON object."""
    return document(
        "what-if",
        sentence=answer.question.sentence,
        targets=answer.targets,
        would_fail=len(answer.failing),
        would_open=len(answer.opened),
        would_close=len(answer.closed),
        launches=[
            {
                "account_id": each.target.account_id,
                "region": each.target.region,
                "launch": each.title,
                "changes": each.changes,
                "now": _side(each.now_options, str(each.now.verdict), each.now.reason, each.fails_now),
                "then": _side(each.then_options, str(each.then.verdict), each.then.reason, each.fails_then),
            }
            for each in answer.launches
        ],
        unknown=list(answer.unknown),
    )


def _side(options: MetadataOptions, verdict: str, reason: str, fails: bool) -> dict[str, object]:
    return {"options": options.to_aws(), "verdict": verdict, "reason": reason, "fails": fails}


def _row(launch: Launch, names: Mapping[str, str], colour: bool) -> list[str]:
    name = names.get(launch.target.account_id)
    where = f"{_where(launch)} ({name})" if name else _where(launch)
    now, then = launch.now_options.to_aws(), launch.then_options.to_aws()
    differing = [key for key in then if now.get(key) != then[key]] or ["HttpTokens"]
    return [
        where,
        launch.title,
        _cell(launch.now.verdict, now, differing, launch.fails_now, colour),
        _cell(launch.then.verdict, then, differing, launch.fails_then, colour),
    ]


def _cell(verdict: Verdict, options: Mapping[str, object], keys: Iterable[str], fails: bool, colour: bool) -> str:
    said = ", ".join(f"{key}={options[key]}" for key in keys)
    return f"{said}: fails" if fails else f"{said}: {verdict_text(verdict, colour)}"


def _where(launch: Launch) -> str:
    return str(launch.target)


def _section(title: str, entries: Iterable[str]) -> Iterator[str]:
    listed = list(entries)
    if listed:
        yield f"{title} ({len(listed)})"
        yield from (f"  {shown(each)}" for each in listed[:ROWS_MAX])
        if len(listed) > ROWS_MAX:
            yield f"  and {len(listed) - ROWS_MAX} more"
        yield ""
