"""What a scan knows of an account's Region, for calls that are simulated or replayed there."""

from __future__ import annotations

from typing import Any

from imdsctl.codify.asked import Known, TemplateKnown
from imdsctl.domain.observations import RegionSeen
from imdsctl.domain.options import AccountDefaults
from imdsctl.policy.request import Keys, context_keys


def templates_of(region: RegionSeen) -> dict[str, TemplateKnown]:
    """The launch templates by id and by name: options and image of each version that the scan saw."""
    versions: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    default: dict[str, str] = {}
    for each in region.templates:
        data: dict[str, Any] = {"MetadataOptions": each.options.to_aws()}
        if each.image_id:
            data["ImageId"] = each.image_id
        versions.setdefault((each.template_id, each.template_name), {})[str(each.version)] = data
        if each.is_default:
            default[each.template_id] = str(each.version)
    templates: dict[str, TemplateKnown] = {}
    for (identifier, name), found in versions.items():
        templates[identifier] = templates[name] = TemplateKnown(identifier, found, default.get(identifier, ""))
    return templates


def known_of(region: RegionSeen) -> Known:
    """Defaults, images, templates, and instances with their options and tags."""
    keys: dict[str, Keys] = {
        each.instance_id: context_keys({"ec2:InstanceType": each.instance_type}) for each in region.instances
    }
    return Known(
        region.defaults or AccountDefaults(),
        imds_support={each.image_id: each.imds_support for each in region.images},
        templates=templates_of(region),
        instances={each.instance_id: each.options for each in region.instances},
        keys=keys,
        tags={each.instance_id: dict(each.tags) for each in region.instances if each.tags},
    )
