"""The verdict of `imdsctl run`, from calls as data: tests/cases/run/verdicts.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from imdsctl.domain.readiness import (
    CALLERS_MAX,
    OTHER_CALLERS,
    PIDS_COUNTED_MAX,
    Caller,
    FailOn,
    UsageTable,
    Use,
    fails,
    judge,
)

CASES = json.loads((Path(__file__).parents[2] / "cases" / "run" / "verdicts.json").read_text())


def table_of(calls: list[Any]) -> UsageTable:
    table = UsageTable()
    for name, use, routers in calls:
        table.add(Caller(name), 7, Use(use), "/latest/", routers)
    return table


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["why"])
def test_verdict(case: Any) -> None:
    verdict = judge(table_of(case["calls"]).usages())
    assert verdict.readiness == case["readiness"]
    assert verdict.hop_limit == case["hop_limit"]
    assert [[each.why, each.caller.name, each.calls] for each in verdict.reasons] == case["reasons"]


@pytest.mark.parametrize(
    ("use", "v1", "any_attempt"),
    [("v1", True, True), ("v1-refused", False, True), ("v2", False, False), ("token-lost", False, False)],
)
def test_fail_on(use: str, v1: bool, any_attempt: bool) -> None:
    usages = table_of([["app", use, 0]]).usages()
    assert not fails(usages, None)
    assert fails(usages, FailOn.V1) == v1
    assert fails(usages, FailOn.ANY_V1_ATTEMPT) == any_attempt


def test_the_table_keeps_the_first_and_the_last_path_and_the_farthest_distance() -> None:
    table = UsageTable()
    for path, routers in (("/a", None), ("/b", 2), ("/c", 1)):
        table.add(Caller("app"), 7, Use.V1, path, routers)
    (usage,) = table.usages()
    assert (usage.first_path, usage.last_path, usage.routers, usage.pids) == ("/a", "/c", 2, {7})


def test_the_table_is_bounded_and_loses_no_call() -> None:
    table = UsageTable()
    for number in range(CALLERS_MAX + 10):
        table.add(Caller("app", f"app {number}"), number, Use.V1, "/", 0)
    for number in range(PIDS_COUNTED_MAX + 10):
        table.add(Caller("app", "app 0"), number, Use.V1, "/", 0)
    usages = table.usages()
    assert len(usages) == CALLERS_MAX + 1
    assert usages[-1].caller == OTHER_CALLERS
    assert sum(usage.uses[Use.V1] for usage in usages) == CALLERS_MAX + PIDS_COUNTED_MAX + 20
    assert len(usages[0].pids) == PIDS_COUNTED_MAX
