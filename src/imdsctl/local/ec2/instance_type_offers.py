"""DescribeInstanceTypes and DescribeInstanceTypeOfferings.

Source: EC2 API Reference, both pages; EC2 Instance Types guide (vCPUs and memory per family). A list without names is a
choice of current families; a named type needs only to follow AWS's naming convention. What the metadata service and a
launch do not depend on (bandwidths, prices of hardware) is left out.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from imdsctl.local.call import Call, Operation
from imdsctl.local.ec2.errors import check_choice, invalid_combination, refuse
from imdsctl.local.ec2.filters import Filters, boolean
from imdsctl.local.ec2.instance_types import InstanceType, instance_type
from imdsctl.local.ec2.pages import page
from imdsctl.local.ec2.zones import zones

T_SIZES = ("nano", "micro", "small", "medium", "large", "xlarge", "2xlarge")
SIZES = ("large", "xlarge", "2xlarge", "4xlarge", "8xlarge", "12xlarge", "16xlarge", "24xlarge")
FAMILIES = {
    **dict.fromkeys(("t2", "t3", "t3a", "t4g"), T_SIZES),
    "m4": ("large", "xlarge", "2xlarge", "4xlarge", "10xlarge", "16xlarge"),
    **dict.fromkeys(("m5", "m6a", "m6g", "m6i", "m7g", "m7i"), SIZES),
    **dict.fromkeys(("c5", "c6g", "c6i", "c7g", "c7i"), SIZES),
    **dict.fromkeys(("r5", "r6g", "r6i", "r7g", "r7i"), SIZES),
    "m1": ("small", "medium", "large", "xlarge"),
}
"""What an unnamed list shows."""

GIB_PER_VCPU = {"c": 2, "r": 8, "x": 16, "i": 8}
SMALL_MIB = {"nano": 512, "micro": 1024, "small": 2048, "medium": 4096, "large": 8192}
PREVIOUS_GENERATION = {"t1", "m1", "m2", "m3", "c1", "c3", "r3", "i2"}


def offered() -> list[InstanceType]:
    """The types of the list, by name."""
    names = sorted(f"{family}.{size}" for family, sizes in FAMILIES.items() for size in sizes)
    return [kind for kind in map(instance_type, names) if kind is not None]


def memory_mib(kind: InstanceType) -> int:
    """Memory in MiB, from the family's ratio to vCPUs."""
    size = kind.name.partition(".")[2]
    if kind.burstable and size in SMALL_MIB:
        return SMALL_MIB[size]
    return kind.vcpus * GIB_PER_VCPU.get(kind.family[0], 4) * 1024


def _architectures(kind: InstanceType) -> list[str]:
    return ["i386", "x86_64"] if kind.family in ("t2", "m1") else [kind.architecture]


def _bare_metal(kind: InstanceType) -> bool:
    return ".metal" in kind.name


def _current(kind: InstanceType) -> bool:
    return kind.family not in PREVIOUS_GENERATION


TYPE_FILTERS: Filters[InstanceType] = Filters(
    {
        "auto-recovery-supported": lambda kind: boolean(not _bare_metal(kind)),
        "bare-metal": lambda kind: boolean(_bare_metal(kind)),
        "burstable-performance-supported": lambda kind: boolean(kind.burstable),
        "current-generation": lambda kind: boolean(_current(kind)),
        "free-tier-eligible": lambda kind: boolean(kind.name in ("t2.micro", "t3.micro")),
        "hypervisor": lambda kind: "nitro" if kind.nitro else "xen",
        "instance-type": lambda kind: kind.name,
        "memory-info.size-in-mib": lambda kind: str(memory_mib(kind)),
        "processor-info.supported-architecture": _architectures,
        "supported-root-device-type": lambda kind: "ebs",
        "supported-usage-class": lambda kind: ["on-demand", "spot"],
        "supported-virtualization-type": lambda kind: "hvm",
        "vcpu-info.default-cores": lambda kind: str(kind.cores),
        "vcpu-info.default-threads-per-core": lambda kind: str(kind.threads),
        "vcpu-info.default-vcpus": lambda kind: str(kind.vcpus),
    }
)
"""A filter on what this list leaves out is refused like an unknown one, so that no empty answer is mistaken for one."""


