"""`imdsctl watch`: keep looking, tell who changed what, and put it right if asked."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imdsctl.cli import dependencies, options
from imdsctl.cli.errors import EXIT_DONE, EXIT_INTERRUPTED, interruptible, report
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.intent import Intent
from imdsctl.fleet.selection import ROLE_NAME, Selection
from imdsctl.fleet.targets import ACTIVE

if TYPE_CHECKING:
    from imdsctl.cli.dependencies import Dependencies
    from imdsctl.domain.observations import Account, RegionSeen, Scan, Target
    from imdsctl.domain.plan import Plan
    from imdsctl.domain.trail_events import TrailEvent
    from imdsctl.fleet.ports import Aws, ScanStore
    from imdsctl.fleet.sessions import Sessions
    from imdsctl.fleet.targets import Caller
    from imdsctl.fleet.watch_events import EventSource, Listener, WatchEvent
    from imdsctl.fleet.watch_repairs import Repaired

INTERVAL = "1h"
ACCOUNTS_ASKED_EVERY = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """The command line of `watch`, checked. `interval` None: only events make it look."""

    selection: Selection
    intent: Intent
    intent_file: Path | None = None
    profile: str | None = None
    database: str | None = None
    interval: timedelta | None = None
    count: int | None = None
    once: bool = False
    queue: str | None = None
    events: Path | None = None
    repair: bool = False
    repair_max: int = 10
    repairs: Path | None = None
    webhook: str | None = None
    json: bool = False


def command(
    ctx: typer.Context,
    interval: Annotated[
        str | None,
        typer.Option(
            "--interval",
            metavar="TIME",
            help=f"Scan this often: 90s, 15m, 1h, 1d. Default {INTERVAL}; with events none.",
        ),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="One scan, or the events that are there, and end.")] = False,
    count: Annotated[
        int | None, typer.Option("--count", metavar="N", min=1, help="End after so many rounds.", show_default=False)
    ] = None,
    queue: Annotated[
        str | None, typer.Option("--queue", metavar="URL", help="Read CloudTrail's events from this SQS queue.")
    ] = None,
    events: Annotated[
        Path | None,
        typer.Option("--events", metavar="PATH", help="Follow CloudTrail's events in this file or folder."),
    ] = None,
    intent: options.IntentFile = None,
    repair: Annotated[bool, typer.Option("--repair", help="Plan what drifted, and apply it.")] = False,
    repair_max: Annotated[
        int, typer.Option("--repair-max", metavar="N", min=1, help="So many changes in a round at most.")
    ] = 10,
    repairs: Annotated[
        Path | None,
        typer.Option(
            "--repairs", metavar="DIR", help="Where repairs leave their plans and journals.", show_default=False
        ),
    ] = None,
    webhook: Annotated[
        str | None,
        typer.Option(
            "--webhook",
            metavar="URL",
            envvar="IMDSCTL_WEBHOOK",
            help="POST drift, unknowns, repairs there, as JSON.",
        ),
    ] = None,
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
    json: Annotated[bool, typer.Option("--json", help="Print events as JSON, one object a line.")] = False,
) -> int:
    """Keep looking: tell what drifts from the intent and who did it, and repair it if asked.

    Exit codes: 0 ended by SIGTERM, `--once` or `--count`; 1 failed; 2 wrong command line or input; 130 interrupted.
    """
    from imdsctl.adapters.intent_file import find_intent

    _check(queue, events, once=once, count=count, repair=repair, repairs=repairs)
    by_events = queue is not None or events is not None
    wanted, source = find_intent(intent)
    asked = WatchOptions(
        selection=options.selection(
            role=role,
            current_account=current_account,
            accounts=accounts,
            regions=regions,
            ou=ou,
            exclude_accounts=exclude_accounts,
            exclude_regions=exclude_regions,
            exclude_ou=exclude_ou,
        ),
        intent=wanted,
        intent_file=source,
        profile=profile,
        database=db,
        interval=options.duration("--interval", interval or (None if by_events else INTERVAL)),
        count=count,
        once=once,
        queue=queue,
        events=events,
        repair=repair,
        repair_max=repair_max,
        repairs=repairs,
        webhook=webhook,
        json=json,
    )
    return run(asked, dependencies.of(ctx))


def run(asked: WatchOptions, deps: Dependencies) -> int:
    """Watch, and give the exit code."""
    with interruptible("no message was lost: what was not done with comes again"):
        store = deps.scans(asked.database)
        store.prepare()
        by_signal = options.run_async(_watch(asked, deps, store))
    if by_signal == signal.SIGINT:
        report(
            [Diagnostic("interrupted", "stopped by Ctrl-C; no message was lost: what was not done with comes again")]
        )
        return EXIT_INTERRUPTED
    return EXIT_DONE


def _check(
    queue: str | None, events: Path | None, *, once: bool, count: int | None, repair: bool, repairs: Path | None
) -> None:
    wrong = []
    if queue is not None and events is not None:
        wrong.append(("`--queue` and `--events` both say where events come from", "give one of them"))
    if once and count is not None:
        wrong.append(("`--once` and `--count` both say when to end", "give one of them"))
    if repairs is not None and not repair:
        wrong.append(("`--repairs` says where repairs are kept, and none are made", "add `--repair`"))
    if wrong:
        raise DiagnosticError([Diagnostic("option-conflict", what, hint=hint) for what, hint in wrong], exit_code=2)


async def _watch(asked: WatchOptions, deps: Dependencies, store: ScanStore) -> int | None:
    """Watch to the end; gives the signal that ended it, if one did."""
    from imdsctl.adapters.clock import SystemClock
    from imdsctl.adapters.intent_file import IntentFollowed
    from imdsctl.adapters.webhook import SECRET_VARIABLE, Webhook
    from imdsctl.fleet.sessions import Sessions
    from imdsctl.fleet.targets import who_am_i
    from imdsctl.fleet.watch import Hands, Watching

    clock = SystemClock()
    webhook = None
    if asked.webhook is not None:
        webhook = Webhook(asked.webhook, os.environ.get(SECRET_VARIABLE), clock, _undelivered)
    async with deps.aws(asked.profile) as aws:
        source = _source(asked, aws)
        caller = await who_am_i(aws)
        stop = asyncio.Event()
        with _signals(stop) as by_signal:
            world = _World(asked, deps, store, aws, caller, Sessions(aws, caller, asked.selection.role, deps.now), stop)
            watching = Watching(
                hands=Hands(
                    scan=world.scan,
                    read=world.read,
                    watched=world.watched,
                    writes_since=world.writes_since,
                    repair=world.repair if asked.repair else None,
                    intent=None if _is_stream(asked.intent_file) else IntentFollowed(asked.intent_file),
                ),
                intent=asked.intent,
                clock=clock,
                stop=stop,
                tell=_listener(asked, webhook.send if webhook is not None else None),
                source=source,
                intent_file="" if asked.intent_file is None else str(asked.intent_file),
                interval=asked.interval,
                rounds=1 if asked.once and source is None else asked.count,
                until_empty=asked.once,
                repair_max=asked.repair_max,
                scope=asked.selection.scope(caller.account_id),
            )
            try:
                await watching.run(_baseline(store))
            finally:
                if webhook is not None:
                    await webhook.close()
            return by_signal()


def _is_stream(file: Path | None) -> bool:
    """Whether it is there to be read once: /dev/stdin, or a shell's `<(...)`."""
    return file is not None and file.exists() and not file.is_file()


