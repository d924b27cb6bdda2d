"""What an account's EKS keeps in one Region."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(slots=True)
class Nodegroup:
    """A managed node group. `template` is AWS's `LaunchTemplateSpecification` (name, version, id); None when EKS made
    the template itself. `group` is the name of its Auto Scaling group."""

    name: str
    arn: str
    created: datetime
    version: str
    release: str
    ami_type: str
    instance_types: tuple[str, ...]
    sizes: tuple[int, int, int]  # least, most, desired
    subnets: tuple[str, ...]
    role_arn: str
    group: str
    template: dict[str, str] | None = None
    capacity_type: str = "ON_DEMAND"
    disk_size: int | None = None
    labels: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Cluster:
    """A cluster with its node groups by name. `auto`: EKS Auto Mode makes its nodes, as EC2 managed instances."""

    name: str
    arn: str
    created: datetime
    version: str
    role_arn: str
    subnets: tuple[str, ...]
    security_group: str
    vpc: str
    auto: bool = False
    nodegroups: dict[str, Nodegroup] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class EksState:
    """Clusters by name."""

    clusters: dict[str, Cluster] = field(default_factory=dict)
