"""`--accounts-file FILE`: the accounts to visit, as CSV, as JSON or one id a line.

CSV has a heading with `account_id` (or `account`, `id`) and, if wanted, `name` and `role`. JSON is a list of ids or of
objects with the same members, or what `aws organizations list-accounts` prints.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.fleet.selection import ListedAccount

_ID = re.compile(r"[0-9]{12}")
_ROLE = re.compile(r"[\w+=,.@/-]{1,576}", re.ASCII)
"""IAM API Reference, CreateRole: a role's name with its path."""
_NAMES = {"account_id": ("account_id", "accountid", "account", "id"), "name": ("name",), "role": ("role", "role_name")}


def read_accounts_file(path: Path) -> tuple[ListedAccount, ...]:
    """The accounts in the order of the file, each once.

    Raises DiagnosticError (exit code 2) with everything that is wrong with the file.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise DiagnosticError(
            Diagnostic("accounts-file-unreadable", f"the accounts file cannot be read: {reason}", str(path)),
            exit_code=2,
        ) from None
    found: dict[str, ListedAccount] = {}
    problems = []
    try:
        for place, row in _rows(text):
            account_id, role = row["account_id"], row.get("role") or None
            if not _ID.fullmatch(account_id):
                problems.append(_problem(f"`{account_id}` is not an account id (twelve digits)", f"{path}:{place}"))
            elif role and not _ROLE.fullmatch(role):
                problems.append(_problem(f"`{role}` is not a role's name", f"{path}:{place}"))
            else:
                found.setdefault(account_id, ListedAccount(account_id, row.get("name") or "", role))
    except ValueError as error:
        problems.append(_problem(str(error), str(path)))
    if not found and not problems:
        problems.append(_problem("the file names no account", str(path)))
    if problems:
        raise DiagnosticError(tuple(problems), exit_code=2)
    return tuple(found.values())


def _problem(summary: str, place: str) -> Diagnostic:
    return Diagnostic(
        "accounts-file-invalid",
        summary,
        place,
        "write one id a line, CSV with the columns account_id, name, role, or JSON with the same members",
    )


def _rows(text: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Where each account stands (a line's or an entry's number), and what is said of it. Raises ValueError."""
    if text.lstrip()[:1] in ("[", "{"):
        yield from _json(text)
        return
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    if not lines:
        return
    heading = [each.strip().lower() for each in lines[0][1].split(",")]
    columns = {column: heading.index(name) for column, names in _NAMES.items() for name in names if name in heading}
    if "account_id" in columns:
        lines = lines[1:]
    else:
        columns = {"account_id": 0, "name": 1, "role": 2}
    for number, line in lines:
        cells = [each.strip() for each in next(csv.reader([line]))]
        yield (
            str(number),
            {column: cells[at] for column, at in columns.items() if at < len(cells)}
            | ({} if columns["account_id"] < len(cells) else {"account_id": ""}),
        )


def _json(text: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    import orjson

    try:
        document: Any = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    entries = document.get("Accounts", document.get("accounts")) if isinstance(document, dict) else document
    if not isinstance(entries, list):
        raise ValueError("the JSON is not a list of accounts")
    for number, entry in enumerate(entries, 1):
        if isinstance(entry, dict):
            members = {str(name).lower(): str(value) for name, value in entry.items() if value is not None}
            row = {
                column: next((members[name] for name in names if name in members), "")
                for column, names in _NAMES.items()
            }
        else:
            row = {"account_id": str(entry)}
        yield f"entry {number}", row
