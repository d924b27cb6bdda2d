"""RequestSpotInstances, DescribeSpotInstanceRequests, CancelSpotInstanceRequests, DescribeSpotPriceHistory.

Source: EC2 API Reference, the four pages. A launch specification of RequestSpotInstances has no metadata options, so
the layers below the launch decide them: the Region's defaults, the image, the service.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from imdsctl.codify.launch import without_empty
from imdsctl.local.call import AwsError, Call, Operation
from imdsctl.local.ec2.common import aws_tags, region_state, remember, replayed, tag_specifications
from imdsctl.local.ec2.errors import (
    check_identifiers,
    invalid_combination,
    invalid_value,
    missing,
    not_found,
    refuse,
)
from imdsctl.local.ec2.filters import Filters, boolean, nothing
from imdsctl.local.ec2.instance_type_offers import offered
from imdsctl.local.ec2.instance_types import InstanceType, instance_type
from imdsctl.local.ec2.launch import INSTANCES_MAX, carry_out, prepare
from imdsctl.local.ec2.launch_templates import timestamp
from imdsctl.local.ec2.pages import page
from imdsctl.local.ec2.resources import Instance, SpotRequest
from imdsctl.local.ec2.spot_market import (
    ACTIVE,
    BAD_PARAMETERS,
    CANCELED_AND_RUNNING,
    CANCELED_BEFORE,
    CANCELLED,
    DISABLED,
    FAILED,
    FULFILLED,
    ONE_TIME,
    OPEN,
    PENDING_EVALUATION,
    PERSISTENT,
    Market,
    check_dates,
    check_terms,
    dollars,
    request_of,
    set_status,
    spot_price,
)
from imdsctl.local.ec2.state import RegionState
from imdsctl.local.ec2.zones import Zone, zones

PRODUCTS = ("Linux/UNIX", "Linux/UNIX (Amazon VPC)", "Windows", "Windows (Amazon VPC)")
VALID = timedelta(days=7)
"""EC2 API Reference, RequestSpotInstances, ValidUntil: how long a one-time request is valid that does not say."""
PRICE_CHANGED = timedelta(hours=6)
"""So long ago, at most, the Spot price was told last: the prices themselves stand still here."""


# -- requesting -------------------------------------------------------------------------------------------------------


def request_spot_instances(call: Call) -> dict[str, Any]:
    """Ask for InstanceCount spot instances, each with a request of its own. They launch at once.

    The answer says `open`, as AWS's does before it has looked; DescribeSpotInstanceRequests says what came of it. What
    RunInstances would refuse is refused here. Raises like `launch.prepare`, and UnsupportedOperation for a request that
    is to start later.
    """
    state, params = region_state(call), call.params
    specification = without_empty(params.get("LaunchSpecification") or {})
    if not specification:
        raise missing("LaunchSpecification")
    count = params.get("InstanceCount")
    count = 1 if count is None else count
    if not 1 <= count <= INSTANCES_MAX:
        raise invalid_value(f"Value ({count}) for parameter instanceCount is invalid.")
    kind, price = params.get("Type") or ONE_TIME, params.get("SpotPrice") or None
    interruption = params.get("InstanceInterruptionBehavior") or None
    check_terms(kind, price, interruption)
    check_dates(params.get("ValidFrom"), params.get("ValidUntil"), call.now)
    tags = tag_specifications(params.get("TagSpecifications"), ["spot-instances-request"])

    made = replayed(call, lambda ids: all(each in state.spot_requests for each in ids.split()))
    if made is None:
        market = Market(
            kind,
            price,
            interruption or "terminate",
            params.get("ValidUntil") or (_default_end(call) if kind == ONE_TIME else None),
            params.get("LaunchGroup") or None,
            params.get("AvailabilityZoneGroup") or None,
        )
        asked = {**specification, "MinCount": count, "MaxCount": count}
        if tags:
            asked["TagSpecifications"] = params["TagSpecifications"]
        reservation = carry_out(call, prepare(call, asked, market=market))
        requests = [request_of(state, instance) for instance in reservation.instances]
        made = " ".join(request.id for request in requests if request is not None)
        remember(call, made)
    return {"SpotInstanceRequests": [_submitted(state, state.spot_requests[each]) for each in made.split()]}


def _default_end(call: Call) -> datetime:
    return call.now.replace(microsecond=0) + VALID


def _submitted(state: RegionState, request: SpotRequest) -> dict[str, Any]:
    """A request as it is before AWS has evaluated it."""
    shown = _structure(state, request)
    for name in ("InstanceId", "LaunchedAvailabilityZone", "LaunchedAvailabilityZoneId"):
        shown.pop(name, None)
    shown["State"] = OPEN
    shown["Status"] = _status(PENDING_EVALUATION, request.created)
    return shown


def relaunch(call: Call, state: RegionState, ended: Iterable[Instance]) -> None:
    """Launch again for the persistent requests whose instances these were (they are open now).

    A request that cannot be launched any more (the Region enforces HttpTokens now, say) has failed, and says why.
    """
    for old in ended:
        request = request_of(state, old)
        if request is None or request.state != OPEN or request.ended != old.id:
            continue
        if request.valid_until is not None and request.valid_until <= call.now:
            set_status(request, CANCELLED, ("schedule-expired", "Your Spot request has expired."), call.now)
            continue
        try:
            launch = prepare(call, {**request.asked, "MinCount": 1, "MaxCount": 1}, market=Market(PERSISTENT))
        except AwsError as refused:
            set_status(request, FAILED, (BAD_PARAMETERS, refused.message), call.now)
            continue
        [instance] = carry_out(call, launch, spot_request=request).instances
        request.instance_id, request.zone = instance.id, instance.subnet.zone
        set_status(request, ACTIVE, FULFILLED, call.now)


# -- describing -------------------------------------------------------------------------------------------------------


def _structure(state: RegionState, request: SpotRequest) -> dict[str, Any]:
    """AWS's `SpotInstanceRequest`."""
    out: dict[str, Any] = {
        "SpotInstanceRequestId": request.id,
        "CreateTime": request.created,
        "InstanceInterruptionBehavior": request.interruption,
        "LaunchSpecification": request.specification,
        "ProductDescription": request.product,
        "SpotPrice": request.price,
        "State": request.state,
        "Status": _status(request.status, request.updated or request.created),
        "Type": request.kind,
        "Tags": aws_tags(state.tags.get(request.id)),
    }
    if request.instance_id is not None:
        out["InstanceId"] = request.instance_id
    if request.zone is not None:
        out["LaunchedAvailabilityZone"] = request.zone.name
        out["LaunchedAvailabilityZoneId"] = request.zone.id
    for name, value in (
        ("ValidUntil", request.valid_until),
        ("LaunchGroup", request.launch_group),
        ("AvailabilityZoneGroup", request.zone_group),
    ):
        if value is not None:
            out[name] = value
    if request.state == FAILED:
        out["Fault"] = {"Code": request.status[0], "Message": request.status[1]}
    return out


