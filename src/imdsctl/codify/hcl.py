"""Terraform's language, written: strings that stay strings, and the layout that `terraform fmt` leaves as it is.

Source: HCL native syntax specification ("Template Literals", "Quoted Templates"); Terraform, "Style conventions".
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SPECIAL = re.compile(
    r'["\\]|[$%](?=\{)'
    "|[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029\ufeff\ufff9-\ufffb\ud800-\udfff]"
)
_SHORT = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
INDENT = "  "


@dataclass(frozen=True, slots=True)
class Expression:
    """HCL of ours, written as it is: a reference such as `aws.frankfurt`. Never text from elsewhere."""

    text: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function call with one argument."""

    function: str
    argument: Any


@dataclass(frozen=True, slots=True)
class Block:
    """A block: its type, its labels, then attributes (name and value) and blocks, in the order given."""

    kind: str
    labels: tuple[str, ...] = ()
    body: tuple[tuple[str, Any] | Block, ...] = ()


Item: TypeAlias = tuple[str, Any] | Block


def quoted(text: str) -> str:
    """A string literal whose value is `text`, whatever is in it: on one line, and nothing of it is evaluated.

    A lone surrogate, which no file can hold, becomes U+FFFD.
    """
    return f'"{_SPECIAL.sub(_escaped, text)}"'


def _escaped(found: re.Match[str]) -> str:
    character = found.group()
    if character in "$%":
        # `$${` is the escape; after another `$` only the code point is beyond doubt.
        before = found.string[found.start() - 1 : found.start()]
        return f"\\u{ord(character):04x}" if before == character else character * 2
    if "\ud800" <= character <= "\udfff":
        return "\\ufffd"
    return _SHORT.get(character) or f"\\u{ord(character):04x}"


def identifier(*parts: str) -> str:
    """A name that Terraform takes, made of some texts: what is not a letter, digit or underscore becomes one."""
    name = "_".join(filter(None, (re.sub(r"[^A-Za-z0-9]+", "_", part).strip("_") for part in parts)))
    return name if _IDENTIFIER.fullmatch(name) else f"r_{name}"


def expression(value: Any, indent: str = "") -> str:
    """A JSON value, Expression or Call as HCL. Its first line is not indented; the others are, by `indent` and more.

    Raises ValueError for a number that is not finite, TypeError for any other thing.
    """
    match value:
        case Expression():
            return value.text
        case Call():
            return f"{value.function}({expression(value.argument, indent)})"
        case str():
            return quoted(value)
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case float() if not math.isfinite(value):
            raise ValueError(f"{value} has no place in HCL")
        case int() | float():
            return json.dumps(value)
        case Mapping():
            return _object(value, indent)
        case Sequence():
            return _tuple(value, indent)
    raise TypeError(f"{type(value).__name__} has no place in HCL")


def _object(value: Mapping[str, Any], indent: str) -> str:
    if not value:
        return "{}"
    inner = indent + INDENT
    members = [(key if _IDENTIFIER.fullmatch(key) else quoted(key), each) for key, each in value.items()]
    lines = _aligned([(key, expression(each, inner)) for key, each in members], inner)
    return "\n".join(["{", *lines, f"{indent}}}"])


def _tuple(value: Sequence[Any], indent: str) -> str:
    if not value:
        return "[]"
    inner = indent + INDENT
    return "\n".join(["[", *(f"{inner}{expression(each, inner)}," for each in value), f"{indent}]"])


def _aligned(members: Sequence[tuple[str, str]], indent: str) -> Iterator[str]:
    """Assignments; the equals signs of neighbours that fit on a line are below each other."""
    run: list[tuple[str, str]] = []
    for name, text in members:
        if "\n" in text:
            yield from _run(run, indent)
            run = []
            yield f"{indent}{name} = {text}"
        else:
            run.append((name, text))
    yield from _run(run, indent)


def _run(members: Sequence[tuple[str, str]], indent: str) -> Iterator[str]:
    width = max((len(name) for name, _ in members), default=0)
    for name, text in members:
        yield f"{indent}{name.ljust(width)} = {text}"


def block_lines(block: Block, indent: str = "") -> Iterator[str]:
    """A block, line by line (an attribute of several lines is one piece), without line ends."""
    head = " ".join([block.kind, *map(quoted, block.labels)])
    if not block.body:
        yield f"{indent}{head} {{}}"
        return
    yield f"{indent}{head} {{"
    inner = indent + INDENT
    run: list[tuple[str, str]] = []
    for item in block.body:
        if isinstance(item, Block):
            yield from _aligned(run, inner)
            run = []
            yield from block_lines(item, inner)
        else:
            run.append((item[0], expression(item[1], inner)))
    yield from _aligned(run, inner)
    yield f"{indent}}}"


def block_text(block: Block) -> str:
    """A block as text, with its line end."""
    return "\n".join(block_lines(block)) + "\n"


def commented(text: str) -> str:
    """Some lines as comments."""
    return "".join(f"# {line}".rstrip() + "\n" for line in text.splitlines())
