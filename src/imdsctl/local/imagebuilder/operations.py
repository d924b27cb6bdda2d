"""Every operation of Image Builder that is here: infrastructure configurations, from their making to their end.

Source: EC2 Image Builder API Reference. Whoever sends a client token again gets the first answer again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from imdsctl.domain.options import HOP_LIMIT_MAX, HOP_LIMIT_MIN, HttpTokens
from imdsctl.local.call import AwsError, Call, Operation, Operations
from imdsctl.local.constraints import check_members, check_range, check_required, check_text
from imdsctl.local.imagebuilder.state import Configuration, ImageBuilderState, arn_of, first_state
from imdsctl.local.pages import InvalidToken, page

PAGE_MAX = 25
NAME = r"[-_A-Za-z0-9][-_A-Za-z0-9 ]{1,126}[-_A-Za-z0-9]"
PROFILE = r"[\w+=,.@-]+"
TAGS_MAX = 50
_ARN = re.compile(r"arn:aws[^:]*:imagebuilder:[^:]+:(?:[0-9]{12}|aws):infrastructure-configuration/[a-z0-9-_]+")
_CONTENT = (
    "description",
    "instanceTypes",
    "instanceProfileName",
    "securityGroupIds",
    "subnetId",
    "logging",
    "keyPair",
    "terminateInstanceOnFailure",
    "snsTopicArn",
    "resourceTags",
    "instanceMetadataOptions",
    "placement",
)
"""The members that creating and updating a configuration share."""
_SUMMARY = ("description", "resourceTags", "instanceTypes", "instanceProfileName", "placement")


def list_infrastructure_configurations(call: Call) -> Mapping[str, Any]:
    """The configurations without their metadata options, in pages of up to 25; a filter selects by name."""
    params = call.params
    check_range(params.get("maxResults"), "maxResults", _invalid, 1, PAGE_MAX)
    names: set[str] | None = None
    for each in params.get("filters") or ():
        if each.get("name") != "name":
            raise _invalid(f"The filter '{each.get('name')}' is not supported.")
        wanted = set(each.get("values") or ())
        names = wanted if names is None else names & wanted
    chosen = [each for each in _state(call).configurations.values() if names is None or each.name in names]
    place = f"{call.action}/{call.account_id}/{call.region}/{sorted(names or ())}"
    try:
        shown, token = page(chosen, params.get("nextToken"), params.get("maxResults") or PAGE_MAX, of=place)
    except InvalidToken:
        raise _refused("InvalidPaginationTokenException", "The pagination token is not valid.") from None
    answer: dict[str, Any] = {"requestId": call.request_id}
    answer["infrastructureConfigurationSummaryList"] = [_structure(each, _SUMMARY) for each in shown]
    return answer if token is None else {**answer, "nextToken": token}


def get_infrastructure_configuration(call: Call) -> Mapping[str, Any]:
    """One configuration, whole. Raises ResourceNotFoundException."""
    return {"requestId": call.request_id, "infrastructureConfiguration": _structure(_found(call), _CONTENT)}


def create_infrastructure_configuration(call: Call) -> Mapping[str, Any]:
    """Make a configuration.

    Raises InvalidRequestException, ResourceAlreadyExistsException and IdempotentParameterMismatchException.
    """
    params, state = call.params, _state(call)
    check_required(params.get("name"), "name", _invalid)
    name = str(params["name"])
    check_text(name, "name", _invalid, pattern=NAME)
    content = _content(params)
    tags = dict(params.get("tags") or {})
    if len(tags) > TAGS_MAX:
        raise _invalid(f"A resource can have at most {TAGS_MAX} tags.")
    arn = arn_of(call.account_id, call.region, name)
    if (before := _before(call)) is not None:
        return before
    if arn in state.configurations:
        raise _refused("ResourceAlreadyExistsException", f"The resource '{arn}' already exists.")
    state.configurations[arn] = Configuration(arn, name, call.now, None, content, tags)
    return _done(call, arn)


def update_infrastructure_configuration(call: Call) -> Mapping[str, Any]:
    """Put what the request says in place of what the configuration said: what is left out is gone.

    Raises InvalidRequestException, ResourceNotFoundException and IdempotentParameterMismatchException.
    """
    found, content = _found(call), _content(call.params)
    if (before := _before(call)) is not None:
        return before
    _state(call).configurations[found.arn] = replace(found, content=content, updated=call.now)
    return _done(call, found.arn)


def delete_infrastructure_configuration(call: Call) -> Mapping[str, Any]:
    """Delete a configuration. Raises ResourceNotFoundException."""
    found = _found(call)
    del _state(call).configurations[found.arn]
    return {"requestId": call.request_id, "infrastructureConfigurationArn": found.arn}


def _state(call: Call) -> ImageBuilderState:
    return call.world.service_state(first_state, call.account_id, call.region)


def _found(call: Call) -> Configuration:
    arn = str(call.params.get("infrastructureConfigurationArn") or "")
    if not _ARN.fullmatch(arn):
        raise _invalid(f"'{arn}' is not the ARN of an infrastructure configuration.")
    found = _state(call).configurations.get(arn)
    if found is None:
        raise AwsError("ResourceNotFoundException", f"The resource '{arn}' does not exist.", 404)
    return found


def _content(params: Mapping[str, Any]) -> dict[str, Any]:
    """What the request says, checked."""
    check_required(params.get("instanceProfileName"), "instanceProfileName", _invalid)
    check_text(params["instanceProfileName"], "instanceProfileName", _invalid, length_max=256, pattern=PROFILE)
    check_text(params.get("description"), "description", _invalid, length_min=1, length_max=1024)
    check_required(params.get("clientToken"), "clientToken", _invalid)
    check_text(params["clientToken"], "clientToken", _invalid, length_min=1, length_max=64)
    options = params.get("instanceMetadataOptions") or {}
    tokens, hops = options.get("httpTokens"), options.get("httpPutResponseHopLimit")
    place = "instanceMetadataOptions"
    check_members([tokens] if tokens is not None else (), f"{place}.httpTokens", _invalid, map(str, HttpTokens))
    check_range(hops, f"{place}.httpPutResponseHopLimit", _invalid, HOP_LIMIT_MIN, HOP_LIMIT_MAX)
    return {name: params[name] for name in _CONTENT if params.get(name) is not None}


def _before(call: Call) -> Mapping[str, Any] | None:
    """The answer that the request's client token got before."""
    token = call.params["clientToken"]
    arn, params = _state(call).tokens.get(token, ("", {}))
    if not arn:
        return None
    if params != _unspoken(call):
        raise _refused(
            "IdempotentParameterMismatchException",
            "The client token was used before, in a request with other parameters.",
        )
    return _answer(call, arn)


