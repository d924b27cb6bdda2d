"""Where an instance is that nobody has asked about yet: found in a world made from the same spec.

A Region of a running local AWS exists once it is touched. To look for an identifier in all of them would make the
server generate the whole fleet, and keep it; whoever has lost an instance therefore looks in a world of its own.
"""

from __future__ import annotations

from itertools import islice

from imdsctl.local.generator import make_world
from imdsctl.local.region_generator import generate_region
from imdsctl.local.spec import WorldSpec

REGIONS_MAX, INSTANCES_MAX = 5_000, 300_000
"""How many Regions and instances are looked through: some seconds."""


def search(
    spec: WorldSpec, instance_id: str, account_id: str | None = None, region: str | None = None
) -> tuple[str, str] | None:
    """The account and Region of an instance that was there from the start; None when it was not found.

    `account_id` and `region` say where to look, None everywhere. Gives up at REGIONS_MAX and INSTANCES_MAX.
    """
    world = make_world(spec)
    places = (
        (account, its_region)
        for account in ([account_id] if account_id is not None else world.accounts)
        for its_region in ([region] if region is not None else spec.regions)
        if account in world.accounts and its_region in spec.regions
    )
    seen = 0
    for place in islice(places, REGIONS_MAX):
        instances = generate_region(world, *place).instances
        if instance_id in instances:
            return place
        seen += len(instances)
        if seen > INSTANCES_MAX:
            break
    return None
