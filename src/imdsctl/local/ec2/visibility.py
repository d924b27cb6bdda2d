"""Managed resource visibility: whether Describe calls show what AWS services manage in the account.

Source: EC2 API Reference, GetManagedResourceVisibility and ModifyManagedResourceVisibility ("Visibility settings are
account-wide"), and `IncludeManagedResources` of the Describe calls, which shows what is hidden. A hidden resource is
left out of an answer also when the request names it by its identifier.
"""

from __future__ import annotations

from typing import Any

from imdsctl.local.call import Call, Operation
from imdsctl.local.ec2.common import region_state
from imdsctl.local.ec2.errors import check_choice, missing
from imdsctl.local.ec2.state import RegionState

HIDDEN = "hidden"
VISIBLE = "visible"


def shows_managed(call: Call) -> bool:
    """Whether a Describe call shows managed resources."""
    return bool(call.params.get("IncludeManagedResources")) or not region_state(call).hides_managed


def operator(state: RegionState, managed_by: str | None) -> dict[str, Any]:
    """AWS's `OperatorResponse`: who manages a resource, and whether the account hides it."""
    if managed_by is None:
        return {"Managed": False}
    return {"Managed": True, "Principal": managed_by, "HiddenByDefault": state.hides_managed}


def get_managed_resource_visibility(call: Call) -> dict[str, Any]:
    """The account's setting."""
    hides = call.world.accounts[call.account_id].hides_managed
    return {"Visibility": {"DefaultVisibility": HIDDEN if hides else VISIBLE}}


def modify_managed_resource_visibility(call: Call) -> dict[str, Any]:
    """Hide managed resources in the account, or show them; in every Region.

    Raises MissingParameter, InvalidParameterValue.
    """
    wanted = call.params.get("DefaultVisibility")
    if not wanted:
        raise missing("DefaultVisibility")
    check_choice(wanted, "DefaultVisibility", (HIDDEN, VISIBLE))
    hides = call.world.accounts[call.account_id].hides_managed = wanted == HIDDEN
    for account_id, _, state in call.world.touched():
        if account_id == call.account_id:
            state.hides_managed = hides
            for instance in state.instances.values():
                if instance.managed_by is not None:
                    instance.changed()  # its XML says whether it is hidden
    return get_managed_resource_visibility(call)


OPERATIONS = {
    "GetManagedResourceVisibility": Operation(get_managed_resource_visibility),
    "ModifyManagedResourceVisibility": Operation(modify_managed_resource_visibility, writes=True),
}
