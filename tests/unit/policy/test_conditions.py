"""Every condition operator, from the table tests/cases/policy/operators.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from imdsctl.policy.document import parse_policy
from imdsctl.policy.operators import OPERATORS
from imdsctl.policy.principals import Named
from imdsctl.policy.request import Principal, PrincipalKind, context_keys

TABLE = json.loads((Path(__file__).parents[2] / "cases" / "policy" / "operators.json").read_text())
ALICE = Principal(PrincipalKind.USER, "arn:aws:iam::111122223333:user/alice", "111122223333")


def holds(condition: dict[str, Any], keys: dict[str, Any]) -> bool:
    statement = {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": condition}
    policy = parse_policy({"Version": "2012-10-17", "Statement": statement}, name="p")
    return policy.statements[0].named("*", ALICE, context_keys(keys)) is Named.DIRECTLY


def named(row: dict[str, Any]) -> str:
    return f"{row['operator']} {row['policy']}"


def test_the_table_has_every_operator() -> None:
    assert {row["operator"] for row in TABLE["operators"]} == set(OPERATORS)


@pytest.mark.parametrize("row", TABLE["operators"], ids=named)
def test_an_operator_compares_as_the_table_says(row: dict[str, Any]) -> None:
    for prefix in ("", "ForAnyValue:", "ForAllValues:"):
        for suffix in ("", "IfExists"):
            condition = {f"{prefix}{row['operator']}{suffix}": {"aws:Key": row["policy"]}}
            for value in row["matches"]:
                assert holds(condition, {"AWS:key": value}), (condition, value)
            for value in row["does not match"]:
                if value or prefix != "ForAllValues:":
                    assert not holds(condition, {"AWS:key": value}), (condition, value)


@pytest.mark.parametrize("row", TABLE["operators"], ids=named)
def test_an_absent_key_has_the_answer_of_its_operator(row: dict[str, Any]) -> None:
    operator, condition = row["operator"], {"aws:Key": row["policy"]}
    others = {"aws:OtherKey": "required"}
    assert holds({operator: condition}, others) is row["absent"]
    assert holds({f"{operator}IfExists": condition}, others) is True
    assert holds({f"ForAllValues:{operator}": condition}, others) is True
    assert holds({f"ForAllValues:{operator}IfExists": condition}, others) is True
    assert holds({f"ForAnyValue:{operator}": condition}, others) is False
    assert holds({f"ForAnyValue:{operator}IfExists": condition}, others) is True


@pytest.mark.parametrize("row", TABLE["null"], ids=lambda row: str(row["policy"]))
def test_null_asks_for_presence(row: dict[str, Any]) -> None:
    condition = {"Null": {"aws:Key": row["policy"]}}
    assert holds(condition, {"aws:key": "anything"}) is row["present"]
    assert holds(condition, {"aws:key": ["anything"]}) is row["present"]
    assert holds(condition, {}) is row["absent"]
    assert holds(condition, {"aws:key": []}) is row["absent"]
    assert holds(condition, {"aws:key": ""}) is row["absent"], "an empty value is a null value"


@pytest.mark.parametrize("row", TABLE["sets"], ids=lambda row: f"{row['operator']} {row['policy']} {row['request']}")
def test_set_operators_compare_every_value_of_the_request(row: dict[str, Any]) -> None:
    assert holds({row["operator"]: {"aws:TagKeys": row["policy"]}}, {"aws:TagKeys": row["request"]}) is row["true"]


def test_operators_and_keys_are_joined_by_and() -> None:
    condition = {"StringEquals": {"aws:a": "1", "aws:b": "2"}, "Bool": {"aws:c": "true"}}
    right = {"aws:a": "1", "aws:b": "2", "aws:c": "true"}
    assert holds(condition, right)
    for key in right:
        assert not holds(condition, {**right, key: "other"})


def test_numbers_and_truth_of_a_request_become_text() -> None:
    assert context_keys({"A": True, "b": 2, "C": 2.5, "d": None, "e": [], "F": ["x"]}) == {
        "a": "true",
        "b": "2",
        "c": "2.5",
        "f": ("x",),
    }
