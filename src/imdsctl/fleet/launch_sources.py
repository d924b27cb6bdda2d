"""What launches instances beside a call of RunInstances, from AWS's answers to observations. Pure.

Sources: Auto Scaling API Reference, MixedInstancesPolicy and LaunchTemplateOverrides; EC2 API Reference, FleetData,
SpotFleetRequestConfigData, SpotInstanceRequest. A launch specification of Spot has no metadata options at all.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from imdsctl.domain.launches import DEFAULT_VERSION, LATEST_VERSION
from imdsctl.domain.observations import FleetKind, FleetSeen, GroupSeen, LaunchSource

_SPECIFICATION = {"LaunchTemplateId": None, "LaunchTemplateName": None, "Version": None}
_TAGS = {"Key": None, "Value": None}
CONFIGURATIONS = {
    "LaunchConfigurations": {
        "LaunchConfigurationName": None,
        "ImageId": None,
        "MetadataOptions": {"HttpTokens": None, "HttpPutResponseHopLimit": None, "HttpEndpoint": None},
    },
    "NextToken": None,
}
GROUPS = {
    "AutoScalingGroups": {
        "AutoScalingGroupName": None,
        "LaunchConfigurationName": None,
        "LaunchTemplate": _SPECIFICATION,
        "MixedInstancesPolicy": {
            "LaunchTemplate": {
                "LaunchTemplateSpecification": _SPECIFICATION,
                "Overrides": {"LaunchTemplateSpecification": _SPECIFICATION, "ImageId": None},
            }
        },
        "DesiredCapacity": None,
        "Instances": {"InstanceId": None},
        "Tags": _TAGS,
    },
    "NextToken": None,
}
FLEETS = {
    "Fleets": {
        "FleetId": None,
        "FleetState": None,
        "LaunchTemplateConfigs": {"LaunchTemplateSpecification": _SPECIFICATION, "Overrides": {"ImageId": None}},
        "Tags": _TAGS,
    },
    "NextToken": None,
}
SPOT_FLEETS = {
    "SpotFleetRequestConfigs": {
        "SpotFleetRequestId": None,
        "SpotFleetRequestState": None,
        "SpotFleetRequestConfig": {
            "LaunchSpecifications": {"ImageId": None},
            "LaunchTemplateConfigs": {"LaunchTemplateSpecification": _SPECIFICATION},
        },
        "Tags": _TAGS,
    },
    "NextToken": None,
}
SPOT_REQUESTS = {
    "SpotInstanceRequests": {
        "SpotInstanceRequestId": None,
        "State": None,
        "Type": None,
        "LaunchSpecification": {"ImageId": None},
        "Tags": _TAGS,
    },
    "NextToken": None,
}
FLEET_STATES = ("submitted", "active", "modifying")
"""A fleet in another state launches nothing more. Source: EC2 API Reference, FleetData and SpotFleetRequestConfig."""
SPOT_REQUEST_STATES = ("open", "active", "disabled")
"""`disabled` is a persistent request whose instance was stopped. Source: EC2 User Guide, "Spot request status"."""


def group(raw: Mapping[str, Any]) -> GroupSeen:
    """One Auto Scaling group."""
    return GroupSeen(
        name=raw["AutoScalingGroupName"],
        sources=tuple(dict.fromkeys(_of_group(raw))),
        instance_ids=tuple(each["InstanceId"] for each in raw.get("Instances", ())),
        desired=raw.get("DesiredCapacity") or 0,
        tags=tags_of(raw),
    )


def fleet(raw: Mapping[str, Any]) -> FleetSeen:
    """One EC2 Fleet."""
    sources = _of_configs(raw.get("LaunchTemplateConfigs", ()))
    state = raw.get("FleetState") or ""
    return FleetSeen(raw["FleetId"], FleetKind.EC2_FLEET, state, tuple(dict.fromkeys(sources)), tags_of(raw))


def spot_fleet(raw: Mapping[str, Any]) -> FleetSeen | None:
    """One Spot Fleet request; None when it launches nothing any more."""
    state = raw.get("SpotFleetRequestState") or ""
    if state not in FLEET_STATES:
        return None
    config = raw.get("SpotFleetRequestConfig") or {}
    sources = [
        *(LaunchSource(image_id=each.get("ImageId") or None) for each in config.get("LaunchSpecifications", ())),
        *_of_configs(config.get("LaunchTemplateConfigs", ())),
    ]
    kind = FleetKind.SPOT_FLEET
    return FleetSeen(raw["SpotFleetRequestId"], kind, state, tuple(dict.fromkeys(sources)), tags_of(raw))


def spot_request(raw: Mapping[str, Any]) -> FleetSeen | None:
    """One Spot request; None when it launches nothing any more: a one-time request launches once."""
    state = raw.get("State") or ""
    if state not in SPOT_REQUEST_STATES or (state == "active" and raw.get("Type") != "persistent"):
        return None
    image_id = (raw.get("LaunchSpecification") or {}).get("ImageId") or None
    return FleetSeen(
        raw["SpotInstanceRequestId"], FleetKind.SPOT_REQUEST, state, (LaunchSource(image_id=image_id),), tags_of(raw)
    )


def tags_of(raw: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """AWS's tags as pairs."""
    return tuple([(each["Key"], each.get("Value", "")) for each in raw.get("Tags", ())])


