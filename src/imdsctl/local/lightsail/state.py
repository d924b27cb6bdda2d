"""What one account has in Lightsail in one Region, and what the generated fleet has there."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from imdsctl.domain.options import HttpTokens, MetadataOptions, Switch
from imdsctl.local.service_generator import hex_digits, numbers_of, uuid_of

if TYPE_CHECKING:
    from imdsctl.local.world import World

SHARE = 0.25
"""The share of Lightsail's Regions with instances."""

REGIONS = frozenset(
    {
        *("ap-northeast-1", "ap-northeast-2", "ap-south-1", "ap-southeast-1", "ap-southeast-2", "ap-southeast-3"),
        *("ap-southeast-5", "ca-central-1", "eu-central-1", "eu-north-1", "eu-west-1", "eu-west-2", "eu-west-3"),
        *("us-east-1", "us-east-2", "us-west-2"),
    }
)
"""Where Lightsail is (its service model's `RegionName`): nothing is generated elsewhere."""


@dataclass(slots=True)
class LightsailInstance:
    """An instance. New options are `pending` until `applied`."""

    name: str
    arn: str
    support_code: str
    created: datetime
    blueprint: str
    bundle: str
    private_ip: str
    public_ip: str
    running: bool
    options: MetadataOptions
    applied: datetime


@dataclass(slots=True)
class LightsailState:
    """The instances by name."""

    instances: dict[str, LightsailInstance] = field(default_factory=dict)


def _options(tokens: HttpTokens, hops: int = 1) -> MetadataOptions:
    return MetadataOptions(tokens, hops, Switch.ENABLED, Switch.DISABLED)


_INSTANCES: tuple[tuple[str, str, str, int, bool, MetadataOptions], ...] = (
    # name, blueprint, bundle, age in days, running, options
    ("blog", "wordpress", "small_3_0", 800, True, _options(HttpTokens.OPTIONAL)),
    ("landing-page", "nginx", "nano_3_0", 500, True, _options(HttpTokens.OPTIONAL)),
    ("shop-test", "lamp_8_bitnami", "medium_3_0", 300, False, _options(HttpTokens.OPTIONAL, 2)),
    ("status", "amazon_linux_2023", "micro_3_0", 90, True, _options(HttpTokens.REQUIRED)),
)


def first_state(world: World, account_id: str, region: str) -> LightsailState:
    """Lightsail of a generated Region: one to four instances that somebody made beside everything else."""
    state = LightsailState()
    numbers = numbers_of(world, account_id, region, "lightsail", SHARE)
    if numbers is None or region not in REGIONS:
        return state
    for name, blueprint, bundle, age, running, options in numbers.sample(_INSTANCES, numbers.choice((1, 2, 3, 4))):
        if options.http_tokens is HttpTokens.OPTIONAL and not world.spec.old_stacks:
            continue
        made = world.created - timedelta(days=age, seconds=numbers.randrange(86400))
        state.instances[name] = LightsailInstance(
            name=name,
            arn=f"arn:aws:lightsail:{region}:{account_id}:Instance/{uuid_of(numbers)}",
            support_code=f"{numbers.randrange(10**12):012}/i-0{hex_digits(numbers, 16)}",
            created=made,
            blueprint=blueprint,
            bundle=bundle,
            private_ip=f"172.26.{numbers.randrange(16)}.{numbers.randrange(4, 250)}",
            public_ip=f"203.0.113.{numbers.randrange(1, 255)}",
            running=running,
            options=options,
            applied=made,
        )
    return state
