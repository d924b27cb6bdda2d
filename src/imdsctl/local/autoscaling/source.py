"""What a group launches next: its launch configuration or template, resolved into the parameters of RunInstances.

Source: Amazon EC2 Auto Scaling User Guide, "Launch templates", "Launch configurations" and "Auto Scaling groups with
multiple instance types and purchase options". `$Latest` and `$Default` are looked up at every launch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from imdsctl.local.autoscaling.state import Group, LaunchConfiguration, ScalingState, Source
from imdsctl.local.call import AwsError, Call, Caller, Ids
from imdsctl.local.ec2.launch_templates import DEFAULT, find_template, find_version
from imdsctl.local.ec2.resources import Subnet
from imdsctl.local.ec2.state import RegionState
from imdsctl.local.world import World

ROLE_NAME = "AWSServiceRoleForAutoScaling"
ROLE_PATH = "/aws-service-role/autoscaling.amazonaws.com/"
REQUESTER_ID = "940372691376"
"""The account that Auto Scaling's reservations show as their requester."""

GROUP_TAG = "aws:autoscaling:groupName"


@dataclass(frozen=True, slots=True)
class Recipe:
    """One launch: the parameters of RunInstances (one instance, no subnet yet), and from what they come.

    `template` is AWS's `LaunchTemplateSpecification` with the number of the version.
    """

    params: dict[str, Any]
    configuration: str | None = None
    template: dict[str, str] | None = None
    weight: str | None = None


def recipe(scaling: ScalingState, source: Source, *, spot: bool = False) -> Recipe:
    """The next launch of a source. Raises EC2's AwsError for a template or version that is no more."""
    if source.configuration is not None:
        configuration = scaling.configurations[source.configuration]
        return Recipe(of_configuration(configuration), configuration=configuration.name)
    override: Mapping[str, Any] = {}
    specification = source.template
    if source.mixed is not None:
        template = source.mixed["LaunchTemplate"]
        specification = template["LaunchTemplateSpecification"]
        # The local AWS never runs out of an instance type: the first is had, whatever the allocation strategy.
        override = next(iter(template.get("Overrides") or ()), {})
        specification = override.get("LaunchTemplateSpecification") or specification
    assert specification is not None
    found = find_template(scaling.ec2, specification["LaunchTemplateId"], None)
    version = find_version(found, specification["Version"])
    params: dict[str, Any] = {"LaunchTemplate": {"LaunchTemplateId": found.id, "Version": str(version.number)}}
    for name in ("InstanceType", "ImageId"):
        if override.get(name):
            params[name] = override[name]
    if version.data.get("NetworkInterfaces"):
        params["NetworkInterfaces"] = [dict(each) for each in version.data["NetworkInterfaces"]]
    if spot:
        params["InstanceMarketOptions"] = {"MarketType": "spot"}
    return Recipe(
        params,
        template={
            "LaunchTemplateId": found.id,
            "LaunchTemplateName": found.name,
            "Version": str(version.number),
        },
        weight=override.get("WeightedCapacity"),
    )


def of_configuration(configuration: LaunchConfiguration) -> dict[str, Any]:
    """A launch configuration as parameters of RunInstances.

    Of its MetadataOptions only those it was given count as asked for: the layers below decide the others.
    """
    data = configuration.data
    params = {
        name: data[name]
        for name in ("ImageId", "InstanceType", "KeyName", "UserData", "EbsOptimized", "MetadataOptions")
        if data.get(name)
    }
    if data.get("BlockDeviceMappings"):
        # NoDevice is true or false here, and a text that is there or not in EC2.
        params["BlockDeviceMappings"] = [
            {name: value for name, value in each.items() if name != "NoDevice"}
            | ({"NoDevice": ""} if each.get("NoDevice") else {})
            for each in data["BlockDeviceMappings"]
        ]
    if data.get("InstanceMonitoring", {}).get("Enabled"):
        params["Monitoring"] = {"Enabled": True}
    if data.get("PlacementTenancy"):
        params["Placement"] = {"Tenancy": data["PlacementTenancy"]}
    if data.get("SpotPrice"):
        params["InstanceMarketOptions"] = {"MarketType": "spot"}
    profile = data.get("IamInstanceProfile")
    if profile:
        params["IamInstanceProfile"] = {"Arn" if profile.startswith("arn:") else "Name": profile}
    groups = data.get("SecurityGroups") or []
    if data.get("AssociatePublicIpAddress") is not None:
        interface = {"DeviceIndex": 0, "AssociatePublicIpAddress": data["AssociatePublicIpAddress"]}
        params["NetworkInterfaces"] = [interface | ({"Groups": groups} if groups else {})]
    elif groups:
        params["SecurityGroupIds" if groups[0].startswith("sg-") else "SecurityGroups"] = groups
    return params


