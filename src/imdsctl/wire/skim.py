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


_LEAF_TEXT: Final = re.compile(rf"<({_NAME})>([^<]*+)</\1>")

CONTENTS_REMEMBERED_MAX: Final = 2048
CONTENT_REMEMBERED_MAX: Final = 512
"""So many contents of one kind of element are remembered, each of so many characters at most."""
STRETCHES_KNOWN_MAX: Final = 12
STRETCHES_PASSED_OVER: Final = 24
STRETCH_CHARACTERS_MAX: Final = 16_384
"""So many stretches of one place are known by heart, each of so many characters at most. Of those that are not known
every 24th is learned, so that it is the frequent ones that are: to learn one costs what reading it a hundred times
does."""


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
        return Leaves(members)
    return _mixed(members)


class Leaves:
    """A structure of which only texts are wanted.

    States, options and tags are written the same way again and again: what was read once is looked up by its text.
    """

    __slots__ = ("_known", "_read")

    def __init__(self, members: Mapping[str, Member]) -> None:
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


def _leaves(members: Mapping[str, Member]) -> Skim:
    """All children are taken in one go when they are texts, as they mostly are."""
    run = re.compile(rf"(?:\s*+<({_NAME})(?:/>|>[^<]*+</\1>))*+\s*+(?=</)")
    one_by_one = _mixed(members)

    def read(text: str, position: int) -> tuple[dict[str, Any], int]:
        whole = run.match(text, position)
        if whole is None:
            found: tuple[dict[str, Any], int] = one_by_one(text, position)
            return found
        result: dict[str, Any] = {}
        end = whole.end()
        for tag, raw, _ in _LEAF.findall(text, position, end):
            entry = members.get(tag)
            if entry is not None:
                name, _many, parse, _skim = entry
                value = raw if raw.isalnum() else text_of(raw)
                result[name] = value if parse is None else parse(value)
        return result, end

    return read


def _mixed(members: Mapping[str, Member]) -> Skim:
    step = _step(members)
    stretches = _Stretches(members, step)
    known = stretches.known
    within = {
        tag: (name, many, _inside(skim), f"</{tag}>")
        for tag, (name, many, _, skim) in members.items()
        if skim is not None
    }

    def read(text: str, position: int) -> tuple[dict[str, Any], int]:
        result: dict[str, Any] = {}
        behind = ""
        while True:
            closed = None
            for stretch in known[behind]:
                by_heart, texts, tag = stretch
                match = by_heart(text, position)
                if match is not None:
                    if stretch is not known[behind][0]:
                        known[behind].remove(stretch)
                        known[behind].insert(0, stretch)
                    for group, name, parse in texts:
                        raw = match[group]
                        value: Any = raw if raw.isalnum() else text_of(raw)
                        result[name] = value if parse is None else parse(value)
                    break
            else:
                if behind in within or not behind:
                    stretches.unknown(behind, text, position)
                match = step(text, position)
                if match is None:
                    raise Unusual
                leaf, raw, tag, closed = match.group("leaf", "raw", "tag", "closed")
                if leaf is not None:
                    name, many, parse, _ = members[leaf]
                    value = text_of(raw or "")
                    if parse is not None:
                        value = parse(value)
                    if many:
                        result.setdefault(name, []).append(value)
                    else:
                        result[name] = value
                    position, behind = match.end(), leaf
                    continue
            position = match.end()
            if tag is None:
                return result, position - 2
            name, many, inside, close = within[tag]
            if closed:
                value, _ = inside(close, 0, close)
            else:
                value, position = inside(text, position, close)
            if many:
                result.setdefault(name, []).append(value)
            else:
                result[name] = value
            behind = tag

    return read


Inside: TypeAlias = Callable[[str, int, str], "tuple[Any, int]"]
"""Reads content up to the end tag that is given, from the position behind the start tag to that behind the end tag."""


def _inside(skim: Skim) -> Inside:
    if isinstance(skim, Leaves | _LeavesList):
        return skim.inside

    def inside(text: str, position: int, close: str) -> tuple[Any, int]:
        value, position = skim(text, position)
        if not text.startswith(close, position):
            raise Unusual
        return value, position + len(close)

    return inside


Match: TypeAlias = Callable[[str, int], "re.Match[str] | None"]


def _step(members: Mapping[str, Member]) -> Match:
    """Passes over unwanted siblings up to the group `gap`, then takes a wanted text, the start of anything else that is
    wanted, or `</`."""
    wanted = "|".join(map(re.escape, members))
    leaves = "|".join(re.escape(tag) for tag, (*_, skim) in members.items() if skim is None) or "(?!)"
    others = "|".join(re.escape(tag) for tag, (*_, skim) in members.items() if skim is not None) or "(?!)"
    return re.compile(
        rf"(?:\s*+<(?!(?:{wanted})[>/\s])({_NAME})"
        r"(?:/>|>[^<]*+(?:</\1>|<(?![!?]|\1[>/\s])[^<]*+(?:<(?![!?]|/?\1[>/\s])[^<]*+)*+</\1>)))*+(?P<gap>)"
        rf"\s*+<(?:(?P<leaf>{leaves})(?:/>|>(?P<raw>[^<]*+)</(?P=leaf)>)|(?P<tag>{others})(?:(?P<closed>/)>|>)|/)"
    ).match


