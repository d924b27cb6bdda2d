"""IAM users and their access keys (IAM API Reference)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from imdsctl.local.call import Call, Operations
from imdsctl.local.iam.common import arn, attachable, render_user, sorted_below, state_of, the_user
from imdsctl.local.iam.errors import already, in_use, limit, no_such
from imdsctl.local.iam.parameters import (
    ACCESS_KEY_ID,
    BOUNDARY,
    EXISTING_USER_NAME,
    NEW_PATH,
    NEW_USER_NAME,
    PAGE,
    PATH,
    PATH_PREFIX,
    STATUS,
    USER_NAME,
    listed,
    operation,
    optional,
    tags_of,
)
from imdsctl.local.iam.principals import Kind, operations_of
from imdsctl.local.iam.state import AccessKey, User
from imdsctl.local.keys import key_id

ACCESS_KEYS_MAX = 2
"""Access keys of a user (IAM quotas)."""
USERS_MAX = 5000
INLINE_LENGTH_MAX = 2048


def create_user(call: Call) -> Mapping[str, Any]:
    """A user without keys or policies."""
    iam, name = state_of(call), call.params["UserName"]
    if name.lower() in iam.users:
        raise already(f"User with name {name} already exists.")
    if len(iam.users) >= USERS_MAX:
        raise limit(f"Cannot exceed quota for UsersPerAccount: {USERS_MAX}")
    boundary, path = call.params.get("PermissionsBoundary"), call.params.get("Path") or "/"
    user = User(
        name=name,
        path=path,
        id="AIDA" + call.ids.upper(17),
        arn=arn(call, "user", path, name),
        created=call.now.replace(microsecond=0),
        tags=tags_of(call),
        boundary=attachable(call, boundary).arn if boundary is not None else None,
    )
    iam.users[name.lower()] = user
    return {"User": render_user(user)}


def get_user(call: Call) -> Mapping[str, Any]:
    """A user; the caller when none is named."""
    return {"User": render_user(the_user(call))}


def list_users(call: Call) -> Mapping[str, Any]:
    """The users below a path, by name."""
    users = sorted_below(call, state_of(call).users.values())
    return listed(call, "Users", users, lambda user: render_user(user, whole=False), call.params.get("PathPrefix", ""))


def update_user(call: Call) -> Mapping[str, Any]:
    """Another name or path; keys and policies stay."""
    iam, user = state_of(call), the_user(call)
    name, path = call.params.get("NewUserName") or user.name, call.params.get("NewPath") or user.path
    taken = iam.users.get(name.lower())
    if taken is not None and taken is not user:
        raise already(f"User with name {name} already exists.")
    del iam.users[user.name.lower()]
    user.name, user.path, user.arn = name, path, arn(call, "user", path, name)
    iam.users[name.lower()] = user
    call.world.refresh_keys(call.account_id, user)
    return {}


def delete_user(call: Call) -> Mapping[str, Any]:
    """Only a user without keys and policies can be deleted."""
    user = the_user(call)
    if user.attached:
        raise in_use("Cannot delete entity, must detach all policies first.")
    if user.inline:
        raise in_use("Cannot delete entity, must delete policies first.")
    if user.keys:
        raise in_use("Cannot delete entity, must delete access keys first.")
    del state_of(call).users[user.name.lower()]
    return {}


def create_access_key(call: Call) -> Mapping[str, Any]:
    """A key that authenticates from now on; its secret is told only here."""
    user = the_user(call)
    if len(user.keys) >= ACCESS_KEYS_MAX:
        raise limit(f"Cannot exceed quota for AccessKeysPerUser: {ACCESS_KEYS_MAX}")
    key = AccessKey(
        id=key_id("AKIA", call.account_id, call.ids.integer(2**80)),
        secret=base64.b64encode(bytes.fromhex(call.ids.hex(60))).decode(),
        created=call.now.replace(microsecond=0),
    )
    user.keys[key.id] = key
    call.world.refresh_keys(call.account_id, user)
    return {"AccessKey": {**_metadata(user, key), "SecretAccessKey": key.secret}}


def list_access_keys(call: Call) -> Mapping[str, Any]:
    """The keys of a user, without their secrets."""
    user = the_user(call)
    keys = list(user.keys.values())
    return listed(call, "AccessKeyMetadata", keys, lambda key: _metadata(user, key), user.id)


def update_access_key(call: Call) -> Mapping[str, Any]:
    """Switch a key on or off; one that is off is refused like one that does not exist."""
    user = the_user(call)
    _key(call, user).status = call.params["Status"]
    call.world.refresh_keys(call.account_id, user)
    return {}


def delete_access_key(call: Call) -> Mapping[str, Any]:
    """The key is gone for good."""
    user = the_user(call)
    key = _key(call, user)
    del user.keys[key.id]
    call.world.forget_key(key.id)
    return {}


def _key(call: Call, user: User) -> AccessKey:
    key = user.keys.get(call.params["AccessKeyId"])
    if key is None:
        raise no_such(f"The Access Key with id {call.params['AccessKeyId']} cannot be found.")
    return key


def _metadata(user: User, key: AccessKey) -> dict[str, Any]:
    return {"UserName": user.name, "AccessKeyId": key.id, "Status": key.status, "CreateDate": key.created}


_USER = optional(EXISTING_USER_NAME)

OPERATIONS: Operations = {
    "CreateUser": operation(create_user, USER_NAME, PATH, BOUNDARY, writes=True),
    "GetUser": operation(get_user, _USER),
    "ListUsers": operation(list_users, PATH_PREFIX, *PAGE),
    "UpdateUser": operation(update_user, EXISTING_USER_NAME, NEW_USER_NAME, NEW_PATH, writes=True),
    "DeleteUser": operation(delete_user, EXISTING_USER_NAME, writes=True),
    "CreateAccessKey": operation(create_access_key, _USER, writes=True),
    "ListAccessKeys": operation(list_access_keys, _USER, *PAGE),
    "UpdateAccessKey": operation(update_access_key, _USER, ACCESS_KEY_ID, STATUS, writes=True),
    "DeleteAccessKey": operation(delete_access_key, _USER, ACCESS_KEY_ID, writes=True),
    **operations_of(Kind("User", EXISTING_USER_NAME, the_user, INLINE_LENGTH_MAX)),
}
