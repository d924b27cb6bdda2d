"""What becomes of a fleet's instances afterwards: it shrinks, it is ended, it replaces what it lost.

Source: EC2 User Guide, "EC2 Fleet request types" and "Modify an EC2 Fleet"; the same holds for Spot Fleet.
"""

from __future__ import annotations

from collections.abc import Iterable

from imdsctl.local.call import AwsError, Call
from imdsctl.local.ec2 import lifecycle
from imdsctl.local.ec2.fleet_launches import (
    INSTANCE_CHANGE,
    SERVICE_ERROR,
    SPOT,
    alive,
    capacity_of,
    fill,
    fulfilled,
    note,
)
from imdsctl.local.ec2.resources import (
    FLEET_TAG,
    SHUTTING_DOWN,
    SPOT_FLEET_TAG,
    TERMINATED,
    Fleet,
    FleetMember,
    Instance,
)
from imdsctl.local.ec2.state import RegionState

ACTIVE = "active"
MAINTAIN = "maintain"
TERMINATION = "termination"
"""Of the two policies for excess capacity, the one that ends it."""


def shrink(call: Call, state: RegionState, fleet: Fleet, market: str) -> None:
    """Terminate the newest instances that a fleet has too many, without going below its target."""
    excess = fulfilled(state, fleet, market) - capacity_of(fleet.request)[market]
    chosen = []
    for member in reversed(fleet.members):
        if member.lifecycle == market and member.weight <= excess and alive(state, member):
            chosen.append(member)
            excess -= member.weight
    end(call, state, fleet, chosen)


def end(call: Call, state: RegionState, fleet: Fleet, members: Iterable[FleetMember]) -> None:
    """Terminate instances of a fleet, but those with termination protection."""
    found = [state.instances[each.instance_id] for each in members if each.instance_id in state.instances]
    ending = [
        each for each in found if not each.termination_protected and each.state not in (SHUTTING_DOWN, TERMINATED)
    ]
    lifecycle.terminate(call, state, ending)
    for each in ending:
        note(call, fleet, INSTANCE_CHANGE, "terminated", each.instance_type, each.id)


def replace(call: Call, state: RegionState, ended: Iterable[Instance]) -> None:
    """Tell fleets that the user terminated these instances; those of type maintain replace their spot instances."""
    lost: dict[str, tuple[Fleet, list[Instance]]] = {}
    for instance in ended:
        fleet = _launched_by(state, instance)
        if fleet is not None:
            lost.setdefault(fleet.id, (fleet, []))[1].append(instance)
    for fleet, instances in lost.values():
        for instance in instances:
            note(call, fleet, INSTANCE_CHANGE, "terminated", instance.instance_type, instance.id)
        expired = fleet.request.get("ValidUntil") is not None and fleet.request["ValidUntil"] <= call.now
        if fleet.kind == MAINTAIN and fleet.state == ACTIVE and not expired:
            try:
                fill(call, state, fleet, SPOT)
            except AwsError as gone:  # the template was deleted since
                note(call, fleet, SERVICE_ERROR, "spotFleetRequestConfigurationInvalid", gone.message)


def _launched_by(state: RegionState, instance: Instance) -> Fleet | None:
    """The EC2 Fleet or Spot Fleet that an instance came from, by the tag it got when it was launched."""
    tags = state.tags.get(instance.id, {})
    request = state.spot_fleets.get(tags.get(SPOT_FLEET_TAG, ""))
    return request.fleet if request is not None else state.fleets.get(tags.get(FLEET_TAG, ""))
