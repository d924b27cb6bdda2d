"""UpdateEnvironment, as far as option settings go.

Source: Elastic Beanstalk Developer Guide, "Configuring the IMDS on your Elastic Beanstalk environment's instances": an
environment that launches from a launch configuration is moved to a launch template when `DisableIMDSv1` is set; and
"General options for all environments" for the options' values.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from imdsctl.local.beanstalk.errors import invalid, wrong_option
from imdsctl.local.beanstalk.read import environment_structure, the_environment
from imdsctl.local.beanstalk.state import DISABLE_V1, LAUNCH, READY, Environment
from imdsctl.local.call import AwsError, Call, Operation
from imdsctl.local.ec2.common import region_state
from imdsctl.local.ec2.resources import LaunchTemplate, LaunchTemplateVersion

VARIABLES = "aws:elasticbeanstalk:application:environment"
"""The namespace whose options are an application's environment variables: any name is one."""

_BOOLEAN, _SIZE, _TEXT = "true|false", r"\d{1,5}", ".{1,1024}"
_OPTIONS: Mapping[tuple[str, str], str] = {
    ("aws:autoscaling:asg", "Cooldown"): _SIZE,
    ("aws:autoscaling:asg", "MaxSize"): _SIZE,
    ("aws:autoscaling:asg", "MinSize"): _SIZE,
    ("aws:elasticbeanstalk:environment", "EnvironmentType"): "LoadBalanced|SingleInstance",
    ("aws:elasticbeanstalk:environment", "ServiceRole"): _TEXT,
    (LAUNCH, DISABLE_V1): _BOOLEAN,
    (LAUNCH, "EC2KeyName"): _TEXT,
    (LAUNCH, "IamInstanceProfile"): _TEXT,
    (LAUNCH, "ImageId"): r"ami-[0-9a-f]{8,17}",
    (LAUNCH, "InstanceType"): r"[a-z0-9-]+\.[a-z0-9-]+",
}
"""The options that may be set here, each with the pattern of its values."""
_NOT_HERE = ("GroupName", "Tier", "VersionLabel", "TemplateName", "SolutionStackName", "PlatformArn")


def update_environment(call: Call) -> Mapping[str, Any]:
    """Change options and description. Setting DisableIMDSv1 gives the environment a new version of its template.

    Instances that run are not replaced here. Raises ConfigurationValidationException, InvalidParameterValue and more.
    """
    environment, params = the_environment(call), call.params
    if params.get("ApplicationName") not in (None, environment.application):
        raise invalid(f"Environment {environment.name} is not one of application '{params['ApplicationName']}'.")
    for name in _NOT_HERE:
        if params.get(name):
            raise AwsError("UnsupportedOperation", f"The local AWS of imdsctl does not change {name}.", 400)
    options = _changed(environment, params)
    if environment.status_at(call.now) != READY:
        raise invalid(f"Environment named {environment.name} is in an invalid state for this operation. Must be Ready.")
    setting = options.get((LAUNCH, DISABLE_V1))
    if setting is not None and setting != environment.options.get((LAUNCH, DISABLE_V1)):
        _launch_from_template(call, environment, setting)
    environment.options = options
    if params.get("Description") is not None:
        environment.description = params["Description"] or None
    environment.updated = call.now
    environment.ready = call.now + timedelta(seconds=call.world.settle_seconds)
    return environment_structure(call, environment)


def _changed(environment: Environment, params: Mapping[str, Any]) -> dict[tuple[str, str], str]:
    options = dict(environment.options)
    for each in params.get("OptionsToRemove") or ():
        options.pop(_key(each), None)
    for each in params.get("OptionSettings") or ():
        namespace, option = _key(each)
        value = each.get("Value") or ""
        if namespace != VARIABLES and not re.fullmatch(_OPTIONS[namespace, option], value):
            raise wrong_option(namespace, option, f"Value does not match [{_OPTIONS[namespace, option]}].", value=value)
        options[namespace, option] = value
    return options


def _key(given: Mapping[str, Any]) -> tuple[str, str]:
    namespace, option = str(given.get("Namespace") or ""), str(given.get("OptionName") or "")
    if namespace != VARIABLES and (namespace, option) not in _OPTIONS:
        raise wrong_option(namespace, option, "Unknown configuration setting.")
    return namespace, option


def _launch_from_template(call: Call, environment: Environment, setting: str) -> None:
    """Let the environment launch with what the option says: by a new version of its template, or a first template."""
    region = region_state(call)
    tokens = {"MetadataOptions": {"HttpTokens": "required" if setting == "true" else "optional"}}
    author = f"arn:aws:sts::{call.account_id}:assumed-role/aws-elasticbeanstalk-service-role/AWSElasticBeanstalk"
    template = region.templates.get(environment.template_id or "")
    if template is not None:
        number = template.last_number = template.last_number + 1
        data = {**template.versions[template.default_version].data, **tokens}
        template.versions[number] = LaunchTemplateVersion(number, call.now, author, data)
        template.latest_version = template.default_version = number
        return
    scaling = region.scaling
    configuration = scaling.configurations.get(environment.configuration or "") if scaling is not None else None
    data = {name: configuration.data[name] for name in ("ImageId", "InstanceType")} if configuration is not None else {}
    unique = call.ids.hex17()
    made = LaunchTemplate(
        id=f"lt-{unique}",
        name=f"AWSEBEC2LaunchTemplate_{unique[-12:]}",
        created=call.now,
        created_by=author,
        versions={1: LaunchTemplateVersion(1, call.now, author, {**data, **tokens})},
    )
    region.add_template(made, {"elasticbeanstalk:environment-name": environment.name})
    environment.template_id, environment.configuration = made.id, None


OPERATIONS = {"UpdateEnvironment": Operation(update_environment, writes=True)}
