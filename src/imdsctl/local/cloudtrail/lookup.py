"""LookupEvents: the event history of the call's account and Region.

Source: CloudTrail API Reference, LookupEvents: newest first, the past 90 days, one attribute, pages of up to 50.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from imdsctl.local.call import AwsError, Call
from imdsctl.local.cloudtrail.event import event_id, event_of, event_source, read_only, resources, user_name
from imdsctl.local.cloudtrail.trail import Made
from imdsctl.local.pages import InvalidToken, position_of, token_of

PAGE_MAX = 50
KEPT = timedelta(days=90)

Reader = Callable[[Made], bool]


def lookup_events(call: Call) -> Mapping[str, Any]:
    """The events that match, newest first; a page goes on from where the last one ended, whatever was called since.

    Raises InvalidMaxResultsException, InvalidTimeRangeException, InvalidLookupAttributesException,
    InvalidEventCategoryException and InvalidNextTokenException.
    """
    params = call.params
    size = params.get("MaxResults")
    if size is not None and not 1 <= size <= PAGE_MAX:
        raise _refuse("InvalidMaxResultsException", f"MaxResults must be between 1 and {PAGE_MAX}.")
    start, end = _aware(params.get("StartTime")), _aware(params.get("EndTime"))
    if start is not None and end is not None and start > end:
        raise _refuse("InvalidTimeRangeException", "The start time must not be after the end time.")
    test = _test(params.get("LookupAttributes") or [])
    category = params.get("EventCategory")
    if category not in (None, "insight"):
        raise _refuse("InvalidEventCategoryException", "The event category must be insight.")
    history = call.world.trail.history(call.account_id, call.region)
    place = f"LookupEvents/{call.account_id}/{call.region}/{start}/{end}/{category}/{params.get('LookupAttributes')}"
    before = history.dropped + len(history.events)
    if params.get("NextToken"):
        try:
            before = position_of(params["NextToken"], place)
        except InvalidToken:
            raise _refuse("InvalidNextTokenException", "The next token is not valid.") from None
    oldest = max(start or call.now - KEPT, call.now - KEPT)
    found: list[dict[str, Any]] = []
    token = None
    for position, made in history.backwards() if category is None else ():
        if position >= before:
            continue
        if made.at.replace(microsecond=0) < oldest.replace(microsecond=0):
            break
        if (end is not None and made.at.replace(microsecond=0) > end) or not test(made):
            continue
        if len(found) == (size or PAGE_MAX):
            token = token_of(position + 1, place)
            break
        found.append(_event(call, made))
    return {"Events": found} | ({} if token is None else {"NextToken": token})


def _event(call: Call, made: Made) -> dict[str, Any]:
    return {
        "EventId": event_id(made),
        "EventName": made.action,
        "ReadOnly": "true" if read_only(made) else "false",
        "AccessKeyId": made.caller.access_key_id,
        "EventTime": made.at.replace(microsecond=0),
        "EventSource": event_source(made),
        "Username": user_name(made),
        "Resources": [{"ResourceType": kind, "ResourceName": name} for kind, name in resources(made)],
        "CloudTrailEvent": orjson.dumps(event_of(made, call.world)).decode(),
    }


_ATTRIBUTES: Mapping[str, Callable[[Made, str], bool]] = {
    "EventId": lambda made, value: event_id(made) == value,
    "EventName": lambda made, value: made.action == value,
    "ReadOnly": lambda made, value: read_only(made) == (value.lower() == "true"),
    "Username": lambda made, value: user_name(made) == value,
    "ResourceType": lambda made, value: any(kind == value for kind, _ in resources(made)),
    "ResourceName": lambda made, value: any(name == value for _, name in resources(made)),
    "EventSource": lambda made, value: event_source(made) == value,
    "AccessKeyId": lambda made, value: made.caller.access_key_id == value,
}


def _test(attributes: list[Mapping[str, Any]]) -> Reader:
    if not attributes:
        return lambda made: True
    if len(attributes) > 1:
        raise _refuse("InvalidLookupAttributesException", "You can specify only one lookup attribute.")
    key, value = attributes[0].get("AttributeKey"), attributes[0].get("AttributeValue")
    matches = _ATTRIBUTES.get(str(key))
    if matches is None or not value or len(value) > 2000:
        raise _refuse("InvalidLookupAttributesException", f"The lookup attribute {key} is not valid.")
    if key == "ReadOnly" and value.lower() not in ("true", "false"):
        raise _refuse("InvalidLookupAttributesException", "The value of ReadOnly must be true or false.")
    return lambda made: matches(made, value)


def _aware(at: datetime | None) -> datetime | None:
    return at if at is None or at.tzinfo is not None else at.replace(tzinfo=UTC)


def _refuse(code: str, message: str) -> AwsError:
    return AwsError(code, message, 400)
