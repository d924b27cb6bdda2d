"""`imdsctl evidence`: who still uses IMDSv1? CloudWatch is asked, and that costs money: what, is said beforehand."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal, InvalidOperation
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imdsctl.cli import options
from imdsctl.cli.dependencies import Dependencies, of
from imdsctl.cli.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, report, wants_colour
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.evidence import LOOK_BACK, Evidence, Use, joined
from imdsctl.domain.roll_up import By, RollUp
from imdsctl.fleet.targets import ROLE_NAME, Selection

if TYPE_CHECKING:
    from imdsctl.domain.metric_asks import Estimate, Price, Span
    from imdsctl.domain.observations import RegionSeen, Scan
    from imdsctl.domain.role_delivery import Deliveries
    from imdsctl.fleet.evidence import Enter, Gathering
    from imdsctl.fleet.ports import Aws, ScanStore

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
    return run(asked, of(ctx))


def run(asked: EvidenceOptions, deps: Dependencies) -> int:
    """Gather, keep, show, and give the exit code."""
    store = deps.scans(asked.database)
    seen = store.load(asked.scan) if asked.scan else store.latest()
    if seen is None:
        raise DiagnosticError(
            Diagnostic("scan-missing", "there is no scan to look for evidence of", hint="run `imdsctl scan`")
        )
    price: Price | None = None
    notes: list[str] = []
    earlier = store.evidence(seen.scan_id)
    if asked.stored:
        evidence = _kept(earlier, seen, "--stored")
    else:
        store.prepare()
        evidence, price = _gather(asked, deps, store, seen, earlier, notes)
    _show(asked, seen, evidence, price, notes)
    uses = {each.use for each in evidence.instances.values()}
    failed = (FailOn.USED in asked.fail_on and Use.USED in uses) or (
        FailOn.UNKNOWN in asked.fail_on and (Use.UNKNOWN in uses or bool(evidence.unseen))
    )
    return EXIT_FAILED if failed else EXIT_DONE


def _kept(earlier: Evidence | None, seen: Scan, option: str) -> Evidence:
    if earlier is None:
        raise DiagnosticError(
            Diagnostic(
                "evidence-missing",
                f"no evidence was gathered for scan {seen.scan_id}",
                hint=f"run `imdsctl evidence` without `{option}`",
            )
        )
    return earlier


def _gather(
    asked: EvidenceOptions,
    deps: Dependencies,
    store: ScanStore,
    seen: Scan,
    earlier: Evidence | None,
    notes: list[str],
) -> tuple[Evidence, Price]:
    """Gather and keep; what was paid for is kept when Ctrl-C ends it, too. Raises DiagnosticError."""
    from imdsctl.domain.metric_asks import look_back_span
    from imdsctl.fleet.evidence import Gathering

    missing = _kept(earlier, seen, "--missing") if asked.missing else None
    look_back = missing.look_back if missing else asked.look_back
    into = Gathering(seen.scan_id, look_back_span(look_back, deps.now()), look_back)
    part = asked.selection.narrows or asked.missing
    try:
        evidence = options.run_async(_gathered(asked, deps, seen, missing, into, notes))
    except KeyboardInterrupt:
        if into.instances:
            store.save_evidence(joined(earlier, into.evidence()))
        number = len(into.instances)
        raise DiagnosticError(
            Diagnostic(
                "interrupted",
                f"stopped by Ctrl-C; nothing was changed, and the evidence of {number:,} instance(s) is kept",
                hint="`imdsctl evidence --missing` asks for the rest" if into.instances else None,
            ),
            exit_code=EXIT_INTERRUPTED,
        ) from None
    if part:
        evidence = joined(earlier, evidence)
    store.save_evidence(evidence)
    return evidence, into.price


async def _gathered(
    asked: EvidenceOptions,
    deps: Dependencies,
    seen: Scan,
    missing: Evidence | None,
    into: Gathering,
    notes: list[str],
) -> Evidence:
    """Say what it costs, ask if that is too much, then ask CloudWatch and CloudTrail. Raises DiagnosticError."""
    from imdsctl.domain.metric_asks import Budget, Estimate
    from imdsctl.fleet.evidence import StillMissing, gather, questions
    from imdsctl.fleet.scan_scope import scope_of
    from imdsctl.fleet.sessions import Sessions
    from imdsctl.fleet.targets import who_am_i
    from imdsctl.views.evidence import announcement_text, asked_text
    from imdsctl.views.progress import asking

    files = _trail_files(asked)
    async with deps.aws(asked.profile) as aws:
        caller = await who_am_i(aws)
        mine = caller.account_id if asked.selection.current_account else None
        scope: Iterable[RegionSeen] = scope_of(seen, asked.selection, current_account=mine)
        if missing is not None:
            scope = StillMissing(scope, into.span, missing, everything=asked.everything)
        estimate = Estimate.of(questions(scope, into.span, everything=asked.everything))
        if estimate.targets:
            print(announcement_text(estimate, into.span), file=sys.stderr)
        _agreed(asked, estimate)
        enter = Sessions(aws, caller, asked.selection.role, deps.now)
        budget = Budget(estimate.budget(asked.usd_max), estimate.by_id.metrics)
        with asking(sys.stderr, estimate.targets) as tell:
            await gather(aws, enter, scope, into, budget, everything=asked.everything, tell=tell)
        if estimate.targets:
            print(asked_text(into.price), file=sys.stderr)
        evidence = into.evidence()
        if files or asked.cloudtrail_lookup:
            evidence = await _with_cloudtrail(asked, aws, enter, evidence, into.span, files, notes)
    return evidence


def _trail_files(asked: EvidenceOptions) -> list[Path]:
    if not asked.cloudtrail:
        return []
    from imdsctl.adapters.cloudtrail_files import trail_files

    return trail_files(asked.cloudtrail)


async def _with_cloudtrail(
    asked: EvidenceOptions,
    aws: Aws,
    enter: Enter,
    evidence: Evidence,
    span: Span,
    files: Sequence[Path],
    notes: list[str],
) -> Evidence:
    from imdsctl.domain.role_delivery import Deliveries, with_deliveries

    wanted = frozenset((target.account_id, instance_id) for target, instance_id in evidence.instances)
    found = Deliveries(span.start, span.end, wanted)
    if files:
        from imdsctl.adapters.cloudtrail_files import read_trail_files

        problems = read_trail_files(files, found)
        if problems:
            report(problems)
        notes.append(f"{len(files):,} CloudTrail files have {found.events:,} events of these instances' roles")
    if asked.cloudtrail_lookup:
        await _looked_up(aws, enter, with_deliveries(evidence, found), found, notes)
    return with_deliveries(evidence, found)


async def _looked_up(aws: Aws, enter: Enter, evidence: Evidence, into: Deliveries, notes: list[str]) -> None:
    """Ask the event history about what is unknown."""
    from imdsctl.fleet.role_delivery import CANNOT, look_up, seconds_of

    unknown = [key for key, each in evidence.instances.items() if each.use is Use.UNKNOWN]
    print(
        f"CloudTrail will be asked about {len(unknown):,} instances that stay unknown: at least "
        f"{seconds_of(unknown):,} s, at two calls a second for an account in a Region.",
        file=sys.stderr,
    )
    for target, reason in await look_up(aws, enter, unknown, into):
        notes.append(f"{target}: {reason}")
    notes.append(CANNOT)


def _agreed(asked: EvidenceOptions, estimate: Estimate) -> None:
    """More than `--max-cost` needs a yes: `--yes`, or one typed on a terminal. Raises DiagnosticError."""
    from imdsctl.views.evidence import usd_text

    if asked.yes or not estimate.needs_confirmation(asked.usd_max):
        return
    most = usd_text(estimate.by_id).removeprefix("about ")
    if sys.stdin.isatty() and sys.stderr.isatty():
        print(f"That may cost up to {most}. Type `yes` to ask: ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() in ("yes", "y"):
            return
    raise DiagnosticError(
        Diagnostic(
            "cost-unconfirmed",
            f"asking may cost up to {most}, which is more than `--max-cost {asked.usd_max}`; nothing was asked",
            hint="allow it with `--yes` or a higher `--max-cost`, or narrow it with `--accounts` or `--regions`",
        ),
        exit_code=2,
    )


def _show(asked: EvidenceOptions, seen: Scan, evidence: Evidence, price: Price | None, notes: Sequence[str]) -> None:
    from imdsctl.domain.roll_up import rolled_up
    from imdsctl.views.evidence import evidence_json, evidence_text

    units = {each.account_id: each.ou_path for each in seen.accounts}
    workloads = rolled_up(seen.regions, evidence, asked.roll_up, units)
    if asked.json:
        sys.stdout.write(evidence_json(evidence, workloads, asked.roll_up, price, notes))
        return
    names = {each.account_id: each.name for each in seen.accounts if each.name}
    print(evidence_text(evidence, workloads, names, asked.roll_up, colour=wants_colour(sys.stdout), full=asked.full))
    for note in notes:
        print(f"note: {note}", file=sys.stderr)


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
