"""How a fleet launches: from which templates and overrides, how many of each, on which market.

Source: EC2 API Reference, CreateFleet and RequestSpotFleet; EC2 User Guide, "Allocation strategies" and "Use instance
weighting". Every instance goes through `launch.prepare`, so the precedence of metadata options is that of RunInstances.
Capacity has no end here, so "most available" is no criterion: those strategies choose by price.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from typing import Any

from imdsctl.codify.launch import DEFAULT_INSTANCE_TYPE, without_empty
from imdsctl.local.call import AwsError, Call
from imdsctl.local.ec2.errors import invalid_combination, invalid_value, missing, unsupported
from imdsctl.local.ec2.instance_types import instance_type
from imdsctl.local.ec2.launch import INSTANCES_MAX, Launch, carry_out, prepare
from imdsctl.local.ec2.launch_templates import find_template, find_version
from imdsctl.local.ec2.resources import PENDING, RUNNING, Fleet, FleetEvent, FleetMember
from imdsctl.local.ec2.spot_market import Market, check_terms, on_demand_price, spot_price
from imdsctl.local.ec2.state import RegionState

SPOT = "spot"
ON_DEMAND = "on-demand"
INSTANT = "instant"
CAPACITY_MAX = 10_000
"""EC2 User Guide, "EC2 Fleet quotas": target capacity for each fleet."""

WEIGHT_LEAST = 0.001
"""What AWS takes at least is not documented; less than this would count instances in the millions."""

BY_PRIORITY = ("prioritized", "capacity-optimized-prioritized")
INSTANCE_CHANGE = "instance-change"
FLEET_CHANGE = "fleet-change"
SERVICE_ERROR = "service-error"


@dataclass(frozen=True, slots=True)
class Pool:
    """A template with one of its overrides: what RunInstances is asked, and what an instance of it counts."""

    asked: Mapping[str, Any]
    source: dict[str, Any]
    instance_type: str
    weight: float
    priority: float
    max_price: str | None

    def price(self, lifecycle: str) -> float:
        """USD an hour for one unit of capacity; a type that does not exist comes last."""
        kind = instance_type(self.instance_type)
        if kind is None:
            return float("inf")
        return (spot_price(kind) if lifecycle == SPOT else on_demand_price(kind)) / self.weight


def pools_of(state: RegionState, request: Mapping[str, Any]) -> list[Pool]:
    """The pools that a fleet may launch from, in the order of its request.

    Raises MissingParameter, InvalidParameterValue, UnsupportedOperation, and for a template or version that does not
    exist.
    """
    configs, specifications = request.get("LaunchTemplateConfigs") or (), request.get("LaunchSpecifications") or ()
    if not configs and not specifications:
        raise missing("LaunchTemplateConfigs")
    out = [pool for each in specifications for pool in _specified(each)]
    for config in configs:
        specification = config.get("LaunchTemplateSpecification") or {}
        template = find_template(state, specification.get("LaunchTemplateId"), specification.get("LaunchTemplateName"))
        version = find_version(template, specification.get("Version"))
        named = {"LaunchTemplateId": template.id, "Version": str(version.number)}
        for override in config.get("Overrides") or [{}]:
            out.append(_pool(named, version.data, override))
    return out


def _pool(named: dict[str, str], data: Mapping[str, Any], override: Mapping[str, Any]) -> Pool:
    _refuse_requirements(override, data)
    weight = _weight(override)
    check_terms(None, override.get("MaxPrice"), None)
    priority = override.get("Priority")
    asked: dict[str, Any] = {"LaunchTemplate": named}
    for name in ("InstanceType", "ImageId", "BlockDeviceMappings"):
        if override.get(name):
            asked[name] = override[name]
    placement = {**(data.get("Placement") or {}), **(override.get("Placement") or {})}
    for name in ("AvailabilityZone", "AvailabilityZoneId"):
        if override.get(name):
            placement[name] = override[name]
    if placement:
        asked["Placement"] = placement
    if override.get("SubnetId"):
        interfaces = data.get("NetworkInterfaces")
        if interfaces:
            asked["NetworkInterfaces"] = [{**interfaces[0], "SubnetId": override["SubnetId"]}, *interfaces[1:]]
        else:
            asked["SubnetId"] = override["SubnetId"]
    return Pool(
        asked,
        {"LaunchTemplateSpecification": named, "Overrides": shown_override(override)},
        override.get("InstanceType") or data.get("InstanceType") or DEFAULT_INSTANCE_TYPE,
        weight,
        float("inf") if priority is None else float(priority),
        override.get("MaxPrice"),
    )


def _specified(specification: Mapping[str, Any]) -> Iterator[Pool]:
    """The pools of a launch specification of Spot Fleet."""
    _refuse_requirements(specification)
    weight, price = _weight(specification), specification.get("SpotPrice")
    check_terms(None, price, None)
    kind = specification.get("InstanceType") or DEFAULT_INSTANCE_TYPE
    for asked in specified_launches(specification):
        yield Pool(asked, {"LaunchSpecification": asked}, kind, weight, float("inf"), price)


def specified_launches(specification: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """What RunInstances is asked for a launch specification of Spot Fleet: once for each of its subnets or zones.

    It asks for no metadata options: AWS's shape has none, so the layers below the launch decide them.
    """
    groups, placement = specification.get("SecurityGroups") or (), specification.get("Placement") or {}
    asked = {
        **{name: specification[name] for name in OF_SPECIFICATIONS if specification.get(name)},
        "SecurityGroupIds": [each["GroupId"] for each in groups if each.get("GroupId")],
        "SecurityGroups": [each["GroupName"] for each in groups if each.get("GroupName") and not each.get("GroupId")],
    }
    for subnet in _listed(specification.get("SubnetId")):
        for zone in _listed(placement.get("AvailabilityZone")):
            yield without_empty({**asked, "SubnetId": subnet, "Placement": {**placement, "AvailabilityZone": zone}})


OF_SPECIFICATIONS = (
    "BlockDeviceMappings",
    "EbsOptimized",
    "IamInstanceProfile",
    "ImageId",
    "InstanceType",
    "KeyName",
    "Monitoring",
    "NetworkInterfaces",
    "TagSpecifications",
    "UserData",
)
"""What a `SpotFleetLaunchSpecification` says in the words of RunInstances."""


def _listed(names: str | None) -> list[str | None]:
    """The names in a text with commas; [None] for none."""
    return [each.strip() for each in (names or "").split(",") if each.strip()] or [None]


def _refuse_requirements(*said: Mapping[str, Any]) -> None:
    if any(each.get("InstanceRequirements") for each in said):
        raise unsupported("The local AWS of imdsctl does not choose instance types by InstanceRequirements.")


def _weight(said: Mapping[str, Any]) -> float:
    """What an instance counts. Raises InvalidParameterValue."""
    weight = said.get("WeightedCapacity")
    weight = 1.0 if weight is None else float(weight)
    if not WEIGHT_LEAST <= weight <= CAPACITY_MAX:
        raise invalid_value(f"Value ({weight:g}) for parameter WeightedCapacity is invalid.")
    return weight


def shown_override(override: Mapping[str, Any]) -> dict[str, Any]:
    """A request's override as AWS shows it: of the placement, the group only."""
    out = dict(override)
    placement = out.pop("Placement", None) or {}
    if placement.get("GroupName"):
        out["Placement"] = {"GroupName": placement["GroupName"]}
    return out


