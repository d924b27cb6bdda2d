"""EC2 Fleets: Create, Modify, Delete, Describe, with their instances and their history.

Source: EC2 API Reference, the pages of these operations; EC2 User Guide, "EC2 Fleet request types". Fleets of type
request and maintain launch with the request as well: nothing here takes time.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

from imdsctl.codify.launch import without_empty
from imdsctl.local.call import Call, Operation
from imdsctl.local.ec2.common import aws_tags, region_state, remember, replayed, tag_specifications
from imdsctl.local.ec2.errors import (
    check_choice,
    check_identifiers,
    invalid_combination,
    invalid_value,
    missing,
    not_found,
    refuse,
    well_formed,
)
from imdsctl.local.ec2.filters import Filters, boolean
from imdsctl.local.ec2.fleet_launches import (
    FLEET_CHANGE,
    INSTANCE_CHANGE,
    INSTANT,
    ON_DEMAND,
    SERVICE_ERROR,
    SPOT,
    alive,
    capacity_of,
    fill,
    fulfilled,
    note,
    pools_of,
    shown_override,
)
from imdsctl.local.ec2.fleet_upkeep import ACTIVE, MAINTAIN, TERMINATION, end, shrink
from imdsctl.local.ec2.launch import TAGGED_AT_LAUNCH
from imdsctl.local.ec2.pages import page
from imdsctl.local.ec2.resources import TERMINATED, Fleet, FleetEvent, FleetMember
from imdsctl.local.ec2.spot_market import INTERRUPTIONS, request_of
from imdsctl.local.ec2.state import RegionState

TYPES = ("request", MAINTAIN, INSTANT)
EXCESS_POLICIES = ("no-termination", TERMINATION)
SPOT_STRATEGIES = (
    "lowest-price",
    "lowestPrice",
    "diversified",
    "capacity-optimized",
    "capacityOptimized",
    "capacity-optimized-prioritized",
    "price-capacity-optimized",
)
"""Both spellings: the API's own examples and older clients say `lowestPrice`."""
ON_DEMAND_STRATEGIES = ("lowest-price", "lowestPrice", "prioritized")
SPOT_OPTIONS = {
    "AllocationStrategy": "lowestPrice",
    "InstanceInterruptionBehavior": "terminate",
    "InstancePoolsToUseCount": 1,
}
ON_DEMAND_OPTIONS = {"AllocationStrategy": "lowestPrice"}

DELETED = "deleted"
DELETED_RUNNING = "deleted_running"
DELETED_TERMINATING = "deleted_terminating"
DELETED_TOGETHER_MAX = {True: 25, False: 100}
"""EC2 API Reference, DeleteFleets: fleets in one request, of type instant and of the other types."""


# -- creating and changing --------------------------------------------------------------------------------------------


def create_fleet(call: Call) -> dict[str, Any]:
    """Make a fleet and launch its instances; what cannot be launched is listed (type instant) or in its history.

    Raises MissingParameter, InvalidParameterValue, InvalidParameterCombination, UnsupportedOperation,
    IdempotentParameterMismatch, and for a template or version that does not exist.
    """
    state, params = region_state(call), call.params
    request = without_empty({name: value for name, value in params.items() if name not in ("DryRun", "ClientToken")})
    kind = request.setdefault("Type", MAINTAIN)
    check_choice(kind, "Type", TYPES)
    _check_options(request, kind)
    until = request.get("ValidUntil")
    if until is not None and until <= call.now:
        raise invalid_value(
            f"Value ({until:%Y-%m-%dT%H:%M:%SZ}) for parameter validUntil is invalid. It is in the past."
        )
    allowed = ("fleet", *TAGGED_AT_LAUNCH) if kind == INSTANT else ("fleet",)
    tags = tag_specifications(params.get("TagSpecifications"), allowed).get("fleet")
    capacity = capacity_of(request)
    if kind != MAINTAIN and not sum(capacity.values()):
        raise invalid_value("A target capacity of 0 can be specified for fleets of type maintain only.")
    pools_of(state, request)

    made = replayed(call, state.fleets.__contains__)
    if made is None:
        made = f"fleet-{call.ids.uuid()}"
        fleet = state.fleets[made] = Fleet(made, call.now.replace(microsecond=0), kind, request)
        if tags:
            state.tags[made] = tags
        note(call, fleet, FLEET_CHANGE, "submitted")
        note(call, fleet, FLEET_CHANGE, ACTIVE)
        fill(call, state, fleet, ON_DEMAND)
        fill(call, state, fleet, SPOT)
        remember(call, made)
    fleet = state.fleets[made]
    if kind != INSTANT:
        return {"FleetId": fleet.id}
    return {"FleetId": fleet.id, "Errors": fleet.errors, "Instances": _launched(fleet)}


