"""From datapoints to evidence: no datapoints are unknown, zero is unused, and from when it is known is said."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from imdsctl.domain.evidence import Evidence, InstanceEvidence, Use, joined
from imdsctl.domain.metric_asks import Metric, look_back_span
from imdsctl.domain.metric_evidence import added, counted, evidence_of
from imdsctl.domain.observations import InstanceSeen, Target
from imdsctl.domain.options import HttpTokens, MetadataOptions

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
SPAN = look_back_span(timedelta(days=14), NOW)
PLACE = Target("111122223333", "eu-west-1")
OPTIONAL = MetadataOptions(http_tokens=HttpTokens.OPTIONAL)
HALF_DAY = timedelta(hours=12)


def seen(state: str = "running", launched: datetime | None = None) -> InstanceSeen:
    return InstanceSeen("i-1", state, OPTIONAL, launch_time=launched)


def judged(*values: float, first: datetime = SPAN.start, metric: Metric = Metric.NO_TOKEN, **more: Any) -> Any:
    points = [(first + number * HALF_DAY, value) for number, value in enumerate(values)]
    return evidence_of(PLACE, "i-1", metric, SPAN, counted(points), **more)


WHOLE = [0.0] * 28


def test_no_datapoints_are_not_zero() -> None:
    assert judged().use is Use.UNKNOWN
    assert judged().no_token is None
    found = judged(*WHOLE)
    assert (found.use, found.no_token, found.last_used, found.since, found.reason) == (Use.UNUSED, 0.0, None, None, "")


def test_one_call_is_use_with_the_end_of_its_period_as_the_last_time() -> None:
    values = [*WHOLE]
    values[3] = 2.0
    found = judged(*values)
    assert (found.use, found.no_token) == (Use.USED, 2.0)
    assert found.last_used == SPAN.start + 4 * HALF_DAY


def test_the_last_time_of_use_is_not_in_the_future() -> None:
    assert judged(5.0, first=NOW - timedelta(hours=1)).last_used == NOW


def test_calls_that_were_turned_down_are_use_too() -> None:
    found = judged(*WHOLE[:-1], 3.0, metric=Metric.REJECTED)
    assert (found.use, found.no_token, found.rejected) == (Use.USED, None, 3.0)


def test_a_young_instance_says_from_when_the_evidence_speaks() -> None:
    launched = NOW - timedelta(days=2, hours=5)
    found = judged(*[0.0] * 5, first=launched - timedelta(hours=7), seen=seen(launched=launched))
    assert (found.use, found.since) == (Use.UNUSED, launched)


def test_a_launch_time_after_the_first_datapoints_is_a_restart_and_hides_nothing() -> None:
    """LaunchTime is the time of the last start: an older datapoint was there before it."""
    found = judged(*WHOLE, seen=seen(launched=NOW - timedelta(days=1)))
    assert found.since is None


@pytest.mark.parametrize(
    ("state", "launched", "words"),
    [
        ("stopped", NOW - timedelta(days=90), "stopped when it was scanned"),
        ("running", NOW - timedelta(minutes=4), "no datapoints yet"),
        ("running", NOW - timedelta(days=90), "running, yet no datapoints"),
    ],
)
def test_the_reason_for_no_datapoints_is_said(state: str, launched: datetime, words: str) -> None:
    found = judged(seen=seen(state, launched))
    assert found.use is Use.UNKNOWN
    assert words in found.reason


def test_datapoints_that_end_early_are_said_to() -> None:
    assert judged(*WHOLE[:10]).reason == "no datapoints after 2026-11-17 12:00 UTC"
    assert judged(*WHOLE, seen=seen("stopped")).reason.startswith("stopped when it was scanned")


def test_an_answer_that_is_not_whole_proves_use_and_never_its_absence() -> None:
    assert judged(*WHOLE, failed="it broke off").use is Use.UNKNOWN
    found = judged(1.0, failed="it broke off")
    assert (found.use, found.reason) == (Use.USED, "incomplete: it broke off")


def test_pages_of_one_series_add_up() -> None:
    times = [(NOW - timedelta(hours=number), float(number == 2)) for number in range(6)]
    assert added(counted(times[:3]), counted(times[3:])) == counted(times)
    assert added(None, counted(times)) == counted(times)
    assert added(None, None) is None


def test_evidence_of_a_part_keeps_what_is_known_of_the_rest_and_is_as_old_as_it() -> None:
    other = Target("111122223333", "us-east-1")
    day = timedelta(days=14)
    before = Evidence("s", NOW - day, day, {(other, "i-2"): InstanceEvidence(other, "i-2", 1.0)}, ((PLACE, "no"),), 5)
    now = Evidence("s", NOW, day, {(PLACE, "i-1"): InstanceEvidence(PLACE, "i-1", 0.0)}, (), 2)
    both = joined(before, now)
    assert set(both.instances) == {(other, "i-2"), (PLACE, "i-1")}
    assert (both.taken, both.unseen, both.metrics_requested) == (before.taken, (), 7)
    assert joined(Evidence("s", NOW, timedelta(days=3)), now) is now
