"""What launches without being a template: groups, fleets and launch configurations.

None of them is changed by this tool, except that a group's instances are replaced when the intent asks for it. What
launches IMDSv1 here and is not set right by a template, the Region default or an image is deferred with the way out.
"""

from __future__ import annotations

from collections.abc import Iterator
from shlex import quote
from typing import Any

from imdsctl.domain.observations import ConfigurationSeen, FleetKind, FleetSeen, GroupSeen, LaunchSource, ServiceKind
from imdsctl.domain.options import HttpTokens
from imdsctl.domain.plan import Change, Stage, Surface, change_id
from imdsctl.domain.planner_here import Here
from imdsctl.domain.planner_instances import Instances
from imdsctl.domain.planner_launches import DEFAULT, LATEST, State, allows_v1, group_title, unique

_REQUIRED = {"HttpTokens": str(HttpTokens.REQUIRED)}
_MODIFY = {
    FleetKind.EC2_FLEET: "modify-fleet --fleet-id",
    FleetKind.SPOT_FLEET: "modify-spot-fleet-request --spot-fleet-request-id",
}

_AS_IT_IS = (
    "it launches $Default or $Latest of a launch template that this plan leaves as it is: the template's own entry, "
    "deferred or exempt, says why"
)


def _follows(source: LaunchSource) -> bool:
    """Whether a source launches whatever `$Default` or `$Latest` of its template is: then the template decides."""
    named = source.template_id is not None or source.template_name is not None
    return named and (source.version is None or source.version in (DEFAULT, LATEST))


