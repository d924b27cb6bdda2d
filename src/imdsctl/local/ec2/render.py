"""Instances as AWS shows them, and their XML, kept until they change (or until it is too much, see fragments.py).

A reservation with one instance keeps the XML of the whole reservation; one with several keeps an XML per instance as
well, so that a change of one instance, or a filter that picks some of them, costs only what it must. A page of
DescribeInstances is then a join.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from imdsctl.domain.options import MetadataOptions
from imdsctl.local.call import Call
from imdsctl.local.ec2.common import aws_tags
from imdsctl.local.ec2.fragments import Fragments
from imdsctl.local.ec2.instance_types import instance_type
from imdsctl.local.ec2.resources import (
    PENDING,
    RUNNING,
    SHUTTING_DOWN,
    STATE_CODES,
    TERMINATED,
    Instance,
    Reservation,
    derived,
)
from imdsctl.local.ec2.state import RegionState
from imdsctl.local.ec2.visibility import operator
from imdsctl.local.ec2.zones import Zone
from imdsctl.wire.service import Constant


@dataclass(frozen=True, slots=True)
class Encode:
    """`write` is `wire.service.Service.fragment` of EC2: a structure's name and value to its XML as a list item."""

    write: Callable[[str, Mapping[str, Any]], bytes]
    kept: Fragments


# What most instances share is written once (`wire.xml.Constant`): half of the XML of an instance is such structures.
PRIVATE_DNS_NAME_OPTIONS = Constant(
    HostnameType="ip-name", EnableResourceNameDnsARecord=False, EnableResourceNameDnsAAAARecord=False
)
_STATES = {name: Constant(Code=code, Name=name) for name, code in STATE_CODES.items()}
_CAPACITY_RESERVATION = Constant(CapacityReservationPreference="open")
_HIBERNATION = Constant(Configured=False)
_ENCLAVE = Constant(Enabled=False)
_MAINTENANCE = Constant(AutoRecovery="default", RebootMigration="default")
_NETWORK_PERFORMANCE = Constant(BandwidthWeighting="default")
_UNMANAGED = Constant(Managed=False)
_REMEMBERED_MAX = 4096

EXTRA = (
    "CapacityReservationSpecification",
    "CpuOptions",
    "EnclaveOptions",
    "HibernationOptions",
    "MaintenanceOptions",
    "PrivateDnsNameOptions",
)
"""Members of AWS's `Instance` that `Instance.extra` may have in place of what every instance shows."""


def encoder(call: Call) -> Encode | None:
    """How the world's server writes fragments (`World.fragment`); None where nothing goes over a wire."""
    write = call.world.fragment
    return None if write is None else Encode(write, call.world.fragments)


def reservation(
    state: RegionState, whole: Reservation, encode: Encode | None, chosen: Sequence[Instance] | None = None
) -> Any:
    """A reservation for the response: its XML when `encode` is given, otherwise AWS's structure.

    `chosen` are the instances to show; None stands for all of them.
    """
    if encode is None:
        return _reservation(state, whole, [instance(state, each) for each in chosen or whole.instances])
    if chosen is not None and len(chosen) < len(whole.instances):
        inner: list[Any] = [_fragment(state, each, encode) for each in chosen]
        return encode.write("Reservation", _reservation(state, whole, inner))
    fragment = whole.fragment
    if fragment is None:
        if len(whole.instances) == 1:
            inner = [instance(state, whole.instances[0])]
        else:
            inner = [_fragment(state, each, encode) for each in whole.instances]
        fragment = encode.write("Reservation", _reservation(state, whole, inner))
        encode.kept.keep(whole, fragment)
    return fragment


def _fragment(state: RegionState, each: Instance, encode: Encode) -> bytes:
    fragment = each.fragment
    if fragment is None:
        fragment = encode.write("Instance", instance(state, each))
        encode.kept.keep(each, fragment)
    return fragment


def _reservation(state: RegionState, whole: Reservation, instances: list[Any]) -> dict[str, Any]:
    out: dict[str, Any] = {
        "ReservationId": whole.id,
        "OwnerId": state.account_id,
        "Groups": [],
        "Instances": instances,
    }
    if whole.requester_id is not None:
        out["RequesterId"] = whole.requester_id
    return out


