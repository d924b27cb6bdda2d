"""The instances of groups: describe, terminate, attach, detach, standby, protection, health.

Source: Amazon EC2 Auto Scaling API Reference, the pages of the operations; User Guide, "Detach or attach EC2 instances"
and "Temporarily remove instances".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from imdsctl.local.autoscaling.activities import rendered_activity
from imdsctl.local.autoscaling.common import changeable_group, invalid, listed, reads, scaling, stamp, wake, writes
from imdsctl.local.autoscaling.reconcile import Turn
from imdsctl.local.autoscaling.source import GROUP_TAG
from imdsctl.local.autoscaling.state import IN_SERVICE, PENDING, STANDBY, Activity, Group, Member
from imdsctl.local.call import AwsError, Call
from imdsctl.local.constraints import check_members, check_required
from imdsctl.local.ec2.instances import find_instances
from imdsctl.local.ec2.resources import RUNNING

INSTANCES_NAMED_MAX = 20
"""AttachInstances and DetachInstances: "You can specify up to 20 instances"."""


def rendered_member(member: Member) -> dict[str, Any]:
    """AWS's `Instance` of a group."""
    out: dict[str, Any] = {
        "InstanceId": member.instance_id,
        "InstanceType": member.instance_type,
        "ImageId": member.image_id,
        "AvailabilityZone": member.zone.name,
        "AvailabilityZoneId": member.zone.id,
        "LifecycleState": member.lifecycle,
        "HealthStatus": "Healthy" if member.healthy else "Unhealthy",
        "ProtectedFromScaleIn": member.protected,
    }
    if member.configuration is not None:
        out["LaunchConfigurationName"] = member.configuration
    if member.template is not None:
        out["LaunchTemplate"] = member.template
    if member.weight is not None:
        out["WeightedCapacity"] = member.weight
    return out


def describe_auto_scaling_instances(call: Call) -> dict[str, Any]:
    """The instances of all groups, or those that are named; an id that is in no group is left out."""
    ids = call.params.get("InstanceIds")
    if ids and len(ids) > 50:
        raise invalid("The number of instance ids that may be passed in is limited to 50")
    found = [
        (group, member)
        for group in scaling(call).groups.values()
        for member in group.members.values()
        if not ids or member.instance_id in ids
    ]
    found.sort(key=lambda pair: pair[1].instance_id)
    return listed(
        call,
        "AutoScalingInstances",
        found,
        lambda pair: {
            **rendered_member(pair[1]),
            "HealthStatus": "HEALTHY" if pair[1].healthy else "UNHEALTHY",
            "AutoScalingGroupName": pair[0].name,
        },
        most=50,
    )


def _members(call: Call, group: Group) -> list[Member]:
    """The members that a request names. Raises ValidationError when one is not of the group."""
    ids: Sequence[str] = call.params.get("InstanceIds") or ()
    if not ids:
        raise invalid("At least one instance ID is required.")
    if len(ids) > INSTANCES_NAMED_MAX:
        raise invalid(f"The number of instance ids that may be passed in is limited to {INSTANCES_NAMED_MAX}")
    for each in ids:
        if each not in group.members:
            raise invalid(f"The instance {each} is not part of Auto Scaling group {group.name}.")
    return [group.members[each] for each in dict.fromkeys(ids)]


def _turn(call: Call, group: Group) -> Turn:
    return Turn(call.world, scaling(call), group, call.now)


def _decrement(call: Call, group: Group, by: int) -> bool:
    """Whether to lower the desired capacity. Raises ValidationError where that would go below the minimum."""
    check_required(call.params.get("ShouldDecrementDesiredCapacity"), "shouldDecrementDesiredCapacity", invalid)
    if not call.params["ShouldDecrementDesiredCapacity"]:
        return False
    if group.desired - by < group.least:
        raise invalid(
            f"Currently, desiredSize equals minSize ({group.least}). Terminating, detaching or standing by instance "
            "without replacement will violate group's min size constraint. Either set shouldDecrementDesiredCapacity "
            "flag to false or lower group's min size."
        )
    return True


