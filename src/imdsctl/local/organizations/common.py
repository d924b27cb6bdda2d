"""What the rooms of Organizations share: who may ask, what is well formed, pages, and how things are written.

Source: AWS Organizations API Reference, "Common errors" and the operations' pages. Sentences that AWS does not publish
are marked in docs/fidelity.md.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from imdsctl.local.call import AwsError, Call
from imdsctl.local.organizations.state import DECLARATIVE, SCP, OrganizationState
from imdsctl.local.pages import InvalidToken, page
from imdsctl.local.world import Account

PAGE_SIZE_MAX = 20
"""`MaxResults` of every list here (Organizations API Reference); it is the default, too."""

POLICY_TYPES = (
    *(SCP, "RESOURCE_CONTROL_POLICY", "TAG_POLICY", "BACKUP_POLICY", "AISERVICES_OPT_OUT_POLICY", "CHATBOT_POLICY"),
    *(DECLARATIVE, "SECURITYHUB_POLICY", "INSPECTOR_POLICY", "UPGRADE_ROLLOUT_POLICY", "BEDROCK_POLICY", "S3_POLICY"),
    "NETWORK_SECURITY_DIRECTOR_POLICY",
)
"""Every type that AWS has; those that are not served here are refused as not available for the organization."""

ROOT_ID = re.compile(r"r-[0-9a-z]{4,32}")
UNIT_ID = re.compile(r"ou-[0-9a-z]{4,32}-[a-z0-9]{8,32}")
ACCOUNT_ID = re.compile(r"[0-9]{12}")
POLICY_ID = re.compile(r"p-[0-9a-zA-Z_]{8,128}")
PARENT_ID = re.compile(rf"{ROOT_ID.pattern}|{UNIT_ID.pattern}")
CHILD_ID = re.compile(rf"{ACCOUNT_ID.pattern}|{UNIT_ID.pattern}")
TARGET_ID = re.compile(rf"{ROOT_ID.pattern}|{CHILD_ID.pattern}")
TAGGED_ID = re.compile(rf"{TARGET_ID.pattern}|{POLICY_ID.pattern}")

T = TypeVar("T")


def state_of(call: Call) -> OrganizationState:
    """What the organization remembers."""
    return call.world.organizations


# -- refusals --------------------------------------------------------------------------------------------------------


def refuse(code: str, message: str) -> AwsError:
    """An error of Organizations; all of the client's answer 400."""
    return AwsError(code, message, 400)


def invalid(reason: str, message: str) -> AwsError:
    """InvalidInputException with its Reason."""
    return AwsError("InvalidInputException", message, 400, detail={"Reason": reason})


def violates(reason: str, message: str) -> AwsError:
    """ConstraintViolationException with its Reason."""
    return AwsError("ConstraintViolationException", message, 400, detail={"Reason": reason})


def denied() -> AwsError:
    """AccessDeniedException, as for a member account that asks what only the management account may."""
    return refuse("AccessDeniedException", "You don't have permissions to access this resource.")


# -- who may ask -----------------------------------------------------------------------------------------------------


def only_management(call: Call) -> None:
    """Raises AccessDeniedException for every account but the management account."""
    if call.account_id != state_of(call).organization.management_id:
        raise denied()


def only_administrators(call: Call) -> None:
    """Raises AccessDeniedException for all but the management account and delegated administrators of any service.

    They may read; writing takes a resource-based delegation policy, which is not here.
    """
    state = state_of(call)
    if call.account_id != state.organization.management_id and not state.delegated.get(call.account_id):
        raise denied()


# -- parameters ------------------------------------------------------------------------------------------------------


def required(call: Call, name: str) -> Any:
    """A parameter that must be there. Raises InvalidInputException (INPUT_REQUIRED)."""
    value = call.params.get(name)
    if value is None:
        raise invalid("INPUT_REQUIRED", f"You must provide a value for the required parameter {name}.")
    return value


def identifier(call: Call, name: str, pattern: re.Pattern[str]) -> str:
    """A required identifier of the right form. Raises InvalidInputException."""
    value = str(required(call, name))
    if not pattern.fullmatch(value):
        reason = "INVALID_SYNTAX_POLICY_ID" if pattern is POLICY_ID else "INVALID_PATTERN"
        raise invalid(reason, "You provided a value that does not match the required pattern.")
    return value


