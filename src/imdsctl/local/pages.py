"""Pages of a list, with tokens that say where the next one starts and refuse to be anybody else's."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from hashlib import blake2b
from typing import TypeVar

T = TypeVar("T")


class InvalidToken(ValueError):
    """A token that this list did not give out."""


def page(items: Sequence[T], token: str | None, size: int, *, of: str) -> tuple[Sequence[T], str | None]:
    """The page that `token` names (None: the first), and the token of the one after it (None: that was the last).

    `of` names the list and its owner; a token of another list raises InvalidToken.
    """
    start = 0 if token is None else position_of(token, of)
    if start > len(items):
        raise InvalidToken(token)
    end = start + size
    return items[start:end], token_of(end, of) if end < len(items) else None


def token_of(position: int, of: str) -> str:
    """The token of a position in a list."""
    return base64.urlsafe_b64encode(_seal(position, of) + str(position).encode()).decode()


def position_of(token: str, of: str) -> int:
    """The position that a token of this list names. Raises InvalidToken."""
    try:
        sealed = base64.b64decode(token, altchars=b"-_", validate=True)
        position = int(sealed[16:])
    except (ValueError, binascii.Error):
        raise InvalidToken(token) from None
    if sealed[:16] != _seal(position, of):
        raise InvalidToken(token)
    return position


def _seal(position: int, of: str) -> bytes:
    return blake2b(f"{of}/{position}".encode(), digest_size=16).digest()