def terminate_instance_in_auto_scaling_group(call: Call) -> dict[str, Any]:
    """Terminate a member; unless the desired capacity is lowered with it, another is launched.

    Raises ValidationError.
    """
    instance_id = call.params.get("InstanceId")
    check_required(instance_id, "instanceId", invalid)
    group = _group_of(call, str(instance_id))
    member = group.members[str(instance_id)]
    lower = _decrement(call, group, member.units if member.lifecycle != STANDBY else 0)
    if member.leaving is not None:
        raise invalid(f"Instance {instance_id} is already terminating.")
    turn = _turn(call, group)
    cause = f"At {turn.stamp} instance {instance_id} was taken out of service in response to a user request."
    if lower and member.lifecycle != STANDBY:
        cause = (
            f"At {turn.stamp} instance {instance_id} was taken out of service in response to a user request, shrinking "
            f"the capacity from {group.capacity()} to {group.capacity() - member.units}."
        )
        group.desired -= member.units
    activity = turn.take_out(member, cause)
    wake(call, group)
    return {"Activity": rendered_activity(group.name, group.arn, activity)}


def _group_of(call: Call, instance_id: str) -> Group:
    """The group of an instance. Raises ValidationError."""
    state = scaling(call)
    name = state.ec2.scaled.get(instance_id)
    if name is None:
        raise invalid(f"Instance Id not found - No managed instance found for instance ID: {instance_id}")
    return state.groups[name]


def attach_instances(call: Call) -> dict[str, Any]:
    """Take running instances into the group, which raises the desired capacity. Raises ValidationError."""
    group, state = changeable_group(call), scaling(call)
    ids = list(dict.fromkeys(call.params.get("InstanceIds") or ()))
    if not ids:
        raise invalid("At least one instance ID is required.")
    if len(ids) > INSTANCES_NAMED_MAX:
        raise invalid(f"The number of instance ids that may be passed in is limited to {INSTANCES_NAMED_MAX}")
    try:
        instances = find_instances(state.ec2, ids)
    except AwsError as refusal:
        raise invalid(f"Invalid Instance ID(s): {ids} specified: {refusal.message}") from None
    for instance in instances:
        if instance.id in state.ec2.scaled:
            raise invalid(f"Instance {instance.id} is already part of Auto Scaling group "
                          f"{state.ec2.scaled[instance.id]}.")  # fmt: skip
        if instance.state != RUNNING:
            raise invalid(f"Instance {instance.id} is not in correct state. Instance(s) must be in 'running' state.")
        if instance.subnet.zone.name not in group.zones:
            raise invalid(f"Instance {instance.id} is not in an Availability Zone of the AutoScalingGroup.")
    if group.desired + len(instances) > group.most:
        raise invalid(
            f"AutoScalingGroup {group.name} has min-size={group.least}, max-size={group.most}, and "
            f"desired-size={group.desired}. To attach {len(instances)} more instance, please update the "
            "AutoScalingGroup sizes appropriately."
        )
    turn = _turn(call, group)
    for instance in instances:
        before = group.desired
        group.desired += 1
        activity = turn.activity(
            f"Attaching an existing EC2 instance: {instance.id}",
            f"At {stamp(call.now)} an instance was added in response to user request. Keeping the capacity at the "
            f"new {before + 1}.",
        )
        activity.end(call.now)
        group.members[instance.id] = Member(
            instance.id,
            instance.instance_type,
            instance.image_id,
            instance.subnet.zone,
            call.now,
            lifecycle=IN_SERVICE,
            protected=group.protect_new,
            spot=instance.lifecycle == "spot",
        )
        state.ec2.scaled[instance.id] = group.name
        state.ec2.tags.setdefault(instance.id, {})[GROUP_TAG] = group.name
    state.ec2.tagged(each.id for each in instances)
    wake(call, group)
    return {}


def detach_instances(call: Call) -> dict[str, Any]:
    """Let members go, which run on; unless the desired capacity is lowered, others are launched.

    Raises ValidationError.
    """
    group, state = changeable_group(call), scaling(call)

    def leave(member: Member) -> None:
        del group.members[member.instance_id]
        state.ec2.scaled.pop(member.instance_id, None)
        state.ec2.tags.get(member.instance_id, {}).pop(GROUP_TAG, None)
        state.ec2.tagged([member.instance_id])

    return _put_aside(call, group, (IN_SERVICE, STANDBY), "Detaching EC2 instance", "detached", leave)


