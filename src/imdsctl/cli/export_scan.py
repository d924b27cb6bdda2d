"""What every `imdsctl export` begins with: a scan, what of it is chosen, and a plan where one is asked for."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from imdsctl.cli import dependencies, options
from imdsctl.cli.errors import EXIT_DONE, EXIT_FAILED
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.shown import shown

if TYPE_CHECKING:
    from imdsctl.codify.export_gaps import LeftOut
    from imdsctl.domain.observations import Scan, Target
    from imdsctl.domain.plan import Plan


def seen_scan(deps: dependencies.Dependencies, db: str | None, scan: str | None) -> Scan:
    """The scan of that id, or the latest. Raises DiagnosticError `scan-missing` (exit code 2)."""
    store = deps.scans(db)
    found = store.load(scan) if scan else store.latest()
    if found is None:
        hint = "run `imdsctl scan` first"
        raise DiagnosticError(Diagnostic("scan-missing", "there is no scan to export", hint=hint), exit_code=2)
    return found


def choice(accounts: list[str] | None, regions: list[str] | None) -> Callable[[Target], bool]:
    """Whether an account and Region is among those that `--accounts` and `--regions` name; a target without a Region
    stands for all of its account. Raises DiagnosticError for an option that is given but empty."""
    chosen = options.selection(accounts=accounts, regions=regions)
    ids, names = frozenset(chosen.accounts), frozenset(chosen.regions)

    def is_chosen(target: Target) -> bool:
        in_region = not names or not target.region or target.region in names
        return in_region and (not ids or target.account_id in ids)

    return is_chosen


def planned(deps: dependencies.Dependencies, scan: Scan, intent: Path | None, db: str | None) -> Plan:
    """The plan for a scan. Raises DiagnosticError."""
    from imdsctl.adapters.intent_file import find_intent
    from imdsctl.domain.planner import make_plan

    return make_plan(scan, find_intent(intent)[0], made_at=deps.now(), evidence=deps.scans(db).evidence(scan.scan_id))


def folder(path: Path) -> Path:
    """Make the folder that files go into, readable by its owner only. Raises DiagnosticError `file-unwritable`."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise DiagnosticError(Diagnostic("file-unwritable", why, str(path), "name a folder"), exit_code=2) from None
    return path


def say_left_out(left_out: Iterable[LeftOut]) -> int:
    """Say on standard error what an export does not have. Gives the exit code: 1 when something could not be read."""
    code = EXIT_DONE
    for each in left_out:
        print(f"Left out: {shown(each.subject)}: {shown(each.reason)}", file=sys.stderr)
        code = EXIT_FAILED if each.unread else code
    return code


def checked(values: Sequence[str], name: str, pattern: str, example: str) -> None:
    """Raises DiagnosticError `option-invalid` (exit code 2) for a value that does not match."""
    for value in values:
        if not re.fullmatch(pattern, value):
            what = f"`{value}` cannot be {name}"
            raise DiagnosticError(Diagnostic("option-invalid", what, hint=f"write it as `{example}`"), exit_code=2)
