"""Wildcards, against the plainest way to say what they mean."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from imdsctl.policy.patterns import arn_like, like, pieces_of, resource_like


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


def crosses(pattern: str, text: str, part: int = 1) -> bool:
    """The Resource element: in the first five parts only a `*` that ends its part goes past a colon."""
    if not pattern:
        return not text
    first, rest = pattern[0], pattern[1:]
    free = part >= 6 or (first == "*" and rest[:1] in ("", ":"))
    may = bool(text) and (free or text[0] != ":")
    if first == "*":
        return crosses(rest, text, part) or (may and crosses(pattern, text[1:], part))
    if first == "?":
        return may and crosses(rest, text[1:], part)
    return text[:1] == first and crosses(rest, text[1:], part + (first == ":"))


@given(st.text("ab*?:", max_size=9), st.text("ab:", max_size=11))
def test_a_star_that_ends_a_part_of_a_resource_runs_past_colons(pattern: str, text: str) -> None:
    completed = pattern + ":*" * (5 - pattern.count(":"))
    expected = pattern == "*" or crosses(pattern, text) or crosses(completed, text)
    assert resource_like(pieces_of(pattern))(text) is expected


@given(
    st.lists(st.text("ab*?", max_size=3), min_size=6, max_size=7),
    st.lists(st.text("ab", max_size=3), min_size=6, max_size=8),
)
def test_resources_of_six_parts_and_more(pattern: list[str], text: list[str]) -> None:
    assert resource_like(pieces_of(":".join(pattern)))(":".join(text)) is crosses(":".join(pattern), ":".join(text))


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
    assert not resource_like(pieces_of("*a:*b:*:*:*:" + "*a" * 60 + "b"))("a:" * 1500)
    assert not resource_like(pieces_of("*:*a*a*a*a*:*:*:*:*b"))("a:" * 1500)
