"""A scan judged and counted: per target, and as a whole, with everything that stayed unknown.

`Summing` takes one target after the other and keeps numbers only, so that a fleet of any size can be summed up while
it is read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from imdsctl.domain.exposure import Exposure, Verdict, instance_exposure, region_exposure
from imdsctl.domain.launches import (
    NAMED_IMAGES,
    configuration_exposure,
    fleet_exposure,
    group_exposure,
    service_exposure,
    why_unseen,
)
from imdsctl.domain.launches import image_exposure as image_exposure
from imdsctl.domain.launches import template_exposure as template_exposure
from imdsctl.domain.observations import Account, AccountUnseen, InstanceSeen, RegionSeen, Scan, Target, Unseen
from imdsctl.domain.options import AccountDefaults

T = TypeVar("T")

ACCOUNT_NOT_ACTIVE = "AccountNotActive"
REGION_NOT_ENABLED = "RegionNotEnabled"
NOT_INSPECTABLE = frozenset({ACCOUNT_NOT_ACTIVE, REGION_NOT_ENABLED})
"""`Unseen.code` of what nobody can look into: a suspended account, a Region that the account has not enabled.

AWS says of a disabled Region that its resources stay and stay billed, so these are reported and counted on their own,
neither as clean nor as unknown: no command of this tool, and nothing in the account, can change or launch there.
"""
NOTHING_SEEN = "No enabled Region was selected: nothing was seen, and nothing is proven."
NOT_REACHED = "NotReached"
"""`Unseen.code` of what a scan that was stopped had not read yet: `scan --resume` goes on with it."""


def region_default_exposure(region: RegionSeen) -> Exposure:
    """The verdict on the Region's default, `unknown` when it was not read."""
    if region.defaults is None:
        why = why_unseen(region, "defaults")
        return Exposure(Verdict.UNKNOWN, why, (why,))
    return region_exposure(region.defaults)


@dataclass(frozen=True, slots=True)
class Count:
    """How many of a kind have which verdict."""

    enforced: int = 0
    exposed: int = 0
    unknown: int = 0

    @classmethod
    def of(cls, verdicts: Iterable[Verdict]) -> Count:
        """Count verdicts."""
        enforced = exposed = unknown = 0
        for verdict in verdicts:
            if verdict is Verdict.ENFORCED:
                enforced += 1
            elif verdict is Verdict.EXPOSED:
                exposed += 1
            else:
                unknown += 1
        return cls(enforced, exposed, unknown) if enforced or exposed or unknown else NONE

    def __add__(self, other: Count) -> Count:
        return Count(self.enforced + other.enforced, self.exposed + other.exposed, self.unknown + other.unknown)

    @property
    def total(self) -> int:
        """All of them."""
        return self.enforced + self.exposed + self.unknown


NONE = Count()


@dataclass(frozen=True, slots=True)
class Counts:
    """Numbers by surface. A list that was not read counts as one unknown of its kind."""

    instances: Count = NONE
    templates: Count = NONE
    images: Count = NONE
    configurations: Count = NONE
    groups: Count = NONE
    fleets: Count = NONE
    services: Count = NONE

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.instances + other.instances,
            self.templates + other.templates,
            self.images + other.images,
            self.configurations + other.configurations,
            self.groups + other.groups,
            self.fleets + other.fleets,
            self.services + other.services,
        )

    @property
    def sources(self) -> Count:
        """Launch configurations, Auto Scaling groups, fleets and Spot requests together."""
        return self.configurations + self.groups + self.fleets

    @property
    def exposed(self) -> int:
        """All that allow IMDSv1."""
        surfaces = (self.instances, self.templates, self.images, self.sources, self.services)
        return sum(each.exposed for each in surfaces)

    @property
    def total(self) -> int:
        """Everything, whatever its verdict."""
        surfaces = (self.instances, self.templates, self.images, self.sources, self.services)
        return sum(each.total for each in surfaces)


@dataclass(frozen=True, slots=True)
class TargetSummary:
    """One target in numbers."""

    target: Target
    default: Exposure
    defaults: AccountDefaults | None
    counts: Counts
    instances_seen: int
    parts_unseen: int

    @property
    def instances(self) -> Count:
        """Its instances."""
        return self.counts.instances

    @property
    def templates(self) -> Count:
        """Its launch template versions."""
        return self.counts.templates

    @property
    def images(self) -> Count:
        """Its own images."""
        return self.counts.images