def _status(status: tuple[str, str], at: datetime) -> dict[str, Any]:
    return {"Code": status[0], "Message": status[1], "UpdateTime": at}


class _Listed(NamedTuple):
    """A request with the Region it is in."""

    state: RegionState
    request: SpotRequest

    @property
    def failure(self) -> tuple[str | None, str | None]:
        return self.request.status if self.request.state == FAILED else (None, None)


def _launch(name: str) -> Callable[[_Listed], Any]:
    return lambda listed: listed.request.specification.get(name)


def _volumes(name: str) -> Callable[[_Listed], list[str]]:
    def values(listed: _Listed) -> list[str]:
        mappings = [each.get("Ebs") or {} for each in listed.request.specification["BlockDeviceMappings"]]
        found = [each[name] for each in mappings if name in each]
        return [boolean(each) if isinstance(each, bool) else str(each) for each in found]

    return values


def _groups(name: str) -> Callable[[_Listed], list[str]]:
    return lambda listed: [group[name] for group in listed.request.specification["SecurityGroups"]]


REQUEST_FILTERS: Filters[_Listed] = Filters(
    {
        **dict.fromkeys(
            (
                "launch.kernel-id",
                "launch.ramdisk-id",
                *(
                    f"network-interface.{name}"
                    for name in (
                        "addresses.primary",
                        "delete-on-termination",
                        "description",
                        "device-index",
                        "group-id",
                        "network-interface-id",
                        "private-ip-address",
                        "subnet-id",
                    )
                ),
                "valid-from",
            ),
            nothing,
        ),
        "availability-zone-group": lambda listed: listed.request.zone_group,
        "create-time": lambda listed: timestamp(listed.request.created),
        "fault-code": lambda listed: listed.failure[0],
        "fault-message": lambda listed: listed.failure[1],
        "instance-id": lambda listed: listed.request.instance_id,
        "launch-group": lambda listed: listed.request.launch_group,
        "launch.block-device-mapping.delete-on-termination": _volumes("DeleteOnTermination"),
        "launch.block-device-mapping.device-name": lambda listed: [
            each["DeviceName"] for each in listed.request.specification["BlockDeviceMappings"] if "DeviceName" in each
        ],
        "launch.block-device-mapping.snapshot-id": _volumes("SnapshotId"),
        "launch.block-device-mapping.volume-size": _volumes("VolumeSize"),
        "launch.block-device-mapping.volume-type": _volumes("VolumeType"),
        "launch.group-id": _groups("GroupId"),
        "launch.group-name": _groups("GroupName"),
        "launch.image-id": _launch("ImageId"),
        "launch.instance-type": _launch("InstanceType"),
        "launch.key-name": _launch("KeyName"),
        "launch.monitoring-enabled": lambda listed: boolean(listed.request.specification["Monitoring"]["Enabled"]),
        "launched-availability-zone": lambda listed: listed.request.zone.name if listed.request.zone else None,
        "launched-availability-zone-id": lambda listed: listed.request.zone.id if listed.request.zone else None,
        "product-description": lambda listed: listed.request.product,
        "spot-instance-request-id": lambda listed: listed.request.id,
        "spot-price": lambda listed: listed.request.price,
        "state": lambda listed: listed.request.state,
        "status-code": lambda listed: listed.request.status[0],
        "status-message": lambda listed: listed.request.status[1],
        "type": lambda listed: listed.request.kind,
        "valid-until": lambda listed: timestamp(listed.request.valid_until) if listed.request.valid_until else None,
    },
    lambda listed: listed.state.tags.get(listed.request.id, {}),
)


