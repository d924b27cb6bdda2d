"""Pages of EC2's Describe operations.

A token names the last item that was given out, not a position: what is created or deleted between two pages never
makes an item come twice or be skipped.
"""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_right
from collections.abc import Callable, Sequence
from hashlib import blake2b
from typing import Any, TypeVar

from imdsctl.local.ec2.errors import invalid_value, refuse

T = TypeVar("T")

SEAL_BYTES = 12


def page_size(params: dict[str, Any], least: int = 5, most: int = 1000) -> int | None:
    """`MaxResults`, or None when it was not given. Raises InvalidParameterValue outside least..most."""
    size: int | None = params.get("MaxResults")
    if size is None:
        return None
    if size < least:
        raise invalid_value(
            f"Value ( {size} ) for parameter maxResults is invalid. Expecting a value greater than {least}."
        )
    if size > most:
        raise invalid_value(
            f"Value ( {size} ) for parameter maxResults is invalid. Expecting a value less than {most}."
        )
    return size


def page(
    items: Sequence[T], key: Callable[[T], str], params: dict[str, Any], of: str, *, least: int = 5, most: int = 1000
) -> tuple[Sequence[T], str | None]:
    """The page that the request asks for and the token of the next (None: that was the last).

    `items` are in the order of `key`, which is unique; `of` names the list, so that no other list takes its tokens.
    Without MaxResults and NextToken everything is one page. Raises InvalidParameterValue and InvalidNextToken.
    """
    size = page_size(params, least, most)
    after = opened(params.get("NextToken"), of)
    if after is not None:
        items = items[bisect_right(items, after, key=key) :]
        size = size or most
    if size is None or len(items) <= size:
        return items, None
    return items[:size], sealed(key(items[size - 1]), of)


def sealed(key: str, of: str) -> str:
    """An opaque token for the item that was given out last."""
    return base64.urlsafe_b64encode(_seal(key, of) + key.encode()).decode()


def opened(token: str | None, of: str) -> str | None:
    """The key in a token of this list. Raises InvalidNextToken for anything else; an absent or empty one is None."""
    if not token:
        return None
    try:
        raw = base64.b64decode(token, altchars=b"-_", validate=True)
        key = raw[SEAL_BYTES:].decode()
    except (ValueError, binascii.Error):
        raise invalid_token() from None
    if raw[:SEAL_BYTES] != _seal(key, of):
        raise invalid_token()
    return key


def invalid_token() -> Exception:
    """`InvalidNextToken`."""
    return refuse("InvalidNextToken", "The specified NextToken is not valid")


def _seal(key: str, of: str) -> bytes:
    return blake2b(f"{of}\n{key}".encode(), digest_size=SEAL_BYTES).digest()
