"""Single attributes of instances, CPU credits, monitoring, and the instance profile.

Source: EC2 API Reference (DescribeInstanceAttribute, ModifyInstanceAttribute, the credit specification, monitoring and
IAM instance profile association operations).
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from imdsctl.local.call import AwsError, Call, Operation
from imdsctl.local.ec2 import render
from imdsctl.local.ec2.common import region_state
from imdsctl.local.ec2.errors import (
    check_choice,
    invalid_combination,
    invalid_value,
    missing,
    refuse,
    unsupported,
)
from imdsctl.local.ec2.filters import Filters
from imdsctl.local.ec2.instance_types import instance_type
from imdsctl.local.ec2.instances import find_instances
from imdsctl.local.ec2.launch_parameters import CPU_CREDITS, find_profile, user_data
from imdsctl.local.ec2.pages import page
from imdsctl.local.ec2.resources import (
    PENDING,
    RUNNING,
    SHUTTING_DOWN,
    STOPPED,
    STOPPING,
    TERMINATED,
    Instance,
    derived,
)
from imdsctl.local.ec2.security_groups import find_group
from imdsctl.local.ec2.state import RegionState
from imdsctl.local.iam.state import InstanceProfile


def _instance(call: Call) -> tuple[RegionState, Instance]:
    if not call.params.get("InstanceId"):
        raise missing("InstanceId")
    state = region_state(call)
    return state, find_instances(state, [call.params["InstanceId"]])[0]


def _changeable(call: Call) -> tuple[RegionState, Instance]:
    state, instance = _instance(call)
    if instance.state in (SHUTTING_DOWN, TERMINATED):
        raise refuse(
            "IncorrectInstanceState",
            f"The instance '{instance.id}' is not in a state from which it can be modified.",
        )
    if instance.managed_by is not None:
        raise refuse(
            "OperationNotPermitted",
            f"The instance '{instance.id}' is managed by {instance.managed_by} and cannot be modified directly.",
        )
    return state, instance


# -- attributes ------------------------------------------------------------------------------------------------------


def _value(member: str, read: Callable[[Instance], Any]) -> Callable[[RegionState, Instance], dict[str, Any]]:
    def show(state: RegionState, instance: Instance) -> dict[str, Any]:
        value = read(instance)
        return {member: {} if value is None else {"Value": value}}

    return show


def _devices(state: RegionState, instance: Instance) -> dict[str, Any]:
    return {"BlockDeviceMappings": render.instance(state, instance)["BlockDeviceMappings"]}


SHOWN: dict[str, Callable[[RegionState, Instance], dict[str, Any]]] = {
    "instanceType": _value("InstanceType", lambda each: each.instance_type),
    "kernel": _value("KernelId", lambda each: None),
    "ramdisk": _value("RamdiskId", lambda each: None),
    "userData": _value("UserData", lambda each: each.user_data),
    "disableApiTermination": _value("DisableApiTermination", lambda each: each.termination_protected),
    "instanceInitiatedShutdownBehavior": _value(
        "InstanceInitiatedShutdownBehavior", lambda each: each.shutdown_behavior
    ),
    "rootDeviceName": _value("RootDeviceName", lambda each: each.root_device_name),
    "blockDeviceMapping": _devices,
    "productCodes": lambda state, each: {"ProductCodes": []},
    "sourceDestCheck": _value("SourceDestCheck", lambda each: each.source_dest_check),
    "groupSet": lambda state, each: {"Groups": render.groups_of(each)},
    "ebsOptimized": _value("EbsOptimized", lambda each: each.ebs_optimized),
    "sriovNetSupport": _value("SriovNetSupport", lambda each: "simple"),
    "enaSupport": _value("EnaSupport", lambda each: True),
    "enclaveOptions": lambda state, each: {"EnclaveOptions": render.instance(state, each)["EnclaveOptions"]},
    "disableApiStop": _value("DisableApiStop", lambda each: each.stop_protected),
}
"""What DescribeInstanceAttribute answers, by `Attribute`."""


def describe_instance_attribute(call: Call) -> dict[str, Any]:
    """One attribute. Raises MissingParameter, InvalidParameterValue, InvalidInstanceID.*."""
    state, instance = _instance(call)
    attribute = call.params.get("Attribute")
    if not attribute:
        raise missing("attribute")
    check_choice(attribute, "Attribute", SHOWN)
    return {"InstanceId": instance.id, **SHOWN[attribute](state, instance)}


TEXTS = ("instanceType", "userData", "instanceInitiatedShutdownBehavior")
TRUTHS = ("disableApiTermination", "disableApiStop", "sourceDestCheck", "ebsOptimized")
WHILE_STOPPED = ("instanceType", "userData", "ebsOptimized")
MEMBERS = {
    "InstanceType": "instanceType",
    "UserData": "userData",
    "InstanceInitiatedShutdownBehavior": "instanceInitiatedShutdownBehavior",
    "DisableApiTermination": "disableApiTermination",
    "DisableApiStop": "disableApiStop",
    "SourceDestCheck": "sourceDestCheck",
    "EbsOptimized": "ebsOptimized",
    "Groups": "groupSet",
    "BlockDeviceMappings": "blockDeviceMapping",
}
"""A request's member to the attribute it changes."""


