"""Launch templates and their versions.

Source: EC2 API Reference (CreateLaunchTemplate, ...Version, Describe..., Modify..., Delete...); EC2 User Guide,
"Manage launch template versions": versions are immutable and numbered, `$Latest` and `$Default` name two of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from imdsctl.codify.launch import without_empty
from imdsctl.domain.options import InvalidOption, MetadataOptions
from imdsctl.local.call import AwsError, Call, Operation
from imdsctl.local.ec2.common import aws_tags, region_state, remember, replayed, tag_specifications
from imdsctl.local.ec2.errors import (
    check_identifiers,
    invalid_combination,
    invalid_option,
    invalid_value,
    missing,
    not_found,
    refuse,
)
from imdsctl.local.ec2.filters import Filters, boolean
from imdsctl.local.ec2.pages import page
from imdsctl.local.ec2.resources import LaunchTemplate, LaunchTemplateVersion
from imdsctl.local.ec2.state import RegionState
from imdsctl.local.ec2.visibility import operator, shows_managed

LATEST = "$Latest"
DEFAULT = "$Default"
NAME = re.compile(r"[a-zA-Z0-9().\-/_]{3,128}")
DESCRIPTION_LENGTH_MAX = 255
VERSIONS_DELETED_MAX = 200
VERSION_NUMBER_CEILING = 10**10


# -- finding ---------------------------------------------------------------------------------------------------------


def find_template(state: RegionState, template_id: str | None, name: str | None) -> LaunchTemplate:
    """A launch template by its id or its name (exactly one).

    Raises MissingParameter, InvalidParameterCombination, InvalidLaunchTemplateId.Malformed/.NotFound and
    InvalidLaunchTemplateName.NotFoundException.
    """
    if template_id and name:
        raise invalid_combination(
            "The request must contain either LaunchTemplateId or LaunchTemplateName, but not both."
        )
    if template_id:
        check_identifiers("lt", [template_id])
        template = state.templates.get(template_id)
        if template is None:
            raise not_found("lt", template_id)
        return template
    if not name:
        raise refuse(
            "MissingParameter",
            "Either a launch template ID or a launch template name must be specified in the request.",
        )
    found = state.template_ids.get(name)
    if found is None:
        raise name_not_found(name)
    return state.templates[found]


def name_not_found(name: str) -> Exception:
    """`InvalidLaunchTemplateName.NotFoundException`."""
    return refuse(
        "InvalidLaunchTemplateName.NotFoundException",
        f"The specified launch template, with template name {name}, does not exist.",
    )


def find_version(template: LaunchTemplate, version: str | None) -> LaunchTemplateVersion:
    """A version by number, `$Latest` or `$Default` (also when none is named).

    Raises InvalidParameterValue and InvalidLaunchTemplateId.VersionNotFound.
    """
    number = version_number(template, version or DEFAULT)
    found = template.versions.get(number)
    if found is None:
        raise version_not_found(template, number)
    return found


def version_number(template: LaunchTemplate, version: str) -> int:
    """The number that a version's text stands for; it need not exist."""
    if version == DEFAULT:
        return template.default_version
    if version == LATEST:
        return template.latest_version
    return plain_number(version)


def plain_number(version: str) -> int:
    """A version given as a number. Raises InvalidParameterValue."""
    if not (version.isascii() and version.isdigit() and len(version) < 10):
        raise invalid_value(
            "Invalid launch template version: either '$Default', '$Latest', or a numeric version are allowed."
        )
    return int(version)


def version_not_found(template: LaunchTemplate, number: int) -> AwsError:
    """`InvalidLaunchTemplateId.VersionNotFound`."""
    return refuse(
        "InvalidLaunchTemplateId.VersionNotFound",
        f"Could not find the specified version {number} for the launch template with ID {template.id}.",
    )


# -- structures ------------------------------------------------------------------------------------------------------


def template_structure(state: RegionState, template: LaunchTemplate) -> dict[str, Any]:
    """AWS's `LaunchTemplate`."""
    out: dict[str, Any] = {
        "LaunchTemplateId": template.id,
        "LaunchTemplateName": template.name,
        "CreateTime": template.created,
        "CreatedBy": template.created_by,
        "DefaultVersionNumber": template.default_version,
        "LatestVersionNumber": template.latest_version,
        "Operator": operator(state, template.managed_by),
    }
    tags = state.tags.get(template.id)
    if tags:
        out["Tags"] = aws_tags(tags)
    return out


