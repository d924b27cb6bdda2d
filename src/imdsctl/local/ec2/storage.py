"""Volumes and snapshots: as much as images and instances need.

Source: EC2 API Reference (Create, Delete and Describe of both, ModifyVolume, DescribeVolumesModifications).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from imdsctl.local.call import Call, Operation
from imdsctl.local.ec2.common import aws_tags, region_state, remember, replayed, tag_specifications
from imdsctl.local.ec2.errors import (
    check_choice,
    check_identifiers,
    invalid_combination,
    invalid_value,
    missing,
    not_found,
    refuse,
)
from imdsctl.local.ec2.filters import Filters, boolean, nothing
from imdsctl.local.ec2.launch_templates import timestamp
from imdsctl.local.ec2.pages import page
from imdsctl.local.ec2.public_images import public_images
from imdsctl.local.ec2.resources import Snapshot, Volume
from imdsctl.local.ec2.state import RegionState
from imdsctl.local.ec2.visibility import operator, shows_managed
from imdsctl.local.ec2.zones import zones

VOLUME_SIZES: dict[str, tuple[int, int]] = {
    "gp2": (1, 16384),
    "gp3": (1, 65536),
    "io1": (4, 16384),
    "io2": (4, 65536),
    "sc1": (125, 16384),
    "st1": (125, 16384),
    "standard": (1, 1024),
}
"""Volume type to its sizes in GiB (EC2 API Reference, CreateVolume)."""

DEFAULT_VOLUME_TYPE = "gp2"
DESCRIPTION_LENGTH_MAX = 255


def snapshot_size(state: RegionState, snapshot_id: str) -> int:
    """The size in GiB of a snapshot that the account can use: its own, or one behind a public image.

    Raises InvalidSnapshotID.Malformed and InvalidSnapshot.NotFound.
    """
    check_identifiers("snap", [snapshot_id])
    own = state.snapshots.get(snapshot_id)
    if own is not None:
        return own.size
    for image in public_images(state.region).values():
        for device in image.block_devices:
            if device.snapshot_id == snapshot_id:
                return device.size
    raise not_found("snap", snapshot_id)


def check_volume_size(volume_type: str, size: int) -> None:
    """Refuse a size that the volume type does not have."""
    least, most = VOLUME_SIZES[volume_type]
    if size < least:
        raise invalid_value(f"Volume of {size}GiB is too small for volume type {volume_type}; minimum is {least}GiB.")
    if size > most:
        raise invalid_value(f"Volume of {size}GiB is too large for volume type {volume_type}; maximum is {most}GiB.")


def create_volume(call: Call) -> dict[str, Any]:
    """Make a volume in a zone, empty or from a snapshot.

    Raises MissingParameter, InvalidParameterValue, InvalidParameterCombination, InvalidSnapshot.NotFound.
    """
    state, params = region_state(call), call.params
    zone = _zone(call)
    volume_type = params.get("VolumeType") or DEFAULT_VOLUME_TYPE
    check_choice(volume_type, "VolumeType", VOLUME_SIZES)
    snapshot_id, size = params.get("SnapshotId") or "", params.get("Size")
    if snapshot_id:
        least = snapshot_size(state, snapshot_id)
        size = least if size is None else size
        if size < least:
            raise invalid_value(
                f"Volume of size {size}GB is smaller than snapshot '{snapshot_id}', expect size >= {least}GB"
            )
    if size is None:
        raise missing("size/snapshot")
    check_volume_size(volume_type, size)
    tags = tag_specifications(params.get("TagSpecifications"), ["volume"]).get("volume")
    earlier = replayed(call, state.volumes.__contains__)
    if earlier is not None:
        return volume_structure(state, state.volumes[earlier])
    volume = Volume(
        f"vol-{call.ids.hex17()}",
        size,
        zone,
        call.now,
        volume_type,
        snapshot_id,
        bool(params.get("Encrypted")),
        params.get("Iops") or _iops(volume_type, size),
        params.get("Throughput") or (125 if volume_type == "gp3" else None),
    )
    shown = volume_structure(state, volume)
    state.volumes[volume.id] = volume
    if tags:
        state.tags[volume.id] = tags
        shown["Tags"] = aws_tags(tags)
    remember(call, volume.id)
    return {**shown, "State": "creating"}


def _zone(call: Call) -> str:
    name, zone_id = call.params.get("AvailabilityZone"), call.params.get("AvailabilityZoneId")
    if name and zone_id:
        raise invalid_combination("AvailabilityZone and AvailabilityZoneId cannot be used together.")
    if not name and not zone_id:
        raise missing("zone")
    for zone in zones(call.region):
        if name == zone.name or zone_id == zone.id:
            return zone.name
    raise invalid_value(f"The zone '{name or zone_id}' does not exist.")


def _iops(volume_type: str, size: int) -> int | None:
    if volume_type == "gp3":
        return 3000
    if volume_type == "gp2":
        return min(max(100, 3 * size), 16000)
    return None


def volume_structure(state: RegionState, volume: Volume) -> dict[str, Any]:
    """AWS's `Volume`."""
    out: dict[str, Any] = {
        "VolumeId": volume.id,
        "Size": volume.size,
        "SnapshotId": volume.snapshot_id,
        "AvailabilityZone": volume.zone,
        "AvailabilityZoneId": next(zone.id for zone in zones(state.region) if zone.name == volume.zone),
        "State": volume.state,
        "CreateTime": volume.created,
        "Attachments": [],
        "Encrypted": volume.encrypted,
        "VolumeType": volume.volume_type,
        "MultiAttachEnabled": False,
        "Operator": operator(state, _managed_by(state, volume)),
    }
    if volume.instance_id is not None:
        out["Attachments"] = [
            {
                "InstanceId": volume.instance_id,
                "VolumeId": volume.id,
                "Device": volume.device_name,
                "State": "attached",
                "AttachTime": volume.created,
                "DeleteOnTermination": volume.delete_on_termination,
            }
        ]
    if volume.iops is not None:
        out["Iops"] = volume.iops
    if volume.throughput is not None:
        out["Throughput"] = volume.throughput
    tags = state.tags.get(volume.id)
    if tags:
        out["Tags"] = aws_tags(tags)
    return out


