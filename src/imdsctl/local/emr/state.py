"""What one account has in EMR in one Region, and what the generated fleet has there.

Source: EMR Management Guide, "Create a security configuration" (the text of one) and "Configure the instance metadata
service" (`InstanceMetadataServiceConfiguration`).
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from imdsctl.local.call import base32_letters
from imdsctl.local.service_generator import numbers_of

if TYPE_CHECKING:
    from imdsctl.local.world import World

ACTIVE = ("STARTING", "BOOTSTRAPPING", "RUNNING", "WAITING")
"""States of clusters that have instances."""
STATES = (*ACTIVE, "TERMINATING", "TERMINATED", "TERMINATED_WITH_ERRORS")

SHARE = 0.22
"""The share of Regions with EMR."""


@dataclass(frozen=True, slots=True)
class SecurityConfiguration:
    """A security configuration: a name and a JSON text that never changes."""

    name: str
    text: str
    created: datetime


@dataclass(frozen=True, slots=True)
class Cluster:
    """A cluster, as far as it says which security configuration its instances were launched with."""

    id: str
    name: str
    state: str
    created: datetime
    release: str
    instance_profile: str
    security_configuration: str | None = None


@dataclass(slots=True)
class EmrState:
    """Security configurations by name, in the order of creation, and the clusters, the newest first."""

    configurations: dict[str, SecurityConfiguration] = field(default_factory=dict)
    clusters: tuple[Cluster, ...] = ()


_IN_TRANSIT: Mapping[str, Any] = {
    "EncryptionConfiguration": {
        "EnableInTransitEncryption": False,
        "EnableAtRestEncryption": True,
        "AtRestEncryptionConfiguration": {"S3EncryptionConfiguration": {"EncryptionMode": "SSE-S3"}},
    }
}
_IMDS = "InstanceMetadataServiceConfiguration"
_VERSION = "MinimumInstanceMetadataServiceVersion"

_CONFIGURATIONS: tuple[tuple[str, int, Mapping[str, Any]], ...] = (
    # name, age in days, what it says
    ("at-rest", 1400, _IN_TRANSIT),
    ("analytics-v1", 900, {**_IN_TRANSIT, _IMDS: {_VERSION: 1, "HttpPutResponseHopLimit": 2}}),
    ("analytics-v2", 210, {**_IN_TRANSIT, _IMDS: {_VERSION: 2, "HttpPutResponseHopLimit": 1}}),
)
_CLUSTERS: tuple[tuple[str, str, str, str | None], ...] = (
    # name, state, release, security configuration
    ("etl-nightly", "WAITING", "emr-6.15.0", "analytics-v1"),
    ("notebooks", "RUNNING", "emr-7.1.0", "analytics-v2"),
    ("ad-hoc", "WAITING", "emr-5.36.2", None),
    ("backfill", "TERMINATED", "emr-6.9.0", "at-rest"),
)


def first_state(world: World, account_id: str, region: str) -> EmrState:
    """EMR of a generated Region: a few security configurations, and clusters with and without one."""
    state = EmrState()
    numbers = numbers_of(world, account_id, region, "emr", SHARE)
    if numbers is None:
        return state
    created = world.created
    for name, age, content in _CONFIGURATIONS:
        if numbers.random() < 0.75 and (world.spec.old_stacks or content.get(_IMDS, {}).get(_VERSION) == 2):
            made = _past(numbers, created, age)
            state.configurations[name] = SecurityConfiguration(name, json.dumps(content), made)
    clusters = [
        Cluster(
            "j-" + base32_letters(numbers.getrandbits(65), 13),
            name,
            status,
            _past(numbers, created, 40),
            release,
            "EMR_EC2_DefaultRole",
            used,
        )
        for name, status, release, used in _CLUSTERS
        if used in state.configurations or (used is None and world.spec.old_stacks)
    ]
    state.clusters = tuple(sorted(clusters, key=lambda each: each.created, reverse=True))
    return state


def _past(numbers: random.Random, created: datetime, days: int) -> datetime:
    """About so many days ago, at some time of that day."""
    return created - timedelta(days=days, seconds=numbers.randrange(86400))
