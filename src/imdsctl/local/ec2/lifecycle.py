"""What is done to existing instances: ModifyInstanceMetadataOptions, Start, Stop, Reboot.

Source: EC2 API Reference, the pages; EC2 User Guide, "Modify instance metadata options for existing instances".
Every operation looks at all its instances first and touches none when one of them is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from imdsctl.domain.options import HttpTokens, Switch
from imdsctl.local.call import AwsError, Call, Operation
from imdsctl.local.ec2 import render, spot_market
from imdsctl.local.ec2.common import check_metadata_tag_keys, region_state
from imdsctl.local.ec2.errors import HTTP_TOKENS_ENFORCED_MODIFY, missing, refuse, unsupported
from imdsctl.local.ec2.instances import find_instances
from imdsctl.local.ec2.metadata_options import refuse_options_of_a_disabled_endpoint, requested_options
from imdsctl.local.ec2.resources import (
    OPTIONS_APPLIED,
    OPTIONS_PENDING,
    PENDING,
    RUNNING,
    SHUTTING_DOWN,
    STOPPED,
    STOPPING,
    TERMINATED,
    Instance,
    interned,
)
from imdsctl.local.ec2.state import SCALE, RegionState

METADATA_CHANGES_MAX = 20
"""How many of an instance's earlier options are remembered."""

USER_SHUTDOWN = ("Client.UserInitiatedShutdown", "Client.UserInitiatedShutdown: User initiated shutdown")


def modify_instance_metadata_options(call: Call) -> dict[str, Any]:
    """Change the options that the request names; the others keep their values.

    The answer says `pending`, DescribeInstances says `applied` once settled. Raises MissingParameter,
    InvalidParameterValue, InvalidParameterCombination, InvalidInstanceID.*, IncorrectInstanceState,
    OperationNotPermitted for an instance that a service manages, and UnsupportedOperation when the Region enforces
    HttpTokens and the request says `optional`.
    """
    state, params = region_state(call), call.params
    if not params.get("InstanceId"):
        raise missing("InstanceId")
    asked = requested_options(params)
    [instance] = find_instances(state, [params["InstanceId"]])
    if not asked:
        raise refuse("MissingParameter", "The request must contain at least one instance metadata option to modify.")
    refuse_options_of_a_disabled_endpoint(asked)
    if instance.state in (SHUTTING_DOWN, TERMINATED):
        raise _wrong_state(instance, "modified")
    _check_unmanaged([instance], "modified")
    # An instance that is optional already keeps working, and its other options can be changed; saying `optional` in a
    # request is refused whatever the instance has.
    if asked.http_tokens is HttpTokens.OPTIONAL and state.defaults.enforced:
        raise unsupported(HTTP_TOKENS_ENFORCED_MODIFY)
    if asked.instance_metadata_tags is Switch.ENABLED:
        check_metadata_tag_keys(key for key in state.tags.get(instance.id, {}) if not key.startswith("aws:"))
    before, instance.options = instance.options, interned(asked.over(instance.options))
    if before != instance.options:
        changes = state.metadata_changes.setdefault(instance.id, [])
        changes.append((call.now, before))
        del changes[:-METADATA_CHANGES_MAX]
    instance.options_state = OPTIONS_PENDING
    instance.options_due = _settled(call)
    instance.changed()
    state.schedule(instance.options_due, instance.id, OPTIONS_APPLIED)
    return {"InstanceId": instance.id, "InstanceMetadataOptions": render.metadata_options(instance)}


def _settled(call: Call) -> datetime:
    return call.now + timedelta(seconds=call.world.settle_seconds)


def instances_of(call: Call) -> tuple[RegionState, list[Instance]]:
    """The instances that a request names. Raises MissingParameter and InvalidInstanceID.*."""
    ids = call.params.get("InstanceIds")
    if not ids:
        raise missing("InstanceId")
    state = region_state(call)
    return state, find_instances(state, ids)


def _wrong_state(instance: Instance, done: str) -> AwsError:
    return refuse(
        "IncorrectInstanceState",
        f"The instance '{instance.id}' is not in a state from which it can be {done}.",
    )


def _check_unmanaged(instances: Iterable[Instance], done: str) -> None:
    """EC2 User Guide, "Amazon EC2 managed instances": only the operator changes or terminates them."""
    for instance in instances:
        if instance.managed_by is not None:
            raise refuse(
                "OperationNotPermitted",
                f"The instance '{instance.id}' is managed by {instance.managed_by} and cannot be {done} directly.",
            )


def _check_states(instances: Iterable[Instance], allowed: Iterable[str], done: str) -> None:
    for instance in instances:
        if instance.state not in allowed:
            raise _wrong_state(instance, done)


