"""What EC2's handlers share: the state of the call's Region, tag specifications, idempotency."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from hashlib import blake2b
from typing import Any

from imdsctl.local.call import Call
from imdsctl.local.ec2.errors import invalid_value, refuse
from imdsctl.local.ec2.state import RegionState, Replay

TAGS_MAX = 50
TAG_KEY_LENGTH_MAX = 128
TAG_VALUE_LENGTH_MAX = 256
CLIENT_TOKEN_LENGTH_MAX = 64
CLIENT_TOKEN_KEPT = timedelta(hours=24)
"""EC2 Developer Guide, "Ensuring idempotency": a token is good for at least 24 hours."""

METADATA_TAG_KEY = re.compile(r"[0-9a-zA-Z\-_+=,.@:]{1,255}")
METADATA_TAG_KEYS_RESERVED = frozenset({".", "..", "_index"})


def region_state(call: Call) -> RegionState:
    """The caller's state in the call's Region."""
    return call.world.region(call.account_id, call.region)


# -- tags ------------------------------------------------------------------------------------------------------------


def tag_pairs(tags: Iterable[Mapping[str, Any]] | None) -> dict[str, str]:
    """A request's tags as a dict.

    Raises InvalidParameterValue for AWS's limits (EC2 User Guide, "Tag restrictions") and TagLimitExceeded.
    """
    out: dict[str, str] = {}
    for tag in tags or ():
        key, value = tag.get("Key") or "", tag.get("Value") or ""
        check_tag(key, value)
        if key in out:
            raise invalid_value(f"Duplicate tag key '{key}' specified.")
        out[key] = value
    check_tag_count(len(out))
    return out


def check_tag(key: str, value: str) -> None:
    """Refuse what a user may not write as a tag."""
    if not key:
        raise invalid_value("Tag key cannot be empty.")
    if key.lower().startswith("aws:"):
        raise invalid_value("Tag keys starting with 'aws:' are reserved for internal use")
    if len(key) > TAG_KEY_LENGTH_MAX:
        raise invalid_value(f"Tag key exceeds the maximum length of {TAG_KEY_LENGTH_MAX} characters")
    if len(value) > TAG_VALUE_LENGTH_MAX:
        raise invalid_value(f"Tag value exceeds the maximum length of {TAG_VALUE_LENGTH_MAX} characters")


def check_tag_count(count: int) -> None:
    """Refuse more tags than a resource may have."""
    if count > TAGS_MAX:
        raise refuse("TagLimitExceeded", f"The maximum number of tags for a resource is {TAGS_MAX}.")


def check_metadata_tag_keys(keys: Iterable[str]) -> None:
    """Refuse keys that the metadata service cannot serve.

    Source: EC2 User Guide, "View tags for your EC2 instances using instance metadata": with InstanceMetadataTags
    enabled a key has only letters, digits and `+ - = . , _ : @`, and is not `.`, `..` or `_index`.
    """
    for key in keys:
        if key in METADATA_TAG_KEYS_RESERVED or not METADATA_TAG_KEY.fullmatch(key):
            raise invalid_value(
                f"'{key}' is not a valid tag key. Tag keys must match pattern ([0-9a-zA-Z\\-_+=,.@:]{{1,255}}), "
                "and must not be a reserved name ('.', '..', '_index')"
            )


def tag_specifications(
    specifications: Iterable[Mapping[str, Any]] | None, allowed: Iterable[str]
) -> dict[str, dict[str, str]]:
    """`TagSpecifications` as resource type to tags. Raises InvalidParameterValue, also for a type outside `allowed`."""
    out: dict[str, dict[str, str]] = {}
    allowed = tuple(allowed)
    for specification in specifications or ():
        kind = specification.get("ResourceType") or ""
        if kind not in allowed:
            raise invalid_value(f"'{kind}' is not a valid taggable resource type for this operation.")
        if kind in out:
            raise invalid_value(f"Duplicate resource type '{kind}' in tag specifications.")
        out[kind] = tag_pairs(specification.get("Tags"))
    return out


def aws_tags(tags: Mapping[str, str] | None) -> list[dict[str, str]]:
    """Tags in AWS's structure."""
    return [{"Key": key, "Value": value} for key, value in tags.items()] if tags else []


# -- idempotency -----------------------------------------------------------------------------------------------------


def replayed(call: Call, exists: Callable[[str], bool]) -> str | None:
    """What an earlier request with this ClientToken made, or None when this request is the first.

    `exists` says whether it is still there. Raises IdempotentParameterMismatch when the earlier request had other
    parameters, and InvalidParameterValue for a token that is too long.
    """
    token = call.params.get("ClientToken")
    if not token:
        return None
    if len(token) > CLIENT_TOKEN_LENGTH_MAX:
        raise invalid_value(f"Client token exceeds the maximum length of {CLIENT_TOKEN_LENGTH_MAX} characters")
    known = region_state(call).client_tokens.get((call.action, token))
    if known is None or call.now - known.at > CLIENT_TOKEN_KEPT or not exists(known.result):
        return None
    if known.digest != _digest(call.params):
        raise refuse(
            "IdempotentParameterMismatch",
            "Arguments on this idempotent request are inconsistent with arguments used in previous request(s).",
        )
    return known.result


def remember(call: Call, result: str) -> None:
    """Keep what this request made under its ClientToken, and drop tokens that are past their time."""
    token = call.params.get("ClientToken")
    if not token:
        return
    tokens = region_state(call).client_tokens
    key = (call.action, token)
    tokens.pop(key, None)  # so that the order stays that of time
    tokens[key] = Replay(_digest(call.params), result, call.now)
    while True:
        oldest = next(iter(tokens))
        if call.now - tokens[oldest].at <= CLIENT_TOKEN_KEPT:
            break
        del tokens[oldest]


def _digest(params: Mapping[str, Any]) -> bytes:
    asked = {name: value for name, value in params.items() if name not in ("ClientToken", "DryRun")}
    return blake2b(json.dumps(asked, sort_keys=True, default=str).encode(), digest_size=16).digest()
