"""Images: RegisterImage, DescribeImages, their attributes, DeregisterImage.

Source: EC2 API Reference; EC2 User Guide, "Configure the AMI": `ImdsSupport` has one value, `v2.0`, and cannot be taken
back; one attribute in each ModifyImageAttribute; only the owner changes an image.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from imdsctl.local.call import Call, Operation
from imdsctl.local.ec2.common import aws_tags, region_state, tag_specifications
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
from imdsctl.local.ec2.pages import page
from imdsctl.local.ec2.public_images import public_images
from imdsctl.local.ec2.resources import BlockDevice, Image
from imdsctl.local.ec2.state import RegionState
from imdsctl.local.ec2.storage import DEFAULT_VOLUME_TYPE, VOLUME_SIZES, check_volume_size, snapshot_size

NAME = re.compile(r"[a-zA-Z0-9()\[\] ./\-'@_]{3,128}")
DESCRIPTION_LENGTH_MAX = 255
ARCHITECTURES = ("i386", "x86_64", "arm64", "x86_64_mac", "arm64_mac")
IMDS_SUPPORT = "v2.0"
ATTRIBUTES = (
    "description",
    "kernel",
    "ramdisk",
    "launchPermission",
    "productCodes",
    "blockDeviceMapping",
    "sriovNetSupport",
    "bootMode",
    "tpmSupport",
    "uefiData",
    "lastLaunchedTime",
    "imdsSupport",
    "deregistrationProtection",
)


# -- finding ---------------------------------------------------------------------------------------------------------


def visible_images(call: Call) -> Iterator[Image]:
    """All images that the account can see in the Region: its own, the publishers', and those shared with it."""
    state = region_state(call)
    yield from state.images.values()
    yield from public_images(call.region).values()
    for image in call.world.shared_images.get(call.region, {}).values():
        if image.owner_id != call.account_id and (image.public or call.account_id in image.launch_permissions):
            yield image


def find_image(call: Call, image_id: str) -> Image:
    """An image that the account can see. Raises InvalidAMIID.Malformed and InvalidAMIID.NotFound."""
    check_identifiers("ami", [image_id])
    image = region_state(call).images.get(image_id) or public_images(call.region).get(image_id)
    if image is not None:
        return image
    for image in visible_images(call):
        if image.id == image_id:
            return image
    raise not_found("ami", image_id)


def own_image(call: Call, image_id: str | None) -> Image:
    """An image of the account. Raises like `find_image`, and AuthFailure for somebody else's."""
    if not image_id:
        raise missing("ImageId")
    image = find_image(call, image_id)
    if image.owner_id != call.account_id:
        raise refuse("AuthFailure", f"Not authorized for image:{image_id}", 403)
    return image


# -- registering -----------------------------------------------------------------------------------------------------


def register_image(call: Call) -> dict[str, Any]:
    """Make an image of snapshots.

    Raises MissingParameter, InvalidAMIName.Malformed, InvalidAMIName.Duplicate, InvalidParameterValue,
    InvalidBlockDeviceMapping, InvalidSnapshotID.Malformed and InvalidSnapshot.NotFound.
    """
    state, params = region_state(call), call.params
    name = params.get("Name")
    check_name(name)
    architecture = params.get("Architecture") or "i386"
    check_choice(architecture, "Architecture", ARCHITECTURES)
    check_imds_support(params.get("ImdsSupport"))
    check_choice(params.get("BootMode"), "BootMode", ("legacy-bios", "uefi", "uefi-preferred"))
    check_choice(params.get("TpmSupport"), "TpmSupport", ("v2.0",))
    virtualization = params.get("VirtualizationType") or "paravirtual"
    check_choice(virtualization, "VirtualizationType", ("hvm", "paravirtual"))
    description = params.get("Description") or None
    check_description(description)
    devices = block_devices(state, params.get("BlockDeviceMappings"))
    location = params.get("ImageLocation") or None
    root = params.get("RootDeviceName") or (None if location else "")
    if location is None:
        root = root or "/dev/sda1"
        backing = next((device for device in devices if device.device_name == root), None)
        if backing is None or not backing.snapshot_id:
            raise refuse("InvalidBlockDeviceMapping", f"The root device {root} must be backed by a snapshot")
    tags = tag_specifications(params.get("TagSpecifications"), ["image", "snapshot"])
    check_new_name(state, name)
    image = Image(
        id=f"ami-{call.ids.hex17()}",
        name=str(name),
        owner_id=call.account_id,
        created=call.now,
        architecture=architecture,
        imds_support=params.get("ImdsSupport"),
        description=description,
        root_device_name=root or "",
        root_device_type="ebs" if location is None else "instance-store",
        block_devices=devices,
        virtualization_type=virtualization,
        ena_support=bool(params.get("EnaSupport")),
        sriov_net_support=params.get("SriovNetSupport") or None,
        boot_mode=params.get("BootMode"),
        tpm_support=params.get("TpmSupport"),
        image_location=location or f"{call.account_id}/{name}",
    )
    state.images[image.id] = image
    if tags.get("image"):
        state.tags[image.id] = tags["image"]
    return {"ImageId": image.id}