def capacity_of(request: Mapping[str, Any]) -> dict[str, int]:
    """The units that a fleet is to have on each market.

    Raises MissingParameter, InvalidParameterCombination, InvalidParameterValue, UnsupportedOperation.
    """
    target = request.get("TargetCapacitySpecification") or {}
    total = target.get("TotalTargetCapacity")
    if total is None:
        raise missing("TargetCapacitySpecification.TotalTargetCapacity")
    if not 0 <= total <= CAPACITY_MAX:
        raise invalid_value(f"Value ({total}) for parameter TotalTargetCapacity is invalid.")
    default = target.get("DefaultTargetCapacityType") or ON_DEMAND
    if default not in (SPOT, ON_DEMAND):
        raise unsupported(f"The local AWS of imdsctl does not have the target capacity type {default}.")
    if target.get("TargetCapacityUnitType") not in (None, "units"):
        raise unsupported("The local AWS of imdsctl counts a fleet's capacity in units.")
    given = {ON_DEMAND: target.get("OnDemandTargetCapacity") or 0, SPOT: target.get("SpotTargetCapacity") or 0}
    if min(given.values()) < 0:
        raise invalid_value("A target capacity must not be negative.")
    if sum(given.values()) > total:
        raise invalid_combination(
            "The sum of OnDemandTargetCapacity and SpotTargetCapacity must not be greater than TotalTargetCapacity."
        )
    given[default] += total - sum(given.values())
    return given


def alive(state: RegionState, member: FleetMember) -> bool:
    """Whether an instance of a fleet still counts."""
    instance = state.instances.get(member.instance_id)
    return instance is not None and instance.state in (PENDING, RUNNING)


def fulfilled(state: RegionState, fleet: Fleet, lifecycle: str | None = None) -> float:
    """The units that a fleet has (on one market)."""
    return sum(
        member.weight for member in fleet.members if lifecycle in (None, member.lifecycle) and alive(state, member)
    )


