"""The plan file on disk: canonical JSON, written whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import orjson

from imdsctl.adapters.private_file import whole_file
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.plan import Plan, plan_from_plain
from imdsctl.domain.plan_pieces import plan_from_lines, plan_pieces


def write_plan(plan: Plan, path: Path) -> str:
    """Write a plan and return its digest. A reader sees the old file or the whole new one.

    Raises DiagnosticError `plan-unwritable`.
    """
    with whole_file(path, code="plan-unwritable", instead="name a file; `imdsctl plan --json` prints the plan") as file:
        return _write(plan, file)


def _write(plan: Plan, file: BinaryIO) -> str:
    digest = ""

    def pieces() -> Iterator[bytes]:
        nonlocal digest
        digest = yield from plan_pieces(plan)

    file.writelines(pieces())
    return digest


def read_plan(path: Path) -> Plan:
    """A plan from its file.

    Raises DiagnosticError (exit code 2): `plan-unreadable`, or `plan-invalid` when the file is cut, edited, no plan, or
    a version that this program does not know.
    """
    try:
        with path.open("rb") as lines:
            plan = plan_from_lines(lines)
        if plan is not None:
            return plan
        content = path.read_bytes()
    except DiagnosticError as error:
        raise DiagnosticError([each.about(str(path)) for each in error.diagnostics], exit_code=2) from None
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        hint = "make one with `imdsctl plan -o FILE`"
        raise DiagnosticError(Diagnostic("plan-unreadable", why, str(path), hint), exit_code=2) from None
    try:
        return plan_from_plain(orjson.loads(content))
    except orjson.JSONDecodeError as error:
        why = "the file is empty" if not content else f"not JSON, or cut short: line {error.lineno}, {error.msg}"
        found = Diagnostic("plan-invalid", why, str(path), "run `imdsctl plan -o FILE` again, and apply the new file")
        raise DiagnosticError(found, exit_code=2) from None
    except DiagnosticError as error:
        raise DiagnosticError([each.about(str(path)) for each in error.diagnostics], exit_code=2) from None
