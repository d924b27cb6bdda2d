"""The public images that every account sees in a Region: Amazon's and Canonical's.

Made on the first look at a Region and shared by all accounts. Names, owners and root devices follow what the
publishers release; identifiers are derived from Region and name. `ImdsSupport` as published: Amazon Linux 2023 carries
v2.0 (EC2 User Guide, "Configure instance metadata options for new instances"), Amazon Linux 2, Windows Server and
Ubuntu carry nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache

from imdsctl.local.ec2.resources import BlockDevice, Image, derived

AMAZON_LINUX = "137112412989"
AMAZON_WINDOWS = "801119661308"
AMAZON_ECS = "591542846629"
CANONICAL = "099720109477"

OWNER_ALIASES = {AMAZON_LINUX: "amazon", AMAZON_WINDOWS: "amazon", AMAZON_ECS: "amazon"}


@dataclass(frozen=True, slots=True)
class Release:
    """One published release; `{arch}` in the texts stands for the publisher's own name of the architecture."""

    family: str
    name: str
    description: str
    owner_id: str
    created: datetime
    architectures: dict[str, str]
    size: int
    root_device_name: str = "/dev/xvda"
    volume_type: str = "gp3"
    imds_support: str | None = None
    boot_mode: str | None = None
    windows: bool = False


BOTH = {"x86_64": "x86_64", "arm64": "arm64"}
DEBIAN = {"x86_64": "amd64", "arm64": "arm64"}
INTEL = {"x86_64": "x86_64"}


def _day(year: int, month: int, day: int) -> datetime:
    return datetime(year, month, day, 6, 14, 27, tzinfo=UTC)


RELEASES = (
    *(
        Release(
            "al2023",
            f"al2023-ami-2023.{version}-kernel-6.1-{{arch}}",
            f"Amazon Linux 2023 AMI 2023.{version} {{arch}} HVM kernel-6.1",
            AMAZON_LINUX,
            created,
            BOTH,
            8,
            imds_support="v2.0",
            boot_mode="uefi-preferred",
        )
        for version, created in (("8.20250818.0", _day(2025, 8, 19)), ("9.20251027.0", _day(2025, 10, 28)))
    ),
    Release(
        "al2023-ecs",
        "al2023-ami-ecs-hvm-2023.0.20251023-kernel-6.1-{arch}",
        "Amazon Linux AMI 2023.0.20251023 {arch} ECS HVM EBS",
        AMAZON_ECS,
        _day(2025, 10, 24),
        BOTH,
        30,
        imds_support="v2.0",
        boot_mode="uefi-preferred",
    ),
    *(
        Release(
            "al2",
            f"amzn2-ami-kernel-5.10-hvm-2.0.{version}.0-{{arch}}-gp2",
            f"Amazon Linux 2 Kernel 5.10 AMI 2.0.{version}.0 {{arch}} HVM gp2",
            AMAZON_LINUX,
            created,
            BOTH,
            8,
            volume_type="gp2",
        )
        for version, created in (("20250808", _day(2025, 8, 9)), ("20251014", _day(2025, 10, 15)))
    ),
    Release(
        "al2-ecs",
        "amzn2-ami-ecs-hvm-2.0.20251015-{arch}-ebs",
        "Amazon Linux AMI 2.0.20251015 {arch} ECS HVM GP2",
        AMAZON_ECS,
        _day(2025, 10, 16),
        BOTH,
        30,
        volume_type="gp2",
    ),
    *(
        Release(
            family,
            f"Windows_Server-{year}-English-Full-Base-2025.10.15",
            f"Microsoft Windows Server {year} Full Locale English AMI provided by Amazon",
            AMAZON_WINDOWS,
            _day(2025, 10, 16),
            INTEL,
            30,
            "/dev/sda1",
            windows=True,
        )
        for family, year in (("windows-2019", 2019), ("windows-2022", 2022), ("windows-2025", 2025))
    ),
    Release(
        "ubuntu-22.04",
        "ubuntu/images/hvm-ssd/ubuntu-jammy-22.04-{arch}-server-20251015",
        "Canonical, Ubuntu, 22.04 LTS, {arch} jammy image build on 2025-10-15",
        CANONICAL,
        _day(2025, 10, 15),
        DEBIAN,
        8,
        "/dev/sda1",
        "gp2",
    ),
    Release(
        "ubuntu-24.04",
        "ubuntu/images/hvm-ssd-gp3/ubuntu-noble-24.04-{arch}-server-20251022",
        "Canonical, Ubuntu, 24.04, {arch} noble image",
        CANONICAL,
        _day(2025, 10, 22),
        DEBIAN,
        8,
        "/dev/sda1",
        boot_mode="uefi-preferred",
    ),
)
"""Oldest release of a family first."""


@lru_cache(maxsize=64)
def public_images(region: str) -> dict[str, Image]:
    """The public images of a Region by identifier. Shared: not to be changed by anybody."""
    images = (
        _image(region, release, architecture, label)
        for release in RELEASES
        for architecture, label in release.architectures.items()
    )
    return {image.id: image for image in images}


def public_image(region: str, family: str, architecture: str = "x86_64") -> Image:
    """The newest image of a family (`al2023`, `al2`, `windows-2022`, `ubuntu-24.04`, ...; see `RELEASES`).

    Raises KeyError when there is none for the architecture.
    """
    return _newest(region)[family, architecture]


@lru_cache(maxsize=64)
def _newest(region: str) -> dict[tuple[str, str], Image]:
    return {
        (release.family, architecture): public_images(region)[_image_id(region, release.name.format(arch=label))]
        for release in RELEASES
        for architecture, label in release.architectures.items()
    }


def _image_id(region: str, name: str) -> str:
    return f"ami-{derived('ami', f'{region}/{name}')}"


def _image(region: str, release: Release, architecture: str, label: str) -> Image:
    name = release.name.format(arch=label)
    alias = OWNER_ALIASES.get(release.owner_id)
    return Image(
        id=_image_id(region, name),
        name=name,
        owner_id=release.owner_id,
        created=release.created,
        architecture=architecture,
        imds_support=release.imds_support,
        description=release.description.format(arch=label),
        owner_alias=alias,
        platform="windows" if release.windows else None,
        platform_details="Windows" if release.windows else "Linux/UNIX",
        usage_operation="RunInstances:0002" if release.windows else "RunInstances",
        root_device_name=release.root_device_name,
        block_devices=(
            BlockDevice(
                release.root_device_name,
                snapshot_id=f"snap-{derived('snap', f'{region}/{name}')}",
                size=release.size,
                volume_type=release.volume_type,
                iops=3000 if release.volume_type == "gp3" else None,
                throughput=125 if release.volume_type == "gp3" else None,
            ),
        ),
        boot_mode="uefi" if architecture == "arm64" else release.boot_mode,
        image_location=f"{alias or release.owner_id}/{name}",
        public=True,
    )
