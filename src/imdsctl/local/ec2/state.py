"""What one account has in one Region: the data behind EC2's handlers.

Nothing here reads a clock or draws a random number; `now` and new identifiers are arguments, so that replaying the log
of writes gives the same state.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from imdsctl.domain.options import AccountDefaults, MetadataOptions
from imdsctl.imds.facts import MaintenanceEvent, SpotAction
from imdsctl.local.ec2.resources import (
    OPTIONS_APPLIED,
    OPTIONS_PENDING,
    PENDING,
    RUNNING,
    SHUTTING_DOWN,
    STOPPED,
    STOPPING,
    TERMINATED,
    BlockDevice,
    Fleet,
    Image,
    Instance,
    KeyPair,
    LaunchTemplate,
    Reservation,
    SecurityGroup,
    SecurityGroupRule,
    Snapshot,
    SpotFleet,
    SpotRequest,
    Subnet,
    Volume,
    derived,
    everything,
    interned,
)
from imdsctl.local.ec2.zones import zones
from imdsctl.policy.declarative import NOTHING_DECLARED, EffectivePolicy

if TYPE_CHECKING:
    from imdsctl.local.autoscaling.state import ScalingState

SCALE = "scale"
"""What is scheduled for an Auto Scaling group; see `RegionState.schedule`."""

TERMINATED_VISIBLE = timedelta(hours=1)
"""EC2 API Reference, DescribeInstances: a terminated instance appears "for a short interval (usually an hour)"."""


@dataclass(slots=True)
class Replay:
    """What a ClientToken was used for: a digest of its request, what it made, and when."""

    digest: bytes
    result: str
    at: datetime


@dataclass(slots=True)
class Notices:
    """What an instance has been told: its Spot interruption, a rebalance recommendation (when), and events."""

    spot: SpotAction | None = None
    rebalance: datetime | None = None
    scheduled: tuple[MaintenanceEvent, ...] = ()
    past: tuple[MaintenanceEvent, ...] = ()

    def end(self, which: Callable[[MaintenanceEvent], bool], how: str) -> None:
        """Put scheduled events into the past: `completed` or `canceled`, which their description then begins with."""
        ended = tuple(
            replace(each, state=how, description=f"[{how.title()}] {each.description}")
            for each in self.scheduled
            if which(each)
        )
        self.scheduled = tuple(each for each in self.scheduled if not which(each))
        self.past = (*self.past, *ended)[-EVENTS_PAST_MAX:]


@dataclass(frozen=True, slots=True)
class Generated:
    """What was generated in a Region that other services of it refer to, whatever became of it since.

    Whether there were nodes of EKS and hosts of ECS, and the ids of two launch templates.
    """

    eks_nodes: bool = False
    ecs_hosts: bool = False
    eks_template_id: str = ""
    batch_template_id: str = ""


EVENTS_PAST_MAX = 20
"""How many events that are over an instance shows."""


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
        self.spot_fleets: dict[str, SpotFleet] = {}
        self.last_generated = -1  # the order of the last reservation that was not launched by a call
        self.generated: Generated | None = None  # None: a Region without a generated fleet
        # What an instance had, and until when, for CloudWatch's evidence: only of instances that were changed.
        self.metadata_changes: dict[str, list[tuple[datetime, MetadataOptions]]] = {}
        self.notices: dict[str, Notices] = {}  # by instance; see notices.py
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
        self.settled = 0  # how often something happened by itself: what was computed from this state is old then
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
            self.settled += 1
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
        self.notices.pop(instance.id, None)
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


def _settle_running(state: RegionState, instance: Instance, when: datetime) -> None:
    if instance.state == PENDING:
        instance.state = RUNNING
        instance.changed()


def _settle_stopped(state: RegionState, instance: Instance, when: datetime) -> None:
    if instance.state == STOPPING:
        instance.state = STOPPED
        instance.changed()
        notices = state.notices.get(instance.id)
        if notices is not None:  # it will start on another host
            notices.spot = notices.rebalance = None
            notices.end(lambda event: True, "completed")


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