def modify_instance_attribute(call: Call) -> dict[str, Any]:
    """Change one attribute; type, user data and EBS optimization of a stopped instance only.

    Raises MissingParameter, InvalidParameterCombination for more than one attribute, InvalidParameterValue,
    InvalidInstanceID.*, InvalidGroup.NotFound, InvalidInstanceAttributeValue, IncorrectInstanceState,
    OperationNotPermitted for a managed instance, and UnsupportedOperation for attributes of other times (kernel,
    RAM disk, enhanced networking).
    """
    state, instance = _changeable(call)
    attribute, value = _asked(call.params)
    if attribute in WHILE_STOPPED and instance.state != STOPPED:
        raise refuse("IncorrectInstanceState", f"The instance '{instance.id}' is not in the 'stopped' state.")
    CHANGES[attribute](state, instance, value)
    instance.changed()
    return {}


def _asked(params: Mapping[str, Any]) -> tuple[str, Any]:
    named: dict[str, Any] = {}
    for member, attribute in MEMBERS.items():
        value = params.get(member)
        if value is None or value == []:
            continue
        named[attribute] = value.get("Value") if isinstance(value, Mapping) else value
    given = params.get("Attribute")
    if given:
        check_choice(given, "Attribute", SHOWN)
        value = params.get("Value")
        if given in TRUTHS and value is not None:
            check_choice(value, "Value", ("true", "false"))
            value = value == "true"
        named.setdefault(given, value)
    for member in ("Kernel", "Ramdisk", "SriovNetSupport", "EnaSupport"):
        if params.get(member) is not None:
            named[member] = None
    if not named:
        raise refuse("MissingParameter", "The request must contain the parameter attribute")
    if len(named) > 1:
        raise invalid_combination("Fields for multiple attribute types specified")
    [(attribute, value)] = named.items()
    if attribute not in CHANGES:
        raise unsupported(f"The local AWS of imdsctl does not change the attribute {attribute}.")
    if value is None and attribute in (*TRUTHS, "instanceInitiatedShutdownBehavior", "instanceType", "groupSet"):
        raise missing("value")
    return attribute, value


def _change_type(state: RegionState, instance: Instance, name: str) -> None:
    kind = instance_type(name)
    if kind is None:
        raise refuse("InvalidInstanceAttributeValue", f"Invalid value '{name}' for InstanceType.")
    if kind.architecture != instance.architecture.replace("i386", "x86_64"):
        raise refuse(
            "InvalidInstanceAttributeValue",
            f"The instance type '{name}' does not have the architecture '{instance.architecture}'.",
        )
    instance.instance_type = kind.name
    # Credits and CPU options belong to the type they were chosen for.
    _set_extra(instance, "CpuCredits", None)
    _set_extra(instance, "CpuOptions", None)


