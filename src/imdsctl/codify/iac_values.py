"""Terraform's expressions as far as they can be known without a run: variables with a value, locals, conditions.

Source: Terraform, "Expressions", "Functions", "Input Variables". What is not known stays unknown and says on what it
depends; nothing is guessed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from imdsctl.codify.iac_tree import Code, Node, Unknown

DEPTH_MAX = 60
"""Names that stand for names: more is a circle."""
VALUES_MAX = 200_000
"""Values that one folder's names may come to: names that stand for lists of names can make a small text a large one."""

TEXT_MAX = 100_000
NUMBER_MAX = 1 << 62

Look = Callable[[str, str], Node | None]
"""The value of a root and a name (`var`, `x`); None: not a root of this scope. Raises `Fails`."""


class Fails(Exception):
    """An expression that a run would refuse: an attribute that is not there, a wrong argument."""


class TooMuch(ValueError):
    """The values of one folder are too many, or go in a circle."""


@dataclass
class Scope:
    """Where names mean something: `look` for `var.x`, `local.x` and `module.x`, `bound` for `each` and iterators.
    `name` marks what is unknown as a name of this scope."""

    look: Look
    name: str = ""
    bound: Mapping[str, Node] = field(default_factory=dict)
    depth: int = 0
    budget: list[int] = field(default_factory=lambda: [VALUES_MAX])
    left_out: list[tuple[str, str]] = field(default_factory=list)
    """What `count` or `for_each` says not to make: its address, and where that value comes from."""

    def binding(self, **bound: Node) -> Scope:
        """The same with more names."""
        return replace(self, bound={**self.bound, **bound})


def settled(node: Node, scope: Scope, *, part: bool = False) -> Node:
    """The tree with everything known that can be; each value stays at its place. `part`: of a longer name, which says
    itself what it depends on."""
    value = node.value
    if isinstance(value, dict):
        return replace(node, value={name: settled(each, scope) for name, each in value.items()})
    if isinstance(value, tuple):
        made: list[Node] = []
        for each in value:
            if isinstance(each.value, Unknown) and each.value.code and each.value.code.kind == "blocks":
                made += _blocks(each, each.value.code, scope)
            else:
                made.append(settled(each, scope))
        return replace(node, value=tuple(made))
    if not isinstance(value, Unknown) or value.why:
        return node
    if value.code is None:
        why = f"{value.refers[0]}, in an expression that is not followed here" if value.refers else ""
        return _unknown(node, value, scope, why)
    try:
        found = _evaluate(value.code, node, scope)
    except Fails as error:
        return _unknown(node, value, scope, str(error))
    if isinstance(found.value, Unknown):
        mine = found.value
        refers, where = (mine.refers, mine.scope) if mine.scope and mine.refers else (value.refers, scope.name)
        why = mine.why or (f"{value.refers[0]}, which only a run knows" if value.refers and not part else "")
        return replace(node, value=Unknown(refers, mine.words or value.words, None, why, where))
    return _moved(found, node, found.origin, scope.budget)


def _unknown(node: Node, value: Unknown, scope: Scope, why: str) -> Node:
    return replace(node, value=Unknown(value.refers, value.words, None, why, scope.name))


def _moved(node: Node, to: Node, origin: str, budget: list[int]) -> Node:
    """A value that stands elsewhere, at the place where it is used."""
    budget[0] -= 1
    if budget[0] < 0:
        raise TooMuch(f"its names come to more than {VALUES_MAX:,} values")
    value = node.value
    if isinstance(value, dict):
        value = {name: _moved(each, to, each.origin or origin, budget) for name, each in value.items()}
    elif isinstance(value, tuple):
        value = tuple(_moved(each, to, each.origin or origin, budget) for each in value)
    return Node(value, to.line, to.column, origin)


def _blocks(node: Node, code: Code, scope: Scope) -> list[Node]:
    """What a dynamic block comes to."""
    over = settled(code.parts[0], scope)
    pairs = pairs_of(over)
    if pairs is None:
        why = over.value.why if isinstance(over.value, Unknown) else ""
        refers = node.value.refers
        return [replace(node, value=Unknown(refers, "", None, why, scope.name))]
    made = []
    for key, each in pairs:
        bound = Node({"key": key, "value": each})
        block = settled(code.parts[1], scope.binding(**{code.name: bound}))
        made.append(replace(block, origin=over.origin))
    return made


def pairs_of(over: Node) -> list[tuple[Node, Node]] | None:
    """Keys and values of what `for_each` goes over; None when that is not known."""
    if isinstance(over.value, dict):
        return [(Node(name), each) for name, each in over.value.items()]
    if isinstance(over.value, tuple):
        return [(each if not isinstance(each.value, dict) else Node(n), each) for n, each in enumerate(over.value)]
    return None


# -- one expression ----------------------------------------------------------------------------------------------------


