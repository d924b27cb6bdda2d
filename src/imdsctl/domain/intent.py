"""What the user wants the fleet to be. Read from TOML; every mistake in it is reported, together."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from typing import Any

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.intent_match import EVERYWHERE, Home
from imdsctl.domain.intent_parts import Exemption, Scope, WaveRule, said_to_plain
from imdsctl.domain.intent_reader import Reader
from imdsctl.domain.intent_settings import AUTO, HOP_AT_LEAST, HOP_EXACTLY, SETTINGS, TOP, Images, Said
from imdsctl.domain.observations import Target
from imdsctl.domain.options import HttpTokens, MetadataOptions
from imdsctl.domain.toml_text import KeyPath, parse_toml, place

__all__ = ["Images", "Intent", "Wanted", "expired", "parse_document", "parse_intent"]

INTENT_VERSION = 1
_REQUIRED = MetadataOptions(http_tokens=HttpTokens.REQUIRED)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What one surface should say. An option that is None is left as it is; the hop limit is only ever raised, unless
    the intent says an exact number."""

    options: MetadataOptions = _REQUIRED
    """Never the hop limit, and never `optional`: this tool does not open what is closed."""
    hop_limit_at_least: int | None = None
    hop_limit_auto: bool = False
    """The floor is what containers need where containers run, else 1; `hop_limit_at_least` is then None."""
    hop_limit_exactly: int | None = None


@dataclass(frozen=True, slots=True)
class Intent:
    """The wanted state per surface. `Intent()` is the built-in one, used when no file is given."""

    region_defaults: Wanted = Wanted(hop_limit_at_least=2)
    enforce: bool = True
    """Turn on HttpTokensEnforced, as the last stage. False leaves it as it is."""
    instances: Wanted = Wanted()
    launch_templates: Wanted = Wanted()
    explicit_templates: bool = False
    """True: a template has to say the options itself, though the Region default would decide the same."""
    move_default: bool = True
    """False: a template gets its new version as `$Latest`, and `$Default` stays where somebody put it."""
    images: Images = Images.LEAVE
    container_hop_limit_at_least: int | None = 2
    services: HttpTokens | None = HttpTokens.REQUIRED
    """What the settings of other services should say. None leaves them alone."""
    refresh_groups: bool = False
    """True: an Auto Scaling group's exposed instances are replaced, by an instance refresh, not changed in place."""
    exclude_accounts: frozenset[str] = frozenset()
    exclude_regions: frozenset[str] = frozenset()
    exclude_resources: frozenset[str] = frozenset()
    scopes: tuple[Scope, ...] = ()
    waves: tuple[WaveRule, ...] = ()
    exemptions: tuple[Exemption, ...] = ()

    def excludes(self, target: Target) -> bool:
        """True when the whole account or Region is left alone."""
        return target.account_id in self.exclude_accounts or target.region in self.exclude_regions

    def at(self, home: Home) -> Intent:
        """What is wanted of an account in a Region as a whole: with the scopes that name no single resource."""
        return self.with_scopes(each for each in self.scopes if not each.match.narrow and each.match.holds_at(home))

    def with_scopes(self, scopes: Iterable[Scope]) -> Intent:
        """What is wanted where these scopes match. The most specific wins, option by option; of two that are equally
        specific, the one that the file says later."""
        intent = self
        for scope in sorted(scopes, key=lambda each: each.match.specificity):
            for said in scope.said:
                intent = _set(intent, said)
        return intent

    def to_plain(self) -> dict[str, Any]:
        """The intent in the words of its file, with nothing left to a default; `parse_document` reads it back."""
        said = tuple(
            (table, key, value)
            for table, keys in SETTINGS.items()
            for key in keys
            for value in [_get(self, table, key)]
        )
        spoken = tuple(each for each in said if each[1] != HOP_EXACTLY or each[2] is not None)
        exact = {table for table, key, _ in spoken if key == HOP_EXACTLY}
        plain: dict[str, Any] = {
            "version": INTENT_VERSION,
            **said_to_plain(tuple(each for each in spoken if not (each[1] == HOP_AT_LEAST and each[0] in exact))),
            "exclude": {
                name: sorted(getattr(self, f"exclude_{name}")) for name in ("accounts", "regions", "resources")
            },
        }
        lists: dict[str, tuple[Scope | WaveRule | Exemption, ...]] = {
            "scope": self.scopes,
            "wave": self.waves,
            "exception": self.exemptions,
        }
        return plain | {name: [each.to_plain() for each in entries] for name, entries in lists.items() if entries}


_WANTED = {"region-defaults": "region_defaults", "instances": "instances", "launch-templates": "launch_templates"}
_FIELDS = {
    (TOP, "enforce"): "enforce",
    ("launch-templates", "explicit"): "explicit_templates",
    ("launch-templates", "move-default"): "move_default",
    ("images", "imds-support"): "images",
    ("containers", HOP_AT_LEAST): "container_hop_limit_at_least",
    ("services", "http-tokens"): "services",
    ("groups", "refresh"): "refresh_groups",
}


