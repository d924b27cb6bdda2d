"""Request throttling as EC2 does it: a token bucket for each account, Region and API.

The figures are in `imdsctl.domain.buckets`, where the client that keeps within them finds the same ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from imdsctl.domain.buckets import CALLS, EC2_WRITE, INSTANCES, Limit, instances_of, limit_of
from imdsctl.local.call import AwsError

BUCKETS_MAX = 50_000
"""So many buckets are remembered before those that are full again are forgotten."""


class Throttling(StrEnum):
    """Which EC2 calls are throttled."""

    NONE = "none"
    WRITES = "writes"
    ALL = "all"


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
        wanted = [(action, _limit(action, params, writes), 1.0)]
        if action in INSTANCES:
            wanted.append((f"{action}/instances", INSTANCES[action], float(instances_of(action, params))))
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

    def _forget(self, now: float) -> None:
        self._buckets = {
            key: bucket
            for key, bucket in self._buckets.items()
            if bucket[0] + (now - bucket[1]) * bucket[2].refill_per_second < bucket[2].capacity
        }


def _limit(action: str, params: Mapping[str, Any], writes: bool) -> Limit:
    """The bucket of a call. That an action changes the world is known here, whatever its name begins with."""
    if writes and action not in CALLS["ec2"]:
        return EC2_WRITE
    limit = limit_of("ec2", action, params)
    assert limit is not None, "EC2 has a bucket for everything"
    return limit