def _unspoken(call: Call) -> dict[str, Any]:
    return {"action": call.action, **call.params}


def _done(call: Call, arn: str) -> Mapping[str, Any]:
    _state(call).tokens[call.params["clientToken"]] = (arn, _unspoken(call))
    return _answer(call, arn)


def _answer(call: Call, arn: str) -> dict[str, Any]:
    token = call.params["clientToken"]
    return {"requestId": call.request_id, "clientToken": token, "infrastructureConfigurationArn": arn}


def _structure(each: Configuration, members: tuple[str, ...]) -> dict[str, Any]:
    out: dict[str, Any] = {"arn": each.arn, "name": each.name, "dateCreated": _date(each.created)}
    if each.updated is not None:
        out["dateUpdated"] = _date(each.updated)
    out.update((name, each.content[name]) for name in members if name in each.content)
    out["tags"] = dict(each.tags)
    return out


def _date(at: datetime) -> str:
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _invalid(message: str) -> AwsError:
    return AwsError("InvalidRequestException", message, 400)


def _refused(code: str, message: str) -> AwsError:
    return AwsError(code, message, 400)


OPERATIONS: Operations = {
    "ListInfrastructureConfigurations": Operation(list_infrastructure_configurations),
    "GetInfrastructureConfiguration": Operation(get_infrastructure_configuration),
    "CreateInfrastructureConfiguration": Operation(create_infrastructure_configuration, writes=True),
    "UpdateInfrastructureConfiguration": Operation(update_infrastructure_configuration, writes=True),
    "DeleteInfrastructureConfiguration": Operation(delete_infrastructure_configuration, writes=True),
}
