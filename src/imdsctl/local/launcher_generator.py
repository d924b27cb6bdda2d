"""What keeps launching in a generated Region: Auto Scaling groups, beside the fleets of `fleet_generator`.

Everything follows from what the Region has already; nothing is taken from its random numbers, so that the rest of the
fleet stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from hashlib import blake2b
from uuid import UUID

from imdsctl.local.autoscaling.settings import DEFAULTS
from imdsctl.local.autoscaling.source import GROUP_TAG, ROLE_NAME, ROLE_PATH
from imdsctl.local.autoscaling.state import IN_SERVICE, Group, GroupTag, Member, ScalingState, Source
from imdsctl.local.ec2.resources import RUNNING, LaunchTemplate
from imdsctl.local.ec2.state import RegionState

_AGE = timedelta(days=420)
_DISTRIBUTION = {
    "OnDemandAllocationStrategy": "prioritized",
    "OnDemandBaseCapacity": 0,
    "OnDemandPercentageAboveBaseCapacity": 50,
    "SpotAllocationStrategy": "price-capacity-optimized",
}


def generate_launchers(
    state: RegionState, created: datetime, templates: Mapping[str, LaunchTemplate], *, old_stack: bool = True
) -> None:
    """Fill a Region that has its instances, templates and launch configurations.

    Without the `old_stack` no group launches from the launch configuration that asks for IMDSv1, so that a plan can set
    everything right that launches.
    """
    assert state.scaling is not None
    made = created - _AGE
    _ecs_hosts(state, state.scaling, made, templates["ecs-hosts"])
    if old_stack:
        _group(state, state.scaling, "web-blue", made, Source(configuration="web-blue"))
    web, batch = _named(templates["web"], "$Default"), _named(templates["batch"], "$Latest")
    mixed = {
        "LaunchTemplate": {
            "LaunchTemplateSpecification": web,
            "Overrides": [
                {"InstanceType": "t3.large"},
                {"InstanceType": "m6i.large", "LaunchTemplateSpecification": batch},
            ],
        },
        "InstancesDistribution": _DISTRIBUTION,
    }
    _group(state, state.scaling, "web-mixed", made, Source(mixed=mixed))


def _named(template: LaunchTemplate, version: str) -> dict[str, str]:
    return {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name, "Version": version}


def _ecs_hosts(state: RegionState, scaling: ScalingState, made: datetime, template: LaunchTemplate) -> None:
    """The groups that instances are tagged with; not all of them came from the template that the group has today."""
    members: dict[str, list[Member]] = {"ecs-hosts": []}
    for instance in state.instances.values():
        name = state.tags.get(instance.id, {}).get(GROUP_TAG)
        if name is None or instance.state != RUNNING:
            continue
        member = Member(
            instance.id,
            instance.instance_type,
            instance.image_id,
            instance.subnet.zone,
            instance.launch_time,
            lifecycle=IN_SERVICE,
            template=_named(template, "1"),
        )
        members.setdefault(name, []).append(member)
    for name, inside in members.items():
        group = _group(state, scaling, name, made, Source(template=_named(template, "$Default")))
        group.desired, group.most = len(inside), max(2 * len(inside), 1)
        group.members = {each.instance_id: each for each in inside}
        state.scaled.update((each.instance_id, name) for each in inside)


def _group(state: RegionState, scaling: ScalingState, name: str, made: datetime, source: Source) -> Group:
    subnets = list(state.subnets.values())
    group = scaling.groups[name] = Group(
        name=name,
        arn=f"arn:aws:autoscaling:{state.region}:{state.account_id}:autoScalingGroup:{_uuid(state, name)}:"
        f"autoScalingGroupName/{name}",
        created=made,
        source=source,
        least=0,
        most=4,
        desired=0,
        zones=sorted({each.zone.name for each in subnets}),
        subnets=[each.id for each in subnets],
        role=ROLE_NAME,
        role_arn=f"arn:aws:iam::{state.account_id}:role{ROLE_PATH}{ROLE_NAME}",
        role_id="AROA" + blake2b(state.account_id.encode(), digest_size=9).hexdigest()[:17].upper(),
        settings=dict(DEFAULTS),
        tags={"Team": GroupTag("platform", propagate=True)},
    )
    return group


def _uuid(state: RegionState, name: str) -> UUID:
    place = f"{state.account_id}/{state.region}/{name}"
    return UUID(bytes=blake2b(place.encode(), digest_size=16).digest(), version=4)
