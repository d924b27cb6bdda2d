from __future__ import annotations

from typing import Any

import pytest

from imdsctl.local.call import AwsError
from imdsctl.local.throttle import BUCKETS_MAX, Throttle, Throttling

ACCOUNT, REGION = "111122223333", "eu-west-1"


def admitted(
    throttle: Throttle,
    action: str,
    count: int,
    now: float = 0.0,
    params: dict[str, Any] | None = None,
    *,
    account: str = ACCOUNT,
    region: str = REGION,
) -> int:
    """How many of `count` calls at one moment get through."""
    through = 0
    refusals = set()
    for _ in range(count):
        try:
            throttle.admit(account, region, action, params or {}, now, writes=not action.startswith("Describe"))
            through += 1
        except AwsError as error:
            refusals.add((error.code, error.message, error.status))
    assert refusals <= {("RequestLimitExceeded", "Request limit exceeded.", 503)}
    return through


@pytest.mark.parametrize(
    ("action", "at_once", "a_second"),
    [
        ("ModifyInstanceMetadataDefaults", 2, 2),
        ("ModifyInstanceMetadataOptions", 100, 5),
        ("ModifyImageAttribute", 100, 5),
        ("ModifyLaunchTemplate", 100, 5),
        ("CreateLaunchTemplateVersion", 100, 5),
        ("RunInstances", 5, 2),
        ("StartInstances", 5, 2),
        ("CreateTags", 50, 5),
    ],
)
def test_the_buckets_are_those_that_aws_documents(action: str, at_once: int, a_second: int) -> None:
    throttle = Throttle()
    assert admitted(throttle, action, 200) == at_once
    assert admitted(throttle, action, 200, now=1.0) == a_second
    assert admitted(throttle, action, 200, now=1000.0) == at_once, "a bucket fills up to its size and no further"


def test_every_account_region_and_api_has_a_bucket_of_its_own() -> None:
    throttle = Throttle()
    assert admitted(throttle, "RunInstances", 9) == 5
    assert admitted(throttle, "RunInstances", 9, region="us-east-1") == 5
    assert admitted(throttle, "RunInstances", 9, account="444455556666") == 5
    assert admitted(throttle, "StartInstances", 9) == 5


def test_launching_many_instances_empties_a_bucket_that_counts_instances() -> None:
    throttle = Throttle()
    assert admitted(throttle, "RunInstances", 1, params={"MaxCount": 999}) == 1
    assert admitted(throttle, "RunInstances", 1, params={"MaxCount": 2}) == 0
    assert admitted(throttle, "RunInstances", 1, params={"MaxCount": 1}) == 1, "a refused call takes nothing"


def test_terminating_counts_the_instances_that_are_named() -> None:
    throttle = Throttle()
    assert admitted(throttle, "TerminateInstances", 3, params={"InstanceIds": ["i"] * 500}) == 2


def test_reads_are_throttled_only_when_asked_for() -> None:
    assert admitted(Throttle(), "DescribeInstances", 500) == 500
    assert admitted(Throttle(Throttling.NONE), "RunInstances", 500) == 500
    assert admitted(Throttle(Throttling.ALL), "DescribeImages", 500) == 100


@pytest.mark.parametrize(
    ("params", "at_once"),
    [({}, 50), ({"MaxResults": 5}, 100), ({"Filters": [{"Name": "x"}]}, 100), ({"InstanceIds": ["i-1"]}, 100)],
)
def test_a_describe_that_is_neither_filtered_nor_paginated_has_the_smaller_bucket(
    params: dict[str, Any], at_once: int
) -> None:
    assert admitted(Throttle(Throttling.ALL), "DescribeInstances", 500, params=params) == at_once


def test_buckets_that_are_full_again_are_forgotten() -> None:
    throttle = Throttle()
    for number in range(BUCKETS_MAX + 1):
        throttle.admit(f"{number:012}", REGION, "RunInstances", {}, float(number), writes=True)
    assert len(throttle._buckets) < 100
