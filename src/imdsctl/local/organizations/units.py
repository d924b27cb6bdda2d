"""The organization, its root and its organizational units.

Source: AWS Organizations API Reference; User Guide, "Quotas for AWS Organizations" (five levels of units, 2,000 units).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from imdsctl.local.call import Call, Operation, Operations
from imdsctl.local.organizations.common import (
    CHILD_ID,
    UNIT_ID,
    choice,
    identifier,
    only_administrators,
    only_management,
    paged,
    parent_id,
    path_of,
    refuse,
    state_of,
    text,
    violates,
    with_token,
    written_root,
)
from imdsctl.local.organizations.state import SERVED
from imdsctl.local.organizations.tags import tags_of
from imdsctl.local.world import OrganizationalUnit

UNIT_DEPTH_MAX = 5
UNITS_MAX = 2_000
UNIT_NAME_LENGTH_MAX = 128


def describe_organization(call: Call) -> Mapping[str, Any]:
    """Open to every account of the organization.

    `AvailablePolicyTypes` is deprecated in AWS and does not tell what is enabled; ListRoots does.
    """
    organization, management = call.world.organization, call.world.management
    return {
        "Organization": {
            "Id": organization.id,
            "Arn": organization.arn,
            "FeatureSet": "ALL",
            "MasterAccountArn": management.arn(organization),
            "MasterAccountId": management.id,
            "MasterAccountEmail": management.email,
            "AvailablePolicyTypes": [{"Type": SERVED[0], "Status": "ENABLED"}],
        }
    }


def list_roots(call: Call) -> Mapping[str, Any]:
    """The one root."""
    only_administrators(call)
    found, after = paged(call, [written_root(call)])
    return with_token({"Roots": list(found)}, after)


def list_organizational_units_for_parent(call: Call) -> Mapping[str, Any]:
    """The units directly under a root or a unit."""
    only_administrators(call)
    parent = parent_id(call)
    found, after = paged(call, _children(call, parent), parent)
    return with_token({"OrganizationalUnits": [_written(call, unit) for unit in found]}, after)


def list_parents(call: Call) -> Mapping[str, Any]:
    """The root or unit directly above an account or a unit: always one."""
    only_administrators(call)
    child, state = identifier(call, "ChildId", CHILD_ID), state_of(call)
    if not state.is_target(child):
        raise refuse("ChildNotFoundException", "You specified a child that doesn't exist.")
    parent = state.parent_of(child)
    kind = "ROOT" if parent == state.organization.root_id else "ORGANIZATIONAL_UNIT"
    found, after = paged(call, [{"Id": parent, "Type": kind}], child)
    return with_token({"Parents": list(found)}, after)


def list_children(call: Call) -> Mapping[str, Any]:
    """The units or the accounts directly under a root or a unit."""
    only_administrators(call)
    parent, kind = parent_id(call), choice(call, "ChildType", ("ACCOUNT", "ORGANIZATIONAL_UNIT"))
    if kind == "ACCOUNT":
        ids = [account.id for account in call.world.accounts.values() if account.parent_id == parent]
    else:
        ids = [unit.id for unit in _children(call, parent)]
    found, after = paged(call, ids, f"{parent}/{kind}")
    return with_token({"Children": [{"Id": each, "Type": kind} for each in found]}, after)


def describe_organizational_unit(call: Call) -> Mapping[str, Any]:
    """One unit."""
    only_administrators(call)
    return {"OrganizationalUnit": _written(call, _unit(call))}


def create_organizational_unit(call: Call) -> Mapping[str, Any]:
    """Make a unit under a root or a unit. SCPs enabled, it has FullAWSAccess from the start.

    Raises ParentNotFoundException, DuplicateOrganizationalUnitException (the name is taken under this parent),
    ConstraintViolationException (OU_DEPTH_LIMIT_EXCEEDED, OU_NUMBER_LIMIT_EXCEEDED), InvalidInputException.
    """
    only_management(call)
    state, parent = state_of(call), parent_id(call)
    name = text(call, "Name", 1, UNIT_NAME_LENGTH_MAX)
    assert name is not None
    tags = tags_of(call)
    _refuse_taken(call, parent, name)
    if len(state.path(parent)) > UNIT_DEPTH_MAX:
        raise violates("OU_DEPTH_LIMIT_EXCEEDED", "You cannot create an OU tree that is too many levels deep.")
    if len(state.units) >= UNITS_MAX:
        raise violates("OU_NUMBER_LIMIT_EXCEEDED", "You have exceeded the allowed number of OUs.")
    root = state.organization.root_id.removeprefix("r-")
    unit = OrganizationalUnit(f"ou-{root}-{call.ids.hex(8)}", name, parent)
    state.put_unit(unit)
    if tags:
        state.tags[unit.id] = tags
    return {"OrganizationalUnit": _written(call, unit)}


def update_organizational_unit(call: Call) -> Mapping[str, Any]:
    """Rename a unit; its id, its place and what is attached stay.

    Raises OrganizationalUnitNotFoundException, DuplicateOrganizationalUnitException, InvalidInputException.
    """
    only_management(call)
    unit = _unit(call)
    name = text(call, "Name", 1, UNIT_NAME_LENGTH_MAX, optional=True)
    if name is not None and name != unit.name:
        _refuse_taken(call, unit.parent_id, name)
        unit = replace(unit, name=name)
        state_of(call).put_unit(unit)
    return {"OrganizationalUnit": _written(call, unit)}


def delete_organizational_unit(call: Call) -> Mapping[str, Any]:
    """Delete a unit with nothing in it; policies attached to it are detached.

    Raises OrganizationalUnitNotFoundException, OrganizationalUnitNotEmptyException, InvalidInputException.
    """
    only_management(call)
    unit = _unit(call)
    if _children(call, unit.id) or any(each.parent_id == unit.id for each in call.world.accounts.values()):
        raise refuse(
            "OrganizationalUnitNotEmptyException",
            "The specified OU is not empty. Move all accounts to another root or to other OUs, remove all child OUs, "
            "and try the operation again.",
        )
    state_of(call).remove_unit(unit.id)
    return {}


def _unit(call: Call) -> OrganizationalUnit:
    unit = state_of(call).units.get(identifier(call, "OrganizationalUnitId", UNIT_ID))
    if unit is None:
        raise refuse("OrganizationalUnitNotFoundException", "You specified an organizational unit that doesn't exist.")
    return unit


def _children(call: Call, parent: str) -> list[OrganizationalUnit]:
    return [unit for unit in state_of(call).units.values() if unit.parent_id == parent]


def _refuse_taken(call: Call, parent: str, name: str) -> None:
    if any(unit.name == name for unit in _children(call, parent)):
        raise refuse("DuplicateOrganizationalUnitException", "An OU with the same name already exists.")


def _written(call: Call, unit: OrganizationalUnit) -> dict[str, Any]:
    return {
        "Id": unit.id,
        "Arn": state_of(call).organization.unit_arn(unit.id),
        "Name": unit.name,
        "Path": path_of(call, unit.id),
    }


OPERATIONS: Operations = {
    "DescribeOrganization": Operation(describe_organization),
    "ListRoots": Operation(list_roots),
    "ListOrganizationalUnitsForParent": Operation(list_organizational_units_for_parent),
    "ListParents": Operation(list_parents),
    "ListChildren": Operation(list_children),
    "DescribeOrganizationalUnit": Operation(describe_organizational_unit),
    "CreateOrganizationalUnit": Operation(create_organizational_unit, writes=True),
    "UpdateOrganizationalUnit": Operation(update_organizational_unit, writes=True),
    "DeleteOrganizationalUnit": Operation(delete_organizational_unit, writes=True),
}
