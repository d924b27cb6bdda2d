"""What a group does by itself and can be kept from doing, and which metrics it collects.

Source: Amazon EC2 Auto Scaling User Guide, "Suspend and resume Amazon EC2 Auto Scaling processes"; API Reference,
EnableMetricsCollection.
"""

from __future__ import annotations

from typing import Any

from imdsctl.local.autoscaling.common import changeable_group, invalid, stamp, wake, writes
from imdsctl.local.call import Call
from imdsctl.local.constraints import check_members, check_required

PROCESSES = (
    "AZRebalance",
    "AddToLoadBalancer",
    "AlarmNotification",
    "HealthCheck",
    "InstanceRefresh",
    "Launch",
    "ReplaceUnhealthy",
    "ScheduledActions",
    "Terminate",
)
METRICS = (
    "GroupMinSize",
    "GroupMaxSize",
    "GroupDesiredCapacity",
    "GroupInServiceInstances",
    "GroupPendingInstances",
    "GroupStandbyInstances",
    "GroupTerminatingInstances",
    "GroupTotalInstances",
    "GroupInServiceCapacity",
    "GroupPendingCapacity",
    "GroupStandbyCapacity",
    "GroupTerminatingCapacity",
    "GroupTotalCapacity",
    "WarmPoolDesiredCapacity",
    "WarmPoolWarmedCapacity",
    "WarmPoolPendingCapacity",
    "WarmPoolTerminatingCapacity",
    "WarmPoolTotalCapacity",
    "GroupAndWarmPoolDesiredCapacity",
    "GroupAndWarmPoolTotalCapacity",
)


def _processes(call: Call) -> list[str]:
    named = call.params.get("ScalingProcesses") or list(PROCESSES)
    check_members(named, "scalingProcesses", invalid, PROCESSES)
    return list(named)


def suspend_processes(call: Call) -> dict[str, Any]:
    """Keep the group from some processes, or from all. Raises ValidationError."""
    group, named = changeable_group(call), _processes(call)
    for name in named:
        group.suspended.setdefault(name, f"User suspended at {stamp(call.now)}")
    return {}


def resume_processes(call: Call) -> dict[str, Any]:
    """Let the group do some processes again, or all. Raises ValidationError."""
    group, named = changeable_group(call), _processes(call)
    for name in named:
        group.suspended.pop(name, None)
    wake(call, group)
    return {}


def enable_metrics_collection(call: Call) -> dict[str, Any]:
    """Collect metrics of the group: those that are named, or all. Raises ValidationError."""
    group = changeable_group(call)
    check_required(call.params.get("Granularity"), "granularity", invalid)
    if call.params["Granularity"] != "1Minute":
        raise invalid("Granularity must be 1Minute.")
    named = call.params.get("Metrics") or list(METRICS)
    check_members(named, "metrics", invalid, METRICS)
    group.metrics = [each for each in METRICS if each in named or each in group.metrics]
    return {}


def disable_metrics_collection(call: Call) -> dict[str, Any]:
    """Collect some of the group's metrics no longer, or none at all. Raises ValidationError."""
    group = changeable_group(call)
    named = call.params.get("Metrics") or list(METRICS)
    check_members(named, "metrics", invalid, METRICS)
    group.metrics = [each for each in group.metrics if each not in named]
    return {}


OPERATIONS = writes(suspend_processes, resume_processes, enable_metrics_collection, disable_metrics_collection)
