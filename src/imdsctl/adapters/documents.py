"""Observations to compact JSON and back: one codec per type, compiled from the dataclasses' own annotations.

A single value becomes an object of its fields. Many values of one dataclass become a table of columns, because a
target's instances share nearly everything: a column that holds a field's default is left out, one with repeated values
names each of them once (`of`) and then says where it stands (`at`). That is smaller than an object an instance, and
decodes in half the time, since Python's loop over the instances runs in C.

What is absent is the field's default, so documents of an older version with fewer fields stay readable. A default that
changes its meaning is a new schema version.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from datetime import datetime, timedelta
from enum import Enum
from functools import cache
from itertools import islice, repeat
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import orjson

from imdsctl.domain.json_text import json_bytes
from imdsctl.domain.makers import maker

T = TypeVar("T")

COMPRESSION_LEVEL = 1
"""The fastest: names and tags repeat so much that a higher level gains little."""
_PLAIN = (str, int, float, bool, NoneType)


class DocumentError(ValueError):
    """Bytes that are no document of the type that was asked for."""


def encoded(value: Any) -> bytes:
    """A frozen dataclass as a compressed document: the same value always gives the same bytes.

    Raises TypeError for a type that no codec knows.
    """
    return zlib.compress(json_bytes(_codec(type(value)).encode(value)), COMPRESSION_LEVEL)


def decoded(kind: type[T], document: bytes) -> T:
    """What `encoded` was given. Raises DocumentError."""
    try:
        value: T = _codec(kind).decode(_loaded(zlib.decompress(document)))
    except (zlib.error, ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise DocumentError(f"no document of a {kind.__name__} ({type(error).__name__}: {error})") from error
    return value


def _loaded(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)


@dataclass(frozen=True, slots=True)
class _Codec:
    """`encode` gives what orjson writes, `decode` takes what it reads.

    `pack` and `unpack` do the same for a whole column of values.
    """

    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    pack: Callable[[Collection[Any]], Any]
    unpack: Callable[[Any], Iterable[Any]]


def _same(value: Any) -> Any:
    return value


def _of_values(encode: Callable[[Any], Any] | None, decode: Callable[[Any], Any] | None) -> _Codec:
    """A codec whose column is a list of values, or a list of places in a list of different values."""

    def pack(values: Collection[Any]) -> Any:
        place: dict[Any, int] = {}
        at = [place.setdefault(value, len(place)) for value in values]
        if 4 * len(place) > 3 * len(at):  # too few repeat themselves
            return list(map(encode, values)) if encode else list(values)
        return {"of": list(map(encode, place) if encode else place), "at": at}

    def unpack(column: Any) -> Iterable[Any]:
        if type(column) is list:
            return map(decode, column) if decode else column
        of = list(map(decode, column["of"])) if decode else column["of"]
        if len(of) == 1:
            return repeat(of[0], len(column["at"]))
        return map(of.__getitem__, column["at"])

    return _Codec(encode or _same, decode or _same, pack, unpack)


def _codec(kind: Any) -> _Codec:
    """The codec of an annotation, compiled once."""
    return _compiled(kind)


@cache
def _compiled(kind: Any) -> _Codec:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind in _PLAIN:
        return _of_values(None, None)
    if kind is datetime:
        return _of_values(None, datetime.fromisoformat)
    if kind is timedelta:
        return _of_values(timedelta.total_seconds, lambda seconds: timedelta(seconds=seconds))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _of_values(None, {member.value: member for member in kind}.__getitem__)
    if isinstance(kind, type) and is_dataclass(kind):
        return _structure(kind)
    if origin in (UnionType, Union):
        return _union(arguments)
    if origin is tuple:
        return _many(arguments[0]) if arguments[1:] == (...,) else _fixed(arguments)
    raise TypeError(f"no document can hold a {kind}")


class _Codecs(dict[str, _Codec]):
    """A dataclass's codecs by field, each compiled at its first use: a dataclass may hold itself."""

    def __init__(self, kind: type[Any]) -> None:
        self._hints = get_type_hints(kind)

    def __missing__(self, name: str) -> _Codec:
        codec = self[name] = _codec(self._hints[name])
        return codec