def enter_standby(call: Call) -> dict[str, Any]:
    """Put members in service aside; unless the desired capacity is lowered, others are launched.

    Raises ValidationError.
    """

    def stand_by(member: Member) -> None:
        member.lifecycle = STANDBY

    return _put_aside(
        call, changeable_group(call), (IN_SERVICE,), "Moving EC2 instance to Standby", "moved to standby", stand_by
    )


def _put_aside(
    call: Call, group: Group, allowed: tuple[str, ...], description: str, done: str, act: Callable[[Member], None]
) -> dict[str, Any]:
    members = _members(call, group)
    for member in members:
        if member.lifecycle not in allowed:
            raise invalid(
                f"The instance {member.instance_id} is not in {' or '.join(allowed)} (it is {member.lifecycle})."
            )
    counted = sum(each.units for each in members if each.lifecycle != STANDBY)
    lower = _decrement(call, group, counted)
    turn = _turn(call, group)
    activities: list[Activity] = []
    for member in members:
        before, by = group.desired, member.units if lower and member.lifecycle != STANDBY else 0
        group.desired -= by
        cause = f"At {turn.stamp} instance {member.instance_id} was {done} in response to a user request"
        cause += f", shrinking the capacity from {before} to {group.desired}." if by else "."
        activity = turn.activity(f"{description}: {member.instance_id}", cause)
        activity.end(call.now)
        activities.append(activity)
        act(member)
    wake(call, group)
    return {"Activities": [rendered_activity(group.name, group.arn, each) for each in activities]}


def exit_standby(call: Call) -> dict[str, Any]:
    """Bring members back from standby, which raises the desired capacity. Raises ValidationError."""
    group = changeable_group(call)
    members = _members(call, group)
    for member in members:
        if member.lifecycle != STANDBY:
            raise invalid(f"The instance {member.instance_id} is not in Standby.")
    if group.desired + sum(each.units for each in members) > group.most:
        raise invalid(
            f"AutoScalingGroup {group.name} has min-size={group.least}, max-size={group.most}, and "
            f"desired-size={group.desired}. To place into service {len(members)} more instance, please update the "
            "AutoScalingGroup sizes appropriately."
        )
    turn = _turn(call, group)
    activities = []
    for member in members:
        before = group.desired
        group.desired += member.units
        activity = turn.activity(
            f"Moving EC2 instance out of Standby: {member.instance_id}",
            f"At {turn.stamp} instance {member.instance_id} was moved out of standby in response to a user request, "
            f"increasing the capacity from {before} to {group.desired}.",
        )
        activities.append(activity)
        member.lifecycle, member.started = PENDING, activity
    wake(call, group)
    return {"Activities": [rendered_activity(group.name, group.arn, each) for each in activities]}


def set_instance_protection(call: Call) -> dict[str, Any]:
    """Protect members from scale-in, or no longer. Raises ValidationError."""
    group = changeable_group(call)
    members = _members(call, group)
    check_required(call.params.get("ProtectedFromScaleIn"), "protectedFromScaleIn", invalid)
    for member in members:
        member.protected = call.params["ProtectedFromScaleIn"]
    wake(call, group)
    return {}


def set_instance_health(call: Call) -> dict[str, Any]:
    """Say that a member is healthy, or that it is not: then it is replaced. Raises ValidationError."""
    instance_id, status = call.params.get("InstanceId"), call.params.get("HealthStatus")
    check_required(instance_id, "instanceId", invalid)
    check_required(status, "healthStatus", invalid)
    check_members([str(status)], "healthStatus", invalid, ("Healthy", "Unhealthy"))
    group = _group_of(call, str(instance_id))
    group.members[str(instance_id)].healthy = status == "Healthy"
    wake(call, group)
    return {}


OPERATIONS = {
    **reads(describe_auto_scaling_instances),
    **writes(
        terminate_instance_in_auto_scaling_group,
        attach_instances,
        detach_instances,
        enter_standby,
        exit_standby,
        set_instance_protection,
        set_instance_health,
    ),
}
