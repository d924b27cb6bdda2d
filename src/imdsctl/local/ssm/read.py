"""Reading parameters: GetParameter, GetParameters, GetParametersByPath, GetParameterHistory.

Source: Systems Manager API Reference; User Guide, "Working with parameter versions" (`name:3` selects a version).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from imdsctl.local.call import AwsError, Call, Operation
from imdsctl.local.constraints import check_range, check_required, violation
from imdsctl.local.pages import InvalidToken, page
from imdsctl.local.ssm.errors import invalid, not_found, refused, version_not_found
from imdsctl.local.ssm.filters import parameter_filter
from imdsctl.local.ssm.public import PUBLIC, public_parameters
from imdsctl.local.ssm.state import (
    SECURE_STRING,
    Parameter,
    Version,
    encrypted,
    metadata_structure,
    parameter_arn,
    parameter_structure,
)

NAMES_MAX = 10
BY_PATH_MAX = 10
HISTORY_MAX = 50

T = TypeVar("T")


def store_of(call: Call) -> dict[str, Parameter]:
    """The account's own parameters in the call's Region."""
    return call.world.parameters(call.account_id, call.region).parameters


def find(call: Call, name: str) -> Parameter | None:
    """A parameter by name or ARN, own or public; another account's is never found."""
    if name.startswith("arn:"):
        for owner in (call.account_id, ""):
            prefix = parameter_arn(call.region, owner, "/")
            if name.startswith(prefix):
                path = name[len(prefix) - 1 :]
                return find(call, path) or find(call, path[1:])
        return None
    return store_of(call).get(name) or public_parameters(call.region).get(name)


def select(call: Call, text: str) -> tuple[Parameter, Version, str]:
    """The parameter and version that `name` or `name:selector` means, and the selector with its colon.

    Raises ParameterNotFound and ParameterVersionNotFound.
    """
    name, selector = text, ""
    tail = text[text.rfind("/") + 1 :] if "/" in text else text[text.rfind("parameter") :] if "arn:" in text else text
    if ":" in tail:
        name, _, selector = text.rpartition(":")
    parameter = find(call, name)
    if parameter is None:
        raise not_found()
    if not selector:
        return parameter, parameter.latest, ""
    version = parameter.version(selector)
    if version is None:
        raise version_not_found(name, selector)
    return parameter, version, f":{selector}"


def get_parameter(call: Call) -> Mapping[str, Any]:
    """One parameter with its value."""
    name = call.params.get("Name")
    check_required(name, "name", invalid)
    parameter, version, selector = select(call, str(name))
    decrypt = bool(call.params.get("WithDecryption"))
    return {"Parameter": parameter_structure(parameter, version, decrypt=decrypt, selector=selector)}


def get_parameters(call: Call) -> Mapping[str, Any]:
    """Up to ten parameters; names that mean nothing come back as InvalidParameters."""
    names = check_names(call.params.get("Names"))
    if len(set(names)) != len(names):
        raise invalid("Duplicate names are not allowed in the request.")
    found, unknown = [], []
    for name in names:
        try:
            parameter, version, selector = select(call, name)
        except AwsError:
            unknown.append(name)
            continue
        decrypt = bool(call.params.get("WithDecryption"))
        found.append(parameter_structure(parameter, version, decrypt=decrypt, selector=selector))
    found.sort(key=lambda each: str(each["Name"]))
    return {"Parameters": found, "InvalidParameters": unknown}


def check_names(names: Sequence[str] | None) -> list[str]:
    """One to ten names. Raises ValidationException."""
    check_required(names, "names", invalid)
    assert names is not None
    if not names:
        raise invalid(violation("[]", "names", "Member must have length greater than or equal to 1"))
    if len(names) > NAMES_MAX:
        shown = f"[{', '.join(names)}]"
        raise invalid(violation(shown, "names", f"Member must have length less than or equal to {NAMES_MAX}"))
    return list(names)


def get_parameters_by_path(call: Call) -> Mapping[str, Any]:
    """The parameters directly under a path, or with Recursive all below it, in the order of their names."""
    params = call.params
    path = params.get("Path")
    check_required(path, "path", invalid)
    path = str(path)
    if not path.startswith("/"):
        raise invalid("The parameter doesn't meet the parameter name requirements. The parameter name must begin with "
                      'a forward slash "/".')  # fmt: skip
    prefix = path if path.endswith("/") else path + "/"
    recursive = bool(params.get("Recursive"))
    test = parameter_filter(params.get("ParameterFilters"), by_path=True)
    public = public_parameters(call.region) if prefix.startswith(PUBLIC) else {}
    chosen = [
        each
        for name, each in sorted({**store_of(call), **public}.items())
        if name.startswith(prefix) and (recursive or "/" not in name[len(prefix) :]) and test(each)
    ]
    shown, token = paged(call, chosen, BY_PATH_MAX, BY_PATH_MAX, of=f"{prefix}/{recursive}")
    decrypt = bool(params.get("WithDecryption"))
    return with_token(
        {"Parameters": [parameter_structure(each, each.latest, decrypt=decrypt) for each in shown]}, token
    )


def get_parameter_history(call: Call) -> Mapping[str, Any]:
    """Every version that is kept, oldest first, with its value. AWS's own parameters show no history."""
    name = call.params.get("Name")
    check_required(name, "name", invalid)
    parameter = store_of(call).get(str(name)) or find(call, str(name))
    if parameter is None or parameter.name not in store_of(call):
        raise not_found()
    shown, token = paged(call, parameter.versions, HISTORY_MAX, HISTORY_MAX, of=parameter.name)
    decrypt = bool(call.params.get("WithDecryption"))
    versions = []
    for each in shown:
        structure = metadata_structure(parameter, each)
        del structure["ARN"]
        hidden = each.type == SECURE_STRING and not decrypt
        versions.append({**structure, "Value": encrypted(parameter, each) if hidden else each.value, "Labels": []})
    return with_token({"Parameters": versions}, token)


def paged(call: Call, items: Sequence[T], default: int, most: int, *, of: str) -> tuple[Sequence[T], str | None]:
    """The page that the call asks for. Raises ValidationException and InvalidNextToken."""
    size = call.params.get("MaxResults")
    check_range(size, "maxResults", invalid, 1, most)
    try:
        place = f"{call.action}/{call.account_id}/{call.region}/{of}"
        return page(items, call.params.get("NextToken") or None, size or default, of=place)
    except InvalidToken:
        raise refused("InvalidNextToken", "The specified token is not valid.") from None


def with_token(result: dict[str, Any], token: str | None) -> dict[str, Any]:
    """The result, with the token of the next page when there is one."""
    if token is not None:
        result["NextToken"] = token
    return result


OPERATIONS = {
    "GetParameter": Operation(get_parameter),
    "GetParameters": Operation(get_parameters),
    "GetParametersByPath": Operation(get_parameters_by_path),
    "GetParameterHistory": Operation(get_parameter_history),
}