Stretch: TypeAlias = "tuple[Match, tuple[tuple[int, str, Callable[[str], Any] | None], ...], str | None]"
"""Matches to the end of the start tag of what is no text (the tag; None: of `</`). The texts on the way are groups."""


class _Stretches:
    """What stands between two members that are no texts, learned by heart.

    What EC2 writes there is the same tags with other texts for nearly every instance, and most of a reply. To compare
    it with tags that are known takes a quarter of the time that finding out where each element ends does.
    """

    __slots__ = ("_members", "_passed", "_step", "known")

    def __init__(self, members: Mapping[str, Member], step: Match) -> None:
        self._members = members
        self._step = step
        self._passed: dict[str, int] = {}
        self.known: dict[str, list[Stretch]] = {tag: [] for tag in ("", *members)}
        """By the tag of the member that it stands behind ("": at the start); what matched last is the first."""

    def unknown(self, behind: str, text: str, position: int) -> None:
        """None of those that are known stands here."""
        self._passed[behind] = passed = self._passed.get(behind, 0) + 1
        if passed % STRETCHES_PASSED_OVER == 0 and len(self.known[behind]) < STRETCHES_KNOWN_MAX:
            stretch = self._stretch(text, position)
            if stretch is not None:
                self.known[behind].append(stretch)

    def _stretch(self, text: str, start: int) -> Stretch | None:
        """The one that stands here; None for one that is too long, or in which a text comes in several elements."""
        pattern = ""
        texts: list[tuple[int, str, Callable[[str], Any] | None]] = []
        position = start
        while match := self._step(text, position):
            if match.end() - start > STRETCH_CHARACTERS_MAX:
                break
            pattern += _by_heart(text[position : match.end("gap")])
            leaf, raw, tag, closed = match.group("leaf", "raw", "tag", "closed")
            if leaf is None:
                if closed:
                    break
                return re.compile(rf"{pattern}\s*+<{re.escape(f'{tag}>' if tag else '/')}").match, tuple(texts), tag
            name, many, parse, _ = self._members[leaf]
            if many or raw is None:
                break
            pattern += rf"\s*+<{re.escape(leaf)}>([^<]*+)</{re.escape(leaf)}>"
            texts.append((len(texts) + 1, name, parse))
            position = match.end()
        return None


def _by_heart(gap: str) -> str:
    """A pattern of elements like these, with any other texts."""
    pattern, end = "", 0
    for leaf in _LEAF_TEXT.finditer(gap):
        pattern += re.escape(gap[end : leaf.start(2)]) + "[^<]*+"
        end = leaf.end(2)
    return pattern + re.escape(gap[end:])


def wrapped_list(tag: str, parse: Callable[[str], Any] | None, skim: Skim | None) -> Skim:
    """A reader of `<set><item>...</item></set>`'s content; `tag` is the item's."""
    if isinstance(skim, Leaves):
        return _LeavesList(tag, skim)
    return _list(tag, parse, skim)


class _LeavesList:
    """A list of structures of which only texts are wanted: tags, above all."""

    __slots__ = ("_close", "_item", "_known", "_open", "_plain", "_read")

    def __init__(self, tag: str, item: Leaves) -> None:
        self._open, self._close = f"<{tag}>", f"</{tag}>"
        self._item = item
        self._known: dict[str, dict[str, Any]] = {}
        self._read = _list(tag, None, item)
        self._plain = 1
        """So many more lists were plain than were not, those of white space and of lists inside."""

    def __call__(self, text: str, position: int) -> tuple[list[Any], int]:
        found: tuple[list[Any], int] = self._read(text, position)
        return found

    def inside(self, text: str, position: int, close: str) -> tuple[list[Any], int]:
        """The same for content that ends with `close`; gives the position behind that."""
        end = text.find(close, position)
        if end < 0:
            raise Unusual
        if self._plain > 0:
            *items, rest = text[position:end].split(self._close)
            found = None if rest else self._items(items)
            if found is not None:
                self._plain += 1
                return found, end + len(close)
            self._plain -= 1
        found, end = self._read(text, position)
        if not text.startswith(close, end):
            raise Unusual
        return found, end + len(close)

    def _items(self, items: list[str]) -> list[Any] | None:
        """The items that are written so; None when one of them is not the start tag and texts."""
        result = []
        for item in items:
            known = self._known.get(item)
            if known is None:
                if not item.startswith(self._open):
                    return None
                try:
                    known, end = self._item(f"{item}</", len(self._open))
                except Unusual:
                    return None
                if end != len(item):
                    return None
                if len(item) <= CONTENT_REMEMBERED_MAX:
                    if len(self._known) >= CONTENTS_REMEMBERED_MAX:
                        self._known.clear()
                    self._known[item] = known
            result.append(known.copy())
        return result


def _list(tag: str, parse: Callable[[str], Any] | None, skim: Skim | None) -> Skim:
    step = re.compile(rf"\s*+<(?:({re.escape(tag)})(?:(/)>|>(?:([^<]*+)</\1>)?)|/)").match
    close = f"</{tag}>"
    inside = None if skim is None else _inside(skim)

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
            if inside is None:
                if raw is None and not closed:
                    raise Unusual
                value: Any = text_of(raw or "")
                if parse is not None:
                    value = parse(value)
            elif raw is None and not closed:
                value, position = inside(text, position, close)
            elif raw and not raw.isspace():
                raise Unusual
            else:
                value, _ = inside(close, 0, close)
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
