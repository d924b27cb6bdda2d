"""Request throttling as EC2 does it: a token bucket for each account, Region and API.

Source: EC2 Developer Guide, "Request throttling for the Amazon EC2 API" (bucket sizes and refill rates of request rate
limiting, and of resource rate limiting for the calls that take many instances).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from imdsctl.local.call import AwsError

BUCKETS_MAX = 50_000
"""So many buckets are remembered before those that are full again are forgotten."""


class Throttling(StrEnum):
    """Which EC2 calls are throttled."""

    NONE = "none"
    WRITES = "writes"
    ALL = "all"


@dataclass(frozen=True, slots=True)
class Limit:
    """A bucket: how many calls (or instances) at once, and how many more each second."""

    capacity: float
    refill_per_second: float


READ = Limit(100, 20)
READ_UNFILTERED = Limit(50, 10)
"""A Describe call of those below that is neither filtered nor paginated nor given ids."""
WRITE = Limit(50, 5)
LIMITS = {
    "CreateLaunchTemplateVersion": Limit(100, 5),
    "DescribeDeclarativePoliciesReports": Limit(5, 5),
    "ModifyImageAttribute": Limit(100, 5),
    "ModifyInstanceMetadataDefaults": Limit(2, 2),
    "ModifyInstanceMetadataOptions": Limit(100, 5),
    "ModifyLaunchTemplate": Limit(100, 5),
    "RunInstances": Limit(5, 2),
    "StartDeclarativePoliciesReport": Limit(1, 1),
    "StartInstances": Limit(5, 2),
}
UNFILTERED = frozenset(
    {
        "DescribeInstances",
        "DescribeInstanceStatus",
        "DescribeNetworkInterfaces",
        "DescribeSecurityGroups",
        "DescribeSnapshots",
        "DescribeSpotInstanceRequests",
        "DescribeVolumes",
    }
)
NARROWING = ("Filters", "MaxResults", "NextToken")
RESOURCES = {
    "RunInstances": Limit(1000, 2),
    "StartInstances": Limit(1000, 2),
    "StopInstances": Limit(1000, 20),
    "TerminateInstances": Limit(1000, 20),
}
"""Limits that count instances, beside the one that counts calls."""

EXCEEDED = AwsError("RequestLimitExceeded", "Request limit exceeded.", 503)


class Throttle:
    """The buckets of one local AWS. It reads no clock: the time is an argument, in seconds, and never goes back."""

    def __init__(self, throttling: Throttling = Throttling.WRITES) -> None:
        self._throttling = throttling
        self._buckets: dict[tuple[str, str, str], tuple[float, float, Limit]] = {}

    def admit(
        self, account_id: str, region: str, action: str, params: Mapping[str, Any], now: float, *, writes: bool
    ) -> None:
        """Take what an EC2 call costs, or raise AwsError `RequestLimitExceeded` (HTTP 503) and take nothing.

        DryRun calls cost as much as real ones.
        """
        if self._throttling is Throttling.NONE or not (writes or self._throttling is Throttling.ALL):
            return
        wanted = [(action, self._limit(action, params, writes), 1.0)]
        if action in RESOURCES:
            wanted.append((f"{action}/instances", RESOURCES[action], float(_instances(params))))
        left = {}
        for name, limit, cost in wanted:
            key = (account_id, region, name)
            tokens, since, _ = self._buckets.get(key, (limit.capacity, now, limit))
            tokens = min(limit.capacity, tokens + (now - since) * limit.refill_per_second)
            if tokens < cost:
                raise EXCEEDED
            left[key] = (tokens - cost, now, limit)
        self._buckets.update(left)
        if len(self._buckets) > BUCKETS_MAX:
            self._forget(now)

    def _limit(self, action: str, params: Mapping[str, Any], writes: bool) -> Limit:
        if action in LIMITS:
            return LIMITS[action]
        if writes:
            return WRITE
        narrowed = any(params.get(name) for name in params if name in NARROWING or name.endswith("Ids"))
        return READ_UNFILTERED if action in UNFILTERED and not narrowed else READ

    def _forget(self, now: float) -> None:
        self._buckets = {
            key: bucket
            for key, bucket in self._buckets.items()
            if bucket[0] + (now - bucket[1]) * bucket[2].refill_per_second < bucket[2].capacity
        }


def _instances(params: Mapping[str, Any]) -> int:
    asked = params.get("MaxCount")
    return asked if isinstance(asked, int) else len(params.get("InstanceIds") or ())
