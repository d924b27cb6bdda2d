"""The instance metadata options, as AWS spells them.

Source: EC2 API Reference, `InstanceMetadataOptionsRequest`, `InstanceMetadataDefaultsResponse` and
`ModifyInstanceMetadataDefaults`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from enum import StrEnum
from operator import attrgetter
from typing import Any, Self, TypeVar

T = TypeVar("T", bound=StrEnum)


class HttpTokens(StrEnum):
    """`required` is IMDSv2 only; `optional` also answers IMDSv1."""

    OPTIONAL = "optional"
    REQUIRED = "required"

    __hash__ = str.__hash__  # an enumeration's own is written in Python, and options are looked up a lot


class Switch(StrEnum):
    """AWS's two-valued switch, for HttpEndpoint, HttpProtocolIpv6, InstanceMetadataTags and HttpTokensEnforced."""

    DISABLED = "disabled"
    ENABLED = "enabled"

    __hash__ = str.__hash__


HOP_LIMIT_MIN = 1
HOP_LIMIT_MAX = 64
NO_PREFERENCE = "no-preference"
HOP_LIMIT_NO_PREFERENCE = -1


class InvalidOption(ValueError):
    """A value that AWS does not know for an option.

    `option` is AWS's name, `value` what was given, `allowed` a sentence part such as ``'optional' or 'required'``.
    """

    def __init__(self, option: str, value: object, allowed: str) -> None:
        super().__init__(f"`{value}` is not valid for {option}: use {allowed}")
        self.option = option
        self.value = value
        self.allowed = allowed


@dataclass(frozen=True, slots=True)
class MetadataOptions:
    """All five options of an instance, a launch request, a launch template or a layer. `None`: says nothing."""

    http_tokens: HttpTokens | None = None
    http_put_response_hop_limit: int | None = None
    http_endpoint: Switch | None = None
    http_protocol_ipv6: Switch | None = None
    instance_metadata_tags: Switch | None = None

    @classmethod
    def from_aws(cls, value: Mapping[str, Any] | None) -> Self:
        """AWS's structure to a value; members other than the five (`State`) are ignored.

        Raises InvalidOption for a value outside AWS's enumeration or a hop limit outside 1..64.
        """
        if not value:
            return cls()
        return cls(
            _enum(HttpTokens, "HttpTokens", value.get("HttpTokens")),
            _hop_limit(value.get("HttpPutResponseHopLimit")),
            _enum(Switch, "HttpEndpoint", value.get("HttpEndpoint")),
            _enum(Switch, "HttpProtocolIpv6", value.get("HttpProtocolIpv6")),
            _enum(Switch, "InstanceMetadataTags", value.get("InstanceMetadataTags")),
        )

    def to_aws(self) -> dict[str, Any]:
        """AWS's structure, without the options that say nothing."""
        return {
            aws: value if isinstance(value, int) else str(value)
            for aws, value in zip(AWS_NAMES.values(), _ALL(self), strict=True)
            if value is not None
        }

    def over(self, weaker: MetadataOptions) -> MetadataOptions:
        """Option by option: this value where it speaks, else the weaker one's."""
        return MetadataOptions(
            *(theirs if mine is None else mine for mine, theirs in zip(_ALL(self), _ALL(weaker), strict=True))
        )

    def differing_from(self, current: MetadataOptions) -> MetadataOptions:
        """Only the options that speak here and are not already so in `current`: what a write has to send."""
        return MetadataOptions(
            *(mine if mine != theirs else None for mine, theirs in zip(_ALL(self), _ALL(current), strict=True))
        )

    def __bool__(self) -> bool:
        return _ALL(self) != _NOTHING


AWS_NAMES = {
    "http_tokens": "HttpTokens",
    "http_put_response_hop_limit": "HttpPutResponseHopLimit",
    "http_endpoint": "HttpEndpoint",
    "http_protocol_ipv6": "HttpProtocolIpv6",
    "instance_metadata_tags": "InstanceMetadataTags",
}
"""Field name to AWS's name, in AWS's order."""

assert list(AWS_NAMES) == [field.name for field in fields(MetadataOptions)]

_ALL = attrgetter(*AWS_NAMES)
_NOTHING = (None,) * len(AWS_NAMES)


