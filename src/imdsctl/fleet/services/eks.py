"""EKS: managed node groups. What a node's metadata service does is decided by the node group's launch template.

Source: EKS User Guide, "Customize managed nodes with launch templates": every managed node group launches through an
Auto Scaling group of the account; it stays at the version of the launch template that it was given until somebody
updates it; without a template of the account's, EKS makes one. A node carries the tags `eks:cluster-name` and
`eks:nodegroup-name`.

Nodes of EKS Auto Mode and of Fargate are not here: Auto Mode's are EC2 managed instances, which DescribeInstances
shows, and Fargate has no metadata service of an instance.

Calls: one list of clusters; for each cluster its list of node groups; one DescribeNodegroup for each, since no list
says more than names.
"""

from __future__ import annotations

from typing import Any

from imdsctl.domain.observations import LaunchSource, ServiceKind, ServiceSeen
from imdsctl.fleet.services.calls import ServiceCalls
from imdsctl.fleet.services.paging import each_page, together
from imdsctl.wire.errors import ServiceError

GONE = "ResourceNotFoundException"
MADE_BY_EKS = (
    "no launch template was given to the node group: EKS made one, and the group's instances show what it says"
)

NODEGROUP = {
    "nodegroup": {
        "nodegroupName": None,
        "nodegroupArn": None,
        "status": None,
        "launchTemplate": {"name": None, "version": None, "id": None},
        "resources": {"autoScalingGroups": {"name": None}},
        "tags": None,
    }
}


async def read(calls: ServiceCalls) -> list[ServiceSeen]:
    """Every managed node group. Raises ServiceError and Unreachable; what vanishes meanwhile is left out."""
    clusters = [
        name
        async for page in each_page(calls, "ListClusters", {}, {"clusters": None})
        for name in page.get("clusters") or ()
    ]
    found = await together(_cluster(calls, name) for name in clusters)
    return [each for cluster in found for each in cluster]


async def _cluster(calls: ServiceCalls, cluster: str) -> list[ServiceSeen]:
    try:
        names = [
            name
            async for page in each_page(calls, "ListNodegroups", {"clusterName": cluster}, {"nodegroups": None})
            for name in page.get("nodegroups") or ()
        ]
    except ServiceError as error:
        if error.code == GONE:
            return []
        raise
    found = await together(_nodegroup(calls, cluster, name) for name in names)
    return [each for each in found if each is not None]


async def _nodegroup(calls: ServiceCalls, cluster: str, name: str) -> ServiceSeen | None:
    try:
        answer = await calls.call("DescribeNodegroup", {"clusterName": cluster, "nodegroupName": name}, NODEGROUP)
    except ServiceError as error:
        if error.code == GONE:
            return None
        raise
    said: dict[str, Any] = answer["nodegroup"]
    if said.get("status") == "DELETING":
        return None
    template = said.get("launchTemplate") or {}
    sources = (
        (LaunchSource(template.get("id"), template.get("name"), template.get("version")),)
        if template.get("id") or template.get("name")
        else ()
    )
    groups = (said.get("resources") or {}).get("autoScalingGroups") or ()
    return ServiceSeen(
        ServiceKind.EKS_NODEGROUP,
        said.get("nodegroupArn") or f"{cluster}/{name}",
        name=name,
        reason="" if sources else MADE_BY_EKS,
        sources=sources,
        group_names=tuple(each["name"] for each in groups if each.get("name")),
        parent=cluster,
        tags=tuple(sorted((said.get("tags") or {}).items())),
    )
