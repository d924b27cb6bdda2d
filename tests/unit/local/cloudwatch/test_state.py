"""Samples get coarser with age, and then they are gone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from imdsctl.local.cloudwatch import state
from imdsctl.local.cloudwatch.state import (
    DAY,
    FIVE_MINUTES,
    HOUR,
    MINUTE,
    SECOND,
    VALUES_EXACT_MAX,
    Bucket,
    Metrics,
    Series,
    resolution_at,
)
from imdsctl.local.cloudwatch.statistics import value_of

NOW = 2_000_000_000 - 2_000_000_000 % DAY


@pytest.mark.parametrize(
    ("age", "resolution", "left"),
    [
        (0, SECOND, SECOND),
        (3 * HOUR, SECOND, SECOND),
        (3 * HOUR + 1, SECOND, MINUTE),
        (0, MINUTE, MINUTE),
        (15 * DAY + 1, MINUTE, FIVE_MINUTES),
        (63 * DAY, FIVE_MINUTES, FIVE_MINUTES),
        (63 * DAY + 1, SECOND, HOUR),
        (455 * DAY + 1, HOUR, None),
    ],
)
def test_the_retention_of_each_resolution(age: int, resolution: int, left: int | None) -> None:
    assert resolution_at(age, resolution) == left


@pytest.mark.parametrize("days", [0, 1, 14, 16, 62, 64, 400])
def test_rolling_up_loses_no_sample(days: int) -> None:
    series = Series()
    for second in range(0, 2 * HOUR, 30):
        series.bucket(NOW + second, SECOND if second % 60 else MINUTE, "Count").add(1.0)
    later = NOW + 2 * HOUR + days * DAY
    series.roll(later)
    samples = list(series.samples(NOW, NOW + 2 * HOUR, later))
    assert sum(sample.bucket.total for sample in samples) == 240
    assert {sample.resolution for sample in samples} == {resolution_at(days * DAY + HOUR, r) for r in (SECOND, MINUTE)}


def test_what_is_too_old_is_gone() -> None:
    series = Series()
    series.bucket(NOW, MINUTE, "Count").add(1.0)
    for days in (16, 64, 500):
        series.roll(NOW + days * DAY)
    assert not any(series.tiers.values())


def test_a_bucket_with_many_values_stays_small_and_keeps_its_percentiles() -> None:
    bucket = Bucket()
    for value in range(100_000):
        bucket.add(float(value))
    assert bucket.values is not None
    assert len(bucket.values) < VALUES_EXACT_MAX + 5 * 900
    assert value_of(bucket, "p50") == pytest.approx(50_000, rel=0.01)
    assert value_of(bucket, "Sum") == sum(range(100_000))
    assert value_of(bucket, "p100") == pytest.approx(99_999, rel=0.01)


@pytest.mark.parametrize(("percentile", "value"), [("p0", 1), ("p10", 1), ("p50", 5), ("p51", 6), ("p99.9", 10)])
def test_percentiles_are_samples(percentile: str, value: float) -> None:
    bucket = Bucket()
    for sample in range(1, 11):
        bucket.add(float(sample))
    assert value_of(bucket, percentile) == value


def test_a_statistic_set_tells_percentiles_only_when_all_its_samples_are_the_same() -> None:
    bucket = Bucket()
    bucket.add_set(4, 8, 2, 2)
    assert value_of(bucket, "p90") == 2
    bucket.add_set(2, 3, 1, 2)
    assert value_of(bucket, "p90") is None


def test_the_world_publishes_through_one_port(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state, "SERIES_MAX", 2)
    metrics, now = Metrics(), datetime(2026, 1, 1, tzinfo=UTC)
    for identifier in ("i-1", "i-2", "i-3"):
        for second in (0, 59, 60):
            at = now + timedelta(seconds=second)
            metrics.put("AWS/EC2", "MetadataNoToken", {"InstanceId": identifier}, at, 2.0, unit="Count")
    assert [dict(key.dimensions)["InstanceId"] for key in metrics.series] == ["i-1", "i-2"]
    series = next(iter(metrics.series.values()))
    start = int(now.timestamp())
    told = [(each.at - start, each.bucket.total) for each in series.samples(start, start + 120, start + 120)]
    assert told == [(0, 4.0), (60, 2.0)]
