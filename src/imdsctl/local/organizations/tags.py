"""Tags of the root, of units, accounts and policies.

Source: AWS Organizations API Reference, TagResource, UntagResource, ListTagsForResource; User Guide, "Tagging AWS
Organizations resources" (50 tags, no `aws:`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from imdsctl.local.call import Call, Operation, Operations
from imdsctl.local.organizations.common import (
    POLICY_ID,
    TAGGED_ID,
    identifier,
    invalid,
    only_administrators,
    only_management,
    refuse,
    required,
    state_of,
    violates,
)

TAGS_MAX = 50
KEY_LENGTH_MAX = 128
VALUE_LENGTH_MAX = 256
_ALLOWED = re.compile(r"[\w\s.:/=+\-@]*")


def tags_of(call: Call) -> dict[str, str]:
    """The request's tags. Raises InvalidInputException and ConstraintViolationException (MAX_TAG_LIMIT_EXCEEDED)."""
    out: dict[str, str] = {}
    for tag in call.params.get("Tags") or ():
        key, value = (tag or {}).get("Key") or "", (tag or {}).get("Value") or ""  # a list in JSON may hold nulls
        _check_key(key)
        if len(value) > VALUE_LENGTH_MAX:
            raise invalid("MAX_LENGTH_EXCEEDED", "You provided a tag value that is longer than allowed.")
        if not _ALLOWED.fullmatch(value):
            raise invalid("INVALID_PATTERN", "You provided a value that does not match the required pattern.")
        if key in out:
            raise invalid("DUPLICATE_TAG_KEY", "Tag keys must be unique among the tags attached to the same entity.")
        out[key] = value
    _check_count(len(out))
    return out


def tag_resource(call: Call) -> Mapping[str, Any]:
    """Add tags, or replace the values of tags that are there. Raises TargetNotFoundException and as `tags_of`."""
    only_management(call)
    resource = _resource(call)
    required(call, "Tags")
    tags = {**state_of(call).tags.get(resource, {}), **tags_of(call)}
    _check_count(len(tags))
    state_of(call).tags[resource] = tags
    return {}


def untag_resource(call: Call) -> Mapping[str, Any]:
    """Take tags away; one that is not there is no mistake. Raises TargetNotFoundException, InvalidInputException."""
    only_management(call)
    resource, keys = _resource(call), required(call, "TagKeys")
    for key in keys:
        _check_key(key)
    tags = state_of(call).tags
    tags[resource] = {key: value for key, value in tags.get(resource, {}).items() if key not in keys}
    return {}


def list_tags_for_resource(call: Call) -> Mapping[str, Any]:
    """A resource's tags, all in one page. Raises TargetNotFoundException, InvalidInputException."""
    only_administrators(call)
    tags = state_of(call).tags.get(_resource(call), {})
    if call.params.get("NextToken") is not None:
        raise invalid("INVALID_NEXT_TOKEN", "You provided an invalid value for NextToken.")
    return {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}


def _resource(call: Call) -> str:
    resource, state = identifier(call, "ResourceId", TAGGED_ID), state_of(call)
    if POLICY_ID.fullmatch(resource):
        policy = state.policies.get(resource)
        if policy is not None and not policy.aws_managed:
            return resource
        if policy is not None:
            raise invalid("TARGET_NOT_SUPPORTED", "You can't perform the specified operation on that target entity.")
    elif state.is_target(resource):
        return resource
    raise refuse("TargetNotFoundException", "You specified a target that doesn't exist.")


def _check_key(key: str) -> None:
    if not key:
        raise invalid("MIN_LENGTH_EXCEEDED", "You provided a tag key that is shorter than allowed.")
    if len(key) > KEY_LENGTH_MAX:
        raise invalid("MAX_LENGTH_EXCEEDED", "You provided a tag key that is longer than allowed.")
    if key.lower().startswith("aws:"):
        raise invalid("INVALID_SYSTEM_TAGS_PARAMETER", "You specified a tag key that is a system tag.")
    if not _ALLOWED.fullmatch(key):
        raise invalid("INVALID_PATTERN", "You provided a value that does not match the required pattern.")


def _check_count(count: int) -> None:
    if count > TAGS_MAX:
        raise violates("MAX_TAG_LIMIT_EXCEEDED", "You have exceeded the number of tags allowed on this resource.")


OPERATIONS: Operations = {
    "TagResource": Operation(tag_resource, writes=True),
    "UntagResource": Operation(untag_resource, writes=True),
    "ListTagsForResource": Operation(list_tags_for_resource),
}
