"""Evidence rolled up to what somebody owns: an Auto Scaling group, a cluster, a template, an image, a tag, an account.

One member that used IMDSv1 makes its workload used; a workload is unused only if every member is; else nobody knows.
Sources: Amazon EC2 Auto Scaling User Guide, "Tag Auto Scaling groups and instances" (aws:autoscaling:groupName); EKS
User Guide, "Tagging your Amazon EKS resources" (eks:cluster-name); ECS Developer Guide, "Tagging Amazon ECS resources"
(aws:ecs:clusterName); Elastic Beanstalk Developer Guide, "Tagging resources" (elasticbeanstalk:environment-name).
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from imdsctl.domain.evidence import Evidence, InstanceEvidence, Use, combined_use
from imdsctl.domain.observations import InstanceSeen, RegionSeen, ServiceKind, Target

GROUP_TAG = "aws:autoscaling:groupName"
CLUSTER_TAGS = (
    "eks:cluster-name",
    "aws:eks:cluster-name",
    "alpha.eksctl.io/cluster-name",
    "aws:ecs:clusterName",
    "elasticbeanstalk:environment-name",
    "KubernetesCluster",
)
"""Tag keys whose value is a cluster's (or environment's) name, the one that AWS sets before others."""
CLUSTER_TAG_PREFIX = "kubernetes.io/cluster/"
"""The cluster's name is in the key."""
LOOK_AT_MAX = 5
"""Instances that a workload names to look at: those with the most calls, and as many of which nothing is known."""


class By(StrEnum):
    """What evidence is rolled up to."""

    WORKLOAD = "workload"
    """The first of group, cluster, template and image that an instance has."""
    GROUP = "group"
    CLUSTER = "cluster"
    TEMPLATE = "template"
    IMAGE = "image"
    TAG = "tag"
    ACCOUNT = "account"
    OU = "ou"


NOUNS = {
    By.GROUP: "Auto Scaling group",
    By.CLUSTER: "cluster",
    By.TEMPLATE: "launch template",
    By.IMAGE: "image",
    By.TAG: "tag",
    By.ACCOUNT: "account",
    By.OU: "unit",
}
"""What a kind is called before a name. A name may have spaces: what precedes it is one of these."""


@dataclass(frozen=True, slots=True)
class RollUp:
    """How to roll up; `tag` is the key when it is by tag."""

    by: By = By.WORKLOAD
    tag: str = ""

    def __str__(self) -> str:
        return f"tag:{self.tag}" if self.by is By.TAG else str(self.by)


@dataclass(frozen=True, slots=True, order=True)
class WorkloadKey:
    """A workload's identity. `target` is None where it spans targets (tag, account, unit); an empty `name` stands for
    the instances that have none of the kind."""

    kind: By
    name: str
    target: Target | None = None


@dataclass(slots=True)
class Workload:
    """The members' evidence in numbers. Counts by use; `calls` is the sum of accepted and rejected IMDSv1 calls."""

    key: WorkloadKey
    label: str = ""
    """A name to read beside the key's, of a template or an image."""
    counts: Counter[Use] = field(default_factory=Counter)
    calls: float = 0.0
    last_used: datetime | None = None
    role_delivery_v1: int = 0
    used: list[InstanceEvidence] = field(default_factory=list)
    """Those with the most calls, most first; at most LOOK_AT_MAX."""
    unknown: list[InstanceEvidence] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    """Why members are unknown."""

    @property
    def use(self) -> Use:
        """Used if any member is, unused only if all are, else unknown."""
        return combined_use(use for use, number in self.counts.items() if number)

    @property
    def instances(self) -> int:
        """How many members have evidence."""
        return sum(self.counts.values())

    def add(self, evidence: InstanceEvidence) -> None:
        """Count a member in."""
        use = evidence.use
        self.counts[use] += 1
        self.calls += calls_of(evidence)
        self.role_delivery_v1 += evidence.role_delivery_v1 or 0
        if evidence.last_used is not None and (self.last_used is None or evidence.last_used > self.last_used):
            self.last_used = evidence.last_used
        if use is Use.USED:
            self.used = heapq.nsmallest(LOOK_AT_MAX, [*self.used, evidence], key=_most_calls_first)
        elif use is Use.UNKNOWN:
            self.reasons[evidence.reason] += 1
            if len(self.unknown) < LOOK_AT_MAX:
                self.unknown.append(evidence)


def calls_of(evidence: InstanceEvidence) -> float:
    """IMDSv1 calls that CloudWatch counted, accepted or rejected."""
    return (evidence.no_token or 0.0) + (evidence.rejected or 0.0)


