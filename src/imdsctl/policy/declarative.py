"""Declarative policies for EC2: what an organization sets for its accounts, merged from the root down.

Source: AWS Organizations User Guide, "Inheritance operators", "Inheritance examples" and "EC2 policy syntax and
examples". The inheritance is the same for every management policy; what may be set is EC2's.

From the root down, a value-setting operator (`@@assign`, `@@append`, `@@remove`) works on what was inherited, unless a
policy further up forbade it with `@@operators_allowed_for_child_policies`; a prohibition can be narrowed, never
lifted. Policies at one place do not forbid each other anything: they are read in the order of attachment, the first
`@@assign` of a setting wins, and what they allow below is the intersection. A prohibition on a group of settings
covers everything in it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any

from imdsctl.domain.options import (
    HOP_LIMIT_MAX,
    HOP_LIMIT_MIN,
    HOP_LIMIT_NO_PREFERENCE,
    AccountDefaults,
    HttpTokens,
    Switch,
)
from imdsctl.policy.json_text import read_document
from imdsctl.policy.problems import MalformedPolicy, Problem

ROOT_ELEMENT = "ec2_attributes"
METADATA_DEFAULTS = "instance_metadata_defaults"
EXCEPTION_MESSAGE = "exception_message"
NO_PREFERENCE = "no_preference"
"""The policy's spelling; the API writes `no-preference`."""

DEFAULT_EXCEPTION_MESSAGE = "This action is denied due to an organizational policy in effect"
"""What an account reads when no policy brings a message of its own."""

MANAGED_BY = "declarative-policy"

OTHER_ATTRIBUTES = frozenset(
    {
        "allowed_images_settings",
        "image_block_public_access",
        "serial_console_access",
        "snapshot_block_public_access",
        "vpc_block_public_access",
    }
)
"""Attributes that AWS has beside the metadata defaults: inherited here like any other, their values not checked."""

ASSIGN, APPEND, REMOVE = "@@assign", "@@append", "@@remove"
CHILD_CONTROL = "@@operators_allowed_for_child_policies"
_SETTERS = frozenset({ASSIGN, APPEND, REMOVE})
_ALL, _NONE = "@@all", "@@none"

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """One name of a policy: what its operators set, and what it allows policies further down (None: not said)."""

    path: Path
    setters: Mapping[str, Any]
    allowed_below: frozenset[str] | None


@dataclass(frozen=True, slots=True)
class DeclarativePolicy:
    """A checked policy. `name` is how findings refer to it; `nodes` are its names from the outside in."""

    name: str
    nodes: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Ignored:
    """An operator that had no effect because a policy further up, or one attached earlier, has the say."""

    policy: str
    path: str
    operator: str


@dataclass(frozen=True, slots=True)
class Setting:
    """A value of the effective policy and the policies that made it."""

    value: Any
    policies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Conflict:
    """What makes an effective policy invalid: a setting that contradicts what was inherited, and so has no effect.

    Each policy is right by itself. AWS names one code only (`ELEMENTS_TOO_MANY`); these are ours.
    """

    code: str
    message: str
    path: str
    policies: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EffectivePolicy:
    """What holds for one account: `settings` by path, what was ignored on the way, and what contradicts itself."""

    settings: Mapping[Path, Setting]
    ignored: tuple[Ignored, ...] = ()
    conflicts: tuple[Conflict, ...] = ()

    @property
    def document(self) -> dict[str, Any]:
        """The document of DescribeEffectivePolicy: values without operators. Empty when no policy sets anything."""
        root: dict[str, Any] = {}
        for path, setting in self.settings.items():
            inner = root
            for name in path[:-1]:
                inner = inner.setdefault(name, {})
            inner[path[-1]] = setting.value
        return root

    @property
    def manages_metadata_defaults(self) -> bool:
        """True when the account may not change its own defaults any more."""
        return any(path[:-1] == (ROOT_ELEMENT, METADATA_DEFAULTS) for path in self.settings)

    @property
    def exception_message(self) -> str:
        """What a refused account reads."""
        setting = self.settings.get((ROOT_ELEMENT, EXCEPTION_MESSAGE))
        return setting.value if setting is not None else DEFAULT_EXCEPTION_MESSAGE

    def over(self, own: AccountDefaults) -> AccountDefaults:
        """The account's own defaults with the policy laid over them.

        Keep `own` beside the result: detaching the policy gives it back unchanged. An option that the policy does not
        name stays the account's own; `no_preference` and -1 take a preference away.
        """
        if not self.manages_metadata_defaults:
            return own
        managed: dict[str, Any] = {
            name: read(self.settings[path].value)
            for name, read in _READ.items()
            if (path := (ROOT_ELEMENT, METADATA_DEFAULTS, name)) in self.settings
        }
        return replace(own, managed_by=MANAGED_BY, managed_exception_message=self.exception_message, **managed)


NOTHING_DECLARED = EffectivePolicy(MappingProxyType({}))
"""What holds where no policy is attached."""


