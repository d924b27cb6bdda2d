"""What is different between two scans: what became enforced, exposed or unknown, what came, what went, what changed.

What a scan did not see is never "gone": where the later scan could not read something, it became unknown; where it did
not look at all (another scope, a part that was refused), that is said once for the place. Nor has it "appeared" when
only the earlier scan could not read it. Of a launch template a scan reads `$Default`, `$Latest` and what is in use: a
version that is none of these any more is not read, though it may be there. Other services are compared when both scans
asked them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from imdsctl.domain.exposure import Verdict
from imdsctl.domain.findings import Finding, judged
from imdsctl.domain.observations import RegionSeen, Scan, Target, Unseen
from imdsctl.domain.options import AWS_NAMES, DEFAULTS_AWS_NAMES, MetadataOptions
from imdsctl.domain.scope import services_left_out
from imdsctl.domain.verdicts import NOT_INSPECTABLE, Count, is_of_service

PLACE = "place"
"""`Difference.kind` of a whole account and Region."""


class Happened(StrEnum):
    """What happened to a thing between two scans, in the order of what matters."""

    EXPOSED = "became exposed"
    UNKNOWN = "became unknown"
    ENFORCED = "became enforced"
    KNOWN = "became known"
    """The earlier scan could not read it."""
    APPEARED = "appeared"
    VANISHED = "vanished"
    READ = "is read now"
    UNREAD = "is no longer read"
    """A launch template's version that may be there all the same: see `fleet.target_reader`."""
    CHANGED = "changed"
    """Its verdict is the same; an option is not."""
    SEEN = "is seen now"
    UNSEEN = "is not seen any more"
    """A place that the later scan did not look at, or could not enter."""


_BECAME = {
    Verdict.EXPOSED: Happened.EXPOSED,
    Verdict.UNKNOWN: Happened.UNKNOWN,
    Verdict.ENFORCED: Happened.ENFORCED,
}


@dataclass(frozen=True, slots=True)
class Option:
    """An option that is not what it was; None: it said, or says, nothing. AWS's name and spelling."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that is not as it was. `kind` is a finding's rule (`instance`, `launch-template`...) or `place`."""

    happened: Happened
    target: Target
    kind: str
    resource: str
    name: str = ""
    before: Verdict | None = None
    after: Verdict | None = None
    reason: str = ""
    options: tuple[Option, ...] = ()
    count: Count | None = None
    """What is, or was, in a place."""


def diff(before: Scan, after: Scan) -> Iterator[Difference]:
    """Every difference, by account id and Region. Goes through both scans once, one Region of each at a time."""
    why_before, why_after = _why_unseen(before, "earlier"), _why_unseen(after, "later")
    left_out = [services_left_out(each.scope) for each in (before, after)]
    for old, new in _pairs(_by_target(before), _by_target(after)):
        if old is None and new is not None:
            yield _place(new, Happened.SEEN, why_before(new.target))
        elif new is None and old is not None:
            yield _place(old, Happened.UNSEEN, why_after(old.target))
        elif old is not None and new is not None and old != new:
            if any(left_out):
                old, new = replace(old, services=()), replace(new, services=())
            yield from _within(old, new, alike=left_out[0] is left_out[1])


def _by_target(scan: Scan) -> Iterator[RegionSeen]:
    """A stored scan reads itself in this order; one in memory can be sorted."""
    read: Callable[[], Iterator[RegionSeen]] | None = getattr(scan.regions, "by_target", None)
    return read() if read is not None else iter(sorted(scan.regions, key=lambda region: region.target))


def _pairs(
    before: Iterator[RegionSeen], after: Iterator[RegionSeen]
) -> Iterator[tuple[RegionSeen | None, RegionSeen | None]]:
    """Merge two sorted runs: what has the same target comes together."""
    old, new = next(before, None), next(after, None)
    while old is not None or new is not None:
        if new is None or (old is not None and old.target < new.target):
            yield old, None
            old = next(before, None)
        elif old is None or new.target < old.target:
            yield None, new
            new = next(after, None)
        else:
            yield old, new
            old, new = next(before, None), next(after, None)


def _why_unseen(scan: Scan, which: str) -> Callable[[Target], str]:
    reasons = {(each.account_id, each.region): each.unseen for each in scan.unseen}
    accounts = {account.account_id for account in scan.accounts}

    def why(target: Target) -> str:
        unseen = reasons.get((target.account_id, target.region)) or reasons.get((target.account_id, None))
        if unseen is not None:
            kind = "not inspectable" if unseen.code in NOT_INSPECTABLE else "unknown"
            return f"{kind} in the {which} scan: {unseen.reason}"
        if target.account_id not in accounts:
            return f"the account is not part of the {which} scan"
        return f"the {which} scan did not look there"

    return why


def _place(region: RegionSeen, happened: Happened, reason: str) -> Difference:
    count = Count.of(finding.verdict for finding in judged(region))
    return Difference(happened, region.target, PLACE, region.target.region, reason=reason, count=count)


def _within(old: RegionSeen, new: RegionSeen, *, alike: bool) -> Iterator[Difference]:
    """`alike`: both scans asked the same services, which tell what is in use."""
    before, after = _items(old), _items(new)
    options_before, options_after = _options(old), _options(new)
    for key, was in before.items():
        now = after.get(key)
        if now is None:
            if alike or not _only_in_use(was, old, new):
                yield _gone(was, old, new)
            continue
        changed = _changed(options_before.get(key, {}), options_after.get(key, {}))
        if was.verdict is not now.verdict:
            yield _difference(_BECAME[now.verdict], now, was.verdict, now.verdict, now.reason, changed)
        elif changed:
            yield _difference(Happened.CHANGED, now, was.verdict, now.verdict, now.reason, changed)
    for key, now in after.items():
        if key not in before and (alike or not _only_in_use(now, new, old)):
            yield _come(now, old, _changed({}, options_after.get(key, {})))


