"""What Auto Scaling says of itself, and of what no group has here: hooks, policies, load balancers, warm pools.

Source: Amazon EC2 Auto Scaling API Reference, the pages of the operations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from imdsctl.local.autoscaling.common import listed, reads, scaling, the_group
from imdsctl.local.autoscaling.configurations import CONFIGURATIONS_MAX
from imdsctl.local.autoscaling.groups import GROUPS_MAX
from imdsctl.local.autoscaling.processes import METRICS, PROCESSES
from imdsctl.local.autoscaling.settings import TERMINATION_POLICIES
from imdsctl.local.call import Call, Operation


def describe_account_limits(call: Call) -> dict[str, Any]:
    """The quotas of groups and launch configurations, and how many there are."""
    state = scaling(call)
    return {
        "MaxNumberOfAutoScalingGroups": GROUPS_MAX,
        "MaxNumberOfLaunchConfigurations": CONFIGURATIONS_MAX,
        "NumberOfAutoScalingGroups": len(state.groups),
        "NumberOfLaunchConfigurations": len(state.configurations),
    }


def describe_termination_policy_types(call: Call) -> dict[str, Any]:
    """The termination policies."""
    return {"TerminationPolicyTypes": list(TERMINATION_POLICIES)}


def describe_adjustment_types(call: Call) -> dict[str, Any]:
    """How scaling policies may adjust."""
    kinds = ("ChangeInCapacity", "ExactCapacity", "PercentChangeInCapacity")
    return {"AdjustmentTypes": [{"AdjustmentType": each} for each in kinds]}


def describe_scaling_process_types(call: Call) -> dict[str, Any]:
    """What a group does by itself."""
    return {"Processes": [{"ProcessName": each} for each in PROCESSES]}


def describe_metric_collection_types(call: Call) -> dict[str, Any]:
    """The metrics that a group can collect."""
    return {"Metrics": [{"Metric": each} for each in METRICS], "Granularities": [{"Granularity": "1Minute"}]}


def describe_auto_scaling_notification_types(call: Call) -> dict[str, Any]:
    """The kinds of notifications."""
    kinds = ("LAUNCH", "LAUNCH_ERROR", "TERMINATE", "TERMINATE_ERROR")
    return {
        "AutoScalingNotificationTypes": [
            *(f"autoscaling:EC2_INSTANCE_{each}" for each in kinds),
            "autoscaling:TEST_NOTIFICATION",
        ]
    }


def describe_lifecycle_hook_types(call: Call) -> dict[str, Any]:
    """When a lifecycle hook can be called."""
    return {"LifecycleHookTypes": [f"autoscaling:EC2_INSTANCE_{each}" for each in ("LAUNCHING", "TERMINATING")]}


def describe_lifecycle_hooks(call: Call) -> dict[str, Any]:
    """A group's lifecycle hooks: none. Raises ValidationError for a group that does not exist."""
    the_group(call)
    return {"LifecycleHooks": []}


def _none_of_a_group(member: str) -> Callable[[Call], Mapping[str, Any]]:
    """A list that is empty for every group. Raises ValidationError for a group that does not exist."""

    def describe(call: Call) -> Mapping[str, Any]:
        the_group(call)
        return listed(call, member, [], dict)

    return describe


def _none_at_all(member: str) -> Callable[[Call], Mapping[str, Any]]:
    """A list of the Region's that is empty; a group that it names need not exist."""

    def describe(call: Call) -> Mapping[str, Any]:
        return listed(call, member, [], dict)

    return describe


OPERATIONS = {
    **reads(
        describe_account_limits,
        describe_termination_policy_types,
        describe_adjustment_types,
        describe_scaling_process_types,
        describe_metric_collection_types,
        describe_auto_scaling_notification_types,
        describe_lifecycle_hook_types,
        describe_lifecycle_hooks,
    ),
    "DescribeLoadBalancers": Operation(_none_of_a_group("LoadBalancers")),
    "DescribeLoadBalancerTargetGroups": Operation(_none_of_a_group("LoadBalancerTargetGroups")),
    "DescribeTrafficSources": Operation(_none_of_a_group("TrafficSources")),
    "DescribeWarmPool": Operation(_none_of_a_group("Instances")),
    "DescribeNotificationConfigurations": Operation(_none_at_all("NotificationConfigurations")),
    "DescribePolicies": Operation(_none_at_all("ScalingPolicies")),
    "DescribeScheduledActions": Operation(_none_at_all("ScheduledUpdateGroupActions")),
}
