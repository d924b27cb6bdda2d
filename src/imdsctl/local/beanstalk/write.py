"""Making, changing and ending environments.

Source: Elastic Beanstalk API Reference, CreateApplication, CreateEnvironment, UpdateEnvironment, TerminateEnvironment.
Nothing is deployed: an environment is its options, its launch template and its Auto Scaling group.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from imdsctl.local import behalf
from imdsctl.local.beanstalk.errors import failed, invalid, missing, no_application
from imdsctl.local.beanstalk.launches import change_group, image_of, make_group
from imdsctl.local.beanstalk.options import DEFAULTS, changed
from imdsctl.local.beanstalk.read import application_structure, beanstalk, environment_structure, the_environment
from imdsctl.local.beanstalk.state import (
    LAUNCHING,
    READY,
    TERMINATED,
    TERMINATING,
    UPDATING,
    Application,
    Environment,
)
from imdsctl.local.call import AwsError, Call, Operation

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{2,38})[A-Za-z0-9]")
_NOT_HERE = ("GroupName", "Tier", "TemplateName", "PlatformArn", "CNAMEPrefix", "OperationsRole")


def create_application(call: Call) -> Mapping[str, Any]:
    """Make an application without environments. Raises InvalidParameterValue."""
    name = call.params["ApplicationName"]
    if not 1 <= len(name) <= 100 or "/" in name:
        raise invalid(f"Application name '{name}' is not valid.")
    if name in beanstalk(call).applications:
        raise invalid(f"Application {name} already exists.")
    arn = f"arn:aws:elasticbeanstalk:{call.region}:{call.account_id}:application/{name}"
    application = Application(name, arn, call.params.get("Description") or "", call.now)
    beanstalk(call).applications[name] = application
    return {"Application": application_structure(call, application)}


def create_environment(call: Call) -> Mapping[str, Any]:
    """Make an environment of a platform; its Auto Scaling group then launches its instances.

    Raises ConfigurationValidationException, InvalidParameterValue, MissingParameter.
    """
    params, state = call.params, beanstalk(call)
    application, name, platform = params["ApplicationName"], params.get("EnvironmentName"), "SolutionStackName"
    if application not in state.applications:
        raise no_application(application)
    if not name:
        raise missing("EnvironmentName must be specified.")
    if not _NAME.fullmatch(name):
        raise invalid(f"Value {name} at 'EnvironmentName' failed to satisfy constraint: 4 to 40 letters and digits.")
    _refuse_what_is_not_here(params)
    there = state.find(call.now, name)
    if there is not None and there.status_at(call.now) != TERMINATED:
        raise invalid(f"Environment {name} already exists.")
    if not params.get(platform):
        raise missing("SolutionStackName must be specified.")
    if image_of(call, params[platform]) is None:
        raise invalid(f"No Solution Stack named '{params[platform]}' found.")
    unique = f"e-{call.ids.hex(10)}"
    environment = Environment(
        id=unique,
        name=name,
        arn=f"arn:aws:elasticbeanstalk:{call.region}:{call.account_id}:environment/{application}/{name}",
        application=application,
        created=call.now,
        updated=call.now,
        platform=params[platform],
        group=f"awseb-{unique}-stack-AWSEBAutoScalingGroup-{call.ids.hex(12).upper()}",
        options=changed(DEFAULTS, params),
        description=params.get("Description") or None,
        version_label=params.get("VersionLabel") or None,
        doing=LAUNCHING,
        ready=_due(call),
    )
    make_group(call, environment)
    state.environments[unique] = environment
    return environment_structure(call, environment)


def update_environment(call: Call) -> Mapping[str, Any]:
    """Change options and description. DisableIMDSv1 goes into a new version of the launch template, or a first one.

    Raises ConfigurationValidationException, InvalidParameterValue and more.
    """
    environment, params = the_environment(call), call.params
    if params.get("ApplicationName") not in (None, environment.application):
        raise invalid(f"Environment {environment.name} is not one of application '{params['ApplicationName']}'.")
    _refuse_what_is_not_here(params, "VersionLabel", "SolutionStackName")
    options = changed(environment.options, params)
    _check_ready(call, environment)
    change_group(call, environment, options)
    environment.options = options
    if params.get("Description") is not None:
        environment.description = params["Description"] or None
    environment.updated, environment.doing, environment.ready = call.now, UPDATING, _due(call)
    return environment_structure(call, environment)


def terminate_environment(call: Call) -> Mapping[str, Any]:
    """End an environment with its instances. It is listed as terminated for an hour. Raises InvalidParameterValue."""
    environment = the_environment(call)
    if not call.params.get("ForceTerminate"):
        _check_ready(call, environment)
    owns = behalf.group_of(call, environment.group) is not None  # a generated one only names a template
    with behalf.undone(call, failed):
        behalf.delete_group(call, environment.group)
    if owns:
        behalf.drop_template(call, environment.template_id)
    environment.updated, environment.doing, environment.ready = call.now, TERMINATING, _due(call)
    return environment_structure(call, environment)


def _refuse_what_is_not_here(params: Mapping[str, Any], *more: str) -> None:
    for name in (*_NOT_HERE, *more):
        if params.get(name):
            raise AwsError("UnsupportedOperation", f"The local AWS of imdsctl does not know what to do by {name}.", 400)


def _check_ready(call: Call, environment: Environment) -> None:
    if environment.status_at(call.now) != READY:
        raise invalid(f"Environment named {environment.name} is in an invalid state for this operation. Must be Ready.")


def _due(call: Call) -> datetime:
    return call.now + timedelta(seconds=call.world.settle_seconds)


OPERATIONS = {
    "CreateApplication": Operation(create_application, writes=True),
    "CreateEnvironment": Operation(create_environment, writes=True),
    "TerminateEnvironment": Operation(terminate_environment, writes=True),
    "UpdateEnvironment": Operation(update_environment, writes=True),
}
