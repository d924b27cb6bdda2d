"""Faults on purpose: which calls a rule hits, and that the same calls meet the same faults."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.local.faults import Asked, Fault, Faults, When, parse_faults

CALL = Asked("ec2", "DescribeInstances", "111122223333", "eu-west-1")


def faults(*rules: dict[str, Any], seed: int = 1) -> Faults:
    return parse_faults({"seed": seed, "rule": list(rules)}, "faults.toml")


def hits(found: Faults, calls: int, asked: Asked = CALL) -> list[int]:
    """Which of so many calls, from 1 on, were hit."""
    return [number for number in range(1, calls + 1) if found.of(asked)]


@pytest.mark.parametrize(
    ("settings", "hit"),
    [
        ({}, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
        ({"first": 2}, [1, 2]),
        ({"after": 6}, [7, 8, 9]),
        ({"after": 2, "first": 3}, [3, 4, 5]),
        ({"every": 4}, [4, 8]),
        ({"after": 1, "first": 6, "every": 3}, [4, 7]),
        ({"probability": 0.0}, []),
        ({"operation": "Describe*", "service": "ec2", "account": "1111*", "region": "eu-*", "first": 1}, [1]),
        ({"operation": "Modify*"}, []),
        ({"region": "us-east-1"}, []),
    ],
)
def test_a_rule_counts_the_calls_that_it_is_about(settings: dict[str, Any], hit: list[int]) -> None:
    assert hits(faults({"fault": "500", **settings}), 9) == hit


def test_with_each_every_api_of_every_account_and_region_counts_for_itself() -> None:
    found = faults({"fault": "reset", "first": 1, "each": True})
    calls = [Asked("ec2", *each) for each in product(("DescribeImages", "DescribeInstances"), ("1", "2"), ("a", "b"))]
    assert [bool(found.of(call)) for call in calls * 2] == [True] * 8 + [False] * 8
    assert (found.matched, found.hit) == ([16], [8])


def test_the_same_calls_meet_the_same_faults_in_whatever_order_they_arrive() -> None:
    def met(order: list[Asked]) -> set[tuple[Asked, int]]:
        found = faults({"fault": "throttle", "probability": 0.3}, {"fault": "500", "probability": 0.3}, seed=5)
        counts: dict[Asked, int] = {}
        hit = set()
        for call in order:
            counts[call] = counts.get(call, 0) + 1
            if any(rule.fault is Fault.THROTTLE for rule in found.of(call)):
                hit.add((call, counts[call]))
        return hit

    calls = [Asked("ec2", "DescribeImages", str(number), "a") for number in range(50)] * 4
    one = met(calls)
    assert one == met(sorted(calls, key=lambda call: call.account))
    assert 30 <= len(one) <= 90, "about three tenths of 200"


def test_only_the_first_rule_that_hits_acts_but_a_clock_that_is_off_stays_off() -> None:
    found = faults({"fault": "wrong-clock", "minutes": 20}, {"fault": "500"}, {"fault": "reset"})
    assert [rule.fault for rule in found.of(CALL)] == [Fault.WRONG_CLOCK, Fault.INTERNAL_ERROR]


def test_what_needs_an_answer_comes_after_the_call_and_the_rest_before_it() -> None:
    whens = {fault: faults({"fault": str(fault)}).rules[0].when for fault in Fault}
    assert {fault for fault, when in whens.items() if when is When.AFTER} == {Fault.TRUNCATE, Fault.SLOW}
    assert faults({"fault": "timeout", "when": "after"}).rules[0].when is When.AFTER


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({"rule": [{"fault": "flood"}]}, "`fault` is one of throttle, 500"),
        ({"rule": [{}]}, "`fault` is one of"),
        ({"rule": [{"fault": "500", "colour": 1}]}, "`colour` is not known"),
        ({"rule": [{"fault": "500", "first": 0}]}, "`first` is a whole number from 1 up, not `0`"),
        ({"rule": [{"fault": "500", "every": True}]}, "`every` is a whole number"),
        ({"rule": [{"fault": "500", "probability": 1.5}]}, "`probability` is a number from 0 to 1"),
        ({"rule": [{"fault": "500", "each": 1}]}, "`each` is true or false"),
        ({"rule": [{"fault": "500", "account": 111122223333}]}, "in quotes"),
        ({"rule": [{"fault": "throttle", "when": "after"}]}, "a `throttle` is always `before`"),
        ({"rule": [{"fault": "slow", "when": "before"}]}, "a `slow` is always `after`"),
        ({"rule": [{"fault": "500", "when": "later"}]}, "`when` is `before` or `after`"),
        ({"rule": {"fault": "500"}}, "the rules are tables"),
        ({"rules": []}, "`rules` is not known here"),
        ({"seed": "x"}, "`x` is not a whole number"),
    ],
)
def test_a_mistake_is_said_with_its_rule(document: dict[str, Any], said: str) -> None:
    with pytest.raises(DiagnosticError) as refused:
        parse_faults(document, "faults.toml")
    (diagnostic,) = refused.value.diagnostics
    assert (diagnostic.code, refused.value.exit_code) == ("faults-invalid", 2)
    assert said in diagnostic.summary
    assert (diagnostic.subject or "").startswith("faults.toml")


def test_all_mistakes_are_said_at_once() -> None:
    with pytest.raises(DiagnosticError) as refused:
        parse_faults({"rule": [{"fault": "x", "first": 0}, {"fault": "500", "every": 0}]}, "faults.toml")
    assert [each.subject for each in refused.value.diagnostics] == ["faults.toml: rule 1"] * 2 + ["faults.toml: rule 2"]
