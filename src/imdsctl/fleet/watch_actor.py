"""Who made a change that only a look noticed: CloudTrail's event history of that account and Region, asked once.

Source: CloudTrail API Reference, LookupEvents: the writes (`ReadOnly=false`) of the last 90 days, newest first, in
pages of 50; two requests a second in each account and Region.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from imdsctl.domain.observations import Target
from imdsctl.domain.trail_events import NotAnEvent, TrailEvent, events_of_text
from imdsctl.fleet.ports import Aws, Credentials

PAGES_MAX = 5
PAGE = 50

_WANTED = {"Events": {"CloudTrailEvent": None}, "NextToken": None}


async def writes_since(aws: Aws, credentials: Credentials | None, target: Target, since: datetime) -> list[TrailEvent]:
    """The writes in a target since then, at most 250 of the latest, in the order in which they were made.

    An event's time is a whole second: of two in one second only their order tells which was the last.
    Raises ServiceError and Unreachable.
    """
    params: dict[str, Any] = {
        "LookupAttributes": [{"AttributeKey": "ReadOnly", "AttributeValue": "false"}],
        "StartTime": since,
        "MaxResults": PAGE,
    }
    found: list[TrailEvent] = []
    pages = 0
    async for page in aws.paginate(credentials, "cloudtrail", target.region, "LookupEvents", params, _WANTED):
        for each in page.get("Events") or ():
            try:
                found += events_of_text(each.get("CloudTrailEvent") or "")
            except NotAnEvent:
                continue
        pages += 1
        if pages == PAGES_MAX:
            break
    return found[::-1]
