"""A scan that was stopped: what is kept, what is said of the rest, and that going on gives the same scan."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.observations import Scan, Target
from imdsctl.domain.verdicts import NOT_REACHED, Summing, scan_summary
from imdsctl.fleet.memory_store import MemoryStore
from imdsctl.fleet.ports import ScanWriter
from imdsctl.fleet.scan import SweepStopped, header_of, sweep
from imdsctl.fleet.selection import Selection
from imdsctl.fleet.targets import find_accounts, go_on

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
SELECTION = Selection()
TARGETS = [
    Target(account, region) for account in ("111111111111", "222222222222") for region in ("eu-west-1", "us-east-1")
]


async def begun(store: MemoryStore, aws: Any, stop: asyncio.Event | None = None) -> Scan:
    visit = await find_accounts(aws, SELECTION)
    writer = store.begin(header_of(SELECTION, visit, scan_id="s1", started=NOON))
    return await sweep(aws, SELECTION, visit, writer, now=lambda: NOON, services={}, stop=stop)


async def resumed(store: MemoryStore, aws: Any) -> Scan:
    writer: ScanWriter = store.resume()
    selection = Selection.from_scope(writer.header.scope)
    visit = await go_on(aws, selection, writer.header.accounts)
    return await sweep(aws, selection, visit, writer, now=lambda: NOON, services={})


def stopping(
    fake_aws: Callable[..., Any],
    stop: asyncio.Event,
    place: str,
    at: str = "GetInstanceMetadataDefaults",
) -> Any:
    """A fake where asking for the default (or another operation) in one place sets `stop`, and never answers."""
    aws = fake_aws()
    answer = aws.call

    async def call(credentials: Any, service: str, region: str, operation: str, *rest: Any) -> Any:
        account = credentials.access_key if credentials else "111111111111"
        if operation == at and f"{account}/{region}" == place:
            for _ in range(1000):  # everything else comes to its end first
                await asyncio.sleep(0)
            stop.set()
            await asyncio.Event().wait()
        return await answer(credentials, service, region, operation, *rest)

    aws.call = call
    return aws


def test_a_stopped_scan_says_what_it_did_not_reach_and_keeps_what_it_read(fake_aws: Any) -> None:
    async def run() -> None:
        store, stop = MemoryStore(), asyncio.Event()
        with pytest.raises(SweepStopped) as stopped:
            await begun(store, stopping(fake_aws, stop, "222222222222/us-east-1"), stop)
        (unseen,) = stopped.value.unseen
        assert (unseen.account_id, unseen.region, unseen.unseen.code) == ("222222222222", "us-east-1", NOT_REACHED)
        assert stopped.value.not_reached == 1
        assert store.latest() is None
        assert sorted(store.resume().done) == TARGETS[:3]

    asyncio.run(run())


def test_going_on_reads_only_what_is_missing_and_gives_the_same_scan(fake_aws: Any) -> None:
    async def run() -> None:
        store, stop = MemoryStore(), asyncio.Event()
        with pytest.raises(SweepStopped):
            await begun(store, stopping(fake_aws, stop, "222222222222/us-east-1"), stop)
        second = fake_aws()
        scan = await resumed(store, second)
        assert second.places("DescribeInstances") == ["222222222222/us-east-1"]
        whole = await begun(MemoryStore(), fake_aws())
        assert replace(scan, calls=0) == replace(whole, calls=0)
        assert store.latest() == scan

    asyncio.run(run())


def test_an_account_that_was_not_entered_is_not_reached_either(fake_aws: Any) -> None:
    async def run() -> None:
        stop = asyncio.Event()
        with pytest.raises(SweepStopped) as stopped:
            await begun(MemoryStore(), stopping(fake_aws, stop, "222222222222/us-east-1", "ListRegions"), stop)
        assert [(each.account_id, each.region) for each in stopped.value.unseen] == [("222222222222", None)]

    asyncio.run(run())


@pytest.mark.parametrize("ticks", range(12))
def test_what_is_read_while_a_sweep_comes_to_its_stop_is_not_called_missing(fake_aws: Any, ticks: int) -> None:
    """The stop reaches a target some turns of the event loop later, and its last answer may come in between."""

    async def run() -> None:
        store, stop = MemoryStore(), asyncio.Event()
        aws = fake_aws()
        answer = aws.call

        async def call(credentials: Any, service: str, region: str, operation: str, *rest: Any) -> Any:
            if operation == "GetInstanceMetadataDefaults" and region == "us-east-1":
                for _ in range(1000):  # everything else comes to its end first
                    await asyncio.sleep(0)
                stop.set()
                for _ in range(ticks):
                    await asyncio.sleep(0)
            return await answer(credentials, service, region, operation, *rest)

        aws.call = call
        with pytest.raises(SweepStopped) as stopped:
            await begun(store, aws, stop)
        missing = {Target(each.account_id, str(each.region)) for each in stopped.value.unseen}
        kept = set(store.resume().done)
        assert not kept & missing
        assert kept | missing == set(TARGETS)

    asyncio.run(run())


def test_a_stopped_scan_whose_store_takes_no_more_says_so(fake_aws: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the user would hear that what was read is kept."""

    def full(_: Any) -> None:
        raise DiagnosticError(Diagnostic("database-full", "the disk is full"))

    async def run() -> None:
        store, stop = MemoryStore(), asyncio.Event()
        aws = stopping(fake_aws, stop, "222222222222/us-east-1")
        visit = await find_accounts(aws, SELECTION)
        writer = store.begin(header_of(SELECTION, visit, scan_id="s1", started=NOON))
        monkeypatch.setattr(type(writer), "flush", full)
        with pytest.raises(DiagnosticError, match="the disk is full"):
            await sweep(aws, SELECTION, visit, writer, now=lambda: NOON, services={}, stop=stop)

    asyncio.run(run())


def test_a_sweep_that_is_cancelled_leaves_a_scan_to_go_on_with(fake_aws: Any) -> None:
    """That is what Ctrl-C does."""

    async def run() -> None:
        store, stop = MemoryStore(), asyncio.Event()
        task = asyncio.ensure_future(begun(store, stopping(fake_aws, stop, "111111111111/eu-west-1")))
        await stop.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(store.resume().done) == 3
        assert len((await resumed(store, fake_aws())).regions) == 4

    asyncio.run(run())


def test_a_recorded_scope_is_the_selection_again() -> None:
    selection = Selection(regions=("eu-west-1",), ous=("ou-1", "Root/prod"), exclude_accounts=("shop",), services=False)
    assert Selection.from_scope(selection.scope()) == selection
    assert Selection.from_scope(()) == Selection()  # of a scan of everything, or of one that is older than this record


def test_summing_up_on_the_way_says_what_a_stored_scan_says(fake_aws: Any) -> None:
    async def run() -> None:
        aws = fake_aws()
        visit = await find_accounts(aws, SELECTION)
        writer = MemoryStore().begin(header_of(SELECTION, visit, scan_id="s1", started=NOON))
        summing = Summing()
        scan = await sweep(aws, SELECTION, visit, writer, now=lambda: NOON, services={}, summing=summing)
        assert summing.summary(scan.accounts, scan.unseen) == scan_summary(scan)

    asyncio.run(run())
