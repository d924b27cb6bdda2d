"""Reading clusters and their container instances.

Source: ECS API Reference, ListClusters, DescribeClusters, ListContainerInstances, DescribeContainerInstances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from imdsctl.local.call import AwsError, Call, Operation
from imdsctl.local.ec2.common import region_state
from imdsctl.local.ec2.resources import Instance
from imdsctl.local.ecs.errors import invalid, no_cluster
from imdsctl.local.ecs.state import Cluster, EcsState, connected, first_clusters, host_arn, hosts
from imdsctl.local.pages import InvalidToken, page

RESULTS_MAX = 100
"""Of a page, and of what one Describe call may name."""
ACTIVE = "ACTIVE"
STATUSES = (ACTIVE, "DRAINING", "REGISTERING", "DEREGISTERING", "REGISTRATION_FAILED")


def ecs(call: Call) -> EcsState:
    """The caller's ECS in the call's Region."""
    return call.world.kept(call.account_id, call.region, first_clusters)


def find_cluster(call: Call, named: str | None) -> Cluster | None:
    """The cluster of a name or ARN; without one it is `default`, which is there if somebody made it."""
    name = named or "default"
    if name.startswith("arn:"):
        return next((each for each in ecs(call).clusters.values() if each.arn == name), None)
    return ecs(call).clusters.get(name)


def the_cluster(call: Call) -> Cluster:
    """The cluster that a request names. Raises ClusterNotFoundException."""
    cluster = find_cluster(call, call.params.get("cluster"))
    if cluster is None:
        raise no_cluster()
    return cluster


def list_clusters(call: Call) -> Mapping[str, Any]:
    """The clusters' ARNs, in pages."""
    return _listed(call, "clusterArns", [cluster.arn for _, cluster in sorted(ecs(call).clusters.items())])


def list_container_instances(call: Call) -> Mapping[str, Any]:
    """The ARNs of a cluster's hosts, in pages: EC2 instances whose agent registered there, and none on Fargate."""
    cluster, region, status = the_cluster(call), region_state(call), call.params.get("status")
    if call.params.get("filter"):
        raise AwsError(
            "UnsupportedOperation", "The local AWS of imdsctl does not evaluate ECS's cluster query language.", 400
        )
    if status is not None and status not in STATUSES:
        raise invalid(f"status must be one of {', '.join(STATUSES)}.")
    found = [host_arn(region, cluster, each) for each in hosts(region, cluster)] if status in (None, ACTIVE) else []
    return _listed(call, "containerInstanceArns", found)


def _listed(call: Call, member: str, arns: Sequence[str]) -> Mapping[str, Any]:
    size = call.params.get("maxResults")
    if size is not None and not 1 <= size <= RESULTS_MAX:
        raise invalid(f"maxResults must be between 1 and {RESULTS_MAX}.")
    place = f"{call.action}/{call.account_id}/{call.region}/{call.params.get('cluster')}/{call.params.get('status')}"
    try:
        part, token = page(arns, call.params.get("nextToken") or None, size or RESULTS_MAX, of=place)
    except InvalidToken:
        raise invalid("Invalid token.") from None
    return {member: list(part), "nextToken": token}


def describe_clusters(call: Call) -> Mapping[str, Any]:
    """Up to 100 clusters by name or ARN; those that are not there are `failures`."""
    named, include = call.params.get("clusters") or ["default"], call.params.get("include") or ()
    if len(named) > RESULTS_MAX:
        raise invalid(f"Cannot describe more than {RESULTS_MAX} clusters.")
    found, failures = [], []
    for each in named:
        cluster = find_cluster(call, each)
        if cluster is None:
            arn = each if each.startswith("arn:") else f"arn:aws:ecs:{call.region}:{call.account_id}:cluster/{each}"
            failures.append({"arn": arn, "reason": "MISSING"})
        else:
            found.append(cluster_structure(call, cluster, tags="TAGS" in include))
    return {"clusters": found, "failures": failures}


def cluster_structure(call: Call, cluster: Cluster, *, tags: bool = True) -> dict[str, Any]:
    """AWS's `Cluster`."""
    return {
        "clusterArn": cluster.arn,
        "clusterName": cluster.name,
        "status": ACTIVE,
        "registeredContainerInstancesCount": sum(1 for _ in hosts(region_state(call), cluster)),
        "runningTasksCount": 0,
        "pendingTasksCount": 0,
        "activeServicesCount": 0,
        "statistics": [],
        "tags": [{"key": key, "value": value} for key, value in cluster.tags.items()] if tags else [],
        "settings": [],
        "capacityProviders": list(cluster.capacity_providers),
        "defaultCapacityProviderStrategy": [],
    }


def describe_container_instances(call: Call) -> Mapping[str, Any]:
    """Up to 100 hosts of a cluster by id or ARN, each with its EC2 instance; what is none is a failure."""
    cluster, region = the_cluster(call), region_state(call)
    named = call.params.get("containerInstances") or []
    if not named:
        raise invalid("Container instances cannot be empty.")
    if len(named) > RESULTS_MAX:
        raise invalid(f"Cannot describe more than {RESULTS_MAX} container instances.")
    by_id = {host_arn(region, cluster, each).rpartition("/")[2]: each for each in hosts(region, cluster)}
    found, failures = [], []
    for each in named:
        instance = by_id.get(each.rpartition("/")[2])
        if instance is None:
            prefix = f"arn:aws:ecs:{call.region}:{call.account_id}:container-instance/{cluster.name}"
            arn = each if each.startswith("arn:") else f"{prefix}/{each}"
            failures.append({"arn": arn, "reason": "MISSING"})
        else:
            found.append(_host(host_arn(region, cluster, instance), instance))
    return {"containerInstances": found, "failures": failures}


def _host(arn: str, instance: Instance) -> dict[str, Any]:
    attributes = {
        "ecs.ami-id": instance.image_id,
        "ecs.availability-zone": instance.subnet.zone.name,
        "ecs.instance-type": instance.instance_type,
        "ecs.os-type": "linux",
        "ecs.subnet-id": instance.subnet.id,
    }
    return {
        "containerInstanceArn": arn,
        "ec2InstanceId": instance.id,
        "version": 1,
        "versionInfo": {"agentVersion": "1.99.0", "dockerVersion": "DockerVersion: 25.0.8"},
        "remainingResources": [],
        "registeredResources": [],
        "status": ACTIVE,
        "agentConnected": connected(instance),
        "runningTasksCount": 0,
        "pendingTasksCount": 0,
        "attributes": [{"name": name, "value": value} for name, value in attributes.items()],
        "registeredAt": instance.launch_time,
        "attachments": [],
        "tags": [],
    }


OPERATIONS = {
    "ListClusters": Operation(list_clusters),
    "DescribeClusters": Operation(describe_clusters),
    "ListContainerInstances": Operation(list_container_instances),
    "DescribeContainerInstances": Operation(describe_container_instances),
}
