"""What the rooms that say which permissions a call needs have in common.

Source: Service Authorization Reference, "Actions, resources, and condition keys" of each service. A call that has no
entry in its service's room needs its own action on `*`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from imdsctl.local.call import Call
from imdsctl.policy.request import Keys, ResourceContext

EVERYTHING = (ResourceContext(),)
"""What an action without resource types is tested on."""

Named = tuple[tuple[ResourceContext, ...], Mapping[str, Any]]
"""The resources that a call names, and the condition keys of all of them."""

PREFIXES = {"monitoring": "cloudwatch"}
"""IAM's prefix of a service where it is not its signing name."""
OF_BATCHES = {"SendMessageBatch": "SendMessage", "DeleteMessageBatch": "DeleteMessage"}
"""A batch needs the permission of its entries' action (SQS Developer Guide, "Amazon SQS API permissions")."""


@dataclass(frozen=True, slots=True)
class Need:
    """One permission: an action, the resources it must be allowed on, and condition keys for all of them."""

    action: str
    resources: tuple[ResourceContext, ...] = EVERYTHING
    keys: Keys = field(default_factory=dict)


def action_of(call: Call) -> str:
    """The IAM action of a call's operation: `ec2:RunInstances`."""
    action = OF_BATCHES.get(call.action, call.action) if call.service == "sqs" else call.action
    return f"{PREFIXES.get(call.service, call.service)}:{action}"


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
    """A request's list of tags as a dict, whatever is wrong with it: the handler refuses what is."""
    found: dict[str, str] = {}
    for tag in tags if isinstance(tags, Iterable) else ():
        if isinstance(tag, Mapping):
            found[str(tag.get("Key") or "")] = str(tag.get("Value") or "")
    found.pop("", None)
    return found
