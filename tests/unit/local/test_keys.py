"""Access key ids carry their account."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imdsctl.local.keys import account_of_key, key_id

ACCOUNTS = st.integers(0, 10**12 - 1).map("{:012d}".format)


@given(ACCOUNTS, st.integers(0), st.sampled_from(["AKIA", "ASIA"]))
def test_the_account_comes_out_again(account_id: str, noise: int, kind: str) -> None:
    made = key_id(kind, account_id, noise)
    assert len(made) == 20
    assert made.startswith(kind)
    assert account_of_key(made) == account_id


@pytest.mark.parametrize(
    "text", ["", "AKIA", "AKIA1111111111111111", "AKIAIOSFODNN7EXAMPL", "AKIAIOSFODNN7EXAMPLEEEEEEEEE"]
)
def test_there_is_no_account_in_anything_else(text: str) -> None:
    assert account_of_key(text) is None


@given(st.text(max_size=24))
def test_any_text_may_be_asked(text: str) -> None:
    account_of_key(text)