def check_name(name: str | None) -> None:
    """Refuse what cannot be an image's name. Raises MissingParameter and InvalidAMIName.Malformed."""
    if not name:
        raise missing("name")
    if not NAME.fullmatch(name):
        raise refuse(
            "InvalidAMIName.Malformed",
            "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, '(', ')', '.', "
            "'-', '/' and '_'",
        )


def check_new_name(state: RegionState, name: str | None) -> None:
    """Refuse also a name that an image of the account has. Raises InvalidAMIName.Duplicate."""
    check_name(name)
    for image in state.images.values():
        if image.name == name:
            raise refuse("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {image.id}")


def check_imds_support(value: str | None) -> None:
    """Refuse anything but `v2.0`."""
    if value is not None and value != IMDS_SUPPORT:
        raise invalid_value(
            f"A value of '{value}' is not valid for ImdsSupport. Specify '{IMDS_SUPPORT}' and try again."
        )


def check_description(description: str | None) -> None:
    """Refuse a description that is too long. Raises InvalidParameterValue."""
    if description is not None and len(description) > DESCRIPTION_LENGTH_MAX:
        raise invalid_value(f"AMI descriptions must be less than {DESCRIPTION_LENGTH_MAX + 1} characters long")


def block_devices(
    state: RegionState, mappings: Iterable[Mapping[str, Any]] | None, base: Iterable[BlockDevice] = ()
) -> tuple[BlockDevice, ...]:
    """Block device mappings of a request over those of an image (`base`), by device name.

    Raises MissingParameter, InvalidBlockDeviceMapping, InvalidParameterValue, InvalidSnapshotID.Malformed and
    InvalidSnapshot.NotFound.
    """
    devices = {device.device_name: device for device in base}
    given: set[str] = set()
    for mapping in mappings or ():
        name = mapping.get("DeviceName")
        if not name:
            raise missing("deviceName")
        if name in given:
            raise refuse("InvalidBlockDeviceMapping", f"Duplicate device name {name} in block device mapping")
        given.add(name)
        if mapping.get("NoDevice") is not None:
            devices.pop(name, None)
        elif mapping.get("VirtualName"):
            devices[name] = BlockDevice(name, virtual_name=mapping["VirtualName"])
        else:
            devices[name] = _ebs_device(state, name, mapping.get("Ebs") or {}, devices.get(name))
    return tuple(devices.values())


def _ebs_device(state: RegionState, name: str, ebs: Mapping[str, Any], base: BlockDevice | None) -> BlockDevice:
    snapshot_id = ebs.get("SnapshotId") or (base.snapshot_id if base else "")
    volume_type = ebs.get("VolumeType") or (base.volume_type if base else DEFAULT_VOLUME_TYPE)
    check_choice(volume_type, "VolumeType", VOLUME_SIZES)
    size = ebs.get("VolumeSize")
    if snapshot_id:
        least = base.size if base and base.snapshot_id == snapshot_id else snapshot_size(state, snapshot_id)
        size = least if size is None else size
        if size < least:
            raise refuse(
                "InvalidBlockDeviceMapping",
                f"Volume of size {size}GB is smaller than snapshot '{snapshot_id}', expect size >= {least}GB",
            )
    if size is None:
        raise refuse("MissingParameter", "The request must contain the parameter size or snapshotId")
    check_volume_size(volume_type, size)
    delete = ebs.get("DeleteOnTermination")
    return BlockDevice(
        name,
        snapshot_id=snapshot_id,
        size=size,
        volume_type=volume_type,
        delete_on_termination=(base.delete_on_termination if base else True) if delete is None else delete,
        encrypted=bool(ebs.get("Encrypted", base.encrypted if base else False)),
        iops=ebs.get("Iops") or (3000 if volume_type == "gp3" else None),
        throughput=ebs.get("Throughput") or (125 if volume_type == "gp3" else None),
    )


