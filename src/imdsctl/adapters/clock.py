"""The machine's clock and chance, behind the same three calls that a test's fake has."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import UTC, datetime
from typing import Protocol


class Clock(Protocol):
    """Time and chance, so that code which waits can be tested without waiting."""

    def now(self) -> datetime:
        """The moment, aware, in UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds from some moment on, that never go back."""
        ...

    def fraction(self) -> float:
        """A random number from 0 to 1, for jitter."""
        ...

    async def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The real thing."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()

    def fraction(self) -> float:
        return random.random()  # jitter, not a secret

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
