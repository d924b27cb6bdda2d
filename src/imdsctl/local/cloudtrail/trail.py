"""The calls that were made, as little of each as an event can be told from later.

Appending is on the way of every request, so it keeps references and computes nothing: `event.py` writes an event when
somebody looks it up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from imdsctl.wire.errors import ServiceError

if TYPE_CHECKING:
    from imdsctl.local.call import AwsError, Call, Caller
    from imdsctl.local.sessions import Session

EVENTS_MAX = 50_000
"""Events kept of an account in a Region; the oldest go."""
EVENTS_TOTAL_MAX = 200_000
"""Events kept of all accounts in all Regions; then the fullest histories lose their older halves."""

CALL_BYTES_MAX = 10_000
"""Of a call with more parameters than this only the short ones are kept: nobody may fill the memory with them."""
SHORT_MAX = 256

GLOBAL_REGION = "us-east-1"
GLOBAL_SERVICES = frozenset({"iam", "organizations", "account"})
"""Services whose events are recorded in us-east-1, wherever the request was signed for (CloudTrail User Guide, "Global
service events"). STS has Regions: a call is recorded where it was made, those of the global endpoint in us-east-1."""

DATA_EVENTS = frozenset(
    {
        *("GetMetricData", "PutMetricData"),
        *("SendMessage", "SendMessageBatch", "ReceiveMessage", "DeleteMessage", "DeleteMessageBatch"),
    }
)
"""Data events, which no event history shows."""

_MANY = frozenset({"RunInstances", "CreateFleet"})


class Made(NamedTuple):
    """One call that was made. `outcome` is the refusal, the result of a write, or None for a read.

    `session` and `user_agent` are None when the call comes from the log of an earlier run.
    """

    at: datetime
    service: str
    action: str
    region: str
    caller: Caller
    session: Session | None
    user_agent: str | None
    params: dict[str, Any]
    request_id: str
    outcome: AwsError | Mapping[str, Any] | None


class History:
    """An account's events in a Region, oldest first. `dropped` counts those that are gone from its beginning."""

    __slots__ = ("dropped", "events")

    def __init__(self) -> None:
        # Plain tuples, in the order of `Made`: they are cheaper to make, and few are ever read.
        self.events: deque[tuple[Any, ...]] = deque()
        self.dropped = 0

    def backwards(self) -> Iterator[tuple[int, Made]]:
        """The events with their positions since the beginning of time, newest first."""
        position = self.dropped + len(self.events)
        for kept in reversed(self.events):
            position -= 1
            yield position, Made._make(kept)

    def drop(self, number: int) -> None:
        """Forget the oldest events."""
        for _ in range(number):
            self.events.popleft()
        self.dropped += number


class Trail:
    """The histories of all accounts and Regions."""

    def __init__(self) -> None:
        self._histories: dict[tuple[str, str], History] = {}
        self._total = 0

    def record(
        self,
        call: Call,
        outcome: AwsError | Mapping[str, Any] | None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Remember a call: its refusal, the result of a write, or None for a read. `headers` are the request's.

        A replayed call has no headers; its request id makes its event the same one as before.
        """
        service, action = call.service, call.action
        if action in DATA_EVENTS:
            return
        key = (call.account_id, GLOBAL_REGION if service in GLOBAL_SERVICES else call.region)
        history = self._histories.get(key)
        if history is None:
            history = self._histories[key] = History()
        params = call.params or _NOTHING
        if "UserData" in params:
            params = {**params, "UserData": HIDDEN_USER_DATA}
        if action in _MANY and isinstance(outcome, Mapping):
            outcome = _slim(outcome)
        # Only a request that may be large is measured; a replayed one has no headers to tell.
        if (headers is None or len(headers.get("content-length", "")) > 4) and size_of(params) > CALL_BYTES_MAX:
            params, outcome = _short(params), _shortened(outcome)
        agent = None if headers is None else headers.get("user-agent", "")[:SHORT_MAX]
        events = history.events
        events.append(
            (call.now, service, action, key[1], call.caller, call.session, agent, params, call.request_id, outcome)
        )
        if len(events) > EVENTS_MAX:
            events.popleft()
            history.dropped += 1
        else:
            self._total += 1
            if self._total > EVENTS_TOTAL_MAX:
                self._make_room()

    def _make_room(self) -> None:
        # An eighth at once: finding the fullest of an organization's histories takes as long as many calls.
        fewer = EVENTS_TOTAL_MAX * 7 // 8
        for fullest in sorted(self._histories.values(), key=lambda each: len(each.events), reverse=True):
            if self._total <= fewer:
                return
            half = (len(fullest.events) + 1) // 2
            fullest.drop(half)
            self._total -= half

    def history(self, account_id: str, region: str) -> History:
        """An account's events in a Region."""
        return self._histories.get((account_id, region)) or History()


_NOTHING: dict[str, Any] = {}
HIDDEN_USER_DATA = "<sensitiveDataRemoved>"


def size_of(value: Any) -> int:
    """About how many bytes a value takes as JSON."""
    if isinstance(value, Mapping):
        return sum(len(name) + 4 + size_of(each) for name, each in value.items())
    if isinstance(value, (list, tuple)):
        return sum(2 + size_of(each) for each in value)
    return len(value) + 2 if isinstance(value, (str, bytes)) else 8


def _short(value: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: each for name, each in value.items() if not isinstance(each, (dict, list)) and size_of(each) < SHORT_MAX
    }


def _shortened(outcome: AwsError | Mapping[str, Any] | None) -> AwsError | Mapping[str, Any] | None:
    if isinstance(outcome, Mapping):
        return _short(outcome)
    return outcome and ServiceError(outcome.code, outcome.message[:SHORT_MAX], outcome.status, fault=outcome.fault)


def _slim(result: Mapping[str, Any]) -> Mapping[str, Any]:
    """The result of a launch without all that describes its instances: that would be kept a thousand times."""
    kept: dict[str, Any] = {name: value for name, value in result.items() if isinstance(value, str)}
    if "Instances" in result:
        kept["Instances"] = [
            {"InstanceId": each["InstanceId"]} if "InstanceId" in each else {"InstanceIds": each.get("InstanceIds")}
            for each in result["Instances"]
        ]
    return kept
