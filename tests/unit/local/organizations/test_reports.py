"""The account status report: what is counted, and that it is counted as it was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from imdsctl.domain.options import AccountDefaults, HttpTokens
from imdsctl.local.organizations.reports import Covered, Report
from imdsctl.policy.declarative import NOTHING_DECLARED, effective_policy, parse_declarative_policy

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
V2 = AccountDefaults(http_tokens=HttpTokens.REQUIRED)
UNSET = AccountDefaults()


def report(accounts: dict[str, Covered], touched: dict[tuple[str, str], AccountDefaults]) -> Report:
    return Report("p-1", "us-east-1", "b", None, "r-1", {}, NOON, NOON + timedelta(minutes=1), accounts, 0, touched)


def tokens(made: Report) -> dict[str, Any]:
    return made.summaries(lambda account_id, region: UNSET)[0]


def test_the_most_frequent_value_and_who_has_it_everywhere() -> None:
    accounts = {name: Covered(("a", "b"), NOTHING_DECLARED) for name in ("one", "two", "three")}
    touched = {("one", "a"): V2, ("one", "b"): V2, ("two", "a"): V2, ("three", "a"): V2}
    assert tokens(report(accounts, touched)) == {
        "AttributeName": "instance_metadata_defaults.http_tokens",
        "MostFrequentValue": "required",
        "NumberOfMatchedAccounts": 1,
        "NumberOfUnmatchedAccounts": 2,
        "RegionalSummaries": [
            {"RegionName": "a", "NumberOfMatchedAccounts": 3, "NumberOfUnmatchedAccounts": 0},
            {"RegionName": "b", "NumberOfMatchedAccounts": 1, "NumberOfUnmatchedAccounts": 2},
        ],
    }


def test_a_policy_counts_as_what_its_accounts_have() -> None:
    document = {"ec2_attributes": {"instance_metadata_defaults": {"http_tokens": {"@@assign": "required"}}}}
    policy = effective_policy([[parse_declarative_policy(document, name="p")]])
    found = tokens(report({"one": Covered(("a",), policy)}, {}))
    assert (found["MostFrequentValue"], found["NumberOfMatchedAccounts"]) == ("required", 1)


def test_a_report_on_nobody_has_no_value() -> None:
    assert tokens(report({}, {}))["MostFrequentValue"] == ""


def test_values_seen_equally_often_are_told_apart_by_the_alphabet() -> None:
    accounts = {"one": Covered(("a",), NOTHING_DECLARED), "two": Covered(("a",), NOTHING_DECLARED)}
    assert tokens(report(accounts, {("two", "a"): V2}))["MostFrequentValue"] == "no_preference"


def test_a_report_runs_for_its_time_unless_it_is_cancelled() -> None:
    made = report({}, {})
    assert made.status(NOON) == "running"
    assert made.status(made.ended) == "complete"
    made.cancelled = NOON
    assert made.status(made.ended) == "cancelled"