def version_structure(state: RegionState, template: LaunchTemplate, version: LaunchTemplateVersion) -> dict[str, Any]:
    """AWS's `LaunchTemplateVersion`."""
    out: dict[str, Any] = {
        "LaunchTemplateId": template.id,
        "LaunchTemplateName": template.name,
        "VersionNumber": version.number,
        "CreateTime": version.created,
        "CreatedBy": version.created_by,
        "DefaultVersion": version.number == template.default_version,
        "LaunchTemplateData": version.data,
        "Operator": operator(state, template.managed_by),
    }
    if version.description is not None:
        out["VersionDescription"] = version.description
    return out


def _checked_data(params: Mapping[str, Any]) -> dict[str, Any]:
    """The request's launch template data without what was sent empty; it has to hold something.

    Raises MissingParameter and InvalidParameterValue.
    """
    given = params.get("LaunchTemplateData") or {}
    try:
        MetadataOptions.from_aws(given.get("MetadataOptions"))
    except InvalidOption as error:
        raise invalid_option(error) from None
    return without_empty(given)


def _description(params: Mapping[str, Any]) -> str | None:
    description: str | None = params.get("VersionDescription") or None
    if description is not None and len(description) > DESCRIPTION_LENGTH_MAX:
        raise invalid_value(f"Version description exceeds the maximum length of {DESCRIPTION_LENGTH_MAX} characters.")
    return description


# -- creating --------------------------------------------------------------------------------------------------------


def create_launch_template(call: Call) -> dict[str, Any]:
    """Make a template with its version 1.

    Raises MissingParameter, InvalidParameterValue, InvalidLaunchTemplateName.MalformedException and
    .AlreadyExistsException, IdempotentParameterMismatch.
    """
    state, params = region_state(call), call.params
    name = params.get("LaunchTemplateName")
    if not name:
        raise missing("LaunchTemplateName")
    data = _checked_data(params)
    if not data:
        raise missing("LaunchTemplateData")
    if not NAME.fullmatch(name):
        raise refuse(
            "InvalidLaunchTemplateName.MalformedException",
            "A launch template name must be between 3 and 128 characters, and may contain letters, numbers, and the "
            "following characters: - ( ) . / _.",
        )
    description = _description(params)
    tags = tag_specifications(params.get("TagSpecifications"), ["launch-template"]).get("launch-template")
    earlier = replayed(call, state.templates.__contains__)
    if earlier is not None:
        return {"LaunchTemplate": template_structure(state, state.templates[earlier])}
    if name in state.template_ids:
        raise refuse("InvalidLaunchTemplateName.AlreadyExistsException", "Launch template name already in use.")
    first = LaunchTemplateVersion(1, call.now, call.caller.arn, data, description)
    template = LaunchTemplate(
        f"lt-{call.ids.hex17()}",
        name,
        call.now,
        call.caller.arn,
        {1: first},
        managed_by=(params.get("Operator") or {}).get("Principal") or None,
    )
    state.add_template(template, tags)
    remember(call, template.id)
    return {"LaunchTemplate": template_structure(state, template)}


def create_launch_template_version(call: Call) -> dict[str, Any]:
    """Add a version; with SourceVersion it takes over every launch parameter that the request does not give.

    A parameter that is given (such as MetadataOptions) replaces the source's as a whole; AWS does not say whether it
    merges structures. Raises like `create_launch_template`, and for a template or version that does not exist.
    """
    state, params = region_state(call), call.params
    template = find_template(state, params.get("LaunchTemplateId"), params.get("LaunchTemplateName"))
    data = _checked_data(params)
    description = _description(params)
    source = params.get("SourceVersion")
    if source:
        data = {**find_version(template, source).data, **data}
    if not data:
        raise missing("LaunchTemplateData")
    earlier = replayed(call, lambda made: _made_version(state, made) is not None)
    if earlier is not None:
        made = _made_version(state, earlier)
        assert made is not None
        return {"LaunchTemplateVersion": version_structure(state, *made)}
    number = template.last_number + 1
    version = LaunchTemplateVersion(number, call.now, call.caller.arn, data, description)
    template.versions[number] = version
    template.latest_version = template.last_number = number
    remember(call, f"{template.id}/{number}")
    return {"LaunchTemplateVersion": version_structure(state, template, version)}


def _made_version(state: RegionState, made: str) -> tuple[LaunchTemplate, LaunchTemplateVersion] | None:
    template_id, _, number = made.partition("/")
    template = state.templates.get(template_id)
    version = template.versions.get(int(number)) if template else None
    return (template, version) if template and version else None


# -- describing ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Listed:
    """A template with the tags it has."""

    template: LaunchTemplate
    tags: Mapping[str, str]


TEMPLATE_FILTERS: Filters[_Listed] = Filters(
    {
        "create-time": lambda listed: timestamp(listed.template.created),
        "launch-template-name": lambda listed: listed.template.name,
    },
    lambda listed: listed.tags,
)


