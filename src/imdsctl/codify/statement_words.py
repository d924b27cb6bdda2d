"""What is misspelt in one statement: keys, values, actions, operators, ARNs; with the statement put right.

Each check looks at a statement and repairs the copy it is given, so that later checks judge what was meant.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any

from imdsctl.codify import statements
from imdsctl.codify.statement_principals import nobody
from imdsctl.codify.statements import Test
from imdsctl.codify.vocabulary import (
    KEYS,
    PARTITIONS,
    RESOURCE_TYPES,
    ROLE_DELIVERY,
    TOKENS,
    WITHOUT_OPERATION,
    Flaw,
    Key,
    Vocabulary,
    closest,
    key_meant,
    no_key,
)
from imdsctl.policy.operators import OPERATORS, InvalidValue, read_number
from imdsctl.policy.patterns import like, pieces_of, resource_like
from imdsctl.policy.variables import literal

ELEMENTS = ("Sid", "Effect", "Action", "NotAction", "Resource", "NotResource", "Principal", "NotPrincipal", "Condition")


def misspelt(statement: dict[str, Any], words: Vocabulary) -> Iterator[Flaw]:
    """Everything misspelt; `statement` is repaired in place as far as it is certain what was meant."""
    yield from _elements(statement)
    yield from _effect(statement)
    yield from _actions(statement, words)
    yield from _resources(statement)
    yield from _operators(statement)
    yield from _keys(statement)
    for test in list(statements.tests(statement)):
        if test.base == "Null":
            yield from _null(statement, test)
    for test in list(statements.about_imds(statement)):
        yield from _type(statement, test)
    for test in list(statements.about_imds(statement)):
        yield from _values(statement, test)
    yield from nobody(statement)


def _elements(statement: dict[str, Any]) -> Iterator[Flaw]:
    for name in list(statement):
        if name in ELEMENTS:
            continue
        meant = closest(name, ELEMENTS, 0.7)
        mended = meant is not None and meant not in statement
        if mended and meant is not None:
            statement[meant] = statement.pop(name)
        hint = f"write `{meant}`" if meant else "take it out"
        yield Flaw("unknown-element", name, f"`{name}` is not an element of a statement", hint, mended)


def _effect(statement: dict[str, Any]) -> Iterator[Flaw]:
    effect = statement.get("Effect")
    if isinstance(effect, str) and effect not in ("Allow", "Deny"):
        meant = closest(effect, ("Allow", "Deny"), 0.6)
        if meant:
            statement["Effect"] = meant
        hint = f"write `{meant}`" if meant else "write `Deny` or `Allow`"
        yield Flaw("malformed-policy", "Effect", f"`{effect}` is not an effect", hint, bool(meant))


def _actions(statement: dict[str, Any], words: Vocabulary) -> Iterator[Flaw]:
    for element in ("Action", "NotAction"):
        right: list[Any] = []
        several = isinstance(statement.get(element), list)
        for index, name in enumerate(statements.listed(statement.get(element))):
            path = f"{element}[{index}]" if several else element
            meant = name
            if isinstance(name, str):
                flaw, meant = _action(name, path, words)
                if flaw is not None:
                    yield flaw
            right.append(meant)
        if element in statement and right:
            statement[element] = right if several else right[0]


def _action(name: str, path: str, words: Vocabulary) -> tuple[Flaw | None, str]:
    prefix, colon, action = name.partition(":")
    operations = words.operations.get(prefix.lower())
    if not colon or not action or operations is None:
        # The words of another service are not known here; what is without one is the parser's.
        meant = next((f"{service}:{name}" for service, known in words.operations.items() if name in known), None)
        if meant is not None and not colon:
            message = f"`{name}` names no service"
            return Flaw("malformed-policy", path, message, f"write `{meant}`", mended=True), meant
        return None, name
    if "*" in action or "?" in action:
        match = like(pieces_of(action.lower()))
        if any(match(each.lower()) for each in operations):
            return None, name
        return Flaw(
            "unknown-action", path, f"`{name}` matches no action of {prefix.lower()}", "check its spelling"
        ), name
    if name.lower() in WITHOUT_OPERATION or action.lower() in {each.lower() for each in operations}:
        return None, name
    meant = closest(action, operations, 0.75)
    message = f"{prefix.lower()} has no action `{action}`: the statement says nothing about any call"
    if meant is None:
        return Flaw("unknown-action", path, message, "check its spelling, or update imdsctl's botocore"), name
    return Flaw("unknown-action", path, message, f"write `{prefix}:{meant}`", mended=True), f"{prefix}:{meant}"


# -- resources -------------------------------------------------------------------------------------------------------

_NO_OWNER = frozenset({"image", "snapshot"})


def _resources(statement: dict[str, Any]) -> Iterator[Flaw]:
    for element in ("Resource", "NotResource"):
        value = statement.get(element)
        several = isinstance(value, list)
        right: list[Any] = []
        for index, name in enumerate(statements.listed(value)):
            problem = _arn(name) if isinstance(name, str) else None
            if problem is not None:
                message, meant = problem
                hint = f"write `{meant}`" if meant else "see the ARN formats of Amazon EC2"
                path = f"{element}[{index}]" if several else element
                yield Flaw("wrong-resource", path, message, hint, mended=meant is not None)
                right.append(meant or name)
            else:
                right.append(name)
        if right:
            statement[element] = right if several else right[0]


def _arn(name: str) -> tuple[str, str | None] | None:
    """What is wrong with an EC2 ARN, and what it should be; None when nothing is, or it is another service's."""
    parts = name.split(":", 5)
    if parts[0].lower() != "arn" or len(parts) < 3 or parts[2].lower() != "ec2":
        return None
    if parts[0] != "arn" or parts[2] != "ec2":
        return f"`{name}`: ARNs tell capital letters from small ones", ":".join(["arn", parts[1], "ec2", *parts[3:]])
    right = list(parts)
    said: list[str] = []
    if "*" not in parts[1] and "?" not in parts[1] and not parts[1].startswith("${") and parts[1] not in PARTITIONS:
        meant = {"aws-gov": "aws-us-gov", "aws-china": "aws-cn"}.get(parts[1]) or closest(parts[1], PARTITIONS, 0.6)
        said.append(f"`{parts[1]}` is not a partition of AWS")
        right[1] = meant or parts[1]
        if meant is None:
            return said[0], None
    if len(parts) < 6:
        kind = _kind(parts[-1])
        if kind is None:
            return (said[0], ":".join(right)) if said else None
        missing = ["*"] * (6 - len(parts))
        right = [*right[:-1], *missing, right[-1]]
        said.append("an EC2 ARN has six parts: `arn:PARTITION:ec2:REGION:ACCOUNT:TYPE/ID`; this one has fewer")
    kind, slash, rest = right[5].partition("/")
    if not slash and ":" in kind and _kind(kind.replace(":", "/", 1)):
        kind, _, rest = kind.partition(":")
        said.append(f"`{kind}` and its id are joined by `/`, not by `:`")
        slash = "/"
    if not slash and kind in RESOURCE_TYPES:
        said.append(f"`{kind}` needs an id after it")
        slash, rest = "/", "*"
    if slash and kind not in RESOURCE_TYPES and "*" not in kind and "?" not in kind:
        meant = closest(kind, RESOURCE_TYPES, 0.8)
        if meant is not None:
            said.append(f"EC2 has no resource type `{kind}`")
            kind = meant
    right[5] = f"{kind}{slash}{rest}"
    if kind == "instance":
        for place, what in ((3, "Region"), (4, "account")):
            if not right[place]:
                said.append(f"an instance's ARN has its {what}, and this one leaves it empty")
                right[place] = "*"
    elif kind in _NO_OWNER and right[4] and "*" not in right[4] and "$" not in right[4]:
        # arn:aws:ec2:REGION::image/ID: an image's ARN has no account, so that this one matches none.
        said.append(f"the ARN of an {kind} has no account")
        right[4] = ""
    meant = ":".join(right)
    if not said or resource_like(pieces_of(name))(meant.replace("*", "1").replace("?", "1")):
        # A `*` may run past a colon: some short forms do name their resources.
        return None
    return "; ".join(said) + ": the statement never applies to one", meant