def in_subnet(params: Mapping[str, Any], subnet: Subnet) -> dict[str, Any]:
    """The parameters with the subnet: of the network interface where there is one, of the instance otherwise."""
    out = {**params, "MinCount": 1, "MaxCount": 1}
    if out.get("NetworkInterfaces"):
        out["NetworkInterfaces"] = [
            {**each, "SubnetId": subnet.id} if each.get("DeviceIndex", 0) == 0 else each
            for each in out["NetworkInterfaces"]
        ]
    else:
        out["SubnetId"] = subnet.id
    return out


def wants_spot(group: Group, source: Source, on_demand: int) -> bool:
    """Whether the next launch of a mixed instances policy is a Spot Instance, with that much On-Demand capacity."""
    if source.mixed is None:
        return False
    distribution = source.mixed["InstancesDistribution"]
    base, share = distribution["OnDemandBaseCapacity"], distribution["OnDemandPercentageAboveBaseCapacity"]
    above = max(group.desired - base, 0)
    return bool(on_demand >= min(base, group.desired) + math.ceil(above * share / 100))


def next_subnet(group: Group, state: RegionState, crowd: Mapping[str, int]) -> Subnet:
    """Where the group's next instance goes: the zone with fewest of its instances, the roomiest of its subnets there.

    `crowd` says how many of them each zone has. Source: User Guide, "Availability Zone distribution": an even spread.
    """
    allowed = [
        subnet
        for subnet in state.subnets.values()
        if (subnet.id in group.subnets if group.subnets else subnet.zone.name in group.zones)
    ]
    if not allowed:
        raise AwsError("InvalidSubnetID.NotFound", f"The subnet ID '{','.join(group.subnets)}' does not exist", 400)
    return min(allowed, key=lambda each: (crowd.get(each.zone.name, 0), -each.available, each.zone.name))


def service_call(
    world: World, state: RegionState, group: Group, when: datetime, action: str, params: dict[str, Any]
) -> Call:
    """A call to EC2 that the group's service-linked role makes by itself; its ids are counted by the group."""
    group.made += 1
    identity = f"{group.arn}/{group.made}"
    return Call(
        service="ec2",
        action=action,
        caller=Caller(
            state.account_id,
            f"arn:aws:sts::{state.account_id}:assumed-role/{group.role}/AutoScaling",
            f"{group.role_id}:AutoScaling",
            "",
        ),
        account_id=state.account_id,
        region=state.region,
        params=params,
        now=when,
        request_id=Ids(world.seed, f"{identity}/request").uuid(),
        ids=Ids(world.seed, identity),
        world=world,
    )


def service_params(call: Call, params: Mapping[str, Any]) -> Call:
    """A RunInstances of one instance with these parameters, to be looked at and not run."""
    return replace(call, service="ec2", action="RunInstances", params={**params, "MinCount": 1, "MaxCount": 1})


def specification_of(state: RegionState, given: Mapping[str, Any]) -> dict[str, str]:
    """A request's `LaunchTemplateSpecification`, with id, name and version.

    Raises EC2's AwsError when there is no such template or version.
    """
    template = find_template(state, given.get("LaunchTemplateId") or None, given.get("LaunchTemplateName") or None)
    version = given.get("Version") or DEFAULT
    find_version(template, version)
    return {"LaunchTemplateId": template.id, "LaunchTemplateName": template.name, "Version": version}
