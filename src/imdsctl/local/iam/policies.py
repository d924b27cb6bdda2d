"""Managed policies and their versions (IAM API Reference)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imdsctl.local.call import AwsError, Call, Operations
from imdsctl.local.iam.common import arn, checked_document, encoded, sorted_below, state_of, the_policy
from imdsctl.local.iam.documents import policy_length
from imdsctl.local.iam.errors import already, in_use, invalid, limit, no_such
from imdsctl.local.iam.parameters import (
    ENTITY_FILTER,
    PAGE,
    PATH_PREFIX,
    POLICY_ARN,
    POLICY_DESCRIPTION,
    POLICY_DOCUMENT,
    POLICY_NAME,
    POLICY_PATH,
    REQUIRED_TAGS,
    SCOPE,
    USAGE,
    VERSION_ID,
    listed,
    operation,
    page_of,
    rendered_tags,
    tag_keys_of,
    tags_of,
)
from imdsctl.local.iam.state import IamState, ManagedPolicy, PolicyVersion, User

DOCUMENT_LENGTH_MAX = 6144
"""Characters of a managed policy, white space not counted (IAM quotas)."""
VERSIONS_MAX = 5
POLICIES_MAX = 1500
"""Customer managed policies of an account (IAM quotas, default)."""


def create_policy(call: Call) -> Mapping[str, Any]:
    """A managed policy with its first version, `v1`."""
    iam, name, path = state_of(call), call.params["PolicyName"], call.params.get("Path") or "/"
    if any(policy.name.lower() == name.lower() for policy in iam.policies.values()):
        raise already(f"A policy called {name} already exists. Duplicate names are not allowed.")
    if len(iam.policies) >= POLICIES_MAX:
        raise limit(f"Cannot exceed quota for PoliciesPerAccount: {POLICIES_MAX}")
    now = call.now.replace(microsecond=0)
    policy = ManagedPolicy(
        name=name,
        path=path,
        id="ANPA" + call.ids.upper(17),
        arn=arn(call, "policy", path, name),
        created=now,
        updated=now,
        description=call.params.get("Description"),
        versions={"v1": PolicyVersion("v1", _document(call), now)},
        tags=tags_of(call),
    )
    iam.policies[policy.arn] = policy
    return {"Policy": _render(iam, policy, whole=False) | _tags(policy)}


def get_policy(call: Call) -> Mapping[str, Any]:
    """A managed policy, without its document."""
    policy = the_policy(call)
    return {"Policy": _render(state_of(call), policy) | _tags(policy)}


def list_policies(call: Call) -> Mapping[str, Any]:
    """The account's policies, AWS's, or both (the default); `OnlyAttached` and `PolicyUsageFilter` select."""
    iam, scope = state_of(call), call.params.get("Scope") or "All"
    found: list[ManagedPolicy] = []
    if scope != "Local":
        found += iam.aws_policies.values()
    if scope != "AWS":
        found += iam.policies.values()
    usage = call.params.get("PolicyUsageFilter")
    if call.params.get("OnlyAttached") or usage is not None:
        used: set[str | None] = set()
        if usage != "PermissionsBoundary":
            used.update(arn for entity in iam.entities() for arn in entity.attached)
        if usage != "PermissionsPolicy":
            used.update(entity.boundary for entity in iam.entities())
        found = [policy for policy in found if policy.arn in used]
    prefix = call.params.get("PathPrefix", "")
    return listed(
        call,
        "Policies",
        sorted_below(call, found),
        lambda policy: _render(iam, policy, whole=False),
        f"{scope}{prefix}{call.params.get('OnlyAttached')}{usage}",
    )


def delete_policy(call: Call) -> Mapping[str, Any]:
    """Only a policy with one version that nobody uses can be deleted."""
    iam, policy = state_of(call), _own_policy(call)
    if sum(_uses(iam, policy)):
        raise in_use("Cannot delete a policy attached to entities.")
    if len(policy.versions) > 1:
        raise in_use(
            "This policy has more than one version. Before you delete a policy, you must delete the policy's versions. "
            "The default version is deleted with the policy."
        )
    del iam.policies[policy.arn]
    return {}


def create_policy_version(call: Call) -> Mapping[str, Any]:
    """One more version; it counts when `SetAsDefault` says so."""
    policy, document = _own_policy(call), _document(call)
    if len(policy.versions) >= VERSIONS_MAX:
        raise limit(
            f"A managed policy can have up to {VERSIONS_MAX} versions. Before you create a new version, you must "
            "delete an existing version."
        )
    policy.latest += 1
    version = PolicyVersion(f"v{policy.latest}", document, call.now.replace(microsecond=0))
    policy.versions[version.id] = version
    if call.params.get("SetAsDefault"):
        policy.default_version = version.id
    policy.updated = version.created
    return {"PolicyVersion": _render_version(policy, version, whole=False)}


def get_policy_version(call: Call) -> Mapping[str, Any]:
    """One version with its document."""
    policy = the_policy(call)
    return {"PolicyVersion": _render_version(policy, _version(call, policy))}


def list_policy_versions(call: Call) -> Mapping[str, Any]:
    """The versions, newest first."""
    policy = the_policy(call)
    versions = sorted(policy.versions.values(), key=lambda each: int(each.id[1:]), reverse=True)
    return listed(call, "Versions", versions, lambda version: _render_version(policy, version, whole=False), policy.id)


def set_default_policy_version(call: Call) -> Mapping[str, Any]:
    """Another version counts from now on."""
    policy = _own_policy(call)
    policy.default_version = _version(call, policy).id
    policy.updated = call.now.replace(microsecond=0)
    return {}


def delete_policy_version(call: Call) -> Mapping[str, Any]:
    """The default version cannot be deleted."""
    policy = _own_policy(call)
    version = _version(call, policy)
    if version.id == policy.default_version:
        raise in_use("Cannot delete the default version of a policy.")
    del policy.versions[version.id]
    policy.updated = call.now.replace(microsecond=0)
    return {}


def list_entities_for_policy(call: Call) -> Mapping[str, Any]:
    """The users and roles that a policy is attached to, or bounds. There are no groups here."""
    iam, policy = state_of(call), the_policy(call)
    kind, usage = call.params.get("EntityFilter"), call.params.get("PolicyUsageFilter")
    if kind in ("LocalManagedPolicy", "AWSManagedPolicy"):
        raise invalid(f"The specified EntityFilter {kind} is not valid for ListEntitiesForPolicy.")
    found = [
        entity
        for entity in sorted_below(call, iam.entities())
        if kind in (None, "User" if isinstance(entity, User) else "Role")
        and (
            (usage != "PermissionsBoundary" and policy.arn in entity.attached)
            or (usage != "PermissionsPolicy" and policy.arn == entity.boundary)
        )
    ]
    part, marker = page_of(call, found, f"{policy.id}{kind}{usage}{call.params.get('PathPrefix')}")
    result: dict[str, Any] = {
        "PolicyGroups": [],
        "PolicyUsers": [{"UserName": each.name, "UserId": each.id} for each in part if isinstance(each, User)],
        "PolicyRoles": [{"RoleName": each.name, "RoleId": each.id} for each in part if not isinstance(each, User)],
        "IsTruncated": marker is not None,
    }
    if marker is not None:
        result["Marker"] = marker
    return result


def tag_policy(call: Call) -> Mapping[str, Any]:
    """Add or overwrite tags of a policy of the account's own."""
    policy = _own_policy(call)
    policy.tags = tags_of(call, policy.tags)
    return {}


