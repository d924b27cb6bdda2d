"""Gathering: each target in its own Region as its own account, cheap, bounded, and never more certain than AWS was."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.domain.evidence import Evidence, Use
from imdsctl.domain.metric_asks import SEARCH_SERIES_MAX, Budget, Estimate, Price, look_back_span
from imdsctl.domain.observations import Account, InstanceSeen, RegionSeen, Scan, Target
from imdsctl.domain.options import HttpTokens, MetadataOptions
from imdsctl.domain.role_delivery import Deliveries
from imdsctl.fleet.evidence import Gathering, StillMissing, gather, questions
from imdsctl.fleet.gauge import CloudWatchGauge
from imdsctl.fleet.ports import Credentials, Unreachable
from imdsctl.fleet.role_delivery import PAGES_MAX, look_up
from imdsctl.fleet.scan_scope import scope_of
from imdsctl.fleet.selection import Selection
from imdsctl.wire.errors import ServiceError

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
SPAN = look_back_span(timedelta(days=14), NOW)
OPTIONAL = MetadataOptions(http_tokens=HttpTokens.OPTIONAL)
REQUIRED = MetadataOptions(http_tokens=HttpTokens.REQUIRED)
ONE, OTHER = Target("111111111111", "eu-west-1"), Target("222222222222", "us-east-1")
DENIED = ServiceError("AccessDenied", "not authorized to perform: cloudwatch:GetMetricData", 403)
PLENTY = 1_000_000


def region(target: Target, count: int, *, stopped: int = 0, options: MetadataOptions = OPTIONAL) -> RegionSeen:
    states = ["running"] * count + ["stopped"] * stopped
    return RegionSeen(target, instances=tuple(InstanceSeen(f"i-{n}", s, options) for n, s in enumerate(states)))


class Metrics:
    """CloudWatch as far as it matters: `sums[instance]` is the Sum of its only datapoint."""

    def __init__(self, sums: Mapping[str, float], *, beside: Iterable[str] = ()) -> None:
        self.sums = dict(sums)
        self.messages = [{"Code": code, "Value": "..."} for code in beside]
        self.asked: list[Mapping[str, Any]] = []

    def __call__(self, params: Mapping[str, Any]) -> dict[str, Any]:
        self.asked.append(params)
        (first, *_) = queries = params["MetricDataQueries"]
        if "Expression" in first:
            found = [("s0", name, value) for name, value in self.sums.items()][:SEARCH_SERIES_MAX]
        else:
            ids = [(each["Id"], each["MetricStat"]["Metric"]["Dimensions"][0]["Value"]) for each in queries]
            found = [(query, name, self.sums.get(name)) for query, name in ids]
        results = [
            {
                "Id": query,
                "Label": name,
                "Timestamps": [] if value is None else [NOW - timedelta(hours=12)],
                "Values": [] if value is None else [value],
                "StatusCode": "Complete",
            }
            for query, name, value in found
        ]
        return {"MetricDataResults": results, "Messages": self.messages}

    @property
    def searches(self) -> int:
        return sum("Expression" in each["MetricDataQueries"][0] for each in self.asked)


def enter_with(*refused: str) -> Any:
    async def enter(account_id: str) -> Credentials | None:
        if account_id in refused:
            raise ServiceError("AccessDenied", "not authorized to perform: sts:AssumeRole", 403)
        return Credentials(account_id, "secret")

    return enter


def gathered(
    aws: Any, *regions: RegionSeen, budget: int = PLENTY, refused: tuple[str, ...] = (), everything: bool = False
) -> tuple[Evidence, Price]:
    asks = Estimate.of(questions(regions, SPAN, everything=everything))
    into = Gathering("s1", SPAN, timedelta(days=14))
    limit = Budget(budget, asks.by_id.metrics)
    asyncio.run(gather(aws, enter_with(*refused), regions, into, limit, everything=everything))
    return into.evidence(), into.price


def uses(evidence: Evidence) -> dict[str, Use]:
    return {instance_id: each.use for (_, instance_id), each in evidence.instances.items()}


# Defects of a hardener and of usage metrics that this tool must not have (docs: peers).


def test_each_region_is_asked_in_itself_with_its_own_accounts_credentials(fake_aws: Any) -> None:
    """Defect 5: asking one Region for all makes everything elsewhere look unused."""
    aws = fake_aws(GetMetricData=Metrics({"i-0": 1.0}))
    gathered(aws, region(ONE, 1), region(OTHER, 1))
    assert aws.places("GetMetricData") == ["111111111111/eu-west-1", "222222222222/us-east-1"]


def test_every_question_has_the_instance_as_its_only_dimension(fake_aws: Any) -> None:
    """Defect 9: by image, type or no dimension the metrics exist for some instances only; a zero may be false."""
    metrics = Metrics({})
    gathered(fake_aws(GetMetricData=metrics), region(ONE, 2), region(OTHER, 1, stopped=1))
    stats = [each.get("MetricStat") for params in metrics.asked for each in params["MetricDataQueries"]]
    for stat in filter(None, stats):
        assert stat["Stat"] == "Sum"
        assert [each["Name"] for each in stat["Metric"]["Dimensions"]] == ["InstanceId"]
    (search,) = [params["MetricDataQueries"][0] for params in metrics.asked if "MetricStat" not in str(params)]
    assert search["Expression"] == """SEARCH('{AWS/EC2,InstanceId} MetricName="MetadataNoToken"', 'Sum', 43200)"""


# What the answers mean.


def test_sums_become_used_and_unused_and_no_datapoints_unknown(fake_aws: Any) -> None:
    evidence, price = gathered(fake_aws(GetMetricData=Metrics({"i-0": 4.0, "i-1": 0.0})), region(ONE, 3))
    assert uses(evidence) == {"i-0": Use.USED, "i-1": Use.UNUSED, "i-2": Use.UNKNOWN}
    assert (price, evidence.metrics_requested) == (Price(3, 1), 3)


def test_five_hundred_series_go_in_a_call(fake_aws: Any) -> None:
    metrics = Metrics({f"i-{number}": 0.0 for number in range(1001)})
    evidence, price = gathered(fake_aws(GetMetricData=metrics), region(ONE, 1001))
    assert [len(each["MetricDataQueries"]) for each in metrics.asked] == [500, 500, 1]
    assert price == Price(1001, 3)
    assert set(uses(evidence).values()) == {Use.UNUSED}


def test_pages_are_followed_and_a_series_that_is_cut_in_two_adds_up(fake_aws: Any) -> None:
    def page(values: list[float], hours: int, status: str) -> dict[str, Any]:
        times = [NOW - timedelta(hours=hours + number) for number in range(len(values))]
        return {
            "MetricDataResults": [
                {"Id": "m0", "Label": "x", "Timestamps": times, "Values": values, "StatusCode": status}
            ]
        }

    aws = fake_aws(GetMetricData=[page([0.0, 2.0], 1, "PartialData"), page([3.0], 9, "Complete")])
    evidence, price = gathered(aws, region(ONE, 1))
    assert evidence.of(ONE, "i-0").no_token == 5.0
    assert price.calls == 2


@pytest.mark.parametrize("status", ["PartialData", "InternalError", "Forbidden"])
def test_a_series_that_cloudwatch_gave_up_on_is_unknown_not_unused(fake_aws: Any, status: str) -> None:
    result = {"Id": "m0", "Label": "x", "Timestamps": [NOW - timedelta(hours=1)], "Values": [0.0], "StatusCode": status}
    evidence, _ = gathered(fake_aws(GetMetricData={"MetricDataResults": [result]}), region(ONE, 1))
    assert evidence.of(ONE, "i-0").use is Use.UNKNOWN
    assert status in evidence.of(ONE, "i-0").reason
    assert evidence.unseen


@pytest.mark.parametrize("refusal", [DENIED, Unreachable("monitoring.eu-west-1.amazonaws.com", "timed out", "wait")])
def test_a_region_that_does_not_answer_is_unseen_and_its_instances_unknown(fake_aws: Any, refusal: Exception) -> None:
    aws = fake_aws(GetMetricData=Metrics({"i-0": 0.0}), **{"111111111111/eu-west-1 GetMetricData": refusal})
    evidence, _ = gathered(aws, region(ONE, 1), region(OTHER, 1))
    assert [target for target, _ in evidence.unseen] == [ONE]
    assert evidence.of(ONE, "i-0").reason.startswith("CloudWatch could not be asked")
    assert evidence.of(OTHER, "i-0").use is Use.UNUSED


def test_an_account_that_cannot_be_entered_is_data(fake_aws: Any) -> None:
    evidence, price = gathered(
        fake_aws(GetMetricData=Metrics({"i-0": 0.0})), region(ONE, 1), region(OTHER, 1), refused=(ONE.account_id,)
    )
    assert "sts:AssumeRole" in evidence.of(ONE, "i-0").reason
    assert price.metrics == 1


def test_rejections_are_asked_for_on_demand_only(fake_aws: Any) -> None:
    seen = region(ONE, 2, options=REQUIRED)
    assert gathered(fake_aws(GetMetricData=Metrics({})), seen)[1] == Price()
    evidence, _ = gathered(fake_aws(GetMetricData=Metrics({"i-0": 3.0, "i-1": 0.0})), seen, everything=True)
    assert [evidence.of(ONE, f"i-{number}").rejected for number in range(2)] == [3.0, 0.0]
    assert evidence.of(ONE, "i-0").no_token is None


def test_what_is_missing_is_what_was_not_asked_or_not_answered(fake_aws: Any) -> None:
    aws = fake_aws(GetMetricData=Metrics({"i-0": 0.0}), **{"111111111111/eu-west-1 GetMetricData": DENIED})
    third = Target("222222222222", "eu-west-1")
    evidence, _ = gathered(aws, region(ONE, 1), region(OTHER, 1))
    regions = (region(ONE, 1), region(OTHER, 1), region(third, 1), RegionSeen(Target("222222222222", "sa-east-1")))
    assert [each.target for each in StillMissing(regions, SPAN, evidence)] == [ONE, third]
    again = (region(OTHER, 2),)
    assert [each.target for each in StillMissing(again, SPAN, evidence)] == [OTHER]


# Searches.


def test_a_search_is_one_call_and_pays_for_what_it_finds(fake_aws: Any) -> None:
    metrics = Metrics({"i-0": 1.0, "i-terminated": 9.0})
    evidence, price = gathered(fake_aws(GetMetricData=metrics), region(ONE, 1, stopped=5))
    assert (metrics.searches, len(metrics.asked), price) == (1, 1, Price(2, 1))
    assert uses(evidence) == {"i-0": Use.USED, **{f"i-{number}": Use.UNKNOWN for number in range(1, 6)}}


@pytest.mark.parametrize(
    "metrics",
    [
        Metrics({**{f"i-x{number}": 0.0 for number in range(SEARCH_SERIES_MAX)}, "i-0": 7.0}),
        Metrics({"i-0": 7.0}, beside=["MaxMetricsExceeded"]),
    ],
    ids=["as many as a search gives", "AWS says so"],
)
def test_a_search_that_was_cut_is_noticed_and_the_rest_asked_for_by_id(fake_aws: Any, metrics: Metrics) -> None:
    evidence, _ = gathered(fake_aws(GetMetricData=metrics), region(ONE, 1, stopped=1))
    assert evidence.of(ONE, "i-0").no_token == 7.0
    assert metrics.searches == 1
    assert len(metrics.asked) == 2


def test_a_search_that_finds_nobody_where_instances_run_is_not_believed(fake_aws: Any) -> None:
    def blind(params: Mapping[str, Any]) -> dict[str, Any]:
        found = {"i-of-a-linked-account": 9.0} if "Expression" in params["MetricDataQueries"][0] else {"i-0": 4.0}
        return Metrics(found)(params)

    evidence, price = gathered(fake_aws(GetMetricData=blind), region(ONE, 1, stopped=1))
    assert (evidence.of(ONE, "i-0").no_token, price) == (4.0, Price(3, 2))


def test_a_series_that_a_search_gave_in_part_counts_once(fake_aws: Any) -> None:
    def partly(params: Mapping[str, Any]) -> dict[str, Any]:
        answer = Metrics({"i-0": 4.0})(params)
        if "Expression" in params["MetricDataQueries"][0]:
            answer["MetricDataResults"][0]["StatusCode"] = "PartialData"
        return answer

    evidence, price = gathered(fake_aws(GetMetricData=partly), region(ONE, 1, stopped=1))
    assert (evidence.of(ONE, "i-0").no_token, evidence.of(ONE, "i-0").reason) == (4.0, "")
    assert (evidence.unseen, price.calls) == ((), 2)


def test_a_search_whose_labels_are_not_instances_is_asked_by_id(fake_aws: Any) -> None:
    """Labels are how a search tells whose series is whose: what cannot be told must not count as absent."""
    metrics = Metrics({"MetadataNoToken": 5.0})
    gathered(fake_aws(GetMetricData=metrics), region(ONE, 1, stopped=1))
    assert (metrics.searches, len(metrics.asked)) == (1, 2)


def test_a_search_that_is_refused_is_asked_by_id_and_who_is_silent_is_not_asked_again(fake_aws: Any) -> None:
    def picky(params: Mapping[str, Any]) -> dict[str, Any]:
        if "Expression" in params["MetricDataQueries"][0]:
            raise ServiceError("ValidationError", "no search here", 400)
        return Metrics({"i-0": 1.0})(params)

    evidence, _ = gathered(fake_aws(GetMetricData=picky), region(ONE, 1, stopped=1))
    assert (evidence.of(ONE, "i-0").use, evidence.unseen) == (Use.USED, ())
    for error, calls in ((DENIED, 2), (Unreachable("monitoring.eu-west-1.amazonaws.com", "timed out", "wait"), 1)):
        aws = fake_aws(GetMetricData=error)
        evidence, _ = gathered(aws, region(ONE, 1, stopped=1))
        assert len(aws.places("GetMetricData")) == calls
        assert evidence.of(ONE, "i-0").use is Use.UNKNOWN
        assert [target for target, _ in evidence.unseen] == [ONE]


# Money.


def test_nothing_is_asked_beyond_the_budget_and_what_was_not_asked_is_unknown(fake_aws: Any) -> None:
    metrics = Metrics({f"i-{number}": 0.0 for number in range(600)})
    evidence, price = gathered(fake_aws(GetMetricData=metrics), region(ONE, 600), budget=500)
    assert price.metrics == 500
    unknown = [each for each in evidence.instances.values() if each.use is Use.UNKNOWN]
    assert len(unknown) == 100
    assert {each.reason for each in unknown} == {"not asked: it would have cost more than was agreed"}


def test_without_money_for_a_search_it_is_asked_by_id(fake_aws: Any) -> None:
    metrics = Metrics({"i-0": 0.0})
    _, price = gathered(fake_aws(GetMetricData=metrics), region(ONE, 1, stopped=5), budget=6)
    assert (metrics.searches, price) == (0, Price(6, 1))


# The gauge.


def test_the_gauge_counts_since_a_time_in_batches_by_target(fake_aws: Any) -> None:
    metrics = Metrics({"i-0": 2.0, "i-1": 0.0})
    aws = fake_aws(GetMetricData=metrics)
    gauge = CloudWatchGauge(aws, enter_with("333333333333"), lambda: NOW)
    denied = Target("333333333333", "eu-west-1")
    keys = [(ONE, "i-0"), (ONE, "i-1"), (OTHER, "i-2"), (denied, "i-3")]
    found = asyncio.run(gauge.rejected(keys, NOW - timedelta(minutes=12)))
    assert [found[key].rejected for key in keys] == [2.0, 0.0, None, None]
    assert [found[key].use for key in keys] == [Use.USED, Use.UNUSED, Use.UNKNOWN, Use.UNKNOWN]
    assert "sts:AssumeRole" in found[keys[3]].reason
    assert gauge.price == Price(3, 2)
    assert {each["StartTime"] for each in metrics.asked} == {NOW - timedelta(minutes=15)}
    assert [len(each["MetricDataQueries"]) for each in metrics.asked] == [2, 1]
    names = {
        query["MetricStat"]["Metric"]["MetricName"] for each in metrics.asked for query in each["MetricDataQueries"]
    }
    assert names == {"MetadataNoTokenRejected"}


def test_the_gauge_reads_from_now_and_from_long_ago(fake_aws: Any) -> None:
    metrics = Metrics({"i-0": 0.0})
    gauge = CloudWatchGauge(fake_aws(GetMetricData=metrics), enter_with(), lambda: NOW)
    for since in (NOW, NOW + timedelta(minutes=1), NOW - timedelta(days=14)):
        found = asyncio.run(gauge.no_token([(ONE, "i-0")], since))
        assert found[ONE, "i-0"].no_token == 0.0
    assert all(each["StartTime"] < each["EndTime"] for each in metrics.asked)
    assert asyncio.run(gauge.no_token([], NOW)) == {}


# CloudTrail's event history.


def trail_event(version: str, name: str = "i-0123456789abcdef0") -> dict[str, str]:
    identity = {
        "principalId": f"AROA:{name}",
        "accountId": ONE.account_id,
        "sessionContext": {"ec2RoleDelivery": version},
    }
    when = f"{NOW - timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
    return {"CloudTrailEvent": json.dumps({"eventTime": when, "userIdentity": identity})}


def test_an_instances_events_are_looked_up_by_its_name_until_one_shows_v1(fake_aws: Any) -> None:
    name = "i-0123456789abcdef0"
    pages = [{"Events": [trail_event("2.0"), {"CloudTrailEvent": "{"}, {}]}, {"Events": [trail_event("1.0")]}]
    aws = fake_aws(LookupEvents=[*pages, {"Events": [trail_event("1.0")]}], **{"222222222222 LookupEvents": DENIED})
    into = Deliveries(SPAN.start, NOW, frozenset({(ONE.account_id, name)}))
    unseen = asyncio.run(look_up(aws, enter_with(), [(ONE, name), (OTHER, "i-2")], into))
    assert into.by_instance == {(ONE.account_id, name): (1, NOW - timedelta(hours=1))}
    assert [target for target, _ in unseen] == [OTHER]
    asked = next(params for account, _, operation, params in aws.asked if operation == "LookupEvents")
    assert asked["LookupAttributes"] == [{"AttributeKey": "Username", "AttributeValue": name}]


def test_no_more_than_a_few_pages_of_an_instance_are_read(fake_aws: Any) -> None:
    name = "i-0123456789abcdef0"
    aws = fake_aws(LookupEvents=[{"Events": [trail_event("2.0")]}] * (PAGES_MAX + 3))
    into = Deliveries(SPAN.start, NOW, frozenset({(ONE.account_id, name)}))
    asyncio.run(look_up(aws, enter_with(), [(ONE, name)], into))
    assert into.events == PAGES_MAX


# A part of a scan.

SCAN = Scan(
    "s1",
    NOW,
    NOW,
    (Account("111111111111", "shop", ou_path="Root/Prod/Web"), Account("222222222222", "lab", ou_path="Root/Dev")),
    (region(ONE, 1), region(OTHER, 1)),
)


@pytest.mark.parametrize(
    ("selection", "left"),
    [
        (Selection(), [ONE, OTHER]),
        (Selection(accounts=("shop",)), [ONE]),
        (Selection(exclude_accounts=("111111111111",)), [OTHER]),
        (Selection(regions=("us-east-1",)), [OTHER]),
        (Selection(exclude_regions=("us-east-1",)), [ONE]),
        (Selection(ous=("Prod",)), [ONE]),
        (Selection(ous=("Root/Prod/Web/",)), [ONE]),
        (Selection(exclude_ous=("Root/Prod",)), [OTHER]),
    ],
)
def test_a_stored_scan_is_narrowed_like_a_new_one(selection: Selection, left: list[Target]) -> None:
    assert [each.target for each in scope_of(SCAN, selection)] == left


def test_the_current_account_is_the_only_one_left() -> None:
    assert [each.target for each in scope_of(SCAN, Selection(), current_account="222222222222")] == [OTHER]


@pytest.mark.parametrize(
    ("selection", "code"),
    [
        (Selection(accounts=("shup",)), "account-unknown"),
        (Selection(ous=("Pro",)), "ou-unknown"),
        (Selection(exclude_ous=("Root",)), "nothing-selected"),
        (Selection(regions=("eu-wst-1",)), "region-unknown"),
        (Selection(regions=("us-east-1",), exclude_regions=("us-east-1",)), "nothing-selected"),
    ],
)
def test_what_a_scan_does_not_have_is_said(selection: Selection, code: str) -> None:
    with pytest.raises(DiagnosticError) as raised:
        scope_of(SCAN, selection)
    assert [each.code for each in raised.value.diagnostics] == [code]
    assert raised.value.exit_code == 2
