"""Findings: everything in a scan that allows IMDSv1, or of which nobody can tell, with the evidence and the next step.

The rules carry the ids of AWS's own controls where there are such (Security Hub User Guide, "Amazon EC2 controls" and
"Amazon EC2 Auto Scaling controls"), so that a team can line them up with what it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from imdsctl.domain.evidence import Evidence, InstanceEvidence, Use
from imdsctl.domain.exposure import Exposure, Verdict, instance_exposure
from imdsctl.domain.launches import (
    configuration_exposure,
    fleet_exposure,
    group_exposure,
    image_exposure,
    service_exposure,
    template_exposure,
)
from imdsctl.domain.observations import AccountUnseen, InstanceSeen, RegionSeen, Scan, Target, Unseen
from imdsctl.domain.roll_up import NOUNS, By, Naming, RollUp
from imdsctl.domain.verdicts import NOT_INSPECTABLE, region_default_exposure


class Severity(StrEnum):
    """How bad it is, in the words of Security Hub."""

    INFORMATIONAL = "INFORMATIONAL"
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"


@dataclass(frozen=True, slots=True)
class Rule:
    """One kind of finding."""

    id: str
    title: str
    why: str
    severity: Severity
    asff_type: str
    """The resource type in the AWS Security Finding Format."""
    noun: str
    controls: tuple[str, ...] = ()
    """Security Hub's controls on the same matter."""


REGION_DEFAULT = Rule(
    "region-default",
    "Launches in this Region can choose IMDSv1",
    "Until HttpTokensEnforced is enabled, the next launch here can allow IMDSv1, on purpose or by saying nothing.",
    Severity.MEDIUM,
    "Other",
    "Region default",
)
INSTANCE = Rule(
    "instance",
    "The instance answers IMDSv1",
    "One GET through a server-side request forgery is enough to read its role's credentials.",
    Severity.HIGH,
    "AwsEc2Instance",
    "instance",
    ("EC2.8",),
)
LAUNCH_TEMPLATE = Rule(
    "launch-template",
    "The next launch from this template version allows IMDSv1",
    "Everything that launches from it, Auto Scaling groups included, will answer IMDSv1.",
    Severity.MEDIUM,
    "AwsEc2LaunchTemplate",
    "launch template",
    ("EC2.170",),
)
IMAGE = Rule(
    "image",
    "A launch from this image that says nothing allows IMDSv1",
    "The image does not say ImdsSupport=v2.0, and no stronger layer decides.",
    Severity.LOW,
    "Other",
    "image",
)
LAUNCH_CONFIGURATION = Rule(
    "launch-configuration",
    "The next launch from this launch configuration allows IMDSv1",
    "A launch configuration cannot be changed: whatever uses it needs a launch template instead.",
    Severity.MEDIUM,
    "AwsAutoScalingLaunchConfiguration",
    "launch configuration",
    ("AutoScaling.3",),
)
AUTO_SCALING_GROUP = Rule(
    "auto-scaling-group",
    "The Auto Scaling group's next instances may answer IMDSv1",
    "One of the templates or configurations that it launches from, overrides included, allows IMDSv1.",
    Severity.MEDIUM,
    "AwsAutoScalingAutoScalingGroup",
    "Auto Scaling group",
)
FLEET = Rule(
    "fleet",
    "The fleet's or Spot request's next instances may answer IMDSv1",
    "A launch specification of Spot cannot say metadata options: the Region default, the image or enforcement decide.",
    Severity.MEDIUM,
    "Other",
    "fleet",
)
SERVICE = Rule(
    "service",
    "Another service's instances may answer IMDSv1",
    "The service makes instances of its own, with the setting that its resource carries or refers to.",
    Severity.MEDIUM,
    "Other",
    "resource of another service",
)
UNSEEN = Rule(
    "unseen",
    "Something could not be inspected",
    "What was not seen may allow IMDSv1: unknown is not enforced.",
    Severity.INFORMATIONAL,
    "AwsAccount",
    "place",
)
SHUT = Rule(
    "not-inspectable",
    "Nobody can look there",
    "What is left in a Region that is not enabled, or in an account that is not active, nobody can see.",
    Severity.INFORMATIONAL,
    "AwsAccount",
    "not inspectable",
)
"""Not among `RULES`: what nobody can look into is neither clean nor unknown (`verdicts.NOT_INSPECTABLE`)."""
RULES = (
    REGION_DEFAULT,
    INSTANCE,
    LAUNCH_TEMPLATE,
    LAUNCH_CONFIGURATION,
    AUTO_SCALING_GROUP,
    FLEET,
    SERVICE,
    IMAGE,
    UNSEEN,
)
"""Every rule, in the order of reports."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was judged. `resource` is AWS's id or name; for a Region default the Region's name."""

    rule: Rule
    target: Target | None
    """None for an account that could not be entered."""
    account_id: str
    resource: str
    verdict: Verdict
    reason: str
    name: str = ""
    evidence: InstanceEvidence | None = None
    workload: str = ""
    """What it belongs to: an Auto Scaling group, a cluster, a template; empty when nothing says so."""
    accepted: str = ""
    """Owner and end of the exception that it is registered under; empty when it is not."""
    quoted: tuple[str, ...] = ()
    """What in `reason` is not ours: names that users gave, and AWS's own words."""

    @property
    def id(self) -> str:
        """The same for the same thing in every scan."""
        place = str(self.target) if self.target else self.account_id
        return f"{place}/{self.rule.id}/{self.resource}"

    @property
    def use(self) -> Use | None:
        """Whether IMDSv1 was used; None where evidence says nothing about such a thing."""
        return self.evidence.use if self.evidence else None

    @property
    def severity(self) -> Severity:
        """The rule's; what is enforced, or accepted, asks nothing of anybody."""
        return self.rule.severity if self.verdict is Verdict.EXPOSED and not self.accepted else Severity.INFORMATIONAL

    @property
    def next_step(self) -> str:
        """What to do about it, in a sentence."""
        if self.accepted:
            return f"Accepted: {self.accepted}."
        if self.verdict is Verdict.ENFORCED:
            return "Nothing: it is enforced."
        if self.rule is SHUT:
            return "To look there, enable the Region, or have the account reactivated; then scan again."
        if self.verdict is Verdict.UNKNOWN:
            return "Give the scanning role access (`imdsctl iam-policy read`), or look there yourself; then scan again."
        if self.use is Use.USED:
            return (
                "Find the process that uses IMDSv1 (`imdsctl trace` on the host), update its SDK, or register an "
                "exception; then `imdsctl plan`."
            )
        if self.use is Use.UNKNOWN:
            return "Gather evidence (`imdsctl evidence`), or look at the host (`imdsctl trace`); then `imdsctl plan`."
        return "`imdsctl plan` has the change; `imdsctl apply` makes it."


