"""Is the fleet as intended? A scan judged against an intent: nothing left to plan and nothing unknown is the proof."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from imdsctl.domain.exposure import Verdict, instance_exposure
from imdsctl.domain.intent import Intent
from imdsctl.domain.observations import RegionSeen, Scan
from imdsctl.domain.plan import Plan
from imdsctl.domain.planner import make_plan
from imdsctl.domain.verdicts import region_default_exposure, template_exposure


@dataclass(frozen=True, slots=True)
class Accepted:
    """Something exposed that the intent leaves alone, by an exclusion or by not asking for it."""

    subject: str
    reason: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What is left: `plan` holds the changes (deferred ones too) and the unknowns. `targets` were read."""

    plan: Plan
    accepted: tuple[Accepted, ...]
    targets: int

    @property
    def proven(self) -> bool:
        """True when every target was seen and nothing is left to change. Nothing seen proves nothing."""
        return bool(self.targets) and self.plan.complete and not self.plan.changes


def verify(scan: Scan, intent: Intent, *, at: datetime) -> Verification:
    """Judge a fresh scan. What the intent leaves exposed is listed, and does not fail: it is the user's own word."""
    plan = make_plan(scan, intent, made_at=at)
    planned = {(change.target, change.resource) for change in plan.changes}
    accepted = tuple(
        Accepted(f"{region.target}/{resource}" if resource != region.target.region else str(region.target), reason)
        for region in scan.regions
        for resource, reason in _exposed(region)
        if (region.target, resource) not in planned
    )
    return Verification(plan, accepted, len(scan.regions))


def _exposed(region: RegionSeen) -> Iterator[tuple[str, str]]:
    default = region_default_exposure(region)
    if default.verdict is Verdict.EXPOSED:
        yield region.target.region, default.reason
    for instance in region.instances:
        exposure = instance_exposure(instance.options)
        if exposure.verdict is Verdict.EXPOSED:
            yield instance.instance_id, exposure.reason
    for template in region.templates:
        exposure = template_exposure(region, template)
        if exposure.verdict is Verdict.EXPOSED:
            yield template.template_id, f"version {template.version}: {exposure.reason}"
