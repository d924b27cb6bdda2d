"""What the user wants the fleet to be. Read from TOML; every mistake in it is reported, together."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, TypeVar

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.observations import Target
from imdsctl.domain.options import HOP_LIMIT_MAX, HOP_LIMIT_MIN, HttpTokens, MetadataOptions, Switch
from imdsctl.domain.toml_text import parse_toml, place

INTENT_VERSION = 1
E = TypeVar("E", bound=StrEnum)
_REQUIRED = MetadataOptions(http_tokens=HttpTokens.REQUIRED)


class Images(StrEnum):
    """What to do with the account's own images. `v2.0` cannot be undone: AWS has no way back."""

    LEAVE = "leave"
    V2 = "v2.0"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one surface should say. An option that is None is left as it is; the hop limit is only ever raised."""

    options: MetadataOptions = _REQUIRED
    """Never the hop limit, and never `optional`: this tool does not open what is closed."""
    hop_limit_at_least: int | None = None


@dataclass(frozen=True, slots=True)
class Intent:
    """The wanted state per surface. `Intent()` is the built-in one, used when no file is given."""

    region_defaults: Wanted = Wanted(hop_limit_at_least=2)
    enforce: bool = True
    """Turn on HttpTokensEnforced, as the last wave. False leaves it as it is."""
    instances: Wanted = Wanted()
    launch_templates: Wanted = Wanted()
    explicit_templates: bool = False
    """True: a template has to say the options itself, though the Region default would decide the same."""
    images: Images = Images.LEAVE
    container_hop_limit_at_least: int | None = 2
    exclude_accounts: frozenset[str] = frozenset()
    exclude_regions: frozenset[str] = frozenset()
    exclude_resources: frozenset[str] = frozenset()

    def excludes(self, target: Target) -> bool:
        """True when the whole account or Region is left alone."""
        return target.account_id in self.exclude_accounts or target.region in self.exclude_regions

    def to_plain(self) -> dict[str, Any]:
        """The intent in the words of its file, with nothing left to a default; `parse_document` reads it back."""
        return {
            "version": INTENT_VERSION,
            "enforce": self.enforce,
            "region-defaults": _wanted_to_plain(self.region_defaults, _DEFAULTS_OPTIONS),
            "instances": _wanted_to_plain(self.instances, _ALL_OPTIONS),
            "launch-templates": {
                **_wanted_to_plain(self.launch_templates, _ALL_OPTIONS),
                "explicit": self.explicit_templates,
            },
            "images": {"imds-support": str(self.images)},
            "containers": {_HOP: self.container_hop_limit_at_least or LEAVE},
            "exclude": {
                name: sorted(getattr(self, f"exclude_{name}")) for name in ("accounts", "regions", "resources")
            },
        }


LEAVE = "leave"
_HOP = "hop-limit-at-least"
_OPTION_KEYS: dict[str, tuple[str, type[StrEnum], tuple[str, ...]]] = {
    "http-tokens": ("http_tokens", HttpTokens, ("required",)),
    "http-endpoint": ("http_endpoint", Switch, ("disabled",)),
    "http-protocol-ipv6": ("http_protocol_ipv6", Switch, ("enabled", "disabled")),
    "instance-metadata-tags": ("instance_metadata_tags", Switch, ("enabled", "disabled")),
}
"""Key to (field, enumeration, values that may be wanted). `optional` would allow IMDSv1, and wanting every endpoint
`enabled` would switch on those that somebody switched off: neither can be said."""
_ALL_OPTIONS = tuple(_OPTION_KEYS)
_DEFAULTS_OPTIONS = ("http-tokens", "http-endpoint", "instance-metadata-tags")
"""A Region default has no HttpProtocolIpv6."""
_ACCOUNT = re.compile(r"\d{12}")
_REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-\d+")
_RESOURCE = re.compile(r"(i|lt|ami)-[0-9a-f]{8,17}")


def parse_intent(text: str, name: str = "intent") -> Intent:
    """An intent file's text to an Intent; `name` is the file's name for diagnostics.

    Raises DiagnosticError (exit code 2) with every problem found: `intent-syntax` or `intent-invalid`.
    """
    document = parse_toml(text, name, code="intent-syntax", hint="see docs/guide.md, Intent file")
    return parse_document(document, lambda path: place(text, name, path))


def parse_document(document: Mapping[str, Any], place: Callable[[tuple[str, ...]], str] = ".".join) -> Intent:
    """A decoded intent (TOML or the copy inside a plan) to an Intent; `place` turns a key's path into a subject.

    Raises DiagnosticError (exit code 2) with every problem found.
    """
    reader = _Reader(place)
    top = reader.table(document, (), ("version", "enforce", *_TABLES))
    version = document.get("version")
    if version is None:
        reader.problem(("version",), "`version` is missing", f"start the file with `version = {INTENT_VERSION}`")
    elif type(version) is not int or version != INTENT_VERSION:
        reader.problem(("version",), f"version `{version}` is not known", f"use `version = {INTENT_VERSION}`")
    for name, keys in _TABLES.items():
        if name in top:
            reader.table(top[name], (name,), keys)
    built_in = Intent()
    templates = reader.subtable(top, "launch-templates")
    images = reader.subtable(top, "images")
    containers = reader.subtable(top, "containers")
    exclude = reader.subtable(top, "exclude")
    intent = Intent(
        region_defaults=reader.wanted(top, "region-defaults", built_in.region_defaults, _DEFAULTS_OPTIONS),
        enforce=reader.boolean(top, ("enforce",), built_in.enforce),
        instances=reader.wanted(top, "instances", built_in.instances, _ALL_OPTIONS),
        launch_templates=reader.wanted(top, "launch-templates", built_in.launch_templates, _ALL_OPTIONS),
        explicit_templates=reader.boolean(templates, ("launch-templates", "explicit"), built_in.explicit_templates),
        images=reader.choice(images, ("images", "imds-support"), Images, tuple(Images)) or built_in.images,
        container_hop_limit_at_least=reader.hop_limit(
            containers, ("containers", _HOP), built_in.container_hop_limit_at_least
        ),
        exclude_accounts=reader.names(exclude, "accounts", _ACCOUNT, "twelve digits in quotes"),
        exclude_regions=reader.names(exclude, "regions", _REGION, "a Region such as `eu-west-1`"),
        exclude_resources=reader.names(exclude, "resources", _RESOURCE, "an id such as `i-0123456789abcdef0`"),
    )
    if reader.problems:
        raise DiagnosticError(reader.problems, exit_code=2)
    return intent


_TABLES: dict[str, tuple[str, ...]] = {
    "region-defaults": (*_DEFAULTS_OPTIONS, _HOP),
    "instances": (*_ALL_OPTIONS, _HOP),
    "launch-templates": (*_ALL_OPTIONS, _HOP, "explicit"),
    "images": ("imds-support",),
    "containers": (_HOP,),
    "exclude": ("accounts", "regions", "resources"),
}


class _Reader:
    """Takes a document apart and collects what is wrong instead of stopping at the first problem."""

    def __init__(self, place: Callable[[tuple[str, ...]], str]) -> None:
        self.place = place
        self.problems: list[Diagnostic] = []

    def problem(self, path: tuple[str, ...], summary: str, hint: str) -> None:
        self.problems.append(Diagnostic("intent-invalid", summary, self.place(path), hint))

    def table(self, value: Any, path: tuple[str, ...], known: tuple[str, ...]) -> Mapping[str, Any]:
        if not isinstance(value, Mapping):
            self.problem(path, f"`{'.'.join(path)}` has to be a table", f"write `[{'.'.join(path)}]` on its own line")
            return {}
        for key in value:
            if key not in known:
                self.problem((*path, key), f"`{key}` is not known here", f"known: {', '.join(known)}")
        return value

    def subtable(self, top: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        value = top.get(name, {})
        return value if isinstance(value, Mapping) else {}

    def wanted(self, top: Mapping[str, Any], name: str, built_in: Wanted, keys: tuple[str, ...]) -> Wanted:
        table = self.subtable(top, name)
        given: dict[str, StrEnum | None] = {
            field.name: getattr(built_in.options, field.name) for field in fields(MetadataOptions)
        }
        for key in keys:
            field_name, kind, allowed = _OPTION_KEYS[key]
            if key in table:
                given[field_name] = self.choice(table, (name, key), kind, (*allowed, LEAVE))
        return Wanted(
            MetadataOptions(**given),  # type: ignore[arg-type]
            self.hop_limit(table, (name, _HOP), built_in.hop_limit_at_least),
        )

    def boolean(self, table: Mapping[str, Any], path: tuple[str, ...], built_in: bool) -> bool:
        value = table.get(path[-1], built_in)
        if isinstance(value, bool):
            return value
        self.problem(path, f"`{path[-1]}` is `{value}`", "use true or false, without quotes")
        return built_in

    def choice(
        self, table: Mapping[str, Any], path: tuple[str, ...], kind: type[E], allowed: tuple[str, ...]
    ) -> E | None:
        value = table.get(path[-1])
        if value is None:
            return None
        if not isinstance(value, str) or value not in allowed:
            self.problem(path, f"`{path[-1]}` is `{value}`", "use " + " or ".join(f'"{each}"' for each in allowed))
            return None
        return None if value == LEAVE and LEAVE not in tuple(kind) else kind(value)

    def hop_limit(self, table: Mapping[str, Any], path: tuple[str, ...], built_in: int | None) -> int | None:
        value = table.get(path[-1], built_in)
        if value is None or value == LEAVE:
            return None
        if type(value) is int and HOP_LIMIT_MIN <= value <= HOP_LIMIT_MAX:
            return value
        self.problem(
            path,
            f"`{path[-1]}` is `{value}`",
            f'use a whole number from {HOP_LIMIT_MIN} to {HOP_LIMIT_MAX}, or "{LEAVE}"',
        )
        return built_in

    def names(self, table: Mapping[str, Any], key: str, form: re.Pattern[str], example: str) -> frozenset[str]:
        value = table.get(key, [])
        path = ("exclude", key)
        if not isinstance(value, list):
            self.problem(path, f"`{key}` has to be a list", f"use [...] with {example}")
            return frozenset()
        for each in value:
            if not isinstance(each, str) or not form.fullmatch(each):
                self.problem(path, f"`{each}` in `{key}` is not valid", f"use {example}")
        return frozenset(each for each in value if isinstance(each, str))


def _wanted_to_plain(wanted: Wanted, keys: tuple[str, ...]) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for key in keys:
        value = getattr(wanted.options, _OPTION_KEYS[key][0])
        plain[key] = LEAVE if value is None else str(value)
    plain[_HOP] = wanted.hop_limit_at_least or LEAVE
    return plain
