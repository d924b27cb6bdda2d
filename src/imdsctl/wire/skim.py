"""A quick reader for the XML that AWS writes: the wanted members are read, everything else is passed over.

AWS's replies are plain: elements without attributes, text, the five entities. For such a document a regular
expression that was compiled from the shape and the projection is three to four times as quick as building a tree. A
document that holds anything else (an attribute, a comment, CDATA, a document type, a prefix, an element inside one of
the same name, a character that XML may not hold) raises `Unusual`, and so does one that is cut or has a value of the
wrong type: it belongs to the real parser, which reads it or says what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from imdsctl.wire.errors import WireError

Skim: TypeAlias = Callable[[str, int], "tuple[Any, int]"]
"""Reads an element's content from the position behind its start tag; gives the value and the position of `</`."""

Member: TypeAlias = "tuple[str, bool, Callable[[str], Any] | None, Skim | None]"
"""Python name, whether it is a flattened list, parser of a text (None: text is the value), skim of anything else."""

_NAME: Final = r"[A-Za-z_][A-Za-z0-9_.-]*+"
_ENTITY: Final = re.compile(r"&(?:(amp|lt|gt|quot|apos)|#([0-9]{1,7})|#x([0-9A-Fa-f]{1,6}));")
_ENTITIES: Final = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_LEAF: Final = re.compile(rf"\s*+<({_NAME})(?:/>|>([^<]*+)</\1>)|(\S)")


CONTENTS_REMEMBERED_MAX: Final = 2048
CONTENT_REMEMBERED_MAX: Final = 512
"""So many contents of one kind of element are remembered, each of so many characters at most."""


class Unusual(Exception):
    """The document is not of the plain kind: give it to the parser."""


def text_of(raw: str) -> str:
    """An element's text. Raises `Unusual` for what is not plain."""
    if "&" in raw:
        if _ENTITY.sub("", raw).find("&") >= 0:
            raise Unusual
        raw = _ENTITY.sub(_entity, raw)
        if not raw.isprintable():
            raise Unusual
        return raw
    # White space that XML normalises, control characters that it forbids, and what only Unicode calls unprintable.
    if not raw.isprintable():
        raise Unusual
    return raw


def _entity(match: re.Match[str]) -> str:
    name, decimal, hexadecimal = match.groups()
    if name:
        return _ENTITIES[name]
    try:
        return chr(int(decimal) if decimal else int(hexadecimal, 16))
    except ValueError:
        raise Unusual from None


def structure(members: Mapping[str, Member]) -> Skim:
    """A reader of a structure, by tag."""
    if all(skim is None and not many for _, many, _, skim in members.values()):
        return Leaves({tag: (name, parse) for tag, (name, _, parse, _) in members.items()})
    return _mixed(members)


class Leaves:
    """A structure of which only texts are wanted.

    States, options and tags are written the same way again and again: what was read once is looked up by its text.
    """

    __slots__ = ("_known", "_read")

    def __init__(self, members: Mapping[str, tuple[str, Callable[[str], Any] | None]]) -> None:
        self._read = _leaves(members)
        self._known: dict[str, dict[str, Any]] = {}

    def __call__(self, text: str, position: int) -> tuple[dict[str, Any], int]:
        return self._read(text, position)

    def inside(self, text: str, position: int, close: str) -> tuple[dict[str, Any], int]:
        """The same for content that ends with `close`; gives the position behind that."""
        end = text.find(close, position)
        if end < 0:
            raise Unusual
        content = text[position:end]
        known = self._known.get(content)
        if known is None:
            known, ended = self._read(text, position)
            if ended != end:  # there is an element of that name inside
                if not text.startswith(close, ended):
                    raise Unusual
                return known, ended + len(close)
            if len(content) <= CONTENT_REMEMBERED_MAX:
                if len(self._known) >= CONTENTS_REMEMBERED_MAX:
                    self._known.clear()
                self._known[content] = known
        return known.copy(), end + len(close)


def _leaves(members: Mapping[str, tuple[str, Callable[[str], Any] | None]]) -> Skim:
    """All children are taken in one go when they are texts, as they mostly are."""
    step = _step(members)
    run = re.compile(rf"(?:\s*+<({_NAME})(?:/>|>[^<]*+</\1>))*+\s*+(?=</)")

    def read(text: str, position: int) -> tuple[dict[str, Any], int]:
        result: dict[str, Any] = {}
        whole = run.match(text, position)
        if whole is not None:
            end = whole.end()
            for tag, raw, _ in _LEAF.findall(text, position, end):
                entry = members.get(tag)
                if entry is not None:
                    name, parse = entry
                    value = raw if raw.isalnum() else text_of(raw)
                    result[name] = value if parse is None else parse(value)
            return result, end
        while True:
            match = step(text, position)
            if match is None:
                raise Unusual
            tag, closed, raw = match.group(2, 3, 4)
            if tag is None:
                return result, match.end() - 2
            if raw is None and not closed:
                raise Unusual
            name, parse = members[tag]
            value = text_of(raw or "")
            result[name] = value if parse is None else parse(value)
            position = match.end()

    return read