def metadata_options(each: Instance) -> dict[str, Any]:
    """AWS's `InstanceMetadataOptionsResponse`."""
    return _metadata_options(each.options_state, each.options)


@lru_cache(maxsize=_REMEMBERED_MAX)
def _metadata_options(state: str, options: MetadataOptions) -> dict[str, Any]:
    return Constant(
        State=state,
        HttpTokens=options.http_tokens,
        HttpPutResponseHopLimit=options.http_put_response_hop_limit,
        HttpEndpoint=options.http_endpoint,
        HttpProtocolIpv6=options.http_protocol_ipv6,
        InstanceMetadataTags=options.instance_metadata_tags,
    )


@lru_cache(maxsize=_REMEMBERED_MAX)
def _placement(zone: Zone, tenancy: str) -> dict[str, Any]:
    return Constant(AvailabilityZone=zone.name, AvailabilityZoneId=zone.id, GroupName="", Tenancy=tenancy)


@lru_cache(maxsize=_REMEMBERED_MAX)
def _cpu_options(cores: int, threads: int) -> dict[str, Any]:
    return Constant(CoreCount=cores, ThreadsPerCore=threads)


@lru_cache(maxsize=_REMEMBERED_MAX)
def _monitoring(state: str) -> dict[str, Any]:
    return Constant(State=state)


def state_of(name: str) -> dict[str, Any]:
    """AWS's `InstanceState`."""
    return _STATES[name]


def private_dns_name(each: Instance) -> str:
    """The host name of the private address."""
    region = each.subnet.zone.region
    domain = "ec2.internal" if region == "us-east-1" else f"{region}.compute.internal"
    return f"ip-{each.private_ip.replace('.', '-')}.{domain}"


def public_ip(each: Instance) -> str | None:
    """The public address of a running instance: the default subnets give one, anew at each start."""
    if not each.public or each.state != RUNNING:
        return None
    a, b, c = blake2b(f"{each.id}/{each.launch_time.timestamp()}".encode(), digest_size=3).digest()
    return f"54.{a}.{b}.{c or 1}"


def public_dns_name(each: Instance) -> str:
    """The host name of the public address, or nothing."""
    address = public_ip(each)
    if address is None:
        return ""
    region = each.subnet.zone.region
    domain = "compute-1.amazonaws.com" if region == "us-east-1" else f"{region}.compute.amazonaws.com"
    return f"ec2-{address.replace('.', '-')}.{domain}"


def interface_id(each: Instance) -> str:
    """The primary network interface."""
    return f"eni-{derived('eni', each.id)}"


def mac_address(each: Instance) -> str:
    """The primary network interface's MAC address."""
    digits = derived("mac", each.id)
    return f"0a:{digits[1:3]}:{digits[3:5]}:{digits[5:7]}:{digits[7:9]}:{digits[9:11]}"


def groups_of(each: Instance) -> list[dict[str, str]]:
    """AWS's `GroupIdentifier`s of an instance."""
    return [{"GroupId": group.id, "GroupName": group.name} for group in each.security_groups]


