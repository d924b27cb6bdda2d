"""Values in, values out: what AWS sends becomes an option, and goes back as it came."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imdsctl.domain.options import (
    AWS_NAMES,
    AccountDefaults,
    HttpTokens,
    InvalidOption,
    MetadataOptions,
    Switch,
)

SWITCHES = st.sampled_from(["enabled", "disabled"])
OPTIONS = st.fixed_dictionaries(
    {},
    optional={
        "HttpTokens": st.sampled_from(["optional", "required"]),
        "HttpPutResponseHopLimit": st.integers(1, 64),
        "HttpEndpoint": SWITCHES,
        "HttpProtocolIpv6": SWITCHES,
        "InstanceMetadataTags": SWITCHES,
    },
)


@given(OPTIONS)
def test_options_go_back_to_aws_as_they_came(value: dict[str, object]) -> None:
    assert MetadataOptions.from_aws(value).to_aws() == value


@given(OPTIONS, OPTIONS)
def test_a_write_of_the_difference_reaches_the_wanted_state(now: dict[str, object], wanted: dict[str, object]) -> None:
    current, goal = MetadataOptions.from_aws(now), MetadataOptions.from_aws(wanted)
    difference = goal.differing_from(current)
    assert difference.over(current) == goal.over(current)
    assert not set(difference.to_aws()) - set(wanted)


def test_what_is_already_so_is_not_sent_again() -> None:
    required = MetadataOptions(http_tokens=HttpTokens.REQUIRED)
    assert not required.differing_from(MetadataOptions(HttpTokens.REQUIRED, 5, Switch.DISABLED))


def test_the_state_of_a_change_is_not_an_option() -> None:
    assert MetadataOptions.from_aws({"State": "pending", "HttpTokens": "required"}).to_aws() == {
        "HttpTokens": "required"
    }


@pytest.mark.parametrize("value", [None, {}])
def test_an_absent_structure_says_nothing(value: dict[str, object] | None) -> None:
    assert not MetadataOptions.from_aws(value)
    assert AccountDefaults.from_aws(value) == AccountDefaults()


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("HttpTokens", "require"),
        ("HttpTokens", ""),
        ("HttpTokens", "no-preference"),
        ("HttpEndpoint", "on"),
        ("HttpPutResponseHopLimit", 0),
        ("HttpPutResponseHopLimit", 65),
        ("HttpPutResponseHopLimit", -1),
        ("HttpPutResponseHopLimit", True),
        ("HttpPutResponseHopLimit", "2"),
    ],
)
def test_a_value_that_aws_does_not_know_is_refused_by_name(option: str, value: object) -> None:
    with pytest.raises(InvalidOption, match=option) as refused:
        MetadataOptions.from_aws({option: value})
    assert refused.value.option == option


def test_an_account_default_without_a_preference_says_nothing() -> None:
    silent = dict.fromkeys(("HttpTokens", "HttpEndpoint", "InstanceMetadataTags"), "no-preference")
    assert not AccountDefaults.from_aws({**silent, "HttpPutResponseHopLimit": -1}).options()


def test_an_account_default_names_no_preference_among_the_values_allowed() -> None:
    with pytest.raises(InvalidOption, match="no-preference"):
        AccountDefaults.from_aws({"HttpTokens": "none"})


def test_a_change_of_the_account_default_keeps_what_it_does_not_name() -> None:
    before = AccountDefaults.from_aws({"HttpTokens": "optional", "HttpPutResponseHopLimit": 3})
    after = before.updated({"HttpTokensEnforced": "enabled", "HttpTokens": "no-preference"})
    assert after.to_aws() == {
        "HttpPutResponseHopLimit": 3,
        "HttpTokensEnforced": "enabled",
        "ManagedBy": "account",
    }


def test_the_account_default_has_no_ipv6() -> None:
    assert AccountDefaults.from_aws({"HttpProtocolIpv6": "enabled"}).options() == MetadataOptions()


def test_the_options_stand_in_the_order_of_aws() -> None:
    assert next(iter(AWS_NAMES.values())) == "HttpTokens"
    assert len(AWS_NAMES) == 5