def timestamp(moment: Any) -> str:
    """A time as EC2's filters compare it: `2025-11-24T09:12:13.000Z`."""
    return str(moment.strftime("%Y-%m-%dT%H:%M:%S.000Z"))


def describe_launch_templates(call: Call) -> dict[str, Any]:
    """The templates by id, by name, or all; in pages of 1 to 200.

    Raises InvalidLaunchTemplateId.Malformed/.NotFound, InvalidLaunchTemplateName.NotFoundException.
    """
    state, params = region_state(call), call.params
    ids, names = params.get("LaunchTemplateIds"), params.get("LaunchTemplateNames")
    if ids:
        templates = [find_template(state, each, None) for each in dict.fromkeys(ids)]
    elif names:
        templates = [find_template(state, None, each) for each in dict.fromkeys(names)]
    else:
        templates = list(state.templates.values())
    managed = shows_managed(call)
    listed = TEMPLATE_FILTERS.select(
        (
            _Listed(template, state.tags.get(template.id, {}))
            for template in sorted(templates, key=lambda each: each.id)
            if managed or template.managed_by is None
        ),
        params.get("Filters"),
    )
    shown, token = page(
        listed, lambda each: each.template.id, params, f"{call.account_id}/templates", least=1, most=200
    )
    out: dict[str, Any] = {"LaunchTemplates": [template_structure(state, each.template) for each in shown]}
    if token:
        out["NextToken"] = token
    return out


Versioned = tuple[LaunchTemplate, LaunchTemplateVersion]


def _option(name: str) -> Any:
    return lambda pair: (pair[1].data.get("MetadataOptions") or {}).get(name)


def _data(name: str) -> Any:
    return lambda pair: pair[1].data.get(name)


VERSION_FILTERS: Filters[Versioned] = Filters(
    {
        "create-time": lambda pair: timestamp(pair[1].created),
        "ebs-optimized": lambda pair: boolean(pair[1].data.get("EbsOptimized")),
        "http-endpoint": _option("HttpEndpoint"),
        "http-protocol-ipv4": _option("HttpEndpoint"),  # IPv4 is on whenever the service is
        "http-tokens": _option("HttpTokens"),
        "host-resource-group-arn": lambda pair: (pair[1].data.get("Placement") or {}).get("HostResourceGroupArn"),
        "iam-instance-profile": lambda pair: list((pair[1].data.get("IamInstanceProfile") or {}).values()),
        "image-id": _data("ImageId"),
        "instance-type": _data("InstanceType"),
        "is-default-version": lambda pair: boolean(pair[1].number == pair[0].default_version),
        "kernel-id": _data("KernelId"),
        "license-configuration-arn": lambda pair: [
            each.get("LicenseConfigurationArn", "") for each in pair[1].data.get("LicenseSpecifications") or ()
        ],
        "network-card-index": lambda pair: [
            str(each["NetworkCardIndex"])
            for each in pair[1].data.get("NetworkInterfaces") or ()
            if "NetworkCardIndex" in each
        ],
        "ram-disk-id": _data("RamDiskId"),
    }
)


def describe_launch_template_versions(call: Call) -> dict[str, Any]:
    """The versions of one template (all, some, or a range), or `$Latest`/`$Default` of every template.

    Newest first, in pages of 1 to 200. Raises InvalidParameterCombination, InvalidParameterValue, MissingParameter,
    and for a template or version that does not exist.
    """
    state, params = region_state(call), call.params
    asked = params.get("Versions") or []
    least, most = params.get("MinVersion"), params.get("MaxVersion")
    if asked and (least or most):
        raise invalid_combination("MinVersion and MaxVersion cannot be used together with Versions.")
    if params.get("LaunchTemplateId") or params.get("LaunchTemplateName"):
        template = find_template(state, params.get("LaunchTemplateId"), params.get("LaunchTemplateName"))
        found = _versions_of(template, asked, least, most)
    else:
        found = _versions_of_all(state, asked, least, most)
    if not shows_managed(call):
        found = [pair for pair in found if pair[0].managed_by is None]
    key = _version_key
    pairs = VERSION_FILTERS.select(sorted(found, key=key), params.get("Filters"))
    shown, token = page(pairs, key, params, f"{call.account_id}/template-versions", least=1, most=200)
    versions = [version_structure(state, *pair) for pair in shown]
    if params.get("ResolveAlias"):
        from imdsctl.local.ssm.resolve import image_of  # here, because parameters know EC2's public images

        for version in versions:
            data = version["LaunchTemplateData"]
            if "ImageId" in data:
                version["LaunchTemplateData"] = {**data, "ImageId": image_of(call, data["ImageId"])}
    out: dict[str, Any] = {"LaunchTemplateVersions": versions}
    if token:
        out["NextToken"] = token
    return out