def find_volume(state: RegionState, volume_id: str | None) -> Volume:
    """A volume by its identifier. Raises MissingParameter, InvalidVolumeID.Malformed and InvalidVolume.NotFound."""
    if not volume_id:
        raise missing("volumeId")
    check_identifiers("vol", [volume_id])
    if volume_id not in state.volumes:
        raise not_found("vol", volume_id)
    return state.volumes[volume_id]


def delete_volume(call: Call) -> dict[str, Any]:
    """Delete a volume that is attached to nothing. Raises like `find_volume`, and VolumeInUse."""
    state = region_state(call)
    volume = find_volume(state, call.params.get("VolumeId"))
    if volume.instance_id is not None:
        raise refuse("VolumeInUse", f"Volume {volume.id} is currently attached to {volume.instance_id}")
    del state.volumes[volume.id]
    state.tags.pop(volume.id, None)
    return {}


@dataclass(frozen=True, slots=True)
class _ListedVolume:
    volume: Volume
    tags: Mapping[str, str]
    zone_id: str
    managed_by: str | None


def _attachment(value: str | None) -> Any:
    return lambda listed: value if listed.volume.instance_id else None


VOLUME_FILTERS: Filters[_ListedVolume] = Filters(
    {
        "attachment.attach-time": lambda listed: (
            timestamp(listed.volume.created) if listed.volume.instance_id else None
        ),
        "attachment.delete-on-termination": lambda listed: (
            boolean(listed.volume.delete_on_termination) if listed.volume.instance_id else None
        ),
        "attachment.device": lambda listed: listed.volume.device_name,
        "attachment.instance-id": lambda listed: listed.volume.instance_id,
        "attachment.status": _attachment("attached"),
        "availability-zone": lambda listed: listed.volume.zone,
        "availability-zone-id": lambda listed: listed.zone_id,
        "create-time": lambda listed: timestamp(listed.volume.created),
        "encrypted": lambda listed: boolean(listed.volume.encrypted),
        "fast-restored": lambda listed: "false",
        "multi-attach-enabled": lambda listed: "false",
        "operator.managed": lambda listed: boolean(listed.managed_by),
        "operator.principal": lambda listed: listed.managed_by,
        "size": lambda listed: str(listed.volume.size),
        "snapshot-id": lambda listed: listed.volume.snapshot_id,
        "source-volume-id": nothing,
        "status": lambda listed: listed.volume.state,
        "volume-id": lambda listed: listed.volume.id,
        "volume-type": lambda listed: listed.volume.volume_type,
    },
    lambda listed: listed.tags,
)


