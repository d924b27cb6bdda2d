"""What EC2 keeps of each resource: instances, images, volumes, subnets, launch templates and the rest, as plain data.

Nothing here reads a clock or draws a random number. What follows from an identifier (network interface, MAC address,
...) is derived from it when it is shown and not stored.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from imdsctl.domain.options import MetadataOptions
from imdsctl.local.ec2.zones import Zone

PENDING = "pending"
RUNNING = "running"
SHUTTING_DOWN = "shutting-down"
TERMINATED = "terminated"
STOPPING = "stopping"
STOPPED = "stopped"
STATE_CODES = {PENDING: 0, RUNNING: 16, SHUTTING_DOWN: 32, TERMINATED: 48, STOPPING: 64, STOPPED: 80}
"""EC2 API Reference, `InstanceState`: the low byte of Code."""

OPTIONS_PENDING = "pending"
OPTIONS_APPLIED = "applied"

SUBNET_ADDRESSES_RESERVED = 4  # the first four; the last is reserved as well
SUBNET_ADDRESSES = 4096 - 5


PUBLIC_KEY = "PublicKey"
"""The member of `Instance.extra` with the OpenSSH public key of an instance that was launched with a key pair."""


def derived(what: str, identifier: str) -> str:
    """17 hexadecimal digits that depend on the arguments only, in the form of a long EC2 identifier."""
    return "0" + blake2b(f"{what}/{identifier}".encode(), digest_size=8).hexdigest()


@dataclass(slots=True)
class BlockDevice:
    """A volume attached to an instance, or an image's mapping when `volume_id` is empty. `size` is in GiB."""

    device_name: str
    volume_id: str = ""
    snapshot_id: str = ""
    size: int = 8
    volume_type: str = "gp3"
    delete_on_termination: bool = True
    encrypted: bool = False
    iops: int | None = None
    throughput: int | None = None
    virtual_name: str | None = None


@dataclass(slots=True)
class Image:
    """An AMI. `owner_alias` is set for public images of a well-known publisher; `imds_support` is `v2.0` or None."""

    id: str
    name: str
    owner_id: str
    created: datetime
    architecture: str = "x86_64"
    imds_support: str | None = None
    description: str | None = None
    owner_alias: str | None = None
    platform: str | None = None
    platform_details: str = "Linux/UNIX"
    usage_operation: str = "RunInstances"
    root_device_name: str = "/dev/xvda"
    root_device_type: str = "ebs"
    block_devices: tuple[BlockDevice, ...] = ()
    virtualization_type: str = "hvm"
    ena_support: bool = True
    sriov_net_support: str | None = "simple"
    boot_mode: str | None = None
    tpm_support: str | None = None
    image_location: str | None = None
    public: bool = False
    launch_permissions: tuple[str, ...] = ()
    source: tuple[str, str] | None = None  # Region and id of the image that this is a copy of
    state: str = "available"


@dataclass(slots=True)
class Snapshot:
    """An EBS snapshot. `size` is in GiB."""

    id: str
    volume_id: str
    size: int
    started: datetime
    description: str = ""
    encrypted: bool = False
    state: str = "completed"


@dataclass(slots=True)
class Volume:
    """An EBS volume. `size` is in GiB; `instance_id` is set while it is attached."""

    id: str
    size: int
    zone: str
    created: datetime
    volume_type: str = "gp2"
    snapshot_id: str = ""
    encrypted: bool = False
    iops: int | None = None
    throughput: int | None = None
    state: str = "available"
    instance_id: str | None = None
    device_name: str | None = None
    delete_on_termination: bool = False
    modified: dict[str, Any] | None = None  # the latest ModifyVolume: what was before, and when


