"""Scaling activities: what a group did, and how that went. Source: API Reference, DescribeScalingActivities."""

from __future__ import annotations

from typing import Any

from imdsctl.local.autoscaling.common import listed, matching, no_group, reads, scaling
from imdsctl.local.autoscaling.state import Activity
from imdsctl.local.call import Call

Listed = tuple[str, str, Activity, bool]
"""An activity with its group's name and ARN, and whether the group is gone."""


def rendered_activity(name: str, arn: str, activity: Activity, *, deleted: bool = False) -> dict[str, Any]:
    """AWS's `Activity`."""
    out: dict[str, Any] = {
        "ActivityId": activity.id,
        "AutoScalingGroupName": name,
        "AutoScalingGroupARN": arn,
        "Description": activity.description,
        "Cause": activity.cause,
        "StartTime": activity.started,
        "StatusCode": activity.status,
        "Progress": activity.progress,
        "Details": activity.details,
    }
    if activity.ended is not None:
        out["EndTime"] = activity.ended.replace(microsecond=0)
    if activity.message is not None:
        out["StatusMessage"] = activity.message
    if deleted:
        out["AutoScalingGroupState"] = "Deleted"
    return out


def describe_scaling_activities(call: Call) -> dict[str, Any]:
    """The latest activities first: of one group, or of all; of deleted groups with IncludeDeletedGroups.

    Raises ValidationError for a group that does not exist.
    """
    state, params = scaling(call), call.params
    name, ids = params.get("AutoScalingGroupName"), params.get("ActivityIds")
    found: list[Listed] = [
        (group.name, group.arn, each, False) for group in state.groups.values() for each in group.activities
    ]
    if params.get("IncludeDeletedGroups"):
        found = [(*each, True) for each in state.ended] + found
    elif name and name not in state.groups:
        raise no_group(name)
    found = [each for each in reversed(found) if (not name or each[0] == name) and (not ids or each[2].id in ids)]
    found = matching(found, params.get("Filters"), {"Status": lambda each: [each[2].status]})
    found.sort(key=lambda each: each[2].started, reverse=True)
    return listed(
        call,
        "Activities",
        found,
        lambda each: rendered_activity(each[0], each[1], each[2], deleted=each[3]),
        usual=100,
        of=name,
    )


OPERATIONS = reads(describe_scaling_activities)
