"""A request that is prepared once is signed as one that is not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imdsctl.wire import sigv4

names = st.sampled_from(
    ["content-type", "user-agent", "x-amz-content-sha256", "x-amz-target", "x-amz-e", "x-amz-date-x", "accept", "zz"]
)
values = st.text(st.characters(min_codepoint=32, max_codepoint=255), max_size=20)


@given(
    headers=st.dictionaries(names, values, max_size=6),
    token=st.none() | st.just("") | st.text("token+/= ", min_size=1, max_size=12),
    body=st.binary(max_size=30),
    query=st.sampled_from(["", "b=2&a=1", "x=%2F&x="]),
)
def test_it_gives_the_same_headers(headers: dict[str, str], token: str | None, body: bytes, query: str) -> None:
    headers = {"host": "ec2.eu-west-1.amazonaws.com", **headers}
    place: Any = {"region": "eu-west-1", "service": "ec2"}
    who: Any = {"access_key": "AKID", "secret_key": "secret", "token": token, "amz_date": "20261103T120000Z"}
    prepared = sigv4.Prepared("POST", "/a b", query, headers, body, **place)
    assert prepared.sign(**who) == sigv4.sign("POST", "/a b", query, headers, body, **place, **who)


def test_it_needs_a_host() -> None:
    with pytest.raises(KeyError):
        sigv4.Prepared("GET", "/", "", {}, b"", region="eu-west-1", service="ec2")
