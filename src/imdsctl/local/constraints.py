"""Checks of parameters against the limits of AWS's service models, with AWS's sentence about them.

The sentence is the one every AWS service of the query and JSON families prints for a violated constraint.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

Refusal = Callable[[str], Exception]


def violation(value: Any, member: str, constraint: str) -> str:
    """AWS's sentence for one violated constraint; `member` in AWS's lower camel case."""
    shown = "null" if value is None else value
    return f"1 validation error detected: Value '{shown}' at '{member}' failed to satisfy constraint: {constraint}"


def check_required(value: Any, member: str, refuse: Refusal) -> None:
    """Raises what `refuse` makes when the value is absent."""
    if value is None:
        raise refuse(violation(None, member, "Member must not be null"))


def check_text(
    value: str | None,
    member: str,
    refuse: Refusal,
    *,
    length_min: int = 0,
    length_max: int | None = None,
    pattern: str | None = None,
) -> None:
    """Length and pattern of a text; an absent one passes."""
    if value is None:
        return
    if len(value) < length_min:
        raise refuse(violation(value, member, f"Member must have length greater than or equal to {length_min}"))
    if length_max is not None and len(value) > length_max:
        raise refuse(violation(value, member, f"Member must have length less than or equal to {length_max}"))
    if pattern is not None and not re.fullmatch(pattern, value, re.ASCII):
        raise refuse(violation(value, member, f"Member must satisfy regular expression pattern: {pattern}"))


def check_range(value: int | None, member: str, refuse: Refusal, least: int, most: int) -> None:
    """A number's range; an absent one passes."""
    if value is None:
        return
    if value < least:
        raise refuse(violation(value, member, f"Member must have value greater than or equal to {least}"))
    if value > most:
        raise refuse(violation(value, member, f"Member must have value less than or equal to {most}"))


def check_members(values: Iterable[str], member: str, refuse: Refusal, allowed: Iterable[str]) -> None:
    """Every value is one of an enumeration's."""
    names = tuple(allowed)
    for value in values:
        if value not in names:
            raise refuse(violation(value, member, f"Member must satisfy enum value set: [{', '.join(names)}]"))
