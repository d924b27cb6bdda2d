"""Which permissions a call needs: an action, the resources it is tested on, and the condition keys of all of them.

Source: Service Authorization Reference, "Actions, resources, and condition keys" of each service.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from imdsctl.policy.request import Keys, ResourceContext

EVERYTHING = (ResourceContext(),)
"""What an action without resource types is tested on."""


@dataclass(frozen=True, slots=True)
class Need:
    """One permission: an action, the resources it must be allowed on, and condition keys for all of them."""

    action: str
    resources: tuple[ResourceContext, ...] = EVERYTHING
    keys: Keys = field(default_factory=dict)


def request_tags(tags: Mapping[str, str]) -> Keys:
    """`aws:RequestTag/...` and `aws:TagKeys` of the tags in a request; empty without tags."""
    if not tags:
        return {}
    keys: dict[str, str | tuple[str, ...]] = {f"aws:requesttag/{key.lower()}": value for key, value in tags.items()}
    keys["aws:tagkeys"] = tuple(tags)
    return keys


def resource_tags(tags: Mapping[str, str] | None, prefix: str) -> dict[str, str]:
    """`aws:ResourceTag/...` and the service's own `prefix:ResourceTag/...` of a resource's tags."""
    keys: dict[str, str] = {}
    for key, value in (tags or {}).items():
        keys[f"aws:resourcetag/{key.lower()}"] = value
        keys[f"{prefix}:resourcetag/{key.lower()}"] = value
    return keys


def loose_tags(tags: Any) -> dict[str, str]:
    """A request's list of tags as a dict, whatever is wrong with it."""
    found: dict[str, str] = {}
    for tag in tags if isinstance(tags, Iterable) else ():
        if isinstance(tag, Mapping):
            found[str(tag.get("Key") or "")] = str(tag.get("Value") or "")
    found.pop("", None)
    return found


def option_values(*, tokens: Any, hop_limit: Any, endpoint: Any, tags: Any) -> Mapping[str, Any]:
    """The four keys of metadata options; one that is None is absent."""
    return {
        "ec2:MetadataHttpTokens": None if tokens is None else str(tokens),
        "ec2:MetadataHttpPutResponseHopLimit": hop_limit,
        "ec2:MetadataHttpEndpoint": None if endpoint is None else str(endpoint),
        "ec2:InstanceMetadataTags": None if tags is None else str(tags),
    }


NOT_ATTRIBUTES = frozenset(
    {"DryRun", "ClientToken", "Attribute", "FleetId", "FleetIds", "GroupId", "GroupName", "ImageId", "InstanceId"}
    | {"InstanceIds", "KeyName", "KeyPairId", "LaunchTemplateId", "LaunchTemplateName", "NetworkInterfaceId"}
    | {"SnapshotId", "SourceSnapshotId", "SpotFleetRequestId", "SpotFleetRequestIds", "SpotInstanceRequestIds"}
    | {"SubnetId", "VolumeId", "VolumeIds", "VpcId"}
)
"""Parameters of EC2's Modify calls that say which resource, not what becomes of it."""


def attribute_keys(params: Mapping[str, Any]) -> dict[str, Any]:
    """`ec2:Attribute` and `ec2:Attribute/NAME`: what a Modify call asks for, where that is one value.

    EC2 User Guide, "Control access using attribute-based conditions": for members that are a plain value, or a
    structure with one `Value`.
    """
    found: dict[str, str] = {}
    for name, value in params.items():
        if name in NOT_ATTRIBUTES:
            continue
        if isinstance(value, Mapping):
            value = value.get("Value")
        if isinstance(value, bool):
            found[name] = "true" if value else "false"
        elif isinstance(value, str | int | float):
            found[name] = str(value)
    keys: dict[str, Any] = {f"ec2:attribute/{name.lower()}": value for name, value in found.items()}
    if found:
        keys["ec2:attribute"] = tuple(found)
    elif params.get("Attribute"):
        keys["ec2:attribute"] = str(params["Attribute"])
    return keys
