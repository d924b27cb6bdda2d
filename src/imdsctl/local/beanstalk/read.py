"""Reading applications and environments.

Source: Elastic Beanstalk API Reference, DescribeApplications, DescribeEnvironments, DescribeConfigurationSettings,
DescribeEnvironmentResources.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from imdsctl.local.beanstalk.errors import invalid, missing, no_application, no_environment, wrong_combination
from imdsctl.local.beanstalk.generator import first_environments
from imdsctl.local.beanstalk.state import READY, TERMINATED, Application, BeanstalkState, Environment
from imdsctl.local.behalf import group_of
from imdsctl.local.call import Call, Operation
from imdsctl.local.constraints import check_range
from imdsctl.local.ec2.common import region_state
from imdsctl.local.ec2.resources import RUNNING
from imdsctl.local.ec2.state import RegionState
from imdsctl.local.pages import InvalidToken, page

RECORDS_MAX = 1000
NAME_TAG = "elasticbeanstalk:environment-name"


def beanstalk(call: Call) -> BeanstalkState:
    """The caller's Elastic Beanstalk in the call's Region."""
    return call.world.kept(call.account_id, call.region, first_environments)


def the_environment(call: Call) -> Environment:
    """The environment that a request names by id, name or both.

    Raises MissingParameter, InvalidParameterValue, InvalidParameterCombination.
    """
    given = {name: call.params[name] for name in ("EnvironmentId", "EnvironmentName") if call.params.get(name)}
    if not given:
        raise missing("Either EnvironmentId or EnvironmentName must be specified.")
    found: Environment | None = None
    for member, value in given.items():
        each = beanstalk(call).find(call.now, value)
        if each is None:
            raise no_environment(member, value)
        if found is not None and each is not found:
            raise wrong_combination("EnvironmentId and EnvironmentName do not name the same environment.")
        found = each
    assert found is not None
    return found


def describe_applications(call: Call) -> Mapping[str, Any]:
    """The applications, or those that are named; a name that is none is left out."""
    names = call.params.get("ApplicationNames")
    found = [each for _, each in sorted(beanstalk(call).applications.items()) if not names or each.name in names]
    return {"Applications": [application_structure(call, each) for each in found]}


def application_structure(call: Call, application: Application) -> dict[str, Any]:
    """AWS's `ApplicationDescription`."""
    versions = {
        each.version_label
        for each in beanstalk(call).environments.values()
        if each.application == application.name and each.version_label
    }
    return {
        "ApplicationArn": application.arn,
        "ApplicationName": application.name,
        "Description": application.description,
        "DateCreated": application.created,
        "DateUpdated": application.created,
        "Versions": sorted(versions),
        "ConfigurationTemplates": [],
    }


def describe_environments(call: Call) -> Mapping[str, Any]:
    """The environments that every given condition lets through, in pages when MaxRecords is given."""
    params = call.params
    check_range(params.get("MaxRecords"), "maxRecords", invalid, 1, RECORDS_MAX)
    deleted = params.get("IncludeDeleted") is not False
    back_to = params.get("IncludedDeletedBackTo")
    found = [
        each
        for each in sorted(beanstalk(call).environments.values(), key=lambda one: (one.name, one.created, one.id))
        if each.shown_at(call.now)
        and (deleted or each.status_at(call.now) != TERMINATED)
        and (back_to is None or each.status_at(call.now) != TERMINATED or each.updated >= aware(back_to))
        and params.get("ApplicationName") in (None, each.application)
        and params.get("VersionLabel") in (None, each.version_label)
        and (not params.get("EnvironmentIds") or each.id in params["EnvironmentIds"])
        and (not params.get("EnvironmentNames") or each.name in params["EnvironmentNames"])
    ]
    asked = {name: value for name, value in params.items() if name not in ("NextToken", "MaxRecords")}
    place = f"{call.action}/{call.account_id}/{call.region}/{sorted(asked.items())}"
    try:
        part, token = page(found, params.get("NextToken") or None, params.get("MaxRecords") or RECORDS_MAX, of=place)
    except InvalidToken:
        raise invalid("The NextToken is not valid.") from None
    return {"Environments": [environment_structure(call, each) for each in part], "NextToken": token}


