"""PutParameter, DeleteParameter and DeleteParameters.

Source: Systems Manager API Reference; User Guide, "About requirements and constraints for parameter names".
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from imdsctl.local.call import Call, Operation
from imdsctl.local.constraints import check_members, check_required, check_text
from imdsctl.local.ec2.public_images import public_images
from imdsctl.local.ssm.errors import invalid, not_found, refused
from imdsctl.local.ssm.read import check_names, find, store_of
from imdsctl.local.ssm.state import (
    ADVANCED,
    DEFAULT_KEY,
    IMAGE,
    SECURE_STRING,
    STANDARD,
    STRING,
    STRING_LIST,
    TEXT,
    VERSIONS_MAX,
    Parameter,
    Version,
    parameter_arn,
)
from imdsctl.local.ssm.tags import tag_pairs

NAME_LENGTH_MAX = 1011
DEPTH_MAX = 15
STANDARD_BYTES_MAX = 4096
ADVANCED_BYTES_MAX = 8192
STANDARD_PARAMETERS_MAX = 10_000
PATTERN_STEPS_MAX = 10_000_000
"""An allowed pattern that could backtrack longer than this is not tried: nobody may stop the server with one."""

_NAME = re.compile(r"[a-zA-Z0-9_.\-/]+")
_UNBOUNDED = re.compile(r"[*+]|\{\d*,\d*\}")
_NESTED = re.compile(r"[*+}?][^(]*\)+[*+{]|\\[1-9]|\(\?P=")
_NAME_RULE = (
    'Parameter name: can\'t be prefixed with "aws" or "ssm" (case-insensitive). If formed as a path, it can consist of '
    "sub-paths divided by slash symbol; each sub-path can be formed as a mix of letters, numbers and the following 3 "
    "symbols .-_"
)


def put_parameter(call: Call) -> Mapping[str, Any]:
    """A new parameter, or with Overwrite a new version of one.

    Raises ValidationException, ParameterAlreadyExists, ParameterLimitExceeded, HierarchyLevelLimitExceededException,
    HierarchyTypeMismatchException, ParameterPatternMismatchException and UnsupportedParameterType.
    """
    params = call.params
    name, value = params.get("Name"), params.get("Value")
    check_required(name, "name", invalid)
    check_required(value, "value", invalid)
    name, value = str(name), str(value)
    if name.startswith("arn:"):
        existing = find(call, name)
        name = existing.name if existing is not None else name
    _check_name(name)
    store = store_of(call)
    before = store.get(name)
    tags = tag_pairs(params.get("Tags"))
    if before is not None:
        if not params.get("Overwrite"):
            raise refused(
                "ParameterAlreadyExists",
                "The parameter already exists. To overwrite this value, set the overwrite option in the request to "
                "true.",
            )
        if tags:
            raise invalid(
                "Invalid request: tags and overwrite can't be used together. To create a parameter with tags, please "
                "remove overwrite flag. To update tags for an existing parameter, please use AddTagsToResource or "
                "RemoveTagsFromResource."
            )
    elif len(store) >= STANDARD_PARAMETERS_MAX:
        raise refused(
            "ParameterLimitExceeded",
            f"You have exceeded the number of parameters for this AWS account ({STANDARD_PARAMETERS_MAX}). Delete one "
            "or more parameters and try again.",
        )
    version = _version(call, value, before)
    if before is None:
        store[name] = Parameter(name, parameter_arn(call.region, call.account_id, name), [version], tags)
    else:
        before.versions.append(version)
        del before.versions[:-VERSIONS_MAX]
    return {"Version": version.number, "Tier": version.tier}


def _version(call: Call, value: str, before: Parameter | None) -> Version:
    """The new version; what an overwriting request leaves out stays as it was, but for the type's own key."""
    params = call.params
    last = before.latest if before is not None else None
    kind = params.get("Type") or (last.type if last is not None else None)
    if kind is None:
        raise invalid("A parameter type is required when you create a parameter.")
    check_members([kind], "type", invalid, (STRING, STRING_LIST, SECURE_STRING))
    if last is not None and SECURE_STRING in (kind, last.type) and kind != last.type:
        raise refused(
            "HierarchyTypeMismatchException",
            "Parameter Store does not support changing a parameter type in a hierarchy. For example, you can't change "
            "a parameter from a String type to a SecureString type. You must create a new, unique parameter.",
        )
    tier = params.get("Tier") or (last.tier if last is not None else STANDARD)
    check_members([tier], "tier", invalid, (STANDARD, ADVANCED, "Intelligent-Tiering"))
    size = len(value.encode())
    if tier == "Intelligent-Tiering":
        tier = STANDARD if size <= STANDARD_BYTES_MAX else ADVANCED
    if last is not None and last.tier == ADVANCED and tier == STANDARD:
        raise invalid("This parameter uses the advanced-parameter tier. You can't downgrade it to the standard tier.")
    most = STANDARD_BYTES_MAX if tier == STANDARD else ADVANCED_BYTES_MAX
    if not value:
        raise invalid("Parameter value can't be empty.")
    if size > most:
        raise invalid(
            f"{'Standard' if tier == STANDARD else 'Advanced'} tier parameters support a maximum parameter value of "
            f"{most} characters."
        )
    if params.get("Policies"):
        raise refused("UnsupportedOperation", "The local AWS of imdsctl does not implement parameter policies.")
    data_type = params.get("DataType") or (last.data_type if last is not None else TEXT)
    if data_type not in (TEXT, IMAGE):
        raise invalid(f"The following data type is not supported: {data_type} (Data type names are all lowercase.)")
    if data_type == IMAGE:
        _check_image(call, value, kind)
    pattern = params.get("AllowedPattern") or (last.allowed_pattern if last is not None else None)
    _check_pattern(value, pattern)
    description = params.get("Description")
    check_text(description, "description", invalid, length_max=1024)
    if params.get("KeyId") and kind != SECURE_STRING:
        raise invalid("KeyId is required for SecureString type parameter only.")
    made = Version(
        number=1,
        value=value,
        type=kind,
        modified=call.now,
        modified_by=call.caller.arn,
        tier=tier,
        data_type=data_type,
        description=description,
        allowed_pattern=pattern,
        key_id=(params.get("KeyId") or DEFAULT_KEY) if kind == SECURE_STRING else None,
    )
    if last is None:
        return made
    return replace(
        made,
        number=last.number + 1,
        description=last.description if description is None else description,
        key_id=params.get("KeyId") or last.key_id,
    )


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name) or "//" in name or (len(name) > 1 and name.endswith("/")):
        raise invalid(_NAME_RULE)
    if "/" in name and not name.startswith("/"):
        raise invalid("Parameter name must be a fully qualified name.")
    if len(name) > NAME_LENGTH_MAX:
        raise invalid(f"Parameter name must not be longer than {NAME_LENGTH_MAX} characters.")
    parts = name.lower().strip("/").split("/")
    if parts[0].startswith(("aws", "ssm")):
        if name.lower().startswith("/aws"):
            raise refused("AccessDeniedException", f"No access to reserved parameter name: {name}.")
        raise invalid(_NAME_RULE)
    if len(parts) > DEPTH_MAX:
        raise refused(
            "HierarchyLevelLimitExceededException",
            f"A hierarchy can have a maximum of {DEPTH_MAX} levels. Name: {name}",
        )


