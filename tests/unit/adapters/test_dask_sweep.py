"""What goes wrong around Dask, in a user's words. The cluster itself: tests/journeys/test_dask.py."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest
from tests.unit.fleet.test_shards import NOON

from imdsctl import __version__
from imdsctl.adapters import dask_sweep
from imdsctl.adapters.documents import decoded, encoded
from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.domain.observations import Account, ScanEnd, ScanHeader
from imdsctl.fleet.memory_store import MemoryStore
from imdsctl.fleet.scan import unreached
from imdsctl.fleet.selection import Selection
from imdsctl.fleet.shards import ShardDone, ShardDoor, ShardOrder
from imdsctl.fleet.targets import Caller, Visit


def refused(address: str) -> tuple[str, str]:
    account = Account("111122223333", "")
    visit = Visit(Caller(account.account_id, "arn:aws:iam::111122223333:root"), (account,))
    writer = MemoryStore().begin(ScanHeader("s", NOON, (account,)))
    nobody: Any = None  # AWS is not asked before there are workers
    work = dask_sweep.dask_sweep(address, [(None, nobody)], Selection(), visit, writer, database=None, now=lambda: NOON)
    with pytest.raises(DiagnosticError) as error:
        asyncio.run(work)
    (diagnostic,) = error.value.diagnostics
    return diagnostic.code, str(diagnostic.hint)


def test_without_the_package_the_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert refused("tcp://127.0.0.1:1") == ("dask-missing", "pip install 'imdsctl[dask]'")


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:1", "nosuch://host:1", "tcp://127.0.0.1:port"])
def test_a_scheduler_that_is_not_there(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dask_sweep, "CONNECT_SECONDS_MAX", 0.01)
    assert refused(address)[0] == "dask-unreachable"


def test_a_worker_with_another_imdsctl_refuses() -> None:
    done = decoded(ShardDone, dask_sweep.run_shard(f"{__version__}.1", b"of whatever form"))
    assert done.end is None
    assert [each.code for each in done.failed] == ["dask-worker-differs"]


def test_a_shard_of_a_sweep_whose_time_is_over_asks_nobody() -> None:
    account = Account("111122223333", "")
    door = ShardDoor("there is no such profile", Caller(account.account_id, "arn:aws:iam::111122223333:root"))
    order = ShardOrder(ScanHeader("s", NOON, (account,)), Selection(), (door,), sweep="over", number=3)
    assert dask_sweep.stop_shards("over") == []
    done = decoded(ShardDone, dask_sweep.run_shard(__version__, encoded(order)))
    assert done == ShardDone(ScanEnd(NOON, (unreached(account.account_id),)))


def test_what_is_wrong_with_a_workers_settings_is_said_to_be_the_workers() -> None:
    account = Account("111122223333", "")
    door = ShardDoor("there is no such profile", Caller(account.account_id, "arn:aws:iam::111122223333:root"))
    order = ShardOrder(ScanHeader("s", NOON, (account,)), Selection(), (door,))
    (said,) = decoded(ShardDone, dask_sweep.run_shard(__version__, encoded(order))).failed
    assert (said.code, said.subject) == ("profile-unknown", "a Dask worker")
