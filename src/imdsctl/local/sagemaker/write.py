"""Making and changing notebook instances.

Source: SageMaker API Reference, CreateNotebookInstance, UpdateNotebookInstance, StartNotebookInstance,
StopNotebookInstance, DeleteNotebookInstance; SageMaker Developer Guide, "Update a Notebook Instance": it has to be
stopped first. What is not there (lifecycle configurations, repositories, keys) is refused as AWS would refuse a name
that it does not find.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from imdsctl.local.call import AwsError, Call, Operation
from imdsctl.local.constraints import check_members, check_range, check_text
from imdsctl.local.ec2.common import region_state
from imdsctl.local.ec2.resources import derived
from imdsctl.local.sagemaker.errors import invalid, wrong_status
from imdsctl.local.sagemaker.read import check_name, sagemaker, the_notebook
from imdsctl.local.sagemaker.state import (
    DELETING,
    FAILED,
    GONE,
    IMDS,
    IN_SERVICE,
    MINIMUM,
    PENDING,
    STOPPED,
    STOPPING,
    UPDATING,
    Notebook,
    notebook_arn,
)
from imdsctl.local.trusted import trusts

PRINCIPAL = "sagemaker.amazonaws.com"
_ROLE = r"arn:aws[a-z\-]*:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+"
_TYPE = r"ml\.[a-z0-9-]+\.[a-z0-9]+"
_PLATFORMS = ("notebook-al1-v1", "notebook-al2-v1", "notebook-al2-v2", "notebook-al2-v3", "notebook-al2023-v1")
_SWITCH = ("Enabled", "Disabled")
_SHOWN = ("InstanceType", "RoleArn", "VolumeSizeInGB", "RootAccess", "PlatformIdentifier", "IpAddressType")
_NOT_HERE = ("LifecycleConfigName", "DefaultCodeRepository", "AdditionalCodeRepositories", "KmsKeyId")
VOLUME_GIB = 5
CHANGEABLE = (STOPPED, FAILED)


def create_notebook_instance(call: Call) -> Mapping[str, Any]:
    """Make a notebook instance and start it. Its minimum metadata service version is 1 when nothing is said.

    Raises ValidationException.
    """
    params, state = call.params, sagemaker(call)
    name = params["NotebookInstanceName"]
    check_name(name)
    _check(call)
    arn = notebook_arn(call.region, call.account_id, name)
    if any(each.arn == arn for each in state.present(call.now)):
        raise invalid(f"Cannot create a duplicate Notebook Instance ({arn}).")
    settings: dict[str, Any] = {
        "DirectInternetAccess": params.get("DirectInternetAccess") or "Enabled",
        "VolumeSizeInGB": VOLUME_GIB,
        "RootAccess": "Enabled",
        "PlatformIdentifier": "notebook-al2-v1",
        IMDS: {MINIMUM: "1"},
        **_place(call, arn),
        **_changes(params),
    }
    notebook = Notebook(name, arn, call.now, call.now, settings, tags=_tags(params.get("Tags")))
    notebook.pass_to(PENDING, IN_SERVICE, _due(call))
    state.notebooks[name] = notebook
    return {"NotebookInstanceArn": arn}


def update_notebook_instance(call: Call) -> Mapping[str, Any]:
    """Change a stopped notebook instance; what the request does not name stays. Raises ValidationException."""
    notebook = the_notebook(call)
    _check(call)
    _allow(call, notebook, CHANGEABLE, UPDATING)
    size = call.params.get("VolumeSizeInGB")
    if size is not None and size < notebook.settings["VolumeSizeInGB"]:
        raise invalid("The volume size of a notebook instance can be increased only.")
    notebook.settings.update(_changes(call.params))
    _pass(call, notebook, UPDATING, STOPPED)
    return {}


def start_notebook_instance(call: Call) -> Mapping[str, Any]:
    """Start a stopped notebook instance, on a new machine. Raises ValidationException."""
    notebook = the_notebook(call)
    _allow(call, notebook, CHANGEABLE, PENDING)
    _pass(call, notebook, PENDING, IN_SERVICE)
    return {}


def stop_notebook_instance(call: Call) -> Mapping[str, Any]:
    """Stop a notebook instance that is in service; its volume stays. Raises ValidationException."""
    notebook = the_notebook(call)
    _allow(call, notebook, (IN_SERVICE,), STOPPING)
    _pass(call, notebook, STOPPING, STOPPED)
    return {}


def delete_notebook_instance(call: Call) -> Mapping[str, Any]:
    """Delete a stopped notebook instance. Raises ValidationException."""
    notebook = the_notebook(call)
    _allow(call, notebook, CHANGEABLE, DELETING)
    _pass(call, notebook, DELETING, GONE)
    return {}


def _allow(call: Call, notebook: Notebook, allowed: tuple[str, ...], to: str) -> None:
    status = notebook.status_at(call.now)
    if status not in allowed:
        raise wrong_status(notebook, status, allowed, to)


def _due(call: Call) -> datetime:
    return call.now + timedelta(seconds=call.world.settle_seconds)


def _pass(call: Call, notebook: Notebook, status: str, becomes: str) -> None:
    notebook.modified = call.now
    notebook.pass_to(status, becomes, _due(call))


def _changes(params: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a request names."""
    found = {name: params[name] for name in _SHOWN if params.get(name) is not None}
    if params.get(IMDS) is not None:
        found[IMDS] = {MINIMUM: params[IMDS][MINIMUM]}
    return found


