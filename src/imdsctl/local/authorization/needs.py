"""What the rooms that say which permissions a call needs have in common.

Source: Service Authorization Reference, "Actions, resources, and condition keys" of each service. A call that has no
entry in its service's room needs its own action on `*`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imdsctl.codify.needs import EVERYTHING, Need, loose_tags, request_tags, resource_tags
from imdsctl.local.call import Call
from imdsctl.policy.request import ResourceContext

__all__ = [
    "EVERYTHING",
    "OF_BATCHES",
    "PREFIXES",
    "Named",
    "Need",
    "action_of",
    "loose_tags",
    "request_tags",
    "resource_tags",
]

Named = tuple[tuple[ResourceContext, ...], Mapping[str, Any]]
"""The resources that a call names, and the condition keys of all of them."""

PREFIXES = {"monitoring": "cloudwatch"}
"""IAM's prefix of a service where it is not its signing name."""
OF_BATCHES = {"SendMessageBatch": "SendMessage", "DeleteMessageBatch": "DeleteMessage"}
"""A batch needs the permission of its entries' action (SQS Developer Guide, "Amazon SQS API permissions")."""


def action_of(call: Call) -> str:
    """The IAM action of a call's operation: `ec2:RunInstances`."""
    action = OF_BATCHES.get(call.action, call.action) if call.service == "sqs" else call.action
    return f"{PREFIXES.get(call.service, call.service)}:{action}"
