"""How an apply goes and how it ended: lines for a person, objects for a program, diagnostics for what went wrong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from imdsctl.domain.diagnostics import Diagnostic
from imdsctl.fleet.apply import GOOD, ChangeEnded, Event, Outcome, Report, Result, StageBegan
from imdsctl.views.json import FORMAT_VERSION
from imdsctl.views.plan import change_text, counted

LISTED_MAX = 10
"""Changes that are named one by one in a diagnostic before the rest is only counted."""


class ProgressLines:
    """One line a wave and one for each change that went wrong; on a terminal a counter that moves."""

    def __init__(self, write: Callable[[str], None], *, moving: bool, seconds_between: float = 0.1) -> None:
        self._write = write
        self._moving = moving
        self._seconds_between = seconds_between
        self._shown_at = 0.0
        self._wave: StageBegan | None = None
        self._ended = 0

    def __call__(self, event: Event) -> None:
        match event:
            case StageBegan():
                self._finish()
                self._wave, self._ended = event, 0
                self._write(f"{event.stage.title.capitalize()} ({counted(event.changes, 'change')})\n")
            case ChangeEnded(result):
                if result.outcome not in GOOD and result.outcome not in (Outcome.NOT_REACHED, Outcome.HELD_BACK):
                    self._write(f"{self._clear()}  {result.outcome}: {result_text(result)}\n")
                if result.outcome is not Outcome.EARLIER:
                    self._ended += 1
                self._show()

    def close(self) -> None:
        """The last wave is over."""
        self._finish()

    def _show(self) -> None:
        if self._moving and self._wave is not None and time.monotonic() - self._shown_at >= self._seconds_between:
            self._shown_at = time.monotonic()
            self._write(f"{self._clear()}  {self._ended} of {self._wave.changes}")

    def _finish(self) -> None:
        if self._moving:
            self._write(self._clear())

    def _clear(self) -> str:
        return "\r\x1b[K" if self._moving else ""


def event_json(event: Event) -> bytes:
    """An event as one line of JSON."""
    match event:
        case StageBegan(wave, stage, changes):
            body: dict[str, Any] = {"event": "stage", "wave": wave, "stage": stage.title, "changes": changes}
        case ChangeEnded(result):
            body = {
                "event": "change",
                "id": result.change.id,
                "outcome": str(result.outcome),
                "code": result.code,
                "detail": result.detail,
            }
    return orjson.dumps({"format_version": FORMAT_VERSION, **body})


def report_json(report: Report) -> bytes:
    """The end as one line of JSON."""
    counts = {str(outcome): report.count(outcome) for outcome in Outcome}
    body = {"format_version": FORMAT_VERSION, "event": "end", "done": report.done, "interrupted": report.interrupted}
    return orjson.dumps({**body, "outcomes": counts})


def result_text(result: Result) -> str:
    """One result in a line."""
    code = f"{result.code}: " if result.code and result.outcome is Outcome.FAILED else ""
    return f"{result.change.id}: {code}{result.detail or change_text(result.change)}"


def report_text(report: Report, *, deferred: int) -> str:
    """The one line that can be counted, and the next command."""
    parts = [f"{report.count(outcome)} {outcome}" for outcome in Outcome if report.count(outcome)]
    line = f"Apply: {', '.join(parts) or 'nothing to change'}; {deferred} deferred by the plan."
    return f"{line}\nNext: imdsctl verify" if report.done else line


def report_diagnostics(report: Report, plan_file: str, command: str) -> list[Diagnostic]:
    """What went wrong, one diagnostic a kind. `command` is what the user typed to get here."""
    total = len(report.results)
    found = []
    if stale := _of(report, Outcome.STALE):
        found.append(
            Diagnostic(
                "plan-stale",
                f"{len(stale)} of {total} resources changed after this plan was made; they were left alone"
                + _names(stale),
                plan_file,
                "run `imdsctl scan` and `imdsctl plan -o FILE` again, then apply the new file",
            )
        )
    if failed := _of(report, Outcome.FAILED):
        found.append(
            Diagnostic(
                "apply-failed",
                f"{len(failed)} of {total} changes were refused or could not be asked for" + _names(failed),
                plan_file,
                f"see to the reason, then run `{command}` again: it goes on from its journal",
            )
        )
    if doubt := _of(report, Outcome.IN_DOUBT):
        found.append(
            Diagnostic(
                "apply-in-doubt",
                f"the end of {len(doubt)} of {total} changes was not seen" + _names(doubt),
                plan_file,
                f"run `{command}` again: it reads them back from AWS before anything else",
            )
        )
    if held := _of(report, Outcome.HELD_BACK):
        found.append(
            Diagnostic(
                "apply-held-back",
                f"{len(held)} of {total} changes were not begun because of the above",
                plan_file,
                "`--keep-going` holds back only the accounts' Regions in which something went wrong",
            )
        )
    return found


def _of(report: Report, outcome: Outcome) -> list[Result]:
    return [result for result in report.results if result.outcome is outcome]


def _names(results: Iterable[Result]) -> str:
    lines = [f"\n  {result_text(result)}" for result in results]
    more = len(lines) - LISTED_MAX
    return "".join(lines[:LISTED_MAX]) + (f"\n  and {more} more" if more > 0 else "")