def deregister_image(call: Call) -> dict[str, Any]:
    """Take an image away; instances launched from it stay. Raises like `own_image`."""
    image = own_image(call, call.params.get("ImageId"))
    state = region_state(call)
    del state.images[image.id]
    call.world.shared_images.get(call.region, {}).pop(image.id, None)
    state.tags.pop(image.id, None)
    return {"Return": True}


# -- describing ------------------------------------------------------------------------------------------------------


def creation_date(image: Image) -> str:
    """A text, as AWS has it: `2025-10-28T06:14:27.000Z`."""
    return image.created.strftime("%Y-%m-%dT%H:%M:%S.000Z")


def image_structure(image: Image, tags: Mapping[str, str]) -> dict[str, Any]:
    """AWS's `Image`."""
    out: dict[str, Any] = {
        "ImageId": image.id,
        "ImageLocation": image.image_location or f"{image.owner_id}/{image.name}",
        "ImageType": "machine",
        "Public": image.public,
        "OwnerId": image.owner_id,
        "PlatformDetails": image.platform_details,
        "UsageOperation": image.usage_operation,
        "State": image.state,
        "BlockDeviceMappings": [_device_structure(device) for device in image.block_devices],
        "EnaSupport": image.ena_support,
        "Hypervisor": "xen",
        "Name": image.name,
        "RootDeviceName": image.root_device_name,
        "RootDeviceType": image.root_device_type,
        "VirtualizationType": image.virtualization_type,
        "CreationDate": creation_date(image),
        "Architecture": image.architecture,
    }
    optional = {
        "Description": image.description,
        "ImageOwnerAlias": image.owner_alias,
        "Platform": image.platform,
        "SriovNetSupport": image.sriov_net_support,
        "BootMode": image.boot_mode,
        "TpmSupport": image.tpm_support,
        "ImdsSupport": image.imds_support,
    }
    out.update((name, value) for name, value in optional.items() if value is not None)
    if image.source is not None:
        out["SourceImageRegion"], out["SourceImageId"] = image.source
    if tags:
        out["Tags"] = aws_tags(tags)
    return out


def _device_structure(device: BlockDevice) -> dict[str, Any]:
    if device.virtual_name is not None:
        return {"DeviceName": device.device_name, "VirtualName": device.virtual_name}
    ebs: dict[str, Any] = {
        "DeleteOnTermination": device.delete_on_termination,
        "VolumeSize": device.size,
        "VolumeType": device.volume_type,
        "Encrypted": device.encrypted,
    }
    if device.snapshot_id:
        ebs["SnapshotId"] = device.snapshot_id
    if device.iops is not None:
        ebs["Iops"] = device.iops
    if device.throughput is not None:
        ebs["Throughput"] = device.throughput
    return {"DeviceName": device.device_name, "Ebs": ebs}


@dataclass(frozen=True, slots=True)
class _Listed:
    image: Image
    tags: Mapping[str, str]


def _each_device(what: str) -> Any:
    return lambda listed: [str(getattr(device, what)) for device in listed.image.block_devices]


def _each_truth(what: str) -> Any:
    return lambda listed: [boolean(getattr(device, what)) for device in listed.image.block_devices]


