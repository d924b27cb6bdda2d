"""How many targets are read at once: more while answers come as soon as ever, fewer when they queue somewhere.

Far Regions need many calls under way at once; a host that is slow, or a network that is full, gets slower by each one
more. What tells the two apart is not how late answers are, but how much later than the soonest of their kind.
"""

from __future__ import annotations

import asyncio
from collections import deque

TARGETS_AT_FIRST = 96
TARGETS_LEAST = 4
QUICK = 2.0
"""Answers that take up to so many times the soonest of their kind do not queue: twice as many targets are let in."""
SLOW = 8.0
"""From so many times on, a quarter less are."""
SECONDS_IGNORED = 0.02
"""Differences of this size are the machine's own."""


class Pace:
    """A gate of changing width, for one event loop."""

    def __init__(self, targets_max: int) -> None:
        self._max = targets_max
        self.width = min(TARGETS_AT_FIRST, targets_max)
        self._inside = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._soonest: dict[tuple[str, str], float] = {}
        self._answers = 0
        self._times = 0.0

    async def enter(self) -> None:
        """Wait for a place."""
        if self._inside < self.width and not self._waiting:
            self._inside += 1
            return
        place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            await place
        except asyncio.CancelledError:
            if place.done() and not place.cancelled():
                self.leave()
            raise

    def leave(self) -> None:
        """Give the place back."""
        self._inside -= 1
        self._let_in()

    def answered(self, region: str, operation: str, seconds: float) -> None:
        """An answer took so long. Once about every target had one, the gate is set anew."""
        kind = (region, operation)
        soonest = self._soonest.get(kind)
        if soonest is None or seconds < soonest:
            self._soonest[kind] = soonest = seconds
        self._answers += 1
        self._times += seconds / (soonest + SECONDS_IGNORED)
        if self._answers < self.width:
            return
        times = self._times / self._answers
        self._answers, self._times = 0, 0.0
        if times <= QUICK:
            self.width = min(2 * self.width, self._max)
            self._let_in()
        elif times > SLOW:
            self.width = max(self.width * 3 // 4, min(TARGETS_LEAST, self._max))

    def _let_in(self) -> None:
        while self._waiting and self._inside < self.width:
            place = self._waiting.popleft()
            if not place.done():
                self._inside += 1
                place.set_result(None)
