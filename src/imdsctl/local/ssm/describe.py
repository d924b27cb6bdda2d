"""DescribeParameters: the account's own parameters without their values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imdsctl.local.call import Call, Operation
from imdsctl.local.ssm.errors import invalid, refused
from imdsctl.local.ssm.filters import parameter_filter
from imdsctl.local.ssm.read import paged, store_of, with_token
from imdsctl.local.ssm.state import metadata_structure

PAGE_MAX = 50
"""Systems Manager API Reference, DescribeParameters, MaxResults."""


def describe_parameters(call: Call) -> Mapping[str, Any]:
    """The parameters that pass ParameterFilters (or the older Filters), in the order of their names.

    Raises ValidationException, InvalidFilterKey, InvalidFilterOption, InvalidFilterValue and InvalidNextToken.
    """
    params = call.params
    given = params.get("ParameterFilters")
    older = params.get("Filters")
    if given and older:
        raise invalid("You can use either Filters or ParameterFilters in a single request.")
    if older:
        if any(each.get("Key") not in ("Name", "Type", "KeyId") for each in older):
            raise refused("InvalidFilterKey", "The specified key isn't valid.")
        given = [{"Key": each["Key"], "Values": each.get("Values"), "Option": "BeginsWith"} for each in older]
    test = parameter_filter(given)
    chosen = [each for _, each in sorted(store_of(call).items()) if test(each)]
    shown, token = paged(call, chosen, PAGE_MAX, PAGE_MAX, of=repr(given))
    return with_token({"Parameters": [metadata_structure(each, each.latest) for each in shown]}, token)


OPERATIONS = {"DescribeParameters": Operation(describe_parameters)}
