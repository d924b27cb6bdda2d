"""The condition operators as a table: what a value of the policy means, and whether the operator is a negated one.

Source: IAM User Guide, "IAM JSON policy elements: Condition operators" (the tables of each kind, and whether policy
variables are supported).
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from operator import eq, ge, gt, le, lt
from types import MappingProxyType
from typing import Any

from imdsctl.policy.patterns import arn_like, like
from imdsctl.policy.request import Keys
from imdsctl.policy.variables import Template

Test = Callable[[str, Keys], bool]
"""Does this value of the request match the value of the policy?"""

_REMEMBERED_MAX = 4096


class InvalidValue(ValueError):
    """A value that its operator cannot compare with; the text says what it takes."""


@dataclass(frozen=True, slots=True)
class Operator:
    """`test` compiles one value of the policy (InvalidValue when it cannot); `negated` turns the outcome of all values
    around; `variables` says whether the values may hold policy variables."""

    test: Callable[[Template], Test]
    negated: bool = False
    variables: bool = False


def _text(template: Template) -> str:
    """The text of a template without variables, wildcards being nothing special."""
    return "".join(text for text, _ in template.fixed or ())


def _string(prepare: Callable[[str], str]) -> Callable[[Template], Test]:
    def compile_(template: Template) -> Test:
        if template.fixed is not None:
            wanted = prepare(_text(template))
            return lambda value, keys: prepare(value) == wanted

        def test(value: str, keys: Keys) -> bool:
            pieces = template.resolve(keys)
            return pieces is not None and prepare(value) == prepare("".join(text for text, _ in pieces))

        return test

    return compile_


def _as_it_is(text: str) -> str:
    return text


def _string_like(template: Template) -> Test:
    return template.matcher(like)


def _arn(template: Template) -> Test:
    return template.matcher(arn_like)


def _compared(
    read: Callable[[str], Any], compare: Callable[[Any, Any], bool], takes: str
) -> Callable[[Template], Test]:
    """An operator that reads both sides as a number, a date, ...; what a request has that cannot be read is unequal."""

    def compile_(template: Template) -> Test:
        text = _text(template)
        wanted = read(text)
        if wanted is None:
            raise InvalidValue(f"`{text}` is not {takes}")

        def test(value: str, keys: Keys) -> bool:
            found = read(value)
            return found is not None and compare(found, wanted)

        return test

    return compile_


_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,400}(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?", re.ASCII)


def read_number(text: str) -> int | float | None:
    """A decimal number; None for anything else."""
    if _NUMBER.fullmatch(text) is None:
        return None
    return float(text) if any(mark in text for mark in ".eE") else int(text)


_DATE = re.compile(
    r"(?P<year>[0-9]{4})(?:-(?P<month>[0-9]{2})(?:-(?P<day>[0-9]{2})"
    r"(?:T(?P<hour>[0-9]{2}):(?P<minute>[0-9]{2})(?::(?P<second>[0-9]{2})(?:\.(?P<fraction>[0-9]{1,9}))?)?"
    r"(?P<zone>Z|[+-][0-9]{2}:?[0-9]{2}))?)?)?",
    re.ASCII,
)
_EPOCH = re.compile(r"[0-9]{5,13}(?:\.[0-9]+)?", re.ASCII)


@lru_cache(maxsize=_REMEMBERED_MAX)
def read_date(text: str) -> float | None:
    """Seconds since 1970 of a W3C date (`2026`, `2026-02`, `2026-02-24T10:00:00Z`, ...) or of epoch seconds."""
    if _EPOCH.fullmatch(text):
        return float(text)
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    numbers = {name: int(value) for name, value in found.groupdict().items() if value and name not in _NOT_NUMBERS}
    try:
        moment = datetime(**{"month": 1, "day": 1, **numbers}, tzinfo=UTC)
    except ValueError:
        return None
    return moment.timestamp() + float(f"0.{found['fraction'] or 0}") - _offset_seconds(found["zone"])


_NOT_NUMBERS = ("fraction", "zone")


def _offset_seconds(zone: str | None) -> int:
    if zone is None or zone == "Z":
        return 0
    seconds = int(zone[1:3]) * 3600 + int(zone[-2:]) * 60
    return -seconds if zone[0] == "-" else seconds


def _read_bool(text: str) -> bool | None:
    return {"true": True, "false": False}.get(text.lower())


def _bool(template: Template) -> Test:
    if template.fixed is None:
        return _string(str.lower)(template)
    return _compared(_read_bool, eq, "`true` or `false`")(template)


@lru_cache(maxsize=_REMEMBERED_MAX)
def _read_base64(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return None


@lru_cache(maxsize=_REMEMBERED_MAX)
def _read_address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None


def _ip(template: Template) -> Test:
    text = _text(template)
    try:
        network = ip_network(text, strict=False)
    except ValueError:
        raise InvalidValue(f"`{text}` is not an IP address or a CIDR block") from None

    def test(value: str, keys: Keys) -> bool:
        address = _read_address(value)
        return address is not None and address in network

    return test


def _family(
    positive: str, negative: str, test: Callable[[Template], Test], *, variables: bool = False
) -> dict[str, Operator]:
    return {positive: Operator(test, variables=variables), negative: Operator(test, True, variables)}


def _ordered(prefix: str, read: Callable[[str], Any], takes: str) -> dict[str, Operator]:
    return {
        **_family(f"{prefix}Equals", f"{prefix}NotEquals", _compared(read, eq, takes)),
        f"{prefix}LessThan": Operator(_compared(read, lt, takes)),
        f"{prefix}LessThanEquals": Operator(_compared(read, le, takes)),
        f"{prefix}GreaterThan": Operator(_compared(read, gt, takes)),
        f"{prefix}GreaterThanEquals": Operator(_compared(read, ge, takes)),
    }


OPERATORS: Mapping[str, Operator] = MappingProxyType(
    {
        **_family("StringEquals", "StringNotEquals", _string(_as_it_is), variables=True),
        **_family("StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase", _string(str.lower), variables=True),
        **_family("StringLike", "StringNotLike", _string_like, variables=True),
        **_ordered("Numeric", read_number, "a number"),
        **_ordered("Date", read_date, "a date (ISO 8601, or seconds since 1970)"),
        "Bool": Operator(_bool, variables=True),
        "BinaryEquals": Operator(_compared(_read_base64, eq, "base64")),
        **_family("IpAddress", "NotIpAddress", _ip),
        **_family("ArnEquals", "ArnNotEquals", _arn, variables=True),
        **_family("ArnLike", "ArnNotLike", _arn, variables=True),
    }
)
"""Every operator but `Null`, which looks at the presence of a key, not at its value."""
