"""Wildcards: `*` is any text, `?` any one character; in an ARN's first five parts they stay within their part.

Sources: IAM User Guide, "IAM JSON policy elements: Condition operators" (ArnLike: "each of the six colon-delimited
components of the ARN is checked separately") and "IAM JSON policy elements: Resource" (a `*` that ends a part "can
expand to match beyond the colon boundaries"; an ARN with fewer than six parts is completed with `*`).

A pattern comes in pieces, so that a `*` out of a policy variable's value or out of `${*}` stays an asterisk.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

Pieces = tuple[tuple[str, bool], ...]
"""Text, and whether wildcards in it are wildcards."""

Matcher = Callable[[str], bool]

_ARN_PARTS = 6
_COMPILED_MAX = 4096
_ANY, _NO_COLON = ".", "[^:]"

_Token = tuple[str, str | None]
"""A character, and for a wildcard the class of what it stands for."""


def pieces_of(text: str) -> Pieces:
    """A pattern in which every `*` and `?` is a wildcard."""
    return ((text, True),)


@lru_cache(maxsize=_COMPILED_MAX)
def like(pieces: Pieces) -> Matcher:
    """Matches whole strings, case-sensitively. Linear in pattern times text, whatever the pattern."""
    if _is_plain(pieces):
        return "".join(text for text, _ in pieces).__eq__
    if pieces == (("*", True),):
        return _anything
    return _compiled(_expression((each, _ANY if wild else None) for each, wild in _characters(pieces)))


@lru_cache(maxsize=_COMPILED_MAX)
def arn_like(pieces: Pieces) -> Matcher:
    """Matches ARNs part by part, case-sensitively; a lone `*` matches everything. This is how conditions compare."""
    if pieces == (("*", True),):
        return _anything
    characters = _characters(pieces)
    if _is_plain(pieces) and _parts(characters) >= _ARN_PARTS:
        return "".join(text for text, _ in pieces).__eq__
    return _compiled(_expression(_arn_tokens(_completed(characters), crossing=False)))


@lru_cache(maxsize=_COMPILED_MAX)
def resource_like(pieces: Pieces) -> Matcher:
    """Matches ARNs as the Resource element does: like `arn_like`, but a `*` that ends a part may run past colons.

    A pattern with fewer than six parts counts as it is written and as it is completed.
    """
    if pieces == (("*", True),):
        return _anything
    characters = _characters(pieces)
    if _parts(characters) >= _ARN_PARTS:
        if _is_plain(pieces):
            return "".join(text for text, _ in pieces).__eq__
        return _compiled(_expression(_arn_tokens(characters, crossing=True)))
    written = _expression(_arn_tokens(characters, crossing=True))
    completed = _expression(_arn_tokens(_completed(characters), crossing=True))
    return _compiled(f"(?:{written})|(?:{completed})")


def _anything(text: str) -> bool:
    return True


def _is_plain(pieces: Pieces) -> bool:
    return all(not wild or ("*" not in text and "?" not in text) for text, wild in pieces)


def _characters(pieces: Pieces) -> list[tuple[str, bool]]:
    return [(character, wild and character in "*?") for text, wild in pieces for character in text]


def _parts(characters: Sequence[tuple[str, bool]]) -> int:
    return 1 + sum(character == ":" for character, _ in characters)


def _completed(characters: Sequence[tuple[str, bool]]) -> list[tuple[str, bool]]:
    return [*characters, *[(":", False), ("*", True)] * (_ARN_PARTS - _parts(characters))]


def _arn_tokens(characters: Sequence[tuple[str, bool]], *, crossing: bool) -> list[_Token]:
    """`crossing`: may a `*` at the end of one of the first five parts run past the colon?"""
    tokens: list[_Token] = []
    part = 1
    for position, (character, wild) in enumerate(characters):
        if not wild:
            part += character == ":"
            tokens.append((character, None))
            continue
        ends_part = position + 1 == len(characters) or characters[position + 1][0] == ":"
        beyond = part >= _ARN_PARTS or (crossing and character == "*" and ends_part)
        tokens.append((character, _ANY if beyond else _NO_COLON))
    return tokens


def _expression(tokens: Iterable[_Token]) -> str:
    """A regular expression that never backtracks over more than its last star.

    The first place where the text between two stars fits is as good as any later one, so it is taken for good: that is
    what the atomic groups say, and what keeps a hostile `*a*a*a*...` from taking for ever. Stars that stay within a
    part do not see past a colon, so this holds for them only between two stars that do (a block): a block that begins
    at an earlier colon also ends earlier, and inside it every star is of the same kind.
    """
    blocks: list[list[str]] = [[""]]
    for character, stands_for in tokens:
        if stands_for is None:
            blocks[-1][-1] += re.escape(character)
        elif character == "?":
            blocks[-1][-1] += stands_for
        elif stands_for == _ANY:
            blocks.append([""])
        else:
            blocks[-1].append("")
    if len(blocks) == 1:
        return _block(blocks[0], to_the_end=True)
    first, *middle, last = blocks
    between = "".join(f"(?>{_ANY}*?{_block(block)})" for block in middle if block != [""])
    return f"{_block(first)}{between}{_ANY}*{_block(last, to_the_end=True)}"


def _block(runs: Sequence[str], *, to_the_end: bool = False) -> str:
    first, *rest = runs
    if to_the_end and rest:
        *middle, last = rest
        return first + "".join(f"(?>{_NO_COLON}*?{run})" for run in middle if run) + f"{_NO_COLON}*{last}"
    # A star at the end of a block takes nothing: the star of the other kind that follows takes it all.
    return first + "".join(f"(?>{_NO_COLON}*?{run})" for run in rest if run)


def _compiled(expression: str) -> Matcher:
    match = re.compile(expression, re.DOTALL).fullmatch
    return lambda text: match(text) is not None
