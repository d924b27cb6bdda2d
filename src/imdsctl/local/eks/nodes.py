"""What a node group launches from: EKS's own copy of the launch template, and an Auto Scaling group that uses it.

Source: EKS User Guide, "Customize managed nodes with launch templates" and "Simplify node lifecycle with managed node
groups". Auto Scaling does the rest as it does for anybody's group: so nodes have the options of the copy, of the
Region's defaults and of their image, in the order of precedence.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from imdsctl.local import behalf
from imdsctl.local.call import Call
from imdsctl.local.ec2.common import region_state
from imdsctl.local.ec2.launch_templates import find_template, find_version
from imdsctl.local.ec2.public_images import public_image
from imdsctl.local.ec2.resources import SHUTTING_DOWN, TERMINATED
from imdsctl.local.ec2.termination import terminate_instances
from imdsctl.local.eks.errors import invalid_request
from imdsctl.local.eks.state import Cluster, Nodegroup
from imdsctl.local.iam.state import InstanceProfile

INSTANCE_TYPE = "t3.medium"
"""API Reference, CreateNodegroup, instanceTypes: the default."""
MADE_BY_EKS: Mapping[str, Any] = {"MetadataOptions": {"HttpPutResponseHopLimit": 2}}
"""What EKS's template says of the metadata service where the account gave none; see docs/fidelity.md."""


def launch_data(call: Call, nodegroup: Nodegroup) -> dict[str, Any]:
    """The launch template data of a node: the account's own, completed by what EKS knows. Raises AwsError."""
    region, template = region_state(call), nodegroup.template
    given: Mapping[str, Any] = MADE_BY_EKS
    if template is not None:
        given = find_version(find_template(region, template["id"], None), template["version"]).data
    family = "al2" if nodegroup.ami_type.startswith("AL2_") else "al2023"
    machine = "arm64" if "ARM_64" in nodegroup.ami_type else "x86_64"
    return {
        "ImageId": public_image(call.region, family, machine).id,
        "InstanceType": (nodegroup.instance_types or (INSTANCE_TYPE,))[0],
        **given,
        **_profile(call, nodegroup),
    }


def _profile(call: Call, nodegroup: Nodegroup) -> dict[str, Any]:
    """The instance profile of the node role, which EKS makes; a generated role is only a name."""
    iam = call.world.iam(call.account_id)
    role = iam.role_by_arn(nodegroup.role_arn)
    if role is None:
        return {}
    name = _profile_name(nodegroup)
    if name not in iam.profiles:
        iam.profiles[name] = InstanceProfile(
            name=name,
            path="/",
            id="AIPA" + call.ids.upper(17),
            arn=f"arn:aws:iam::{call.account_id}:instance-profile/{name}",
            created=call.now.replace(microsecond=0),
            role=role.name,
        )
    return {"IamInstanceProfile": {"Name": name}}


def _profile_name(nodegroup: Nodegroup) -> str:
    return f"eks-{nodegroup.arn.rpartition('/')[2]}"


def make_group(call: Call, cluster: Cluster, nodegroup: Nodegroup) -> None:
    """Make EKS's template and the group, with its desired size. Raises InvalidRequestException, nothing being made."""
    least, most, desired = nodegroup.sizes
    tags = _tags(cluster, nodegroup)
    with behalf.undone(call, _refusal(cluster, nodegroup)):
        name = f"eks-{nodegroup.arn.rpartition('/')[2]}"
        if name in region_state(call).template_ids:
            name = f"eks-{call.ids.uuid()}"
        author = f"arn:aws:sts::{call.account_id}:assumed-role/AWSServiceRoleForAmazonEKSNodegroup/EKS"
        template = behalf.add_template(call, name, author, launch_data(call, nodegroup), tags)
        params = {
            "AutoScalingGroupName": nodegroup.group,
            "MinSize": least,
            "MaxSize": most,
            "DesiredCapacity": desired,
            "VPCZoneIdentifier": ",".join(nodegroup.subnets),
            "MixedInstancesPolicy": _policy(nodegroup, template.id, 1),
            "Tags": [{"Key": key, "Value": value, "PropagateAtLaunch": True} for key, value in tags.items()],
        }
        behalf.make_group(call, params)
    behalf.drop_template(call, nodegroup.copy)
    nodegroup.copy = template.id


def replace_nodes(call: Call, cluster: Cluster, nodegroup: Nodegroup) -> str:
    """Launch from the node group's template as it is now, and begin to replace the nodes; gives the refresh's id.

    Raises InvalidRequestException, nothing being changed.
    """
    with behalf.undone(call, _refusal(cluster, nodegroup)):
        template = find_template(region_state(call), nodegroup.copy, None)
        number = behalf.add_version(call, template, launch_data(call, nodegroup))
        source = {"MixedInstancesPolicy": _policy(nodegroup, template.id, number)}
        return behalf.replace_members(call, nodegroup.group, source)


def end_first_nodes(call: Call, cluster: Cluster, nodegroup: Nodegroup) -> None:
    """Terminate the nodes that are of no group: those that were there when the world began."""
    region = region_state(call)
    wanted = {"eks:cluster-name": cluster.name, "eks:nodegroup-name": nodegroup.name}
    ids = [
        each.id
        for each in region.instances.values()
        if each.state not in (TERMINATED, SHUTTING_DOWN)
        and not (each.termination_protected or each.managed_by)
        and each.id not in region.scaled
        and wanted.items() <= region.tags.get(each.id, {}).items()
    ]
    if ids:
        terminate_instances(behalf.inner(call, "ec2", "TerminateInstances", {"InstanceIds": ids}))


def delete_group(call: Call, cluster: Cluster, nodegroup: Nodegroup) -> None:
    """Delete the group with its nodes, and EKS's template. Raises InvalidRequestException, nothing being deleted."""
    with behalf.undone(call, _refusal(cluster, nodegroup)):
        behalf.delete_group(call, nodegroup.group)
    behalf.drop_template(call, nodegroup.copy)
    call.world.iam(call.account_id).profiles.pop(_profile_name(nodegroup), None)


def _policy(nodegroup: Nodegroup, template_id: str, version: int) -> dict[str, Any]:
    """The mixed instances policy that EKS gives every group."""
    return {
        "LaunchTemplate": {
            "LaunchTemplateSpecification": {"LaunchTemplateId": template_id, "Version": str(version)},
            "Overrides": [{"InstanceType": each} for each in nodegroup.instance_types],
        },
        "InstancesDistribution": {
            "OnDemandPercentageAboveBaseCapacity": 0 if nodegroup.capacity_type == "SPOT" else 100,
        },
    }


def _tags(cluster: Cluster, nodegroup: Nodegroup) -> dict[str, str]:
    return {
        "eks:cluster-name": cluster.name,
        "eks:nodegroup-name": nodegroup.name,
        f"kubernetes.io/cluster/{cluster.name}": "owned",
        "k8s.io/cluster-autoscaler/enabled": "true",
    }


def _refusal(cluster: Cluster, nodegroup: Nodegroup) -> behalf.Refusal:
    return partial(invalid_request, cluster=cluster.name, nodegroup=nodegroup.name)
