"""What Auto Scaling's handlers share: the Region's state, refusals, parameters, pages.

Source: Amazon EC2 Auto Scaling API Reference. Its client errors answer 400; sentences are those that users report.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from imdsctl.local.autoscaling.reconcile import reconcile
from imdsctl.local.autoscaling.state import Group, ScalingState
from imdsctl.local.call import AwsError, Call, Operation
from imdsctl.local.constraints import check_range, check_required, check_text
from imdsctl.local.ec2.common import region_state
from imdsctl.local.ec2.state import SCALE
from imdsctl.local.pages import InvalidToken, page

T = TypeVar("T")


def invalid(message: str) -> AwsError:
    """`ValidationError`."""
    return AwsError("ValidationError", message, 400)


def scaling(call: Call) -> ScalingState:
    """The caller's Auto Scaling in the call's Region."""
    state = region_state(call)
    if state.scaling is None:
        state.scaling = ScalingState(state)
    return state.scaling


def the_group(call: Call) -> Group:
    """The group that a request names. Raises ValidationError."""
    name = name_of(call, "AutoScalingGroupName")
    group = scaling(call).groups.get(name)
    if group is None:
        raise no_group(name)
    return group


def changeable_group(call: Call) -> Group:
    """The group that a request is about to change.

    Raises ValidationError, and ScalingActivityInProgress for one that is being deleted.
    """
    group = the_group(call)
    if group.deleting:
        raise AwsError(
            "ScalingActivityInProgress",
            f"AutoScalingGroup {group.name} is pending delete and cannot be changed.",
            400,
        )
    return group


def no_group(name: str) -> AwsError:
    """ValidationError for a group that does not exist."""
    return invalid(f"AutoScalingGroup name not found - AutoScalingGroup '{name}' not found")


def name_of(call: Call, member: str) -> str:
    """A name that a request has to have, of 1 to 255 characters. Raises ValidationError."""
    value = call.params.get(member)
    shown = member[:1].lower() + member[1:]
    check_required(value, shown, invalid)
    check_text(value, shown, invalid, length_min=1, length_max=255)
    return str(value)


def wake(call: Call, group: Group, because: str = "") -> None:
    """Have the group looked after as of now, and a failed launch tried again; `because` is kept as the cause."""
    if because:
        group.because = because
    group.failures, group.retry_at = 0, None
    state = region_state(call)
    if state.reconcile is None:
        state.reconcile = partial(reconcile, call.world, scaling(call))
    call.world.self_acting[call.account_id, call.region] = state
    state.schedule(call.now, group.name, SCALE)


def stamp(moment: datetime) -> str:
    """A time as the causes of activities have it."""
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def listed(
    call: Call,
    member: str,
    items: Sequence[T],
    render: Callable[[T], Any],
    *,
    most: int = 100,
    usual: int = 50,
    of: object = "",
) -> dict[str, Any]:
    """One page of a list, with NextToken when there is more. Raises ValidationError and InvalidNextToken."""
    size = call.params.get("MaxRecords")
    check_range(size, "maxRecords", invalid, 1, most)
    try:
        part, token = page(
            items,
            call.params.get("NextToken") or None,
            size or usual,
            of=f"{call.action}/{call.account_id}/{call.region}/{of}",
        )
    except InvalidToken:
        raise AwsError("InvalidNextToken", "The token passed in the request is invalid.", 400) from None
    out: dict[str, Any] = {member: [render(each) for each in part]}
    if token is not None:
        out["NextToken"] = token
    return out


def matching(
    items: Iterable[T], filters: Iterable[Mapping[str, Any]] | None, fields: Mapping[str, Callable[[T], Iterable[str]]]
) -> list[T]:
    """The items that every filter lets through; `fields` says what an item has under a filter's name.

    Raises ValidationError for an unknown filter.
    """
    found = list(items)
    for each in filters or ():
        name, values = each.get("Name") or "", each.get("Values") or ()
        field = fields.get(name)
        if field is None and name.startswith("tag:") and "tag:" in fields:
            tag, field = name[4:], fields["tag:"]
            wanted = {f"{tag}={value}" for value in values}
        else:
            wanted = set(values)
        if field is None:
            raise invalid(f"Filter type {name} is not correct. Allowed Filter types are: {' '.join(sorted(fields))}")
        found = [item for item in found if wanted.intersection(field(item))]
    return found


def reads(*rooms: Callable[[Call], Mapping[str, Any]]) -> dict[str, Operation]:
    """Operations that read, named after their handlers."""
    return {_name(each): Operation(each) for each in rooms}


def writes(*rooms: Callable[[Call], Mapping[str, Any]]) -> dict[str, Operation]:
    """Operations that write, named after their handlers."""
    return {_name(each): Operation(each, writes=True) for each in rooms}


def _name(handler: Callable[[Call], Mapping[str, Any]]) -> str:
    return "".join(word.capitalize() for word in handler.__name__.split("_"))