def _baseline(store: ScanStore) -> Scan | None:
    """The scan that finished last of those that asked other services too, as a watch does.

    Compared with one that did not, every service would be drift, and so would what their containers need.
    """
    from imdsctl.domain.scope import services_left_out

    records = [each for each in store.history() if not services_left_out(each.scope)]
    done = [(each.finished, each.scan_id) for each in records if each.finished is not None]
    return store.load(max(done)[1]) if done else None


def _source(asked: WatchOptions, aws: Aws) -> EventSource | None:
    if asked.queue is not None:
        from imdsctl.fleet.watch_queue import SqsEvents

        return SqsEvents(aws, asked.queue)
    if asked.events is not None:
        from imdsctl.adapters.event_files import EventFiles

        return EventFiles(asked.events)
    return None


def _listener(asked: WatchOptions, send: Callable[[Mapping[str, Any]], None] | None) -> Listener:
    from imdsctl.views.watch import is_quiet, notice, watch_json, watch_text

    def tell(event: WatchEvent) -> None:
        # A reader that went away (`| head`) ends the watch at the next line, as it should.
        print(watch_json(event).rstrip("\n") if asked.json else watch_text(event), flush=True)
        if send is not None and not is_quiet(event):
            send(notice(event))

    return tell


def _undelivered(address: str, reason: str) -> None:
    report([Diagnostic("webhook-failed", f"a notice was not delivered: {reason}", address)])


