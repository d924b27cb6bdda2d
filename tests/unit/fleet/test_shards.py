"""A sweep cut into shards: what goes into one, and what comes out of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from imdsctl.domain.observations import Account, AccountUnseen, RegionSeen, ScanEnd, ScanHeader, Target, Unseen
from imdsctl.fleet.events import AccountEntered, AccountsFound, AccountSkipped, Event, TargetRead
from imdsctl.fleet.memory_store import MemoryStore
from imdsctl.fleet.scan import unreached
from imdsctl.fleet.selection import Selection
from imdsctl.fleet.shards import ACCOUNTS_PER_SHARD_MAX, ShardDone, ShardDoor, ShardOrder, ShardWriter, split
from imdsctl.fleet.targets import Caller

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)


def accounts(count: int) -> tuple[Account, ...]:
    return tuple(Account(f"{number:012}", "") for number in range(count))


@pytest.mark.parametrize(
    ("count", "workers", "shards"), [(0, 2, 0), (1, 8, 1), (6, 2, 6), (100, 2, 9), (1000, 1, 40), (1000, 100, 500)]
)
def test_every_account_is_in_one_shard_in_its_order(count: int, workers: int, shards: int) -> None:
    cut = split(accounts(count), workers)
    assert tuple(account for shard in cut for account in shard) == accounts(count)
    assert len(cut) == shards
    assert all(0 < len(shard) <= ACCOUNTS_PER_SHARD_MAX for shard in cut)


ORDER = ShardOrder(
    ScanHeader("s", NOON, accounts(1)), Selection(), (ShardDoor(None, Caller("1", "arn:aws:iam::1:root")),)
)
SEEN = RegionSeen(Target("000000000000", "eu-west-1"))


def test_a_shard_without_a_database_gives_back_what_it_saw() -> None:
    writer = ShardWriter(ORDER, None)
    writer.add(RegionSeen(SEEN.target, unseen=(Unseen("instances", "denied"),)))
    writer.add(SEEN)
    assert tuple(writer.finish(ScanEnd(NOON)).regions) == (SEEN,)


def test_a_shard_with_a_database_writes_there_and_does_not_finish_the_scan() -> None:
    store = MemoryStore()
    writer = ShardWriter(ORDER, store.begin(ORDER.header))
    writer.add(SEEN)
    writer.finish(ScanEnd(NOON))
    assert writer.regions == {}
    assert store.latest() is None
    assert list(store.resume().done) == [SEEN.target]


def test_what_happened_in_a_shard_is_told_as_a_sweep_would_tell_it() -> None:
    writer = ShardWriter(ORDER, None)
    told: list[Event] = [AccountEntered("1", 2), TargetRead(SEEN.target, 3, 0)]
    for event in (AccountsFound(1), *told):
        writer.hear(event)
    heard: list[Event] = []
    denied = AccountUnseen("2", None, Unseen("account", "denied"))
    end = ScanEnd(NOON, (denied, unreached("3"), unreached("4", "eu-west-1")))
    ShardDone(end, entered=tuple(writer.entered), read=tuple(writer.read)).tell(heard.append)
    assert heard == [*told, AccountSkipped(denied)]
