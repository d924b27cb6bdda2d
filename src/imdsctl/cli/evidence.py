"""`imdsctl evidence`: who still uses IMDSv1? CloudWatch is asked, and that costs money: what, is said beforehand."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from imdsctl.cli import options
from imdsctl.cli.dependencies import of
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.evidence import LOOK_BACK
from imdsctl.domain.roll_up import By, RollUp
from imdsctl.fleet.selection import ROLE_NAME, Selection

USD_MAX = Decimal(1)
"""What a run may cost, in US dollars, without being asked about."""


class FailOn(StrEnum):
    """What turns evidence into exit code 1."""

    USED = "used"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class EvidenceOptions:
    """The command line of `evidence`, checked."""

    selection: Selection
    look_back: timedelta = LOOK_BACK
    roll_up: RollUp = field(default_factory=RollUp)
    scan: str | None = None
    profile: str | None = None
    database: str | None = None
    usd_max: Decimal = USD_MAX
    yes: bool = False
    everything: bool = False
    missing: bool = False
    stored: bool = False
    cloudtrail: tuple[Path, ...] = ()
    cloudtrail_lookup: bool = False
    json: bool = False
    full: bool = False
    fail_on: frozenset[FailOn] = frozenset()


def command(
    ctx: typer.Context,
    look_back: Annotated[
        str, typer.Option("--look-back", metavar="TIME", help="How far to look back: `14d`, `36h`; at most 455d.")
    ] = "14d",
    scan: Annotated[str | None, typer.Option("--scan", help="Evidence for this scan. Default: the latest.")] = None,
    roll_up: Annotated[
        str,
        typer.Option(
            "--roll-up",
            metavar="KIND",
            help="group, cluster, template, image, tag:KEY, account or ou; workload is the first of these that it has.",
        ),
    ] = "workload",
    max_cost: Annotated[
        str, typer.Option("--max-cost", metavar="USD", help="What may be spent without being asked about.")
    ] = str(USD_MAX),
    yes: Annotated[bool, typer.Option("--yes", help="Spend what it costs, without a question.")] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Also ask for rejected calls on instances that require tokens already.")
    ] = False,
    missing: Annotated[
        bool,
        typer.Option("--missing", help="Ask only where nothing was gathered yet, with the look-back of what was."),
    ] = False,
    stored: Annotated[
        bool, typer.Option("--stored", help="Show what was gathered for the scan already; ask nobody.")
    ] = False,
    cloudtrail: Annotated[
        list[Path] | None,
        typer.Option("--cloudtrail", metavar="PATH", help="CloudTrail files or folders to read as well; repeatable."),
    ] = None,
    cloudtrail_lookup: Annotated[
        bool,
        typer.Option("--cloudtrail-lookup", help="Ask CloudTrail's event history about instances that stay unknown."),
    ] = False,
    accounts: options.Accounts = None,
    regions: options.Regions = None,
    ou: options.Units = None,
    exclude_accounts: options.ExcludeAccounts = None,
    exclude_regions: options.ExcludeRegions = None,
    exclude_ou: options.ExcludeUnits = None,
    profile: options.Profile = None,
    role: options.Role = ROLE_NAME,
    current_account: options.CurrentAccount = False,
    db: options.Database = None,
    json: options.Json = False,
    full: Annotated[bool, typer.Option("--full", help="Show every workload and the instances to look at.")] = False,
    fail_on: Annotated[
        list[FailOn] | None,
        typer.Option("--fail-on", help="Exit with 1 when something is used or unknown; repeatable."),
    ] = None,
) -> int:
    """See which workloads still use IMDSv1: CloudWatch's counts of the instances of a scan. Reads only.

    CloudWatch bills what is asked for: the number of metrics and their price are said first, and more than
    `--max-cost` needs a yes. No datapoints are reported as unknown, never as unused.
    """
    selection = options.selection(
        role=role,
        current_account=current_account,
        accounts=accounts,
        regions=regions,
        ou=ou,
        exclude_accounts=exclude_accounts,
        exclude_regions=exclude_regions,
        exclude_ou=exclude_ou,
    )
    asked = EvidenceOptions(
        selection,
        _length(look_back),
        _roll_up(roll_up),
        scan,
        profile,
        db,
        _usd(max_cost),
        yes,
        everything,
        missing,
        stored,
        tuple(cloudtrail or ()),
        cloudtrail_lookup,
        json,
        full,
        frozenset(fail_on or ()),
    )
    _check(asked)
    from imdsctl.cli.evidence_run import run

    return run(asked, of(ctx))


def _check(asked: EvidenceOptions) -> None:
    if asked.stored and (asked.missing or asked.cloudtrail_lookup):
        other = "--missing" if asked.missing else "--cloudtrail-lookup"
        raise DiagnosticError(
            Diagnostic("option-conflict", f"`--stored` asks nobody, and `{other}` asks AWS", hint="leave one out"),
            exit_code=2,
        )


_UNITS = {"m": 60, "h": 3600, "d": 86_400}


def _length(text: str) -> timedelta:
    from imdsctl.domain.metric_asks import LOOK_BACK_MAX

    found = re.fullmatch(r"([0-9]{1,6})([mhd])", text.strip())
    length = timedelta(seconds=int(found[1]) * _UNITS[found[2]]) if found else timedelta(0)
    if not timedelta(minutes=5) <= length <= LOOK_BACK_MAX:
        raise DiagnosticError(
            Diagnostic(
                "duration-invalid",
                f"`--look-back {text}` is no time that CloudWatch can look back",
                hint="write it like `14d` or `36h`: at least 5m, at most 455d, which is how long CloudWatch keeps it",
            ),
            exit_code=2,
        )
    return length


def _roll_up(text: str) -> RollUp:
    kind, _, key = text.partition(":")
    if kind == By.TAG and key:
        return RollUp(By.TAG, key)
    if not key and kind in set(By) - {By.TAG}:
        return RollUp(By(kind))
    kinds = ", ".join("tag:KEY" if each is By.TAG else each for each in By)
    raise DiagnosticError(
        Diagnostic("roll-up-invalid", f"evidence cannot be rolled up to `{text}`", hint=f"use one of {kinds}"),
        exit_code=2,
    )


def _usd(text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        amount = Decimal(-1)
    if not (amount.is_finite() and amount >= 0):
        raise DiagnosticError(
            Diagnostic("cost-invalid", f"`--max-cost {text}` is no amount", hint="write US dollars, like `2.50`"),
            exit_code=2,
        )
    return amount
