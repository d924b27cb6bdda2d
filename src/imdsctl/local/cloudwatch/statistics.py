"""From samples to datapoints: periods, statistics and percentiles.

Source: CloudWatch User Guide, "CloudWatch statistics definitions" and "Percentiles"; API Reference, GetMetricStatistics
(how StartTime is rounded).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

from imdsctl.local.call import Call
from imdsctl.local.cloudwatch.evidence import NAMESPACE, UNIT, evidence, evident
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
    for at, of, bucket in _in_periods(call, key, start, end, period):
        if unit is not None and of != unit:
            continue
        of_unit = points.setdefault(at, {})
        if of not in of_unit:
            of_unit[of] = Bucket()
        of_unit[of].merge(bucket)
    return points


def merged(buckets: Mapping[str, Bucket]) -> Bucket:
    """One bucket of the samples of all units."""
    if len(buckets) == 1:
        return next(iter(buckets.values()))
    all_units = Bucket()
    for bucket in buckets.values():
        all_units.merge(bucket)
    return all_units


def _in_periods(call: Call, key: MetricKey, start: int, end: int, period: int) -> Iterator[tuple[int, str, Bucket]]:
    """Samples with the beginning of their period and their unit."""
    now = int(call.now.timestamp())
    series = call.world.metrics(call.account_id, call.region).series.get(key)
    if series is not None:
        yield from _placed(series.samples(start, end, now), start, period)
    if key.namespace == NAMESPACE:
        state = call.world.region(call.account_id, call.region)
        generated = evidence(state, call.world.spec, key, now)
        if generated is None:
            return
        if period % HOUR == 0 and start % HOUR == 0:
            for at, bucket in generated.periods(start, end, now, period):
                yield at, UNIT, bucket
        else:
            yield from _placed(generated.samples(start, end, now), start, period)


def _placed(samples: Iterable[Sample], start: int, period: int) -> Iterator[tuple[int, str, Bucket]]:
    for sample in samples:
        if sample.resolution <= period:
            yield sample.at - (sample.at - start) % period, sample.unit, sample.bucket


def known_metrics(call: Call, namespace: str | None = None) -> dict[MetricKey, int]:
    """The metrics with samples in the past two weeks, in order, each with when its last one was."""
    now = int(call.now.timestamp())
    found = {
        key: series.newest
        for key, series in call.world.metrics(call.account_id, call.region).series.items()
        if series.newest > now - SEEN_SECONDS and namespace in (None, key.namespace)
    }
    if namespace in (None, NAMESPACE):
        state = call.world.region(call.account_id, call.region)
        for key, newest in evident(state, call.world.spec, now):
            found[key] = max(newest, found.get(key, 0))
    return dict(sorted(found.items()))
