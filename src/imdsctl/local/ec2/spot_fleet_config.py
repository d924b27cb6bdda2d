"""The configuration of a Spot Fleet request: what it may say, and what it comes to in the words of an EC2 Fleet.

Source: EC2 API Reference, SpotFleetRequestConfigData, SpotFleetLaunchSpecification, LaunchTemplateConfig. A launch
specification has no metadata options; a request that needs some has to name a launch template.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from imdsctl.local.call import AwsError, Call
from imdsctl.local.ec2.common import tag_specifications
from imdsctl.local.ec2.errors import missing, refuse
from imdsctl.local.ec2.fleet_launches import CAPACITY_MAX, SPOT, capacity_of, pools_of
from imdsctl.local.ec2.fleet_upkeep import MAINTAIN, TERMINATION
from imdsctl.local.ec2.spot_market import INTERRUPTIONS, check_dates, check_terms
from imdsctl.local.ec2.state import RegionState

PRINCIPAL = "spotfleet.amazonaws.com"
"""EC2 User Guide, "Spot Fleet permissions": who has to be trusted by the role that a request names."""

REQUEST = "request"
NO_TERMINATION = "noTermination"
TERMINATES = "default"
STRATEGIES = {
    "lowestPrice": "lowest-price",
    "diversified": "diversified",
    "capacityOptimized": "capacity-optimized",
    "capacityOptimizedPrioritized": "capacity-optimized-prioritized",
    "priceCapacityOptimized": "price-capacity-optimized",
}
"""A strategy of Spot Fleet as EC2 Fleet spells it."""
CHOICES: Mapping[str, Iterable[str]] = {
    "Type": (REQUEST, MAINTAIN),
    "AllocationStrategy": STRATEGIES,
    "OnDemandAllocationStrategy": ("lowestPrice", "prioritized"),
    "InstanceInterruptionBehavior": INTERRUPTIONS,
}
DEFAULTS: Mapping[str, Any] = {
    "AllocationStrategy": "lowestPrice",
    "ExcessCapacityTerminationPolicy": TERMINATES,
    "InstanceInterruptionBehavior": "terminate",
    "OnDemandTargetCapacity": 0,
    "ReplaceUnhealthyInstances": False,
    "TerminateInstancesWithExpiration": False,
    "Type": MAINTAIN,
}
NO_OVERRIDES: tuple[Mapping[str, Any], ...] = ({},)
TOLD_BY_AWS = ("FulfilledCapacity", "OnDemandFulfilledCapacity")
"""What a request cannot set."""


def invalid(member: str) -> AwsError:
    """`InvalidSpotFleetRequestConfig`, with the sentence that AWS has for every member."""
    return refuse("InvalidSpotFleetRequestConfig", f"Parameter: SpotFleetRequestConfig.{member} is invalid")


def checked(call: Call, state: RegionState, config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with its defaults, and `fleet_request` of it tried out.

    Raises MissingParameter, InvalidSpotFleetRequestConfig, InvalidParameterValue, UnsupportedOperation, and for a
    template or version that does not exist.
    """
    for name in ("IamFleetRole", "TargetCapacity"):
        if config.get(name) is None:
            raise missing(f"SpotFleetRequestConfig.{name}")
    config = {**DEFAULTS, **{name: value for name, value in config.items() if name not in TOLD_BY_AWS}}
    for name, choices in CHOICES.items():
        if config.get(name) is not None and config[name] not in choices:
            raise invalid(name)
    from imdsctl.local.trusted import trusts  # here, because policies are decided by the world that this is a part of

    if not trusts(call, config["IamFleetRole"], PRINCIPAL):
        raise invalid("IamFleetRole")
    ends_excess(config)
    check_capacity(config)
    check_sources(config)
    check_dates(config.get("ValidFrom"), config.get("ValidUntil"), call.now)
    check_terms(None, config.get("SpotPrice"), None)
    for each in config.get("LaunchSpecifications") or ():
        tag_specifications(each.get("TagSpecifications"), ["instance"])
    request = fleet_request(config)
    capacity_of(request)
    pools_of(state, request)
    return config


def ends_excess(config: Mapping[str, Any]) -> bool:
    """Whether a fleet that has too many instances terminates some. Terraform's provider writes `Default`.

    Raises InvalidSpotFleetRequestConfig.
    """
    policy = config["ExcessCapacityTerminationPolicy"]
    if policy.lower() not in (NO_TERMINATION.lower(), TERMINATES):
        raise invalid("ExcessCapacityTerminationPolicy")
    return bool(policy.lower() == TERMINATES)


def check_capacity(config: Mapping[str, Any]) -> None:
    """Refuse a capacity out of range; only a fleet that is maintained may wait with none.

    Raises InvalidSpotFleetRequestConfig.
    """
    least = 0 if config["Type"] == MAINTAIN else 1
    if not least <= config["TargetCapacity"] <= CAPACITY_MAX:
        raise invalid("TargetCapacity")
    if not 0 <= config["OnDemandTargetCapacity"] <= config["TargetCapacity"]:
        raise invalid("OnDemandTargetCapacity")


def check_sources(config: Mapping[str, Any]) -> None:
    """Launch specifications or launch templates, never both; On-Demand capacity comes from templates.

    Raises InvalidSpotFleetRequestConfig.
    """
    specifications, templates = config.get("LaunchSpecifications"), config.get("LaunchTemplateConfigs")
    if specifications and templates:
        raise invalid("LaunchTemplateConfigs")
    if not specifications and not templates:
        raise invalid("LaunchSpecifications")
    if specifications and config["OnDemandTargetCapacity"]:
        raise invalid("OnDemandTargetCapacity")


def fleet_request(config: Mapping[str, Any]) -> dict[str, Any]:
    """What CreateFleet would be asked for the same, beside the launch specifications, which it does not have."""
    price = config.get("SpotPrice")
    request: dict[str, Any] = {
        "Type": config["Type"],
        "ExcessCapacityTerminationPolicy": TERMINATION if ends_excess(config) else "no-termination",
        "LaunchSpecifications": [
            {**each, "SpotPrice": each.get("SpotPrice") or price} for each in config.get("LaunchSpecifications") or ()
        ],
        "LaunchTemplateConfigs": [
            {**each, "Overrides": [_override(given, price) for given in each.get("Overrides") or NO_OVERRIDES]}
            for each in config.get("LaunchTemplateConfigs") or ()
        ],
        "TargetCapacitySpecification": {
            "TotalTargetCapacity": config["TargetCapacity"],
            "OnDemandTargetCapacity": config["OnDemandTargetCapacity"],
            "DefaultTargetCapacityType": SPOT,
            "TargetCapacityUnitType": config.get("TargetCapacityUnitType") or "units",
        },
        "SpotOptions": {
            "AllocationStrategy": STRATEGIES[config["AllocationStrategy"]],
            "InstanceInterruptionBehavior": config["InstanceInterruptionBehavior"],
        },
        "OnDemandOptions": {"AllocationStrategy": config.get("OnDemandAllocationStrategy") or "lowestPrice"},
    }
    if config.get("ValidUntil") is not None:
        request["ValidUntil"] = config["ValidUntil"]
    return request


def _override(given: Mapping[str, Any], price: str | None) -> dict[str, Any]:
    """An override; its `SpotPrice` is called MaxPrice in EC2 Fleet."""
    out = {name: value for name, value in given.items() if name != "SpotPrice"}
    most = given.get("SpotPrice") or price
    return {**out, "MaxPrice": most} if most else out