def describe_volumes(call: Call) -> dict[str, Any]:
    """The volumes by id and filter, in pages of 5 to 1000.

    Raises InvalidVolumeID.Malformed, InvalidVolume.NotFound, InvalidParameterCombination.
    """
    state, params = region_state(call), call.params
    ids = params.get("VolumeIds")
    if ids and params.get("MaxResults") is not None:
        raise invalid_combination("The parameter volumeSet cannot be used with the parameter maxResults")
    volumes = [find_volume(state, each) for each in set(ids)] if ids else list(_candidates(state, params))
    if not shows_managed(call):
        volumes = [each for each in volumes if _managed_by(state, each) is None]
    volumes.sort(key=lambda each: each.id)
    zone_ids = {zone.name: zone.id for zone in zones(state.region)}
    listed = VOLUME_FILTERS.select(
        (
            _ListedVolume(each, state.tags.get(each.id, {}), zone_ids[each.zone], _managed_by(state, each))
            for each in volumes
        ),
        params.get("Filters"),
    )
    shown, token = page(listed, lambda each: each.volume.id, params, f"{call.account_id}/volumes")
    out: dict[str, Any] = {"Volumes": [volume_structure(state, each.volume) for each in shown]}
    if token:
        out["NextToken"] = token
    return out


def _managed_by(state: RegionState, volume: Volume) -> str | None:
    """Who manages the instance that a volume is attached to."""
    instance = state.instances.get(volume.instance_id or "")
    return instance.managed_by if instance is not None else None


def _candidates(state: RegionState, params: Mapping[str, Any]) -> Iterable[Volume]:
    """The volumes that can match: of the named instances when the request filters by them, so that it costs no more."""
    for each in params.get("Filters") or ():
        if each.get("Name") == "attachment.instance-id" and not any(
            character in value for value in each.get("Values") or () for character in "*?\\"
        ):
            found = (state.instances.get(value) for value in dict.fromkeys(each.get("Values") or ()))
            devices = (
                device.volume_id for instance in found if instance is not None for device in instance.block_devices
            )
            return [state.volumes[volume_id] for volume_id in devices if volume_id in state.volumes]
    return state.volumes.values()


def modify_volume(call: Call) -> dict[str, Any]:
    """Change the size (never down), type, IOPS or throughput of a volume; it is done at once.

    Raises like `find_volume`, MissingParameter, InvalidParameterValue.
    """
    state, params = region_state(call), call.params
    volume = find_volume(state, params.get("VolumeId"))
    if all(params.get(name) is None for name in ("Size", "VolumeType", "Iops", "Throughput", "MultiAttachEnabled")):
        raise missing("Size, VolumeType, Iops or Throughput")
    if params.get("MultiAttachEnabled"):
        raise refuse("UnsupportedOperation", "The local AWS of imdsctl has no volumes for several instances.")
    volume_type = params.get("VolumeType") or volume.volume_type
    check_choice(volume_type, "VolumeType", VOLUME_SIZES)
    size = params.get("Size") or volume.size
    if size < volume.size:
        raise invalid_value("New size cannot be smaller than existing size")
    check_volume_size(volume_type, size)
    before = _performance("Original", volume)
    same = volume_type == volume.volume_type and volume_type not in ("gp2", "standard", "st1", "sc1")
    volume.iops = params.get("Iops") or (volume.iops if same else _iops(volume_type, size))
    volume.throughput = params.get("Throughput") or (
        (volume.throughput if same else 125) if volume_type == "gp3" else None
    )
    volume.size, volume.volume_type = size, volume_type
    for device in state.instances[volume.instance_id].block_devices if volume.instance_id else ():
        if device.volume_id == volume.id:
            device.size, device.volume_type = size, volume_type
    volume.modified = {**before, "StartTime": call.now, "EndTime": call.now}
    return {"VolumeModification": {**_modification(volume), "ModificationState": "modifying", "Progress": 0}}


