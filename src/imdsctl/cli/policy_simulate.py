"""`imdsctl policy simulate`: what becomes of a request, or a table of them, under given policies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imdsctl.cli import dependencies, options
from imdsctl.cli.errors import EXIT_DONE, EXIT_FAILED, report, wants_colour
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError

if TYPE_CHECKING:
    from imdsctl.codify.asked import Known
    from imdsctl.codify.policy_set import PolicySet
    from imdsctl.codify.request_rows import Row

_POLICIES = "Policies"
_REQUEST = "Request"
Files = list[Path] | None


def command(
    ctx: typer.Context,
    requests: Annotated[
        Path | None, typer.Option("--requests", metavar="FILE", help="A table of requests, CSV or JSON.")
    ] = None,
    action: Annotated[str, typer.Option("--action", rich_help_panel=_REQUEST)] = "RunInstances",
    parameter: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="NAME=VALUE",
            help="`MetadataOptions.HttpTokens=required`, `tag.team=web`, `key.aws:PrincipalTag/env=prod`,"
            " `default.HttpTokens=required`, `image.ImdsSupport=v2.0`; repeat it.",
            rich_help_panel=_REQUEST,
        ),
    ] = None,
    principal: Annotated[
        str | None, typer.Option("--principal", metavar="ARN", help="Who asks.", rich_help_panel=_REQUEST)
    ] = None,
    region: Annotated[str, typer.Option("--region", rich_help_panel=_REQUEST)] = "us-east-1",
    scp: Annotated[
        Files, typer.Option("--scp", metavar="FILE", help="An SCP; repeat it.", rich_help_panel=_POLICIES)
    ] = None,
    identity: Annotated[
        Files,
        typer.Option(
            "--identity",
            metavar="FILE",
            help="An identity-based policy of the caller. Without any, it allows everything.",
            rich_help_panel=_POLICIES,
        ),
    ] = None,
    boundary: Annotated[Path | None, typer.Option("--boundary", metavar="FILE", rich_help_panel=_POLICIES)] = None,
    session: Annotated[
        Files, typer.Option("--session", metavar="FILE", help="A session policy.", rich_help_panel=_POLICIES)
    ] = None,
    declarative: Annotated[
        Files,
        typer.Option(
            "--declarative", metavar="FILE", help="An EC2 policy, from the root down.", rich_help_panel=_POLICIES
        ),
    ] = None,
    account: Annotated[
        str | None,
        typer.Option(
            "--account",
            metavar="ID",
            help="The SCPs and EC2 policy of this account in a scan.",
            rich_help_panel=_POLICIES,
        ),
    ] = None,
    above: Annotated[
        list[str] | None,
        typer.Option(
            "--above", metavar="OU", help="Units above the account, from the root down.", rich_help_panel=_POLICIES
        ),
    ] = None,
    management_account: Annotated[
        bool,
        typer.Option("--management-account", help="SCPs do not bind the caller.", rich_help_panel=_POLICIES),
    ] = False,
    scan: Annotated[str | None, typer.Option("--scan", metavar="ID", help="Default: the latest scan.")] = None,
    db: options.Database = None,
    json: options.Json = False,
) -> int:
    """See what becomes of a call: policies, precedence, enforcement, what the instance gets. Asks AWS nothing.

    Exit codes: 0 simulated, 1 a result is not the one expected or a request could not be used, 2 wrong command line.
    """
    from imdsctl.codify.flips import smallest_flip
    from imdsctl.codify.simulate import Simulator
    from imdsctl.views.simulate import outcome_text, simulated_json, table

    policies, known, warnings = _policies(ctx, scp, identity, boundary, session, declarative, account, above, scan, db)
    simulator = Simulator(replace(policies, management_account=management_account))
    base: dict[str, Any] = {"action": action, "region": region}
    if principal or account:
        base["principal"] = principal or f"arn:aws:iam::{account}:role/somebody"
    rows, problems = _rows(requests, base, parameter or (), known)
    done = [(each, simulator.outcome(each.asked), smallest_flip(simulator, each.asked)) for each in rows]
    problems = [*warnings, *problems]
    if json:
        print(simulated_json(done, partial=bool(problems)))
    elif requests is None:
        print(outcome_text(*done[0], colour=options_colour()))
    else:
        print(table(done, colour=options_colour()))
    different = [row.place for row, outcome, _ in done if row.expect is not None and row.expect is not outcome.result]
    if problems:
        report(problems)
    if requests is not None and not json:
        partial = "partial: " if problems else ""
        print(f"\n{partial}{len(done):,} requests, {len(different):,} not as expected.")
    return EXIT_FAILED if problems or different else EXIT_DONE


def options_colour() -> bool:
    """Whether standard output wants colour."""
    import sys

    return wants_colour(sys.stdout)


def _rows(
    path: Path | None, base: dict[str, Any], given: Sequence[str], known: Mapping[tuple[str, str], Known]
) -> tuple[list[Row], list[Diagnostic]]:
    from imdsctl.adapters.request_table import checked_row, read_requests

    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name:
            hint = "write `--set MetadataOptions.HttpTokens=required`"
            raise DiagnosticError(Diagnostic("option-invalid", f"`{each}` is not NAME=VALUE", hint=hint), exit_code=2)
        base[name] = value
    if path is not None:
        return read_requests(path, base, known)
    try:
        return [checked_row(base, "--set", known)], []
    except ValueError as error:
        raise DiagnosticError(Diagnostic("request-invalid", str(error)), exit_code=2) from None


def _policies(
    ctx: typer.Context,
    scp: Files,
    identity: Files,
    boundary: Path | None,
    session: Files,
    declarative: Files,
    account: str | None,
    above: Sequence[str] | None,
    scan: str | None,
    db: str | None,
) -> tuple[PolicySet, dict[tuple[str, str], Known], list[Diagnostic]]:
    from imdsctl.adapters.policy_set_files import of_scan, read_declarative, read_policies, scp_level
    from imdsctl.codify.policy_set import PolicySet
    from imdsctl.codify.scan_known import known_of
    from imdsctl.policy.document import PolicyKind

    warnings: list[Diagnostic] = []
    base = PolicySet()
    known: dict[tuple[str, str], Known] = {}
    if account is not None:
        store = dependencies.of(ctx).scans(db)
        found = store.load(scan) if scan else store.latest()
        if found is None:
            hint = "run `imdsctl scan` first"
            missing = Diagnostic("scan-missing", "there is no scan to take policies from", hint=hint)
            raise DiagnosticError(missing, exit_code=2)
        base, warnings = of_scan(found, account, above or ())
        for each in found.regions:
            if each.target.account_id == account:
                known[account, each.target.region] = known_of(each)
    scps = base.scps
    if scp:
        scps = (*(scps or ()), *scp_level(read_policies(scp, PolicyKind.SCP)))
    return (
        PolicySet(
            scps,
            read_policies(identity, PolicyKind.IDENTITY) if identity else None,
            read_policies([boundary], PolicyKind.BOUNDARY)[0] if boundary else None,
            read_policies(session, PolicyKind.SESSION) if session else None,
            read_declarative(declarative) if declarative else base.declarative,
        ),
        known,
        warnings,
    )
