"""How an apply goes and how it ended: lines for a person, objects for a program, diagnostics for what went wrong."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterable
from typing import Any

from imdsctl.domain.diagnostics import Diagnostic
from imdsctl.domain.json_text import json_bytes
from imdsctl.domain.shown import ERASED, shown
from imdsctl.domain.waves import EVERYTHING
from imdsctl.fleet.apply_gates import figure_text
from imdsctl.fleet.apply_report import (
    GOOD,
    ChangeEnded,
    Event,
    GateEnded,
    GateReport,
    GateVerdict,
    Outcome,
    Report,
    Result,
    RollbackOfWaveBegan,
    StageBegan,
    Waiting,
)
from imdsctl.views.evidence import usd_text
from imdsctl.views.json import FORMAT_VERSION
from imdsctl.views.plan import change_text, counted

CHANGES = "changes"
LISTED_MAX = 10
"""Changes that are named one by one in a diagnostic before the rest is only counted."""


DENIED = frozenset({"UnauthorizedOperation", "AccessDenied", "AccessDeniedException"})
"""AWS's codes for a permission that is missing, by EC2 and by other services."""


class ProgressLines:
    """One line a wave and one for each change that went wrong; on a terminal a counter that moves."""

    def __init__(self, write: Callable[[str], None], *, moving: bool, seconds_between: float = 0.1) -> None:
        self._write = write
        self._moving = moving
        self._seconds_between = seconds_between
        self._shown_at = 0.0
        self._wave: StageBegan | None = None
        self._ended = 0
        self._waiting = ""

    def __call__(self, event: Event) -> None:
        match event:
            case StageBegan():
                self._finish()
                self._wave, self._ended = event, 0
                wave = "" if event.wave == EVERYTHING.name else f"Wave {shown(event.wave)}: "
                self._write(f"{wave}{event.stage.title.capitalize()} ({counted(event.changes, 'change')})\n")
            case ChangeEnded(result):
                if result.outcome not in GOOD and result.outcome not in (Outcome.NOT_REACHED, Outcome.HELD_BACK):
                    self._write(f"{self._clear()}  {result.outcome}: {result_text(result)}\n")
                if result.outcome is not Outcome.EARLIER:
                    self._ended += 1
                self._show()
            case GateEnded(wave, gate, verdict, detail):
                self._write(f"{self._clear()}Wave {shown(wave)}, {gate}: {verdict}; {detail}\n")
            case RollbackOfWaveBegan(wave, changes):
                self._write(f"{self._clear()}Wave {shown(wave)} is rolled back ({counted(changes, 'change')})\n")
            case Waiting():
                self._wait(event)

    def close(self) -> None:
        """The last wave is over."""
        self._finish()

    def _wait(self, event: Waiting) -> None:
        text = f"Wave {shown(event.wave)}: {event.why} until {event.until:%Y-%m-%d %H:%M:%S} UTC"
        if event.price.metrics:
            text += f"; CloudWatch is asked for {event.price.metrics:,} metrics meanwhile, {usd_text(event.price)}"
        if self._moving:
            self._write(f"{self._clear()}  {text}")
        elif text != self._waiting:
            self._write(f"{text}\n")
        self._waiting = text

    def _show(self) -> None:
        if self._moving and self._wave is not None and time.monotonic() - self._shown_at >= self._seconds_between:
            self._shown_at = time.monotonic()
            self._write(f"{self._clear()}  {self._ended} of {self._wave.changes}")

    def _finish(self) -> None:
        if self._moving:
            self._write(self._clear())

    def _clear(self) -> str:
        return ERASED if self._moving else ""


def event_json(event: Event) -> bytes:
    """An event as one line of JSON."""
    return json_bytes({"format_version": FORMAT_VERSION, **_event(event)})


def _event(event: Event) -> dict[str, Any]:
    match event:
        case StageBegan(wave, stage, changes):
            return {"event": "stage", "wave": wave, "stage": stage.title, "changes": changes}
        case ChangeEnded(result):
            return {"event": "change", **_result(result)}
        case Waiting(wave, why, until):
            return {
                "event": "waiting",
                "wave": wave,
                "why": why,
                "until": until.isoformat(),
                "metrics": event.price.metrics,
            }
        case GateEnded(wave, gate, verdict, detail):
            return {"event": "gate", "wave": wave, "gate": gate, "verdict": str(verdict), "detail": detail}
        case RollbackOfWaveBegan(wave, changes):
            return {"event": "wave-rollback", "wave": wave, "changes": changes}


