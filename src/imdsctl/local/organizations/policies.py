"""Policies: made, changed, read, deleted. Service control policies and declarative policies for EC2 are here.

Source: AWS Organizations API Reference; User Guide, "Quotas for AWS Organizations". What a document may say is decided
by the package `imdsctl.policy`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from imdsctl.local.call import AwsError, Call, Operation, Operations
from imdsctl.local.organizations.common import (
    POLICY_ID,
    identifier,
    invalid,
    only_administrators,
    only_management,
    paged,
    policy_type,
    refuse,
    state_of,
    text,
    violates,
    with_token,
)
from imdsctl.local.organizations.state import DECLARATIVE, SCP, OrganizationPolicy
from imdsctl.local.organizations.tags import tags_of
from imdsctl.policy.declarative import DeclarativePolicy, parse_declarative_policy
from imdsctl.policy.document import Policy, PolicyKind, parse_policy
from imdsctl.policy.limits import check_declarative_size, check_scp_size
from imdsctl.policy.problems import MalformedPolicy, Problem

NAME_LENGTH_MAX = 128
DESCRIPTION_LENGTH_MAX = 512


@dataclass(frozen=True, slots=True)
class _Kind:
    """How policies of a type are read, and how large and how many they may be."""

    parse: Callable[[str, str, str], Policy | DeclarativePolicy]  # content, id, ARN
    check_size: Callable[[str], tuple[Problem, ...]]
    policies_max: int


_KINDS = {
    SCP: _Kind(
        lambda content, _, arn: parse_policy(content, name=arn, kind=PolicyKind.SCP),
        check_scp_size,
        policies_max=10_000,
    ),
    DECLARATIVE: _Kind(
        lambda content, name, _: parse_declarative_policy(content, name=name),
        check_declarative_size,
        policies_max=1_000,
    ),
}


def create_policy(call: Call) -> Mapping[str, Any]:
    """Make a policy; it binds nobody before it is attached.

    Raises MalformedPolicyDocumentException, DuplicatePolicyException (another of the type has the name),
    PolicyTypeNotAvailableForOrganizationException for a type that is not here, ConstraintViolationException
    (POLICY_CONTENT_LIMIT_EXCEEDED, POLICY_NUMBER_LIMIT_EXCEEDED) and InvalidInputException.
    """
    only_management(call)
    state, kind = state_of(call), served_type(call, "Type")
    name = text(call, "Name", 1, NAME_LENGTH_MAX)
    description = text(call, "Description", 0, DESCRIPTION_LENGTH_MAX)
    content = text(call, "Content", 1, 1_000_000)
    assert name is not None
    assert description is not None
    assert content is not None
    tags = tags_of(call)
    _refuse_taken(call, kind, name)
    if sum(each.type == kind for each in state.policies.values()) >= _KINDS[kind].policies_max:
        raise violates("POLICY_NUMBER_LIMIT_EXCEEDED", "You have exceeded the number of policies allowed.")
    policy_id = f"p-{call.ids.hex(10)}"
    organization = state.organization
    arn = f"arn:aws:organizations::{organization.management_id}:policy/{organization.id}/{kind.lower()}/{policy_id}"
    policy = OrganizationPolicy(
        id=policy_id,
        arn=arn,
        name=name,
        description=description,
        type=kind,
        content=content,
        compiled=_compiled(kind, content, policy_id, arn),
        updated=call.now,
    )
    state.policies[policy_id] = policy
    if tags:
        state.tags[policy_id] = tags
    return {"Policy": _written(policy)}


def update_policy(call: Call) -> Mapping[str, Any]:
    """Change what the request names; content that is attached binds at once.

    Raises PolicyNotFoundException, MalformedPolicyDocumentException, DuplicatePolicyException,
    ConstraintViolationException, and InvalidInputException (IMMUTABLE_POLICY for a policy of AWS).
    """
    only_management(call)
    policy = policy_of(call)
    name = text(call, "Name", 1, NAME_LENGTH_MAX, optional=True)
    description = text(call, "Description", 0, DESCRIPTION_LENGTH_MAX, optional=True)
    content = text(call, "Content", 1, 1_000_000, optional=True)
    _refuse_immutable(policy)
    if name is not None and name != policy.name:
        _refuse_taken(call, policy.type, name)
    if content is not None:
        policy.compiled = _compiled(policy.type, content, policy.id, policy.arn)
        policy.content, policy.updated = content, call.now
        state_of(call).policy_changed()
    policy.name = name or policy.name
    policy.description = policy.description if description is None else description
    return {"Policy": _written(policy)}


def delete_policy(call: Call) -> Mapping[str, Any]:
    """Delete a policy that is attached nowhere. Raises PolicyNotFoundException, PolicyInUseException."""
    only_management(call)
    policy, state = policy_of(call), state_of(call)
    _refuse_immutable(policy)
    if state.targets_of(policy):
        raise refuse(
            "PolicyInUseException",
            "The policy is attached to one or more entities. You must detach it from all roots, OUs, and accounts "
            "before performing this operation.",
        )
    del state.policies[policy.id]
    state.tags.pop(policy.id, None)
    return {}


def describe_policy(call: Call) -> Mapping[str, Any]:
    """One policy with its content. Raises PolicyNotFoundException, InvalidInputException."""
    only_administrators(call)
    return {"Policy": _written(policy_of(call))}


def list_policies(call: Call) -> Mapping[str, Any]:
    """The policies of a type, AWS's own among them."""
    only_administrators(call)
    kind = policy_type(call, "Filter")
    found, after = paged(call, [each for each in state_of(call).policies.values() if each.type == kind], kind)
    return with_token({"Policies": [summary(policy) for policy in found]}, after)


