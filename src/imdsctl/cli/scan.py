"""`imdsctl scan`: where does every account stand, in every Region?"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from imdsctl.cli import dependencies, options
from imdsctl.cli.errors import EXIT_DONE, EXIT_FAILED, interruptible, report, wants_colour
from imdsctl.fleet.targets import ROLE_NAME, Selection

if TYPE_CHECKING:
    from imdsctl.cli.dependencies import Dependencies
    from imdsctl.domain.observations import Scan
    from imdsctl.domain.verdicts import ScanSummary
    from imdsctl.fleet.ports import ScanStore


class FailOn(StrEnum):
    """What turns a finished scan into exit code 1."""

    UNKNOWN = "unknown"
    EXPOSED = "exposed"


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """The command line of `scan`, checked."""

    selection: Selection
    profile: str | None = None
    database: str | None = None
    json: bool = False
    fail_on: frozenset[FailOn] = frozenset()


def command(
    ctx: typer.Context,
    accounts: options.Accounts = None,
    regions: options.Regions = None,
    ou: options.Units = None,
    exclude_accounts: options.ExcludeAccounts = None,
    exclude_regions: options.ExcludeRegions = None,
    exclude_ou: options.ExcludeUnits = None,
    profile: options.Profile = None,
    role: options.Role = ROLE_NAME,
    current_account: options.CurrentAccount = False,
    db: options.Database = None,
    json: options.Json = False,
    fail_on: Annotated[
        list[FailOn] | None,
        typer.Option("--fail-on", help="Exit with 1 when something is unknown or exposed; repeatable."),
    ] = None,
) -> int:
    """See where every account stands in every Region. Reads only; the result is kept for `plan`.

    Exit codes: 0 scanned, 1 failed or `--fail-on` found something, 2 wrong command line or input, 130 interrupted.
    """
    chosen = options.selection(
        role=role,
        current_account=current_account,
        accounts=accounts,
        regions=regions,
        ou=ou,
        exclude_accounts=exclude_accounts,
        exclude_regions=exclude_regions,
        exclude_ou=exclude_ou,
    )
    return run(ScanOptions(chosen, profile, db, json, frozenset(fail_on or ())), dependencies.of(ctx))


def run(asked: ScanOptions, deps: Dependencies) -> int:
    """Scan, keep the scan, print it, and give the exit code."""
    from imdsctl.domain.verdicts import scan_summary

    with interruptible("nothing was changed, a scan only reads; nothing was kept of this one"):
        store = deps.scans(asked.database)
        store.prepare()
        scan = options.run_async(take(asked, deps, store))
    summary = scan_summary(scan)
    _show(scan, summary, asked)
    return EXIT_FAILED if _fails(summary, asked.fail_on) else EXIT_DONE


async def take(asked: ScanOptions, deps: Dependencies, store: ScanStore) -> Scan:
    """Sweep the selection into the store, with progress on standard error. Raises DiagnosticError."""
    from imdsctl.fleet.scan import header_of, sweep
    from imdsctl.fleet.targets import find_accounts
    from imdsctl.views.progress import listening

    async with deps.aws(asked.profile) as aws:
        visit = await find_accounts(aws, asked.selection)
        if visit.notices:
            report(visit.notices)
        with listening(sys.stderr) as tell:
            writer = store.begin(header_of(asked.selection, visit, scan_id=deps.new_id(), started=deps.now()))
            return await sweep(aws, asked.selection, visit, writer, now=deps.now, tell=tell)


def _show(scan: Scan, summary: ScanSummary, asked: ScanOptions) -> None:
    if asked.json:
        from imdsctl.views.json import scan_json

        sys.stdout.write(scan_json(scan, summary))
    else:
        from imdsctl.views.text import scan_text

        print(scan_text(scan, summary, colour=wants_colour(sys.stdout)))


def _fails(summary: ScanSummary, fail_on: frozenset[FailOn]) -> bool:
    unknown = FailOn.UNKNOWN in fail_on and bool(summary.unknowns)
    return unknown or (FailOn.EXPOSED in fail_on and bool(summary.exposed))