def _mixed(members: Mapping[str, Member]) -> Skim:
    step = _step(members)
    closes = {tag: f"</{tag}>" for tag in members}

    def read(text: str, position: int) -> tuple[dict[str, Any], int]:
        result: dict[str, Any] = {}
        while True:
            match = step(text, position)
            if match is None:
                raise Unusual
            tag, closed, raw = match.group(2, 3, 4)
            position = match.end()
            if tag is None:
                return result, position - 2
            name, many, parse, skim = members[tag]
            if skim is None:
                if raw is None and not closed:
                    raise Unusual
                value: Any = text_of(raw) if raw else ""
                if parse is not None:
                    value = parse(value)
            elif raw is None and not closed:
                close = closes[tag]
                if skim.__class__ is Leaves:
                    value, position = skim.inside(text, position, close)
                else:
                    value, position = skim(text, position)
                    if not text.startswith(close, position):
                        raise Unusual
                    position += len(close)
            elif raw and not raw.isspace():
                raise Unusual
            else:
                value, _ = skim("</", 0)
            if many:
                result.setdefault(name, []).append(value)
            else:
                result[name] = value

    return read


def _step(members: Mapping[str, object]) -> Callable[[str, int], re.Match[str] | None]:
    """Passes over unwanted siblings, then takes a wanted one (2: its tag, 3: `/`, 4: its text) or `</`."""
    wanted = "|".join(re.escape(tag) for tag in members)
    unwanted = (
        rf"(?:\s*+<(?!(?:{wanted})[>/\s])({_NAME})"
        r"(?:/>|>[^<]*+(?:</\1>|<(?![!?]|\1[>/\s])[^<]*+(?:<(?![!?]|/?\1[>/\s])[^<]*+)*+</\1>)))*+"
    )
    return re.compile(rf"{unwanted}\s*+<(?:({wanted})(?:(/)>|>(?:([^<]*+)</\2>)?)|/)").match


def wrapped_list(tag: str, parse: Callable[[str], Any] | None, skim: Skim | None) -> Skim:
    """A reader of `<set><item>...</item></set>`'s content; `tag` is the item's."""
    step = re.compile(rf"\s*+<(?:({re.escape(tag)})(?:(/)>|>(?:([^<]*+)</\1>)?)|/)").match
    close = f"</{tag}>"
    inside = skim.inside if isinstance(skim, Leaves) else None

    def read(text: str, position: int) -> tuple[list[Any], int]:
        result: list[Any] = []
        while True:
            match = step(text, position)
            if match is None:
                raise Unusual
            found, closed, raw = match.groups()
            position = match.end()
            if found is None:
                return result, position - 2
            if skim is None:
                if raw is None and not closed:
                    raise Unusual
                value: Any = text_of(raw or "")
                if parse is not None:
                    value = parse(value)
            elif raw is None and not closed:
                if inside is not None:
                    value, position = inside(text, position, close)
                else:
                    value, position = skim(text, position)
                    if not text.startswith(close, position):
                        raise Unusual
                    position += len(close)
            elif raw and not raw.isspace():
                raise Unusual
            else:
                value, _ = skim("</", 0)
            result.append(value)

    return read


class Document:
    """Reads whole documents of one operation: `root` is the tag to expect, `wrapper` that of the result inside it."""

    def __init__(self, skim: Skim, root: str, wrapper: str | None) -> None:
        self._skim = skim
        self._close = f"</{root}>"
        inner = rf"(?:\s*+<(?!{wrapper}[>/])({_NAME})>[^<]*+</\1>)*+\s*+<{wrapper}>" if wrapper else ""
        self._open = re.compile(
            rf"(?:<\?xml version=[\"']1\.0[\"'](?: encoding=[\"'](?:UTF-8|utf-8)[\"'])?\s*\?>)?\s*+"
            rf"<{root}(?: xmlns=\"[^\"<&]*\")?>{inner}"
        )
        # What follows the wrapper is the envelope's: the request id.
        self._end = re.compile(
            rf"</{wrapper}>(?:\s*+<({_NAME})>[^<]*+(?:<(?![!?]|/?\1[>/\s])[^<]*+)*+</\1>)*+\s*+</{root}>\s*\Z"
            if wrapper
            else rf"</{root}>\s*\Z"
        )

    def read(self, body: bytes) -> dict[str, Any]:
        """The result in a body. Raises `Unusual`."""
        try:
            text = body.decode()
        except UnicodeDecodeError:
            raise Unusual from None
        opened = self._open.match(text)
        if opened is None:
            raise Unusual
        try:
            result, position = self._skim(text, opened.end())
        except WireError:
            raise Unusual from None  # the parser says where
        if self._end.match(text, position) is None:
            raise Unusual
        found: dict[str, Any] = result
        return found
