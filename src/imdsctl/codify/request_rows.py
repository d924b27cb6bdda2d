"""A request of a table, out of its members.

Members: `action`, `principal`, `region`, `expect` (`allowed`, `denied`, `refused`); anything else is a parameter by its
path (`MetadataOptions.HttpTokens`), or begins with `key.` (a condition key), `tag.` (a tag of the instance), `default.`
(the Region's own default) or is `image.ImdsSupport`. `parameters`, `keys` and `defaults` may be objects instead.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from imdsctl.codify.asked import Asked, Known
from imdsctl.codify.recorded import NAMES
from imdsctl.codify.simulate import Result
from imdsctl.domain.options import DEFAULTS_AWS_NAMES, AccountDefaults, MetadataOptions
from imdsctl.policy.request import Principal, PrincipalKind, context_keys


@dataclass(frozen=True, slots=True)
class Row:
    """One request: where it stands, and what somebody expects of it (None: nothing)."""

    place: str
    asked: Asked
    expect: Result | None = None


def row_of(value: Mapping[str, Any], place: str, known: Mapping[tuple[str, str], Known] | None = None) -> Row:
    """A request from its members. Raises ValueError with a clause for a person.

    `known`: what a scan knows, by account and Region; what the members say of defaults and image comes before it.
    """
    action = str(value.get("action") or "RunInstances").removeprefix("ec2:")
    if action not in NAMES:
        raise ValueError(f"`{action}` is not simulated: use one of {', '.join(sorted(NAMES))}")
    parameters: dict[str, Any] = dict(_object(value, "parameters"))
    keys: dict[str, Any] = dict(_object(value, "keys"))
    defaults: dict[str, Any] = dict(_object(value, "defaults"))
    support = None
    for name, each in value.items():
        if name in OWN:
            continue
        if name.startswith("key."):
            keys[name.removeprefix("key.")] = each
        elif name.startswith("default."):
            defaults[name.removeprefix("default.")] = _value(name, each)
        elif name == "image.ImdsSupport":
            support = str(each)
        elif name.startswith("tag."):
            _tag(parameters, name.removeprefix("tag."), str(each))
        else:
            _set(parameters, name.split("."), _value(name, each))
    expect = value.get("expect")
    try:
        expected = Result(str(expect)) if expect else None
    except ValueError:
        raise ValueError(f"`expect` is `{expect}`: use allowed, denied or refused") from None
    said = parameters.get("MetadataOptions")
    if said is not None and not isinstance(said, Mapping):
        raise ValueError("`MetadataOptions` is an object: write `MetadataOptions.HttpTokens`")
    MetadataOptions.from_aws(said if action == "RunInstances" else None)
    principal = principal_of(str(value.get("principal") or ""))
    region = str(value.get("region") or "us-east-1")
    there = (known or {}).get((principal.account_id, region), Known())
    strange = next((name for name in defaults if name not in DEFAULTS_AWS_NAMES.values()), None)
    if strange is not None:
        options = ", ".join(DEFAULTS_AWS_NAMES.values())
        raise ValueError(f"`default.{strange}` is no Region default: use one of {options}")
    if support not in (None, "v2.0"):
        raise ValueError(f"`image.ImdsSupport` is `{support}`: it is `v2.0`, or left out")
    if defaults:
        there = replace(there, defaults=AccountDefaults.from_aws(defaults))
    if support:
        image = str(parameters.get("ImageId") or "")
        there = replace(there, imds_support={**there.imds_support, image: support})
    return Row(place, Asked(action, parameters, principal, region, context_keys(keys), there), expected)


OWN = frozenset({"action", "principal", "region", "expect", "parameters", "keys", "defaults"})


def _object(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = value.get(name)
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise ValueError(f"`{name}` is no object")
    return found


def _value(name: str, value: Any) -> Any:
    number = name.rpartition(".")[2] in ("HttpPutResponseHopLimit", "MinCount", "MaxCount")
    if number and isinstance(value, str):
        if not value.lstrip("-").isdigit():
            raise ValueError(f"`{name}` is `{value}`, and is a whole number")
        return int(value)
    return value


def _set(parameters: dict[str, Any], path: list[str], value: Any) -> None:
    inner = parameters
    for name in path[:-1]:
        inner = inner.setdefault(name, {})
        if not isinstance(inner, dict):
            raise ValueError(f"`{'.'.join(path)}` goes into a value")
    inner[path[-1]] = value


def _tag(parameters: dict[str, Any], key: str, value: str) -> None:
    specifications = parameters.setdefault("TagSpecifications", [{"ResourceType": "instance", "Tags": []}])
    specifications[0]["Tags"].append({"Key": key, "Value": value})


def principal_of(arn: str) -> Principal:
    """The caller behind an ARN of a user, a role, a role's session or root. Raises ValueError."""
    arn = arn or "arn:aws:iam::111122223333:role/somebody"
    parts = arn.split(":", 5)
    if len(parts) < 6 or parts[2] not in ("iam", "sts") or not parts[4].isdigit():
        raise ValueError(f"`{arn}` is not the ARN of a role, a user or a session")
    account, rest = parts[4], parts[5]
    if rest == "root":
        return Principal(PrincipalKind.ROOT, arn, account)
    if rest.startswith("user/"):
        return Principal(PrincipalKind.USER, arn, account)
    if rest.startswith("role/"):
        session = f"arn:{parts[1]}:sts::{account}:assumed-role/{rest.rpartition('/')[2]}/session"
        linked = rest.startswith("role/aws-service-role/")
        return Principal(PrincipalKind.ROLE_SESSION, session, account, arn, service_linked=linked)
    if rest.startswith("assumed-role/"):
        role = f"arn:{parts[1]}:iam::{account}:role/{rest.split('/')[1]}"
        return Principal(PrincipalKind.ROLE_SESSION, arn, account, role)
    raise ValueError(f"`{arn}` is not the ARN of a role, a user or a session")
