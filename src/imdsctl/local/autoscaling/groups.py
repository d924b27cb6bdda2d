"""Auto Scaling groups: create, change, describe, delete.

Source: Amazon EC2 Auto Scaling API Reference, the pages of the operations; User Guide, "Auto Scaling groups". What a
group does by itself is in `reconcile`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imdsctl.local.autoscaling.common import (
    changeable_group,
    invalid,
    listed,
    matching,
    name_of,
    reads,
    scaling,
    stamp,
    the_group,
    wake,
    writes,
)
from imdsctl.local.autoscaling.configurations import add_configuration, from_instance
from imdsctl.local.autoscaling.linked_role import linked_role
from imdsctl.local.autoscaling.members import rendered_member
from imdsctl.local.autoscaling.policies import check_source, source_of
from imdsctl.local.autoscaling.settings import places_of, settings_of
from imdsctl.local.autoscaling.state import Group, Source
from imdsctl.local.autoscaling.tags import rendered_tags, tags_of
from imdsctl.local.call import AwsError, Call
from imdsctl.local.constraints import check_range, check_required

GROUPS_MAX = 500
"""User Guide, "Quotas for Auto Scaling resources and groups"."""


def create_auto_scaling_group(call: Call) -> dict[str, Any]:
    """Make a group; it launches its instances by itself.

    Raises AlreadyExists, LimitExceeded and ValidationError. What RunInstances would refuse is refused here,
    HttpTokensEnforced excepted: that is asked at each launch.
    """
    state, params = scaling(call), call.params
    name = name_of(call, "AutoScalingGroupName")
    if name in state.groups:
        raise AwsError(
            "AlreadyExists",
            f"AutoScalingGroup by this name already exists - A group with the name {name} already exists",
            400,
        )
    if len(state.groups) >= GROUPS_MAX:
        raise AwsError("LimitExceeded", f"You have reached your limit of {GROUPS_MAX} Auto Scaling groups.", 400)
    _refuse_what_is_not_here(params)
    for member in ("MinSize", "MaxSize"):
        check_required(params.get(member), member[:1].lower() + member[1:], invalid)
    least, most = params["MinSize"], params["MaxSize"]
    desired = params.get("DesiredCapacity")
    desired = least if desired is None else desired
    _check_sizes(least, most, desired)
    tags = tags_of(params.get("Tags"))
    settings = settings_of(params)
    zones, subnets = places_of(state.ec2, params)
    # Made from an instance, the group gets a launch configuration of its own name.
    template = from_instance(call, params["InstanceId"]) if params.get("InstanceId") else None
    if template is not None and name in state.configurations:
        raise AwsError(
            "AlreadyExists",
            f"Launch Configuration by this name already exists - A launch configuration already exists with the name "
            f"{name}",
            400,
        )
    source = source_of(state, params)
    if template is not None:
        source = Source(configuration=name)
    if source is None:
        raise invalid(
            "Valid requests must contain either LaunchTemplate, LaunchConfigurationName, InstanceId or "
            "MixedInstancesPolicy parameter."
        )
    if not zones and template is not None:
        zones = [state.ec2.instances[params["InstanceId"]].subnet.zone.name]
    if not zones:
        raise invalid("At least one Availability Zone or VPC Subnet is required.")
    if template is None:
        check_source(call, state, source, subnets, zones)
    role = linked_role(call, params.get("ServiceLinkedRoleARN"))
    if template is not None:
        add_configuration(call, state, name, template)
    arn = (
        f"arn:aws:autoscaling:{call.region}:{call.account_id}:autoScalingGroup:{call.ids.uuid()}:"
        f"autoScalingGroupName/{name}"
    )
    made = role()
    group = Group(
        name=name,
        arn=arn,
        created=call.now,
        source=source,
        least=least,
        most=most,
        desired=desired,
        zones=zones,
        subnets=subnets,
        role=made.name,
        role_arn=made.arn,
        role_id=made.id,
        settings=settings,
        tags=tags,
        protect_new=bool(params.get("NewInstancesProtectedFromScaleIn")),
    )
    state.groups[name] = group
    wake(
        call,
        group,
        f"At {stamp(call.now)} a user request created an AutoScalingGroup changing the desired capacity from 0 to "
        f"{desired}.",
    )
    return {}


def _refuse_what_is_not_here(params: Mapping[str, Any]) -> None:
    """Refuse what needs a service that the local AWS does not have, where AWS would look for it and not find it."""
    if params.get("LoadBalancerNames"):
        raise invalid("Provided Load Balancers may not be valid. Please ensure they exist and try again.")
    if params.get("TargetGroupARNs"):
        raise invalid("Provided Target Groups may not be valid. Please ensure they exist and try again.")
    if params.get("TrafficSources"):
        raise invalid("Provided Traffic Sources may not be valid. Please ensure they exist and try again.")
    if params.get("LifecycleHookSpecificationList"):
        raise AwsError("UnsupportedOperation", "The local AWS of imdsctl does not implement lifecycle hooks.", 400)


def _check_sizes(least: int, most: int, desired: int) -> None:
    for value, member in ((least, "minSize"), (most, "maxSize"), (desired, "desiredCapacity")):
        check_range(value, member, invalid, 0, 10_000)
    if most < least:
        raise invalid(f"Max bound, {most}, must be greater than or equal to min bound, {least}")
    if not least <= desired <= most:
        raise invalid(f"Desired capacity:{desired} must be between the specified min size:{least} and max size:{most}")


def update_auto_scaling_group(call: Call) -> dict[str, Any]:
    """Change what the request names; a size outside new bounds moves the desired capacity to the bound.

    Instances that run stay as they are. Raises ValidationError, and ScalingActivityInProgress for a group that is
    being deleted.
    """
    state, params, group = scaling(call), call.params, changeable_group(call)
    least = group.least if params.get("MinSize") is None else params["MinSize"]
    most = group.most if params.get("MaxSize") is None else params["MaxSize"]
    desired = params.get("DesiredCapacity")
    if desired is None:
        desired = min(max(group.desired, least), most) if least <= most else group.desired
    _check_sizes(least, most, desired)
    settings = settings_of(params, group.settings)
    zones, subnets = places_of(state.ec2, params)
    source = source_of(state, params) or group.source
    if not zones:
        zones, subnets = group.zones, group.subnets
    role = linked_role(call, params["ServiceLinkedRoleARN"]) if params.get("ServiceLinkedRoleARN") else None
    if source != group.source:
        check_source(call, state, source, subnets, zones)
    because = ""
    if (least, most, desired) != (group.least, group.most, group.desired):
        because = (
            f"At {stamp(call.now)} a user request update of AutoScalingGroup constraints to min: {least}, max: {most}, "
            f"desired: {desired} changing the desired capacity from {group.desired} to {desired}."
        )
    group.least, group.most, group.desired = least, most, desired
    group.settings, group.zones, group.subnets, group.source = settings, zones, subnets, source
    if role is not None:
        made = role()
        group.role, group.role_arn, group.role_id = made.name, made.arn, made.id
    if params.get("NewInstancesProtectedFromScaleIn") is not None:
        group.protect_new = params["NewInstancesProtectedFromScaleIn"]
    wake(call, group, because)
    return {}


def set_desired_capacity(call: Call) -> dict[str, Any]:
    """Set the desired capacity within the bounds. Raises ValidationError."""
    group, wanted = changeable_group(call), call.params.get("DesiredCapacity")
    check_required(wanted, "desiredCapacity", invalid)
    assert wanted is not None
    if wanted > group.most:
        raise invalid(
            f"New SetDesiredCapacity value {wanted} is above max value {group.most} for the AutoScalingGroup."
        )
    if wanted < group.least:
        raise invalid(
            f"New SetDesiredCapacity value {wanted} is below min value {group.least} for the AutoScalingGroup."
        )
    because = (
        f"At {stamp(call.now)} a user request explicitly set group desired capacity changing the desired capacity from "
        f"{group.desired} to {wanted}."
    )
    changed = group.desired != wanted
    group.desired = wanted
    wake(call, group, because if changed else "")
    return {}


def delete_auto_scaling_group(call: Call) -> dict[str, Any]:
    """Delete a group without instances; with ForceDelete terminate them first.

    Raises ResourceInUse, ScalingActivityInProgress, ValidationError.
    """
    state, group = scaling(call), the_group(call)
    force = bool(call.params.get("ForceDelete"))
    protection = group.settings.get("DeletionProtection", "none")
    if protection == "prevent-all-deletion" or (protection == "prevent-force-deletion" and force):
        raise AwsError(
            "ResourceInUse", f"You cannot delete this AutoScalingGroup: its deletion protection is {protection}.", 400
        )
    if not force and any(each.started or each.leaving for each in group.members.values()):
        raise AwsError(
            "ScalingActivityInProgress",
            "You cannot delete an AutoScalingGroup while there are scaling activities in progress for that group.",
            400,
        )
    if not force and group.members:
        raise AwsError(
            "ResourceInUse",
            "You cannot delete an AutoScalingGroup while there are instances or pending Spot instance request(s) still "
            "in the group.",
            400,
        )
    if not group.members:
        state.ended.extend((group.name, group.arn, each) for each in group.activities)
        del state.groups[group.name]
        return {}
    group.deleting = True
    group.least = group.most = group.desired = 0
    wake(call, group)
    return {}


def rendered(group: Group, *, instances: bool = True) -> dict[str, Any]:
    """AWS's `AutoScalingGroup`."""
    out: dict[str, Any] = {
        "AutoScalingGroupName": group.name,
        "AutoScalingGroupARN": group.arn,
        "MinSize": group.least,
        "MaxSize": group.most,
        "DesiredCapacity": group.desired,
        "AvailabilityZones": group.zones,
        "LoadBalancerNames": [],
        "TargetGroupARNs": [],
        "CreatedTime": group.created,
        "SuspendedProcesses": [
            {"ProcessName": name, "SuspensionReason": reason} for name, reason in sorted(group.suspended.items())
        ],
        "VPCZoneIdentifier": ",".join(group.subnets),
        "EnabledMetrics": [{"Metric": each, "Granularity": "1Minute"} for each in group.metrics],
        "Tags": rendered_tags(group),
        "NewInstancesProtectedFromScaleIn": group.protect_new,
        "ServiceLinkedRoleARN": group.role_arn,
        "TrafficSources": [],
        **group.settings,
    }
    if instances:
        out["Instances"] = [rendered_member(each) for each in group.members.values()]
    if group.source.configuration is not None:
        out["LaunchConfigurationName"] = group.source.configuration
    if group.source.template is not None:
        out["LaunchTemplate"] = group.source.template
    if group.source.mixed is not None:
        out["MixedInstancesPolicy"] = group.source.mixed
    if group.deleting:
        out["Status"] = "Delete in progress"
    return out


def describe_auto_scaling_groups(call: Call) -> dict[str, Any]:
    """All groups, or those that are named or let through by filters on tags; a name that is none is left out."""
    names = call.params.get("AutoScalingGroupNames")
    found = sorted(scaling(call).groups.values(), key=lambda each: each.name)
    if names:
        found = [each for each in found if each.name in names]
    found = matching(
        found,
        call.params.get("Filters"),
        {
            "tag-key": lambda group: list(group.tags),
            "tag-value": lambda group: [tag.value for tag in group.tags.values()],
            "tag:": lambda group: [f"{key}={tag.value}" for key, tag in group.tags.items()],
        },
    )
    whole = call.params.get("IncludeInstances") is not False
    return listed(call, "AutoScalingGroups", found, lambda each: rendered(each, instances=whole))


OPERATIONS = {
    **writes(create_auto_scaling_group, update_auto_scaling_group, delete_auto_scaling_group, set_desired_capacity),
    **reads(describe_auto_scaling_groups),
}
