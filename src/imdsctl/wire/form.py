"""The form wire: requests of the protocols `ec2` and `query`.

`Filter.1.Name=vpc-id&Filter.1.Value.1=vpc-1` is a tree written as dotted paths. A body is turned into nested
dictionaries once; the codecs walk those. Rules: Smithy's "AWS query protocol" and "AWS EC2 query protocol" pages.
The two differ in how a member is named and how a list is numbered, nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final, Protocol, TypeAlias
from urllib.parse import quote, unquote_to_bytes

from imdsctl.wire.errors import BrokenSyntax, Malformed, MissingParameter, UnknownParameter, UnknownTrait, WireError
from imdsctl.wire.model import Shape
from imdsctl.wire.scalars import Scalar, text_scalar

Tree: TypeAlias = "dict[str, str | Tree]"
Pairs: TypeAlias = "list[tuple[str, str]]"

_index_digits_max: Final = 5
_BAD_PERCENT: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_SAFE: Final = re.compile(r"[A-Za-z0-9_.~-]*\Z")
_INDEX: Final = re.compile(r"[1-9][0-9]*\Z")


# --- bytes <-> tree -----------------------------------------------------------------------------------------------


def percent_decode(text: str) -> str:
    """Undo form encoding (`+` is a space). Raises `BrokenSyntax` for a bad escape or bytes that are not UTF-8."""
    if "+" in text:
        text = text.replace("+", " ")
    if "%" not in text:
        return text
    if _BAD_PERCENT.search(text):
        raise BrokenSyntax("the query string contains an invalid percent-encoding")
    try:
        return unquote_to_bytes(text).decode()
    except UnicodeDecodeError:
        raise BrokenSyntax("the query string is not UTF-8") from None


def parse_pairs(text: str) -> dict[str, str]:
    """The parameters of a form. A parameter without `=` is empty; the same name twice raises `BrokenSyntax`."""
    pairs: dict[str, str] = {}
    for part in text.split("&"):
        if not part:
            continue
        name, _, value = part.partition("=")
        name = percent_decode(name)
        if name in pairs:
            raise BrokenSyntax(f"the query string contains the parameter {name} twice")
        pairs[name] = percent_decode(value)
    return pairs


def unflatten(pairs: Mapping[str, str]) -> Tree:
    """Dotted names to nested dictionaries. Raises `BrokenSyntax` when a name is a value and a prefix at once."""
    root: Tree = {}
    for name, value in pairs.items():
        node = root
        *prefix, last = name.split(".")
        for step in prefix:
            below = node.setdefault(step, {})
            if isinstance(below, str):
                raise BrokenSyntax(f"the parameter {name} is given as a value and as a structure")
            node = below
        if last in node:
            raise BrokenSyntax(f"the parameter {name} is given as a value and as a structure")
        node[last] = value
    return root


def first_leaf(name: str, node: str | Tree) -> str:
    """The full name of one parameter below `name`, for a message."""
    while not isinstance(node, str):
        step, node = next(iter(node.items()))
        name = f"{name}.{step}"
    return name


def write_pairs(pairs: Pairs) -> bytes:
    return "&".join([f"{percent_encode(name)}={percent_encode(value)}" for name, value in pairs]).encode("ascii")


def percent_encode(text: str) -> str:
    try:
        return text if _SAFE.match(text) else quote(text, safe="-_.~")
    except UnicodeEncodeError:
        raise WireError("the text holds a lone surrogate, which has no UTF-8 form") from None


# --- codecs -------------------------------------------------------------------------------------------------------


class FormCodec(Protocol):
    def encode(self, value: Any, name: str, pairs: Pairs) -> None: ...
    def decode(self, node: str | Tree) -> Any: ...


class _Text:
    __slots__ = ("_scalar",)

    def __init__(self, scalar: Scalar) -> None:
        self._scalar = scalar

    def encode(self, value: Any, name: str, pairs: Pairs) -> None:
        pairs.append((name, self._scalar.encode(value)))

    def decode(self, node: str | Tree) -> Any:
        if isinstance(node, str):
            return self._scalar.decode(node)
        raise UnknownParameter("the parameter is a single value", first_leaf("", node)[1:])


class _Structure:
    """`members`: python name -> (wire name, codec). One table, read in both directions."""

    __slots__ = ("_by_wire", "_members", "_open", "_required")

    def __init__(self, *, open_: bool) -> None:
        self._members: dict[str, tuple[str, FormCodec]] = {}
        self._by_wire: dict[str, tuple[str, FormCodec]] = {}
        self._required: list[tuple[str, str]] = []
        self._open = open_

    def fill(self, members: Mapping[str, tuple[str, FormCodec]], required: tuple[str, ...]) -> None:
        self._members.update(members)
        self._by_wire.update({wire: (name, codec) for name, (wire, codec) in members.items()})
        self._required = [(name, members[name][0]) for name in required]

    def encode(self, value: Any, name: str, pairs: Pairs) -> None:
        if not isinstance(value, Mapping):
            raise WireError(f"a mapping was expected, not {type(value).__name__}")
        member = ""
        try:
            for member, item in value.items():
                if item is None:
                    continue
                entry = self._members.get(member)
                if entry is None:
                    raise WireError("there is no such parameter")
                wire, codec = entry
                codec.encode(item, f"{name}.{wire}" if name else wire, pairs)
        except WireError as error:
            raise error.inside(member) from None
        for member, _ in self._required:
            if value.get(member) is None:
                raise MissingParameter("the parameter is required", member)

    def decode(self, node: str | Tree) -> dict[str, Any]:
        if isinstance(node, str):
            raise Malformed(f"'{node[:64]}' is not a structure")
        result: dict[str, Any] = {}
        wire = ""
        try:
            for wire, below in node.items():
                entry = self._by_wire.get(wire)
                if entry is None:
                    if self._open:
                        continue
                    raise UnknownParameter("the parameter is not recognized", first_leaf("", below)[1:])
                result[entry[0]] = entry[1].decode(below)
        except WireError as error:
            raise error.inside(wire) from None
        for name, wire in self._required:
            if name not in result:
                raise MissingParameter("the parameter is required", wire)
        return result


def _numbered(node: Tree) -> list[tuple[str, str | Tree]]:
    """The children of a list in the order of their numbers. Gaps are closed, as AWS does."""
    for index in node:
        if not _INDEX.match(index) or len(index) > _index_digits_max:
            raise UnknownParameter("a list is numbered from 1", first_leaf(index, node[index]))
    if len(node) == 1:
        return list(node.items())
    return sorted(node.items(), key=lambda child: int(child[0]))


class _List:
    """A list: `name.1`, or `name.member.1` when `wrapper` is given."""

    __slots__ = ("_item", "_sends_empty", "_wrapper")

    def __init__(self, item: FormCodec, wrapper: str | None, *, sends_empty: bool) -> None:
        self._item = item
        self._wrapper = wrapper
        self._sends_empty = sends_empty

    def encode(self, value: Any, name: str, pairs: Pairs) -> None:
        if not isinstance(value, list | tuple):
            raise WireError(f"a list was expected, not {type(value).__name__}")
        if not value:
            if self._sends_empty:
                pairs.append((name, ""))
            return
        if self._wrapper is not None:
            name = f"{name}.{self._wrapper}"
        number = 0
        try:
            for number, item in enumerate(value, 1):
                self._item.encode(item, f"{name}.{number}", pairs)
        except WireError as error:
            raise error.inside(f"[{number - 1}]") from None

    def decode(self, node: str | Tree) -> list[Any]:
        if isinstance(node, str):
            if node == "":
                return []
            raise Malformed(f"'{node[:64]}' is not a list")
        if self._wrapper is None:
            return self._items(node)
        for step, below in node.items():
            if step != self._wrapper:
                raise UnknownParameter("the parameter is not recognized", first_leaf(step, below))
        below = node[self._wrapper]
        try:
            if isinstance(below, str):
                raise Malformed(f"'{below[:64]}' is not a list")
            return self._items(below)
        except WireError as error:
            raise error.inside(self._wrapper) from None

    def _items(self, node: Tree) -> list[Any]:
        result: list[Any] = []
        children = _numbered(node)
        try:
            for _, below in children:
                result.append(self._item.decode(below))
        except WireError as error:
            raise error.inside(children[len(result)][0]) from None
        return result


class _Map:
    """A map: `name.entry.1.key` and `name.entry.1.value`, without `entry` when it is flattened."""

    __slots__ = ("_key", "_key_name", "_list", "_value", "_value_name")

    def __init__(self, key: FormCodec, value: FormCodec, key_name: str, value_name: str, wrapper: str | None) -> None:
        self._key, self._value = key, value
        self._key_name, self._value_name = key_name, value_name
        self._list = _List(_Entry(self), wrapper, sends_empty=False)

    def encode(self, value: Any, name: str, pairs: Pairs) -> None:
        if not isinstance(value, Mapping):
            raise WireError(f"a mapping was expected, not {type(value).__name__}")
        self._list.encode(list(value.items()), name, pairs)

    def decode(self, node: str | Tree) -> dict[Any, Any]:
        return dict(self._list.decode(node))


class _Entry:
    __slots__ = ("_map",)

    def __init__(self, owner: _Map) -> None:
        self._map = owner

    def encode(self, value: Any, name: str, pairs: Pairs) -> None:
        owner = self._map
        owner._key.encode(value[0], f"{name}.{owner._key_name}", pairs)
        owner._value.encode(value[1], f"{name}.{owner._value_name}", pairs)

    def decode(self, node: str | Tree) -> tuple[Any, Any]:
        owner = self._map
        if isinstance(node, str):
            raise Malformed("an entry of a map has a key and a value")
        for step, below in node.items():
            if step not in (owner._key_name, owner._value_name):
                raise UnknownParameter("the parameter is not recognized", first_leaf(step, below))
        for step in (owner._key_name, owner._value_name):
            if step not in node:
                raise MissingParameter("the parameter is required", step)
        return owner._key.decode(node[owner._key_name]), owner._value.decode(node[owner._value_name])


# --- the compiler -------------------------------------------------------------------------------------------------


class QueryForm:
    """Compiles shapes for `query`: lists and maps are wrapped unless flattened, unknown parameters are let pass."""

    open_ = True

    def __init__(self) -> None:
        self._memo: dict[tuple[object, ...], FormCodec] = {}

    def name(self, member: str, shape: Shape) -> str:
        """The name of a structure's member on this wire."""
        if shape.type == "list" and shape.flattened:
            item = shape.child("member").wire_name
            if item is not None:
                return item
        return shape.wire_name or member

    def list_(self, shape: Shape) -> FormCodec:
        item = shape.child("member")
        wrapper = None if shape.flattened else (item.wire_name or "member")
        return _List(self.codec(item), wrapper, sends_empty=True)

    def codec(self, shape: Shape) -> FormCodec:
        """The codec of a shape; the same object for the same shape, so that recursion ties itself."""
        known = self._memo.get(shape.key)
        if known is not None:
            return known
        codec: FormCodec
        match shape.type:
            case "structure":
                shape.refuse_event_stream()
                if shape.traits.get("document"):
                    raise UnknownTrait(f"shape `{shape.name}` is a document, which a form cannot carry")
                structure = _Structure(open_=self.open_)
                self._memo[shape.key] = structure
                members = {name: (self.name(name, member), self.codec(member)) for name, member in shape.members()}
                structure.fill(members, shape.required)
                return structure
            case "list":
                codec = self.list_(shape)
            case "map":
                key, value = shape.child("key"), shape.child("value")
                codec = _Map(
                    self.codec(key),
                    self.codec(value),
                    self.name("key", key),
                    self.name("value", value),
                    None if shape.flattened else "entry",
                )
            case _:
                codec = _Text(text_scalar(shape))
        self._memo[shape.key] = codec
        return codec


class Ec2Form(QueryForm):
    """Compiles shapes for `ec2`: every list is flat, names are capitalised, unknown parameters are refused."""

    open_ = False

    def name(self, member: str, shape: Shape) -> str:
        query_name: str | None = shape.traits.get("queryName")
        if query_name is not None:
            return query_name
        wire = shape.wire_name
        return wire[0].upper() + wire[1:] if wire else member

    def list_(self, shape: Shape) -> FormCodec:
        return _List(self.codec(shape.child("member")), None, sends_empty=False)
