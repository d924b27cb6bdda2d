"""The XML wire: responses of the protocols `ec2` and `query`.

A structure's member owns *all* sibling elements with its tag, so flattened and wrapped lists are the same code and the
order of the elements never matters. Rules: Smithy's "XML bindings" page.

Decoding takes a projection: only the named members are visited, everything else stays inside libxml2. `XmlReader` is
the incremental form: the items of a long list are decoded and dropped while the rest of the page still arrives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias

from lxml import etree

from imdsctl.wire import skim
from imdsctl.wire.errors import Malformed, UnknownTrait, WireError
from imdsctl.wire.model import Projection, Shape
from imdsctl.wire.scalars import Scalar, text_scalar

Element: TypeAlias = "etree._Element"
Read: TypeAlias = Callable[[Element], Any]

chunk_bytes: Final = 65_536
plain_bytes_max: Final = 1_048_576
"""A longer reply is not kept whole for the quick reader, but decoded while it arrives."""
_SPECIAL: Final = re.compile("[&<>\r\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_ESCAPES: Final = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"}


class Encoded(bytes):
    """XML of one structure with its tag, written once: an encoder that meets it emits it verbatim."""


class Constant(dict[str, Any]):
    """A structure whose members never change: its XML is written once for each place where it stands."""

    __slots__ = ("_written",)

    def __init__(self, *args: Any, **members: Any) -> None:
        super().__init__(*args, **members)
        self._written: dict[_Tag, bytes] = {}

    def xml(self, tag: _Tag) -> bytes:
        """The member with its tags."""
        written = self._written.get(tag)
        if written is None:
            written = self._written[tag] = b"%b%b%b" % (tag.open, tag.codec.encode(self), tag.close)
        return written


def escape(text: str) -> bytes:
    """Text as XML content. A character that XML 1.0 cannot hold becomes U+FFFD: the document stays readable."""
    if text.isprintable() and "&" not in text and "<" not in text and ">" not in text:
        return text.encode()
    return _SPECIAL.sub(lambda match: _ESCAPES.get(match[0], "\ufffd"), text).encode()


def local_name(tag: str) -> str:
    return tag[tag.rfind("}") + 1 :]


# --- codecs -------------------------------------------------------------------------------------------------------


class XmlCodec(Protocol):
    def encode(self, value: Any) -> bytes:
        """What stands between the start tag and the end tag."""
        ...

    def reader(self, projection: Projection | None) -> Read:
        """A function from an element to the value, restricted to the projection."""
        ...


class Text:
    """A scalar. The structure that owns it reads the text itself, which saves a call for each element."""

    __slots__ = ("parse", "write")

    def __init__(self, scalar: Scalar) -> None:
        self.parse: Callable[[str], Any] | None = None if scalar.plain else scalar.decode
        self.write = scalar.encode

    def encode(self, value: Any) -> bytes:
        return escape(self.write(value))

    def reader(self, projection: Projection | None) -> Read:
        if projection is not None:
            raise WireError("a projection cannot look inside a single value")
        parse = self.parse
        if parse is None:
            return lambda element: element.text or ""
        return lambda element: parse(element.text or "")


TEXTS_REMEMBERED_MAX = 64
"""So many texts of a member are kept as XML: states and types come again and again, identifiers never do."""


class _Tag:
    """One member of a structure. `many`: the member is a flattened list or map, one element for each item."""

    __slots__ = ("close", "codec", "many", "name", "open", "plain", "texts", "truths", "wire")

    def __init__(self, name: str, wire: str, codec: XmlCodec, many: type[list[Any]] | type[dict[Any, Any]] | None):
        self.name, self.wire, self.codec, self.many = name, wire, codec, many
        self.open, self.close = f"<{wire}>".encode(), f"</{wire}>".encode()
        self.plain = many is None and isinstance(codec, Text)
        self.texts: dict[str, bytes] = {}
        self.truths: dict[bool, bytes] = {}

    def write(self, text: str) -> bytes:
        """A scalar member that was given as text, with its tags."""
        written = b"%b%b%b" % (self.open, self.codec.encode(text), self.close)
        if len(self.texts) < TEXTS_REMEMBERED_MAX:
            self.texts[text] = written
        return written

    def write_truth(self, value: bool) -> bytes:
        """The same for a member that is true or false."""
        written = self.truths[value] = b"%b%b%b" % (self.open, self.codec.encode(value), self.close)
        return written


class Structure:
    """`members` is the one table: encoders look up the python name, decoders the tag."""

    __slots__ = ("_full", "members")

    def __init__(self) -> None:
        self.members: dict[str, _Tag] = {}
        self._full: Read | None = None

    def encode(self, value: Any) -> bytes:
        return b"".join(self.parts(value))

    def parts(self, value: Any) -> list[bytes]:
        """What `encode` joins: large items (`Encoded`) are not copied."""
        if value.__class__ is not dict and not isinstance(value, Mapping):
            raise WireError(f"a mapping was expected, not {type(value).__name__}")
        parts: list[bytes] = []
        add = parts.append
        members = self.members
        name = ""
        try:
            for name, item in value.items():
                if item is None:
                    continue
                tag = members.get(name)
                if tag is None:
                    raise WireError("the model has no such member")
                if item.__class__ is str and tag.plain:
                    add(tag.texts.get(item) or tag.write(item))
                elif item.__class__ is bool and tag.plain:
                    add(tag.truths.get(item) or tag.write_truth(item))
                elif item.__class__ is Encoded:
                    add(item)
                elif item.__class__ is Constant and tag.many is None:
                    add(item.xml(tag))
                elif tag.many is None:
                    add(tag.open)
                    codec = tag.codec
                    if codec.__class__ is WrappedList:
                        parts += codec.parts(item)
                    else:
                        add(codec.encode(item))
                    add(tag.close)
                else:
                    for one in item if tag.many is list else item.items():
                        if one.__class__ is Encoded:
                            add(one)
                            continue
                        add(tag.open)
                        add(tag.codec.encode(one))
                        add(tag.close)
        except WireError as error:
            raise error.inside(name) from None
        return parts

    def reader(self, projection: Projection | None) -> Read:
        if projection is None:
            if self._full is None:
                # Set before it is built: a recursive shape asks for its own reader.
                table: dict[str, tuple[_Tag, Callable[[str], Any] | None, Read | None]] = {}
                self._full = _read_all(table)
                table.update(_table(self.members, dict.fromkeys(self.members)))
            return self._full
        for name in projection:
            if name not in self.members:
                raise WireError("the model has no such member", name)
        table = _table(self.members, projection)
        return _read_some(table) if len(table) * 3 <= len(self.members) or len(table) <= 3 else _read_all(table)


_Table: TypeAlias = "dict[str, tuple[_Tag, Callable[[str], Any] | None, Read | None]]"


def _table(members: Mapping[str, _Tag], projection: Projection) -> _Table:
    table: _Table = {}
    for name, below in projection.items():
        tag = members[name]
        if isinstance(tag.codec, Text) and tag.many is None and below is None:
            table[tag.wire] = (tag, tag.codec.parse, None)
        else:
            try:
                table[tag.wire] = (tag, None, tag.codec.reader(below))
            except WireError as error:
                raise error.inside(name) from None
    return table


def _read_all(table: _Table) -> Read:
    """Visits every child. `seen` learns full tags (`{namespace}name`), of which a reply holds one a member."""
    seen: dict[str, tuple[_Tag, Callable[[str], Any] | None, Read | None]] = {}

    def read(element: Element) -> dict[str, Any]:
        result: dict[str, Any] = {}
        name = ""
        try:
            for child in element:
                full: str = child.tag
                entry = seen.get(full)
                if entry is None:
                    entry = table.get(local_name(full))
                    if entry is None:
                        continue
                    seen[full] = entry
                tag, parse, decode = entry
                name = tag.name
                if decode is None:
                    text = child.text or ""
                    result[name] = text if parse is None else parse(text)
                elif tag.many is None:
                    result[name] = decode(child)
                else:
                    _add(result, tag, decode(child))
        except WireError as error:
            raise error.inside(name) from None
        return result

    return read


def _read_some(table: _Table) -> Read:
    """Visits only the wanted children: libxml2 compares the tags, Python never sees the others."""
    tags = [f"{{*}}{wire}" for wire in table]

    def read(element: Element) -> dict[str, Any]:
        result: dict[str, Any] = {}
        name = ""
        try:
            for child in element.iterchildren(*tags):
                tag, parse, decode = table[local_name(child.tag)]
                name = tag.name
                if decode is None:
                    text = child.text or ""
                    result[name] = text if parse is None else parse(text)
                elif tag.many is None:
                    result[name] = decode(child)
                else:
                    _add(result, tag, decode(child))
        except WireError as error:
            raise error.inside(name) from None
        return result

    return read


def _add(result: dict[str, Any], tag: _Tag, item: Any) -> None:
    if tag.many is list:
        result.setdefault(tag.name, []).append(item)
    else:
        result.setdefault(tag.name, {}).update([item])


class WrappedList:
    """`<tagSet><item>...</item></tagSet>`."""

    __slots__ = ("_close", "_open", "item", "wire")

    def __init__(self, item: XmlCodec, wire: str) -> None:
        self.item, self.wire = item, wire
        self._open, self._close = f"<{wire}>".encode(), f"</{wire}>".encode()

    def encode(self, value: Any) -> bytes:
        return b"".join(self.parts(value))

    def parts(self, value: Any) -> list[bytes]:
        """What `encode` joins."""
        if not isinstance(value, list | tuple):
            raise WireError(f"a list was expected, not {type(value).__name__}")
        parts: list[bytes] = []
        encode = self.item.encode
        try:
            for item in value:
                if item.__class__ is Encoded:
                    parts.append(item)
                else:
                    parts += (self._open, encode(item), self._close)
        except WireError as error:
            raise error.inside(f"[{sum(part is self._open or type(part) is Encoded for part in parts)}]") from None
        return parts

    def reader(self, projection: Projection | None) -> Read:
        item = self.item
        if isinstance(item, Text) and projection is None and item.parse is None:
            return lambda element: [child.text or "" for child in element]
        read = item.reader(projection)

        def read_list(element: Element) -> list[Any]:
            result: list[Any] = []
            try:
                for child in element:
                    result.append(read(child))
            except WireError as error:
                raise error.inside(f"[{len(result)}]") from None
            return result

        return read_list


class Entry:
    """One `<key/><value/>` pair of a map, as a tuple."""

    __slots__ = ("_key", "_tags", "_value")

    def __init__(self, key: XmlCodec, value: XmlCodec, key_name: str, value_name: str) -> None:
        self._key, self._value, self._tags = key, value, (key_name, value_name)

    def encode(self, value: Any) -> bytes:
        key_name, value_name = (name.encode() for name in self._tags)
        return b"<%b>%b</%b><%b>%b</%b>" % (
            *(key_name, self._key.encode(value[0]), key_name),
            *(value_name, self._value.encode(value[1]), value_name),
        )

    def reader(self, projection: Projection | None) -> Read:
        read_key, read_value = self._key.reader(None), self._value.reader(projection)
        key_name, value_name = self._tags

        def read(element: Element) -> tuple[Any, Any]:
            found: dict[str, Any] = {}
            for child in element:
                name = local_name(child.tag)
                if name == key_name:
                    found["key"] = read_key(child)
                elif name == value_name:
                    found["value"] = read_value(child)
            if len(found) != 2:
                raise Malformed("an entry of a map lacks its key or its value")
            return found["key"], found["value"]

        return read


class WrappedMap:
    """`<Attributes><entry><key/><value/></entry></Attributes>`."""

    __slots__ = ("_entry",)

    def __init__(self, entry: Entry) -> None:
        self._entry = entry

    def encode(self, value: Any) -> bytes:
        if not isinstance(value, Mapping):
            raise WireError(f"a mapping was expected, not {type(value).__name__}")
        return b"".join([b"<entry>%b</entry>" % self._entry.encode(pair) for pair in value.items()])

    def reader(self, projection: Projection | None) -> Read:
        read = self._entry.reader(projection)
        return lambda element: dict(map(read, element))


def skim_of(codec: XmlCodec, projection: Projection | None) -> skim.Skim | None:
    """The quick reader of a structure or a list; None where it is not worth one: whole subtrees, and maps."""
    if isinstance(codec, WrappedList):
        if isinstance(codec.item, Text):
            return skim.wrapped_list(codec.wire, codec.item.parse, None) if projection is None else None
        item = skim_of(codec.item, projection)
        return None if item is None else skim.wrapped_list(codec.wire, None, item)
    if not isinstance(codec, Structure) or projection is None:
        return None
    members: dict[str, skim.Member] = {}
    for name, below in projection.items():
        tag = codec.members.get(name)
        if tag is None or tag.many is dict:
            return None
        if isinstance(tag.codec, Text):
            if below is not None:
                return None
            members[tag.wire] = (name, tag.many is list, tag.codec.parse, None)
        else:
            inner = skim_of(tag.codec, below)
            if inner is None:
                return None
            members[tag.wire] = (name, tag.many is list, None, inner)
    return skim.structure(members)


# --- the compiler -------------------------------------------------------------------------------------------------


class XmlCompiler:
    """Compiles shapes; `milliseconds` writes times as EC2 does."""

    def __init__(self, *, milliseconds: bool = False) -> None:
        self._memo: dict[tuple[object, ...], XmlCodec] = {}
        self._milliseconds = milliseconds

    def structure(self, shape: Shape) -> Structure:
        codec = self.codec(shape)
        assert isinstance(codec, Structure)
        return codec

    def codec(self, shape: Shape) -> XmlCodec:
        """The codec of a shape; the same object for the same shape, so that recursion ties itself."""
        known = self._memo.get(shape.key)
        if known is not None:
            return known
        codec: XmlCodec
        match shape.type:
            case "structure":
                shape.refuse_event_stream()
                if shape.traits.get("document"):
                    raise UnknownTrait(f"shape `{shape.name}` is a document, which XML cannot carry")
                structure = Structure()
                self._memo[shape.key] = structure
                structure.members.update({name: self._member(name, member) for name, member in shape.members()})
                return structure
            case "list":
                item = shape.child("member")
                codec = WrappedList(self.codec(item), item.wire_name or "member")
            case "map":
                codec = WrappedMap(self._entry(shape))
            case _:
                codec = Text(text_scalar(shape, milliseconds=self._milliseconds))
        self._memo[shape.key] = codec
        return codec

    def _member(self, name: str, shape: Shape) -> _Tag:
        if shape.traits.get("xmlAttribute"):
            raise UnknownTrait(f"member `{name}` is an XML attribute, which no supported protocol uses")
        wire = shape.wire_name or name
        if shape.flattened and shape.type == "list":
            item = shape.child("member")
            return _Tag(name, item.wire_name or wire, self.codec(item), list)
        if shape.flattened and shape.type == "map":
            return _Tag(name, wire, self._entry(shape), dict)
        return _Tag(name, wire, self.codec(shape), None)

    def _entry(self, shape: Shape) -> Entry:
        key, value = shape.child("key"), shape.child("value")
        return Entry(self.codec(key), self.codec(value), key.wire_name or "key", value.wire_name or "value")


# --- documents ----------------------------------------------------------------------------------------------------


def _parser(root: str) -> etree.XMLPullParser:
    """Hardened: no entity, no network, libxml2's own limits on depth and size. It reports the root when it starts."""
    return etree.XMLPullParser(
        events=("start",),
        tag=root,
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )


