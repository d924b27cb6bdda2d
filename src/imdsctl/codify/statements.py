"""A statement as plain JSON: its conditions one by one, and changed copies of it."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from imdsctl.codify.vocabulary import KEYS, ONLY_ON, TYPE
from imdsctl.policy.operators import OPERATORS

_SUFFIX = "IfExists"


@dataclass(frozen=True, slots=True)
class Test:
    """One key of one operator. `base` is the operator without its set prefix and IfExists."""

    operator: str
    key: str
    values: tuple[Any, ...]

    @property
    def base(self) -> str:
        """`StringEquals` of `ForAllValues:StringEqualsIfExists`."""
        return self.operator.rpartition(":")[2].removesuffix(_SUFFIX)

    @property
    def negated(self) -> bool:
        """True for `StringNotEquals` and its like."""
        operator = OPERATORS.get(self.base)
        return operator is not None and operator.negated

    @property
    def matches_absent(self) -> bool:
        """Does it hold where the key is absent?"""
        if self.base == "Null":
            return any(str(each).lower() == "true" for each in self.values)
        return self.negated or self.operator.endswith(_SUFFIX) or self.operator.startswith("ForAllValues:")

    @property
    def path(self) -> str:
        """Below the statement."""
        return f"Condition.{self.operator}.{self.key}"


def listed(value: Any) -> list[Any]:
    """One or many, as a list."""
    return list(value) if isinstance(value, list) else [] if value is None else [value]


def strings(value: Any) -> list[str]:
    """The strings among one or many."""
    return [each for each in listed(value) if isinstance(each, str)]


def tests(statement: Mapping[str, Any]) -> Iterator[Test]:
    """Its conditions, as far as they are well-formed."""
    condition = statement.get("Condition")
    for operator, keys in condition.items() if isinstance(condition, Mapping) else ():
        for key, values in keys.items() if isinstance(keys, Mapping) else ():
            yield Test(operator, key, tuple(listed(values)))


def about_imds(statement: Mapping[str, Any]) -> list[Test]:
    """The conditions on keys that say something about IMDS."""
    return [test for test in tests(statement) if test.key.lower() in KEYS]


def others(statement: Mapping[str, Any]) -> list[Test]:
    """The conditions on everything else: who asks, where, which tags."""
    return [test for test in tests(statement) if test.key.lower() not in KEYS]


WHERE = frozenset({"aws:requestedregion", "ec2:region"})


def exempts(statement: Mapping[str, Any]) -> bool:
    """Does a condition spare somebody or something? One on the Region alone does not: the enforcer works there too."""
    return any(test.key.lower() not in WHERE for test in others(statement))


def actions(statement: Mapping[str, Any]) -> list[str]:
    """The lower-case names in Action."""
    return [name.lower() for name in strings(statement.get("Action"))]


def reduced(statement: Mapping[str, Any], *, keep: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The statement where all its other conditions hold: only those about IMDS are left, and those on the keys in
    `keep` (lower case).

    A positive condition on a key of one type of resource holds on that type alone; that much of it is kept.
    """
    kept = copy.deepcopy(dict(statement))
    types = []
    for test in others(statement):
        if test.key.lower() in keep:
            continue
        without(kept, test)
        only = ONLY_ON.get(test.key.lower().partition("/")[0])
        if only is not None and not test.matches_absent:
            types.append(only)
    for number, only in enumerate(dict.fromkeys(types)):
        with_condition(kept, ("StringEquals", "StringLike", "StringEqualsIgnoreCase")[number % 3], TYPE, only)
    return kept


def without(statement: dict[str, Any], test: Test) -> None:
    """Take a condition out, in place."""
    condition = statement["Condition"]
    condition[test.operator].pop(test.key, None)
    if not condition[test.operator]:
        del condition[test.operator]
    if not condition:
        del statement["Condition"]


def with_condition(statement: dict[str, Any], operator: str, key: str, value: Any) -> None:
    """Put a condition in, in place; one that is there stays."""
    statement.setdefault("Condition", {}).setdefault(operator, {}).setdefault(key, value)


def renamed(statement: dict[str, Any], test: Test, *, operator: str | None = None, key: str | None = None) -> None:
    """Write a condition under another operator or key, in place and where it stood."""
    value = statement["Condition"][test.operator][test.key]
    fresh: dict[str, Any] = {}
    for name, keys in statement["Condition"].items():
        if not isinstance(keys, Mapping):
            fresh[name] = keys
            continue
        for each, values in keys.items():
            moved = name == test.operator and each == test.key
            target = (operator or name) if moved else name
            inner = fresh.setdefault(target, {})
            if isinstance(inner, dict):
                inner[(key or each) if moved else each] = value if moved else values
    statement["Condition"] = fresh


def same_shape(value: Any, values: list[Any]) -> Any:
    """`values` as they were written: one alone, or a list."""
    return values if isinstance(value, list) or len(values) != 1 else values[0]