def _kind(text: str) -> str | None:
    kind = text.partition("/")[0]
    return kind if kind in RESOURCE_TYPES else closest(kind, RESOURCE_TYPES, 0.85)


# -- conditions ------------------------------------------------------------------------------------------------------

_OPERATOR_WORDS = ("Null", *OPERATORS)


def _operators(statement: dict[str, Any]) -> Iterator[Flaw]:
    condition = statement.get("Condition")
    if not isinstance(condition, dict):
        return
    for operator in list(condition):
        quantifier, colon, rest = operator.rpartition(":")
        base = rest.removesuffix("IfExists")
        if quantifier in ("", "ForAllValues", "ForAnyValue") and (base in OPERATORS or (rest == "Null" and not colon)):
            continue
        meant = _operator_meant(quantifier, colon, rest)
        if meant == operator:
            meant = None
        mended = meant is not None and meant not in condition
        if mended and meant is not None:
            condition = {meant if name == operator else name: keys for name, keys in condition.items()}
            statement["Condition"] = condition
        message = f"`{operator}` is not a condition operator"
        if rest == "NullIfExists":
            message += ": Null asks itself whether the key is there"
        yield Flaw("unknown-operator", f"Condition.{operator}", message, f"write `{meant}`" if meant else "", mended)


def _operator_meant(quantifier: str, colon: str, rest: str) -> str | None:
    suffix = "IfExists" if rest.lower().endswith("ifexists") else ""
    base = rest[: len(rest) - len(suffix)] if suffix else rest
    if base.lower().startswith("ifexists"):
        base, suffix = base[len("IfExists") :], "IfExists"
    meant = {"notequals": "StringNotEquals", "equals": "StringEquals", "numericgreater": "NumericGreaterThan"}.get(
        base.lower()
    ) or closest(base, _OPERATOR_WORDS, 0.8)
    if meant is None:
        return None
    if meant == "Null":
        return "Null"
    sets = closest(quantifier, ("ForAllValues", "ForAnyValue"), 0.7) if quantifier else ""
    return f"{sets}{colon if sets else ''}{meant}{suffix}"


