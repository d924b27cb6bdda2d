"""What to ask CloudWatch for, in which form, over which period, and what that costs. Pure.

Sources: CloudWatch API Reference, GetMetricData (500 queries and 100,800 datapoints a call) and GetMetricStatistics
(how long which resolution is kept); CloudWatch User Guide, "CloudWatch search expression syntax" (500 series, metrics
of the past two weeks); EC2 User Guide, "CloudWatch metrics that are available for your instances".
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum

from imdsctl.domain.exposure import Verdict, instance_exposure
from imdsctl.domain.observations import InstanceSeen, RegionSeen, Target
from imdsctl.domain.options import HttpTokens, Switch

USD_PER_METRIC = Decimal("0.00001")
"""GetMetricData: USD 0.01 for 1,000 metrics requested, with no free tier; every page and every series that a search
finds counts as requested. Source: https://aws.amazon.com/cloudwatch/pricing/ (US East, N. Virginia). The price of
another Region may differ: what is said before and after a call is an estimate, the bill is AWS's."""

QUERIES_MAX = 500
DATAPOINTS_MAX = 100_800
SEARCH_SERIES_MAX = 500
SEARCH_SERIES_SAFE = 400
"""A search is only chosen when fewer series than this are expected: what is cut has to be asked for again by id."""
SEARCH_SPAN_MAX = timedelta(days=14)
"""A search finds metrics with datapoints in the past two weeks only."""
POINTS_WANTED_MAX = 28
"""Periods that a look-back is divided into: they cost CPU, and when in the half day it was changes no decision."""
LOOK_BACK_MAX = timedelta(days=455)

_RETENTION = ((300, timedelta(days=63)), (3600, LOOK_BACK_MAX))
_PERIODS = (300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86_400)
"""None is shorter than five minutes, in which basic monitoring publishes."""


class Metric(StrEnum):
    """The two metrics of IMDSv1 in `AWS/EC2`. An instance publishes the first while its tokens are optional, the
    second while they are required; with the endpoint off, neither."""

    NO_TOKEN = "MetadataNoToken"
    REJECTED = "MetadataNoTokenRejected"


