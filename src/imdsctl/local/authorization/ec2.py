"""What EC2's calls need.

Source: Service Authorization Reference, "Actions, resources, and condition keys for Amazon EC2". Describe and Get calls
have no resource types: they are tested on `*`. A call that creates is tested on `TYPE/*` with the keys that the request
gives the new resource, and needs ec2:CreateTags for the tags that it brings (EC2 User Guide, "Grant permission to tag
Amazon EC2 resources during creation").
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from imdsctl.codify.launch import fleet_launches
from imdsctl.codify.needs import attribute_keys
from imdsctl.local.authorization.ec2_launch import launch_needs, named_profile
from imdsctl.local.authorization.ec2_resources import arn, existing
from imdsctl.local.authorization.iam import pass_role
from imdsctl.local.authorization.needs import EVERYTHING, Need, action_of, loose_tags, request_tags
from imdsctl.local.call import Call
from imdsctl.local.ec2.attributes import instance_of_association
from imdsctl.local.ec2.common import region_state
from imdsctl.local.ec2.fleet_launches import specified_launches
from imdsctl.local.ec2.spot_fleet_config import PRINCIPAL as SPOT_FLEET
from imdsctl.local.ec2.tags import RESOURCE_TYPES
from imdsctl.policy.request import ResourceContext, context_keys

PARAMETERS: Mapping[str, tuple[str, ...]] = {
    "image": ("ImageId",),
    "instance": ("InstanceId", "InstanceIds"),
    "key-pair": ("KeyName", "KeyPairId"),
    "launch-template": ("LaunchTemplateId", "LaunchTemplateName"),
    "network-interface": ("NetworkInterfaceId",),
    "security-group": ("GroupId", "GroupName"),
    "snapshot": ("SnapshotId", "SourceSnapshotId"),
    "spot-instances-request": ("SpotInstanceRequestIds",),
    "fleet": ("FleetId", "FleetIds"),
    "spot-fleet-request": ("SpotFleetRequestId", "SpotFleetRequestIds"),
    "subnet": ("SubnetId",),
    "volume": ("VolumeId", "VolumeIds"),
    "vpc": ("VpcId",),
}
"""By resource type, the parameters that name resources of it."""

TOUCHED: Mapping[str, tuple[str, ...]] = {
    "AssociateIamInstanceProfile": ("instance",),
    "AuthorizeSecurityGroupEgress": ("security-group",),
    "AuthorizeSecurityGroupIngress": ("security-group",),
    "CancelSpotFleetRequests": ("spot-fleet-request",),
    "CancelSpotInstanceRequests": ("spot-instances-request",),
    "CopyImage": ("+image",),
    "CopySnapshot": ("+snapshot",),
    "CreateFleet": ("+fleet",),
    "CreateImage": ("+image", "+snapshot", "instance"),
    "CreateLaunchTemplate": ("+launch-template",),
    "CreateLaunchTemplateVersion": ("launch-template",),
    "CreateSecurityGroup": ("+security-group", "vpc"),
    "CreateSnapshot": ("+snapshot", "volume"),
    "CreateVolume": ("+volume", "snapshot"),
    "DeleteFleets": ("fleet",),
    "DeleteKeyPair": ("key-pair",),
    "DeleteLaunchTemplate": ("launch-template",),
    "DeleteLaunchTemplateVersions": ("launch-template",),
    "DeleteSecurityGroup": ("security-group",),
    "DeleteSnapshot": ("snapshot",),
    "DeleteVolume": ("volume",),
    "DeregisterImage": ("image",),
    "DisassociateIamInstanceProfile": ("instance",),
    "GetLaunchTemplateData": ("instance",),
    "ImportKeyPair": ("+key-pair",),
    "ModifyFleet": ("fleet",),
    "ModifyImageAttribute": ("image",),
    "ModifyInstanceAttribute": ("instance",),
    "ModifyInstanceCreditSpecification": ("instance",),
    "ModifyInstanceMetadataOptions": ("instance",),
    "ModifyLaunchTemplate": ("launch-template",),
    "ModifyNetworkInterfaceAttribute": ("network-interface",),
    "ModifySpotFleetRequest": ("spot-fleet-request",),
    "ModifySubnetAttribute": ("subnet",),
    "ModifyVolume": ("volume",),
    "ModifyVpcAttribute": ("vpc",),
    "MonitorInstances": ("instance",),
    "RebootInstances": ("instance",),
    "RegisterImage": ("+image",),
    "ReplaceIamInstanceProfileAssociation": ("instance",),
    "RequestSpotFleet": ("+spot-fleet-request",),
    "RequestSpotInstances": ("+spot-instances-request",),
    "RevokeSecurityGroupEgress": ("security-group",),
    "RevokeSecurityGroupIngress": ("security-group",),
    "StartInstances": ("instance",),
    "StopInstances": ("instance",),
    "TerminateInstances": ("instance",),
    "UnmonitorInstances": ("instance",),
    "UpdateSecurityGroupRuleDescriptionsEgress": ("security-group",),
    "UpdateSecurityGroupRuleDescriptionsIngress": ("security-group",),
}
"""By action, the types of the resources it is tested on; `+TYPE` is a new one. What is not here is tested on `*`."""


def needs(call: Call) -> list[Need]:
    """The call's own action first, then what comes with it: tags, a role that is passed, instances launched."""
    if call.action == "RunInstances":
        return launch_needs(call, call.params)
    if call.action in ("CreateTags", "DeleteTags"):
        return [_tagging(call)]
    keys: dict[str, Any] = {"ec2:region": call.region}
    if call.action.startswith("Modify"):
        keys.update(attribute_keys(call.params))
    specified = _specified(_spot_fleet(call.params) or call.params)
    own = specified.get(next((kind[1:] for kind in TOUCHED.get(call.action, ()) if kind[0] == "+"), ""), {})
    keys.update(request_tags(own))
    wanted = [Need(action_of(call), tuple(_resources(call)) or EVERYTHING, keys)]
    wanted += [created_with_tags(call, kind, tags) for kind, tags in specified.items() if tags]
    wanted += _more(call)
    return wanted


