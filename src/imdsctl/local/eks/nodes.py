"""What a node group launches from: EKS's own copy of the launch template, and an Auto Scaling group that uses it.

Source: EKS User Guide, "Customize managed nodes with launch templates" and "Simplify node lifecycle with managed node
groups". Auto Scaling does the rest as it does for anybody's group: so nodes have the options of the copy, of the
Region's defaults and of their image, in the order of precedence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from imdsctl.local.autoscaling.groups import create_auto_scaling_group, delete_auto_scaling_group
from imdsctl.local.autoscaling.refreshes import start_instance_refresh
from imdsctl.local.call import AwsError, Call
from imdsctl.local.ec2.common import region_state
from imdsctl.local.ec2.launch_templates import find_template, find_version
from imdsctl.local.ec2.public_images import public_image
from imdsctl.local.ec2.resources import SHUTTING_DOWN, TERMINATED, LaunchTemplate, LaunchTemplateVersion
from imdsctl.local.ec2.termination import terminate_instances
from imdsctl.local.eks.errors import invalid_request
from imdsctl.local.eks.state import Cluster, Nodegroup
from imdsctl.local.iam.state import InstanceProfile

INSTANCE_TYPE = "t3.medium"
"""API Reference, CreateNodegroup, instanceTypes: the default."""
MADE_BY_EKS: Mapping[str, Any] = {"MetadataOptions": {"HttpPutResponseHopLimit": 2}}
"""What EKS's template says of the metadata service where the account gave none; see docs/fidelity.md."""
_GROUP_PREFERENCES = {"MinHealthyPercentage": 100, "MaxHealthyPercentage": 110}


def launch_data(call: Call, cluster: Cluster, nodegroup: Nodegroup) -> dict[str, Any]:
    """The launch template data of a node: the account's own, completed by what EKS knows."""
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
    name = f"eks-{nodegroup.arn.rpartition('/')[2]}"
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


def make_group(call: Call, cluster: Cluster, nodegroup: Nodegroup) -> None:
    """Make EKS's template and the group, with its desired size. Raises InvalidRequestException, nothing being made."""
    region = region_state(call)
    unique = nodegroup.arn.rpartition("/")[2]
    least, most, desired = nodegroup.sizes
    with _undone(call, cluster, nodegroup):
        template = LaunchTemplate(
            id=f"lt-{call.ids.hex17()}",
            name=f"eks-{unique if f'eks-{unique}' not in region.template_ids else call.ids.uuid()}",
            created=call.now,
            created_by=f"arn:aws:sts::{call.account_id}:assumed-role/AWSServiceRoleForAmazonEKSNodegroup/EKS",
            versions={1: LaunchTemplateVersion(1, call.now, "", launch_data(call, cluster, nodegroup))},
        )
        template.versions[1].created_by = template.created_by
        nodegroup.copy = template.id
        region.add_template(template, _tags(cluster, nodegroup))
        params = {
            "AutoScalingGroupName": nodegroup.group,
            "MinSize": least,
            "MaxSize": most,
            "DesiredCapacity": desired,
            "VPCZoneIdentifier": ",".join(nodegroup.subnets),
            "MixedInstancesPolicy": _policy(nodegroup, "1"),
            "Tags": [
                {"Key": key, "Value": value, "PropagateAtLaunch": True}
                for key, value in _tags(cluster, nodegroup).items()
            ],
        }
        create_auto_scaling_group(_inner(call, "autoscaling", "CreateAutoScalingGroup", params))


def replace_nodes(call: Call, cluster: Cluster, nodegroup: Nodegroup) -> str:
    """Launch from the node group's template as it is now, and begin to replace the nodes; gives the refresh's id.

    Raises InvalidRequestException, nothing being changed.
    """
    template = region_state(call).templates[nodegroup.copy or ""]
    before = (template.default_version, template.latest_version, template.last_number)
    with _undone(call, cluster, nodegroup):
        number = template.last_number + 1
        data = launch_data(call, cluster, nodegroup)
        template.versions[number] = LaunchTemplateVersion(number, call.now, template.created_by, data)
        template.default_version = template.latest_version = template.last_number = number
        params = {
            "AutoScalingGroupName": nodegroup.group,
            "Preferences": dict(_GROUP_PREFERENCES),
            "DesiredConfiguration": {"MixedInstancesPolicy": _policy(nodegroup, str(number))},
        }
        try:
            answer = start_instance_refresh(_inner(call, "autoscaling", "StartInstanceRefresh", params))
        except AwsError:
            del template.versions[number]
            template.default_version, template.latest_version, template.last_number = before
            raise
        return str(answer["InstanceRefreshId"])


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
        terminate_instances(_inner(call, "ec2", "TerminateInstances", {"InstanceIds": ids}))


def delete_group(call: Call, cluster: Cluster, nodegroup: Nodegroup) -> None:
    """Delete the group with its nodes, and EKS's template. Raises InvalidRequestException, nothing being deleted."""
    region = region_state(call)
    if region.scaling is not None and nodegroup.group in region.scaling.groups:
        params = {"AutoScalingGroupName": nodegroup.group, "ForceDelete": True}
        with _undone(call, cluster, nodegroup):
            delete_auto_scaling_group(_inner(call, "autoscaling", "DeleteAutoScalingGroup", params))
    template = region.templates.pop(nodegroup.copy or "", None)
    if template is not None:
        region.template_ids.pop(template.name, None)
        region.tags.pop(template.id, None)


def _policy(nodegroup: Nodegroup, version: str) -> dict[str, Any]:
    """The mixed instances policy that EKS gives every group."""
    return {
        "LaunchTemplate": {
            "LaunchTemplateSpecification": {"LaunchTemplateId": nodegroup.copy, "Version": version},
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


def _inner(call: Call, service: str, action: str, params: dict[str, Any]) -> Call:
    """A request that EKS makes in the account: part of this one, and no event of its own."""
    return replace(call, service=service, action=action, params=params)


@contextmanager
def _undone(call: Call, cluster: Cluster, nodegroup: Nodegroup) -> Iterator[None]:
    """Take back a template and an instance profile that were made, when the rest is refused."""
    region, iam = region_state(call), call.world.iam(call.account_id)
    templates, profiles, copy = set(region.templates), set(iam.profiles), nodegroup.copy
    try:
        yield
    except AwsError as refusal:
        for each in set(region.templates) - templates:
            region.template_ids.pop(region.templates.pop(each).name)
            region.tags.pop(each, None)
        for each in set(iam.profiles) - profiles:
            del iam.profiles[each]
        nodegroup.copy = copy
        raise invalid_request(refusal.message, cluster=cluster.name, nodegroup=nodegroup.name) from None
