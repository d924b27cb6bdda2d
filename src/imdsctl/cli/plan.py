"""`imdsctl plan`: what has to change, as a file that `imdsctl apply` carries out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from imdsctl.cli import options
from imdsctl.cli.dependencies import of
from imdsctl.cli.errors import EXIT_DONE, wants_colour
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.intent import Intent
from imdsctl.domain.planner import make_plan

EXIT_CHANGES = 3
"""Terraform's 2 would mean a wrong command line here (docs/guide.md, exit codes)."""


def command(
    context: typer.Context,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Write the plan to this file.")] = None,
    intent: Annotated[
        Path | None, typer.Option("--intent", help="What is wanted, in TOML. Default: IMDSv2 enforced everywhere.")
    ] = None,
    scan: Annotated[str | None, typer.Option("--scan", help="Plan from this scan. Default: the latest.")] = None,
    db: options.Database = None,
    detailed_exitcode: Annotated[
        bool,
        typer.Option(
            "--detailed-exitcode",
            help="Exit 3 when something is to be changed, deferred or unknown; 0 when nothing is.",
        ),
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Show every change, however many there are.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the plan as JSON.")] = False,
) -> int:
    """Find the smallest change that makes a scanned fleet as intended. Nothing is changed."""
    from imdsctl.adapters.intent_file import read_intent
    from imdsctl.adapters.plan_file import write_plan
    from imdsctl.views.plan import plan_text

    dependencies = of(context)
    wanted = read_intent(intent) if intent else Intent()
    store = dependencies.scans(db)
    seen = store.load(scan) if scan else store.latest()
    if seen is None:
        raise DiagnosticError(Diagnostic("scan-missing", "there is no scan to plan from", hint="run `imdsctl scan`"))
    plan = make_plan(seen, wanted, made_at=dependencies.now())
    if output:
        write_plan(plan, output)
    if as_json:
        import orjson

        from imdsctl.domain.plan import plan_to_plain

        sys.stdout.write(orjson.dumps(plan_to_plain(plan), option=orjson.OPT_SORT_KEYS).decode() + "\n")
    else:
        names = {account.account_id: account.name for account in seen.accounts if account.name}
        print(
            plan_text(
                plan,
                names,
                file=str(output) if output else None,
                full=full,
                colour=wants_colour(sys.stdout),
                empty=not seen.regions,
            )
        )
    if detailed_exitcode and (plan.changes or plan.unknown):
        return EXIT_CHANGES
    return EXIT_DONE
