"""`imdsctl check`: what infrastructure code would launch."""

from __future__ import annotations

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imdsctl.cli import dependencies, options
from imdsctl.cli.errors import EXIT_DONE, EXIT_FAILED, report, report_one
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError

if TYPE_CHECKING:
    from imdsctl.codify.iac_world import World

_WORLD = "What surrounds the code"


class FailOn(StrEnum):
    """Which findings end with exit code 1."""

    EXPOSED = "exposed"
    UNKNOWN = "unknown"


def command(
    ctx: typer.Context,
    paths: Annotated[list[Path], typer.Argument(metavar="PATH...", help="Files, or folders to look through.")],
    intent: Annotated[
        Path | None,
        typer.Option("--intent", metavar="FILE", help="The Region default is as it wants.", rich_help_panel=_WORLD),
    ] = None,
    scan: Annotated[
        str | None,
        typer.Option(
            "--scan", metavar="ID", help="The Region default, images and templates of a scan.", rich_help_panel=_WORLD
        ),
    ] = None,
    var_files: Annotated[
        list[Path] | None,
        typer.Option(
            "--var-file",
            metavar="FILE",
            help="Values of Terraform's variables, as for `terraform plan`; repeat it.",
            rich_help_panel=_WORLD,
        ),
    ] = None,
    account: Annotated[str | None, typer.Option("--account", metavar="ID", rich_help_panel=_WORLD)] = None,
    region: Annotated[str | None, typer.Option("--region", metavar="REGION", rich_help_panel=_WORLD)] = None,
    fail_on: Annotated[
        FailOn, typer.Option("--fail-on", help="`exposed`: what is unknown is told, and is no failure.")
    ] = FailOn.UNKNOWN,
    db: options.Database = None,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    sarif: Annotated[bool, typer.Option("--sarif", help="SARIF 2.1.0, for code scanning.")] = False,
    junit: Annotated[bool, typer.Option("--junit", help="JUnit XML, for a build server.")] = False,
) -> int:
    """Check Terraform, CloudFormation, launch templates, cluster manifests and Packer for IMDSv1. Asks AWS nothing.

    Exit codes: 0 nothing found, 1 findings or a file that could not be read, 2 wrong command line.
    """
    from imdsctl.adapters.artifact_uris import artifact_uri
    from imdsctl.adapters.iac_files import read_all
    from imdsctl.codify.iac_check import check_code
    from imdsctl.codify.iac_rules import RULES, UNKNOWN
    from imdsctl.views.code_findings import findings_json, findings_text
    from imdsctl.views.reports.code import code_junit, code_sarif

    if json_output + sarif + junit > 1:
        raise _usage("only one of --json, --sarif and --junit", "choose one")
    world = _world(ctx, intent, scan, account, region, db)
    code = read_all(paths, var_files or ())
    checked = check_code(code.sources, world, code.values)
    unread = [*code.problems, *checked.unread]
    failed = {(each.subject or "").partition(":")[0] for each in unread}
    names = list(dict.fromkeys([*checked.recognized, *sorted(failed)]))
    if json_output:
        rests = checked.rests_on
        sys.stdout.write(findings_json(checked.findings, files=len(names), unread=unread, kind="check", rests_on=rests))
    elif sarif:
        sys.stdout.write(code_sarif(checked.findings, RULES, unread, check="check", uri=artifact_uri, tell=report_one))
    elif junit:
        sys.stdout.writelines(code_junit(checked.findings, names, unread, check="check"))
    else:
        counts = {"files": len(names), "unread": len(failed)}
        for line in findings_text(checked.findings, **counts, what="check", rests_on=checked.rests_on):
            print(line)
    if unread:
        report(unread)
    bad = [each for each in checked.findings if fail_on is FailOn.UNKNOWN or each.rule is not UNKNOWN]
    return EXIT_FAILED if bad or unread else EXIT_DONE


def _world(
    ctx: typer.Context, intent: Path | None, scan: str | None, account: str | None, region: str | None, db: str | None
) -> World:
    from imdsctl.adapters.intent_file import find_intent
    from imdsctl.codify.iac_world import of_intent, of_scan

    wanted, _ = find_intent(intent)
    if scan is None and account is None and region is None:
        return of_intent(wanted)
    if account is None or region is None:
        raise _usage("a scan has many Regions", "name one with `--account` and `--region`")
    store = dependencies.of(ctx).scans(db)
    found = store.load(scan) if scan else store.latest()
    if found is None:
        missing = Diagnostic("scan-missing", "there is no scan to check against", hint="run `imdsctl scan` first")
        raise DiagnosticError(missing, exit_code=2)
    for each in found.regions:
        if (each.target.account_id, each.target.region) == (account, region):
            return of_scan(each, wanted)
    raise _usage(f"the scan did not see {account}/{region}", "name an account and a Region that it saw")


def _usage(summary: str, hint: str) -> DiagnosticError:
    return DiagnosticError(Diagnostic("option-invalid", summary, hint=hint), exit_code=2)
