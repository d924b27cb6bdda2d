"""Keeps a client within AWS's buckets: who would be throttled waits instead, and one refusal slows all who share it.

Nothing here waits or reads a clock: the time is an argument, and what comes back is how long to wait. A call that
finds its bucket full enough costs a look into a dictionary and a few float operations.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from imdsctl.domain.buckets import INSTANCES, Limit, instances_of, limit_of

BUCKETS_REMEMBERED_MIN = 4096
"""So many buckets are remembered before those that are full again are forgotten: a sweep touches 100,000s, briefly."""


UNPUBLISHED = Limit(50, 5)
"""What an API is taken to have, once it has refused, when AWS publishes no figure: the least of EC2's writes."""

Key: TypeAlias = tuple[str, str, str, str]
"""Whose bucket: an account (or an access key, where the account is not known), a Region, a service and its API."""


class _Bucket:
    """`tokens` at the moment `since`; below zero while calls wait for tokens that are still to come."""

    __slots__ = ("limit", "since", "tokens")

    def __init__(self, limit: Limit, now: float) -> None:
        self.limit = limit
        self.tokens = limit.capacity
        self.since = now

    def take(self, cost: float, now: float) -> float:
        """Take tokens now or in advance; how many seconds to wait until they are there.

        What costs more than the whole bucket waits until the bucket is full, and AWS decides.
        """
        limit = self.limit
        tokens = self.tokens + (now - self.since) * limit.refill_per_second
        if tokens > limit.capacity:
            tokens = limit.capacity
        self.since = now
        self.tokens = tokens = tokens - min(cost, limit.capacity)
        return 0.0 if tokens >= 0.0 else -tokens / limit.refill_per_second

    def full(self, now: float) -> bool:
        return self.tokens + (now - self.since) * self.limit.refill_per_second >= self.limit.capacity


class Limiter:
    """The buckets of one client. Times are in seconds of a clock that never goes back.

    A caller that waits has its tokens already, so that calls leave in the order in which they came and nobody has to
    wake anybody. AWS's own buckets are shared with whoever else works in the account: `refused` is how they are felt.
    """

    def __init__(self) -> None:
        self._buckets: dict[Key, _Bucket] = {}
        self._remembered_max = BUCKETS_REMEMBERED_MIN

    def take(self, key: Key, params: Mapping[str, Any], now: float) -> float:
        """Take what one call costs. How many seconds the caller has to wait before it sends: 0.0 nearly always."""
        bucket = self._buckets.get(key)
        if bucket is None:
            limit = limit_of(key[2], key[3], params)
            if limit is None:
                return 0.0
            bucket = self._remember(key, limit, now)
        wait = bucket.take(1.0, now)
        if key[3] in INSTANCES and key[2] == "ec2":
            wait = max(wait, self._take_instances(key, params, now))
        return wait

    def refused(self, key: Key, now: float) -> None:
        """AWS throttled a call although we waited: the bucket is empty, for us and for all who share it.

        An API whose bucket AWS does not publish is slowed down as EC2's writes are, from its first refusal on.
        """
        bucket = self._buckets.get(key)
        if bucket is None:
            bucket = self._remember(key, limit_of(key[2], key[3], {}) or UNPUBLISHED, now)
        bucket.take(0.0, now)
        bucket.tokens = min(bucket.tokens, 0.0)

    def __len__(self) -> int:
        return len(self._buckets)

    def _take_instances(self, key: Key, params: Mapping[str, Any], now: float) -> float:
        of_instances = (*key[:3], key[3] + "/instances")
        bucket = self._buckets.get(of_instances)
        if bucket is None:
            bucket = self._remember(of_instances, INSTANCES[key[3]], now)
        return bucket.take(float(instances_of(key[3], params)), now)

    def _remember(self, key: Key, limit: Limit, now: float) -> _Bucket:
        if len(self._buckets) >= self._remembered_max:
            self._buckets = {each: bucket for each, bucket in self._buckets.items() if not bucket.full(now)}
            self._remembered_max = max(BUCKETS_REMEMBERED_MIN, 2 * len(self._buckets))
        bucket = self._buckets[key] = _Bucket(limit, now)
        return bucket