def _refuse_dtd(root: Element) -> None:
    info: Any = root.getroottree().docinfo  # the type stubs know too little of it
    if info.doctype:
        raise WireError("the reply declares a document type (DTD), which AWS never does")


def _unreadable(error: Exception, size: int) -> WireError:
    return WireError(f"the reply is not complete XML ({size} bytes): {error}")


def parse(body: bytes) -> Element:
    """The root element. Raises `WireError` for anything that is not one whole document, or that declares a DTD."""
    parser = _parser("{*}-")
    try:
        parser.feed(body)
        root: Element = parser.close()
    except (etree.XMLSyntaxError, ValueError) as error:
        raise _unreadable(error, len(body)) from None
    _refuse_dtd(root)
    return root


class PlainReader:
    """Decodes one reply that has arrived whole by the quick reader, and leaves what is long or unusual to `XmlReader`.

    `parser` makes one, for this reply.
    """

    def __init__(self, document: skim.Document, parser: Callable[[], XmlReader]) -> None:
        self._document = document
        self._new_parser = parser
        self._parser: XmlReader | None = None
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> None:
        """Takes the next bytes. Raises `WireError` as soon as a long reply cannot be XML."""
        if self._parser is not None:
            self._parser.feed(data)
            return
        self._pieces.append(data)
        self._size += len(data)
        if self._size > plain_bytes_max:
            self._parse()

    def close(self) -> dict[str, Any]:
        """The decoded result. Raises `WireError` when the reply is cut, or is not the one asked for."""
        if self._parser is None:
            try:
                return self._document.read(b"".join(self._pieces))
            except skim.Unusual:
                self._parse()
        assert self._parser is not None
        return self._parser.close()

    def _parse(self) -> None:
        self._parser = self._new_parser()
        for piece in self._pieces:
            self._parser.feed(piece)
        self._pieces.clear()


