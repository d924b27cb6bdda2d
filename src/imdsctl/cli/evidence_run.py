"""What `imdsctl evidence` does: say the price, gather, keep, show."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from imdsctl.cli import options
from imdsctl.cli.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, report, wants_colour
from imdsctl.cli.evidence import EvidenceOptions, FailOn
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.evidence import Evidence, Use, joined

if TYPE_CHECKING:
    from imdsctl.cli.dependencies import Dependencies
    from imdsctl.domain.metric_asks import Estimate, Price, Span
    from imdsctl.domain.observations import RegionSeen, Scan
    from imdsctl.domain.role_delivery import Deliveries
    from imdsctl.fleet.evidence import Enter, Gathering
    from imdsctl.fleet.ports import Aws, ScanStore


def run(asked: EvidenceOptions, deps: Dependencies) -> int:
    """Gather, keep, show, and give the exit code. What cannot be kept is shown all the same: it was paid for."""
    store = deps.scans(asked.database)
    seen = store.load(asked.scan) if asked.scan else store.latest()
    if seen is None:
        raise DiagnosticError(
            Diagnostic("scan-missing", "there is no scan to look for evidence of", hint="run `imdsctl scan`")
        )
    price: Price | None = None
    notes: list[str] = []
    earlier = store.evidence(seen.scan_id)
    mine: str | None = None
    if asked.stored:
        evidence = _with_files(asked, _kept(earlier, seen, "--stored"), notes)
    else:
        store.prepare()
        evidence, price, mine = _gather(asked, deps, store, seen, earlier, notes)
    unkept = _keep(store, evidence) if asked.cloudtrail or not asked.stored else None
    uses = _show(asked, seen, evidence, price, notes, mine)
    if unkept is not None:
        raise unkept
    failed = (FailOn.USED in asked.fail_on and Use.USED in uses) or (
        FailOn.UNKNOWN in asked.fail_on and Use.UNKNOWN in uses
    )
    return EXIT_FAILED if failed else EXIT_DONE


def _keep(store: ScanStore, evidence: Evidence) -> DiagnosticError | None:
    try:
        store.save_evidence(evidence)
    except DiagnosticError as error:
        return error
    return None


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
) -> tuple[Evidence, Price, str | None]:
    """The evidence, with that of the rest of the scan when a part was asked; its price; the current account's id.

    What was paid for is kept when Ctrl-C ends it. Raises DiagnosticError.
    """
    from imdsctl.domain.metric_asks import look_back_span
    from imdsctl.fleet.evidence import Gathering

    missing = _kept(earlier, seen, "--missing") if asked.missing else None
    look_back = missing.look_back if missing else asked.look_back
    into = Gathering(seen.scan_id, look_back_span(look_back, deps.now()), look_back)
    try:
        evidence, mine = options.run_async(_gathered(asked, deps, seen, missing, into, notes))
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
    if asked.selection.narrows or asked.missing:
        evidence = joined(earlier, evidence)
    return evidence, into.price, mine


async def _gathered(
    asked: EvidenceOptions,
    deps: Dependencies,
    seen: Scan,
    missing: Evidence | None,
    into: Gathering,
    notes: list[str],
) -> tuple[Evidence, str | None]:
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
    return evidence, mine


def _with_files(asked: EvidenceOptions, evidence: Evidence, notes: list[str]) -> Evidence:
    """Evidence that was kept, with what CloudTrail's files show in its look-back."""
    files = _trail_files(asked)
    if not files:
        return evidence
    from imdsctl.domain.role_delivery import Deliveries, with_deliveries

    found = Deliveries(evidence.taken - evidence.look_back, evidence.taken, _wanted(evidence))
    _read_files(files, found, notes)
    return with_deliveries(evidence, found)


def _wanted(evidence: Evidence) -> frozenset[tuple[str, str]]:
    return frozenset((target.account_id, instance_id) for target, instance_id in evidence.instances)


def _read_files(files: Sequence[Path], into: Deliveries, notes: list[str]) -> None:
    from imdsctl.adapters.cloudtrail_files import read_trail_files

    problems = read_trail_files(files, into)
    if problems:
        report(problems)
    notes.append(f"{len(files):,} CloudTrail files have {into.events:,} events of these instances' roles")


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

    found = Deliveries(span.start, span.end, _wanted(evidence))
    if files:
        _read_files(files, found, notes)
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


def _show(
    asked: EvidenceOptions,
    seen: Scan,
    evidence: Evidence,
    price: Price | None,
    notes: Sequence[str],
    mine: str | None,
) -> set[Use]:
    """Print the part that was asked for; gives the uses in it: what did not answer, or was not scanned, is unknown."""
    from imdsctl.domain.planner_here import some
    from imdsctl.domain.roll_up import rolled_up
    from imdsctl.fleet.scan_scope import scope_of
    from imdsctl.views.evidence import evidence_json, evidence_text

    regions = scope_of(seen, asked.selection, current_account=mine)
    if unread := list(dict.fromkeys(regions.unread())):
        blind = f"the scan could not see the instances of {some(unread)}: who uses IMDSv1 there is unknown"
        notes = (*notes, blind)
    if asked.selection.narrows:
        there = {region.target for region in regions}
        evidence = replace(
            evidence,
            instances={key: each for key, each in evidence.instances.items() if key[0] in there},
            unseen=tuple(each for each in evidence.unseen if each[0] in there),
        )
    units = {each.account_id: each.ou_path for each in seen.accounts}
    workloads = rolled_up(regions, evidence, asked.roll_up, units)
    if asked.json:
        sys.stdout.write(evidence_json(evidence, workloads, asked.roll_up, price, notes))
    else:
        names = {each.account_id: each.name for each in seen.accounts if each.name}
        colour = wants_colour(sys.stdout)
        print(evidence_text(evidence, workloads, names, asked.roll_up, colour=colour, full=asked.full))
        for note in notes:
            print(f"note: {note}", file=sys.stderr)
    uses = {use for workload in workloads for use, number in workload.counts.items() if number}
    return uses | {Use.UNKNOWN} if evidence.unseen or unread else uses
