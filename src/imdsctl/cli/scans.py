"""`imdsctl scans`: housekeeping among the scans that are kept."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from imdsctl.cli import dependencies, options
from imdsctl.cli.errors import EXIT_DONE, interruptible
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError

app = typer.Typer(no_args_is_help=True, help="Housekeeping among the scans that are kept.")


@app.callback()
def group() -> None:
    """Housekeeping among the scans that are kept."""


@app.command()
def prune(
    ctx: typer.Context,
    keep: Annotated[
        int | None, typer.Option("--keep", metavar="N", min=1, help="Keep the newest N finished scans.")
    ] = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", metavar="TIME", help="Only scans that finished longer ago: `90d`.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be forgotten; forget nothing.")] = False,
    db: options.Database = None,
) -> int:
    """Forget old scans with their evidence. The latest one always stays, and so do unfinished ones.

    With both options a scan is forgotten when both say so.
    """
    from imdsctl.domain.history import to_prune

    if keep is None and older_than is None:
        raise DiagnosticError(
            Diagnostic("usage", "nothing says which scans to forget", hint="`--keep 30`, `--older-than 90d`, or both"),
            exit_code=2,
        )
    deps = dependencies.of(ctx)
    age = options.duration("--older-than", older_than)
    with interruptible("no scan was forgotten"):
        store = deps.scans(db)
        records = store.history()
        going = to_prune(records, keep=keep, older_than=None if age is None else deps.now() - age)
        for record in going:
            print(record.scan_id)
        if not dry_run:
            store.delete([record.scan_id for record in going])
    left = len(records) - len(going)
    print(f"{len(going)} {'would be ' if dry_run else ''}forgotten, {left} kept", file=sys.stderr)
    return EXIT_DONE
