"""Policy documents: what is one, what is none, and that nothing else than a refusal comes of text."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imdsctl.local.iam.documents import IDENTITY, TRUST, MalformedDocument, parse_document, policy_length

STATEMENT = {"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}
ELEMENTS = st.sampled_from(
    [
        *("Version", "Id", "Statement", "Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction"),
        *("Resource", "NotResource", "Condition", "StringEquals", "Null", "aws:x", "AWS"),
    ]
)
VALUES = st.sampled_from(["2012-10-17", "Allow", "Deny", "*", "ec2:*", "sts:AssumeRole", "arn:aws:ec2:*:*:*/*"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | VALUES | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(ELEMENTS | st.text(max_size=3), inner, max_size=5),
    max_leaves=12,
)


def document(*statements: Any, **top: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements), **top})


@pytest.mark.parametrize(
    "text",
    [
        document(STATEMENT),
        json.dumps({"Statement": STATEMENT}),
        document(STATEMENT, Version="2008-10-17", Id="mine"),
        document({"Effect": "Deny", "NotAction": ["iam:*", "sts:*"], "NotResource": ["arn:aws:s3:::a", "*"]}),
        document({**STATEMENT, "Sid": "One"}, {**STATEMENT, "Sid": "Two"}, {**STATEMENT, "Sid": ""}),
        document({**STATEMENT, "Condition": {"ForAllValues:StringLikeIfExists": {"aws:TagKeys": ["a", "b*"]}}}),
        document({**STATEMENT, "Condition": {"Bool": {"aws:SecureTransport": True}, "Null": {"ec2:x": "true"}}}),
        document({**STATEMENT, "Condition": {"NumericLessThan": {"ec2:RoleDelivery": 2.0}}}),
    ],
)
def test_what_is_a_policy(text: str) -> None:
    assert parse_document(text) == json.loads(text)


@pytest.mark.parametrize(
    "statement",
    [
        {"Effect": "Allow", "Action": "ec2:*"},
        {"Effect": "Allow", "Resource": "*"},
        {"Action": "ec2:*", "Resource": "*"},
        {**STATEMENT, "effect": "Deny"},
        {**STATEMENT, "Sid": 1},
        {**STATEMENT, "Action": {"a": "b"}},
        {**STATEMENT, "Resource": ["*", 1]},
        {**STATEMENT, "NotResource": "*"},
        {**STATEMENT, "Condition": []},
        {**STATEMENT, "Condition": {"StringEquals": {}}},
        {**STATEMENT, "Condition": {"StringEquals": {"nothing": "x"}}},
        {**STATEMENT, "Condition": {"StringEquals": {"aws:x": {"y": "z"}}}},
        {**STATEMENT, "Condition": {"NullIfExists": {"aws:x": "true"}}},
        {**STATEMENT, "Condition": {"stringequals": {"aws:x": "true"}}},
        {**STATEMENT, "Condition": {"Foo": {"aws:x": "true"}}},
        "Allow",
        None,
    ],
)
def test_what_is_no_statement(statement: Any) -> None:
    with pytest.raises(MalformedDocument):
        parse_document(document(statement))


def test_two_statements_have_two_names() -> None:
    with pytest.raises(MalformedDocument, match="must be unique"):
        parse_document(document({**STATEMENT, "Sid": "A"}, {**STATEMENT, "Sid": "A"}))


@given(JSON.map(json.dumps) | st.text(max_size=40), st.sampled_from([IDENTITY, TRUST]))
def test_any_text_is_a_policy_or_refused(text: str, kind: str) -> None:
    with contextlib.suppress(MalformedDocument):
        assert parse_document(text, kind)["Statement"]


def test_depth_is_refused_and_not_a_crash() -> None:
    with pytest.raises(MalformedDocument):
        parse_document("[" * 100_000)


def test_white_space_is_free() -> None:
    assert policy_length(' { "a" :\n\t"b c" } ') == len('{"a":"bc"}')
