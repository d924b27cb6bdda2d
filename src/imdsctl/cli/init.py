"""`imdsctl init`: an intent file to begin with, from the latest scan."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from imdsctl.cli import dependencies, options
from imdsctl.cli.errors import EXIT_DONE
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError


def command(
    ctx: typer.Context,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Default: imdsctl.toml in this folder.")
    ] = None,
    scan: Annotated[str | None, typer.Option("--scan", metavar="ID", help="Default: the latest scan.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
    db: options.Database = None,
) -> int:
    """Write a commented imdsctl.toml: waves from your organization's own names, exceptions to decide on.

    Reads the scan and its evidence; asks AWS nothing. Exit codes: 0 written, 2 the file is there, or no scan.
    """
    from imdsctl.adapters.intent_file import INTENT_FILE
    from imdsctl.adapters.private_file import write_private
    from imdsctl.domain.intent import parse_intent
    from imdsctl.domain.intent_proposal import look_over, proposal

    path = output or Path(INTENT_FILE)
    if path.exists() and not force:
        hint = "look at what it says; `--force` writes over it"
        raise DiagnosticError(Diagnostic("file-exists", "there is a file already", str(path), hint), exit_code=2)
    deps = dependencies.of(ctx)
    store = deps.scans(db)
    found = store.load(scan) if scan else store.latest()
    if found is None:
        hint = "run `imdsctl scan` first"
        raise DiagnosticError(Diagnostic("scan-missing", "there is no scan to begin from", hint=hint), exit_code=2)
    evidence = store.evidence(found.scan_id)
    text = proposal(found, look_over(found, evidence), evidence, now=deps.now())
    intent = parse_intent(text, str(path))
    write_private(path, [text])
    waves = ", ".join(rule.wave.name for rule in intent.waves)
    print(f"{path}: {len(intent.waves)} waves ({waves}), from scan {found.scan_id}.")
    print("Next: read it, change what is not as you want it, then `imdsctl plan -o plan.json`.")
    return EXIT_DONE
