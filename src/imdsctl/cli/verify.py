"""`imdsctl verify`: is the fleet as intended? A fresh scan is the proof."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imdsctl.cli import dependencies, options
from imdsctl.cli.errors import EXIT_DONE, EXIT_FAILED, interruptible, report, wants_colour
from imdsctl.cli.scan import ScanOptions, take
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.intent import Intent
from imdsctl.fleet.selection import ROLE_NAME

if TYPE_CHECKING:
    from imdsctl.domain.observations import Scan
    from imdsctl.fleet.launch_dry_run import DryRun


def command(
    ctx: typer.Context,
    plan: Annotated[
        Path | None, typer.Option("--plan", metavar="FILE", help="Verify what this plan's intent wants.")
    ] = None,
    intent: options.IntentFile = None,
    launch_dry_run: Annotated[
        bool,
        typer.Option("--launch-dry-run", help="Ask AWS, by DryRun, what every template and own image may launch."),
    ] = False,
    services: options.Services = True,
    full: Annotated[bool, typer.Option("--full", help="Show everything that is left, however much it is.")] = False,
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
) -> int:
    """Scan again and prove that nothing is left to do. Reads only; a DryRun launches nothing.

    Exit codes: 0 proven, 1 something is left or unknown, 2 wrong command line or input, 130 interrupted.
    """
    from imdsctl.domain.intent_unanswered import unanswered
    from imdsctl.fleet.verify import verify
    from imdsctl.views.plan import verification_json, verification_text

    deps = dependencies.of(ctx)
    wanted = _intent(plan, intent)
    selection = options.selection(
        role=role,
        current_account=current_account,
        accounts=accounts,
        regions=regions,
        ou=ou,
        exclude_accounts=exclude_accounts,
        exclude_regions=exclude_regions,
        exclude_ou=exclude_ou,
        services=services,
    )
    with interruptible("nothing was changed, and nothing is proven"):
        store = deps.scans(db)
        store.prepare()
        scan = options.run_async(take(ScanOptions(selection, profile, db, json), deps, store))
        judged = verify(scan, wanted, at=deps.now())
        if launch_dry_run:
            judged = replace(judged, dry_runs=options.run_async(_dry_runs(deps, scan, profile, role)))
    if json:
        sys.stdout.write(verification_json(judged))
    else:
        names = {account.account_id: account.name for account in scan.accounts if account.name}
        print(verification_text(judged, names, full=full, colour=wants_colour(sys.stdout)))
    if found := [*judged.expired, *unanswered(scan, wanted, deps.now())]:
        report(found)
    return EXIT_DONE if judged.proven else EXIT_FAILED


async def _dry_runs(deps: dependencies.Dependencies, scan: Scan, profile: str | None, role: str) -> tuple[DryRun, ...]:
    from imdsctl.fleet.launch_dry_run import dry_runs
    from imdsctl.fleet.sessions import Sessions
    from imdsctl.fleet.targets import who_am_i

    async with deps.aws(profile) as aws:
        return await dry_runs(aws, Sessions(aws, await who_am_i(aws), role, deps.now), scan)


def _intent(plan: Path | None, intent: Path | None) -> Intent:
    if plan is not None and intent is not None:
        raise DiagnosticError(
            Diagnostic("option-conflict", "`--plan` and `--intent` both say what is wanted", hint="give one of them"),
            exit_code=2,
        )
    if plan is not None:
        from imdsctl.adapters.plan_file import read_plan

        return read_plan(plan).intent
    from imdsctl.adapters.intent_file import find_intent

    wanted, source = find_intent(intent)
    if source:
        print(f"Intent: {source}", file=sys.stderr)
    return wanted
