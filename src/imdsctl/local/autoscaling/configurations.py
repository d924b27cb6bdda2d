"""Launch configurations: what a group launches, immutable.

Source: Amazon EC2 Auto Scaling API Reference, CreateLaunchConfiguration and its neighbours; User Guide, "Configure the
instance metadata options". New accounts of AWS cannot make launch configurations any more; here every account can.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imdsctl.codify.launch import without_empty
from imdsctl.domain.options import InvalidOption, MetadataOptions
from imdsctl.local.autoscaling.common import invalid, listed, name_of, reads, scaling, writes
from imdsctl.local.autoscaling.source import of_configuration, service_params
from imdsctl.local.autoscaling.state import LaunchConfiguration, ScalingState
from imdsctl.local.call import AwsError, Call
from imdsctl.local.constraints import check_members, check_range
from imdsctl.local.ec2.common import region_state
from imdsctl.local.ec2.instances import find_instances
from imdsctl.local.ec2.launch import prepare

CONFIGURATIONS_MAX = 200
"""User Guide, "Quotas for Auto Scaling resources and groups"."""

COPIED = (
    "ImageId",
    "KeyName",
    "SecurityGroups",
    "UserData",
    "InstanceType",
    "KernelId",
    "RamdiskId",
    "BlockDeviceMappings",
    "InstanceMonitoring",
    "SpotPrice",
    "IamInstanceProfile",
    "EbsOptimized",
    "AssociatePublicIpAddress",
    "PlacementTenancy",
    "MetadataOptions",
)


def create_launch_configuration(call: Call) -> dict[str, Any]:
    """Make a launch configuration, also from an instance (InstanceId), over which the request's own parameters win.

    Raises AlreadyExists, LimitExceeded and ValidationError: for parameters that are missing or that RunInstances would
    refuse, HttpTokensEnforced excepted, which is asked when something is launched.
    """
    state, params = scaling(call), call.params
    name = name_of(call, "LaunchConfigurationName")
    if name in state.configurations:
        raise AwsError(
            "AlreadyExists",
            f"Launch Configuration by this name already exists - A launch configuration already exists with the name "
            f"{name}",
            400,
        )
    data = {each: params[each] for each in COPIED if params.get(each) not in (None, "", [], {})}
    if params.get("ClassicLinkVPCId") or params.get("ClassicLinkVPCSecurityGroups"):
        raise invalid("EC2-Classic is retired: ClassicLink parameters cannot be used.")
    _check_options(data.get("MetadataOptions"))
    check_members(filter(None, [data.get("PlacementTenancy")]), "placementTenancy", invalid, ("default", "dedicated"))
    if params.get("InstanceId"):
        data = {**from_instance(call, params["InstanceId"]), **data}
    add_configuration(call, state, name, data)
    return {}


def add_configuration(call: Call, state: ScalingState, name: str, data: Mapping[str, Any]) -> None:
    """Check a launch configuration and keep it. Raises ValidationError and LimitExceeded."""
    for each, shown in (("ImageId", "ImageId"), ("InstanceType", "InstanceType")):
        if not data.get(each):
            raise invalid(f"{shown} cannot be null or empty. Valid requests must contain either the InstanceID "
                          "parameter or both the ImageId and InstanceType parameters.")  # fmt: skip
    if len(state.configurations) >= CONFIGURATIONS_MAX:
        raise AwsError(
            "LimitExceeded",
            f"You have reached your limit of {CONFIGURATIONS_MAX} launch configurations in this Region.",
            400,
        )
    arn = (
        f"arn:aws:autoscaling:{call.region}:{call.account_id}:launchConfiguration:{call.ids.uuid()}:"
        f"launchConfigurationName/{name}"
    )
    made = LaunchConfiguration(name, arn, call.now, {"InstanceMonitoring": {"Enabled": True}, **data})
    check_launch(call, of_configuration(made))
    state.configurations[name] = made


def check_launch(call: Call, params: Mapping[str, Any], introduction: str = "") -> None:
    """Refuse with ValidationError what RunInstances would refuse, but for HttpTokensEnforced."""
    try:
        asked = service_params(call, params)
        prepare(asked, asked.params)
    except AwsError as refusal:
        if "httpTokensEnforced" not in refusal.message:
            raise invalid(introduction + refusal.message) from None


def _check_options(options: Mapping[str, Any] | None) -> None:
    options = options or {}
    check_members(filter(None, [options.get("HttpTokens")]), "metadataOptions.httpTokens", invalid,
                  ("optional", "required"))  # fmt: skip
    check_members(filter(None, [options.get("HttpEndpoint")]), "metadataOptions.httpEndpoint", invalid,
                  ("disabled", "enabled"))  # fmt: skip
    check_range(options.get("HttpPutResponseHopLimit"), "metadataOptions.httpPutResponseHopLimit", invalid, 1, 64)
    try:
        MetadataOptions.from_aws(options)
    except InvalidOption as error:
        raise invalid(str(error)) from None


def from_instance(call: Call, instance_id: str) -> dict[str, Any]:
    """What a launch configuration takes over from an instance; of its metadata options nothing. Raises ValidationError.

    Source: User Guide, "Create a launch configuration from an EC2 instance": attributes but not the block devices.
    """
    try:
        [instance] = find_instances(region_state(call), [instance_id])
    except AwsError as refusal:
        raise invalid(refusal.message) from None
    return without_empty(
        {
            "ImageId": instance.image_id,
            "InstanceType": instance.instance_type,
            "KeyName": instance.key_name,
            "SecurityGroups": [group.id for group in instance.security_groups],
            "UserData": instance.user_data,
            "IamInstanceProfile": instance.profile_arn,
            "InstanceMonitoring": {"Enabled": instance.monitoring == "enabled"},
            "EbsOptimized": instance.ebs_optimized,
            "PlacementTenancy": instance.tenancy if instance.tenancy != "default" else None,
        }
    )


def rendered(configuration: LaunchConfiguration) -> dict[str, Any]:
    """AWS's `LaunchConfiguration`."""
    return {
        "LaunchConfigurationName": configuration.name,
        "LaunchConfigurationARN": configuration.arn,
        "CreatedTime": configuration.created,
        "KeyName": "",
        "SecurityGroups": [],
        "ClassicLinkVPCSecurityGroups": [],
        "UserData": "",
        "KernelId": "",
        "RamdiskId": "",
        "BlockDeviceMappings": [],
        "EbsOptimized": False,
        **configuration.data,
    }


def describe_launch_configurations(call: Call) -> dict[str, Any]:
    """All, or those that are named, by name; a name that is none is left out."""
    names = call.params.get("LaunchConfigurationNames")
    found = sorted(scaling(call).configurations.values(), key=lambda each: each.name)
    if names:
        found = [each for each in found if each.name in names]
    return listed(call, "LaunchConfigurations", found, rendered)


def delete_launch_configuration(call: Call) -> dict[str, Any]:
    """Delete one that no group launches from. Raises ResourceInUse and ValidationError."""
    state, name = scaling(call), name_of(call, "LaunchConfigurationName")
    if name not in state.configurations:
        raise no_configuration(name)
    for group in state.groups.values():
        if group.source.configuration == name:
            raise AwsError(
                "ResourceInUse",
                f"Cannot delete launch configuration {name} because it is attached to AutoScalingGroup {group.name}",
                400,
            )
    del state.configurations[name]
    return {}


def no_configuration(name: Any) -> AwsError:
    """ValidationError for a launch configuration that does not exist."""
    return invalid(f"Launch configuration name not found - Launch configuration {name} not found")


OPERATIONS = {
    **writes(create_launch_configuration, delete_launch_configuration),
    **reads(describe_launch_configurations),
}
