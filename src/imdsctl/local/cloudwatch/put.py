"""PutMetricData.

Source: CloudWatch API Reference, PutMetricData and MetricDatum: the limits of numbers, times and names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from imdsctl.local.call import AwsError, Call
from imdsctl.local.cloudwatch.errors import invalid_combination, invalid_value, missing
from imdsctl.local.cloudwatch.state import MINUTE, NO_UNIT, SECOND, SERIES_MAX, MetricKey

DATA_MAX = 1000
DIMENSIONS_MAX = 30
VALUES_MAX = 150
NAME_LENGTH_MAX = 255
DIMENSION_VALUE_LENGTH_MAX = 1024
MAGNITUDE_MAX = 2.0**360
PAST_SECONDS_MAX = 14 * 86_400
FUTURE_SECONDS_MAX = 2 * 3600

_RATES = (
    "Bytes", "Kilobytes", "Megabytes", "Gigabytes", "Terabytes", "Bits", "Kilobits", "Megabits", "Gigabits",
    "Terabits", "Count",
)  # fmt: skip
UNITS = frozenset(
    {"Seconds", "Microseconds", "Milliseconds", "Percent", "None", *_RATES, *(f"{each}/Second" for each in _RATES)}
)
"""API Reference, MetricDatum, Unit."""


@dataclass(slots=True)
class Datum:
    """One checked MetricDatum: which metric, when, and what to add, as (count, total, least, most) each."""

    key: MetricKey
    at: int
    resolution: int
    unit: str
    sets: list[tuple[float, float, float, float]]


def put_metric_data(call: Call) -> Mapping[str, Any]:
    """Publish samples. All are checked before the first is taken.

    Raises InvalidParameterValue, InvalidParameterCombination, MissingParameter.
    """
    params = call.params
    namespace = params.get("Namespace")
    if not namespace:
        raise missing("Namespace")
    _check_name("Namespace", namespace)
    if str(namespace).startswith("AWS/"):
        raise invalid_value("The value AWS/ for parameter Namespace is invalid.")
    given = list(_all_data(params))
    if not given:
        raise missing("MetricData")
    if len(given) > DATA_MAX:
        raise invalid_value(f"The collection MetricData must not have a size greater than {DATA_MAX}.")
    data = [_datum(call, str(namespace), each, f"MetricData.member.{index}") for index, each in enumerate(given, 1)]
    metrics, now = call.world.metrics(call.account_id, call.region), int(call.now.timestamp())
    new = {each.key for each in data if each.key not in metrics.series}
    if new and len(metrics.series) + len(new) > SERIES_MAX:
        raise AwsError(
            "LimitExceeded", f"The local AWS of imdsctl keeps {SERIES_MAX} metrics of an account in a Region.", 400
        )
    for each in data:
        series = metrics.of(each.key, now)
        if series is not None:
            bucket = series.bucket(each.at, each.resolution, each.unit)
            for count, total, least, most in each.sets:
                bucket.add_set(count, total, least, most)
    return {}


def _all_data(params: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    yield from params.get("MetricData") or ()
    for entity in params.get("EntityMetricData") or ():
        yield from entity.get("MetricData") or ()


def _datum(call: Call, namespace: str, given: Mapping[str, Any], where: str) -> Datum:
    name = given.get("MetricName")
    if not name:
        raise missing(f"{where}.MetricName")
    _check_name(f"{where}.MetricName", name)
    unit = given.get("Unit") or NO_UNIT
    if unit not in UNITS:
        raise invalid_value(f"The parameter {where}.Unit must be a value in the set [ {', '.join(sorted(UNITS))} ].")
    resolution = given.get("StorageResolution") or MINUTE
    if resolution not in (SECOND, MINUTE):
        raise invalid_value(f"The parameter {where}.StorageResolution must be 1 or 60.")
    key = MetricKey(namespace, name, dimensions_of(given.get("Dimensions"), where))
    return Datum(key, _time(call, given.get("Timestamp"), where), resolution, unit, _sets(given, where))


def _time(call: Call, given: datetime | None, where: str) -> int:
    if given is None:
        return int(call.now.timestamp())
    at = (given if given.tzinfo is not None else given.replace(tzinfo=UTC)).timestamp()
    age = call.now.timestamp() - at
    if age > PAST_SECONDS_MAX:
        raise invalid_value(f"The parameter {where}.Timestamp must specify a time within the past two weeks.")
    if age < -FUTURE_SECONDS_MAX:
        raise invalid_value(
            f"The parameter {where}.Timestamp must specify a time no more than two hours in the future."
        )
    return int(at)


def _sets(given: Mapping[str, Any], where: str) -> list[tuple[float, float, float, float]]:
    value, statistics, values = given.get("Value"), given.get("StatisticValues"), given.get("Values")
    if sum(each is not None and each != [] for each in (value, statistics, values)) > 1:
        raise invalid_combination(
            f"The parameters {where}.Value, {where}.Values and {where}.StatisticValues are mutually exclusive and you "
            "have specified more than one."
        )
    if value is not None:
        number = _number(value, f"{where}.Value")
        return [(1.0, number, number, number)]
    if statistics is not None:
        names = ("SampleCount", "Sum", "Minimum", "Maximum")
        for name in names:
            if statistics.get(name) is None:
                raise missing(f"{where}.StatisticValues.{name}")
        count, total, least, most = (_number(statistics[name], f"{where}.StatisticValues.{name}") for name in names)
        if count <= 0:
            raise invalid_value(f"The parameter {where}.StatisticValues.SampleCount must be greater than 0.")
        if least > most:
            raise invalid_combination(
                f"The parameter {where}.StatisticValues.Maximum must be greater than or equal to "
                f"{where}.StatisticValues.Minimum."
            )
        return [(count, total, least, most)]
    if not values:
        raise missing(f"{where}.Value")
    if len(values) > VALUES_MAX:
        raise invalid_value(f"The collection {where}.Values must not have a size greater than {VALUES_MAX}.")
    counts = given.get("Counts") or [1.0] * len(values)
    if len(counts) != len(values):
        raise invalid_value(f"The parameters {where}.Values and {where}.Counts must be of the same size.")
    out = []
    for value, count in zip(values, counts, strict=True):
        number, times = _number(value, f"{where}.Values"), _number(count, f"{where}.Counts")
        if times < 0:
            raise invalid_value(f"The parameter {where}.Counts must not hold negative numbers.")
        if times:
            out.append((times, number * times, number, number))
    return out


def _number(value: Any, where: str) -> float:
    number = float(value)
    if not isfinite(number):
        raise invalid_value(f"The value {number} for parameter {where} is invalid.")
    if abs(number) > MAGNITUDE_MAX:
        raise invalid_value(f"The value {number} for parameter {where} is too large.")
    return number


def dimensions_of(given: Iterable[Mapping[str, Any]] | None, where: str) -> tuple[tuple[str, str], ...]:
    """A request's dimensions, checked and sorted by name. Raises InvalidParameterValue and MissingParameter."""
    found: dict[str, str] = {}
    for index, each in enumerate(given or (), 1):
        name, value = each.get("Name"), each.get("Value")
        place = f"{where}.Dimensions.member.{index}"
        if not name or not str(name).strip():
            raise missing(f"{place}.Name")
        if not value or not str(value).strip():
            raise missing(f"{place}.Value")
        _check_name(f"{place}.Name", name)
        if str(name).startswith(":"):
            raise invalid_value(f"The parameter {place}.Name must not start with a colon.")
        if len(value) > DIMENSION_VALUE_LENGTH_MAX or not value.isascii():
            raise invalid_value(
                f"The parameter {place}.Value must be ASCII of at most {DIMENSION_VALUE_LENGTH_MAX} characters."
            )
        if name in found:
            raise invalid_value(f"The parameter {where}.Dimensions names the dimension {name} twice.")
        found[name] = value
    if len(found) > DIMENSIONS_MAX:
        raise invalid_value(f"The collection {where}.Dimensions must not have a size greater than {DIMENSIONS_MAX}.")
    return tuple(sorted(found.items()))


def _check_name(where: str, text: str) -> None:
    if len(text) > NAME_LENGTH_MAX or not text.isascii() or not text.isprintable():
        raise invalid_value(f"The parameter {where} must be ASCII of at most {NAME_LENGTH_MAX} characters.")
