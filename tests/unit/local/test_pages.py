"""Pages: everything exactly once, whatever the size, and no tokens of others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imdsctl.local.pages import InvalidToken, page


@given(st.integers(0, 60), st.integers(1, 25))
def test_following_the_tokens_gives_everything_once(count: int, size: int) -> None:
    items = list(range(count))
    found: list[int] = []
    token: str | None = None
    while True:
        part, token = page(items, token, size, of="x")
        assert len(part) <= size
        found += part
        if token is None:
            break
    assert found == items


@pytest.mark.parametrize("token", ["", "x", "AAAA", "2", "ünï", "=" * 30])
def test_a_token_that_was_never_given_is_refused(token: str) -> None:
    with pytest.raises(InvalidToken):
        page([1, 2, 3], token, 1, of="x")


def test_a_token_of_another_list_is_refused() -> None:
    _, token = page([1, 2, 3], None, 1, of="x")
    with pytest.raises(InvalidToken):
        page([1, 2, 3], token, 1, of="y")
