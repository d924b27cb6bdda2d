"""A plan of any size as the text of its file, a change a line, and back: it is never whole in memory as text."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Mapping
from json.encoder import encode_basestring as _quoted
from operator import attrgetter
from typing import Any

import orjson

from imdsctl.domain.observations import Target
from imdsctl.domain.plan import (
    Change,
    Plan,
    Surface,
    canonical,
    change_from_plain,
    change_to_plain,
    plan_of,
    rest_to_plain,
)

_HEAD = b'{"changes":['


def plan_pieces(plan: Plan) -> Generator[bytes, None, str]:
    """The text of a plan file, piece by piece. Its members are in canonical order, with the digest among them; the
    generator returns that."""
    digest = hashlib.sha256(_HEAD)
    yield _HEAD
    separator = b""
    lines_of = _Lines()
    for start in range(0, len(plan.changes), CHANGES_PER_PIECE):
        lines = [lines_of.line(change) for change in plan.changes[start : start + CHANGES_PER_PIECE]]
        digest.update(separator + ",".join(lines).encode())
        yield separator + b"\n" + ",\n".join(lines).encode()
        separator = b","
    rest = {name: canonical(member) for name, member in sorted(rest_to_plain(plan).items())}
    digest.update(b"]" + b"".join(b',"%s":%s' % (name.encode(), member) for name, member in rest.items()) + b"}")
    found = f"sha256:{digest.hexdigest()}"
    rest["digest"] = canonical(found)
    yield b"\n]" + b"".join(b',\n"%s":%s' % (name.encode(), rest[name]) for name in sorted(rest)) + b"}\n"
    return found


CHANGES_PER_PIECE = 100
"""So many lines stay in the processor's cache while they are hashed and written."""


class _Lines:
    """Changes in canonical form. The instances of a Region differ in id, name and resource alone: what stands around
    these is encoded once."""

    def __init__(self) -> None:
        self._target: Target | None = None
        self._shared: tuple[Any, ...] = ()
        self._around: tuple[str, str, str, str] = ("", "", "", "")
        self._arounds: dict[tuple[Any, ...], tuple[str, str, str, str]] = {}

    def line(self, change: Change) -> str:
        """`canonical(change_to_plain(change))`, as text."""
        if change.surface is not Surface.INSTANCE:
            return canonical(change_to_plain(change)).decode()
        shared = _SHARED(change)
        if change.target is not self._target or shared != self._shared:
            self._around = self._around_of(change, shared)
        to_id, to_name, to_resource, to_end = self._around
        # `%` would look for its signs in every byte of what it fills in.
        return (
            f"{to_id}{_quoted(change.id)}{to_name}{_quoted(change.name)}{to_resource}{_quoted(change.resource)}{to_end}"
        )

    def _around_of(self, change: Change, shared: tuple[Any, ...]) -> tuple[str, str, str, str]:
        if change.target is not self._target:
            self._target, self._arounds = change.target, {}
        self._shared = shared
        # The plan holds these two while it is written, so that their identity stands for them.
        key = (id(change.before), id(change.after), *shared[2:])
        found = self._arounds.get(key)
        if found is None:
            found = self._arounds[key] = _around(change)
        return found


_SHARED = attrgetter("before", "after", "stage", "reason", "risk", "held", "wave", "evidence", "blast_radius", "gate")
"""All that a line says beside the target, `id`, `name` and `resource`."""


def _around(change: Change) -> tuple[str, str, str, str]:
    """The canonical form before `id`, between this and `name`, between this and `resource`, and after it."""
    # Quotation marks in a value are escaped: what looks like a member is one.
    text = canonical(change_to_plain(change)).decode()
    head, _, rest = text.partition(f',"id":{_quoted(change.id)},"name":{_quoted(change.name)},')
    middle, _, tail = rest.partition(f',"resource":{_quoted(change.resource)},')
    return f'{head},"id":', ',"name":', f',{middle},"resource":', f",{tail}"


def plan_from_lines(lines: Iterator[bytes]) -> Plan | None:
    """A plan from the lines of its file; None when they are laid out in another way, or damaged: then the whole has to
    be read at once, to say what is wrong. Raises DiagnosticError `plan-invalid`.
    """
    if next(lines, b"").rstrip(b"\n") != _HEAD:
        return None
    digest = hashlib.sha256(_HEAD)
    changes: list[Change] = []
    shared = _Shared()
    try:
        for line in lines:
            if line.startswith(b"]"):
                rest = orjson.loads(b"{" + line[1:].lstrip(b",") + b"".join(lines).lstrip(b","))
                break
            value = orjson.loads(line.rstrip(b",\n"))
            digest.update((b"," if changes else b"") + canonical(value))
            changes.append(change_from_plain(shared.of(value)))
        else:
            return None
    except (orjson.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError):
        return None
    if not isinstance(rest, dict):
        return None
    try:
        members = b"".join(
            b",%b:%b" % (canonical(name), canonical(rest[name])) for name in sorted(rest) if name != "digest"
        )
    except TypeError:
        return None
    digest.update(b"]" + members + b"}")
    return plan_of(rest, lambda: changes, lambda: f"sha256:{digest.hexdigest()}")


class _Shared:
    """Makes equal values of many changes one object."""

    def __init__(self) -> None:
        self._values: dict[Any, Any] = {}

    def of(self, value: Mapping[str, Any]) -> dict[str, Any]:
        """A change's JSON values, with everything shared that an instance's changes have in common."""
        found = dict(value)
        for name in _REPEATED:
            found[name] = self._values.setdefault(value[name], value[name])
        if value["surface"] == str(Surface.INSTANCE):
            for name in ("before", "after"):
                found[name] = self._values.setdefault(tuple(value[name].items()), value[name])
        return found


_REPEATED = ("account", "region", "reason", "risk", "held", "wave", "evidence", "gate")