def _check_options(request: Mapping[str, Any], kind: str) -> None:
    check_choice(request.get("ExcessCapacityTerminationPolicy"), "ExcessCapacityTerminationPolicy", EXCESS_POLICIES)
    spot, on_demand = request.get("SpotOptions") or {}, request.get("OnDemandOptions") or {}
    check_choice(spot.get("AllocationStrategy"), "AllocationStrategy", SPOT_STRATEGIES)
    check_choice(on_demand.get("AllocationStrategy"), "AllocationStrategy", ON_DEMAND_STRATEGIES)
    check_choice(spot.get("InstanceInterruptionBehavior"), "InstanceInterruptionBehavior", INTERRUPTIONS)
    for options in (spot, on_demand):
        single = options.get("SingleInstanceType") or options.get("SingleAvailabilityZone")
        if kind != INSTANT and (single or options.get("MinTargetCapacity")):
            raise invalid_combination(
                "SingleInstanceType, SingleAvailabilityZone and MinTargetCapacity are supported for fleets of type "
                "instant only."
            )
        if options.get("MinTargetCapacity") and not single:
            raise invalid_combination(
                "MinTargetCapacity needs at least one of SingleAvailabilityZone and SingleInstanceType."
            )


def modify_fleet(call: Call) -> dict[str, Any]:
    """Change the total capacity, the templates or the policy of a fleet of type maintain; it adapts at once.

    Raises MissingParameter, InvalidFleetId.*, InvalidParameterValue, InvalidParameterCombination,
    UnsupportedOperation for another type, and for a template that does not exist.
    """
    state, params = region_state(call), call.params
    fleet = _find(state, params.get("FleetId"))
    if fleet.kind != MAINTAIN:
        raise refuse("UnsupportedOperation", f"Fleets of type {fleet.kind} cannot be modified.")
    if _state_of(state, fleet) != ACTIVE:
        raise refuse("InvalidFleetState", f"The fleet '{fleet.id}' is not in a state from which it can be modified.")
    changes = without_empty(
        {
            name: params.get(name)
            for name in ("ExcessCapacityTerminationPolicy", "LaunchTemplateConfigs", "TargetCapacitySpecification")
        }
    )
    target = {**(fleet.request.get("TargetCapacitySpecification") or {})}
    asked = changes.get("TargetCapacitySpecification") or {}
    if set(asked) - {"TotalTargetCapacity"}:
        raise refuse(
            "InvalidTargetCapacitySpecification", "Currently we only support total target capacity modification."
        )
    request = {**fleet.request, **changes, "TargetCapacitySpecification": {**target, **asked}}
    _check_options(request, fleet.kind)
    capacity_of(request)
    pools_of(state, request)

    note(call, fleet, FLEET_CHANGE, "modify_in_progress")
    fleet.request = request
    if request.get("ExcessCapacityTerminationPolicy", TERMINATION) == TERMINATION:
        for market in (SPOT, ON_DEMAND):
            shrink(call, state, fleet, market)
    fill(call, state, fleet, ON_DEMAND)
    fill(call, state, fleet, SPOT)
    note(call, fleet, FLEET_CHANGE, "modify_successful")
    return {"Return": True}


