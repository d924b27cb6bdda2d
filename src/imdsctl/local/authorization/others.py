"""What the calls of Auto Scaling, Organizations, Systems Manager, CloudWatch and the rest need.

Source: Service Authorization Reference, the page of each service.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from imdsctl.local.authorization.ec2_launch import launch_needs
from imdsctl.local.authorization.needs import EVERYTHING, Named, Need, action_of, loose_tags, request_tags
from imdsctl.local.call import Call
from imdsctl.local.later import later
from imdsctl.policy.request import ResourceContext, context_keys


def needs(call: Call) -> list[Need]:
    """The call's own action, on what it names; creating an Auto Scaling group also needs what its launches need."""
    keys: dict[str, Any] = dict(request_tags(loose_tags(call.params.get("Tags"))))
    resources, more = _RESOURCES.get(call.service, _none)(call)
    keys.update(more)
    wanted = [Need(action_of(call), resources, keys)]
    if call.service == "autoscaling" and call.action in ("CreateAutoScalingGroup", "UpdateAutoScalingGroup"):
        wanted += _group_launches(call)
    if call.service in ("eks", "sagemaker"):
        wanted += later(_COMPUTE, "passed_roles")(call)
    return wanted


def _none(call: Call) -> Named:
    return EVERYTHING, {}


def _autoscaling(call: Call) -> Named:
    params = call.params
    prefix = f"arn:aws:autoscaling:{call.region}:{call.account_id}"
    if call.action.startswith("Describe"):
        return EVERYTHING, {}
    if call.action in ("CreateLaunchConfiguration", "DeleteLaunchConfiguration"):
        options = params.get("MetadataOptions") or {}
        values = {
            "autoscaling:ImageId": params.get("ImageId"),
            "autoscaling:InstanceType": params.get("InstanceType"),
            "autoscaling:MetadataHttpTokens": options.get("HttpTokens"),
            "autoscaling:MetadataHttpPutResponseHopLimit": options.get("HttpPutResponseHopLimit"),
            "autoscaling:MetadataHttpEndpoint": options.get("HttpEndpoint"),
        }
        name = params.get("LaunchConfigurationName") or "*"
        arn = f"{prefix}:launchConfiguration:*:launchConfigurationName/{name}"
        return (ResourceContext(arn),), context_keys(values)
    name = params.get("AutoScalingGroupName") or "*"
    template = _group_template(params)
    # A number is a version; $Latest and $Default move without anybody being asked again.
    numbered = str(template.get("Version") or "").isdigit() if template else None
    values = {
        "autoscaling:LaunchConfigurationName": params.get("LaunchConfigurationName"),
        "autoscaling:LaunchTemplateVersionSpecified": numbered,
        "autoscaling:MinSize": params.get("MinSize"),
        "autoscaling:MaxSize": params.get("MaxSize"),
    }
    arn = f"{prefix}:autoScalingGroup:*:autoScalingGroupName/{name}"
    return (ResourceContext(arn),), context_keys(values)


def _group_template(params: Mapping[str, Any]) -> Mapping[str, Any]:
    """The launch template that a group's request names, directly or in its mixed instances policy."""
    mixed = (params.get("MixedInstancesPolicy") or {}).get("LaunchTemplate") or {}
    found: Mapping[str, Any] = params.get("LaunchTemplate") or mixed.get("LaunchTemplateSpecification") or {}
    return found


def _group_launches(call: Call) -> list[Need]:
    """ec2:RunInstances with the group's launch template, asked of the caller once, here, and never again at a launch.

    Source: EC2 Auto Scaling User Guide, "Control the use of Amazon EC2 launch templates in Auto Scaling groups".
    """
    template = _group_template(call.params)
    if not template:
        return []
    return launch_needs(call, {"LaunchTemplate": template})


def _organizations(call: Call) -> Named:
    params, organization = call.params, call.world.organization
    prefix = f"arn:aws:organizations::{organization.management_id}"
    keys: dict[str, Any] = {}
    kind = params.get("Type") or params.get("PolicyType") or params.get("Filter")
    if kind:
        keys["organizations:policytype"] = str(kind)
    if params.get("ServicePrincipal"):
        keys["organizations:serviceprincipal"] = str(params["ServicePrincipal"])
    found = []
    for name in ("PolicyId", "TargetId", "AccountId", "OrganizationalUnitId", "ParentId", "RootId", "ChildId"):
        identifier = str(params.get(name) or "")
        if not identifier:
            continue
        if name == "PolicyId":
            policy = call.world.organizations.policies.get(identifier)
            if policy is not None:
                keys["organizations:policytype"] = policy.type
            arn = policy.arn if policy is not None else f"{prefix}:policy/{organization.id}/*/{identifier}"
        elif identifier.startswith("r-"):
            arn = f"{prefix}:root/{organization.id}/{identifier}"
        elif identifier.startswith("ou-"):
            arn = organization.unit_arn(identifier)
        else:
            arn = f"{prefix}:account/{organization.id}/{identifier}"
        found.append(ResourceContext(arn))
    return tuple(found) or EVERYTHING, keys


def _ssm(call: Call) -> Named:
    params = call.params
    names = params.get("Names") or [params.get("Name") or params.get("Path") or ""]
    prefix = f"arn:aws:ssm:{call.region}:{call.account_id}:parameter"
    if call.action == "DescribeParameters":
        return EVERYTHING, {}
    return tuple(
        ResourceContext(f"{prefix}{'' if str(name).startswith('/') else '/'}{name}") for name in names if name
    ) or EVERYTHING, {}


def _cloudwatch(call: Call) -> Named:
    namespace = call.params.get("Namespace")
    return EVERYTHING, {"cloudwatch:namespace": str(namespace)} if call.action == "PutMetricData" and namespace else {}


def _account(call: Call) -> Named:
    account = call.params.get("AccountId") or call.account_id
    region = call.params.get("RegionName")
    return (ResourceContext(f"arn:aws:account::{account}:account"),), (
        {"account:targetregion": str(region)} if region else {}
    )


_COMPUTE = "imdsctl.local.authorization.compute"
_MORE = "imdsctl.local.authorization.more_services"
_RESOURCES: Mapping[str, Callable[[Call], Named]] = {
    "autoscaling": _autoscaling,
    "organizations": _organizations,
    "ssm": _ssm,
    "monitoring": _cloudwatch,
    "account": _account,
    "appstream": later(_MORE, "appstream"),
    "ecs": later(_COMPUTE, "ecs"),
    "eks": later(_COMPUTE, "eks"),
    "elasticbeanstalk": later(_COMPUTE, "elasticbeanstalk"),
    "elasticmapreduce": later(_MORE, "elasticmapreduce"),
    "imagebuilder": later(_MORE, "imagebuilder"),
    "lightsail": later(_MORE, "lightsail"),
    "sagemaker": later(_COMPUTE, "sagemaker"),
    "sqs": later(_MORE, "sqs"),
}
