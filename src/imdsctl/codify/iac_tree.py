"""Infrastructure code as a tree of values with places, whatever language it was written in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from imdsctl.codify.json_places import Document

WORDS_MAX = 10_000
"""Values that are looked at below one function: aliases can make a small text a large tree."""


@dataclass(frozen=True, slots=True)
class Code:
    """An expression of Terraform that is no literal.

    `kind`: `name` (a root such as `var`), `get` (an attribute), `index`, `if`, `text` (pieces of a template), `call`,
    `operation`, or `blocks` (a dynamic block: what it goes over, its content; `name` is its iterator).
    """

    kind: str
    name: str = ""
    parts: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Unknown:
    """A value that only a run knows: a variable, a function, another resource. `refers` are the names in it, `words`
    what is known of its text, `code` its expression, `why` what it depends on (`var.x, which has no default`).
    `scope` is where the names are valid, when that is not where the value stands."""

    refers: tuple[str, ...] = ()
    words: str = ""
    code: Code | None = None
    why: str = ""
    scope: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """A value and where it stands, counted from 1. `value`: text, number, bool, None, a dict or tuple of nodes, or
    `Unknown`. `origin` says where a value that was looked up comes from."""

    value: Any
    line: int = 1
    column: int = 1
    origin: str = ""

    @property
    def unknown(self) -> bool:
        """Whether only a run knows it."""
        return isinstance(self.value, Unknown)


def child(node: Node | None, *names: str) -> Node | None:
    """The member below these names; None where there is none. A list stands for its first entry, as Terraform's
    blocks do. What is below something unknown is unknown."""
    for name in names:
        while node is not None and isinstance(node.value, tuple):
            node = node.value[0] if node.value else None
        if node is None or node.unknown:
            return node
        node = node.value.get(name) if isinstance(node.value, dict) else None
    return None if node is not None and node.value is None else node


def entries(node: Node | None) -> tuple[Node, ...]:
    """The entries of a list; a single value is a list of one."""
    if node is None or node.value is None:
        return ()
    return node.value if isinstance(node.value, tuple) else (node,)


def members(node: Node | None) -> Iterator[tuple[str, Node]]:
    """The members of an object."""
    if node is not None and isinstance(node.value, dict):
        yield from node.value.items()


def text(node: Node | None) -> str:
    """The text, or nothing where it is not text or is unknown."""
    return node.value if node is not None and isinstance(node.value, str) else ""


def of_json(document: Document) -> Node:
    """The tree of a JSON text."""
    places = document.places

    def build(value: Any, path: str) -> Node:
        place = places.get(path)
        line, column = (place.line, place.column) if place else (1, 1)
        if isinstance(value, dict):
            prefix = f"{path}." if path else ""
            return Node({name: build(each, prefix + name) for name, each in value.items()}, line, column)
        if isinstance(value, list):
            return Node(tuple(build(each, f"{path}[{n}]") for n, each in enumerate(value)), line, column)
        return Node(value, line, column)

    return build(document.value, "")


def mapped(node: Node, change: Callable[[Node], Node | None]) -> Node:
    """The tree with what `change` makes of its nodes (None: look below). What aliases share is looked at once."""
    made: dict[int, Any] = {}

    def walk(each: Node) -> Node:
        changed = change(each)
        if changed is not None:
            return changed
        value = each.value
        if not isinstance(value, (dict, tuple)):
            return each
        if id(value) not in made:
            below = {name: walk(one) for name, one in value.items()} if isinstance(value, dict) else None
            made[id(value)] = tuple(map(walk, value)) if below is None else below
        return replace(each, value=made[id(value)])

    return walk(node)


def filled_in_later(node: Node) -> Node:
    """The tree with texts that hold `{{...}}` as unknown: Helm's expressions, Packer's, CloudFormation's dynamic
    references."""

    def unknown(each: Node) -> Node | None:
        value = each.value
        if not isinstance(value, str) or "{{" not in value:
            return None
        shown = value if len(value) <= 80 else "{{...}}"
        return replace(each, value=Unknown(words=value, why=f"`{shown}`, which is filled in later"))

    return mapped(node, unknown)


def words(node: Node) -> Iterator[str]:
    """Every text in it."""
    waiting = [node]
    for _ in range(WORDS_MAX):
        if not waiting:
            return
        value = waiting.pop().value
        if isinstance(value, str):
            yield value
        elif isinstance(value, Unknown):
            yield value.words
        elif isinstance(value, dict):
            waiting.extend(value.values())
        elif isinstance(value, tuple):
            waiting.extend(value)
