"""TOML that a person wrote: what is wrong in it, and on which line."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError

KeyPath = tuple[str | int, ...]
"""Keys from the top; a number is the place in an array of tables, from 0."""


def parse_toml(text: str, name: str, code: str, hint: str) -> dict[str, Any]:
    """A TOML document. Raises DiagnosticError (exit code 2) with `code` and the line when it is none."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r"^(.*?)\s*\(at (?:line (\d+), column \d+|end of document)\)$", str(error))
        what, line = found.groups() if found else (str(error), None)
        line = line or str(len(text.splitlines()) or 1)
        what = what[:1].lower() + what[1:]
        raise DiagnosticError(Diagnostic(code, f"not TOML: {what}", f"{name}:{line}", hint), exit_code=2) from None
    except RecursionError:
        raise DiagnosticError(Diagnostic(code, "brackets are nested too deep", name, hint), exit_code=2) from None


_PART = r"""(?:"[^"]*"|'[^']*'|[A-Za-z0-9_-]+)"""
_DOTTED = rf"{_PART}(?:\s*\.\s*{_PART})*"
_HEADER = re.compile(rf"^\s*(\[\[?)\s*({_DOTTED})\s*\]")
_KEY = re.compile(rf"^\s*({_DOTTED})\s*=")
_PARTS = re.compile(_PART)


def place(text: str, name: str, path: KeyPath) -> str:
    """`name:line` of a key, or of the nearest thing around it that has a line of its own; `name` when there is none.

    tomllib keeps no positions, so the lines are looked through once more.
    """
    lines = positions(text)
    for length in range(len(path), 0, -1):
        if line := lines.get(path[:length]):
            return f"{name}:{line}"
    return name


def positions(text: str) -> dict[KeyPath, int]:
    """The line, from 1, on which each key and table of a document first stands."""
    found: dict[KeyPath, int] = {}
    arrays: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = _inside(arrays, _keys(header.group(2)))
            if header.group(1) == "[[":
                arrays[table] = arrays.get(table, -1) + 1
                found.setdefault(table, number)
                table = (*table, arrays[table])
            found.setdefault(table, number)
        elif key := _KEY.match(line):
            path = (*table, *_keys(key.group(1)))
            for length in range(len(table) + 1, len(path) + 1):
                found.setdefault(path[:length], number)
    return found


def _keys(dotted: str) -> KeyPath:
    return tuple(part.strip("\"'") for part in _PARTS.findall(dotted))


def _inside(arrays: dict[KeyPath, int], keys: KeyPath) -> KeyPath:
    """A header's keys, where those before the last that are arrays of tables mean the latest element of each."""
    path: KeyPath = ()
    for key in keys[:-1]:
        path = (*path, key)
        if path in arrays:
            path = (*path, arrays[path])
    return (*path, keys[-1])
