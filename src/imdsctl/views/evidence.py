"""Evidence for a person and for a program. No decisions are taken here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from imdsctl.domain.evidence import Evidence, InstanceEvidence, Use
from imdsctl.domain.metric_asks import Estimate, Price, Span
from imdsctl.domain.roll_up import By, RollUp, Workload, calls_of
from imdsctl.domain.shown import shown
from imdsctl.views.diagnostics import painted
from imdsctl.views.json import document
from imdsctl.views.text import table_text

ROWS_MAX = 25
"""Workloads shown without `--full`."""
REASONS_MAX = 6
TARGETS_MAX = 4
_COLOURS = {Use.USED: "red", Use.UNKNOWN: "yellow", Use.UNUSED: "green"}
_NONE = {
    By.GROUP: "(in no group)",
    By.CLUSTER: "(in no cluster)",
    By.TEMPLATE: "(from no template)",
    By.IMAGE: "(image unknown)",
    By.TAG: "(no such tag)",
    By.OU: "(unit unknown)",
}


def announcement_text(estimate: Estimate, span: Span) -> str:
    """What will be asked and what that costs, before it is asked."""
    expected, most = estimate.expected, estimate.by_id
    about = "" if expected.metrics == most.metrics else f", {most.metrics:,} at most by instance"
    where = (
        f"{_many(estimate.targets, 'Region')} ({_many(expected.calls, 'call')} of GetMetricData, {_span_text(span)})"
    )
    return (
        f"CloudWatch will be asked for {_many(expected.metrics, 'metric')}{about} in {where}: "
        f"{usd_text(expected)} at the price of us-east-1."
    )


def asked_text(price: Price) -> str:
    """What was asked, afterwards."""
    return f"Asked for {_many(price.metrics, 'metric')} in {_many(price.calls, 'call')}: {usd_text(price)}."


def usd_text(price: Price) -> str:
    """`about USD 0.03`; what is less than a cent is said to be."""
    if not price.metrics:
        return "nothing"
    if price.usd < 0.01:
        return "less than USD 0.01"
    return f"about USD {price.usd:,.2f}"


def evidence_text(
    evidence: Evidence,
    workloads: Sequence[Workload],
    names: Mapping[str, str],
    how: RollUp,
    *,
    colour: bool = False,
    full: bool = False,
) -> str:
    """Workloads with their use, where to look, why something is unknown, and the next step.

    `names` has the name of each account. `workloads` are in the order of `domain.roll_up.rolled_up`.
    """
    parts = [
        _table(workloads, names, how, colour=colour, full=full),
        _look_at(workloads, colour=colour, full=full),
        _unknown(evidence, workloads, colour=colour),
        _totals(evidence, workloads, colour=colour),
        _next_step(workloads),
    ]
    return "\n\n".join(part for part in parts if part)


def _table(workloads: Sequence[Workload], names: Mapping[str, str], how: RollUp, *, colour: bool, full: bool) -> str:
    if not workloads:
        return ""
    shown = workloads if full else workloads[:ROWS_MAX]
    rows = [["WORKLOAD", "WHERE", "IMDSv1", "INSTANCES", "CALLS", "LAST USE (BEFORE)"]]
    for each in shown:
        rows.append(
            [
                workload_text(each),
                _where(each, names),
                painted(str(each.use), _COLOURS[each.use], colour),
                _counts(each),
                f"{each.calls:,.0f}" if each.calls else "-",
                _time(each.last_used),
            ]
        )
    lines = table_text(rows).split("\n")
    out = [painted(lines[0], "dim", colour), *lines[1:]]
    if len(shown) < len(workloads):
        out.append(f"  and {len(workloads) - len(shown):,} more by {how}: `--full` shows them")
    return "\n".join(out)


def workload_text(workload: Workload) -> str:
    """`group web`, `template lt-0abc (web)`, `(in no group)`."""
    key = workload.key
    if not key.name:
        return _NONE.get(key.kind, "(none)")
    label = f" ({workload.label})" if workload.label else ""
    return f"{key.kind} {key.name}{label}"


def _where(workload: Workload, names: Mapping[str, str]) -> str:
    target = workload.key.target
    if target is not None:
        name = names.get(target.account_id)
        return f"{target} {name}" if name else str(target)
    return names.get(workload.key.name, "") if workload.key.kind is By.ACCOUNT else ""


def _counts(workload: Workload) -> str:
    return ", ".join(f"{workload.counts[use]:,} {use}" for use in Use if workload.counts[use])


def _look_at(workloads: Sequence[Workload], *, colour: bool, full: bool) -> str:
    used = [each for each in workloads if each.use is Use.USED]
    if not used:
        return ""
    lines = [painted("Instances to look at:", "bold", colour)]
    for workload in used if full else used[:ROWS_MAX]:
        for each in workload.used if full else workload.used[:1]:
            lines.append(f"  {each.target}/{each.instance_id}  {_said(each)}")
    lines.append("  Which process it is, `imdsctl trace` says on that host (as root), IMDSv1 calls by program.")
    return "\n".join(lines)


def _said(evidence: InstanceEvidence) -> str:
    words = []
    if evidence.no_token:
        words.append(_many(int(evidence.no_token), "IMDSv1 call"))
    if evidence.rejected:
        words.append(_many(int(evidence.rejected), "rejected IMDSv1 call"))
    if evidence.last_used:
        words.append(f"last before {_time(evidence.last_used)}")
    if evidence.role_delivery_v1:
        words.append(f"{_many(evidence.role_delivery_v1, 'CloudTrail event')} with credentials that IMDSv1 delivered")
    if evidence.since:
        words.append(f"the evidence begins {_time(evidence.since)}")
    if evidence.reason:
        words.append(shown(evidence.reason))
    return "; ".join(words)


def _unknown(evidence: Evidence, workloads: Sequence[Workload], *, colour: bool) -> str:
    reasons: dict[str, int] = {}
    for workload in workloads:
        for reason, number in workload.reasons.items():
            reasons[reason] = reasons.get(reason, 0) + number
    if not reasons and not evidence.unseen:
        return ""
    head = painted("Unknown, which is not the same as unused:", "yellow", colour)
    lines = [
        f"  {_many(number, 'instance')}: {shown(reason)}"
        for reason, number in sorted(reasons.items(), key=lambda item: -item[1])[:REASONS_MAX]
    ]
    if evidence.unseen:
        names = [str(target) for target, _ in evidence.unseen[:TARGETS_MAX]]
        more = f" and {len(evidence.unseen) - TARGETS_MAX:,} more" if len(evidence.unseen) > TARGETS_MAX else ""
        lines.append(f"  not answered in {', '.join(names)}{more}: `imdsctl evidence --missing` asks there again")
    return "\n".join([head, *lines])


def _totals(evidence: Evidence, workloads: Sequence[Workload], *, colour: bool) -> str:
    counts = dict.fromkeys(Use, 0)
    for workload in workloads:
        for use in Use:
            counts[use] += workload.counts[use]
    said = ", ".join(painted(f"{counts[use]:,} {use}", _COLOURS[use], colour) for use in Use if counts[use]) or "none"
    return (
        f"IMDSv1 in the {length_text(evidence.look_back)} before {_time(evidence.taken)}: "
        f"{said} of {_many(sum(counts.values()), 'instance')}, scan {evidence.scan_id}"
    )


def _next_step(workloads: Sequence[Workload]) -> str:
    uses = {each.use for each in workloads}
    if not uses:
        return "No instance that the scan saw there allows IMDSv1: there is nothing to ask about."
    if Use.USED in uses:
        return "Next: mend what still uses IMDSv1, or plan it into a later wave; `imdsctl plan` reads this evidence."
    if Use.UNKNOWN in uses:
        return "Next: wait until CloudWatch has datapoints, or ask CloudTrail (`--cloudtrail`); then `imdsctl plan`."
    return "Next: `imdsctl plan` reads this evidence."


def length_text(length: timedelta) -> str:
    """`14 days`, `36 hours`."""
    if length.total_seconds() % 86_400 == 0:
        return _many(length.days, "day")
    hours = length.total_seconds() / 3600
    return _many(int(hours), "hour") if hours == int(hours) else _many(int(length.total_seconds() // 60), "minute")


def _span_text(span: Span) -> str:
    return f"{length_text(timedelta(seconds=span.period))} a datapoint"


def _time(at: datetime | None) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC" if at is not None else "-"


def _many(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def evidence_json(
    evidence: Evidence, workloads: Sequence[Workload], how: RollUp, price: Price | None, notes: Sequence[str] = ()
) -> str:
    """Everything that is known, instance by instance; `asked` is null when nothing was asked this time."""
    counts = dict.fromkeys(Use, 0)
    for each in evidence.instances.values():
        counts[each.use] += 1
    return document(
        "evidence",
        scan_id=evidence.scan_id,
        taken=evidence.taken,
        look_back_seconds=int(evidence.look_back.total_seconds()),
        asked=None
        if price is None
        else {"metrics": price.metrics, "calls": price.calls, "usd_estimate": float(price.usd)},
        totals={str(use): number for use, number in counts.items()},
        roll_up=str(how),
        workloads=[_workload_json(each) for each in workloads],
        instances=[instance_json(each) for each in evidence.instances.values()],
        unseen=[
            {"account_id": target.account_id, "region": target.region, "reason": reason}
            for target, reason in evidence.unseen
        ],
        notes=list(notes),
    )


def instance_json(evidence: InstanceEvidence) -> dict[str, Any]:
    """One instance's evidence."""
    return {
        "account_id": evidence.target.account_id,
        "region": evidence.target.region,
        "instance_id": evidence.instance_id,
        "use": str(evidence.use),
        "no_token": evidence.no_token,
        "rejected": evidence.rejected,
        "role_delivery_v1": evidence.role_delivery_v1,
        "last_used": evidence.last_used,
        "since": evidence.since,
        "reason": evidence.reason,
    }


def _workload_json(workload: Workload) -> dict[str, Any]:
    target = workload.key.target
    return {
        "kind": str(workload.key.kind),
        "name": workload.key.name,
        "label": workload.label,
        "account_id": target.account_id if target else None,
        "region": target.region if target else None,
        "use": str(workload.use),
        "instances": {str(use): workload.counts[use] for use in Use},
        "calls": workload.calls,
        "last_used": workload.last_used,
        "role_delivery_v1": workload.role_delivery_v1,
        "look_at": [
            {
                "instance_id": each.instance_id,
                "region": each.target.region,
                "account_id": each.target.account_id,
                "calls": calls_of(each),
            }
            for each in workload.used
        ],
    }
