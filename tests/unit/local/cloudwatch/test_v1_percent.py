"""`--v1-percent`: how much of a generated fleet uses IMDSv1."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from imdsctl.domain.options import HttpTokens
from imdsctl.local.cloudwatch.evidence import NAMESPACE, NO_TOKEN, evidence
from imdsctl.local.cloudwatch.state import MetricKey
from imdsctl.local.ec2.resources import RUNNING
from imdsctl.local.generator import make_world
from imdsctl.local.spec import WorldSpec

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)


@pytest.mark.parametrize(("percent", "least", "most"), [(0, 0.0, 0.0), (55, 0.35, 0.75), (100, 1.0, 1.0)])
def test_so_many_of_the_fleet_use_imdsv1(percent: int, least: float, most: float) -> None:
    spec = WorldSpec(seed=7, created=NOON - timedelta(days=30), instances=300, v1_percent=percent)
    world = make_world(spec)
    state = world.region(world.management.id, "us-east-1")
    now = int(NOON.timestamp())
    busy = []
    for instance in state.instances.values():
        key = MetricKey(NAMESPACE, NO_TOKEN, (("InstanceId", instance.id),))
        found = evidence(state, spec, key, now)
        if instance.state == RUNNING and instance.options.http_tokens is HttpTokens.OPTIONAL and found is not None:
            busy.append(found.hourly_max > 0)
    assert len(busy) > 50
    assert least <= sum(busy) / len(busy) <= most