def delete_fleets(call: Call) -> dict[str, Any]:
    """Delete fleets, with or without their instances; what cannot be deleted is reported beside what was.

    Raises MissingParameter, InvalidParameterValue.
    """
    state, params = region_state(call), call.params
    ids, terminate = params.get("FleetIds"), params.get("TerminateInstances")
    if not ids:
        raise missing("FleetId")
    if terminate is None:
        raise missing("TerminateInstances")
    ids = list(dict.fromkeys(ids))
    for instant, most in DELETED_TOGETHER_MAX.items():
        if (
            sum((found := state.fleets.get(each)) is not None and (found.kind == INSTANT) is instant for each in ids)
            > most
        ):
            raise invalid_value(f"Up to {most} fleets of this type can be deleted in one request.")
    done, failed = [], []
    for each in ids:
        fleet = state.fleets.get(each)
        problem = _why_not_deletable(state, each, fleet, terminate)
        if problem is not None or fleet is None:
            code, message = problem or ("unexpectedError", "")
            failed.append({"FleetId": each, "Error": {"Code": code, "Message": message}})
            continue
        before = _state_of(state, fleet)
        fleet.state = DELETED_TERMINATING if terminate else DELETED_RUNNING
        note(call, fleet, FLEET_CHANGE, fleet.state)
        if terminate:
            end(call, state, fleet, fleet.members)
        done.append({"FleetId": each, "PreviousFleetState": before, "CurrentFleetState": fleet.state})
    return {"SuccessfulFleetDeletions": done, "UnsuccessfulFleetDeletions": failed}


def _why_not_deletable(
    state: RegionState, fleet_id: str, fleet: Fleet | None, terminate: bool
) -> tuple[str, str] | None:
    if not well_formed("fleet", fleet_id):
        return "fleetIdMalformed", f"The fleet ID '{fleet_id}' is malformed."
    if fleet is None:
        return "fleetIdDoesNotExist", f"The fleet ID '{fleet_id}' does not exist"
    if fleet.state != ACTIVE:
        return "fleetNotInDeletableState", f"The fleet '{fleet_id}' is {_state_of(state, fleet)}."
    if fleet.kind == INSTANT and not terminate:
        return "unexpectedError", "A deleted instant fleet with running instances is not supported."
    return None


# -- describing -------------------------------------------------------------------------------------------------------


def _find(state: RegionState, fleet_id: str | None) -> Fleet:
    """A fleet. Raises MissingParameter, InvalidFleetId.Malformed and .NotFound."""
    if not fleet_id:
        raise missing("FleetId")
    check_identifiers("fleet", [fleet_id])
    fleet = state.fleets.get(fleet_id)
    if fleet is None:
        raise not_found("fleet", fleet_id)
    return fleet


def _state_of(state: RegionState, fleet: Fleet) -> str:
    """A deleted fleet is `deleted` when its last instance has terminated."""
    if fleet.state == ACTIVE or any(_there(state, member) for member in fleet.members):
        return fleet.state
    return DELETED


def _there(state: RegionState, member: FleetMember) -> bool:
    instance = state.instances.get(member.instance_id)
    return instance is not None and instance.state != TERMINATED


def _activity(state: RegionState, fleet: Fleet) -> str:
    if fleet.state == DELETED_TERMINATING and _state_of(state, fleet) != DELETED:
        return "pending_termination"
    if fleet.kind == INSTANT or fulfilled(state, fleet) >= sum(capacity_of(fleet.request).values()):
        return "fulfilled"
    return "error" if fleet.errors else "pending_fulfillment"


