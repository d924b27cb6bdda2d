"""Wildcards: `*` is any text, `?` any one character; in an ARN neither crosses one of its first five colons.

Source: IAM User Guide, "IAM JSON policy elements: Resource" (wildcards; an ARN with fewer than six parts is completed
with `*`) and "Condition operators" (ArnLike: "each of the six colon-delimited components is checked separately").

A pattern comes in pieces, so that a `*` out of a policy variable's value or out of `${*}` stays an asterisk.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import lru_cache

Pieces = tuple[tuple[str, bool], ...]
"""Text, and whether wildcards in it are wildcards."""

Matcher = Callable[[str], bool]

_ARN_PARTS = 6
_COMPILED_MAX = 4096


def pieces_of(text: str) -> Pieces:
    """A pattern in which every `*` and `?` is a wildcard."""
    return ((text, True),)


@lru_cache(maxsize=_COMPILED_MAX)
def like(pieces: Pieces) -> Matcher:
    """Matches whole strings, case-sensitively. Linear in pattern times text, whatever the pattern."""
    if all(not wild or ("*" not in text and "?" not in text) for text, wild in pieces):
        return "".join(text for text, _ in pieces).__eq__
    if pieces == (("*", True),):
        return _anything
    return _compiled(_expression(_characters(pieces), "."))


@lru_cache(maxsize=_COMPILED_MAX)
def arn_like(pieces: Pieces) -> Matcher:
    """Matches ARNs part by part, case-sensitively; a lone `*` matches everything."""
    if pieces == (("*", True),):
        return _anything
    if all(not wild or ("*" not in text and "?" not in text) for text, wild in pieces):
        whole = "".join(text for text, _ in pieces)
        if whole.count(":") >= _ARN_PARTS - 1:
            return whole.__eq__
    parts: list[list[tuple[str, bool]]] = [[]]
    for character, wild in _characters(pieces):
        if character == ":" and len(parts) < _ARN_PARTS:
            parts.append([])
        else:
            parts[-1].append((character, wild))
    parts += [[("*", True)] for _ in range(_ARN_PARTS - len(parts))]
    return _compiled(":".join([*(_expression(part, "[^:]") for part in parts[:-1]), _expression(parts[-1], ".")]))


def _anything(text: str) -> bool:
    return True


def _characters(pieces: Pieces) -> list[tuple[str, bool]]:
    return [(character, wild and character in "*?") for text, wild in pieces for character in text]


def _expression(characters: Sequence[tuple[str, bool]], one: str) -> str:
    """A regular expression that never backtracks over more than its last star.

    The first place where the text between two stars fits is as good as any later one, so it is taken for good: that is
    what the atomic groups say, and what keeps a hostile `*a*a*a*...` from taking for ever.
    """
    runs = [""]
    for character, wild in characters:
        if wild and character == "*":
            runs.append("")
        else:
            runs[-1] += one if wild else re.escape(character)
    if len(runs) == 1:
        return runs[0]
    first, *middle, last = runs
    return first + "".join(f"(?>{one}*?{run})" for run in middle if run) + f"{one}*{last}"


def _compiled(expression: str) -> Matcher:
    match = re.compile(expression, re.DOTALL).fullmatch
    return lambda text: match(text) is not None
