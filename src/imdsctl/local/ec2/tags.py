"""CreateTags, DeleteTags, DescribeTags.

Source: EC2 API Reference, the three pages; EC2 User Guide, "Tag your Amazon EC2 resources" (restrictions).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from imdsctl.domain.options import Switch
from imdsctl.local.call import Call, Operation
from imdsctl.local.ec2.common import (
    check_metadata_tag_keys,
    check_tag,
    check_tag_count,
    region_state,
    tag_pairs,
)
from imdsctl.local.ec2.errors import IDENTIFIER_KINDS, check_identifiers, invalid_value, missing, not_found, refuse
from imdsctl.local.ec2.filters import Filters
from imdsctl.local.ec2.images import find_image
from imdsctl.local.ec2.network import vpc_part
from imdsctl.local.ec2.pages import page
from imdsctl.local.ec2.render import interface_id
from imdsctl.local.ec2.resources import TERMINATED
from imdsctl.local.ec2.state import RegionState

RESOURCES_MAX = 1000

RESOURCE_TYPES = {
    "i": "instance",
    "ami": "image",
    "snap": "snapshot",
    "vol": "volume",
    "lt": "launch-template",
    "subnet": "subnet",
    "sg": "security-group",
    "sgr": "security-group-rule",
    "vpc": "vpc",
    "rtb": "route-table",
    "acl": "network-acl",
    "eni": "network-interface",
    "key": "key-pair",
    "sir": "spot-instances-request",
    "fleet": "fleet",
    "sfr": "spot-fleet-request",
}
"""Prefix of an identifier to AWS's `ResourceType`."""


def _check_resource(call: Call, resource_id: str) -> None:
    """Refuse what is not here. Raises InvalidID, Invalid...ID.Malformed and ...NotFound."""
    state = region_state(call)
    kind = resource_id.partition("-")[0]
    if kind not in RESOURCE_TYPES:
        raise refuse("InvalidID", f"The ID '{resource_id}' is not valid")
    if kind in IDENTIFIER_KINDS:
        check_identifiers(kind, [resource_id])
    if kind == "ami":
        find_image(call, resource_id)
    elif not _exists(state, kind, resource_id):
        if kind in IDENTIFIER_KINDS:
            raise not_found(kind, resource_id)
        raise refuse("InvalidID", f"The ID '{resource_id}' is not valid")


def _exists(state: RegionState, kind: str, resource_id: str) -> bool:
    if kind == "i":
        instance = state.instances.get(resource_id)
        return instance is not None and instance.state != TERMINATED
    if kind == "vpc":
        return resource_id == state.vpc_id
    if kind in ("rtb", "acl"):
        return resource_id == vpc_part(state, kind)
    if kind == "eni":
        return any(interface_id(each) == resource_id for each in state.instances.values() if each.state != TERMINATED)
    if kind == "key":
        return any(pair.id == resource_id for pair in state.key_pairs.values())
    if kind == "sgr":
        return any(rule.id == resource_id for group in state.security_groups.values() for rule in group.rules.values())
    tables: dict[str, dict[str, Any]] = {
        "snap": state.snapshots,
        "vol": state.volumes,
        "lt": state.templates,
        "subnet": state.subnets,
        "sg": state.security_groups,
        "sir": state.spot_requests,
        "fleet": state.fleets,
        "sfr": state.spot_fleets,
    }
    return resource_id in tables[kind]


def _resources(call: Call) -> list[str]:
    resources: list[str] = call.params.get("Resources") or []
    if not resources:
        raise missing("resourceIdSet")
    if len(resources) > RESOURCES_MAX:
        raise invalid_value(f"The maximum number of resources in one request is {RESOURCES_MAX}.")
    for resource_id in resources:
        _check_resource(call, resource_id)
    return resources


def create_tags(call: Call) -> dict[str, Any]:
    """Add or overwrite tags on up to 1000 resources; all of them or none.

    Raises MissingParameter, InvalidParameterValue, TagLimitExceeded, and for a resource that does not exist. Keys that
    the metadata service cannot serve are refused on an instance with InstanceMetadataTags enabled.
    """
    state = region_state(call)
    resources = _resources(call)
    if not call.params.get("Tags"):
        raise missing("tagSet")
    added = tag_pairs(call.params["Tags"])
    for resource_id in resources:
        check_tag_count(len({**state.tags.get(resource_id, {}), **added}))
        instance = state.instances.get(resource_id)
        if instance is not None and instance.options.instance_metadata_tags is Switch.ENABLED:
            check_metadata_tag_keys(added)
    for resource_id in resources:
        state.tags.setdefault(resource_id, {}).update(added)
    state.tagged(resources)
    return {}


def delete_tags(call: Call) -> dict[str, Any]:
    """Remove tags; one without a value goes whatever its value is, without Tags all of the user's go.

    Raises MissingParameter, InvalidParameterValue, and for a resource that does not exist.
    """
    state = region_state(call)
    resources = _resources(call)
    tags = call.params.get("Tags")
    for tag in tags or ():
        check_tag(tag.get("Key") or "", tag.get("Value") or "")
    for resource_id in resources:
        held = state.tags.get(resource_id, {})
        if tags:
            for tag in tags:
                value = tag.get("Value")
                if value is None or held.get(tag["Key"]) == value:
                    held.pop(tag["Key"], None)
        else:
            for key in [key for key in held if not key.startswith("aws:")]:
                del held[key]
        if not held:
            state.tags.pop(resource_id, None)
    state.tagged(resources)
    return {}


@dataclass(frozen=True, slots=True)
class _Tag:
    resource_id: str
    key: str
    value: str

    @property
    def resource_type(self) -> str:
        return RESOURCE_TYPES[self.resource_id.partition("-")[0]]

    @property
    def order(self) -> str:
        return f"{self.resource_id}\n{self.key}"


TAG_FILTERS: Filters[_Tag] = Filters(
    {
        "key": lambda tag: tag.key,
        "resource-id": lambda tag: tag.resource_id,
        "resource-type": lambda tag: tag.resource_type,
        "tag": lambda tag: f"{tag.key}={tag.value}",
        "value": lambda tag: tag.value,
    },
    lambda tag: {tag.key: tag.value},
)


def describe_tags(call: Call) -> dict[str, Any]:
    """All tags of the Region, in pages of 5 to 1000. Raises InvalidParameterValue for an unknown filter."""
    state = region_state(call)
    all_tags = (_Tag(each, key, value) for each, tags in state.tags.items() for key, value in tags.items())
    found = TAG_FILTERS.select(all_tags, call.params.get("Filters"))
    found.sort(key=lambda tag: tag.order)
    shown, token = page(found, lambda tag: tag.order, call.params, f"{call.account_id}/tags")
    out: dict[str, Any] = {
        "Tags": [
            {"Key": tag.key, "ResourceId": tag.resource_id, "ResourceType": tag.resource_type, "Value": tag.value}
            for tag in shown
        ]
    }
    if token:
        out["NextToken"] = token
    return out


OPERATIONS = {
    "CreateTags": Operation(create_tags, writes=True),
    "DeleteTags": Operation(delete_tags, writes=True),
    "DescribeTags": Operation(describe_tags),
}
