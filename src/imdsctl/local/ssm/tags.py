"""Tags of parameters: AddTagsToResource, RemoveTagsFromResource, ListTagsForResource."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from imdsctl.local.call import Call, Operation
from imdsctl.local.constraints import check_required, check_text
from imdsctl.local.ssm.errors import invalid, refused
from imdsctl.local.ssm.read import store_of
from imdsctl.local.ssm.state import Parameter

TAGS_MAX = 50


def tag_pairs(tags: Iterable[Mapping[str, Any]] | None) -> dict[str, str]:
    """A request's tags as a dict. Raises ValidationException and TooManyTagsError."""
    pairs: dict[str, str] = {}
    for tag in tags or ():
        key, value = str(tag.get("Key") or ""), str(tag.get("Value") or "")
        check_text(key, "tags.member.key", invalid, length_min=1, length_max=128)
        check_text(value, "tags.member.value", invalid, length_max=256)
        if key.lower().startswith("aws:"):
            raise invalid("Tag keys that start with aws: are reserved for internal use.")
        pairs[key] = value
    if len(pairs) > TAGS_MAX:
        raise _too_many()
    return pairs


def _parameter(call: Call) -> Parameter:
    kind, identifier = call.params.get("ResourceType"), call.params.get("ResourceId")
    check_required(kind, "resourceType", invalid)
    check_required(identifier, "resourceId", invalid)
    if kind != "Parameter":
        raise refused("InvalidResourceType", "The resource type is not valid.")
    found = store_of(call).get(str(identifier))
    if found is None:
        raise refused("InvalidResourceId", "The resource ID isn't valid. Verify that you entered the correct ID.")
    return found


def list_tags_for_resource(call: Call) -> Mapping[str, Any]:
    """A parameter's tags. Raises InvalidResourceType, InvalidResourceId."""
    return {"TagList": [{"Key": key, "Value": value} for key, value in _parameter(call).tags.items()]}


def add_tags_to_resource(call: Call) -> Mapping[str, Any]:
    """Add tags, or change their values. Raises InvalidResourceType, InvalidResourceId, TooManyTagsError."""
    parameter = _parameter(call)
    tags = {**parameter.tags, **tag_pairs(call.params.get("Tags"))}
    if len(tags) > TAGS_MAX:
        raise _too_many()
    parameter.tags = tags
    return {}


def remove_tags_from_resource(call: Call) -> Mapping[str, Any]:
    """Remove tags; those that are not there are none the worse. Raises InvalidResourceType, InvalidResourceId."""
    parameter = _parameter(call)
    for key in call.params.get("TagKeys") or ():
        parameter.tags.pop(key, None)
    return {}


def _too_many() -> Exception:
    return refused("TooManyTagsError", f"The request exceeds the maximum number of tags ({TAGS_MAX}).")


OPERATIONS = {
    "ListTagsForResource": Operation(list_tags_for_resource),
    "AddTagsToResource": Operation(add_tags_to_resource, writes=True),
    "RemoveTagsFromResource": Operation(remove_tags_from_resource, writes=True),
}