class _World:
    """What watching does to AWS and to the disk."""

    def __init__(
        self,
        asked: WatchOptions,
        deps: Dependencies,
        store: ScanStore,
        aws: Aws,
        caller: Caller,
        sessions: Sessions,
        stop: asyncio.Event,
    ) -> None:
        self._asked = asked
        self._deps = deps
        self._store = store
        self._aws = aws
        self._caller = caller
        self._sessions = sessions
        self._stop = stop
        self._accounts: dict[str, Account] = {}
        self._asked_at: datetime | None = None

    async def scan(self) -> Scan:
        """One sweep into the store: `imdsctl scan`."""
        from imdsctl.cli.scan import ScanOptions, take

        asked = self._asked
        scan = await take(ScanOptions(asked.selection, asked.profile, asked.database), self._deps, self._store)
        self._accounts = {each.account_id: each for each in scan.accounts if each.state == ACTIVE}
        return scan

    async def read(self, target: Target) -> RegionSeen:
        """One target, as a sweep reads it."""
        from imdsctl.fleet.services import READERS
        from imdsctl.fleet.target_reader import PublicImages, read_target

        services = [each for each in READERS.values() if self._deps.serves(each.service, target.region)]
        credentials = await self._sessions(target.account_id)
        return await read_target(self._aws, credentials, target, PublicImages(), services)

    async def watched(self, target: Target) -> Account | None:
        """The account when the selection has it and the Region.

        One that nobody has heard of is looked up, but not again and again: events may name any account.
        """
        from imdsctl.fleet.targets import find_accounts

        selection = self._asked.selection
        if target.region in selection.exclude_regions:
            return None
        if selection.regions and target.region not in selection.regions:
            return None
        now = self._deps.now()
        lately = self._asked_at is not None and now - self._asked_at < ACCOUNTS_ASKED_EVERY
        if target.account_id not in self._accounts and not lately:
            self._asked_at = now
            visit = await find_accounts(self._aws, selection)
            self._accounts = {each.account_id: each for each in visit.accounts}
        return self._accounts.get(target.account_id)

    async def writes_since(self, target: Target, since: datetime) -> list[TrailEvent]:
        """Who wrote what there."""
        from imdsctl.fleet.watch_actor import writes_since

        return await writes_since(self._aws, await self._sessions(target.account_id), target, since)

    async def repair(self, plan: Plan) -> Repaired:
        """Write the plan to a file and apply it, with a journal beside it, as `imdsctl apply` does."""
        from imdsctl.adapters.clock import SystemClock
        from imdsctl.adapters.journal_file import open_journal
        from imdsctl.adapters.plan_file import read_plan, write_plan
        from imdsctl.cli.writing import leased
        from imdsctl.domain.journal import RunBegan
        from imdsctl.fleet.apply import Applying
        from imdsctl.fleet.apply_report import GOOD
        from imdsctl.fleet.gauge import CloudWatchGauge
        from imdsctl.fleet.watch_events import ChangeRepaired
        from imdsctl.fleet.watch_repairs import Repaired

        folder = _repairs_folder(self._asked.repairs)
        file = folder / f"repair-{self._deps.new_id()}.json"
        write_plan(plan, file)
        written = read_plan(file)
        journal = file.with_name(file.name + ".journal")
        arn, host = self._caller.arn, f"{socket.gethostname()} process {os.getpid()}"
        async with leased(self._deps, self._asked.database, self._caller, host) as lease:
            with open_journal(journal, written.digest, self._deps.now().isoformat()) as opened:
                number = None if lease is None else lease.number
                await opened.append(RunBegan("watch", arn, host, number, self._deps.now().isoformat()))
                applying = Applying(
                    plan=written,
                    aws=self._aws,
                    enter=self._sessions,
                    journal=opened,
                    clock=SystemClock(),
                    stopped=self._stop.is_set,
                    gauge=CloudWatchGauge(self._aws, self._sessions, self._deps.now),
                    keep_going=True,
                    lease=lease,
                    serves=self._deps.serves,
                )
                ended = await applying.run()
        return Repaired(
            tuple(ChangeRepaired(each.change.id, str(each.outcome), each.detail) for each in ended.results),
            frozenset(each.change.id for each in ended.results if each.outcome in GOOD),
            str(file),
        )


def _repairs_folder(asked: Path | None) -> Path:
    """Where repairs are kept, for the user's eyes only. Raises DiagnosticError `plan-unwritable`."""
    from imdsctl.adapters.data_directory import data_directory

    folder = asked if asked is not None else data_directory() / "repairs"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DiagnosticError(
            Diagnostic(
                "plan-unwritable",
                f"nothing is repaired without a record: {(error.strerror or str(error)).lower()}",
                str(folder),
                "name another folder with `--repairs DIR`",
            )
        ) from None
    return folder


@contextmanager
def _signals(stop: asyncio.Event) -> Iterator[Callable[[], int | None]]:
    """SIGTERM and Ctrl-C set `stop`; what it gives says which came. The second one ends at once."""
    loop = asyncio.get_running_loop()
    came: list[int] = []

    def heard(number: int) -> None:
        came.append(number)
        stop.set()
        for each in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(each)

    if sys.platform == "win32":  # Its event loop has no such handlers: there Ctrl-C ends at once.
        yield lambda: None
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, heard, number)
    try:
        yield lambda: came[0] if came else None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            with suppress(ValueError):
                loop.remove_signal_handler(number)
