"""The Availability Zones of the commercial Regions.

Source: EC2 User Guide, "Regions and Zones"; RAM and EC2 documentation on AZ IDs (`use1-az1`). How many zones a new
account sees differs for a few Regions; the number here is the documented one.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

ZONE_PREFIXES: dict[str, tuple[str, str]] = {
    "af-south-1": ("afs1", "abc"),
    "ap-east-1": ("ape1", "abc"),
    "ap-east-2": ("ape2", "abc"),
    "ap-northeast-1": ("apne1", "acd"),
    "ap-northeast-2": ("apne2", "abcd"),
    "ap-northeast-3": ("apne3", "abc"),
    "ap-south-1": ("aps1", "abc"),
    "ap-south-2": ("aps2", "abc"),
    "ap-southeast-1": ("apse1", "abc"),
    "ap-southeast-2": ("apse2", "abc"),
    "ap-southeast-3": ("apse3", "abc"),
    "ap-southeast-4": ("apse4", "abc"),
    "ap-southeast-5": ("apse5", "abc"),
    "ap-southeast-6": ("apse6", "abc"),
    "ap-southeast-7": ("apse7", "abc"),
    "ca-central-1": ("cac1", "abd"),
    "ca-west-1": ("caw1", "abc"),
    "eu-central-1": ("euc1", "abc"),
    "eu-central-2": ("euc2", "abc"),
    "eu-north-1": ("eun1", "abc"),
    "eu-south-1": ("eus1", "abc"),
    "eu-south-2": ("eus2", "abc"),
    "eu-west-1": ("euw1", "abc"),
    "eu-west-2": ("euw2", "abc"),
    "eu-west-3": ("euw3", "abc"),
    "il-central-1": ("ilc1", "abc"),
    "me-central-1": ("mec1", "abc"),
    "me-south-1": ("mes1", "abc"),
    "mx-central-1": ("mxc1", "abc"),
    "sa-east-1": ("sae1", "abc"),
    "us-east-1": ("use1", "abcdef"),
    "us-east-2": ("use2", "abc"),
    "us-west-1": ("usw1", "ac"),
    "us-west-2": ("usw2", "abcd"),
}
"""Region to its zone-id prefix and the letters of its zones."""


@dataclass(frozen=True, slots=True)
class Zone:
    """An Availability Zone: `us-east-1a` and `use1-az1`."""

    name: str
    id: str
    region: str


@lru_cache(maxsize=64)
def zones(region: str) -> tuple[Zone, ...]:
    """The zones of a Region, in order of their names. Raises KeyError for a Region that AWS does not have."""
    prefix, letters = ZONE_PREFIXES[region]
    return tuple(Zone(f"{region}{letter}", f"{prefix}-az{index}", region) for index, letter in enumerate(letters, 1))
