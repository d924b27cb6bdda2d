"""Whom a trust policy lets in; a condition never opens a door that it might close."""

from __future__ import annotations

import json
from typing import Any

import pytest

from imdsctl.local.iam.trust import Principal, trusts

ACCOUNT = "111122223333"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/team/deploy"
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/deploy/me"
CALLER = Principal(ACCOUNT, frozenset({ROLE, SESSION}))


def statement(principal: Any, effect: str = "Allow", action: Any = "sts:AssumeRole", **more: Any) -> dict[str, Any]:
    return {"Effect": effect, "Principal": principal, "Action": action, **more}


def document(*statements: dict[str, Any]) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


@pytest.mark.parametrize(
    ("principal", "trusted"),
    [
        ("*", True),
        ({"AWS": "*"}, True),
        ({"AWS": ACCOUNT}, True),
        ({"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, True),
        ({"AWS": ROLE}, True),
        ({"AWS": SESSION}, True),
        ({"AWS": ["arn:aws:iam::444455556666:root", ROLE]}, True),
        ({"AWS": "arn:aws:iam::444455556666:root"}, False),
        ({"AWS": f"arn:aws:iam::{ACCOUNT}:role/deploy"}, False),
        ({"AWS": f"arn:aws:iam::{ACCOUNT}:role/*"}, False),
        ({"Service": "ec2.amazonaws.com"}, False),
        ({"Federated": "*"}, False),
    ],
)
def test_principals(principal: Any, trusted: bool) -> None:
    assert trusts(document(statement(principal)), CALLER, "sts:AssumeRole") is trusted


@pytest.mark.parametrize(
    ("action", "trusted"),
    [("sts:AssumeRole", True), ("STS:assumerole", True), ("sts:*", True), ("*", True), ("sts:TagSession", False)],
)
def test_actions(action: str, trusted: bool) -> None:
    assert trusts(document(statement("*", action=action)), CALLER, "sts:AssumeRole") is trusted


CONDITION = {"StringEquals": {"sts:ExternalId": "x"}}


@pytest.mark.parametrize(
    ("statements", "trusted"),
    [
        ([statement("*"), statement({"AWS": ROLE}, "Deny")], False),
        ([statement("*"), statement({"AWS": f"arn:aws:iam::{ACCOUNT}:role/other"}, "Deny")], True),
        ([statement("*", Condition=CONDITION)], False),
        ([statement("*"), statement("*", "Deny", Condition=CONDITION)], False),
        ([statement("*"), statement("*", Condition=CONDITION)], True),
    ],
)
def test_a_deny_wins_and_conditions_count_against_the_caller(statements: list[Any], trusted: bool) -> None:
    assert trusts(document(*statements), CALLER, "sts:AssumeRole") is trusted


def test_what_is_no_document_trusts_nobody() -> None:
    assert not trusts("", CALLER, "sts:AssumeRole")
