"""Elastic Beanstalk: environments. The option `DisableIMDSv1` decides, and Elastic Beanstalk writes it into the launch
template of the environment's Auto Scaling group.

Source: Elastic Beanstalk Developer Guide, "General options for all environments" (namespace
`aws:autoscaling:launchconfiguration`), and "Configuring the IMDS on your Elastic Beanstalk environment's instances".
Nobody set it: on Amazon Linux 2, older Amazon Linux and Windows both versions are allowed. For Amazon Linux 2023 the
editions of these pages differ, so that the launch template or the instances have to tell. There is no option for the
hop limit.

Calls: the list of environments, and two for each environment: its option settings and its resources, which no list has.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imdsctl.domain.observations import SAYS_NOTHING, LaunchSource, ServiceKind, ServiceSeen
from imdsctl.domain.options import HttpTokens, MetadataOptions
from imdsctl.domain.regions import COMMERCIAL_REGIONS
from imdsctl.fleet.services.calls import ServiceCalls
from imdsctl.fleet.services.paging import each_page, together
from imdsctl.wire.errors import ServiceError

REGIONS = frozenset(COMMERCIAL_REGIONS) - {"ap-east-2", "mx-central-1"}
"""Where Elastic Beanstalk is (AWS General Reference, "AWS Elastic Beanstalk endpoints and quotas")."""
NAMESPACE = "aws:autoscaling:launchconfiguration"
OPTION = "DisableIMDSv1"
GONE = "InvalidParameterValue"
ENDED = frozenset({"Terminating", "Terminated"})
UNSET = f"{OPTION} is not set, and what that means on this platform is not documented for certain"
_BOTH = MetadataOptions(http_tokens=HttpTokens.OPTIONAL)
OPTIONS: Mapping[str, MetadataOptions] = {
    "false": _BOTH,
    "true": MetadataOptions(http_tokens=HttpTokens.REQUIRED),
}
"""By the option's value."""

LIST = {
    "Environments": {
        "EnvironmentName": None,
        "EnvironmentArn": None,
        "EnvironmentId": None,
        "ApplicationName": None,
        "SolutionStackName": None,
        "PlatformArn": None,
        "Status": None,
    }
}
SETTINGS = {
    "ConfigurationSettings": {
        "DeploymentStatus": None,
        "OptionSettings": {"Namespace": None, "OptionName": None, "Value": None},
    }
}
RESOURCES = {
    "EnvironmentResources": {
        "AutoScalingGroups": {"Name": None},
        "Instances": {"Id": None},
        "LaunchConfigurations": {"Name": None},
        "LaunchTemplates": {"Id": None},
    }
}


async def read(calls: ServiceCalls) -> list[ServiceSeen]:
    """Every environment that is not terminated. Raises ServiceError and Unreachable."""
    environments = [
        each
        async for page in each_page(calls, "DescribeEnvironments", {"IncludeDeleted": False}, LIST, token="NextToken")
        for each in page.get("Environments") or ()
        if each.get("Status") not in ENDED
    ]
    found = await together(_environment(calls, each) for each in environments)
    return [each for each in found if each is not None]


async def _environment(calls: ServiceCalls, listed: Mapping[str, Any]) -> ServiceSeen | None:
    named = {"ApplicationName": listed["ApplicationName"], "EnvironmentName": listed["EnvironmentName"]}
    try:
        settings, answer = await together(
            (
                calls.call("DescribeConfigurationSettings", named, SETTINGS),
                calls.call("DescribeEnvironmentResources", {"EnvironmentId": listed["EnvironmentId"]}, RESOURCES),
            )
        )
    except ServiceError as error:
        if error.code == GONE:
            return None
        raise
    options = _options(settings.get("ConfigurationSettings") or [], listed)
    resources = answer.get("EnvironmentResources") or {}
    templates = [each["Id"] for each in resources.get("LaunchTemplates") or ()]
    configurations = [each["Name"] for each in resources.get("LaunchConfigurations") or ()]
    return ServiceSeen(
        ServiceKind.BEANSTALK_ENVIRONMENT,
        listed["EnvironmentArn"],
        name=listed["EnvironmentName"],
        options=options,
        reason=UNSET if options is SAYS_NOTHING else "",
        sources=(
            *(LaunchSource(template_id=each) for each in templates),
            *(LaunchSource(configuration=each) for each in configurations),
        ),
        group_names=tuple(each["Name"] for each in resources.get("AutoScalingGroups") or ()),
        instance_ids=tuple(each["Id"] for each in resources.get("Instances") or ()),
        parent=listed["ApplicationName"],
    )


def _options(settings: list[dict[str, Any]], listed: Mapping[str, Any]) -> MetadataOptions:
    """What the deployed settings say, and not those of a deployment that is under way or failed."""
    deployed = [each for each in settings if each.get("DeploymentStatus") == "deployed"] or settings
    for each in deployed:
        for setting in each.get("OptionSettings") or ():
            if (setting.get("Namespace"), setting.get("OptionName")) == (NAMESPACE, OPTION) and setting.get("Value"):
                return OPTIONS.get(setting["Value"].lower(), SAYS_NOTHING)
    platform = listed.get("SolutionStackName") or listed.get("PlatformArn") or ""
    if "Amazon Linux 2023" not in platform and ("Amazon Linux" in platform or "Windows Server" in platform):
        return _BOTH
    return SAYS_NOTHING
