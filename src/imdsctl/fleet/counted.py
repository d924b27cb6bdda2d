"""The AWS port, counted."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any

from imdsctl.fleet.pace import Pace
from imdsctl.fleet.ports import Aws


class CountedAws:
    """The AWS port, counting calls in `counter` and telling `pace` how long they took; several ports may share both."""

    def __init__(self, aws: Aws, counter: Counter[str], pace: Pace | None = None) -> None:
        self._aws = aws
        self._counter = counter
        self._pace = pace or Pace(1)

    @property
    def default_region(self) -> str | None:
        return self._aws.default_region

    async def call(self, *args: Any) -> dict[str, Any]:
        """One call."""
        self._counter["calls"] += 1
        began = monotonic()
        answer = await self._aws.call(*args)
        self._pace.answered(args[2], args[3], monotonic() - began)
        return answer

    def paginate(self, *args: Any) -> AsyncIterator[dict[str, Any]]:
        """Every page."""
        return _CountedPages(self._aws.paginate(*args), self._counter, self._pace, args[2], args[3])


class _CountedPages(AsyncIterator[dict[str, Any]]):
    """Not an async generator: a loop keeps a book of these, which costs a sweep more than the counting."""

    __slots__ = ("_counter", "_first", "_operation", "_pace", "_pages", "_region")

    def __init__(
        self, pages: AsyncIterator[dict[str, Any]], counter: Counter[str], pace: Pace, region: str, operation: str
    ) -> None:
        self._pages = pages
        self._counter = counter
        self._pace = pace
        self._region = region
        self._operation = operation
        self._first = True

    async def __anext__(self) -> dict[str, Any]:
        if self._first:
            self._counter["calls"] += 1  # a refusal counts too: it was a call
        began = monotonic()
        page = await self._pages.__anext__()
        self._pace.answered(self._region, self._operation, monotonic() - began)
        if not self._first:
            self._counter["calls"] += 1
        self._first = False
        return page
