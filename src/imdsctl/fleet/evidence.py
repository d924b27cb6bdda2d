"""Evidence of IMDSv1 use for a scan: CloudWatch is asked for every target in its own Region, as its own account."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeAlias

from imdsctl.domain.evidence import Evidence, InstanceEvidence, is_missing
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


@dataclass(frozen=True, slots=True)
class StillMissing:
    """The targets of which something is missing in what was gathered before; goes through `regions` anew each time."""

    regions: Iterable[RegionSeen]
    span: Span
    earlier: Evidence
    everything: bool = False

    def __iter__(self) -> Iterator[RegionSeen]:
        for region in self.regions:
            asks = asks_of(region, self.span, everything=self.everything)
            ids = (each for ask in asks for each in ask.instance_ids)
            if is_missing(self.earlier, region.target, ids):
                yield region


@dataclass(slots=True)
class Gathering:
    """What has been gathered so far: of a run that was stopped, what it had paid for."""

    scan_id: str
    span: Span
    look_back: timedelta
    instances: dict[tuple[Target, str], InstanceEvidence] = field(default_factory=dict)
    unseen: list[tuple[Target, str]] = field(default_factory=list)
    price: Price = field(default_factory=Price)

    def evidence(self) -> Evidence:
        """The evidence, in the order of its targets."""
        return Evidence(
            self.scan_id,
            self.span.end,
            self.look_back,
            dict(sorted(self.instances.items())),
            tuple(sorted(self.unseen)),
            self.price.metrics,
        )


async def gather(
    aws: Aws,
    enter: Enter,
    regions: Iterable[RegionSeen],
    into: Gathering,
    budget: Budget,
    *,
    everything: bool = False,
    tell: Listener = ignore,
) -> None:
    """Ask for the instances that allow IMDSv1 (with `everything`, for all). Evidence and price are then in `into`.

    `regions` is gone through once, a few targets at a time. Refusals never raise: they are `Evidence.unseen`, and the
    reason of each instance. A target is in `into` whole or not at all.
    """
    waiting = iter(regions)

    async def work() -> None:
        for region in waiting:
            asks = asks_of(region, into.span, everything=everything)
            if asks:
                tell(await _target(aws, enter, region, asks, into, budget))

    async with asyncio.TaskGroup() as group:
        for _ in range(limits.CALLS_CONCURRENT_MAX):
            group.create_task(work())


async def _target(
    aws: Aws, enter: Enter, region: RegionSeen, asks: Iterable[Ask], into: Gathering, budget: Budget
) -> TargetAsked:
    seen = {each.instance_id: each for each in region.instances}
    found: dict[tuple[Target, str], InstanceEvidence] = {}
    metrics, reasons = 0, []
    for ask in asks:
        answer = await answered(aws, enter, ask, into.span, budget)
        into.price += answer.price
        metrics += answer.price.metrics
        if answer.reason:
            reasons.append(answer.reason)
        for instance_id in ask.instance_ids:
            found[ask.target, instance_id] = evidence_of(
                ask.target,
                instance_id,
                ask.metric,
                into.span,
                answer.counts.get(instance_id),
                seen=seen.get(instance_id),
                failed=answer.failed.get(instance_id),
            )
    into.instances.update(found)
    if reasons:
        into.unseen.append((region.target, reasons[0]))
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
