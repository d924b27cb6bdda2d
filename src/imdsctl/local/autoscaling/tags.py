"""Tags of groups, and which of them instances get at launch.

Source: Amazon EC2 Auto Scaling User Guide, "Tag Auto Scaling groups and instances"; API Reference, CreateOrUpdateTags.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from imdsctl.local.autoscaling.common import invalid, listed, matching, no_group, reads, scaling, writes
from imdsctl.local.autoscaling.state import Group, GroupTag
from imdsctl.local.call import AwsError, Call
from imdsctl.local.constraints import check_required, check_text

TAGS_MAX = 50
RESOURCE_TYPE = "auto-scaling-group"


def tags_of(given: Iterable[Mapping[str, Any]] | None) -> dict[str, GroupTag]:
    """A request's tags by key. Raises ValidationError."""
    out: dict[str, GroupTag] = {}
    for number, tag in enumerate(given or (), 1):
        key, value = tag.get("Key"), tag.get("Value") or ""
        check_required(key, f"tags.{number}.member.key", invalid)
        check_text(key, f"tags.{number}.member.key", invalid, length_min=1, length_max=128)
        check_text(value, f"tags.{number}.member.value", invalid, length_max=256)
        if str(key).lower().startswith("aws:"):
            raise invalid("Tag keys starting with 'aws:' are reserved for internal use")
        if key in out:
            raise invalid(f"Duplicate tag key '{key}' specified.")
        out[str(key)] = GroupTag(value, bool(tag.get("PropagateAtLaunch")))
    _check_count(len(out))
    return out


def _check_count(count: int) -> None:
    if count > TAGS_MAX:
        raise AwsError("LimitExceeded", f"The maximum number of tags for a resource is {TAGS_MAX}.", 400)


def create_or_update_tags(call: Call) -> dict[str, Any]:
    """Add or overwrite tags of groups; instances that run keep theirs. Raises ValidationError and LimitExceeded."""
    added = [(group, tags_of([tag])) for group, tag in _named(call)]
    for group in dict.fromkeys(each.name for each, _ in added):
        held = scaling(call).groups[group].tags
        _check_count(len({**held, **{key: 0 for each, tags in added if each.name == group for key in tags}}))
    for each, tags in added:
        each.tags.update(tags)
    return {}


def delete_tags(call: Call) -> dict[str, Any]:
    """Remove tags of groups by key (and value, where one is given). Raises ValidationError."""
    for group, tag in _named(call):
        held = group.tags.get(tag.get("Key") or "")
        if held is not None and tag.get("Value") in (None, "", held.value):
            del group.tags[tag["Key"]]
    return {}


def _named(call: Call) -> list[tuple[Group, Mapping[str, Any]]]:
    """The tags of a request, each with its group: all are looked up before anything changes."""
    tags = call.params.get("Tags")
    check_required(tags, "tags", invalid)
    found = []
    for number, tag in enumerate(tags or (), 1):
        check_required(tag.get("Key"), f"tags.{number}.member.key", invalid)
        if tag.get("ResourceType") not in (None, RESOURCE_TYPE):
            raise invalid(f"Resource type {tag['ResourceType']} is not supported. Use {RESOURCE_TYPE}.")
        group = scaling(call).groups.get(tag.get("ResourceId") or "")
        if group is None:
            raise no_group(tag.get("ResourceId") or "")
        found.append((group, tag))
    return found


def rendered_tags(group: Group) -> list[dict[str, Any]]:
    """AWS's `TagDescription`s of a group."""
    return [
        {
            "ResourceId": group.name,
            "ResourceType": RESOURCE_TYPE,
            "Key": key,
            "Value": tag.value,
            "PropagateAtLaunch": tag.propagate,
        }
        for key, tag in sorted(group.tags.items())
    ]


def describe_tags(call: Call) -> dict[str, Any]:
    """The tags of all groups. Raises ValidationError for an unknown filter."""
    all_tags = [tag for _, group in sorted(scaling(call).groups.items()) for tag in rendered_tags(group)]
    found = matching(
        all_tags,
        call.params.get("Filters"),
        {
            "auto-scaling-group": lambda tag: [tag["ResourceId"]],
            "key": lambda tag: [tag["Key"]],
            "value": lambda tag: [tag["Value"]],
            "propagate-at-launch": lambda tag: [str(tag["PropagateAtLaunch"]).lower()],
        },
    )
    return listed(call, "Tags", found, dict)


OPERATIONS = {**writes(create_or_update_tags, delete_tags), **reads(describe_tags)}
