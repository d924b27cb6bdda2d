"""The fleets and Spot requests of a generated Region, and that nothing else depends on them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from imdsctl.domain.options import Switch
from imdsctl.local import region_generator
from imdsctl.local.call import Call, Ids
from imdsctl.local.ec2 import OPERATIONS
from imdsctl.local.ec2.resources import Instance
from imdsctl.local.ec2.state import RegionState
from imdsctl.local.generator import make_world
from imdsctl.local.spec import WorldSpec
from imdsctl.local.world import World

CREATED = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def a_world() -> World:
    return make_world(WorldSpec(seed=5, created=CREATED, instances=3, accounts=6))


def regions(world: World) -> Iterator[RegionState]:
    for account in list(world.accounts.values())[:6]:
        for region in world.spec.regions:
            yield world.region(account.id, region)


def shown(instance: Instance) -> tuple[Any, ...]:
    return (instance.id, instance.reservation.id, instance.state, instance.options, instance.launch_time)


def call(world: World, state: RegionState, action: str, **params: Any) -> dict[str, Any]:
    credentials = world.admin_credentials(state.account_id)
    place = (credentials.caller, state.account_id, state.region, params, CREATED + timedelta(hours=1))
    return dict(OPERATIONS[action].handler(Call("ec2", action, *place, "request", Ids(5, 1), world)))


def test_some_regions_have_some_and_they_are_the_same_every_time() -> None:
    first, again = list(regions(a_world())), list(regions(a_world()))
    for table in ("fleets", "spot_fleets", "spot_requests"):
        here = [getattr(each, table) for each in first]
        assert here == [getattr(each, table) for each in again]
        assert 0.05 < sum(map(bool, here)) / len(here) < 0.5, table


def test_the_rest_of_a_region_is_the_same_without_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def told() -> list[Any]:
        return [
            ([shown(each) for each in state.instances.values()], state.templates, state.images)
            for state in regions(a_world())
        ]

    with_them = told()
    monkeypatch.setattr(region_generator, "generate_fleets", lambda *_: None)
    assert told() == with_them


def test_they_are_described_and_can_be_put_to_use() -> None:
    world = a_world()
    launched = 0
    for state in regions(world):
        filters = [{"Name": "launch.group-id", "Values": [state.default_security_group.id]}]
        waiting = call(world, state, "DescribeSpotInstanceRequests", Filters=filters)["SpotInstanceRequests"]
        assert [(each["State"], "InstanceId" in each) for each in waiting] == [("open", False)] * len(waiting)
        for each in call(world, state, "DescribeSpotFleetRequests")["SpotFleetRequestConfigs"]:
            assert (each["SpotFleetRequestState"], each["ActivityStatus"]) == ("active", "fulfilled")
            named = {"SpotFleetRequestId": each["SpotFleetRequestId"]}
            call(world, state, "ModifySpotFleetRequest", TargetCapacity=1, **named)
            found = call(world, state, "DescribeSpotFleetInstances", **named)["ActiveInstances"]
            if state.defaults.http_tokens_enforced is not Switch.ENABLED:
                launched += len(found)
                assert len(found) == 1
        for each in call(world, state, "DescribeFleets")["Fleets"]:
            target = {"TotalTargetCapacity": 1}
            call(world, state, "ModifyFleet", FleetId=each["FleetId"], TargetCapacitySpecification=target)
    assert launched
