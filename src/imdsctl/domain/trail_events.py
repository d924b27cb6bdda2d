"""What CloudTrail says happened, as far as it can change an IMDS setting, and who did it. Pure.

Sources: CloudTrail User Guide, "CloudTrail record contents" and "CloudTrail userIdentity element"; EventBridge User
Guide, "AWS service events delivered via AWS CloudTrail": the record stands in the event's `detail`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from imdsctl.domain.observations import Target

NAMES_MAX = 2_000
"""Of an event's parameters and answer, so many texts are looked at for the names of resources."""
TEXT_MAX = 512
"""A text of an event that is longer than this is no name, and is not shown whole."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who made a call, in CloudTrail's words. A service that acts by itself has no ARN, only its name."""

    arn: str
    source_ip: str = ""
    user_agent: str = ""
    event_id: str = ""
    event_name: str = ""
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class TrailEvent:
    """One call that somebody made. `names` are all texts in its parameters and answer: ids and names among them."""

    name: str
    source: str
    target: Target
    actor: Actor
    names: frozenset[str] = frozenset()
    failed: bool = False

    @property
    def touches(self) -> bool:
        """Whether it can have changed an IMDS setting in its account and Region."""
        return not self.failed and self.name in _CHANGES.get(self.source, frozenset())

    @property
    def touches_everything(self) -> bool:
        """Whether it can have changed what holds in other accounts: a policy, or where an account stands."""
        return not self.failed and self.source == "organizations.amazonaws.com" and self.name in _POLICIES


class NotAnEvent(ValueError):
    """A text that holds no CloudTrail record; the message says what it seems to be."""


_CHANGES: Mapping[str, frozenset[str]] = {
    "ec2.amazonaws.com": frozenset(
        {
            *("ModifyInstanceMetadataOptions", "ModifyInstanceMetadataDefaults", "RunInstances"),
            *("CreateFleet", "ModifyFleet", "RequestSpotFleet", "ModifySpotFleetRequest", "RequestSpotInstances"),
            *("CreateLaunchTemplate", "CreateLaunchTemplateVersion", "ModifyLaunchTemplate"),
            *("ModifyImageAttribute", "RegisterImage", "CreateImage", "CopyImage"),
        }
    ),
    "autoscaling.amazonaws.com": frozenset(
        {"CreateAutoScalingGroup", "UpdateAutoScalingGroup", "CreateLaunchConfiguration", "StartInstanceRefresh"}
    ),
    "eks.amazonaws.com": frozenset({"CreateNodegroup", "UpdateNodegroupConfig", "UpdateNodegroupVersion"}),
    "ecs.amazonaws.com": frozenset({"RegisterContainerInstance", "CreateCapacityProvider", "UpdateCapacityProvider"}),
    "sagemaker.amazonaws.com": frozenset({"CreateNotebookInstance", "UpdateNotebookInstance"}),
    "elasticbeanstalk.amazonaws.com": frozenset({"CreateEnvironment", "UpdateEnvironment"}),
    "elasticmapreduce.amazonaws.com": frozenset({"CreateSecurityConfiguration", "RunJobFlow"}),
    "imagebuilder.amazonaws.com": frozenset({"CreateInfrastructureConfiguration", "UpdateInfrastructureConfiguration"}),
    "lightsail.amazonaws.com": frozenset(
        {"CreateInstances", "CreateInstancesFromSnapshot", "UpdateInstanceMetadataOptions"}
    ),
    "appstream.amazonaws.com": frozenset(
        {"CreateFleet", "UpdateFleet", "CreateImageBuilder", "CreateAppBlockBuilder", "UpdateAppBlockBuilder"}
    ),
}
"""Calls after which their account's Region has to be looked at again, by the service's name in CloudTrail."""

_POLICIES = frozenset(
    {
        *("UpdatePolicy", "DeletePolicy", "AttachPolicy", "DetachPolicy", "EnablePolicyType", "DisablePolicyType"),
        *("MoveAccount", "InviteAccountToOrganization", "CreateAccount"),
    }
)
"""Calls after which everything has to be looked at again."""