def _result(result: Result) -> dict[str, Any]:
    return {
        "id": result.change.id,
        "outcome": str(result.outcome),
        "code": result.code,
        "detail": result.detail,
    }


def report_json(report: Report) -> bytes:
    """The end as one line of JSON."""
    gate = None if report.gate is None else _gate(report.gate)
    body = {
        "format_version": FORMAT_VERSION,
        "event": "end",
        "done": report.done,
        "interrupted": report.interrupted,
        "outcomes": _counts(report),
        "gate": gate,
        "rolled_back": None if report.rolled_back is None else _counts(report.rolled_back),
    }
    return json_bytes(body)


def _counts(report: Report) -> dict[str, int]:
    return {str(outcome): report.count(outcome) for outcome in Outcome}


def _gate(gate: GateReport) -> dict[str, Any]:
    return {
        "wave": gate.wave,
        "gate": gate.gate,
        "verdict": str(gate.verdict),
        "detail": gate.detail,
        "opens": None if gate.opens is None else gate.opens.isoformat(),
        "instances": [
            {
                "account": each.target.account_id,
                "region": each.target.region,
                "instance": each.instance_id,
                "no_token": each.no_token,
                "rejected": each.rejected,
                "last_used": None if each.last_used is None else each.last_used.isoformat(),
                "use": str(each.use),
                "reason": each.reason,
            }
            for each in gate.instances
        ],
    }


def result_text(result: Result) -> str:
    """One result in a line."""
    code = f"{result.code}: " if result.code and result.outcome is Outcome.FAILED else ""
    return shown(f"{result.change.id}: {code}{result.detail or change_text(result.change)}")


def report_text(report: Report, *, deferred: int) -> str:
    """The one line that can be counted, and the next command."""
    line = f"Apply: {_counted(report) or 'nothing to change'}; {deferred} deferred by the plan."
    if report.rolled_back is not None:
        line = "\n".join(
            [line, f"Rolled back: {_counted(report.rolled_back) or 'nothing'}.", *_left_behind(report.rolled_back)]
        )
    return f"{line}\nNext: imdsctl verify" if report.done else line


def rollback_text(report: Report) -> str:
    """The one line that can be counted, what stays although it is restored, and the next command."""
    first = f"Rollback: {_counted(report) or 'nothing to restore'}."
    if report.results and report.count(Outcome.RESTORED_EARLIER, Outcome.AS_BEFORE) == len(report.results):
        first = f"Rollback: nothing is left to put back; {_counted(report)}."
    return "\n".join([first, *_left_behind(report), "Next: imdsctl scan"])


def _left_behind(report: Report) -> list[str]:
    staying = [result for result in report.results if _stays(result)]
    return [f"{counted(len(staying), 'change')} left something behind:{_names(staying)}"] if staying else []


def _stays(result: Result) -> bool:
    back = (Outcome.RESTORED, Outcome.BUT_LATEST, Outcome.AS_BEFORE)
    return result.outcome in back and "--delete-versions" in result.detail


def _counted(report: Report) -> str:
    return ", ".join(f"{report.count(outcome)} {outcome}" for outcome in Outcome if report.count(outcome))


def report_diagnostics(report: Report, plan_file: str, command: str) -> list[Diagnostic]:
    """What went wrong, one diagnostic a kind. `command` is what the user typed to get here."""
    total = len(report.results)
    found = []
    if report.gate is not None:
        found.append(gate_diagnostic(report.gate, plan_file, command, report.rolled_back))
    if stale := report.of(Outcome.STALE):
        found.append(
            Diagnostic(
                "plan-stale",
                f"{len(stale)} of {total} resources changed after this plan was made; they were left alone"
                + _names(stale),
                plan_file,
                "run `imdsctl scan` and `imdsctl plan -o FILE` again, then apply the new file",
            )
        )
    if unsafe := report.of(Outcome.UNSAFE):
        found.append(
            Diagnostic(
                "enforcement-unsafe",
                f"enforcement was not enabled in {counted(len(unsafe), 'Region')}: launches there would or may fail"
                + _names(unsafe),
                plan_file,
                "run `imdsctl scan` and `imdsctl plan -o FILE` again, then apply the new file; once these are right, "
                f"or can be read, `{command}` looks again and goes on",
            )
        )
    found += _refused(report, CHANGES, plan_file, command)
    held = report.of(Outcome.HELD_BACK)
    if held and report.gate is None:
        found.append(
            Diagnostic(
                "apply-held-back",
                f"{len(held)} of {total} changes were not begun because of the above",
                plan_file,
                "`--keep-going` holds back only the accounts' Regions in which something went wrong",
            )
        )
    if report.rolled_back is not None:
        found += rollback_diagnostics(report.rolled_back, plan_file, command)
    return found