# -- what other rooms use --------------------------------------------------------------------------------------------


def served_type(call: Call, name: str) -> str:
    """A policy type that is here. Raises PolicyTypeNotAvailableForOrganizationException, InvalidInputException."""
    kind = policy_type(call, name)
    if kind not in _KINDS:
        raise refuse(
            "PolicyTypeNotAvailableForOrganizationException",
            "You can't use the specified policy type with the feature set currently enabled for this organization.",
        )
    return kind


def policy_of(call: Call) -> OrganizationPolicy:
    """The policy that PolicyId names. Raises InvalidInputException and PolicyNotFoundException."""
    policy = state_of(call).policies.get(identifier(call, "PolicyId", POLICY_ID))
    if policy is None:
        raise refuse("PolicyNotFoundException", "You specified a policy that doesn't exist.")
    return policy


def summary(policy: OrganizationPolicy) -> dict[str, Any]:
    """AWS's `PolicySummary`."""
    return {
        "Id": policy.id,
        "Arn": policy.arn,
        "Name": policy.name,
        "Description": policy.description,
        "Type": policy.type,
        "AwsManaged": policy.aws_managed,
    }


# -- the steps -------------------------------------------------------------------------------------------------------


def _written(policy: OrganizationPolicy) -> dict[str, Any]:
    return {"PolicySummary": summary(policy), "Content": policy.content}


def _compiled(kind: str, content: str, policy_id: str, arn: str) -> Policy | DeclarativePolicy:
    if _KINDS[kind].check_size(content):
        raise violates(
            "POLICY_CONTENT_LIMIT_EXCEEDED", "You have exceeded the maximum policy size for the specified policy type."
        )
    try:
        return _KINDS[kind].parse(content, policy_id, arn)
    except MalformedPolicy as error:
        raise _malformed(error.problems[0]) from None


def _malformed(problem: Problem) -> AwsError:
    """AWS's sentence, and what it does not say: what is wrong."""
    return refuse(
        "MalformedPolicyDocumentException",
        f"The provided policy document does not meet the requirements of the specified policy type. {problem}",
    )


def _refuse_taken(call: Call, kind: str, name: str) -> None:
    if any(each.type == kind and each.name == name for each in state_of(call).policies.values()):
        raise refuse("DuplicatePolicyException", "A policy with the specified name and type already exists.")


def _refuse_immutable(policy: OrganizationPolicy) -> None:
    if policy.aws_managed:
        raise invalid("IMMUTABLE_POLICY", "You specified a policy that is managed by AWS and can't be modified.")


OPERATIONS: Operations = {
    "CreatePolicy": Operation(create_policy, writes=True),
    "UpdatePolicy": Operation(update_policy, writes=True),
    "DeletePolicy": Operation(delete_policy, writes=True),
    "DescribePolicy": Operation(describe_policy),
    "ListPolicies": Operation(list_policies),
}