IMAGE_FILTERS: Filters[_Listed] = Filters(
    {
        "architecture": lambda listed: listed.image.architecture,
        "block-device-mapping.delete-on-termination": _each_truth("delete_on_termination"),
        "block-device-mapping.device-name": _each_device("device_name"),
        "block-device-mapping.snapshot-id": _each_device("snapshot_id"),
        "block-device-mapping.volume-size": _each_device("size"),
        "block-device-mapping.volume-type": _each_device("volume_type"),
        "block-device-mapping.encrypted": _each_truth("encrypted"),
        "boot-mode": lambda listed: listed.image.boot_mode,
        "creation-date": lambda listed: creation_date(listed.image),
        "description": lambda listed: listed.image.description,
        "ena-support": lambda listed: boolean(listed.image.ena_support),
        "free-tier-eligible": nothing,
        "hypervisor": lambda listed: "xen",
        "image-allowed": nothing,
        "image-id": lambda listed: listed.image.id,
        "image-type": lambda listed: "machine",
        "is-public": lambda listed: boolean(listed.image.public),
        "kernel-id": nothing,
        "manifest-location": lambda listed: listed.image.image_location,
        "name": lambda listed: listed.image.name,
        "owner-alias": lambda listed: listed.image.owner_alias,
        "owner-id": lambda listed: listed.image.owner_id,
        "platform": lambda listed: listed.image.platform,
        "product-code": nothing,
        "product-code.type": nothing,
        "ramdisk-id": nothing,
        "root-device-name": lambda listed: listed.image.root_device_name,
        "root-device-type": lambda listed: listed.image.root_device_type,
        "source-image-id": lambda listed: listed.image.source[1] if listed.image.source else None,
        "source-image-region": lambda listed: listed.image.source[0] if listed.image.source else None,
        "source-instance-id": nothing,
        "state": lambda listed: listed.image.state,
        "state-reason-code": nothing,
        "state-reason-message": nothing,
        "sriov-net-support": lambda listed: listed.image.sriov_net_support,
        "virtualization-type": lambda listed: listed.image.virtualization_type,
    },
    lambda listed: listed.tags,
)


def describe_images(call: Call) -> dict[str, Any]:
    """The images that the account can see, by owner, id and filter, in pages of 5 to 1000.

    Raises InvalidAMIID.Malformed/.NotFound, InvalidParameterCombination, InvalidParameterValue.
    """
    state, params = region_state(call), call.params
    ids, owners = params.get("ImageIds"), params.get("Owners")
    if ids:
        if params.get("MaxResults") is not None:
            raise invalid_combination("The parameter imageIdsSet cannot be used with the parameter maxResults")
        images = [find_image(call, each) for each in dict.fromkeys(ids)]
    elif owners and set(owners) <= {"self", call.account_id}:
        images = list(state.images.values())
    else:
        images = list(visible_images(call))
    if owners:
        images = [image for image in images if _owned(image, owners, call.account_id)]
    users = params.get("ExecutableUsers")
    if users:
        images = [image for image in images if _executable(image, users, call.account_id)]
    listed = IMAGE_FILTERS.select(
        (_Listed(image, state.tags.get(image.id, {})) for image in sorted(images, key=lambda each: each.id)),
        params.get("Filters"),
    )
    shown, token = page(listed, lambda each: each.image.id, params, f"{call.account_id}/images", least=1)
    out: dict[str, Any] = {"Images": [image_structure(each.image, each.tags) for each in shown]}
    if token:
        out["NextToken"] = token
    return out


def _owned(image: Image, owners: Iterable[str], account_id: str) -> bool:
    return any(
        (owner == "self" and image.owner_id == account_id) or owner in (image.owner_id, image.owner_alias)
        for owner in owners
    )


def _executable(image: Image, users: Iterable[str], account_id: str) -> bool:
    return any(
        (user == "all" and image.public)
        or (user == "self" and account_id in image.launch_permissions)
        or user in image.launch_permissions
        for user in users
    )


# -- attributes ------------------------------------------------------------------------------------------------------


def describe_image_attribute(call: Call) -> dict[str, Any]:
    """One attribute of an image; launch permissions are shown to the owner only.

    Raises MissingParameter, InvalidParameterValue, InvalidAMIID.*, AuthFailure.
    """
    params = call.params
    if not params.get("ImageId"):
        raise missing("ImageId")
    attribute = params.get("Attribute")
    if not attribute:
        raise missing("Attribute")
    check_choice(attribute, "Attribute", ATTRIBUTES)
    image = find_image(call, params["ImageId"])
    if image.owner_id != call.account_id:
        raise refuse("AuthFailure", f"Not authorized for image:{image.id}", 403)
    out: dict[str, Any] = {"ImageId": image.id}
    if attribute == "launchPermission":
        out["LaunchPermissions"] = [{"UserId": user} for user in image.launch_permissions]
        if image.public:
            out["LaunchPermissions"].append({"Group": "all"})
    elif attribute == "blockDeviceMapping":
        out["BlockDeviceMappings"] = [_device_structure(device) for device in image.block_devices]
    elif attribute == "productCodes":
        out["ProductCodes"] = []
    else:
        name, value = {
            "description": ("Description", image.description),
            "imdsSupport": ("ImdsSupport", image.imds_support),
            "bootMode": ("BootMode", image.boot_mode),
            "tpmSupport": ("TpmSupport", image.tpm_support),
            "sriovNetSupport": ("SriovNetSupport", image.sriov_net_support),
            "deregistrationProtection": ("DeregistrationProtection", "disabled"),
        }.get(attribute, ("", None))
        if name:
            out[name] = {} if value is None else {"Value": value}
    return out