def _keys(statement: dict[str, Any]) -> Iterator[Flaw]:
    asked = statements.actions(statement)
    for test in list(statements.tests(statement)):
        meant = key_meant(test.key, asked)
        if meant is None and not no_key(test.key):
            continue
        always = "always matches, for every call" if test.matches_absent else "never matches"
        message = (
            f"`{test.key}` is not a condition key: it is absent from every request, so that {test.operator} {always}"
        )
        if meant is None:
            yield Flaw("unknown-key", test.path, message, f"see the keys that there are, such as `{TOKENS}`")
            continue
        statements.renamed(statement, test, key=meant)
        yield Flaw("unknown-key", test.path, message, f"write `{meant}`", mended=True)


def _type(statement: dict[str, Any], test: Test) -> Iterator[Flaw]:
    """Numbers compared as text, text compared as numbers."""
    key = KEYS[test.key.lower()]
    if not key.values or test.base == "Null":
        return
    if key.numeric and not test.base.startswith("Numeric"):
        wanted = {"StringEquals": "NumericEquals", "StringNotEquals": "NumericNotEquals"}.get(test.base)
        numbers = all(read_number(str(each)) is not None for each in test.values)
        meant = test.operator.replace(test.base, wanted) if wanted and numbers else None
        message = f"`{key.name}` is a number; {test.base} compares text, for which 2 and 2.0 differ"
    elif not key.numeric and test.base.startswith(("Numeric", "Date", "Bool", "IpAddress", "NotIp", "Arn", "Binary")):
        wanted = "StringNotEquals" if test.negated else "StringEquals" if test.base.endswith("Equals") else None
        meant = test.operator.replace(test.base, wanted) if wanted else None
        message = f"`{key.name}` is text ({' or '.join(key.values)}); {test.base} never finds it equal to anything"
    else:
        return
    if meant is not None:
        statements.renamed(statement, test, operator=meant)
    kind = "NumericEquals, NumericLessThan, ..." if key.numeric else "StringEquals or StringNotEquals"
    yield Flaw(
        "wrong-operator-type", test.path, message, f"write `{meant}`" if meant else f"use {kind}", meant is not None
    )


