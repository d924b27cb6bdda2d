"""What one account published in one Region: for every metric, buckets of samples that get coarser with age.

Source: CloudWatch User Guide, "Metrics retention": periods under a minute are kept for 3 hours, of 1 minute for 15
days, of 5 minutes for 63 days, of 1 hour for 455 days; what gets older is rolled up into the next.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

SECOND, MINUTE, FIVE_MINUTES, HOUR = 1, 60, 300, 3600
DAY = 86_400
RETENTION: tuple[tuple[int, int], ...] = (
    (SECOND, 3 * HOUR),
    (MINUTE, 15 * DAY),
    (FIVE_MINUTES, 63 * DAY),
    (HOUR, 455 * DAY),
)
"""For each resolution in seconds how old, in seconds, a sample of it may get."""

SEEN_SECONDS = 14 * DAY
"""ListMetrics and searches find metrics with samples of the past two weeks."""

SERIES_MAX = 100_000
"""Metrics of an account in a Region; AWS has no limit, this process's memory has."""
VALUES_EXACT_MAX = 300
"""Distinct values that a bucket keeps as they are; beyond that they are rounded to three digits."""
NO_UNIT = "None"


@dataclass(frozen=True, slots=True, order=True)
class MetricKey:
    """A metric's identity; `dimensions` are sorted by name."""

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...] = ()


class Bucket:
    """Samples of one unit that fell into the same span of time.

    `values` counts the samples by value, and is None when some came as a statistic set that does not tell them.
    """

    __slots__ = ("count", "least", "most", "total", "values")

    def __init__(self) -> None:
        self.count = 0.0
        self.total = 0.0
        self.least = float("inf")
        self.most = float("-inf")
        self.values: dict[float, float] | None = {}

    def add(self, value: float, count: float = 1.0) -> None:
        """Samples of one value."""
        self.add_set(count, value * count, value, value)

    def add_set(self, count: float, total: float, least: float, most: float) -> None:
        """A statistic set. Its values are known only when they are all the same."""
        self.count += count
        self.total += total
        self.least = min(self.least, least)
        self.most = max(self.most, most)
        if least != most:
            self.values = None
        elif self.values is not None:
            self._count(least, count)

    def merge(self, other: Bucket) -> None:
        """Take in all samples of another bucket."""
        self.count += other.count
        self.total += other.total
        self.least = min(self.least, other.least)
        self.most = max(self.most, other.most)
        if other.values is None:
            self.values = None
        elif self.values is not None:
            for value, count in other.values.items():
                self._count(value, count)

    def _count(self, value: float, count: float) -> None:
        assert self.values is not None
        if value not in self.values and len(self.values) >= VALUES_EXACT_MAX:
            value = float(f"{value:.2e}")
        self.values[value] = self.values.get(value, 0.0) + count


@dataclass(slots=True)
class Sample:
    """A bucket where it stands: its first second, the resolution of its time in seconds, its unit."""

    at: int
    resolution: int
    unit: str
    bucket: Bucket


Tier = dict[int, dict[str, Bucket]]  # by first second and unit


@dataclass(slots=True)
class Series:
    """One metric's samples by resolution."""

    tiers: dict[int, Tier] = field(default_factory=lambda: {resolution: {} for resolution, _ in RETENTION})
    newest: int = 0
    rolled: int = 0

    def bucket(self, at: int, resolution: int, unit: str) -> Bucket:
        """The bucket that a sample belongs to."""
        self.newest = max(self.newest, at)
        found = self.tiers[resolution].setdefault(at - at % resolution, {})
        if unit not in found:
            found[unit] = Bucket()
        return found[unit]

    def roll(self, now: int) -> None:
        """Roll up what has become too old for its resolution; cheap when it was done within the hour."""
        if now - self.rolled < HOUR:
            return
        self.rolled = now
        coarser = [resolution for resolution, _ in RETENTION[1:]]
        for (resolution, kept), into in zip(RETENTION, [*coarser, None], strict=True):
            tier = self.tiers[resolution]
            for at in [at for at in tier if now - at > kept]:
                for unit, bucket in tier.pop(at).items():
                    if into is not None:
                        self._into(into, at).setdefault(unit, Bucket()).merge(bucket)

    def _into(self, resolution: int, at: int) -> dict[str, Bucket]:
        return self.tiers[resolution].setdefault(at - at % resolution, {})

    def samples(self, start: int, end: int, now: int) -> Iterator[Sample]:
        """The samples from `start` up to but not including `end`, at the resolution that their age leaves them."""
        for resolution, tier in self.tiers.items():
            span = range(start - start % resolution, end, resolution)
            chosen: Iterable[int] = (at for at in span if at in tier) if len(span) < len(tier) else sorted(tier)
            for at in chosen:
                if start <= at < end and (left := resolution_at(now - at, resolution)) is not None:
                    for unit, bucket in tier[at].items():
                        yield Sample(at, left, unit, bucket)


def resolution_at(age: int, resolution: int) -> int | None:
    """The resolution that a sample of `resolution` has at an age in seconds; None when it is gone."""
    for step, kept in RETENTION:
        if step >= resolution and age <= kept:
            return step
    return None


class Metrics:
    """An account's metrics in a Region."""

    def __init__(self) -> None:
        self.series: dict[MetricKey, Series] = {}

    def put(
        self,
        namespace: str,
        name: str,
        dimensions: Mapping[str, str],
        at: datetime,
        value: float,
        *,
        count: float = 1.0,
        unit: str = NO_UNIT,
        now: datetime | None = None,
    ) -> None:
        """Add samples of one value: the port through which the world itself publishes (the metadata service, say).

        What comes for a new metric when there are SERIES_MAX already is dropped.
        """
        key = MetricKey(namespace, name, tuple(sorted(dimensions.items())))
        series = self.of(key, int((now or at).timestamp()))
        if series is not None:
            series.bucket(int(at.timestamp()), MINUTE, unit).add(value, count)

    def of(self, key: MetricKey, now: int) -> Series | None:
        """A metric's series, made when it is new and rolled up to now; None when there are too many."""
        series = self.series.get(key)
        if series is None:
            if len(self.series) >= SERIES_MAX and not self._forget(now):
                return None
            series = self.series[key] = Series(rolled=now)
        series.roll(now)
        return series

    def _forget(self, now: int) -> bool:
        """Drop the metrics whose last sample is gone; whether there were any."""
        oldest = RETENTION[-1][1]
        for key in [key for key, series in self.series.items() if now - series.newest > oldest]:
            del self.series[key]
        return len(self.series) < SERIES_MAX
