"""An event as CloudTrail writes it.

Source: CloudTrail User Guide, "CloudTrail record contents" and "CloudTrail userIdentity element".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from hashlib import blake2b
from typing import Any

from imdsctl.local.cloudtrail.trail import Made, size_of
from imdsctl.local.sessions import ROLE
from imdsctl.local.world import World
from imdsctl.wire.errors import ServiceError

EVENT_VERSION = "1.11"
SOURCE_IP = "127.0.0.1"
ELEMENTS_BYTES_MAX = 100_000
"""CloudTrail User Guide: request parameters and response elements larger than 100 KB are left out."""

_READS = ("Describe", "Get", "List", "Lookup", "Search", "AssumeRole", "Decode", "Simulate")
_ANSWERED = frozenset({"AssumeRole", "GetSessionToken", "GetFederationToken"})
_SECRET = frozenset({"secretAccessKey", "password", "encodedMessage", "decodedMessage"})
_REMOVED = frozenset({"keyMaterial", "userData", "publicKeyMaterial"})
_HIDDEN = "HIDDEN_DUE_TO_SECURITY_REASONS"
_SET_NAMES = {"InstanceIds": "instancesSet", "Instances": "instancesSet", "Filters": "filterSet"}
_WRAPPED = (
    "LaunchTemplate",
    "InstanceMetadataOptions",
    "InstanceMetadataDefaults",
    "CreateFleet",
    "DescribeFleets",
    "InstanceTypes",
)
"""EC2 operations (by a part of their names) of which the whole request and response stand in a member of their own."""


def event_id(made: Made) -> str:
    """A function of the request's id, so that a replayed call is the same event."""
    digits = blake2b(f"event/{made.request_id}".encode(), digest_size=16).hexdigest()
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-a{digits[17:20]}-{digits[20:]}"


def event_source(made: Made) -> str:
    """`ec2.amazonaws.com`."""
    return f"{made.service}.amazonaws.com"


def read_only(made: Made) -> bool:
    """Whether the call only looks."""
    return made.action.startswith(_READS)


def user_name(made: Made) -> str:
    """The user's name, or the name of the role's session; nothing for an AWS service."""
    if not made.caller.arn:
        return ""
    return made.caller.arn.rpartition("/")[2] if "/" in made.caller.arn else "root"


def event_of(made: Made, world: World) -> dict[str, Any]:
    """The record of one call, in the order in which CloudTrail writes its members."""
    event: dict[str, Any] = {
        "eventVersion": EVENT_VERSION,
        "userIdentity": _identity(made, world),
        "eventTime": _time(made.at),
        "eventSource": event_source(made),
        "eventName": made.action,
        "awsRegion": made.region,
        "sourceIPAddress": _service(made) or SOURCE_IP,
    }
    if made.user_agent is not None:
        event["userAgent"] = made.user_agent
    refusal = made.outcome if isinstance(made.outcome, ServiceError) else None
    if refusal is not None:
        # EC2 says whose fault it was, the others only what.
        whose = "Server" if refusal.fault == "server" else "Client"
        event["errorCode"] = f"{whose}.{refusal.code}" if made.service == "ec2" else refusal.code
        if refusal.message:
            event["errorMessage"] = refusal.message
    event["requestParameters"] = _parameters(made)
    event["responseElements"] = _response(made)
    event.update(
        {
            "requestID": made.request_id,
            "eventID": event_id(made),
            "readOnly": read_only(made),
            "eventType": "AwsApiCall",
            "managementEvent": True,
            "recipientAccountId": made.caller.account_id,
            "eventCategory": "Management",
        }
    )
    return event


def resources(made: Made) -> list[tuple[str, str]]:
    """The (type, name) of what a write, or an AssumeRole, named or made; each once."""
    if read_only(made) and made.action != "AssumeRole":
        return []
    found = dict.fromkeys(_named(made.params))
    if isinstance(made.outcome, Mapping):
        found.update(dict.fromkeys(_named(made.outcome)))
    return list(found)


_TYPES: Mapping[str, str] = {
    "InstanceId": "AWS::EC2::Instance",
    "InstanceIds": "AWS::EC2::Instance",
    "ImageId": "AWS::EC2::Ami",
    "VolumeId": "AWS::EC2::Volume",
    "SnapshotId": "AWS::EC2::Snapshot",
    "SubnetId": "AWS::EC2::Subnet",
    "VpcId": "AWS::EC2::VPC",
    "GroupId": "AWS::EC2::SecurityGroup",
    "SecurityGroupIds": "AWS::EC2::SecurityGroup",
    "LaunchTemplateId": "AWS::EC2::LaunchTemplate",
    "KeyName": "AWS::EC2::KeyPair",
    "RoleName": "AWS::IAM::Role",
    "RoleArn": "AWS::IAM::Role",
    "UserName": "AWS::IAM::User",
    "AccessKeyId": "AWS::IAM::AccessKey",
    "PolicyArn": "AWS::IAM::Policy",
    "InstanceProfileName": "AWS::IAM::InstanceProfile",
    "AutoScalingGroupName": "AWS::AutoScaling::AutoScalingGroup",
    "LaunchConfigurationName": "AWS::AutoScaling::LaunchConfiguration",
    "nodegroupName": "AWS::EKS::Nodegroup",
    "EnvironmentName": "AWS::ElasticBeanstalk::Environment",
    "NotebookInstanceName": "AWS::SageMaker::NotebookInstance",
}


