"""The settings of a group that are kept and shown as they are, and the places it launches into: parsed and checked.

Source: Amazon EC2 Auto Scaling API Reference, CreateAutoScalingGroup and UpdateAutoScalingGroup.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imdsctl.local.autoscaling.common import invalid
from imdsctl.local.constraints import check_range, check_text
from imdsctl.local.ec2.state import RegionState
from imdsctl.local.ec2.zones import zones

TERMINATION_POLICIES = (
    "AllocationStrategy",
    "ClosestToNextInstanceHour",
    "Default",
    "NewestInstance",
    "OldestInstance",
    "OldestLaunchConfiguration",
    "OldestLaunchTemplate",
)
HEALTH_CHECKS = ("EC2", "ELB", "EBS", "VPC_LATTICE")
DEFAULTS: Mapping[str, Any] = {
    "DefaultCooldown": 300,
    "HealthCheckType": "EC2",
    "HealthCheckGracePeriod": 0,
    "TerminationPolicies": ["Default"],
    "CapacityRebalance": False,
    "AvailabilityZoneDistribution": {"CapacityDistributionStrategy": "balanced-best-effort"},
    "CapacityReservationSpecification": {"CapacityReservationPreference": "default"},
    "AvailabilityZoneImpairmentPolicy": {
        "ZonalShiftEnabled": False,
        "ImpairedZoneHealthCheckBehavior": "IgnoreUnhealthy",
    },
}
OTHERS = (
    "Context",
    "DefaultInstanceWarmup",
    "DeletionProtection",
    "DesiredCapacityType",
    "InstanceLifecyclePolicy",
    "InstanceMaintenancePolicy",
    "MaxInstanceLifetime",
)
TAKEN_BACK: Mapping[str, Any] = {
    "DefaultInstanceWarmup": -1,
    "InstanceMaintenancePolicy": {"MinHealthyPercentage": -1, "MaxHealthyPercentage": -1},
    "MaxInstanceLifetime": 0,
}
"""The values with which a request takes a setting back."""

CHOICES: Mapping[str, tuple[str, ...]] = {
    "DeletionProtection": ("none", "prevent-force-deletion", "prevent-all-deletion"),
    "DesiredCapacityType": ("units", "vcpu", "memory-mib"),
}


def settings_of(params: Mapping[str, Any], before: Mapping[str, Any] = DEFAULTS) -> dict[str, Any]:
    """A group's settings after a request, over those before. Raises ValidationError."""
    given = {name: params[name] for name in (*DEFAULTS, *OTHERS) if params.get(name) is not None}
    if params.get("PlacementGroup"):
        raise invalid(f"The placement group '{params['PlacementGroup']}' does not exist.")
    if given.get("TerminationPolicies") == []:
        given["TerminationPolicies"] = ["Default"]
    taken_back = {name for name, value in TAKEN_BACK.items() if given.get(name) == value}
    given = {name: value for name, value in given.items() if name not in taken_back}
    check_settings(given)
    return {**{name: value for name, value in before.items() if name not in taken_back}, **given}


def check_settings(given: Mapping[str, Any]) -> None:
    """Refuse values outside AWS's limits. Raises ValidationError."""
    for name, least, most in (
        ("DefaultCooldown", 0, 2**31 - 1),
        ("HealthCheckGracePeriod", 0, 2**31 - 1),
        ("DefaultInstanceWarmup", 0, 3600),
        ("MaxInstanceLifetime", 86400, 2**31 - 1),
    ):
        check_range(given.get(name), name[:1].lower() + name[1:], invalid, least, most)
    for kind in filter(None, given.get("HealthCheckType", "").split(",")):
        if kind not in HEALTH_CHECKS:
            raise invalid(f"Invalid HealthCheckType: {kind}. Valid types are {', '.join(HEALTH_CHECKS)}.")
    for policy in given.get("TerminationPolicies", ()):
        if policy not in TERMINATION_POLICIES:
            raise invalid(f"Termination policy {policy} is not supported.")
    for name, choices in CHOICES.items():
        if given.get(name) not in (None, *choices):
            raise invalid(f"Invalid value '{given[name]}' for {name}. Valid values are {', '.join(choices)}.")
    check_text(given.get("Context"), "context", invalid, length_max=255)


def places_of(state: RegionState, params: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """The zones and the subnets that a request names, each in the request's order. Raises ValidationError."""
    known = {zone.name: zone for zone in zones(state.region)}
    by_id = {zone.id: zone.name for zone in known.values()}
    named = list(params.get("AvailabilityZones") or ())
    for zone_id in params.get("AvailabilityZoneIds") or ():
        named.append(by_id.get(zone_id, zone_id))
    for name in named:
        if name not in known:
            raise invalid(f"Invalid availability zone: [{name}]. Valid zones are: {', '.join(known)}")
    subnets = [each.strip() for each in (params.get("VPCZoneIdentifier") or "").split(",") if each.strip()]
    for subnet in subnets:
        if subnet not in state.subnets:
            raise invalid(f"The subnet ID '{subnet}' does not exist")
    of_subnets = list(dict.fromkeys(state.subnets[each].zone.name for each in subnets))
    if subnets and named and set(named) != set(of_subnets):
        raise invalid("The availability zones of the specified subnets and the AutoScalingGroup do not match")
    return sorted(set(of_subnets or named)), subnets