CHANGEABLE = ("description", "imdsSupport", "launchPermission")
"""What ModifyImageAttribute changes (and `productCodes`, which only sellers may)."""


def modify_image_attribute(call: Call) -> dict[str, Any]:
    """Change one attribute of an image of one's own.

    Raises MissingParameter, InvalidParameterCombination for more than one attribute, InvalidParameterValue,
    InvalidAMIID.*, AuthFailure. `imdsSupport` takes `v2.0` only, so that there is no way back.
    """
    params = call.params
    image = own_image(call, params.get("ImageId"))
    attribute = _attribute(params)
    if attribute == "description":
        value = _value(params, "Description")
        check_description(value)
        image.description = value or None
    elif attribute == "imdsSupport":
        value = _value(params, "ImdsSupport")
        check_imds_support("" if value is None else value)
        image.imds_support = value
    else:
        _modify_launch_permission(call, image)
    return {}


def _attribute(params: Mapping[str, Any]) -> str:
    named: set[str] = set()
    if params.get("Description") is not None:
        named.add("description")
    if params.get("ImdsSupport") is not None:
        named.add("imdsSupport")
    if params.get("LaunchPermission") is not None or params.get("UserIds") or params.get("UserGroups"):
        named.add("launchPermission")
    if params.get("Attribute"):
        check_choice(params["Attribute"], "Attribute", CHANGEABLE)
        named.add(params["Attribute"])
    if not named:
        raise refuse("MissingParameter", "The request must contain the parameter attribute")
    if len(named) > 1:
        raise invalid_combination("Fields for multiple attribute types specified")
    return named.pop()


def _value(params: Mapping[str, Any], member: str) -> str | None:
    structure = params.get(member)
    value: str | None = structure.get("Value") if structure is not None else params.get("Value")
    return value


def _modify_launch_permission(call: Call, image: Image) -> None:
    params = call.params
    change = params.get("LaunchPermission") or {}
    add, remove = list(change.get("Add") or ()), list(change.get("Remove") or ())
    users = [{"UserId": user} for user in params.get("UserIds") or ()]
    users += [{"Group": group} for group in params.get("UserGroups") or ()]
    if users:
        check_choice(params.get("OperationType"), "OperationType", ("add", "remove"))
        (remove if params.get("OperationType") == "remove" else add).extend(users)
    if not add and not remove:
        raise refuse("MissingParameter", "The request must contain the parameter launchPermission")
    for each in (*add, *remove):
        user, group = each.get("UserId"), each.get("Group")
        if group is not None and group != "all":
            raise refuse("InvalidUserGroup.Malformed", f"Invalid user group: {group}")
        if user is not None and not re.fullmatch(r"\d{12}", user):
            raise refuse("InvalidUserID.Malformed", f'Invalid user id: "{user}"')
    permissions = dict.fromkeys(image.launch_permissions)
    public = image.public
    for each in add:
        public = public or each.get("Group") == "all"
        if each.get("UserId"):
            permissions[each["UserId"]] = None
    for each in remove:
        public = public and each.get("Group") != "all"
        permissions.pop(each.get("UserId"), None)
    image.public, image.launch_permissions = public, tuple(permissions)
    shared = call.world.shared_images.setdefault(call.region, {})
    if public or permissions:
        shared[image.id] = image
    else:
        shared.pop(image.id, None)


OPERATIONS = {
    "RegisterImage": Operation(register_image, writes=True),
    "DeregisterImage": Operation(deregister_image, writes=True),
    "DescribeImages": Operation(describe_images),
    "DescribeImageAttribute": Operation(describe_image_attribute),
    "ModifyImageAttribute": Operation(modify_image_attribute, writes=True),
}
