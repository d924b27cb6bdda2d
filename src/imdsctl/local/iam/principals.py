"""What users and roles have in common: inline and managed policies, the permissions boundary, tags.

Each operation is made once and given to both: `PutUserPolicy` and `PutRolePolicy` differ in the entity they find.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from imdsctl.local.call import Call, Operation
from imdsctl.local.iam.common import attachable, checked_document, encoded, state_of
from imdsctl.local.iam.documents import policy_length
from imdsctl.local.iam.errors import limit, no_such
from imdsctl.local.iam.parameters import (
    PAGE,
    PATH_PREFIX,
    POLICY_ARN,
    POLICY_DOCUMENT,
    POLICY_NAME,
    REQUIRED_BOUNDARY,
    REQUIRED_TAGS,
    Rule,
    listed,
    operation,
    rendered_tags,
    tag_keys_of,
    tags_of,
)
from imdsctl.local.iam.state import Entity

ATTACHED_MAX = 10
"""Managed policies attached to a user or role (IAM quotas, default)."""


@dataclass(frozen=True, slots=True)
class Kind:
    """`User` or `Role`: how it is named in a request, found, and how many characters its inline policies may have."""

    noun: str
    rule: Rule
    find: Callable[[Call], Entity]
    inline_length_max: int


def operations_of(kind: Kind) -> dict[str, Operation]:
    """The operations on policies, boundaries and tags of a kind."""
    noun, find = kind.noun, kind.find

    def put_policy(call: Call) -> Mapping[str, Any]:
        """Add or replace an inline policy."""
        entity = find(call)
        name, document = call.params["PolicyName"], checked_document(call.params["PolicyDocument"])
        others = sum(policy_length(text) for each, text in entity.inline.items() if each != name)
        if others + policy_length(document) > kind.inline_length_max:
            raise limit(
                f"Maximum policy size of {kind.inline_length_max} bytes exceeded for {noun.lower()} {entity.name}"
            )
        entity.inline[name] = document
        return {}

    def get_policy(call: Call) -> Mapping[str, Any]:
        """An inline policy with its document, percent-encoded as AWS does it."""
        entity, name = find(call), call.params["PolicyName"]
        return {
            f"{noun}Name": entity.name,
            "PolicyName": name,
            "PolicyDocument": encoded(inline(entity, name)),
        }

    def delete_policy(call: Call) -> Mapping[str, Any]:
        """Delete an inline policy."""
        entity, name = find(call), call.params["PolicyName"]
        inline(entity, name)
        del entity.inline[name]
        return {}

    def inline(entity: Entity, name: str) -> str:
        document = entity.inline.get(name)
        if document is None:
            raise no_such(f"The {noun.lower()} policy with name {name} cannot be found.")
        return document

    def list_policies(call: Call) -> Mapping[str, Any]:
        """The names of the inline policies."""
        entity = find(call)
        return listed(call, "PolicyNames", sorted(entity.inline), str, entity.id)

    def attach(call: Call) -> Mapping[str, Any]:
        """Attach a managed policy; attaching it again changes nothing."""
        entity, policy = find(call), attachable(call, call.params["PolicyArn"])
        if policy.arn not in entity.attached:
            if len(entity.attached) >= ATTACHED_MAX:
                raise limit(f"Cannot exceed quota for PoliciesPer{noun}: {ATTACHED_MAX}")
            entity.attached.append(policy.arn)
        return {}

    def detach(call: Call) -> Mapping[str, Any]:
        """Detach a managed policy."""
        entity, arn = find(call), call.params["PolicyArn"]
        if arn not in entity.attached:
            raise no_such(f"Policy {arn} was not found.")
        entity.attached.remove(arn)
        return {}

    def list_attached(call: Call) -> Mapping[str, Any]:
        """The attached managed policies, narrowed by PathPrefix."""
        entity, iam = find(call), state_of(call)
        prefix = call.params.get("PathPrefix") or "/"
        found = [policy for arn in entity.attached if (policy := iam.policy(arn)) and policy.path.startswith(prefix)]
        return listed(
            call,
            "AttachedPolicies",
            sorted(found, key=lambda policy: policy.name.lower()),
            lambda policy: {"PolicyName": policy.name, "PolicyArn": policy.arn},
            f"{entity.id}{prefix}",
        )

    def put_boundary(call: Call) -> Mapping[str, Any]:
        """Make a managed policy the permissions boundary."""
        entity = find(call)
        entity.boundary = attachable(call, call.params["PermissionsBoundary"]).arn
        return {}

    def delete_boundary(call: Call) -> Mapping[str, Any]:
        """Take the permissions boundary away."""
        entity = find(call)
        if entity.boundary is None:
            raise no_such(f"{noun} {entity.name} does not have a permissions boundary.")
        entity.boundary = None
        return {}

    def tag(call: Call) -> Mapping[str, Any]:
        """Add or overwrite tags."""
        entity = find(call)
        entity.tags = tags_of(call, entity.tags)
        return {}

    def untag(call: Call) -> Mapping[str, Any]:
        """Remove tags by their keys."""
        entity, keys = find(call), tag_keys_of(call)
        entity.tags = {key: value for key, value in entity.tags.items() if key.lower() not in keys}
        return {}

    def list_tags(call: Call) -> Mapping[str, Any]:
        """The tags, in pages."""
        entity = find(call)
        return listed(call, "Tags", rendered_tags(entity.tags), lambda tag: tag, entity.id)

    return {
        f"Put{noun}Policy": operation(put_policy, kind.rule, POLICY_NAME, POLICY_DOCUMENT, writes=True),
        f"Get{noun}Policy": operation(get_policy, kind.rule, POLICY_NAME),
        f"Delete{noun}Policy": operation(delete_policy, kind.rule, POLICY_NAME, writes=True),
        f"List{noun}Policies": operation(list_policies, kind.rule, *PAGE),
        f"Attach{noun}Policy": operation(attach, kind.rule, POLICY_ARN, writes=True),
        f"Detach{noun}Policy": operation(detach, kind.rule, POLICY_ARN, writes=True),
        f"ListAttached{noun}Policies": operation(list_attached, kind.rule, PATH_PREFIX, *PAGE),
        f"Put{noun}PermissionsBoundary": operation(put_boundary, kind.rule, REQUIRED_BOUNDARY, writes=True),
        f"Delete{noun}PermissionsBoundary": operation(delete_boundary, kind.rule, writes=True),
        f"Tag{noun}": operation(tag, kind.rule, REQUIRED_TAGS, writes=True),
        f"Untag{noun}": operation(untag, kind.rule, writes=True),
        f"List{noun}Tags": operation(list_tags, kind.rule, *PAGE),
    }
