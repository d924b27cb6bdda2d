"""Reading clusters and node groups.

Source: EKS API Reference, ListClusters, DescribeCluster, ListNodegroups, DescribeNodegroup; EKS User Guide, "Customize
managed nodes with launch templates".
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from typing import Any

from imdsctl.local.autoscaling.state import REFRESHING, SUCCESSFUL
from imdsctl.local.behalf import group_of
from imdsctl.local.call import Call, Operation
from imdsctl.local.ec2.common import region_state
from imdsctl.local.eks.errors import invalid, no_cluster, no_nodegroup, no_update
from imdsctl.local.eks.generator import first_clusters
from imdsctl.local.eks.state import Cluster, EksState, Nodegroup, Update, status
from imdsctl.local.pages import InvalidToken, page

RESULTS_MAX = 100
IN_PROGRESS = "InProgress"


def eks(call: Call) -> EksState:
    """The caller's EKS in the call's Region."""
    return call.world.kept(call.account_id, call.region, first_clusters)


def the_cluster(call: Call, name: str) -> Cluster:
    """The cluster of that name. Raises ResourceNotFoundException."""
    cluster = eks(call).clusters.get(name)
    if cluster is None or not status(cluster, call.now):
        raise no_cluster(name)
    return cluster


def the_nodegroup(call: Call) -> tuple[Cluster, Nodegroup]:
    """The node group that a request names, with its cluster. Raises ResourceNotFoundException."""
    cluster = the_cluster(call, call.params["clusterName"])
    name = call.params["nodegroupName"]
    nodegroup = cluster.nodegroups.get(name)
    if nodegroup is None or not status(nodegroup, call.now):
        raise no_nodegroup(cluster.name, name)
    return cluster, nodegroup


def list_clusters(call: Call) -> Mapping[str, Any]:
    """The clusters' names, in pages."""
    return _listed(call, "clusters", _names(call, eks(call).clusters))


def list_nodegroups(call: Call) -> Mapping[str, Any]:
    """The names of a cluster's managed node groups, in pages."""
    return _listed(call, "nodegroups", _names(call, the_cluster(call, call.params["clusterName"]).nodegroups))


def _names(call: Call, each: Mapping[str, Cluster] | Mapping[str, Nodegroup]) -> list[str]:
    return sorted(name for name, one in each.items() if status(one, call.now))


def _listed(call: Call, member: str, names: Sequence[str]) -> Mapping[str, Any]:
    size, cluster = call.params.get("maxResults"), call.params.get("clusterName") or ""
    if size is not None and not 1 <= size <= RESULTS_MAX:
        raise invalid(f"maxResults must be between 1 and {RESULTS_MAX}.", cluster=cluster)
    try:
        part, token = page(
            names,
            call.params.get("nextToken") or None,
            size or RESULTS_MAX,
            of=f"{call.action}/{call.account_id}/{call.region}/{cluster}",
        )
    except InvalidToken:
        raise invalid("Invalid nextToken.", cluster=cluster) from None
    return {member: list(part), "nextToken": token}


def describe_cluster(call: Call) -> Mapping[str, Any]:
    """One cluster. Nothing runs behind its endpoint."""
    return {"cluster": cluster_structure(call, the_cluster(call, call.params["name"]))}


def cluster_structure(call: Call, cluster: Cluster) -> dict[str, Any]:
    """AWS's `Cluster`."""
    digits = blake2b(cluster.arn.encode(), digest_size=16).hexdigest().upper()
    return {
        "name": cluster.name,
        "arn": cluster.arn,
        "createdAt": cluster.created,
        "version": cluster.version,
        "endpoint": f"https://{digits}.gr7.{call.region}.eks.amazonaws.com",
        "roleArn": cluster.role_arn,
        "resourcesVpcConfig": {
            "subnetIds": list(cluster.subnets),
            "securityGroupIds": [],
            "clusterSecurityGroupId": cluster.security_group,
            "vpcId": cluster.vpc,
            "endpointPublicAccess": True,
            "endpointPrivateAccess": True,
            "publicAccessCidrs": ["0.0.0.0/0"],
        },
        "kubernetesNetworkConfig": {
            "serviceIpv4Cidr": "10.100.0.0/16",
            "ipFamily": "ipv4",
            "elasticLoadBalancing": {"enabled": cluster.auto},
        },
        "identity": {"oidc": {"issuer": f"https://oidc.eks.{call.region}.amazonaws.com/id/{digits}"}},
        "status": status(cluster, call.now),
        "certificateAuthority": {"data": base64.b64encode(digits.encode()).decode()},
        "platformVersion": "eks.20",
        "tags": dict(cluster.tags),
        "health": {"issues": []},
        "accessConfig": {"authenticationMode": "API_AND_CONFIG_MAP"},
        "upgradePolicy": {"supportType": "EXTENDED"},
        "computeConfig": {"enabled": cluster.auto, **({"nodePools": ["general-purpose"]} if cluster.auto else {})},
        "storageConfig": {"blockStorage": {"enabled": cluster.auto}},
        "deletionProtection": False,
    }


