"""A call as CloudTrail recorded it, in the spelling of the API again.

Sources: CloudTrail User Guide, "CloudTrail record contents" and "CloudTrail userIdentity element"; the way in which EC2
writes requests there: lists of older operations as `{"items": [...]}` in lower camel case, newer ones as one member
(`CreateFleetRequest`) with the API's names, in which a list of one may be the element alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from imdsctl.policy.request import Principal, PrincipalKind

NAMES = frozenset(
    {
        "RunInstances",
        "CreateFleet",
        "CreateLaunchTemplate",
        "CreateLaunchTemplateVersion",
        "ModifyInstanceMetadataOptions",
        "ModifyInstanceMetadataDefaults",
    }
)
"""The calls that are replayed."""


class Incomplete(ValueError):
    """A record that lacks what every record has; the message names the member."""


@dataclass(frozen=True, slots=True)
class Who:
    """Who made a call. `principal` is None for an AWS service that acted by itself."""

    principal: Principal | None
    name: str
    """What results are grouped by: the role, the user, the service."""
    session: str = ""


def who_of(identity: Mapping[str, Any], account: str) -> Who:
    """Raises Incomplete."""
    kind = identity.get("type")
    arn = identity.get("arn")
    if kind == "AWSService":
        return Who(None, str(identity.get("invokedBy") or "an AWS service"))
    if not isinstance(arn, str) or not arn:
        raise Incomplete("userIdentity.arn")
    account = str(identity.get("accountId") or account)
    if kind == "AssumedRole" or ":assumed-role/" in arn:
        issuer = ((identity.get("sessionContext") or {}).get("sessionIssuer") or {}).get("arn")
        parts = arn.split("/")
        role = str(issuer or f"arn:aws:iam::{account}:role/{parts[1] if len(parts) > 1 else ''}")
        linked = ":role/aws-service-role/" in role or ":assumed-role/AWSServiceRoleFor" in arn
        principal = Principal(PrincipalKind.ROLE_SESSION, arn, account, role, service_linked=linked)
        return Who(principal, role, parts[-1] if len(parts) > 2 else "")
    if kind == "Root" or arn.endswith(":root"):
        return Who(Principal(PrincipalKind.ROOT, arn, account), arn)
    if kind == "FederatedUser":
        return Who(Principal(PrincipalKind.FEDERATED_USER, arn, account), arn)
    return Who(Principal(PrincipalKind.USER, arn, account), arn)


def parameters_of(name: str, recorded: Mapping[str, Any]) -> dict[str, Any]:
    """The request's parameters in the API's spelling, as far as they decide anything."""
    if name == "RunInstances":
        out = _spelled(recorded)
        first: Any = next(iter(_listed(out.pop("InstancesSet", None))), {})
        for member in ("ImageId", "KeyName"):
            if isinstance(first, Mapping) and first.get(member):
                out.setdefault(member, first[member])
        groups = _listed(out.pop("GroupSet", None))
        ids = [each["GroupId"] for each in groups if isinstance(each, Mapping) and each.get("GroupId")]
        if ids:
            out.setdefault("SecurityGroupIds", ids)
        zone = out.pop("AvailabilityZone", None)
        if zone:
            out.setdefault("Placement", {"AvailabilityZone": zone})
    else:
        inner = recorded.get(f"{name}Request", recorded)
        out = _spelled(inner) if isinstance(inner, Mapping) else {}
    _mend(out)
    return out


_RENAMED = {
    "TagSpecificationSet": "TagSpecifications",
    "TagSpecification": "TagSpecifications",
    "Tag": "Tags",
    "NetworkInterfaceSet": "NetworkInterfaces",
    "NetworkInterface": "NetworkInterfaces",
    "BlockDeviceMapping": "BlockDeviceMappings",
    "SecurityGroupId": "SecurityGroupIds",
}
_LISTS = ("TagSpecifications", "Tags", "NetworkInterfaces", "BlockDeviceMappings", "SecurityGroupIds", "Overrides")


def _spelled(value: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, each in value.items():
        if name == "tag" and not isinstance(each, Mapping | list):
            continue  # the place in a list
        spelled = name[:1].upper() + name[1:]
        spelled = _RENAMED.get(spelled, spelled)
        if isinstance(each, Mapping):
            items = each.get("items") if len(each) == 1 else None
            each = [_item(one) for one in items] if isinstance(items, list) else _spelled(each)
        elif isinstance(each, list):
            each = [_item(one) for one in each]
        out[spelled] = _listed(each) if spelled in _LISTS else each
    return out


def _item(value: Any) -> Any:
    return _spelled(value) if isinstance(value, Mapping) else value


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [] if value is None else [value]


def _mend(params: dict[str, Any]) -> None:
    """Lists of one, and numbers written as text."""
    for each in (
        params,
        params.get("MetadataOptions"),
        (params.get("LaunchTemplateData") or {}).get("MetadataOptions"),
    ):
        if isinstance(each, dict):
            limit = each.get("HttpPutResponseHopLimit")
            if isinstance(limit, str) and limit.lstrip("-").isdigit():
                each["HttpPutResponseHopLimit"] = int(limit)
    if "LaunchTemplateConfigs" in params:
        params["LaunchTemplateConfigs"] = _listed(params["LaunchTemplateConfigs"])


_SERVICE = re.compile(r"([a-z0-9-]+)\.amazonaws\.com")
_TOOLS = ("Terraform", "Pulumi", "OpenTofu", "Packer", "Ansible", "karpenter", "cluster-autoscaler", "kops")
_VARIES = re.compile(r"[0-9a-f]{6,}|\d{2,}", re.ASCII | re.IGNORECASE)


def pipeline_of(user_agent: str, session: str) -> str:
    """Tool and session name without the parts that change from run to run: `Terraform, session build-*`."""
    tool = next((each for each in _TOOLS if each.lower() in user_agent.lower()), None)
    if tool is None:
        service = _SERVICE.fullmatch(user_agent)
        tool = user_agent if service else user_agent.split(" ", 1)[0].split("/", 1)[0][:40] or "(no user agent)"
    return f"{tool}, session {_VARIES.sub('*', session)[:64]}" if session else tool


def template_of(params: Mapping[str, Any], name: str) -> str:
    """The launch template that a call names or makes, `ID-OR-NAME:VERSION`; empty for none."""
    if name.startswith("CreateLaunchTemplate"):
        return str(params.get("LaunchTemplateName") or params.get("LaunchTemplateId") or "")
    named: Iterable[Any] = [params.get("LaunchTemplate")]
    if name == "CreateFleet":
        named = [each.get("LaunchTemplateSpecification") for each in params.get("LaunchTemplateConfigs") or ()]
    for each in named:
        if isinstance(each, Mapping) and each:
            which = each.get("LaunchTemplateId") or each.get("LaunchTemplateName") or "?"
            return f"{which}:{each.get('Version') or '$Default'}"
    return ""
