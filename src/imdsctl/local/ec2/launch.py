"""RunInstances.

Source: EC2 API Reference, RunInstances; EC2 User Guide, "Configure the Instance Metadata Service options" (order of
precedence), which `domain.precedence.resolve` decides; "Troubleshoot Amazon EC2 instance launch issues" (enforcement).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from imdsctl.codify.launch import without_empty
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
    invalid_combination,
    invalid_value,
    missing,
    refuse,
    unsupported,
)
from imdsctl.local.ec2.images import block_devices, find_image
from imdsctl.local.ec2.instance_types import InstanceType
from imdsctl.local.ec2.launch_parameters import (
    address_of,
    extra_of,
    find_profile,
    interface_of,
    key_name_of,
    kind_of,
    security_groups_of,
    subnet_of,
    user_data,
)
from imdsctl.local.ec2.launch_templates import find_template, find_version
from imdsctl.local.ec2.metadata_options import refuse_options_of_a_disabled_endpoint, requested_options
from imdsctl.local.ec2.resources import (
    OPTIONS_APPLIED,
    OPTIONS_PENDING,
    PENDING,
    PUBLIC_KEY,
    RUNNING,
    BlockDevice,
    Image,
    Reservation,
    SecurityGroup,
    SpotRequest,
    Subnet,
)
from imdsctl.local.ec2.spot_market import Market, link, market_of, open_requests
from imdsctl.local.ec2.state import RegionState

INSTANCES_MAX = 1000
TAGGED_AT_LAUNCH = (
    "instance",
    "volume",
    "network-interface",
    "spot-instances-request",
    "elastic-gpu",
)
TEMPLATE_TAG_ID = "aws:ec2launchtemplate:id"
TEMPLATE_TAG_VERSION = "aws:ec2launchtemplate:version"


@dataclass(slots=True)
class Launch:
    """A launch that was checked and resolved, and that nothing came of yet. `tags` are by resource type."""

    asked: Mapping[str, Any]
    image: Image
    kind: InstanceType
    count: int
    options: MetadataOptions
    subnet: Subnet
    address: int | None
    groups: tuple[SecurityGroup, ...]
    devices: tuple[BlockDevice, ...]
    tags: Mapping[str, Mapping[str, str]]
    market: Market | None
    fields: Mapping[str, Any]  # further ones of `Instance`


def run_instances(call: Call) -> dict[str, Any]:
    """Launch between MinCount and MaxCount instances, all in one reservation.

    Raises like `prepare`, and IdempotentParameterMismatch. Nothing is launched unless everything holds.
    """
    state = region_state(call)
    _counts(call.params)
    earlier = replayed(call, state.reservations.__contains__)
    if earlier is not None:
        return _response(call, state, earlier)
    reservation = carry_out(call, prepare(call, call.params))
    remember(call, reservation.id)
    return _response(call, state, reservation.id)


def prepare(
    call: Call, asked: Mapping[str, Any], *, system_tags: Mapping[str, str] | None = None, market: Market | None = None
) -> Launch:
    """What RunInstances's parameters come to. The one way to an instance: Spot requests and fleets come here as well.

    `system_tags` (`aws:...`) mark who launches; `market` takes the place of InstanceMarketOptions. Raises
    UnsupportedOperation when the Region enforces HttpTokens and the options resolve to IMDSv1, InstanceLimitExceeded,
    InsufficientFreeAddressesInSubnet, and for every parameter that is missing, malformed or names what does not exist.
    """
    state = region_state(call)
    least, most = _counts(asked)
    template_data, template_tags = _template(state, asked.get("LaunchTemplate"))
    merged = {**template_data, **without_empty(asked)}

    image_id = merged.get("ImageId")
    if not image_id:
        raise missing("ImageId")
    from imdsctl.local.ssm.resolve import image_of  # here, because parameters know EC2's public images

    image = find_image(call, image_of(call, image_id))
    kind = kind_of(merged, image)
    subnet = subnet_of(state, merged)
    address = address_of(subnet, merged, most)
    groups = security_groups_of(state, merged)
    devices = block_devices(state, merged.get("BlockDeviceMappings"), image.block_devices)
    tags = _tags(template_data, asked, {**template_tags, **(system_tags or {})})

    own_options = requested_options(asked.get("MetadataOptions"))
    of_template = requested_options(template_data.get("MetadataOptions"))
    refuse_options_of_a_disabled_endpoint(own_options.over(of_template))
    resolution = resolve(own_options, state.defaults, image_options(image.imds_support), launch_template=of_template)
    if resolution.refused:
        raise unsupported(HTTP_TOKENS_ENFORCED_LAUNCH)
    options: MetadataOptions = resolution.options
    if options.instance_metadata_tags is Switch.ENABLED:
        check_metadata_tag_keys(key for key in tags["instance"] if not key.startswith("aws:"))

    market = market or market_of(merged.get("InstanceMarketOptions"))
    return Launch(
        asked=asked,
        image=image,
        kind=kind,
        count=_affordable(subnet, least, most),
        options=options,
        subnet=subnet,
        address=address,
        groups=groups,
        devices=devices,
        tags=tags,
        market=market,
        fields=_fields(call, merged, subnet, kind, market),
    )


def carry_out(call: Call, launch: Launch, *, spot_request: SpotRequest | None = None) -> Reservation:
    """Launch what was prepared in this call, on the state it was prepared for.

    A launch on the Spot market makes a request for each instance, unless its single instance is for `spot_request`.
    """
    state = region_state(call)
    reservation = state.add_reservation(
        f"r-{call.ids.hex17()}",
        [f"i-{call.ids.hex17()}" for _ in range(launch.count)],
        image=launch.image,
        instance_type=launch.kind.name,
        options=launch.options,
        launch_time=call.now.replace(microsecond=0),
        state=PENDING,
        options_state=OPTIONS_PENDING,
        subnet=launch.subnet,
        block_devices=launch.devices,
        security_groups=launch.groups,
        tags=launch.tags["instance"],
        volume_tags=launch.tags.get("volume"),
        address=launch.address,
        **launch.fields,
    )
    settled = call.now + timedelta(seconds=call.world.settle_seconds)
    for instance in reservation.instances:
        state.schedule(settled, instance.id, RUNNING)
        state.schedule(settled, instance.id, OPTIONS_APPLIED)
    if spot_request is not None:
        link(reservation.instances[0], spot_request.id)
    elif launch.market is not None:
        open_requests(
            call,
            state,
            reservation,
            launch.market,
            _specification(launch),
            asked=launch.asked,
            tags=launch.tags.get("spot-instances-request", {}),
        )
    return reservation


def _specification(launch: Launch) -> dict[str, Any]:
    """AWS's `LaunchSpecification` of a Spot request, from what the launch came to."""
    fields = launch.fields
    placement: dict[str, Any] = {"AvailabilityZone": launch.subnet.zone.name}
    if fields["tenancy"] != "default":
        placement["Tenancy"] = fields["tenancy"]
    out: dict[str, Any] = {
        "ImageId": launch.image.id,
        "InstanceType": launch.kind.name,
        "SecurityGroups": [{"GroupId": group.id, "GroupName": group.name} for group in launch.groups],
        "SubnetId": launch.subnet.id,
        "Placement": placement,
        "EbsOptimized": fields["ebs_optimized"],
        "Monitoring": {"Enabled": fields["monitoring"] == "enabled"},
        "BlockDeviceMappings": launch.asked.get("BlockDeviceMappings") or [],
    }
    if fields["key_name"] is not None:
        out["KeyName"] = fields["key_name"]
    if fields["profile_arn"] is not None:
        out["IamInstanceProfile"] = {"Arn": fields["profile_arn"]}
    return out


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
    template_data: Mapping[str, Any], asked: Mapping[str, Any], system_tags: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """The tags by resource type; the request's win over the template's, key by key. AWS's own go on the instances."""
    tags = tag_specifications(template_data.get("TagSpecifications"), TAGGED_AT_LAUNCH)
    for kind, stronger in tag_specifications(asked.get("TagSpecifications"), TAGGED_AT_LAUNCH).items():
        tags[kind] = {**tags.get(kind, {}), **stronger}
    tags["instance"] = {**tags.get("instance", {}), **system_tags}
    return tags


