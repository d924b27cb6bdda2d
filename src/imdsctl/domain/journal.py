"""The memory of an apply and of its rollback: entries in, what is known out. Every crash point is one fold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, TypeAlias

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError

JOURNAL_FORMAT = "imdsctl-journal"
JOURNAL_FORMAT_VERSION = 2


@dataclass(frozen=True, slots=True)
class RunBegan:
    """Somebody works with the plan from here on: `command` is `apply` or `rollback`."""

    command: str
    by: str
    """The caller's ARN, from STS."""
    host: str
    """Machine and process."""
    fencing: int | None = None
    """The number of the lease across machines; None without a shared database."""
    at: str = ""


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


@dataclass(frozen=True, slots=True)
class WaveBegan:
    """The gates before a wave let it begin."""

    wave: str
    at: str = ""


@dataclass(frozen=True, slots=True)
class GateChecked:
    """What a gate said: `passed`, `failed`, `closed` or `unknown`, and by which figures."""

    wave: str
    gate: str
    verdict: str
    detail: str = ""
    at: str = ""


@dataclass(frozen=True, slots=True)
class Approved:
    """Somebody said yes to a wave: the caller's ARN, the user of the machine, and how (`--approve` or `typed`)."""

    wave: str
    by: str
    user: str
    how: str
    at: str = ""


@dataclass(frozen=True, slots=True)
class SoakBegan:
    """All of a wave is done; until then it is watched, and what it did counts since then (ISO 8601, UTC)."""

    wave: str
    since: str
    until: str
    at: str = ""


@dataclass(frozen=True, slots=True)
class SoakFailed:
    """What was watched went wrong. A later `SoakBegan` counts from its own beginning."""

    wave: str
    detail: str = ""
    at: str = ""


@dataclass(frozen=True, slots=True)
class WaveEnded:
    """A wave is done and has passed its gates."""

    wave: str
    at: str = ""


@dataclass(frozen=True, slots=True)
class WaveRollbackBegan:
    """A wave is being rolled back because a gate after it failed."""

    wave: str
    at: str = ""


@dataclass(frozen=True, slots=True)
class WaveRollbackEnded:
    """All of a wave that could be rolled back is."""

    wave: str
    at: str = ""


@dataclass(frozen=True, slots=True)
class RollbackBegan:
    """About to write the old values back. `now` is all that the resource said a moment before."""

    change: str
    now: Mapping[str, Any]
    at: str = ""


@dataclass(frozen=True, slots=True)
class RolledBack:
    """AWS was read and says the old values again."""

    change: str
    now: Mapping[str, Any]
    at: str = ""


@dataclass(frozen=True, slots=True)
class RollbackFailed:
    """AWS refused to take the old values."""

    change: str
    code: str
    message: str
    at: str = ""


Entry: TypeAlias = (
    RunBegan
    | Began
    | Applied
    | Failed
    | WaveBegan
    | GateChecked
    | Approved
    | SoakBegan
    | SoakFailed
    | WaveEnded
    | WaveRollbackBegan
    | WaveRollbackEnded
    | RollbackBegan
    | RolledBack
    | RollbackFailed
)

_KINDS: Mapping[str, type[Entry]] = {
    "run": RunBegan,
    "began": Began,
    "applied": Applied,
    "failed": Failed,
    "wave-began": WaveBegan,
    "gate": GateChecked,
    "approved": Approved,
    "soak-began": SoakBegan,
    "soak-failed": SoakFailed,
    "wave-ended": WaveEnded,
    "wave-rollback-began": WaveRollbackBegan,
    "wave-rollback-ended": WaveRollbackEnded,
    "rollback-began": RollbackBegan,
    "rolled-back": RolledBack,
    "rollback-failed": RollbackFailed,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}


