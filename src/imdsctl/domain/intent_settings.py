"""What an intent can say about each surface: one table, read by the parser, the printer and the JSON schema."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeAlias

from imdsctl.domain.options import HOP_LIMIT_MAX, HOP_LIMIT_MIN, HttpTokens, Switch

LEAVE = "leave"
AUTO = "auto"
HOP_AT_LEAST = "hop-limit-at-least"
HOP_EXACTLY = "hop-limit-exactly"
TOP = ""
"""The table of what stands above the first `[table]`."""

Said: TypeAlias = tuple[str, str, Any]
"""A table's name, a key's name, and the value that was said for it, in our types."""


class Images(StrEnum):
    """What to do with the account's own images. `v2.0` cannot be undone: AWS has no way back."""

    LEAVE = "leave"
    V2 = "v2.0"


class Kind(Protocol):
    """What a key's value may be."""

    @property
    def allowed(self) -> str:
        """For a person: `use "required" or "leave"`."""
        ...

    def read(self, value: Any) -> Any:
        """The value in our types. Raises ValueError."""
        ...

    def plain(self, value: Any) -> Any:
        """Back to the file's types."""
        ...

    def schema(self) -> dict[str, Any]:
        """The same as JSON schema."""
        ...


@dataclass(frozen=True, slots=True)
class Choice:
    """One of some words; `leave` (None) where the option may stay as it is."""

    kind: type[StrEnum]
    words: tuple[str, ...]

    @property
    def allowed(self) -> str:
        return "use " + " or ".join(f'"{each}"' for each in self.words)

    def read(self, value: Any) -> StrEnum | None:
        if not isinstance(value, str) or value not in self.words:
            raise ValueError
        return None if value == LEAVE and LEAVE not in tuple(self.kind) else self.kind(value)

    def plain(self, value: Any) -> str:
        return LEAVE if value is None else str(value)

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.words)}


@dataclass(frozen=True, slots=True)
class HopLimit:
    """A whole number from 1 to 64, or one of some words. `leave` is None."""

    words: tuple[str, ...] = ()

    @property
    def allowed(self) -> str:
        return f"use a whole number from {HOP_LIMIT_MIN} to {HOP_LIMIT_MAX}" + "".join(
            f', or "{each}"' for each in self.words
        )

    def read(self, value: Any) -> int | str | None:
        if isinstance(value, str) and value in self.words:
            return None if value == LEAVE else value
        if type(value) is not int or not HOP_LIMIT_MIN <= value <= HOP_LIMIT_MAX:
            raise ValueError
        return value

    def plain(self, value: Any) -> Any:
        return LEAVE if value is None else value

    def schema(self) -> dict[str, Any]:
        number = {"type": "integer", "minimum": HOP_LIMIT_MIN, "maximum": HOP_LIMIT_MAX}
        return {"anyOf": [number, {"enum": list(self.words)}]} if self.words else number


@dataclass(frozen=True, slots=True)
class Flag:
    """true or false."""

    @property
    def allowed(self) -> str:
        return "use true or false, without quotes"

    def read(self, value: Any) -> bool:
        if not isinstance(value, bool):
            raise ValueError
        return value

    def plain(self, value: Any) -> bool:
        return bool(value)

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


@dataclass(frozen=True, slots=True)
class Setting:
    """A key: its field in `MetadataOptions` where it is an option, what it may be, and what it means."""

    kind: Kind
    about: str
    field: str = ""


_TOKENS = Setting(Choice(HttpTokens, ("required", LEAVE)), "IMDSv2 only, or as it is", "http_tokens")
_ENDPOINT = Setting(
    Choice(Switch, ("disabled", LEAVE)), "switch the metadata service off, or leave it", "http_endpoint"
)
_IPV6 = Setting(
    Choice(Switch, ("enabled", "disabled", LEAVE)), "the service's IPv6 address, fd00:ec2::254", "http_protocol_ipv6"
)
_TAGS = Setting(
    Choice(Switch, ("enabled", "disabled", LEAVE)), "an instance's tags in its metadata", "instance_metadata_tags"
)
_AT_LEAST = Setting(
    HopLimit((AUTO, LEAVE)), 'never lowers; "auto": what containers need where containers run, elsewhere 1'
)
_EXACTLY = Setting(HopLimit(), "this hop limit, lowering a higher one; containers may lose the service")
_OPTIONS = {
    "http-tokens": _TOKENS,
    "http-endpoint": _ENDPOINT,
    "http-protocol-ipv6": _IPV6,
    "instance-metadata-tags": _TAGS,
}
"""`optional` would allow IMDSv1, and wanting every endpoint `enabled` would switch on those that somebody switched
off: neither can be said."""
_HOPS = {HOP_AT_LEAST: _AT_LEAST, HOP_EXACTLY: _EXACTLY}

SETTINGS: Mapping[str, Mapping[str, Setting]] = {
    TOP: {"enforce": Setting(Flag(), "turn on HttpTokensEnforced, last of all; false leaves it as it is")},
    "region-defaults": {
        # A Region default has no HttpProtocolIpv6.
        **{key: setting for key, setting in _OPTIONS.items() if key != "http-protocol-ipv6"},
        **_HOPS,
    },
    "instances": {**_OPTIONS, **_HOPS},
    "launch-templates": {
        **_OPTIONS,
        **_HOPS,
        "explicit": Setting(Flag(), "a template says the options itself, though the Region default would do"),
        "move-default": Setting(Flag(), "move $Default to the new version; false only makes the version, as $Latest"),
    },
    "images": {
        "imds-support": Setting(
            Choice(Images, tuple(Images)), "v2.0 marks the account's own images, which cannot be undone"
        )
    },
    "containers": {HOP_AT_LEAST: Setting(HopLimit((LEAVE,)), "the hop limit that a container host needs")},
    "services": {
        "http-tokens": Setting(_TOKENS.kind, "other services' own settings: planned, as deferred, or left alone")
    },
    "groups": {
        "refresh": Setting(
            Flag(), "replace a group's exposed instances by an instance refresh, instead of changing them in place"
        )
    },
}
"""Table to key to setting. Every table but the first can stand in a `[[scope]]` too, and so can `enforce`."""
