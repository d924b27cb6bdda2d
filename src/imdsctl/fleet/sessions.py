"""Credentials per account for a long run: assumed once, kept until shortly before they end."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta

from imdsctl.fleet.ports import Aws, Credentials
from imdsctl.fleet.targets import Caller, enter

RENEW_BEFORE = timedelta(minutes=5)


class Sessions:
    """Called with an account id: credentials inside it, None in our own. Raises ServiceError, Unreachable."""

    def __init__(self, aws: Aws, caller: Caller, role: str, now: Callable[[], datetime]) -> None:
        self._aws = aws
        self._caller = caller
        self._role = role
        self._now = now
        self._held: dict[str, Credentials | None] = {}
        self._turns: dict[str, asyncio.Lock] = {}

    async def __call__(self, account_id: str) -> Credentials | None:
        async with self._turns.setdefault(account_id, asyncio.Lock()):
            held = self._held.get(account_id)
            if account_id not in self._held or (held and held.expires and held.expires - self._now() < RENEW_BEFORE):
                self._held[account_id] = await enter(self._aws, self._caller, account_id, self._role)
            return self._held[account_id]
