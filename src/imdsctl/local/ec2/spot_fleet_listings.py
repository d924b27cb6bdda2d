"""What a Region says of its Spot Fleet requests.

Source: EC2 API Reference, DescribeSpotFleetRequests. These calls have no filters: a reader gets the requests of every
state and chooses.
"""

from __future__ import annotations

from typing import Any

from imdsctl.local.call import Call, Operation
from imdsctl.local.ec2.common import aws_tags, region_state
from imdsctl.local.ec2.errors import check_identifiers, not_found
from imdsctl.local.ec2.fleet_launches import ON_DEMAND, capacity_of, fulfilled
from imdsctl.local.ec2.pages import page
from imdsctl.local.ec2.resources import TERMINATED, SpotFleet
from imdsctl.local.ec2.state import RegionState

ACTIVE = "active"
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


OPERATIONS = {
    "DescribeSpotFleetRequests": Operation(describe_spot_fleet_requests),
}
