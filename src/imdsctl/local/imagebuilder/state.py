"""What one account has in Image Builder in one Region, and what the generated fleet has there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from imdsctl.local.service_generator import numbers_of

if TYPE_CHECKING:
    from imdsctl.local.world import World

SHARE = 0.3
"""The share of Regions with Image Builder."""


@dataclass(frozen=True, slots=True)
class Configuration:
    """An infrastructure configuration. `content` has the members of the request, in AWS's spelling."""

    arn: str
    name: str
    created: datetime
    updated: datetime | None
    content: Mapping[str, Any]
    tags: Mapping[str, str]


@dataclass(slots=True)
class ImageBuilderState:
    """Configurations by ARN in the order of creation, and the client tokens of requests that were carried out."""

    configurations: dict[str, Configuration] = field(default_factory=dict)
    tokens: dict[str, tuple[str, Mapping[str, Any]]] = field(default_factory=dict)


def arn_of(account_id: str, region: str, name: str) -> str:
    """The ARN of a configuration of that name: lower case, with hyphens for spaces."""
    ending = name.lower().replace(" ", "-")
    return f"arn:aws:imagebuilder:{region}:{account_id}:infrastructure-configuration/{ending}"


_CONFIGURATIONS: tuple[tuple[str, int, str, Mapping[str, Any] | None], ...] = (
    # name, age in days, instance type, instanceMetadataOptions (None: says nothing)
    ("golden-build", 760, "m5.large", None),
    ("golden-build-v2", 120, "m6i.large", {"httpTokens": "required", "httpPutResponseHopLimit": 1}),
    ("container-build", 430, "c5.xlarge", {"httpTokens": "optional", "httpPutResponseHopLimit": 2}),
)


def first_state(world: World, account_id: str, region: str) -> ImageBuilderState:
    """Image Builder of a generated Region: one to three infrastructure configurations."""
    state = ImageBuilderState()
    numbers = numbers_of(world, account_id, region, "imagebuilder", SHARE)
    if numbers is None:
        return state
    for name, age, kind, options in _CONFIGURATIONS[: numbers.choice((1, 2, 2, 3))]:
        if (options or {}).get("httpTokens") != "required" and not world.spec.old_stacks:
            continue
        content: dict[str, Any] = {
            "instanceProfileName": "EC2InstanceProfileForImageBuilder",
            "instanceTypes": [kind],
            "terminateInstanceOnFailure": True,
        }
        if options is not None:
            content["instanceMetadataOptions"] = dict(options)
        made = world.created - timedelta(days=age, seconds=numbers.randrange(86400))
        arn = arn_of(account_id, region, name)
        state.configurations[arn] = Configuration(arn, name, made, None, content, {})
    return state
