"""What would a guardrail have stopped? Recorded calls, decided under SCPs that were not there then.

Sources: Organizations User Guide, "SCP evaluation" (service-linked roles and AWS services are not bound); CloudTrail
User Guide, "CloudTrail record contents". What CloudTrail does not record and a guardrail asks for makes the answer
unknown: the options of a launch template are not in the event of the launch, the tags of an existing resource are not,
nor are the tags of the caller.

A million events are made of few shapes. A shape is everything about an event that the guardrails can look at; each is
decided once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import blake2b
from typing import Any

import orjson

from imdsctl.codify.asked import Asked, Known, needs_of
from imdsctl.codify.flips import smallest_flip
from imdsctl.codify.launch import fleet_launches
from imdsctl.codify.policy_set import PolicySet, Written, with_full_access
from imdsctl.codify.recorded import NAMES, Incomplete, Who, parameters_of, pipeline_of, template_of, who_of
from imdsctl.codify.simulate import Simulator
from imdsctl.codify.three_valued import Answer, Ruled, rule
from imdsctl.domain.options import InvalidOption
from imdsctl.policy.request import ResourceContext

SHAPES_REMEMBERED_MAX = 20_000
GROUPS_MAX = 20_000
"""So many principals, templates, pipelines and accounts are counted apart; the rest together."""
OTHERS = "(others)"


class Verdict(StrEnum):
    """What would have become of a recorded call."""

    STOPPED = "stopped"
    LAUNCHES_STOPPED = "its launches would be stopped"
    """A template: SCPs let it be made; a launch from it that says no more would be stopped."""
    UNKNOWN = "unknown"
    PASSES = "passes"
    NOT_BOUND = "not bound"
    """An AWS service or a service-linked role: SCPs do not bind it."""
    FAILED = "failed then"
    """AWS refused it already."""


@dataclass(frozen=True, slots=True)
class Ruling:
    """The verdict on a shape: the statement that stops it, what the call must change, or what nobody knows."""

    verdict: Verdict
    statement: str = ""
    change: str = ""
    reason: str = ""


@dataclass(slots=True)
class Group:
    """The calls of one principal, template, pipeline or account."""

    counts: dict[Verdict, int] = field(default_factory=dict)
    changes: dict[str, int] = field(default_factory=dict)

    def add(self, ruling: Ruling) -> None:
        """Count a call."""
        self.counts[ruling.verdict] = self.counts.get(ruling.verdict, 0) + 1
        if ruling.change and (ruling.change in self.changes or len(self.changes) < 8):
            self.changes[ruling.change] = self.changes.get(ruling.change, 0) + 1

    def of(self, *verdicts: Verdict) -> int:
        """How many calls have one of the verdicts."""
        return sum(self.counts.get(each, 0) for each in verdicts)


DIMENSIONS = ("principal", "template", "pipeline", "account")


class Replay:
    """Takes records one by one, and keeps counts only."""

    def __init__(
        self,
        guardrails: Sequence[Written],
        *,
        known: Mapping[tuple[str, str], Known] | None = None,
        management_account: str | None = None,
    ) -> None:
        self._level = with_full_access(guardrails)
        self._simulator = Simulator(PolicySet(scps=(("the guardrails", self._level),)))
        self._known = known or {}
        self._management = management_account
        self._rulings: dict[tuple[Any, ...], Ruling] = {}
        self._tested, variables = _looked_at(guardrails)
        self._plain = not variables and _plain(self._tested, guardrails)
        self._looks_at_identity = variables or bool(self._tested & _IDENTITY)
        self._members = tuple(
            dict.fromkeys(member for key, member in _CIRCUMSTANCES.items() if variables or key in self._tested)
        )
        self.events = 0
        self.replayed = 0
        self.calls: dict[str, Group] = {}
        self.statements: dict[str, int] = {}
        self.reasons: dict[str, int] = {}
        self.groups: dict[str, dict[str, Group]] = {name: {} for name in DIMENSIONS}
        self._who: dict[tuple[Any, ...], tuple[Who, str]] = {}

    def add(self, record: Mapping[str, Any]) -> Verdict | None:
        """Decide one CloudTrail record; None when it is none of the calls that are replayed. Raises Incomplete."""
        self.events += 1
        name = record.get("eventName")
        if name not in NAMES or record.get("eventSource") != "ec2.amazonaws.com":
            if not isinstance(name, str):
                raise Incomplete("eventName")
            return None
        identity = record.get("userIdentity")
        if not isinstance(identity, dict):
            raise Incomplete("userIdentity")
        account = record.get("recipientAccountId") or identity.get("accountId")
        region = record.get("awsRegion")
        if not isinstance(account, str) or not account:
            raise Incomplete("recipientAccountId")
        if not isinstance(region, str) or not region:
            raise Incomplete("awsRegion")
        agent = record.get("userAgent")
        who, pipeline = self._whom(identity, account, agent if isinstance(agent, str) else "")
        recorded = record.get("requestParameters")
        if record.get("errorCode"):
            # What it asked for may be missing, and nothing came of it.
            ruling, template = _FAILED, ""
        else:
            if not isinstance(recorded, dict):
                raise Incomplete("requestParameters")
            shape = (name, account, region, who.name, who.principal is None, *self._shape(name, recorded, record))
            found = self._rulings.get(shape)
            if found is None:
                if len(self._rulings) >= SHAPES_REMEMBERED_MAX:
                    self._rulings.clear()
                found = self._rulings[shape] = self._ruling(name, account, region, who, recorded, record)
            ruling, template = found, _named_template(name, recorded)
        self._count(name, ruling, who.name, template, pipeline, account)
        return ruling.verdict

    # -- counting ----------------------------------------------------------------------------------------------------

    def _count(self, name: str, ruling: Ruling, who: str, template: str, pipeline: str, account: str) -> None:
        self.replayed += 1
        self.calls.setdefault(name, Group()).add(ruling)
        if ruling.statement:
            self.statements[ruling.statement] = self.statements.get(ruling.statement, 0) + 1
        if ruling.reason:
            self.reasons[ruling.reason] = self.reasons.get(ruling.reason, 0) + 1
        for dimension, value in zip(DIMENSIONS, (who, template, pipeline, account), strict=True):
            if value:
                groups = self.groups[dimension]
                group = groups.get(value)
                if group is None:
                    value = value if len(groups) < GROUPS_MAX else OTHERS
                    group = groups.setdefault(value, Group())
                group.add(ruling)

    def total(self, *verdicts: Verdict) -> int:
        """How many calls have one of the verdicts."""
        return sum(each.of(*verdicts) for each in self.calls.values())

    def _whom(self, identity: Mapping[str, Any], account: str, agent: str) -> tuple[Who, str]:
        key = (identity.get("type"), identity.get("arn"), identity.get("invokedBy"), agent)
        found = self._who.get(key)
        if found is None:
            who = who_of(identity, account)
            if len(self._who) >= SHAPES_REMEMBERED_MAX:
                self._who.clear()
            found = self._who[key] = who, pipeline_of(agent, who.session)
        return found

    # -- shapes ------------------------------------------------------------------------------------------------------

    def _shape(self, name: str, recorded: Mapping[str, Any], record: Mapping[str, Any]) -> tuple[Any, ...]:
        """What the guardrails can look at; all parameters, when they look at more than the options of a launch."""
        around = tuple(record.get(each) for each in self._members)
        if self._looks_at_identity:
            around = (*around, _digest(record.get("userIdentity")))
        elif "ec2:roledelivery" in self._tested:
            around = (*around, _delivery(record))
        if not self._plain:
            inner = recorded.get(f"{name}Request", recorded)
            said = {each: value for each, value in inner.items() if each not in _NEVER_LOOKED_AT}
            return (*around, _digest(said))
        if name == "RunInstances":
            template = recorded.get("launchTemplate")
            options = recorded.get("metadataOptions")
            return (
                *around,
                tuple(options.items()) if isinstance(options, dict) else None,
                tuple(template.items()) if isinstance(template, dict) else None,
            )
        inner = recorded.get(f"{name}Request", recorded)
        if name == "CreateFleet":
            return (
                *around,
                orjson.dumps([inner.get("LaunchTemplateConfigs"), inner.get("TargetCapacitySpecification")]),
            )
        if name.startswith("CreateLaunchTemplate"):
            data = inner.get("LaunchTemplateData")
            options = data.get("MetadataOptions") if isinstance(data, dict) else None
            return (*around, orjson.dumps(options), "SourceVersion" in inner)
        return (*around, tuple((each, str(value)) for each, value in inner.items() if each != "InstanceId"))

    # -- deciding ----------------------------------------------------------------------------------------------------

    def _ruling(
        self,
        name: str,
        account: str,
        region: str,
        who: Who,
        recorded: Mapping[str, Any],
        record: Mapping[str, Any],
    ) -> Ruling:
        principal = who.principal
        if principal is None or principal.service_linked or account == self._management:
            return Ruling(Verdict.NOT_BOUND)
        params = parameters_of(name, recorded)
        known = self._known.get((account, region), _NOTHING)
        asked = Asked(name, params, replace(principal, account_id=account), region, _keys(record), known)
        ruled = self._rule(asked)
        if ruled.answer is Answer.UNKNOWN:
            return Ruling(Verdict.UNKNOWN, reason=_reason(ruled, asked))
        if ruled.answer is Answer.STOPPED:
            return Ruling(Verdict.STOPPED, ruled.statement, self._change(asked))
        if name.startswith("CreateLaunchTemplate"):
            return self._launches(asked, params)
        return Ruling(Verdict.PASSES)

    def _launches(self, asked: Asked, params: Mapping[str, Any]) -> Ruling:
        """What would become of a launch from a template that was made."""
        data = params.get("LaunchTemplateData")
        if not isinstance(data, Mapping):
            return Ruling(Verdict.PASSES)
        launch = replace(asked, action="RunInstances", parameters=dict(data))
        if params.get("SourceVersion") and not (data.get("MetadataOptions") or {}).get("HttpTokens"):
            reason = "a template version takes the rest from another version, which is not in its event"
            return Ruling(Verdict.UNKNOWN, reason=reason)
        ruled = self._rule(launch)
        if ruled.answer is Answer.STOPPED:
            return Ruling(Verdict.LAUNCHES_STOPPED, ruled.statement, _in_template(self._change(launch)))
        return Ruling(Verdict.PASSES)

    def _rule(self, asked: Asked) -> Ruled:
        return rule(needs_of(asked), asked.principal, asked.context(), (self._level,), _unknown_keys(asked))

    def _change(self, asked: Asked) -> str:
        """The smallest change after which the call passes, in words."""
        try:
            if asked.action == "CreateFleet":
                for each in fleet_launches(asked.parameters):
                    data = _data_of(asked, each)
                    launch = replace(asked, action="RunInstances", parameters={**data, **_own(each)})
                    if self._rule(launch).answer is Answer.STOPPED:
                        return _in_template(self._change(launch))
                return "nothing that was tried is enough"
            flip = smallest_flip(self._simulator, asked)
        except InvalidOption as error:
            return str(error)
        if flip is None:
            return "nothing that was tried is enough"
        said = " and ".join(flip.changes)
        # What the request says itself wins over its template.
        elsewhere = asked.parameters.get("LaunchTemplate") and not asked.parameters.get("MetadataOptions")
        return f"{said}, there or in the template" if elsewhere else said


_FAILED = Ruling(Verdict.FAILED)
_NOTHING = Known()


def _own(launch: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in launch.items() if name != "LaunchTemplate"}


def _in_template(change: str) -> str:
    return f"in the launch template: {change}"


def _data_of(asked: Asked, launch: Mapping[str, Any]) -> Mapping[str, Any]:
    named = launch.get("LaunchTemplate") or {}
    known = asked.known.templates.get(str(named.get("LaunchTemplateId") or named.get("LaunchTemplateName")))
    return (known.data(named.get("Version")) or {}) if known is not None else {}


def _named_template(name: str, recorded: Mapping[str, Any]) -> str:
    if name == "RunInstances":
        named = recorded.get("launchTemplate")
        if not isinstance(named, Mapping):
            return ""
        which = named.get("launchTemplateId") or named.get("launchTemplateName") or "?"
        return f"{which}:{named.get('version') or '$Default'}"
    if name.startswith("Modify"):
        return ""
    return template_of(parameters_of(name, recorded), name)


# -- what is recorded, and what is not -------------------------------------------------------------------------------

_OPTIONS = frozenset(
    {
        "ec2:metadatahttptokens",
        "ec2:metadatahttpputresponsehoplimit",
        "ec2:metadatahttpendpoint",
        "ec2:instancemetadatatags",
    }
)
_CIRCUMSTANCES = {
    "aws:sourceip": "sourceIPAddress",
    "aws:useragent": "userAgent",
    "aws:currenttime": "eventTime",
    "aws:epochtime": "eventTime",
    "aws:sourcevpce": "vpcEndpointId",
}
"""Keys that a member of the record tells."""
_IDENTITY = frozenset({"aws:userid", "aws:multifactorauthpresent", "aws:sourceidentity"})
_OF_PARAMETERS = ("aws:requesttag/", "aws:resourcetag/", "aws:tagkeys")
_PLAIN = _OPTIONS | {"ec2:region", "ec2:roledelivery"}
_NEVER_LOOKED_AT = frozenset({"clientToken", "ClientToken", "userData", "UserData"})
_ACTIONS = (*(f"ec2:{each.lower()}" for each in sorted(NAMES)), "ec2:createtags", "iam:passrole")


def _looked_at(guardrails: Iterable[Written]) -> tuple[frozenset[str], bool]:
    """The condition keys of statements about calls that are replayed, and whether there are policy variables."""
    tested: set[str] = set()
    variables = False
    for each in guardrails:
        for statement in each.policy.statements:
            if any(statement.actions(action) for action in _ACTIONS):
                tested.update(key.lower() for _, key, _ in each.conditions(statement.index))
                variables = variables or b"${" in orjson.dumps(each.statements[statement.index])
    return frozenset(tested), variables


def _plain(tested: frozenset[str], guardrails: Iterable[Written]) -> bool:
    """Whether the guardrails look at the options of a launch and what is around it only: then a shape is small."""

    def is_plain(key: str) -> bool:
        if key.startswith("aws:"):
            return not key.startswith(_OF_PARAMETERS)
        return not key.startswith("ec2:") or key in _PLAIN or key.startswith("ec2:attribute")

    return all(map(is_plain, tested)) and all(
        _general(name)
        for each in guardrails
        for statement in each.statements
        for element in ("Resource", "NotResource")
        for name in _texts(statement.get(element))
    )


def _digest(value: Any) -> bytes:
    """Short, whatever the value's size: many of them are kept."""
    return blake2b(orjson.dumps(value), digest_size=16).digest()


