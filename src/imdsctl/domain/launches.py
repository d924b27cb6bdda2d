"""What the next launch from each source would be: every source of a Region, judged by the one precedence rule.

A template, a launch configuration, an image, a group, a fleet or another service's resource comes down to launch
parameters, a template's options and an image; `domain.precedence` does the rest. Where a layer was not seen and would
have mattered, the verdict is `unknown`, never `enforced`.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from imdsctl.domain.exposure import Exposure, Verdict, combined, instance_exposure, launch_exposure
from imdsctl.domain.observations import (
    SAYS_NOTHING,
    ConfigurationSeen,
    FleetSeen,
    GroupSeen,
    ImageSeen,
    LaunchSource,
    RegionSeen,
    ServiceSeen,
    TemplateVersionSeen,
)
from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions, Switch
from imdsctl.domain.precedence import RESOLUTIONS_REMEMBERED_MAX, image_options, resolve

DEFAULT_VERSION = "$Default"
LATEST_VERSION = "$Latest"
NAMED_IMAGES = "images in use"
"""What a Region's `unseen` calls the images that anything names. A refusal leaves them out of what was seen."""


def template_exposure(region: RegionSeen, template: TemplateVersionSeen) -> Exposure:
    """What the next launch from this template version would be, resolved through Region default and image."""
    return _from_template(region, template, template.image_id)


def configuration_exposure(region: RegionSeen, configuration: ConfigurationSeen) -> Exposure:
    """What a group's next launch from this launch configuration would be: its options are launch parameters."""
    return _judged(region, configuration.options, SAYS_NOTHING, configuration.image_id)


def image_exposure(region: RegionSeen, image: ImageSeen) -> Exposure:
    """What a launch from this image that says nothing itself would be."""
    return _judged(region, SAYS_NOTHING, SAYS_NOTHING, image.image_id, image)


def source_exposure(region: RegionSeen, source: LaunchSource) -> Exposure:
    """What the next launch from a group's or a fleet's source would be."""
    if source.configuration is not None:
        configuration = next((each for each in region.configurations if each.name == source.configuration), None)
        if configuration is None:
            return _unseen("launch configuration", source.configuration)
        return configuration_exposure(region, configuration)
    if source.template_id is not None or source.template_name is not None:
        template = template_version(region, source)
        if template is None:
            name = source.template_id or source.template_name or ""
            return _unseen("launch template", name, f" version {source.version or DEFAULT_VERSION}")
        return _from_template(region, template, source.image_id or template.image_id)
    if source.image_id is None:
        return Exposure(Verdict.UNKNOWN, "it does not say from which image it launches")
    return _judged(region, SAYS_NOTHING, SAYS_NOTHING, source.image_id)


def group_exposure(region: RegionSeen, group: GroupSeen) -> Exposure:
    """What the next instances of an Auto Scaling group would be: as bad as the worst of its sources."""
    return _worst(
        (source_exposure(region, each) for each in group.sources), "it does not say from what the group launches"
    )


def fleet_exposure(region: RegionSeen, fleet: FleetSeen) -> Exposure:
    """What the next instances of an EC2 Fleet, Spot Fleet or Spot request would be: as bad as its worst source."""
    return _worst(
        (source_exposure(region, each) for each in fleet.sources), "it does not say from what the fleet launches"
    )


def service_exposure(region: RegionSeen, service: ServiceSeen) -> Exposure:
    """Another service's resource: by what it says itself, else by what it refers to, else unknown."""
    own = instance_exposure(service.options)
    if own.verdict is not Verdict.UNKNOWN:
        return own
    parts = [source_exposure(region, each) for each in service.sources]
    if service.group_names:
        groups = {each.name: each for each in region.groups}
        parts += [
            group_exposure(region, groups[name]) if name in groups else _unseen("Auto Scaling group", name)
            for name in service.group_names
        ]
    if service.instance_ids:
        instances = {each.instance_id: each for each in region.instances}
        parts += [
            instance_exposure(instances[name].options) if name in instances else _unseen("instance", name)
            for name in service.instance_ids
        ]
    return _worst(parts, service.reason or "it does not say what its instances get")


