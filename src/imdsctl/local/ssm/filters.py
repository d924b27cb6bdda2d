"""ParameterFilters of DescribeParameters and GetParametersByPath.

Source: Systems Manager API Reference, ParameterStringFilter: which keys there are, and which options each takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from imdsctl.local.ssm.errors import refused
from imdsctl.local.ssm.state import Parameter

Test = Callable[[Parameter], bool]
VALUES_MAX = 50
_EQUALS = ("Equals", "BeginsWith")
_OPTIONS: Mapping[str, Sequence[str]] = {
    "Name": ("Equals", "BeginsWith", "Contains"),
    "Path": ("OneLevel", "Recursive"),
    "Type": _EQUALS,
    "KeyId": _EQUALS,
    "Tier": _EQUALS,
    "DataType": _EQUALS,
}
_BY_PATH = ("Type", "KeyId", "Label")


def parameter_filter(filters: Sequence[Mapping[str, Any]] | None, *, by_path: bool = False) -> Test:
    """A test for parameters that pass every filter.

    Raises InvalidFilterKey, InvalidFilterOption and InvalidFilterValue.
    """
    tests = [_test(each, by_path) for each in filters or ()]
    return lambda parameter: all(test(parameter) for test in tests)


def _test(given: Mapping[str, Any], by_path: bool) -> Test:
    key, values = str(given.get("Key") or ""), list(given.get("Values") or ())
    tag = key.startswith("tag:") and len(key) > len("tag:")
    known = key in _BY_PATH if by_path else tag or key in _OPTIONS
    if not known:
        allowed = ", ".join(_BY_PATH if by_path else (*_OPTIONS, "tag:<key>"))
        raise refused("InvalidFilterKey", f"The filter key {key} is not valid. Valid keys are: {allowed}.")
    options = ("Equals",) if tag or key == "Label" else _OPTIONS[key]
    option = given.get("Option") or options[0]
    if option not in options:
        raise refused(
            "InvalidFilterOption",
            f"The filter option {option} is not valid for the key {key}. Valid options are: {', '.join(options)}.",
        )
    if len(values) > VALUES_MAX or not (values or tag):
        raise refused("InvalidFilterValue", f"The filter {key} takes 1 to {VALUES_MAX} values.")
    if key == "Label":
        return lambda parameter: False  # versions have no labels here
    if tag:
        return lambda parameter: key[4:] in parameter.tags and (not values or parameter.tags[key[4:]] in values)
    if key == "Path":
        if not all(each.startswith("/") for each in values):
            raise refused("InvalidFilterValue", "A path must begin with a forward slash.")
        folders = [each.rstrip("/") + "/" for each in values]
        deep = option == "Recursive"
        return lambda parameter: any(
            parameter.name.startswith(each) and (deep or "/" not in parameter.name[len(each) :]) for each in folders
        )
    read = _READERS[key]
    if option == "BeginsWith":
        return lambda parameter: read(parameter).startswith(tuple(values))
    if option == "Contains":
        return lambda parameter: any(each in read(parameter) for each in values)
    return lambda parameter: read(parameter) in values


_READERS: Mapping[str, Callable[[Parameter], str]] = {
    "Name": lambda parameter: parameter.name,
    "Type": lambda parameter: parameter.latest.type,
    "KeyId": lambda parameter: parameter.latest.key_id or "",
    "Tier": lambda parameter: parameter.latest.tier,
    "DataType": lambda parameter: parameter.latest.data_type,
}
