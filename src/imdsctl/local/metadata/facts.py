"""What an instance of the local AWS shows in its metadata, from what its Region and its account's IAM hold."""

from __future__ import annotations

import base64
from collections.abc import Iterator

from imdsctl.imds.facts import Facts, NetworkInterface
from imdsctl.local.autoscaling.state import PENDING, TERMINATING
from imdsctl.local.ec2 import render
from imdsctl.local.ec2.instance_types import instance_type
from imdsctl.local.ec2.network import VPC_CIDR
from imdsctl.local.ec2.resources import PUBLIC_KEY, Instance
from imdsctl.local.ec2.state import Notices, RegionState
from imdsctl.local.metadata.roles import ProfileRole

NOTHING = Notices()
GROUP_TAG = "aws:autoscaling:groupName"

TARGETS = {PENDING: "InService", TERMINATING: "Terminated"}
"""Where an Auto Scaling group is taking an instance, by the lifecycle state it is in; any other state is its own.

Source: Auto Scaling User Guide, "Retrieve the target lifecycle state through instance metadata".
"""


def facts_of(state: RegionState, instance: Instance, profile: ProfileRole) -> Facts:
    """The instance as its metadata shows it."""
    zone = instance.subnet.zone
    kind = instance_type(instance.instance_type)
    notices = state.notices.get(instance.id, NOTHING)
    return Facts(
        account_id=state.account_id,
        region=state.region,
        availability_zone=zone.name,
        availability_zone_id=zone.id,
        instance_id=instance.id,
        instance_type=instance.instance_type,
        image_id=instance.image_id,
        architecture=instance.architecture,
        reservation_id=instance.reservation.id,
        launch_index=instance.launch_index,
        pending_time=instance.launch_time,
        interfaces=(_interface(state, instance),),
        block_devices=tuple(_devices(instance)),
        security_groups=tuple(group.name for group in instance.security_groups),
        life_cycle=instance.lifecycle or "on-demand",
        monitoring=instance.monitoring == "enabled",
        hypervisor="nitro" if kind is None or kind.nitro else "xen",
        public_key=_public_key(instance),
        user_data=_user_data(instance),
        tags=dict(state.tags.get(instance.id, {})),
        profile_arn=instance.profile_arn,
        profile_id=instance.profile_id,
        role=profile.role.name if profile.role is not None else None,
        profile_problem=profile.problem,
        spot_action=notices.spot,
        rebalance=notices.rebalance,
        scheduled_events=notices.scheduled,
        past_events=notices.past,
        target_lifecycle_state=_target_lifecycle_state(state, instance),
    )


def group_of(state: RegionState, instance: Instance) -> str | None:
    """The name of the instance's Auto Scaling group; for generated instances their tag says it."""
    return state.scaled.get(instance.id) or state.tags.get(instance.id, {}).get(GROUP_TAG)


def _interface(state: RegionState, instance: Instance) -> NetworkInterface:
    """The one interface that the local AWS's instances have, with the identifiers that EC2's answers show."""
    address = render.public_ip(instance)
    return NetworkInterface(
        mac=render.mac_address(instance),
        interface_id=render.interface_id(instance),
        device_number=0,
        owner_id=state.account_id,
        private_ipv4s=(instance.private_ip,),
        subnet_id=instance.subnet.id,
        subnet_ipv4_cidr=instance.subnet.cidr,
        vpc_id=state.vpc_id,
        vpc_ipv4_cidrs=(VPC_CIDR,),
        security_groups=tuple((group.id, group.name) for group in instance.security_groups),
        local_hostname=render.private_dns_name(instance),
        public_ipv4s=(address,) if address is not None else (),
        public_hostname=render.public_dns_name(instance) or None,
    )


def _devices(instance: Instance) -> Iterator[tuple[str, str]]:
    """The names of the tree and the devices: `ami` and `root` are the root device, the others `ebs1`, `ebs2`, ...

    The root device is written as the image names it, the others without `/dev/`, as observed.
    """
    yield "ami", instance.root_device_name
    others = (each for each in instance.block_devices if each.device_name != instance.root_device_name)
    for number, each in enumerate(others, 1):
        yield f"ebs{number}", each.device_name.removeprefix("/dev/")
    yield "root", instance.root_device_name


def _public_key(instance: Instance) -> tuple[str, str] | None:
    """The key that the instance was launched with: deleting the key pair does not take it from the instance."""
    key = (instance.extra or {}).get(PUBLIC_KEY)
    return (instance.key_name, key) if instance.key_name is not None and key is not None else None


def _user_data(instance: Instance) -> bytes | None:
    return base64.b64decode(instance.user_data) if instance.user_data else None


def _target_lifecycle_state(state: RegionState, instance: Instance) -> str | None:
    name = state.scaled.get(instance.id)
    group = state.scaling.groups.get(name) if name is not None and state.scaling is not None else None
    member = group.members.get(instance.id) if group is not None else None
    return TARGETS.get(member.lifecycle, member.lifecycle) if member is not None else None