def untag_policy(call: Call) -> Mapping[str, Any]:
    """Remove tags of a policy by their keys."""
    policy, keys = _own_policy(call), tag_keys_of(call)
    policy.tags = {key: value for key, value in policy.tags.items() if key.lower() not in keys}
    return {}


def list_policy_tags(call: Call) -> Mapping[str, Any]:
    """The tags of a policy."""
    policy = the_policy(call)
    return listed(call, "Tags", rendered_tags(policy.tags), lambda tag: tag, policy.id)


def _own_policy(call: Call) -> ManagedPolicy:
    """The policy named, for a change: AWS's own cannot be changed."""
    policy = the_policy(call)
    if policy.arn.startswith("arn:aws:iam::aws:"):
        raise AwsError(
            "AccessDenied",
            f"User: {call.caller.arn} is not authorized to perform: iam:{call.action} on resource: policy {policy.arn}",
            403,
        )
    return policy


def _document(call: Call) -> str:
    document = checked_document(call.params["PolicyDocument"])
    if policy_length(document) > DOCUMENT_LENGTH_MAX:
        raise limit(f"Cannot exceed quota for PolicySize: {DOCUMENT_LENGTH_MAX}")
    return document


def _version(call: Call, policy: ManagedPolicy) -> PolicyVersion:
    version = policy.versions.get(call.params["VersionId"])
    if version is None:
        raise no_such(f"Policy {policy.arn} version {call.params['VersionId']} does not exist or is not attachable.")
    return version


