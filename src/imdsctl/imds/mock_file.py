"""The file of `imdsctl imds serve --config`: TOML to a Mock, with every mistake in it reported at once."""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.options import HOP_LIMIT_MAX, HOP_LIMIT_MIN, HttpTokens, MetadataOptions, Switch
from imdsctl.domain.toml_text import parse_toml, place
from imdsctl.imds.facts import EVENT_CODES, MaintenanceEvent, RoleCredentials
from imdsctl.imds.mock import EVENT_STATES, LIFECYCLE_STATES, SPOT_ACTIONS, Notice

HINT = "docs/guide.md, `imdsctl imds serve`, shows the whole file"

ReadFile = Callable[[str], bytes]
"""A file that the config names (from its own folder) to its content. Raises OSError."""


@dataclass(frozen=True, slots=True)
class MockFile:
    """What a config file says. What it does not say is None or empty: the command line and the built-in values count.

    `instance` are values of Facts by field name; the network's are in `network`.
    """

    options: MetadataOptions = field(default_factory=MetadataOptions)
    region: str | None = None
    role: str | None = None
    instance: Mapping[str, Any] = field(default_factory=dict)
    network: Mapping[str, Any] = field(default_factory=dict)
    notices: tuple[Notice, ...] = ()
    credentials: Mapping[str, RoleCredentials] = field(default_factory=dict)
    overrides: Mapping[str, bytes] = field(default_factory=dict)


def parse_mock_file(text: str, name: str, read: ReadFile) -> MockFile:
    """A config file's text; `name` is its name for diagnostics, `read` reads the files it names.

    Raises DiagnosticError (exit code 2): `imds-config-syntax`, or `imds-config-invalid` for every mistake.
    """
    document = parse_toml(text, name, code="imds-config-syntax", hint=HINT)
    reader = _Reader(lambda path: place(text, name, path), read)
    reader.known(document, (), TABLES)
    options = reader.options(reader.table(document, "options"))
    instance = reader.table(document, "instance")
    found = MockFile(
        options=options,
        region=reader.text(instance, ("instance", "region"), REGION, "a Region such as `eu-west-1`"),
        role=reader.text(instance, ("instance", "role"), ROLE, "a role's name"),
        instance=reader.instance(instance),
        network=reader.network(instance),
        notices=reader.notices(document),
        credentials=reader.credentials(document),
        overrides=reader.overrides(document),
    )
    if found.role is not None and found.credentials and found.role not in found.credentials:
        reader.problem(
            ("instance", "role"),
            f"there is no role `{found.role}` under `[roles]`",
            f"known: {', '.join(sorted(found.credentials))}",
        )
    if reader.problems:
        raise DiagnosticError(reader.problems, exit_code=2)
    return found


REGION = re.compile(r"[a-z]{2,}(-[a-z]+)+-\d+")
ROLE = re.compile(r"[\w+=,.@-]{1,64}", re.ASCII)
PATH = re.compile(r"(meta-data|dynamic|user-data)(/[^/\s]+)*")
ANY = re.compile(r".+", re.DOTALL)

TABLES = ("options", "instance", "roles", "spot", "rebalance", "maintenance", "autoscaling", "paths")

TEXTS: dict[str, tuple[str, re.Pattern[str], str]] = {
    "account-id": ("account_id", re.compile(r"\d{12}"), "twelve digits in quotes"),
    "availability-zone": ("availability_zone", re.compile(r"[a-z0-9-]+"), "a zone such as `eu-west-1a`"),
    "availability-zone-id": ("availability_zone_id", re.compile(r"[a-z0-9-]+"), "an id such as `euw1-az1`"),
    "instance-id": ("instance_id", re.compile(r"i-[0-9a-f]{8,17}"), "an id such as `i-0123456789abcdef0`"),
    "instance-type": ("instance_type", re.compile(r"[a-z0-9-]+\.[a-z0-9-]+"), "a type such as `m5.large`"),
    "image-id": ("image_id", re.compile(r"ami-[0-9a-f]{8,17}"), "an id such as `ami-0123456789abcdef0`"),
    "architecture": ("architecture", re.compile(r"i386|x86_64|arm64"), "`x86_64`, `arm64` or `i386`"),
    "reservation-id": ("reservation_id", re.compile(r"r-[0-9a-f]{8,17}"), "an id such as `r-0123456789abcdef0`"),
    "life-cycle": (
        "life_cycle",
        re.compile(r"on-demand|spot|scheduled|capacity-block"),
        "`on-demand`, `spot`, `scheduled` or `capacity-block`",
    ),
    "placement-group": ("placement_group", ANY, "a name"),
}
"""Key to (field of Facts, its form, an example)."""

ADDRESSES = {"private-ipv4": 4, "public-ipv4": 4, "ipv6": 6}
OTHER = ("region", "role", "user-data", "user-data-file", "key-name", "public-key", "tags", *ADDRESSES)


