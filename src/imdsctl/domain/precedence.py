"""What does an instance get, and why? The one rule that everything else asks.

Source: EC2 User Guide, "Configure the Instance Metadata Service options", section "Order of precedence for instance
metadata options": each option is decided on its own, at launch, by the first of these that speaks: launch parameters,
account default in the Region, image (`ImdsSupport`), built-in. Enforcement (`HttpTokensEnforced`) is judged after
that, on the resolved value ("Troubleshoot launch": `UnsupportedOperation`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any, Generic, TypeVar

from imdsctl.domain.options import AWS_NAMES, AccountDefaults, HttpTokens, MetadataOptions, Switch

V = TypeVar("V")


class Layer(StrEnum):
    """Who can decide an option, strongest first."""

    LAUNCH = "launch parameters"
    LAUNCH_TEMPLATE = "launch template"
    ACCOUNT_DEFAULT = "account default"
    IMAGE = "image"
    BUILT_IN = "built-in"


BUILT_IN = MetadataOptions(
    http_tokens=HttpTokens.OPTIONAL,
    http_put_response_hop_limit=1,
    http_endpoint=Switch.ENABLED,
    http_protocol_ipv6=Switch.DISABLED,
    instance_metadata_tags=Switch.DISABLED,
)
"""What applies when no layer speaks (the API's documented defaults)."""

IMAGE_IMDS_V2 = MetadataOptions(http_tokens=HttpTokens.REQUIRED, http_put_response_hop_limit=2)
"""What an image with `ImdsSupport=v2.0` says; it says nothing about the other options."""


@dataclass(frozen=True, slots=True)
class Decided(Generic[V]):
    """An option's value and the layer that decided it."""

    value: V
    layer: Layer


@dataclass(frozen=True, slots=True)
class Resolution:
    """Every option's value with its reason, the layers it came from, and whether enforcement refuses the launch."""

    http_tokens: Decided[HttpTokens]
    http_put_response_hop_limit: Decided[int]
    http_endpoint: Decided[Switch]
    http_protocol_ipv6: Decided[Switch]
    instance_metadata_tags: Decided[Switch]
    layers: tuple[tuple[Layer, MetadataOptions], ...]
    enforced: bool

    @property
    def options(self) -> MetadataOptions:
        """The resolved values alone."""
        return MetadataOptions(*(getattr(self, name).value for name in AWS_NAMES))

    @property
    def refused(self) -> bool:
        """True when `HttpTokensEnforced` turns this launch down.

        Whether HttpEndpoint=disabled exempts a launch is not documented; the safe reading refuses it as well.
        """
        return self.enforced and self.http_tokens.value is HttpTokens.OPTIONAL


RESOLUTIONS_REMEMBERED_MAX = 4096
"""Fleets are made of few combinations, and everybody asks for them again and again."""


def image_options(imds_support: str | None) -> MetadataOptions:
    """What an image says: `imds_support` is AWS's `Image.ImdsSupport`, of which only `v2.0` exists."""
    return IMAGE_IMDS_V2 if imds_support == "v2.0" else MetadataOptions()


@lru_cache(maxsize=RESOLUTIONS_REMEMBERED_MAX)
def resolve(
    launch: MetadataOptions,
    account_default: AccountDefaults,
    image: MetadataOptions,
    built_in: MetadataOptions = BUILT_IN,
    *,
    launch_template: MetadataOptions | None = None,
) -> Resolution:
    """What an instance launched now would get, and which layer decided each option.

    `launch` are the request's own parameters; those of a `launch_template` come next, option by option: AWS says that
    a parameter of the request overwrites "the corresponding parameter" of the template, and leaves open whether
    MetadataOptions merge or replace. `image` is `image_options(...)`; `built_in` has to speak for every option.
    """
    layers = (
        (Layer.LAUNCH, launch),
        (Layer.LAUNCH_TEMPLATE, launch_template or MetadataOptions()),
        (Layer.ACCOUNT_DEFAULT, account_default.options()),
        (Layer.IMAGE, image),
        (Layer.BUILT_IN, built_in),
    )
    return Resolution(
        **{name: _first(layers, name) for name in AWS_NAMES},
        layers=layers,
        enforced=account_default.enforced,
    )


def _first(layers: Sequence[tuple[Layer, MetadataOptions]], name: str) -> Decided[Any]:
    for layer, options in layers:
        value = getattr(options, name)
        if value is not None:
            return Decided(value, layer)
    raise ValueError(f"the built-in layer says nothing about {AWS_NAMES[name]}")
