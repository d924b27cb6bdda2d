"""The generated history: whole periods are what their samples of five minutes add up to."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from imdsctl.local.cloudwatch.evidence import Evidence
from imdsctl.local.cloudwatch.state import FIVE_MINUTES, HOUR, Bucket

DAY = 24 * HOUR
NOW = 1_790_000_000
WHOLE_HOUR = NOW // HOUR * HOUR


def facts(bucket: Bucket) -> tuple[object, ...]:
    return bucket.count, bucket.total, bucket.least, bucket.most, bucket.values


@given(
    number=st.integers(0, 2**64 - 1),
    hourly_max=st.sampled_from([0, 1, 8, 24, 423]),
    launched=st.integers(0, 600),
    pieces=st.lists(st.integers(1, 300), min_size=1, max_size=3),
    hours_back=st.integers(1, 40),
    seconds_ahead=st.integers(-7200, 7200),
    period_hours=st.sampled_from([1, 3, 12, 24]),
)
def test_periods_are_their_samples(
    number: int,
    hourly_max: int,
    launched: int,
    pieces: list[int],
    hours_back: int,
    seconds_ahead: int,
    period_hours: int,
) -> None:
    at = (NOW - DAY * 2) // FIVE_MINUTES * FIVE_MINUTES + launched * FIVE_MINUTES
    spans = []
    for piece in pieces:
        spans.append((at, at + piece * FIVE_MINUTES))
        at += (piece + 7) * FIVE_MINUTES
    history = Evidence(tuple(spans), number, hourly_max)
    start, end, period = WHOLE_HOUR - hours_back * HOUR, NOW + seconds_ahead, period_hours * HOUR
    slow: dict[int, Bucket] = {}
    for sample in history.samples(start, end, NOW):
        slow.setdefault(sample.at - (sample.at - start) % period, Bucket()).merge(sample.bucket)
    quick: dict[int, Bucket] = {}
    for begin, bucket in history.periods(start, end, NOW, period):
        quick.setdefault(begin, Bucket()).merge(bucket)
    assert {begin: facts(each) for begin, each in quick.items()} == {begin: facts(each) for begin, each in slow.items()}