class _Reader:
    """Takes a document apart and collects what is wrong instead of stopping at the first problem."""

    def __init__(self, where: Callable[[tuple[str, ...]], str], read: ReadFile) -> None:
        self.where = where
        self.read = read
        self.problems: list[Diagnostic] = []

    def problem(self, path: tuple[str, ...], summary: str, hint: str) -> None:
        self.problems.append(Diagnostic("imds-config-invalid", summary, self.where(path), hint))

    def known(self, table: Mapping[str, Any], path: tuple[str, ...], keys: tuple[str, ...]) -> None:
        for key in table:
            if key not in keys:
                near = difflib.get_close_matches(key, keys, 1)
                hint = f"did you mean `{near[0]}`?" if near else f"known: {', '.join(keys)}"
                self.problem((*path, key), f"`{key}` is not known here", hint)

    def table(self, parent: Mapping[str, Any], *path: str) -> Mapping[str, Any]:
        value = parent.get(path[-1], {})
        if isinstance(value, Mapping):
            return value
        self.problem(path, f"`{path[-1]}` has to be a table", f"write `[{'.'.join(path)}]` on its own line")
        return {}

    def text(self, table: Mapping[str, Any], path: tuple[str, ...], form: re.Pattern[str], example: str) -> str | None:
        value = table.get(path[-1])
        if value is None or (isinstance(value, str) and form.fullmatch(value)):
            return value
        self.problem(path, f"`{path[-1]}` is `{value}`", f"use {example}")
        return None

    def choice(self, table: Mapping[str, Any], path: tuple[str, ...], allowed: tuple[str, ...]) -> str | None:
        value = table.get(path[-1])
        if value is None or value in allowed:
            return value
        self.problem(path, f"`{path[-1]}` is `{value}`", "use " + " or ".join(f'"{each}"' for each in allowed))
        return None

    def options(self, table: Mapping[str, Any]) -> MetadataOptions:
        keys = ("http-tokens", "hop-limit", "http-endpoint", "http-protocol-ipv6", "instance-metadata-tags")
        self.known(table, ("options",), keys)
        hop_limit = table.get("hop-limit")
        if hop_limit is not None and not (type(hop_limit) is int and HOP_LIMIT_MIN <= hop_limit <= HOP_LIMIT_MAX):
            hint = f"use a whole number from {HOP_LIMIT_MIN} to {HOP_LIMIT_MAX}"
            self.problem(("options", "hop-limit"), f"`hop-limit` is `{hop_limit}`", hint)
            hop_limit = None
        tokens = self.choice(table, ("options", "http-tokens"), tuple(HttpTokens))
        switches = [self.choice(table, ("options", key), tuple(Switch)) for key in keys[2:]]
        return MetadataOptions(
            None if tokens is None else HttpTokens(tokens),
            hop_limit,
            *(None if switch is None else Switch(switch) for switch in switches),
        )

    def instance(self, table: Mapping[str, Any]) -> dict[str, Any]:
        """Values of Facts that are not the network's."""
        self.known(table, ("instance",), (*TEXTS, *OTHER))
        values: dict[str, Any] = {}
        for key, (name, form, example) in TEXTS.items():
            value = self.text(table, ("instance", key), form, example)
            if value is not None:
                values[name] = value
        user_data = self.text(table, ("instance", "user-data"), ANY, "a text")
        if user_data is not None:
            values["user_data"] = user_data.encode()
        file = self.file(table, ("instance", "user-data-file"))
        if file is not None:
            values["user_data"] = file
        key_name, public_key = (
            self.text(table, ("instance", key), ANY, "a text") for key in ("key-name", "public-key")
        )
        if key_name is not None and public_key is not None:
            values["public_key"] = (key_name, public_key)
        elif key_name is not None or public_key is not None:
            self.problem(("instance",), "`key-name` and `public-key` belong together", "give both, or none")
        tags = self.table(table, "instance", "tags")
        for key, value in tags.items():
            if not isinstance(value, str):
                self.problem(("instance", "tags", key), f"the tag `{key}` is `{value}`", "put the value in quotes")
        if "tags" in table:
            values["tags"] = {key: value for key, value in tags.items() if isinstance(value, str)}
        return values

    def network(self, table: Mapping[str, Any]) -> dict[str, str]:
        found = {}
        for key, version in ADDRESSES.items():
            value = table.get(key)
            if value is None:
                continue
            try:
                found[key] = str({4: ipaddress.IPv4Address, 6: ipaddress.IPv6Address}[version](value))
            except ValueError:
                self.problem(("instance", key), f"`{key}` is `{value}`", f"use an IPv{version} address in quotes")
        return found

    def notices(self, document: Mapping[str, Any]) -> tuple[Notice, ...]:
        notices = []
        if "spot" in document:
            table = self.table(document, "spot")
            self.known(table, ("spot",), ("action", *WHEN))
            action = self.choice(table, ("spot", "action"), SPOT_ACTIONS) or SPOT_ACTIONS[0]
            notices.append(self.timed(Notice("spot", action), table, ("spot",)))
        if "rebalance" in document:
            table = self.table(document, "rebalance")
            self.known(table, ("rebalance",), WHEN)
            notices.append(self.timed(Notice("rebalance"), table, ("rebalance",)))
        if "autoscaling" in document:
            table = self.table(document, "autoscaling")
            self.known(table, ("autoscaling",), ("target-lifecycle-state", *WHEN))
            state = self.choice(table, ("autoscaling", "target-lifecycle-state"), LIFECYCLE_STATES)
            notices.append(self.timed(Notice("lifecycle", state or "InService"), table, ("autoscaling",)))
        events = document.get("maintenance", [])
        if not isinstance(events, list) or not all(isinstance(event, Mapping) for event in events):
            self.problem(("maintenance",), "`maintenance` has to be a list of tables", "write `[[maintenance]]`")
            events = []
        return (*notices, *(self.event(event) for event in events))

    def event(self, table: Mapping[str, Any]) -> Notice:
        path = ("maintenance",)
        keys = ("code", "description", "event-id", "state", "not-before", "not-after", "not-before-deadline")
        self.known(table, path, (*keys, *WHEN))
        code = self.choice(table, (*path, "code"), tuple(EVENT_CODES))
        if "code" not in table:
            self.problem(path, "an event needs its `code`", "one of " + ", ".join(EVENT_CODES))
        code = code or next(iter(EVENT_CODES))
        begins, ends, deadline = (self.moment(table, (*path, key)) for key in keys[4:])
        if begins is None:
            if "not-before" not in table and len(table.keys() - {"code", *WHEN}) == 0:
                return self.timed(Notice("event", code), table, path)
            if "not-before" not in table:
                self.problem(path, "an event with details needs its `not-before`", "such as `2026-12-01T10:00:00Z`")
            begins = datetime(2000, 1, 1, tzinfo=UTC)
        event = MaintenanceEvent(
            code,
            self.text(table, (*path, "description"), ANY, "a text") or EVENT_CODES[code],
            self.text(table, (*path, "event-id"), ANY, "a text") or "instance-event-0123456789abcdef0",
            self.choice(table, (*path, "state"), EVENT_STATES) or "active",
            begins,
            ends,
            deadline,
        )
        return self.timed(Notice("event", event), table, path)

    def timed(self, notice: Notice, table: Mapping[str, Any], path: tuple[str, ...]) -> Notice:
        seconds = table.get("after-seconds", 0)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or seconds < 0:
            self.problem((*path, "after-seconds"), f"`after-seconds` is `{seconds}`", "use a number, 0 or more")
            seconds = 0
        return replace(notice, after_seconds=float(seconds), at=self.moment(table, (*path, "at")))

    def moment(self, table: Mapping[str, Any], path: tuple[str, ...]) -> datetime | None:
        value = table.get(path[-1])
        if value is None:
            return None
        if isinstance(value, datetime) and value.tzinfo is not None:
            return value
        self.problem(path, f"`{path[-1]}` is `{value}`", "use a time with its zone, such as `2026-12-01T10:00:00Z`")
        return None

    def credentials(self, document: Mapping[str, Any]) -> dict[str, RoleCredentials]:
        found = {}
        keys = ("access-key-id", "secret-access-key", "session-token", "expires")
        for role in self.table(document, "roles"):
            table = self.table(self.table(document, "roles"), "roles", role)
            path = ("roles", role)
            self.known(table, path, keys)
            values = [self.text(table, (*path, key), ANY, "a text") for key in keys[:3]]
            for key, value in zip(keys, values, strict=False):
                if value is None and key not in table:
                    self.problem(path, f"the role `{role}` lacks its `{key}`", "give all three, or leave the role out")
            expires = self.moment(table, (*path, "expires"))
            given = [value or "" for value in values]
            found[role] = RoleCredentials(datetime(2026, 1, 1, tzinfo=UTC), given[0], given[1], given[2], expires)
        return found

    def overrides(self, document: Mapping[str, Any]) -> dict[str, bytes]:
        found = {}
        for key, value in self.table(document, "paths").items():
            path = ("paths", key)
            if not PATH.fullmatch(key) or {".", ".."} & set(key.split("/")):
                self.problem(
                    path,
                    f"`{key}` is not a path of the metadata",
                    'write it from below the version, as in "meta-data/ami-id" or "dynamic/fws/instance-monitoring"',
                )
            elif isinstance(value, str):
                found[key] = value.encode()
            elif isinstance(value, Mapping) and set(value) == {"file"}:
                found[key] = self.file(value, (*path, "file")) or b""
            else:
                self.problem(path, f"`{key}` is `{value}`", 'use a text, or `{ file = "NAME" }`')
        return found

    def file(self, table: Mapping[str, Any], path: tuple[str, ...]) -> bytes | None:
        name = self.text(table, path, ANY, "a file's name")
        if name is None:
            return None
        try:
            return self.read(name)
        except OSError as error:
            where = path if len(path) == 2 and path[0] == "instance" else path[:-1]
            self.problem(
                where, f"`{name}` cannot be read: {(error.strerror or str(error)).lower()}", "correct its name"
            )
            return None


WHEN = ("after-seconds", "at")
"""When something shows: so many seconds after the service began, or at a time."""
