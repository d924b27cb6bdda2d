"""A sweep shared among machines by Dask: each worker reads shards of accounts with its own AWS client.

A worker runs the same sweep as one machine does. It signs in with its own environment: no credentials and no password
travel over Dask, whose connections are plain unless the cluster is set up with TLS. It writes into the scan's database
when that is a server, else its answer carries what it saw. Dask does the shard of a lost worker again on another; the
database replaces what was there already.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from datetime import datetime
from functools import partial
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from imdsctl import __version__
from imdsctl.adapters.documents import decoded, encoded
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.observations import Account, AccountUnseen, Scan, ScanEnd, ScanHeader
from imdsctl.domain.verdicts import NOT_REACHED, Summing
from imdsctl.fleet.counted import CountedAws
from imdsctl.fleet.events import AccountsFound, Listener, ignore
from imdsctl.fleet.organization_policies import PoliciesSeen, read_policies
from imdsctl.fleet.ports import Aws, ScanWriter
from imdsctl.fleet.scan import SweepStopped, sweep, unreached
from imdsctl.fleet.selection import Selection
from imdsctl.fleet.shards import ShardDone, ShardDoor, ShardOrder, ShardWriter, split
from imdsctl.fleet.targets import Door, Visit

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS_MAX = 10
WORKERS_WAIT_SECONDS_MAX = 60
"""How long a sweep waits for a first worker, or for a new one when all are gone."""
WATCH_SECONDS_BETWEEN = 2
STOP_SECONDS_MAX = 10
"""How long a sweep whose time is over waits for what its workers have read."""
DATABASE_VARIABLE = "IMDSCTL_DB"
RESUME = "what was read is kept; `imdsctl scan --resume` goes on"


async def dask_sweep(
    address: str,
    doors: Sequence[tuple[str | None, Aws]],
    selection: Selection,
    visit: Visit,
    writer: ScanWriter,
    *,
    database: str | None,
    now: Callable[[], datetime],
    tell: Listener = ignore,
    summing: Summing | None = None,
    stop: asyncio.Event | None = None,
) -> Scan:
    """As `fleet.scan.sweep`, by the workers of the Dask scheduler at `address`.

    `doors` are the user's profiles with their clients: the first is asked for the policies, the others tell by whom the
    accounts of `visit` are entered. `database` is the URL, without a password, of the server that keeps the scan; None:
    `writer` alone reaches the store. Raises DiagnosticError, and SweepStopped when `stop` is set before the end; the
    scan then stays unfinished, with what was read.
    """
    async with _cluster(address) as client:
        run = _SharedSweep(client, address, doors, selection, visit, writer, database, tell, summing)
        work = asyncio.ensure_future(run.everything())
        stopping = asyncio.ensure_future((stop or asyncio.Event()).wait())
        try:
            await asyncio.wait((work, stopping), return_when=asyncio.FIRST_COMPLETED)
            if not work.done() and run.futures:
                await run.stop()
                await asyncio.wait((work,), timeout=STOP_SECONDS_MAX)
            if work.done():
                await work
            unseen = (*visit.unseen, *run.unseen())
            if not work.done() or any(each.unseen.code == NOT_REACHED for each in unseen):
                writer.flush()
                raise SweepStopped(unseen, run.calls)
        except BaseException:
            # As in a sweep of one machine: what was read is kept.
            with suppress(DiagnosticError):
                writer.flush()
            raise
        finally:
            for task in (work, stopping):
                task.cancel()
            await asyncio.gather(work, stopping, return_exceptions=True)
    policies = run.policies
    return writer.finish(ScanEnd(now(), (*unseen, *policies.unseen), policies.policies, policies.effective, run.calls))


class _SharedSweep:
    """One run: the shards, and what has come of them."""

    def __init__(
        self,
        client: Client,
        address: str,
        doors: Sequence[tuple[str | None, Aws]],
        selection: Selection,
        visit: Visit,
        writer: ScanWriter,
        database: str | None,
        tell: Listener,
        summing: Summing | None,
    ) -> None:
        self._client = client
        self._address = address
        self._doors = doors
        self._selection = selection
        self._visit = visit
        self._writer = writer
        self._database = database
        self._tell = tell
        self._summing = summing
        self._name = token_hex(16)
        self._counter: Counter[str] = Counter()
        self._orders: list[ShardOrder] = []
        self._ends: dict[int, ScanEnd] = {}
        self._dropped: set[int] = set()
        self.futures: dict[Any, int] = {}
        """The shards that workers have, or will get, with their numbers."""
        self.policies = PoliciesSeen()

    async def everything(self) -> None:
        self._tell(AccountsFound(len(self._visit.accounts)))
        shards = split(self._visit.accounts, await _workers(self._client, self._address))
        self.policies = await read_policies(CountedAws(self._doors[0][1], self._counter), self._visit)
        self._orders = [self._order(number, accounts) for number, accounts in enumerate(shards)]
        async for number, done in self._answers():
            if done.end is None:
                raise DiagnosticError(done.failed, exit_code=done.exit_code)
            for region in done.regions:
                self._writer.add(region)
            if self._summing is not None:
                for judged in done.judged:
                    self._summing.take(judged)
            self._ends[number] = done.end
            done.tell(self._tell)

    async def stop(self) -> None:
        """Hand out no more shards, and have the workers end those that they are at."""
        with suppress(OSError):  # of which TimeoutError is one: then nobody answers, and what is kept is kept
            telling = self._client.run(stop_shards, self._name, on_error="ignore")
            told = await asyncio.wait_for(telling, STOP_SECONDS_MAX)
            running = {number for numbers in told.values() for number in numbers}
            left = [each for each, number in self.futures.items() if number not in running and not each.done()]
            self._dropped.update(self.futures[each] for each in left)
            await self._client.cancel(left)

    @property
    def calls(self) -> int:
        """How many calls it took, here and there."""
        return self._counter["calls"] + sum(end.calls for end in self._ends.values())

    def unseen(self) -> list[AccountUnseen]:
        """What could not be seen, in the order of the accounts; then what no shard came to."""
        said = [each for number in sorted(self._ends) for each in self._ends[number].unseen]
        ended = {each.account_id for number in self._ends for each in self._orders[number].header.accounts}
        said += [unreached(each.account_id) for each in self._visit.accounts if each.account_id not in ended]
        return sorted(said, key=lambda each: each.unseen.code == NOT_REACHED)

    def _order(self, number: int, accounts: tuple[Account, ...]) -> ShardOrder:
        whole = self._writer.header
        mine = {account.account_id for account in accounts}
        door_of = {account_id: self._door(account_id) for account_id in mine}
        doors = tuple(dict.fromkeys(door_of[each.account_id] for each in accounts))
        return ShardOrder(
            ScanHeader(whole.scan_id, whole.started, accounts, whole.scope),
            self._selection,
            doors,
            through=tuple(sorted((each, doors.index(door)) for each, door in door_of.items() if door != doors[0])),
            roles=tuple(sorted(item for item in self._visit.roles.items() if item[0] in mine)),
            database=self._database,
            done=tuple(sorted(target for target in self._writer.done if target.account_id in mine)),
            sweep=self._name,
            number=number,
        )

    def _door(self, account_id: str) -> ShardDoor:
        door = self._visit.doors.get(account_id)
        if door is None:
            return ShardDoor(self._doors[0][0], self._visit.caller)
        (profile,) = (profile for profile, aws in self._doors if aws is door.aws)
        return ShardDoor(profile, door.caller)

    async def _answers(self) -> AsyncIterator[tuple[int, ShardDone]]:
        """Each shard's answer as it comes, but of those that were dropped. Raises DiagnosticError."""
        from distributed import as_completed

        submit = partial(self._client.submit, run_shard, __version__, pure=False)
        self.futures = {submit(encoded(order)): order.number for order in self._orders}
        watch = asyncio.ensure_future(_watch(self._client, self._address))
        answers = as_completed(self.futures, loop=self._client.loop).__aiter__()
        try:
            for _ in self._orders:
                coming = asyncio.ensure_future(answers.__anext__())
                await asyncio.wait((coming, watch), return_when=asyncio.FIRST_COMPLETED)
                if not coming.done():
                    coming.cancel()
                    watch.result()
                future = coming.result()
                number = self.futures.pop(future)
                if number not in self._dropped:
                    yield number, decoded(ShardDone, await _result(future, self._address))
                future.release()
        finally:
            watch.cancel()
            for left in self.futures:
                left.release()


