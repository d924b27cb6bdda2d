"""The instance of a metadata service that stands alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from imdsctl.domain.options import HttpTokens
from imdsctl.imds.fixed import DEFAULT_OPTIONS, FixedSource, example_credentials, example_facts

NOW = 1_790_000_000.0


def test_the_same_name_gives_the_same_instance_and_another_name_another() -> None:
    assert example_facts(name="a") == example_facts(name="a")
    assert example_facts(name="a").instance_id != example_facts(name="b").instance_id


@pytest.mark.parametrize(
    ("region", "zone_id", "partition", "domain"),
    [
        ("us-east-1", "use1-az1", "aws", "amazonaws.com"),
        ("ap-southeast-2", "apse2-az1", "aws", "amazonaws.com"),
        ("cn-north-1", "cnn1-az1", "aws-cn", "amazonaws.com.cn"),
        ("us-gov-west-1", "usgw1-az1", "aws-us-gov", "amazonaws.com"),
    ],
)
def test_the_instance_is_of_its_region(region: str, zone_id: str, partition: str, domain: str) -> None:
    facts = example_facts(region=region, role="web")
    assert (facts.region, facts.availability_zone, facts.availability_zone_id) == (region, f"{region}a", zone_id)
    assert (facts.partition, facts.domain) == (partition, domain)
    assert facts.profile_arn == f"arn:{partition}:iam::111122223333:instance-profile/web"


@pytest.mark.parametrize("after", [0, 1800, 3599, 5 * 3600])
def test_credentials_are_good_for_hours_and_say_that_they_are_examples(after: float) -> None:
    given = example_credentials("web", "2.0", NOW + after)
    assert given.expires is not None
    assert given.expires.timestamp() - (NOW + after) > 4 * 3600
    assert "EXAMPLE" in given.access_key_id
    assert given.secret_access_key.startswith("EXAMPLE")
    assert len(given.access_key_id) == 20
    assert len(given.secret_access_key) == 40


def test_credentials_differ_by_role_and_delivery_and_are_renewed() -> None:
    keys = {
        example_credentials(role, delivery, now).access_key_id
        for role in ("web", "db")
        for delivery in ("1.0", "2.0")
        for now in (NOW, NOW + 3600)
    }
    assert len(keys) == 8


def test_a_source_may_be_set_anew() -> None:
    source = FixedSource(DEFAULT_OPTIONS, example_facts(role="web"), example_credentials)
    source.options = replace(DEFAULT_OPTIONS, http_tokens=HttpTokens.REQUIRED)
    source.instance = example_facts(role="db")
    assert source.options.http_tokens is HttpTokens.REQUIRED
    assert source.role_credentials("2.0", NOW) == example_credentials("db", "2.0", NOW)
    assert source.identity_credentials("2.0", NOW) == example_credentials("ec2-instance", "2.0", NOW)
