"""From what was seen and what is wanted to the smallest change that closes the gap. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

from imdsctl.domain.containers import container_evidence
from imdsctl.domain.intent import Images, Intent, Wanted
from imdsctl.domain.observations import (
    ImageSeen,
    InstanceSeen,
    RegionSeen,
    Scan,
    TemplateVersionSeen,
)
from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions, Switch
from imdsctl.domain.plan import Change, Gap, Plan, Stage, Surface, change_id, digest_of
from imdsctl.domain.precedence import Layer, Resolution, image_options, resolve
from imdsctl.domain.verdicts import NOT_INSPECTABLE

TRANSIENT_STATES = frozenset({"pending", "stopping", "shutting-down"})
"""Instance states in which AWS may refuse a change, or in which it comes to nothing."""
_ACCOUNT = "account"


def make_plan(scan: Scan, intent: Intent, *, made_at: datetime) -> Plan:
    """The plan for what a scan saw. The same scan and intent give the same changes, with the same ids, in order."""
    changes: list[Change] = []
    for region in sorted(scan.regions, key=lambda each: each.target):
        if not intent.excludes(region.target):
            changes += _region_changes(region, intent)
    changes.sort(key=lambda change: (change.stage.number, change.target, change.resource))
    return Plan(
        scan_id=scan.scan_id,
        scan_digest=digest_of(scan),
        made_at=made_at,
        intent=intent,
        changes=tuple(changes),
        unknown=tuple(_gaps(scan, intent)),
    )


def _gaps(scan: Scan, intent: Intent) -> Iterator[Gap]:
    for account in scan.unseen:
        if account.account_id in intent.exclude_accounts or account.region in intent.exclude_regions:
            continue
        if account.unseen.code in NOT_INSPECTABLE:
            continue  # Nothing can launch or change there until somebody enables it: reported by scan, not planned.
        subject = f"{account.account_id}/{account.region}" if account.region else account.account_id
        yield Gap(subject, account.unseen.what, account.unseen.reason)
    for region in scan.regions:
        if intent.excludes(region.target):
            continue
        for part in region.unseen:
            yield Gap(str(region.target), part.what, part.reason)
        if region.defaults is None and not any("default" in part.what for part in region.unseen):
            yield Gap(str(region.target), "Region default", "the scan holds no answer")


def _region_changes(region: RegionSeen, intent: Intent) -> Iterator[Change]:
    planned = region.defaults
    changes: list[Change] = []
    excluded = intent.exclude_resources
    if region.defaults is not None:
        change = _default_change(region, region.defaults, intent.region_defaults)
        if change is not None:
            changes.append(change)
            if not change.held:
                planned = region.defaults.updated(change.after)
    refused: list[str] = []
    for versions in _by_template(region.templates):
        if versions[0].template_id not in excluded:
            changes += _template_changes(region, planned, versions, intent, refused)
    for instance in region.instances:
        if instance.instance_id not in excluded:
            changes += _instance_changes(region, instance, intent)
    if intent.images is Images.V2:
        for image in region.images:
            if image.owned and image.found and image.imds_support != "v2.0" and image.image_id not in excluded:
                changes.append(_image_change(region, image))
    yield from changes
    if planned is not None and intent.enforce and not planned.enforced:
        yield _enforcement_change(region, planned, refused)


def _default_change(region: RegionSeen, defaults: AccountDefaults, wanted: Wanted) -> Change | None:
    after = _difference(wanted, defaults.options(), wanted.hop_limit_at_least)
    if not after:
        return None
    held = ""
    if defaults.managed_by != _ACCOUNT:
        held = f"a {defaults.managed_by} decides the Region default: change the policy in Organizations"
    reasons = []
    if after.http_tokens is not None:
        reasons.append(
            "no default: a launch that says nothing gets IMDSv1"
            if defaults.http_tokens is None
            else f"the default is {defaults.http_tokens}: a launch that says nothing gets IMDSv1"
        )
    if after.http_put_response_hop_limit is not None:
        reasons.append(f"containers need a hop limit of {after.http_put_response_hop_limit} to get a token")
    return Change(
        id=change_id(region.target, Surface.REGION_DEFAULT, ""),
        stage=Stage.REGION_DEFAULTS,
        surface=Surface.REGION_DEFAULT,
        target=region.target,
        resource=region.target.region,
        before=defaults.to_aws(),
        after=after.to_aws(),
        reason="; ".join(reasons) or "the intent wants it",
        risk="new launches that say nothing get IMDSv2 only; what runs stays as it is",
        held=held,
    )


def _enforcement_change(region: RegionSeen, planned: AccountDefaults, refused: list[str]) -> Change:
    held = ""
    if planned.managed_by != _ACCOUNT:
        held = f"a {planned.managed_by} decides HttpTokensEnforced: change the policy in Organizations"
    risk = "a launch that asks for IMDSv1 fails"
    if planned.http_tokens is not HttpTokens.REQUIRED:
        risk += "; so does one that says nothing, because the Region default is not required"
    if refused:
        risk += f"; these will be refused: {', '.join(refused)}"
    return Change(
        id=change_id(region.target, Surface.REGION_DEFAULT, "", "enforcement"),
        stage=Stage.ENFORCEMENT,
        surface=Surface.REGION_DEFAULT,
        target=region.target,
        resource=region.target.region,
        before=planned.to_aws(),
        after={"HttpTokensEnforced": str(Switch.ENABLED)},
        reason="a launch can still choose IMDSv1",
        risk=risk,
        held=held,
    )


def _instance_changes(region: RegionSeen, instance: InstanceSeen, intent: Intent) -> Iterator[Change]:
    current = instance.options
    if current.http_endpoint is Switch.DISABLED:
        return  # No version of the service answers there, and nothing of ours may switch it on.
    wanted = intent.instances
    container = container_evidence(instance.tags)
    floor = wanted.hop_limit_at_least or 0
    tokens_change = wanted.options.http_tokens is HttpTokens.REQUIRED and current.http_tokens is not HttpTokens.REQUIRED
    if container and tokens_change:
        floor = max(floor, intent.container_hop_limit_at_least or 0)
    after = _difference(wanted, current, floor or None)
    if not after:
        return
    if after.http_endpoint is Switch.DISABLED:
        # With the service off the other options mean nothing, and AWS takes them only with an enabled endpoint.
        after = MetadataOptions(http_endpoint=Switch.DISABLED)
    reasons = ["HttpTokens=optional: IMDSv1 answers"] if tokens_change else ["the intent wants it"]
    risk = "software on it that knows only IMDSv1 loses its credentials and metadata" if tokens_change else ""
    if container and tokens_change:
        if after.http_put_response_hop_limit is not None:
            reasons.append(
                f"a container host ({container}) at hop limit {current.http_put_response_hop_limit}: its containers "
                "could not get a token"
            )
        else:
            reasons.append(f"a container host ({container})")
    yield Change(
        id=change_id(region.target, Surface.INSTANCE, instance.instance_id),
        stage=Stage.CONTAINER_HOSTS if container else Stage.INSTANCES,
        surface=Surface.INSTANCE,
        target=region.target,
        resource=instance.instance_id,
        before=current.to_aws(),
        after=after.to_aws(),
        reason="; ".join(reasons),
        risk=risk,
        held=_instance_held(instance),
        name=_name_tag(instance.tags),
    )


def _instance_held(instance: InstanceSeen) -> str:
    if instance.managed_by:
        return f"a managed instance: only its operator ({instance.managed_by}) can change it"
    if instance.options.http_tokens is None:
        return "unknown: the scan did not see its HttpTokens"
    if instance.state in TRANSIENT_STATES:
        return f"it is {instance.state}: scan again when it has settled"
    if instance.options_pending:
        return "an earlier change of its options is still pending: scan again when it is applied"
    return ""


def _by_template(versions: Iterable[TemplateVersionSeen]) -> Iterator[list[TemplateVersionSeen]]:
    found: dict[str, list[TemplateVersionSeen]] = {}
    for version in versions:
        found.setdefault(version.template_id, []).append(version)
    for template_id in sorted(found):
        yield sorted(found[template_id], key=lambda each: each.version)


def _template_changes(
    region: RegionSeen,
    planned: AccountDefaults | None,
    versions: list[TemplateVersionSeen],
    intent: Intent,
    refused: list[str],
) -> Iterator[Change]:
    default = next((each for each in versions if each.is_default), None)
    latest = next((each for each in versions if each.is_latest), None)
    any_version = versions[0]
    if default is not None and latest is not None:
        wanted = {
            "Default": _template_after(region, planned, default, intent),
            "Latest": _template_after(region, planned, latest, intent),
        }
        if any(wanted.values()):
            yield _template_change(region, default, latest, wanted)
    for version in versions:
        if version.is_default or version.is_latest or not version.in_use:
            continue
        # Not after enforcement, which may yet be held back: the version by itself.
        resolution = _launch(region, planned, version)
        if _allows_v1(resolution):
            label = f"launch template {version.template_id} version {version.version}"
            refused.append(label)
            if region.defaults is not None and region.defaults.enforced:
                continue  # Launches from it are refused already.
            yield Change(
                id=change_id(region.target, Surface.LAUNCH_TEMPLATE, version.template_id, f"version-{version.version}"),
                stage=Stage.LAUNCH_TEMPLATES,
                surface=Surface.LAUNCH_TEMPLATE,
                target=region.target,
                resource=any_version.template_id,
                before={"Version": version.version, "Options": version.options.to_aws()},
                after={"HttpTokens": str(HttpTokens.REQUIRED)},
                reason=_template_reason(version, resolution),
                held=(
                    f"version {version.version} is in use and a version cannot be changed: move its users to $Default; "
                    "when the Region enforces IMDSv2, launches from it are refused"
                ),
                name=any_version.template_name,
            )


def _template_after(
    region: RegionSeen, planned: AccountDefaults | None, version: TemplateVersionSeen, intent: Intent
) -> MetadataOptions:
    """What a successor of this version has to say differently; empty when the version is right as it is."""
    wanted = intent.launch_templates
    after = MetadataOptions()
    if version.options.http_endpoint is Switch.DISABLED:
        return after
    resolution = _launch(region, planned, version)
    wants_v2 = wanted.options.http_tokens is HttpTokens.REQUIRED
    if wants_v2 and (_allows_v1(resolution) or (intent.explicit_templates and version.options.http_tokens is None)):
        after = replace(after, http_tokens=HttpTokens.REQUIRED)
    others = replace(wanted.options, http_tokens=None).differing_from(version.options)
    after = after.over(others)
    floor = wanted.hop_limit_at_least or 0
    if container_evidence(version.tags, version.template_name) and wants_v2 and _becomes_v2(region, version):
        floor = max(floor, intent.container_hop_limit_at_least or 0)
    if resolution.http_put_response_hop_limit.value < floor:
        after = replace(after, http_put_response_hop_limit=floor)
    return after


def _becomes_v2(region: RegionSeen, version: TemplateVersionSeen) -> bool:
    """True when launches from this version can use IMDSv1 today: the plan takes that away from their containers."""
    return _allows_v1(_launch(region, region.defaults, version))


def _template_change(
    region: RegionSeen, default: TemplateVersionSeen, latest: TemplateVersionSeen, wanted: dict[str, MetadataOptions]
) -> Change:
    before: dict[str, Any] = {
        "DefaultVersion": default.version,
        "LatestVersion": latest.version,
        "Default": default.options.to_aws(),
    }
    after: dict[str, Any] = {}
    reasons = []
    risk = "launches from it get IMDSv2 only; what runs stays as it is"
    if default.version == latest.version:
        after["Default"] = wanted["Default"].to_aws()
        reasons.append(_template_reason(default, None))
    else:
        before["Latest"] = latest.options.to_aws()
        if wanted["Default"]:
            after["Default"] = wanted["Default"].to_aws()
            # The successor of $Default becomes $Latest: what $Latest said has to be said again by one more version,
            # or everything that launches $Latest would launch something else.
            renewed = wanted["Latest"] or MetadataOptions(http_tokens=HttpTokens.REQUIRED).differing_from(
                latest.options
            )
            after["Latest"] = renewed.to_aws()
            reasons.append(_template_reason(default, None))
            reasons.append(
                f"$Latest (version {latest.version}) too"
                if wanted["Latest"]
                else f"$Latest (version {latest.version}) is made again so that it stays the latest"
            )
            risk += "; between two calls $Latest is the successor of $Default"
        else:
            after["Latest"] = wanted["Latest"].to_aws()
            reasons.append(_template_reason(latest, None))
    return Change(
        id=change_id(region.target, Surface.LAUNCH_TEMPLATE, default.template_id),
        stage=Stage.LAUNCH_TEMPLATES,
        surface=Surface.LAUNCH_TEMPLATE,
        target=region.target,
        resource=default.template_id,
        before=before,
        after=after,
        reason="; ".join(reasons),
        risk=risk,
        name=default.template_name,
    )


def _template_reason(version: TemplateVersionSeen, resolution: Resolution | None) -> str:
    place = "$Default" if version.is_default else "$Latest" if version.is_latest else "in use"
    says = version.options.http_tokens
    if says is None and resolution is not None:
        return (
            f"version {version.version} ({place}) says nothing, and the {resolution.http_tokens.layer} decides IMDSv1"
        )
    if says is None:
        return f"version {version.version} ({place}) says nothing"
    return f"version {version.version} ({place}) says HttpTokens={says}"


def _launch(region: RegionSeen, defaults: AccountDefaults | None, version: TemplateVersionSeen) -> Resolution:
    image = region.image(version.image_id)
    return resolve(
        MetadataOptions(),
        defaults or AccountDefaults(),
        image_options(image.imds_support if image is not None and image.found else None),
        launch_template=version.options,
    )


def _allows_v1(resolution: Resolution) -> bool:
    """Whether a launch would get IMDSv1, leaving enforcement aside: a refused launch is a broken one, not a right one.

    An image that was not found counts as one that says nothing: the safe reading.
    """
    off = resolution.http_endpoint
    # A Region default that switches the endpoint off does not make a template's own `optional` right.
    return resolution.http_tokens.value is HttpTokens.OPTIONAL and (
        off.value is Switch.ENABLED or off.layer is Layer.ACCOUNT_DEFAULT
    )


def _image_change(region: RegionSeen, image: ImageSeen) -> Change:
    return Change(
        id=change_id(region.target, Surface.IMAGE, image.image_id),
        stage=Stage.IMAGES,
        surface=Surface.IMAGE,
        target=region.target,
        resource=image.image_id,
        before={"ImdsSupport": image.imds_support},
        after={"ImdsSupport": "v2.0"},
        reason="the image does not say ImdsSupport=v2.0",
        risk="it cannot be undone: only a new image from the snapshot comes without it",
        name=image.name,
    )


def _difference(wanted: Wanted, current: MetadataOptions, hop_limit_at_least: int | None) -> MetadataOptions:
    after = wanted.options.differing_from(current)
    hop = current.http_put_response_hop_limit
    if hop_limit_at_least is not None and (hop is None or hop < hop_limit_at_least):
        after = replace(after, http_put_response_hop_limit=hop_limit_at_least)
    return after


def _name_tag(tags: Iterable[tuple[str, str]]) -> str:
    return next((value for key, value in tags if key == "Name"), "")