Accepts = Callable[[Target, str, tuple[tuple[str, str], ...]], str]
"""Target, resource and tags to the exception that it is registered under (owner, end), empty when there is none."""


def findings(
    scan: Scan, evidence: Evidence | None = None, *, enforced: bool = False, accepts: Accepts | None = None
) -> Iterator[Finding]:
    """Everything of a scan that is exposed or unknown; with `enforced` also what is as it should be.

    One Region after the other, so that a scan of any size can be gone through.
    """
    for account in scan.unseen:
        if account.unseen.code not in NOT_INSPECTABLE:
            target = Target(account.account_id, account.region) if account.region else None
            yield _unseen(account.account_id, target, account.unseen)
    for region in scan.regions:
        for unseen in region.unseen:
            yield _unseen(region.target.account_id, region.target, unseen)
        for finding in _judged(region, evidence, accepts or _nobody):
            if enforced or finding.verdict is not Verdict.ENFORCED:
                yield finding


def shut(places: Iterable[AccountUnseen]) -> Iterator[Finding]:
    """What nobody can look into, one finding an account: an organization leaves half of AWS's Regions disabled."""
    by_account: dict[str, list[AccountUnseen]] = {}
    for each in places:
        by_account.setdefault(each.account_id, []).append(each)
    for account_id, found in by_account.items():
        regions = [each.region for each in found if each.region is not None]
        reasons = [each.unseen.reason for each in found if each.region is None]
        reasons += [f"not enabled: {', '.join(regions)}"] if regions else []
        yield Finding(SHUT, None, account_id, "Regions" if regions else "account", Verdict.UNKNOWN, "; ".join(reasons))


def judged(region: RegionSeen) -> Iterator[Finding]:
    """Everything of one Region with its verdict, what is enforced included; what could not be seen is not among it."""
    return _judged(region, None, _nobody)


def _nobody(target: Target, resource: str, tags: tuple[tuple[str, str], ...]) -> str:
    return ""


def _unseen(account_id: str, target: Target | None, unseen: Unseen) -> Finding:
    return Finding(
        UNSEEN,
        target,
        account_id,
        unseen.what,
        Verdict.UNKNOWN,
        unseen.reason,
        name=unseen.code,
        quoted=(unseen.reason,),
    )