class Groups:
    """Judges what launches in a Region under `state`: the Region as this plan leaves it."""

    def __init__(self, here: Here, state: State, instances: Instances) -> None:
        self.here, self.state, self.instances = here, state, instances
        self._groups = sorted(here.region.groups, key=lambda each: each.name)
        self._aws = f"aws --region {here.region.target.region}"
        """The beginning of a command: a group of the same name may be in any other Region."""

    def plan(self) -> None:
        """Plan launch configurations, groups and fleets. Where launches are refused already, nothing is left to do."""
        if self.here.defaults.enforced:
            return
        for configuration in sorted(self.here.region.configurations, key=lambda each: each.name):
            self._configuration(configuration)
        for group in self._groups:
            wrong = [each for each in unique(group.sources) if each.configuration is None and self._wrong(each)]
            if wrong:
                self._made(
                    Surface.AUTO_SCALING_GROUP,
                    group.name,
                    (group.name,),
                    group.tags,
                    reason=f"it launches {self._words(wrong)}, which gets IMDSv1",
                    held=self._group_remedy(group, wrong),
                    radius=(f"{group.desired} desired, {len(group.instance_ids)} there now",),
                    evidence=self._use(group),
                )
        for fleet in sorted(self.here.region.fleets, key=lambda each: each.fleet_id):
            wrong = [each for each in unique(fleet.sources) if self._wrong(each)]
            if wrong:
                self._made(
                    Surface.FLEET,
                    fleet.fleet_id,
                    (fleet.fleet_id,),
                    fleet.tags,
                    reason=f"it launches {self._words(wrong)}, which gets IMDSv1",
                    held=self._fleet_remedy(fleet, wrong),
                    radius=(f"{fleet.kind}, {fleet.state}",),
                )

    def refreshes(self) -> tuple[Change, ...]:
        """The instance refreshes that the intent asks for: groups that launch IMDSv2 only once the plan is through, and
        whose instances do not all have it yet. They replace the changes of those instances."""
        return tuple(change for group in self._groups for change in self._refresh(group))

    def _refresh(self, group: GroupSeen) -> Iterator[Change]:
        here = self.here
        if not here.wanted((group.name,), group.tags).refresh_groups or not group.sources:
            return
        if here.exemption((group.name,), group.tags) or self._managed(group):
            return
        if any(self._wrong(source) for source in group.sources):
            return
        members = [each for each in here.region.instances if here.groups.get(each.instance_id) is group]
        old = [each for each in members if (verdict := self.instances.verdict(each)) and verdict.takes_v1]
        if not old or any(self.instances.exempt(each) for each in members):
            return
        wave = here.wave((group.name,), group.tags)
        yield Change(
            id=change_id(here.region.target, Surface.AUTO_SCALING_GROUP, group.name, "refresh"),
            stage=Stage.REFRESHES,
            surface=Surface.AUTO_SCALING_GROUP,
            target=here.region.target,
            resource=group.name,
            before={"Instances": sorted(each.instance_id for each in old)},
            after={"Instances": []},
            reason=f"{len(old)} of its instances answer IMDSv1, and the intent asks to replace them",
            risk="every instance of the group is replaced; what they hold on their own disks is lost",
            held=here.unassigned(wave),  # whether a refresh is under way, apply asks when it comes to it
            name="",
            wave=here.wave_name(wave),
            evidence=here.use_of(members),
            blast_radius=(f"replaces the group's {len(members)} instances ({group.desired} desired)",),
            gate=here.gate(wave),
        )

    def _managed(self, group: GroupSeen) -> bool:
        """True when another service owns the group: its instances are changed in place, not replaced."""
        return any(
            group.name in each.group_names
            for each in self.here.region.services
            if each.kind in (ServiceKind.EKS_NODEGROUP, ServiceKind.BEANSTALK_ENVIRONMENT)
        )

    def _configuration(self, configuration: ConfigurationSeen) -> None:
        source = LaunchSource(configuration=configuration.name)
        if not self._wrong(source):
            return
        groups = [each for each in self._groups if source.configuration in {s.configuration for s in each.sources}]
        named = " ".join(quote(group.name) for group in groups)
        if configuration.in_use or groups:
            held = (
                "a launch configuration cannot be changed: make a launch template that says what it says with "
                f"`--metadata-options HttpTokens=required`, then `{self._aws} autoscaling update-auto-scaling-group "
                f"--auto-scaling-group-name {named or 'NAME'} "
                "--launch-template 'LaunchTemplateId=lt-...,Version=$Default'`"
            )
        else:
            held = (
                f"nothing uses it, and it cannot be changed; next: `{self._aws} autoscaling "
                f"delete-launch-configuration --launch-configuration-name {quote(configuration.name)}`"
            )
        self._made(
            Surface.LAUNCH_CONFIGURATION,
            configuration.name,
            (configuration.name,),
            (),
            before=configuration.options.to_aws(),
            reason="it launches IMDSv1",
            held=held,
            radius=tuple(f"{group_title(each)} ({each.desired} desired)" for each in groups),
        )

    def _wrong(self, source: LaunchSource) -> bool:
        resolution = self.here.launches.resolution(source, self.state)
        return resolution is not None and allows_v1(resolution)

    def _words(self, sources: list[LaunchSource]) -> str:
        return ", ".join(self.here.launches.from_what(each) for each in sources)

    def _successor(self, source: LaunchSource) -> str:
        template = self.here.launches.template_id(source) or source.template_name
        return quote(f"LaunchTemplateId={template},Version=$Default")

    def _group_remedy(self, group: GroupSeen, wrong: list[LaunchSource]) -> str:
        numbered = [each for each in wrong if not _follows(each)]
        if not numbered:
            return _AS_IT_IS
        return (
            "a launch template's version cannot be changed, and this group names it by number; next: "
            f"`{self._aws} autoscaling update-auto-scaling-group --auto-scaling-group-name {quote(group.name)} "
            f"--launch-template {self._successor(numbered[0])}`, and the same in its overrides"
        )

    def _fleet_remedy(self, fleet: FleetSeen, wrong: list[LaunchSource]) -> str:
        source = next((each for each in wrong if not _follows(each)), None)
        if source is None:
            return _AS_IT_IS
        if self.here.launches.template_id(source):
            if command := _MODIFY.get(fleet.kind):
                return (
                    f"it names a version that cannot be changed; next: `{self._aws} ec2 {command} "
                    f"{quote(fleet.fleet_id)} --launch-template-configs ...` with {self._successor(source)}"
                )
            return f"it cannot be changed: cancel it and request it again with {self._successor(source)}"
        return (
            "a Spot launch specification cannot say MetadataOptions: make the Region default `required`, mark its "
            "image v2.0, or request it again with a launch template"
        )

    def _use(self, group: GroupSeen) -> str:
        here = self.here
        return here.use_of(each for each in here.region.instances if here.groups.get(each.instance_id) is group)

    def _made(
        self,
        surface: Surface,
        resource: str,
        names: tuple[str, ...],
        tags: tuple[tuple[str, str], ...],
        *,
        reason: str,
        held: str,
        radius: tuple[str, ...],
        before: dict[str, Any] | None = None,
        evidence: str = "",
    ) -> None:
        here = self.here
        wave = here.wave(names, tags)
        change = Change(
            id=change_id(here.region.target, surface, resource),
            stage=Stage.LAUNCH_TEMPLATES,
            surface=surface,
            target=here.region.target,
            resource=resource,
            before=before or {},
            after=_REQUIRED,
            reason=reason,
            risk="",
            held=held,
            wave=here.wave_name(wave),
            evidence=evidence,
            blast_radius=radius,
            gate=here.gate(wave),
        )
        here.admit(change, here.exemption(names, tags))
