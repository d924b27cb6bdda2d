"""Amazon AppStream 2.0 (WorkSpaces Applications): whether what its fleets and builders launch answers IMDSv1.

Source: AppStream 2.0 API Reference, Fleet, ImageBuilder and AppBlockBuilder: DisableIMDSV1 true disables IMDSv1 and
enforces IMDSv2, false enables both. It is the only option that AppStream has. An image needs an agent or managed image
update released on or after January 16, 2024 to do without IMDSv1.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imdsctl.domain.observations import SAYS_NOTHING, ServiceKind, ServiceSeen
from imdsctl.domain.options import HttpTokens, MetadataOptions
from imdsctl.fleet.services.calls import ServiceCalls

_MEMBERS = {"Name": None, "Arn": None, "DisableIMDSV1": None}
_LISTS = (
    ("DescribeFleets", "Fleets", ServiceKind.APPSTREAM_FLEET),
    ("DescribeImageBuilders", "ImageBuilders", ServiceKind.APPSTREAM_IMAGE_BUILDER),
    ("DescribeAppBlockBuilders", "AppBlockBuilders", ServiceKind.APPSTREAM_APP_BLOCK_BUILDER),
)


async def read(reader: ServiceCalls) -> list[ServiceSeen]:
    """All fleets and builders: one call a page of each kind. Raises ServiceError and Unreachable."""
    return [
        _seen(kind, each)
        for operation, member, kind in _LISTS
        async for page in reader.pages(operation, None, {member: _MEMBERS})
        for each in page.get(member) or ()
    ]


def _seen(kind: ServiceKind, each: Mapping[str, Any]) -> ServiceSeen:
    options, reason = options_of(each.get("DisableIMDSV1"))
    name = each.get("Name") or ""
    return ServiceSeen(kind, resource=each.get("Arn") or name, name=name, options=options, reason=reason)


def options_of(disabled: bool | None) -> tuple[MetadataOptions, str]:
    """AppStream's switch as EC2's HttpTokens, and why it is unknown if it is not said."""
    if disabled is None:
        return SAYS_NOTHING, "AppStream does not say DisableIMDSV1"
    return MetadataOptions(HttpTokens.REQUIRED if disabled else HttpTokens.OPTIONAL), ""