def _find(state: RegionState, ids: Iterable[str]) -> list[SpotRequest]:
    """The requests of these ids, each once. Raises InvalidSpotInstanceRequestID.Malformed and .NotFound."""
    ids = list(dict.fromkeys(ids))
    check_identifiers("sir", ids)
    for each in ids:
        if each not in state.spot_requests:
            raise not_found("sir", each)
    return [state.spot_requests[each] for each in ids]


def describe_spot_instance_requests(call: Call) -> dict[str, Any]:
    """The requests by id, by filter or all, in pages of 5 to 1000.

    Raises InvalidSpotInstanceRequestID.Malformed and .NotFound, InvalidParameterCombination, InvalidParameterValue.
    """
    state, params = region_state(call), call.params
    ids = params.get("SpotInstanceRequestIds")
    if ids and params.get("MaxResults") is not None:
        raise invalid_combination("The parameter spotInstanceRequestIdSet cannot be used with the parameter maxResults")
    requests = _find(state, ids) if ids else list(state.spot_requests.values())
    listed = REQUEST_FILTERS.select(
        (_Listed(state, each) for each in sorted(requests, key=lambda each: each.id)), params.get("Filters")
    )
    shown, token = page(listed, lambda each: each.request.id, params, f"{call.account_id}/spot-requests")
    out: dict[str, Any] = {"SpotInstanceRequests": [_structure(state, each.request) for each in shown]}
    if token:
        out["NextToken"] = token
    return out


# -- cancelling -------------------------------------------------------------------------------------------------------