def _change_user_data(state: RegionState, instance: Instance, value: Any) -> None:
    """`UserData` is a blob, which the wire has decoded; `Value` beside `Attribute` is text, still in Base64."""
    instance.user_data = user_data(base64.b64encode(value).decode() if isinstance(value, bytes) else value)


def _change_shutdown(state: RegionState, instance: Instance, value: str) -> None:
    check_choice(value, "InstanceInitiatedShutdownBehavior", ("stop", "terminate"))
    instance.shutdown_behavior = value


def _change_groups(state: RegionState, instance: Instance, ids: list[str]) -> None:
    instance.security_groups = tuple(find_group(state, each, None) for each in dict.fromkeys(ids))


def _change_devices(state: RegionState, instance: Instance, mappings: list[Mapping[str, Any]]) -> None:
    devices = {device.device_name: device for device in instance.block_devices}
    changes = []
    for mapping in mappings:
        name, delete = mapping.get("DeviceName") or "", (mapping.get("Ebs") or {}).get("DeleteOnTermination")
        if name not in devices:
            raise refuse("InvalidInstanceAttributeValue", f"No device is currently mapped at {name}")
        if delete is None:
            raise missing("ebs.deleteOnTermination")
        changes.append((devices[name], delete))
    for device, delete in changes:
        device.delete_on_termination = delete
        volume = state.volumes.get(device.volume_id)
        if volume is not None:
            volume.delete_on_termination = delete


def _truth(field: str) -> Callable[[RegionState, Instance, Any], None]:
    return lambda state, instance, value: setattr(instance, field, value)


CHANGES: dict[str, Callable[[RegionState, Instance, Any], None]] = {
    "instanceType": _change_type,
    "userData": _change_user_data,
    "instanceInitiatedShutdownBehavior": _change_shutdown,
    "groupSet": _change_groups,
    "blockDeviceMapping": _change_devices,
    "disableApiTermination": _truth("termination_protected"),
    "disableApiStop": _truth("stop_protected"),
    "sourceDestCheck": _truth("source_dest_check"),
    "ebsOptimized": _truth("ebs_optimized"),
}
"""What ModifyInstanceAttribute can change. Each one refuses before it changes."""


def _set_extra(instance: Instance, name: str, value: Any) -> None:
    extra = {each: kept for each, kept in (instance.extra or {}).items() if each != name}
    if value is not None:
        extra[name] = value
    instance.extra = extra or None


# -- CPU credits -----------------------------------------------------------------------------------------------------


def _credits(instance: Instance) -> str:
    kind = instance_type(instance.instance_type)
    default = kind.default_credits if kind is not None else "unlimited"
    return str((instance.extra or {}).get("CpuCredits", default))


def _burstable(instance: Instance) -> bool:
    kind = instance_type(instance.instance_type)
    return kind is not None and kind.burstable and instance.state != TERMINATED


CREDIT_FILTERS: Filters[Instance] = Filters({"instance-id": lambda each: each.id})


def describe_instance_credit_specifications(call: Call) -> dict[str, Any]:
    """The credit option of burstable instances: those named, or all with `unlimited`.

    Raises InvalidInstanceID.*, UnsupportedOperation for a named instance of another kind, InvalidParameterCombination.
    """
    state, params = region_state(call), call.params
    ids = params.get("InstanceIds")
    if ids and params.get("MaxResults") is not None:
        raise invalid_combination("The parameter instancesSet cannot be used with the parameter maxResults")
    if ids:
        found = find_instances(state, ids)
        for each in found:
            if not _burstable(each):
                raise _not_burstable(each)
    else:
        found = [each for each in state.instances.values() if _burstable(each) and _credits(each) == "unlimited"]
    chosen = CREDIT_FILTERS.select(sorted(found, key=lambda each: each.id), params.get("Filters"))
    shown, token = page(chosen, lambda each: each.id, params, f"{call.account_id}/credits")
    out: dict[str, Any] = {
        "InstanceCreditSpecifications": [{"InstanceId": each.id, "CpuCredits": _credits(each)} for each in shown]
    }
    if token:
        out["NextToken"] = token
    return out


