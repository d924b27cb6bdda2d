"""Wildcards, against the plainest way to say what they mean."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from imdsctl.policy.patterns import arn_like, like, pieces_of


def means(pattern: str, text: str) -> bool:
    """`*` is nothing, or one more character and `*` again."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return means(pattern[1:], text) or bool(text and means(pattern, text[1:]))
    return bool(text) and pattern[0] in ("?", text[0]) and means(pattern[1:], text[1:])


@given(st.text("ab*?\n", max_size=8), st.text("ab\n", max_size=8))
def test_a_wildcard_pattern_means_what_it_says(pattern: str, text: str) -> None:
    assert like(pieces_of(pattern))(text) is means(pattern, text)


@given(
    st.lists(st.text("ab*?", max_size=3), min_size=6, max_size=7),
    st.lists(st.text("ab", max_size=3), min_size=6, max_size=7),
)
def test_no_wildcard_crosses_one_of_the_first_five_colons(pattern: list[str], text: list[str]) -> None:
    expected = all(map(means, pattern[:5], text[:5])) and means(":".join(pattern[5:]), ":".join(text[5:]))
    assert arn_like(pieces_of(":".join(pattern)))(":".join(text)) is expected


def test_an_arn_with_fewer_parts_is_completed() -> None:
    assert arn_like(pieces_of("arn:aws:sqs"))("arn:aws:sqs:eu-west-1:111122223333:queue")
    assert not arn_like(pieces_of("arn:aws:sqs"))("arn:aws:sns:eu-west-1:111122223333:topic")
    assert arn_like(pieces_of("arn:*"))("arn:aws:ec2:eu-west-1::image/ami-1")
    assert not arn_like(pieces_of("arn:*"))("*"), "only a lone asterisk covers an action without resources"


def test_text_that_is_no_pattern_has_no_wildcards() -> None:
    assert like((("a", True), ("*", False)))("a*")
    assert not like((("a", True), ("*", False)))("ab")
    assert like((("a*", True), ("?", False)))("abc?")
    assert not like((("a*", True), ("?", False)))("abcd")


def test_a_hostile_pattern_does_not_take_for_ever() -> None:
    assert not like(pieces_of("*a" * 60 + "b"))("a" * 3000)
    assert not arn_like(pieces_of("arn:" * 5 + "*a" * 60 + "b"))("arn:" * 5 + "a" * 3000)
