"""Amazon Lightsail: instances that EC2 does not show, with metadata options of their own.

Source: Lightsail API Reference, InstanceMetadataOptions: the same options as EC2's but for instance tags. Whether the
blueprint can do without IMDSv1 is not said there ("Not all instance blueprints ... support version 2.0 credentials").
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imdsctl.domain.observations import SAYS_NOTHING, ServiceKind, ServiceSeen
from imdsctl.domain.options import HttpTokens, InvalidOption, MetadataOptions
from imdsctl.fleet.services.calls import ServiceCalls

_WANTED = {
    "instances": {"name": None, "arn": None, "blueprintId": None, "metadataOptions": None, "tags": None},
}


async def read(reader: ServiceCalls) -> list[ServiceSeen]:
    """All instances: one call a page. Raises ServiceError and Unreachable."""
    return [
        _seen(each)
        async for page in reader.pages("GetInstances", None, _WANTED, token="pageToken", next_token="nextPageToken")
        for each in page.get("instances") or ()
    ]


def _seen(instance: Mapping[str, Any]) -> ServiceSeen:
    options, reason = options_of(instance.get("metadataOptions"))
    return ServiceSeen(
        kind=ServiceKind.LIGHTSAIL_INSTANCE,
        resource=instance.get("name") or instance.get("arn") or "",
        name=instance.get("name") or "",
        options=options,
        reason=reason,
        tags=tuple(sorted((each["key"], each.get("value") or "") for each in instance.get("tags") or ())),
    )


def options_of(said: Mapping[str, Any] | None) -> tuple[MetadataOptions, str]:
    """Lightsail's structure as EC2's options, and why they are unknown if they are."""
    if not said:
        return SAYS_NOTHING, "Lightsail does not say its metadata options"
    try:
        options = MetadataOptions.from_aws({name[:1].upper() + name[1:]: value for name, value in said.items()})
    except InvalidOption as error:
        return SAYS_NOTHING, str(error)
    # Until it is applied the instance answers as before: a change to `optional` is told at once, one to `required` not.
    if said.get("state") == "pending" and options.http_tokens is not HttpTokens.OPTIONAL:
        return (
            SAYS_NOTHING,
            "a change is pending: until it is applied, the instance answers as before, however that was",
        )
    return options, ""
