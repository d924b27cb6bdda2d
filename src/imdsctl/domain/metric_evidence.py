"""From datapoints to evidence: what the sums say of an instance, from when, and what they cannot say. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from imdsctl.domain.evidence import InstanceEvidence
from imdsctl.domain.metric_asks import Metric, Span
from imdsctl.domain.observations import InstanceSeen, Target

PUBLISHED_WITHIN = timedelta(minutes=15)
"""How long after a launch the first datapoints may take with basic monitoring (every five minutes), and to be found."""


@dataclass(frozen=True, slots=True)
class Counted:
    """One series in a span: how many datapoints it has, their sum, and when the first, the last and the last that is
    not zero begin."""

    points: int
    total: float
    first: datetime
    last: datetime
    last_used: datetime | None = None


def counted(points: Iterable[tuple[datetime, float]]) -> Counted | None:
    """Count (time, value) pairs in any order; None when there is none, which is not the same as zero."""
    number, total = 0, 0.0
    first = last = used = None
    for at, value in points:
        number += 1
        total += value
        if first is None or at < first:
            first = at
        if last is None or at > last:
            last = at
        if value > 0 and (used is None or at > used):
            used = at
    if first is None or last is None:
        return None
    return Counted(number, total, first, last, used)


def added(one: Counted | None, other: Counted | None) -> Counted | None:
    """Two parts of the same series, as pages give them."""
    if one is None or other is None:
        return one or other
    used = [each.last_used for each in (one, other) if each.last_used is not None]
    return Counted(
        one.points + other.points,
        one.total + other.total,
        min(one.first, other.first),
        max(one.last, other.last),
        max(used, default=None),
    )


def evidence_of(
    target: Target,
    instance_id: str,
    metric: Metric,
    span: Span,
    found: Counted | None,
    *,
    seen: InstanceSeen | None = None,
    failed: str | None = None,
) -> InstanceEvidence:
    """What the datapoints of one metric say of an instance.

    `found` None means that there are none; `failed` says that AWS did not answer whole, and why: then a sum of zero
    proves nothing, while a call that was seen was made. `seen` is the instance as the scan saw it: it tells why there
    may be no datapoints.
    """
    if found is None or (failed and not found.total):
        return InstanceEvidence(target, instance_id, reason=failed or _silent(seen, span))
    period = timedelta(seconds=span.period)
    used = None if found.last_used is None else min(found.last_used + period, span.end)
    reason = f"incomplete: {failed}" if failed else _ended(found, seen, span)
    return InstanceEvidence(
        target,
        instance_id,
        no_token=found.total if metric is Metric.NO_TOKEN else None,
        rejected=found.total if metric is Metric.REJECTED else None,
        last_used=used,
        since=_since(found, seen, span),
        reason=reason,
    )


def _since(found: Counted, seen: InstanceSeen | None, span: Span) -> datetime | None:
    """The beginning of the first period with datapoints; None when it is that of the span.

    LaunchTime says more exactly when a period began for a young instance. Of one that was stopped and started it is
    the last start, later than datapoints from before: then it says nothing about the first.
    """
    period = timedelta(seconds=span.period)
    launched = seen.launch_time if seen is not None else None
    if launched is not None and found.first <= launched < found.first + period:
        return launched if launched > span.start else None
    return found.first if found.first >= span.start + period else None


def _ended(found: Counted, seen: InstanceSeen | None, span: Span) -> str:
    """That the datapoints end before the span does, when they do."""
    period = timedelta(seconds=span.period)
    end = found.last + period
    if span.end - end > max(period, PUBLISHED_WITHIN):
        return f"no datapoints after {end:%Y-%m-%d %H:%M} UTC"
    if seen is not None and seen.state in ("stopped", "stopping"):
        return f"{seen.state} when it was scanned: the evidence ends with it"
    return ""


def _silent(seen: InstanceSeen | None, span: Span) -> str:
    """Why there may be no datapoints, as far as the scan can tell."""
    if seen is None:
        return "no datapoints"
    if seen.state != "running":
        return f"{seen.state} when it was scanned, and no datapoints in the look-back"
    if seen.launch_time is not None and span.end - seen.launch_time < PUBLISHED_WITHIN:
        return f"launched {seen.launch_time:%Y-%m-%d %H:%M} UTC: no datapoints yet"
    return "running, yet no datapoints: nobody can tell from CloudWatch"
