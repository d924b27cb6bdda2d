"""The memory of an apply: entries in, what is known out. Every crash point is one fold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError

JOURNAL_FORMAT = "imdsctl-journal"
JOURNAL_FORMAT_VERSION = 1


@dataclass(frozen=True, slots=True)
class Began:
    """About to call AWS. `old` is all that the resource said a moment before: what a rollback writes back."""

    change: str
    old: Mapping[str, Any]
    at: str = ""


@dataclass(frozen=True, slots=True)
class Applied:
    """AWS was read and says what the plan wants. `now` is what it said; without a `Began` it was so already."""

    change: str
    now: Mapping[str, Any]
    at: str = ""


@dataclass(frozen=True, slots=True)
class Failed:
    """AWS refused, with this code and message. (An answer that did not arrive is no refusal: it stays in doubt.)"""

    change: str
    code: str
    message: str
    at: str = ""


Entry = Began | Applied | Failed


@dataclass(frozen=True, slots=True)
class Progress:
    """What a journal says of each change, by id. A change in none of the three was not begun."""

    done: frozenset[str] = frozenset()
    in_doubt: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()
    old: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Per change, what the resource said before it was first begun."""


def replay(entries: Iterable[Entry]) -> Progress:
    """Fold a journal, oldest entry first, into what is known."""
    done: set[str] = set()
    in_doubt: set[str] = set()
    failed: set[str] = set()
    old: dict[str, Mapping[str, Any]] = {}
    for entry in entries:
        match entry:
            case Began(change):
                old.setdefault(change, entry.old)
                in_doubt.add(change)
                failed.discard(change)
            case Applied(change):
                done.add(change)
                in_doubt.discard(change)
                failed.discard(change)
            case Failed(change):
                failed.add(change)
                in_doubt.discard(change)
    return Progress(frozenset(done), frozenset(in_doubt), frozenset(failed), old)


def header_to_plain(plan_digest: str, at: str) -> dict[str, Any]:
    """A journal's first line: which plan it belongs to."""
    return {
        "format": JOURNAL_FORMAT,
        "format_version": JOURNAL_FORMAT_VERSION,
        "plan_digest": plan_digest,
        "at": at,
    }


def check_header(value: Any, plan_digest: str) -> None:
    """Raises DiagnosticError `journal-damaged` or `journal-mismatch` unless this heads that plan's journal."""
    if not isinstance(value, Mapping) or value.get("format") != JOURNAL_FORMAT:
        raise damaged("its first line is not the header of a journal", 1)
    if value.get("format_version") != JOURNAL_FORMAT_VERSION:
        raise damaged(f"format_version `{value.get('format_version')}` is not known", 1)
    if value.get("plan_digest") != plan_digest:
        raise DiagnosticError(
            Diagnostic(
                "journal-mismatch",
                "this journal belongs to another plan",
                hint="name another file with `--journal`, or apply the plan that it belongs to",
            )
        )


def entry_to_plain(entry: Entry) -> dict[str, Any]:
    """An entry as JSON values."""
    match entry:
        case Began(change, old, at):
            return {"entry": "began", "change": change, "old": dict(old), "at": at}
        case Applied(change, now, at):
            return {"entry": "applied", "change": change, "now": dict(now), "at": at}
        case Failed(change, code, message, at):
            return {"entry": "failed", "change": change, "code": code, "message": message, "at": at}


def entry_from_plain(value: Any, line: int) -> Entry:
    """JSON values to an entry. Raises DiagnosticError `journal-damaged`."""
    try:
        match value["entry"]:
            case "began":
                return Began(str(value["change"]), dict(value["old"]), str(value["at"]))
            case "applied":
                return Applied(str(value["change"]), dict(value["now"]), str(value["at"]))
            case "failed":
                return Failed(str(value["change"]), str(value["code"]), str(value["message"]), str(value["at"]))
    except (KeyError, TypeError, ValueError):
        pass
    raise damaged("a line is not an entry", line)


def damaged(why: str, line: int) -> DiagnosticError:
    """The diagnostic for a journal that cannot be trusted; the caller adds the file."""
    return DiagnosticError(
        Diagnostic(
            "journal-damaged",
            f"line {line}: {why}",
            hint="keep the file for its old values; make a new plan, whose journal starts afresh",
        )
    )
