"""A Condition element, compiled: operators and keys are joined by AND, the values of one key by OR.

Source: IAM User Guide, "IAM JSON policy elements: Condition operators" and "Single-valued vs. multivalued context
keys".
What a condition says about a key that the request does not have:

| operator | absent key |
| --- | --- |
| positive (`StringEquals`, `NumericLessThan`, `Bool`, ...) | false |
| negated (`StringNotEquals`, `NotIpAddress`, ...) | true |
| `...IfExists` | true |
| `ForAllValues:...` | true |
| `ForAnyValue:...` | false |
| `Null` | true for "true", false for "false" |

A negated operator is true when none of its values matches (NOR). `ForAllValues` asks that of every value of the
request, `ForAnyValue` of at least one. AWS does not say what an operator without a set operator does with a multivalued
key; here a positive one matches when any value of the request does, and a negated one when none does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from imdsctl.policy.operators import OPERATORS, Operator, Test
from imdsctl.policy.request import Keys
from imdsctl.policy.variables import Template

Condition = Callable[[Keys], bool]
NULL = "Null"
_SETS = ("ForAllValues", "ForAnyValue")
_IF_EXISTS = "IfExists"


def known(name: str) -> bool:
    """Is this an operator, with its prefix and suffix?"""
    return _split(name) is not None


def takes_variables(name: str) -> bool:
    """May the values of this known operator hold policy variables?"""
    base = (_split(name) or ("", NULL, False))[1]
    return base != NULL and OPERATORS[base].variables


def compile_condition(name: str, key: str, values: Sequence[Template]) -> Condition:
    """One operator's test of one key; `name` is a known operator. Raises InvalidValue (operators.py)."""
    key = key.lower()
    quantifier, base, if_exists = _split(name) or ("", name, False)
    if base == NULL:
        return _null(key, values)
    operator = OPERATORS[base]
    matches = _any_of([operator.test(value) for value in values])
    if quantifier:
        return _quantified(key, matches, operator, every=quantifier == _SETS[0], if_exists=if_exists)
    absent = if_exists or operator.negated
    negated = operator.negated

    def condition(keys: Keys) -> bool:
        value = keys.get(key)
        if value is None:
            return absent
        if isinstance(value, str):
            return matches(value, keys) is not negated
        return any(matches(each, keys) for each in value) is not negated

    return condition


def _split(name: str) -> tuple[str, str, bool] | None:
    """Set operator, plain operator, whether it ends in IfExists; None for a name that AWS does not know."""
    quantifier, colon, rest = name.rpartition(":")
    if colon and quantifier not in _SETS:
        return None
    if rest == NULL:
        return None if colon else ("", NULL, False)
    base = rest.removesuffix(_IF_EXISTS)
    return (quantifier, base, base != rest) if base in OPERATORS else None


def _any_of(tests: Sequence[Test]) -> Test:
    if len(tests) == 1:
        return tests[0]

    return lambda value, keys: any(test(value, keys) for test in tests)


def _quantified(key: str, matches: Test, operator: Operator, *, every: bool, if_exists: bool) -> Condition:
    negated = operator.negated
    absent = every or if_exists
    check = all if every else any

    def condition(keys: Keys) -> bool:
        value = keys.get(key)
        # "no context keys in the request, or the key resolves to a null dataset, such as an empty string"
        if value is None or (every and value == ""):
            return absent
        several = (value,) if isinstance(value, str) else value
        return check(matches(each, keys) is not negated for each in several)

    return condition


def _null(key: str, values: Sequence[Template]) -> Condition:
    """`"true"`: the key must be absent or empty, `"false"`: it must be there."""
    test = _any_of([OPERATORS["Bool"].test(value) for value in values])

    def condition(keys: Keys) -> bool:
        return test("false" if keys.get(key) else "true", keys)

    return condition
