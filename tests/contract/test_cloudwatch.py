"""botocore as the client of CloudWatch, in each of its three protocols: samples in, statistics out."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from imdsctl.adapters.models import load_data

PROTOCOLS = ("smithy-rpc-v2-cbor", "json", "query")
SPACE = "Test/Space"


def minute(offline: Any, ago: int) -> datetime:
    """A whole minute, so many minutes before now."""
    now = datetime.now(UTC) + offline.offset
    return now.replace(second=0, microsecond=0) - timedelta(minutes=ago)


@pytest.fixture(scope="module", params=PROTOCOLS)
def speaking(request: Any, tmp_path_factory: Any) -> botocore.session.Session:
    """A botocore session whose model of CloudWatch knows one protocol only."""
    model = json.loads(json.dumps(load_data("cloudwatch", "service-2")))
    model["metadata"].update(protocol=request.param, protocols=[request.param])
    if request.param != "query":
        model["metadata"]["jsonVersion"] = "1.0"
    folder = tmp_path_factory.mktemp("models")
    (folder / "cloudwatch" / "2010-08-01").mkdir(parents=True)
    (folder / "cloudwatch" / "2010-08-01" / "service-2.json").write_text(json.dumps(model))
    session = botocore.session.Session()
    session.set_config_variable("data_path", str(folder))
    return session


@pytest.fixture
def cloudwatch(offline: Any, speaking: botocore.session.Session, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(offline, "session", speaking)
    return offline.client("cloudwatch", checked=False)


def test_samples_come_back_as_statistics_in_every_protocol(offline: Any, cloudwatch: Any) -> None:
    at = minute(offline, 30)
    dimensions = [{"Name": "B", "Value": "2"}, {"Name": "A", "Value": "1"}]
    datum = {"MetricName": "Load", "Dimensions": dimensions, "Unit": "Count"}
    cloudwatch.put_metric_data(
        Namespace=SPACE,
        MetricData=[
            {**datum, "Timestamp": at, "Value": 4.0},
            {**datum, "Timestamp": at + timedelta(seconds=59), "Values": [1.0, 2.0], "Counts": [3.0, 1.0]},
            {
                **datum,
                "Timestamp": at + timedelta(minutes=2),
                "StatisticValues": {"SampleCount": 10, "Sum": 50, "Minimum": 2, "Maximum": 9},
            },
        ],
    )
    asked = {
        "Namespace": SPACE,
        "MetricName": "Load",
        "Dimensions": dimensions[::-1],
        "StartTime": at,
        "EndTime": at + timedelta(minutes=5),
    }
    names = ["SampleCount", "Sum", "Average", "Minimum", "Maximum"]
    answer = cloudwatch.get_metric_statistics(**asked, Period=60, Statistics=names)
    assert answer["Label"] == "Load"
    told = [[point[name] for name in names] for point in answer["Datapoints"]]
    assert told == [[5, 9, 1.8, 1, 4], [10, 50, 5, 2, 9]]
    assert {point["Unit"] for point in answer["Datapoints"]} == {"Count"}
    assert answer["Datapoints"][1]["Timestamp"] == at + timedelta(minutes=2)
    (whole,) = cloudwatch.get_metric_statistics(**asked, Period=300, Statistics=["Sum"])["Datapoints"]
    assert (whole["Sum"], whole["Timestamp"]) == (59, at)
    percentiles = cloudwatch.get_metric_statistics(**asked, Period=60, ExtendedStatistics=["p50", "p99"])
    # The values of a statistic set are not known, and so it has no percentiles.
    assert [point["ExtendedStatistics"] for point in percentiles["Datapoints"]] == [{"p50": 1, "p99": 4}]
    (metric,) = cloudwatch.list_metrics(Namespace=SPACE)["Metrics"]
    assert metric["Dimensions"] == sorted(dimensions, key=lambda each: each["Name"])
    query = {"Metric": {"Namespace": SPACE, "MetricName": "Load", "Dimensions": dimensions}, "Period": 60}
    data = cloudwatch.get_metric_data(
        MetricDataQueries=[{"Id": "m", "MetricStat": {**query, "Stat": "Sum"}}, {"Id": "e", "Expression": "m * 2"}],
        StartTime=at,
        EndTime=at + timedelta(minutes=5),
    )
    first, second = data["MetricDataResults"]
    assert (first["Id"], first["Values"], first["StatusCode"]) == ("m", [50, 9], "Complete")
    assert first["Timestamps"] == [at + timedelta(minutes=2), at]
    assert second["Values"] == [100, 18]


@pytest.mark.parametrize(
    ("datum", "code"),
    [
        ({"MetricName": "x"}, "MissingParameter"),
        ({"MetricName": "x", "Value": 2.0**361}, "InvalidParameterValue"),
        ({"MetricName": "x", "Value": 1.0, "Unit": "Parsecs"}, "InvalidParameterValue"),
        ({"MetricName": "x", "Value": 1.0, "StorageResolution": 5}, "InvalidParameterValue"),
        ({"MetricName": "x", "Values": [1.0], "Value": 1.0}, "InvalidParameterCombination"),
        ({"MetricName": "x", "Values": [1.0], "Counts": [1.0, 2.0]}, "InvalidParameterValue"),
        ({"MetricName": "x", "Values": [1.0] * 151}, "InvalidParameterValue"),
        ({"MetricName": "x", "Value": 1.0, "Timestamp": "old"}, "InvalidParameterValue"),
        ({"MetricName": "x", "Value": 1.0, "Timestamp": "future"}, "InvalidParameterValue"),
        ({"MetricName": "x", "Value": 1.0, "Dimensions": [{"Name": "a", "Value": ""}]}, "MissingParameter"),
        (
            {
                "MetricName": "x",
                "StatisticValues": {"SampleCount": 1, "Sum": 1, "Minimum": 2, "Maximum": 1},
            },
            "InvalidParameterCombination",
        ),
    ],
)
def test_a_bad_sample_is_refused_with_all_that_came_with_it(
    offline: Any, cloudwatch: Any, datum: dict[str, Any], code: str
) -> None:
    times = {"old": timedelta(days=-15), "future": timedelta(hours=3)}
    if "Timestamp" in datum:
        datum = {**datum, "Timestamp": datetime.now(UTC) + times[datum["Timestamp"]]}
    good = {"MetricName": "good", "Value": 1.0}
    refusal = offline.refused(lambda: cloudwatch.put_metric_data(Namespace=SPACE, MetricData=[good, datum]))
    assert refusal[:2] == (code, 400)
    assert cloudwatch.list_metrics(Namespace=SPACE)["Metrics"] == []


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"Period": 7}, "InvalidParameterValue"),
        ({"Statistics": []}, "InvalidParameterCombination"),
        ({"ExtendedStatistics": ["p50"]}, "InvalidParameterCombination"),
        ({"Statistics": ["Mode"]}, "InvalidParameterValue"),
        ({"Statistics": [], "ExtendedStatistics": ["p101"]}, "InvalidParameterValue"),
        ({"StartTime": datetime.now(UTC) + timedelta(hours=1)}, "InvalidParameterValue"),
        ({"Period": 60, "StartTime": datetime.now(UTC) - timedelta(days=2)}, "InvalidParameterCombination"),
    ],
)
def test_statistics_that_cannot_be_are_refused(offline: Any, more: dict[str, Any], code: str) -> None:
    cloudwatch = offline.client("cloudwatch", checked=False)
    now = datetime.now(UTC)
    asked = {"Namespace": SPACE, "MetricName": "x", "StartTime": now - timedelta(hours=1), "EndTime": now}
    request = {**asked, "Period": 300, "Statistics": ["Sum"], **more}
    assert offline.refused(lambda: cloudwatch.get_metric_statistics(**request))[:2] == (code, 400)


def data(cloudwatch: Any, offline: Any, *queries: dict[str, Any], minutes: int = 60, **more: Any) -> Any:
    return cloudwatch.get_metric_data(
        MetricDataQueries=list(queries),
        StartTime=minute(offline, minutes),
        EndTime=minute(offline, -1),
        **{"ScanBy": "TimestampAscending", **more},
    )


def metric(identifier: str, name: str, **more: Any) -> dict[str, Any]:
    stat = {"Metric": {"Namespace": SPACE, "MetricName": name}, "Period": 60, "Stat": "Sum"}
    return {"Id": identifier, "MetricStat": stat, **more}


def test_math_over_metrics(offline: Any) -> None:
    cloudwatch = offline.client("cloudwatch")
    for name, values in (("a", {10: 2, 8: 4}), ("b", {10: 1, 9: 5})):
        for ago, value in values.items():
            at = minute(offline, ago)
            cloudwatch.put_metric_data(
                Namespace=SPACE, MetricData=[{"MetricName": name, "Timestamp": at, "Value": value}]
            )
    two = [metric("m1", "a", ReturnData=False), metric("m2", "b", ReturnData=False)]
    for expression, expected in {
        "m1 + m2": [3],
        "(m1 - 1) ^ 2 / 2": [0.5, 4.5],
        "SUM(METRICS())": [3, 5, 4],
        "MAX(METRICS())": [2, 5, 4],
        'AVG(METRICS("m2"))': [1, 5],
        "m1 / SUM(m1)": [2 / 6, 4 / 6],
        "m1 / 0": [],
        "-MIN(METRICS()) * ABS(-2)": [-2, -10, -8],
    }.items():
        (result,) = data(cloudwatch, offline, *two, {"Id": "e", "Expression": expression})["MetricDataResults"]
        assert result["Values"] == pytest.approx(expected), expression
    for filler, tail in {"0": [2, 0, 4, 0], "REPEAT": [2, 2, 4, 4], "LINEAR": [2, 3, 4, 4]}.items():
        query = {"Id": "e", "Expression": f"FILL(m1, {filler})", "Period": 60}
        (result,) = data(cloudwatch, offline, *two, query)["MetricDataResults"]
        start = result["Timestamps"].index(minute(offline, 10))
        assert result["Values"][start : start + 4] == tail


@pytest.mark.parametrize(
    "expression",
    ["", "m1 +", "nobody", "e", "SUM(1", "SUM(m1)", "1 + 1", "RATE(m1)", "SEARCH('', 'Sum', 60)",
     "METRICS() * METRICS()",
     "SEARCH('a=', 'Sum', 60)", "SEARCH('(a', 'Sum', 60)", "SEARCH('a', 'Mode', 60)", "(" * 200, "'text'", "m1 $ 2",
     "1" + "0" * 400, "SEARCH('a', 'Sum', 1e999)", "CEIL(1e999)", "FILL(m1, 0) + FILL(m2, 0)"],
)  # fmt: skip
def test_an_expression_that_is_none_is_refused(offline: Any, expression: str) -> None:
    cloudwatch = offline.client("cloudwatch", checked=False)
    queries = [metric("m1", "a"), {"Id": "e", "Expression": expression}]
    code, status, _ = offline.refused(lambda: data(cloudwatch, offline, *queries))
    assert (code, status) == ("ValidationError", 400)


def test_what_would_take_too_long_is_refused(offline: Any) -> None:
    cloudwatch = offline.client("cloudwatch")
    chain = [{"Id": f"e{number}", "Expression": f"e{number + 1} + 1"} for number in range(400)]
    code, _, message = offline.refused(lambda: data(cloudwatch, offline, *chain, metric("e400", "a")))
    assert (code, "too deeply" in message) == ("ValidationError", True)
    fill = {"Id": "e", "Expression": "FILL(m, 0)"}
    cloudwatch.put_metric_data(Namespace=SPACE, MetricData=[{"MetricName": "a", "Value": 1.0}])
    minutes = 400 * 24 * 60
    refusal = offline.refused(lambda: data(cloudwatch, offline, metric("m", "a"), fill, minutes=minutes))
    assert refusal[0] == "ValidationError"
    many = [metric(f"m{number}", "a") for number in range(500)]
    assert offline.refused(lambda: data(cloudwatch, offline, *many, minutes=minutes))[0] == "ValidationError"


def test_data_in_pages(offline: Any) -> None:
    cloudwatch = offline.client("cloudwatch")
    samples = [{"MetricName": "a", "Timestamp": minute(offline, ago), "Value": ago} for ago in range(1, 11)]
    cloudwatch.put_metric_data(Namespace=SPACE, MetricData=samples)
    queries = [metric("m1", "a"), metric("m2", "nothing"), metric("m3", "a")]
    pages = []
    token: dict[str, str] = {}
    start, end = minute(offline, 30), minute(offline, -1)
    while True:
        page = cloudwatch.get_metric_data(
            MetricDataQueries=queries, StartTime=start, EndTime=end, MaxDatapoints=6, **token
        )
        pages.append(page["MetricDataResults"])
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    told = [[(each["Id"], len(each["Values"]), each["StatusCode"]) for each in page] for page in pages]
    assert told == [
        [("m1", 6, "PartialData")],
        [("m1", 4, "Complete"), ("m2", 0, "Complete"), ("m3", 1, "PartialData")],
        [("m3", 6, "PartialData")],
        [("m3", 3, "Complete")],
    ]
    many = [metric(f"m{number}", "a") for number in range(501)]
    assert offline.refused(lambda: data(cloudwatch, offline, *many))[0] == "ValidationError"


def test_metrics_are_listed_by_what_they_are(offline: Any) -> None:
    cloudwatch = offline.client("cloudwatch")
    for first in (0, 300):
        samples = [
            {"MetricName": "a", "Value": 1.0, "Dimensions": [{"Name": "N", "Value": f"{number:04}"}]}
            for number in range(first, first + 300)
        ]
        cloudwatch.put_metric_data(Namespace=SPACE, MetricData=samples)
    old = datetime.now(UTC) - timedelta(hours=4)
    cloudwatch.put_metric_data(Namespace=SPACE, MetricData=[{"MetricName": "b", "Value": 1.0, "Timestamp": old}])
    pages = list(cloudwatch.get_paginator("list_metrics").paginate(Namespace=SPACE))
    assert [len(page["Metrics"]) for page in pages] == [500, 101]
    one = cloudwatch.list_metrics(Namespace=SPACE, Dimensions=[{"Name": "N", "Value": "0007"}])["Metrics"]
    assert len(one) == 1
    assert len(cloudwatch.list_metrics(Namespace=SPACE, MetricName="b")["Metrics"]) == 1
    assert cloudwatch.list_metrics(Namespace=SPACE, MetricName="b", RecentlyActive="PT3H")["Metrics"] == []


def test_samples_outlive_a_restart(make_offline: Any, tmp_path: Path) -> None:
    before = make_offline(tmp_path / "state")
    before.client("cloudwatch").put_metric_data(Namespace=SPACE, MetricData=[{"MetricName": "a", "Value": 3.0}])
    after = make_offline(tmp_path / "state")
    (result,) = data(after.client("cloudwatch"), after, metric("m", "a"))["MetricDataResults"]
    assert result["Values"] == [3.0]


# -- the evidence of IMDSv1 use ----------------------------------------------------------------------------------------


def searched(offline: Any, name: str, *, days: int = 14, region: str = "us-east-1") -> dict[str, list[float]]:
    """What a scanner asks: each instance's values of a metric, in hours."""
    expression = f"SEARCH('{{AWS/EC2,InstanceId}} MetricName=\"{name}\"', 'Sum', 3600)"
    now = datetime.now(UTC) + offline.offset
    start = (now - timedelta(days=days)).replace(minute=0, second=0, microsecond=0)
    answer = offline.client("cloudwatch", region=region).get_metric_data(
        MetricDataQueries=[{"Id": "e", "Expression": expression, "Label": "${PROP('Dim.InstanceId')}"}],
        StartTime=start,
        EndTime=now,
    )
    return {result["Label"]: result["Values"] for result in answer["MetricDataResults"]}


