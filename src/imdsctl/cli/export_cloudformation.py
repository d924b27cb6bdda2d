"""`imdsctl export cloudformation`: the organization's policies as a template, and how to import them into a stack."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from imdsctl.cli import dependencies, options
from imdsctl.cli.export_scan import say_left_out, seen_scan
from imdsctl.cli.export_terraform import As
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError


def command(
    context: typer.Context,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="The template; beside it FILE.import.json.")
    ],
    which: Annotated[
        As,
        typer.Option("--as", help="`seen`: the policies of the scan; `wanted`: an EC2 policy for the intent as well."),
    ] = As.SEEN,
    intent: options.IntentFile = None,
    scan: Annotated[str | None, typer.Option("--scan", metavar="ID", help="Default: the latest scan.")] = None,
    db: options.Database = None,
) -> int:
    """Write the organization's SCPs and EC2 policies as a CloudFormation template. Asks AWS nothing.

    Exit codes: 0 written, 1 written, but the scan could not read every policy, 2 wrong command line, no
    scan, or nothing that CloudFormation can express.
    """
    from imdsctl.adapters.intent_file import INTENT_FILE, find_intent
    from imdsctl.adapters.private_file import check_free, write_private
    from imdsctl.codify.cloudformation import NOTE, template
    from imdsctl.codify.declarative import declarative_policy
    from imdsctl.codify.export_gaps import unread_policies

    check_free(output, intent or Path(INTENT_FILE))
    seen = seen_scan(dependencies.of(context), db, scan)
    declared = declarative_policy(find_intent(intent)[0]) if which is As.WANTED else None
    try:
        made = template(seen.policies, declared)
    except ValueError as error:
        raise _nothing(str(error), "split them by hand, or use `imdsctl export terraform`") from None
    if not made.policies:
        raise _nothing(
            "the scan saw no SCP or EC2 policy that somebody made, and CloudFormation can express nothing else",
            "add `--as wanted` for an EC2 policy, or use `imdsctl export terraform`",
        )
    write_private(output, [made.text])
    print(output)
    if made.imports:
        imports = output.with_name(f"{output.name.removesuffix('.json')}.import.json")
        write_private(imports, [made.imports])
        print(imports)
        print(
            "These are there already: make a change set of type IMPORT with `--resources-to-import` first.",
            file=sys.stderr,
        )
    print(NOTE, file=sys.stderr)
    return say_left_out(unread_policies(seen))


def _nothing(summary: str, hint: str) -> DiagnosticError:
    return DiagnosticError(Diagnostic("export-impossible", summary, hint=hint), exit_code=2)