def instance(state: RegionState, each: Instance) -> dict[str, Any]:
    """AWS's `Instance`."""
    kind = instance_type(each.instance_type)
    gone = each.state == TERMINATED
    groups = groups_of(each)
    out: dict[str, Any] = {
        "InstanceId": each.id,
        "ImageId": each.image_id,
        "State": _STATES[each.state],
        "PrivateDnsName": "" if gone else private_dns_name(each),
        "PublicDnsName": public_dns_name(each),
        "StateTransitionReason": each.transition_reason,
        "AmiLaunchIndex": each.launch_index,
        "ProductCodes": [],
        "InstanceType": each.instance_type,
        "LaunchTime": each.launch_time,
        "Placement": _placement(each.subnet.zone, each.tenancy),
        "Monitoring": _monitoring(each.monitoring),
        "Architecture": each.architecture,
        "BlockDeviceMappings": [],
        "ClientToken": each.client_token,
        "EbsOptimized": each.ebs_optimized,
        "EnaSupport": True,
        "Hypervisor": "xen",
        "NetworkInterfaces": [],
        "RootDeviceName": each.root_device_name,
        "RootDeviceType": "ebs",
        "SecurityGroups": [],
        "VirtualizationType": "hvm",
        "CapacityReservationSpecification": _CAPACITY_RESERVATION,
        "HibernationOptions": _HIBERNATION,
        "MetadataOptions": metadata_options(each),
        "EnclaveOptions": _ENCLAVE,
        "PlatformDetails": each.platform_details,
        "UsageOperation": each.usage_operation,
        "UsageOperationUpdateTime": each.launch_time,
        "MaintenanceOptions": _MAINTENANCE,
        "CurrentInstanceBootMode": "uefi" if each.boot_mode in ("uefi", "uefi-preferred") else "legacy-bios",
        "NetworkPerformanceOptions": _NETWORK_PERFORMANCE,
        "Operator": _UNMANAGED if each.managed_by is None else operator(state, each.managed_by),
    }
    if kind is not None:
        out["CpuOptions"] = _cpu_options(kind.cores, kind.threads)
    if each.boot_mode is not None:
        out["BootMode"] = each.boot_mode
    if each.key_name is not None:
        out["KeyName"] = each.key_name
    if each.platform is not None:
        out["Platform"] = each.platform
    if each.lifecycle is not None:
        out["InstanceLifecycle"] = each.lifecycle
        if each.extra and "SpotInstanceRequestId" in each.extra:
            out["SpotInstanceRequestId"] = each.extra["SpotInstanceRequestId"]
    if each.profile_arn is not None:
        out["IamInstanceProfile"] = {"Arn": each.profile_arn, "Id": each.profile_id}
    if each.state_reason is not None:
        out["StateReason"] = {"Code": each.state_reason[0], "Message": each.state_reason[1]}
    tags = state.tags.get(each.id)
    if tags:
        out["Tags"] = aws_tags(tags)
    if gone:
        return out
    out["SubnetId"] = each.subnet.id
    out["VpcId"] = state.vpc_id
    out["PrivateIpAddress"] = each.private_ip
    out["SecurityGroups"] = groups
    out["SourceDestCheck"] = each.source_dest_check
    out["PrivateDnsNameOptions"] = PRIVATE_DNS_NAME_OPTIONS
    if each.extra:
        out.update((name, value) for name, value in each.extra.items() if name in EXTRA)
    address = public_ip(each)
    if address is not None:
        out["PublicIpAddress"] = address
    out["NetworkInterfaces"] = [interface(state, each)]
    # The volumes appear when the instance runs; the answer to RunInstances comes before they are attached.
    if each.state not in (PENDING, SHUTTING_DOWN):
        out["BlockDeviceMappings"] = [
            {
                "DeviceName": device.device_name,
                "Ebs": {
                    "AttachTime": each.launch_time,
                    "DeleteOnTermination": device.delete_on_termination,
                    "Status": "attached",
                    "VolumeId": device.volume_id,
                },
            }
            for device in each.block_devices
        ]
    return out


def interface(state: RegionState, each: Instance) -> dict[str, Any]:
    """AWS's `InstanceNetworkInterface` of the primary interface."""
    groups, address = groups_of(each), public_ip(each)
    dns_name = private_dns_name(each)
    private: dict[str, Any] = {"Primary": True, "PrivateDnsName": dns_name, "PrivateIpAddress": each.private_ip}
    out: dict[str, Any] = {
        "Attachment": {
            "AttachTime": each.launch_time,
            "AttachmentId": f"eni-attach-{derived('eni-attach', each.id)}",
            "DeleteOnTermination": True,
            "DeviceIndex": 0,
            "NetworkCardIndex": 0,
            "Status": "attaching" if each.state == PENDING else "attached",
        },
        "Description": "",
        "Groups": groups,
        "InterfaceType": "interface",
        "Ipv6Addresses": [],
        "MacAddress": mac_address(each),
        "NetworkInterfaceId": interface_id(each),
        "Operator": _UNMANAGED if each.managed_by is None else operator(state, each.managed_by),
        "OwnerId": state.account_id,
        "PrivateDnsName": dns_name,
        "PrivateIpAddress": each.private_ip,
        "PrivateIpAddresses": [private],
        "SourceDestCheck": each.source_dest_check,
        "Status": "in-use",
        "SubnetId": each.subnet.id,
        "VpcId": state.vpc_id,
    }
    if address is not None:
        association = {"IpOwnerId": "amazon", "PublicDnsName": public_dns_name(each), "PublicIp": address}
        out["Association"] = association
        private["Association"] = association
    return out
