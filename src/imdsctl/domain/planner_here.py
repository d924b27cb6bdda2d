"""One account in one Region, while its part of a plan is made: what is wanted, who is exempt, which wave is next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from imdsctl.domain.containers import container_evidence, evidence_anywhere
from imdsctl.domain.evidence import Evidence, Use
from imdsctl.domain.intent import Intent
from imdsctl.domain.intent_match import Home, Match
from imdsctl.domain.intent_parts import Exemption
from imdsctl.domain.metric_asks import allows_v1
from imdsctl.domain.observations import InstanceSeen, RegionSeen
from imdsctl.domain.options import AccountDefaults
from imdsctl.domain.plan import NOT_GATHERED, Change, Exempt
from imdsctl.domain.planner_containers import containers_around
from imdsctl.domain.planner_launches import Launcher, Launches, State
from imdsctl.domain.planner_launches import allows_v1 as launches_v1
from imdsctl.domain.roll_up import GROUP_TAG
from imdsctl.domain.waves import EVERYTHING, UNASSIGNED, duration_text

Tags = tuple[tuple[str, str], ...]
NAMES_MAX = 5
"""So many names stand in a clause before the rest is only counted."""
NO_UNIT = (
    "the intent matches organizational units, and in which one this account is the scan could not see: scan with "
    "credentials that see the organization's tree, or match accounts by their ids"
)
NO_WAVE = "no wave of the intent matches it: name it in one, or end with a wave that has no `match`"


@dataclass
class Here:
    """What the parts of the planner share for one target, and what they have found so far."""

    region: RegionSeen
    home: Home
    whole: Intent
    made_at: datetime
    evidence: Evidence | None
    services_left_out: bool = False
    """True when the scan did not ask other services."""
    changes: list[Change] = field(default_factory=list)
    exempt: list[Exempt] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.intent = self.whole.at(self.home)
        """What is wanted of the account and Region as a whole."""
        whole = self.whole
        matches = [scope.match for scope in whole.scopes] + [rule.match for rule in whole.waves]
        matches += [each.match for each in whole.exemptions]
        self._unit_unknown = not self.home.ou_path and any(match.ou for match in matches)
        at_home = [each for each in self.whole.exemptions if each.match.holds_at(self.home)]
        self.exemptions = [each for each in at_home if each.holds(self.made_at)]
        self.rules = [(n, rule) for n, rule in enumerate(self.whole.waves) if rule.match.holds_at(self.home)]
        self.scopes = [scope for scope in self.whole.scopes if scope.match.holds_at(self.home)]
        self._wanted: dict[tuple[bool, ...], Intent] = {}
        self.picky = any(
            match.narrow
            for match in (
                *(scope.match for scope in self.scopes),
                *(rule.match for _, rule in self.rules),
                *(each.match for each in self.exemptions),
            )
        )
        """True when anything here depends on single resources: then every one of them has to be matched."""
        self.wave_here = self._wave((), (), whole=True)
        self.launches = Launches(self.region)
        self.groups = {each: group for group in self.region.groups for each in group.instance_ids}
        self.defaults = self.region.defaults or AccountDefaults()
        """The Region default as it is; one that was not read says nothing."""

    @cached_property
    def launched(self) -> dict[str, list[InstanceSeen]]:
        """Instances by the launch template that they came from."""
        found: dict[str, list[InstanceSeen]] = {}
        for instance in self.region.instances:
            if instance.launch_template_id is not None:
                found.setdefault(instance.launch_template_id, []).append(instance)
        return found

    @cached_property
    def members(self) -> dict[str, list[InstanceSeen]]:
        """The instances of each group, by its name."""
        found: dict[str, list[InstanceSeen]] = {}
        for instance in sorted(self.region.instances, key=lambda each: each.instance_id) if self.groups else ():
            if group := self.groups.get(instance.instance_id):
                found.setdefault(group.name, []).append(instance)
        return found

    @cached_property
    def tagged_as_containers(self) -> bool:
        """Whether the tags of any instance say that containers run on it."""
        return evidence_anywhere(each.tags for each in self.region.instances)

    @cached_property
    def containers(self) -> dict[str, str]:
        """What runs or launches containers by what is around it, with the reason."""
        return containers_around(self.launches, self.members, instances_say_so=self.tagged_as_containers)

    # What is wanted, and who is left alone

    def wanted(self, names: Iterable[str], tags: Tags = ()) -> Intent:
        """What is wanted of one resource."""
        if not self.picky:
            return self.intent
        key = tuple(scope.match.picks(names, tags) for scope in self.scopes)
        if key not in self._wanted:
            self._wanted[key] = self.whole.with_scopes(
                scope for scope, said in zip(self.scopes, key, strict=True) if said
            )
        return self._wanted[key]

    def exemption(self, names: Iterable[str], tags: Tags = ()) -> Exemption | None:
        """The entry of the register that covers a resource, if there is one that holds."""
        return next((each for each in self.exemptions if each.match.picks(names, tags)), None)

    def exemption_of(self, launcher: Launcher) -> Exemption | None:
        """The entry that covers what something launches: by its own names and tags, by the name of what it launches
        from, by the names and tags of the service that a group belongs to, or by the tags of a group's instances, which
        the next one will have too."""
        if not self.exemptions:
            return None
        own = self.exemption((*launcher.names, *self.launches.names_of(launcher.source)), launcher.tags)
        if own or not launcher.group:
            return own
        services = (each for each in self.region.services if launcher.group in each.group_names)
        found = [self.exemption((each.resource, each.name), each.tags) for each in services]
        found += [self.exemption((launcher.group,), each.tags) for each in self.members.get(launcher.group, ())]
        return next(filter(None, found), None)

    @cached_property
    def _exempt_launchers(self) -> tuple[Launcher, ...]:
        if not self.exemptions:
            return ()
        return tuple(each for each in self.launches.all() if self.exemption_of(each))

    def exempt_and_losing(self, before: State, after: State) -> list[str]:
        """Exempt launch sources that allow IMDSv1 before, and no longer after."""
        found = []
        for launcher in self._exempt_launchers:
            now, then = (self.launches.resolution(launcher.source, state) for state in (before, after))
            if now and then and launches_v1(now) and not launches_v1(then):
                found.append(launcher.title)
        return found

    @property
    def exemption_here(self) -> Exemption | None:
        """The entry that covers the account and Region as a whole."""
        return next((each for each in self.exemptions if not each.match.narrow), None)

    def wave(self, names: Iterable[str], tags: Tags = ()) -> int:
        """The number of the wave that a resource belongs to; one more than the last when no wave matches it."""
        return self._wave(names, tags) if self.picky else self.wave_here

    def _wave(self, names: Iterable[str], tags: Tags, *, whole: bool = False) -> int:
        def matches(match: Match) -> bool:
            return not match.narrow if whole else match.picks(names, tags)

        return next((n for n, rule in self.rules if matches(rule.match)), len(self.whole.waves))

    def wave_name(self, wave: int) -> str:
        """The name of a wave by its number."""
        if not self.whole.waves:
            return EVERYTHING.name
        return self.whole.waves[wave].wave.name if wave < len(self.whole.waves) else UNASSIGNED

    def unassigned(self, wave: int) -> str:
        """Why a change in that wave is held; empty when the wave is one.

        Everything is held where the intent asks for a unit that nobody knows: an exception may cover it, or a later
        wave.
        """
        if self._unit_unknown:
            return NO_UNIT
        return NO_WAVE if self.whole.waves and wave >= len(self.whole.waves) else ""

    def gate(self, wave: int) -> str:
        """What holds the wave back, for a person."""
        return self.whole.waves[wave].wave.gates.text if wave < len(self.whole.waves) else ""

    def wave_texts(self, wave: int) -> tuple[str, str, str]:
        """A wave's name, its gate for a person, and why its changes are held (nothing for a wave that there is)."""
        return self.wave_name(wave), self.gate(wave), self.unassigned(wave)

    def admit(self, change: Change, exemption: Exemption | None) -> bool:
        """Take a change into the plan, or note that its resource is exempt. True when it will be made."""
        if exemption is not None:
            self.exempt.append(
                Exempt(change.id, change.reason, exemption.owner, exemption.reason, exemption.expires, exemption.place)
            )
            return False
        self.changes.append(change)
        return not change.held

    # What is known of the resources

    def names_of(self, instance: InstanceSeen) -> tuple[str, ...]:
        """All that an instance answers to in a match: itself, its group, its launch template or configuration."""
        group = self.groups.get(instance.instance_id)
        tagged = next((value for key, value in instance.tags if key == GROUP_TAG), None)
        template = self.launches.template_name(instance.launch_template_id)
        configurations = [each.configuration for each in group.sources] if group else []
        names = (instance.instance_id, group.name if group else tagged, instance.launch_template_id, template)
        return tuple(name for name in (*names, *configurations) if name)

    def container(self, resource: str, tags: Tags, *names: str) -> str | None:
        """Why a resource is taken for a container host, or launches some; None when nothing says so."""
        return self.containers.get(resource) or container_evidence(tags, *names)

    def use_of(self, instances: Iterable[InstanceSeen]) -> str:
        """What is known of IMDSv1 use by some instances together, in a clause.

        Those that do not have it do not count, unless somebody asked about them.
        """
        if self.evidence is None:
            return NOT_GATHERED
        target = self.region.target
        known = ((each, self.evidence.of(target, each.instance_id).use) for each in instances)
        uses = Counter(use for each, use in known if use is not Use.UNKNOWN or allows_v1(each))
        total = sum(uses.values())
        if not total:
            return "nothing runs that could have used IMDSv1"
        parts = [f"{uses[use]} {use}" for use in (Use.USED, Use.UNKNOWN, Use.UNUSED) if uses[use]]
        noun = "instance" if total == 1 else "instances"
        return f"IMDSv1 in {duration_text(self.evidence.look_back)}: {', '.join(parts)} of {total} {noun}"

    def use_by(self, instance: InstanceSeen) -> str:
        """What is known of IMDSv1 use by one instance, in a clause."""
        if self.evidence is None:
            return NOT_GATHERED
        found = self.evidence.of(self.region.target, instance.instance_id)
        look_back = duration_text(self.evidence.look_back)
        match found.use:
            case Use.USED:
                calls = f"{found.no_token:,.0f} calls without a token" if found.no_token else "calls without a token"
                last = f", the last before {found.last_used:%Y-%m-%d %H:%M} UTC" if found.last_used else ""
                return f"used: {calls} in {look_back}{last}"
            case Use.UNUSED:
                since = f", though only since {found.since:%Y-%m-%d}" if found.since else ""
                return f"unused: no call without a token in {look_back}{since}"
            case Use.UNKNOWN:
                return f"unknown: {found.reason or 'no datapoints'}"


def some(names: list[str]) -> str:
    """Names for a clause, the last of many only counted."""
    if len(names) <= NAMES_MAX:
        return ", ".join(names)
    return f"{', '.join(names[: NAMES_MAX - 1])} and {len(names) - NAMES_MAX + 1} more"