def _named(value: Any) -> Iterator[tuple[str, str]]:
    if isinstance(value, list):
        for each in value:
            yield from _named(each)
    elif isinstance(value, Mapping):
        for name, each in value.items():
            kind = _TYPES.get(name)
            if kind is not None and isinstance(each, str):
                yield kind, each
            elif kind is not None and isinstance(each, list):
                yield from ((kind, text) for text in each if isinstance(text, str))
            else:
                yield from _named(each)


def _service(made: Made) -> str | None:
    """The AWS service that made the call by itself (`autoscaling.amazonaws.com`): it has no access key of anybody's."""
    return made.user_agent if not made.caller.access_key_id else None


# -- who -------------------------------------------------------------------------------------------------------------


def _identity(made: Made, world: World) -> dict[str, Any]:
    caller, session = made.caller, made.session
    if not caller.arn:
        return {"type": "AWSService", "invokedBy": _service(made)}
    out: dict[str, Any] = {
        "type": "IAMUser",
        "principalId": caller.user_id,
        "arn": caller.arn,
        "accountId": caller.account_id,
    }
    service = _service(made)
    if service is None:
        out["accessKeyId"] = caller.access_key_id
    else:
        out["invokedBy"] = service
    attributes = {"mfaAuthenticated": "false"}
    if session is not None and session.issued is not None:
        attributes = {"creationDate": session.issued, **attributes}
    if ":assumed-role/" in caller.arn:
        out["type"] = "AssumedRole"
        role_name = caller.arn.split("/")[-2]
        role = world.iam(caller.account_id).role(role_name)
        out["sessionContext"] = {
            "sessionIssuer": {
                "type": "Role",
                "principalId": caller.user_id.rpartition(":")[0],
                "arn": role.arn if role is not None else f"arn:aws:iam::{caller.account_id}:role/{role_name}",
                "accountId": caller.account_id,
                "userName": role_name,
            },
            "attributes": attributes,
        }
        if session is not None and session.source_identity is not None:
            out["sessionContext"]["sourceIdentity"] = session.source_identity
        if session is not None and session.role_delivery is not None:
            out["sessionContext"]["ec2RoleDelivery"] = session.role_delivery
    elif caller.arn.endswith(":root"):
        out["type"] = "Root"
    else:
        out["userName"] = user_name(made)
        if session is not None and session.kind != ROLE:
            out["sessionContext"] = {"attributes": attributes}
    return out


# -- what ------------------------------------------------------------------------------------------------------------


def _parameters(made: Made) -> Any:
    hide = frozenset({"value"}) if made.service == "ssm" and made.action == "PutParameter" else frozenset()
    if _is_wrapped(made):
        return {f"{made.action}Request": _plain(made.params, str, hide)}
    written = _written(made, made.params, hide)
    return _small(written) if written else None


def _response(made: Made) -> Any:
    outcome = made.outcome
    if not isinstance(outcome, Mapping) or (read_only(made) and made.action not in _ANSWERED):
        return None
    if _is_wrapped(made):
        return {f"{made.action}Response": _plain(outcome, _lower, frozenset())}
    written = _written(made, outcome, frozenset())
    if made.service == "ec2":
        return _small({"requestId": made.request_id, **written, **({} if written else {"_return": True})})
    return _small(written) if written else None


def _is_wrapped(made: Made) -> bool:
    return made.service == "ec2" and any(each in made.action for each in _WRAPPED)


def _written(made: Made, value: Mapping[str, Any], hide: frozenset[str]) -> dict[str, Any]:
    """The members in lower camel case; EC2's best-known lists become sets of items."""
    out: dict[str, Any] = {}
    for name, each in value.items():
        if made.service == "ec2" and name in _SET_NAMES and isinstance(each, list):
            out[_SET_NAMES[name]] = {"items": [_item(name, item) for item in each]}
        else:
            out.update(_plain({name: each}, _lower, hide))
    return out


def _item(name: str, item: Any) -> Any:
    if name == "InstanceIds":
        return {"instanceId": str(item)}
    if name == "Filters":
        values = [{"value": str(value)} for value in item.get("Values") or ()]
        return {"name": item.get("Name"), "valueSet": {"items": values}}
    return _plain(item, _lower, frozenset())


def _plain(value: Any, spell: Callable[[str], str], hide: frozenset[str]) -> Any:
    """A value as JSON with its names spelled, and without its secrets."""
    if isinstance(value, Mapping):
        out: dict[str, Any] = {}
        for name, each in value.items():
            spelled = spell(name)
            lower = _lower(name)
            if lower in _SECRET:
                continue
            if lower in hide:
                out[spelled] = _HIDDEN
            elif lower in _REMOVED:
                out[spelled] = "<sensitiveDataRemoved>"
            else:
                out[spelled] = _plain(each, spell, hide)
        return out
    if isinstance(value, (list, tuple)):
        return [_plain(each, spell, hide) for each in value]
    if isinstance(value, datetime):
        return _time(value)
    if isinstance(value, bytes):
        return "<sensitiveDataRemoved>"
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    return str(value)


def _small(value: dict[str, Any]) -> dict[str, Any] | None:
    """The value, or None when it is larger than an event may hold."""
    return value if size_of(value) <= ELEMENTS_BYTES_MAX else None


def _lower(name: str) -> str:
    """`InstanceId` to `instanceId`; a name that begins with capitals (`DBName`, `ARN`) loses them all but the last."""
    capitals = len(name) - len(name.lstrip("ABCDEFGHIJKLMNOPQRSTUVWXYZ"))
    if capitals <= 1:
        return name[:1].lower() + name[1:]
    if capitals == len(name):
        return name.lower()
    return name[: capitals - 1].lower() + name[capitals - 1 :]


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
