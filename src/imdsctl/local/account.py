"""AWS Account Management: which Regions an account has, and opting in and out of them.

Source: AWS Account Management Reference Guide, "Enable or disable AWS Regions in your account", and the API Reference
(ListRegions, GetRegionOptStatus, EnableRegion, DisableRegion).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imdsctl.domain.regions import COMMERCIAL_REGIONS
from imdsctl.local.call import AwsError, Call, Operation, Operations
from imdsctl.local.constraints import check_members, check_range, check_required, check_text
from imdsctl.local.pages import InvalidToken, page
from imdsctl.local.world import (
    DEFAULT_SET,
    DISABLED,
    DISABLING,
    ENABLED,
    ENABLED_BY_DEFAULT,
    ENABLING,
    KNOWN_REGIONS,
)

SERVICE = "account.amazonaws.com"
"""The principal for which Organizations registers a delegated administrator of this service."""

PAGE_SIZE_MAX = 50
STATUSES = (ENABLED, ENABLING, DISABLING, DISABLED, ENABLED_BY_DEFAULT)


def list_regions(call: Call) -> Mapping[str, Any]:
    """The Regions with their status for an account; `RegionOptStatusContains` selects."""
    account_id = _account_id(call)
    wanted = call.params.get("RegionOptStatusContains")
    check_members(wanted or (), "regionOptStatusContains", _invalid, STATUSES)
    size = call.params.get("MaxResults")
    check_range(size, "maxResults", _invalid, 1, PAGE_SIZE_MAX)
    check_text(call.params.get("NextToken"), "nextToken", _invalid, length_max=1000)
    statuses = [(name, call.world.region_opt_status(account_id, name, call.now)) for name in COMMERCIAL_REGIONS]
    chosen = [(name, status) for name, status in statuses if not wanted or status in wanted]
    try:
        found, after = page(
            chosen,
            call.params.get("NextToken"),
            size or PAGE_SIZE_MAX,
            of=f"ListRegions/{account_id}/{sorted(wanted or ())}",
        )
    except InvalidToken:
        raise _invalid("The provided NextToken is invalid.") from None
    result: dict[str, Any] = {
        "Regions": [{"RegionName": name, "RegionOptStatus": status} for name, status in found],
    }
    if after is not None:
        result["NextToken"] = after
    return result


def get_region_opt_status(call: Call) -> Mapping[str, Any]:
    """One Region's status for an account."""
    account_id, region = _account_id(call), _region(call)
    return {"RegionName": region, "RegionOptStatus": call.world.region_opt_status(account_id, region, call.now)}


def enable_region(call: Call) -> Mapping[str, Any]:
    """Opt in: ENABLING, and ENABLED after the world's settling time. Nothing happens when it is so already."""
    _change(call, ENABLING, nothing_to_do=(ENABLED, ENABLING), busy=DISABLING)
    return {}


def disable_region(call: Call) -> Mapping[str, Any]:
    """Opt out: DISABLING, then DISABLED. Resources stay where they are; they just cannot be reached."""
    _change(call, DISABLING, nothing_to_do=(DISABLED, DISABLING), busy=ENABLING)
    return {}


def _change(call: Call, status: str, *, nothing_to_do: tuple[str, str], busy: str) -> None:
    account_id, region = _account_id(call), _region(call)
    if region in DEFAULT_SET:
        raise _invalid(f"The Region {region} is enabled by default; you can't enable or disable it.")
    current = call.world.region_opt_status(account_id, region, call.now)
    if current == busy:
        raise AwsError(
            "ConflictException",
            f"The Region {region} is {busy}. Wait until that is complete and try again.",
            409,
        )
    if current not in nothing_to_do:
        call.world.set_region_opt_status(account_id, region, status, call.now)


def _region(call: Call) -> str:
    name = call.params.get("RegionName")
    check_required(name, "regionName", _invalid)
    check_text(name, "regionName", _invalid, length_min=1, length_max=50)
    if name not in KNOWN_REGIONS:
        raise _invalid(f"The Region {name} is not valid.")
    return str(name)


def _account_id(call: Call) -> str:
    """The account meant: the caller's, or a member's when the management account or a delegated administrator asks.

    The management account cannot be named ("must be a member account in the organization"), and an ordinary member
    account cannot name anybody.
    """
    named = call.params.get("AccountId")
    if named is None:
        return call.account_id
    check_text(named, "accountId", _invalid, pattern=r"\d{12}")
    management_id = call.world.organization.management_id
    if not call.world.organizations.administers(call.account_id, SERVICE) or named not in call.world.accounts:
        raise AwsError(
            "AccessDeniedException",
            f"User: {call.caller.arn} is not authorized to perform: account:{call.action} on resource: "
            f"arn:aws:account::{management_id}:account/{call.world.organization.id}/{named}",
            403,
        )
    if named == management_id:
        raise _invalid("The management account can't specify its own account ID; leave out the AccountId parameter.")
    return str(named)


def _invalid(message: str) -> AwsError:
    return AwsError("ValidationException", message, 400)


OPERATIONS: Operations = {
    "ListRegions": Operation(list_regions),
    "GetRegionOptStatus": Operation(get_region_opt_status),
    "EnableRegion": Operation(enable_region, writes=True),
    "DisableRegion": Operation(disable_region, writes=True),
}
