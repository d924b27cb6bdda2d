"""CloudTrail's event history, asked for single calls by name in each account and Region.

Source: CloudTrail API Reference, LookupEvents: management events of the past 90 days in the Region that is asked, one
attribute a question, 50 events a page, two calls a second for an account in a Region.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from typing import Any

from imdsctl.domain.observations import Target
from imdsctl.fleet import limits
from imdsctl.fleet.evidence import Enter
from imdsctl.fleet.ports import Aws, Unreachable
from imdsctl.fleet.targets import code_of, said
from imdsctl.wire.errors import ServiceError

_EVENTS = {"Events": {"CloudTrailEvent": None}, "NextToken": None}
PAGE = 50
EVENTS_MAX = 50_000
"""Read of one call's history in one target; more are for CloudTrail's files."""


async def look_up_events(
    aws: Aws,
    enter: Enter,
    targets: Iterable[Target],
    names: Sequence[str],
    since: datetime,
    until: datetime,
    take: Callable[[Target, str], object],
) -> list[tuple[Target, str]]:
    """Hand every event's text to `take`; gives the targets that could not be asked to the end, with the reason."""
    turn = asyncio.Semaphore(limits.CALLS_CONCURRENT_MAX)

    async def one(target: Target) -> tuple[Target, str] | None:
        async with turn:
            try:
                credentials = await enter(target.account_id)
                for name in names:
                    params: dict[str, Any] = {
                        "LookupAttributes": [{"AttributeKey": "EventName", "AttributeValue": name}],
                        "StartTime": since,
                        "EndTime": until,
                        "MaxResults": PAGE,
                    }
                    seen = 0
                    pages = aws.paginate(credentials, "cloudtrail", target.region, "LookupEvents", params, _EVENTS)
                    async for page in pages:
                        for event in page.get("Events") or ():
                            take(target, str(event.get("CloudTrailEvent") or ""))
                            seen += 1
                        if seen >= EVENTS_MAX:
                            return target, f"it has more than {EVENTS_MAX:,} {name} events: the newest were replayed"
            except (ServiceError, Unreachable) as error:
                return target, f"CloudTrail could not be asked: {said(error)} ({code_of(error)})"
        return None

    results = await asyncio.gather(*(one(each) for each in targets))
    return [each for each in results if each is not None]
