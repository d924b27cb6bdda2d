"""IAM roles (IAM API Reference)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imdsctl.local.call import Call, Operations
from imdsctl.local.iam.common import arn, attachable, checked_trust, render_role, sorted_below, state_of, the_role
from imdsctl.local.iam.documents import policy_length
from imdsctl.local.iam.errors import already, in_use, invalid_input, limit
from imdsctl.local.iam.parameters import (
    BOUNDARY,
    DURATION,
    PAGE,
    PATH,
    PATH_PREFIX,
    POLICY_DOCUMENT,
    ROLE_DESCRIPTION,
    ROLE_NAME,
    TRUST_DOCUMENT,
    listed,
    operation,
    required,
    tags_of,
)
from imdsctl.local.iam.principals import Kind, operations_of
from imdsctl.local.iam.state import MAX_SESSION_DURATION_DEFAULT, Role

ROLES_MAX = 1000
"""Roles of an account (IAM quotas, default)."""
TRUST_LENGTH_MAX = 2048
"""Characters of a trust policy (IAM quotas, default)."""
INLINE_LENGTH_MAX = 10_240


def create_role(call: Call) -> Mapping[str, Any]:
    """A role that the principals of its trust policy can assume from now on."""
    iam, name = state_of(call), call.params["RoleName"]
    if name.lower() in iam.roles:
        raise already(f"Role with name {name} already exists.")
    if len(iam.roles) >= ROLES_MAX:
        raise limit(f"Cannot exceed quota for RolesPerAccount: {ROLES_MAX}")
    boundary, path = call.params.get("PermissionsBoundary"), call.params.get("Path") or "/"
    if path.startswith("/aws-service-role/"):
        # No SCP binds a role below it: nobody but AWS makes one.
        raise invalid_input("The path /aws-service-role/ is reserved for service-linked roles.")
    role = Role(
        name=name,
        path=path,
        id="AROA" + call.ids.upper(17),
        arn=arn(call, "role", path, name),
        created=call.now.replace(microsecond=0),
        tags=tags_of(call),
        boundary=attachable(call, boundary).arn if boundary is not None else None,
        trust=_trust(call, call.params["AssumeRolePolicyDocument"]),
        description=call.params.get("Description"),
        max_session_duration=call.params.get("MaxSessionDuration") or MAX_SESSION_DURATION_DEFAULT,
    )
    iam.roles[name.lower()] = role
    return {"Role": render_role(role)}


def get_role(call: Call) -> Mapping[str, Any]:
    """A role with its trust policy."""
    return {"Role": render_role(the_role(call))}


def list_roles(call: Call) -> Mapping[str, Any]:
    """The roles below a path, by name."""
    roles = sorted_below(call, state_of(call).roles.values())
    return listed(call, "Roles", roles, lambda role: render_role(role, whole=False), call.params.get("PathPrefix", ""))


def update_role(call: Call) -> Mapping[str, Any]:
    """Another description or maximum session duration; what is not given stays."""
    role = the_role(call)
    if "Description" in call.params:
        role.description = call.params["Description"]
    if call.params.get("MaxSessionDuration") is not None:
        role.max_session_duration = call.params["MaxSessionDuration"]
    return {}


def update_role_description(call: Call) -> Mapping[str, Any]:
    """Another description."""
    role = the_role(call)
    role.description = call.params["Description"]
    return {"Role": render_role(role)}


def update_assume_role_policy(call: Call) -> Mapping[str, Any]:
    """Another trust policy, instead of the present one. Sessions that are open go on."""
    role = the_role(call)
    role.trust = _trust(call, call.params["PolicyDocument"])
    return {}


def delete_role(call: Call) -> Mapping[str, Any]:
    """Only a role without policies, and in no instance profile, can be deleted. Its sessions end with it."""
    iam, role = state_of(call), the_role(call)
    if role.attached:
        raise in_use("Cannot delete entity, must detach all policies first.")
    if role.inline:
        raise in_use("Cannot delete entity, must delete policies first.")
    if any(profile.role == role.name for profile in iam.profiles.values()):
        raise in_use("Cannot delete entity, must remove roles from instance profile first.")
    del iam.roles[role.name.lower()]
    return {}


def _trust(call: Call, text: str) -> str:
    document = checked_trust(call, text)
    if policy_length(document) > TRUST_LENGTH_MAX:
        raise limit(f"Cannot exceed quota for ACLSizePerRole: {TRUST_LENGTH_MAX}")
    return document


OPERATIONS: Operations = {
    "CreateRole": operation(
        create_role, ROLE_NAME, TRUST_DOCUMENT, PATH, ROLE_DESCRIPTION, DURATION, BOUNDARY, writes=True
    ),
    "GetRole": operation(get_role, ROLE_NAME),
    "ListRoles": operation(list_roles, PATH_PREFIX, *PAGE),
    "UpdateRole": operation(update_role, ROLE_NAME, ROLE_DESCRIPTION, DURATION, writes=True),
    "UpdateRoleDescription": operation(update_role_description, ROLE_NAME, required(ROLE_DESCRIPTION), writes=True),
    "UpdateAssumeRolePolicy": operation(update_assume_role_policy, ROLE_NAME, POLICY_DOCUMENT, writes=True),
    "DeleteRole": operation(delete_role, ROLE_NAME, writes=True),
    **operations_of(Kind("Role", ROLE_NAME, the_role, INLINE_LENGTH_MAX)),
}
