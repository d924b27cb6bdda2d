"""EC2 of the local AWS: `OPERATIONS` joins the rooms of this package."""

from __future__ import annotations

from imdsctl.local.call import Operation
from imdsctl.local.ec2 import (
    attributes,
    copies,
    declarative_reports,
    defaults,
    images,
    instance_type_offers,
    instances,
    key_pairs,
    launch,
    launch_templates,
    lifecycle,
    network,
    regions,
    security_groups,
    storage,
    tags,
)

ROOMS = (
    attributes,
    copies,
    declarative_reports,
    defaults,
    images,
    instance_type_offers,
    instances,
    key_pairs,
    launch,
    launch_templates,
    lifecycle,
    network,
    regions,
    security_groups,
    storage,
    tags,
)

OPERATIONS: dict[str, Operation] = {name: operation for room in ROOMS for name, operation in room.OPERATIONS.items()}
