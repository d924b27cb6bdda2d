"""ECS: container instances. A host's metadata service is that of its EC2 instance, and its containers need hop limit 2.

Source: ECS API Reference, `ContainerInstance` (`ec2InstanceId`); EC2 User Guide, "Configure instance metadata options":
in a container environment the hop limit should be 2. Tasks on Fargate have no metadata service of an instance.

Calls: one list of clusters; one DescribeClusters for each 100, which says where hosts are; there the list of them, and
one DescribeContainerInstances for each 100.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imdsctl.domain.observations import ServiceKind, ServiceSeen
from imdsctl.fleet.services.calls import ServiceCalls
from imdsctl.fleet.services.paging import each_page, together
from imdsctl.wire.errors import ServiceError

NAMED_MAX = 100
"""What one Describe call may name, and the largest page of a list."""
GONE = "ClusterNotFoundException"
NOT_EC2 = "the host is not an EC2 instance of this account: ECS does not say what its metadata service is"

CLUSTERS = {"clusters": {"clusterArn": None, "clusterName": None, "registeredContainerInstancesCount": None}}
HOSTS = {"containerInstances": {"containerInstanceArn": None, "ec2InstanceId": None, "status": None}}


async def read(calls: ServiceCalls) -> list[ServiceSeen]:
    """Every container instance. Raises ServiceError and Unreachable; what vanishes meanwhile is left out."""
    arns = [
        arn
        async for page in each_page(calls, "ListClusters", {}, {"clusterArns": None})
        for arn in page.get("clusterArns") or ()
    ]
    parts = [arns[start : start + NAMED_MAX] for start in range(0, len(arns), NAMED_MAX)]
    answers = await together(calls.call("DescribeClusters", {"clusters": part}, CLUSTERS) for part in parts)
    clusters = [
        each
        for answer in answers
        for each in answer.get("clusters") or ()
        if each.get("registeredContainerInstancesCount")
    ]
    found = await together(_hosts(calls, each) for each in clusters)
    return [each for cluster in found for each in cluster]


async def _hosts(calls: ServiceCalls, cluster: Mapping[str, Any]) -> list[ServiceSeen]:
    named = {"cluster": cluster["clusterArn"]}
    found: list[ServiceSeen] = []
    try:
        async for page in each_page(calls, "ListContainerInstances", named, {"containerInstanceArns": None}):
            arns = page.get("containerInstanceArns")
            if not arns:
                continue
            answer = await calls.call("DescribeContainerInstances", {**named, "containerInstances": arns}, HOSTS)
            found += [
                _seen(cluster.get("clusterName") or cluster["clusterArn"], each)
                for each in answer.get("containerInstances") or ()
                if each.get("status") not in ("INACTIVE", "REGISTRATION_FAILED")
            ]
    except ServiceError as error:
        if error.code != GONE:
            raise
    return found


def _seen(cluster: str, host: Mapping[str, Any]) -> ServiceSeen:
    # A host outside AWS (ECS Anywhere) has a managed node's id of Systems Manager, `mi-...`, in its place.
    instance = str(host.get("ec2InstanceId") or "")
    ours = instance.startswith("i-")
    return ServiceSeen(
        ServiceKind.ECS_CONTAINER_INSTANCE,
        str(host["containerInstanceArn"]),
        name=instance,
        reason="" if ours else NOT_EC2,
        instance_ids=(instance,) if ours else (),
        parent=cluster,
    )
