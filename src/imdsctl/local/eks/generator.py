"""The clusters that an account's Region begins with.

The cluster `platform` is where the fleet has nodes of it: their tags say `eks:cluster-name`. Its node group `general`
stays at the version of the template `eks-workers` that somebody chose once, as node groups do. Everything comes from
random numbers of its own, so that the fleet is the same with and without.
"""

from __future__ import annotations

import random
from datetime import timedelta
from uuid import UUID

from imdsctl.local.ec2.state import RegionState
from imdsctl.local.eks.state import Cluster, EksState, Nodegroup
from imdsctl.local.spec import WorldSpec

GPU_SHARE = 0.1
"""The share of clusters with a node group that is scaled to nothing, and has no launch template of the account's."""
AUTO_SHARE = 0.15
"""The share of Regions with a cluster `sandbox` in Auto Mode beside `platform`."""


def first_clusters(spec: WorldSpec, region: RegionState) -> EksState:
    """A Region's clusters, a function of (seed, account, Region, created) only."""
    state = EksState()
    if region.generated is None or not region.generated.eks_nodes:
        return state
    rng = random.Random(f"eks/{spec.seed}/{region.account_id}/{region.region}")
    platform = _cluster(spec, region, rng, "platform", age_days=420, version=rng.choice(("1.30", "1.31", "1.32")))
    version = rng.choice(("1", "2", "3", "3")) if spec.old_stacks else "3"
    template = {"name": "eks-workers", "version": version, "id": region.generated.eks_template_id}
    _nodegroup(spec, region, rng, platform, "general", template, desired=rng.randrange(2, 7))
    if rng.random() < GPU_SHARE and spec.old_stacks:
        _nodegroup(spec, region, rng, platform, "gpu", None, desired=0)
    state.clusters[platform.name] = platform
    if rng.random() < AUTO_SHARE:
        state.clusters["sandbox"] = _cluster(spec, region, rng, "sandbox", age_days=60, version="1.33", auto=True)
    return state


def _cluster(
    spec: WorldSpec,
    region: RegionState,
    rng: random.Random,
    name: str,
    *,
    age_days: int,
    version: str,
    auto: bool = False,
) -> Cluster:
    return Cluster(
        name=name,
        arn=f"arn:aws:eks:{region.region}:{region.account_id}:cluster/{name}",
        created=spec.created - timedelta(days=age_days + rng.randrange(60), seconds=rng.randrange(86400)),
        version=version,
        role_arn=f"arn:aws:iam::{region.account_id}:role/eks-cluster-{name}",
        subnets=tuple(sorted(region.subnets)),
        security_group=region.default_security_group.id,
        vpc=region.vpc_id,
        auto=auto,
        tags={"environment": "sandbox" if auto else "production"},
    )


def _nodegroup(
    spec: WorldSpec,
    region: RegionState,
    rng: random.Random,
    cluster: Cluster,
    name: str,
    template: dict[str, str] | None,
    *,
    desired: int,
) -> None:
    unique = UUID(int=rng.getrandbits(128), version=4)
    cluster.nodegroups[name] = Nodegroup(
        name=name,
        arn=f"arn:aws:eks:{region.region}:{region.account_id}:nodegroup/{cluster.name}/{name}/{unique}",
        created=cluster.created + timedelta(hours=1),
        version=cluster.version,
        release=f"{cluster.version}.4-20251016",
        ami_type="CUSTOM" if template is not None else "AL2023_x86_64_NVIDIA",
        instance_types=() if template is not None else ("g5.xlarge",),
        sizes=(0 if desired == 0 else 1, desired + 4, desired),
        subnets=cluster.subnets,
        role_arn=f"arn:aws:iam::{region.account_id}:role/eks-node-{cluster.name}",
        group=f"eks-{name}-{unique}",
        template=template,
        disk_size=None if template is not None else 100,
        labels={"pool": name},
        tags={"environment": "production"},
    )
