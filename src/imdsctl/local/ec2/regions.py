"""DescribeRegions and DescribeAvailabilityZones.

Source: EC2 API Reference, both pages: without AllRegions only the Regions that are enabled for the account.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
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
    regions = _regions(call.world.opted_in(call.account_id, call.now))
    names = params.get("RegionNames")
    if names:
        for name in names:
            if name not in COMMERCIAL_REGIONS:
                raise invalid_value(f"Invalid region names specified: [{name}]")
        regions = tuple([region for region in regions if region.name in names])
    if not params.get("AllRegions"):
        regions = tuple([region for region in regions if region.status != NOT_OPTED_IN])
    fragment = call.world.fragment
    selected = REGION_FILTERS.select(regions, params.get("Filters"))
    if fragment is None:
        return {"Regions": [_rendered(region) for region in selected]}
    return {"Regions": [_encoded(fragment, region) for region in selected]}


# There are 34 Regions with at most three statuses: each is made, and encoded, once.
@cache
def _region(name: str, status: str) -> RegionStatus:
    return RegionStatus(name, status)


def _rendered(region: RegionStatus) -> dict[str, str]:
    return {"OptInStatus": region.status, "RegionName": region.name, "Endpoint": region.endpoint}


@lru_cache(maxsize=4 * len(COMMERCIAL_REGIONS))
def _encoded(fragment: Callable[[str, Mapping[str, Any]], bytes], region: RegionStatus) -> bytes:
    return fragment("Region", _rendered(region))


@lru_cache(maxsize=256)
def _regions(opted_in: frozenset[str]) -> tuple[RegionStatus, ...]:
    """Every Region, as an account sees it that has opted in to these."""
    return tuple([_region(name, _status(name, opted_in)) for name in COMMERCIAL_REGIONS])


def _status(region: str, opted_in: frozenset[str]) -> str:
    if region not in OPT_IN:
        return NOT_REQUIRED
    return OPTED_IN if region in opted_in else NOT_OPTED_IN


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
