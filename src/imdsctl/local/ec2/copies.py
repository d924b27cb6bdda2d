"""Images and snapshots made of what is there: CreateImage, CopyImage, CopySnapshot.

Source: EC2 API Reference, the three pages; EC2 User Guide, "How Amazon EC2 AMI copy works". Whether `ImdsSupport`
goes along is not documented; here both keep it: CopyImage that of its source, CreateImage that of the image the
instance was launched from, as far as the account can still see it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from imdsctl.local.call import Call, Operation
from imdsctl.local.ec2.common import region_state, remember, replayed, tag_specifications
from imdsctl.local.ec2.errors import check_identifiers, invalid_value, missing, not_found, refuse
from imdsctl.local.ec2.images import block_devices, check_description, check_new_name, visible_images
from imdsctl.local.ec2.instances import find_instances
from imdsctl.local.ec2.resources import SHUTTING_DOWN, TERMINATED, BlockDevice, Image, Instance, Snapshot
from imdsctl.local.ec2.state import RegionState
from imdsctl.local.ec2.storage import DESCRIPTION_LENGTH_MAX, snapshot_size
from imdsctl.local.ec2.zones import ZONE_PREFIXES


def _put(state: RegionState, image: Image, tags: Mapping[str, str] | None) -> None:
    state.images[image.id] = image
    if tags:
        state.tags[image.id] = dict(tags)


def _snapshot(
    call: Call, state: RegionState, device: BlockDevice, volume_id: str, about: str, tags: Mapping[str, str] | None
) -> str:
    snapshot = Snapshot(f"snap-{call.ids.hex17()}", volume_id, device.size, call.now, about, device.encrypted)
    state.snapshots[snapshot.id] = snapshot
    if tags:
        state.tags[snapshot.id] = dict(tags)
    return snapshot.id


# -- of an instance --------------------------------------------------------------------------------------------------


def create_image(call: Call) -> dict[str, Any]:
    """Make an image of an instance and snapshots of its volumes. The instance is not rebooted: nothing runs in it.

    Raises MissingParameter, InvalidInstanceID.*, IncorrectInstanceState, InvalidAMIName.Malformed/.Duplicate,
    InvalidParameterValue, and what `block_devices` raises.
    """
    state, params = region_state(call), call.params
    if not params.get("InstanceId"):
        raise missing("instanceId")
    [instance] = find_instances(state, [params["InstanceId"]])
    if instance.state in (SHUTTING_DOWN, TERMINATED):
        raise refuse(
            "IncorrectInstanceState",
            f"Instance {instance.id} is not in state 'running' or 'stopped'; an AMI cannot be created from it.",
        )
    name = params.get("Name")
    check_new_name(state, name)
    description = params.get("Description") or None
    check_description(description)
    tags = tag_specifications(params.get("TagSpecifications"), ["image", "snapshot"])
    source = next((each for each in visible_images(call) if each.id == instance.image_id), None)
    devices = block_devices(state, params.get("BlockDeviceMappings"), _volumes_of(state, instance))
    image_id = f"ami-{call.ids.hex17()}"
    about = f"Created by CreateImage({instance.id}) for {image_id}"
    attached = {device.device_name: device.volume_id for device in instance.block_devices}
    image = Image(
        id=image_id,
        name=str(name),
        owner_id=call.account_id,
        created=call.now,
        architecture=instance.architecture,
        imds_support=source.imds_support if source else None,
        description=description,
        platform=instance.platform,
        platform_details=instance.platform_details,
        usage_operation=instance.usage_operation,
        root_device_name=instance.root_device_name,
        block_devices=tuple(
            replace(
                device,
                volume_id="",
                snapshot_id=_snapshot(call, state, device, attached[device.device_name], about, tags.get("snapshot")),
            )
            if device.device_name in attached
            else device
            for device in devices
        ),
        boot_mode=instance.boot_mode,
        tpm_support=source.tpm_support if source else None,
        image_location=f"{call.account_id}/{name}",
    )
    _put(state, image, tags.get("image"))
    return {"ImageId": image.id}


def _volumes_of(state: RegionState, instance: Instance) -> Iterable[BlockDevice]:
    """The instance's devices with what their volumes are today."""
    for device in instance.block_devices:
        volume = state.volumes.get(device.volume_id)
        if volume is not None:
            yield replace(
                device,
                size=volume.size,
                volume_type=volume.volume_type,
                iops=volume.iops if volume.volume_type in ("gp3", "io1", "io2") else None,
                throughput=volume.throughput,
                encrypted=volume.encrypted,
                snapshot_id="",
            )


