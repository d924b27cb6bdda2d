"""What one account has in one Region: the data behind EC2's handlers.

Nothing here reads a clock or draws a random number; `now` and new identifiers are arguments, so that replaying the log
of writes gives the same state. What follows from an identifier (network interface, MAC address, ...) is derived from it
when it is shown and not stored.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from imdsctl.domain.options import AccountDefaults, MetadataOptions
from imdsctl.local.ec2.zones import Zone, zones
from imdsctl.policy.declarative import NOTHING_DECLARED, EffectivePolicy

if TYPE_CHECKING:
    from imdsctl.local.autoscaling.state import ScalingState

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

SCALE = "scale"
"""What is scheduled for an Auto Scaling group; see `RegionState.schedule`."""

TERMINATED_VISIBLE = timedelta(hours=1)
"""EC2 API Reference, DescribeInstances: a terminated instance appears "for a short interval (usually an hour)"."""

SUBNET_ADDRESSES_RESERVED = 4  # the first four; the last is reserved as well
SUBNET_ADDRESSES = 4096 - 5


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


@dataclass(slots=True)
class Fleet:
    """An EC2 Fleet; `request` is what CreateFleet and ModifyFleet were given, without empty members."""

    id: str
    created: datetime
    kind: str
    request: dict[str, Any]
    members: list[FleetMember] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    history: list[FleetEvent] = field(default_factory=list)
    state: str = "active"


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


@dataclass(slots=True)
class Replay:
    """What a ClientToken was used for: a digest of its request, what it made, and when."""

    digest: bytes
    result: str
    at: datetime


class RegionState:
    """An account's EC2 resources in one Region, and the Region's instance metadata defaults.

    Every table is a dict by identifier, in the order of creation. `tags` holds the tags of every kind of resource by
    its identifier (also this account's tags on images of others).
    """

    def __init__(self, account_id: str, region: str, *, seed: int = 0) -> None:
        self.account_id = account_id
        self.region = region
        self.own_defaults = AccountDefaults()  # as the account itself set them
        # What declarative policies set for the account; the world knows it once the Region is in one.
        self.declared: Callable[[], EffectivePolicy] = lambda: NOTHING_DECLARED
        self.instances: dict[str, Instance] = {}
        self.reservations: dict[str, Reservation] = {}
        self.images: dict[str, Image] = {}
        self.snapshots: dict[str, Snapshot] = {}
        self.volumes: dict[str, Volume] = {}
        self.templates: dict[str, LaunchTemplate] = {}
        self.template_ids: dict[str, str] = {}  # by name
        self.tags: dict[str, dict[str, str]] = {}
        self.client_tokens: dict[tuple[str, str], Replay] = {}  # by (action, token)
        place = f"{seed}/{account_id}/{region}"
        self.vpc_id = f"vpc-{derived('vpc', place)}"
        self.subnets = {
            subnet.id: subnet
            for index, zone in enumerate(zones(region))
            for subnet in [
                Subnet(f"subnet-{derived('subnet', f'{place}/{zone.name}')}", zone, 0xAC1F0000 + index * 4096)
            ]
        }
        self.vpc_attributes = {
            "enableDnsHostnames": True,
            "enableDnsSupport": True,
            "enableNetworkAddressUsageMetrics": False,
        }
        self.key_pairs: dict[str, KeyPair] = {}  # by name
        self.spot_requests: dict[str, SpotRequest] = {}
        self.fleets: dict[str, Fleet] = {}
        self.last_generated = -1  # the order of the last reservation that was not launched by a call
        # What an instance had, and until when, for CloudWatch's evidence: only of instances that were changed.
        self.metadata_changes: dict[str, list[tuple[datetime, MetadataOptions]]] = {}
        self.hides_managed = False  # the account's setting, see `visibility`
        default = SecurityGroup(f"sg-{derived('sg', place)}", "default", "default VPC security group")
        for permission in (
            everything(egress=False, kind="group", peer=default.id),
            everything(egress=True),
        ):
            rule_id = f"sgr-{derived(f'sgr/{permission.egress}', default.id)}"
            default.rules[permission] = SecurityGroupRule(rule_id, permission)
        self.default_security_group = default
        self.security_groups = {default.id: default}
        # Instances of Auto Scaling groups by id, each with its group's name; and who looks after a group that is due.
        self.scaling: ScalingState | None = None
        self.scaled: dict[str, str] = {}
        self.reconcile: Callable[[str, datetime], None] | None = None
        self._due: list[tuple[datetime, int, str, str]] = []  # (when, tie-breaker, instance id, what)
        self._due_count = 0
        # The last of several looks at a group at one time, by its tie-breaker: it sees what the others would have seen.
        self._looks: dict[tuple[str, datetime], int] = {}
        self._reservation_count = 0

    @property
    def defaults(self) -> AccountDefaults:
        """The instance metadata defaults that hold: the account's own, with declarative policies laid over them.

        The one place where the two meet: launches, modifications and answers all read this.
        """
        return self.declared().over(self.own_defaults)

    # -- transitions that take time ----------------------------------------------------------------------------------

    def schedule(self, when: datetime, instance_id: str, what: str) -> None:
        """Let `what` (a target state, `applied` or `forgotten`) happen to an instance at `when`.

        With `SCALE` it is an Auto Scaling group, by name, that is looked after.
        """
        self._due_count += 1
        if what == SCALE:
            self._looks[instance_id, when] = self._due_count
        heapq.heappush(self._due, (when, self._due_count, instance_id, what))

    def settle(self, now: datetime) -> None:
        """Carry out what is due. The pipeline calls this before every request to the Region.

        How often it is called between two writes makes no difference: things happen in one order, each as of its own
        time, and depend on nothing but the state. A replay, which has no reads, therefore arrives at the same state.
        """
        while self._due and self._due[0][0] <= now:
            when, number, instance_id, what = heapq.heappop(self._due)
            if what == SCALE:
                if self._looks.get((instance_id, when)) == number:
                    del self._looks[instance_id, when]
                    assert self.reconcile is not None
                    self.reconcile(instance_id, when)
                continue
            instance = self.instances.get(instance_id)
            if instance is not None:
                SETTLE[what](self, instance, when)

    # -- instances ---------------------------------------------------------------------------------------------------

    def roomiest_subnet(self, zone: str | None = None) -> Subnet | None:
        """The subnet (of a zone) with most free addresses: where an instance goes that named none."""
        found = [subnet for subnet in self.subnets.values() if zone is None or subnet.zone.name == zone]
        return max(found, key=lambda subnet: subnet.available, default=None)

    def add_reservation(
        self,
        reservation_id: str,
        instance_ids: Sequence[str],
        *,
        image: Image,
        instance_type: str,
        options: MetadataOptions,
        launch_time: datetime,
        state: str = RUNNING,
        options_state: str = OPTIONS_APPLIED,
        subnet: Subnet | None = None,
        block_devices: Sequence[BlockDevice] | None = None,
        security_groups: Sequence[SecurityGroup] | None = None,
        tags: Mapping[str, str] | None = None,
        volume_tags: Mapping[str, str] | None = None,
        address: int | None = None,
        **more: Any,
    ) -> Reservation:
        """Put instances that one launch made into the Region; nothing is resolved, checked or scheduled here.

        `options` are the resolved ones (all five). `block_devices` defaults to the image's; each instance gets its own
        volumes. `address` is the private address of a single instance that asked for one. `more` are further fields of
        `Instance`, the same for all of them.
        """
        self._reservation_count += 1
        reservation = Reservation(reservation_id, order=self._reservation_count)
        options = interned(options)
        groups = tuple(security_groups) if security_groups is not None else (self.default_security_group,)
        mappings = image.block_devices if block_devices is None else tuple(block_devices)
        for index, instance_id in enumerate(instance_ids):
            place = subnet or self.roomiest_subnet()
            assert place is not None
            instance = Instance(
                id=instance_id,
                reservation=reservation,
                image_id=image.id,
                architecture=image.architecture,
                root_device_name=image.root_device_name,
                instance_type=instance_type,
                subnet=place,
                private_ip=place.take_address() if address is None else place.take_this(address),
                launch_time=launch_time,
                options=options,
                options_state=options_state,
                state=state,
                launch_index=index,
                platform=image.platform,
                platform_details=image.platform_details,
                usage_operation=image.usage_operation,
                boot_mode=image.boot_mode,
                security_groups=groups,
                block_devices=tuple(
                    self._attach(mapping, instance_id, place, launch_time, volume_tags)
                    for mapping in mappings
                    if mapping.virtual_name is None
                ),
                **more,
            )
            reservation.instances.append(instance)
            self.instances[instance_id] = instance
            if tags:
                self.tags[instance_id] = dict(tags)
        self.reservations[reservation_id] = reservation
        return reservation

    def _attach(
        self, mapping: BlockDevice, instance_id: str, subnet: Subnet, now: datetime, tags: Mapping[str, str] | None
    ) -> BlockDevice:
        volume = Volume(
            f"vol-{derived(mapping.device_name, instance_id)}",
            mapping.size,
            subnet.zone.name,
            now,
            mapping.volume_type,
            mapping.snapshot_id,
            mapping.encrypted,
            mapping.iops,
            mapping.throughput,
            "in-use",
            instance_id,
            mapping.device_name,
            mapping.delete_on_termination,
        )
        self.volumes[volume.id] = volume
        if tags:
            self.tags[volume.id] = dict(tags)
        return BlockDevice(
            mapping.device_name,
            volume.id,
            mapping.snapshot_id,
            mapping.size,
            mapping.volume_type,
            mapping.delete_on_termination,
            mapping.encrypted,
        )

    def forget_instance(self, instance: Instance) -> None:
        """Remove a terminated instance for good."""
        del self.instances[instance.id]
        self.metadata_changes.pop(instance.id, None)
        self.tags.pop(instance.id, None)
        reservation = instance.reservation
        reservation.instances.remove(instance)
        reservation.fragment = None
        if not reservation.instances:
            del self.reservations[reservation.id]

    def release(self, instance: Instance) -> None:
        """What an instance gives back when it has terminated: its address and the volumes that go with it."""
        instance.subnet.give_back(instance.private_ip)
        for device in instance.block_devices:
            volume = self.volumes.get(device.volume_id)
            if volume is None:
                continue
            if device.delete_on_termination:
                del self.volumes[volume.id]
                self.tags.pop(volume.id, None)
            else:
                volume.state, volume.instance_id, volume.device_name = "available", None, None

    # -- launch templates --------------------------------------------------------------------------------------------

    def add_template(self, template: LaunchTemplate, tags: Mapping[str, str] | None = None) -> None:
        """Put a launch template with its versions into the Region."""
        self.templates[template.id] = template
        self.template_ids[template.name] = template.id
        if tags:
            self.tags[template.id] = dict(tags)

    # -- tags --------------------------------------------------------------------------------------------------------

    def tagged(self, resource_ids: Iterable[str]) -> None:
        """Drop the cached XML of the instances among these, because their tags changed."""
        for resource_id in resource_ids:
            instance = self.instances.get(resource_id)
            if instance is not None:
                instance.changed()


@lru_cache(maxsize=4096)
def interned(options: MetadataOptions) -> MetadataOptions:
    """One object per distinct value: a fleet holds few distinct ones."""
    return options


def _settle_running(state: RegionState, instance: Instance, when: datetime) -> None:
    if instance.state == PENDING:
        instance.state = RUNNING
        instance.changed()


def _settle_stopped(state: RegionState, instance: Instance, when: datetime) -> None:
    if instance.state == STOPPING:
        instance.state = STOPPED
        instance.changed()


def _settle_terminated(state: RegionState, instance: Instance, when: datetime) -> None:
    if instance.state == SHUTTING_DOWN:
        instance.state = TERMINATED
        state.release(instance)
        state.schedule(when + TERMINATED_VISIBLE, instance.id, "forgotten")
        instance.changed()


def _settle_applied(state: RegionState, instance: Instance, when: datetime) -> None:
    # An earlier change that falls due says nothing about a later one.
    if instance.options_state == OPTIONS_PENDING and (instance.options_due is None or when >= instance.options_due):
        instance.options_state = OPTIONS_APPLIED
        instance.changed()


def _settle_forgotten(state: RegionState, instance: Instance, when: datetime) -> None:
    if instance.state == TERMINATED:
        state.forget_instance(instance)


SETTLE = {
    RUNNING: _settle_running,
    STOPPED: _settle_stopped,
    TERMINATED: _settle_terminated,
    OPTIONS_APPLIED: _settle_applied,
    "forgotten": _settle_forgotten,
}
"""What happens when a scheduled transition is due."""