def instances(offline: Any) -> dict[str, dict[str, Any]]:
    pages = offline.client("ec2").get_paginator("describe_instances").paginate()
    groups = [group for page in pages for group in page["Reservations"]]
    return {each["InstanceId"]: each for group in groups for each in group["Instances"]}


def test_every_running_instance_has_the_one_metric_that_its_tokens_say(make_offline: Any) -> None:
    offline = make_offline(instances=120)
    fleet = instances(offline)
    used, rejected = searched(offline, "MetadataNoToken"), searched(offline, "MetadataNoTokenRejected")
    assert not used.keys() & rejected.keys()
    for identifier, instance in fleet.items():
        if instance["State"]["Name"] != "running":
            continue
        options = instance["MetadataOptions"]
        on = options["HttpEndpoint"] == "enabled"
        assert (identifier in used) == (on and options["HttpTokens"] == "optional")
        assert (identifier in rejected) == (on and options["HttpTokens"] == "required")
    totals = [sum(values) for values in used.values()]
    assert any(total == 0 for total in totals)
    assert any(total > 0 for total in totals)
    assert searched(make_offline(instances=120), "MetadataNoToken").keys() == used.keys()


def test_what_used_v1_is_rejected_once_tokens_are_required(make_offline: Any) -> None:
    offline = make_offline(instances=60)
    used = searched(offline, "MetadataNoToken")
    fleet = instances(offline)
    running = [each for each in used if fleet[each]["State"]["Name"] == "running"]
    busiest = max(running, key=lambda each: sum(used[each]))
    offline.client("ec2").modify_instance_metadata_options(InstanceId=busiest, HttpTokens="required")
    # What was before stays, and does not become a rejection afterwards.
    assert sum(searched(offline, "MetadataNoToken")[busiest]) > 0
    assert busiest not in searched(offline, "MetadataNoTokenRejected")
    offline.offset = timedelta(minutes=11)
    assert busiest in searched(offline, "MetadataNoTokenRejected")


