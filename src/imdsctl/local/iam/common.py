"""What IAM's rooms share: finding what is named, rendering it, and policy documents on their way in and out."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from imdsctl.local.call import AwsError, Call
from imdsctl.local.iam.documents import IDENTITY, TRUST, MalformedDocument, parse_document, statements, texts
from imdsctl.local.iam.errors import invalid_input, malformed_policy, no_such
from imdsctl.local.iam.parameters import rendered_tags
from imdsctl.local.iam.state import Entity, IamState, InstanceProfile, ManagedPolicy, Role, User

REFUSED_ON_SERVICE_ROLES = frozenset(
    {
        "AttachRolePolicy",
        "DeleteRole",
        "DeleteRolePermissionsBoundary",
        "DeleteRolePolicy",
        "DetachRolePolicy",
        "PutRolePermissionsBoundary",
        "PutRolePolicy",
        "UpdateAssumeRolePolicy",
        "UpdateRole",
    }
)
"""What nobody but the service does to its service-linked role (IAM User Guide, "Service-linked roles")."""


def state_of(call: Call) -> IamState:
    """The IAM of the caller's account."""
    return call.world.iam(call.account_id)


def the_user(call: Call) -> User:
    """The user a request names, or the caller when it names none. Raises NoSuchEntity."""
    name = call.params.get("UserName")
    if name is None:
        found = state_of(call).user_by_arn(call.caller.arn)
        if found is None:
            raise AwsError("ValidationError", "Must specify userName when calling with non-User credentials", 400)
        return found
    user = state_of(call).user(name)
    if user is None:
        raise no_such(f"The user with name {name} cannot be found.")
    return user


def the_role(call: Call) -> Role:
    """The role a request names.

    Raises NoSuchEntity, and UnmodifiableEntity where the operation is refused on service-linked roles.
    """
    name = call.params["RoleName"]
    role = state_of(call).role(name)
    if role is None:
        raise no_such(f"The role with name {name} cannot be found.")
    if call.action in REFUSED_ON_SERVICE_ROLES and role.path.startswith("/aws-service-role/"):
        raise AwsError(
            "UnmodifiableEntity",
            f"Cannot perform the operation on the protected role '{name}' - this role is only modifiable by AWS",
            400,
        )
    return role


def the_profile(call: Call) -> InstanceProfile:
    """The instance profile a request names. Raises NoSuchEntity."""
    name = call.params["InstanceProfileName"]
    profile = state_of(call).profile(name)
    if profile is None:
        raise no_such(f"Instance Profile {name} cannot be found.")
    return profile


def the_policy(call: Call) -> ManagedPolicy:
    """The managed policy whose ARN a request names. Raises NoSuchEntity, or InvalidInput for what is no ARN."""
    arn = call.params["PolicyArn"]
    check_policy_arn(arn)
    policy = state_of(call).policy(arn)
    if policy is None:
        raise no_such(f"Policy {arn} was not found.")
    return policy


def check_policy_arn(arn: str) -> None:
    """Raises InvalidInput for what is no ARN of a managed policy."""
    parts = arn.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn" or parts[2] != "iam" or not parts[5].startswith("policy/"):
        raise invalid_input(f"ARN {arn} is not valid.")


def attachable(call: Call, arn: str) -> ManagedPolicy:
    """A policy to attach or to make a boundary. Raises NoSuchEntity, or InvalidInput for what is no ARN."""
    check_policy_arn(arn)
    policy = state_of(call).policy(arn)
    if policy is None:
        raise no_such(f"Policy {arn} does not exist or is not attachable.")
    return policy


def checked_document(text: str) -> str:
    """An identity policy's document, unchanged. Raises MalformedPolicyDocument."""
    try:
        parse_document(text, IDENTITY)
    except MalformedDocument as error:
        raise malformed_policy(str(error)) from None
    return text


