"""What the tree of the metadata service shows of an instance, as values. Whoever has an instance makes these."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from imdsctl.domain.options import MetadataOptions


@dataclass(frozen=True, slots=True)
class NetworkInterface:
    """A network interface of the instance; the first one (device number 0) is the primary."""

    mac: str
    interface_id: str
    device_number: int
    owner_id: str
    private_ipv4s: tuple[str, ...]
    subnet_id: str
    subnet_ipv4_cidr: str
    vpc_id: str
    vpc_ipv4_cidrs: tuple[str, ...]
    security_groups: tuple[tuple[str, str], ...]  # (id, name)
    local_hostname: str
    public_ipv4s: tuple[str, ...] = ()
    public_hostname: str | None = None
    ipv6s: tuple[str, ...] = ()
    subnet_ipv6_cidrs: tuple[str, ...] = ()
    vpc_ipv6_cidrs: tuple[str, ...] = ()
    network_card: int = 0


EVENT_CODES: Mapping[str, str] = {
    "instance-reboot": "The instance is scheduled for a reboot",
    "system-reboot": "The host is scheduled for a reboot",
    "system-maintenance": "The host is scheduled for maintenance",
    "instance-retirement": "The instance is running on degraded hardware",
    "instance-stop": "The instance is running on degraded hardware",
}
"""Codes of scheduled events (EC2 API Reference, `InstanceStatusEvent`), each with what is said of it."""


@dataclass(frozen=True, slots=True)
class MaintenanceEvent:
    """A scheduled event (`events/maintenance/scheduled`), or one that is over (`history`); times in UTC."""

    code: str
    description: str
    event_id: str
    state: str
    not_before: datetime
    not_after: datetime | None = None
    not_before_deadline: datetime | None = None


@dataclass(frozen=True, slots=True)
class SpotAction:
    """`spot/instance-action`: `stop`, `terminate` or `hibernate`, and when (UTC)."""

    action: str
    time: datetime


@dataclass(frozen=True, slots=True)
class Facts:
    """An instance as its metadata shows it. None and empty mean: this is not there, the path answers 404.

    `tags` are shown only when the options enable them. `user_data` is what the user gave, decoded. `overrides` are
    paths under `latest/` (`meta-data/ami-id`) whose value is given, whether the tree has them or not.
    """

    account_id: str
    region: str
    availability_zone: str
    availability_zone_id: str
    instance_id: str
    instance_type: str
    image_id: str
    architecture: str
    reservation_id: str
    launch_index: int
    pending_time: datetime  # when it was launched or last started
    interfaces: tuple[NetworkInterface, ...]
    block_devices: tuple[tuple[str, str], ...]  # (name in the tree, such as `ami` or `ebs1`, device)
    security_groups: tuple[str, ...]  # names
    life_cycle: str = "on-demand"  # `on-demand`, `spot`, `scheduled`, `capacity-block`
    instance_action: str = "none"
    monitoring: bool = False
    hypervisor: str = "nitro"
    ami_manifest_path: str = "(unknown)"
    profile: str = "default-hvm"
    kernel_id: str | None = None
    ramdisk_id: str | None = None
    billing_products: tuple[str, ...] = ()
    product_codes: tuple[str, ...] = ()
    ancestor_ami_ids: tuple[str, ...] = ()
    public_key: tuple[str, str] | None = None  # (key pair's name, OpenSSH public key)
    user_data: bytes | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    profile_arn: str | None = None  # of the instance profile
    profile_id: str | None = None
    role: str | None = None  # name of the profile's role; None: the profile has none
    profile_problem: str | None = None  # AWS's code in `iam/info`: `InstanceProfileNotFound`, when it was deleted
    placement_group: str | None = None
    partition_number: int | None = None
    host_id: str | None = None
    partition: str = "aws"
    domain: str = "amazonaws.com"
    spot_action: SpotAction | None = None
    rebalance: datetime | None = None  # when the recommendation was given
    scheduled_events: tuple[MaintenanceEvent, ...] = ()
    past_events: tuple[MaintenanceEvent, ...] = ()
    target_lifecycle_state: str | None = None  # of an instance of an Auto Scaling group
    overrides: Mapping[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RoleCredentials:
    """What `iam/security-credentials/ROLE` answers; with a `problem` (AWS's `Code`) there are no keys.

    `updated` and `expires` are aware, in UTC.
    """

    updated: datetime
    access_key_id: str = ""
    secret_access_key: str = ""
    session_token: str = ""
    expires: datetime | None = None
    problem: str | None = None  # such as `AssumeRoleUnauthorizedAccess`
    message: str | None = None


class Source(Protocol):
    """Where a service gets what it serves. It is asked for every request, so a change shows at once."""

    @property
    def options(self) -> MetadataOptions:
        """All five options, as they hold now."""

    def facts(self, now: float) -> Facts:
        """The instance as it is at `now` (seconds since 1970). Cheap: whoever implements it keeps what it can."""

    def role_credentials(self, delivery: str, now: float) -> RoleCredentials:
        """Credentials of the instance's role, fetched by IMDSv1 (`delivery` is `1.0`) or by IMDSv2 (`2.0`).

        Called only when the facts have a role. They must be valid for five minutes at least.
        """

    def identity_credentials(self, delivery: str, now: float) -> RoleCredentials:
        """Those of the instance identity role: `identity-credentials/ec2/security-credentials/ec2-instance`."""