def rollback_diagnostics(report: Report, plan_file: str, command: str) -> list[Diagnostic]:
    """What could not be put back, one diagnostic a kind."""
    total = len(report.results)
    found = []
    if stale := report.of(Outcome.STALE):
        found.append(
            Diagnostic(
                "rollback-stale",
                f"{len(stale)} of {total} resources were changed by somebody else since; they were left alone"
                + _names(stale),
                plan_file,
                "look at each of them; its recorded values are in the journal",
            )
        )
    if irreversible := report.of(Outcome.IRREVERSIBLE):
        found.append(
            Diagnostic(
                "cannot-restore",
                f"{len(irreversible)} of {total} changes have no way back in AWS" + _names(irreversible),
                plan_file,
                "the reason says what can be done instead",
            )
        )
    return found + _refused(report, "rollbacks", plan_file, command)


def _refused(report: Report, what: str, plan_file: str, command: str) -> list[Diagnostic]:
    total = len(report.results)
    found = []
    if failed := report.of(Outcome.FAILED):
        why = f"{len(failed)} of {total} {what} were refused or could not be asked for" + _names(failed)
        hint = f"see to the reason, then run `{command}` again: it goes on from its journal"
        if any(result.code in DENIED for result in failed):
            hint += "; `imdsctl iam-policy write` prints what the role has to be allowed, which an SCP may deny"
        found.append(
            Diagnostic("apply-failed", why, plan_file, hint)
            if what == CHANGES
            else Diagnostic("rollback-failed", why, plan_file, hint)
        )
    if doubt := report.of(Outcome.IN_DOUBT):
        found.append(
            Diagnostic(
                "apply-in-doubt",
                f"the end of {len(doubt)} of {total} {what} was not seen" + _names(doubt),
                plan_file,
                f"run `{command}` again: it reads them back from AWS before anything else",
            )
        )
    return found


def gate_diagnostic(gate: GateReport, plan_file: str, command: str, rolled_back: Report | None = None) -> Diagnostic:
    """Which gate did not let which wave pass, by which figures, and what to do next."""
    lines = [f"\n  {each.target}/{each.instance_id}: {figure_text(each)}" for each in gate.instances]
    more = len(lines) - LISTED_MAX
    listed = "".join(lines[:LISTED_MAX]) + (f"\n  and {more} more" if more > 0 else "")
    wave = shown(gate.wave)
    summary = f"wave `{wave}`, {gate.gate}: {gate.detail}{listed}"
    if gate.verdict is GateVerdict.CLOSED:
        again = f"{command} --approve {shlex.quote(gate.wave)}" if gate.opens is None else command
        waits = "" if gate.opens is None else "; `--wait` waits for it"
        return Diagnostic("gate-closed", summary, plan_file, f"nothing is wrong: run `{again}` then{waits}")
    if gate.verdict is GateVerdict.UNKNOWN:
        hint = (
            'see why there are no figures, or let unknown evidence pass (`unknown-evidence = "allow"` for this wave) '
            f"and plan again; `{command}` asks again"
        )
        return Diagnostic("gate-unknown", summary, plan_file, hint)
    hint = "move the workload to IMDSv2, or register an exception (`[[exception]]` in the intent), and "
    if rolled_back is not None:
        hint += "run `imdsctl scan` and `imdsctl plan -o FILE` with another FILE: this plan is not applied again"
        if rolled_back.count(Outcome.BUT_LATEST):
            again = shlex.join(["imdsctl", "rollback", plan_file, "--wave", gate.wave, "--delete-versions"])
            hint += f"; `{again}` takes away the versions that are $Latest now"
    else:
        hint += f"plan again into another file; `{command}` asks again"
    return Diagnostic("gate-failed", summary, plan_file, hint)


def _names(results: Iterable[Result]) -> str:
    lines = [f"\n  {result_text(result)}" for result in results]
    more = len(lines) - LISTED_MAX
    return "".join(lines[:LISTED_MAX]) + (f"\n  and {more} more" if more > 0 else "")
