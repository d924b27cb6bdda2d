"""Takes an intent's document apart and collects everything that is wrong in it, instead of stopping at the first."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime, timedelta
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, TypeVar

from imdsctl.domain.diagnostics import Diagnostic
from imdsctl.domain.intent_match import MATCH_KEYS, Match
from imdsctl.domain.intent_parts import Exemption, Scope, WaveRule
from imdsctl.domain.intent_settings import HOP_AT_LEAST, HOP_EXACTLY, SETTINGS, TOP, Said
from imdsctl.domain.toml_text import KeyPath
from imdsctl.domain.waves import DURATION_UNITS, UNASSIGNED, Gates, OnFailure, OnUnknown, PlannedWave
from imdsctl.domain.windows import WINDOW_EXAMPLE, parse_window

E = TypeVar("E", bound=StrEnum)
WAVE_KEYS = (
    "name",
    "match",
    "no-v1-calls",
    "unknown-evidence",
    "approval",
    "soak",
    "rejected-calls-max",
    "windows",
    "on-failure",
)
EXEMPTION_KEYS = ("match", "owner", "reason", "expires")
SCOPE_KEYS = ("match", "enforce", *(table for table in SETTINGS if table != TOP))
DURATION = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")
DURATION_EXAMPLE = '"14d", "2h" or "90m"'
LOOK_BACK_MAX = timedelta(days=455)
"""CloudWatch keeps hourly datapoints for 455 days (CloudWatch User Guide, "Metrics retention")."""
_SUGGESTIONS_CUTOFF = 0.6


class Reader:
    """One pass over one document. `place` turns a key's path into a subject; `problems` is what was wrong."""

    def __init__(self, place: Callable[[KeyPath], str]) -> None:
        self.place = place
        self.problems: list[Diagnostic] = []

    def problem(self, path: KeyPath, summary: str, hint: str) -> None:
        """Note something that is wrong."""
        self.problems.append(Diagnostic("intent-invalid", summary, self.place(path), hint))

    def known(self, table: Mapping[str, Any], path: KeyPath, keys: Iterable[str]) -> None:
        """Every key of a table has to be one of these."""
        keys = tuple(keys)
        for key in table:
            if key not in keys:
                close = get_close_matches(key, keys, 1, _SUGGESTIONS_CUTOFF)
                meant = f"did you mean `{close[0]}`? " if close else ""
                self.problem((*path, key), f"`{key}` is not known here", f"{meant}known: {', '.join(keys)}")

    def table(self, value: Any, path: KeyPath) -> Mapping[str, Any]:
        """The value as a table; an empty one, with a problem, when it is none."""
        if isinstance(value, Mapping):
            return value
        name = ".".join(str(key) for key in path)
        self.problem(path, f"`{name}` has to be a table", f"write `[{name}]` on its own line")
        return {}

    def tables(self, top: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
        """An array of tables, an element each; what is none is left out, with a problem."""
        value = top.get(name, [])
        if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
            self.problem((name,), f"`{name}` has to be a list of tables", f"begin each with `[[{name}]]`")
            return []
        return value

    def said(self, table: Mapping[str, Any], path: KeyPath) -> tuple[Said, ...]:
        """All settings of a document, or of a scope."""
        found: list[Said] = []
        for name, settings in SETTINGS.items():
            if name == TOP:
                inside, where = {key: table[key] for key in settings if key in table}, path
            elif name in table:
                where = (*path, name)
                inside = dict(self.table(table[name], where))
                self.known(inside, where, settings)
            else:
                continue
            for key, setting in settings.items():
                if key not in inside:
                    continue
                try:
                    found.append((name, key, setting.kind.read(inside[key])))
                except ValueError:
                    self.problem((*where, key), f"`{key}` is `{inside[key]}`", setting.kind.allowed)
            if HOP_AT_LEAST in inside and HOP_EXACTLY in inside:
                self.problem((*where, HOP_EXACTLY), f"`{HOP_AT_LEAST}` and `{HOP_EXACTLY}` both say it", "keep one")
        return tuple(found)

    def scope(self, table: Mapping[str, Any], path: KeyPath) -> Scope:
        """One `[[scope]]`."""
        self.known(table, path, SCOPE_KEYS)
        said = self.said(table, path)
        match = self.match(table, path)
        if match.narrow and (wide := [name or "enforce" for name, _, _ in said if name in (TOP, "region-defaults")]):
            summary = f"`{wide[0]}` is about a whole Region, and this scope picks single resources"
            self.problem((*path, wide[0]), summary, "match by `ou`, `account` or `region` instead")
        return Scope(match, said, self.place(path))

    def wave(self, table: Mapping[str, Any], path: KeyPath) -> WaveRule:
        """One `[[wave]]`."""
        self.known(table, path, WAVE_KEYS)
        name = self.text(table, path, "name", 'waves need a name, such as `name = "sandbox"`')
        if name == UNASSIGNED:
            self.problem((*path, "name"), f"`{name}` means what is in no wave", "choose another name")
        rejected = table.get("rejected-calls-max")
        if rejected is not None and (type(rejected) is not int or rejected < 0):
            self.problem((*path, "rejected-calls-max"), f"`rejected-calls-max` is `{rejected}`", "use 0 or more")
            rejected = None
        gates = Gates(
            no_v1_calls=self.duration(table, path, "no-v1-calls", LOOK_BACK_MAX),
            unknown_evidence=self.word(table, path, "unknown-evidence", OnUnknown.STOP),
            approval=self.flag(table, path, "approval"),
            windows=self.windows(table, path),
            soak=self.duration(table, path, "soak", LOOK_BACK_MAX) or timedelta(0),
            rejected_calls_max=rejected,
        )
        if rejected is not None and not gates.soak:
            self.problem(
                (*path, "rejected-calls-max"),
                "`rejected-calls-max` counts during the soak, and this wave has none",
                'add `soak = "1h"` to it',
            )
        on_failure = self.word(table, path, "on-failure", OnFailure.STOP)
        return WaveRule(PlannedWave(name, gates, on_failure), self.match(table, path), self.place(path))

    def exemption(self, table: Mapping[str, Any], path: KeyPath, *, with_place: bool) -> Exemption:
        """One `[[exception]]`. `with_place`: it says itself where it stood (the copy of the intent inside a plan)."""
        self.known(table, path, (*EXEMPTION_KEYS, "place") if with_place else EXEMPTION_KEYS)
        match = self.match(table, path)
        if not any(getattr(match, name) for name in MATCH_KEYS):
            hint = 'say which, like `match = { resource = "i-0123456789abcdef0" }`'
            self.problem((*path, "match"), "an exception without `match` would except everything", hint)
        return Exemption(
            match,
            self.text(table, path, "owner", "name who answers for it"),
            self.text(table, path, "reason", "say why it cannot change yet"),
            self.day(table, path, "expires"),
            str(table["place"]) if with_place and "place" in table else self.place(path),
        )

    def match(self, table: Mapping[str, Any], path: KeyPath) -> Match:
        """The `match` of a scope, a wave or an exception; everything when there is none."""
        where = (*path, "match")
        inside = self.table(table.get("match", {}), where)
        self.known(inside, where, MATCH_KEYS)
        return Match(**{key: self.globs(inside[key], (*where, key)) for key in MATCH_KEYS if key in inside})

    def globs(self, value: Any, path: KeyPath) -> tuple[str, ...]:
        """One text, or a list of some."""
        texts = [value] if isinstance(value, str) else value
        if isinstance(texts, list) and texts and all(isinstance(each, str) and each for each in texts):
            return tuple(texts)
        self.problem(path, f"`{path[-1]}` is `{value}`", "use a text in quotes, or a list of some; `*` stands for any")
        return ()

    def text(self, table: Mapping[str, Any], path: KeyPath, key: str, hint: str) -> str:
        """A text that must be there and must not be empty."""
        value = table.get(key)
        if isinstance(value, str) and value.strip():
            return value
        summary = f"`{key}` is missing" if value is None else f"`{key}` is `{value}`"
        self.problem((*path, key), summary, hint)
        return ""

    def word(self, table: Mapping[str, Any], path: KeyPath, key: str, built_in: E) -> E:
        """One of an enumeration's words."""
        value = table.get(key, str(built_in))
        if isinstance(value, str) and value in tuple(type(built_in)):
            return type(built_in)(value)
        words = " or ".join(f'"{each}"' for each in type(built_in))
        self.problem((*path, key), f"`{key}` is `{value}`", f"use {words}")
        return built_in

    def flag(self, table: Mapping[str, Any], path: KeyPath, key: str) -> bool:
        """true or false; absent is false."""
        value = table.get(key, False)
        if isinstance(value, bool):
            return value
        self.problem((*path, key), f"`{key}` is `{value}`", "use true or false, without quotes")
        return False

    def duration(self, table: Mapping[str, Any], path: KeyPath, key: str, longest: timedelta) -> timedelta | None:
        """`14d`, `2h30m`; absent is None."""
        value = table.get(key)
        if value is None:
            return None
        found = DURATION.fullmatch(value) if isinstance(value, str) and value else None
        if found is not None:
            units = zip(found.groups(), DURATION_UNITS.values(), strict=True)
            seconds = sum(int(count) * length for count, length in units if count)
            if seconds <= longest.total_seconds():
                return timedelta(seconds=seconds)
        hint = f"use {DURATION_EXAMPLE}; at most {longest.days}d"
        self.problem((*path, key), f"`{key}` is `{value}`", hint)
        return None

    def windows(self, table: Mapping[str, Any], path: KeyPath) -> tuple[str, ...]:
        """Maintenance windows, checked, as written."""
        value = table.get("windows", [])
        where = (*path, "windows")
        if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
            self.problem(where, "`windows` has to be a list of texts", f'use ["{WINDOW_EXAMPLE}"]')
            return ()
        for each in value:
            try:
                parse_window(each)
            except ValueError as error:
                self.problem(where, f"the window `{each}` is not valid", str(error))
        return tuple(value)

    def day(self, table: Mapping[str, Any], path: KeyPath, key: str) -> date:
        """A date, with or without quotes."""
        value = table.get(key)
        if isinstance(value, date) and not isinstance(value, datetime):
            return value
        try:
            return date.fromisoformat(value)  # type: ignore[arg-type]
        except (TypeError, ValueError):
            summary = f"`{key}` is missing" if value is None else f"`{key}` is `{value}`"
            self.problem((*path, key), summary, "give the last day on which it holds, such as 2027-03-31")
            return date.min

    def names(self, table: Mapping[str, Any], path: KeyPath, form: re.Pattern[str], example: str) -> frozenset[str]:
        """A list of names that have a form."""
        value = table.get(str(path[-1]), [])
        if not isinstance(value, list):
            self.problem(path, f"`{path[-1]}` has to be a list", f"use [...] with {example}")
            return frozenset()
        for each in value:
            if not isinstance(each, str) or not form.fullmatch(each):
                self.problem(path, f"`{each}` in `{path[-1]}` is not valid", f"use {example}")
        return frozenset(each for each in value if isinstance(each, str))