def parse_declarative_policy(document: str | Mapping[str, Any], *, name: str) -> DeclarativePolicy:
    """Check a policy. Raises MalformedPolicy with every problem that was found; its size is limits.py's business."""
    value = read_document(document)
    problems: list[Problem] = []
    nodes: list[Node] = []
    if not value:
        problems.append(Problem("missing-element", f"`{ROOT_ELEMENT}` is missing"))
    for element, inner in value.items():
        if element != ROOT_ELEMENT:
            problems.append(Problem("unknown-element", f"`{element}` is not `{ROOT_ELEMENT}`", element))
        else:
            nodes += _nodes(inner, (element,), problems)
    if problems:
        raise MalformedPolicy(problems)
    return DeclarativePolicy(name, tuple(nodes))


def effective_policy(levels: Sequence[Sequence[DeclarativePolicy]]) -> EffectivePolicy:
    """Merge what is attached from the root (first) to the account (last), each level in order of attachment."""
    settings: dict[Path, Setting] = {}
    allowed: dict[Path, frozenset[str]] = {}
    ignored: list[Ignored] = []
    conflicts: list[Conflict] = []
    for level in levels:
        assigned: set[Path] = set()
        narrowed: dict[Path, frozenset[str]] = {}
        for policy in level:
            for node in policy.nodes:
                permitted = _permitted(allowed, node.path)
                for operator, operand in node.setters.items():
                    late = operator == ASSIGN and node.path in assigned
                    if operator not in permitted or late:
                        ignored.append(Ignored(policy.name, ".".join(node.path), operator))
                        continue
                    conflict = _conflict(settings, node.path, operator, policy.name)
                    if conflict is not None:
                        conflicts.append(conflict)
                        ignored.append(Ignored(policy.name, ".".join(node.path), operator))
                        continue
                    _apply(settings, node.path, operator, operand, policy.name)
                    if operator == ASSIGN:
                        assigned.add(node.path)
                if node.allowed_below is not None:
                    narrowed[node.path] = narrowed.get(node.path, _SETTERS) & node.allowed_below
        for path, operators in narrowed.items():
            allowed[path] = allowed.get(path, _SETTERS) & operators
    return EffectivePolicy(MappingProxyType(settings), tuple(ignored), tuple(conflicts))


# -- merging ---------------------------------------------------------------------------------------------------------


def _permitted(allowed: Mapping[Path, frozenset[str]], path: Path) -> frozenset[str]:
    """What policies further up leave to this setting: their word on it and on every group around it."""
    permitted = _SETTERS
    for length in range(1, len(path) + 1):
        permitted &= allowed.get(path[:length], _SETTERS)
    return permitted


def _conflict(settings: Mapping[Path, Setting], path: Path, operator: str, policy: str) -> Conflict | None:
    """Why the operator cannot work on what was inherited; None when it can."""
    for other, setting in settings.items():
        shorter = min(len(path), len(other))
        if len(path) != len(other) and path[:shorter] == other[:shorter]:
            message = f"`{'.'.join(path[:shorter])}` is a value in one policy and a group of settings in another"
            return Conflict("TYPE_MISMATCH", message, ".".join(path), (*setting.policies, policy))
    inherited = settings.get(path)
    if operator != ASSIGN and inherited is not None and not isinstance(inherited.value, list):
        message = f"`{operator}` works on a list; the inherited value is none"
        return Conflict("TYPE_MISMATCH", message, ".".join(path), (*inherited.policies, policy))
    return None


def _apply(settings: dict[Path, Setting], path: Path, operator: str, operand: Any, policy: str) -> None:
    inherited = settings.get(path)
    if operator == ASSIGN:
        settings[path] = Setting(operand, (policy,))
        return
    values = [] if inherited is None else list(inherited.value)
    policies = (*(inherited.policies if inherited else ()), policy)
    if operator == APPEND:
        values += [value for value in operand if value not in values]
    else:
        values = [value for value in values if value not in operand]
    if values:
        settings[path] = Setting(values, policies)
    else:
        settings.pop(path, None)


# -- checking --------------------------------------------------------------------------------------------------------


def _nodes(value: Any, path: Path, problems: list[Problem]) -> Iterator[Node]:
    place = ".".join(path)
    if not isinstance(value, Mapping):
        problems.append(Problem("wrong-type", 'must be an object: a value is written {"@@assign": ...}', place))
        return
    setters = {name: operand for name, operand in value.items() if name in _SETTERS}
    inner = {name: each for name, each in value.items() if not name.startswith("@@")}
    for name in value:
        if name.startswith("@@") and name not in _SETTERS and name != CHILD_CONTROL:
            problems.append(Problem("unknown-operator", f"`{name}` is not an inheritance operator", f"{place}.{name}"))
    if setters and inner:
        problems.append(Problem("conflicting-elements", "holds both a value and further settings", place))
    if not setters and not inner and CHILD_CONTROL not in value:
        problems.append(Problem("missing-element", "sets nothing", place))
    for operator, operand in setters.items():
        problems += _check_setter(path, operator, operand)
    allowed_below = None
    if CHILD_CONTROL in value:
        allowed_below = _allowed_below(value[CHILD_CONTROL], f"{place}.{CHILD_CONTROL}", problems)
    yield Node(path, MappingProxyType(setters), allowed_below)
    for name, each in inner.items():
        if _is_known(path, name):
            yield from _nodes(each, (*path, name), problems)
        else:
            problems.append(Problem("unknown-element", f"`{name}` cannot be set here", f"{place}.{name}"))