def _launched(fleet: Fleet) -> list[dict[str, Any]]:
    """AWS's `CreateFleetInstance`s: the instances that came from one template and override on one market."""
    groups: list[dict[str, Any]] = []
    for member in fleet.members:
        last = groups[-1] if groups else None
        if last and last["LaunchTemplateAndOverrides"] is member.source and last["Lifecycle"] == member.lifecycle:
            last["InstanceIds"].append(member.instance_id)
            continue
        group = {
            "LaunchTemplateAndOverrides": member.source,
            "Lifecycle": member.lifecycle,
            "InstanceIds": [member.instance_id],
            "InstanceType": member.instance_type,
        }
        if member.platform is not None:
            group["Platform"] = "Windows"
        groups.append(group)
    return groups


def _structure(state: RegionState, fleet: Fleet) -> dict[str, Any]:
    """AWS's `FleetData`."""
    request, capacity = fleet.request, capacity_of(fleet.request)
    out: dict[str, Any] = {
        "FleetId": fleet.id,
        "FleetState": _state_of(state, fleet),
        "ActivityStatus": _activity(state, fleet),
        "CreateTime": fleet.created,
        "Type": fleet.kind,
        "ExcessCapacityTerminationPolicy": request.get("ExcessCapacityTerminationPolicy", TERMINATION),
        "FulfilledCapacity": fulfilled(state, fleet),
        "FulfilledOnDemandCapacity": fulfilled(state, fleet, ON_DEMAND),
        "LaunchTemplateConfigs": [
            {**config, "Overrides": [shown_override(each) for each in config.get("Overrides") or ()]}
            for config in request["LaunchTemplateConfigs"]
        ],
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": sum(capacity.values()),
            "OnDemandTargetCapacity": capacity[ON_DEMAND],
            "SpotTargetCapacity": capacity[SPOT],
            "DefaultTargetCapacityType": request["TargetCapacitySpecification"].get(
                "DefaultTargetCapacityType", ON_DEMAND
            ),
        },
        "TerminateInstancesWithExpiration": bool(request.get("TerminateInstancesWithExpiration")),
        "ReplaceUnhealthyInstances": bool(request.get("ReplaceUnhealthyInstances")),
        "SpotOptions": {**SPOT_OPTIONS, **(request.get("SpotOptions") or {})},
        "OnDemandOptions": {**ON_DEMAND_OPTIONS, **(request.get("OnDemandOptions") or {})},
        "Tags": aws_tags(state.tags.get(fleet.id)),
    }
    out.update({name: request[name] for name in ("ValidFrom", "ValidUntil", "Context") if name in request})
    if fleet.kind == INSTANT:
        out["Instances"], out["Errors"] = _launched(fleet), fleet.errors
    return out


class _Listed(NamedTuple):
    """A fleet with the Region it is in."""

    state: RegionState
    fleet: Fleet


FLEET_FILTERS: Filters[_Listed] = Filters(
    {
        "activity-status": lambda listed: _activity(listed.state, listed.fleet).replace("_", "-"),
        "excess-capacity-termination-policy": lambda listed: boolean(
            listed.fleet.request.get("ExcessCapacityTerminationPolicy", TERMINATION) == TERMINATION
        ),
        "fleet-state": lambda listed: _state_of(listed.state, listed.fleet).replace("_", "-"),
        "replace-unhealthy-instances": lambda listed: boolean(listed.fleet.request.get("ReplaceUnhealthyInstances")),
        "type": lambda listed: listed.fleet.kind,
    }
)


def describe_fleets(call: Call) -> dict[str, Any]:
    """Fleets by id and filter, in pages of 1 to 1000; those of type instant only by their id.

    Raises InvalidFleetId.Malformed and .NotFound, InvalidParameterValue.
    """
    state, params = region_state(call), call.params
    ids = params.get("FleetIds")
    if ids:
        found = [_find(state, each) for each in dict.fromkeys(ids)]
    else:
        found = [each for each in state.fleets.values() if each.kind != INSTANT]
    listed = FLEET_FILTERS.select(
        (_Listed(state, each) for each in sorted(found, key=lambda each: each.id)), params.get("Filters")
    )
    shown, token = page(listed, lambda each: each.fleet.id, params, f"{call.account_id}/fleets", least=1)
    out: dict[str, Any] = {"Fleets": [_structure(state, each.fleet) for each in shown]}
    if token:
        out["NextToken"] = token
    return out