def _check_image(call: Call, value: str, kind: str) -> None:
    """A parameter of the data type `aws:ec2:image` names an image that the account sees.

    AWS finds that out after its answer, and keeps no version whose image does not exist; here the answer says it.
    """
    if kind != STRING:
        raise invalid("Only the String type is supported for the data type aws:ec2:image.")
    known = value in call.world.region(call.account_id, call.region).images or value in public_images(call.region)
    if not known:
        raise invalid(f"The parameter value {value} is not an Amazon Machine Image that is available in {call.region}.")


def _check_pattern(value: str, pattern: str | None) -> None:
    if pattern is None:
        return
    check_text(pattern, "allowedPattern", invalid, length_max=1024)
    unbounded = len(_UNBOUNDED.findall(pattern))
    if _NESTED.search(pattern) or len(value) ** unbounded > PATTERN_STEPS_MAX:
        raise refused("UnsupportedOperation", "The local AWS of imdsctl does not test a pattern that may take so long.")
    try:
        matches = re.fullmatch(pattern, value) is not None
    except re.error:
        raise refused("InvalidAllowedPatternException", "The parameter's allowed pattern is not valid.") from None
    if not matches:
        raise refused(
            "ParameterPatternMismatchException",
            f"Parameter value, cannot be validated against allowedPattern: {pattern}",
        )


def delete_parameter(call: Call) -> Mapping[str, Any]:
    """Delete a parameter with all its versions. Raises ParameterNotFound."""
    name = call.params.get("Name")
    check_required(name, "name", invalid)
    if name not in store_of(call):
        raise not_found()
    del store_of(call)[str(name)]
    return {}


def delete_parameters(call: Call) -> Mapping[str, Any]:
    """Delete up to ten; names that mean nothing come back as InvalidParameters."""
    store = store_of(call)
    names = list(dict.fromkeys(check_names(call.params.get("Names"))))
    deleted = [name for name in names if name in store]
    for name in deleted:
        del store[name]
    return {"DeletedParameters": deleted, "InvalidParameters": [name for name in names if name not in deleted]}


OPERATIONS = {
    "PutParameter": Operation(put_parameter, writes=True),
    "DeleteParameter": Operation(delete_parameter, writes=True),
    "DeleteParameters": Operation(delete_parameters, writes=True),
}
