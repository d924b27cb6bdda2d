"""ListMetrics and GetMetricStatistics."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from imdsctl.local.call import Call
from imdsctl.local.cloudwatch.errors import invalid_combination, invalid_value, missing
from imdsctl.local.cloudwatch.put import UNITS, dimensions_of
from imdsctl.local.cloudwatch.state import DAY, HOUR, MINUTE, MetricKey
from imdsctl.local.cloudwatch.statistics import (
    STATISTICS,
    datapoints,
    is_period,
    known_metrics,
    percentile_of,
    rounded_start,
    value_of,
)
from imdsctl.local.pages import InvalidToken, page

METRICS_PAGE = 500
DATAPOINTS_MAX = 1440
"""CloudWatch API Reference, ListMetrics and GetMetricStatistics."""


def list_metrics(call: Call) -> Mapping[str, Any]:
    """The metrics with samples in the past two weeks (three hours with RecentlyActive), in pages of 500.

    Raises InvalidParameterValue and MissingParameter.
    """
    params = call.params
    namespace, name = params.get("Namespace"), params.get("MetricName")
    if params.get("RecentlyActive") not in (None, "PT3H"):
        raise invalid_value("The parameter RecentlyActive must be a value in the set [ PT3H ].")
    wanted = []
    for index, each in enumerate(params.get("Dimensions") or (), 1):
        if not each.get("Name"):
            raise missing(f"Dimensions.member.{index}.Name")
        wanted.append((each["Name"], each.get("Value") or None))
    since = int(call.now.timestamp()) - 3 * HOUR if params.get("RecentlyActive") else 0
    found = [
        key
        for key, newest in known_metrics(call, namespace).items()
        if newest >= since and name in (None, key.name) and _has(key, wanted)
    ]
    of = f"ListMetrics/{call.account_id}/{call.region}/{namespace}/{name}/{wanted}/{bool(since)}"
    try:
        shown, token = page(found, params.get("NextToken") or None, METRICS_PAGE, of=of)
    except InvalidToken:
        raise invalid_value("The token is not valid.") from None
    out: dict[str, Any] = {"Metrics": [metric_structure(key) for key in shown]}
    if params.get("IncludeLinkedAccounts"):
        out["OwningAccounts"] = [call.account_id] * len(shown)
    if token is not None:
        out["NextToken"] = token
    return out


def _has(key: MetricKey, wanted: list[tuple[str, str | None]]) -> bool:
    dimensions = dict(key.dimensions)
    return all(name in dimensions and value in (None, dimensions[name]) for name, value in wanted)


def metric_structure(key: MetricKey) -> dict[str, Any]:
    """AWS's `Metric`."""
    return {
        "Namespace": key.namespace,
        "MetricName": key.name,
        "Dimensions": [{"Name": name, "Value": value} for name, value in key.dimensions],
    }


def get_metric_statistics(call: Call) -> Mapping[str, Any]:
    """One metric's statistics by period, for every unit that was published; the order of datapoints means nothing.

    Raises MissingParameter, InvalidParameterValue, InvalidParameterCombination.
    """
    params = call.params
    for name in ("Namespace", "MetricName", "StartTime", "EndTime", "Period"):
        if params.get(name) is None:
            raise missing(name)
    statistics, extended = params.get("Statistics") or [], params.get("ExtendedStatistics") or []
    if bool(statistics) == bool(extended):
        raise invalid_combination("Must specify either Statistics or ExtendedStatistics, and not both.")
    for each in statistics:
        if each not in STATISTICS:
            raise invalid_value(f"The parameter Statistics must be a value in the set [ {', '.join(STATISTICS)} ].")
    for each in extended:
        if percentile_of(each) is None:
            raise invalid_value(f"The value {each} for parameter ExtendedStatistics is not supported.")
    unit = params.get("Unit")
    if unit is not None and unit not in UNITS:
        raise invalid_value(f"The parameter Unit must be a value in the set [ {', '.join(sorted(UNITS))} ].")
    start, end, period = span(call, params["StartTime"], params["EndTime"], params["Period"])
    wanted = -(-(end - start) // period)
    if wanted > DATAPOINTS_MAX:
        raise invalid_combination(
            f"You have requested up to {wanted:,} datapoints, which exceeds the limit of {DATAPOINTS_MAX:,}. You may "
            "reduce the datapoints requested by increasing Period, or decreasing the time range."
        )
    key = MetricKey(params["Namespace"], params["MetricName"], dimensions_of(params.get("Dimensions"), "Request"))
    points = []
    for at, of_unit in sorted(datapoints(call, key, start, end, period, unit).items()):
        for found, bucket in of_unit.items():
            point: dict[str, Any] = {"Timestamp": datetime.fromtimestamp(at, UTC), "Unit": found}
            point.update({each: value_of(bucket, each) for each in statistics})
            known = {each: value for each in extended if (value := value_of(bucket, each)) is not None}
            if extended:
                if not known:
                    continue
                point["ExtendedStatistics"] = known
            points.append(point)
    return {"Label": params["MetricName"], "Datapoints": points}


def span(call: Call, start: datetime, end: datetime, period: int) -> tuple[int, int, int]:
    """Start and end in seconds since 1970, the start rounded as AWS does, and the period.

    Raises InvalidParameterValue.
    """
    if not is_period(period) or period > DAY:
        raise invalid_value(
            f"The value {period} for parameter Period is invalid: it must be 1, 5, 10, 20, 30 or a multiple of "
            f"{MINUTE}, up to {DAY}."
        )
    start, end = (each if each.tzinfo is not None else each.replace(tzinfo=UTC) for each in (start, end))
    if start >= end:
        raise invalid_value("The parameter StartTime must be less than the parameter EndTime.")
    return rounded_start(start, call.now, period), int(end.timestamp()), period
