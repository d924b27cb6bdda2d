"""What is a policy document, and what is said about one that is not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from imdsctl.policy.document import PolicyKind, parse_policy
from imdsctl.policy.limits import (
    SCP_CHARACTERS_MAX,
    TRUST_POLICY_CHARACTERS_MAX,
    check_iam_size,
    check_scp_size,
    check_scps_attached,
)
from imdsctl.policy.problems import MalformedPolicy

ALLOW: dict[str, Any] = {"Effect": "Allow", "Action": "ec2:*", "Resource": "*"}
TRUST: dict[str, Any] = {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": "111122223333"}}


def problems(document: Any, kind: PolicyKind = PolicyKind.IDENTITY) -> list[tuple[str, str]]:
    with pytest.raises(MalformedPolicy) as caught:
        parse_policy(document, name="p", kind=kind)
    assert str(caught.value)
    return [(problem.code, problem.path) for problem in caught.value.problems]


def of(statement: Any, kind: PolicyKind = PolicyKind.IDENTITY) -> list[tuple[str, str]]:
    return problems({"Version": "2012-10-17", "Statement": [statement]}, kind)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "not-json"),
        ("{", "not-json"),
        ("nan", "not-json"),
        ('{"Version": NaN}', "not-json"),
        ("[" * 100_000, "not-json"),
        ("[]", "wrong-type"),
        ('"*"', "wrong-type"),
        ('{"Statement": [], "Statement": []}', "duplicate-element"),
        ('{"Statement": {"Effect": "Allow", "Effect": "Deny"}}', "duplicate-element"),
    ],
)
def test_text_that_is_no_json_object(text: str, code: str) -> None:
    assert problems(text) == [(code, "")]


@pytest.mark.parametrize("version", ["2012-10-18", "2012", "", 20121017, None, ["2012-10-17"]])
def test_a_malformed_version(version: Any) -> None:
    assert problems({"Version": version, "Statement": [ALLOW]}) == [("invalid-version", "Version")]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("*", ("wrong-type", "Statement[0]")),
        ({**ALLOW, "Actions": "ec2:*"}, ("unknown-element", "Statement[0].Actions")),
        ({**ALLOW, "condition": {}}, ("unknown-element", "Statement[0].condition")),
        ({**ALLOW, "Effect": "allow"}, ("invalid-effect", "Statement[0].Effect")),
        ({"Action": "ec2:*", "Resource": "*"}, ("missing-element", "Statement[0]")),
        ({"Effect": "Allow", "Resource": "*"}, ("missing-element", "Statement[0]")),
        ({"Effect": "Allow", "Action": "*"}, ("missing-element", "Statement[0]")),
        ({**ALLOW, "Action": []}, ("missing-element", "Statement[0]")),
        ({**ALLOW, "Action": ["ec2:*", 7]}, ("wrong-type", "Statement[0].Action[1]")),
        ({**ALLOW, "Action": "RunInstances"}, ("invalid-action", "Statement[0].Action")),
        ({**ALLOW, "Action": "ec2:Run Instances"}, ("invalid-action", "Statement[0].Action")),
        ({**ALLOW, "NotAction": "iam:*"}, ("conflicting-elements", "Statement[0]")),
        ({**ALLOW, "NotResource": "*"}, ("conflicting-elements", "Statement[0]")),
        ({**ALLOW, "Resource": "instance/*"}, ("invalid-resource", "Statement[0].Resource")),
        ({**ALLOW, "Resource": {"a": "b"}}, ("wrong-type", "Statement[0].Resource")),
        ({**ALLOW, "Resource": "arn:aws:s3:::b/${aws:username"}, ("invalid-variable", "Statement[0].Resource")),
        ({**ALLOW, "Resource": "arn:aws:s3:::b/${}"}, ("invalid-variable", "Statement[0].Resource")),
        ({**ALLOW, "Resource": "arn:aws:s3::${aws:a}:b"}, ("invalid-variable", "Statement[0].Resource")),
        ({**ALLOW, "Principal": "*"}, ("prohibited-element", "Statement[0].Principal")),
        ({**ALLOW, "Sid": 7}, ("wrong-type", "Statement[0].Sid")),
        ({**ALLOW, "Sid": "my statement"}, ("invalid-sid", "Statement[0].Sid")),
        ({**ALLOW, "Condition": []}, ("wrong-type", "Statement[0].Condition")),
        ({**ALLOW, "Condition": {"Bool": "x"}}, ("wrong-type", "Statement[0].Condition.Bool")),
        ({**ALLOW, "Condition": {"Bool": {"a:b": []}}}, ("wrong-type", "Statement[0].Condition.Bool.a:b")),
        ({**ALLOW, "Condition": {"Bool": {"a:b": [{}]}}}, ("wrong-type", "Statement[0].Condition.Bool.a:b[0]")),
        ({**ALLOW, "Condition": {"Bool": {"ab": "true"}}}, ("invalid-key", "Statement[0].Condition.Bool.ab")),
    ],
    ids=str,
)
def test_a_statement_that_is_wrong_in_one_place(statement: Any, expected: tuple[str, str]) -> None:
    assert of(statement) == [expected]


@pytest.mark.parametrize(
    "operator",
    ["StringEqual", "stringequals", "NullIfExists", "ForAnyValue:Null", "ForSome:Bool", "IfExists", "", "BoolIfexists"],
)
def test_an_unknown_operator(operator: str) -> None:
    condition = {operator: {"aws:SourceIp": "10.0.0.0/8"}}
    assert of({**ALLOW, "Condition": condition}) == [("unknown-operator", f"Statement[0].Condition.{operator}")]


@pytest.mark.parametrize(
    ("operator", "value"),
    [
        ("NumericLessThan", "two"),
        ("NumericLessThan", "${aws:EpochTime}"),
        ("NumericEquals", "1_000"),
        ("NumericEquals", "\u0662"),
        ("DateGreaterThan", "yesterday"),
        ("DateGreaterThan", "2026-02-30"),
        ("IpAddress", "10.0.0.0/33"),
        ("IpAddress", "localhost"),
        ("Bool", "yes"),
        ("BinaryEquals", "not base64!"),
        ("Null", "maybe"),
        ("ForAllValues:NumericLessThanIfExists", ""),
    ],
)
def test_a_value_that_its_operator_cannot_compare_with(operator: str, value: str) -> None:
    assert of({**ALLOW, "Condition": {operator: {"aws:k": value}}}) == [
        ("invalid-value", f"Statement[0].Condition.{operator}.aws:k")
    ]


def test_everything_that_is_wrong_is_said_at_once_and_in_order() -> None:
    document = {"Versoin": "2012-10-17", "Statement": [{**ALLOW, "Effect": "No"}, {**ALLOW, "Action": "x"}, 3]}
    assert problems(document) == [
        ("unknown-element", "Versoin"),
        ("invalid-effect", "Statement[0].Effect"),
        ("invalid-action", "Statement[1].Action"),
        ("wrong-type", "Statement[2]"),
    ]


@pytest.mark.parametrize(("value", "code"), [(None, "missing-element"), ([], "missing-element"), ("*", "wrong-type")])
def test_a_policy_without_statements(value: Any, code: str) -> None:
    assert problems({"Version": "2012-10-17", "Statement": value}) == [(code, "Statement")]


def test_sids_are_unique() -> None:
    twice = [{**ALLOW, "Sid": "A"}, {**ALLOW, "Sid": "A"}, {**ALLOW, "Sid": ""}, {**ALLOW, "Sid": ""}]
    assert problems({"Statement": twice}) == [("duplicate-sid", "Statement[1].Sid")]


@pytest.mark.parametrize(
    ("principal", "expected"),
    [
        ("alice", ("wrong-type", "Statement[0].Principal")),
        ({}, ("wrong-type", "Statement[0].Principal")),
        ({"User": "alice"}, ("invalid-principal", "Statement[0].Principal.User")),
        ({"AWS": "arn:aws:iam::111122223333:user/*"}, ("invalid-principal", "Statement[0].Principal.AWS")),
        ({"AWS": ["111122223333", "11112222333"]}, ("invalid-principal", "Statement[0].Principal.AWS[1]")),
        ({"Service": 7}, ("wrong-type", "Statement[0].Principal.Service")),
    ],
    ids=str,
)
def test_a_principal_that_names_nobody(principal: Any, expected: tuple[str, str]) -> None:
    assert of({**TRUST, "Principal": principal}, PolicyKind.TRUST) == [expected]


def test_a_trust_policy_has_a_principal_and_no_resource() -> None:
    assert of({**TRUST, "Resource": "*"}, PolicyKind.TRUST) == [("prohibited-element", "Statement[0].Resource")]
    assert of({"Effect": "Allow", "Action": "sts:AssumeRole"}, PolicyKind.TRUST) == [
        ("missing-element", "Statement[0]")
    ]
    assert of({**TRUST, "NotPrincipal": "*"}, PolicyKind.TRUST) == [("conflicting-elements", "Statement[0]")]


@pytest.mark.parametrize("element", ["Principal", "NotPrincipal"])
def test_an_scp_has_no_principal(element: str) -> None:
    assert of({**ALLOW, element: "*"}, PolicyKind.SCP) == [("prohibited-element", f"Statement[0].{element}")]


def test_an_scp_may_allow_with_conditions_and_not_action() -> None:
    condition = {"StringEquals": {"aws:RequestedRegion": "eu-west-1"}}
    statement = {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*", "Condition": condition}
    assert parse_policy({"Version": "2012-10-17", "Statement": statement}, name="p", kind=PolicyKind.SCP).statements


def test_one_statement_need_not_be_a_list_and_is_named_without_a_number() -> None:
    assert len(parse_policy(json.dumps({"Statement": ALLOW}), name="p").statements) == 1
    assert problems({"Statement": {**ALLOW, "Effect": "x"}}) == [("invalid-effect", "Statement.Effect")]


def test_a_dollar_brace_is_plain_text_in_a_policy_of_2008() -> None:
    assert parse_policy({"Statement": {**ALLOW, "Resource": "arn:aws:s3:::b/${"}}, name="p").version == "2008-10-17"


def test_the_size_of_an_scp_counts_every_character() -> None:
    assert check_scp_size(" " * SCP_CHARACTERS_MAX) == ()
    assert [problem.code for problem in check_scp_size(" " * (SCP_CHARACTERS_MAX + 1))] == ["too-long"]


def test_the_size_of_an_iam_policy_does_not_count_white_space() -> None:
    text = "{ }" * (TRUST_POLICY_CHARACTERS_MAX // 2)
    assert check_iam_size(text, TRUST_POLICY_CHARACTERS_MAX, "a trust policy") == ()
    found = check_iam_size(text + "x", TRUST_POLICY_CHARACTERS_MAX, "a trust policy")
    assert [str(problem) for problem in found] == ["a trust policy has at most 2,048 characters; this one has 2,049"]


@pytest.mark.parametrize(("count", "codes"), [(0, ["too-few-policies"]), (1, []), (5, []), (6, ["too-many-policies"])])
def test_one_to_five_scps_at_each_place(count: int, codes: list[str]) -> None:
    scp = parse_policy({"Statement": ALLOW}, name="p", kind=PolicyKind.SCP)
    assert [problem.code for problem in check_scps_attached([scp] * count)] == codes