def events_of_text(text: str | bytes) -> list[TrailEvent]:
    """The events in a JSON text: a CloudTrail record, an EventBridge event, an SNS notice of one, or a log file.

    Raises NotAnEvent.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise NotAnEvent("it is not JSON") from None
    return list(_events(value, depth=0))


def _events(value: Any, depth: int) -> Iterator[TrailEvent]:
    if not isinstance(value, Mapping) or depth > 3:
        raise NotAnEvent("it is JSON, but no CloudTrail record")
    records = value.get("Records")
    if isinstance(records, list):
        for each in records:
            if isinstance(each, Mapping) and ("s3" in each or "s3Bucket" in each):
                raise NotAnEvent(_S3)
            yield from _events(each, depth + 1)
    elif "s3Bucket" in value and "s3ObjectKey" in value:
        raise NotAnEvent(_S3)
    elif isinstance(value.get("detail"), Mapping):
        yield from _events(value["detail"], depth + 1)
    elif isinstance(value.get("Message"), str) and "TopicArn" in value:
        try:
            inner = orjson.loads(value["Message"])
        except orjson.JSONDecodeError:
            raise NotAnEvent("it is a notice of SNS about something that is not JSON") from None
        yield from _events(inner, depth + 1)
    else:
        yield event_of_record(value)


_S3 = "it is a notice about a file in S3, which this does not fetch: copy the files and use `--events`"


def event_of_record(record: Mapping[str, Any]) -> TrailEvent:
    """One record of CloudTrail. Raises NotAnEvent for anything that has not what every record has."""
    identity = record.get("userIdentity")
    if not isinstance(identity, Mapping):
        raise NotAnEvent("it is JSON, but no CloudTrail record")
    account = record.get("recipientAccountId") or identity.get("accountId")
    needed = (record.get("eventName"), record.get("eventSource"), record.get("awsRegion"), account)
    if not all(isinstance(each, str) and each for each in needed):
        raise NotAnEvent("it is JSON, but no CloudTrail record")
    name, source, region, account_id = (str(each) for each in needed)
    by = identity.get("arn") or identity.get("invokedBy") or record.get("sourceIPAddress") or ""
    actor = Actor(
        arn=_text(by),
        source_ip=_text(record.get("sourceIPAddress")),
        user_agent=_text(record.get("userAgent")),
        event_id=_text(record.get("eventID")),
        event_name=_text(name),
        at=_moment(record.get("eventTime")),
    )
    found: set[str] = set()
    for part in ("requestParameters", "responseElements"):
        for text in _texts(record.get(part), depth=0):
            if len(found) >= NAMES_MAX:
                break
            found.add(text)
    failed = bool(record.get("errorCode"))
    return TrailEvent(name, source, Target(account_id, region), actor, frozenset(found), failed)


def culprit(events: Iterable[TrailEvent], resource: str, name: str, region: str) -> Actor | None:
    """Who changed a resource (AWS's id, or the Region's name for its default), the latest of the events that name it.

    None when no event does: nobody is named on a guess.
    """
    found: TrailEvent | None = None
    for event in events:
        about_default = resource == region and (
            event.touches_everything or (event.touches and event.name == "ModifyInstanceMetadataDefaults")
        )
        named = event.touches and (resource in event.names or (name != "" and name in event.names))
        if not (about_default or named):
            continue
        if found is None or _when(event) >= _when(found):
            found = event
    return None if found is None else found.actor


def _when(event: TrailEvent) -> datetime:
    return event.actor.at or datetime.min.replace(tzinfo=UTC)


def _texts(value: Any, depth: int) -> Iterator[str]:
    if depth > 12:
        return
    if isinstance(value, str):
        if 0 < len(value) <= TEXT_MAX:
            yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each, depth + 1)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each, depth + 1)


def _text(value: object) -> str:
    return value[:TEXT_MAX] if isinstance(value, str) else ""


def _moment(value: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(value) if isinstance(value, str) else None
    except ValueError:
        return None
    return found if found is None or found.tzinfo is not None else found.replace(tzinfo=UTC)