def _fields(
    call: Call, merged: Mapping[str, Any], subnet: Subnet, kind: InstanceType, market: Market | None
) -> dict[str, Any]:
    """The fields of `Instance` that are taken from the request as they are, checked."""
    shutdown = merged.get("InstanceInitiatedShutdownBehavior") or "stop"
    check_choice(shutdown, "InstanceInitiatedShutdownBehavior", ("stop", "terminate"))
    elsewhere = (merged.get("InstanceMarketOptions") or {}).get("MarketType")
    public = interface_of(merged).get("AssociatePublicIpAddress")
    profile = find_profile(call, merged.get("IamInstanceProfile"))
    key_name, extra = key_name_of(region_state(call), merged.get("KeyName")), extra_of(merged, kind)
    if key_name is not None:
        extra = {**(extra or {}), PUBLIC_KEY: region_state(call).key_pairs[key_name].public_key}
    return {
        "key_name": key_name,
        "user_data": user_data(merged.get("UserData")),
        "profile_arn": profile.arn if profile is not None else None,
        "profile_id": profile.id if profile is not None else None,
        "client_token": merged.get("ClientToken") or "",
        "monitoring": "enabled" if (merged.get("Monitoring") or {}).get("Enabled") else "disabled",
        "tenancy": (merged.get("Placement") or {}).get("Tenancy") or "default",
        "ebs_optimized": bool(merged.get("EbsOptimized")),
        "lifecycle": "spot" if market is not None else elsewhere,
        "shutdown_behavior": shutdown,
        "termination_protected": bool(merged.get("DisableApiTermination")),
        "stop_protected": bool(merged.get("DisableApiStop")),
        "managed_by": (merged.get("Operator") or {}).get("Principal"),
        "public": subnet.public if public is None else public,
        "extra": extra,
    }


OPERATIONS = {"RunInstances": Operation(run_instances, writes=True)}