def text(call: Call, name: str, least: int, most: int, *, optional: bool = False) -> str | None:
    """A text of `least` to `most` characters. Raises InvalidInputException."""
    value = call.params.get(name) if optional else required(call, name)
    if value is None:
        return None
    if len(value) < least:
        raise invalid("MIN_LENGTH_EXCEEDED", f"You provided a string for {name} that is shorter than allowed.")
    if len(value) > most:
        raise invalid("MAX_LENGTH_EXCEEDED", f"You provided a string for {name} that is longer than allowed.")
    return str(value)


def choice(call: Call, name: str, choices: Iterable[str], reason: str = "INVALID_ENUM") -> str:
    """A required value of an enumeration. Raises InvalidInputException."""
    value = str(required(call, name))
    if value not in choices:
        raise invalid(reason, f"You specified an invalid value for {name}.")
    return value


def policy_type(call: Call, name: str = "PolicyType") -> str:
    """A type of policies that AWS knows, served here or not. Raises InvalidInputException."""
    return choice(call, name, POLICY_TYPES, "INVALID_ENUM_POLICY_TYPE")


def parent_id(call: Call, name: str = "ParentId", code: str = "ParentNotFoundException") -> str:
    """The root or unit that a parameter names. Raises InvalidInputException and `code`."""
    parent, state = identifier(call, name, PARENT_ID), state_of(call)
    if parent != state.organization.root_id and parent not in state.units:
        raise refuse(code, "You specified parent that doesn't exist.")
    return parent


def account_of(call: Call, name: str = "AccountId") -> Account:
    """The account that a parameter names. Raises InvalidInputException and AccountNotFoundException."""
    account = call.world.accounts.get(identifier(call, name, ACCOUNT_ID))
    if account is None:
        raise refuse("AccountNotFoundException", "You specified an account that doesn't exist.")
    return account


def target_id(call: Call) -> str:
    """The root, unit or account that TargetId names. Raises InvalidInputException and TargetNotFoundException."""
    target = identifier(call, "TargetId", TARGET_ID)
    if not state_of(call).is_target(target):
        raise refuse("TargetNotFoundException", "You specified a target that doesn't exist.")
    return target


# -- pages -----------------------------------------------------------------------------------------------------------


def paged(call: Call, items: Sequence[T], of: str = "") -> tuple[Sequence[T], str | None]:
    """The page that the request asks for, and the token of the next. `of` is whose list it is."""
    size = call.params.get("MaxResults")
    if size is not None and size < 1:
        raise invalid("MIN_VALUE_EXCEEDED", "You provided a numeric parameter that has a smaller minimum than allowed.")
    if size is not None and size > PAGE_SIZE_MAX:
        raise invalid("MAX_VALUE_EXCEEDED", "You provided a numeric parameter that has a larger maximum than allowed.")
    try:
        return page(items, call.params.get("NextToken"), size or PAGE_SIZE_MAX, of=f"{call.action}/{of}")
    except InvalidToken:
        raise invalid("INVALID_NEXT_TOKEN", "You provided an invalid value for NextToken.") from None


def with_token(result: dict[str, Any], token: str | None) -> dict[str, Any]:
    """A list's answer, with NextToken when there is more."""
    if token is not None:
        result["NextToken"] = token
    return result


# -- how things are written ------------------------------------------------------------------------------------------


def path_of(call: Call, entity: str) -> str:
    """`o-id/r-id/ou-id/`: the way from the organization to a root, a unit or an account."""
    state = state_of(call)
    return "/".join([state.organization.id, *state.path(entity)]) + "/"


def written_account(call: Call, account: Account) -> dict[str, Any]:
    """AWS's `Account`."""
    state = state_of(call).account_state(account, call.now)
    return {
        "Id": account.id,
        "Arn": account.arn(state_of(call).organization),
        "Email": account.email,
        "Name": account.name,
        # Retired in September 2026 in favour of State, still sent; it has fewer values.
        "Status": _STATUSES.get(state, state),
        "State": state,
        "Paths": [path_of(call, account.id)],
        "JoinedMethod": account.joined_method,
        "JoinedTimestamp": account.joined,
    }


def written_root(call: Call) -> Mapping[str, Any]:
    """AWS's `Root`, with the policy types that are enabled in it."""
    state = state_of(call)
    return {
        "Id": state.organization.root_id,
        "Arn": state.organization.root_arn,
        "Name": "Root",
        "PolicyTypes": [{"Type": kind, "Status": "ENABLED"} for kind in state.enabled],
    }


_STATUSES = {"PENDING_ACTIVATION": "ACTIVE", "CLOSED": "SUSPENDED"}
