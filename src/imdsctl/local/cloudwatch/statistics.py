"""From samples to datapoints: periods, statistics and percentiles.

Source: CloudWatch User Guide, "CloudWatch statistics definitions" and "Percentiles"; API Reference, GetMetricStatistics
(how StartTime is rounded).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import datetime

from imdsctl.local.call import Call
from imdsctl.local.cloudwatch.evidence import evidence, evident
from imdsctl.local.cloudwatch.state import (
    DAY,
    FIVE_MINUTES,
    HOUR,
    MINUTE,
    SEEN_SECONDS,
    Bucket,
    MetricKey,
    Sample,
)

STATISTICS = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
PERIODS_SHORT = (1, 5, 10, 20, 30)
_PERCENTILE = re.compile(r"p(100(?:\.0+)?|\d{1,2}(?:\.\d{1,10})?)", re.IGNORECASE)


def is_period(period: int) -> bool:
    """Whether it is 1, 5, 10, 20, 30 or a multiple of 60 seconds, up to a day."""
    return period in PERIODS_SHORT or (period > 0 and period % MINUTE == 0)


def percentile_of(statistic: str) -> float | None:
    """The percentage of `p99.9`; None for what is no percentile."""
    found = _PERCENTILE.fullmatch(statistic)
    return float(found[1]) if found else None


def value_of(bucket: Bucket, statistic: str) -> float | None:
    """A bucket's statistic (one of STATISTICS, or a percentile); None when its samples do not tell it."""
    if not bucket.count:
        return None
    if statistic == "Sum":
        return bucket.total
    if statistic == "SampleCount":
        return bucket.count
    if statistic == "Average":
        return bucket.total / bucket.count
    if statistic == "Minimum":
        return bucket.least
    if statistic == "Maximum":
        return bucket.most
    percent = percentile_of(statistic)
    if percent is None or bucket.values is None:
        return None
    # The smallest value that at least `percent` of the samples do not exceed.
    wanted, seen = bucket.count * percent / 100, 0.0
    for value in sorted(bucket.values):
        seen += bucket.values[value]
        if seen >= wanted - 1e-9:
            return value
    return bucket.most


def rounded_start(start: datetime, now: datetime, period: int) -> int:
    """StartTime in seconds since 1970, rounded down as AWS does: the older, the coarser."""
    at, age = int(start.timestamp()), (now - start).total_seconds()
    if age <= 15 * DAY:
        step = period if period < MINUTE else MINUTE
    else:
        step = FIVE_MINUTES if age <= 63 * DAY else HOUR
    return at - at % step


def datapoints(
    call: Call, key: MetricKey, start: int, end: int, period: int, unit: str | None
) -> dict[int, dict[str, Bucket]]:
    """The samples of a metric in [start, end), merged into periods that begin at `start`, by unit.

    Samples whose age has left them a coarser resolution than the period are not there, as in AWS.
    """
    points: dict[int, dict[str, Bucket]] = {}
    for sample in _samples(call, key, start, end, period):
        if sample.resolution > period or (unit is not None and sample.unit != unit):
            continue
        at = sample.at - (sample.at - start) % period
        of_unit = points.setdefault(at, {})
        if sample.unit not in of_unit:
            of_unit[sample.unit] = Bucket()
        of_unit[sample.unit].merge(sample.bucket)
    return points


def merged(buckets: Mapping[str, Bucket]) -> Bucket:
    """One bucket of the samples of all units."""
    if len(buckets) == 1:
        return next(iter(buckets.values()))
    all_units = Bucket()
    for bucket in buckets.values():
        all_units.merge(bucket)
    return all_units


def _samples(call: Call, key: MetricKey, start: int, end: int, period: int) -> Iterable[Sample]:
    now = int(call.now.timestamp())
    series = call.world.metrics(call.account_id, call.region).series.get(key)
    if series is not None:
        yield from series.samples(start, end, now)
    if key.namespace == "AWS/EC2":
        state = call.world.region(call.account_id, call.region)
        generated = evidence(state, call.world.spec, key, now)
        if generated is not None:
            whole_hours = period % HOUR == 0 and start % HOUR == 0
            yield from generated.samples(start, end, now, whole_hours=whole_hours)


def known_metrics(call: Call, namespace: str | None = None) -> dict[MetricKey, int]:
    """The metrics with samples in the past two weeks, in order, each with when its last one was."""
    now = int(call.now.timestamp())
    found = {
        key: series.newest
        for key, series in call.world.metrics(call.account_id, call.region).series.items()
        if series.newest > now - SEEN_SECONDS and namespace in (None, key.namespace)
    }
    if namespace in (None, "AWS/EC2"):
        state = call.world.region(call.account_id, call.region)
        for key, newest in evident(state, call.world.spec, now):
            found[key] = max(newest, found.get(key, 0))
    return dict(sorted(found.items()))
