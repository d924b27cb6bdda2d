"""What a program asked of the metadata service: a table for a person, an object for a program. No decisions here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from imdsctl import __version__
from imdsctl.domain.json_text import json_bytes
from imdsctl.domain.readiness import REFUSED, TOKENS, V1, V2, Caller, Readiness, Usage, Use, Verdict, Why
from imdsctl.views.diagnostics import painted
from imdsctl.views.json import FORMAT_VERSION
from imdsctl.views.text import table_text

COMMAND_CHARACTERS_MAX = 100
_COLOURS = {Readiness.READY: "green", Readiness.NOT_READY: "red", Readiness.UNPROVEN: "yellow"}


@dataclass(frozen=True, slots=True)
class Report:
    """A run that is over. `http_tokens` and `hop_limit` are the instance's options; `code` is the program's."""

    command: Sequence[str]
    code: int
    instance_id: str
    http_tokens: str
    hop_limit: int
    hops: int
    namespaces: bool
    usages: Sequence[Usage]
    verdict: Verdict


def run_text(report: Report, *, colour: bool = False) -> str:
    """The table of callers, then the verdict with its reasons and the next step."""
    parts = [_table(report.usages, colour), "\n".join(_verdict(report, colour))]
    return "\n\n".join(part for part in parts if part)


def _table(usages: Sequence[Usage], colour: bool) -> str:
    rows = [["PROGRAM", "IMDSv1", "IMDSv2", "TOKENS", "REFUSED", "TIMED OUT", "PROCESSES", "CONTAINER", "PATHS"]]
    details = {}
    for usage in usages:
        if len(usage.caller.command) > len(usage.caller.name):
            details[len(rows)] = _shortened(usage.caller.command)
        v1 = usage.count(V1)
        lost = usage.uses[Use.TOKEN_LOST]
        rows.append(
            [
                name_of(usage.caller),
                painted(f"{v1:,}", "red", colour) if v1 else "-",
                f"{usage.count(V2):,}" if usage.count(V2) else "-",
                f"{usage.count(TOKENS):,}" if usage.count(TOKENS) else "-",
                f"{usage.count(REFUSED):,}" if usage.count(REFUSED) else "-",
                painted(f"{lost:,}", "yellow", colour) if lost else "-",
                f"{len(usage.pids):,}" if usage.pids else "-",
                usage.caller.container or "-",
                _paths(usage),
            ]
        )
    if len(rows) == 1:
        return ""
    lines = table_text(rows).split("\n")
    out = [painted(lines[0], "dim", colour)]
    for number, line in enumerate(lines[1:], 1):
        out.append(line)
        if number in details:
            out.append(painted(f"      {details[number]}", "dim", colour))
    return "\n".join(out)


def name_of(caller: Caller) -> str:
    """How a caller is called in a sentence."""
    return caller.name or "(not attributed)"


def _paths(usage: Usage) -> str:
    first, last = _printable(usage.first_path), _printable(usage.last_path)
    return first if first == last else f"{first} … {last}"


def _printable(path: str) -> str:
    return _shortened("".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in path))


def _shortened(text: str) -> str:
    return text if len(text) <= COMMAND_CHARACTERS_MAX else text[: COMMAND_CHARACTERS_MAX - 1] + "…"


def _verdict(report: Report, colour: bool) -> list[str]:
    verdict = report.verdict
    limit = "" if verdict.hop_limit is None else f", hop limit {verdict.hop_limit}"
    words = {
        Readiness.READY: f"ready for required{limit}",
        Readiness.NOT_READY: "not ready for required",
        Readiness.UNPROVEN: "not proven",
    }[verdict.readiness]
    lines = [painted(words, _COLOURS[verdict.readiness], colour)]
    lines += [f"  {_reason(reason.why, name_of(reason.caller), reason.calls, report)}" for reason in verdict.reasons]
    if verdict.readiness is Readiness.READY and verdict.hop_limit is None:
        lines.append("  which hop limit it needs cannot be told from here")
    if verdict.readiness is Readiness.READY and report.http_tokens != "required":
        lines.append("  to see it run so: the same command with `--http-tokens required`")
    return lines


def _reason(why: Why, name: str, calls: int, report: Report) -> str:
    times = "once" if calls == 1 else f"{calls:,} times"
    limit = report.verdict.hop_limit
    raised = f"try `--hop-limit {limit}`" if limit is not None else "try a larger --hop-limit"
    if why is Why.NO_CALLS:
        return "nothing asked for metadata with a token or without: what did not run was not seen"
    return {
        Why.V1_ONLY: f"{name} used IMDSv1 {times} and never asked for a token: no hop limit helps, it needs an update",
        Why.V1_BESIDE_LOST: f"{name} used IMDSv1 {times} after a token of another program ended on its way; {raised}",
        Why.FELL_BACK: f"{name} fell back to IMDSv1 {times}: its token ended at hop limit {report.hop_limit}; {raised}",
        Why.TOKEN_REFUSED: f"{name} fell back to IMDSv1 {times}: its request for a token was refused",
        Why.V1_BESIDE_V2: f"{name} used IMDSv1 {times} although it had a token: a part of it needs an update",
        Why.TOKEN_LOST: f"{name} asked for a token {times} that ended at hop limit {report.hop_limit}; {raised}",
    }[why]


def run_json(report: Report) -> str:
    """One object on one line."""
    return json_bytes(run_object(report)).decode() + "\n"


def run_object(report: Report) -> dict[str, Any]:
    """What `--json` and `--report` hold."""
    verdict = report.verdict
    return {
        "format_version": FORMAT_VERSION,
        "imdsctl": __version__,
        "command": list(report.command),
        "exit_code": report.code,
        "instance": report.instance_id,
        "options": {"HttpTokens": report.http_tokens, "HttpPutResponseHopLimit": report.hop_limit},
        "hops": report.hops,
        "namespaces": report.namespaces,
        "callers": [_caller(usage) for usage in report.usages],
        "verdict": {
            "readiness": str(verdict.readiness),
            "hop_limit": verdict.hop_limit,
            "reasons": [
                {"why": str(reason.why), "program": reason.caller.name or None, "calls": reason.calls}
                for reason in verdict.reasons
            ],
        },
    }


def _caller(usage: Usage) -> dict[str, Any]:
    return {
        "program": usage.caller.name or None,
        "command": usage.caller.command or None,
        "container": usage.caller.container or None,
        "processes": sorted(usage.pids),
        "calls": {str(use): usage.uses[use] for use in Use if usage.uses[use]},
        "imdsv1": usage.count(V1),
        "imdsv2": usage.count(V2),
        "tokens": usage.count(TOKENS),
        "refused": usage.count(REFUSED),
        "timed_out": usage.uses[Use.TOKEN_LOST],
        "routers": usage.routers,
        "first_path": usage.first_path,
        "last_path": usage.last_path,
    }
