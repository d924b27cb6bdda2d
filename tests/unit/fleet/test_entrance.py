"""Accounts are entered while others are listed: nobody whom the selection leaves out, and nothing is different."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.domain.observations import Scan
from imdsctl.fleet import limits
from imdsctl.fleet.entrance import Entrance
from imdsctl.fleet.memory_store import MemoryStore
from imdsctl.fleet.scan import header_of, sweep
from imdsctl.fleet.selection import ListedAccount, Selection
from imdsctl.fleet.targets import find_accounts
from imdsctl.wire.errors import ServiceError

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
DENIED = ServiceError("AccessDenied", "User is not authorized to perform: sts:AssumeRole", 403)
STEPS = 200
"""So often everybody else has a turn before the next page of accounts comes."""


def account(number: int, state: str = "ACTIVE") -> dict[str, str]:
    return {"Id": f"{number:012}", "Name": f"account-{number}", "State": state}


class Slow:
    """An organization whose list of accounts comes page by page, long after one another."""

    def __init__(self, fake: Any, *pages: list[dict[str, str]]) -> None:
        self.fake = fake
        self.pages = pages
        self.entered_by_page: list[set[str]] = []
        """Into whom the role was assumed when a page had been given for long."""

    default_region = "us-east-1"

    async def call(self, *args: Any) -> Any:
        return await self.fake.call(*args)

    async def paginate(self, *args: Any) -> AsyncIterator[Any]:
        if args[3] != "ListAccounts":
            async for page in self.fake.paginate(*args):
                yield page
            return
        for page in self.pages:
            yield {"Accounts": page}
            for _ in range(STEPS):
                await asyncio.sleep(0)
            self.entered_by_page.append(self.entered)

    @property
    def entered(self) -> set[str]:
        return {params["RoleArn"].split(":")[4] for _, _, asked, params in self.fake.asked if asked == "AssumeRole"}


def scanned(aws: Any, selection: Selection, *, ahead: bool = True) -> Scan:
    async def run() -> Scan:
        entrance = Entrance(aws, selection) if ahead else None
        try:
            visit = await find_accounts(aws, selection, entrance)
            writer = MemoryStore().begin(header_of(selection, visit, scan_id="s1", started=NOON))
            return await sweep(aws, selection, visit, writer, now=lambda: NOON, services={}, entrance=entrance)
        finally:
            if entrance is not None:
                await entrance.close()
            assert asyncio.all_tasks() == {asyncio.current_task()}

    return asyncio.run(run())


@pytest.fixture
def organization(fake_aws: Any) -> Slow:
    return Slow(
        fake_aws(**{"000000000004 AssumeRole": DENIED}),
        [{"Id": "111111111111", "Name": "management", "State": "ACTIVE"}, account(2)],
        [account(3, "SUSPENDED"), account(4), account(5)],
    )


def test_the_first_accounts_are_entered_before_the_last_are_listed(organization: Slow) -> None:
    scanned(organization, Selection())
    assert organization.entered_by_page == [{"000000000002"}, {"000000000002", "000000000004", "000000000005"}]
    assert len([asked for _, _, asked, _ in organization.fake.asked if asked == "AssumeRole"]) == 3


def test_the_scan_is_the_same_in_whatever_order_they_come(organization: Slow) -> None:
    scan = scanned(organization, Selection(regions=("eu-west-1",)))
    organization.fake.asked.clear()
    assert scan == scanned(organization, Selection(regions=("eu-west-1",)), ahead=False)
    assert [each.account_id for each in scan.unseen] == ["000000000003", "000000000004"]


@pytest.mark.parametrize(
    "selection",
    [
        Selection(accounts=("000000000002",)),
        Selection(exclude_accounts=("000000000004", "account-5")),
        Selection(listed=(ListedAccount("000000000002"),)),
    ],
)
def test_nobody_is_entered_whom_the_selection_may_leave_out(organization: Slow, selection: Selection) -> None:
    scanned(organization, selection)
    assert organization.entered_by_page == [set(), set()]
    assert organization.entered == {"000000000002"}


def test_nobody_is_entered_for_a_region_that_does_not_exist(organization: Slow) -> None:
    with pytest.raises(DiagnosticError) as refused:
        scanned(organization, Selection(regions=("mars-1",)))
    assert refused.value.diagnostics[0].code == "region-unknown"
    assert organization.entered == set()


def test_no_more_are_entered_ahead_than_a_sweep_enters_at_once(fake_aws: Any) -> None:
    many = [account(number) for number in range(limits.ACCOUNTS_CONCURRENT_MAX + 20)]
    organization = Slow(fake_aws(), many)
    scanned(organization, Selection(regions=("eu-west-1",)))
    assert len(organization.entered_by_page[0]) == limits.ACCOUNTS_CONCURRENT_MAX
    assert len(organization.entered) == len(many)
