"""`imdsctl scan`: where does every account stand, in every Region?"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Annotated

import typer

from imdsctl.cli import dependencies, options
from imdsctl.cli.errors import EXIT_DONE, EXIT_FAILED, interruptible, report, wants_colour
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError, Severity
from imdsctl.domain.waves import duration_words
from imdsctl.fleet.selection import ROLE_NAME, Selection

if TYPE_CHECKING:
    from imdsctl.cli.dependencies import Dependencies
    from imdsctl.domain.observations import Scan
    from imdsctl.domain.verdicts import ScanSummary
    from imdsctl.fleet.entrance import Entrance
    from imdsctl.fleet.ports import Aws, ScanStore, ScanWriter
    from imdsctl.fleet.targets import Visit


class FailOn(StrEnum):
    """What turns a finished scan into exit code 1."""

    UNKNOWN = "unknown"
    EXPOSED = "exposed"


@dataclass(frozen=True, slots=True)
class ScanOptions:
    """The command line of `scan`, checked. `resume` is a scan's id, or "" for the unfinished one that began last."""

    selection: Selection
    profile: str | None = None
    database: str | None = None
    json: bool = False
    fail_on: frozenset[FailOn] = frozenset()
    more_profiles: tuple[str, ...] = ()
    time_limit: timedelta | None = None
    resume: str | None = None
    dask: str | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """A scan, or the part of one that was read before it was stopped; then it is not `complete`.

    `earlier` targets of an unfinished scan were read by an earlier run, and are in its store only.
    """

    scan: Scan
    summary: ScanSummary
    complete: bool = True
    earlier: int = 0
    not_reached: int = 0


