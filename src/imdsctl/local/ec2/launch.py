"""RunInstances.

Source: EC2 API Reference, RunInstances; EC2 User Guide, "Configure the Instance Metadata Service options" (order of
precedence), which `domain.precedence.resolve` decides; "Troubleshoot Amazon EC2 instance launch issues" (enforcement).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from datetime import timedelta
from ipaddress import IPv4Address
from typing import Any

from imdsctl.domain.options import MetadataOptions, Switch
from imdsctl.domain.precedence import image_options, resolve
from imdsctl.local.call import Call, Operation
from imdsctl.local.ec2 import render
from imdsctl.local.ec2.common import (
    check_metadata_tag_keys,
    region_state,
    remember,
    replayed,
    tag_specifications,
)
from imdsctl.local.ec2.errors import (
    HTTP_TOKENS_ENFORCED_LAUNCH,
    check_choice,
    check_identifiers,
    invalid_combination,
    invalid_value,
    missing,
    not_found,
    refuse,
    unsupported,
)
from imdsctl.local.ec2.images import block_devices, find_image
from imdsctl.local.ec2.instance_types import InstanceType, instance_type
from imdsctl.local.ec2.launch_templates import find_template, find_version, without_empty
from imdsctl.local.ec2.metadata_options import refuse_options_of_a_disabled_endpoint, requested_options
from imdsctl.local.ec2.state import (
    OPTIONS_APPLIED,
    OPTIONS_PENDING,
    PENDING,
    RUNNING,
    Image,
    RegionState,
    SecurityGroup,
    Subnet,
)

DEFAULT_INSTANCE_TYPE = "m1.small"
"""EC2 API Reference, RunInstances, InstanceType: "Default: m1.small"."""

INSTANCES_MAX = 1000
USER_DATA_BYTES_MAX = 16384
TAGGED_AT_LAUNCH = (
    "instance",
    "volume",
    "network-interface",
    "spot-instances-request",
    "elastic-gpu",
)
CPU_CREDITS = ("standard", "unlimited")
PRIVATE_DNS_NAME_OPTIONS = render.PRIVATE_DNS_NAME_OPTIONS
TENANCIES = ("default", "dedicated", "host")
TEMPLATE_TAG_ID = "aws:ec2launchtemplate:id"
TEMPLATE_TAG_VERSION = "aws:ec2launchtemplate:version"


def run_instances(call: Call) -> dict[str, Any]:
    """Launch between MinCount and MaxCount instances, all in one reservation.

    Raises UnsupportedOperation when the Region enforces HttpTokens and the options resolve to IMDSv1,
    IdempotentParameterMismatch, InstanceLimitExceeded, InsufficientFreeAddressesInSubnet, and for every parameter that
    is missing, malformed or names what does not exist. Nothing is launched unless everything holds.
    """
    state, params = region_state(call), call.params
    least, most = _counts(params)
    request = without_empty(params)
    template_data, template_tags = _template(state, params.get("LaunchTemplate"))
    merged = {**template_data, **request}

    earlier = replayed(call, state.reservations.__contains__)
    if earlier is not None:
        return _response(call, state, earlier)

    image_id = merged.get("ImageId")
    if not image_id:
        raise missing("ImageId")
    from imdsctl.local.ssm.resolve import image_of  # here, because parameters know EC2's public images

    image = find_image(call, image_of(call, image_id))
    kind = _instance_type(merged, image)
    subnet = _subnet(state, merged)
    address = _address(subnet, merged, most)
    groups = _security_groups(state, merged)
    devices = block_devices(state, merged.get("BlockDeviceMappings"), image.block_devices)
    tags, volume_tags = _tags(template_data, params, template_tags)

    asked = requested_options(params.get("MetadataOptions"))
    of_template = requested_options(template_data.get("MetadataOptions"))
    refuse_options_of_a_disabled_endpoint(asked.over(of_template))
    resolution = resolve(asked, state.defaults, image_options(image.imds_support), launch_template=of_template)
    if resolution.refused:
        raise unsupported(HTTP_TOKENS_ENFORCED_LAUNCH)
    options: MetadataOptions = resolution.options
    if options.instance_metadata_tags is Switch.ENABLED:
        check_metadata_tag_keys(key for key in tags if not key.startswith("aws:"))

    more = _more(call, merged, subnet, kind)
    count = _affordable(subnet, least, most)
    reservation = state.add_reservation(
        f"r-{call.ids.hex17()}",
        [f"i-{call.ids.hex17()}" for _ in range(count)],
        image=image,
        instance_type=kind.name,
        options=options,
        launch_time=call.now.replace(microsecond=0),
        state=PENDING,
        options_state=OPTIONS_PENDING,
        subnet=subnet,
        block_devices=devices,
        security_groups=groups,
        tags=tags,
        volume_tags=volume_tags,
        address=address,
        **more,
    )
    settled = call.now + timedelta(seconds=call.world.settle_seconds)
    for instance in reservation.instances:
        state.schedule(settled, instance.id, RUNNING)
        state.schedule(settled, instance.id, OPTIONS_APPLIED)
    remember(call, reservation.id)
    return _response(call, state, reservation.id)


def _response(call: Call, state: RegionState, reservation_id: str) -> dict[str, Any]:
    reservation = state.reservations[reservation_id]
    return {
        "ReservationId": reservation.id,
        "OwnerId": call.account_id,
        "Groups": [],
        "Instances": [render.instance(state, each) for each in reservation.instances],
    }


def _counts(params: Mapping[str, Any]) -> tuple[int, int]:
    least, most = params.get("MinCount"), params.get("MaxCount")
    if least is None:
        raise missing("MinCount")
    if most is None:
        raise missing("MaxCount")
    for name, value in (("MinCount", least), ("MaxCount", most)):
        if value < 1:
            raise invalid_value(f"Value ({value}) for parameter {name} is invalid. Must be at least 1.")
    if least > most:
        raise invalid_combination(f"MinCount ({least}) must not be greater than MaxCount ({most}).")
    return least, most


def _affordable(subnet: Subnet, least: int, most: int) -> int:
    if least > INSTANCES_MAX:
        raise refuse(
            "InstanceLimitExceeded",
            f"You have requested more instances ({least}) than your current instance limit of {INSTANCES_MAX} allows "
            "for the specified instance type.",
        )
    if least > subnet.available:
        raise refuse(
            "InsufficientFreeAddressesInSubnet",
            f"There are not enough free addresses in subnet '{subnet.id}' to satisfy the requested number of "
            "instances.",
        )
    return min(most, INSTANCES_MAX, subnet.available)


def _template(state: RegionState, specification: Mapping[str, Any] | None) -> tuple[Mapping[str, Any], dict[str, str]]:
    """The launch template's parameters and the tags that say where an instance came from."""
    if not specification:
        return {}, {}
    template = find_template(
        state, specification.get("LaunchTemplateId") or None, specification.get("LaunchTemplateName") or None
    )
    version = find_version(template, specification.get("Version"))
    return version.data, {TEMPLATE_TAG_ID: template.id, TEMPLATE_TAG_VERSION: str(version.number)}


