"""GetMetricData: metrics, math and searches in one request.

Source: CloudWatch API Reference, GetMetricData, MetricDataQuery and MetricStat.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

from imdsctl.local.call import AwsError, Call
from imdsctl.local.cloudwatch.errors import missing, validation
from imdsctl.local.cloudwatch.expressions import Line, MathError, Value, evaluate
from imdsctl.local.cloudwatch.listing import span
from imdsctl.local.cloudwatch.put import UNITS, dimensions_of
from imdsctl.local.cloudwatch.search import SearchError, compile_search
from imdsctl.local.cloudwatch.state import DAY, HOUR, RETENTION, MetricKey
from imdsctl.local.cloudwatch.statistics import (
    STATISTICS,
    datapoints,
    is_period,
    known_metrics,
    merged,
    percentile_of,
    value_of,
)
from imdsctl.local.pages import InvalidToken, page

QUERIES_MAX = 500
DATAPOINTS_MAX = 100_800
SEARCH_RESULTS_MAX = 500
"""CloudWatch User Guide, "CloudWatch service quotas" and "CloudWatch search expression syntax"."""
SAMPLES_READ_MAX = 5_000_000
"""Samples that one call may make us look at: 500 metrics of five minutes for a month. AWS throttles by datapoints."""
REFERENCES_DEPTH_MAX = 50
ORDERS = ("TimestampAscending", "TimestampDescending")
TOO_MANY_FOUND = {
    "Code": "MaxMetricsExceeded",
    "Value": f"A search found more than {SEARCH_RESULTS_MAX} metrics; the first {SEARCH_RESULTS_MAX} are returned.",
}

_ID = re.compile(r"[a-z][a-zA-Z0-9_]{0,254}")
_DYNAMIC = re.compile(r"\$\{(LABEL|PROP\('([^']*)'\))\}")


def get_metric_data(call: Call) -> Mapping[str, Any]:
    """The results of up to 500 queries, in pages of MaxDatapoints points; newest first unless ScanBy says otherwise.

    Raises ValidationError, MissingParameter and InvalidParameterValue.
    """
    params = call.params
    for name in ("MetricDataQueries", "StartTime", "EndTime"):
        if not params.get(name):
            raise missing(name)
    queries = params["MetricDataQueries"]
    if len(queries) > QUERIES_MAX:
        raise validation(f"The collection MetricDataQueries must not have a size greater than {QUERIES_MAX}.")
    order = params.get("ScanBy") or ORDERS[1]
    if order not in ORDERS:
        raise validation(f"The parameter ScanBy must be a value in the set [ {', '.join(ORDERS)} ].")
    most = params.get("MaxDatapoints") or DATAPOINTS_MAX
    if not 1 <= most <= DATAPOINTS_MAX:
        raise validation(f"The parameter MaxDatapoints must be between 1 and {DATAPOINTS_MAX}.")
    request = _Request(call, queries)
    if not any(query.get("ReturnData", True) for query in queries):
        raise validation("At least one of the queries must return data.")
    lines = [
        (query["Id"], line)
        for query in queries
        if query.get("ReturnData", True)
        for line in request.returned(query["Id"])
    ]
    return _paged(call, lines, request.messages, most, newest_first=order == ORDERS[1])


def _paged(
    call: Call, lines: Sequence[tuple[str, Line]], messages: list[dict[str, str]], most: int, *, newest_first: bool
) -> Mapping[str, Any]:
    """One page; a series without points takes a place, too, so that it is not forgotten."""
    flat: list[tuple[int, int | None]] = []
    for index, (_, line) in enumerate(lines):
        flat.extend((index, at) for at in sorted(line.points, reverse=newest_first))
        if not line.points:
            flat.append((index, None))
    params = {name: value for name, value in call.params.items() if name not in ("NextToken", "MaxDatapoints")}
    of = f"GetMetricData/{call.account_id}/{call.region}/{blake2b(repr(params).encode(), digest_size=16).hexdigest()}"
    try:
        shown, token = page(flat, call.params.get("NextToken") or None, most, of=of)
    except InvalidToken:
        raise AwsError("InvalidNextToken", "The next token specified is invalid.", 400) from None
    results: dict[int, dict[str, Any]] = {}
    for index, at in shown:
        identifier, line = lines[index]
        result = results.setdefault(
            index,
            {"Id": identifier, "Label": line.label, "Timestamps": [], "Values": [], "StatusCode": "Complete"},
        )
        if at is not None:
            result["Timestamps"].append(datetime.fromtimestamp(at, UTC))
            result["Values"].append(line.points[at])
    if token is not None:
        last = shown[-1][0]
        following = flat.index(shown[-1]) + 1
        if flat[following][0] == last:
            results[last]["StatusCode"] = "PartialData"
    out: dict[str, Any] = {"MetricDataResults": list(results.values()), "Messages": messages}
    if token is not None:
        out["NextToken"] = token
    return out


class _Request:
    """The queries of a request by identifier; each is evaluated once, when something asks for it."""

    def __init__(self, call: Call, queries: Sequence[Mapping[str, Any]]) -> None:
        self.call = call
        self.messages: list[dict[str, str]] = []
        self._queries: dict[str, Mapping[str, Any]] = {}
        self._values: dict[str, Value] = {}
        self._evaluating: set[str] = set()
        self._read = 0
        self._known: dict[MetricKey, int] | None = None
        for index, query in enumerate(queries, 1):
            identifier = query.get("Id")
            if not identifier:
                raise missing(f"MetricDataQueries.member.{index}.Id")
            if not _ID.fullmatch(identifier):
                raise validation(
                    f"The value {identifier} for parameter MetricDataQueries.member.{index}.Id is invalid."
                )
            if identifier in self._queries:
                raise validation(f"The values for parameter id in MetricDataQueries are not unique: {identifier}")
            if (query.get("MetricStat") is None) == (query.get("Expression") is None):
                raise validation(
                    f"The query {identifier} must have either MetricStat or Expression, and not both of them."
                )
            self._queries[identifier] = query

    def returned(self, identifier: str) -> list[Line]:
        """The series that a query returns, with their labels. Raises ValidationError."""
        query = self._queries[identifier]
        value = self.value_of(identifier)
        if isinstance(value, float):
            raise validation(_in_expression(identifier, "the result is a number and no time series"))
        if isinstance(value, list):
            return [Line(_label(query, line), line.points) for line in value]
        own = value if query.get("MetricStat") is not None else Line(identifier, value.points, value.key, value.period)
        return [Line(_label(query, own), value.points)]

    def value_of(self, identifier: str) -> Value:
        """The value of a query. Raises ValidationError."""
        if identifier in self._values:
            return self._values[identifier]
        if identifier in self._evaluating:
            raise validation(_in_expression(identifier, "the expressions refer to each other in a circle"))
        if len(self._evaluating) >= REFERENCES_DEPTH_MAX:
            raise validation(_in_expression(identifier, "the expressions refer to each other too deeply"))
        self._evaluating.add(identifier)
        query = self._queries[identifier]
        if query.get("MetricStat") is not None:
            value: Value = self._metric(identifier, query["MetricStat"])
        else:
            try:
                value = evaluate(query["Expression"], _Names(self, query.get("Period") or 300))
            except (MathError, SearchError) as error:
                raise validation(_in_expression(identifier, str(error))) from None
        self._evaluating.discard(identifier)
        self._values[identifier] = value
        return value

    def metric_lines(self, containing: str) -> list[Line]:
        """The series of all MetricStat queries whose identifiers contain a text."""
        found = [
            self.value_of(identifier)
            for identifier, query in self._queries.items()
            if query.get("MetricStat") is not None and containing in identifier
        ]
        return [line for line in found if isinstance(line, Line)]

    def has(self, identifier: str) -> bool:
        """Whether there is a query of that name."""
        return identifier in self._queries

    def found(self, expression: str, statistic: str, period: int) -> list[Line]:
        """The series of a search. Raises SearchError and MathError."""
        _check_statistic(statistic)
        if not is_period(period):
            raise MathError(f"{period} is not a period")
        test = compile_search(expression, self.call.account_id)
        if self._known is None:
            self._known = known_metrics(self.call)
        keys = [key for key in self._known if test(key)]
        if len(keys) > SEARCH_RESULTS_MAX:
            keys = keys[:SEARCH_RESULTS_MAX]
            if TOO_MANY_FOUND not in self.messages:
                self.messages.append(TOO_MANY_FOUND)
        labels = _distinguishing(keys)
        return [self.line(key, label, statistic, period, None) for key, label in zip(keys, labels, strict=True)]

    def line(self, key: MetricKey, label: str, statistic: str, period: int, unit: str | None) -> Line:
        """One metric's series. Raises InvalidParameterValue."""
        params = self.call.params
        start, end, period = span(self.call, params["StartTime"], params["EndTime"], period)
        now = int(self.call.now.timestamp())
        seconds = min(end, now) - max(start, now - RETENTION[-1][1])
        self._read += max(seconds, 0) // (HOUR if period % HOUR == 0 and start % HOUR == 0 else min(period, 300))
        if self._read > SAMPLES_READ_MAX:
            raise validation(
                "The request is for too many datapoints. Ask for fewer metrics, longer periods or less time."
            )
        found = datapoints(self.call, key, start, end, period, unit)
        values = {at: value_of(merged(buckets), statistic) for at, buckets in sorted(found.items())}
        points = {at: value for at, value in values.items() if value is not None}
        return Line(label, points, key, period, statistic)

    def _metric(self, identifier: str, stat: Mapping[str, Any]) -> Line:
        metric, period, statistic = stat.get("Metric") or {}, stat.get("Period"), stat.get("Stat")
        for name, value in (
            ("Metric.Namespace", metric.get("Namespace")),
            ("Metric.MetricName", metric.get("MetricName")),
            ("Period", period),
            ("Stat", statistic),
        ):
            if not value:
                raise missing(f"MetricDataQueries.{identifier}.MetricStat.{name}")
        try:
            _check_statistic(str(statistic))
        except MathError as error:
            raise validation(str(error)) from None
        unit = stat.get("Unit")
        if unit is not None and unit not in UNITS:
            raise validation(
                f"The value {unit} for parameter MetricDataQueries.{identifier}.MetricStat.Unit is invalid."
            )
        dimensions = dimensions_of(metric.get("Dimensions"), f"MetricDataQueries.{identifier}")
        key = MetricKey(metric["Namespace"], metric["MetricName"], dimensions)
        return self.line(key, key.name, str(statistic), int(period or 0), unit)


