"""CloudTrail's event history, asked for the role deliveries of single instances.

Source: CloudTrail API Reference, LookupEvents: management events of the past 90 days in the Region that is asked, one
attribute, 50 events a page, two calls a second for an account in a Region. The session name of an instance role, its
instance's id, is the event's user name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import timedelta

import orjson

from imdsctl.domain.observations import Target
from imdsctl.domain.role_delivery import V1, Deliveries, delivery_of_event
from imdsctl.fleet import limits
from imdsctl.fleet.evidence import Enter
from imdsctl.fleet.ports import Aws, Credentials, Unreachable
from imdsctl.fleet.targets import code_of, said
from imdsctl.wire.errors import ServiceError

KEPT = timedelta(days=90)
PAGES_MAX = 4
"""Pages read of one instance: 200 events, newest first. Fewer when one of them shows IMDSv1."""
CALLS_PER_SECOND = 2
_EVENTS = {"Events": {"CloudTrailEvent": None}, "NextToken": None}
CANNOT = (
    "CloudTrail's event history was asked in each instance's own Region: it keeps management events for 90 days, shows "
    f"calls by the instance's role only, and no more than the newest {PAGES_MAX * 50} of an instance were read"
)


def seconds_of(instances: Collection[tuple[Target, str]]) -> int:
    """How long it takes at AWS's rate: the targets side by side, the instances of one after the other."""
    by_target: dict[Target, int] = {}
    for target, _ in instances:
        by_target[target] = by_target.get(target, 0) + 1
    return max(by_target.values(), default=0) // CALLS_PER_SECOND


async def look_up(
    aws: Aws, enter: Enter, instances: Collection[tuple[Target, str]], into: Deliveries
) -> list[tuple[Target, str]]:
    """Count the deliveries of each instance into `into`; gives the targets that could not be asked, with the reason."""
    by_target: dict[Target, list[str]] = {}
    for target, instance_id in instances:
        by_target.setdefault(target, []).append(instance_id)
    turn = asyncio.Semaphore(limits.CALLS_CONCURRENT_MAX)

    async def one(target: Target, ids: list[str]) -> tuple[Target, str] | None:
        async with turn:
            try:
                credentials = await enter(target.account_id)
                for instance_id in ids:
                    await _instance(aws, credentials, target, instance_id, into)
            except (ServiceError, Unreachable) as error:
                return target, f"CloudTrail could not be asked: {said(error)} ({code_of(error)})"
        return None

    results = await asyncio.gather(*(one(target, ids) for target, ids in by_target.items()))
    return sorted(each for each in results if each is not None)


async def _instance(
    aws: Aws, credentials: Credentials | None, target: Target, instance_id: str, into: Deliveries
) -> None:
    params = {
        "LookupAttributes": [{"AttributeKey": "Username", "AttributeValue": instance_id}],
        "StartTime": max(into.start, into.end - KEPT),
        "EndTime": into.end,
        "MaxResults": 50,
    }
    pages = 0
    async for page in aws.paginate(credentials, "cloudtrail", target.region, "LookupEvents", params, _EVENTS):
        seen = False
        for event in page.get("Events") or ():
            delivery = delivery_of_event(_loaded(event.get("CloudTrailEvent")))
            if delivery is not None and delivery.instance_id == instance_id:
                into.add(delivery)
                seen = seen or delivery.version == V1
        pages += 1
        if seen or pages >= PAGES_MAX:
            return


def _loaded(text: object) -> object:
    try:
        return orjson.loads(text) if isinstance(text, str) else None
    except orjson.JSONDecodeError:
        return None