def _items(region: RegionSeen) -> dict[tuple[str, str], Finding]:
    return {(finding.rule.id, finding.resource): finding for finding in judged(region)}


_PARTS: Mapping[str, tuple[str, ...]] = {
    "region-default": ("defaults",),
    "instance": ("instances",),
    "launch-template": ("templates", "template versions in use"),
    "image": ("images",),
    "launch-configuration": ("launch configurations",),
    "auto-scaling-group": ("Auto Scaling groups",),
    "fleet": ("EC2 Fleets", "Spot Fleet requests", "Spot requests"),
}
"""The parts of a reading (`Unseen.what`) in which a kind is seen; a service's are `is_of_service`."""
_NOT_USING = frozenset({"defaults", "images", "template tags", "images in use"})
"""Parts that launch nothing: they do not tell which template versions are in use."""


def _refused(of: Finding, region: RegionSeen) -> Unseen | None:
    """Why the region's reading may lack it; None when what it would be seen in was read."""
    parts = _PARTS.get(of.rule.id)
    return next(
        (each for each in region.unseen if (each.what in parts if parts is not None else is_of_service(each.what))),
        None,
    )


def _gone(was: Finding, old: RegionSeen, new: RegionSeen) -> Difference:
    """Gone, when the later scan has read where it would be; else nobody knows."""
    refused = _refused(was, new)
    if refused is None and _latest(was, new):
        # Is it still in use? That is what the parts that launch would tell.
        lost = {each.what for each in new.unseen} - {each.what for each in old.unseen} - _NOT_USING
        refused = next((each for each in new.unseen if each.what in lost), None)
        if refused is None:
            return _difference(Happened.UNREAD, was, was.verdict, None, "neither $Default, $Latest nor in use", ())
    if refused is not None:
        reason = f"{refused.what} could not be read: {refused.reason}"
        return _difference(Happened.UNKNOWN, was, was.verdict, Verdict.UNKNOWN, reason, ())
    return _difference(Happened.VANISHED, was, was.verdict, None, "", ())


def _come(now: Finding, old: RegionSeen, said: tuple[Option, ...]) -> Difference:
    """New, when the earlier scan has read where it would have been."""
    if _refused(now, old) is not None:
        return _difference(Happened.KNOWN, now, Verdict.UNKNOWN, now.verdict, now.reason, ())
    # AWS numbers versions one after the other: what is not above the $Latest of then was there.
    there = now.rule.id == "launch-template" and _version(now) <= _latest(now, old)
    return _difference(Happened.READ if there else Happened.APPEARED, now, None, now.verdict, now.reason, said)


def _latest(of: Finding, region: RegionSeen) -> int:
    """The highest version that was seen of a finding's launch template; 0 for anything else, and when it is not there.

    Both `$Default` and `$Latest` of every template are read: one of which nothing was seen is not there.
    """
    if of.rule.id != "launch-template":
        return 0
    template_id = of.resource.partition(":")[0]
    return max((each.version for each in region.templates if each.template_id == template_id), default=0)


def _version(of: Finding) -> int:
    return int(of.resource.partition(":")[2])


def _only_in_use(of: Finding, region: RegionSeen, other: RegionSeen) -> bool:
    """Whether it is a version that is read only because something uses it, of a template that both readings have."""
    latest = _latest(of, other)
    return (
        latest > 0
        and _version(of) <= latest
        and not any(
            each.is_default or each.is_latest
            for each in region.templates
            if f"{each.template_id}:{each.version}" == of.resource
        )
    )


def _difference(
    happened: Happened,
    of: Finding,
    before: Verdict | None,
    after: Verdict | None,
    reason: str,
    options: tuple[Option, ...],
) -> Difference:
    assert of.target is not None
    return Difference(happened, of.target, of.rule.id, of.resource, of.name, before, after, reason, options)


def _options(region: RegionSeen) -> dict[tuple[str, str], dict[str, str]]:
    """What each resource says itself, in AWS's names."""
    found: dict[tuple[str, str], dict[str, str]] = {}
    if region.defaults is not None:
        found["region-default", region.target.region] = _said(region.defaults, DEFAULTS_AWS_NAMES)
    for instance in region.instances:
        found["instance", instance.instance_id] = _of(instance.options)
    for template in region.templates:
        found["launch-template", f"{template.template_id}:{template.version}"] = _of(template.options)
    for configuration in region.configurations:
        found["launch-configuration", configuration.name] = _of(configuration.options)
    for service in region.services:
        found["service", service.resource] = _of(service.options)
    for image in region.images:
        if image.imds_support is not None:
            found["image", image.image_id] = {"ImdsSupport": image.imds_support}
    return found


def _of(options: MetadataOptions) -> dict[str, str]:
    return _said(options, AWS_NAMES)


def _said(value: Any, names: Mapping[str, str]) -> dict[str, str]:
    return {aws: str(held) for name, aws in names.items() if (held := getattr(value, name)) is not None}


def _changed(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[Option, ...]:
    names = dict.fromkeys((*before, *after))
    return tuple(
        Option(name, before.get(name), after.get(name)) for name in names if before.get(name) != after.get(name)
    )