def _evaluate(code: Code, node: Node, scope: Scope) -> Node:
    if scope.depth > DEPTH_MAX:
        raise Fails("names that stand for each other in a circle")
    inner = replace(scope, depth=scope.depth + 1)
    match code.kind:
        case "name":
            return scope.bound.get(code.name) or Node(Unknown())
        case "get":
            return _get(code, inner)
        case "index":
            of, key = settled(code.parts[0], inner, part=True), settled(code.parts[1], inner)
            return key if key.unknown and not of.unknown else of if of.unknown else _member(of, key.value)
        case "if":
            return _choice(code, inner)
        case "text":
            return _text([settled(each, inner) for each in code.parts], node)
        case "operation":
            return _operation(code.name, [settled(each, inner) for each in code.parts])
        case "call":
            return _call(code, inner)
    return Node(Unknown())


def _get(code: Code, scope: Scope) -> Node:
    base = code.parts[0].value
    if isinstance(base, Unknown) and base.code is not None and base.code.kind == "name":
        root = base.code.name
        if root not in scope.bound:
            found = scope.look(root, code.name)
            return found if found is not None else Node(Unknown())
    of = settled(code.parts[0], scope, part=True)
    if of.unknown:
        return of
    return _member(of, code.name)


def _member(of: Node, key: Any) -> Node:
    value = of.value
    if isinstance(value, dict) and str(key) in value:
        found: Node = value[str(key)]
    elif isinstance(value, tuple) and str(key).isdecimal() and int(key) < len(value):
        found = value[int(key)]
    else:
        raise Fails(f"`{key}`, which is not there")
    return replace(found, origin=found.origin or of.origin)


def _choice(code: Code, scope: Scope) -> Node:
    condition, yes, no = (settled(each, scope) for each in code.parts)
    decided = _bool(condition)
    if decided is None:
        if not yes.unknown and plain(yes) == plain(no):
            return yes
        if condition.unknown:
            return condition
        raise Fails("a condition that is neither true nor false")
    chosen = yes if decided else no
    return replace(chosen, origin=_both(condition.origin, chosen.origin))


def _both(one: str, two: str) -> str:
    return " and ".join(dict.fromkeys(filter(None, (one, two))))


def _bool(node: Node) -> bool | None:
    return {True: True, False: False, "true": True, "false": False}.get(node.value) if _is_plain(node) else None


def _is_plain(node: Node) -> bool:
    return not isinstance(node.value, (Unknown, dict, tuple))


def _text(pieces: list[Node], node: Node) -> Node:
    if len(pieces) == 1:
        return pieces[0]
    for each in pieces:
        if not _is_plain(each):
            known = " ".join(str(piece.value) for piece in pieces if _is_plain(piece))
            why = each.value.why if isinstance(each.value, Unknown) else ""
            return replace(node, value=Unknown((), known, None, why))
    origin = ""
    for each in pieces:
        origin = _both(origin, each.origin)
    text = "".join(_written(each.value) for each in pieces)
    if len(text) > TEXT_MAX:
        raise Fails("a text that is too long")
    return Node(text, origin=origin)


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else "" if value is None else str(value)


_NUMBERS: Mapping[str, Callable[[Any, Any], Any]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
    "+": operator.add, "-": operator.sub, "*": operator.mul,
}  # fmt: skip


def _operation(sign: str, parts: list[Node]) -> Node:
    origin = ""
    for each in parts:
        origin = _both(origin, each.origin)
    if len(parts) == 1:
        if parts[0].unknown:
            return parts[0]
        value = _bool(parts[0])
        if sign == "!" and value is not None:
            return Node(not value, origin=origin)
        if sign == "-" and isinstance(parts[0].value, int | float):
            return Node(-parts[0].value, origin=origin)
        raise Fails(f"`{sign}` of what is none")
    if sign in ("&&", "||"):
        known = [_bool(each) for each in parts]
        short = sign == "||"
        for each, value in zip(parts, known, strict=True):
            if value is short:
                return Node(short, origin=each.origin)
        return next((each for each, value in zip(parts, known, strict=True) if value is None), Node(not short))
    unknown = next((each for each in parts if each.unknown), None)
    if unknown is not None:
        return unknown
    one, two = (plain(each) for each in parts)
    if sign in ("==", "!="):
        return Node((one == two and isinstance(one, bool) is isinstance(two, bool)) is (sign == "=="), origin=origin)
    if sign in _NUMBERS and all(isinstance(each, int | float) for each in (one, two)):
        if sign == "*" and abs(one) * abs(two) > NUMBER_MAX:
            raise Fails("a number that is too large")
        return Node(_NUMBERS[sign](one, two), origin=origin)
    raise Fails(f"`{sign}`, which is not followed here")


def plain(node: Node) -> Any:
    """The value without places; what is unknown in it equals nothing."""
    value = node.value
    if isinstance(value, dict):
        return {name: plain(each) for name, each in value.items()}
    if isinstance(value, tuple):
        return [plain(each) for each in value]
    return object() if isinstance(value, Unknown) else value


