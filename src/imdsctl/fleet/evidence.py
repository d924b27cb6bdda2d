"""Evidence of IMDSv1 use for a scan: CloudWatch is asked for every target in its own Region, as its own account."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias

from imdsctl.domain.evidence import Evidence, InstanceEvidence
from imdsctl.domain.metric_asks import Ask, Budget, Price, Span, asks_of
from imdsctl.domain.metric_evidence import evidence_of
from imdsctl.domain.observations import RegionSeen, Target
from imdsctl.fleet import limits
from imdsctl.fleet.metric_data import Answer, ask_cloudwatch
from imdsctl.fleet.ports import Aws, Credentials, Unreachable
from imdsctl.fleet.targets import code_of, said
from imdsctl.wire.errors import ServiceError

Enter: TypeAlias = Callable[[str], Awaitable[Credentials | None]]
"""Credentials inside an account, by its id. Raises ServiceError and Unreachable (`fleet.sessions.Sessions`)."""


@dataclass(frozen=True, slots=True)
class TargetAsked:
    """A target's questions are answered, or were refused."""

    target: Target
    metrics: int
    refused: bool


Listener: TypeAlias = Callable[[TargetAsked], None]


def ignore(event: TargetAsked) -> None:
    """The listener of somebody who does not want to know."""


def questions(regions: Iterable[RegionSeen], span: Span, *, everything: bool = False) -> Iterator[Ask]:
    """What `gather` would ask, in the same order, without asking."""
    for region in regions:
        yield from asks_of(region, span, everything=everything)


async def gather(
    aws: Aws,
    enter: Enter,
    regions: Iterable[RegionSeen],
    span: Span,
    *,
    scan_id: str,
    look_back: timedelta,
    budget: Budget,
    everything: bool = False,
    tell: Listener = ignore,
) -> tuple[Evidence, Price]:
    """Ask for the instances that allow IMDSv1 (with `everything`, for all) and give the evidence and what it cost.

    `regions` is gone through once, a few targets at a time. Refusals never raise: they are `Evidence.unseen`, and the
    reason of each instance.
    """
    found = _Found()
    waiting = iter(regions)

    async def work() -> None:
        for region in waiting:
            asks = asks_of(region, span, everything=everything)
            if asks:
                tell(await _target(aws, enter, region, asks, span, budget, found))

    async with asyncio.TaskGroup() as group:
        for _ in range(limits.TARGETS_CONCURRENT_MAX):
            group.create_task(work())
    evidence = Evidence(
        scan_id,
        span.end,
        look_back,
        dict(sorted(found.instances.items())),
        tuple(sorted(found.unseen)),
        found.price.metrics,
    )
    return evidence, found.price


@dataclass(slots=True)
class _Found:
    instances: dict[tuple[Target, str], InstanceEvidence] = field(default_factory=dict)
    unseen: list[tuple[Target, str]] = field(default_factory=list)
    price: Price = field(default_factory=Price)


async def _target(
    aws: Aws, enter: Enter, region: RegionSeen, asks: Iterable[Ask], span: Span, budget: Budget, found: _Found
) -> TargetAsked:
    seen = {each.instance_id: each for each in region.instances}
    metrics, reasons = 0, []
    for ask in asks:
        answer = await answered(aws, enter, ask, span, budget)
        found.price += answer.price
        metrics += answer.price.metrics
        if answer.reason:
            reasons.append(answer.reason)
        for instance_id in ask.instance_ids:
            found.instances[ask.target, instance_id] = evidence_of(
                ask.target,
                instance_id,
                ask.metric,
                span,
                answer.counts.get(instance_id),
                seen=seen.get(instance_id),
                failed=answer.failed.get(instance_id),
            )
    if reasons:
        found.unseen.append((region.target, reasons[0]))
    return TargetAsked(region.target, metrics, bool(reasons))


async def answered(aws: Aws, enter: Enter, ask: Ask, span: Span, budget: Budget) -> Answer:
    """One question, asked inside its account. Refusals are in the answer."""
    try:
        credentials = await enter(ask.target.account_id)
    except (ServiceError, Unreachable) as error:
        budget.begin(ask)
        answer = Answer()
        answer.fail(ask.instance_ids, f"the account could not be entered: {said(error)} ({code_of(error)})")
        return answer
    return await ask_cloudwatch(aws, credentials, ask, span, budget)