def command(
    ctx: typer.Context,
    scan_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help="With `--resume`: the unfinished scan; else the last begun.")
    ] = None,
    accounts: options.Accounts = None,
    regions: options.Regions = None,
    ou: options.Units = None,
    exclude_accounts: options.ExcludeAccounts = None,
    exclude_regions: options.ExcludeRegions = None,
    exclude_ou: options.ExcludeUnits = None,
    accounts_file: options.AccountsFile = None,
    profile: options.Profiles = None,
    role: options.Role = ROLE_NAME,
    current_account: options.CurrentAccount = False,
    services: options.Services = True,
    time_limit: Annotated[
        str | None,
        typer.Option("--time-limit", metavar="TIME", help="Stop after `90s`, `30m`, `2h`; `--resume` goes on."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a scan that was stopped.")] = False,
    dask: Annotated[
        str | None,
        typer.Option("--dask", metavar="ADDRESS", help="Share the work among the workers of this Dask scheduler."),
    ] = None,
    db: options.Database = None,
    json: options.Json = False,
    fail_on: Annotated[
        list[FailOn] | None,
        typer.Option("--fail-on", help="Exit with 1 when something is unknown or exposed; repeatable."),
    ] = None,
) -> int:
    """See where every account stands in every Region. Reads only; the result is kept for `plan`.

    Exit codes: 0 scanned, 1 failed, stopped by `--time-limit`, or `--fail-on` found something, 2 wrong command line or
    input, 130 interrupted.
    """
    chosen = options.selection(
        role=role,
        current_account=current_account,
        accounts=accounts,
        regions=regions,
        ou=ou,
        exclude_accounts=exclude_accounts,
        exclude_regions=exclude_regions,
        exclude_ou=exclude_ou,
        accounts_file=accounts_file,
        services=services,
    )
    _check_resume(chosen, resume, scan_id)
    profiles = options.listed(profile)
    asked = ScanOptions(
        chosen,
        profiles[0] if profiles else None,
        db,
        json,
        frozenset(fail_on or ()),
        profiles[1:],
        options.duration("--time-limit", time_limit),
        (scan_id or "") if resume else None,
        dask,
    )
    return run(asked, dependencies.of(ctx))


def _check_resume(chosen: Selection, resume: bool, scan_id: str | None) -> None:
    if scan_id is not None and not resume:
        raise DiagnosticError(
            Diagnostic("usage", f"`{scan_id}` goes with `--resume`", hint=f"imdsctl scan --resume {scan_id}"),
            exit_code=2,
        )
    narrowed = [name for name, _ in chosen.scope() if name != "accounts-file"]
    if resume and narrowed:
        names = " and ".join(f"`--{name}`" for name in narrowed)
        raise DiagnosticError(
            Diagnostic(
                "option-conflict",
                f"{names} cannot be changed for a scan that is gone on with",
                hint="leave it out: the scan knows where it looks",
            ),
            exit_code=2,
        )


def run(asked: ScanOptions, deps: Dependencies) -> int:
    """Scan, keep the scan, print it, and give the exit code."""
    kept = "nothing was changed, a scan only reads, and what it has read is kept"
    with interruptible(kept, hint="`imdsctl scan --resume` goes on with it"):
        taken = options.run_async(take_summed(asked, deps, deps.scans(asked.database)))
        _show(taken, asked)
    if not taken.complete:
        _report_stop(taken, asked)
        return EXIT_FAILED
    return EXIT_FAILED if _fails(taken.summary, asked.fail_on) else EXIT_DONE


async def take(asked: ScanOptions, deps: Dependencies, store: ScanStore) -> Scan:
    """Sweep the selection into the store, with progress on standard error. Raises DiagnosticError."""
    return (await take_summed(asked, deps, store)).scan


async def take_summed(asked: ScanOptions, deps: Dependencies, store: ScanStore) -> Taken:
    """The same, summed up on the way. Raises DiagnosticError."""
    import asyncio

    async with AsyncExitStack() as stack:
        profiles = (asked.profile, *asked.more_profiles)
        doors = [await stack.enter_async_context(deps.aws(each)) for each in profiles]
        entrance = None
        if len(doors) == 1 and asked.resume is None and asked.dask is None:
            from imdsctl.fleet.entrance import Entrance

            entrance = Entrance(doors[0], asked.selection)
            stack.push_async_callback(entrance.close)
        visit, selection, writer = await _begin(asked, deps, store, doors, entrance)

        # Loaded by now, while answers were on their way.
        from imdsctl.domain.observations import Scan, ScanEnd
        from imdsctl.domain.verdicts import Summing, scan_summary
        from imdsctl.fleet.scan import SweepStopped, header_of, sweep
        from imdsctl.views.progress import listening

        if writer is None:
            writer = store.begin(header_of(selection, visit, scan_id=deps.new_id(), started=deps.now()))
        if asked.dask is not None:
            from imdsctl.adapters.dask_sweep import dask_sweep
            from imdsctl.adapters.database_engine import Database

            behind = list(zip(profiles, doors, strict=True))
            url = Database(asked.database).shared_url
            sweeping = partial(dask_sweep, asked.dask, behind, database=url)
        else:
            sweeping = partial(sweep, doors[0], serves=deps.serves, entrance=entrance)
        earlier = len(writer.done)
        summing, stop = Summing(), asyncio.Event()
        if asked.time_limit is not None:
            asyncio.get_running_loop().call_later(asked.time_limit.total_seconds(), stop.set)
        try:
            with listening(sys.stderr) as tell, _kept_apart():
                scan = await sweeping(selection, visit, writer, now=deps.now, tell=tell, summing=summing, stop=stop)
        except SweepStopped as stopped:
            header = writer.header
            read = Scan.of(header, (), ScanEnd(deps.now(), stopped.unseen, calls=stopped.calls))
            summary = summing.summary(header.accounts, stopped.unseen)
            return Taken(read, summary, complete=False, earlier=earlier, not_reached=stopped.not_reached)
    # What an earlier run has read was summed up by nobody yet: such a scan is gone through in its store.
    return Taken(scan, scan_summary(scan) if earlier else summing.summary(scan.accounts, scan.unseen))


def _load() -> None:
    """Load what a sweep needs, a third of a second of it, in whatever thread has time for it."""
    from imdsctl.adapters.models import load_service

    import_module("imdsctl.fleet.scan")
    import_module("sqlalchemy.dialects.sqlite")
    for service in ("ec2", "autoscaling"):
        load_service(service)


@contextmanager
def _kept_apart() -> Iterator[None]:
    """What was loaded before a sweep stays: it is not gone through for garbage. (`__main__` says how often.)"""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


async def _begin(
    asked: ScanOptions, deps: Dependencies, store: ScanStore, doors: list[Aws], entrance: Entrance | None
) -> tuple[Visit, Selection, ScanWriter | None]:
    """Whom to visit; and the writer, when it is that of an earlier run. The store is ready. Raises DiagnosticError.

    `entrance` is told who there is as soon as somebody is known.
    """
    import asyncio

    from imdsctl.fleet.targets import find_accounts, find_accounts_through, go_on

    async def prepare() -> None:
        await asyncio.to_thread(_load)
        store.prepare()

    if asked.resume is not None:
        await prepare()
        writer = store.resume(asked.resume or None)
        selection = Selection.from_scope(writer.header.scope, asked.selection.role)
        selection = replace(selection, listed=asked.selection.listed or selection.listed)
        visit = await go_on(doors[0], selection, writer.header.accounts)
        if len(doors) > 1:
            visit = replace(visit, doors=(await find_accounts_through(doors, selection)).doors)
        return visit, selection, writer
    if len(doors) > 1:
        finding = find_accounts_through(doors, asked.selection)
    else:
        finding = find_accounts(doors[0], asked.selection, entrance)
    # The answers are far away: what is needed afterwards is loaded meanwhile. None of these calls costs anything.
    async with asyncio.TaskGroup() as group:
        found = group.create_task(finding)
        group.create_task(prepare())
    visit = found.result()
    if visit.notices:
        report(visit.notices)
    return visit, asked.selection, None


def _show(taken: Taken, asked: ScanOptions) -> None:
    if asked.json:
        from imdsctl.views.json import scan_json

        for piece in scan_json(taken.scan, taken.summary, complete=taken.complete):
            sys.stdout.write(piece)
    else:
        from imdsctl.views.text import scan_text

        colour = wants_colour(sys.stdout)
        print(scan_text(taken.scan, taken.summary, colour=colour, complete=taken.complete, earlier=taken.earlier))


def _report_stop(taken: Taken, asked: ScanOptions) -> None:
    limit = f"its time limit of {duration_words(asked.time_limit)}" if asked.time_limit else "a limit"
    seen = len(taken.summary.targets) + taken.earlier
    report(
        [
            Diagnostic(
                "scan-unfinished",
                f"the scan was stopped by {limit}: {seen:,} Regions were read, {taken.not_reached:,} accounts or "
                "Regions were not reached",
                taken.scan.scan_id,
                f"`imdsctl scan --resume {taken.scan.scan_id}` reads what is missing; until then `plan` takes the scan "
                "before it",
                severity=Severity.WARNING,
            )
        ]
    )


def _fails(summary: ScanSummary, fail_on: frozenset[FailOn]) -> bool:
    # A scan that has read nothing proves nothing.
    unknown = FailOn.UNKNOWN in fail_on and bool(summary.unknowns or not summary.targets)
    return unknown or (FailOn.EXPOSED in fail_on and bool(summary.exposed))