@dataclass(frozen=True, slots=True)
class WaveProgress:
    """What a journal says of one wave."""

    began: str = ""
    """When it first began; empty when it did not."""
    approved: bool = False
    soak_since: str = ""
    soak_until: str = ""
    """The soak under way; both empty when there is none."""
    soaks_failed: int = 0
    ended: bool = False
    rollback_began: bool = False
    rollback_ended: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """What a journal says of each change, by id. A change in none of the sets was not begun."""

    done: Set[str] = frozenset()
    in_doubt: Set[str] = frozenset()
    failed: Set[str] = frozenset()
    old: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Per change, what the resource said before it was first begun."""
    begun: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Per change, what the resource said before it was begun last."""
    now: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Per change, what the resource said when it was applied."""
    done_at: Mapping[str, str] = field(default_factory=dict)
    """Per change, when it was begun, or applied, last."""
    rolled_back: Set[str] = frozenset()
    """The old values are there again; in `done` no longer."""
    rollback_in_doubt: Set[str] = frozenset()
    waves: Mapping[str, WaveProgress] = field(default_factory=dict)
    runs: Sequence[RunBegan] = field(default_factory=list)
    """Everybody who worked with the plan, in order."""

    def wave(self, name: str) -> WaveProgress:
        """What is known of a wave."""
        return self.waves.get(name, WaveProgress())


def replay(entries: Iterable[Entry]) -> Progress:
    """Fold a journal, oldest entry first, into what is known."""
    fold = Fold()
    for entry in entries:
        fold.add(entry)
    return fold.progress


class Fold:
    """A journal as it grows. `progress` is what is known by now, without a copy: it goes along with every entry."""

    def __init__(self) -> None:
        self._done: set[str] = set()
        self._in_doubt: set[str] = set()
        self._failed: set[str] = set()
        self._old: dict[str, Mapping[str, Any]] = {}
        self._begun: dict[str, Mapping[str, Any]] = {}
        self._now: dict[str, Mapping[str, Any]] = {}
        self._done_at: dict[str, str] = {}
        self._rolled_back: set[str] = set()
        self._rollback_in_doubt: set[str] = set()
        self._waves: dict[str, WaveProgress] = {}
        self._runs: list[RunBegan] = []
        self.progress = Progress(
            self._done,
            self._in_doubt,
            self._failed,
            self._old,
            self._begun,
            self._now,
            self._done_at,
            self._rolled_back,
            self._rollback_in_doubt,
            self._waves,
            self._runs,
        )

    def add(self, entry: Entry) -> None:
        """The next entry."""
        match entry:
            case Began(change):
                self._old.setdefault(change, entry.old)
                self._begun[change] = entry.old
                self._done_at[change] = entry.at
                self._in_doubt.add(change)
                self._failed.discard(change)
            case Applied(change):
                self._now[change] = entry.now
                self._done_at[change] = entry.at
                self._done.add(change)
                self._in_doubt.discard(change)
                self._failed.discard(change)
            case Failed(change):
                self._failed.add(change)
                self._in_doubt.discard(change)
            case RollbackBegan(change):
                self._rollback_in_doubt.add(change)
            case RolledBack(change):
                self._rolled_back.add(change)
                for states in (self._done, self._in_doubt, self._failed, self._rollback_in_doubt):
                    states.discard(change)
            case RollbackFailed(change):
                self._rollback_in_doubt.discard(change)
            case RunBegan():
                self._runs.append(entry)
            case GateChecked():
                pass
            case _:
                self._wave(entry)

    def _wave(self, entry: Entry) -> None:
        match entry:
            case WaveBegan(wave):
                self._change(wave, began=self._waves.get(wave, WaveProgress()).began or entry.at)
            case Approved(wave):
                self._change(wave, approved=True)
            case SoakBegan(wave):
                self._change(wave, soak_since=entry.since, soak_until=entry.until)
            case SoakFailed(wave):
                failed = self._waves.get(wave, WaveProgress()).soaks_failed + 1
                self._change(wave, soak_since="", soak_until="", soaks_failed=failed)
            case WaveEnded(wave):
                self._change(wave, ended=True, soak_since="", soak_until="")
            case WaveRollbackBegan(wave):
                self._change(wave, rollback_began=True)
            case WaveRollbackEnded(wave):
                self._change(wave, rollback_ended=True)

    def _change(self, wave: str, **changes: Any) -> None:
        self._waves[wave] = replace(self._waves.get(wave, WaveProgress()), **changes)


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
    return {"entry": _NAMES[type(entry)], **asdict(entry)}


def entry_from_plain(value: Any, line: int) -> Entry:
    """JSON values to an entry. Raises DiagnosticError `journal-damaged`."""
    try:
        kind = _KINDS[value["entry"]]
        return kind(**{each.name: _member(value[each.name], str(each.type)) for each in fields(kind)})
    except (KeyError, TypeError, ValueError):
        raise damaged("a line is not an entry", line) from None


def _member(value: Any, kind: str) -> Any:
    if kind == "str" and not isinstance(value, str):
        raise TypeError(kind)
    if kind.startswith("int") and not (value is None or isinstance(value, int)):
        raise TypeError(kind)
    return dict(value) if kind.startswith("Mapping") else value


def damaged(why: str, line: int) -> DiagnosticError:
    """The diagnostic for a journal that cannot be trusted; the caller adds the file."""
    return DiagnosticError(
        Diagnostic(
            "journal-damaged",
            f"line {line}: {why}",
            hint="keep the file for its old values; make a new plan, whose journal starts afresh",
        )
    )
