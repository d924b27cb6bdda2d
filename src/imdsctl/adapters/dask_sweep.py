"""A sweep shared among machines by Dask: each worker reads shards of accounts with its own AWS client.

A worker runs the same sweep as one machine does. It signs in with its own environment: no credentials and no password
travel over Dask, whose connections are plain unless the cluster is set up with TLS. It writes into the scan's database
when that is a server, else its answer carries what it saw. Dask does the shard of a lost worker again on another; the
database replaces what was there already.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Any

from imdsctl import __version__
from imdsctl.adapters.documents import decoded, encoded
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.observations import Account, Scan, ScanEnd, ScanHeader
from imdsctl.fleet.events import AccountsFound, Listener, ignore
from imdsctl.fleet.organization_policies import read_policies
from imdsctl.fleet.ports import Aws, ScanWriter
from imdsctl.fleet.scan import CountedAws
from imdsctl.fleet.selection import Selection
from imdsctl.fleet.shards import ShardDone, ShardOrder, ShardWriter, joined, split
from imdsctl.fleet.targets import Visit

if TYPE_CHECKING:
    from distributed import Client

CONNECT_SECONDS_MAX = 10
WORKERS_WAIT_SECONDS_MAX = 60
"""How long a sweep waits for a first worker, or for a new one when all are gone."""
WATCH_SECONDS_BETWEEN = 2
DATABASE_VARIABLE = "IMDSCTL_DB"
RESUME = "what was read is kept; `imdsctl scan --resume` goes on"


async def dask_sweep(
    address: str,
    aws: Aws,
    selection: Selection,
    visit: Visit,
    writer: ScanWriter,
    *,
    services: bool = True,
    database: str | None,
    profile: str | None,
    now: Callable[[], datetime],
    tell: Listener = ignore,
) -> Scan:
    """As `fleet.scan.sweep`, by the workers of the Dask scheduler at `address`; `aws` asks for the policies only.

    `database` is the URL, without a password, of the server that keeps the scan; None: `writer` alone reaches the
    store. Raises DiagnosticError; the scan then stays unfinished, with what was read.
    """
    async with _cluster(address) as client:
        shards = split(visit.accounts, await _workers(client, address))
        tell(AccountsFound(len(visit.accounts)))
        orders = [_order(shard, selection, visit, writer, services, profile, database) for shard in shards]
        counter: Counter[str] = Counter()
        policies = await read_policies(CountedAws(aws, counter), visit)
        ends: dict[int, ScanEnd] = {}
        async for number, done in _answers(client, address, orders):
            if done.end is None:
                writer.flush()
                raise DiagnosticError(done.failed, exit_code=done.exit_code)
            for region in done.regions:
                writer.add(region)
            ends[number] = done.end
            done.tell(tell)
    in_order = (ends[number] for number in sorted(ends))
    return writer.finish(joined(now(), in_order, before=visit.unseen, policies=policies, calls=counter["calls"]))


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


async def _run_shard(order: ShardOrder) -> ShardDone:
    from imdsctl.adapters.aws import open_aws
    from imdsctl.adapters.database import ScanDatabase
    from imdsctl.adapters.service_regions import serves
    from imdsctl.fleet.scan import sweep
    from imdsctl.fleet.services import READERS
    from imdsctl.fleet.targets import who_am_i

    kept = None
    if order.database is not None:
        store = ScanDatabase(os.environ.get(DATABASE_VARIABLE) or order.database)
        kept = store.join(order.header)
    writer = ShardWriter(order, kept)
    async with open_aws(order.profile) as aws:
        found = await who_am_i(aws)
        if found.account_id != order.caller.account_id:
            raise DiagnosticError(
                Diagnostic(
                    "dask-worker-identity",
                    f"a worker's credentials are of account {found.account_id}, yours of {order.caller.account_id}",
                    hint="start the workers with the credentials of the account that you scan from",
                )
            )
        scan = await sweep(
            aws,
            order.selection,
            Visit(order.caller, order.header.accounts, roles=dict(order.roles)),
            writer,
            now=lambda: order.header.started,
            tell=writer.hear,
            services=READERS if order.services else {},
            serves=serves,
        )
    return ShardDone(scan.end, tuple(writer.regions.values()), tuple(writer.entered), tuple(writer.read))


def _order(
    accounts: tuple[Account, ...],
    selection: Selection,
    visit: Visit,
    writer: ScanWriter,
    services: bool,
    profile: str | None,
    database: str | None,
) -> ShardOrder:
    whole = writer.header
    mine = {account.account_id for account in accounts}
    header = ScanHeader(whole.scan_id, whole.started, accounts, whole.scope)
    done = tuple(sorted(target for target in writer.done if target.account_id in mine))
    roles = tuple(sorted(item for item in visit.roles.items() if item[0] in mine))
    return ShardOrder(header, selection, visit.caller, roles, services, profile, database, done)


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


async def _answers(client: Client, address: str, orders: list[ShardOrder]) -> AsyncIterator[tuple[int, ShardDone]]:
    """Each shard's answer as it comes. Raises DiagnosticError."""
    from distributed import as_completed

    futures = {
        client.submit(run_shard, __version__, encoded(order), pure=False): number for number, order in enumerate(orders)
    }
    watch = asyncio.ensure_future(_watch(client, address))
    answers = as_completed(futures, loop=client.loop).__aiter__()
    try:
        for _ in range(len(futures)):
            coming = asyncio.ensure_future(answers.__anext__())
            await asyncio.wait((coming, watch), return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                watch.result()
            future = coming.result()
            number = futures.pop(future)
            yield number, decoded(ShardDone, await _result(future, address))
            future.release()
    finally:
        watch.cancel()
        for left in futures:
            left.release()


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
    diagnostics = tuple(dict.fromkeys(each for error in found for each in error.diagnostics))
    return ShardDone(failed=diagnostics, exit_code=max(error.exit_code for error in found))


def _leaves(group: BaseExceptionGroup[BaseException]) -> Iterable[BaseException]:
    for each in group.exceptions:
        if isinstance(each, BaseExceptionGroup):
            yield from _leaves(each)
        else:
            yield each