def _judged(region: RegionSeen, evidence: Evidence | None, accepts: Accepts) -> Iterator[Finding]:
    target = region.target

    def found(
        rule: Rule,
        resource: str,
        exposure: Exposure,
        name: str = "",
        tags: tuple[tuple[str, str], ...] = (),
        seen: InstanceEvidence | None = None,
        workload: str = "",
    ) -> Finding:
        accepted = "" if exposure.verdict is Verdict.ENFORCED else accepts(target, resource, tags)
        return Finding(
            rule,
            target,
            target.account_id,
            resource,
            exposure.verdict,
            exposure.reason,
            name,
            seen,
            workload,
            accepted,
            exposure.quoted,
        )

    if region.defaults is not None:
        yield found(REGION_DEFAULT, target.region, region_default_exposure(region))
    naming = Naming(region, {})
    for instance in region.instances:
        exposure = instance_exposure(instance.options)
        seen = None
        if exposure.verdict is Verdict.EXPOSED:
            seen = evidence.of(target, instance.instance_id) if evidence else _not_gathered(target, instance)
        yield found(
            INSTANCE,
            instance.instance_id,
            exposure,
            name_of(instance.tags),
            instance.tags,
            seen,
            workload_of(instance, naming),
        )
    for template in region.templates:
        exposure = template_exposure(region, template)
        version = f"version {template.version}: {exposure.reason}"
        resource = f"{template.template_id}:{template.version}"
        said = replace(exposure, reason=version)
        yield found(LAUNCH_TEMPLATE, resource, said, template.template_name, template.tags)
    for configuration in region.configurations:
        exposure = configuration_exposure(region, configuration)
        said = exposure if configuration.in_use else replace(exposure, reason=f"unused: {exposure.reason}")
        yield found(LAUNCH_CONFIGURATION, configuration.name, said, configuration.name)
    for group in region.groups:
        yield found(AUTO_SCALING_GROUP, group.name, group_exposure(region, group), name_of(group.tags), group.tags)
    for fleet in region.fleets:
        yield found(FLEET, fleet.fleet_id, fleet_exposure(region, fleet), name_of(fleet.tags), fleet.tags)
    for service in region.services:
        exposure = service_exposure(region, service)
        said = replace(exposure, reason=f"{service.kind}: {exposure.reason}")
        yield found(SERVICE, service.resource, said, service.name, service.tags)
    for image in region.images:
        if image.owned:
            yield found(IMAGE, image.image_id, image_exposure(region, image), image.name)


def _not_gathered(target: Target, instance: InstanceSeen) -> InstanceEvidence:
    return InstanceEvidence(target, instance.instance_id, reason="no evidence was gathered")


def name_of(tags: Iterable[tuple[str, str]]) -> str:
    """The Name tag."""
    return next((value for key, value in tags if key == "Name"), "")


_STACK_TAG = "aws:cloudformation:stack-name"
STACK = "stack"
_BY_WORKLOAD = RollUp(By.WORKLOAD)


def workload_of(instance: InstanceSeen, naming: Naming) -> str:
    """What an instance belongs to: its group, cluster or template, else its CloudFormation stack; else nothing."""
    key, _ = naming.of(instance, _BY_WORKLOAD)
    if key.kind is not By.IMAGE:
        return f"{NOUNS[key.kind]} {key.name}"
    stack = dict(instance.tags).get(_STACK_TAG)
    return f"{STACK} {stack}" if stack else ""


def evidence_text(evidence: InstanceEvidence | None) -> str:
    """What is known of IMDSv1 use, in a clause."""
    if evidence is None:
        return ""
    if evidence.use is Use.UNKNOWN:
        return f"unknown ({evidence.reason or 'no datapoints'})"
    since = f" since {_day(evidence.since)}" if evidence.since else ""
    if evidence.use is Use.UNUSED:
        return f"no IMDSv1 call{since}"
    parts = []
    if evidence.no_token:
        parts.append(f"{evidence.no_token:,.0f} IMDSv1 calls")
    if evidence.rejected:
        parts.append(f"{evidence.rejected:,.0f} IMDSv1 calls turned down")
    if evidence.role_delivery_v1:
        parts.append(f"{evidence.role_delivery_v1:,} API calls with credentials that IMDSv1 delivered")
    last = f", the last on {_day(evidence.last_used)}" if evidence.last_used else ""
    return " and ".join(parts) + since + last


def _day(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d}"
