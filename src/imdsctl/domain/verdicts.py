"""Verdicts on what a scan saw of a target: its templates, its images, and the target as a whole.

These join the observations with the one precedence rule. Where a layer was not seen and would have mattered, the
verdict is `unknown`, never `enforced`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from imdsctl.domain.exposure import Exposure, Verdict, instance_exposure, launch_exposure, region_exposure
from imdsctl.domain.observations import AccountUnseen, ImageSeen, RegionSeen, Scan, TemplateVersionSeen, Unseen
from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions, Switch
from imdsctl.domain.precedence import image_options, resolve

ACCOUNT_NOT_ACTIVE = "AccountNotActive"
REGION_NOT_ENABLED = "RegionNotEnabled"
NOT_INSPECTABLE = frozenset({ACCOUNT_NOT_ACTIVE, REGION_NOT_ENABLED})
"""`Unseen.code` of what nobody can look into: a suspended account, a Region that the account has not enabled.

AWS says of a disabled Region that its resources stay and stay billed, so these are reported and counted on their own,
neither as clean nor as unknown: no command of this tool, and nothing in the account, can change or launch there.
"""


def region_default_exposure(region: RegionSeen) -> Exposure:
    """The verdict on the Region's default, `unknown` when it was not read."""
    if region.defaults is None:
        return Exposure(Verdict.UNKNOWN, _why(region, "defaults"))
    return region_exposure(region.defaults)


def template_exposure(region: RegionSeen, template: TemplateVersionSeen) -> Exposure:
    """What the next launch from this template version would be, resolved through Region default and image."""
    if region.defaults is None:
        return _without_default(template.options, _why(region, "defaults"))
    if template.image_id is None:
        exposure = _launch(template.options, region.defaults, None)
        if exposure.verdict is Verdict.EXPOSED and _says_nothing(template.options, region.defaults):
            return Exposure(Verdict.EXPOSED, "no layer speaks, and the template leaves the image open")
        return exposure
    return _with_image(template.options, region.defaults, region.image(template.image_id), template.image_id)


def image_exposure(region: RegionSeen, image: ImageSeen) -> Exposure:
    """What a launch from this image that says nothing itself would be."""
    if region.defaults is None:
        return _without_default(MetadataOptions(), _why(region, "defaults"))
    return _with_image(MetadataOptions(), region.defaults, image, image.image_id)


def _with_image(
    options: MetadataOptions, defaults: AccountDefaults, image: ImageSeen | None, image_id: str
) -> Exposure:
    if image is not None and image.found:
        return _launch(options, defaults, image.imds_support)
    # The image only matters where nobody stronger speaks: try both things that it can say.
    plain = _launch(options, defaults, None)
    if plain.verdict is _launch(options, defaults, "v2.0").verdict:
        return plain
    if image_id.startswith("ami-"):
        return Exposure(Verdict.UNKNOWN, f"image {image_id} was not found, and nothing stronger decides")
    return Exposure(Verdict.UNKNOWN, f"image {image_id} is a name to look up at launch, and nothing stronger decides")


def _launch(options: MetadataOptions, defaults: AccountDefaults, imds_support: str | None) -> Exposure:
    return launch_exposure(resolve(MetadataOptions(), defaults, image_options(imds_support), launch_template=options))


def _says_nothing(options: MetadataOptions, defaults: AccountDefaults) -> bool:
    return options.http_tokens is None and defaults.http_tokens is None


def _without_default(options: MetadataOptions, why: str) -> Exposure:
    if options.http_tokens is HttpTokens.REQUIRED or options.http_endpoint is Switch.DISABLED:
        return _launch(options, AccountDefaults(), None)
    return Exposure(Verdict.UNKNOWN, f"the Region's default was not read: {why}")


def _why(region: RegionSeen, what: str) -> str:
    return next((each.reason for each in region.unseen if each.what == what), "not read")


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
        return cls(enforced, exposed, unknown)

    def __add__(self, other: Count) -> Count:
        return Count(self.enforced + other.enforced, self.exposed + other.exposed, self.unknown + other.unknown)

    @property
    def total(self) -> int:
        """All of them."""
        return self.enforced + self.exposed + self.unknown


_TEMPLATE_PARTS = frozenset({"templates", "template versions in use"})


@dataclass(frozen=True, slots=True)
class TargetSummary:
    """One target in numbers. A list that was not read counts as one unknown of its kind."""

    region: RegionSeen
    default: Exposure
    instances: Count
    templates: Count
    images: Count


def target_summary(region: RegionSeen) -> TargetSummary:
    """Judge everything that was seen of a target, and count what was not."""
    missing = {each.what for each in region.unseen}
    return TargetSummary(
        region,
        region_default_exposure(region),
        _count((instance_exposure(each.options).verdict for each in region.instances), "instances" in missing),
        _count((template_exposure(region, each).verdict for each in region.templates), bool(missing & _TEMPLATE_PARTS)),
        _count((image_exposure(region, each).verdict for each in region.images if each.owned), "images" in missing),
    )


def _count(verdicts: Iterable[Verdict], unread: bool) -> Count:
    return Count.of(verdicts) + Count(unknown=int(unread))


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
    instances: Count
    templates: Count
    images: Count
    unknowns: tuple[Unknown, ...]
    not_inspectable: tuple[AccountUnseen, ...]

    @property
    def exposed(self) -> int:
        """How many findings allow IMDSv1."""
        return self.defaults.exposed + self.instances.exposed + self.templates.exposed + self.images.exposed


def scan_summary(scan: Scan) -> ScanSummary:
    """Judge a whole scan."""
    targets = tuple(target_summary(region) for region in scan.regions)
    return ScanSummary(
        targets,
        Count.of(each.default.verdict for each in targets),
        sum((each.instances for each in targets), Count()),
        sum((each.templates for each in targets), Count()),
        sum((each.images for each in targets), Count()),
        tuple(_unknowns(scan)),
        tuple(each for each in scan.unseen if each.unseen.code in NOT_INSPECTABLE),
    )


def _unknowns(scan: Scan) -> Iterable[Unknown]:
    for account in scan.unseen:
        if account.unseen.code not in NOT_INSPECTABLE:
            where = account.account_id if account.region is None else f"{account.account_id}/{account.region}"
            yield Unknown(where, account.unseen)
    for region in scan.regions:
        for unseen in region.unseen:
            yield Unknown(str(region.target), unseen)
        for instance in region.instances:
            exposure = instance_exposure(instance.options)
            if exposure.verdict is Verdict.UNKNOWN:
                yield Unknown(f"{region.target}/{instance.instance_id}", Unseen("instance", exposure.reason))
        for template in region.templates:
            exposure = template_exposure(region, template)
            if exposure.verdict is Verdict.UNKNOWN and region.defaults is not None:
                subject = f"{region.target}/{template.template_id}:{template.version}"
                yield Unknown(subject, Unseen("template", exposure.reason))