def _most_calls_first(evidence: InstanceEvidence) -> tuple[float, str]:
    return -calls_of(evidence), evidence.instance_id


def rolled_up(
    regions: Iterable[RegionSeen], evidence: Evidence, how: RollUp, units: Mapping[str, str]
) -> list[Workload]:
    """Every workload with evidence: used ones first (most calls first), then unknown, then unused.

    `regions` is gone through once. `units` has the path of each account's organizational unit.
    """
    found: dict[WorkloadKey, Workload] = {}
    for region in regions:
        naming = None
        for instance in region.instances:
            known = evidence.instances.get((region.target, instance.instance_id))
            if known is None:
                continue
            naming = naming or Naming(region, units)
            key, label = naming.of(instance, how)
            workload = found.get(key)
            if workload is None:
                workload = found[key] = Workload(key, label)
            workload.add(known)
    return sorted(found.values(), key=_used_first)


_ORDER = {Use.USED: 0, Use.UNKNOWN: 1, Use.UNUSED: 2}


def _used_first(workload: Workload) -> tuple[int, float, WorkloadKey]:
    key = workload.key
    # None does not compare with a target.
    comparable = WorkloadKey(key.kind, key.name, key.target or Target("", ""))
    return _ORDER[workload.use], -workload.calls, comparable


class Naming:
    """What the instances of one target belong to."""

    def __init__(self, region: RegionSeen, units: Mapping[str, str]) -> None:
        self._target = region.target
        self._unit = units.get(region.target.account_id, "")
        self._templates = {each.template_id: each.template_name for each in region.templates}
        self._images = {each.image_id: each.name for each in region.images}
        self._groups = {member: group.name for group in region.groups for member in group.instance_ids}
        self._clusters = dict(_cluster_members(region))
        self._group_clusters = dict(_cluster_groups(region))

    def of(self, instance: InstanceSeen, how: RollUp) -> tuple[WorkloadKey, str]:
        """The workload that an instance belongs to, and its label."""
        tags = dict(instance.tags)
        match how.by:
            case By.ACCOUNT:
                return WorkloadKey(By.ACCOUNT, self._target.account_id), ""
            case By.OU:
                return WorkloadKey(By.OU, self._unit), ""
            case By.TAG:
                return WorkloadKey(By.TAG, tags.get(how.tag, "")), ""
            case By.WORKLOAD:
                for kind in (By.GROUP, By.CLUSTER, By.TEMPLATE, By.IMAGE):
                    if self._name(instance, tags, kind):
                        return self._key(instance, tags, kind)
                return self._key(instance, tags, By.IMAGE)
            case kind:
                return self._key(instance, tags, kind)

    def _key(self, instance: InstanceSeen, tags: Mapping[str, str], kind: By) -> tuple[WorkloadKey, str]:
        name = self._name(instance, tags, kind)
        label = {By.TEMPLATE: self._templates, By.IMAGE: self._images}.get(kind, {}).get(name, "")
        return WorkloadKey(kind, name, self._target), label

    def _name(self, instance: InstanceSeen, tags: Mapping[str, str], kind: By) -> str:
        match kind:
            case By.GROUP:
                return self._group(instance, tags)
            case By.CLUSTER:
                return (
                    self._clusters.get(instance.instance_id)
                    or self._group_clusters.get(self._group(instance, tags))
                    or cluster_of(tags)
                )
            case By.TEMPLATE:
                return instance.launch_template_id or ""
            case _:
                return instance.image_id or ""

    def _group(self, instance: InstanceSeen, tags: Mapping[str, str]) -> str:
        return self._groups.get(instance.instance_id) or tags.get(GROUP_TAG, "")


def cluster_of(tags: Mapping[str, str]) -> str:
    """The cluster or environment that an instance's tags name; empty when they name none."""
    for key in CLUSTER_TAGS:
        if tags.get(key):
            return tags[key]
    return next((key[len(CLUSTER_TAG_PREFIX) :] for key in sorted(tags) if key.startswith(CLUSTER_TAG_PREFIX)), "")


def _cluster_members(region: RegionSeen) -> Iterator[tuple[str, str]]:
    for service in region.services:
        for instance_id in service.instance_ids:
            yield instance_id, service.parent or service.name or service.resource


def _cluster_groups(region: RegionSeen) -> Iterator[tuple[str, str]]:
    for service in region.services:
        if service.kind in (ServiceKind.EKS_NODEGROUP, ServiceKind.BEANSTALK_ENVIRONMENT):
            of = service.parent if service.kind is ServiceKind.EKS_NODEGROUP else service.name
            for group in service.group_names:
                yield group, of or service.resource