def fill(call: Call, state: RegionState, fleet: Fleet, lifecycle: str) -> None:
    """Launch on one market until the fleet has the units it is to have there.

    What cannot be launched is among the fleet's errors, and tried from the next pool.
    """
    left = capacity_of(fleet.request)[lifecycle] - fulfilled(state, fleet, lifecycle)
    if left <= 0:
        return
    options = fleet.request.get("SpotOptions" if lifecycle == SPOT else "OnDemandOptions") or {}
    pools = _ordered(pools_of(state, fleet.request), options.get("AllocationStrategy"), lifecycle)
    if fleet.kind == INSTANT:
        pools = _single(call, fleet, pools, options, lifecycle)
        least = options.get("MinTargetCapacity") or 0
        if least and _possible(call, fleet, pools, left, lifecycle) < min(least, left):
            return
    for index, pool in enumerate(pools):
        share = left / (len(pools) - index) if options.get("AllocationStrategy") == "diversified" else left
        launch = _prepared(call, fleet, pool, ceil(share / pool.weight), lifecycle)
        if launch is None:
            continue
        for instance in carry_out(call, launch).instances:
            fleet.members.append(
                FleetMember(instance.id, instance.instance_type, pool.weight, lifecycle, pool.source, instance.platform)
            )
            note(call, fleet, INSTANCE_CHANGE, "launched", f"{instance.instance_type} {launch.image.id}", instance.id)
            left -= pool.weight
        if left <= 0:
            return


def _ordered(pools: Iterable[Pool], strategy: str | None, lifecycle: str) -> list[Pool]:
    if strategy == "diversified":
        return list(pools)
    if strategy in BY_PRIORITY:
        return sorted(pools, key=lambda pool: pool.priority)
    return sorted(pools, key=lambda pool: pool.price(lifecycle))


def _single(call: Call, fleet: Fleet, pools: list[Pool], options: Mapping[str, Any], lifecycle: str) -> list[Pool]:
    """The pools that SingleInstanceType and SingleAvailabilityZone leave: those that go with the first that works."""
    if not (options.get("SingleInstanceType") or options.get("SingleAvailabilityZone")):
        return pools
    works = [(pool, launch) for pool in pools if (launch := _prepared(call, fleet, pool, 1, lifecycle)) is not None]
    if not works:
        return []
    first, chosen = works[0]
    if options.get("SingleInstanceType"):
        works = [each for each in works if each[0].instance_type == first.instance_type]
    if options.get("SingleAvailabilityZone"):
        there = chosen.subnet
        works = [
            (replace(pool, asked={**pool.asked, "SubnetId": there.id}) if _anywhere(pool) else pool, launch)
            for pool, launch in works
            if _anywhere(pool) or launch.subnet.zone == there.zone
        ]
    return [pool for pool, _ in works]


def _anywhere(pool: Pool) -> bool:
    return not any(pool.asked.get(name) for name in ("SubnetId", "Placement", "NetworkInterfaces"))


def _possible(call: Call, fleet: Fleet, pools: Sequence[Pool], wanted: float, lifecycle: str) -> float:
    """How many units could be launched, without launching any."""
    units = 0.0
    for pool in pools:
        launch = _prepared(call, fleet, pool, ceil((wanted - units) / pool.weight), lifecycle)
        if launch is not None:
            units += launch.count * pool.weight
        if units >= wanted:
            break
    return units


def _prepared(call: Call, fleet: Fleet, pool: Pool, count: int, lifecycle: str) -> Launch | None:
    asked = {**pool.asked, "MinCount": 1, "MaxCount": min(count, INSTANCES_MAX)}
    if fleet.kind == INSTANT:
        asked["TagSpecifications"] = [
            each for each in fleet.request.get("TagSpecifications") or () if each.get("ResourceType") != "fleet"
        ]
    market = None
    if lifecycle == SPOT:
        options = fleet.request.get("SpotOptions") or {}
        market = Market(price=pool.max_price, interruption=options.get("InstanceInterruptionBehavior") or "terminate")
    try:
        return prepare(call, asked, system_tags={fleet.tag: fleet.id}, market=market)
    except AwsError as refused:
        error = {
            "LaunchTemplateAndOverrides": pool.source,
            "Lifecycle": lifecycle,
            "ErrorCode": refused.code,
            "ErrorMessage": refused.message,
        }
        if error not in fleet.errors:
            fleet.errors.append(error)
            note(call, fleet, SERVICE_ERROR, "spotFleetRequestConfigurationInvalid", refused.message)
        return None


def note(
    call: Call, fleet: Fleet, kind: str, sub_kind: str, description: str = "", instance_id: str | None = None
) -> None:
    """Add to a fleet's history."""
    fleet.history.append(FleetEvent(call.now.replace(microsecond=0), kind, sub_kind, description, instance_id))