@dataclass(slots=True)
class Subnet:
    """A default subnet. `network` is the first address as an integer.

    `used` counts the addresses that were given out in order, `free` are those of them that came back, and `ahead` the
    ones beyond that somebody asked for by name.
    """

    id: str
    zone: Zone
    network: int
    used: int = 0
    free: list[int] = field(default_factory=list)
    ahead: set[int] = field(default_factory=set)
    public: bool = True  # MapPublicIpOnLaunch

    @property
    def cidr(self) -> str:
        """The /20 as text."""
        return f"{dotted(self.network)}/20"

    @property
    def available(self) -> int:
        """How many addresses are left."""
        return SUBNET_ADDRESSES - self.used - len(self.ahead) + len(self.free)

    def take_address(self) -> str:
        """The next free private address. The caller has looked at `available`."""
        if self.free:
            return dotted(self.free.pop())
        while (taken := self._next()) in self.ahead:
            self.ahead.remove(taken)
            self.used += 1
        self.used += 1
        return dotted(taken)

    def has_address(self, address: int) -> bool:
        """Whether an address belongs to this subnet and is not one of the five that AWS keeps."""
        first = self.network + SUBNET_ADDRESSES_RESERVED
        return first <= address < first + SUBNET_ADDRESSES

    def is_free(self, address: int) -> bool:
        """Whether an address of this subnet can be taken."""
        if address < self._next():
            return address in self.free
        return address not in self.ahead

    def take_this(self, address: int) -> str:
        """Take an address that `is_free`."""
        if address < self._next():
            self.free.remove(address)
        else:
            self.ahead.add(address)
        return dotted(address)

    def give_back(self, address: str) -> None:
        """Make an address of this subnet free again."""
        number = integer_of(address)
        if number in self.ahead:
            self.ahead.remove(number)
        else:
            self.free.append(number)

    def _next(self) -> int:
        return self.network + SUBNET_ADDRESSES_RESERVED + self.used


def integer_of(address: str) -> int:
    """The integer of a well-formed IPv4 address."""
    a, b, c, d = map(int, address.split("."))
    return a << 24 | b << 16 | c << 8 | d


def dotted(address: int) -> str:
    """An IPv4 address from its integer."""
    return f"{address >> 24 & 255}.{address >> 16 & 255}.{address >> 8 & 255}.{address & 255}"


@dataclass(frozen=True, slots=True)
class Permission:
    """What one rule of a security group lets through: a protocol, its ports, and one source or destination.

    `kind` says what `peer` is: `ipv4`, `ipv6` (CIDR blocks), `group` or `prefix-list` (identifiers).
    """

    egress: bool
    protocol: str
    from_port: int | None
    to_port: int | None
    kind: str
    peer: str


@dataclass(slots=True)
class SecurityGroupRule:
    """A rule with its identifier and description."""

    id: str
    permission: Permission
    description: str | None = None


@dataclass(slots=True)
class SecurityGroup:
    """A security group of the default VPC, with its rules by what they let through."""

    id: str
    name: str
    description: str
    rules: dict[Permission, SecurityGroupRule] = field(default_factory=dict)


EVERYWHERE = "0.0.0.0/0"


def everything(*, egress: bool, kind: str = "ipv4", peer: str = EVERYWHERE) -> Permission:
    """The permission for all protocols and ports."""
    return Permission(egress, "-1", None, None, kind, peer)


@dataclass(slots=True)
class KeyPair:
    """An imported public key. `kind` is `rsa` or `ed25519`."""

    id: str
    name: str
    kind: str
    fingerprint: str
    public_key: str
    created: datetime


@dataclass(slots=True)
class SpotRequest:
    """A Spot Instance request. `specification` is its launch specification as AWS shows it.

    `asked` are the parameters of RunInstances that launch for it (again, when it is persistent).
    """

    id: str
    created: datetime
    kind: str
    price: str
    specification: dict[str, Any]
    instance_id: str | None
    product: str = "Linux/UNIX"
    state: str = "active"
    status: tuple[str, str] = ("fulfilled", "Your spot request is fulfilled.")
    updated: datetime | None = None
    interruption: str = "terminate"
    valid_until: datetime | None = None
    launch_group: str | None = None
    zone_group: str | None = None
    zone: Zone | None = None
    ended: str | None = None  # the instance it had before, while it is open again
    asked: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class FleetMember:
    """An instance that a fleet launched: what it counts, on which market, and from which template and overrides."""

    instance_id: str
    instance_type: str
    weight: float
    lifecycle: str
    source: dict[str, Any]  # AWS's LaunchTemplateAndOverridesResponse
    platform: str | None = None


