"""What to ask CloudWatch for: periods that exist for the age, few datapoints, the cheapest form, and its price."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from imdsctl.domain.metric_asks import (
    DATAPOINTS_MAX,
    QUERIES_MAX,
    SEARCH_SERIES_MAX,
    Ask,
    Budget,
    Estimate,
    Metric,
    Price,
    asks_of,
    look_back_span,
)
from imdsctl.domain.observations import InstanceSeen, RegionSeen, Target
from imdsctl.domain.options import HttpTokens, MetadataOptions, Switch

NOW = datetime(2026, 11, 26, 3, 7, 30, tzinfo=UTC)
SPAN = look_back_span(timedelta(days=14), NOW)
PLACE = Target("111122223333", "eu-west-1")
OPTIONAL = MetadataOptions(http_tokens=HttpTokens.OPTIONAL)
REQUIRED = MetadataOptions(http_tokens=HttpTokens.REQUIRED)
OFF = MetadataOptions(http_tokens=HttpTokens.OPTIONAL, http_endpoint=Switch.DISABLED)


def instances(count: int, options: MetadataOptions = OPTIONAL, state: str = "running") -> tuple[InstanceSeen, ...]:
    return tuple(InstanceSeen(f"i-{state}{options.http_tokens}{number}", state, options) for number in range(count))


def asked(*seen: InstanceSeen, everything: bool = False, days: int = 14) -> tuple[Ask, ...]:
    span = look_back_span(timedelta(days=days), NOW)
    return asks_of(RegionSeen(PLACE, instances=seen), span, everything=everything)


@pytest.mark.parametrize(
    ("look_back", "period"),
    [
        (timedelta(minutes=10), 300),
        (timedelta(hours=2), 300),
        (timedelta(hours=6), 900),
        (timedelta(days=1), 3600),
        (timedelta(days=3), 3 * 3600),
        (timedelta(days=14), 12 * 3600),
        (timedelta(days=90), 86_400),
        (timedelta(days=455), 86_400),
    ],
)
def test_a_look_back_has_a_period_that_gives_few_datapoints(look_back: timedelta, period: int) -> None:
    assert look_back_span(look_back, NOW).period == period


@pytest.mark.parametrize("days", [1, 14, 15, 16, 62, 63, 64, 200, 454, 455])
def test_the_period_exists_for_the_oldest_datapoint_and_a_batch_fits_one_page(days: int) -> None:
    """One minute is kept for 15 days, five minutes for 63, an hour for 455; a page holds 100,800 datapoints."""
    span = look_back_span(timedelta(days=days), NOW)
    kept = 15 if span.period < 300 else 63 if span.period < 3600 else 455
    assert days <= kept
    assert span.batch <= QUERIES_MAX
    assert span.batch * span.points <= DATAPOINTS_MAX
    assert span.period % 60 == 0


def test_the_start_is_rounded_down_so_that_its_first_minutes_are_not_lost() -> None:
    assert SPAN.start == datetime(2026, 11, 12, 3, tzinfo=UTC)
    assert look_back_span(timedelta(minutes=10), NOW).start == datetime(2026, 11, 26, 2, 55, tzinfo=UTC)


def test_what_cannot_be_looked_back_to_is_clipped_to_what_is_kept() -> None:
    assert look_back_span(timedelta(days=800), NOW) == look_back_span(timedelta(days=455), NOW)


def test_instances_that_allow_v1_are_asked_for_and_on_demand_the_rejections_of_the_others() -> None:
    """A required instance has only MetadataNoTokenRejected; one whose endpoint is off has neither."""
    seen = (*instances(2), *instances(3, REQUIRED), *instances(4, OFF))
    assert [(ask.metric, len(ask.instance_ids)) for ask in asked(*seen)] == [(Metric.NO_TOKEN, 2)]
    both = [(ask.metric, len(ask.instance_ids)) for ask in asked(*seen, everything=True)]
    assert both == [(Metric.NO_TOKEN, 2), (Metric.REJECTED, 3)]


def test_what_is_not_known_to_be_enforced_is_asked_for() -> None:
    assert asked(*instances(1, MetadataOptions()))


def test_by_id_costs_what_is_asked_for_and_ties_go_to_it() -> None:
    (ask,) = asked(*instances(1201))
    assert (ask.by_search, ask.expected, ask.calls) == (False, 1201, 3)


def test_a_search_is_cheaper_where_stopped_instances_have_no_series() -> None:
    (ask,) = asked(*instances(10), *instances(3, state="stopped"))
    assert (ask.by_search, ask.expected, ask.calls) == (True, 10, 1)


def test_a_search_that_would_be_cut_or_look_back_too_far_is_not_made() -> None:
    """A search returns 500 series at most, of metrics with datapoints in the past two weeks."""
    stopped = instances(3, state="stopped")
    assert [ask.by_search for ask in asked(*instances(SEARCH_SERIES_MAX), *stopped)] == [False]
    assert [ask.by_search for ask in asked(*instances(10), *stopped, days=30)] == [False]


def test_the_price_is_a_cent_for_a_thousand_metrics() -> None:
    assert Price(1000, 2).usd == Decimal("0.01")
    estimate = Estimate.of([*asked(*instances(600)), *asked(*instances(300), *instances(100, state="stopped"))])
    assert (estimate.expected, estimate.by_id) == (Price(900, 3), Price(1000, 3))
    assert estimate.targets == 1


@pytest.mark.parametrize(("usd", "asks"), [("0.01", False), ("0.0099", True), ("0", True)])
def test_more_than_the_agreed_money_needs_a_yes(usd: str, asks: bool) -> None:
    estimate = Estimate.of(asked(*instances(1000)))
    assert estimate.needs_confirmation(Decimal(usd)) is asks


def test_without_a_question_nothing_costs_more_than_the_agreed_money() -> None:
    assert Estimate.of(asked(*instances(10))).budget(Decimal("1")) == 100_000


def test_a_search_is_only_made_from_what_nobody_else_was_promised() -> None:
    search, other = asked(*instances(10), *instances(3, state="stopped"))[0], 700
    poor = Budget(13 + other, promised=13 + other)
    poor.begin(search)
    assert not poor.take_for_search(search)
    assert poor.take(13)
    assert poor.take(other)
    assert not poor.take(1)
    rich = Budget(13 + other + SEARCH_SERIES_MAX, promised=13 + other)
    rich.begin(search)
    assert rich.take_for_search(search)
