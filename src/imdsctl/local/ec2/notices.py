"""What AWS announces to an instance: a Spot interruption, a rebalance recommendation, a scheduled event.

Source: EC2 User Guide, "Spot Instance interruption notices", "EC2 instance rebalance recommendations" and "Scheduled
events for Amazon EC2 instances". No API makes AWS do this (AWS FIS interrupts Spot Instances); here `imdsctl local
notify` does. An interruption is carried out two minutes after it was announced. A scheduled event is announced only:
nothing breaks here by itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from imdsctl.imds.facts import EVENT_CODES, MaintenanceEvent, SpotAction
from imdsctl.local.call import Call
from imdsctl.local.ec2.common import region_state
from imdsctl.local.ec2.errors import check_choice, invalid_value, refuse, unsupported
from imdsctl.local.ec2.instances import find_instances
from imdsctl.local.ec2.resources import RUNNING, SHUTTING_DOWN, STOPPED, STOPPING, TERMINATED, Instance
from imdsctl.local.ec2.spot_market import ACTIVE, CLOSED, DISABLED, OPEN, PERSISTENT, request_of, set_status
from imdsctl.local.ec2.state import SCALE, SETTLE, Notices, RegionState

WARNING = timedelta(minutes=2)
"""How long before it is interrupted a Spot Instance is told."""
AHEAD = timedelta(days=14)
"""When an event is scheduled for that names no time. AWS tells retirements two weeks before, or as early as it can."""
INTERRUPTED = "interrupted"


def _running(call: Call) -> tuple[RegionState, Instance]:
    state = region_state(call)
    [instance] = find_instances(state, [call.params["InstanceId"]])
    if instance.state != RUNNING:
        raise refuse("IncorrectInstanceState", f"The instance '{instance.id}' is {instance.state}, not running.")
    return state, instance


def _spot(call: Call) -> tuple[RegionState, Instance]:
    state, instance = _running(call)
    if instance.lifecycle != "spot":
        raise unsupported(f"The instance '{instance.id}' is not a Spot Instance.")
    return state, instance


def announce_interruption(call: Call) -> Mapping[str, Any]:
    """Announce that a Spot Instance will be interrupted, as its request says; it will be, two minutes from now.

    Raises InvalidInstanceID.*, IncorrectInstanceState, UnsupportedOperation.
    """
    state, instance = _spot(call)
    request = request_of(state, instance)
    action = request.interruption if request is not None else "terminate"
    when = call.now.replace(microsecond=0) + WARNING
    _of(state, instance).spot = SpotAction(action, when)
    if request is not None and request.state == ACTIVE:
        kind = "termination" if action == "terminate" else "stop"
        set_status(request, ACTIVE, (f"marked-for-{kind}", f"Your Spot Instance is marked for {kind}."), call.now)
    state.schedule(when, instance.id, INTERRUPTED)
    return {"Action": action, "Time": f"{when:%Y-%m-%dT%H:%M:%SZ}"}


def recommend_rebalance(call: Call) -> Mapping[str, Any]:
    """Tell a Spot Instance that its risk of interruption is elevated. Raises like `announce_interruption`."""
    state, instance = _spot(call)
    _of(state, instance).rebalance = call.now.replace(microsecond=0)
    return {"NoticeTime": f"{call.now:%Y-%m-%dT%H:%M:%SZ}"}


def schedule_event(call: Call) -> Mapping[str, Any]:
    """Announce an event of a `Code`, for `NotBefore` (a time) or in two weeks.

    Raises InvalidInstanceID.*, IncorrectInstanceState, InvalidParameterValue.
    """
    state, instance = _running(call)
    code, not_before = call.params["Code"], call.params.get("NotBefore")
    check_choice(code, "code", EVENT_CODES)
    start = (not_before or call.now + AHEAD).replace(microsecond=0)
    if start <= call.now:
        raise invalid_value(
            f"Value ({start:%Y-%m-%dT%H:%M:%SZ}) for parameter notBefore is invalid. It is in the past."
        )
    event = MaintenanceEvent(
        code=code,
        description=EVENT_CODES[code],
        event_id=f"instance-event-{call.ids.hex17()}",
        state="active",
        not_before=start,
        not_after=start + timedelta(hours=2),
        not_before_deadline=start + timedelta(days=7),
    )
    notices = _of(state, instance)
    notices.scheduled = (*notices.scheduled, event)
    return {"EventId": event.event_id, "NotBefore": f"{start:%Y-%m-%dT%H:%M:%SZ}"}


def cancel_event(call: Call) -> Mapping[str, Any]:
    """Cancel an event (`EventId`). Raises InvalidInstanceID.*, InvalidParameterValue."""
    state = region_state(call)
    [instance] = find_instances(state, [call.params["InstanceId"]])
    event_id = call.params["EventId"]
    notices = state.notices.get(instance.id, Notices())
    if not any(each.event_id == event_id for each in notices.scheduled):
        raise invalid_value(f"Value ({event_id}) for parameter instanceEventId is invalid.")
    notices.end(lambda event: event.event_id == event_id, "canceled")
    return {}


def _of(state: RegionState, instance: Instance) -> Notices:
    return state.notices.setdefault(instance.id, Notices())


def _interrupted(state: RegionState, instance: Instance, when: datetime) -> None:
    """The two minutes are over. Source of the reasons: EC2 User Guide, "Instance state reasons"."""
    notices = state.notices.get(instance.id)
    if notices is None or notices.spot is None or notices.spot.time != when or instance.state != RUNNING:
        return
    terminates = notices.spot.action == "terminate"
    notices.spot = notices.rebalance = None
    reason = "Server.SpotInstanceTermination" if terminates else "Server.SpotInstanceShutdown"
    instance.state, passed_to = (SHUTTING_DOWN, TERMINATED) if terminates else (STOPPING, STOPPED)
    instance.transition_reason = f"{reason} ({when:%Y-%m-%d %H:%M:%S} GMT)"
    instance.state_reason = (reason, f"{reason}: Spot Instance {'termination' if terminates else 'stop'}")
    instance.changed()
    state.schedule(when, instance.id, passed_to)
    request = request_of(state, instance)
    if request is not None and request.state == ACTIVE:
        done = "terminated" if terminates else "stopped"
        status = (f"instance-{done}-no-capacity", f"Your Spot Instance was {done} because there was no capacity.")
        if not terminates:
            set_status(request, DISABLED, status, when)
        elif request.kind == PERSISTENT:
            request.ended, request.instance_id = request.instance_id, None
            set_status(request, OPEN, status, when)
        else:
            set_status(request, CLOSED, status, when)
    if instance.id in state.scaled:
        state.schedule(when, state.scaled[instance.id], SCALE)


SETTLE[INTERRUPTED] = _interrupted
