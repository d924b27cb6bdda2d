"""TOML that a person wrote: what is wrong in it, and on which line."""

from __future__ import annotations

import re
import tomllib
from typing import Any

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError


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


_HEADER = re.compile(r"^\s*\[\[?\s*([^\[\]]+?)\s*\]")
_KEY = re.compile(r"""^\s*(?:"([^"]*)"|'([^']*)'|([A-Za-z0-9_-]+))\s*=""")


def place(text: str, name: str, path: tuple[str, ...]) -> str:
    """`name:line` of a key, or of its table; tomllib keeps no positions, so the lines are looked through once more."""
    table: tuple[str, ...] = ()
    for number, line in enumerate(text.splitlines(), 1):
        if header := _HEADER.match(line):
            table = tuple(part.strip().strip("\"'") for part in header.group(1).split("."))
            if path == table:
                return f"{name}:{number}"
        elif (key := _KEY.match(line)) and path == (*table, next(part for part in key.groups() if part is not None)):
            return f"{name}:{number}"
    return name
