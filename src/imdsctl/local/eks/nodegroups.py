"""Making, updating and deleting managed node groups.

Source: EKS API Reference, CreateNodegroup, UpdateNodegroupVersion, DeleteNodegroup; EKS User Guide, "Customize managed
nodes with launch templates": which settings go into the template and which into the request, and that a node group
stays with the template that it was made with, and with its version until it is updated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from imdsctl.local.autoscaling.state import REFRESHING
from imdsctl.local.behalf import group_of
from imdsctl.local.call import AwsError, Call, Operation
from imdsctl.local.ec2.common import region_state
from imdsctl.local.ec2.launch_templates import find_template, find_version
from imdsctl.local.eks.clusters import due
from imdsctl.local.eks.errors import in_use, invalid
from imdsctl.local.eks.nodes import delete_group, end_first_nodes, make_group, replace_nodes
from imdsctl.local.eks.read import nodegroup_structure, the_cluster, the_nodegroup, update_structure
from imdsctl.local.eks.state import Cluster, Nodegroup, Update, status
from imdsctl.local.trusted import trusts

AMI_TYPES = ("AL2_x86_64", "AL2_ARM_64", "AL2023_x86_64_STANDARD", "AL2023_ARM_64_STANDARD")
"""Those for which an image is here; CUSTOM is what a launch template with an image makes a node group."""
_NAME = re.compile(r"[0-9A-Za-z][A-Za-z0-9_-]{0,62}")


def create_nodegroup(call: Call) -> Mapping[str, Any]:
    """Make a node group; its Auto Scaling group then launches the nodes.

    Raises InvalidParameterException, InvalidRequestException, ResourceInUseException, ResourceNotFoundException.
    """
    params = call.params
    cluster, name = the_cluster(call, params["clusterName"]), params["nodegroupName"]
    named = {"cluster": cluster.name, "nodegroup": name}
    if not _NAME.fullmatch(name):
        raise invalid(f"The node group name '{name}' is not valid.", **named)
    if name in cluster.nodegroups and status(cluster.nodegroups[name], call.now):
        raise in_use(f"NodeGroup already exists with name {name} and cluster name {cluster.name}", **named)
    if not trusts(call, params["nodeRole"], "ec2.amazonaws.com"):
        raise invalid(f"The role {params['nodeRole']} does not exist or does not trust ec2.amazonaws.com.", **named)
    subnets = params.get("subnets") or []
    if not subnets:
        raise invalid("Subnets cannot be empty.", **named)
    for each in subnets:
        if each not in region_state(call).subnets:
            raise invalid(f"The subnet ID '{each}' does not exist", **named)
    capacity = params.get("capacityType") or "ON_DEMAND"
    if capacity not in ("ON_DEMAND", "SPOT"):
        raise invalid("capacityType must be ON_DEMAND or SPOT here.", **named)
    template, data = _template(call, params.get("launchTemplate"), **named)
    unique = call.ids.uuid()
    nodegroup = Nodegroup(
        name=name,
        arn=f"arn:aws:eks:{call.region}:{call.account_id}:nodegroup/{cluster.name}/{name}/{unique}",
        created=call.now,
        version=params.get("version") or cluster.version,
        release=f"{cluster.version}.4-20251016",
        ami_type=_ami_type(params.get("amiType"), data, **named),
        instance_types=_types(params.get("instanceTypes"), data, template is not None, **named),
        sizes=_sizes(params.get("scalingConfig") or {}, **named),
        subnets=tuple(subnets),
        role_arn=params["nodeRole"],
        group=f"eks-{name}-{unique}",
        template=template,
        capacity_type=capacity,
        disk_size=_disk(params.get("diskSize"), template is not None, **named),
        labels=dict(params.get("labels") or {}),
        tags=dict(params.get("tags") or {}),
        ready=due(call),
    )
    make_group(call, cluster, nodegroup)
    cluster.nodegroups[name] = nodegroup
    return {"nodegroup": nodegroup_structure(call, cluster, nodegroup)}


def _template(
    call: Call, given: Mapping[str, Any] | None, *, cluster: str, nodegroup: str
) -> tuple[dict[str, str] | None, Mapping[str, Any]]:
    """The template that a request names, with the number of its version, and what that version says."""
    if not given:
        return None, {}
    if bool(given.get("id")) == bool(given.get("name")):
        raise invalid("You must specify either the launch template ID or name.", cluster=cluster, nodegroup=nodegroup)
    try:
        found = find_template(region_state(call), given.get("id") or None, given.get("name") or None)
        version = find_version(found, given.get("version") or "$Default")
    except AwsError as refusal:
        raise invalid(refusal.message, cluster=cluster, nodegroup=nodegroup) from None
    return {"name": found.name, "version": str(version.number), "id": found.id}, version.data


def _ami_type(given: str | None, data: Mapping[str, Any], **named: str) -> str:
    if data.get("ImageId"):
        if given not in (None, "CUSTOM"):
            raise invalid("You cannot specify an AMI Type when the launch template has an image.", **named)
        return "CUSTOM"
    kind = given or AMI_TYPES[2]
    if kind not in AMI_TYPES:
        raise invalid(f"amiType must be one of {', '.join(AMI_TYPES)} here.", **named)
    return kind


def _types(given: list[str] | None, data: Mapping[str, Any], template: bool, **named: str) -> tuple[str, ...]:
    if given and data.get("InstanceType"):
        raise invalid("You cannot specify instance types in both the request and the launch template.", **named)
    return tuple(given or ()) or (() if template and data.get("InstanceType") else ("t3.medium",))


def _sizes(given: Mapping[str, Any], **named: str) -> tuple[int, int, int]:
    least, most, desired = given.get("minSize", 1), given.get("maxSize", 2), given.get("desiredSize", 2)
    if least is None or most is None or desired is None or not (0 <= least <= desired <= most) or most < 1:
        raise invalid("Minimum capacity, desired capacity and maximum capacity must be in this order.", **named)
    return least, most, desired


def _disk(given: int | None, template: bool, **named: str) -> int | None:
    if given is not None and template:
        raise invalid("Disk size must be specified within the launch template.", **named)
    return None if template else given or 20


def update_nodegroup_version(call: Call) -> Mapping[str, Any]:
    """Go to another version of the launch template, or to the cluster's Kubernetes version: all nodes are replaced.

    Raises InvalidParameterException, InvalidRequestException, ResourceInUseException, ResourceNotFoundException.
    """
    cluster, nodegroup = the_nodegroup(call)
    named = {"cluster": cluster.name, "nodegroup": nodegroup.name}
    changed = _changes(call, nodegroup, **named)
    if status(nodegroup, call.now) != "ACTIVE" or _is_updating(call, nodegroup):
        raise in_use("Nodegroup cannot be updated as it is currently not in Active State", **named)
    before = nodegroup.template, nodegroup.version
    nodegroup.template, nodegroup.version, params = changed
    try:
        refresh = _replace(call, cluster, nodegroup)
    except AwsError:
        nodegroup.template, nodegroup.version = before
        raise
    update = Update(call.ids.uuid(), call.now, params, refresh, due(call))
    nodegroup.updates[update.id] = update
    return {"update": update_structure(call, nodegroup, update)}


def _changes(
    call: Call, group: Nodegroup, **named: str
) -> tuple[dict[str, str] | None, str, tuple[tuple[str, str], ...]]:
    """The template and version after the update, and what the request asked for."""
    given, version = call.params.get("launchTemplate"), call.params.get("version")
    template, _ = _template(call, given, **named)
    said = []
    if template is not None:
        if group.template is None:
            raise invalid("The node group was created without a launch template.", **named)
        if template["id"] != group.template["id"]:
            raise invalid("You cannot change the node group's launch template.", **named)
        said += [("LaunchTemplateName", template["name"]), ("LaunchTemplateVersion", template["version"])]
    if version is not None:
        latest = the_cluster(call, named["cluster"]).version
        if version != latest:
            raise invalid(f"The node group's version must be the cluster's: {latest}.", **named)
        said.append(("Version", version))
    return template or group.template, version or group.version, tuple(said)


def _is_updating(call: Call, nodegroup: Nodegroup) -> bool:
    group = group_of(call, nodegroup.group)
    return group is not None and any(each.status in REFRESHING for each in group.refreshes)


def _replace(call: Call, cluster: Cluster, nodegroup: Nodegroup) -> str | None:
    """Replace the nodes; a generated node group gets its Auto Scaling group only now."""
    if group_of(call, nodegroup.group) is not None:
        return replace_nodes(call, cluster, nodegroup)
    make_group(call, cluster, nodegroup)
    end_first_nodes(call, cluster, nodegroup)
    return None


def delete_nodegroup(call: Call) -> Mapping[str, Any]:
    """Delete a node group with its nodes. Raises ResourceNotFoundException."""
    cluster, nodegroup = the_nodegroup(call)
    shown = nodegroup_structure(call, cluster, nodegroup) | {"status": "DELETING"}
    if nodegroup.gone is None:
        delete_group(call, cluster, nodegroup)
        end_first_nodes(call, cluster, nodegroup)
        nodegroup.gone = due(call)
    return {"nodegroup": shown}


OPERATIONS = {
    "CreateNodegroup": Operation(create_nodegroup, writes=True),
    "DeleteNodegroup": Operation(delete_nodegroup, writes=True),
    "UpdateNodegroupVersion": Operation(update_nodegroup_version, writes=True),
}
