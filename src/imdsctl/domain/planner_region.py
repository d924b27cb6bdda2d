"""The plan of one account in one Region: what each part needs, and whether enforcement can follow."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from functools import lru_cache

from imdsctl.domain.intent import Intent
from imdsctl.domain.intent_match import Home
from imdsctl.domain.observations import LaunchSource, RegionSeen
from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions, Switch
from imdsctl.domain.plan import Change, Gap, Stage, Surface, change_id
from imdsctl.domain.planner_groups import Groups
from imdsctl.domain.planner_here import Here, some
from imdsctl.domain.planner_hops import hop_limit
from imdsctl.domain.planner_images import plan_images
from imdsctl.domain.planner_instances import Instances
from imdsctl.domain.planner_launches import LAUNCHES_IN_THE_ACCOUNT, State, would_fail
from imdsctl.domain.planner_services import allows_v1 as service_allows_v1
from imdsctl.domain.planner_services import plan_services, service_gaps
from imdsctl.domain.planner_templates import TemplatePlans, plan_templates
from imdsctl.domain.precedence import Layer

_ACCOUNT = "account"
DEFAULTS_REMEMBERED_MAX = 256
LAUNCH_PARTS = frozenset(
    {
        "defaults",
        "templates",
        "template versions in use",
        "launch configurations",
        "Auto Scaling groups",
        "EC2 Fleets",
        "Spot Fleet requests",
        "Spot requests",
        "Elastic Beanstalk environments",
        "EKS node groups",
        "EMR security configurations",
        "Image Builder infrastructure configurations",
    }
)
"""`Unseen.what` of what may launch, or decides what it gets: enforcement waits until it was read."""
SERVICES_LEFT_OUT = (
    "what EKS, Elastic Beanstalk, EMR and Image Builder launch was left out of the scan: scan again without "
    "`--no-services`, then plan again"
)
LAUNCH_KINDS = ("template lt-", "launch configuration ")
"""How `Unseen.what` begins of one of them whose options could not be read: it does not say nothing."""


def plan_region(here: Here) -> tuple[Gap, ...]:
    """Fill `here` with the changes of its target. Gives what could not be judged."""
    planned = here.defaults
    images = plan_images(here)
    if here.region.defaults is not None:
        change, after = _default_change(here, images)
        if change is not None and here.admit(change, here.exemption_here):
            planned = after
    state = State(planned, images=images)
    templates = plan_templates(here, state)
    state = replace(state, templates=templates.said)
    instances = Instances(here)
    groups = Groups(here, state, instances)
    groups.plan()
    refreshed: set[str] = set()
    for refresh in groups.refreshes():
        if here.admit(refresh, None):
            refreshed.update(refresh.before["Instances"])
    instances.plan(frozenset(refreshed))
    plan_services(here)
    _enforcement(here, state, templates)
    _order(here)
    return tuple(service_gaps(here))


# The Region default


def _default_change(here: Here, images: frozenset[str]) -> tuple[Change | None, AccountDefaults]:
    """The change of the Region default, and what the Region default is after it."""
    defaults, wanted = here.defaults, here.intent.region_defaults
    after = wanted.options.differing_from(defaults.options())
    container = _first_container(here) if wanted.hop_limit_auto else None
    now = defaults.http_put_response_hop_limit
    hop, rule = hop_limit(wanted, now, container, here.intent, tokens_change=False)
    if wanted.hop_limit_auto and container is None:
        # Saying 1 here would take the 2 away that an image with v2.0 brings along.
        hop, rule = None, ""
    if hop is not None:
        after = MetadataOptions(http_put_response_hop_limit=hop).over(after)
    if not after:
        return None, defaults
    reasons = []
    if after.http_tokens is not None:
        reasons.append(
            "no default: a launch that says nothing gets IMDSv1"
            if defaults.http_tokens is None
            else f"the default is {defaults.http_tokens}: a launch that says nothing gets IMDSv1"
        )
    if hop is not None:
        reasons.append(
            rule if "auto" in rule or "exactly" in rule else f"containers need a hop limit of {hop} to get a token"
        )
    state = State(_updated(defaults, after), images=images)
    held = ""
    if defaults.managed_by != _ACCOUNT:
        held = f"a {defaults.managed_by} decides the Region default: change the policy in Organizations"
    elif silent := here.exempt_and_losing(State(defaults), state):
        held = (
            f"{some(silent)} is exempt and says nothing, so that this would take IMDSv1 from its next launch: let it "
            "say HttpTokens itself, then plan again"
        )
    wave = _wave_of_the_whole(here)
    change = Change(
        id=change_id(here.region.target, Surface.REGION_DEFAULT, ""),
        stage=Stage.REGION_DEFAULTS,
        surface=Surface.REGION_DEFAULT,
        target=here.region.target,
        resource=here.region.target.region,
        before=defaults.to_aws(),
        after=after.to_aws(),
        reason="; ".join(reasons) or "the intent wants it",
        risk="new launches that say nothing get IMDSv2 only; what runs stays as it is",
        held=held or here.unassigned(wave),
        wave=here.wave_name(wave),
        evidence=here.use_of(here.region.instances),
        blast_radius=tuple(_decided(here, state)),
        gate=here.gate(wave),
    )
    return change, state.defaults


@lru_cache(maxsize=DEFAULTS_REMEMBERED_MAX)
def _updated(defaults: AccountDefaults, after: MetadataOptions) -> AccountDefaults:
    """A Region default once it is changed: an organization has few different ones."""
    return defaults.updated(after.to_aws())


def _first_container(here: Here) -> str | None:
    """Why containers run in this Region: the first thing that says so."""
    for instance in sorted(here.region.instances, key=lambda each: each.instance_id):
        if found := here.container(instance.instance_id, instance.tags):
            return found
    for version in sorted(here.region.templates, key=lambda each: (each.template_id, each.version)):
        if found := here.container(version.template_id, version.tags, version.template_name):
            return found
    return next(iter(here.containers.values()), None)


def _decided(here: Here, state: State) -> Iterator[str]:
    """Which launch sources this Region default decides HttpTokens for, beside every launch that says nothing."""
    decided = []
    total = 0
    for launcher in here.launches.all():
        resolution = here.launches.resolution(launcher.source, state)
        if resolution is not None:
            total += 1
            if resolution.http_tokens.layer is Layer.ACCOUNT_DEFAULT:
                decided.append(launcher.title)
    if total:
        names = f": {some(decided)}" if decided else ""
        yield f"decides HttpTokens of {len(decided)} of {total} launch sources{names}"
    yield "decides every launch that says nothing itself"


def _wave_of_the_whole(here: Here) -> int:
    """The wave of a Region default.

    The first that matches account and Region as a whole. Where waves pick single resources out of it, the last of the
    waves that its instances, templates, groups and fleets are in: it is about all of them.
    """
    if not here.picky or not here.whole.waves:
        return here.wave_here
    region = here.region
    parts = {here.wave(here.names_of(each), each.tags) for each in region.instances}
    parts |= {here.wave((each.template_id, each.template_name), each.tags) for each in region.templates}
    parts |= {here.wave((each.name,), each.tags) for each in region.groups}
    parts |= {here.wave((each.fleet_id,), each.tags) for each in region.fleets}
    assigned = {each for each in parts if not here.unassigned(each)}
    whole = set() if here.unassigned(here.wave_here) else {here.wave_here}
    return max(assigned | whole, default=here.wave_here)


# Enforcement


def _enforcement(here: Here, state: State, templates: TemplatePlans) -> None:
    planned = state.defaults
    if here.region.defaults is None or not here.intent.enforce or planned.enforced:
        return
    # The last of the waves of everything in the Region: when nothing is left for it to break.
    order = {here.wave_name(wave): wave for wave in range(len(here.whole.waves) + 1)}
    ready = [order[change.wave] for change in here.changes if not change.held]
    wave = max([*ready, _wave_of_the_whole(here)]) if here.whole.waves else here.wave_here
    risk = "a launch that asks for IMDSv1 fails"
    if planned.http_tokens is not HttpTokens.REQUIRED:
        risk += "; so does one that says nothing, because the Region default is not required"
    if templates.refused:
        risk += f"; these will be refused: {', '.join(templates.refused)}"
    held = ""
    failing = list(_failing(here, state))
    if planned.managed_by != _ACCOUNT:
        held = f"a {planned.managed_by} decides HttpTokensEnforced: change the policy in Organizations"
    elif failing:
        held = f"launches would or may fail: {'; '.join(failing)}"
    change = Change(
        id=change_id(here.region.target, Surface.REGION_DEFAULT, "", "enforcement"),
        stage=Stage.ENFORCEMENT,
        surface=Surface.REGION_DEFAULT,
        target=here.region.target,
        resource=here.region.target.region,
        before=planned.to_aws(),
        after={"HttpTokensEnforced": str(Switch.ENABLED)},
        reason="a launch can still choose IMDSv1",
        risk=risk,
        held=held or here.unassigned(wave),
        wave=here.wave_name(wave),
        evidence=here.use_of(here.region.instances),
        blast_radius=(f"judges every launch: {len(here.launches.all())} launch sources were seen",),
        gate=here.gate(wave),
    )
    here.admit(change, here.exemption_here)


def launches_that_would_fail(region: RegionSeen, intent: Intent, now: datetime) -> tuple[str, ...]:
    """Why a Region, as it was just seen, cannot be enforced: the rule by which a plan lets enforcement wait."""
    here = Here(region, Home(region.target.account_id, region.target.region), intent, now, None)
    return tuple(_failing(here, State(here.defaults)))


def _failing(here: Here, state: State) -> Iterator[str]:
    """Why enforcement has to wait: launches that it would refuse once this plan is through, and those nobody saw."""
    for launcher in here.launches.all():
        resolution = here.launches.resolution(launcher.source, state)
        if resolution is None:
            yield f"{launcher.title} was not seen"
        elif would_fail(resolution):
            exemption = here.exemption_of(launcher)
            layer = "launch configuration" if launcher.source.configuration else resolution.http_tokens.layer
            because = f" by {exemption}" if exemption else f", decided by the {layer}"
            yield f"{launcher.title} stays optional{because}"
    for configuration in sorted(here.region.configurations, key=lambda each: each.name):
        if configuration.in_use and not _launched_by_a_group(here, configuration.name):
            resolution = here.launches.resolution(LaunchSource(configuration=configuration.name), state)
            if resolution is not None and would_fail(resolution):
                yield f"launch configuration {configuration.name} stays optional"
    for service in sorted(here.region.services, key=lambda each: (each.kind, each.resource)):
        if service.kind in LAUNCHES_IN_THE_ACCOUNT and service.in_use and service_allows_v1(service):
            yield f"{service.kind} {service.name or service.resource} stays optional"
    for part in here.region.unseen:
        if part.what in LAUNCH_PARTS or part.what.startswith(LAUNCH_KINDS):
            yield f"{part.what} could not be read: {part.reason}"
    if here.services_left_out:
        yield SERVICES_LEFT_OUT


def _launched_by_a_group(here: Here, configuration: str) -> bool:
    return any(source.configuration == configuration for group in here.region.groups for source in group.sources)


# What has to wait for what


def _order(here: Here) -> None:
    """An instance refresh comes no earlier than the changes that its launches need: with the last of their waves."""
    if len(here.whole.waves) < 2:
        return
    order = {here.wave_name(wave): wave for wave in range(len(here.whole.waves) + 1)}
    launching = {change.resource: order[change.wave] for change in here.changes if _matters_to_launches(change)}
    groups = {group.name: group for group in here.region.groups}
    for position, change in enumerate(here.changes):
        if change.stage is Stage.REFRESHES:
            sources = groups[change.resource].sources
            needed = {here.launches.template_id(source) for source in sources} | {here.region.target.region}
            needed |= {source.image_id for source in sources}
            wave = max([order[change.wave], *(launching[each] for each in needed if each in launching)])
            if wave != order[change.wave]:
                here.changes[position] = replace(change, wave=here.wave_name(wave), gate=here.gate(wave))


def _matters_to_launches(change: Change) -> bool:
    return not change.held and change.stage in (Stage.IMAGES, Stage.LAUNCH_TEMPLATES, Stage.REGION_DEFAULTS)