def run_shard(version: str, order: bytes) -> bytes:
    """Called on a worker: reads the shard of a `ShardOrder` and gives a `ShardDone`, both as documents."""
    if version != __version__:
        return encoded(ShardDone(failed=(_differs(f"a worker has imdsctl {__version__}, this is {version}"),)))
    try:
        return encoded(asyncio.run(_run_shard(decoded(ShardOrder, order))))
    except BaseExceptionGroup as group:
        found = [each for each in _leaves(group) if isinstance(each, DiagnosticError)]
        if len(found) != len(list(_leaves(group))):
            raise
        return encoded(_failed(found))
    except DiagnosticError as error:
        return encoded(_failed([error]))


def stop_shards(sweep: str) -> list[int]:
    """Called on a worker: ends its shards of that sweep, now and from now on, and gives the numbers of those it has."""
    return _SHARDS.stop(sweep)


class _Shards:
    """The shards that the threads of this worker are at, and the sweeps of which no more is wanted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: dict[tuple[str, int], Callable[[], object]] = {}
        self._stopped: set[str] = set()

    @contextmanager
    def running(self, order: ShardOrder) -> Iterator[asyncio.Event]:
        """While it holds the shard can be stopped: then the event is set."""
        stop = asyncio.Event()
        key = (order.sweep, order.number)
        with self._lock:
            self._running[key] = partial(asyncio.get_running_loop().call_soon_threadsafe, stop.set)
            if order.sweep in self._stopped:
                stop.set()
        try:
            yield stop
        finally:
            with self._lock:
                del self._running[key]

    def stop(self, sweep: str) -> list[int]:
        with self._lock:
            self._stopped.add(sweep)
            mine = [key for key in self._running if key[0] == sweep]
            for key in mine:
                self._running[key]()
        return [number for _, number in mine]


_SHARDS = _Shards()


async def _run_shard(order: ShardOrder) -> ShardDone:
    from imdsctl.adapters.database import ScanDatabase
    from imdsctl.adapters.service_regions import serves

    with _SHARDS.running(order) as stop:
        if stop.is_set():
            missed = tuple(unreached(each.account_id) for each in order.header.accounts)
            return ShardDone(ScanEnd(order.header.started, missed))
        kept = None
        if order.database is not None:
            store = ScanDatabase(os.environ.get(DATABASE_VARIABLE) or order.database)
            kept = store.join(order.header)
        writer, summing = ShardWriter(order, kept), Summing()
        async with AsyncExitStack() as stack:
            doors = [await _open(stack, each) for each in order.doors]
            visit = Visit(
                doors[0].caller,
                order.header.accounts,
                doors={account_id: doors[place] for account_id, place in order.through},
                roles=dict(order.roles),
            )
            try:
                scan = await sweep(
                    doors[0].aws,
                    order.selection,
                    visit,
                    writer,
                    now=lambda: order.header.started,
                    tell=writer.hear,
                    serves=serves,
                    summing=summing,
                    stop=stop,
                )
                end = scan.end
            except SweepStopped as early:
                end = ScanEnd(order.header.started, early.unseen, calls=early.calls)
    return ShardDone(end, tuple(writer.regions.values()), summing.judged, tuple(writer.entered), tuple(writer.read))


async def _open(stack: AsyncExitStack, asked: ShardDoor) -> Door:
    from imdsctl.adapters.aws import open_aws
    from imdsctl.fleet.targets import who_am_i

    aws = await stack.enter_async_context(open_aws(asked.profile))
    found, wanted = (await who_am_i(aws)).account_id, asked.caller.account_id
    if found != wanted:
        whose = "a worker's credentials" if asked.profile is None else f"a worker's credentials of `{asked.profile}`"
        raise DiagnosticError(
            Diagnostic(
                "dask-worker-identity",
                f"{whose} are of account {found}, yours of {wanted}",
                hint="start the workers with the credentials of the account that you scan from",
            )
        )
    return Door(aws, asked.caller)


@asynccontextmanager
async def _cluster(address: str) -> AsyncIterator[Client]:
    try:
        from distributed import Client
    except ImportError:
        raise DiagnosticError(
            Diagnostic(
                "dask-missing",
                "`--dask` needs the package `distributed`, which is not installed",
                hint="pip install 'imdsctl[dask]'",
            ),
            exit_code=2,
        ) from None
    client = Client(address, asynchronous=True, timeout=CONNECT_SECONDS_MAX, set_as_default=False, name="imdsctl")
    try:
        await client
    except (OSError, ValueError) as error:  # TimeoutError is an OSError
        await client.close()
        raise _unreachable(address, str(error)) from None
    try:
        yield client
    finally:
        await client.close()


async def _workers(client: Client, address: str) -> int:
    """How many threads of workers there are. Raises DiagnosticError when none comes."""
    try:
        await client.wait_for_workers(1, timeout=WORKERS_WAIT_SECONDS_MAX)
    except TimeoutError:
        raise _no_workers(address) from None
    return sum(worker["nthreads"] for worker in client.scheduler_info(n_workers=-1)["workers"].values())


async def _result(future: Any, address: str) -> bytes:
    from distributed import KilledWorker
    from distributed.client import FutureCancelledError

    try:
        answer: bytes = await future.result()
    except KilledWorker as error:
        lost = f"workers were lost over the same accounts again and again: {error}"
        raise DiagnosticError(
            Diagnostic("dask-worker-lost", lost.splitlines()[0], address, f"look at the workers' logs; {RESUME}")
        ) from None
    except ModuleNotFoundError as error:
        raise DiagnosticError(_differs(f"a worker cannot load imdsctl: {error}")) from None
    except FutureCancelledError:
        raise _unreachable(address, "it was lost, with what the workers were asked to do") from None
    return answer


async def _watch(client: Client, address: str) -> None:
    """Ends, with a DiagnosticError, when there has been no worker for a while."""
    quiet = 0
    while quiet <= WORKERS_WAIT_SECONDS_MAX:
        await asyncio.sleep(WATCH_SECONDS_BETWEEN)
        if client.status in ("closed", "closing"):
            raise _unreachable(address, "the connection to it is gone")
        quiet = 0 if client.scheduler_info()["workers"] else quiet + WATCH_SECONDS_BETWEEN
    raise _no_workers(address)


def _unreachable(address: str, reason: str) -> DiagnosticError:
    first = (reason.splitlines() or ["no answer"])[0].rstrip(".")
    return DiagnosticError(
        Diagnostic(
            "dask-unreachable",
            f"the Dask scheduler cannot be used: {first}",
            address,
            "start one with `dask scheduler`, and give its address: `--dask tcp://HOST:8786`",
        )
    )


def _no_workers(address: str) -> DiagnosticError:
    return DiagnosticError(
        Diagnostic(
            "dask-no-workers",
            f"the Dask scheduler has had no worker for {WORKERS_WAIT_SECONDS_MAX} seconds",
            address,
            f"start some with `dask worker {address}`; {RESUME}",
        )
    )


def _differs(summary: str) -> Diagnostic:
    return Diagnostic(
        "dask-worker-differs",
        summary,
        hint="install the same imdsctl, on the same Python, where the workers run",
    )


def _failed(errors: Iterable[DiagnosticError]) -> ShardDone:
    found = tuple(errors)
    # Its settings are its own: what is wrong there need not be wrong here.
    diagnostics = tuple(dict.fromkeys(each.about("a Dask worker") for error in found for each in error.diagnostics))
    return ShardDone(failed=diagnostics, exit_code=max(error.exit_code for error in found))


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterable[BaseException]:
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _leaves(each)
        else:
            yield each