def _change(call: Call, state: RegionState, instance: Instance, to: str, settled: str) -> dict[str, Any]:
    """Move an instance to a passing state, from which it settles; AWS's `InstanceStateChange`."""
    before = instance.state
    instance.state = to
    instance.changed()
    state.schedule(_settled(call), instance.id, settled)
    if instance.id in state.scaled:
        state.schedule(call.now, state.scaled[instance.id], SCALE)
    return _state_change(instance, before)


def _state_change(instance: Instance, before: str) -> dict[str, Any]:
    return {
        "InstanceId": instance.id,
        "CurrentState": render.state_of(instance.state),
        "PreviousState": render.state_of(before),
    }


def _user_initiated(call: Call, instance: Instance) -> None:
    instance.transition_reason = f"User initiated ({call.now:%Y-%m-%d %H:%M:%S} GMT)"
    instance.state_reason = USER_SHUTDOWN


def start_instances(call: Call) -> dict[str, Any]:
    """Start stopped instances; a running one stays as it is. HttpTokensEnforced does not hold back an existing one.

    Raises MissingParameter, InvalidInstanceID.*, IncorrectInstanceState.
    """
    state, instances = instances_of(call)
    _check_states(instances, (STOPPED, RUNNING, PENDING), "started")
    _check_unmanaged(instances, "started")
    changes = []
    for instance in instances:
        if instance.state != STOPPED:
            changes.append(_state_change(instance, instance.state))
            continue
        instance.launch_time = call.now.replace(microsecond=0)
        instance.transition_reason, instance.state_reason = "", None
        changes.append(_change(call, state, instance, PENDING, RUNNING))
        spot_market.instance_started(state, instance, call.now)
    return {"StartingInstances": changes}


def stop_instances(call: Call) -> dict[str, Any]:
    """Stop running instances; a stopped one stays as it is.

    Raises MissingParameter, InvalidInstanceID.*, IncorrectInstanceState, OperationNotPermitted (stop protection),
    UnsupportedOperation for a spot instance.
    """
    state, instances = instances_of(call)
    _check_states(instances, (RUNNING, STOPPING, STOPPED), "stopped")
    _check_unmanaged(instances, "stopped")
    for instance in instances:
        if instance.stop_protected:
            raise refuse(
                "OperationNotPermitted",
                f"The instance '{instance.id}' may not be stopped. Modify its 'disableApiStop' instance attribute and "
                "try again.",
            )
        if instance.lifecycle == "spot" and not _goes_on(state, instance):
            raise unsupported(
                f"You can't stop the Spot Instance '{instance.id}' because it is associated with a one-time Spot "
                "Instance request. You can only stop Spot Instances associated with persistent Spot Instance requests."
            )
    changes = []
    for instance in instances:
        if instance.state != RUNNING:
            changes.append(_state_change(instance, instance.state))
            continue
        _user_initiated(call, instance)
        changes.append(_change(call, state, instance, STOPPING, STOPPED))
        spot_market.instance_stopped(state, instance, call.now)
    return {"StoppingInstances": changes}


def _goes_on(state: RegionState, instance: Instance) -> bool:
    """Whether a spot instance can be stopped: its request is persistent, and was not cancelled."""
    request = spot_market.request_of(state, instance)
    return request is not None and request.kind == spot_market.PERSISTENT and request.state != spot_market.CANCELLED


def reboot_instances(call: Call) -> dict[str, Any]:
    """Reboot running instances. Raises MissingParameter, InvalidInstanceID.*, IncorrectInstanceState."""
    _, instances = instances_of(call)
    _check_states(instances, (RUNNING,), "rebooted")
    _check_unmanaged(instances, "rebooted")
    return {}


def check_terminable(instances: Iterable[Instance]) -> None:
    """Refuse to terminate what is protected or managed. Raises OperationNotPermitted."""
    left = [instance for instance in instances if instance.state not in (SHUTTING_DOWN, TERMINATED)]
    for instance in left:
        if instance.termination_protected:
            raise refuse(
                "OperationNotPermitted",
                f"The instance '{instance.id}' may not be terminated. Modify its 'disableApiTermination' instance "
                "attribute and try again.",
            )
    _check_unmanaged(left, "terminated")


def terminate(call: Call, state: RegionState, instances: Iterable[Instance]) -> list[dict[str, Any]]:
    """Terminate instances, with what follows for their Spot requests; AWS's `InstanceStateChange`s."""
    changes = []
    for instance in instances:
        if instance.state in (SHUTTING_DOWN, TERMINATED):
            changes.append(_state_change(instance, instance.state))
            continue
        _user_initiated(call, instance)
        changes.append(_change(call, state, instance, SHUTTING_DOWN, TERMINATED))
        spot_market.instance_terminated(state, instance, call.now)
    return changes


OPERATIONS = {
    "ModifyInstanceMetadataOptions": Operation(modify_instance_metadata_options, writes=True),
    "StartInstances": Operation(start_instances, writes=True),
    "StopInstances": Operation(stop_instances, writes=True),
    "RebootInstances": Operation(reboot_instances),
}
