"""Making and deleting clusters. Hosts come and go by themselves: EC2 instances whose agent registers.

Source: ECS API Reference, CreateCluster, DeleteCluster.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from imdsctl.local.call import AwsError, Call, Operation
from imdsctl.local.ec2.common import region_state
from imdsctl.local.ecs.errors import invalid
from imdsctl.local.ecs.read import cluster_structure, ecs, the_cluster
from imdsctl.local.ecs.state import Cluster, hosts

_NAME = re.compile(r"[A-Za-z0-9_-]{1,255}")


def create_cluster(call: Call) -> Mapping[str, Any]:
    """Make a cluster, called `default` when nothing is said. One that is there already is given as it is.

    Raises InvalidParameterException.
    """
    params = call.params
    name = params.get("clusterName") or "default"
    if not _NAME.fullmatch(name):
        raise invalid("Invalid cluster name.")
    cluster = ecs(call).clusters.get(name)
    if cluster is None:
        cluster = ecs(call).clusters[name] = Cluster(
            name,
            f"arn:aws:ecs:{call.region}:{call.account_id}:cluster/{name}",
            call.now,
            tuple(params.get("capacityProviders") or ()),
            {each["key"]: each.get("value") or "" for each in params.get("tags") or () if each.get("key")},
        )
    return {"cluster": cluster_structure(call, cluster)}


def delete_cluster(call: Call) -> Mapping[str, Any]:
    """Delete a cluster without hosts. Raises ClusterContainsContainerInstancesException, ClusterNotFoundException."""
    cluster = the_cluster(call)
    if any(True for _ in hosts(region_state(call), cluster)):
        raise AwsError(
            "ClusterContainsContainerInstancesException",
            "The Cluster cannot be deleted while Container Instances are active or draining.",
            400,
        )
    del ecs(call).clusters[cluster.name]
    return {"cluster": cluster_structure(call, cluster) | {"status": "INACTIVE"}}


OPERATIONS = {
    "CreateCluster": Operation(create_cluster, writes=True),
    "DeleteCluster": Operation(delete_cluster, writes=True),
}
