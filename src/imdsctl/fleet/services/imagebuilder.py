"""EC2 Image Builder: the options of the instances on which images are built and tested.

Source: EC2 Image Builder API Reference, InstanceMetadataOptions: "The default setting is optional" (httpTokens), "The
default is one hop" (httpPutResponseHopLimit); a container build needs two. An infrastructure configuration therefore
always decides, also when it names no options.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imdsctl.domain.observations import SAYS_NOTHING, ServiceKind, ServiceSeen
from imdsctl.domain.options import HttpTokens, InvalidOption, MetadataOptions
from imdsctl.fleet.services.calls import ServiceCalls
from imdsctl.wire.errors import ServiceError

DEFAULTS = MetadataOptions(HttpTokens.OPTIONAL, 1)

_LIST = {"infrastructureConfigurationSummaryList": {"arn": None}}
_GET = {"infrastructureConfiguration": {"arn": None, "name": None, "instanceMetadataOptions": None, "tags": None}}


async def read(reader: ServiceCalls) -> list[ServiceSeen]:
    """The infrastructure configurations: one call a page of 25, and one for each, as a list does not show the options.

    Raises ServiceError and Unreachable.
    """
    arns = [
        each["arn"]
        async for page in reader.pages("ListInfrastructureConfigurations", {"maxResults": 25}, _LIST, token="nextToken")
        for each in page.get("infrastructureConfigurationSummaryList") or ()
    ]
    seen = []
    for arn in arns:
        try:
            answer = await reader.call("GetInfrastructureConfiguration", {"infrastructureConfigurationArn": arn}, _GET)
        except ServiceError as error:
            if error.code != "ResourceNotFoundException":
                raise
            continue  # it was deleted since the list
        found: Mapping[str, Any] = answer.get("infrastructureConfiguration") or {}
        options, reason = options_of(found.get("instanceMetadataOptions"))
        seen.append(
            ServiceSeen(
                kind=ServiceKind.IMAGE_BUILDER_INFRASTRUCTURE,
                resource=arn,
                name=found.get("name") or "",
                options=options,
                reason=reason,
                tags=tuple(sorted((found.get("tags") or {}).items())),
            )
        )
    return seen


def options_of(said: Mapping[str, Any] | None) -> tuple[MetadataOptions, str]:
    """Image Builder's structure as EC2's options, its defaults laid under them; why they are unknown if they are."""
    given = said or {}
    try:
        options = MetadataOptions.from_aws(
            {
                "HttpTokens": given.get("httpTokens"),
                "HttpPutResponseHopLimit": given.get("httpPutResponseHopLimit"),
            }
        )
    except InvalidOption as error:
        return SAYS_NOTHING, str(error)
    return options.over(DEFAULTS), ""
