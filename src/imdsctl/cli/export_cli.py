"""`imdsctl export cli`: a plan as a script of AWS CLI calls, and the script that takes it back."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from imdsctl.cli import dependencies, options
from imdsctl.cli.errors import EXIT_DONE
from imdsctl.cli.export_scan import checked, choice, planned, seen_scan
from imdsctl.fleet.selection import ROLE_NAME


def command(
    context: typer.Context,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The script, NAME.sh; its inverse is NAME.undo.sh.")
    ],
    plan: Annotated[
        Path | None, typer.Argument(metavar="[PLAN]", help="A plan of `imdsctl plan -o`. Default: one is made now.")
    ] = None,
    role: Annotated[
        str,
        typer.Option(
            "--role",
            metavar="NAME",
            envvar="IMDSCTL_ROLE",
            help="The role that the script assumes in the other accounts.",
        ),
    ] = ROLE_NAME,
    intent: options.IntentFile = None,
    scan: Annotated[str | None, typer.Option("--scan", metavar="ID", help="Default: the latest scan.")] = None,
    accounts: options.Accounts = None,
    regions: options.Regions = None,
    db: options.Database = None,
) -> int:
    """Write a plan as a bash script of AWS CLI calls, each with what it changes, and its inverse. Asks AWS nothing.

    Exit codes: 0 written, 2 wrong command line, no scan or no plan.
    """
    from imdsctl.adapters.intent_file import INTENT_FILE
    from imdsctl.adapters.plan_file import read_plan
    from imdsctl.adapters.private_file import check_free, write_private
    from imdsctl.codify.shell_script import script, undo_script

    checked([role], "the name of a role", r"[\w+=,.@/-]{1,512}", "imdsctl")
    check_free(output, plan, intent or Path(INTENT_FILE))
    chosen = choice(accounts, regions)
    if plan is not None:
        made = read_plan(plan)
    else:
        deps = dependencies.of(context)
        made = planned(deps, seen_scan(deps, db, scan), intent, db)
    changes = tuple(change for change in made.changes if chosen(change.target))
    undo = output.with_name(f"{output.name.removesuffix('.sh')}.undo.sh")
    write_private(output, script(made, changes, role))
    write_private(undo, undo_script(made, changes, role))
    print(output)
    print(undo)
    held = sum(1 for change in changes if change.held)
    print(f"{len(changes) - held} to change, {held} deferred: run them with `bash {output}`", file=sys.stderr)
    return EXIT_DONE