def _structure(kind: type[Any]) -> _Codec:
    codecs = _Codecs(kind)
    members = [(each.name, _default(each)) for each in fields(kind)]

    def encode(value: Any) -> dict[str, Any]:
        return {
            name: codecs[name].encode(held)
            for name, default in members
            if (held := getattr(value, name)) is not default and held != default
        }

    def decode(document: Mapping[str, Any]) -> Any:
        return kind(**{name: codecs[name].decode(held) for name, held in document.items()})

    return _of_values(encode, decode)


def _default(field: Any) -> Any:
    return field.default_factory() if field.default_factory is not MISSING else field.default


def _many(kind: Any) -> _Codec:
    """`tuple[kind, ...]`: of dataclasses a table, of anything else a list. Columns of them share what they repeat."""
    item = _codec(kind)
    if isinstance(kind, type) and is_dataclass(kind):
        encode, decode = _table(kind)
    else:

        def encode(values: Collection[Any]) -> Any:
            return [item.encode(each) for each in values]

        def decode(values: Any) -> tuple[Any, ...]:
            return tuple(map(item.decode, values))

    def pack(columns: Collection[Collection[Any]]) -> Any:
        return {
            "lengths": [len(each) for each in columns],
            "all": item.pack([value for each in columns for value in each]),
        }

    def unpack(column: Any) -> Iterator[Any]:
        values = iter(item.unpack(column["all"]))
        lengths = column["lengths"]
        if lengths and lengths[0] and lengths.count(lengths[0]) == len(lengths):
            return zip(*repeat(values, lengths[0]), strict=True)
        return (tuple(islice(values, length)) for length in lengths)

    return _Codec(encode, decode, pack, unpack)


def _table(kind: type[Any]) -> tuple[Callable[[Collection[Any]], Any], Callable[[Any], tuple[Any, ...]]]:
    codecs = _Codecs(kind)
    members = [(each.name, _default(each)) for each in fields(kind)]
    names = [name for name, _ in members]
    get = attrgetter(*names)
    make = maker(kind)

    def encode(values: Collection[Any]) -> Any:
        if not values:
            return []
        rows = map(get, values) if len(names) > 1 else ((get(each),) for each in values)
        return {
            "rows": len(values),
            **{
                name: codecs[name].pack(column)
                for (name, default), column in zip(members, zip(*rows, strict=True), strict=False)
                if column.count(default) != len(column)
            },
        }

    def decode(table: Any) -> tuple[Any, ...]:
        if type(table) is list:  # schema version 1 had an object a row
            return tuple(map(_codec(kind).decode, table))
        count = table["rows"]
        columns: list[Iterable[Any]] = []
        for name, default in members:
            if name in table:
                column = tuple(codecs[name].unpack(table[name]))
                if len(column) != count:
                    raise ValueError(f"{name} has {len(column)} of {count} rows")
                columns.append(column)
            elif default is MISSING:
                raise KeyError(name)
            else:
                columns.append(repeat(default))
        return tuple(islice(map(make, *columns), count))

    return encode, decode


def _fixed(kinds: tuple[Any, ...]) -> _Codec:
    """`tuple[str, str]` and the like."""
    if all(kind in _PLAIN for kind in kinds):
        return _of_values(None, tuple)
    items = [_codec(kind) for kind in kinds]
    return _of_values(
        lambda values: [item.encode(each) for item, each in zip(items, values, strict=True)],
        lambda values: tuple(item.decode(each) for item, each in zip(items, values, strict=True)),
    )


def _union(kinds: tuple[Any, ...]) -> _Codec:
    """`kind | None`."""
    left = [kind for kind in kinds if kind is not NoneType]
    if len(left) != 1:
        raise TypeError(f"no document can hold one of {kinds}")
    if left[0] in _PLAIN:
        return _of_values(None, None)
    item = _codec(left[0])
    return _of_values(
        lambda value: None if value is None else item.encode(value),
        lambda value: None if value is None else item.decode(value),
    )
