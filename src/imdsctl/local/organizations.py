"""AWS Organizations: the organization, its tree and its accounts.

Source: AWS Organizations API Reference. Only the management account may list; members may describe the organization.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from imdsctl.local.call import AwsError, Call, Operation, Operations
from imdsctl.local.pages import InvalidToken, page
from imdsctl.local.world import Account, OrganizationalUnit

PAGE_SIZE_MAX = 20
"""`MaxResults` of every list here (Organizations API Reference); it is the default, too."""

_PARENT_ID = re.compile(r"r-[0-9a-z]{4,32}|ou-[0-9a-z]{4,32}-[a-z0-9]{8,32}")
_CHILD_ID = re.compile(r"[0-9]{12}|ou-[0-9a-z]{4,32}-[a-z0-9]{8,32}")
_POLICY_TYPES = [{"Type": "SERVICE_CONTROL_POLICY", "Status": "ENABLED"}]
T = TypeVar("T")


def describe_organization(call: Call) -> Mapping[str, Any]:
    """Open to every account of the organization."""
    organization, management = call.world.organization, call.world.management
    return {
        "Organization": {
            "Id": organization.id,
            "Arn": organization.arn,
            "FeatureSet": "ALL",
            "MasterAccountArn": management.arn(organization),
            "MasterAccountId": management.id,
            "MasterAccountEmail": management.email,
            "AvailablePolicyTypes": _POLICY_TYPES,
        }
    }


def list_accounts(call: Call) -> Mapping[str, Any]:
    """Every account, suspended ones included, with its `State` (and the `Status` that it replaces)."""
    _only_management(call)
    found, after = _page(call, list(call.world.accounts.values()))
    return _with_token({"Accounts": [_account(call, account) for account in found]}, after)


def list_accounts_for_parent(call: Call) -> Mapping[str, Any]:
    """The accounts directly under a root or a unit."""
    _only_management(call)
    parent = _parent_id(call)
    found, after = _page(call, [each for each in call.world.accounts.values() if each.parent_id == parent], parent)
    return _with_token({"Accounts": [_account(call, account) for account in found]}, after)


def list_roots(call: Call) -> Mapping[str, Any]:
    """The one root."""
    _only_management(call)
    organization = call.world.organization
    root = {
        "Id": organization.root_id,
        "Arn": organization.root_arn,
        "Name": "Root",
        "PolicyTypes": _POLICY_TYPES,
    }
    found, after = _page(call, [root])
    return _with_token({"Roots": list(found)}, after)


def list_organizational_units_for_parent(call: Call) -> Mapping[str, Any]:
    """The units directly under a root or a unit."""
    _only_management(call)
    parent = _parent_id(call)
    organization = call.world.organization
    found, after = _page(call, [unit for unit in organization.units if unit.parent_id == parent], parent)
    return _with_token(
        {
            "OrganizationalUnits": [
                {
                    "Id": unit.id,
                    "Arn": organization.unit_arn(unit.id),
                    "Name": unit.name,
                    "Path": _path(call, unit.id),
                }
                for unit in found
            ]
        },
        after,
    )


def list_parents(call: Call) -> Mapping[str, Any]:
    """The root or unit directly above an account or a unit: always one."""
    _only_management(call)
    child = call.params.get("ChildId")
    if child is None:
        raise _invalid("INPUT_REQUIRED", "You must provide a value for the required parameter ChildId.")
    if not _CHILD_ID.fullmatch(child):
        raise _invalid("INVALID_PATTERN", "You provided a value that does not match the required pattern.")
    account, unit = call.world.accounts.get(child), _units(call).get(child)
    owner = account or unit
    if owner is None:
        raise AwsError("ChildNotFoundException", "You specified a child that doesn't exist.", 400)
    kind = "ROOT" if owner.parent_id == call.world.organization.root_id else "ORGANIZATIONAL_UNIT"
    found, after = _page(call, [{"Id": owner.parent_id, "Type": kind}], child)
    return _with_token({"Parents": list(found)}, after)


def describe_account(call: Call) -> Mapping[str, Any]:
    """One account of the organization."""
    _only_management(call)
    account_id = call.params.get("AccountId")
    if account_id is None:
        raise _invalid("INPUT_REQUIRED", "You must provide a value for the required parameter AccountId.")
    account = call.world.accounts.get(account_id)
    if account is None:
        raise AwsError("AccountNotFoundException", "You specified an account that doesn't exist.", 400)
    return {"Account": _account(call, account)}


def _account(call: Call, account: Account) -> dict[str, Any]:
    return {
        "Id": account.id,
        "Arn": account.arn(call.world.organization),
        "Email": account.email,
        "Name": account.name,
        "Status": account.state,  # retired in September 2026 in favour of State, still sent
        "State": account.state,
        "Paths": [f"{_path(call, account.parent_id)}{account.id}/"],
        "JoinedMethod": account.joined_method,
        "JoinedTimestamp": account.joined,
    }


def _path(call: Call, parent_id: str) -> str:
    """`o-id/r-id/ou-id/`: the way from the organization to a root or unit."""
    organization = call.world.organization
    units = _units(call)
    steps: list[str] = []
    while parent_id in units:
        steps.append(parent_id)
        parent_id = units[parent_id].parent_id
    return "/".join([organization.id, organization.root_id, *reversed(steps)]) + "/"


def _units(call: Call) -> dict[str, OrganizationalUnit]:
    return {unit.id: unit for unit in call.world.organization.units}


def _only_management(call: Call) -> None:
    if call.account_id != call.world.organization.management_id:
        raise AwsError("AccessDeniedException", "You don't have permissions to access this resource.", 400)


def _parent_id(call: Call) -> str:
    parent = call.params.get("ParentId")
    if parent is None:
        raise _invalid("INPUT_REQUIRED", "You must provide a value for the required parameter ParentId.")
    if not _PARENT_ID.fullmatch(parent):
        raise _invalid("INVALID_PATTERN", "You provided a value that does not match the required pattern.")
    if parent != call.world.organization.root_id and parent not in _units(call):
        raise AwsError("ParentNotFoundException", "You specified parent that doesn't exist.", 400)
    return str(parent)


def _page(call: Call, items: Sequence[T], of: str = "") -> tuple[Sequence[T], str | None]:
    size = call.params.get("MaxResults")
    if size is not None and size < 1:
        raise _invalid(
            "MIN_VALUE_EXCEEDED", "You provided a numeric parameter that has a smaller minimum than allowed."
        )
    if size is not None and size > PAGE_SIZE_MAX:
        raise _invalid("MAX_VALUE_EXCEEDED", "You provided a numeric parameter that has a larger maximum than allowed.")
    try:
        return page(items, call.params.get("NextToken"), size or PAGE_SIZE_MAX, of=f"{call.action}/{of}")
    except InvalidToken:
        raise _invalid("INVALID_NEXT_TOKEN", "You provided an invalid value for NextToken.") from None


def _with_token(result: dict[str, Any], token: str | None) -> dict[str, Any]:
    if token is not None:
        result["NextToken"] = token
    return result


def _invalid(reason: str, message: str) -> AwsError:
    return AwsError("InvalidInputException", message, 400, detail={"Reason": reason})


OPERATIONS: Operations = {
    "DescribeOrganization": Operation(describe_organization),
    "DescribeAccount": Operation(describe_account),
    "ListAccounts": Operation(list_accounts),
    "ListAccountsForParent": Operation(list_accounts_for_parent),
    "ListRoots": Operation(list_roots),
    "ListOrganizationalUnitsForParent": Operation(list_organizational_units_for_parent),
    "ListParents": Operation(list_parents),
}
