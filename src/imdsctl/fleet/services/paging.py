"""Lists of services that spell their page markers in their own way, and calls that need not wait for each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Iterable, Mapping
from typing import Any, TypeVar

from imdsctl.fleet.ports import Unreachable
from imdsctl.fleet.services.calls import ServiceCalls
from imdsctl.wire.service import Projection

T = TypeVar("T")


async def each_page(
    calls: ServiceCalls, operation: str, params: Mapping[str, Any], projection: Projection, *, token: str = "nextToken"
) -> AsyncIterator[dict[str, Any]]:
    """Every page of a list, in order; `token` is the marker's name in the request and in the answer.

    Raises what a call raises, and Unreachable when the same marker comes twice.
    """
    seen: set[str] = set()
    while True:
        page = await calls.call(operation, params, {**projection, token: None})
        yield page
        marker = page.get(token)
        if not marker:
            return
        if marker in seen:
            raise Unreachable(
                f"{calls.service} in {calls.region}",
                f"{operation} gave the same page marker twice, so its list would never end",
                "run the same command again",
                maybe_done=False,
            )
        seen.add(marker)
        params = {**params, token: marker}


async def together(coroutines: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of calls that do not depend on each other, in order. The first that fails ends the others."""
    tasks = [asyncio.ensure_future(each) for each in coroutines]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
