"""A table of requests to simulate: CSV with a column for each member, or a JSON list (codify/request_rows.py)."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from imdsctl.adapters.models import load_data
from imdsctl.codify.asked import Known
from imdsctl.codify.request_rows import OWN, Row, row_of
from imdsctl.codify.vocabulary import closest
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
            rows.append(checked_row({**base, **value}, place, known))
        except (ValueError, InvalidOption) as error:
            problems.append(Diagnostic("request-invalid", str(error), place, "correct it; the others are simulated"))
    if not rows and not problems:
        raise _bad(path, "it holds no request")
    return rows, problems


def checked_row(value: Mapping[str, Any], place: str, known: Mapping[tuple[str, str], Known]) -> Row:
    """A request from its members, whose parameters are those of its call. Raises ValueError with a clause for a
    person."""
    row = row_of(value, place, known)
    model = load_data("ec2", "service-2")
    _check(row.asked.parameters, model["operations"][row.asked.action]["input"]["shape"], "", row.asked.action, model)
    return row


_VALUES_MAX = 20
"""Longer lists of values (instance types) grow faster than botocore's model."""


def _check(value: Any, shape_name: str, path: str, action: str, model: Mapping[str, Any]) -> None:
    shape = model["shapes"][shape_name]
    if value is None:
        return
    if shape["type"] == "structure":
        if not isinstance(value, Mapping):
            raise ValueError(f"`{path}` of {action} is an object: write `{path}.NAME`")
        for name, inner in value.items():
            member = shape["members"].get(name)
            if member is None:
                meant = closest(name, (*shape["members"], *(() if path else OWN)), 0.7)
                hint = f": write `{path and path + '.'}{meant}`" if meant else ""
                raise ValueError(f"`{path and path + '.'}{name}` is no parameter of {action}{hint}")
            _check(inner, member["shape"], f"{path and path + '.'}{name}", action, model)
    elif shape["type"] == "list":
        if not isinstance(value, list | tuple):
            raise ValueError(f"`{path}` of {action} is a list: write the table as JSON")
        for each in value:
            _check(each, shape["member"]["shape"], path, action, model)
    elif value not in (values := shape.get("enum", (value,))) and len(values) <= _VALUES_MAX:
        raise ValueError(f"`{path}` is `{value}`: use {' or '.join(f'`{each}`' for each in values)}")


def _values(path: Path, text: str) -> list[tuple[str, Mapping[str, Any]]]:
    if text.lstrip()[:1] in ("[", "{"):
        try:
            loaded = json.loads(text)
        except json.JSONDecodeError as error:
            raise _bad(path, f"not JSON: {error.msg}", f":{error.lineno}:{error.colno}") from None
        except RecursionError:
            raise _bad(path, "brackets are nested too deep", "") from None
        listed = loaded if isinstance(loaded, list) else [loaded]
        return [
            (f"{path}[{index}]", each if isinstance(each, dict) else {"action": str(each)})
            for index, each in enumerate(listed)
        ]
    reader = csv.DictReader(io.StringIO(text, newline=""))
    columns = reader.fieldnames or ()
    twice = next((name for name in columns if columns.count(name) > 1 and name), None)
    if twice is not None:
        raise _bad(path, f"the column `{twice}` is there twice", ":1")
    rows: list[tuple[str, Mapping[str, Any]]] = []
    for row in reader:
        place = f"{path}:{reader.line_num}"
        if None in row:
            raise _bad(path, f"more cells than the {len(columns)} columns of the header", f":{reader.line_num}")
        found = {name: value for name, value in row.items() if name and isinstance(value, str) and value.strip()}
        if found:
            rows.append((place, found))
    return rows


def _bad(path: Path, why: str, place: str = "") -> DiagnosticError:
    hint = "write CSV with a header, or a JSON list of requests"
    return DiagnosticError(Diagnostic("requests-unreadable", why, f"{path}{place}", hint), exit_code=2)