def checked_trust(call: Call, text: str) -> str:
    """A trust policy's document, unchanged.

    Raises MalformedPolicyDocument; also for a principal of an account here that does not exist, as AWS does. Accounts
    elsewhere are believed.
    """
    try:
        document = parse_document(text, TRUST)
    except MalformedDocument as error:
        raise malformed_policy(str(error)) from None
    for statement in statements(document):
        principal = statement["Principal"]
        for named in texts(principal.get("AWS")) if isinstance(principal, dict) else ():
            if not _principal_exists(call, named):
                raise malformed_policy(f'Invalid principal in policy: "AWS":"{named}"')
    return text


def _principal_exists(call: Call, named: str) -> bool:
    if named == "*" or (len(named) == 12 and named.isascii() and named.isdigit()):
        return True
    parts = named.split(":", 5)
    if len(parts) != 6 or parts[:2] != ["arn", "aws"] or parts[3] or not parts[4].isdigit() or len(parts[4]) != 12:
        return False
    service, account_id, resource = parts[2], parts[4], parts[5]
    if service == "sts":
        # A session need not exist: it may be opened later, under this name.
        return resource.startswith("assumed-role/") and resource.count("/") == 2
    if service != "iam":
        return False
    if resource == "root":
        return True
    if account_id not in call.world.accounts:
        return resource.startswith(("user/", "role/"))
    iam = call.world.iam(account_id)
    return iam.user_by_arn(named) is not None or iam.role_by_arn(named) is not None


def encoded(document: str) -> str:
    """A document as IAM answers with it: percent-encoded (RFC 3986)."""
    return quote(document, safe="")


def arn(call: Call, kind: str, path: str, name: str) -> str:
    """The ARN of something of the caller's account."""
    return f"arn:aws:iam::{call.account_id}:{kind}{path}{name}"


def render_user(user: User, *, whole: bool = True) -> dict[str, Any]:
    """A user; lists leave out tags and the boundary."""
    return _rendered(user, "User", whole=whole)


def render_role(role: Role, *, whole: bool = True) -> dict[str, Any]:
    """A role; lists leave out tags, the boundary and its last use."""
    rendered = _rendered(role, "Role", whole=whole)
    rendered["AssumeRolePolicyDocument"] = encoded(role.trust)
    rendered["MaxSessionDuration"] = role.max_session_duration
    if role.description is not None:
        rendered["Description"] = role.description
    if whole:
        rendered["RoleLastUsed"] = {}
    return rendered


def render_profile(call: Call, profile: InstanceProfile, *, whole: bool = True) -> dict[str, Any]:
    """An instance profile with its role; lists leave out tags."""
    role = state_of(call).role(profile.role) if profile.role is not None else None
    rendered = {
        "Path": profile.path,
        "InstanceProfileName": profile.name,
        "InstanceProfileId": profile.id,
        "Arn": profile.arn,
        "CreateDate": profile.created,
        "Roles": [render_role(role, whole=False)] if role is not None else [],
    }
    if whole and profile.tags:
        rendered["Tags"] = rendered_tags(profile.tags)
    return rendered


def _rendered(entity: Entity, kind: str, *, whole: bool) -> dict[str, Any]:
    rendered: dict[str, Any] = {
        "Path": entity.path,
        f"{kind}Name": entity.name,
        f"{kind}Id": entity.id,
        "Arn": entity.arn,
        "CreateDate": entity.created,
    }
    if whole and entity.boundary is not None:
        rendered["PermissionsBoundary"] = {
            "PermissionsBoundaryType": "Policy",
            "PermissionsBoundaryArn": entity.boundary,
        }
    if whole and entity.tags:
        rendered["Tags"] = rendered_tags(entity.tags)
    return rendered


def sorted_below(call: Call, items: Any, member: str = "PathPrefix") -> list[Any]:
    """Those whose path starts with the request's prefix, by name."""
    prefix = call.params.get(member) or "/"
    return sorted((each for each in items if each.path.startswith(prefix)), key=lambda each: each.name.lower())
