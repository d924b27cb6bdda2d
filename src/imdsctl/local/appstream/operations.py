"""Every operation of AppStream that is here: what there is, and fleets' DisableIMDSV1.

Source: AppStream 2.0 API Reference, UpdateFleet: any attribute of a stopped fleet, few of a running one, none of one
that starts or stops. Image builders cannot be changed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from imdsctl.local.appstream.state import RUNNING, STOPPED, AppStreamState, Streamer, first_state
from imdsctl.local.call import AwsError, Call, Operation, Operations
from imdsctl.local.constraints import check_range, check_required, check_text
from imdsctl.local.pages import InvalidToken, page

PAGE = 50
"""AppStream 2.0 API Reference, DescribeImageBuilders, MaxResults: at most 50."""
_UPDATABLE = frozenset({"Name", "DisplayName", "Description", "InstanceType", "DisableIMDSV1"})
_WHILE_RUNNING = frozenset({"Name", "DisplayName"})


def describe_fleets(call: Call) -> Mapping[str, Any]:
    """The fleets that are named, or all. Raises ResourceNotFoundException."""
    return _described(call, _state(call).fleets, "Fleets", _fleet)


def describe_image_builders(call: Call) -> Mapping[str, Any]:
    """The image builders that are named, or all. Raises ResourceNotFoundException."""
    return _described(call, _state(call).image_builders, "ImageBuilders", _builder)


def describe_app_block_builders(call: Call) -> Mapping[str, Any]:
    """The app block builders that are named, or all. Raises ResourceNotFoundException."""
    return _described(call, _state(call).app_block_builders, "AppBlockBuilders", _app_block_builder)


def update_fleet(call: Call) -> Mapping[str, Any]:
    """Change a stopped fleet: DisableIMDSV1, its names and its instance type. A running one gets only another name.

    Raises ResourceNotFoundException, OperationNotPermittedException and InvalidParameterCombinationException.
    """
    params, found = call.params, _named(call)
    check_text(params.get("DisplayName"), "displayName", _combination, length_max=100)
    check_text(params.get("Description"), "description", _combination, length_max=256)
    check_text(params.get("InstanceType"), "instanceType", _combination, length_min=1)
    unknown = sorted(name for name in params if name not in _UPDATABLE)
    if unknown:
        raise AwsError(
            "UnsupportedOperation",
            f"The local AWS of imdsctl does not implement {unknown[0]} of appstream:UpdateFleet.",
            400,
        )
    if found.state != STOPPED and (not params.keys() <= _WHILE_RUNNING or found.state != RUNNING):
        raise AwsError(
            "OperationNotPermittedException",
            f"The fleet {found.name} is in the state {found.state}: stop it before you change that.",
            400,
        )
    found.display_name = params.get("DisplayName", found.display_name)
    found.description = params.get("Description", found.description)
    found.instance_type = params.get("InstanceType", found.instance_type)
    found.disable_imds_v1 = params.get("DisableIMDSV1", found.disable_imds_v1)
    return {"Fleet": _fleet(found)}


def start_fleet(call: Call) -> Mapping[str, Any]:
    """Start a fleet; one that runs stays as it is. Raises ResourceNotFoundException."""
    _named(call).state = RUNNING
    return {}


def stop_fleet(call: Call) -> Mapping[str, Any]:
    """Stop a fleet; one that is stopped stays as it is. Raises ResourceNotFoundException."""
    _named(call).state = STOPPED
    return {}


def _state(call: Call) -> AppStreamState:
    return call.world.service_state(first_state, call.account_id, call.region)


def _named(call: Call) -> Streamer:
    name = call.params.get("Name")
    check_required(name, "name", _combination)
    found = _state(call).fleets.get(str(name))
    if found is None:
        raise _not_found([str(name)])
    return found


def _described(
    call: Call, there: Mapping[str, Streamer], member: str, structure: Callable[[Streamer], dict[str, Any]]
) -> Mapping[str, Any]:
    names = call.params.get("Names") or ()
    missing = [name for name in names if name not in there]
    if missing:
        raise _not_found(missing)
    chosen = [there[name] for name in sorted(set(names) or there)]
    size = call.params.get("MaxResults")
    check_range(size, "maxResults", _combination, 1, PAGE)
    try:
        place = f"{call.action}/{call.account_id}/{call.region}/{sorted(set(names))}"
        shown, token = page(chosen, call.params.get("NextToken"), size or PAGE, of=place)
    except InvalidToken:
        raise _combination("The next token is not valid.") from None
    answer = {member: [structure(each) for each in shown]}
    return answer if token is None else {**answer, "NextToken": token}


def _common(each: Streamer) -> dict[str, Any]:
    out: dict[str, Any] = {
        "Arn": each.arn,
        "Name": each.name,
        "InstanceType": each.instance_type,
        "Platform": each.platform,
        "State": each.state,
        "CreatedTime": each.created,
        "EnableDefaultInternetAccess": False,
        "DisableIMDSV1": each.disable_imds_v1,
    }
    if each.display_name is not None:
        out["DisplayName"] = each.display_name
    if each.description is not None:
        out["Description"] = each.description
    return out


def _fleet(each: Streamer) -> dict[str, Any]:
    running = each.desired if each.state == RUNNING else 0
    return {
        **_common(each),
        "FleetType": "ON_DEMAND",
        "ComputeCapacityStatus": {
            "Desired": each.desired,
            "Running": running,
            "InUse": 0,
            "Available": running,
        },
        "MaxUserDurationInSeconds": 57600,
        "DisconnectTimeoutInSeconds": 900,
        "StreamView": "APP",
    }


def _builder(each: Streamer) -> dict[str, Any]:
    return {**_common(each), "AppstreamAgentVersion": "LATEST"}


def _app_block_builder(each: Streamer) -> dict[str, Any]:
    return {**_common(each), "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []}}


def _not_found(names: Sequence[str]) -> AwsError:
    return AwsError("ResourceNotFoundException", f"The resource {names[0]} was not found.", 400)


def _combination(message: str) -> AwsError:
    return AwsError("InvalidParameterCombinationException", message, 400)


OPERATIONS: Operations = {
    "DescribeFleets": Operation(describe_fleets),
    "DescribeImageBuilders": Operation(describe_image_builders),
    "DescribeAppBlockBuilders": Operation(describe_app_block_builders),
    "UpdateFleet": Operation(update_fleet, writes=True),
    "StartFleet": Operation(start_fleet, writes=True),
    "StopFleet": Operation(stop_fleet, writes=True),
}