def _uses(iam: IamState, policy: ManagedPolicy) -> tuple[int, int]:
    """How many users and roles it is attached to, and how many it bounds."""
    attached = sum(policy.arn in entity.attached for entity in iam.entities())
    return attached, sum(policy.arn == entity.boundary for entity in iam.entities())


def _render(iam: IamState, policy: ManagedPolicy, *, whole: bool = True) -> dict[str, Any]:
    attached, bounding = _uses(iam, policy)
    rendered: dict[str, Any] = {
        "PolicyName": policy.name,
        "PolicyId": policy.id,
        "Arn": policy.arn,
        "Path": policy.path,
        "DefaultVersionId": policy.default_version,
        "AttachmentCount": attached,
        "PermissionsBoundaryUsageCount": bounding,
        "IsAttachable": True,
        "CreateDate": policy.created,
        "UpdateDate": policy.updated,
    }
    # IAM API Reference, Policy: the description "is included in the response to the GetPolicy operation. It is not
    # included in the response to the ListPolicies operation."
    if whole and policy.description is not None:
        rendered["Description"] = policy.description
    return rendered


def _tags(policy: ManagedPolicy) -> dict[str, Any]:
    return {"Tags": rendered_tags(policy.tags)} if policy.tags else {}


def _render_version(policy: ManagedPolicy, version: PolicyVersion, *, whole: bool = True) -> dict[str, Any]:
    rendered: dict[str, Any] = {
        "VersionId": version.id,
        "IsDefaultVersion": version.id == policy.default_version,
        "CreateDate": version.created,
    }
    if whole:
        rendered["Document"] = encoded(version.document)
    return rendered


OPERATIONS: Operations = {
    "CreatePolicy": operation(
        create_policy, POLICY_NAME, POLICY_DOCUMENT, POLICY_PATH, POLICY_DESCRIPTION, writes=True
    ),
    "GetPolicy": operation(get_policy, POLICY_ARN),
    "ListPolicies": operation(list_policies, SCOPE, PATH_PREFIX, USAGE, *PAGE),
    "DeletePolicy": operation(delete_policy, POLICY_ARN, writes=True),
    "CreatePolicyVersion": operation(create_policy_version, POLICY_ARN, POLICY_DOCUMENT, writes=True),
    "GetPolicyVersion": operation(get_policy_version, POLICY_ARN, VERSION_ID),
    "ListPolicyVersions": operation(list_policy_versions, POLICY_ARN, *PAGE),
    "SetDefaultPolicyVersion": operation(set_default_policy_version, POLICY_ARN, VERSION_ID, writes=True),
    "DeletePolicyVersion": operation(delete_policy_version, POLICY_ARN, VERSION_ID, writes=True),
    "ListEntitiesForPolicy": operation(list_entities_for_policy, POLICY_ARN, ENTITY_FILTER, PATH_PREFIX, USAGE, *PAGE),
    "TagPolicy": operation(tag_policy, POLICY_ARN, REQUIRED_TAGS, writes=True),
    "UntagPolicy": operation(untag_policy, POLICY_ARN, writes=True),
    "ListPolicyTags": operation(list_policy_tags, POLICY_ARN, *PAGE),
}