def _null(statement: dict[str, Any], test: Test) -> Iterator[Flaw]:
    """Null asks whether the key is absent, and takes nothing but that."""
    written = statement["Condition"][test.operator][test.key]
    right = []
    for value in test.values:
        text = str(value).lower()
        meant = {"yes": "true", "1": "true", "no": "false", "0": "false"}.get(text)
        right.append(meant or value)
        if text not in ("true", "false"):
            message = f"Null takes `true` (the key is absent) or `false`, not `{value}`"
            hint = f"write `{meant}`" if meant else "write `true` or `false`"
            yield Flaw("impossible-value", test.path, message, hint, mended=meant is not None)
    statement["Condition"][test.operator][test.key] = statements.same_shape(written, right)


_LARGER = {"NumericLessThan", "NumericLessThanEquals", "NumericGreaterThan", "NumericGreaterThanEquals"}


def _values(statement: dict[str, Any], test: Test) -> Iterator[Flaw]:
    key = KEYS[test.key.lower()]
    if not key.values or test.base == "Null" or test.base not in OPERATORS:
        return
    written = statement["Condition"][test.operator][test.key]
    right: list[Any] = []
    for index, value in enumerate(test.values):
        text = str(value).lower() if isinstance(value, bool) else str(value)
        # Where the key does have the value, the operator is what is wrong, and that is said.
        if "${" in text or (not key.numeric and text in key.values) or _possible(key, test, text):
            right.append(value)
            continue
        meant = _value_meant(key, test, text)
        right.append(value if meant is None else meant)
        path = f"{test.path}[{index}]" if isinstance(written, list) else test.path
        hint = f"write `{meant}`" if meant else f"choose {_range(key)}"
        yield Flaw(
            "impossible-value", path, f"`{key.name}` is never `{text}`; it is {_range(key)}", hint, meant is not None
        )
    statement["Condition"][test.operator][test.key] = statements.same_shape(written, right)


def _possible(key: Key, test: Test, text: str) -> bool:
    """Is there a value of the key that this one matches; for numbers, is it one that the key can come near?"""
    number = read_number(text)
    if key.numeric and number is not None:
        lowest, highest = float(key.values[0]), float(key.values[-1])
        if key.name == ROLE_DELIVERY:
            return number in (lowest, highest)
        if number > highest:
            return False
    try:
        matches = OPERATORS[test.base].test(literal(text))
    except InvalidValue:
        return False
    return any(matches(each, {}) for each in key.values)


def _value_meant(key: Key, test: Test, text: str) -> str | None:
    if key.numeric:
        if key.name == ROLE_DELIVERY:
            return "2.0"
        words = {"one": "1", "two": "2", "three": "3"}
        return words.get(text.lower())
    values = [each.lower() for each in key.values]
    stripped = re.sub(r"[\s_]+", "-", text.strip().strip("'\"").lower())
    if "httptokens" in key.name.lower() and "enforced" not in key.name.lower():
        stripped = {
            "v2": "required",
            "imdsv2": "required",
            "v1": "optional",
            "true": "required",
            "mandatory": "required",
        }.get(stripped, stripped)
    else:
        stripped = {
            "true": "enabled",
            "false": "disabled",
            "on": "enabled",
            "off": "disabled",
            "required": "enabled",
        }.get(stripped, stripped)
    if "sagemaker" in key.name:
        stripped = {"v2": "2", "2.0": "2", "v1": "1", "1.0": "1"}.get(text.lower(), text)
    found = get_close_matches(stripped, values, 1, 0.6)
    return next((each for each in key.values if found and each.lower() == found[0]), None)


def _range(key: Key) -> str:
    if key.numeric and key.name != ROLE_DELIVERY:
        return f"a whole number from {key.values[0]} to {key.values[-1]}"
    return " or ".join(f"`{each}`" for each in key.values)