def created_with_tags(call: Call, kind: str, tags: Mapping[str, str]) -> Need:
    """ec2:CreateTags on resources that the call is about to make."""
    keys = {**request_tags(tags), "ec2:createaction": call.action, "ec2:region": call.region}
    return Need("ec2:CreateTags", (ResourceContext(arn(call, kind, "*")),), keys)


def _specified(params: Mapping[str, Any]) -> dict[str, dict[str, str]]:
    """The tags of a request's TagSpecifications by resource type."""
    return {
        str(each.get("ResourceType") or "*"): loose_tags(each.get("Tags"))
        for each in params.get("TagSpecifications") or ()
        if isinstance(each, Mapping)
    }


def _resources(call: Call) -> Iterator[ResourceContext]:
    for kind in TOUCHED.get(call.action, ()):
        if kind[0] == "+":
            yield _new(call, kind[1:])
        else:
            for identifier in _identifiers(call, kind):
                yield existing(call, kind, identifier)


def _identifiers(call: Call, kind: str) -> Iterator[str]:
    """The resources of a type that the request names, by id; names are looked up."""
    state = region_state(call)
    for parameter in PARAMETERS[kind]:
        value = call.params.get(parameter)
        for each in value if isinstance(value, list) else (value,) if value else ():
            named = str(each)
            if parameter == "LaunchTemplateName":
                named = state.template_ids.get(named, "*")
            elif parameter == "GroupName":
                named = next((group.id for group in state.security_groups.values() if group.name == named), "*")
            yield named
    if kind == "instance":
        # These calls name the instance in their own ways.
        for each in call.params.get("InstanceCreditSpecifications") or ():
            yield str(each.get("InstanceId") or "*")
        if call.params.get("AssociationId"):
            yield instance_of_association(state, str(call.params["AssociationId"])) or "*"


def _new(call: Call, kind: str) -> ResourceContext:
    """A resource that the call makes, with the keys that its request gives it."""
    params, values = call.params, {}
    if kind == "volume":
        snapshot = params.get("SnapshotId")
        values = {
            "ec2:AvailabilityZone": params.get("AvailabilityZone"),
            "ec2:Encrypted": bool(params.get("Encrypted")),
            "ec2:ParentSnapshot": arn(call, "snapshot", snapshot) if snapshot else None,
            "ec2:VolumeIops": params.get("Iops"),
            "ec2:VolumeSize": params.get("Size"),
            "ec2:VolumeType": params.get("VolumeType") or "gp2",
        }
    elif kind == "snapshot" and params.get("VolumeId"):
        values = {"ec2:ParentVolume": arn(call, "volume", str(params["VolumeId"]))}
    elif kind == "key-pair":
        return ResourceContext(arn(call, kind, str(params.get("KeyName") or "*")))
    return ResourceContext(arn(call, kind, "*"), context_keys(values))


def _tagging(call: Call) -> Need:
    resources = []
    for each in call.params.get("Resources") or ():
        kind = RESOURCE_TYPES.get(str(each).partition("-")[0])
        resources.append(existing(call, kind, str(each)) if kind else ResourceContext(arn(call, "*", str(each))))
    keys = {**request_tags(loose_tags(call.params.get("Tags"))), "ec2:region": call.region}
    return Need(action_of(call), tuple(resources) or EVERYTHING, keys)


def _more(call: Call) -> Iterable[Need]:
    """What else a call needs of its caller."""
    params = call.params
    if call.action in ("AssociateIamInstanceProfile", "ReplaceIamInstanceProfileAssociation"):
        profile = named_profile(call, params)
        role = profile.role if profile is not None else None
        return [pass_role(call, role, "ec2.amazonaws.com")] if role else []
    if call.action == "RequestSpotInstances":
        specification = params.get("LaunchSpecification") or {}
        return launch_needs(call, {**specification, "InstanceMarketOptions": {"MarketType": "spot"}})
    if call.action == "CreateFleet":
        return [need for each in fleet_launches(params) for need in launch_needs(call, each)]
    if call.action == "RequestSpotFleet":
        config = _spot_fleet(params)
        launches = [need for each in _spot_fleet_launches(config) for need in launch_needs(call, each)]
        return [pass_role(call, str(config.get("IamFleetRole") or "*").rpartition("/")[2], SPOT_FLEET), *launches]
    return []


def _spot_fleet(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """What RequestSpotFleet says; nothing for another call."""
    return params.get("SpotFleetRequestConfig") or {}


def _spot_fleet_launches(config: Mapping[str, Any]) -> Iterable[Mapping[str, Any]]:
    """What RunInstances is asked for each launch specification, or each template and override on each market."""
    for specification in config.get("LaunchSpecifications") or ():
        for each in specified_launches(specification):
            yield {**each, "InstanceMarketOptions": {"MarketType": "spot"}}
    of_spot = (config.get("TargetCapacity") or 0) - (config.get("OnDemandTargetCapacity") or 0)
    target = {
        "DefaultTargetCapacityType": "spot" if of_spot else "on-demand",
        "OnDemandTargetCapacity": config.get("OnDemandTargetCapacity"),
    }
    yield from fleet_launches({**config, "TargetCapacitySpecification": target})
