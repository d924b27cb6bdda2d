"""`imdsctl export`: what an organization needs, as code."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from imdsctl.cli import export_cli, export_cloudformation, export_terraform
from imdsctl.cli.errors import EXIT_DONE
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.permissions import Mode

app = typer.Typer(add_completion=False, no_args_is_help=True, help="Write what an organization needs as code.")

ROLE = "imdsctl"
"""The name that the exported role has unless somebody says otherwise."""


@app.callback()
def _group() -> None:
    """Write what an organization needs as code."""


@app.command("role")
def role(
    cloudformation: Annotated[
        bool, typer.Option("--cloudformation", help="As a CloudFormation template, for a StackSet.")
    ] = False,
    mode: Annotated[Mode, typer.Option("--mode", help="`read` for scan and plan; `write` adds apply.")] = Mode.READ,
    name: Annotated[str, typer.Option("--role", help="The role's name; give it to the other commands too.")] = ROLE,
    without_rollback: Annotated[
        bool,
        typer.Option(
            "--without-rollback",
            help="Allow no write that can bring IMDSv1 back: no rollback to it, no launch templates, no refreshes.",
        ),
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Default: standard output.")
    ] = None,
) -> int:
    """Print the role that imdsctl assumes in each account, with the least privilege that it needs."""
    if not cloudformation:
        raise DiagnosticError(
            Diagnostic("export-format", "nothing says in which form to write the role", hint="add `--cloudformation`"),
            exit_code=2,
        )
    from imdsctl.views.role_template import role_template

    text = role_template(mode, role=name, rollback=not without_rollback)
    if output is None:
        sys.stdout.write(text)
    else:
        from imdsctl.adapters.private_file import write_private

        write_private(output, [text])
    return EXIT_DONE


app.command("terraform")(export_terraform.command)
app.command("cloudformation")(export_cloudformation.command)
app.command("cli")(export_cli.command)
