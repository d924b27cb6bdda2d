"""`imdsctl plan`: what has to change, as a file that `imdsctl apply` carries out."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imdsctl.cli import options
from imdsctl.cli.dependencies import Dependencies, of
from imdsctl.cli.errors import EXIT_DONE, report, wants_colour
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError, Severity

if TYPE_CHECKING:
    from datetime import datetime

    from imdsctl.domain.evidence import Evidence
    from imdsctl.domain.intent import Intent
    from imdsctl.domain.observations import Scan
    from imdsctl.domain.plan import Plan

EXIT_CHANGES = 3
"""Terraform's 2 would mean a wrong command line here (docs/guide.md, exit codes)."""


def command(
    context: typer.Context,
    output: Annotated[Path | None, typer.Option("--output", "--out", "-o", help="Write the plan to this file.")] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="FILE", help="Write it as one HTML page too, for reviewers.")
    ] = None,
    intent: options.IntentFile = None,
    scan: Annotated[str | None, typer.Option("--scan", help="Plan from this scan. Default: the latest.")] = None,
    db: options.Database = None,
    what_if: Annotated[
        str | None,
        typer.Option(
            "--what-if",
            metavar="SENTENCE",
            help='Ask instead what every launch would get, as in "account default optional in eu-west-1".',
        ),
    ] = None,
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
    dependencies = of(context)
    if what_if is not None:
        if output or html:
            summary = "`--what-if` answers a question; there is no plan to write"
            raise DiagnosticError(Diagnostic("option-conflict", summary, hint="leave the file out"), exit_code=2)
        return _answer(what_if, dependencies, db, scan, as_json=as_json, full=full)
    _check_places(output, html, intent)
    from imdsctl.adapters.intent_file import find_intent
    from imdsctl.domain.planner import make_plan

    wanted, source = find_intent(intent)
    seen, evidence = _seen(dependencies, db, scan)

    def planned() -> bool:
        plan = make_plan(seen, wanted, made_at=dependencies.now(), evidence=evidence)
        _write(plan, seen, output, html)
        _show(plan, seen, source, output, full=full, as_json=as_json)
        _warn(seen, wanted, dependencies.now())
        return bool(plan.changes or plan.unknown)

    with _without_garbage():  # the plan is gone before anybody looks for cycles again
        something = planned()
    return EXIT_CHANGES if detailed_exitcode and something else EXIT_DONE


def _seen(dependencies: Dependencies, db: str | None, scan: str | None) -> tuple[Scan, Evidence | None]:
    """The scan to plan from, and what was gathered for it. Raises DiagnosticError."""
    store = dependencies.scans(db)
    seen = store.load(scan) if scan else store.latest()
    if seen is None:
        raise DiagnosticError(Diagnostic("scan-missing", "there is no scan to plan from", hint="run `imdsctl scan`"))
    return seen, store.evidence(seen.scan_id)


@contextmanager
def _without_garbage() -> Iterator[None]:
    """A plan is values in values, a million of them: looking for cycles among them costs more than making them."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # nor is it gone through at the end
        gc.enable()


def _check_places(output: Path | None, html: Path | None, intent: Path | None) -> None:
    """Both files are free to be written, and two of them. Raises DiagnosticError."""
    from imdsctl.adapters.intent_file import INTENT_FILE
    from imdsctl.adapters.private_file import check_free, is_same_file

    for path in (output, html):
        if path is not None:
            check_free(path, intent or Path(INTENT_FILE))
    if output is None or html is None:
        return
    if is_same_file(output, html) or is_same_file(output.with_name(output.name + ".journal"), html):
        summary = "the plan, its journal and its page need a file each"
        raise DiagnosticError(
            Diagnostic("option-conflict", summary, str(html), f"name another file: `--html {output.stem}.html`"),
            exit_code=2,
        )


def _names(scan: Scan) -> dict[str, str]:
    return {account.account_id: account.name for account in scan.accounts if account.name}


def _write(plan: Plan, scan: Scan, output: Path | None, html: Path | None) -> None:
    if output:
        from imdsctl.adapters.plan_file import write_plan

        write_plan(plan, output)
    if html:
        from imdsctl.adapters.private_file import write_private
        from imdsctl.views.plan_html import plan_html

        write_private(html, plan_html(plan, _names(scan), file=str(output) if output else None))
        print(f"{html}: the plan as a page", file=sys.stderr)


def _show(plan: Plan, scan: Scan, source: Path | None, output: Path | None, *, full: bool, as_json: bool) -> None:
    where = f"Intent: {source}" if source else "Intent: built in (no --intent, and no imdsctl.toml here)"
    if as_json:
        from imdsctl.domain.plan_pieces import plan_pieces

        print(where, file=sys.stderr)
        for piece in plan_pieces(plan):
            sys.stdout.write(piece.decode())
        return
    from imdsctl.views.plan import plan_text

    file = str(output) if output else None
    print(where)
    print(
        plan_text(
            plan, _names(scan), file=file, full=full, colour=wants_colour(sys.stdout), empty=not len(scan.regions)
        )
    )


def _warn(scan: Scan, wanted: Intent, at: datetime) -> None:
    """What is right as TOML and may not be what was meant: exceptions that hold no more, matches that match nothing."""
    from dataclasses import replace

    from imdsctl.domain.intent import expired
    from imdsctl.domain.intent_unanswered import unanswered

    late = [replace(each, severity=Severity.WARNING) for each in expired(wanted, at)]
    if found := [*late, *unanswered(scan, wanted, at)]:
        report(found)


def _answer(
    sentence: str, dependencies: Dependencies, db: str | None, scan: str | None, *, as_json: bool, full: bool
) -> int:
    from imdsctl.domain.what_if import answer, parse_question
    from imdsctl.views.what_if import answer_json, answer_text

    question = parse_question(sentence)
    seen, _ = _seen(dependencies, db, scan)
    found = answer(seen, question)
    if as_json:
        sys.stdout.write(answer_json(found))
    else:
        print(answer_text(found, _names(seen), full=full, colour=wants_colour(sys.stdout)))
    return EXIT_DONE
