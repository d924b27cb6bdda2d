"""The accounts that are there: listed, moved, closed.

Source: AWS Organizations API Reference; User Guide, "Closing a member account in your organization".
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from imdsctl.local.call import Call, Operation, Operations
from imdsctl.local.organizations.common import (
    account_of,
    only_administrators,
    only_management,
    paged,
    parent_id,
    refuse,
    state_of,
    violates,
    with_token,
    written_account,
)

CLOSED_COUNTED = timedelta(days=30)
CLOSED_AT_LEAST, CLOSED_AT_MOST, CLOSED_SHARE = 250, 1_000, 0.2
"""API Reference, CloseAccount: in 30 days the higher of 250 or 20% of the member accounts, up to 1,000."""


def list_accounts(call: Call) -> Mapping[str, Any]:
    """Every account, suspended ones included, with its `State` (and the `Status` that it replaces)."""
    only_administrators(call)
    accounts = call.world.accounts
    found, after = paged(call, list(accounts))
    return with_token({"Accounts": [written_account(call, accounts[account_id]) for account_id in found]}, after)


def list_accounts_for_parent(call: Call) -> Mapping[str, Any]:
    """The accounts directly under a root or a unit."""
    only_administrators(call)
    parent = parent_id(call)
    found, after = paged(call, [each for each in call.world.accounts.values() if each.parent_id == parent], parent)
    return with_token({"Accounts": [written_account(call, account) for account in found]}, after)


def describe_account(call: Call) -> Mapping[str, Any]:
    """One account of the organization."""
    only_administrators(call)
    return {"Account": written_account(call, account_of(call))}


def move_account(call: Call) -> Mapping[str, Any]:
    """Put an account under another root or unit: from now on the policies there bind it.

    Raises AccountNotFoundException (also when the account is not where the request says it is),
    SourceParentNotFoundException, DestinationParentNotFoundException, DuplicateAccountException, InvalidInputException.
    """
    only_management(call)
    account = account_of(call)
    source = parent_id(call, "SourceParentId", "SourceParentNotFoundException")
    destination = parent_id(call, "DestinationParentId", "DestinationParentNotFoundException")
    if account.parent_id == destination:
        raise refuse("DuplicateAccountException", "That account is already present in the specified destination.")
    if account.parent_id != source:
        raise refuse("AccountNotFoundException", "The specified account isn't in the source parent.")
    state_of(call).move(account, destination, call.now)
    return {}


def close_account(call: Call) -> Mapping[str, Any]:
    """Close a member account: its requests are refused at once, its `State` is PENDING_CLOSURE, then CLOSED.

    Raises AccountNotFoundException, AccountAlreadyClosedException, ConflictException (it is being closed),
    ConstraintViolationException (CANNOT_CLOSE_MANAGEMENT_ACCOUNT, CLOSE_ACCOUNT_QUOTA_EXCEEDED), InvalidInputException.
    """
    only_management(call)
    account, state = account_of(call), state_of(call)
    if account.id == state.organization.management_id:
        raise violates("CANNOT_CLOSE_MANAGEMENT_ACCOUNT", "You can't close the management account.")
    now = state.account_state(account, call.now)
    if now in ("PENDING_CLOSURE", "PENDING_ACTIVATION"):
        raise refuse(
            "ConflictException",
            "The request failed because it conflicts with the current state of the specified resource.",
        )
    if now != "ACTIVE":
        raise refuse("AccountAlreadyClosedException", "You attempted to close an account that is already closed.")
    recent = sum(1 for asked, _ in state.closed.values() if call.now - asked < CLOSED_COUNTED)
    if recent >= min(CLOSED_AT_MOST, max(CLOSED_AT_LEAST, CLOSED_SHARE * (len(state.accounts) - 1))):
        raise violates("CLOSE_ACCOUNT_QUOTA_EXCEEDED", "You have exceeded close account quota for the past 30 days.")
    account.state = "SUSPENDED"
    state.closed[account.id] = (call.now, call.now + timedelta(seconds=call.world.settle_seconds))
    return {}


OPERATIONS: Operations = {
    "ListAccounts": Operation(list_accounts),
    "ListAccountsForParent": Operation(list_accounts_for_parent),
    "DescribeAccount": Operation(describe_account),
    "MoveAccount": Operation(move_account, writes=True),
    "CloseAccount": Operation(close_account, writes=True),
}