def _performance(prefix: str, volume: Volume) -> dict[str, Any]:
    values = {
        "Size": volume.size,
        "VolumeType": volume.volume_type,
        "Iops": volume.iops,
        "Throughput": volume.throughput,
        "MultiAttachEnabled": False,
    }
    return {f"{prefix}{name}": value for name, value in values.items() if value is not None}


def _modification(volume: Volume) -> dict[str, Any]:
    return {
        "VolumeId": volume.id,
        "ModificationState": "completed",
        "Progress": 100,
        **(volume.modified or {}),
        **_performance("Target", volume),
    }


MODIFICATION_FILTERS: Filters[Volume] = Filters(
    {
        "modification-state": lambda volume: "completed",
        "original-iops": lambda volume: str((volume.modified or {}).get("OriginalIops", "")),
        "original-size": lambda volume: str((volume.modified or {}).get("OriginalSize", "")),
        "original-volume-type": lambda volume: (volume.modified or {}).get("OriginalVolumeType"),
        "originalMultiAttachEnabled": lambda volume: "false",
        "start-time": lambda volume: timestamp((volume.modified or {})["StartTime"]),
        "target-iops": lambda volume: str(volume.iops),
        "target-size": lambda volume: str(volume.size),
        "target-volume-type": lambda volume: volume.volume_type,
        "targetMultiAttachEnabled": lambda volume: "false",
        "volume-id": lambda volume: volume.id,
    }
)


def describe_volumes_modifications(call: Call) -> dict[str, Any]:
    """The latest change of volumes that were changed.

    Raises InvalidVolumeID.Malformed, InvalidVolume.NotFound, and InvalidVolumeModification.NotFound for a named volume
    that never changed.
    """
    state, params = region_state(call), call.params
    ids = params.get("VolumeIds")
    for each in ids or ():
        if find_volume(state, each).modified is None:
            raise refuse("InvalidVolumeModification.NotFound", f"Modification for volume '{each}' does not exist.")
    volumes = [state.volumes[each] for each in sorted(set(ids or state.volumes))]
    found = MODIFICATION_FILTERS.select((each for each in volumes if each.modified), params.get("Filters"))
    shown, token = page(found, lambda each: each.id, params, f"{call.account_id}/modifications", least=1, most=500)
    out: dict[str, Any] = {"VolumesModifications": [_modification(each) for each in shown]}
    if token:
        out["NextToken"] = token
    return out


def delete_snapshot(call: Call) -> dict[str, Any]:
    """Delete a snapshot that no image is made of.

    Raises MissingParameter, InvalidSnapshotID.Malformed, InvalidSnapshot.NotFound, InvalidSnapshot.InUse.
    """
    state = region_state(call)
    snapshot_id = call.params.get("SnapshotId")
    if not snapshot_id:
        raise missing("snapshotId")
    check_identifiers("snap", [snapshot_id])
    if snapshot_id not in state.snapshots:
        raise not_found("snap", snapshot_id)
    for image in state.images.values():
        if any(device.snapshot_id == snapshot_id for device in image.block_devices):
            raise refuse("InvalidSnapshot.InUse", f"The snapshot {snapshot_id} is currently in use by {image.id}")
    del state.snapshots[snapshot_id]
    state.tags.pop(snapshot_id, None)
    return {}


