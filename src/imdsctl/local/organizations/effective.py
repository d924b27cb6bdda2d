"""Effective declarative policies: what holds for an account, and what is wrong with it.

Source: AWS Organizations API Reference, DescribeEffectivePolicy, ListAccountsWithInvalidEffectivePolicy,
ListEffectivePolicyValidationErrors. Policies that are right each by itself can contradict each other once merged; what
cannot hold has no effect, and is listed here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from imdsctl.local.call import Call, Operation, Operations
from imdsctl.local.organizations.common import (
    POLICY_TYPES,
    TARGET_ID,
    account_of,
    choice,
    identifier,
    invalid,
    only_administrators,
    paged,
    path_of,
    refuse,
    state_of,
    with_token,
    written_account,
)
from imdsctl.local.organizations.state import DECLARATIVE

_EFFECTIVE_TYPES = tuple(each for each in POLICY_TYPES if not each.endswith("_CONTROL_POLICY"))
"""Authorization policies (SCPs, RCPs) are not merged into one."""


def describe_effective_policy(call: Call) -> Mapping[str, Any]:
    """What holds for an account: any account may ask about itself, the management account about all.

    Raises EffectivePolicyNotFoundException, TargetNotFoundException, AccessDeniedException, InvalidInputException
    (TARGET_NOT_SUPPORTED for a root or unit).
    """
    state, kind = state_of(call), _type(call)
    target = call.account_id if call.params.get("TargetId") is None else identifier(call, "TargetId", TARGET_ID)
    if target != call.account_id:
        only_administrators(call)
    if not state.is_target(target):
        raise refuse("TargetNotFoundException", "You specified a target that doesn't exist.")
    if target not in state.accounts:
        raise invalid("TARGET_NOT_SUPPORTED", "You can't perform the specified operation on that target entity.")
    document = state.effective_declarative_policy(target).document if kind == DECLARATIVE else {}
    if not document:
        raise _not_found()
    return {
        "EffectivePolicy": {
            "PolicyContent": json.dumps(document, separators=(",", ":")),
            "LastUpdatedTimestamp": state.declared_at(target),
            "TargetId": target,
            "PolicyType": kind,
        }
    }


def list_accounts_with_invalid_effective_policy(call: Call) -> Mapping[str, Any]:
    """The accounts whose effective policy cannot hold as a whole. Raises EffectivePolicyNotFoundException."""
    only_administrators(call)
    state, kind = state_of(call), _type(call)
    if kind not in state.enabled:
        raise _not_found()
    listed = [
        account for account in state.accounts.values() if state.effective_declarative_policy(account.id).conflicts
    ]
    found, after = paged(call, listed, kind)
    return with_token({"Accounts": [written_account(call, each) for each in found], "PolicyType": kind}, after)


def list_effective_policy_validation_errors(call: Call) -> Mapping[str, Any]:
    """Why an account's effective policy cannot hold as a whole.

    Raises AccountNotFoundException, EffectivePolicyNotFoundException, InvalidInputException.
    """
    only_administrators(call)
    state, kind, account = state_of(call), _type(call), account_of(call)
    if kind not in state.enabled:
        raise _not_found()
    found, after = paged(call, state.effective_declarative_policy(account.id).conflicts, f"{account.id}/{kind}")
    return with_token(
        {
            "AccountId": account.id,
            "PolicyType": kind,
            "Path": path_of(call, account.id),
            "EvaluationTimestamp": state.declared_at(account.id),
            "EffectivePolicyValidationErrors": [
                {
                    "ErrorCode": each.code,
                    "ErrorMessage": each.message,
                    "PathToError": each.path,
                    "ContributingPolicies": list(each.policies),
                }
                for each in found
            ],
        },
        after,
    )


def _type(call: Call) -> str:
    return choice(call, "PolicyType", _EFFECTIVE_TYPES, "INVALID_ENUM_POLICY_TYPE")


def _not_found() -> Exception:
    return refuse(
        "EffectivePolicyNotFoundException", "There is no effective policy of the specified type for this account."
    )


OPERATIONS: Operations = {
    "DescribeEffectivePolicy": Operation(describe_effective_policy),
    "ListAccountsWithInvalidEffectivePolicy": Operation(list_accounts_with_invalid_effective_policy),
    "ListEffectivePolicyValidationErrors": Operation(list_effective_policy_validation_errors),
}