def _check(call: Call) -> None:
    """What a request to create and one to update have in common."""
    params = call.params
    check_text(params.get("InstanceType"), "instanceType", invalid, pattern=_TYPE)
    check_range(params.get("VolumeSizeInGB"), "volumeSizeInGB", invalid, 5, 16384)
    for name in ("RootAccess", "DirectInternetAccess"):
        check_members([params[name]] if params.get(name) else [], name[:1].lower() + name[1:], invalid, _SWITCH)
    platform = params.get("PlatformIdentifier")
    check_members([platform] if platform else [], "platformIdentifier", invalid, _PLATFORMS)
    minimum = (params.get(IMDS) or {}).get(MINIMUM)
    member = "instanceMetadataServiceConfiguration.minimumInstanceMetadataServiceVersion"
    check_text(minimum, member, invalid, pattern="1|2")
    for name in _NOT_HERE:
        if params.get(name):
            raise AwsError("UnsupportedOperation", f"The local AWS of imdsctl has no {name} for notebooks.", 400)
    if params.get("RoleArn") is not None:
        _check_role(call, params["RoleArn"])


def _check_role(call: Call, arn: str) -> None:
    """The execution role has to exist, and to trust SageMaker."""
    check_text(arn, "roleArn", invalid, length_min=20, length_max=2048, pattern=_ROLE)
    if not trusts(call, arn, PRINCIPAL):
        raise invalid(
            f"Could not assume role {arn}. Please ensure that the role exists and allows principal '{PRINCIPAL}' to "
            "assume the role."
        )


def _place(call: Call, arn: str) -> dict[str, Any]:
    """Subnet, security groups and network interface of a notebook instance in the account's VPC."""
    params, region = call.params, region_state(call)
    subnet, groups = params.get("SubnetId"), params.get("SecurityGroupIds") or []
    if subnet is None:
        if groups or params.get("DirectInternetAccess") == "Disabled":
            raise invalid("A SubnetId is required with SecurityGroupIds, and without direct internet access.")
        return {}
    if subnet not in region.subnets:
        raise invalid(f"The subnet ID '{subnet}' does not exist.")
    for each in groups:
        if each not in region.security_groups:
            raise invalid(f"The security group '{each}' does not exist.")
    return {
        "SubnetId": subnet,
        "SecurityGroups": list(groups) or [region.default_security_group.id],
        "NetworkInterfaceId": f"eni-{derived('notebook', arn)}",
    }


def _tags(tags: Any) -> dict[str, str]:
    return {each["Key"]: each["Value"] for each in tags or ()}


OPERATIONS = {
    "CreateNotebookInstance": Operation(create_notebook_instance, writes=True),
    "UpdateNotebookInstance": Operation(update_notebook_instance, writes=True),
    "StartNotebookInstance": Operation(start_notebook_instance, writes=True),
    "StopNotebookInstance": Operation(stop_notebook_instance, writes=True),
    "DeleteNotebookInstance": Operation(delete_notebook_instance, writes=True),
}