def template_version(region: RegionSeen, source: LaunchSource) -> TemplateVersionSeen | None:
    """The template version that a source launches from, None when the scan did not see it.

    No version means `$Default` (EC2 API Reference, FleetLaunchTemplateSpecification; Auto Scaling's
    LaunchTemplateSpecification).
    """
    version = source.version or DEFAULT_VERSION
    for each in region.templates:
        if source.template_id is not None:
            if each.template_id != source.template_id:
                continue
        elif each.template_name != source.template_name:
            continue
        if version == DEFAULT_VERSION:
            right = each.is_default
        elif version == LATEST_VERSION:
            right = each.is_latest
        else:
            right = version == str(each.version)
        if right:
            return each
    return None


def why_unseen(region: RegionSeen, what: str) -> str:
    """Why a part of a Region was not read, in AWS's words where there are some."""
    return next((each.reason for each in region.unseen if each.what == what), "not read")


def _unseen(kind: str, name: str, which: str = "") -> Exposure:
    return Exposure(Verdict.UNKNOWN, f"{kind} {name}{which} was not seen", (name,))


def _worst(parts: Iterable[Exposure], nothing: str) -> Exposure:
    found = tuple(parts)
    if not found:
        return Exposure(Verdict.UNKNOWN, nothing)
    verdict = combined(each.verdict for each in found)
    return next(each for each in found if each.verdict is verdict)


def _from_template(region: RegionSeen, template: TemplateVersionSeen, image_id: str | None) -> Exposure:
    exposure = _judged(region, SAYS_NOTHING, template.options, image_id)
    if image_id is None and exposure.verdict is Verdict.EXPOSED and region.defaults is not None:
        silent = template.options.http_tokens is None and region.defaults.http_tokens is None
        if silent:
            return Exposure(Verdict.EXPOSED, "no layer speaks, and the template leaves the image open")
    return exposure


def _judged(
    region: RegionSeen,
    launch: MetadataOptions,
    template: MetadataOptions,
    image_id: str | None,
    image: ImageSeen | None = None,
) -> Exposure:
    """`launch` are launch parameters, `template` the options of a launch template."""
    defaults = region.defaults
    if defaults is None:
        said = launch.over(template) if template is not SAYS_NOTHING else launch
        if said.http_tokens is HttpTokens.REQUIRED or said.http_endpoint is Switch.DISABLED:
            return _launch(launch, template, AccountDefaults(), None)
        why = why_unseen(region, "defaults")
        return Exposure(Verdict.UNKNOWN, f"the Region's default was not read: {why}", (why,))
    if image_id is None:
        return _launch(launch, template, defaults, None)
    image = image or region.image(image_id)
    if image is not None and image.found:
        return _launch(launch, template, defaults, image.imds_support)
    # The image only matters where nobody stronger speaks: try both things that it can say.
    plain = _launch(launch, template, defaults, None)
    if plain.verdict is _launch(launch, template, defaults, "v2.0").verdict:
        return plain
    if not image_id.startswith("ami-"):
        what = "is a name to look up at launch"
    elif image is not None:
        what = "was not found"
    else:
        # AWS's words, which may be long, are told once, with what is unseen in the Region.
        codes = [each.code for each in region.unseen if each.what == NAMED_IMAGES and each.code]
        what = f"was not read ({codes[0]})" if codes else "was not read"
    return Exposure(Verdict.UNKNOWN, f"image {image_id} {what}, and nothing stronger decides", (image_id,))


@lru_cache(maxsize=RESOLUTIONS_REMEMBERED_MAX)
def _launch(
    launch: MetadataOptions, template: MetadataOptions, defaults: AccountDefaults, imds_support: str | None
) -> Exposure:
    return launch_exposure(resolve(launch, defaults, image_options(imds_support), launch_template=template))