def _version_key(pair: Versioned) -> str:
    return f"{pair[0].id}/{VERSION_NUMBER_CEILING - pair[1].number}"


def _versions_of(
    template: LaunchTemplate, asked: Iterable[str], least: str | None, most: str | None
) -> Iterable[Versioned]:
    numbers = dict.fromkeys(version_number(template, version) for version in asked)
    if numbers:
        for number in numbers:
            if number not in template.versions:
                raise version_not_found(template, number)
        return [(template, template.versions[number]) for number in numbers]
    low = version_number(template, least) if least else 0
    high = version_number(template, most) if most else VERSION_NUMBER_CEILING
    return [(template, version) for number, version in template.versions.items() if low <= number <= high]


def _versions_of_all(
    state: RegionState, asked: Iterable[str], least: str | None, most: str | None
) -> Iterable[Versioned]:
    if least or most:
        raise missing("LaunchTemplateId or LaunchTemplateName")
    if not asked:
        raise refuse(
            "MissingParameter",
            "Either a launch template ID or a launch template name, or the versions $Latest or $Default, must be "
            "specified in the request.",
        )
    for version in asked:
        if version not in (LATEST, DEFAULT):
            raise invalid_value(
                "Only the versions $Latest and $Default can be described for all launch templates. Specify a launch "
                "template ID or a launch template name and try again."
            )
    return [
        (template, template.versions[number])
        for template in state.templates.values()
        for number in dict.fromkeys(version_number(template, version) for version in asked)
    ]


# -- changing and deleting -------------------------------------------------------------------------------------------


def modify_launch_template(call: Call) -> dict[str, Any]:
    """Make another version the default one. Raises for a template or version that does not exist."""
    state, params = region_state(call), call.params
    template = find_template(state, params.get("LaunchTemplateId"), params.get("LaunchTemplateName"))
    wanted = params.get("DefaultVersion")
    if not wanted:
        raise missing("SetDefaultVersion")
    template.default_version = find_version(template, wanted).number
    return {"LaunchTemplate": template_structure(state, template)}


def delete_launch_template(call: Call) -> dict[str, Any]:
    """Delete a template with all its versions."""
    state, params = region_state(call), call.params
    template = find_template(state, params.get("LaunchTemplateId"), params.get("LaunchTemplateName"))
    shown = template_structure(state, template)
    del state.templates[template.id]
    del state.template_ids[template.name]
    state.tags.pop(template.id, None)
    return {"LaunchTemplate": shown}


def delete_launch_template_versions(call: Call) -> dict[str, Any]:
    """Delete versions by number; what cannot be deleted is reported beside what was.

    The default version stays. Numbers are never given twice.
    """
    state, params = region_state(call), call.params
    template = find_template(state, params.get("LaunchTemplateId"), params.get("LaunchTemplateName"))
    versions = params.get("Versions")
    if not versions:
        raise missing("LaunchTemplateVersion")
    if len(versions) > VERSIONS_DELETED_MAX:
        raise invalid_value(f"You can specify up to {VERSIONS_DELETED_MAX} launch template version numbers.")
    numbers = dict.fromkeys(plain_number(version) for version in versions)
    deleted: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for number in numbers:
        named = {
            "LaunchTemplateId": template.id,
            "LaunchTemplateName": template.name,
            "VersionNumber": number,
        }
        if number not in template.versions:
            error = version_not_found(template, number)
            failed.append(
                {
                    **named,
                    "ResponseError": {"Code": "launchTemplateVersionDoesNotExist", "Message": error.message},
                }
            )
        elif number == template.default_version:
            failed.append(
                {
                    **named,
                    "ResponseError": {
                        "Code": "unexpectedError",
                        "Message": "The default version of a launch template cannot be deleted.",
                    },
                }
            )
        else:
            del template.versions[number]
            deleted.append(named)
    template.latest_version = max(template.versions)
    return {
        "SuccessfullyDeletedLaunchTemplateVersions": deleted,
        "UnsuccessfullyDeletedLaunchTemplateVersions": failed,
    }


OPERATIONS = {
    "CreateLaunchTemplate": Operation(create_launch_template, writes=True),
    "CreateLaunchTemplateVersion": Operation(create_launch_template_version, writes=True),
    "DescribeLaunchTemplates": Operation(describe_launch_templates),
    "DescribeLaunchTemplateVersions": Operation(describe_launch_template_versions),
    "ModifyLaunchTemplate": Operation(modify_launch_template, writes=True),
    "DeleteLaunchTemplate": Operation(delete_launch_template, writes=True),
    "DeleteLaunchTemplateVersions": Operation(delete_launch_template_versions, writes=True),
}
