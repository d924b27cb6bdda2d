"""The client keeps within AWS's buckets. The other end is the local AWS's throttle: it must have nothing to refuse."""

from __future__ import annotations

import pytest

from imdsctl.fleet.limiter import BUCKETS_REMEMBERED_MIN, Key, Limiter
from imdsctl.local.throttle import Throttle, Throttling

ACCOUNT, REGION = "111122223333", "eu-west-1"
DEFAULTS = (ACCOUNT, REGION, "ec2", "ModifyInstanceMetadataDefaults")


def key(operation: str, *, account: str = ACCOUNT, region: str = REGION, service: str = "ec2") -> Key:
    return (account, region, service, operation)


@pytest.mark.parametrize(
    "operation", ["ModifyInstanceMetadataDefaults", "ModifyInstanceMetadataOptions", "CreateTags", "DescribeInstances"]
)
def test_a_storm_of_calls_at_one_moment_leaves_so_that_nothing_is_refused(operation: str) -> None:
    limiter, throttle = Limiter(), Throttle(Throttling.ALL)
    waits = [limiter.take(key(operation), {}, 100.0) for _ in range(400)]
    assert waits == sorted(waits), "calls leave in the order in which they came"
    for wait in waits:
        # The last binary digit of a float is not what this is about.
        throttle.admit(ACCOUNT, REGION, operation, {}, 100.0 + wait * 1.0001, writes="Describe" not in operation)


def test_what_fits_into_the_bucket_leaves_at_once_and_the_rest_at_its_rate() -> None:
    limiter = Limiter()
    assert [limiter.take(DEFAULTS, {}, 0.0) for _ in range(5)] == [0.0, 0.0, 0.5, 1.0, 1.5]
    assert limiter.take(DEFAULTS, {}, 100.0) == 0.0, "a bucket fills up again"


def test_every_account_region_and_api_has_a_bucket_of_its_own() -> None:
    limiter = Limiter()
    for _ in range(3):
        limiter.take(DEFAULTS, {}, 0.0)
    others = [
        key(DEFAULTS[3], account="444455556666"),
        key(DEFAULTS[3], region="us-east-1"),
        key("ModifyLaunchTemplate"),
    ]
    assert [limiter.take(other, {}, 0.0) for other in others] == [0.0, 0.0, 0.0]


def test_a_refusal_empties_the_bucket_for_everybody_who_shares_it() -> None:
    limiter, options = Limiter(), key("ModifyInstanceMetadataOptions")
    assert limiter.take(options, {}, 0.0) == 0.0
    limiter.refused(options, 0.0)
    assert [limiter.take(options, {}, 0.0) for _ in range(2)] == [0.2, 0.4]


def test_a_service_without_published_buckets_is_slowed_down_only_after_it_refused() -> None:
    limiter, clusters = Limiter(), key("DescribeCluster", service="eks")
    assert [limiter.take(clusters, {}, 0.0) for _ in range(500)] == [0.0] * 500
    limiter.refused(clusters, 0.0)
    assert limiter.take(clusters, {}, 0.0) == 0.2


def test_calls_that_take_many_instances_also_keep_within_the_bucket_of_instances() -> None:
    limiter, run = Limiter(), key("RunInstances")
    assert limiter.take(run, {"MaxCount": 1000}, 0.0) == 0.0
    assert limiter.take(run, {"MaxCount": 10}, 0.0) == 5.0


def test_a_sweep_of_a_thousand_accounts_does_not_keep_a_bucket_for_everything_it_touched() -> None:
    limiter = Limiter()
    for number in range(100_000):
        limiter.take(key("DescribeInstances", account=f"{number:012}"), {"MaxResults": 5}, number / 1000)
    assert len(limiter) <= BUCKETS_REMEMBERED_MIN
