"""What an account's EKS keeps in one Region."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Update:
    """A change of a node group's version. `refresh` is the instance refresh that carries it out; without one it is over
    at `due`."""

    id: str
    created: datetime
    params: tuple[tuple[str, str], ...]
    refresh: str | None
    due: datetime


@dataclass(slots=True)
class Nodegroup:
    """A managed node group.

    `template` is AWS's `LaunchTemplateSpecification` (name, version, id); None when the account gave none. `group` is
    the name of its Auto Scaling group, and `copy` the id of the template that EKS made for that: EKS never launches
    from the account's own. A generated node group has neither: only the nodes are there, until its first update.
    """

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
    copy: str | None = None
    ready: datetime | None = None
    gone: datetime | None = None
    updates: dict[str, Update] = field(default_factory=dict)


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
    ready: datetime | None = None
    gone: datetime | None = None
    nodegroups: dict[str, Nodegroup] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)


def status(each: Cluster | Nodegroup, now: datetime) -> str:
    """CREATING, ACTIVE, DELETING, or nothing when it is no more."""
    if each.gone is not None:
        return "DELETING" if now < each.gone else ""
    return "CREATING" if each.ready is not None and now < each.ready else "ACTIVE"


@dataclass(slots=True)
class EksState:
    """Clusters by name. What was deleted is there until that is over."""

    clusters: dict[str, Cluster] = field(default_factory=dict)
