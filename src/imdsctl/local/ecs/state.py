"""The clusters of an account in a Region, and how the Region's instances come to be hosts in one.

Nothing is kept of a host: it is an EC2 instance, and follows what happens to that. A terminated one is no host any more
(ECS Developer Guide, "Deregistering an Amazon ECS container instance": ECS deregisters it by itself).
"""

from __future__ import annotations

import base64
import binascii
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import blake2b

from imdsctl.local.ec2.public_images import public_images
from imdsctl.local.ec2.resources import RUNNING, SHUTTING_DOWN, TERMINATED, Instance
from imdsctl.local.ec2.state import RegionState
from imdsctl.local.spec import WorldSpec

SERVICES = "services"
"""The cluster that the generated hosts are in."""
EDGE_SHARE = 0.3
"""The share of those Regions that also have a cluster on Fargate, without a host."""

GROUP = "aws:autoscaling:groupName"
_GENERATED_GROUPS = frozenset({"ecs-hosts", "ecs-hosts-2"})
_CLUSTER_LINE = re.compile(r"ECS_CLUSTER=[\"']?([A-Za-z0-9_-]{1,255})")


@dataclass(slots=True)
class Cluster:
    """A cluster."""

    name: str
    arn: str
    created: datetime
    capacity_providers: tuple[str, ...] = ()
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class EcsState:
    """Clusters by name."""

    clusters: dict[str, Cluster] = field(default_factory=dict)


def first_clusters(spec: WorldSpec, region: RegionState) -> EcsState:
    """A Region's clusters, a function of (seed, account, Region, created) only."""
    state = EcsState()
    if region.generated is None or not region.generated.ecs_hosts:
        return state
    rng = random.Random(f"ecs/{spec.seed}/{region.account_id}/{region.region}")
    named = [(SERVICES, tuple(sorted(_GENERATED_GROUPS)))]
    if rng.random() < EDGE_SHARE:
        named.append(("edge", ("FARGATE", "FARGATE_SPOT")))
    for name, providers in named:
        state.clusters[name] = Cluster(
            name,
            f"arn:aws:ecs:{region.region}:{region.account_id}:cluster/{name}",
            spec.created - timedelta(days=300 + rng.randrange(600), seconds=rng.randrange(86400)),
            providers,
            {"environment": "production"},
        )
    return state


def hosts(region: RegionState, cluster: Cluster) -> Iterator[Instance]:
    """The instances that are registered in a cluster, in the order of their launches.

    A generated host is told by its group; any other by what its image and its user data do when it starts: the agent of
    an ECS-optimized image registers in the cluster that `ECS_CLUSTER` names (ECS Developer Guide, "Bootstrapping
    Amazon ECS Linux container instances").
    """
    for instance in region.instances.values():
        if instance.state not in (TERMINATED, SHUTTING_DOWN) and _cluster_of(region, instance) == cluster.name:
            yield instance


def _cluster_of(region: RegionState, instance: Instance) -> str | None:
    if instance.reservation.order <= region.last_generated:
        return SERVICES if region.tags.get(instance.id, {}).get(GROUP) in _GENERATED_GROUPS else None
    if not instance.user_data or instance.image_id not in _agent_images(region.region):
        return None
    try:
        text = base64.b64decode(instance.user_data).decode("utf-8", "replace")
    except (ValueError, binascii.Error):
        return None
    found = _CLUSTER_LINE.search(text)
    return found.group(1) if found is not None else None


@lru_cache(maxsize=64)
def _agent_images(region: str) -> frozenset[str]:
    """The ECS-optimized images of a Region."""
    return frozenset(image.id for image in public_images(region).values() if "-ecs-" in image.name)


def host_arn(region: RegionState, cluster: Cluster, instance: Instance) -> str:
    """The ARN of an instance as a host of a cluster: a function of both."""
    digits = blake2b(f"{cluster.arn}/{instance.id}".encode(), digest_size=16).hexdigest()
    return f"arn:aws:ecs:{region.region}:{region.account_id}:container-instance/{cluster.name}/{digits}"


def connected(instance: Instance) -> bool:
    """Whether the host's agent answers: a stopped instance stays registered, with its agent away."""
    return instance.state == RUNNING
