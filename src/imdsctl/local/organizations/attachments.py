"""Which policies bind where: policy types turned on and off, policies attached and detached.

Source: AWS Organizations API Reference; User Guide, "Enabling a policy type", "Disabling a policy type", "Quotas for
AWS Organizations" (5 SCPs and 10 declarative policies at one place; at least one SCP).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imdsctl.local.call import Call, Operation, Operations
from imdsctl.local.organizations.common import (
    ROOT_ID,
    identifier,
    only_administrators,
    only_management,
    paged,
    policy_type,
    refuse,
    state_of,
    target_id,
    violates,
    with_token,
    written_root,
)
from imdsctl.local.organizations.policies import policy_of, served_type, summary
from imdsctl.local.organizations.state import DECLARATIVE, SCP
from imdsctl.policy.limits import DECLARATIVE_PER_TARGET_MAX, SCPS_PER_TARGET_MAX, SCPS_PER_TARGET_MIN

_LIMITS = {SCP: (SCPS_PER_TARGET_MIN, SCPS_PER_TARGET_MAX), DECLARATIVE: (0, DECLARATIVE_PER_TARGET_MAX)}


def enable_policy_type(call: Call) -> Mapping[str, Any]:
    """Let policies of a type be attached under the root, at once. SCPs: everything has FullAWSAccess at first.

    Raises RootNotFoundException, PolicyTypeAlreadyEnabledException, PolicyTypeNotAvailableForOrganizationException,
    InvalidInputException.
    """
    only_management(call)
    _root(call)
    kind, state = served_type(call, "PolicyType"), state_of(call)
    if kind in state.enabled:
        raise refuse("PolicyTypeAlreadyEnabledException", "The specified policy type is already enabled.")
    state.enable(kind, call.now)
    return {"Root": written_root(call)}


def disable_policy_type(call: Call) -> Mapping[str, Any]:
    """Detach every policy of a type and let none be attached; the policies stay.

    Raises RootNotFoundException, PolicyTypeNotEnabledException, InvalidInputException.
    """
    only_management(call)
    _root(call)
    kind, state = policy_type(call), state_of(call)
    if kind not in state.enabled:
        raise _not_enabled()
    state.disable(kind)
    return {"Root": written_root(call)}


def attach_policy(call: Call) -> Mapping[str, Any]:
    """Let a policy bind the root, a unit or an account, and everything below it.

    Raises PolicyNotFoundException, TargetNotFoundException, PolicyTypeNotEnabledException,
    DuplicatePolicyAttachmentException, ConstraintViolationException (MAX_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED).
    """
    only_management(call)
    policy, target, state = policy_of(call), target_id(call), state_of(call)
    if policy.type not in state.enabled:
        raise _not_enabled()
    attached = state.attached(policy.type, target)
    if policy.id in attached:
        raise refuse(
            "DuplicatePolicyAttachmentException", "The selected policy is already attached to the specified target."
        )
    if len(attached) >= _LIMITS[policy.type][1]:
        raise violates(
            "MAX_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED",
            "You have attached the maximum number of policies to the specified target.",
        )
    state.attach(policy.type, target, (*attached, policy.id), call.now)
    return {}


def detach_policy(call: Call) -> Mapping[str, Any]:
    """Take a policy away from where it is attached; what it set goes back to what was there before.

    Raises PolicyNotFoundException, TargetNotFoundException, PolicyNotAttachedException, ConstraintViolationException
    (MIN_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED for the last SCP).
    """
    only_management(call)
    policy, target, state = policy_of(call), target_id(call), state_of(call)
    attached = state.attached(policy.type, target)
    if policy.id not in attached:
        raise refuse("PolicyNotAttachedException", "The policy isn't attached to the specified target.")
    if len(attached) <= _LIMITS[policy.type][0]:
        raise violates(
            "MIN_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED",
            "You cannot remove the last policy attached to the specified target. You must have at least one attached "
            "at all times.",
        )
    state.attach(policy.type, target, tuple(each for each in attached if each != policy.id), call.now)
    return {}


def list_policies_for_target(call: Call) -> Mapping[str, Any]:
    """The policies of a type that are attached to a target itself, not those it inherits."""
    only_administrators(call)
    kind, target, state = policy_type(call, "Filter"), target_id(call), state_of(call)
    found, after = paged(call, state.attached(kind, target), f"{target}/{kind}")
    return with_token({"Policies": [summary(state.policies[each]) for each in found]}, after)


def list_targets_for_policy(call: Call) -> Mapping[str, Any]:
    """Where a policy is attached."""
    only_administrators(call)
    policy, state = policy_of(call), state_of(call)
    found, after = paged(call, state.targets_of(policy), policy.id)
    return with_token({"Targets": [_written(call, target) for target in found]}, after)


def _written(call: Call, target: str) -> dict[str, Any]:
    state = state_of(call)
    organization = state.organization
    if target == organization.root_id:
        return {"TargetId": target, "Arn": organization.root_arn, "Name": "Root", "Type": "ROOT"}
    if target in state.units:
        arn, name = organization.unit_arn(target), state.units[target].name
        return {"TargetId": target, "Arn": arn, "Name": name, "Type": "ORGANIZATIONAL_UNIT"}
    account = state.accounts[target]
    return {"TargetId": target, "Arn": account.arn(organization), "Name": account.name, "Type": "ACCOUNT"}


def _root(call: Call) -> None:
    if identifier(call, "RootId", ROOT_ID) != state_of(call).organization.root_id:
        raise refuse("RootNotFoundException", "You specified a root that doesn't exist.")


def _not_enabled() -> Exception:
    return refuse("PolicyTypeNotEnabledException", "This operation can be performed only for enabled policy types.")


OPERATIONS: Operations = {
    "EnablePolicyType": Operation(enable_policy_type, writes=True),
    "DisablePolicyType": Operation(disable_policy_type, writes=True),
    "AttachPolicy": Operation(attach_policy, writes=True),
    "DetachPolicy": Operation(detach_policy, writes=True),
    "ListPoliciesForTarget": Operation(list_policies_for_target),
    "ListTargetsForPolicy": Operation(list_targets_for_policy),
}
