"""Instance profiles: the container of the one role that an instance gets (IAM API Reference)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imdsctl.local.call import Call, Operations
from imdsctl.local.iam.common import arn, render_profile, sorted_below, state_of, the_profile, the_role
from imdsctl.local.iam.errors import already, in_use, limit, no_such
from imdsctl.local.iam.parameters import (
    PAGE,
    PATH,
    PATH_PREFIX,
    PROFILE_NAME,
    REQUIRED_TAGS,
    ROLE_NAME,
    listed,
    operation,
    rendered_tags,
    tag_keys_of,
    tags_of,
)
from imdsctl.local.iam.state import InstanceProfile

PROFILES_MAX = 1000
"""Instance profiles of an account (IAM quotas, default)."""


def create_instance_profile(call: Call) -> Mapping[str, Any]:
    """A profile without a role."""
    iam, name, path = state_of(call), call.params["InstanceProfileName"], call.params.get("Path") or "/"
    if name.lower() in iam.profiles:
        raise already(f"Instance Profile {name} already exists.")
    if len(iam.profiles) >= PROFILES_MAX:
        raise limit(f"Cannot exceed quota for InstanceProfilesPerAccount: {PROFILES_MAX}")
    profile = InstanceProfile(
        name=name,
        path=path,
        id="AIPA" + call.ids.upper(17),
        arn=arn(call, "instance-profile", path, name),
        created=call.now.replace(microsecond=0),
        tags=tags_of(call),
    )
    iam.profiles[name.lower()] = profile
    return {"InstanceProfile": render_profile(call, profile)}


def get_instance_profile(call: Call) -> Mapping[str, Any]:
    """A profile with its role."""
    return {"InstanceProfile": render_profile(call, the_profile(call))}


def list_instance_profiles(call: Call) -> Mapping[str, Any]:
    """The profiles below a path, by name."""
    profiles = sorted_below(call, state_of(call).profiles.values())
    return _listed(call, profiles, call.params.get("PathPrefix", ""))


def list_instance_profiles_for_role(call: Call) -> Mapping[str, Any]:
    """The profiles that hold a role."""
    role = the_role(call)
    profiles = sorted_below(call, (each for each in state_of(call).profiles.values() if each.role == role.name))
    return _listed(call, profiles, role.id)


def add_role_to_instance_profile(call: Call) -> Mapping[str, Any]:
    """A profile holds one role; the quota cannot be raised."""
    profile, role = the_profile(call), the_role(call)
    if profile.role is not None:
        raise limit("Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1")
    profile.role = role.name
    return {}


def remove_role_from_instance_profile(call: Call) -> Mapping[str, Any]:
    """The profile stays, empty."""
    profile, name = the_profile(call), call.params["RoleName"]
    if profile.role != name:
        raise no_such(f"The role with name {name} cannot be found.")
    profile.role = None
    return {}


def delete_instance_profile(call: Call) -> Mapping[str, Any]:
    """Only an empty profile can be deleted."""
    profile = the_profile(call)
    if profile.role is not None:
        raise in_use("Cannot delete entity, must remove roles from instance profile first.")
    del state_of(call).profiles[profile.name.lower()]
    return {}


def tag_instance_profile(call: Call) -> Mapping[str, Any]:
    """Add or overwrite tags of a profile."""
    profile = the_profile(call)
    profile.tags = tags_of(call, profile.tags)
    return {}


def untag_instance_profile(call: Call) -> Mapping[str, Any]:
    """Remove tags of a profile by their keys."""
    profile, keys = the_profile(call), tag_keys_of(call)
    profile.tags = {key: value for key, value in profile.tags.items() if key.lower() not in keys}
    return {}


def list_instance_profile_tags(call: Call) -> Mapping[str, Any]:
    """The tags of a profile."""
    profile = the_profile(call)
    return listed(call, "Tags", rendered_tags(profile.tags), lambda tag: tag, profile.id)


def _listed(call: Call, profiles: list[InstanceProfile], of: str) -> dict[str, Any]:
    return listed(call, "InstanceProfiles", profiles, lambda profile: render_profile(call, profile, whole=False), of)


OPERATIONS: Operations = {
    "CreateInstanceProfile": operation(create_instance_profile, PROFILE_NAME, PATH, writes=True),
    "GetInstanceProfile": operation(get_instance_profile, PROFILE_NAME),
    "ListInstanceProfiles": operation(list_instance_profiles, PATH_PREFIX, *PAGE),
    "ListInstanceProfilesForRole": operation(list_instance_profiles_for_role, ROLE_NAME, *PAGE),
    "AddRoleToInstanceProfile": operation(add_role_to_instance_profile, PROFILE_NAME, ROLE_NAME, writes=True),
    "RemoveRoleFromInstanceProfile": operation(remove_role_from_instance_profile, PROFILE_NAME, ROLE_NAME, writes=True),
    "DeleteInstanceProfile": operation(delete_instance_profile, PROFILE_NAME, writes=True),
    "TagInstanceProfile": operation(tag_instance_profile, PROFILE_NAME, REQUIRED_TAGS, writes=True),
    "UntagInstanceProfile": operation(untag_instance_profile, PROFILE_NAME, writes=True),
    "ListInstanceProfileTags": operation(list_instance_profile_tags, PROFILE_NAME, *PAGE),
}