def _set(intent: Intent, said: Said) -> Intent:
    table, key, value = said
    if (table, key) in _FIELDS:
        return replace(intent, **{_FIELDS[table, key]: value})
    wanted: Wanted = getattr(intent, _WANTED[table])
    if key == HOP_EXACTLY:
        wanted = replace(wanted, hop_limit_at_least=None, hop_limit_auto=False, hop_limit_exactly=value)
    elif key == HOP_AT_LEAST:
        floor = None if value == AUTO else value
        wanted = replace(wanted, hop_limit_at_least=floor, hop_limit_auto=value == AUTO, hop_limit_exactly=None)
    else:
        options = replace(wanted.options, **{SETTINGS[table][key].field: value})
        wanted = replace(wanted, options=options)
    changed: dict[str, Any] = {_WANTED[table]: wanted}
    return replace(intent, **changed)


def _get(intent: Intent, table: str, key: str) -> Any:
    if (table, key) in _FIELDS:
        return getattr(intent, _FIELDS[table, key])
    wanted: Wanted = getattr(intent, _WANTED[table])
    if key == HOP_EXACTLY:
        return wanted.hop_limit_exactly
    if key == HOP_AT_LEAST:
        return AUTO if wanted.hop_limit_auto else wanted.hop_limit_at_least
    return getattr(wanted.options, SETTINGS[table][key].field)


ACCOUNT_FORM = re.compile(r"\d{12}")
REGION_FORM = re.compile(r"[a-z]{2,}(-[a-z]+)+-\d+")
RESOURCE_FORM = re.compile(r"(i|lt|ami)-[0-9a-f]{8,17}")
EXCLUDE_KEYS = ("accounts", "regions", "resources")
TOP_KEYS = (
    "version",
    "enforce",
    *(table for table in SETTINGS if table != TOP),
    "exclude",
    "scope",
    "wave",
    "exception",
)


def parse_intent(text: str, name: str = "intent") -> Intent:
    """An intent file's text to an Intent; `name` is the file's name for diagnostics.

    Raises DiagnosticError (exit code 2) with every problem found: `intent-syntax` or `intent-invalid`.
    """
    document = parse_toml(text, name, code="intent-syntax", hint="see docs/guide.md, Intent file")
    return _parse(document, lambda path: place(text, name, path), with_places=False)


def parse_document(document: Mapping[str, Any]) -> Intent:
    """The copy of an intent inside a plan (`to_plain`). Raises DiagnosticError (exit code 2) with every problem."""
    return _parse(document, lambda path: ".".join(str(key) for key in path), with_places=True)


def _parse(document: Mapping[str, Any], place: Callable[[KeyPath], str], *, with_places: bool) -> Intent:
    reader = Reader(place)
    reader.known(document, (), TOP_KEYS)
    version = document.get("version")
    if version is None:
        reader.problem(("version",), "`version` is missing", f"start the file with `version = {INTENT_VERSION}`")
    elif type(version) is not int or version != INTENT_VERSION:
        reader.problem(("version",), f"version `{version}` is not known", f"use `version = {INTENT_VERSION}`")
    exclude = reader.table(document.get("exclude", {}), ("exclude",))
    reader.known(exclude, ("exclude",), EXCLUDE_KEYS)
    intent = Intent(
        exclude_accounts=reader.names(exclude, ("exclude", "accounts"), ACCOUNT_FORM, "twelve digits in quotes"),
        exclude_regions=reader.names(exclude, ("exclude", "regions"), REGION_FORM, "a Region such as `eu-west-1`"),
        exclude_resources=reader.names(
            exclude, ("exclude", "resources"), RESOURCE_FORM, "an id such as `i-0123456789abcdef0`"
        ),
        scopes=tuple(reader.scope(each, ("scope", n)) for n, each in enumerate(reader.tables(document, "scope"))),
        waves=tuple(reader.wave(each, ("wave", n)) for n, each in enumerate(reader.tables(document, "wave"))),
        exemptions=tuple(
            reader.exemption(each, ("exception", n), with_place=with_places)
            for n, each in enumerate(reader.tables(document, "exception"))
        ),
    )
    for said in reader.said(document, ()):
        intent = _set(intent, said)
    _check_waves(reader, intent.waves)
    if reader.problems:
        raise DiagnosticError(sorted(reader.problems, key=_line), exit_code=2)
    return intent


def _check_waves(reader: Reader, waves: tuple[WaveRule, ...]) -> None:
    seen: dict[str, int] = {}
    for number, rule in enumerate(waves):
        if rule.wave.name and rule.wave.name in seen:
            hint = "give every wave a name of its own"
            reader.problem(("wave", number, "name"), f"there are two waves `{rule.wave.name}`", hint)
        seen.setdefault(rule.wave.name, number)
        if rule.match == EVERYWHERE and number < len(waves) - 1:
            summary = f"wave `{rule.wave.name}` matches everything, so that those after it stay empty"
            reader.problem(("wave", number), summary, "give it a `match`, or put it last")


def _line(problem: Diagnostic) -> int:
    line = (problem.subject or "").rpartition(":")[2]
    return int(line) if line.isdecimal() else 0


def expired(intent: Intent, at: datetime) -> tuple[Diagnostic, ...]:
    """Exceptions that no longer hold: what they match is planned again, and `verify` fails until somebody decides."""
    return tuple(
        Diagnostic(
            "exception-expired",
            f"the exception of {each.owner} for {each.match} expired on {each.expires.isoformat()} ({each.reason})",
            each.place or None,
            "carry the change out and delete the entry, or agree with its owner on a new `expires`",
        )
        for each in intent.exemptions
        if not each.holds(at)
    )


assert {field.name for field in fields(Intent)} >= {*_WANTED.values(), *_FIELDS.values()}
