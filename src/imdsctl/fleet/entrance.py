"""The way into accounts: their role's credentials, and the Regions that they have.

When everybody is visited, the first accounts are entered while the organization still lists the others: a large one is
listed for seconds, page after page.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from typing import TypeAlias

from imdsctl.domain.observations import Account
from imdsctl.fleet import limits
from imdsctl.fleet.counted import CountedAws
from imdsctl.fleet.ports import Aws, Credentials
from imdsctl.fleet.selection import Selection
from imdsctl.fleet.targets import ACTIVE, AccountRegions, Caller, Door, enter, regions_of

Entered: TypeAlias = "tuple[Credentials | None, AccountRegions]"


class Entrance:
    """Enters accounts for one sweep. End with `close` when accounts were entered ahead. `counter` counts the calls."""

    def __init__(self, aws: Aws, selection: Selection) -> None:
        self.counter: Counter[str] = Counter()
        self._aws = CountedAws(aws, self.counter)
        self._selection = selection
        self._caller: Caller | None = None
        self._listed: list[Account] = []
        self._ahead: dict[str, asyncio.Task[Entered]] = {}

    async def enter(self, door: Door, account_id: str, role: str) -> Entered:
        """An account's credentials (None: the caller's own) and its Regions. Raises ServiceError and Unreachable."""
        ahead = self._ahead.pop(account_id, None)
        return await (self._entered(door, account_id, role) if ahead is None else ahead)

    def called_by(self, caller: Caller) -> None:
        """Who is calling is known, and what was asked for is right."""
        self._caller = caller
        self._go_ahead()

    def listed(self, accounts: Iterable[Account]) -> None:
        """Some more of the accounts."""
        self._listed += accounts
        self._go_ahead()

    async def close(self) -> None:
        """Nobody comes any more."""
        for task in self._ahead.values():
            task.cancel()
        await asyncio.gather(*self._ahead.values(), return_exceptions=True)

    def _go_ahead(self) -> None:
        if self._caller is None or not self._selection.everybody:
            return
        door = Door(self._aws, self._caller)
        for account in self._listed[: limits.ACCOUNTS_CONCURRENT_MAX]:
            if account.state == ACTIVE and account.account_id not in self._ahead:
                work = self._entered(door, account.account_id, self._selection.role)
                self._ahead[account.account_id] = asyncio.ensure_future(work)

    async def _entered(self, door: Door, account_id: str, role: str) -> Entered:
        credentials = await enter(door.aws, door.caller, account_id, role)
        return credentials, await regions_of(door.aws, credentials, account_id, self._selection)