class XmlReader:
    """Decodes one reply while it arrives. `root` is the tag to expect, `wrapper` that of the result inside it, if any.

    The items of a list directly below the result are decoded as soon as they are whole, then dropped: what is held is
    one chunk of the page, not its tree.
    """

    def __init__(
        self, structure: Structure | None, projection: Projection | None, root: str, wrapper: str | None
    ) -> None:
        self._parser = _parser(f"{{*}}{root}")
        self._read = structure.reader(projection) if structure is not None else None
        self._wrapper = wrapper
        self._expected = root
        self._root: Element | None = None
        self._size = 0
        self._early: dict[str, list[Any]] = {}
        self._streams: dict[str, tuple[str, Read | None]] = {}
        for name, tag in structure.members.items() if structure is not None else ():
            if isinstance(tag.codec, WrappedList):
                wanted = projection is None or name in projection
                below = projection.get(name) if projection is not None else None
                self._streams[tag.wire] = (name, tag.codec.item.reader(below) if wanted else None)

    def feed(self, data: bytes) -> None:
        """Takes the next bytes. Raises `WireError` as soon as they cannot be XML."""
        try:
            for start in range(0, len(data), chunk_bytes):
                chunk = data[start : start + chunk_bytes]
                self._size += len(chunk)
                self._parser.feed(chunk)
                if self._size > chunk_bytes:
                    self._harvest()
        except etree.XMLSyntaxError as error:
            raise _unreadable(error, self._size) from None

    def close(self) -> dict[str, Any]:
        """The decoded result. Raises `WireError` when the reply is cut, or is not the one asked for."""
        try:
            root: Element = self._parser.close()
        except (etree.XMLSyntaxError, ValueError) as error:
            raise _unreadable(error, self._size) from None
        _refuse_dtd(root)
        if local_name(root.tag) != self._expected:
            raise WireError(f"the reply is <{local_name(root.tag)}>, expected <{self._expected}>")
        if self._read is None:
            return {}
        container = self._container(root)
        if container is None:
            raise WireError(f"the reply lacks <{self._wrapper}>")
        result: dict[str, Any] = self._read(container)
        for name, items in self._early.items():
            result[name] = items + result.get(name, [])
        return result

    def _container(self, root: Element) -> Element | None:
        if self._wrapper is None:
            return root
        return next(root.iterchildren(f"{{*}}{self._wrapper}"), None)

    def _harvest(self) -> None:
        if self._root is None:
            events: Any = self._parser.read_events()
            for _, element in events:
                if element.getparent() is None:
                    self._root = element
                    _refuse_dtd(element)
        container = self._container(self._root) if self._root is not None else None
        if container is None or not len(container):
            return
        # Only the last child can still grow, and of its items only the last.
        open_list: Any = container[-1]
        stream = self._streams.get(local_name(open_list.tag))
        if stream is None or len(open_list) < 2:
            return
        name, read = stream
        if read is not None:
            items = self._early.setdefault(name, [])
            try:
                for element in open_list[:-1]:
                    items.append(read(element))
            except WireError as error:
                raise error.inside(f"{name}[{len(items)}]") from None
        del open_list[:-1]