@dataclass(frozen=True, slots=True)
class Span:
    """From when to when (aware UTC; the end is not in it), in periods of so many seconds."""

    start: datetime
    end: datetime
    period: int

    @property
    def points(self) -> int:
        """Datapoints of one series at most."""
        return -int(-(self.end - self.start).total_seconds() // self.period) + 1

    @property
    def batch(self) -> int:
        """Series in one call, so that one page holds all datapoints: a second page is another paid request."""
        return max(1, min(QUERIES_MAX, DATAPOINTS_MAX // self.points))


def span_since(start: datetime, now: datetime) -> Span:
    """The span from `start` (clipped to what CloudWatch keeps) until now, in the period that suits its age.

    The period is one that CloudWatch still has for the oldest datapoint, and long enough that few are returned.
    The start is rounded down as AWS rounds it, so that the period in which `start` lies is counted whole.
    """
    start = max(start.astimezone(UTC), now.astimezone(UTC) - LOOK_BACK_MAX)
    age = now - start
    finest = next((period for period, kept in _RETENTION if age <= kept), _PERIODS[-1])
    wanted = age.total_seconds() / POINTS_WANTED_MAX
    period = next((each for each in _PERIODS if each >= finest and each >= wanted), _PERIODS[-1])
    # Basic monitoring publishes every five minutes, with the beginning of the five minutes as the time.
    step = 3600 if period >= 3600 else 300
    seconds = int(start.timestamp())
    begin = datetime.fromtimestamp(seconds - seconds % step, UTC)
    return Span(begin, now if now > begin else begin + timedelta(seconds=period), period)


def look_back_span(look_back: timedelta, now: datetime) -> Span:
    """The span of a look-back that ends now."""
    return span_since(now - look_back, now)


@dataclass(frozen=True, slots=True)
class Ask:
    """One target's question about one metric: these instances, by id or by a search that finds them."""

    target: Target
    metric: Metric
    instance_ids: tuple[str, ...]
    by_search: bool = False
    expected: int = 0
    """Metrics that will be requested: exact by id, an expectation for a search."""
    calls: int = 1


def asks_of(region: RegionSeen, span: Span, *, everything: bool = False) -> tuple[Ask, ...]:
    """What to ask about a target: MetadataNoToken of the instances that allow IMDSv1.

    With `everything`, MetadataNoTokenRejected of the instances that require tokens, too. Whose endpoint is off
    publishes nothing and is not asked for.
    """
    by_metric: dict[Metric, list[InstanceSeen]] = {}
    for instance in region.instances:
        metric = metric_of(instance)
        if metric is not None:
            by_metric.setdefault(metric, []).append(instance)
    wanted = (Metric.NO_TOKEN, Metric.REJECTED) if everything else (Metric.NO_TOKEN,)
    return tuple(_cheapest(region.target, metric, by_metric[metric], span) for metric in wanted if metric in by_metric)


def metric_of(instance: InstanceSeen) -> Metric | None:
    """The metric that the instance publishes with the options it has; None when its endpoint is off."""
    if instance.options.http_endpoint is Switch.DISABLED:
        return None
    return Metric.REJECTED if instance.options.http_tokens is HttpTokens.REQUIRED else Metric.NO_TOKEN


def allows_v1(instance: InstanceSeen) -> bool:
    """Whether IMDSv1 may answer on it: what is not known counts as a yes."""
    return instance_exposure(instance.options).verdict is not Verdict.ENFORCED


def by_id(target: Target, metric: Metric, instance_ids: Sequence[str], span: Span) -> Ask:
    """The question by id: its price is known exactly."""
    count = len(instance_ids)
    return Ask(target, metric, tuple(instance_ids), expected=count, calls=-(-count // span.batch))


def _cheapest(target: Target, metric: Metric, instances: Sequence[InstanceSeen], span: Span) -> Ask:
    """By id every instance is paid for; a search is paid for the series that exist, which a stopped instance has not.

    Ties go to ids: their price is certain, while a search also finds what was terminated in the past two weeks.
    """
    found = by_id(target, metric, [each.instance_id for each in instances], span)
    running = sum(each.state == "running" for each in instances)
    searchable = span.end - span.start <= SEARCH_SPAN_MAX + timedelta(hours=1)
    if searchable and running < len(instances) and running <= min(SEARCH_SERIES_SAFE, span.batch):
        return Ask(target, metric, found.instance_ids, by_search=True, expected=running)
    return found


@dataclass(frozen=True, slots=True)
class Price:
    """How many metrics, in how many calls, for how much."""

    metrics: int = 0
    calls: int = 0

    def __add__(self, other: Price) -> Price:
        return Price(self.metrics + other.metrics, self.calls + other.calls)

    @property
    def usd(self) -> Decimal:
        """An estimate; see USD_PER_METRIC."""
        return self.metrics * USD_PER_METRIC


class Budget:
    """Metrics that may still be asked for, and how many of them are promised to questions that wait.

    A search may find more than is wanted: it is paid from what nobody else was promised, or not made.
    """

    def __init__(self, metrics: int, promised: int = 0) -> None:
        self._left = metrics
        self._promised = promised

    def begin(self, ask: Ask) -> None:
        """A question's turn: what it was promised is its own to take."""
        self._promised -= len(ask.instance_ids)

    def take(self, metrics: int) -> bool:
        """Take so many out, or none when there are not enough."""
        if metrics > self._left:
            return False
        self._left -= metrics
        return True

    def take_for_search(self, ask: Ask) -> bool:
        """Take the most that a search can find, if asking by id afterwards and everybody's promises still fit."""
        if self._left - SEARCH_SERIES_MAX - len(ask.instance_ids) < self._promised:
            return False
        return self.take(SEARCH_SERIES_MAX)

    def back(self, metrics: int) -> None:
        """Put back what was taken and not used."""
        self._left += metrics


@dataclass(frozen=True, slots=True)
class Estimate:
    """What questions are going to cost: what is expected, and what it is by id, which nothing exceeds unconfirmed."""

    expected: Price
    by_id: Price
    targets: int = 0

    @classmethod
    def of(cls, asks: Iterable[Ask]) -> Estimate:
        """Add up questions."""
        metrics = calls = ids = 0
        targets = set()
        for ask in asks:
            metrics += ask.expected
            calls += ask.calls
            ids += len(ask.instance_ids)
            targets.add(ask.target)
        return cls(Price(metrics, calls), Price(ids, calls), len(targets))

    def budget(self, usd_max: Decimal) -> int:
        """Metrics that may be asked for: what `usd_max` buys or, confirmed, a tenth more than by id."""
        return max(int(usd_max / USD_PER_METRIC), self.by_id.metrics + self.by_id.metrics // 10)

    def needs_confirmation(self, usd_max: Decimal) -> bool:
        """Whether it may cost more than `usd_max`."""
        return self.by_id.usd > usd_max
