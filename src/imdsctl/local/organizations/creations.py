"""CreateAccount, and how far it is.

Source: AWS Organizations API Reference, CreateAccount and CreateAccountStatus: the request is answered at once, the
account is made in the background, and what goes wrong there is told by the status.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from imdsctl.local.call import Call, Operation, Operations
from imdsctl.local.organizations.common import (
    identifier,
    invalid,
    only_administrators,
    only_management,
    paged,
    refuse,
    state_of,
    text,
    with_token,
)
from imdsctl.local.organizations.state import Creation
from imdsctl.local.organizations.tags import tags_of
from imdsctl.local.world import ROLE_NAME, Account

STATES = ("IN_PROGRESS", "SUCCEEDED", "FAILED")
_EMAIL = re.compile(r"[^\s@]+@[^\s@]+\.[^\s@]+")
_NAME = re.compile(r"[ -~]+")
_ROLE = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
_REQUEST_ID = re.compile(r"car-[a-z0-9]{8,32}")


def create_account(call: Call) -> Mapping[str, Any]:
    """Make a member account under the root, with the role that the management account may assume and nothing else.

    The address of another account makes the request fail (EMAIL_ALREADY_EXISTS), which the status tells. Raises
    InvalidInputException and ConstraintViolationException.
    """
    only_management(call)
    state = state_of(call)
    email, name = text(call, "Email", 6, 64), text(call, "AccountName", 1, 50)
    assert email is not None
    assert name is not None
    if not _EMAIL.fullmatch(email):
        raise invalid("INVALID_EMAIL_ADDRESS_TARGET", "You specified an invalid email address.")
    if not _NAME.fullmatch(name):
        raise invalid("INVALID_FULL_NAME_TARGET", "You specified a full name that contains invalid characters.")
    role = call.params.get("RoleName") or ROLE_NAME
    if not _ROLE.fullmatch(role):
        raise invalid("INVALID_ROLE_NAME", "You provided a role name that isn't valid.")
    if call.params.get("IamUserAccessToBilling", "ALLOW") not in ("ALLOW", "DENY"):
        raise invalid("INVALID_ENUM", "You specified an invalid value for IamUserAccessToBilling.")
    tags = tags_of(call)
    taken = any(each.email.lower() == email.lower() for each in state.accounts.values())
    done = call.now + timedelta(seconds=call.world.settle_seconds)
    creation = Creation(
        f"car-{call.ids.hex(32)}", name, call.now, done, None, "EMAIL_ALREADY_EXISTS" if taken else None
    )
    if not taken:
        account = Account(
            id=_account_id(call),
            name=name,
            email=email,
            joined=call.now.replace(microsecond=0),
            parent_id=state.organization.root_id,
            role_id=f"AROA{call.ids.upper(17)}",
            role_name=role,
        )
        state.add_account(account, done)
        creation.account_id = account.id
        if tags:
            state.tags[account.id] = tags
    state.creations[creation.id] = creation
    # The answer to the request itself is always that it goes on.
    return {"CreateAccountStatus": _begun(creation)}


def describe_create_account_status(call: Call) -> Mapping[str, Any]:
    """How far a CreateAccount is. Raises CreateAccountStatusNotFoundException."""
    only_administrators(call)
    creation = state_of(call).creations.get(identifier(call, "CreateAccountRequestId", _REQUEST_ID))
    if creation is None:
        raise refuse(
            "CreateAccountStatusNotFoundException", "You specified a create account request that doesn't exist."
        )
    return {"CreateAccountStatus": _written(creation, call)}


def list_create_account_status(call: Call) -> Mapping[str, Any]:
    """Every CreateAccount there was, or those in some states."""
    only_administrators(call)
    states = call.params.get("States") or STATES
    for each in states:
        if each not in STATES:
            raise invalid("INVALID_ENUM", "You specified an invalid value for States.")
    listed = [_written(each, call) for each in state_of(call).creations.values()]
    found, after = paged(call, [each for each in listed if each["State"] in states], ",".join(states))
    return with_token({"CreateAccountStatuses": list(found)}, after)


def _account_id(call: Call) -> str:
    while True:
        account_id = str(10**11 + call.ids.integer(9 * 10**11))
        if account_id not in call.world.accounts:
            return account_id


def _written(creation: Creation, call: Call) -> dict[str, Any]:
    begun = _begun(creation)
    if call.now < creation.done:
        return begun
    if creation.failure is not None:
        return {**begun, "State": "FAILED", "CompletedTimestamp": creation.done, "FailureReason": creation.failure}
    return {
        **begun,
        "State": "SUCCEEDED",
        "CompletedTimestamp": creation.done,
        "AccountId": creation.account_id,
    }


def _begun(creation: Creation) -> dict[str, Any]:
    return {
        "Id": creation.id,
        "AccountName": creation.account_name,
        "State": "IN_PROGRESS",
        "RequestedTimestamp": creation.requested,
    }


OPERATIONS: Operations = {
    "CreateAccount": Operation(create_account, writes=True),
    "DescribeCreateAccountStatus": Operation(describe_create_account_status),
    "ListCreateAccountStatus": Operation(list_create_account_status),
}
