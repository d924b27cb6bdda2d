"""What a group does by itself: launch and terminate until it has what it wants, and replace what failed.

`reconcile` is called by `RegionState.settle` with the time it was due, and depends on nothing but the state and that
time. Source: Amazon EC2 Auto Scaling User Guide, "Health checks", "Termination policies", "Instance refresh", and the
sentences of the activities it shows.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from imdsctl.local.autoscaling.refresh import advance, surge
from imdsctl.local.autoscaling.source import (
    GROUP_TAG,
    REQUESTER_ID,
    in_subnet,
    next_subnet,
    recipe,
    service_call,
    wants_spot,
)
from imdsctl.local.autoscaling.state import (
    FAILED,
    IN_SERVICE,
    PENDING,
    TERMINATING,
    Activity,
    Group,
    Member,
    ScalingState,
)
from imdsctl.local.call import AwsError, Call
from imdsctl.local.ec2.launch import carry_out, prepare
from imdsctl.local.ec2.lifecycle import terminate
from imdsctl.local.ec2.resources import RUNNING, SHUTTING_DOWN, STOPPED, STOPPING, TERMINATED, Reservation
from imdsctl.local.ec2.state import SCALE
from imdsctl.local.world import World

EC2_HEALTH_CHECK = "an EC2 health check indicating it has been terminated or stopped"
AS_SERVICE = {"user-agent": "autoscaling.amazonaws.com"}
"""The headers of a call that Auto Scaling makes by itself, as CloudTrail shows them."""
RETRY_FIRST = timedelta(seconds=30)
RETRY_LAST = timedelta(hours=1)
"""How long after a failed launch the next one is tried: twice as long each time, up to this."""


def reconcile(world: World, scaling: ScalingState, name: str, when: datetime) -> None:
    """Bring one group closer to what it should be, as of `when`, and schedule the next look where one is needed."""
    group = scaling.groups.get(name)
    if group is None:
        return
    now = Turn(world, scaling, group, when)
    now.look_at_members()
    if group.deleting:
        for member in list(group.members.values()):
            now.take_out(member, f"At {now.stamp} a user request force deleted AutoScaling group")
        if not group.members:
            scaling.ended.extend((group.name, group.arn, each) for each in group.activities)
            del scaling.groups[name]
        return
    advance(now)
    now.launch_missing()
    now.terminate_surplus()


class Turn:
    """One look at a group at one time."""

    def __init__(self, world: World, scaling: ScalingState, group: Group, when: datetime) -> None:
        self.world, self.scaling, self.group, self.when = world, scaling, group, when
        self.ec2 = scaling.ec2
        self.stamp = f"{when:%Y-%m-%dT%H:%M:%SZ}"

    def again(self, when: datetime | None = None) -> None:
        """Look at the group again: when what was just started is done, or at `when`."""
        due = when or self.when + timedelta(seconds=self.world.settle_seconds)
        self.ec2.schedule(due, self.group.name, SCALE)

    def activity(self, description: str, cause: str) -> Activity:
        """A new activity of the group."""
        call = service_call(self.world, self.ec2, self.group, self.when, "", {})
        made = Activity(call.ids.uuid(), description, cause, self.when)
        self.group.activities.append(made)
        return made

    # -- what became of the members ----------------------------------------------------------------------------------

    def look_at_members(self) -> None:
        """Members that run are in service, those that are gone leave, and those that stopped are unhealthy."""
        for member in list(self.group.members.values()):
            instance = self.ec2.instances.get(member.instance_id)
            state = TERMINATED if instance is None else instance.state
            if state == TERMINATED:
                self._gone(member)
            elif member.lifecycle == PENDING and state == RUNNING:
                member.lifecycle = IN_SERVICE
                if member.started is not None:
                    member.started.end(self.when)
                    member.started = None
            elif member.leaving is not None:
                continue
            elif state == SHUTTING_DOWN:
                # Somebody terminated it: there is nothing left to keep, whatever is suspended.
                member.healthy, member.lifecycle = False, TERMINATING
                member.leaving = self.activity(
                    f"Terminating EC2 instance: {member.instance_id}", self._taken_out(EC2_HEALTH_CHECK)
                )
                self.again()
            elif state in (STOPPING, STOPPED) and member.lifecycle == IN_SERVICE:
                if "HealthCheck" not in self.group.suspended:
                    member.healthy = False
                    self._replace(member, EC2_HEALTH_CHECK)
            elif not member.healthy and member.lifecycle == IN_SERVICE:
                self._replace(member, "a user health-check")

    def _gone(self, member: Member) -> None:
        activity = member.leaving or self.activity(
            f"Terminating EC2 instance: {member.instance_id}", self._taken_out(EC2_HEALTH_CHECK)
        )
        activity.end(self.when)
        if member.started is not None:
            member.started.end(self.when)
        del self.group.members[member.instance_id]
        self.ec2.scaled.pop(member.instance_id, None)

    def _taken_out(self, response_to: str) -> str:
        return f"At {self.stamp} an instance was taken out of service in response to {response_to}."

    def _replace(self, member: Member, response_to: str) -> None:
        if "ReplaceUnhealthy" not in self.group.suspended and "Terminate" not in self.group.suspended:
            self.take_out(member, self._taken_out(response_to))

    def take_out(self, member: Member, cause: str) -> Activity:
        """Terminate a member; it leaves the group when it has terminated."""
        if member.leaving is not None:
            return member.leaving
        member.lifecycle = TERMINATING
        member.leaving = self.activity(f"Terminating EC2 instance: {member.instance_id}", cause)
        instance = self.ec2.instances[member.instance_id]
        member.leaving.details = _details(instance.subnet.id, member.zone.name)
        if instance.state not in (SHUTTING_DOWN, TERMINATED):
            params = {"InstanceIds": [instance.id]}
            call = service_call(self.world, self.ec2, self.group, self.when, "TerminateInstances", params)
            self.world.trail.record(call, {"TerminatingInstances": terminate(call, self.ec2, [instance])}, AS_SERVICE)
        self.again()
        return member.leaving

    # -- capacity ----------------------------------------------------------------------------------------------------

    def launch_missing(self) -> None:
        """Launch until the desired capacity is there; the first refusal ends the attempt until its time comes again."""
        group = self.group
        before = group.capacity()
        target = group.desired + surge(group)
        if before >= target or "Launch" in group.suspended:
            return
        if group.retry_at is not None and self.when < group.retry_at:
            return
        prefix = group.because + "  " if group.because else ""
        cause = (
            f"{prefix}At {self.stamp} an instance was started in response to a difference between desired and actual "
            f"capacity, increasing the capacity from {before} to {target}."
        )
        if group.refresh is not None:
            cause = f"At {self.stamp} an instance was launched in response to an instance refresh."
        crowd = Counter(each.zone.name for each in group.active())
        capacity, on_demand = before, sum(each.units for each in group.active() if not each.spot)
        while capacity < target:
            made = self._launch(cause, crowd, on_demand)
            if made is None:
                group.failures += 1
                delay = min(RETRY_FIRST * 2 ** min(group.failures - 1, 10), RETRY_LAST)
                group.retry_at = self.when + delay
                self.again(group.retry_at)
                return
            capacity += made.units
            on_demand += 0 if made.spot else made.units
            crowd[made.zone.name] += 1
        group.because, group.failures, group.retry_at = "", 0, None
        self.again()

    def _launch(self, cause: str, crowd: Mapping[str, int], on_demand: int) -> Member | None:
        """One launch; None when it was refused, which is a failed activity then."""
        group = self.group
        source = group.source
        if group.refresh is not None and group.refresh.wanted is not None:
            source = group.refresh.wanted
        tags = {key: tag.value for key, tag in group.tags.items() if tag.propagate}
        try:
            spot = wants_spot(group, source, on_demand)
            made = recipe(self.scaling, source, spot=spot)
            subnet = next_subnet(group, self.ec2, crowd)
            params = in_subnet(made.params, subnet)
            call = service_call(self.world, self.ec2, group, self.when, "RunInstances", params)
            reservation = self._run_instances(call, {**tags, GROUP_TAG: group.name})
        except AwsError as refusal:
            message = f"{refusal.message} Launching EC2 instance failed."
            failed = self.activity(f"Launching a new EC2 instance.  Status Reason: {message}", cause)
            failed.message = message
            failed.end(self.when, FAILED)
            return None
        reservation.requester_id = REQUESTER_ID
        [instance] = reservation.instances
        started = self.activity(f"Launching a new EC2 instance: {instance.id}", cause)
        started.details = _details(subnet.id, subnet.zone.name)
        member = group.members[instance.id] = Member(
            instance.id,
            instance.instance_type,
            instance.image_id,
            subnet.zone,
            self.when,
            configuration=made.configuration,
            template=made.template,
            protected=group.protect_new,
            weight=made.weight,
            spot=instance.lifecycle == "spot",
            started=started,
        )
        self.ec2.scaled[instance.id] = group.name
        return member

    def _run_instances(self, call: Call, tags: Mapping[str, str]) -> Reservation:
        """Launch as the group's service-linked role; CloudTrail sees it like any other call."""
        try:
            reservation = carry_out(call, prepare(call, call.params, system_tags=tags))
        except AwsError as refusal:
            self.world.trail.record(call, refusal, AS_SERVICE)
            raise
        made = {
            "ReservationId": reservation.id,
            "Instances": [{"InstanceId": each.id} for each in reservation.instances],
        }
        self.world.trail.record(call, made, AS_SERVICE)
        return reservation

    def terminate_surplus(self) -> None:
        """Terminate what is above the desired capacity; members protected from scale-in stay."""
        group = self.group
        before = group.capacity()
        if "Terminate" in group.suspended or (group.refresh is not None and group.refresh.launches_first):
            return
        for victim in list(self._victims(before - group.desired)):
            prefix = group.because + "  " if group.because else ""
            self.take_out(
                victim,
                f"{prefix}At {self.stamp} an instance was taken out of service in response to a difference between "
                f"desired and actual capacity, shrinking the capacity from {before} to {group.desired}.  At "
                f"{self.stamp} instance {victim.instance_id} was selected for termination.",
            )
        if before >= group.desired:
            group.because = ""  # what it asked for is there, or on its way out

    def _victims(self, surplus: int) -> Iterator[Member]:
        """Whom the group's termination policies choose, down to no surplus: the fullest zone first, then by policy."""
        crowd: Counter[str] = Counter()
        queues: dict[str, list[Member]] = {}
        for each in sorted(self.group.active(), key=self._order, reverse=True):
            crowd[each.zone.name] += 1
            if not each.protected:
                queues.setdefault(each.zone.name, []).append(each)
        while surplus > 0:
            for queue in queues.values():
                while queue and queue[-1].units > surplus:
                    queue.pop()
            zones = [zone for zone, queue in queues.items() if queue]
            if not zones:
                return
            zone = min(zones, key=lambda each: (-crowd[each], self._order(queues[each][-1])))
            victim = queues[zone].pop()
            crowd[zone] -= 1
            surplus -= victim.units
            yield victim

    def _order(self, member: Member) -> tuple[tuple[float, ...], str]:
        """The place of a member in its zone's queue of those that go, by the group's termination policies."""
        age = member.launched.timestamp()
        keys: list[float] = []
        for policy in self.group.settings["TerminationPolicies"]:
            if policy == "NewestInstance":
                keys.append(-age)
            elif policy == "OldestInstance":
                keys.append(age)
            elif policy == "ClosestToNextInstanceHour":
                keys.append(-((self.when - member.launched).total_seconds() % 3600))
            else:
                # Instances of launch configurations go before those of templates, older versions before newer.
                keys.append(int(member.template["Version"]) if member.template else -1)
                keys.append(self._configuration_age(member.configuration) if member.configuration else 0.0)
        return (*keys, age), member.instance_id

    def _configuration_age(self, name: str) -> float:
        found = self.scaling.configurations.get(name)
        return found.created.timestamp() if found is not None else 0.0


def _details(subnet_id: str, zone: str) -> str:
    return json.dumps({"Subnet ID": subnet_id, "Availability Zone": zone}, separators=(",", ":"))
