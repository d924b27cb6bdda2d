"""From what a group is to launch: launch configuration, template or mixed instances policy, parsed and checked.

Source: Amazon EC2 Auto Scaling API Reference, `LaunchTemplateSpecification`, `MixedInstancesPolicy`,
`InstancesDistribution`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imdsctl.local.autoscaling.common import invalid
from imdsctl.local.autoscaling.configurations import check_launch, no_configuration
from imdsctl.local.autoscaling.source import in_subnet, recipe, specification_of
from imdsctl.local.autoscaling.state import ScalingState, Source
from imdsctl.local.call import AwsError, Call
from imdsctl.local.constraints import check_range

FULLY_FORMED = "You must use a valid fully-formed launch template. "
OVERRIDES_MAX = 40
ALLOCATION: Mapping[str, tuple[str, ...]] = {
    "OnDemandAllocationStrategy": ("lowest-price", "prioritized"),
    "SpotAllocationStrategy": (
        "capacity-optimized",
        "capacity-optimized-prioritized",
        "diversified",
        "lowest-price",
        "price-capacity-optimized",
    ),
}


def source_of(state: ScalingState, params: Mapping[str, Any]) -> Source | None:
    """What a request wants launched; None when it does not say. Raises ValidationError."""
    configuration, template, mixed = (
        params.get("LaunchConfigurationName"),
        params.get("LaunchTemplate"),
        params.get("MixedInstancesPolicy"),
    )
    if sum(map(bool, (configuration, template, mixed, params.get("InstanceId")))) > 1:
        raise invalid(
            "Valid requests must contain either LaunchTemplate, LaunchConfigurationName, InstanceId or "
            "MixedInstancesPolicy parameter."
        )
    if configuration:
        if configuration not in state.configurations:
            raise no_configuration(configuration)
        return Source(configuration=configuration)
    if template:
        return Source(template=_specification(state, template))
    if mixed:
        return Source(mixed=_mixed(state, mixed))
    return None


def _specification(state: ScalingState, given: Mapping[str, Any]) -> dict[str, str]:
    if bool(given.get("LaunchTemplateId")) == bool(given.get("LaunchTemplateName")):
        raise invalid("Valid requests must contain either launchTemplateId or LaunchTemplateName")
    try:
        return specification_of(state.ec2, given)
    except AwsError as refusal:
        raise invalid(FULLY_FORMED + refusal.message) from None


def _mixed(state: ScalingState, given: Mapping[str, Any]) -> dict[str, Any]:
    template = given.get("LaunchTemplate") or {}
    if not template.get("LaunchTemplateSpecification"):
        raise invalid("MixedInstancesPolicy must contain a LaunchTemplate with a LaunchTemplateSpecification.")
    overrides = []
    for each in template.get("Overrides") or ():
        if each.get("InstanceRequirements"):
            raise AwsError(
                "UnsupportedOperation",
                "The local AWS of imdsctl does not choose instance types by their attributes (InstanceRequirements).",
                400,
            )
        override = {name: each[name] for name in ("InstanceType", "WeightedCapacity", "ImageId") if each.get(name)}
        weight = override.get("WeightedCapacity")
        if weight is not None and not (weight.isascii() and weight.isdigit() and 1 <= int(weight) <= 999):
            raise invalid(f"Invalid WeightedCapacity '{weight}': specify a number from 1 to 999.")
        if each.get("LaunchTemplateSpecification"):
            override["LaunchTemplateSpecification"] = _specification(state, each["LaunchTemplateSpecification"])
        overrides.append(override)
    if len(overrides) > OVERRIDES_MAX:
        raise invalid(f"A mixed instances policy can have up to {OVERRIDES_MAX} overrides.")
    if len({bool(each.get("WeightedCapacity")) for each in overrides}) > 1:
        raise invalid("You must specify a weighted capacity for all instance types, or for none of them.")
    types = [each.get("InstanceType") for each in overrides]
    if len(set(types)) < len(types):
        raise invalid("Duplicate instance types in the overrides of the mixed instances policy.")
    return {
        "LaunchTemplate": {
            "LaunchTemplateSpecification": _specification(state, template["LaunchTemplateSpecification"]),
            "Overrides": overrides,
        },
        "InstancesDistribution": _distribution(given.get("InstancesDistribution") or {}),
    }


def _distribution(given: Mapping[str, Any]) -> dict[str, Any]:
    """AWS's `InstancesDistribution` with its defaults."""
    for name, choices in ALLOCATION.items():
        if given.get(name) not in (None, *choices):
            raise invalid(f"Invalid {name} '{given[name]}'. Valid values are {', '.join(choices)}.")
    check_range(
        given.get("OnDemandPercentageAboveBaseCapacity"), "onDemandPercentageAboveBaseCapacity", invalid, 0, 100
    )
    check_range(given.get("OnDemandBaseCapacity"), "onDemandBaseCapacity", invalid, 0, 10_000)
    check_range(given.get("SpotInstancePools"), "spotInstancePools", invalid, 0, 20)
    out: dict[str, Any] = {
        "OnDemandAllocationStrategy": "prioritized",
        "OnDemandBaseCapacity": 0,
        "OnDemandPercentageAboveBaseCapacity": 100,
        "SpotAllocationStrategy": "lowest-price",
        **{name: value for name, value in given.items() if value not in (None, "")},
    }
    if out["SpotAllocationStrategy"] == "lowest-price":
        out.setdefault("SpotInstancePools", 2)
    return out


def check_source(call: Call, state: ScalingState, source: Source, subnets: Sequence[str], zones: Sequence[str]) -> None:
    """Refuse a source that RunInstances would refuse, HttpTokensEnforced excepted. Raises ValidationError."""
    introduction = "" if source.configuration is not None else FULLY_FORMED
    try:
        made = recipe(state, source)
    except AwsError as refusal:
        raise invalid(introduction + refusal.message) from None
    ec2 = state.ec2
    subnet = next(each for each in ec2.subnets.values() if (each.id in subnets if subnets else each.zone.name in zones))
    check_launch(call, in_subnet(made.params, subnet), introduction)