_PARTS = {
    "instances": ("instances",),
    "templates": ("templates", "template versions in use"),
    "images": ("images",),
    "configurations": ("launch configurations",),
    "groups": ("Auto Scaling groups",),
    "fleets": ("EC2 Fleets", "Spot Fleet requests", "Spot requests"),
}
"""The parts of a reading by the surface that they belong to; any other part is a service's."""
_OTHERS = frozenset({"defaults", "template tags", NAMED_IMAGES, *(part for parts in _PARTS.values() for part in parts)})


class _Latest:
    """The target that was judged last: whoever writes it down and whoever sums it up ask one after the other."""

    region: RegionSeen | None = None
    summary: TargetSummary | None = None


def target_summary(region: RegionSeen) -> TargetSummary:
    """Judge everything that was seen of a target, and count what was not."""
    if _Latest.region is region and _Latest.summary is not None:
        return _Latest.summary
    _Latest.region, _Latest.summary = region, _target_summary(region)
    return _Latest.summary


def _target_summary(region: RegionSeen) -> TargetSummary:
    missing = {each.what for each in region.unseen}

    def unread(surface: str) -> int:
        return sum(part in missing for part in _PARTS[surface]) if missing else 0

    def counted(items: Sequence[T], judge: Callable[[RegionSeen, T], Exposure], unknown: int) -> Count:
        if not items and not unknown:
            return NONE
        count = Count.of(judge(region, each).verdict for each in items)
        return count + Count(unknown=unknown) if unknown else count

    instances = _instances(region.instances)
    counts = Counts(
        instances + Count(unknown=unread("instances")) if missing else instances,
        counted(region.templates, template_exposure, min(unread("templates"), 1)),
        counted([each for each in region.images if each.owned], image_exposure, unread("images")),
        counted(region.configurations, configuration_exposure, unread("configurations")),
        counted(region.groups, group_exposure, unread("groups")),
        counted(region.fleets, fleet_exposure, unread("fleets")),
        counted(region.services, service_exposure, sum(map(is_of_service, missing))),
    )
    return TargetSummary(
        region.target,
        region_default_exposure(region),
        region.defaults,
        counts,
        len(region.instances),
        len(region.unseen),
    )


def is_of_service(what: str) -> bool:
    """Whether a part of a reading (`Unseen.what`) is another service's.

    What stands behind a single resource ("instance i-1", "template lt-1:2") is counted where the resource is.
    """
    return what not in _OTHERS and not what.startswith(("instance ", "template ", "launch configuration "))


def _instances(instances: Iterable[InstanceSeen]) -> Count:
    """Instances share their options: each set of them is judged once."""
    known: dict[int, Verdict] = {}
    verdicts = []
    for each in instances:
        verdict = known.get(id(each.options))
        if verdict is None:
            verdict = known[id(each.options)] = instance_exposure(each.options).verdict
        verdicts.append(verdict)
    return Count.of(verdicts)


@dataclass(frozen=True, slots=True)
class Unknown:
    """One thing that could not be judged: where, what, and why."""

    subject: str
    unseen: Unseen


@dataclass(frozen=True, slots=True)
class ScanSummary:
    """A scan in numbers, with everything that stayed unknown and everything that nobody can look into."""

    targets: tuple[TargetSummary, ...]
    defaults: Count
    counts: Counts
    unknowns: tuple[Unknown, ...]
    not_inspectable: tuple[AccountUnseen, ...]
    not_entered: int = 0
    """Accounts and Regions among `unknowns` that could not be read as a whole."""

    @property
    def verdicts(self) -> Count:
        """Everything that was judged; a part, a Region or an account that was not read is one unknown each.

        `unknowns` has less: what only follows from an unread default is not said again there.
        """
        of = self.counts
        kinds = (self.defaults, of.instances, of.templates, of.images, of.sources, of.services)
        return sum(kinds, Count(unknown=self.not_entered))

    @property
    def instances(self) -> Count:
        """All instances."""
        return self.counts.instances

    @property
    def templates(self) -> Count:
        """All launch template versions."""
        return self.counts.templates

    @property
    def images(self) -> Count:
        """All images that the accounts own."""
        return self.counts.images

    @property
    def exposed(self) -> int:
        """How many findings allow IMDSv1."""
        return self.defaults.exposed + self.counts.exposed


