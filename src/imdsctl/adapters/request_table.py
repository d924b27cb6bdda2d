"""A table of requests to simulate: CSV with a column for each member, or a JSON list (codify/request_rows.py)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imdsctl.codify.asked import Known
from imdsctl.codify.request_rows import Row, row_of
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.options import InvalidOption

BYTES_MAX = 64 << 20


def read_requests(
    path: Path, base: Mapping[str, Any], known: Mapping[tuple[str, str], Known]
) -> tuple[list[Row], list[Diagnostic]]:
    """The rows, and a diagnostic for each that cannot be used. `base` holds what a row does not say, `known` what a
    scan knows.

    Raises DiagnosticError (exit code 2) for a file that is no table.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _bad(path, (error.strerror or str(error)).lower()) from None
    if len(data) > BYTES_MAX:
        raise _bad(path, f"it has more than {BYTES_MAX >> 20} MiB")
    text = data.decode("utf-8-sig", errors="replace")
    rows: list[Row] = []
    problems: list[Diagnostic] = []
    for place, value in _values(path, text):
        try:
            rows.append(row_of({**base, **value}, place, known))
        except (ValueError, InvalidOption) as error:
            problems.append(Diagnostic("request-invalid", str(error), place, "correct it; the others are simulated"))
    return rows, problems


def _values(path: Path, text: str) -> list[tuple[str, Mapping[str, Any]]]:
    if text.lstrip()[:1] in ("[", "{"):
        try:
            loaded = json.loads(text)
        except json.JSONDecodeError as error:
            raise _bad(path, f"not JSON: {error.msg}", f":{error.lineno}:{error.colno}") from None
        listed = loaded if isinstance(loaded, list) else [loaded]
        return [
            (f"{path}[{index}]", each if isinstance(each, dict) else {"action": str(each)})
            for index, each in enumerate(listed)
        ]
    reader = csv.DictReader(io.StringIO(text, newline=""))
    return [
        (
            f"{path}:{reader.line_num}",
            {name: value for name, value in row.items() if name and isinstance(value, str) and value != ""},
        )
        for row in reader
    ]


def _bad(path: Path, why: str, place: str = "") -> DiagnosticError:
    hint = "write CSV with a header, or a JSON list of requests"
    return DiagnosticError(Diagnostic("requests-unreadable", why, f"{path}{place}", hint), exit_code=2)
