"""What one account has in AppStream in one Region, and what the generated fleet has there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from imdsctl.local.service_generator import numbers_of

if TYPE_CHECKING:
    from imdsctl.local.world import World

RUNNING = "RUNNING"
STOPPED = "STOPPED"
FLEET = "fleet"
IMAGE_BUILDER = "image-builder"
APP_BLOCK_BUILDER = "app-block-builder"

SHARE = 0.15
"""The share of AppStream's Regions with something in it."""

REGIONS = frozenset(
    {
        *("ap-northeast-1", "ap-northeast-2", "ap-south-1", "ap-southeast-1", "ap-southeast-2", "ap-southeast-5"),
        *("ca-central-1", "eu-central-1", "eu-south-1", "eu-south-2", "eu-west-1", "eu-west-2", "eu-west-3"),
        *("il-central-1", "sa-east-1", "us-east-1", "us-east-2", "us-west-2"),
    }
)
"""Where AppStream is (botocore's endpoints): nothing is generated elsewhere."""


@dataclass(slots=True)
class Streamer:
    """A fleet, an image builder or an app block builder: what it launches has `disable_imds_v1`."""

    kind: str
    name: str
    arn: str
    created: datetime
    instance_type: str
    platform: str
    state: str
    disable_imds_v1: bool
    desired: int = 1
    display_name: str | None = None
    description: str | None = None


@dataclass(slots=True)
class AppStreamState:
    """What there is of each kind, by name."""

    fleets: dict[str, Streamer] = field(default_factory=dict)
    image_builders: dict[str, Streamer] = field(default_factory=dict)
    app_block_builders: dict[str, Streamer] = field(default_factory=dict)


_STREAMERS: tuple[tuple[str, str, str, str, str, bool, int, float], ...] = (
    # kind, name, instance type, platform, state, DisableIMDSV1, age in days, how often there is one
    (FLEET, "back-office", "stream.standard.medium", "WINDOWS_SERVER_2019", RUNNING, False, 900, 1.0),
    (FLEET, "training", "stream.standard.small", "WINDOWS_SERVER_2022", STOPPED, False, 300, 0.6),
    (FLEET, "design", "stream.graphics.g4dn.xlarge", "WINDOWS_SERVER_2022", RUNNING, True, 120, 0.4),
    (IMAGE_BUILDER, "office-builder", "stream.standard.large", "WINDOWS_SERVER_2019", STOPPED, False, 910, 0.8),
    (APP_BLOCK_BUILDER, "packager", "stream.standard.medium", "WINDOWS_SERVER_2019", STOPPED, False, 60, 0.3),
)


def first_state(world: World, account_id: str, region: str) -> AppStreamState:
    """AppStream of a generated Region: a fleet, and perhaps more of them and builders."""
    state = AppStreamState()
    numbers = numbers_of(world, account_id, region, "appstream", SHARE)
    if numbers is None or region not in REGIONS:
        return state
    places: Mapping[str, dict[str, Streamer]] = {
        FLEET: state.fleets,
        IMAGE_BUILDER: state.image_builders,
        APP_BLOCK_BUILDER: state.app_block_builders,
    }
    for kind, name, instance_type, platform, status, disabled, age, share in _STREAMERS:
        made = world.created - timedelta(days=age, seconds=numbers.randrange(86400))
        if numbers.random() < share and (disabled or world.spec.old_stacks):
            arn = f"arn:aws:appstream:{region}:{account_id}:{kind}/{name}"
            places[kind][name] = Streamer(kind, name, arn, made, instance_type, platform, status, disabled)
    return state