@dataclass(frozen=True, slots=True)
class Judged:
    """One target in numbers, with everything of it that could not be judged."""

    summary: TargetSummary
    unknowns: tuple[Unknown, ...] = ()


@dataclass(slots=True)
class Summing:
    """Sums a scan up, target by target, in any order."""

    _targets: dict[Target, Judged] = field(default_factory=dict)

    @property
    def judged(self) -> tuple[Judged, ...]:
        """What was added so far, for another sum to `take`."""
        return tuple(self._targets.values())

    def take(self, judged: Judged) -> None:
        """A target that was judged elsewhere, as `add` takes one."""
        self._targets[judged.summary.target] = judged

    def add(self, region: RegionSeen) -> TargetSummary:
        """Take one target; a target that comes again replaces what was said of it before."""
        summary = target_summary(region)
        uncertain = summary.parts_unseen or summary.default.verdict is Verdict.UNKNOWN
        counts = summary.counts
        surfaces = (counts.instances, counts.templates, counts.images, counts.sources, counts.services)
        unknowns: tuple[Unknown, ...] = ()
        if uncertain or any(each.unknown for each in surfaces):
            unknowns = tuple(_unknowns(region))
        self.take(Judged(summary, unknowns))
        return summary

    def summary(self, accounts: Iterable[Account], unseen: Sequence[AccountUnseen]) -> ScanSummary:
        """The whole, in the order of `accounts`; `unseen` are the accounts and Regions that were not read."""
        order = {each.account_id: number for number, each in enumerate(accounts)}
        ordered = sorted(
            self._targets.values(),
            key=lambda each: (
                order.get(each.summary.target.account_id, len(order)),
                each.summary.target.region,
            ),
        )
        targets = tuple(each.summary for each in ordered)
        outside = [
            Unknown(each.account_id if each.region is None else f"{each.account_id}/{each.region}", each.unseen)
            for each in unseen
            if each.unseen.code not in NOT_INSPECTABLE
        ]
        return ScanSummary(
            targets,
            Count.of(each.default.verdict for each in targets),
            _total([each.counts for each in targets]),
            (*outside, *(unknown for each in ordered for unknown in each.unknowns)),
            tuple(each for each in unseen if each.unseen.code in NOT_INSPECTABLE),
            len(outside),
        )


def scan_summary(scan: Scan) -> ScanSummary:
    """Judge a whole scan; its targets are gone through once, and none is kept."""
    summing = Summing()
    for region in scan.regions:
        summing.add(region)
    return summing.summary(scan.accounts, scan.unseen)


def _total(counts: Sequence[Counts]) -> Counts:
    return sum(counts, Counts())


def _unknowns(region: RegionSeen) -> Iterable[Unknown]:
    """Everything of a target that could not be judged. What only follows from an unread default is not said again."""
    for unseen in region.unseen:
        yield Unknown(str(region.target), unseen)
    for instance in region.instances:
        exposure = instance_exposure(instance.options)
        if exposure.verdict is Verdict.UNKNOWN:
            yield _unknown(region, instance.instance_id, "instance", exposure)
    if region.defaults is None:
        return
    for template in region.templates:
        yield from _if_unknown(
            region, f"{template.template_id}:{template.version}", "template", template_exposure(region, template)
        )
    for configuration in region.configurations:
        exposure = configuration_exposure(region, configuration)
        yield from _if_unknown(region, configuration.name, "launch configuration", exposure)
    for group in region.groups:
        yield from _if_unknown(region, group.name, "Auto Scaling group", group_exposure(region, group))
    for fleet in region.fleets:
        yield from _if_unknown(region, fleet.fleet_id, str(fleet.kind), fleet_exposure(region, fleet))
    for service in region.services:
        yield from _if_unknown(
            region, service.name or service.resource, str(service.kind), service_exposure(region, service)
        )


def _if_unknown(region: RegionSeen, name: str, what: str, exposure: Exposure) -> Iterable[Unknown]:
    if exposure.verdict is Verdict.UNKNOWN:
        yield _unknown(region, name, what, exposure)


def _unknown(region: RegionSeen, name: str, what: str, exposure: Exposure) -> Unknown:
    return Unknown(f"{region.target}/{name}", Unseen(what, exposure.reason))