# -- functions ---------------------------------------------------------------------------------------------------------


def _call(code: Code, scope: Scope) -> Node:
    name = code.name
    if name == "try":
        for each in code.parts:
            try:
                return _strict(each, scope)
            except Fails:
                continue
        raise Fails("`try`, of which no argument has a value")
    if name not in _FUNCTIONS:
        return Node(Unknown(why=f"{name}(...), which is not followed here"))
    arguments = [settled(each, scope) for each in code.parts]
    unknown = next((each for each in arguments if each.unknown), None)
    if name == "coalesce":
        return _coalesce(arguments)
    if unknown is not None:
        return unknown
    try:
        found = _FUNCTIONS[name](*arguments)
    except (TypeError, ValueError, AttributeError, IndexError):
        raise Fails(f"{name}(...), whose arguments do not fit") from None
    origin = found.origin or next((each.origin for each in arguments if each.origin), "")
    return replace(found, origin=origin)


def _strict(node: Node, scope: Scope) -> Node:
    """Like `settled`, but what a run would refuse raises `Fails`."""
    value = node.value
    if isinstance(value, Unknown) and value.code is not None:
        found = _evaluate(value.code, node, scope)
        return replace(node, value=found.value) if found.unknown else found
    return settled(node, scope)


def _coalesce(arguments: list[Node]) -> Node:
    for each in arguments:
        if each.unknown or each.value not in (None, ""):
            return each
    raise Fails("`coalesce`, of which no argument has a value")


def _lookup(of: Node, key: Node, default: Node | None = None) -> Node:
    found: Node | None = of.value.get(str(key.value))
    if found is None and default is None:
        raise Fails(f"`{key.value}`, which is not there")
    return found if found is not None else default or Node(None)


def _merge(*each: Node) -> Node:
    merged: dict[str, Node] = {}
    for one in each:
        merged |= {} if one.value is None else one.value
    return Node(merged)


def _number(of: Node) -> Node:
    return Node(int(of.value) if str(of.value).lstrip("-").isdecimal() else float(of.value))


def _truth(of: Node) -> Node:
    return Node({"true": True, "false": False}.get(of.value, of.value))


def _one(of: Node) -> Node:
    if len(of.value) > 1:
        raise Fails("`one` of several")
    return of.value[0] if of.value else Node(None)


_FUNCTIONS: Mapping[str, Callable[..., Node]] = {
    "coalesce": lambda *each: each[0],
    "lookup": _lookup,
    "merge": _merge,
    "lower": lambda of: Node(of.value.lower()),
    "upper": lambda of: Node(of.value.upper()),
    "trimspace": lambda of: Node(of.value.strip()),
    "tostring": lambda of: Node(of.value if of.value is None else _written(of.value)),
    "tonumber": _number,
    "tobool": _truth,
    "tolist": lambda of: of,
    "toset": lambda of: of,
    "tomap": lambda of: of,
    "length": lambda of: Node(len(of.value)),
    "contains": lambda of, one: Node(plain(one) in plain(of)),
    "concat": lambda *each: Node(tuple(one for of in each for one in of.value)),
    "element": lambda of, index: of.value[index.value % len(of.value)],
    "keys": lambda of: Node(tuple(Node(name) for name in sorted(of.value))),
    "values": lambda of: Node(tuple(of.value[name] for name in sorted(of.value))),
    "one": _one,
}


# -- types -------------------------------------------------------------------------------------------------------------


def typed(value: Node, kind: Node | None) -> Node:
    """A variable's value with what its type adds: the defaults of `optional(...)`."""
    code = kind.value.code if kind is not None and isinstance(kind.value, Unknown) else None
    if code is None or code.kind != "call" or not code.parts or value.unknown or value.value is None:
        return value
    if code.name == "object" and isinstance(code.parts[0].value, dict) and isinstance(value.value, dict):
        members = dict(value.value)
        for name, each in code.parts[0].value.items():
            inner, default = _optional(each)
            if name not in members or (members[name].value is None and default is not None):
                if default is None and inner is each:
                    continue
                members[name] = default or Node(None)
            members[name] = typed(members[name], inner)
        return replace(value, value=members)
    if code.name in ("list", "set") and isinstance(value.value, tuple):
        return replace(value, value=tuple(typed(each, code.parts[0]) for each in value.value))
    if code.name == "map" and isinstance(value.value, dict):
        return replace(value, value={name: typed(each, code.parts[0]) for name, each in value.value.items()})
    return value


def _optional(kind: Node) -> tuple[Node, Node | None]:
    code = kind.value.code if isinstance(kind.value, Unknown) else None
    if code is None or code.kind != "call" or code.name != "optional" or not code.parts:
        return kind, None
    return code.parts[0], code.parts[1] if len(code.parts) > 1 else None
