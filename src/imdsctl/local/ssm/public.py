"""The public parameters that name the newest image of a family, in every Region and for every account.

Source: EC2 User Guide, "Reference AMIs using Systems Manager parameters"; ECS Developer Guide, "Retrieving Amazon
ECS-optimized Linux AMI metadata"; Canonical, "Find Ubuntu images with the AWS SSM Parameter Store".
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from imdsctl.local.ec2.public_images import RELEASES, public_image
from imdsctl.local.ec2.resources import Image
from imdsctl.local.ssm.state import IMAGE, STRING, TEXT, Parameter, Version

PUBLIC = "/aws/service/"

_AMAZON_LINUX = "/aws/service/ami-amazon-linux-latest/"
_ECS = "/aws/service/ecs/optimized-ami/"
_UBUNTU = "/aws/service/canonical/ubuntu/server/"


@lru_cache(maxsize=64)
def public_parameters(region: str) -> dict[str, Parameter]:
    """A Region's public parameters by name. Shared: not to be changed by anybody."""
    return {
        name: Parameter(
            name,
            f"arn:aws:ssm:{region}::parameter{name}",
            [Version(_version(family), image.id, STRING, image.created, "", data_type=data_type)],
        )
        for name, family, image, data_type in _names(region)
    }


def _names(region: str) -> Iterator[tuple[str, str, Image, str]]:
    for architecture in ("x86_64", "arm64"):
        for kernel in ("kernel-default", "kernel-6.1"):
            name = f"{_AMAZON_LINUX}al2023-ami-{kernel}-{architecture}"
            yield name, "al2023", public_image(region, "al2023", architecture), TEXT
        # Without a kernel in its name the parameter means 4.14, of which no image is here.
        for kernel in ("", "kernel-5.10-"):
            name = f"{_AMAZON_LINUX}amzn2-ami-{kernel}hvm-{architecture}-gp2"
            yield name, "al2", public_image(region, "al2", architecture), TEXT
        for system, family in (("amazon-linux-2", "al2-ecs"), ("amazon-linux-2023", "al2023-ecs")):
            folder = f"{_ECS}{system}/{'' if architecture == 'x86_64' else 'arm64/'}"
            yield f"{folder}recommended/image_id", family, public_image(region, family, architecture), TEXT
        debian = "amd64" if architecture == "x86_64" else architecture
        for family, volume, labels in (
            ("ubuntu-22.04", "ebs-gp2", ("22.04", "jammy")),
            ("ubuntu-24.04", "ebs-gp3", ("24.04", "noble")),
        ):
            for label in labels:
                name = f"{_UBUNTU}{label}/stable/current/{debian}/hvm/{volume}/ami-id"
                yield name, family, public_image(region, family, architecture), IMAGE
    for year in (2019, 2022, 2025):
        name = f"/aws/service/ami-windows-latest/Windows_Server-{year}-English-Full-Base"
        yield name, f"windows-{year}", public_image(region, f"windows-{year}"), TEXT


def _version(family: str) -> int:
    """A public parameter has had one version for every release."""
    return sum(1 for release in RELEASES if release.family == family)