@dataclass(frozen=True, slots=True)
class AccountDefaults:
    """What an account says in one Region (`GetInstanceMetadataDefaults`). `None`: no preference.

    There is no HttpProtocolIpv6 at this level.
    """

    http_tokens: HttpTokens | None = None
    http_put_response_hop_limit: int | None = None
    http_endpoint: Switch | None = None
    instance_metadata_tags: Switch | None = None
    http_tokens_enforced: Switch | None = None
    managed_by: str = "account"
    managed_exception_message: str | None = None

    @classmethod
    def from_aws(cls, value: Mapping[str, Any] | None) -> Self:
        """AWS's `AccountLevel` structure to a value; `no-preference` and -1 are `None`. Raises InvalidOption."""
        value = value or {}
        hop = value.get("HttpPutResponseHopLimit")
        return cls(
            _preference(HttpTokens, "HttpTokens", value.get("HttpTokens")),
            None if hop == HOP_LIMIT_NO_PREFERENCE else _hop_limit(hop),
            _preference(Switch, "HttpEndpoint", value.get("HttpEndpoint")),
            _preference(Switch, "InstanceMetadataTags", value.get("InstanceMetadataTags")),
            _preference(Switch, "HttpTokensEnforced", value.get("HttpTokensEnforced")),
            value.get("ManagedBy") or "account",
            value.get("ManagedExceptionMessage"),
        )

    def to_aws(self) -> dict[str, Any]:
        """AWS's `AccountLevel` structure; what has no preference is left out."""
        out: dict[str, Any] = {
            aws: value if isinstance(value, int) else str(value)
            for name, aws in DEFAULTS_AWS_NAMES.items()
            if (value := getattr(self, name)) is not None
        }
        out["ManagedBy"] = self.managed_by
        if self.managed_exception_message is not None:
            out["ManagedExceptionMessage"] = self.managed_exception_message
        return out

    def updated(self, request: Mapping[str, Any]) -> AccountDefaults:
        """The defaults after a `ModifyInstanceMetadataDefaults` with these members; what is absent stays as it is.

        Raises InvalidOption.
        """
        asked = AccountDefaults.from_aws({name: request.get(name) for name in DEFAULTS_AWS_NAMES.values()})
        named = {name: getattr(asked, name) for name, aws in DEFAULTS_AWS_NAMES.items() if request.get(aws) is not None}
        return replace(self, **named)

    def options(self) -> MetadataOptions:
        """This layer's say in the precedence."""
        return MetadataOptions(
            http_tokens=self.http_tokens,
            http_put_response_hop_limit=self.http_put_response_hop_limit,
            http_endpoint=self.http_endpoint,
            instance_metadata_tags=self.instance_metadata_tags,
        )

    @property
    def enforced(self) -> bool:
        """True when launches that resolve to IMDSv1 are refused."""
        return self.http_tokens_enforced is Switch.ENABLED


DEFAULTS_AWS_NAMES = {
    "http_tokens": "HttpTokens",
    "http_put_response_hop_limit": "HttpPutResponseHopLimit",
    "http_endpoint": "HttpEndpoint",
    "instance_metadata_tags": "InstanceMetadataTags",
    "http_tokens_enforced": "HttpTokensEnforced",
}
"""Field name to AWS's name for what ModifyInstanceMetadataDefaults takes."""


def _enum(kind: type[T], option: str, value: Any) -> T | None:
    if value is None:
        return None
    try:
        return kind(value)
    except ValueError:
        raise InvalidOption(option, value, " or ".join(f"'{member}'" for member in kind)) from None


def _preference(kind: type[T], option: str, value: Any) -> T | None:
    if value == NO_PREFERENCE:
        return None
    try:
        return _enum(kind, option, value)
    except InvalidOption as error:
        raise InvalidOption(option, value, f"{error.allowed} or '{NO_PREFERENCE}'") from None


def _hop_limit(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or not HOP_LIMIT_MIN <= value <= HOP_LIMIT_MAX:
        raise InvalidOption("HttpPutResponseHopLimit", value, f"a whole number from {HOP_LIMIT_MIN} to {HOP_LIMIT_MAX}")
    return value