def environment_structure(call: Call, environment: Environment) -> dict[str, Any]:
    """AWS's `EnvironmentDescription`."""
    status = environment.status_at(call.now)
    running = bool(members(region_state(call), environment))
    return {
        "EnvironmentName": environment.name,
        "EnvironmentId": environment.id,
        "ApplicationName": environment.application,
        "VersionLabel": environment.version_label,
        "SolutionStackName": environment.platform,
        "Description": environment.description,
        "CNAME": f"{environment.name}.{call.region}.elasticbeanstalk.com",
        "DateCreated": environment.created,
        "DateUpdated": environment.updated,
        "Status": status,
        "AbortableOperationInProgress": status != READY,
        "Health": "Green" if running else "Grey",
        "HealthStatus": "Ok" if running else "NoData",
        "Tier": {"Name": "WebServer", "Type": "Standard", "Version": "1.0"},
        "EnvironmentLinks": [],
        "EnvironmentArn": environment.arn,
    }


def aware(moment: datetime) -> datetime:
    """A time of a request, which may come without its zone."""
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def members(region: RegionState, environment: Environment) -> list[str]:
    """The ids of an environment's instances: those that its tag is on (Developer Guide, "Tagging resources")."""
    return [
        each.id
        for each in region.instances.values()
        if each.state == RUNNING and region.tags.get(each.id, {}).get(NAME_TAG) == environment.name
    ]


def describe_configuration_settings(call: Call) -> Mapping[str, Any]:
    """The option settings of an environment. An option that nobody set and that has no default here is not listed."""
    name, wanted = call.params["ApplicationName"], call.params.get("EnvironmentName")
    if bool(wanted) == bool(call.params.get("TemplateName")):
        raise wrong_combination("Exactly one of TemplateName and EnvironmentName must be specified.")
    if name not in beanstalk(call).applications:
        raise no_application(name)
    environment = beanstalk(call).find(call.now, wanted or "")
    if wanted is None:
        raise invalid(f"No Configuration Template named '{name}/{call.params['TemplateName']}' found.")
    if environment is None or environment.application != name:
        raise no_environment("EnvironmentName", wanted)
    settings = {
        "SolutionStackName": environment.platform,
        "ApplicationName": name,
        "Description": environment.description,
        "EnvironmentName": environment.name,
        "DeploymentStatus": "deployed" if environment.status_at(call.now) == READY else "pending",
        "DateCreated": environment.created,
        "DateUpdated": environment.updated,
        "OptionSettings": [
            {"Namespace": namespace, "OptionName": option, "Value": value}
            for (namespace, option), value in sorted(environment.options.items())
        ],
    }
    return {"ConfigurationSettings": [settings]}


def describe_environment_resources(call: Call) -> Mapping[str, Any]:
    """An environment's Auto Scaling group, what that launches from, and its instances."""
    environment = the_environment(call)
    if environment.status_at(call.now) == TERMINATED:
        raise no_environment("EnvironmentId", environment.id)
    group = group_of(call, environment.group)
    resources = {
        "EnvironmentName": environment.name,
        "AutoScalingGroups": [{"Name": group.name}] if group is not None else [],
        "Instances": [{"Id": each} for each in members(region_state(call), environment)],
        "LaunchConfigurations": [{"Name": environment.configuration}] if environment.configuration else [],
        "LaunchTemplates": [{"Id": environment.template_id}] if environment.template_id else [],
        "LoadBalancers": [],
        "Triggers": [],
        "Queues": [],
    }
    return {"EnvironmentResources": resources}


OPERATIONS = {
    "DescribeApplications": Operation(describe_applications),
    "DescribeEnvironments": Operation(describe_environments),
    "DescribeConfigurationSettings": Operation(describe_configuration_settings),
    "DescribeEnvironmentResources": Operation(describe_environment_resources),
}
