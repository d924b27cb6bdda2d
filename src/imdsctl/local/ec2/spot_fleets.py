"""Spot Fleet requests: Request, Modify and Cancel. They launch by the same code as EC2 Fleets.

Source: EC2 API Reference, the pages of these operations; EC2 User Guide, "Spot Fleet request states". A request
launches with the call: nothing here takes time.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from imdsctl.codify.launch import without_empty
from imdsctl.local.call import Call, Operation
from imdsctl.local.ec2.common import region_state, remember, replayed, tag_specifications
from imdsctl.local.ec2.errors import invalid_value, missing, refuse, well_formed
from imdsctl.local.ec2.fleet_launches import FLEET_CHANGE, ON_DEMAND, SPOT, fill, note, pools_of
from imdsctl.local.ec2.fleet_upkeep import ACTIVE, MAINTAIN, end, shrink
from imdsctl.local.ec2.resources import SPOT_FLEET_TAG, Fleet, SpotFleet
from imdsctl.local.ec2.spot_fleet_config import (
    check_capacity,
    check_sources,
    checked,
    ends_excess,
    fleet_request,
    invalid,
)
from imdsctl.local.ec2.spot_fleet_listings import CANCELLED_RUNNING, CANCELLED_TERMINATING, find, state_of
from imdsctl.local.ec2.state import RegionState

CANCELLED_TOGETHER_MAX = 100
"""EC2 API Reference, CancelSpotFleetRequests: requests in one call."""
CHANGEABLE = (
    "Context",
    "ExcessCapacityTerminationPolicy",
    "LaunchTemplateConfigs",
    "OnDemandTargetCapacity",
    "TargetCapacity",
)


def request_spot_fleet(call: Call) -> dict[str, Any]:
    """Make a Spot Fleet request and launch its instances; what cannot be launched is in its history.

    Raises MissingParameter, InvalidSpotFleetRequestConfig (also for a role that Spot Fleet may not assume),
    InvalidParameterValue, UnsupportedOperation, IdempotentParameterMismatch, and for a template that does not exist.
    """
    state = region_state(call)
    asked = without_empty(call.params.get("SpotFleetRequestConfig") or {})
    if not asked:
        raise missing("SpotFleetRequestConfig")
    tags = tag_specifications(asked.get("TagSpecifications"), ["spot-fleet-request"]).get("spot-fleet-request")
    config = checked(call, state, asked)

    once = replace(call, params={**call.params, "ClientToken": asked.get("ClientToken")})  # here it stands deeper
    made = replayed(once, state.spot_fleets.__contains__)
    if made is None:
        made = f"sfr-{call.ids.uuid()}"
        created = call.now.replace(microsecond=0)
        fleet = Fleet(made, created, config["Type"], fleet_request(config), tag=SPOT_FLEET_TAG)
        state.spot_fleets[made] = SpotFleet(config, fleet)
        if tags:
            state.tags[made] = tags
        note(call, fleet, FLEET_CHANGE, "submitted")
        note(call, fleet, FLEET_CHANGE, ACTIVE)
        _fill(call, state, fleet)
        remember(once, made)
    return {"SpotFleetRequestId": made}


def _fill(call: Call, state: RegionState, fleet: Fleet) -> None:
    for market in (ON_DEMAND, SPOT):
        fill(call, state, fleet, market)


def modify_spot_fleet_request(call: Call) -> dict[str, Any]:
    """Change the capacity, the templates or the policy of a request of type maintain; its fleet adapts at once.

    Raises MissingParameter, InvalidSpotFleetRequestId.*, FleetNotInModifiableState, InvalidSpotFleetRequestConfig,
    InvalidParameterValue, and for a template that does not exist.
    """
    state, params = region_state(call), call.params
    if not params.get("SpotFleetRequestId"):
        raise missing("SpotFleetRequestId")
    request = find(state, params["SpotFleetRequestId"])
    fleet = request.fleet
    if fleet.kind != MAINTAIN or fleet.state != ACTIVE:
        raise refuse(
            "FleetNotInModifiableState",
            f"The Spot Fleet request '{fleet.id}' is not in a state from which it can be modified.",
        )
    changes = without_empty({name: params.get(name) for name in CHANGEABLE})
    if "LaunchTemplateConfigs" in changes and not request.config.get("LaunchTemplateConfigs"):
        raise invalid("LaunchTemplateConfigs")
    config = {**request.config, **changes}
    check_capacity(config)
    check_sources(config)
    wanted = fleet_request(config)
    pools_of(state, wanted)

    note(call, fleet, FLEET_CHANGE, "modify_in_progress")
    request.config, fleet.request = config, wanted
    if ends_excess(config):
        for market in (SPOT, ON_DEMAND):
            shrink(call, state, fleet, market)
    _fill(call, state, fleet)
    note(call, fleet, FLEET_CHANGE, "modify_succeeded")
    return {"Return": True}


def cancel_spot_fleet_requests(call: Call) -> dict[str, Any]:
    """Cancel requests, with or without their instances; what cannot be cancelled is reported beside what was.

    Raises MissingParameter, InvalidParameterValue for more than 100.
    """
    state, params = region_state(call), call.params
    ids, terminate = list(dict.fromkeys(params.get("SpotFleetRequestIds") or ())), params.get("TerminateInstances")
    if not ids:
        raise missing("SpotFleetRequestId")
    if terminate is None:
        raise missing("TerminateInstances")
    if len(ids) > CANCELLED_TOGETHER_MAX:
        raise invalid_value(f"Up to {CANCELLED_TOGETHER_MAX} Spot Fleet requests can be cancelled in one request.")
    done, failed = [], []
    for each in ids:
        request = state.spot_fleets.get(each)
        if request is None or request.fleet.state != ACTIVE:
            failed.append({"SpotFleetRequestId": each, "Error": _why_not(state, each, request)})
            continue
        before, fleet = state_of(state, request), request.fleet
        fleet.state = CANCELLED_TERMINATING if terminate else CANCELLED_RUNNING
        note(call, fleet, FLEET_CHANGE, fleet.state)
        if terminate:
            end(call, state, fleet, fleet.members)
        done.append(
            {
                "SpotFleetRequestId": each,
                "PreviousSpotFleetRequestState": before,
                "CurrentSpotFleetRequestState": fleet.state,
            }
        )
    return {"SuccessfulFleetRequests": done, "UnsuccessfulFleetRequests": failed}


def _why_not(state: RegionState, request_id: str, request: SpotFleet | None) -> dict[str, str]:
    """AWS's `CancelSpotFleetRequestsError`."""
    if not well_formed("sfr", request_id):
        code, message = "fleetRequestIdMalformed", f"The Spot Fleet request ID '{request_id}' is malformed."
    elif request is None:
        code, message = "fleetRequestIdDoesNotExist", f"The Spot Fleet request ID '{request_id}' does not exist"
    else:
        code = "fleetRequestNotInCancellableState"
        message = f"The Spot Fleet request '{request_id}' is {state_of(state, request)}."
    return {"Code": code, "Message": message}


OPERATIONS = {
    "RequestSpotFleet": Operation(request_spot_fleet, writes=True),
    "ModifySpotFleetRequest": Operation(modify_spot_fleet_request, writes=True),
    "CancelSpotFleetRequests": Operation(cancel_spot_fleet_requests, writes=True),
}
