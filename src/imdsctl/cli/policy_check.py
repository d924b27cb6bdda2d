"""`imdsctl policy check`: what is wrong with policies, before they are attached."""

from __future__ import annotations

import re
import sys
from typing import Annotated

import typer

from imdsctl.cli.errors import EXIT_DONE, EXIT_FAILED, report, report_one
from imdsctl.codify.policy_check import Checked, check_policies
from imdsctl.codify.policy_file import File, Kind
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError

_IAM_ARN = re.compile(r"arn:[a-z*-]+:iam::(\d{12}|\*):(role|user)/[\w+=,.@*/-]+", re.ASCII)


def command(
    files: Annotated[list[str], typer.Argument(metavar="FILE...", help="Policies in JSON; `-` is standard input.")],
    kind: Annotated[
        Kind | None,
        typer.Option("--kind", help="What they are attached as. Default: what NAME.scp.json or the content says."),
    ] = None,
    enforcer: Annotated[
        str | None,
        typer.Option("--enforcer", metavar="ARN", help="The role that closes IMDSv1: what denies it that is found."),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    sarif: Annotated[bool, typer.Option("--sarif", help="SARIF 2.1.0, for code scanning.")] = False,
    junit: Annotated[bool, typer.Option("--junit", help="JUnit XML, for a build server.")] = False,
) -> int:
    """Check SCPs, IAM policies, boundaries and EC2 policies for what linters miss. Asks AWS nothing.

    Each finding says where, why (proven on sample calls where it can be), and what would be right. Several files are
    checked together as well. Exit codes: 0 nothing found, 1 findings or a file that could not be read, 2 usage.
    """
    if json_output + sarif + junit > 1:
        summary = "only one of --json, --sarif and --junit"
        raise DiagnosticError(Diagnostic("option-invalid", summary, hint="choose one"), exit_code=2)
    if enforcer is not None and not _IAM_ARN.fullmatch(enforcer):
        summary = f"`{enforcer}` is not the ARN of a role or user"
        hint = "write it like `arn:aws:iam::*:role/imdsctl`"
        raise DiagnosticError(Diagnostic("option-invalid", summary, hint=hint), exit_code=2)
    from imdsctl.adapters.artifact_uris import artifact_uri
    from imdsctl.adapters.policy_files import read_policy, vocabulary
    from imdsctl.codify.policy_rules import RULES
    from imdsctl.views.code_findings import findings_json, findings_text
    from imdsctl.views.reports.code import code_junit, code_sarif

    names = list(dict.fromkeys(files))
    read = [read_policy(name, kind) for name in names]
    checked = check_policies([each for each in read if isinstance(each, File)], vocabulary(), enforcer)
    unread = [*(each for each in read if isinstance(each, Diagnostic)), *checked.unread]
    if json_output:
        sys.stdout.write(findings_json(checked.findings, files=len(names), unread=unread, kind="policy check"))
    elif sarif:
        sys.stdout.write(
            code_sarif(checked.findings, RULES, unread, check="policy-check", uri=artifact_uri, tell=report_one)
        )
    elif junit:
        sys.stdout.writelines(code_junit(checked.findings, names, unread, check="policy-check"))
    else:
        for line in findings_text(checked.findings, files=len(names), unread=len(unread), what="policy check"):
            print(line)
    if unread:
        report(unread)
    return _exit_code(checked, unread)


def _exit_code(checked: Checked, unread: list[Diagnostic]) -> int:
    return EXIT_FAILED if checked.findings or unread else EXIT_DONE
