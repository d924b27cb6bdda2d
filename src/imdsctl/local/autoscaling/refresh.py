"""Instance refreshes: how a group replaces its instances, some at a time.

Source: Amazon EC2 Auto Scaling User Guide, "Use an instance refresh to update instances in an Auto Scaling group", and
the API Reference, `RefreshPreferences`. Warm-up, bake time and the delay of checkpoints take no time here.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from imdsctl.local.autoscaling.source import recipe
from imdsctl.local.autoscaling.state import (
    CANCELLED,
    CANCELLING,
    FAILED,
    IN_PROGRESS,
    IN_SERVICE,
    PENDING,
    STANDBY,
    SUCCESSFUL,
    TERMINATING,
    Group,
    Member,
    Refresh,
    ScalingState,
)
from imdsctl.local.call import AwsError

if TYPE_CHECKING:
    from imdsctl.local.autoscaling.reconcile import Turn

PATIENCE = timedelta(hours=1)
"""How long a refresh waits for what holds it up before it fails (User Guide: an hour for protected instances)."""


def advance(turn: Turn) -> None:
    """The next step of the group's refresh: begin, replace some, or end."""
    group, when = turn.group, turn.when
    refresh = group.refresh
    if refresh is None or "InstanceRefresh" in group.suspended:
        return
    if refresh.status == CANCELLING:
        _end(turn, refresh, CANCELLED, "Instance refresh was cancelled by a user request.")
        return
    if refresh.status == PENDING:
        refresh.status = IN_PROGRESS
        refresh.waiting = [each.instance_id for each in _to_replace(turn.scaling, group, refresh)]
        refresh.total = len(refresh.waiting)
    # Instances that left by themselves need no replacement any more.
    refresh.waiting = [each for each in refresh.waiting if each in group.members]
    if any(each.lifecycle in (PENDING, TERMINATING) for each in group.members.values()):
        return
    short = group.capacity() < group.desired + surge(group)
    ready = [each for each in refresh.waiting if _may_go(group.members[each], refresh)]
    if short or (refresh.waiting and not ready):
        _stall(turn, refresh, short=short)
        return
    refresh.stalled = None
    if not refresh.waiting:
        if refresh.wanted is not None:
            group.source = refresh.wanted
        _end(turn, refresh, SUCCESSFUL, None)
        return
    going = dict.fromkeys(ready[: _batch(group, refresh)])
    refresh.waiting = [each for each in refresh.waiting if each not in going]
    cause = f"At {turn.stamp} an instance was taken out of service in response to an instance refresh."
    for instance_id in going:
        turn.take_out(group.members[instance_id], cause)
    turn.again(when)


def surge(group: Group) -> int:
    """How much more than the desired capacity a refresh that launches first wants to have now."""
    refresh = group.refresh
    if refresh is None or refresh.status != IN_PROGRESS or not refresh.launches_first:
        return 0
    ready = [
        each
        for each in refresh.waiting
        if each in group.members and _may_go(group.members[each], refresh) and group.members[each].leaving is None
    ]
    return min(_batch(group, refresh), len(ready))


def _batch(group: Group, refresh: Refresh) -> int:
    """How many are replaced at a time: what may be missing (or be too many), and at least one."""
    least, most = refresh.preferences["MinHealthyPercentage"], refresh.preferences["MaxHealthyPercentage"]
    share = max(most - 100, 0) if refresh.launches_first else 100 - least
    return max(1, int(group.desired * share // 100))


def _may_go(member: Member, refresh: Refresh) -> bool:
    """Whether a member may be replaced now; one that is protected or in standby may have to be waited for."""
    if member.lifecycle == STANDBY:
        return bool(refresh.preferences["StandbyInstances"] == "Terminate")
    if member.protected:
        return bool(refresh.preferences["ScaleInProtectedInstances"] == "Refresh")
    return member.lifecycle == IN_SERVICE


def _to_replace(scaling: ScalingState, group: Group, refresh: Refresh) -> list[Member]:
    found = []
    wanted, source = None, refresh.wanted or group.source
    types = {each.get("InstanceType") for each in (source.mixed or {}).get("LaunchTemplate", {}).get("Overrides", ())}
    if refresh.preferences["SkipMatching"]:
        try:
            wanted = recipe(scaling, source)
        except AwsError:
            wanted = None  # nothing matches what is no more; the launch will say so
    for member in group.members.values():
        if member.protected and refresh.preferences["ScaleInProtectedInstances"] == "Ignore":
            continue
        if member.lifecycle == STANDBY and refresh.preferences["StandbyInstances"] == "Ignore":
            continue
        same = (
            wanted is not None
            and (wanted.template, wanted.configuration) == (member.template, member.configuration)
            and (not types or member.instance_type in types)
        )
        if not same:
            found.append(member)
    return sorted(found, key=lambda each: (each.launched, each.instance_id))


def _stall(turn: Turn, refresh: Refresh, *, short: bool) -> None:
    """Wait for a launch that was refused, or for instances that may not go; not longer than an hour."""
    if refresh.stalled is None:
        if not short or turn.group.retry_at is not None or "Launch" in turn.group.suspended:
            refresh.stalled = turn.when
            turn.again(turn.when + PATIENCE)
    elif turn.when - refresh.stalled >= PATIENCE:
        why = "could not launch instances" if short else "was waiting for instances that are protected or in standby"
        _end(turn, refresh, FAILED, f"Instance refresh has failed because Auto Scaling {why} for one hour.")


def _end(turn: Turn, refresh: Refresh, status: str, reason: str | None) -> None:
    refresh.status, refresh.reason, refresh.ended = status, reason, turn.when
    turn.again(turn.when)
