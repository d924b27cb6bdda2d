"""How large policies may be, and how many."""

from __future__ import annotations

import pytest

from imdsctl.policy.document import Policy, PolicyKind, parse_policy
from imdsctl.policy.limits import (
    ROLE_INLINE_CHARACTERS_MAX,
    check_declarative_size,
    check_iam_size,
    check_scp_size,
    check_scps_attached,
)

FULL = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}


def scps(count: int) -> list[Policy]:
    return [parse_policy(FULL, name=f"p{index}", kind=PolicyKind.SCP) for index in range(count)]


def test_every_character_of_an_scp_counts() -> None:
    assert not check_scp_size("x" * 5_120)
    (problem,) = check_scp_size("x" * 5_120 + " ")
    assert problem.code == "too-long"
    assert problem.message == "an SCP has at most 5,120 characters; this one has 5,121"


def test_every_character_of_a_declarative_policy_counts() -> None:
    assert not check_declarative_size(" " * 10_000)
    assert [problem.code for problem in check_declarative_size(" " * 10_001)] == ["too-long"]


def test_white_space_of_an_iam_policy_does_not_count() -> None:
    text = "x" * ROLE_INLINE_CHARACTERS_MAX
    assert not check_iam_size(f" \n{text}\t\r\n", ROLE_INLINE_CHARACTERS_MAX, "an inline role policy")
    (problem,) = check_iam_size(f"{text}x", ROLE_INLINE_CHARACTERS_MAX, "an inline role policy")
    assert problem.message == "an inline role policy has at most 10,240 characters; this one has 10,241"


@pytest.mark.parametrize(("count", "code"), [(0, "too-few-policies"), (1, None), (5, None), (6, "too-many-policies")])
def test_a_place_has_one_to_five_scps(count: int, code: str | None) -> None:
    assert [problem.code for problem in check_scps_attached(scps(count))] == ([code] if code else [])