def test_an_hour_is_the_sum_of_its_twelve_samples(make_offline: Any) -> None:
    offline = make_offline(instances=60)
    used = searched(offline, "MetadataNoToken", days=2)
    busiest = max(used, key=lambda each: sum(used[each]))
    end = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    asked = {
        "Namespace": "AWS/EC2",
        "MetricName": "MetadataNoToken",
        "Dimensions": [{"Name": "InstanceId", "Value": busiest}],
        "StartTime": end - timedelta(hours=24),
        "EndTime": end,
        "Statistics": ["Sum", "SampleCount", "Minimum", "Maximum"],
    }
    cloudwatch = offline.client("cloudwatch")
    hours = cloudwatch.get_metric_statistics(**asked, Period=3600)["Datapoints"]
    fine = cloudwatch.get_metric_statistics(**asked, Period=300)["Datapoints"]
    for hour in hours:
        inside = [each for each in fine if 0 <= (each["Timestamp"] - hour["Timestamp"]).total_seconds() < 3600]
        assert hour["Sum"] == sum(each["Sum"] for each in inside)
        assert hour["SampleCount"] == len(inside)
        assert hour["Minimum"] == min(each["Sum"] for each in inside)
        assert hour["Maximum"] == max(each["Sum"] for each in inside)
    assert cloudwatch.get_metric_statistics(**asked, Period=60)["Datapoints"] == []