def describe_nodegroup(call: Call) -> Mapping[str, Any]:
    """One node group, with its launch template and its Auto Scaling group; DEGRADED when it could launch no node."""
    cluster, nodegroup = the_nodegroup(call)
    return {"nodegroup": nodegroup_structure(call, cluster, nodegroup)}


def nodegroup_structure(call: Call, cluster: Cluster, nodegroup: Nodegroup) -> dict[str, Any]:
    """AWS's `Nodegroup`."""
    least, most, desired = nodegroup.sizes
    issues, group = _issues(call, nodegroup), group_of(call, nodegroup.group)
    now = status(nodegroup, call.now)
    if now == "ACTIVE" and any(
        update_status(call, nodegroup, each) == IN_PROGRESS for each in nodegroup.updates.values()
    ):
        now = "UPDATING"
    return {
        "nodegroupName": nodegroup.name,
        "nodegroupArn": nodegroup.arn,
        "clusterName": cluster.name,
        "version": nodegroup.version,
        "releaseVersion": nodegroup.release,
        "createdAt": nodegroup.created,
        "modifiedAt": nodegroup.created,
        "status": "DEGRADED" if issues and now == "ACTIVE" else now,
        "capacityType": nodegroup.capacity_type,
        "scalingConfig": {"minSize": least, "maxSize": most, "desiredSize": desired},
        "instanceTypes": list(nodegroup.instance_types) or None,
        "subnets": list(nodegroup.subnets),
        "amiType": nodegroup.ami_type,
        "nodeRole": nodegroup.role_arn,
        "labels": dict(nodegroup.labels),
        "resources": {"autoScalingGroups": [{"name": group.name}] if group is not None else []},
        "diskSize": nodegroup.disk_size,
        "health": {"issues": issues},
        "updateConfig": {"maxUnavailable": 1},
        "launchTemplate": nodegroup.template,
        "tags": dict(nodegroup.tags),
    }


def _issues(call: Call, nodegroup: Nodegroup) -> list[dict[str, Any]]:
    """EKS User Guide, "Managed node group errors"."""
    region, template = region_state(call), nodegroup.template
    group = group_of(call, nodegroup.group)
    if group is not None and group.failures:
        last = group.activities[-1].message if group.activities else None
        return [{"code": "AsgInstanceLaunchFailures", "message": last or "", "resourceIds": [group.name]}]
    if template is None:
        return []
    found = region.templates.get(template["id"])
    if found is None:
        code, what = "Ec2LaunchTemplateNotFound", "The launch template for your node group cannot be found."
    elif int(template["version"]) not in found.versions:
        code, what = "Ec2LaunchTemplateVersionMismatch", "The launch template version for your node group is not there."
    else:
        return []
    return [{"code": code, "message": what, "resourceIds": [template["id"]]}]


def describe_update(call: Call) -> Mapping[str, Any]:
    """One update of a node group. Raises ResourceNotFoundException."""
    cluster = the_cluster(call, call.params["name"])
    nodegroup = cluster.nodegroups.get(call.params.get("nodegroupName") or "")
    update = nodegroup.updates.get(call.params["updateId"]) if nodegroup is not None else None
    if nodegroup is None or update is None:
        raise no_update(cluster.name, call.params["updateId"])
    return {"update": update_structure(call, nodegroup, update)}


def update_structure(call: Call, nodegroup: Nodegroup, update: Update) -> dict[str, Any]:
    """AWS's `Update`."""
    return {
        "id": update.id,
        "status": update_status(call, nodegroup, update),
        "type": "VersionUpdate",
        "params": [{"type": name, "value": value} for name, value in update.params],
        "createdAt": update.created,
        "errors": [],
    }


def update_status(call: Call, nodegroup: Nodegroup, update: Update) -> str:
    """InProgress until every node was replaced."""
    group = group_of(call, nodegroup.group)
    refresh = next((each for each in group.refreshes if each.id == update.refresh), None) if group is not None else None
    if refresh is None:
        return IN_PROGRESS if call.now < update.due else SUCCESSFUL
    if refresh.status in REFRESHING:
        return IN_PROGRESS
    return SUCCESSFUL if refresh.status == SUCCESSFUL else "Failed"


OPERATIONS = {
    "DescribeUpdate": Operation(describe_update),
    "ListClusters": Operation(list_clusters),
    "DescribeCluster": Operation(describe_cluster),
    "ListNodegroups": Operation(list_nodegroups),
    "DescribeNodegroup": Operation(describe_nodegroup),
}
