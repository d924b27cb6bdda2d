"""The gauge that an apply's gates read: IMDSv1 calls, accepted or rejected, since a time. Implements `ports.Gauge`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from datetime import datetime

from imdsctl.domain.evidence import InstanceEvidence
from imdsctl.domain.metric_asks import Ask, Budget, Metric, Price, Span, by_id, span_since
from imdsctl.domain.metric_evidence import evidence_of
from imdsctl.domain.observations import Target
from imdsctl.fleet import limits
from imdsctl.fleet.evidence import Enter, answered
from imdsctl.fleet.ports import Aws

Found = Mapping[tuple[Target, str], InstanceEvidence]


class CloudWatchGauge:
    """Asks by instance id, each in its own Region with its account's credentials, in batches of 500.

    `now` gives aware UTC times. `price` is what has been asked so far: every reading is billed anew.
    The period in which `since` lies counts whole, up to five minutes too much, and never too little. What an instance
    did in the last few minutes may not be there yet: CloudWatch gets samples every five minutes (every minute with
    detailed monitoring).
    """

    def __init__(self, aws: Aws, enter: Enter, now: Callable[[], datetime]) -> None:
        self._aws = aws
        self._enter = enter
        self._now = now
        self._turn = asyncio.Semaphore(limits.CALLS_CONCURRENT_MAX)
        self.price = Price()

    async def no_token(self, instances: Collection[tuple[Target, str]], since: datetime) -> Found:
        """IMDSv1 calls of each instance since then; unknown, with the reason, where nothing was counted."""
        return await self._read(Metric.NO_TOKEN, instances, since)

    async def rejected(self, instances: Collection[tuple[Target, str]], since: datetime) -> Found:
        """IMDSv1 calls that were turned down, of each instance since then."""
        return await self._read(Metric.REJECTED, instances, since)

    async def _read(self, metric: Metric, instances: Collection[tuple[Target, str]], since: datetime) -> Found:
        now = self._now()
        span = span_since(min(since, now), now)
        by_target: dict[Target, list[str]] = {}
        for target, instance_id in dict.fromkeys(instances):
            by_target.setdefault(target, []).append(instance_id)
        parts = await asyncio.gather(
            *(self._target(by_id(target, metric, ids, span), span) for target, ids in by_target.items())
        )
        return {key: found for part in parts for key, found in part.items()}

    async def _target(self, ask: Ask, span: Span) -> Found:
        budget = Budget(len(ask.instance_ids))
        async with self._turn:
            answer = await answered(self._aws, self._enter, ask, span, budget)
        self.price += answer.price
        return {
            (ask.target, each): evidence_of(
                ask.target, each, ask.metric, span, answer.counts.get(each), failed=answer.failed.get(each)
            )
            for each in ask.instance_ids
        }