def _not_burstable(instance: Instance) -> AwsError:
    return unsupported(f"The instance {instance.id} does not support CPU credits: it is not a burstable instance.")


def modify_instance_credit_specification(call: Call) -> dict[str, Any]:
    """Change the credit option of instances; each one that cannot is listed with its reason.

    Raises MissingParameter, InvalidParameterValue.
    """
    state, params = region_state(call), call.params
    asked = params.get("InstanceCreditSpecifications")
    if not asked:
        raise missing("InstanceCreditSpecification")
    for each in asked:
        if not each.get("InstanceId"):
            raise missing("InstanceId")
        check_choice(each.get("CpuCredits"), "CpuCredits", CPU_CREDITS)
    done, failed = [], []
    for each in asked:
        instance_id, credits = each["InstanceId"], each.get("CpuCredits")
        try:
            [instance] = find_instances(state, [instance_id])
            if not _burstable(instance):
                raise _not_burstable(instance)
        except AwsError as refused:
            failed.append({"InstanceId": instance_id, "Error": {"Code": refused.code, "Message": refused.message}})
            continue
        if credits is not None:
            kind = instance_type(instance.instance_type)
            default = kind.default_credits if kind is not None else None
            _set_extra(instance, "CpuCredits", None if credits == default else credits)
        done.append({"InstanceId": instance_id})
    return {
        "SuccessfulInstanceCreditSpecifications": done,
        "UnsuccessfulInstanceCreditSpecifications": failed,
    }


# -- monitoring ------------------------------------------------------------------------------------------------------


def _monitor(now: str, shown: str) -> Callable[[Call], dict[str, Any]]:
    def monitor(call: Call) -> dict[str, Any]:
        """Switch detailed monitoring. Raises MissingParameter, InvalidInstanceID.*."""
        state, ids = region_state(call), call.params.get("InstanceIds")
        if not ids:
            raise missing("InstanceId")
        found = find_instances(state, ids)
        for each in found:
            each.monitoring = now
            each.changed()
        return {"InstanceMonitorings": [{"InstanceId": each.id, "Monitoring": {"State": shown}} for each in found]}

    return monitor


# -- instance profiles -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Association:
    instance: Instance

    @property
    def id(self) -> str:
        return f"iip-assoc-{derived('iip-assoc', f'{self.instance.id}/{self.instance.profile_arn}')}"


ASSOCIATION_FILTERS: Filters[_Association] = Filters(
    {"instance-id": lambda each: each.instance.id, "state": lambda each: "associated"}
)


def _associations(state: RegionState) -> dict[str, _Association]:
    """All associations by identifier; it follows from the instance and the profile."""
    made = (
        _Association(each)
        for each in state.instances.values()
        if each.profile_arn is not None and each.state != TERMINATED
    )
    return {each.id: each for each in made}


def instance_of_association(state: RegionState, association_id: str) -> str | None:
    """The id of the instance in an association with an instance profile; None when there is no such association."""
    found = _associations(state).get(association_id)
    return found.instance.id if found is not None else None


def _association(association: _Association, shown: str) -> dict[str, Any]:
    arn = association.instance.profile_arn
    assert arn is not None
    return {
        "AssociationId": association.id,
        "InstanceId": association.instance.id,
        "IamInstanceProfile": {"Arn": arn, "Id": association.instance.profile_id},
        "State": shown,
    }


