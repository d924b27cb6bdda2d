"""Every operation of Lightsail that is here: instances, and their metadata options.

Source: Lightsail API Reference, InstanceMetadataOptions and UpdateInstanceMetadataOptions.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from imdsctl.domain.options import HOP_LIMIT_MAX, HOP_LIMIT_MIN, HttpTokens, MetadataOptions, Switch
from imdsctl.local.call import AwsError, Call, Operation, Operations
from imdsctl.local.constraints import check_members, check_range, check_required
from imdsctl.local.lightsail.state import LightsailInstance, LightsailState, first_state
from imdsctl.local.pages import InvalidToken, page

PAGE = 50
IPV6_REGION = "eu-north-1"
"""Lightsail API Reference, httpProtocolIpv6: "available only for instances in" that Region."""


def get_instances(call: Call) -> Mapping[str, Any]:
    """All instances, by name. Raises InvalidInputException."""
    chosen = [each for _, each in sorted(_state(call).instances.items())]
    place = f"{call.action}/{call.account_id}/{call.region}"
    try:
        shown, token = page(chosen, call.params.get("pageToken") or None, PAGE, of=place)
    except InvalidToken:
        raise _invalid("The page token is not valid.") from None
    answer = {"instances": [_structure(call, each) for each in shown]}
    return answer if token is None else {**answer, "nextPageToken": token}


def get_instance(call: Call) -> Mapping[str, Any]:
    """One instance. Raises NotFoundException."""
    return {"instance": _structure(call, _found(call))}


def update_instance_metadata_options(call: Call) -> Mapping[str, Any]:
    """Change the options; without httpTokens they become `optional`, all others keep their values.

    Raises InvalidInputException and NotFoundException.
    """
    params, found = call.params, _found(call)
    for name, allowed in (("httpTokens", HttpTokens), ("httpEndpoint", Switch), ("httpProtocolIpv6", Switch)):
        value = params.get(name)
        check_members([] if value is None else [value], name, _invalid, map(str, allowed))
    hops = params.get("httpPutResponseHopLimit")
    check_range(hops, "httpPutResponseHopLimit", _invalid, HOP_LIMIT_MIN, HOP_LIMIT_MAX)
    if params.get("httpProtocolIpv6") is not None and call.region != IPV6_REGION:
        raise _invalid(f"The parameter httpProtocolIpv6 is available only in {IPV6_REGION}.")
    asked = MetadataOptions(
        HttpTokens(params.get("httpTokens") or HttpTokens.OPTIONAL),
        hops,
        _switch(params.get("httpEndpoint")),
        _switch(params.get("httpProtocolIpv6")),
    )
    found.options = asked.over(found.options)
    found.applied = call.now + timedelta(seconds=call.world.settle_seconds if found.running else 0)
    operation = {
        "id": call.ids.uuid(),
        "resourceName": found.name,
        "resourceType": "Instance",
        "createdAt": call.now,
        "location": _location(call),
        "isTerminal": True,
        "operationType": "UpdateInstanceMetadataOptions",
        "status": "Succeeded",
        "statusChangedAt": call.now,
    }
    return {"operation": operation}


def _state(call: Call) -> LightsailState:
    return call.world.service_state(first_state, call.account_id, call.region)


def _found(call: Call) -> LightsailInstance:
    name = call.params.get("instanceName")
    check_required(name, "instanceName", _invalid)
    found = _state(call).instances.get(str(name))
    if found is None:
        raise AwsError("NotFoundException", f"The Instance does not exist: {name}", 400)
    return found


def _switch(value: str | None) -> Switch | None:
    return None if value is None else Switch(value)


def _structure(call: Call, each: LightsailInstance) -> dict[str, Any]:
    return {
        "name": each.name,
        "arn": each.arn,
        "supportCode": each.support_code,
        "createdAt": each.created,
        "location": _location(call),
        "resourceType": "Instance",
        "tags": [],
        "blueprintId": each.blueprint,
        "bundleId": each.bundle,
        "isStaticIp": False,
        "privateIpAddress": each.private_ip,
        "publicIpAddress": each.public_ip,
        "ipAddressType": "ipv4",
        "state": {"code": 16, "name": "running"} if each.running else {"code": 80, "name": "stopped"},
        "username": "ec2-user",
        "metadataOptions": _options(each, call.now),
    }


def _options(each: LightsailInstance, now: datetime) -> dict[str, Any]:
    written = {name[0].lower() + name[1:]: value for name, value in each.options.to_aws().items()}
    return {"state": "applied" if now >= each.applied else "pending", **written}


def _location(call: Call) -> dict[str, str]:
    return {"availabilityZone": f"{call.region}a", "regionName": call.region}


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidInputException", message, 400)


OPERATIONS: Operations = {
    "GetInstances": Operation(get_instances),
    "GetInstance": Operation(get_instance),
    "UpdateInstanceMetadataOptions": Operation(update_instance_metadata_options, writes=True),
}