def create_snapshot(call: Call) -> dict[str, Any]:
    """Make a snapshot of a volume. Raises MissingParameter, InvalidVolumeID.Malformed, InvalidVolume.NotFound."""
    state, params = region_state(call), call.params
    volume = find_volume(state, params.get("VolumeId"))
    description = params.get("Description") or ""
    if len(description) > DESCRIPTION_LENGTH_MAX:
        raise invalid_value(f"Description exceeds the maximum length of {DESCRIPTION_LENGTH_MAX} characters.")
    tags = tag_specifications(params.get("TagSpecifications"), ["snapshot"]).get("snapshot")
    snapshot = Snapshot(f"snap-{call.ids.hex17()}", volume.id, volume.size, call.now, description, volume.encrypted)
    state.snapshots[snapshot.id] = snapshot
    if tags:
        state.tags[snapshot.id] = tags
    return {**snapshot_structure(state, snapshot), "State": "pending", "Progress": ""}


def snapshot_structure(state: RegionState, snapshot: Snapshot) -> dict[str, Any]:
    """AWS's `Snapshot`."""
    out: dict[str, Any] = {
        "SnapshotId": snapshot.id,
        "VolumeId": snapshot.volume_id,
        "State": snapshot.state,
        "StartTime": snapshot.started,
        "Progress": "100%",
        "OwnerId": state.account_id,
        "Description": snapshot.description,
        "VolumeSize": snapshot.size,
        "Encrypted": snapshot.encrypted,
        "StorageTier": "standard",
    }
    tags = state.tags.get(snapshot.id)
    if tags:
        out["Tags"] = aws_tags(tags)
    return out


@dataclass(frozen=True, slots=True)
class _Listed:
    snapshot: Snapshot
    owner_id: str
    tags: Mapping[str, str]


SNAPSHOT_FILTERS: Filters[_Listed] = Filters(
    {
        "description": lambda listed: listed.snapshot.description,
        "encrypted": lambda listed: boolean(listed.snapshot.encrypted),
        "owner-alias": nothing,
        "owner-id": lambda listed: listed.owner_id,
        "progress": lambda listed: "100%",
        "snapshot-id": lambda listed: listed.snapshot.id,
        "start-time": lambda listed: timestamp(listed.snapshot.started),
        "status": lambda listed: listed.snapshot.state,
        "storage-tier": lambda listed: "standard",
        "transfer-type": nothing,
        "volume-id": lambda listed: listed.snapshot.volume_id,
        "volume-size": lambda listed: str(listed.snapshot.size),
    },
    lambda listed: listed.tags,
)


def describe_snapshots(call: Call) -> dict[str, Any]:
    """The account's snapshots, by id or all, in pages of 5 to 1000.

    Snapshots of other owners are not listed: none is shared here. Raises InvalidSnapshotID.Malformed,
    InvalidSnapshot.NotFound, InvalidParameterCombination.
    """
    state, params = region_state(call), call.params
    ids = params.get("SnapshotIds")
    if ids:
        if params.get("MaxResults") is not None:
            raise invalid_combination("The parameter snapshotSet cannot be used with the parameter maxResults")
        check_identifiers("snap", ids)
        for each in ids:
            if each not in state.snapshots:
                raise not_found("snap", each)
        snapshots = [state.snapshots[each] for each in sorted(set(ids))]
    else:
        snapshots = sorted(state.snapshots.values(), key=lambda each: each.id)
    owners = params.get("OwnerIds")
    if owners and "self" not in owners and call.account_id not in owners:
        snapshots = []
    listed = SNAPSHOT_FILTERS.select(
        (_Listed(each, call.account_id, state.tags.get(each.id, {})) for each in snapshots), params.get("Filters")
    )
    shown, token = page(listed, lambda each: each.snapshot.id, params, f"{call.account_id}/snapshots")
    out: dict[str, Any] = {"Snapshots": [snapshot_structure(state, each.snapshot) for each in shown]}
    if token:
        out["NextToken"] = token
    return out


OPERATIONS = {
    "CreateVolume": Operation(create_volume, writes=True),
    "DeleteVolume": Operation(delete_volume, writes=True),
    "DescribeVolumes": Operation(describe_volumes),
    "ModifyVolume": Operation(modify_volume, writes=True),
    "DescribeVolumesModifications": Operation(describe_volumes_modifications),
    "DeleteSnapshot": Operation(delete_snapshot, writes=True),
    "CreateSnapshot": Operation(create_snapshot, writes=True),
    "DescribeSnapshots": Operation(describe_snapshots),
}
