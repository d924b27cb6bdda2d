"""Tokens: AWS's form, bound to an instance, and nothing is stored of them."""

from __future__ import annotations

import tracemalloc
from base64 import urlsafe_b64decode

from hypothesis import given, settings
from hypothesis import strategies as st

from imdsctl.imds.fixed import DEFAULT_OPTIONS, FixedSource, example_credentials, example_facts
from imdsctl.imds.messages import Request
from imdsctl.imds.service import MetadataService
from imdsctl.imds.tokens import NONCE_BYTES, TTL_SECONDS_MAX, Tokens, ttl_of

UNHURRIED = settings(deadline=None)  # how long an example takes is the machine's business
NOW = 1_790_000_000.0
NONCE = b"\1" * NONCE_BYTES
TOKENS = Tokens(b"key", "i-1")


def test_a_token_has_the_form_of_awss() -> None:
    token = TOKENS.issue(60, NOW, NONCE)
    assert len(token) == 56
    assert token.endswith(b"==")
    raw = urlsafe_b64decode(token)
    assert len(raw) == 40
    assert raw[:4] == b"\1\0\4\0"


@UNHURRIED
@given(st.integers(1, TTL_SECONDS_MAX), st.floats(0, 4e9), st.binary(min_size=NONCE_BYTES, max_size=NONCE_BYTES))
def test_a_token_is_good_until_its_ttl_is_over_and_not_longer(ttl: int, now: float, nonce: bytes) -> None:
    token = TOKENS.issue(ttl, now, nonce)
    assert TOKENS.remaining(token, now) == ttl
    assert TOKENS.remaining(token, now + ttl + 0.01) is None


def test_what_is_left_is_told_in_whole_seconds_and_is_never_zero() -> None:
    token = TOKENS.issue(60, NOW, NONCE)
    assert [TOKENS.remaining(token, NOW + after) for after in (0, 1, 1.5, 59, 59.999)] == [60, 59, 59, 1, 1]
    assert TOKENS.remaining(token, NOW + 60) is None


def test_a_token_is_for_one_instance_of_one_world() -> None:
    token = TOKENS.issue(60, NOW, NONCE)
    assert Tokens(b"key", "i-1").remaining(token, NOW) == 60  # a service made anew takes it
    assert Tokens(b"key", "i-2").remaining(token, NOW) is None
    assert Tokens(b"other", "i-1").remaining(token, NOW) is None


def test_two_tokens_of_the_same_moment_differ() -> None:
    assert TOKENS.issue(60, NOW, b"\1" * NONCE_BYTES) != TOKENS.issue(60, NOW, b"\2" * NONCE_BYTES)


@UNHURRIED
@given(st.binary(max_size=80))
def test_what_was_not_issued_is_no_token(guess: bytes) -> None:
    assert TOKENS.remaining(guess, NOW) is None


@UNHURRIED
@given(st.integers(0, 55), st.integers(0, 255))
def test_a_token_with_another_byte_anywhere_is_no_token(index: int, byte: int) -> None:
    token = bytearray(TOKENS.issue(60, NOW, NONCE))
    if token[index] != byte:
        token[index] = byte
        assert TOKENS.remaining(bytes(token), NOW) is None


@UNHURRIED
@given(st.binary(max_size=12) | st.text("0123456789", max_size=12).map(str.encode))
def test_a_ttl_is_1_to_21600_in_ascii_digits(value: bytes) -> None:
    allowed = value != b"" and set(value) <= set(b"0123456789") and len(value) <= 8 and 1 <= int(value) <= 21600
    assert ttl_of(value) == (int(value) if allowed else None)


def test_twenty_thousand_tokens_issued_used_and_expired_leave_no_growth() -> None:
    """Nothing is kept, so the number does not matter: what a million leaves is what these leave."""
    service = MetadataService(FixedSource(DEFAULT_OPTIONS, example_facts(), example_credentials), b"key")
    put = Request("PUT", b"/latest/api/token", [(b"x-aws-ec2-metadata-token-ttl-seconds", b"1")])

    def issue_and_let_expire(count: int, now: float) -> None:
        for number in range(count):
            token = service.respond(put, now + number).content[-56:]
            get = Request("GET", b"/latest/meta-data/instance-id", [(b"x-aws-ec2-metadata-token", token)])
            assert service.respond(get, now + number).status == 200
        assert service.respond(get, now + count).status == 401

    tracemalloc.start()
    try:
        issue_and_let_expire(200, NOW)  # what is kept at all is kept now
        before = tracemalloc.get_traced_memory()[0]
        issue_and_let_expire(20_000, NOW)
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    # Three bytes for each: a token that was kept would take a hundred. Others in this process allocate a little, too.
    assert after - before < 64 * 1024
