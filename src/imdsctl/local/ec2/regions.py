"""DescribeRegions and DescribeAvailabilityZones.

Source: EC2 API Reference, both pages: without AllRegions only the Regions that are enabled for the account.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from imdsctl.domain.regions import COMMERCIAL_REGIONS, OPT_IN_REGIONS
from imdsctl.local.call import Call, Operation
from imdsctl.local.ec2.errors import invalid_value
from imdsctl.local.ec2.filters import Filters, nothing
from imdsctl.local.ec2.zones import Zone, zones

NOT_REQUIRED = "opt-in-not-required"
OPTED_IN = "opted-in"
NOT_OPTED_IN = "not-opted-in"

OPT_IN = frozenset(OPT_IN_REGIONS)


@dataclass(frozen=True, slots=True)
class RegionStatus:
    """A Region as an account sees it."""

    name: str
    status: str

    @property
    def endpoint(self) -> str:
        """The host name of EC2 there."""
        return f"ec2.{self.name}.amazonaws.com"


REGION_FILTERS: Filters[RegionStatus] = Filters(
    {
        "endpoint": lambda region: region.endpoint,
        "opt-in-status": lambda region: region.status,
        "region-name": lambda region: region.name,
    }
)


def describe_regions(call: Call) -> dict[str, Any]:
    """The Regions, in order of their names.

    Raises InvalidParameterValue for a filter or a Region that does not exist.
    """
    params = call.params
    world, account = call.world, call.world.accounts[call.account_id]
    opted_in = frozenset(name for name in account.opt_in if world.region_enabled(account.id, name, call.now))
    whole = not params.get("RegionNames") and not params.get("Filters")
    if whole and world.fragment is not None:
        return {"Regions": _encoded(world.fragment, opted_in, bool(params.get("AllRegions")))}
    regions = _regions(opted_in, bool(params.get("AllRegions")))
    names = params.get("RegionNames")
    if names:
        for name in names:
            if name not in COMMERCIAL_REGIONS:
                raise invalid_value(f"Invalid region names specified: [{name}]")
        regions = tuple(region for region in regions if region.name in names)
    return {"Regions": [_rendered(region) for region in REGION_FILTERS.select(regions, params.get("Filters"))]}


# What an account sees depends on the few opt-in Regions it enabled; everything else asks before anything else.
@lru_cache(maxsize=1024)
def _regions(opted_in: frozenset[str], everyone: bool) -> tuple[RegionStatus, ...]:
    """All Regions, or those that are enabled."""
    statuses = {name: OPTED_IN if name in opted_in else NOT_OPTED_IN for name in OPT_IN}
    found = (RegionStatus(name, statuses.get(name, NOT_REQUIRED)) for name in COMMERCIAL_REGIONS)
    return tuple(region for region in found if everyone or region.status != NOT_OPTED_IN)


@lru_cache(maxsize=1024)
def _encoded(
    fragment: Callable[[str, Mapping[str, Any]], bytes], opted_in: frozenset[str], everyone: bool
) -> tuple[bytes, ...]:
    """The same, encoded once."""
    return tuple(fragment("Region", _rendered(region)) for region in _regions(opted_in, everyone))


def _rendered(region: RegionStatus) -> dict[str, str]:
    return {"OptInStatus": region.status, "RegionName": region.name, "Endpoint": region.endpoint}


def _group(zone: Zone) -> str:
    return f"{zone.region}-zg-1"


ZONE_FILTERS: Filters[Zone] = Filters(
    {
        "group-long-name": nothing,
        "group-name": _group,
        "message": nothing,
        "opt-in-status": lambda zone: NOT_REQUIRED,
        "parent-zone-id": nothing,
        "parent-zone-name": nothing,
        "region-name": lambda zone: zone.region,
        "state": lambda zone: "available",
        "zone-id": lambda zone: zone.id,
        "zone-name": lambda zone: zone.name,
        "zone-type": lambda zone: "availability-zone",
    }
)


def describe_availability_zones(call: Call) -> dict[str, Any]:
    """The Availability Zones of the call's Region (no Local or Wavelength Zones).

    Raises InvalidParameterValue for a zone that is not one of them.
    """
    params = call.params
    found: list[Zone] = list(zones(call.region))
    names, ids = params.get("ZoneNames"), params.get("ZoneIds")
    if names:
        unknown = [name for name in names if name not in {zone.name for zone in found}]
        if unknown:
            raise invalid_value(f"Invalid availability zone: [{', '.join(unknown)}]")
        found = [zone for zone in found if zone.name in names]
    if ids:
        unknown = [each for each in ids if each not in {zone.id for zone in zones(call.region)}]
        if unknown:
            raise invalid_value(f"Invalid availability zone-id: [{', '.join(unknown)}]")
        found = [zone for zone in found if zone.id in ids]
    return {
        "AvailabilityZones": [
            {
                "OptInStatus": NOT_REQUIRED,
                "Messages": [],
                "RegionName": zone.region,
                "ZoneName": zone.name,
                "ZoneId": zone.id,
                "GroupName": _group(zone),
                "NetworkBorderGroup": zone.region,
                "ZoneType": "availability-zone",
                "State": "available",
            }
            for zone in ZONE_FILTERS.select(found, params.get("Filters"))
        ]
    }


OPERATIONS = {
    "DescribeRegions": Operation(describe_regions),
    "DescribeAvailabilityZones": Operation(describe_availability_zones),
}
