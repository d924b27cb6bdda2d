"""The evidence of IMDSv1 use of the generated fleet: MetadataNoToken and MetadataNoTokenRejected in AWS/EC2.

What was really called is counted (local/metadata/counts.py) and added to it; an instance that was launched by a call
has nothing else, and zeros where there was nothing to count.

Nothing of it is stored: an instance's history is a function of the world's seed and the instance's id, computed when it
is asked for. An instance with optional tokens has only MetadataNoToken, one with required tokens only
MetadataNoTokenRejected (EC2 User Guide, "Transition to using IMDSv2"), a stopped one and one whose endpoint is off have
no samples at all: absent is not zero. Samples come every five minutes, as with basic monitoring.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b

from imdsctl.domain.options import HttpTokens, MetadataOptions, Switch
from imdsctl.local.cloudwatch.state import (
    FIVE_MINUTES,
    HOUR,
    RETENTION,
    SEEN_SECONDS,
    Bucket,
    MetricKey,
    Sample,
    resolution_at,
)
from imdsctl.local.ec2.resources import PENDING, RUNNING, Instance
from imdsctl.local.ec2.state import RegionState
from imdsctl.local.spec import WorldSpec

NAMESPACE = "AWS/EC2"
NO_TOKEN = "MetadataNoToken"
REJECTED = "MetadataNoTokenRejected"
UNIT = "Count"
_STEPS = HOUR // FIVE_MINUTES
_STOPPED = re.compile(r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) GMT\)")

SILENT_REQUIRED_PERCENT = 92
"""How many of the instances that always required tokens use IMDSv2 only: what could not was mended or gave up."""
BUSY_PERCENT = 78
"""From here on an instance is busy with v1, below it uses v1 now and then."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """One instance's history of one of the two metrics: from when to when in seconds since 1970, and how busy."""

    spans: tuple[tuple[int, int], ...]
    number: int
    hourly_max: int

    def samples(self, start: int, end: int, now: int) -> Iterator[Sample]:
        """A sample every five minutes of [start, end)."""
        for first, last in self.spans:
            at = max(first, start)
            at += -at % FIVE_MINUTES
            stop = min(last, end, now)
            while at + FIVE_MINUTES <= stop:
                left = resolution_at(now - at, FIVE_MINUTES)
                if left is not None:
                    bucket = Bucket()
                    bucket.add(float(_part(self._of_hour(at // HOUR), at % HOUR // FIVE_MINUTES)))
                    yield Sample(at, left, UNIT, bucket)
                at += FIVE_MINUTES

    def periods(self, start: int, end: int, now: int, period: int) -> Iterator[tuple[int, Bucket]]:
        """The samples of [start, end) merged into periods that begin at `start`; both are of whole hours.

        The same as `samples`, quicker for a look-back of many hours; a period comes once for each span inside it.
        """
        oldest = now - RETENTION[-1][1]
        for first, last in self.spans:
            at = max(first, start, oldest + -oldest % FIVE_MINUTES)
            at += -at % FIVE_MINUTES
            stop = min(last, end, now)
            while at + FIVE_MINUTES <= stop:
                begin = at - (at - start) % period
                until = min(begin + period, stop - (stop - at) % FIVE_MINUTES)
                yield begin, self._between(at, until)
                at = until

    def _between(self, at: int, until: int) -> Bucket:
        """All samples of [at, until), which are of whole samples."""
        bucket = Bucket()
        if not self.hourly_max:
            bucket.add(0.0, float((until - at) // FIVE_MINUTES))
            return bucket
        counts: dict[int, int] = {}
        for hour in range(at // HOUR, -(-until // HOUR)):
            total = self._of_hour(hour)
            if hour * HOUR >= at and (hour + 1) * HOUR <= until:
                share, more = divmod(total, _STEPS)
                counts[share] = counts.get(share, 0) + _STEPS - more
                if more:
                    counts[share + 1] = counts.get(share + 1, 0) + more
            else:
                for part in range(_STEPS):
                    if at <= hour * HOUR + part * FIVE_MINUTES < until:
                        value = _part(total, part)
                        counts[value] = counts.get(value, 0) + 1
        for value, count in counts.items():
            bucket.add(float(value), float(count))
        return bucket

    @property
    def newest(self) -> int:
        """The end of the last span: when there was a sample last."""
        return self.spans[-1][1]

    def _of_hour(self, hour: int) -> int:
        if not self.hourly_max:
            return 0
        mixed = ((self.number ^ hour) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        return (mixed >> 29) % (self.hourly_max + 1)


def _part(total: int, part: int) -> int:
    """What a sample has of its hour's total; `_between` counts the twelve without asking for each."""
    return total * (part + 1) // _STEPS - total * part // _STEPS


def evidence(state: RegionState, spec: WorldSpec, key: MetricKey, now: int) -> Evidence | None:
    """The generated history of a metric; None when it is not one of an instance's, or the instance has none."""
    if key.namespace != NAMESPACE or key.name not in (NO_TOKEN, REJECTED) or len(key.dimensions) != 1:
        return None
    name, identifier = key.dimensions[0]
    instance = state.instances.get(identifier) if name == "InstanceId" else None
    return None if instance is None else _of(state, spec, instance, key.name, now)


def evident(state: RegionState, spec: WorldSpec, now: int) -> Iterator[tuple[MetricKey, int]]:
    """The metrics of the generated fleet with samples in the past two weeks, each with when its last one was."""
    for instance in state.instances.values():
        for name in (NO_TOKEN, REJECTED):
            found = _of(state, spec, instance, name, now)
            if found is not None and found.newest > now - SEEN_SECONDS:
                yield MetricKey(NAMESPACE, name, (("InstanceId", instance.id),)), found.newest


def _of(state: RegionState, spec: WorldSpec, instance: Instance, metric: str, now: int) -> Evidence | None:
    spans = tuple(_spans(state, instance, metric, now))
    if not spans:
        return None
    if instance.reservation.order > state.last_generated:
        return Evidence(spans, 0, 0)  # nobody called but who was counted
    number = int.from_bytes(blake2b(f"{spec.seed}/v1/{instance.id}".encode(), digest_size=8).digest(), "big")
    luck = number % 100
    had = [instance.options, *(options for _, options in state.metadata_changes.get(instance.id, ()))]
    always_required = all(options.http_tokens is HttpTokens.REQUIRED for options in had)
    silent = 100 - spec.v1_percent
    if luck < (max(SILENT_REQUIRED_PERCENT, silent) if always_required else silent):
        most = 0
    elif luck < BUSY_PERCENT:
        most = 1 + number // 100 % 8
    else:
        most = 24 + number // 100 % 400
    return Evidence(spans, number, most)


def _spans(state: RegionState, instance: Instance, metric: str, now: int) -> Iterator[tuple[int, int]]:
    """When the instance published the metric, in whole samples: it ran, endpoint on, its tokens as the metric says."""
    since = max(int(instance.launch_time.timestamp()), now - RETENTION[-1][1])
    until = _until(instance, now)
    eras: list[tuple[int, MetadataOptions]] = [
        (int(changed.timestamp()), options) for changed, options in state.metadata_changes.get(instance.id, ())
    ]
    for end, options in [*eras, (until, instance.options)]:
        end = min(end, until)
        first, last = since + -since % FIVE_MINUTES, end - end % FIVE_MINUTES
        if last > first and _published(options) == metric:
            yield first, last
        since = max(since, end)


def _until(instance: Instance, now: int) -> int:
    if instance.state in (RUNNING, PENDING):
        return now
    found = _STOPPED.search(instance.transition_reason)
    if found is None:
        return 0
    return int(datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC).timestamp())


def _published(options: MetadataOptions) -> str | None:
    if options.http_endpoint is Switch.DISABLED:
        return None
    return REJECTED if options.http_tokens is HttpTokens.REQUIRED else NO_TOKEN