def _texts(value: Any) -> list[str]:
    return [str(each) for each in value] if isinstance(value, list) else [] if value is None else [str(value)]


def _general(resource: str) -> bool:
    """`*`, or an ARN that names a type of resource, not one of them."""
    return resource == "*" or resource.endswith(("/*", ":*"))


def _delivery(record: Mapping[str, Any]) -> Any:
    context = (record.get("userIdentity") or {}).get("sessionContext")
    return context.get("ec2RoleDelivery") if isinstance(context, Mapping) else None


def _keys(record: Mapping[str, Any]) -> dict[str, str | tuple[str, ...]]:
    """The condition keys that a record tells."""
    keys: dict[str, str | tuple[str, ...]] = {}
    for name, member in (("aws:sourceip", "sourceIPAddress"), ("aws:useragent", "userAgent")):
        if isinstance(record.get(member), str):
            keys[name] = record[member]
    if isinstance(record.get("eventTime"), str):
        keys["aws:currenttime"] = record["eventTime"]
    delivery = _delivery(record)
    if delivery is not None:
        keys["ec2:roledelivery"] = str(delivery)
    if isinstance(record.get("vpcEndpointId"), str):
        keys["aws:sourcevpce"] = record["vpcEndpointId"]
    identity = record.get("userIdentity") or {}
    if isinstance(identity.get("principalId"), str):
        keys["aws:userid"] = identity["principalId"]
    context = identity.get("sessionContext")
    if isinstance(context, Mapping):
        attributes = context.get("attributes")
        if isinstance(attributes, Mapping) and attributes.get("mfaAuthenticated") is not None:
            keys["aws:multifactorauthpresent"] = str(attributes["mfaAuthenticated"]).lower()
        if isinstance(context.get("sourceIdentity"), str):
            keys["aws:sourceidentity"] = context["sourceIdentity"]
    return keys


