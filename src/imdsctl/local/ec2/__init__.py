"""EC2 of the local AWS: `OPERATIONS` joins the rooms of this package."""

from __future__ import annotations

from imdsctl.local.call import Operation
from imdsctl.local.ec2 import (
    attributes,
    copies,
    declarative_reports,
    defaults,
    fleets,
    images,
    instance_type_offers,
    instances,
    key_pairs,
    launch,
    launch_template_data,
    launch_templates,
    lifecycle,
    network,
    regions,
    security_groups,
    spot_fleet_listings,
    spot_fleets,
    spot_instances,
    storage,
    tags,
    termination,
    visibility,
)

ROOMS = (
    attributes,
    copies,
    declarative_reports,
    defaults,
    fleets,
    images,
    instance_type_offers,
    instances,
    key_pairs,
    launch,
    launch_template_data,
    launch_templates,
    lifecycle,
    network,
    regions,
    security_groups,
    spot_fleet_listings,
    spot_fleets,
    spot_instances,
    storage,
    tags,
    termination,
    visibility,
)

OPERATIONS: dict[str, Operation] = {name: operation for room in ROOMS for name, operation in room.OPERATIONS.items()}