class _Names:
    """What one expression sees of its request."""

    def __init__(self, request: _Request, period: int) -> None:
        params = request.call.params
        self._request = request
        self.period = period
        start, end, _ = span(request.call, params["StartTime"], params["EndTime"], min(period, DAY))
        self.span = start, end

    def value(self, identifier: str) -> Value:
        """The value of another query."""
        if not self._request.has(identifier):
            raise MathError(f"there is no query called {identifier}")
        return self._request.value_of(identifier)

    def metrics(self, containing: str) -> list[Line]:
        """The MetricStat queries."""
        return self._request.metric_lines(containing)

    def search(self, expression: str, statistic: str, period: int) -> list[Line]:
        """A search among the account's metrics."""
        return self._request.found(expression, statistic, period)


def _check_statistic(statistic: str) -> None:
    if statistic not in STATISTICS and percentile_of(statistic) is None:
        raise MathError(f"The value {statistic} for parameter Stat is not supported.")


def _in_expression(identifier: str, what: str) -> str:
    return f"Error in expression '{identifier}': {what}"


def _label(query: Mapping[str, Any], line: Line) -> str:
    """The label of the query with its dynamic parts filled in, or the series' own."""
    text = query.get("Label")
    if not text:
        return line.label
    return _DYNAMIC.sub(lambda found: _dynamic(found, line), text)


def _dynamic(found: re.Match[str], line: Line) -> str:
    if found[1] == "LABEL":
        return line.label
    name, key = found[2], line.key
    if key is None:
        return ""
    if name.startswith("Dim."):
        return dict(key.dimensions).get(name[4:], "")
    known = {
        "MetricName": key.name,
        "Namespace": key.namespace,
        "Period": str(line.period),
        "Stat": line.statistic,
    }
    return known.get(name, "")


def _distinguishing(keys: Sequence[MetricKey]) -> list[str]:
    """For each metric what sets it apart from the others found; the metric's name when nothing does."""
    rows = [[key.namespace, *(value for _, value in key.dimensions), key.name] for key in keys]
    if len({len(row) for row in rows}) != 1:
        return [" ".join(row) for row in rows]
    different = [len(set(column)) > 1 for column in zip(*rows, strict=True)]
    return [" ".join(part for part, differs in zip(row, different, strict=True) if differs) or row[-1] for row in rows]
