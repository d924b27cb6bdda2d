"""Role deliveries: which events show that IMDSv1 delivered credentials, and that none proves nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from imdsctl.domain.evidence import Evidence, InstanceEvidence, Use
from imdsctl.domain.observations import Target
from imdsctl.domain.role_delivery import Deliveries, delivery_of_event, with_deliveries

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
PLACE = Target("111122223333", "eu-west-1")
NAME = "i-0123456789abcdef0"


def event(version: Any = "1.0", name: str = NAME, at: Any = "2026-11-26T11:00:00Z") -> dict[str, Any]:
    return {
        "eventTime": at,
        "userIdentity": {
            "type": "AssumedRole",
            "principalId": f"AROAEXAMPLE:{name}",
            "accountId": PLACE.account_id,
            "sessionContext": {"ec2RoleDelivery": version},
        },
    }


def test_an_event_of_an_instance_role_says_whose_it_is_and_how_its_credentials_came() -> None:
    found = delivery_of_event(event())
    assert found is not None
    assert (found.account_id, found.instance_id, found.version) == (PLACE.account_id, NAME, "1.0")
    assert found.used == NOON - timedelta(hours=1)


@pytest.mark.parametrize(
    "other",
    [
        event(None),
        event("3.0"),
        event(["1.0"]),
        event(name="alice"),
        event(at="yesterday"),
        event(at="2026-11-26T11:00:00"),
        {"userIdentity": "root"},
        {"userIdentity": {"sessionContext": []}},
        [],
        None,
    ],
)
def test_everything_else_is_none(other: Any) -> None:
    assert delivery_of_event(other) is None


def deliveries(*events: dict[str, Any]) -> Deliveries:
    found = Deliveries(NOON - timedelta(days=1), NOON, frozenset({(PLACE.account_id, NAME)}))
    for each in events:
        delivery = delivery_of_event(each)
        assert delivery is not None
        found.add(delivery)
    return found


def test_a_v1_delivery_is_use_whatever_cloudwatch_says() -> None:
    found = deliveries(event(at="2026-11-26T10:00:00Z"), event(), event("2.0", at="2026-11-26T11:30:00Z"))
    for counted in (None, 0.0):
        evidence = Evidence("s", NOON, timedelta(1), {(PLACE, NAME): InstanceEvidence(PLACE, NAME, counted)})
        after = with_deliveries(evidence, found).of(PLACE, NAME)
        assert (after.use, after.role_delivery_v1) == (Use.USED, 2)
        assert after.last_used == NOON - timedelta(hours=1)


def test_only_v2_deliveries_are_a_zero_that_does_not_make_it_unused() -> None:
    evidence = Evidence("s", NOON, timedelta(1), {(PLACE, NAME): InstanceEvidence(PLACE, NAME)})
    after = with_deliveries(evidence, deliveries(event("2.0"))).of(PLACE, NAME)
    assert (after.use, after.role_delivery_v1) == (Use.UNKNOWN, 0)


def test_an_instance_without_events_stays_not_asked() -> None:
    evidence = Evidence("s", NOON, timedelta(1), {(PLACE, NAME): InstanceEvidence(PLACE, NAME)})
    assert with_deliveries(evidence, deliveries()).of(PLACE, NAME).role_delivery_v1 is None


def test_events_outside_the_span_and_of_strangers_do_not_count() -> None:
    found = deliveries(event(at="2026-11-20T10:00:00Z"), event(name="i-00000000000000000"))
    assert (found.events, found.by_instance) == (0, {})