def _is_known(path: Path, name: str) -> bool:
    if path == (ROOT_ELEMENT,):
        return name in (METADATA_DEFAULTS, EXCEPTION_MESSAGE) or name in OTHER_ATTRIBUTES
    if path == (ROOT_ELEMENT, METADATA_DEFAULTS):
        return name in _CHECKS
    return path[1] in OTHER_ATTRIBUTES


def _allowed_below(value: Any, place: str, problems: list[Problem]) -> frozenset[str] | None:
    names = value if isinstance(value, list | tuple) else None
    if not names or not all(isinstance(each, str) for each in names):
        problems.append(Problem("wrong-type", "must be a list of operators", place))
        return None
    unknown = [each for each in names if each not in _SETTERS and each not in (_ALL, _NONE)]
    problems += [Problem("unknown-operator", f"`{each}` is not a value-setting operator", place) for each in unknown]
    if len(names) > 1 and (_ALL in names or _NONE in names):
        problems.append(Problem("conflicting-elements", f"`{_ALL}` and `{_NONE}` stand alone", place))
    return _SETTERS if _ALL in names else frozenset() if _NONE in names else frozenset(names)


def _check_setter(path: Path, operator: str, operand: Any) -> Iterator[Problem]:
    place = f"{'.'.join(path)}.{operator}"
    if (len(path) == 3 and path[1] == METADATA_DEFAULTS) or path == (ROOT_ELEMENT, EXCEPTION_MESSAGE):
        if operator != ASSIGN:
            yield Problem("wrong-operator", f"`{operator}` is for lists; this setting has one value", place)
            return
        check = _CHECKS.get(path[-1], _MESSAGE)
        if not check.accepts(operand):
            yield Problem("invalid-value", f"`{operand}` is not valid: use {check.takes}", place)
    elif len(path) < 3 and (len(path) == 1 or path[1] == METADATA_DEFAULTS):
        yield Problem("wrong-type", "is a group of settings, not a value", place)
    elif operator != ASSIGN and not isinstance(operand, list):
        yield Problem("wrong-type", f"`{operator}` takes a list", place)


@dataclass(frozen=True, slots=True)
class _Check:
    takes: str
    values: frozenset[str] = field(default=frozenset())

    def accepts(self, value: Any) -> bool:
        return isinstance(value, str) and (not self.values or value in self.values)


class _HopLimitCheck(_Check):
    def accepts(self, value: Any) -> bool:
        return _hop_limit_number(value) is not None


_WHOLE = re.compile(r"-?[0-9]{1,3}", re.ASCII)


def _hop_limit_number(value: Any) -> int | None:
    """AWS's examples write the number as a string; a JSON number is read as well."""
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        return None
    return value if value == HOP_LIMIT_NO_PREFERENCE or HOP_LIMIT_MIN <= value <= HOP_LIMIT_MAX else None


def _one_of(*values: str) -> _Check:
    return _Check(" or ".join(f"`{value}`" for value in values), frozenset(values))


_MESSAGE = _Check("a string")
_SWITCH = _one_of(NO_PREFERENCE, *Switch)
_CHECKS: Mapping[str, _Check] = MappingProxyType(
    {
        "http_tokens": _one_of(NO_PREFERENCE, *HttpTokens),
        "http_put_response_hop_limit": _HopLimitCheck("a whole number from 1 to 64, or -1 for no preference"),
        "http_endpoint": _SWITCH,
        "instance_metadata_tags": _SWITCH,
        "http_tokens_enforced": _SWITCH,
    }
)
"""The settings of `instance_metadata_defaults`; the names are those of AccountDefaults."""


def _read_hop_limit(value: Any) -> int | None:
    number = _hop_limit_number(value)
    return None if number == HOP_LIMIT_NO_PREFERENCE else number


def _read_switch(value: str) -> Switch | None:
    return None if value == NO_PREFERENCE else Switch(value)


_READ = MappingProxyType(
    {
        "http_tokens": lambda value: None if value == NO_PREFERENCE else HttpTokens(value),
        "http_put_response_hop_limit": _read_hop_limit,
        "http_endpoint": _read_switch,
        "instance_metadata_tags": _read_switch,
        "http_tokens_enforced": _read_switch,
    }
)
"""A setting's value as the domain has it."""
