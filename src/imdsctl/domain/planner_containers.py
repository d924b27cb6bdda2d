"""Where containers run in a Region, or will: what launches them is planned with the hops that they need."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from imdsctl.domain.containers import container_evidence
from imdsctl.domain.observations import InstanceSeen, LaunchSource, ServiceKind
from imdsctl.domain.planner_launches import Launches, fleet_title, group_title

_CONTAINER_SERVICES = {
    ServiceKind.EKS_NODEGROUP: "an EKS node group",
    ServiceKind.ECS_CONTAINER_INSTANCE: "a container instance of ECS",
}


def containers_around(
    launches: Launches, members: Mapping[str, Sequence[InstanceSeen]], *, instances_say_so: bool
) -> dict[str, str]:
    """Instances, groups and templates on which containers run, or will, for another reason than their own tags and
    names: a service's, a group's, a fleet's or an instance's. With that reason.

    `members` are the instances of each group, in order; `instances_say_so` whether the tags of any instance do.
    """
    found: dict[str, str] = {}
    for resource, reason in _Containers(launches, members, instances_say_so).all():
        found.setdefault(resource, reason)
    return found


class _Containers:
    """In order: the first that says so gives the reason."""

    def __init__(
        self, launches: Launches, members: Mapping[str, Sequence[InstanceSeen]], instances_say_so: bool
    ) -> None:
        self._launches, self._members, self._instances_say_so = launches, members, instances_say_so
        self._region = launches.region
        self._of_services = dict(self._services())

    def all(self) -> Iterator[tuple[str, str]]:
        """Resources with the reason; some more than once."""
        yield from self._of_services.items()
        yield from self._groups()
        for fleet in sorted(self._region.fleets, key=lambda each: each.fleet_id):
            if found := container_evidence(fleet.tags):
                yield from self._templates(fleet.sources, f"{found} of {fleet_title(fleet)}")
        if self._instances_say_so or self._of_services:
            for instance in sorted(self._region.instances, key=lambda each: each.instance_id):
                if instance.launch_template_id and (reason := self._of(instance)):
                    yield instance.launch_template_id, reason

    def _services(self) -> Iterator[tuple[str, str]]:
        for service in sorted(self._region.services, key=lambda each: (each.kind, each.resource)):
            if what := _CONTAINER_SERVICES.get(service.kind):
                reason = f"{what} ({service.name or service.resource})"
                members = (each for name in service.group_names for each in self._members.get(name, ()))
                yield from ((each.instance_id, reason) for each in members)
                yield from ((each, reason) for each in (*service.instance_ids, *service.group_names))
                yield from self._templates(service.sources, reason)

    def _groups(self) -> Iterator[tuple[str, str]]:
        for group in sorted(self._region.groups, key=lambda each: each.name):
            members = self._members.get(group.name, [])
            reason = self._of_services.get(group.name)
            if reason is None and (found := container_evidence(group.tags, group.name)):
                reason = f"{found} of {group_title(group)}"
            if reason is None and (self._instances_say_so or self._of_services):
                reason = next(filter(None, map(self._of, members)), None)
            if reason is not None:
                yield group.name, reason
                yield from ((each.instance_id, reason) for each in members)
                yield from self._templates(group.sources, reason)

    def _of(self, instance: InstanceSeen) -> str | None:
        """Why containers run on an instance, by its service or its tags."""
        found = self._of_services.get(instance.instance_id)
        if found is None and (tag := container_evidence(instance.tags)):
            return f"{tag} of {instance.instance_id}"
        return found

    def _templates(self, sources: Iterable[LaunchSource], reason: str) -> Iterator[tuple[str, str]]:
        found = (self._launches.template_id(each) for each in sources)
        return ((each, reason) for each in found if each is not None)
