"""EC2 of the local AWS: `OPERATIONS` joins the rooms of this package."""

from __future__ import annotations

from imdsctl.local.call import Operation
from imdsctl.local.ec2 import (
    defaults,
    images,
    instances,
    launch,
    launch_templates,
    lifecycle,
    regions,
    storage,
    tags,
)

OPERATIONS: dict[str, Operation] = {
    name: operation
    for room in (defaults, images, instances, launch, launch_templates, lifecycle, regions, storage, tags)
    for name, operation in room.OPERATIONS.items()
}
