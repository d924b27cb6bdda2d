"""What a Region says of its Spot Fleet requests.

Source: EC2 API Reference, DescribeSpotFleetRequests, DescribeSpotFleetInstances, DescribeSpotFleetRequestHistory. These
calls have no filters: a reader gets the requests of every state and chooses.
"""

from __future__ import annotations

from typing import Any

from imdsctl.local.call import Call, Operation
from imdsctl.local.ec2.common import aws_tags, region_state
from imdsctl.local.ec2.errors import check_choice, check_identifiers, missing, not_found
from imdsctl.local.ec2.fleet_launches import (
    FLEET_CHANGE,
    INSTANCE_CHANGE,
    ON_DEMAND,
    SERVICE_ERROR,
    alive,
    capacity_of,
    fulfilled,
)
from imdsctl.local.ec2.fleet_upkeep import ACTIVE
from imdsctl.local.ec2.fleets import active_instance, history_record, numbered
from imdsctl.local.ec2.pages import page
from imdsctl.local.ec2.resources import TERMINATED, Fleet, SpotFleet
from imdsctl.local.ec2.state import RegionState

EVENT_TYPES = {INSTANCE_CHANGE: "instanceChange", FLEET_CHANGE: "fleetRequestChange", SERVICE_ERROR: "error"}
"""An event of a fleet as Spot Fleet calls it."""

CANCELLED = "cancelled"
CANCELLED_RUNNING = "cancelled_running"
CANCELLED_TERMINATING = "cancelled_terminating"


def find(state: RegionState, request_id: str) -> SpotFleet:
    """A request. Raises InvalidSpotFleetRequestId.Malformed and .NotFound."""
    check_identifiers("sfr", [request_id])
    found = state.spot_fleets.get(request_id)
    if found is None:
        raise not_found("sfr", request_id)
    return found


def state_of(state: RegionState, request: SpotFleet) -> str:
    """A cancelled request is `cancelled` when its last instance has terminated."""
    fleet = request.fleet
    instances = (state.instances.get(member.instance_id) for member in fleet.members)
    if fleet.state == ACTIVE or any(each is not None and each.state != TERMINATED for each in instances):
        return fleet.state
    return CANCELLED


def describe_spot_fleet_requests(call: Call) -> dict[str, Any]:
    """Spot Fleet requests by id or all of them, in pages of 1 to 1000.

    Raises InvalidSpotFleetRequestId.Malformed and .NotFound, InvalidParameterValue.
    """
    state, params = region_state(call), call.params
    ids = params.get("SpotFleetRequestIds")
    found = [find(state, each) for each in dict.fromkeys(ids)] if ids else list(state.spot_fleets.values())
    found.sort(key=lambda each: each.fleet.id)
    shown, token = page(found, lambda each: each.fleet.id, params, f"{call.account_id}/spot-fleets", least=1)
    out: dict[str, Any] = {"SpotFleetRequestConfigs": [_structure(state, each) for each in shown]}
    if token:
        out["NextToken"] = token
    return out


def _structure(state: RegionState, request: SpotFleet) -> dict[str, Any]:
    """AWS's `SpotFleetRequestConfig`."""
    fleet = request.fleet
    return {
        "SpotFleetRequestId": fleet.id,
        "SpotFleetRequestState": state_of(state, request),
        "ActivityStatus": _activity(state, request),
        "CreateTime": fleet.created,
        "SpotFleetRequestConfig": {
            **request.config,
            "FulfilledCapacity": fulfilled(state, fleet),
            "OnDemandFulfilledCapacity": fulfilled(state, fleet, ON_DEMAND),
        },
        "Tags": aws_tags(state.tags.get(fleet.id)),
    }


def _activity(state: RegionState, request: SpotFleet) -> str:
    fleet = request.fleet
    if state_of(state, request) == CANCELLED_TERMINATING:
        return "pending_termination"
    if fulfilled(state, fleet) >= sum(capacity_of(fleet.request).values()):
        return "fulfilled"
    return "error" if fleet.errors else "pending_fulfillment"


def describe_spot_fleet_instances(call: Call) -> dict[str, Any]:
    """The running instances of a Spot Fleet request, in pages of 1 to 1000.

    Raises MissingParameter, InvalidSpotFleetRequestId.*, InvalidParameterValue.
    """
    state, params = region_state(call), call.params
    request_id, fleet = _named(call)
    running = sorted((each for each in fleet.members if alive(state, each)), key=lambda each: each.instance_id)
    shown, token = page(running, lambda each: each.instance_id, params, f"{call.account_id}/{request_id}", least=1)
    out: dict[str, Any] = {
        "SpotFleetRequestId": request_id,
        "ActiveInstances": [active_instance(state, each) for each in shown],
    }
    if token:
        out["NextToken"] = token
    return out


def describe_spot_fleet_request_history(call: Call) -> dict[str, Any]:
    """What happened to a Spot Fleet request since StartTime, oldest first, in pages of 1 to 1000.

    Raises MissingParameter, InvalidSpotFleetRequestId.*, InvalidParameterValue.
    """
    params = call.params
    request_id, fleet = _named(call)
    start, kind = params.get("StartTime"), params.get("EventType")
    if start is None:
        raise missing("StartTime")
    check_choice(kind, "EventType", (*EVENT_TYPES.values(), "information"))
    chosen = [each for each in numbered(fleet, start) if kind in (None, EVENT_TYPES[each[1].kind])]
    shown, token = page(chosen, lambda each: each[0], params, f"{call.account_id}/{request_id}/history", least=1)
    out: dict[str, Any] = {
        "SpotFleetRequestId": request_id,
        "StartTime": start,
        "HistoryRecords": [history_record(event, EVENT_TYPES[event.kind]) for _, event in shown],
    }
    if token:
        out["NextToken"] = token
    else:
        out["LastEvaluatedTime"] = call.now
    return out


def _named(call: Call) -> tuple[str, Fleet]:
    request_id = call.params.get("SpotFleetRequestId")
    if not request_id:
        raise missing("SpotFleetRequestId")
    return request_id, find(region_state(call), request_id).fleet


OPERATIONS = {
    "DescribeSpotFleetRequests": Operation(describe_spot_fleet_requests),
    "DescribeSpotFleetInstances": Operation(describe_spot_fleet_instances),
    "DescribeSpotFleetRequestHistory": Operation(describe_spot_fleet_request_history),
}
