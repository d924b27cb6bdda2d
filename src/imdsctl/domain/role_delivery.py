"""CloudTrail's trace of IMDSv1: calls signed with an instance role's credentials that IMDSv1 delivered. Pure.

Source: CloudTrail User Guide, "CloudTrail userIdentity element": `sessionContext.ec2RoleDelivery` is 1.0 when the
credentials came by IMDSv1 and 2.0 when by IMDSv2; the session name of an instance role, after the colon of
`principalId`, is the instance's id. An instance without a role, one that reads other paths, and one whose calls are
data events that no trail records leave no trace: CloudTrail can show use, and never its absence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from imdsctl.domain.evidence import Evidence, InstanceEvidence

V1, V2 = "1.0", "2.0"
_INSTANCE = re.compile(r"i-[0-9a-f]{8,17}")


@dataclass(frozen=True, slots=True)
class Delivery:
    """One event: whose instance's credentials, by which version they came, and when they were used (aware)."""

    account_id: str
    instance_id: str
    version: str
    used: datetime


def delivery_of(principal: Any, account_id: Any, version: Any, time: Any) -> Delivery | None:
    """A delivery from an event's `userIdentity.principalId` and `accountId`, `ec2RoleDelivery` and `eventTime`.

    None for what is no call by an instance's role, whatever the values are: files hold what somebody put there.
    """
    if not (isinstance(principal, str) and isinstance(account_id, str) and isinstance(time, str)):
        return None
    name = principal.rpartition(":")[2]
    if version not in (V1, V2) or not _INSTANCE.fullmatch(name):
        return None
    try:
        used = datetime.fromisoformat(time)
    except ValueError:
        return None
    return Delivery(account_id, name, version, used) if used.tzinfo is not None else None


def delivery_of_event(event: Any) -> Delivery | None:
    """The same from a whole event."""
    identity = _member(event, "userIdentity")
    version = _member(_member(identity, "sessionContext"), "ec2RoleDelivery")
    return delivery_of(
        _member(identity, "principalId"), _member(identity, "accountId"), version, _member(event, "eventTime")
    )


def _member(value: Any, name: str) -> Any:
    return value.get(name) if isinstance(value, Mapping) else None


@dataclass(slots=True)
class Deliveries:
    """Events by account and instance, from a time until a time, of the instances that are wanted."""

    start: datetime
    end: datetime
    wanted: frozenset[tuple[str, str]]
    events: int = 0
    """Events that were counted."""
    by_instance: dict[tuple[str, str], tuple[int, datetime | None]] = field(default_factory=dict)
    """How many were by IMDSv1, and the latest of these."""

    def add(self, delivery: Delivery) -> None:
        """Count an event, if it is in the span and of an instance that is wanted."""
        key = delivery.account_id, delivery.instance_id
        if key not in self.wanted or not self.start <= delivery.used <= self.end:
            return
        self.events += 1
        number, last = self.by_instance.get(key, (0, None))
        if delivery.version == V1:
            number += 1
            last = delivery.used if last is None else max(last, delivery.used)
        self.by_instance[key] = number, last


def with_deliveries(evidence: Evidence, found: Deliveries) -> Evidence:
    """The evidence with what CloudTrail shows of its instances.

    Of an instance without an event `role_delivery_v1` stays as it is: nobody knows whether its calls were recorded.
    """
    instances = {
        key: _with(each, found.by_instance.get((each.target.account_id, each.instance_id)))
        for key, each in evidence.instances.items()
    }
    return replace(evidence, instances=instances)


def _with(evidence: InstanceEvidence, found: tuple[int, datetime | None] | None) -> InstanceEvidence:
    if found is None:
        return evidence
    number, last = found
    times = [each for each in (evidence.last_used, last) if each is not None]
    return replace(evidence, role_delivery_v1=number, last_used=max(times, default=None))
