"""What IAM's calls need.

Source: Service Authorization Reference, "Actions, resources, and condition keys for AWS Identity and Access
Management".
"""

from __future__ import annotations

from typing import Any

from imdsctl.local.authorization.needs import EVERYTHING, Need, action_of, loose_tags, request_tags, resource_tags
from imdsctl.local.call import Call
from imdsctl.policy.request import ResourceContext

_KINDS = {
    "UserName": "user",
    "RoleName": "role",
    "InstanceProfileName": "instance-profile",
}
"""Parameters that name a resource, and the kind in its ARN; in this order, the first one given is the resource."""

_ORDER = {
    "AddRoleToInstanceProfile": ("InstanceProfileName",),
    "RemoveRoleFromInstanceProfile": ("InstanceProfileName",),
}
_OWN_USER = frozenset({"GetUser", "CreateAccessKey", "ListAccessKeys", "UpdateAccessKey", "DeleteAccessKey"})
"""Calls that mean the caller itself when they name no user."""

_LISTS = {
    "ListUsers": "user/",
    "ListRoles": "role/",
    "ListPolicies": "policy/",
    "ListInstanceProfiles": "instance-profile/",
}


def needs(call: Call) -> list[Need]:
    """The call's action on the user, role, policy or profile that it names, and iam:PassRole where a role is passed."""
    action = action_of(call)
    keys: dict[str, Any] = dict(request_tags(loose_tags(call.params.get("Tags"))))
    if call.params.get("TagKeys"):
        keys["aws:tagkeys"] = tuple(map(str, call.params["TagKeys"]))
    if call.params.get("PermissionsBoundary"):
        keys["iam:permissionsboundary"] = str(call.params["PermissionsBoundary"])
    wanted = [Need(action, _resources(call, keys), keys)]
    if call.action == "AddRoleToInstanceProfile" and call.params.get("RoleName"):
        wanted.append(pass_role(call, str(call.params["RoleName"]), "ec2.amazonaws.com"))
    return wanted


def pass_role(call: Call, name: str, service: str) -> Need:
    """iam:PassRole of a role of the caller's account, by name, to a service (`ec2.amazonaws.com`)."""
    return Need("iam:PassRole", (_named(call, "role", name),), {"iam:passedtoservice": service})


def _resources(call: Call, keys: dict[str, Any]) -> tuple[ResourceContext, ...]:
    params = call.params
    if call.action in _LISTS:
        return (ResourceContext(f"arn:aws:iam::{call.account_id}:{_LISTS[call.action]}"),)
    for parameter in _ORDER.get(call.action, _KINDS):
        if params.get(parameter):
            if params.get("PolicyArn"):
                keys["iam:policyarn"] = str(params["PolicyArn"])
            return (_named(call, _KINDS[parameter], str(params[parameter]), keys),)
    if params.get("PolicyArn"):
        arn = str(params["PolicyArn"])
        policy = call.world.iam(call.account_id).policy(arn)
        return (ResourceContext(arn, resource_tags(policy.tags if policy is not None else None, "iam")),)
    if params.get("PolicyName"):
        path = str(params.get("Path") or "/")
        return (ResourceContext(f"arn:aws:iam::{call.account_id}:policy{path}{params['PolicyName']}"),)
    if call.action in _OWN_USER and ":user/" in call.caller.arn:
        return (ResourceContext(call.caller.arn),)
    return EVERYTHING


def _named(call: Call, kind: str, name: str, keys: dict[str, Any] | None = None) -> ResourceContext:
    """A user, role or profile by name: as it is, or with the path that the request would give it."""
    iam = call.world.iam(call.account_id)
    found = {"user": iam.user, "role": iam.role, "instance-profile": iam.profile}[kind](name)
    if found is None:
        path = str(call.params.get("Path") or "/") if call.action.startswith("Create") else "/"
        return ResourceContext(f"arn:aws:iam::{call.account_id}:{kind}{path}{name}")
    boundary = getattr(found, "boundary", None)
    if keys is not None and boundary is not None:
        keys.setdefault("iam:permissionsboundary", boundary)
    return ResourceContext(found.arn, resource_tags(found.tags, "iam"))