MEMBER_FILTERS: Filters[FleetMember] = Filters({"instance-type": lambda member: member.instance_type})


def describe_fleet_instances(call: Call) -> dict[str, Any]:
    """The running instances of a fleet that is not of type instant, in pages of 1 to 1000.

    Raises MissingParameter, InvalidFleetId.*, UnsupportedOperation.
    """
    state, params = region_state(call), call.params
    fleet = _find(state, params.get("FleetId"))
    if fleet.kind == INSTANT:
        raise refuse("UnsupportedOperation", "DescribeFleetInstances does not support fleets of type instant.")
    running = (member for member in fleet.members if alive(state, member))
    chosen = MEMBER_FILTERS.select(sorted(running, key=lambda each: each.instance_id), params.get("Filters"))
    shown, token = page(chosen, lambda each: each.instance_id, params, f"{call.account_id}/{fleet.id}", least=1)
    out: dict[str, Any] = {"FleetId": fleet.id, "ActiveInstances": [active_instance(state, each) for each in shown]}
    if token:
        out["NextToken"] = token
    return out


def active_instance(state: RegionState, member: FleetMember) -> dict[str, Any]:
    """AWS's `ActiveInstance`."""
    out = {"InstanceId": member.instance_id, "InstanceType": member.instance_type, "InstanceHealth": "healthy"}
    request = request_of(state, state.instances[member.instance_id])
    if request is not None:
        out["SpotInstanceRequestId"] = request.id
    return out


def describe_fleet_history(call: Call) -> dict[str, Any]:
    """What happened to a fleet since StartTime, oldest first, in pages of 1 to 1000.

    Raises MissingParameter, InvalidFleetId.*, InvalidParameterValue.
    """
    state, params = region_state(call), call.params
    fleet, start, kind = _find(state, params.get("FleetId")), params.get("StartTime"), params.get("EventType")
    if start is None:
        raise missing("StartTime")
    check_choice(kind, "EventType", (INSTANCE_CHANGE, FLEET_CHANGE, SERVICE_ERROR))
    chosen = [each for each in numbered(fleet, start) if kind in (None, each[1].kind)]
    shown, token = page(chosen, lambda each: each[0], params, f"{call.account_id}/{fleet.id}/history", least=1)
    records = [history_record(event, event.kind) for _, event in shown]
    out: dict[str, Any] = {"FleetId": fleet.id, "StartTime": start, "HistoryRecords": records}
    if token:
        out["NextToken"] = token
    else:
        out["LastEvaluatedTime"] = call.now
    return out


def numbered(fleet: Fleet, start: datetime) -> list[tuple[str, FleetEvent]]:
    """A fleet's events since a time, each with a text that orders it."""
    return [(f"{number:09}", event) for number, event in enumerate(fleet.history) if event.at >= start]


def history_record(event: FleetEvent, kind: str) -> dict[str, Any]:
    """AWS's `HistoryRecordEntry` and `HistoryRecord`; `kind` is the event's type as the fleet's service calls it."""
    told = {"EventSubType": event.sub_kind}
    if event.description:
        told["EventDescription"] = event.description
    if event.instance_id is not None:
        told["InstanceId"] = event.instance_id
    return {"EventType": kind, "Timestamp": event.at, "EventInformation": told}


OPERATIONS = {
    "CreateFleet": Operation(create_fleet, writes=True),
    "ModifyFleet": Operation(modify_fleet, writes=True),
    "DeleteFleets": Operation(delete_fleets, writes=True),
    "DescribeFleets": Operation(describe_fleets),
    "DescribeFleetInstances": Operation(describe_fleet_instances),
    "DescribeFleetHistory": Operation(describe_fleet_history),
}
