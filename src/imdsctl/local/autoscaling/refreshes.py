"""Starting, describing and cancelling instance refreshes; `refresh` carries them out.

Source: Amazon EC2 Auto Scaling API Reference, StartInstanceRefresh, DescribeInstanceRefreshes, CancelInstanceRefresh.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imdsctl.local.autoscaling.common import changeable_group, invalid, listed, reads, scaling, the_group, wake, writes
from imdsctl.local.autoscaling.policies import check_source, source_of
from imdsctl.local.autoscaling.state import CANCELLING, PENDING, SUCCESSFUL, Group, Refresh
from imdsctl.local.call import AwsError, Call
from imdsctl.local.constraints import check_members, check_range

PREFERENCES: Mapping[str, Any] = {
    "MinHealthyPercentage": 90,
    "MaxHealthyPercentage": 100,
    "SkipMatching": False,
    "AutoRollback": False,
    "ScaleInProtectedInstances": "Wait",
    "StandbyInstances": "Wait",
}
"""API Reference, `RefreshPreferences`: the defaults."""


def start_instance_refresh(call: Call) -> dict[str, Any]:
    """Begin to replace the group's instances, also with a configuration that becomes the group's when that is done.

    Raises InstanceRefreshInProgress and ValidationError.
    """
    group, params = changeable_group(call), call.params
    check_members(filter(None, [params.get("Strategy")]), "strategy", invalid, ("Rolling",))
    given = params.get("Preferences") or {}
    _check_preferences(given)
    desired = params.get("DesiredConfiguration") or None
    wanted = source_of(scaling(call), desired) if desired else None
    if wanted is not None:
        check_source(call, scaling(call), wanted, group.subnets, group.zones)
    if given.get("AutoRollback"):
        raise AwsError("UnsupportedOperation", "The local AWS of imdsctl does not roll instance refreshes back.", 400)
    if group.refresh is not None:
        raise AwsError(
            "InstanceRefreshInProgress",
            "An Instance Refresh is already in progress and blocks the execution of this Instance Refresh.",
            400,
        )
    policy = group.settings.get("InstanceMaintenancePolicy") or {}
    refresh = Refresh(
        call.ids.uuid(),
        call.now.replace(microsecond=0),
        {**PREFERENCES, **policy, **given},
        wanted,
        desired,
    )
    group.refreshes.append(refresh)
    wake(call, group)
    return {"InstanceRefreshId": refresh.id}


def _check_preferences(given: Mapping[str, Any]) -> None:
    check_range(given.get("MinHealthyPercentage"), "preferences.minHealthyPercentage", invalid, 0, 100)
    check_range(given.get("MaxHealthyPercentage"), "preferences.maxHealthyPercentage", invalid, 100, 200)
    check_range(given.get("InstanceWarmup"), "preferences.instanceWarmup", invalid, 0, 2**31 - 1)
    least, most = given.get("MinHealthyPercentage"), given.get("MaxHealthyPercentage")
    if most is not None and least is None:
        raise invalid("MinHealthyPercentage must be specified together with MaxHealthyPercentage.")
    if least is not None and most is not None and most - least > 100:
        raise invalid("The difference between MaxHealthyPercentage and MinHealthyPercentage cannot exceed 100.")
    for name, choices in (
        ("ScaleInProtectedInstances", ("Refresh", "Ignore", "Wait")),
        ("StandbyInstances", ("Terminate", "Ignore", "Wait")),
    ):
        check_members(filter(None, [given.get(name)]), f"preferences.{name[:1].lower()}{name[1:]}", invalid, choices)


def cancel_instance_refresh(call: Call) -> dict[str, Any]:
    """End a refresh that is under way; what was replaced stays replaced. Raises ActiveInstanceRefreshNotFound."""
    group = changeable_group(call)
    refresh = group.refresh
    if refresh is None or refresh.status == CANCELLING:
        raise AwsError("ActiveInstanceRefreshNotFound", "No in progress or pending Instance Refresh found.", 400)
    refresh.status = CANCELLING
    wake(call, group)
    return {"InstanceRefreshId": refresh.id}


def rendered(group: Group, refresh: Refresh) -> dict[str, Any]:
    """AWS's `InstanceRefresh`."""
    done = 100 * (refresh.total - len(refresh.waiting)) // refresh.total if refresh.total else 0
    if refresh.status == SUCCESSFUL:
        done = 100
    out: dict[str, Any] = {
        "InstanceRefreshId": refresh.id,
        "AutoScalingGroupName": group.name,
        "Status": refresh.status,
        "StartTime": refresh.started,
        "PercentageComplete": done,
        "InstancesToUpdate": len(refresh.waiting),
        "Preferences": refresh.preferences,
        "Strategy": "Rolling",
    }
    if refresh.status != PENDING:
        out["ProgressDetails"] = {
            "LivePoolProgress": {"PercentageComplete": done, "InstancesToUpdate": len(refresh.waiting)}
        }
    if refresh.reason is not None:
        out["StatusReason"] = refresh.reason
    if refresh.ended is not None:
        out["EndTime"] = refresh.ended.replace(microsecond=0)
    if refresh.desired_configuration is not None:
        out["DesiredConfiguration"] = refresh.desired_configuration
    return out


def describe_instance_refreshes(call: Call) -> dict[str, Any]:
    """A group's refreshes, the latest first. Raises ValidationError."""
    group, ids = the_group(call), call.params.get("InstanceRefreshIds")
    found = [each for each in reversed(group.refreshes) if not ids or each.id in ids]
    return listed(call, "InstanceRefreshes", found, lambda each: rendered(group, each), of=group.name)


OPERATIONS = {**writes(start_instance_refresh, cancel_instance_refresh), **reads(describe_instance_refreshes)}
