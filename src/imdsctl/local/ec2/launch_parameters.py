"""Single parameters of a launch: what each one names, checked against the Region.

Source: EC2 API Reference, RunInstances. `merged` is the request over its launch template, parameter by parameter.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Any

from imdsctl.codify.launch import DEFAULT_INSTANCE_TYPE
from imdsctl.local.call import Call
from imdsctl.local.ec2 import render
from imdsctl.local.ec2.errors import (
    check_choice,
    check_identifiers,
    invalid_combination,
    invalid_value,
    not_found,
    refuse,
    unsupported,
)
from imdsctl.local.ec2.instance_types import InstanceType, instance_type
from imdsctl.local.ec2.resources import Image, SecurityGroup, Subnet
from imdsctl.local.ec2.state import RegionState
from imdsctl.local.iam.state import InstanceProfile

USER_DATA_BYTES_MAX = 16384
CPU_CREDITS = ("standard", "unlimited")
PRIVATE_DNS_NAME_OPTIONS = render.PRIVATE_DNS_NAME_OPTIONS
TENANCIES = ("default", "dedicated", "host")


def kind_of(merged: Mapping[str, Any], image: Image) -> InstanceType:
    """The instance type; its architecture is the image's. Raises InvalidParameterValue."""
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


def interface_of(merged: Mapping[str, Any]) -> Mapping[str, Any]:
    """The primary network interface of the request, or nothing."""
    interfaces = merged.get("NetworkInterfaces") or ()
    return next((each for each in interfaces if each.get("DeviceIndex", 0) == 0), {})


def subnet_of(state: RegionState, merged: Mapping[str, Any]) -> Subnet:
    """Where the instances go: the subnet named, or the roomiest one (of a zone).

    Raises InvalidParameterCombination, InvalidParameterValue, InvalidSubnetID.*, UnsupportedOperation.
    """
    interface = interface_of(merged)
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


def address_of(subnet: Subnet, merged: Mapping[str, Any], count: int) -> int | None:
    """The private address that the request asks for, as an integer; None leaves it to the subnet."""
    text = merged.get("PrivateIpAddress") or interface_of(merged).get("PrivateIpAddress")
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


def security_groups_of(state: RegionState, merged: Mapping[str, Any]) -> tuple[SecurityGroup, ...]:
    """The security groups by id and name; the default one when none is named. Raises InvalidGroup.NotFound,
    InvalidGroupId.Malformed, InvalidParameterCombination."""
    ids = merged.get("SecurityGroupIds") or interface_of(merged).get("Groups") or ()
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


def key_name_of(state: RegionState, name: str | None) -> str | None:
    """The key pair's name. Raises InvalidKeyPair.NotFound."""
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


def find_profile(call: Call, asked: Mapping[str, Any] | None) -> InstanceProfile | None:
    """The instance profile that a request names by its name or its ARN; None when it names none.

    Raises InvalidParameterCombination for both, and InvalidParameterValue for one that the account does not have.
    """
    if not asked:
        return None
    arn, name = asked.get("Arn"), asked.get("Name")
    if arn and name:
        raise invalid_combination("The parameter 'iamInstanceProfile.name' may not be used in combination with 'arn'")
    profiles = call.world.iam(call.account_id)
    if arn:
        found = profiles.profile(arn.rpartition("/")[2])
        if found is None or found.arn != arn:
            raise invalid_value(
                f"Value ({arn}) for parameter iamInstanceProfile.arn is invalid. Invalid IAM Instance Profile ARN"
            )
        return found
    found = profiles.profile(name or "")
    if found is None:
        raise invalid_value(
            f"Value ({name}) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"
        )
    return found