@dataclass(frozen=True, slots=True)
class FleetEvent:
    """An entry of a fleet's history, as DescribeFleetHistory tells it."""

    at: datetime
    kind: str
    sub_kind: str
    description: str
    instance_id: str | None = None


FLEET_TAG = "aws:ec2:fleet-id"
SPOT_FLEET_TAG = "aws:ec2spot:fleet-request-id"


@dataclass(slots=True)
class Fleet:
    """An EC2 Fleet; `request` is what CreateFleet and ModifyFleet were given, without empty members.

    Its instances have its id as `tag`.
    """

    id: str
    created: datetime
    kind: str
    request: dict[str, Any]
    members: list[FleetMember] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    history: list[FleetEvent] = field(default_factory=list)
    state: str = "active"
    tag: str = FLEET_TAG


@dataclass(slots=True)
class SpotFleet:
    """A Spot Fleet request: AWS's `SpotFleetRequestConfigData`, and the fleet that launches what it asks for.

    The fleet's request says the same in the words of CreateFleet, with the `LaunchSpecifications` beside them.
    """

    config: dict[str, Any]
    fleet: Fleet


@dataclass(slots=True, eq=False)
class Reservation:
    """What one RunInstances made. `fragment` is its cached `item` of reservationSet, with all its instances.

    `order` counts up in the order of creation; pages are cut by it.
    """

    id: str
    instances: list[Instance] = field(default_factory=list)
    order: int = 0
    requester_id: str | None = None
    fragment: bytes | None = None


@dataclass(slots=True, eq=False)
class Instance:
    """An instance. After any change call `changed()`, which drops the cached XML."""

    id: str
    reservation: Reservation
    image_id: str
    architecture: str
    root_device_name: str
    instance_type: str
    subnet: Subnet
    private_ip: str
    launch_time: datetime
    options: MetadataOptions
    options_state: str = OPTIONS_APPLIED
    options_due: datetime | None = None  # when the latest change of the options is applied
    state: str = RUNNING
    launch_index: int = 0
    public: bool = True
    boot_mode: str | None = None
    platform: str | None = None
    platform_details: str = "Linux/UNIX"
    usage_operation: str = "RunInstances"
    key_name: str | None = None
    user_data: str | None = None
    profile_arn: str | None = None
    profile_id: str | None = None  # of the instance profile, as IAM has it
    security_groups: tuple[SecurityGroup, ...] = ()
    block_devices: tuple[BlockDevice, ...] = ()
    client_token: str = ""
    monitoring: str = "disabled"
    tenancy: str = "default"
    ebs_optimized: bool = False
    source_dest_check: bool = True
    lifecycle: str | None = None
    shutdown_behavior: str = "stop"
    termination_protected: bool = False
    stop_protected: bool = False
    transition_reason: str = ""
    state_reason: tuple[str, str] | None = None
    managed_by: str | None = None
    extra: dict[str, Any] | None = None  # what few launches ask for, in AWS's structures; see `launch.extra_of`
    fragment: bytes | None = None

    def changed(self) -> None:
        """Drop the cached XML of the instance and of its reservation."""
        self.fragment = None
        self.reservation.fragment = None


@dataclass(slots=True)
class LaunchTemplateVersion:
    """One immutable version; `data` is AWS's launch template data as the request spelled it."""

    number: int
    created: datetime
    created_by: str
    data: dict[str, Any]
    description: str | None = None


@dataclass(slots=True)
class LaunchTemplate:
    """A launch template with its versions by number; `last_number` is the highest that was ever given."""

    id: str
    name: str
    created: datetime
    created_by: str
    versions: dict[int, LaunchTemplateVersion]
    default_version: int = 1
    latest_version: int = 1
    last_number: int = 1
    managed_by: str | None = None


@lru_cache(maxsize=4096)
def interned(options: MetadataOptions) -> MetadataOptions:
    """One object per distinct value: a fleet holds few distinct ones."""
    return options