class TemplateVersionsNamed:
    """Which template versions launch sources name: `$Default`, `$Latest` or a number, by template id or name."""

    def __init__(self, sources: Iterable[LaunchSource]) -> None:
        self._by_template: dict[str, set[str]] = {}
        for each in sources:
            template = each.template_id or each.template_name
            if template is not None:
                self._by_template.setdefault(template, set()).add(each.version or DEFAULT_VERSION)

    def numbers(self, template_id: str, name: str) -> set[int]:
        """The versions of a template that are named by number."""
        return {int(each) for each in self._of(template_id, name) if each.isdecimal()}

    def names(self, template_id: str, name: str, number: int, *, is_default: bool, is_latest: bool) -> bool:
        """Is this version named, by its number or by what it is?"""
        named = self._of(template_id, name)
        return (
            str(number) in named or (is_default and DEFAULT_VERSION in named) or (is_latest and LATEST_VERSION in named)
        )

    def _of(self, template_id: str, name: str) -> set[str]:
        return self._by_template.get(template_id, set()) | self._by_template.get(name, set())


_NO_OVERRIDES: tuple[Mapping[str, Any], ...] = ({},)


def _of_group(raw: Mapping[str, Any]) -> Iterator[LaunchSource]:
    if raw.get("LaunchConfigurationName"):
        yield LaunchSource(configuration=raw["LaunchConfigurationName"])
    if raw.get("LaunchTemplate"):
        yield _of_template(raw["LaunchTemplate"])
    policy = (raw.get("MixedInstancesPolicy") or {}).get("LaunchTemplate")
    if policy is None:
        return
    common = policy.get("LaunchTemplateSpecification") or {}
    for override in policy.get("Overrides") or _NO_OVERRIDES:
        yield _of_template(override.get("LaunchTemplateSpecification") or common, override.get("ImageId"))


def _of_configs(configs: Iterable[Mapping[str, Any]]) -> Iterator[LaunchSource]:
    for config in configs:
        for override in config.get("Overrides") or _NO_OVERRIDES:
            yield _of_template(config.get("LaunchTemplateSpecification") or {}, override.get("ImageId"))


def _of_template(specification: Mapping[str, Any], image_id: str | None = None) -> LaunchSource:
    return LaunchSource(
        template_id=specification.get("LaunchTemplateId") or None,
        template_name=specification.get("LaunchTemplateName") or None,
        version=specification.get("Version") or None,
        image_id=image_id or None,
    )
