"""GetLaunchTemplateData: an instance as the launch template data that would launch its like.

Source: EC2 API Reference, GetLaunchTemplateData; EC2 User Guide, "Create a launch template from an existing instance".
The metadata options are those the instance has: a template of them fixes all five, whatever the Region's defaults say.
"""

from __future__ import annotations

from typing import Any

from imdsctl.local.call import Call, Operation
from imdsctl.local.ec2 import render
from imdsctl.local.ec2.common import aws_tags, region_state
from imdsctl.local.ec2.errors import missing
from imdsctl.local.ec2.instance_types import instance_type
from imdsctl.local.ec2.instances import find_instances
from imdsctl.local.ec2.resources import Instance
from imdsctl.local.ec2.spot_market import request_of
from imdsctl.local.ec2.state import RegionState

COPIED = (
    "CapacityReservationSpecification",
    "EnclaveOptions",
    "HibernationOptions",
    "PrivateDnsNameOptions",
)
"""What an instance and a launch template spell alike."""


def get_launch_template_data(call: Call) -> dict[str, Any]:
    """The data of an instance. Raises MissingParameter, InvalidInstanceID.Malformed and .NotFound."""
    if not call.params.get("InstanceId"):
        raise missing("InstanceId")
    state = region_state(call)
    [instance] = find_instances(state, [call.params["InstanceId"]])
    return {"LaunchTemplateData": _data(state, instance)}


def _data(state: RegionState, instance: Instance) -> dict[str, Any]:
    shown = render.instance(state, instance)
    options = {name: value for name, value in shown["MetadataOptions"].items() if name != "State"}
    out: dict[str, Any] = {
        "ImageId": instance.image_id,
        "InstanceType": instance.instance_type,
        "EbsOptimized": instance.ebs_optimized,
        "DisableApiTermination": instance.termination_protected,
        "DisableApiStop": instance.stop_protected,
        "InstanceInitiatedShutdownBehavior": instance.shutdown_behavior,
        "Monitoring": {"Enabled": instance.monitoring in ("enabled", "pending")},
        "MaintenanceOptions": {"AutoRecovery": shown["MaintenanceOptions"]["AutoRecovery"]},
        "Placement": {
            "AvailabilityZone": instance.subnet.zone.name,
            "GroupName": "",
            "Tenancy": instance.tenancy,
        },
        "BlockDeviceMappings": [_device(state, each) for each in shown["BlockDeviceMappings"]],
        "NetworkInterfaces": [_interface(each) for each in shown["NetworkInterfaces"]],
        "MetadataOptions": options,
    }
    out.update((name, shown[name]) for name in COPIED if name in shown)
    if instance.key_name is not None:
        out["KeyName"] = instance.key_name
    if instance.profile_arn is not None:
        out["IamInstanceProfile"] = {"Arn": instance.profile_arn}
    if instance.user_data is not None:
        out["UserData"] = instance.user_data
    if "CpuOptions" in (instance.extra or {}):
        out["CpuOptions"] = shown["CpuOptions"]
    kind = instance_type(instance.instance_type)
    if kind is not None and kind.burstable:
        out["CreditSpecification"] = {"CpuCredits": (instance.extra or {}).get("CpuCredits", kind.default_credits)}
    tags = {key: value for key, value in state.tags.get(instance.id, {}).items() if not key.startswith("aws:")}
    if tags:
        out["TagSpecifications"] = [{"ResourceType": "instance", "Tags": aws_tags(tags)}]
    request = request_of(state, instance)
    if request is not None:
        spot: dict[str, Any] = {
            "MaxPrice": request.price,
            "SpotInstanceType": request.kind,
            "InstanceInterruptionBehavior": request.interruption,
        }
        if request.valid_until is not None:
            spot["ValidUntil"] = request.valid_until
        out["InstanceMarketOptions"] = {"MarketType": "spot", "SpotOptions": spot}
    return out


def _device(state: RegionState, shown: dict[str, Any]) -> dict[str, Any]:
    ebs: dict[str, Any] = {"DeleteOnTermination": shown["Ebs"]["DeleteOnTermination"]}
    volume = state.volumes.get(shown["Ebs"]["VolumeId"])
    if volume is not None:
        ebs["Encrypted"] = volume.encrypted
        ebs["VolumeSize"] = volume.size
        ebs["VolumeType"] = volume.volume_type
        if volume.snapshot_id:
            ebs["SnapshotId"] = volume.snapshot_id
        if volume.iops is not None:
            ebs["Iops"] = volume.iops
        if volume.throughput is not None:
            ebs["Throughput"] = volume.throughput
    return {"DeviceName": shown["DeviceName"], "Ebs": ebs}


def _interface(shown: dict[str, Any]) -> dict[str, Any]:
    """What a new interface can have as well: not this one's address."""
    return {
        "AssociatePublicIpAddress": "Association" in shown,
        "DeleteOnTermination": shown["Attachment"]["DeleteOnTermination"],
        "Description": shown["Description"],
        "DeviceIndex": shown["Attachment"]["DeviceIndex"],
        "Groups": [group["GroupId"] for group in shown["Groups"]],
        "InterfaceType": shown["InterfaceType"],
        "NetworkCardIndex": shown["Attachment"]["NetworkCardIndex"],
        "SubnetId": shown["SubnetId"],
    }


OPERATIONS = {"GetLaunchTemplateData": Operation(get_launch_template_data)}
