"""Spot Instance requests: how a launch makes them, and what happens to them when their instance changes.

Source: EC2 User Guide, "Get the status of a Spot Instance request" and "State changes for a Spot request" (codes and
states), "How Spot Instances work" (one-time and persistent requests). Every request is fulfilled at once: capacity is
endless here, and every price is high enough.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from imdsctl.local.call import Call
from imdsctl.local.ec2.errors import check_choice, invalid_combination, invalid_value, unsupported
from imdsctl.local.ec2.instance_types import InstanceType, instance_type
from imdsctl.local.ec2.resources import Instance, Reservation, SpotRequest
from imdsctl.local.ec2.state import RegionState

ONE_TIME = "one-time"
PERSISTENT = "persistent"
INTERRUPTIONS = ("hibernate", "stop", "terminate")

OPEN = "open"
ACTIVE = "active"
CLOSED = "closed"
CANCELLED = "cancelled"
FAILED = "failed"
DISABLED = "disabled"

FULFILLED = ("fulfilled", "Your spot request is fulfilled.")
PENDING_EVALUATION = (
    "pending-evaluation",
    "Your Spot request has been submitted for review, and is pending evaluation.",
)
CANCELED_AND_RUNNING = (
    "request-canceled-and-instance-running",
    "Your Spot request is canceled, but your instance is still running.",
)
CANCELED_BEFORE = ("canceled-before-fulfillment", "Your Spot request is canceled before it was fulfilled.")
TERMINATED_BY_USER = ("instance-terminated-by-user", "Spot Instance terminated due to user-initiated termination.")
STOPPED_BY_USER = ("instance-stopped-by-user", "Spot Instance stopped due to user-initiated stop.")
BAD_PARAMETERS = "bad-parameters"

PRICE_LEAST = 0.001
"""EC2 API Reference, SpotMarketOptions: a maximum price "must be more than USD $0.001"."""

USD_PER_VCPU_HOUR = {"c": 0.0425, "r": 0.063, "t": 0.0208}
USD_PER_VCPU_HOUR_ELSEWHERE = 0.048
SPOT_SHARE = 0.4


def on_demand_price(kind: InstanceType) -> float:
    """An hour's price in USD. Not AWS's price list: vCPUs times one price for the series, so that prices can be shown
    and compared."""
    return kind.vcpus * USD_PER_VCPU_HOUR.get(kind.family[0], USD_PER_VCPU_HOUR_ELSEWHERE)


def spot_price(kind: InstanceType) -> float:
    """The Spot price of an hour in USD: always the same share of the On-Demand price."""
    return on_demand_price(kind) * SPOT_SHARE


def dollars(price: float) -> str:
    """A price as AWS writes it."""
    return f"{price:.6f}"


# -- what a launch says about the market ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Market:
    """On which terms spot instances are asked for. `price` is None where the request names none."""

    kind: str = ONE_TIME
    price: str | None = None
    interruption: str = "terminate"
    valid_until: datetime | None = None
    launch_group: str | None = None
    zone_group: str | None = None


def market_of(options: Mapping[str, Any] | None) -> Market | None:
    """`InstanceMarketOptions` of RunInstances or a launch template; None for anything but the Spot market.

    Raises InvalidParameterValue and InvalidParameterCombination.
    """
    if not options:
        return None
    check_choice(
        options.get("MarketType"), "MarketType", ("spot", "capacity-block", "interruptible-capacity-reservation")
    )
    if options.get("MarketType") != "spot":
        return None
    spot = options.get("SpotOptions") or {}
    kind, interruption = spot.get("SpotInstanceType") or ONE_TIME, spot.get("InstanceInterruptionBehavior")
    check_terms(kind, spot.get("MaxPrice"), interruption)
    interruption = interruption or "terminate"
    if kind == PERSISTENT and interruption == "terminate":
        raise invalid_combination(
            "Persistent Spot Instance requests are only supported when the instance interruption behavior is either "
            "'hibernate' or 'stop'."
        )
    if kind == ONE_TIME and spot.get("ValidUntil") is not None:
        raise invalid_combination("ValidUntil is not supported for one-time Spot Instance requests.")
    return Market(kind, spot.get("MaxPrice"), interruption, spot.get("ValidUntil"))


def check_terms(kind: str | None, price: str | None, interruption: str | None) -> None:
    """Refuse a type, a maximum price or an interruption behavior that AWS does not know.

    Raises InvalidParameterValue.
    """
    check_choice(kind, "SpotInstanceType", (ONE_TIME, PERSISTENT))
    check_choice(interruption, "InstanceInterruptionBehavior", INTERRUPTIONS)
    if price is None:
        return
    try:
        amount = float(price)
    except ValueError:
        amount = 0.0
    if not PRICE_LEAST <= amount < float("inf"):
        raise invalid_value(
            f'Value ({price}) for parameter price is invalid. "{price}" is an invalid spot instance price'
        )


def check_dates(start: datetime | None, end: datetime | None, now: datetime) -> None:
    """Refuse a request that is to start later, or is over. Raises InvalidParameterValue, UnsupportedOperation."""
    if start is not None and start > now:
        raise unsupported("The local AWS of imdsctl launches Spot Instances at once: leave ValidFrom out.")
    if end is not None and end <= now:
        raise invalid_value(f"Value ({end:%Y-%m-%dT%H:%M:%SZ}) for parameter validUntil is invalid. It is in the past.")


# -- requests and their instances -------------------------------------------------------------------------------------


def open_requests(
    call: Call,
    state: RegionState,
    reservation: Reservation,
    market: Market,
    specification: dict[str, Any],
    *,
    asked: Mapping[str, Any],
    tags: Mapping[str, str],
) -> None:
    """Make a fulfilled request for each instance of a reservation that was just launched on the Spot market.

    `specification` is AWS's `LaunchSpecification` of them; `asked` are RunInstances's parameters, for the instances
    that a persistent request launches later.
    """
    for instance in reservation.instances:
        request_id = f"sir-{call.ids.hex(8)}"
        while request_id in state.spot_requests:
            request_id = f"sir-{call.ids.hex(8)}"
        state.spot_requests[request_id] = SpotRequest(
            request_id,
            call.now.replace(microsecond=0),
            market.kind,
            market.price or _default_price(instance),
            specification,
            instance.id,
            product=_product(instance),
            interruption=market.interruption,
            valid_until=market.valid_until,
            launch_group=market.launch_group,
            zone_group=market.zone_group,
            zone=instance.subnet.zone,
            asked=dict(asked),
        )
        if tags:
            state.tags[request_id] = dict(tags)
        link(instance, request_id)


def _default_price(instance: Instance) -> str:
    kind = instance_type(instance.instance_type)
    return dollars(on_demand_price(kind)) if kind is not None else ""


def _product(instance: Instance) -> str:
    return "Windows" if instance.platform == "windows" else "Linux/UNIX"


def link(instance: Instance, request_id: str) -> None:
    """Let an instance say which request it came from."""
    instance.extra = {**(instance.extra or {}), "SpotInstanceRequestId": request_id}
    instance.changed()


def request_of(state: RegionState, instance: Instance) -> SpotRequest | None:
    """The request that an instance came from."""
    request_id = (instance.extra or {}).get("SpotInstanceRequestId")
    return state.spot_requests.get(request_id) if request_id else None


def set_status(request: SpotRequest, state: str, status: tuple[str, str], now: datetime) -> None:
    """Move a request on."""
    request.state, request.status, request.updated = state, status, now.replace(microsecond=0)


def instance_terminated(state: RegionState, instance: Instance, now: datetime) -> None:
    """The user terminated a spot instance: its one-time request is closed, a persistent one is open again.

    A request that was cancelled before stays cancelled.
    """
    request = request_of(state, instance)
    if request is None or request.instance_id != instance.id:
        return
    if request.state == CANCELLED:
        set_status(request, CANCELLED, TERMINATED_BY_USER, now)
    elif request.kind == PERSISTENT:
        request.ended, request.instance_id = request.instance_id, None
        set_status(request, OPEN, PENDING_EVALUATION, now)
    else:
        set_status(request, CLOSED, TERMINATED_BY_USER, now)


def instance_stopped(state: RegionState, instance: Instance, now: datetime) -> None:
    """The user stopped a spot instance of a persistent request, which waits until it is started."""
    request = request_of(state, instance)
    if request is not None and request.state == ACTIVE:
        set_status(request, DISABLED, STOPPED_BY_USER, now)


def instance_started(state: RegionState, instance: Instance, now: datetime) -> None:
    """A stopped spot instance was started again."""
    request = request_of(state, instance)
    if request is not None and request.state == DISABLED:
        set_status(request, ACTIVE, FULFILLED, now)
