"""What one service does in another one for its user: calls of handlers, taken back when the rest is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from imdsctl.local.autoscaling.groups import (
    create_auto_scaling_group,
    delete_auto_scaling_group,
    update_auto_scaling_group,
)
from imdsctl.local.autoscaling.refreshes import start_instance_refresh
from imdsctl.local.autoscaling.state import Group
from imdsctl.local.call import AwsError, Call
from imdsctl.local.ec2.common import region_state
from imdsctl.local.ec2.resources import LaunchTemplate, LaunchTemplateVersion

_PREFERENCES = {"MinHealthyPercentage": 100, "MaxHealthyPercentage": 110}
"""Launch before terminating."""

Refusal = Callable[[str], AwsError]


def inner(call: Call, service: str, action: str, params: dict[str, Any]) -> Call:
    """A request that a service makes in the account: part of `call`, no event of its own, asked of no policy."""
    return replace(call, service=service, action=action, params=params)


def group_of(call: Call, name: str) -> Group | None:
    """The Auto Scaling group of that name in the call's Region."""
    scaling = region_state(call).scaling
    return scaling.groups.get(name) if scaling is not None else None


def add_template(call: Call, name: str, author: str, data: dict[str, Any], tags: Mapping[str, str]) -> LaunchTemplate:
    """A launch template of the service's in the account. The caller has seen to it that the name is free."""
    made = LaunchTemplate(
        id=f"lt-{call.ids.hex17()}",
        name=name,
        created=call.now,
        created_by=author,
        versions={1: LaunchTemplateVersion(1, call.now, author, data)},
    )
    region_state(call).add_template(made, tags)
    return made


def add_version(call: Call, template: LaunchTemplate, data: dict[str, Any]) -> int:
    """A new version of such a template, which becomes the default; its number."""
    number = template.last_number + 1
    template.versions[number] = LaunchTemplateVersion(number, call.now, template.created_by, data)
    template.default_version = template.latest_version = template.last_number = number
    return number


def drop_template(call: Call, template_id: str | None) -> None:
    """Delete a launch template; nothing happens when it is gone already."""
    region = region_state(call)
    template = region.templates.pop(template_id or "", None)
    if template is not None:
        if region.template_ids.get(template.name) == template.id:
            del region.template_ids[template.name]
        region.tags.pop(template.id, None)


def make_group(call: Call, params: dict[str, Any]) -> None:
    """CreateAutoScalingGroup. Raises its AwsError, nothing being made."""
    create_auto_scaling_group(inner(call, "autoscaling", "CreateAutoScalingGroup", params))


def resize_group(call: Call, params: dict[str, Any]) -> None:
    """UpdateAutoScalingGroup. Raises its AwsError, nothing being changed."""
    update_auto_scaling_group(inner(call, "autoscaling", "UpdateAutoScalingGroup", params))


def replace_members(call: Call, name: str, source: Mapping[str, Any]) -> str:
    """Begin to replace the group's instances by some of a new source (`LaunchTemplate` or `MixedInstancesPolicy`).

    Gives the refresh's id. Raises AwsError, nothing being begun.
    """
    params = {
        "AutoScalingGroupName": name,
        "Preferences": dict(_PREFERENCES),
        "DesiredConfiguration": dict(source),
    }
    return str(start_instance_refresh(inner(call, "autoscaling", "StartInstanceRefresh", params))["InstanceRefreshId"])


def delete_group(call: Call, name: str) -> None:
    """Delete a group with its instances, where it is there. Raises AwsError, nothing being deleted."""
    if group_of(call, name) is not None:
        params = {"AutoScalingGroupName": name, "ForceDelete": True}
        delete_auto_scaling_group(inner(call, "autoscaling", "DeleteAutoScalingGroup", params))


@contextmanager
def undone(call: Call, refusal: Refusal) -> Iterator[None]:
    """When what is done inside is refused, take back the launch templates, versions and instance profiles that it made.

    Raises what `refusal` makes of the message.
    """
    region, iam = region_state(call), call.world.iam(call.account_id)
    profiles = set(iam.profiles)
    before = {
        each.id: (each.default_version, each.latest_version, each.last_number) for each in region.templates.values()
    }
    try:
        yield
    except AwsError as refused:
        for template in list(region.templates.values()):
            if template.id not in before:
                drop_template(call, template.id)
                continue
            template.default_version, template.latest_version, last = before[template.id]
            for number in range(last + 1, template.last_number + 1):
                del template.versions[number]
            template.last_number = last
        for name in set(iam.profiles) - profiles:
            del iam.profiles[name]
        raise refusal(refused.message) from None
