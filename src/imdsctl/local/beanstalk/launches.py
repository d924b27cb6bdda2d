"""From what an environment launches: its template, and the Auto Scaling group that uses it.

Source: Elastic Beanstalk Developer Guide, "Configuring the IMDS on your Elastic Beanstalk environment's instances" and
"Migrating your Elastic Beanstalk environment to launch templates".
"""

from __future__ import annotations

from typing import Any

from imdsctl.local import behalf
from imdsctl.local.beanstalk.errors import failed
from imdsctl.local.beanstalk.options import ASG, DEFAULTS, Options
from imdsctl.local.beanstalk.state import DISABLE_V1, LAUNCH, Environment
from imdsctl.local.call import Call
from imdsctl.local.ec2.common import region_state
from imdsctl.local.ec2.public_images import public_image

PLATFORMS = (
    # A part of the platform's name, and the family of the public image that stands for its image here.
    ("Amazon Linux 2023", "al2023"),
    ("Amazon Linux 2", "al2"),
    ("Windows Server 2019", "windows-2019"),
    ("Windows Server 2022", "windows-2022"),
    ("Windows Server 2025", "windows-2025"),
)


def image_of(call: Call, platform: str) -> str | None:
    """The id of a platform's image; None for a platform that is not here."""
    family = next((family for part, family in PLATFORMS if part in platform), None)
    return public_image(call.region, family).id if family is not None else None


def make_group(call: Call, environment: Environment) -> None:
    """Make the environment's launch template and group. Raises AwsError, nothing being made."""
    with behalf.undone(call, failed):
        template = _first_template(call, environment, environment.options)
        tags = {"elasticbeanstalk:environment-id": environment.id, "Name": environment.name, **_tags(environment)}
        params = {
            "AutoScalingGroupName": environment.group,
            "LaunchTemplate": {"LaunchTemplateId": template, "Version": "1"},
            "AvailabilityZones": [each.zone.name for each in region_state(call).subnets.values()],
            "Tags": [{"Key": key, "Value": value, "PropagateAtLaunch": True} for key, value in tags.items()],
            **_sizes(environment.options),
        }
        behalf.make_group(call, params)
    environment.template_id = template


def change_group(call: Call, environment: Environment, options: Options) -> None:
    """Let the environment launch by its new options; a group's instances are replaced when those concern them.

    An environment that launches from a launch configuration gets its first template. Raises AwsError, nothing being
    changed.
    """
    group = behalf.group_of(call, environment.group)
    with behalf.undone(call, failed):
        before, after = _settings(environment.options), _settings(options)
        if before != after:
            template = region_state(call).templates.get(environment.template_id or "")
            if template is None:
                template_id, number = _first_template(call, environment, options), 1
            else:
                data = {**template.versions[template.default_version].data, **_said(call, environment, options)}
                template_id, number = template.id, behalf.add_version(call, template, data)
            if group is not None:
                source = {"LaunchTemplate": {"LaunchTemplateId": template_id, "Version": str(number)}}
                behalf.replace_members(call, group.name, source)
        sizes = _sizes(options)
        if group is not None and sizes != _sizes(environment.options):
            behalf.resize_group(call, {"AutoScalingGroupName": group.name, **sizes})
    if before != after:
        environment.template_id, environment.configuration = template_id, None


def _first_template(call: Call, environment: Environment, options: Options) -> str:
    """The environment's own launch template: what its launch configuration says, and its options."""
    scaling = region_state(call).scaling
    configuration = scaling.configurations.get(environment.configuration or "") if scaling is not None else None
    data = {name: configuration.data[name] for name in ("ImageId", "InstanceType")} if configuration is not None else {}
    author = f"arn:aws:sts::{call.account_id}:assumed-role/aws-elasticbeanstalk-service-role/AWSElasticBeanstalk"
    name = f"AWSEBEC2LaunchTemplate_{call.ids.hex(12)}"
    image = {} if data else {"ImageId": image_of(call, environment.platform)}
    data = {**image, **data, **_said(call, environment, options)}
    return behalf.add_template(call, name, author, data, _tags(environment)).id


def _settings(options: Options) -> dict[str, str]:
    """The options that instances are launched with."""
    return {option: value for (namespace, option), value in options.items() if namespace == LAUNCH}


def _said(call: Call, environment: Environment, options: Options) -> dict[str, Any]:
    """The options as launch template data."""
    settings = _settings(options)
    said: dict[str, Any] = {"InstanceType": settings.get("InstanceType", DEFAULTS[LAUNCH, "InstanceType"])}
    if "ImageId" in settings:
        said["ImageId"] = settings["ImageId"]
    if "EC2KeyName" in settings:
        said["KeyName"] = settings["EC2KeyName"]
    if DISABLE_V1 in settings:
        said["MetadataOptions"] = {"HttpTokens": "required" if settings[DISABLE_V1] == "true" else "optional"}
    profile = settings.get("IamInstanceProfile", "").rpartition("/")[2]
    if call.world.iam(call.account_id).profile(profile) is not None:  # a generated one is only a name
        said["IamInstanceProfile"] = {"Name": profile}
    return said


def _sizes(options: Options) -> dict[str, Any]:
    return {name: int(options.get((ASG, name), DEFAULTS[ASG, name])) for name in ("MinSize", "MaxSize")}


def _tags(environment: Environment) -> dict[str, str]:
    return {"elasticbeanstalk:environment-name": environment.name}
