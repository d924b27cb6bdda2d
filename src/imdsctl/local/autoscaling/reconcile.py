"""What a group does by itself: launch and terminate until it has what it wants, and replace what failed.

`reconcile` is called by `RegionState.settle` with the time it was due, and depends on nothing but the state and that
time. Source: Amazon EC2 Auto Scaling User Guide, "Health checks", "Termination policies", "Instance refresh", and the
sentences of the activities it shows.
"""

from __future__ import annotations

import json
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
from imdsctl.local.call import AwsError
from imdsctl.local.ec2.launch import carry_out, prepare
from imdsctl.local.ec2.lifecycle import terminate
from imdsctl.local.ec2.state import RUNNING, SCALE, SHUTTING_DOWN, STOPPED, STOPPING, TERMINATED
from imdsctl.local.world import World

EC2_HEALTH_CHECK = "an EC2 health check indicating it has been terminated or stopped"
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
            terminate(call, self.ec2, [instance])
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
        while group.capacity() < target:
            if not self._launch(cause):
                group.failures += 1
                delay = min(RETRY_FIRST * 2 ** min(group.failures - 1, 10), RETRY_LAST)
                group.retry_at = self.when + delay
                self.again(group.retry_at)
                return
        group.because, group.failures, group.retry_at = "", 0, None
        self.again()

    def _launch(self, cause: str) -> bool:
        group = self.group
        source = group.source
        if group.refresh is not None and group.refresh.wanted is not None:
            source = group.refresh.wanted
        tags = {key: tag.value for key, tag in group.tags.items() if tag.propagate}
        try:
            spot = wants_spot(group, source)
            made = recipe(self.scaling, source, spot=spot)
            subnet = next_subnet(group, self.ec2)
            params = in_subnet(made.params, subnet)
            call = service_call(self.world, self.ec2, group, self.when, "RunInstances", params)
            prepared = prepare(call, call.params, system_tags={**tags, GROUP_TAG: group.name})
            reservation = carry_out(call, prepared)
        except AwsError as refusal:
            message = f"{refusal.message} Launching EC2 instance failed."
            failed = self.activity(f"Launching a new EC2 instance.  Status Reason: {message}", cause)
            failed.message = message
            failed.end(self.when, FAILED)
            return False
        reservation.requester_id = REQUESTER_ID
        [instance] = reservation.instances
        started = self.activity(f"Launching a new EC2 instance: {instance.id}", cause)
        started.details = _details(subnet.id, subnet.zone.name)
        group.members[instance.id] = Member(
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
        return True

    def terminate_surplus(self) -> None:
        """Terminate what is above the desired capacity; members protected from scale-in stay."""
        group = self.group
        before = group.capacity()
        if "Terminate" in group.suspended or (group.refresh is not None and group.refresh.launches_first):
            return
        while group.capacity() > group.desired:
            above = group.capacity() - group.desired
            candidates = [each for each in group.active() if not each.protected and each.units <= above]
            if not candidates:
                return
            victim = self._victim(candidates)
            prefix = group.because + "  " if group.because else ""
            self.take_out(
                victim,
                f"{prefix}At {self.stamp} an instance was taken out of service in response to a difference between "
                f"desired and actual capacity, shrinking the capacity from {before} to {group.desired}.  At "
                f"{self.stamp} instance {victim.instance_id} was selected for termination.",
            )
        group.because = ""

    def _victim(self, candidates: list[Member]) -> Member:
        """Whom the group's termination policies choose: the zone with most instances first, then policy by policy."""
        crowd: dict[str, int] = {}
        for each in self.group.active():
            crowd[each.zone.name] = crowd.get(each.zone.name, 0) + 1
        policies = self.group.settings["TerminationPolicies"]

        def age(member: Member) -> float:
            return member.launched.timestamp()

        def order(member: Member) -> tuple[float, ...]:
            keys: list[float] = [-crowd[member.zone.name]]
            for policy in policies:
                if policy == "NewestInstance":
                    keys.append(-age(member))
                elif policy == "OldestInstance":
                    keys.append(age(member))
                elif policy in ("Default", "AllocationStrategy", "OldestLaunchConfiguration", "OldestLaunchTemplate"):
                    # Instances of launch configurations go before those of templates, older versions before newer.
                    keys.append(int(member.template["Version"]) if member.template else -1)
                    if member.configuration is not None:
                        keys.append(self._configuration_age(member.configuration))
                else:  # ClosestToNextInstanceHour
                    keys.append(-((self.when - member.launched).total_seconds() % 3600))
            return (*keys, age(member))

        return min(candidates, key=lambda each: (order(each), each.instance_id))

    def _configuration_age(self, name: str) -> float:
        found = self.scaling.configurations.get(name)
        return found.created.timestamp() if found is not None else 0.0


def _details(subnet_id: str, zone: str) -> str:
    return json.dumps({"Subnet ID": subnet_id, "Availability Zone": zone}, separators=(",", ":"))
