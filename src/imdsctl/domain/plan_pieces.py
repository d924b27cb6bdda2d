"""A plan of any size as the text of its file, a change a line, and back: it is never whole in memory as text."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Mapping
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
        digest.update(separator + b",".join(lines))
        yield separator + b"\n" + b",\n".join(lines)
        separator = b","
    rest = {name: canonical(member) for name, member in sorted(rest_to_plain(plan).items())}
    digest.update(b"]" + b"".join(b',"%s":%s' % (name.encode(), member) for name, member in rest.items()) + b"}")
    found = f"sha256:{digest.hexdigest()}"
    rest["digest"] = canonical(found)
    yield b"\n]" + b"".join(b',\n"%s":%s' % (name.encode(), rest[name]) for name in sorted(rest)) + b"}\n"
    return found


CHANGES_PER_PIECE = 1000


class _Lines:
    """Changes in canonical form. The instances of a Region differ in id, name and resource alone: what stands around
    these is encoded once."""

    def __init__(self) -> None:
        self._around: dict[tuple[Any, ...], tuple[bytes, bytes, bytes]] = {}
        self._target: Target | None = None
        self._prefix = ""
        """What the ids of the target's changes begin with; the resource follows."""

    def line(self, change: Change) -> bytes:
        """`canonical(change_to_plain(change))`."""
        if change.surface is not Surface.INSTANCE:
            return canonical(change_to_plain(change))
        if change.target is not self._target:
            self._around, self._target = {}, change.target
            self._prefix = change.id.removesuffix(change.resource)
        if change.id != self._prefix + change.resource:
            return canonical(change_to_plain(change))
        # The plan holds these values while it is written, so that their identity stands for them.
        key = (
            id(change.before),
            id(change.after),
            id(change.stage),
            change.reason,
            change.risk,
            change.held,
            change.wave,
            change.evidence,
            change.blast_radius,
            change.gate,
        )
        around = self._around.get(key)
        if around is None:
            around = self._around[key] = _around(change)
        head, middle, tail = around
        resource = canonical(change.resource)
        return b'%b%b,"name":%b,%b"resource":%b,%b' % (
            head,
            resource[1:],  # behind what all ids of the Region begin with
            canonical(change.name),
            middle,
            resource,
            tail,
        )


def _around(change: Change) -> tuple[bytes, bytes, bytes]:
    """The canonical form of an instance's change up to the end of its `id`, which is its `resource`; between `name` and
    `resource`; and after that."""
    plain = change_to_plain(change)
    parts = (
        {key: value for key, value in plain.items() if key < "id"},
        {key: value for key, value in plain.items() if "name" < key < "resource"},
        {key: value for key, value in plain.items() if key > "resource"},
    )
    head, middle, tail = (canonical(part) for part in parts)
    before_id = canonical(change.id.removesuffix(change.resource))[:-1]
    return b'%b,"id":%b' % (head[:-1], before_id), middle[1:-1] + b",", tail[1:]


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
    members = b"".join(
        b",%b:%b" % (canonical(name), canonical(rest[name])) for name in sorted(rest) if name != "digest"
    )
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
