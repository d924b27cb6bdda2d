"""`imdsctl iam-policy`: the least-privilege policy for exactly the calls that imdsctl makes."""

from __future__ import annotations

import json
import sys
from typing import Annotated

import typer

from imdsctl.cli.errors import EXIT_DONE
from imdsctl.domain.permissions import LAUNCH_DRY_RUN, Mode, Place, needs, policy, reasons
from imdsctl.fleet.selection import ROLE_NAME


def command(
    mode: Annotated[Mode, typer.Argument(help="`read` for scan, evidence, plan, verify, watch; `write` adds apply.")],
    caller: Annotated[
        bool,
        typer.Option(
            "--caller", help="For the credentials that imdsctl is started with, not for the role in accounts."
        ),
    ] = False,
    role: Annotated[
        str, typer.Option("--role", envvar="IMDSCTL_ROLE", help="The role that is assumed in each account.")
    ] = ROLE_NAME,
    partition: Annotated[str, typer.Option("--partition", help="`aws`, `aws-cn` or `aws-us-gov`.")] = "aws",
    without_rollback: Annotated[
        bool,
        typer.Option(
            "--without-rollback",
            help="Allow no write that can bring IMDSv1 back: no rollback to it, no launch templates, no refreshes.",
        ),
    ] = False,
    launch_dry_run: Annotated[
        bool,
        typer.Option(
            "--launch-dry-run", help="Add what `verify --launch-dry-run` asks for. It allows launches: see the guide."
        ),
    ] = False,
) -> int:
    """Print an IAM policy document (JSON) on standard output, and what each statement is for on standard error."""
    place = Place.CALLER if caller else Place.MEMBER
    document = policy(
        mode,
        place,
        role=role,
        partition=partition,
        rollback=not without_rollback,
        launch_dry_run=launch_dry_run,
    )
    print(json.dumps(document, indent=2))
    for sid, why in reasons(needs(mode, place, rollback=not without_rollback)).items():
        print(f"  {sid}: {why}", file=sys.stderr)
    for sid, *_, why in LAUNCH_DRY_RUN if launch_dry_run else ():
        print(f"  {sid}: {why}", file=sys.stderr)
    return EXIT_DONE
