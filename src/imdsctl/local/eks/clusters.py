"""Making and deleting clusters. Nothing runs in them: what matters here is that node groups can be put there.

Source: EKS API Reference, CreateCluster, DeleteCluster.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from imdsctl.local.call import Call, Operation
from imdsctl.local.ec2.common import region_state
from imdsctl.local.eks.errors import in_use, invalid
from imdsctl.local.eks.read import cluster_structure, eks, the_cluster
from imdsctl.local.eks.state import Cluster, status
from imdsctl.local.trusted import trusts

PRINCIPAL = "eks.amazonaws.com"
VERSIONS = ("1.29", "1.30", "1.31", "1.32", "1.33")
_NAME = re.compile(r"[0-9A-Za-z][A-Za-z0-9_-]{0,99}")


def create_cluster(call: Call) -> Mapping[str, Any]:
    """Make a cluster without nodes. Raises InvalidParameterException and ResourceInUseException."""
    params, region = call.params, region_state(call)
    name, version = params["name"], params.get("version") or VERSIONS[-1]
    subnets = (params["resourcesVpcConfig"] or {}).get("subnetIds") or []
    if not _NAME.fullmatch(name):
        raise invalid(f"The cluster name '{name}' is not valid.", cluster=name)
    if name in eks(call).clusters and status(eks(call).clusters[name], call.now):
        raise in_use(f"Cluster already exists with name: {name}", cluster=name)
    if version not in VERSIONS:
        raise invalid(f"unsupported Kubernetes version {version}", cluster=name)
    for each in subnets:
        if each not in region.subnets:
            raise invalid(f"The subnet ID '{each}' does not exist", cluster=name)
    if len({region.subnets[each].zone.name for each in subnets}) < 2:
        raise invalid("Subnets specified must be in at least two different AZs", cluster=name)
    if not trusts(call, params["roleArn"], PRINCIPAL):
        raise invalid(
            f"Role with arn: {params['roleArn']}, could not be assumed because it does not exist or the trusted entity "
            "is not correct",
            cluster=name,
        )
    cluster = Cluster(
        name=name,
        arn=f"arn:aws:eks:{call.region}:{call.account_id}:cluster/{name}",
        created=call.now,
        version=version,
        role_arn=params["roleArn"],
        subnets=tuple(subnets),
        security_group=region.default_security_group.id,
        vpc=region.vpc_id,
        auto=bool((params.get("computeConfig") or {}).get("enabled")),
        ready=due(call),
        tags=dict(params.get("tags") or {}),
    )
    eks(call).clusters[name] = cluster
    return {"cluster": cluster_structure(call, cluster)}


def delete_cluster(call: Call) -> Mapping[str, Any]:
    """Delete a cluster that has no node groups any more. Raises ResourceInUseException, ResourceNotFoundException."""
    cluster = the_cluster(call, call.params["name"])
    if any(status(each, call.now) for each in cluster.nodegroups.values()):
        raise in_use("Cluster has nodegroups attached", cluster=cluster.name)
    shown = cluster_structure(call, cluster) | {"status": "DELETING"}
    cluster.gone = due(call)
    return {"cluster": shown}


def due(call: Call) -> datetime:
    """When a change that a request begins is over."""
    return call.now + timedelta(seconds=call.world.settle_seconds)


OPERATIONS = {
    "CreateCluster": Operation(create_cluster, writes=True),
    "DeleteCluster": Operation(delete_cluster, writes=True),
}