_ABSENT_WHEN_NOT_RECORDED = frozenset(
    {"aws:tagkeys", "aws:sourceidentity", "aws:multifactorauthpresent", "aws:sourcevpce", "aws:username"}
)
_NEW = (":instance/*", ":volume/*", ":network-interface/*", ":fleet/*", ":launch-template/*")


def _unknown_keys(asked: Asked) -> Any:
    """Which keys may have a value that the event does not tell."""
    named = asked.parameters.get("LaunchTemplate") or None
    hidden = named is not None or asked.action == "CreateFleet"
    resolved = hidden and _resolved(asked)
    own = asked.parameters.get("MetadataOptions") or {}

    def is_unknown(resource: ResourceContext, key: str) -> bool:
        new = resource.arn.endswith(_NEW) or resource.arn == "*"
        if key.startswith("aws:"):
            if key.startswith("aws:requesttag/") or key == "aws:tagkeys":
                return hidden and new
            if key.startswith("aws:resourcetag/"):
                return not new
            return key not in _ABSENT_WHEN_NOT_RECORDED
        if not key.startswith("ec2:") or key.startswith("ec2:attribute") or key == "ec2:roledelivery":
            return False
        instance = ":instance/" in resource.arn
        if key in _OPTIONS:
            if not instance:
                return False
            return not new if not hidden else new and not resolved and _SAID[key] not in own
        return hidden or not new

    return is_unknown


_SAID = {
    "ec2:metadatahttptokens": "HttpTokens",
    "ec2:metadatahttpputresponsehoplimit": "HttpPutResponseHopLimit",
    "ec2:metadatahttpendpoint": "HttpEndpoint",
    "ec2:instancemetadatatags": "InstanceMetadataTags",
}


def _resolved(asked: Asked) -> bool:
    """Whether the data of every template that the call names is known."""
    launches = fleet_launches(asked.parameters) if asked.action == "CreateFleet" else (asked.parameters,)
    for each in launches:
        named = each.get("LaunchTemplate") or {}
        known = asked.known.templates.get(str(named.get("LaunchTemplateId") or named.get("LaunchTemplateName")))
        if known is None or known.data(named.get("Version")) is None:
            return False
    return True


def _reason(ruled: Ruled, asked: Asked) -> str:
    keys = ", ".join(f"`{each}`" for each in sorted(ruled.unknown)[:4])
    launches = asked.action == "CreateFleet" or asked.parameters.get("LaunchTemplate")
    if launches and ruled.unknown & _OPTIONS:
        return f"the launch template's own options are not in the event ({keys}): name a scan that saw it with `--scan`"
    return f"CloudTrail does not record what the guardrail asks for: {keys}"
