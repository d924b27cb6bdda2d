"""Is the fleet as intended? A scan judged against an intent: nothing left to plan and nothing unknown is the proof."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from imdsctl.domain.diagnostics import Diagnostic
from imdsctl.domain.exposure import Verdict, instance_exposure
from imdsctl.domain.intent import Intent, expired
from imdsctl.domain.observations import AccountUnseen, RegionSeen, Scan
from imdsctl.domain.plan import Exempt, Plan
from imdsctl.domain.planner import make_plan
from imdsctl.domain.scope import services_left_out
from imdsctl.domain.verdicts import NOT_INSPECTABLE, region_default_exposure, template_exposure
from imdsctl.fleet.launch_dry_run import GOOD, DryRun, Launches


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
    expired: tuple[Diagnostic, ...] = ()
    """Exceptions of the intent that no longer hold."""
    dry_runs: tuple[DryRun, ...] = ()
    not_inspectable: tuple[AccountUnseen, ...] = ()
    """Regions that an account has not enabled, and accounts that let nobody in: what is in them nobody can see, and
    nothing can be launched there. They are no obstacle, and no proof either."""
    services_left_out: bool = False
    """True when other services were not asked: nothing is proven of their settings."""

    @property
    def proven(self) -> bool:
        """True when every target was seen and nothing is left to change. Nothing seen proves nothing."""
        seen = bool(self.targets) and self.plan.complete
        return seen and not self.plan.changes and not self.expired and not self.launching_otherwise

    @property
    def launching_otherwise(self) -> tuple[DryRun, ...]:
        """Launch sources that do not launch what the intent wants, or of which AWS does not tell."""
        good = GOOD if self.plan.intent.enforce else GOOD | {Launches.V1}
        accepted = {each.subject for each in self.accepted}
        return tuple(
            each
            for each in self.dry_runs
            if each.launches not in good
            and not self.plan.intent.excludes(each.target)
            and f"{each.target}/{each.resource}" not in accepted
        )


def verify(scan: Scan, intent: Intent, *, at: datetime) -> Verification:
    """Judge a fresh scan. What the intent leaves exposed is listed, and does not fail: it is the user's own word."""
    plan = make_plan(scan, intent, made_at=at)
    exempt = {_subject(each.id): each for each in plan.exempt}
    planned = {(change.target, change.resource) for change in plan.changes}
    accepted = tuple(
        Accepted(
            f"{region.target}/{resource}" if resource != region.target.region else str(region.target),
            _with_exception(reason, exempt.get((str(region.target), resource))),
        )
        for region in scan.regions
        for resource, reason in _exposed(region)
        if (region.target, resource) not in planned
    )
    shut = tuple(
        each
        for each in scan.unseen
        if each.unseen.code in NOT_INSPECTABLE
        and each.account_id not in intent.exclude_accounts
        and each.region not in intent.exclude_regions
    )
    return Verification(
        plan,
        accepted,
        len(scan.regions),
        expired(intent, at),
        not_inspectable=shut,
        services_left_out=services_left_out(scan.scope),
    )


def _subject(change_id: str) -> tuple[str, str]:
    """Target and resource of a change, from its id."""
    account, region, _, *rest = change_id.split("/")
    return f"{account}/{region}", rest[0] if rest else region


def _with_exception(reason: str, exempt: Exempt | None) -> str:
    if exempt is None:
        return reason
    return f"{reason}; an exception of {exempt.owner} until {exempt.expires.isoformat()}: {exempt.why}"


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
