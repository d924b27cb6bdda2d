"""What is different between two scans: what became enforced, exposed or unknown, what came, what went, what changed.

What a scan did not see is never "gone": where the later scan could not read something, it became unknown; where it did
not look at all (another scope, a part that was refused), that is said once for the place. Other services are compared
when both scans asked them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from imdsctl.domain.exposure import Verdict
from imdsctl.domain.findings import Finding, judged
from imdsctl.domain.observations import RegionSeen, Scan, Target
from imdsctl.domain.options import AWS_NAMES, DEFAULTS_AWS_NAMES, MetadataOptions
from imdsctl.domain.scope import services_left_out
from imdsctl.domain.verdicts import NOT_INSPECTABLE, Count

PLACE = "place"
"""`Difference.kind` of a whole account and Region."""


class Happened(StrEnum):
    """What happened to a thing between two scans, in the order of what matters."""

    EXPOSED = "became exposed"
    UNKNOWN = "became unknown"
    ENFORCED = "became enforced"
    APPEARED = "appeared"
    VANISHED = "vanished"
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
    why_unseen = _why_unseen(after)
    everything = not any(services_left_out(each.scope) for each in (before, after))
    for old, new in _pairs(_by_target(before), _by_target(after)):
        if old is None and new is not None:
            yield _place(new, Happened.SEEN, "the earlier scan did not look there")
        elif new is None and old is not None:
            yield _place(old, Happened.UNSEEN, why_unseen(old.target))
        elif old is not None and new is not None and old != new:
            if not everything:
                old, new = replace(old, services=()), replace(new, services=())
            yield from _within(old, new)


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


def _why_unseen(scan: Scan) -> Callable[[Target], str]:
    reasons = {(each.account_id, each.region): each.unseen for each in scan.unseen}
    accounts = {account.account_id for account in scan.accounts}

    def why(target: Target) -> str:
        unseen = reasons.get((target.account_id, target.region)) or reasons.get((target.account_id, None))
        if unseen is not None:
            kind = "not inspectable" if unseen.code in NOT_INSPECTABLE else "unknown"
            return f"{kind}: {unseen.reason}"
        if target.account_id not in accounts:
            return "the account is not part of the later scan"
        return "the later scan did not look there"

    return why


def _place(region: RegionSeen, happened: Happened, reason: str) -> Difference:
    count = Count.of(finding.verdict for finding in judged(region))
    return Difference(happened, region.target, PLACE, region.target.region, reason=reason, count=count)


def _within(old: RegionSeen, new: RegionSeen) -> Iterator[Difference]:
    before, after = _items(old), _items(new)
    options_before, options_after = _options(old), _options(new)
    for key, was in before.items():
        now = after.get(key)
        if now is None:
            yield _gone(was, new)
            continue
        changed = _changed(options_before.get(key, {}), options_after.get(key, {}))
        if was.verdict is not now.verdict:
            yield _difference(_BECAME[now.verdict], now, was.verdict, now.verdict, now.reason, changed)
        elif changed:
            yield _difference(Happened.CHANGED, now, was.verdict, now.verdict, now.reason, changed)
    for key, now in after.items():
        if key not in before:
            said = _changed({}, options_after.get(key, {}))
            yield _difference(Happened.APPEARED, now, None, now.verdict, now.reason, said)


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
"""The parts of a reading (`Unseen.what`) in which a kind is seen. Of any other kind, every part that was refused."""


def _gone(was: Finding, region: RegionSeen) -> Difference:
    """Gone, when the later scan has read where it would be; else nobody knows."""
    parts = _PARTS.get(was.rule.id)
    refused = next((each for each in region.unseen if parts is None or each.what in parts), None)
    if refused is not None:
        reason = f"{refused.what} could not be read: {refused.reason}"
        return _difference(Happened.UNKNOWN, was, was.verdict, Verdict.UNKNOWN, reason, ())
    return _difference(Happened.VANISHED, was, was.verdict, None, "", ())


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