def cancel_spot_instance_requests(call: Call) -> dict[str, Any]:
    """Cancel requests; their instances go on running. One that is over stays as it is.

    Raises MissingParameter, InvalidSpotInstanceRequestID.Malformed and .NotFound.
    """
    state, ids = region_state(call), call.params.get("SpotInstanceRequestIds")
    if not ids:
        raise missing("SpotInstanceRequestId")
    requests = _find(state, ids)
    for request in requests:
        if request.state in (ACTIVE, DISABLED):
            set_status(request, CANCELLED, CANCELED_AND_RUNNING, call.now)
        elif request.state == OPEN:
            set_status(request, CANCELLED, CANCELED_BEFORE, call.now)
    return {
        "CancelledSpotInstanceRequests": [
            {"SpotInstanceRequestId": each.id, "State": CANCELLED if each.state == FAILED else each.state}
            for each in requests
        ]
    }


# -- prices -----------------------------------------------------------------------------------------------------------


class _Price(NamedTuple):
    kind: InstanceType
    zone: Zone
    product: str
    at: datetime

    @property
    def order(self) -> str:
        return f"{self.kind.name}\n{self.zone.name}\n{self.product}"


PRICE_FILTERS: Filters[_Price] = Filters(
    {
        "availability-zone": lambda price: price.zone.name,
        "availability-zone-id": lambda price: price.zone.id,
        "instance-type": lambda price: price.kind.name,
        "product-description": lambda price: price.product,
        "spot-price": lambda price: dollars(spot_price(price.kind)),
        "timestamp": lambda price: f"{price.at:%a %b %d %H:%M:%S} UTC {price.at:%Y}",
    }
)


def describe_spot_price_history(call: Call) -> dict[str, Any]:
    """The Spot price of each type, zone and product: one that never changes, told for the latest quarter of a day.

    In pages of 5 to 1000. Raises InvalidInstanceType, InvalidParameterCombination, InvalidParameterValue.
    """
    params = call.params
    names = params.get("InstanceTypes")
    kinds = []
    for name in sorted(set(names or ())):
        kind = instance_type(name)
        if kind is None:
            raise refuse("InvalidInstanceType", f"The following supplied instance types do not exist: [{name}]")
        kinds.append(kind)
    products = params.get("ProductDescriptions") or list(PRODUCTS)
    at = call.world.created + PRICE_CHANGED * ((call.now - call.world.created) // PRICE_CHANGED)
    zone, zone_id = params.get("AvailabilityZone"), params.get("AvailabilityZoneId")
    if zone and zone_id:
        raise invalid_combination("AvailabilityZone and AvailabilityZoneId cannot be specified together.")
    places = [
        each for each in zones(call.region) if each.name == (zone or each.name) and each.id == (zone_id or each.id)
    ]
    if not places:
        raise invalid_value(f"Invalid availability zone: [{zone or zone_id}]")
    prices = [
        _Price(kind, place, product, at)
        for kind in (kinds if names else offered())
        for place in places
        for product in PRODUCTS
        if product in products and (params.get("EndTime") is None or params["EndTime"] >= at)
    ]
    chosen = PRICE_FILTERS.select(sorted(prices, key=lambda each: each.order), params.get("Filters"))
    shown, token = page(chosen, lambda each: each.order, params, f"{call.account_id}/spot-prices")
    out: dict[str, Any] = {
        "SpotPriceHistory": [
            {
                "AvailabilityZone": each.zone.name,
                "AvailabilityZoneId": each.zone.id,
                "InstanceType": each.kind.name,
                "ProductDescription": each.product,
                "SpotPrice": dollars(spot_price(each.kind)),
                "Timestamp": each.at,
            }
            for each in shown
        ],
        "NextToken": token or "",
    }
    return out


OPERATIONS = {
    "RequestSpotInstances": Operation(request_spot_instances, writes=True),
    "DescribeSpotInstanceRequests": Operation(describe_spot_instance_requests),
    "CancelSpotInstanceRequests": Operation(cancel_spot_instance_requests, writes=True),
    "DescribeSpotPriceHistory": Operation(describe_spot_price_history),
}