def describe_instance_types(call: Call) -> dict[str, Any]:
    """Types by name and filter, in pages of 5 to 100.

    Raises InvalidInstanceType for names that follow no convention, InvalidParameterCombination, InvalidParameterValue.
    """
    params = call.params
    names = params.get("InstanceTypes")
    if names and params.get("MaxResults") is not None:
        raise invalid_combination("The parameter instanceTypes cannot be used with the parameter maxResults")
    kinds = [(name, instance_type(name)) for name in sorted(set(names))] if names else []
    unknown = [name for name, kind in kinds if kind is None]
    if unknown:
        raise refuse(
            "InvalidInstanceType", f"The following supplied instance types do not exist: [{', '.join(unknown)}]"
        )
    found = [kind for _, kind in kinds if kind is not None] if names else offered()
    chosen = TYPE_FILTERS.select(found, params.get("Filters"))
    shown, token = page(chosen, lambda each: each.name, params, f"{call.account_id}/instance-types", most=100)
    out: dict[str, Any] = {"InstanceTypes": [_structure(each) for each in shown]}
    if token:
        out["NextToken"] = token
    return out


def _structure(kind: InstanceType) -> dict[str, Any]:
    return {
        "InstanceType": kind.name,
        "CurrentGeneration": _current(kind),
        "FreeTierEligible": kind.name in ("t2.micro", "t3.micro"),
        "SupportedUsageClasses": ["on-demand", "spot"],
        "SupportedRootDeviceTypes": ["ebs"],
        "SupportedVirtualizationTypes": ["hvm"],
        "BareMetal": _bare_metal(kind),
        **({} if _bare_metal(kind) else {"Hypervisor": "nitro" if kind.nitro else "xen"}),
        "ProcessorInfo": {"SupportedArchitectures": _architectures(kind)},
        "VCpuInfo": {
            "DefaultVCpus": kind.vcpus,
            "DefaultCores": kind.cores,
            "DefaultThreadsPerCore": kind.threads,
        },
        "MemoryInfo": {"SizeInMiB": memory_mib(kind)},
        "InstanceStorageSupported": False,
        "EbsInfo": {
            "EbsOptimizedSupport": "default" if kind.nitro else "unsupported",
            "EncryptionSupport": "supported",
        },
        "BurstablePerformanceSupported": kind.burstable,
        "DedicatedHostsSupported": not kind.burstable,
        "AutoRecoverySupported": not _bare_metal(kind),
        "HibernationSupported": False,
        "SupportedBootModes": ["uefi"] if kind.architecture == "arm64" else ["legacy-bios", "uefi"],
    }


class Offering(NamedTuple):
    """A type in a place."""

    name: str
    location: str


OFFERING_FILTERS: Filters[Offering] = Filters(
    {"instance-type": lambda offering: offering.name, "location": lambda offering: offering.location}
)


def describe_instance_type_offerings(call: Call) -> dict[str, Any]:
    """Every type of the list in the Region, or in each of its zones; in pages of 5 to 1000.

    Raises InvalidParameterValue for an unknown kind of location or filter.
    """
    params = call.params
    kind = params.get("LocationType") or "region"
    check_choice(kind, "LocationType", ("region", "availability-zone", "availability-zone-id", "outpost"))
    places = {
        "region": [call.region],
        "availability-zone": [zone.name for zone in zones(call.region)],
        "availability-zone-id": [zone.id for zone in zones(call.region)],
        "outpost": [],
    }[kind]
    found = OFFERING_FILTERS.select(
        (Offering(each.name, place) for each in offered() for place in sorted(places)), params.get("Filters")
    )
    shown, token = page(found, "\n".join, params, f"{call.account_id}/offerings/{kind}")
    out: dict[str, Any] = {
        "InstanceTypeOfferings": [
            {"InstanceType": each.name, "LocationType": kind, "Location": each.location} for each in shown
        ]
    }
    if token:
        out["NextToken"] = token
    return out


OPERATIONS = {
    "DescribeInstanceTypes": Operation(describe_instance_types),
    "DescribeInstanceTypeOfferings": Operation(describe_instance_type_offerings),
}
