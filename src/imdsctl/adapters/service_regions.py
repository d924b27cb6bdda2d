"""In which Regions a service exists, by botocore's list of endpoints."""

from __future__ import annotations

from functools import cache

from imdsctl.adapters.models import load_endpoints, load_service


def serves(service: str, region: str) -> bool:
    """Whether a service (botocore's name) exists in a Region; of what the list does not know, it is assumed."""
    for partition in load_endpoints()["partitions"]:
        if region in partition["regions"]:
            regions = _regions(partition["partition"], service)
            return not regions or region in regions
    return True


@cache
def _regions(partition: str, service: str) -> frozenset[str]:
    found = next(each for each in load_endpoints()["partitions"] if each["partition"] == partition)
    listed = found["services"].get(load_service(service).name, {})
    return frozenset(listed.get("endpoints", ())) & frozenset(found["regions"])