def _association_of(call: Call) -> _Association:
    association_id = call.params.get("AssociationId")
    if not association_id:
        raise missing("AssociationId")
    found = _associations(region_state(call)).get(association_id)
    if found is None:
        raise refuse("InvalidAssociationID.NotFound", f"An invalid association-id of '{association_id}' was given")
    return found


def _requested_profile(call: Call) -> InstanceProfile:
    profile = find_profile(call, call.params.get("IamInstanceProfile"))
    if profile is None:
        raise missing("IamInstanceProfile")
    return profile


def _set_profile(instance: Instance, profile: InstanceProfile | None) -> None:
    instance.profile_arn = profile.arn if profile is not None else None
    instance.profile_id = profile.id if profile is not None else None
    instance.changed()


def associate_iam_instance_profile(call: Call) -> dict[str, Any]:
    """Give an instance without a profile one.

    Raises MissingParameter, InvalidParameterValue, InvalidInstanceID.*, IncorrectState when it has one already,
    IncorrectInstanceState.
    """
    _, instance = _changeable(call)
    profile = _requested_profile(call)
    if instance.profile_arn is not None:
        raise refuse("IncorrectState", f"There is an existing association for instance {instance.id}")
    if instance.state not in (PENDING, RUNNING, STOPPING, STOPPED):
        raise invalid_value(f"The instance '{instance.id}' cannot have a profile in this state.")
    _set_profile(instance, profile)
    return {"IamInstanceProfileAssociation": _association(_Association(instance), "associating")}


def replace_iam_instance_profile_association(call: Call) -> dict[str, Any]:
    """Give an instance another profile in place of the one it has. Raises MissingParameter,
    InvalidAssociationID.NotFound, InvalidParameterValue."""
    association = _association_of(call)
    _set_profile(association.instance, _requested_profile(call))
    return {"IamInstanceProfileAssociation": _association(association, "associating")}


def disassociate_iam_instance_profile(call: Call) -> dict[str, Any]:
    """Take the profile from an instance. Raises MissingParameter, InvalidAssociationID.NotFound."""
    association = _association_of(call)
    shown = _association(association, "disassociating")
    _set_profile(association.instance, None)
    return {"IamInstanceProfileAssociation": shown}


def describe_iam_instance_profile_associations(call: Call) -> dict[str, Any]:
    """The associations by id and filter, in pages of 5 to 1000. Raises InvalidAssociationID.NotFound."""
    params = call.params
    known = _associations(region_state(call))
    ids = params.get("AssociationIds")
    for each in ids or ():
        if each not in known:
            raise refuse("InvalidAssociationID.NotFound", f"An invalid association-id of '{each}' was given")
    chosen = ASSOCIATION_FILTERS.select((known[each] for each in sorted(set(ids or known))), params.get("Filters"))
    shown, token = page(chosen, lambda each: each.id, params, f"{call.account_id}/profile-associations")
    out: dict[str, Any] = {"IamInstanceProfileAssociations": [_association(each, "associated") for each in shown]}
    if token:
        out["NextToken"] = token
    return out


OPERATIONS = {
    "DescribeInstanceAttribute": Operation(describe_instance_attribute),
    "ModifyInstanceAttribute": Operation(modify_instance_attribute, writes=True),
    "DescribeInstanceCreditSpecifications": Operation(describe_instance_credit_specifications),
    "ModifyInstanceCreditSpecification": Operation(modify_instance_credit_specification, writes=True),
    "MonitorInstances": Operation(_monitor("enabled", "pending"), writes=True),
    "UnmonitorInstances": Operation(_monitor("disabled", "disabling"), writes=True),
    "AssociateIamInstanceProfile": Operation(associate_iam_instance_profile, writes=True),
    "ReplaceIamInstanceProfileAssociation": Operation(replace_iam_instance_profile_association, writes=True),
    "DisassociateIamInstanceProfile": Operation(disassociate_iam_instance_profile, writes=True),
    "DescribeIamInstanceProfileAssociations": Operation(describe_iam_instance_profile_associations),
}
