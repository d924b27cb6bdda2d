"""`imdsctl report`: a scan's results for a browser, a spreadsheet, a code scanner, a security lake, a build server."""

from __future__ import annotations

import secrets
import sys
from collections.abc import Callable, Iterator
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imdsctl.cli import dependencies, options
from imdsctl.cli.errors import EXIT_DONE, EXIT_FAILED, interruptible, report_one
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError

if TYPE_CHECKING:
    from imdsctl.domain.history import ScanRecord
    from imdsctl.domain.observations import Scan
    from imdsctl.domain.report import Report
    from imdsctl.fleet.ports import ScanStore


class Format(StrEnum):
    """What a report is written as."""

    HTML = "html"
    CSV = "csv"
    JSON = "json"
    SARIF = "sarif"
    OCSF = "ocsf"
    ASFF = "asff"
    JUNIT = "junit"


class FailOn(StrEnum):
    """What turns a finished report into exit code 1."""

    EXPOSED = "exposed"
    UNKNOWN = "unknown"
    USED = "used"


_SUFFIXES = {".html": Format.HTML, ".csv": Format.CSV, ".sarif": Format.SARIF, ".xml": Format.JUNIT}


def command(
    ctx: typer.Context,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Where to write it. Default: standard output.")
    ] = None,
    kind: Annotated[
        Format | None, typer.Option("--format", "-f", help="Default: what FILE's ending says, else html.")
    ] = None,
    scan: Annotated[str | None, typer.Option("--scan", metavar="ID", help="Default: the latest scan.")] = None,
    everything: Annotated[
        bool, typer.Option("--all", help="What is enforced too, not only what is exposed or unknown.")
    ] = False,
    redact: Annotated[
        bool, typer.Option("--redact", help="Hide account ids, names and resource ids, so that it can be shown around.")
    ] = False,
    fail_on: Annotated[
        list[FailOn] | None,
        typer.Option("--fail-on", help="Exit with 1 when something is exposed, unknown, or still uses IMDSv1."),
    ] = None,
    intent: options.IntentFile = None,
    db: options.Database = None,
) -> int:
    """Write a report of a scan, with the evidence that was gathered for it. Asks AWS nothing.

    Exit codes: 0 written, 1 `--fail-on` found something, 2 wrong command line or no scan, 130 interrupted.
    """
    from imdsctl.adapters.intent_file import INTENT_FILE
    from imdsctl.adapters.private_file import check_free, write_private

    deps = dependencies.of(ctx)
    if output is not None:
        check_free(output, intent or Path(INTENT_FILE))
    chosen = kind or (_SUFFIXES.get(output.suffix.lower(), Format.HTML) if output else Format.HTML)
    with interruptible("no report was written"):
        store = deps.scans(db)
        found = store.load(scan) if scan else store.latest()
        if found is None:
            hint = "run `imdsctl scan` first"
            raise DiagnosticError(Diagnostic("scan-missing", "there is no scan to report on", hint=hint), exit_code=2)
        report = _report(found, store, deps, intent, enforced=everything or chosen is Format.JUNIT)
        if redact:
            from imdsctl.domain.redaction import Redactor
            from imdsctl.domain.report import redacted

            report = redacted(report, Redactor(found.accounts, secrets.token_bytes(32)))
        if output is None:
            for piece in _writer(chosen)(report):
                sys.stdout.write(piece)
        else:
            write_private(output, _writer(chosen)(report))
            print(f"{output}: {chosen} report of scan {found.scan_id}", file=sys.stderr)
        wanted = frozenset(fail_on or ())
        return EXIT_FAILED if wanted and wanted & _found(report) else EXIT_DONE


def _report(
    scan: Scan, store: ScanStore, deps: dependencies.Dependencies, intent: Path | None, *, enforced: bool
) -> Report:
    from imdsctl.adapters.intent_file import find_intent
    from imdsctl.domain.coverage import TrendPoint, coverage_of
    from imdsctl.domain.findings import findings
    from imdsctl.domain.intent_register import accepts
    from imdsctl.domain.report import Report

    register = accepts(scan, find_intent(intent)[0], deps.now())
    evidence = store.evidence(scan.scan_id)
    return Report(
        scan_id=scan.scan_id,
        finished=scan.finished,
        made_at=deps.now(),
        coverage=coverage_of(scan),
        findings=partial(findings, scan, evidence, enforced=enforced, accepts=register),
        scope=scan.scope,
        trend=tuple(TrendPoint(each.finished, each.total) for each in _same_scope(scan, store) if each.finished),
        evidence_taken=evidence.taken if evidence else None,
        look_back=evidence.look_back if evidence else None,
    )


def _same_scope(scan: Scan, store: ScanStore) -> list[ScanRecord]:
    """The finished scans of the same scope up to this one, oldest first."""
    done = (each for each in reversed(store.history()) if each.finished is not None and each.scope == scan.scope)
    return [each for each in done if each.finished is not None and each.finished <= scan.finished]


def _writer(kind: Format) -> Callable[[Report], Iterator[str]]:
    from imdsctl.views.reports import cloud, html, junit, rows, sarif

    writers: dict[Format, Callable[[Report], Iterator[str]]] = {
        Format.HTML: html.html_text,
        Format.CSV: rows.csv_lines,
        Format.JSON: rows.json_lines,
        Format.SARIF: partial(sarif.sarif_text, tell=report_one),
        Format.OCSF: cloud.ocsf_text,
        Format.ASFF: cloud.asff_text,
        Format.JUNIT: junit.junit_text,
    }
    return writers[kind]


def _found(report: Report) -> frozenset[FailOn]:
    """What of the things that --fail-on asks for is there. What is registered as an exception does not count."""
    from imdsctl.domain.evidence import Use
    from imdsctl.domain.exposure import Verdict

    # A scan that has read nothing proves nothing.
    seen = {FailOn.UNKNOWN} if report.coverage.nothing_seen else set()
    for finding in report.findings():
        if finding.accepted:
            continue
        if finding.verdict is Verdict.EXPOSED:
            seen.add(FailOn.EXPOSED)
        if finding.verdict is Verdict.UNKNOWN:
            seen.add(FailOn.UNKNOWN)
        if finding.use is Use.USED:
            seen.add(FailOn.USED)
    return frozenset(seen)
