"""What an instance type's name says: architecture, vCPUs, Nitro or Xen.

Source: EC2 Instance Types guide, "Naming conventions". The local AWS does not keep a list of the hundreds of types; it
takes every name that follows the convention.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

NAME = re.compile(r"(?P<series>[a-z]+)(?P<generation>\d+)?(?P<options>[a-z0-9-]*)\.(?P<size>[a-z0-9-]+)")

VCPUS = {
    "nano": 2,
    "micro": 2,
    "small": 2,
    "medium": 2,
    "large": 2,
    "xlarge": 4,
}
OLD_VCPUS = {"t1": 1, "t2": 1, "m1": 1, "m3": 1, "c1": 2}
METAL_VCPUS = 96
XEN_GENERATIONS = {
    "t1",
    "t2",
    "m1",
    "m2",
    "m3",
    "m4",
    "c1",
    "c3",
    "c4",
    "r3",
    "r4",
    "i2",
    "d2",
    "x1",
    "x1e",
    "p2",
    "g3",
}
BURSTABLE = {"t2", "t3", "t3a", "t4g"}
SERIES_WITHOUT_GENERATION = {"mac", "u"}


@dataclass(frozen=True, slots=True)
class InstanceType:
    """What follows from the name; `cores` times `threads` is the number of vCPUs."""

    name: str
    architecture: str
    cores: int
    threads: int
    nitro: bool

    @property
    def family(self) -> str:
        """What stands before the dot."""
        return self.name.partition(".")[0]

    @property
    def vcpus(self) -> int:
        """Cores times threads."""
        return self.cores * self.threads

    @property
    def burstable(self) -> bool:
        """Whether it earns CPU credits (EC2 User Guide, "Burstable performance instances": the T families)."""
        return self.family in BURSTABLE

    @property
    def default_credits(self) -> str:
        """The credit option of a launch that names none: T2 `standard`, later families `unlimited`."""
        return "standard" if self.family == "t2" else "unlimited"


@lru_cache(maxsize=1024)
def instance_type(name: str) -> InstanceType | None:
    """The type, or None when the name follows no convention of AWS."""
    match = NAME.fullmatch(name)
    if match is None:
        return None
    series, generation, options, size = match.group("series", "generation", "options", "size")
    if generation is None and series not in SERIES_WITHOUT_GENERATION:
        return None
    family = f"{series}{generation or ''}"
    multiple = re.fullmatch(r"(\d+)xlarge", size)
    if multiple:
        vcpus = 4 * int(multiple.group(1))
    elif size.startswith("metal"):
        vcpus = METAL_VCPUS
    elif size in VCPUS:
        vcpus = VCPUS[size]
        if size not in ("large", "xlarge"):
            vcpus = OLD_VCPUS.get(family, 1 if size == "medium" and series != "t" else vcpus)
    else:
        return None
    arm = family == "a1" or (options or "").startswith("g")
    nitro = family not in XEN_GENERATIONS
    threads = 1 if arm or vcpus == 1 or family == "t2" else 2
    return InstanceType(name, "arm64" if arm else "x86_64", max(1, vcpus // threads), threads, nitro)
