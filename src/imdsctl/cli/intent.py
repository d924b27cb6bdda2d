"""`imdsctl intent`: the intent file by itself."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer

from imdsctl.cli import dependencies
from imdsctl.cli.errors import EXIT_DONE, report
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError

app = typer.Typer(no_args_is_help=True, help="Check the intent file (imdsctl.toml), and describe it to an editor.")
EXPIRES_SOON = timedelta(days=30)


@app.command()
def schema() -> int:
    """Print the intent file's JSON schema: an editor that knows it completes and checks while you write."""
    import orjson

    from imdsctl.domain.intent_schema import intent_schema

    text = orjson.dumps(intent_schema(), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)
    sys.stdout.write(text.decode())
    return EXIT_DONE


@app.command()
def check(
    ctx: typer.Context,
    file: Annotated[Path | None, typer.Argument(help="Default: imdsctl.toml in the current folder.")] = None,
) -> int:
    """Find every mistake in an intent file, with its line. Exit codes: 0 right, 2 mistakes or no file."""
    from imdsctl.adapters.intent_file import INTENT_FILE, read_intent
    from imdsctl.domain.intent import expired

    path = file or Path(INTENT_FILE)
    if not path.exists():
        hint = "write one with `imdsctl init`, or name it"
        raise DiagnosticError(Diagnostic("intent-unreadable", "there is no such file", str(path), hint), exit_code=2)
    intent = read_intent(path)
    now = dependencies.of(ctx).now()
    if late := expired(intent, now):
        report(late)
    soon = [each for each in intent.exemptions if each.holds(now) and not each.holds(now + EXPIRES_SOON)]
    print(
        f"{path}: right; {len(intent.scopes)} scopes, {len(intent.waves)} waves, {len(intent.exemptions)} exceptions "
        f"({len(late)} expired, {len(soon)} expire within {EXPIRES_SOON.days} days)"
    )
    return EXIT_DONE