def _tags(
    template_data: Mapping[str, Any], params: Mapping[str, Any], template_tags: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Tags of the instances and of their volumes; the request's win over the template's, key by key."""
    weaker = tag_specifications(template_data.get("TagSpecifications"), TAGGED_AT_LAUNCH)
    stronger = tag_specifications(params.get("TagSpecifications"), TAGGED_AT_LAUNCH)
    return (
        {**weaker.get("instance", {}), **stronger.get("instance", {}), **template_tags},
        {**weaker.get("volume", {}), **stronger.get("volume", {})},
    )


def _instance_type(merged: Mapping[str, Any], image: Image) -> InstanceType:
    name = merged.get("InstanceType") or DEFAULT_INSTANCE_TYPE
    kind = instance_type(name)
    if kind is None:
        raise invalid_value(f"Invalid value '{name}' for InstanceType.")
    # i386 images run on x86_64 types.
    wanted = "x86_64" if image.architecture == "i386" else image.architecture.removesuffix("_mac")
    if kind.architecture != wanted:
        raise invalid_value(
            f"The architecture '{kind.architecture}' of the specified instance type does not match the architecture "
            f"'{image.architecture}' of the specified AMI. Specify an instance type and an AMI that have matching "
            "architectures, and try again. You can use 'describe-instance-types' or 'describe-images' to discover the "
            "architecture of the instance type or AMI."
        )
    return kind


def _interface(merged: Mapping[str, Any]) -> Mapping[str, Any]:
    interfaces = merged.get("NetworkInterfaces") or ()
    return next((each for each in interfaces if each.get("DeviceIndex", 0) == 0), {})


def _subnet(state: RegionState, merged: Mapping[str, Any]) -> Subnet:
    interface = _interface(merged)
    if merged.get("NetworkInterfaces") and merged.get("SubnetId"):
        raise invalid_combination(
            "Network interfaces and an instance-level subnet ID may not be specified on the same request"
        )
    if interface.get("NetworkInterfaceId") or len(merged.get("NetworkInterfaces") or ()) > 1:
        raise unsupported("The local AWS of imdsctl gives every instance one network interface of its own.")
    subnet_id = merged.get("SubnetId") or interface.get("SubnetId")
    placement = merged.get("Placement") or {}
    check_choice(placement.get("Tenancy"), "Tenancy", TENANCIES)
    zone = placement.get("AvailabilityZone")
    zone_id = placement.get("AvailabilityZoneId")
    if zone_id:
        named = next((each.zone.name for each in state.subnets.values() if each.zone.id == zone_id), None)
        if named is None:
            raise invalid_value(f"Invalid availability zone: [{zone_id}]")
        zone = zone or named
    if subnet_id:
        check_identifiers("subnet", [subnet_id])
        subnet = state.subnets.get(subnet_id)
        if subnet is None:
            raise not_found("subnet", subnet_id)
        if zone and zone != subnet.zone.name:
            raise invalid_value(f"The availability zone '{zone}' does not match that of subnet '{subnet_id}'.")
        return subnet
    roomiest = state.roomiest_subnet(zone)
    if roomiest is None:
        raise invalid_value(f"Invalid availability zone: [{zone}]")
    return roomiest


def _address(subnet: Subnet, merged: Mapping[str, Any], count: int) -> int | None:
    """The private address that the request asks for, as an integer; None leaves it to the subnet."""
    text = merged.get("PrivateIpAddress") or _interface(merged).get("PrivateIpAddress")
    if not text:
        return None
    try:
        address = int(IPv4Address(text))
    except ValueError:
        raise invalid_value(f"Invalid value '{text}' for PrivateIpAddress. Invalid IPv4 address.") from None
    if count > 1:
        raise invalid_combination("A private IP address can be specified for a single instance only.")
    if not subnet.has_address(address):
        raise invalid_value(f"Address {text} does not fall within the subnet's address range")
    if not subnet.is_free(address):
        raise refuse("InvalidIPAddress.InUse", f"Address {text} is in use.")
    return address


def _security_groups(state: RegionState, merged: Mapping[str, Any]) -> tuple[SecurityGroup, ...]:
    ids = merged.get("SecurityGroupIds") or _interface(merged).get("Groups") or ()
    names = merged.get("SecurityGroups") or ()
    if merged.get("NetworkInterfaces") and (merged.get("SecurityGroupIds") or names):
        raise invalid_combination(
            "Network interfaces and an instance-level security groups may not be specified on the same request"
        )
    check_identifiers("sg", ids)
    found: dict[str, SecurityGroup] = {}
    for each in ids:
        if each not in state.security_groups:
            raise not_found("sg", each)
        found[each] = state.security_groups[each]
    for name in names:
        group = next((group for group in state.security_groups.values() if group.name == name), None)
        if group is None:
            raise refuse("InvalidGroup.NotFound", f"The security group '{name}' does not exist in default VPC")
        found[group.id] = group
    return tuple(found.values()) or (state.default_security_group,)


def _more(call: Call, merged: Mapping[str, Any], subnet: Subnet, kind: InstanceType) -> dict[str, Any]:
    """The fields of `Instance` that are taken from the request as they are, checked."""
    shutdown = merged.get("InstanceInitiatedShutdownBehavior") or "stop"
    check_choice(shutdown, "InstanceInitiatedShutdownBehavior", ("stop", "terminate"))
    market = (merged.get("InstanceMarketOptions") or {}).get("MarketType")
    check_choice(market, "MarketType", ("spot", "capacity-block"))
    public = _interface(merged).get("AssociatePublicIpAddress")
    return {
        "key_name": _key_name(region_state(call), merged.get("KeyName")),
        "user_data": user_data(merged.get("UserData")),
        "profile_arn": profile_arn(call.account_id, merged.get("IamInstanceProfile")),
        "client_token": call.params.get("ClientToken") or "",
        "monitoring": "enabled" if (merged.get("Monitoring") or {}).get("Enabled") else "disabled",
        "tenancy": (merged.get("Placement") or {}).get("Tenancy") or "default",
        "ebs_optimized": bool(merged.get("EbsOptimized")),
        "lifecycle": market,
        "shutdown_behavior": shutdown,
        "termination_protected": bool(merged.get("DisableApiTermination")),
        "stop_protected": bool(merged.get("DisableApiStop")),
        "public": subnet.public if public is None else public,
        "extra": extra_of(merged, kind),
    }


def extra_of(merged: Mapping[str, Any], kind: InstanceType) -> dict[str, Any] | None:
    """What few launches ask for, in the structures of AWS's `Instance`; None when there is nothing of it.

    `CpuCredits` is kept here as well, under the name DescribeInstanceCreditSpecifications gives it. Raises
    InvalidParameterValue and InvalidParameterCombination.
    """
    out: dict[str, Any] = {}
    credits = (merged.get("CreditSpecification") or {}).get("CpuCredits")
    if credits is not None:
        check_choice(credits, "CpuCredits", CPU_CREDITS)
        if not kind.burstable:
            raise invalid_combination(f"The instance type {kind.name} does not support CreditSpecification.")
        if credits != kind.default_credits:
            out["CpuCredits"] = credits
    if (merged.get("HibernationOptions") or {}).get("Configured"):
        out["HibernationOptions"] = {"Configured": True}
    if (merged.get("EnclaveOptions") or {}).get("Enabled"):
        out["EnclaveOptions"] = {"Enabled": True}
    maintenance = merged.get("MaintenanceOptions") or {}
    check_choice(maintenance.get("AutoRecovery"), "AutoRecovery", ("default", "disabled"))
    if maintenance.get("AutoRecovery") == "disabled":
        out["MaintenanceOptions"] = {"AutoRecovery": "disabled", "RebootMigration": "default"}
    cpu = merged.get("CpuOptions") or {}
    if cpu:
        cores, threads = cpu.get("CoreCount") or kind.cores, cpu.get("ThreadsPerCore") or kind.threads
        if not 1 <= cores <= kind.cores or threads not in (1, kind.threads):
            raise invalid_combination(
                f"CoreCount {cores} with ThreadsPerCore {threads} is not valid for the instance type {kind.name}."
            )
        if (cores, threads) != (kind.cores, kind.threads):
            out["CpuOptions"] = {"CoreCount": cores, "ThreadsPerCore": threads}
    names = merged.get("PrivateDnsNameOptions") or {}
    check_choice(names.get("HostnameType"), "HostnameType", ("ip-name", "resource-name"))
    if any(names.get(name) for name in ("EnableResourceNameDnsARecord", "EnableResourceNameDnsAAAARecord")) or (
        names.get("HostnameType") == "resource-name"
    ):
        out["PrivateDnsNameOptions"] = {**PRIVATE_DNS_NAME_OPTIONS, **names}
    reserve = (merged.get("CapacityReservationSpecification") or {}).get("CapacityReservationPreference")
    check_choice(reserve, "CapacityReservationPreference", ("open", "none", "capacity-reservations-only"))
    if reserve not in (None, "open"):
        out["CapacityReservationSpecification"] = {"CapacityReservationPreference": reserve}
    return out or None


def _key_name(state: RegionState, name: str | None) -> str | None:
    if name and name not in state.key_pairs:
        raise refuse("InvalidKeyPair.NotFound", f"The key pair '{name}' does not exist")
    return name or None


def user_data(text: str | None) -> str | None:
    """User data as the request has it, checked; None when there is none.

    Raises InvalidUserData.Malformed and InvalidParameterValue for more than 16 KiB.
    """
    if not text:
        return None
    try:
        raw = base64.b64decode(text, validate=True)
    except (ValueError, binascii.Error):
        raise refuse("InvalidUserData.Malformed", "Invalid BASE64 encoding of user data.") from None
    if len(raw) > USER_DATA_BYTES_MAX:
        raise invalid_value(f"User data is limited to {USER_DATA_BYTES_MAX} bytes")
    return text


def profile_arn(account_id: str, profile: Mapping[str, Any] | None) -> str | None:
    """The profile's ARN; whether it exists is not looked up: there is no IAM behind this yet."""
    if not profile:
        return None
    arn, name = profile.get("Arn"), profile.get("Name")
    if arn and name:
        raise invalid_combination("The parameter 'iamInstanceProfile.name' may not be used in combination with 'arn'")
    if arn:
        if not arn.startswith(f"arn:aws:iam::{account_id}:instance-profile/"):
            raise invalid_value(
                f"Value ({arn}) for parameter iamInstanceProfile.arn is invalid. Invalid IAM Instance Profile ARN"
            )
        return str(arn)
    return f"arn:aws:iam::{account_id}:instance-profile/{name}"


OPERATIONS = {"RunInstances": Operation(run_instances, writes=True)}
