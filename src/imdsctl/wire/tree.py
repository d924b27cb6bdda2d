"""The JSON and CBOR wires: both are trees of dictionaries and lists, they differ only in their scalars.

Rules: Smithy's "AWS JSON 1.0/1.1", "AWS restJson1" and "RPC v2 CBOR" pages. A member that is null is absent.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol, TypeAlias

import cbor2
import orjson

from imdsctl.wire.errors import BrokenSyntax, Malformed, MissingParameter, UnknownTrait, WireError
from imdsctl.wire.model import Projection, Shape
from imdsctl.wire.scalars import Scalar, cbor_scalar, json_scalar

Read: TypeAlias = Callable[[Any], Any]


# --- bytes <-> tree -----------------------------------------------------------------------------------------------


def _json_default(value: object) -> object:
    raise TypeError(f"{type(value).__name__} has no JSON form")


def write_json(tree: object) -> bytes:
    try:
        return orjson.dumps(tree, default=_json_default)
    except (TypeError, orjson.JSONEncodeError):
        # orjson stops at 64 bits and at lone surrogates; the standard library carries both.
        try:
            return json.dumps(tree, separators=(",", ":")).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise WireError(f"the value has no JSON form: {error}") from None


def read_json(body: bytes) -> Any:
    """Raises `BrokenSyntax` for what is not JSON in UTF-8, or is nested deeper than any service goes."""
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise BrokenSyntax(f"the body is not JSON: {error}") from None


def _refuse_tag(_value: object, _immutable: bool) -> object:
    raise ValueError("the body has a tag that the protocol does not use")


# RPC v2 CBOR knows tag 1 (time). cbor2 makes more of others: shared values (28, 29) can be a cycle, or a few bytes that
# are a huge tree; 35 compiles a regular expression, 36 parses mail.
_REFUSED_TAGS: Final[dict[int, Callable[[Any, bool], Any]]] = dict.fromkeys(
    (4, 5, 25, 28, 29, 30, 35, 36, 37, 43000, 256, 258, 260, 261), _refuse_tag
)


def write_cbor(tree: object) -> bytes:
    try:
        return cbor2.dumps(tree)
    except (cbor2.CBOREncodeError, UnicodeEncodeError, RecursionError) as error:
        raise WireError(f"the value has no CBOR form: {error}") from None


def read_cbor(body: bytes) -> Any:
    """Raises `BrokenSyntax` for what is not CBOR. An empty body is an empty map (an operation without input)."""
    if not body:
        return {}
    try:
        return cbor2.loads(body, semantic_decoders=_REFUSED_TAGS)
    except Exception as error:
        # What cbor2 builds from tags lets errors of its own through.
        raise BrokenSyntax(f"the body is not CBOR: {error}") from None


# --- codecs -------------------------------------------------------------------------------------------------------


class TreeCodec(Protocol):
    def encode(self, value: Any) -> Any: ...

    def reader(self, projection: Projection | None) -> Read: ...


class _Value:
    __slots__ = ("_decode", "encode")

    def __init__(self, scalar: Scalar) -> None:
        self.encode: Callable[[Any], Any] = scalar.encode
        self._decode = scalar.decode

    def reader(self, projection: Projection | None) -> Read:
        if projection is not None:
            raise WireError("a projection cannot look inside a single value")
        return self._decode


class Structure:
    """`members`: python name -> (wire name, codec). One table, read in both directions.

    `required` is empty for a response: a service may leave out what its model promises, a request may not.
    """

    __slots__ = ("_full", "_required", "members")

    def __init__(self) -> None:
        self.members: dict[str, tuple[str, TreeCodec]] = {}
        self._required: tuple[str, ...] = ()
        self._full: Read | None = None

    def fill(self, members: Mapping[str, tuple[str, TreeCodec]], required: tuple[str, ...]) -> None:
        self.members.update(members)
        self._required = tuple(name for name in required if name in members)

    def encode(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise WireError(f"a mapping was expected, not {type(value).__name__}")
        result: dict[str, Any] = {}
        name = ""
        try:
            for name, item in value.items():
                if item is None:
                    continue
                entry = self.members.get(name)
                if entry is None:
                    raise WireError("there is no such parameter")
                result[entry[0]] = entry[1].encode(item)
        except WireError as error:
            raise error.inside(name) from None
        for name in self._required:
            if value.get(name) is None:
                raise MissingParameter("the parameter is required", name)
        return result

    def reader(self, projection: Projection | None) -> Read:
        if projection is None:
            if self._full is None:
                # Set before it is built: a recursive shape asks for its own reader.
                table: list[tuple[str, str, Read]] = []
                self._full = self._read(table, self._required)
                table.extend((name, wire, codec.reader(None)) for name, (wire, codec) in self.members.items())
            return self._full
        table = []
        for name, below in projection.items():
            if name not in self.members:
                raise WireError("the model has no such member", name)
            wire, codec = self.members[name]
            try:
                table.append((name, wire, codec.reader(below)))
            except WireError as error:
                raise error.inside(name) from None
        return self._read(table, ())

    @staticmethod
    def _read(table: list[tuple[str, str, Read]], required: tuple[str, ...]) -> Read:
        def read(node: Any) -> dict[str, Any]:
            if node.__class__ is not dict:
                raise Malformed("a structure was expected")
            result: dict[str, Any] = {}
            name = ""
            try:
                for name, wire, decode in table:
                    item = node.get(wire)
                    if item is not None:
                        result[name] = decode(item)
            except WireError as error:
                raise error.inside(name) from None
            for name in required:
                if name not in result:
                    raise MissingParameter("the parameter is required", name)
            return result

        return read


class _List:
    """A null in a list is no item, unless the model calls the list sparse (Smithy, "Sparse lists and maps")."""

    __slots__ = ("_item", "_sparse")

    def __init__(self, item: TreeCodec, sparse: bool) -> None:
        self._item = item
        self._sparse = sparse

    def encode(self, value: Any) -> list[Any]:
        if not isinstance(value, list | tuple):
            raise WireError(f"a list was expected, not {type(value).__name__}")
        encode = self._item.encode
        result: list[Any] = []
        try:
            for item in value:
                result.append(None if item is None else encode(item))
        except WireError as error:
            raise error.inside(f"[{len(result)}]") from None
        return result

    def reader(self, projection: Projection | None) -> Read:
        read_item = self._item.reader(projection)
        sparse = self._sparse

        def read(node: Any) -> list[Any]:
            if node.__class__ is not list:
                raise Malformed("a list was expected")
            result: list[Any] = []
            try:
                for item in node:
                    if item is not None:
                        result.append(read_item(item))
                    elif sparse:
                        result.append(None)
            except WireError as error:
                raise error.inside(f"[{len(result)}]") from None
            return result

        return read


class _Map:
    """The keys are text on both wires; the projection applies to the values. A null is a value in a sparse map only."""

    __slots__ = ("_sparse", "_value")

    def __init__(self, value: TreeCodec, sparse: bool) -> None:
        self._value = value
        self._sparse = sparse

    def encode(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            raise WireError(f"a mapping was expected, not {type(value).__name__}")
        return self._each(value, self._value.encode, WireError)

    def reader(self, projection: Projection | None) -> Read:
        read_value = self._value.reader(projection)

        def read(node: Any) -> dict[str, Any]:
            if node.__class__ is not dict:
                raise Malformed("a map was expected")
            if not self._sparse and None in node.values():
                node = {key: item for key, item in node.items() if item is not None}
            return self._each(node, read_value, Malformed)

        return read

    @staticmethod
    def _each(items: Mapping[Any, Any], convert: Read, refusal: type[WireError]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        key: Any = ""
        try:
            for key, item in items.items():
                if not isinstance(key, str):
                    raise refusal("the key of a map is not a string")
                result[key] = None if item is None else convert(item)
        except WireError as error:
            raise error.inside(f"[{str(key)[:64]}]") from None
        return result


class _Document:
    """Any JSON value, passed on as it is."""

    __slots__ = ()

    def encode(self, value: Any) -> Any:
        if isinstance(value, float) and not math.isfinite(value):
            raise WireError("a document cannot hold NaN or Infinity")
        return value

    def reader(self, projection: Projection | None) -> Read:
        return lambda node: node


# --- the compiler -------------------------------------------------------------------------------------------------

_DOCUMENT: Final = _Document()


class TreeCompiler:
    """Compiles shapes for JSON or CBOR. `requests`: a decoder insists on the members that the model requires."""

    def __init__(self, scalar: Callable[[Shape], Scalar], *, requests: bool) -> None:
        self._memo: dict[tuple[object, ...], TreeCodec] = {}
        self._scalar = scalar
        self._requests = requests

    def structure(self, shape: Shape) -> Structure:
        codec = self.codec(shape)
        if not isinstance(codec, Structure):
            raise UnknownTrait(f"shape `{shape.name}` is not a structure")
        return codec

    def body(self, shape: Shape) -> Structure:
        """The part of a top-level structure that no header, URI or status code carries."""
        structure = Structure()
        self._fill(structure, shape, lambda member: member.location is None)
        return structure

    def codec(self, shape: Shape) -> TreeCodec:
        """The codec of a shape; the same object for the same shape, so that recursion ties itself."""
        known = self._memo.get(shape.key)
        if known is not None:
            return known
        codec: TreeCodec
        match shape.type:
            case "structure":
                shape.refuse_event_stream()
                if shape.traits.get("document"):
                    if self._scalar is cbor_scalar:
                        raise UnknownTrait(f"shape `{shape.name}` is a document, which CBOR cannot carry")
                    return _DOCUMENT
                structure = Structure()
                self._memo[shape.key] = structure
                self._fill(structure, shape, lambda member: True)
                return structure
            case "list":
                codec = _List(self.codec(shape.child("member")), bool(shape.traits.get("sparse")))
            case "map":
                codec = _Map(self.codec(shape.child("value")), bool(shape.traits.get("sparse")))
            case _:
                codec = _Value(self._scalar(shape))
        self._memo[shape.key] = codec
        return codec

    def _fill(self, structure: Structure, shape: Shape, wanted: Callable[[Shape], bool]) -> None:
        members = {
            name: (member.wire_name or name, self.codec(member)) for name, member in shape.members() if wanted(member)
        }
        structure.fill(members, shape.required if self._requests else ())


def json_compiler(*, requests: bool) -> TreeCompiler:
    return TreeCompiler(json_scalar, requests=requests)


def cbor_compiler(*, requests: bool) -> TreeCompiler:
    return TreeCompiler(cbor_scalar, requests=requests)
