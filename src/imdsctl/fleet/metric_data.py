"""GetMetricData: asks a target's questions in its own Region, follows pages, and notices what a search left out.

Source: CloudWatch API Reference, GetMetricData, MetricDataQuery and MetricDataResult; CloudWatch User Guide, "Using
dynamic labels" (`PROP('Dim.InstanceId')`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from imdsctl.domain.metric_asks import QUERIES_MAX, SEARCH_SERIES_MAX, Ask, Budget, Metric, Price, Span, by_id
from imdsctl.domain.metric_evidence import Counted, added, counted
from imdsctl.fleet.ports import Aws, Credentials, Unreachable
from imdsctl.fleet.targets import code_of, said
from imdsctl.wire.errors import ServiceError

NAMESPACE = "AWS/EC2"
DIMENSION = "InstanceId"
"""The only dimension that every instance has; by image or type the metrics exist with detailed monitoring only."""

_RESULT = {
    "MetricDataResults": {"Id": None, "Label": None, "Timestamps": None, "Values": None, "StatusCode": None},
    "Messages": {"Code": None, "Value": None},
    "NextToken": None,
}
COMPLETE = "Complete"
BUDGET_SPENT = "not asked: it would have cost more than was agreed"


@dataclass(slots=True)
class Answer:
    """What one question brought: the instances with datapoints, what failed, what was paid for.

    An instance that is in neither has no datapoints. `reason` is set when the question was not answered whole.
    """

    counts: dict[str, Counted] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    reason: str = ""
    price: Price = field(default_factory=Price)

    def fail(self, instance_ids: Sequence[str], reason: str) -> None:
        """These instances got no answer."""
        self.failed.update(dict.fromkeys(instance_ids, reason))
        self.reason = self.reason or reason


async def ask_cloudwatch(aws: Aws, credentials: Credentials | None, ask: Ask, span: Span, budget: Budget) -> Answer:
    """Ask, as the question says, with the credentials of its account. AWS's refusals are in the answer.

    Nothing is asked that `budget` does not hold; a search that might not fit it is asked by id instead.
    """
    answer = Answer()
    budget.begin(ask)
    if ask.by_search and budget.take_for_search(ask):
        complete = await _search(aws, credentials, ask, span, answer, budget)
        if complete:
            return answer
        missing = tuple(each for each in ask.instance_ids if each not in answer.counts or each in answer.failed)
        for each in missing:
            answer.counts.pop(each, None)  # a part of it, which would count twice
        answer.failed.clear()
        answer.reason = ""
        ask = by_id(ask.target, ask.metric, missing, span)
    await _by_id(aws, credentials, ask, span, answer, budget)
    return answer


async def _by_id(
    aws: Aws, credentials: Credentials | None, ask: Ask, span: Span, answer: Answer, budget: Budget
) -> None:
    for ids in batches(ask.instance_ids, span.batch):
        if not budget.take(len(ids)):
            answer.fail(ids, BUDGET_SPENT)
            continue
        names = {f"m{number}": each for number, each in enumerate(ids)}
        queries = [_metric(name, ask.metric, each, span.period) for name, each in names.items()]
        try:
            await _pages(aws, credentials, ask, span, queries, names, answer)
        except (ServiceError, Unreachable) as error:
            answer.fail(ids, _refused(error))


async def _search(
    aws: Aws, credentials: Credentials | None, ask: Ask, span: Span, answer: Answer, budget: Budget
) -> bool:
    """Ask for the whole group at once; whether the answer is whole. It is not when AWS says anything beside it."""
    term = f'{{{NAMESPACE},{DIMENSION}}} MetricName="{ask.metric}"'
    query = {
        "Id": "s0",
        "Expression": f"SEARCH('{term}', 'Sum', {span.period})",
        "Label": f"${{PROP('Dim.{DIMENSION}')}}",
        "ReturnData": True,
    }
    before = answer.price.metrics
    try:
        whole, series = await _pages(aws, credentials, ask, span, [query], None, answer)
    except (ServiceError, Unreachable) as error:
        budget.back(SEARCH_SERIES_MAX)
        answer.fail(ask.instance_ids, _refused(error))
        # It may be the search that is not allowed or not known; whoever cannot be reached is not asked again.
        return isinstance(error, Unreachable)
    budget.back(SEARCH_SERIES_MAX - (answer.price.metrics - before))
    wanted = set(ask.instance_ids)
    for other in [each for each in answer.counts if each not in wanted]:
        del answer.counts[other]
    # Instances run here, so that a search that works finds some of them.
    plausible = bool(answer.counts) or not ask.expected
    return whole and plausible and series < SEARCH_SERIES_MAX and not answer.failed


def _labelled(result: Mapping[str, Any]) -> str | None:
    """The instance that a found series is of; None when the label is not what was asked for."""
    label = result.get("Label") or ""
    return label if label.startswith("i-") else None


async def _pages(
    aws: Aws,
    credentials: Credentials | None,
    ask: Ask,
    span: Span,
    queries: Sequence[Mapping[str, Any]],
    names: Mapping[str, str] | None,
    answer: Answer,
) -> tuple[bool, int]:
    """Every page of one request into `answer`; `names` has the instance of each query, None for a search.

    Gives whether AWS said nothing beside it, and how many series there were. A series that AWS gives up on
    (InternalError, Forbidden, or partial with no page to follow) has failed.
    """
    params = {
        "MetricDataQueries": queries,
        "StartTime": span.start,
        # The end is not in it, and whole seconds count: a period that began this very second would be left out.
        "EndTime": span.end + timedelta(seconds=1),
        "ScanBy": "TimestampDescending",
    }
    whole = True
    status: dict[str, str] = {}
    async for page in aws.paginate(credentials, "cloudwatch", ask.target.region, "GetMetricData", params, _RESULT):
        results = page.get("MetricDataResults") or ()
        paid = len(results) if names is None else len(queries)
        answer.price += Price(paid, 1)
        whole = whole and not page.get("Messages")
        for result in results:
            name = _labelled(result) if names is None else names.get(result["Id"])
            if name is None:
                whole = False
                continue
            times, values = result.get("Timestamps") or (), result.get("Values") or ()
            status[name] = (result.get("StatusCode") or COMPLETE) if len(times) == len(values) else "unequal lists"
            total = added(answer.counts.get(name), counted(zip(times, values, strict=False)))
            if total is not None:
                answer.counts[name] = total
    for name, said_of_it in status.items():
        if said_of_it != COMPLETE:
            answer.fail([name], f"CloudWatch gave no whole answer ({said_of_it})")
    return whole, len(status)


def batches(ids: Sequence[str], size: int) -> list[tuple[str, ...]]:
    """At most `size` (and never more than a call takes) in each."""
    step = min(size, QUERIES_MAX)
    return [tuple(ids[at : at + step]) for at in range(0, len(ids), step)]


def _metric(name: str, metric: Metric, instance_id: str, period: int) -> dict[str, Any]:
    return {
        "Id": name,
        "MetricStat": {
            "Metric": {
                "Namespace": NAMESPACE,
                "MetricName": str(metric),
                "Dimensions": [{"Name": DIMENSION, "Value": instance_id}],
            },
            "Period": period,
            "Stat": "Sum",
        },
        "ReturnData": True,
    }


def _refused(error: ServiceError | Unreachable) -> str:
    return f"CloudWatch could not be asked: {said(error)} ({code_of(error)})"
