"""EC2 Fleets, Spot Fleet requests and Spot requests that somebody left behind in a generated Region.

They have no instances: fleets that were set to nothing until they are needed again, requests that wait for capacity.
Most Regions have none. Everything comes from random numbers of its own, so that the rest of the Region is the same
with and without.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from imdsctl.local.ec2.fleet_launches import FLEET_CHANGE
from imdsctl.local.ec2.fleet_upkeep import ACTIVE, MAINTAIN
from imdsctl.local.ec2.instance_types import instance_type
from imdsctl.local.ec2.resources import SPOT_FLEET_TAG, Fleet, FleetEvent, Image, LaunchTemplate, SpotFleet, SpotRequest
from imdsctl.local.ec2.spot_fleet_config import DEFAULTS, fleet_request
from imdsctl.local.ec2.spot_market import OPEN, PERSISTENT, dollars, on_demand_price
from imdsctl.local.ec2.state import RegionState

FLEET_SHARE = 0.3
SPOT_FLEET_SHARE = 0.25
SPOT_REQUEST_SHARE = 0.2
"""The shares of Regions that have one (a Spot Fleet request: one or two)."""

ROLE = "aws-ec2-spot-fleet-tagging-role"
"""What the EC2 console calls the role that it makes for Spot Fleet."""
WAITING = ("capacity-not-available", "There is no Spot capacity available that matches your request.")
"""EC2 User Guide, "Get the status of a Spot Instance request"."""


def generate_fleets(
    state: RegionState, created: datetime, images: Mapping[str, Image], templates: Mapping[str, LaunchTemplate]
) -> None:
    """Fill a Region that has its images and templates; a function of its identifiers and of `created`."""
    rng = random.Random(f"fleets/{state.vpc_id}/{state.account_id}/{state.region}")
    if rng.random() < FLEET_SHARE:
        _fleet(state, rng, created, templates)
    if rng.random() < SPOT_FLEET_SHARE:
        _of_specifications(state, rng, created, images)
        if rng.random() < 0.5:
            _of_templates(state, rng, created, templates)
    if rng.random() < SPOT_REQUEST_SHARE:
        _spot_request(state, rng, created, images)


def _fleet(state: RegionState, rng: random.Random, created: datetime, templates: Mapping[str, LaunchTemplate]) -> None:
    name, version = rng.choice((("batch", "$Latest"), ("batch", "$Default"), ("worker", "1"), ("api", "$Default")))
    kinds = rng.sample(("c5.large", "c5.xlarge", "m5.large", "m5.xlarge", "r5.large"), 3)
    request = {
        "Type": MAINTAIN,
        "LaunchTemplateConfigs": [_config(templates[name], version, kinds)],
        "TargetCapacitySpecification": {"TotalTargetCapacity": 0, "DefaultTargetCapacityType": "spot"},
        "SpotOptions": {"AllocationStrategy": "price-capacity-optimized"},
    }
    fleet = _idle(Fleet(f"fleet-{_uuid(rng)}", _some_time(rng, created), MAINTAIN, request))
    state.fleets[fleet.id] = fleet
    state.tags[fleet.id] = {"Name": f"{name}-burst"}


def _of_specifications(state: RegionState, rng: random.Random, created: datetime, images: Mapping[str, Image]) -> None:
    """A request that says everything itself, and so nothing of the metadata service."""
    image = images[rng.choice(("own:golden-old", "own:golden-old", "own:golden"))]
    specifications = [
        {
            "ImageId": image.id,
            "InstanceType": kind,
            "SecurityGroups": [{"GroupId": state.default_security_group.id}],
            "WeightedCapacity": weight,
        }
        for kind, weight in (("c5.large", 1.0), ("c5.xlarge", 2.0))
    ]
    _spot_fleet(state, rng, created, "render-farm", {"LaunchSpecifications": specifications})


def _of_templates(
    state: RegionState, rng: random.Random, created: datetime, templates: Mapping[str, LaunchTemplate]
) -> None:
    config = _config(templates["web"], rng.choice(("$Default", "$Latest")), ["t3.large", "m5.large"])
    _spot_fleet(state, rng, created, "load-test", {"LaunchTemplateConfigs": [config]})


def _spot_fleet(
    state: RegionState, rng: random.Random, created: datetime, name: str, sources: Mapping[str, Any]
) -> None:
    config = {
        **DEFAULTS,
        "AllocationStrategy": rng.choice(("lowestPrice", "diversified", "capacityOptimized")),
        "IamFleetRole": f"arn:aws:iam::{state.account_id}:role/{ROLE}",
        "TargetCapacity": 0,
        **sources,
    }
    made = _some_time(rng, created)
    fleet = _idle(Fleet(f"sfr-{_uuid(rng)}", made, MAINTAIN, fleet_request(config), tag=SPOT_FLEET_TAG))
    state.spot_fleets[fleet.id] = SpotFleet(config, fleet)
    state.tags[fleet.id] = {"Name": name}


def _spot_request(state: RegionState, rng: random.Random, created: datetime, images: Mapping[str, Image]) -> None:
    """A persistent request that goes on waiting; its next instance gets what the Region and the image say."""
    kind = rng.choice(("c5.xlarge", "r5.large"))
    specification: dict[str, Any] = {
        "ImageId": images[rng.choice(("own:golden-old", "own:golden"))].id,
        "InstanceType": kind,
        "SecurityGroups": [
            {"GroupId": state.default_security_group.id, "GroupName": state.default_security_group.name}
        ],
        "EbsOptimized": False,
        "Monitoring": {"Enabled": False},
        "BlockDeviceMappings": [],
    }
    asked = {"ImageId": specification["ImageId"], "InstanceType": kind, "MinCount": 1, "MaxCount": 1}
    made = _some_time(rng, created)
    known = instance_type(kind)
    assert known is not None
    request_id = f"sir-{rng.getrandbits(32):08x}"
    state.spot_requests[request_id] = SpotRequest(
        request_id,
        made,
        PERSISTENT,
        dollars(on_demand_price(known)),
        specification,
        None,
        state=OPEN,
        status=WAITING,
        updated=made + timedelta(minutes=1),
        interruption="stop",
        asked=asked,
    )
    state.tags[request_id] = {"Name": "notebook"}


def _config(template: LaunchTemplate, version: str, kinds: list[str]) -> dict[str, Any]:
    named = {"LaunchTemplateId": template.id, "Version": version}
    return {"LaunchTemplateSpecification": named, "Overrides": [{"InstanceType": kind} for kind in kinds]}


def _idle(fleet: Fleet) -> Fleet:
    """With the history of a fleet that nothing happened to."""
    fleet.history = [FleetEvent(fleet.created, FLEET_CHANGE, each, "") for each in ("submitted", ACTIVE)]
    return fleet


def _some_time(rng: random.Random, created: datetime) -> datetime:
    return (created - timedelta(days=rng.randrange(20, 420), seconds=rng.randrange(86400))).replace(microsecond=0)


def _uuid(rng: random.Random) -> UUID:
    return UUID(int=rng.getrandbits(128), version=4)