# -- of an image -----------------------------------------------------------------------------------------------------


def _source_region(call: Call) -> RegionState:
    region = call.params.get("SourceRegion")
    if not region:
        raise missing("sourceRegion")
    if region not in ZONE_PREFIXES or not call.world.region_enabled(call.account_id, region, call.now):
        raise invalid_value(f"Invalid source region: {region}")
    return call.world.region(call.account_id, region)


def copy_image(call: Call) -> dict[str, Any]:
    """Copy an image of this or another Region with its snapshots; the copy belongs to the caller.

    User tags come along with CopyImageTags, launch permissions never. Raises MissingParameter, InvalidParameterValue,
    InvalidAMIID.*, InvalidAMIName.Malformed/.Duplicate, IdempotentParameterMismatch.
    """
    state, params = region_state(call), call.params
    source_state = _source_region(call)
    image_id = params.get("SourceImageId")
    if not image_id:
        raise missing("sourceImageId")
    check_identifiers("ami", [image_id])
    there = replace(call, region=source_state.region)
    source = next((each for each in visible_images(there) if each.id == image_id), None)
    if source is None:
        raise not_found("ami", image_id)
    description = params.get("Description") or None
    check_description(description)
    tags = tag_specifications(params.get("TagSpecifications"), ["image", "snapshot"])
    earlier = replayed(call, state.images.__contains__)
    if earlier is not None:
        return {"ImageId": earlier}
    name = params.get("Name")
    check_new_name(state, name)
    encrypted = bool(params.get("Encrypted"))
    if params.get("KmsKeyId") and not encrypted:
        raise invalid_value("KmsKeyId requires Encrypted to be true.")
    copied_id = f"ami-{call.ids.hex17()}"
    about = f"Copied for DestinationAmi {copied_id} from SourceAmi {source.id}."
    devices = []
    for device in source.block_devices:
        if device.virtual_name is None and device.snapshot_id:
            device = replace(device, encrypted=device.encrypted or encrypted)
            origin = source_state.snapshots.get(device.snapshot_id)
            volume_id = origin.volume_id if origin is not None else "vol-ffffffff"
            device = replace(device, snapshot_id=_snapshot(call, state, device, volume_id, about, tags.get("snapshot")))
        devices.append(device)
    image = replace(
        source,
        id=copied_id,
        name=str(name),
        owner_id=call.account_id,
        created=call.now,
        description=description,
        owner_alias=None,
        block_devices=tuple(devices),
        image_location=f"{call.account_id}/{name}",
        public=False,
        launch_permissions=(),
        source=(source_state.region, source.id),
    )
    copied_tags = source_state.tags.get(source.id, {}) if params.get("CopyImageTags") else {}
    _put(state, image, {**copied_tags, **tags.get("image", {})})
    remember(call, image.id)
    return {"ImageId": image.id}


# -- of a snapshot ---------------------------------------------------------------------------------------------------


def copy_snapshot(call: Call) -> dict[str, Any]:
    """Copy a snapshot of this or another Region.

    Raises MissingParameter, InvalidParameterValue, InvalidSnapshotID.Malformed, InvalidSnapshot.NotFound.
    """
    state, params = region_state(call), call.params
    source_state = _source_region(call)
    snapshot_id = params.get("SourceSnapshotId")
    if not snapshot_id:
        raise missing("sourceSnapshotId")
    size = snapshot_size(source_state, snapshot_id)
    description = params.get("Description") or ""
    if len(description) > DESCRIPTION_LENGTH_MAX:
        raise invalid_value(f"Description exceeds the maximum length of {DESCRIPTION_LENGTH_MAX} characters.")
    tags = tag_specifications(params.get("TagSpecifications"), ["snapshot"]).get("snapshot")
    source = source_state.snapshots.get(snapshot_id)
    encrypted = bool(params.get("Encrypted")) or (source is not None and source.encrypted)
    # AWS shows a volume that does not exist as the source of a copied snapshot.
    device = BlockDevice("", size=size, encrypted=encrypted)
    return {"SnapshotId": _snapshot(call, state, device, "vol-ffffffff", description, tags)}


OPERATIONS = {
    "CreateImage": Operation(create_image, writes=True),
    "CopyImage": Operation(copy_image, writes=True),
    "CopySnapshot": Operation(copy_snapshot, writes=True),
}
