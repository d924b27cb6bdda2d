"""JSON with places: where each value stands, and what is not JSON although editors like it.

Source: RFC 8259. Comments and commas before a closing bracket are read past, so that the rest can be judged; each is a
fault, because no service of AWS reads a document that has one. The same holds for a name that stands twice in one
object: readers disagree about which of the two counts.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from json import JSONDecodeError
from json.decoder import scanstring  # type: ignore[attr-defined]
from types import MappingProxyType
from typing import Any

DEPTH_MAX = 100
"""Policies nest six deep."""

_SPACE = re.compile(r"[ \t\r\n]*")
_COMMENT = re.compile(r"//[^\n]*|#[^\n]*|/\*.*?\*/", re.DOTALL)
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?", re.ASCII)
_NUMBER_CHARACTERS_MAX = 400
_WORDS: Mapping[str, Any] = {"true": True, "false": False, "null": None}


@dataclass(frozen=True, slots=True)
class Place:
    """Where something begins; both count from 1, columns in characters."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Fault:
    """What is not JSON. `fatal`: what follows it could not be read."""

    code: str
    message: str
    place: Place
    fatal: bool = False


@dataclass(frozen=True, slots=True)
class Document:
    """A text taken apart. `places` are those of the names (of an object's members) and values by path, written as in
    `Statement[2].Condition`; the path of the whole is empty."""

    value: Any
    places: Mapping[str, Place]
    faults: tuple[Fault, ...]

    @property
    def readable(self) -> bool:
        """Whether there is a value at all."""
        return not any(fault.fatal for fault in self.faults)

    def place(self, path: str) -> Place:
        """Where this path stands, or the closest thing around it."""
        while path and path not in self.places:
            path = path[: max(path.rfind("."), path.rfind("["), 0)]
        return self.places.get(path, Place(1, 1))


def read_json(text: str) -> Document:
    """Take a JSON text apart. Nothing is raised: what is wrong is in `faults`."""
    reader = _Reader(text.removeprefix("\ufeff"))
    value = reader.document()
    return Document(value, MappingProxyType(reader.places), tuple(reader.faults))


class _Stop(Exception):
    """The text cannot be read any further."""


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._lines = [0, *(found.end() for found in re.finditer("\n", text))]
        self.places: dict[str, Place] = {}
        self.faults: list[Fault] = []

    def document(self) -> Any:
        try:
            self._skip()
            value = self._value("", 0)
            self._skip()
            if self._position < len(self._text):
                self._stop("more text follows the end of the document")
        except _Stop:
            return None
        return value

    def _place(self, position: int) -> Place:
        line = bisect_right(self._lines, position)
        return Place(line, position - self._lines[line - 1] + 1)

    def _fault(self, code: str, message: str, position: int) -> None:
        self.faults.append(Fault(code, message, self._place(position)))

    def _stop(self, message: str, position: int | None = None) -> None:
        at = self._position if position is None else position
        self.faults.append(Fault("not-json", message, self._place(at), fatal=True))
        raise _Stop

    def _skip(self) -> None:
        """Past white space, and past comments."""
        while True:
            space = _SPACE.match(self._text, self._position)
            self._position = space.end() if space else self._position
            comment = _COMMENT.match(self._text, self._position)
            if comment is None:
                return
            self._fault("json-comment", "a comment: JSON has none, and AWS refuses the document", self._position)
            self._position = comment.end()

    def _next(self) -> str:
        return self._text[self._position : self._position + 1]

    def _value(self, path: str, depth: int) -> Any:
        if depth > DEPTH_MAX:
            self._stop(f"more than {DEPTH_MAX} brackets deep")
        self.places.setdefault(path, self._place(self._position))
        sign = self._next()
        if sign == "{":
            return self._object(path, depth)
        if sign == "[":
            return self._array(path, depth)
        if sign == '"':
            return self._string()
        number = _NUMBER.match(self._text, self._position)
        if number is not None and len(number[0]) <= _NUMBER_CHARACTERS_MAX:
            self._position = number.end()
            return float(number[0]) if any(mark in number[0] for mark in ".eE") else int(number[0])
        for word, value in _WORDS.items():
            if self._text.startswith(word, self._position):
                self._position += len(word)
                return value
        self._stop("the document ends in the middle" if not sign else f"`{sign}` begins no JSON value")
        return None

    def _string(self) -> str:
        begin, value = self._position, ""
        try:
            value, self._position = scanstring(self._text, begin + 1, True)
        except JSONDecodeError as error:
            open_ended = error.msg.startswith("Unterminated")
            self._stop(
                "a string without an end" if open_ended else error.msg.lower(), begin if open_ended else error.pos
            )
        return str(value)

    def _object(self, path: str, depth: int) -> dict[str, Any]:
        members: dict[str, Any] = {}
        self._position += 1
        self._skip()
        while self._next() != "}":
            begin = self._position
            if self._next() != '"':
                self._stop(
                    "the document ends in the middle" if not self._next() else "a name in double quotes is missing"
                )
            name = self._string()
            if name in members:
                self._fault("json-duplicate-key", f"`{name}` stands twice in one object: AWS refuses it", begin)
            inner = f"{path}.{name}" if path else name
            self.places[inner] = self._place(begin)
            self._skip()
            if self._next() != ":":
                self._stop(f"`:` is missing after `{name}`")
            self._position += 1
            self._skip()
            members[name] = self._value(inner, depth + 1)
            self._comma("}")
        self._position += 1
        return members

    def _array(self, path: str, depth: int) -> list[Any]:
        values: list[Any] = []
        self._position += 1
        self._skip()
        while self._next() != "]":
            values.append(self._value(f"{path}[{len(values)}]", depth + 1))
            self._comma("]")
        self._position += 1
        return values

    def _comma(self, end: str) -> None:
        """A comma and another value, or the end."""
        self._skip()
        if self._next() == end:
            return
        comma = self._position
        if self._next() != ",":
            self._stop("the document ends in the middle" if not self._next() else f"`,` or `{end}` is missing")
        self._position += 1
        self._skip()
        if self._next() == end:
            self._fault("json-trailing-comma", f"a comma before `{end}`: JSON allows none, and AWS refuses it", comma)
