"""What becomes of a call: authorization, then precedence, then enforcement, then what the instance gets.

Sources: IAM User Guide, "Policy evaluation logic"; EC2 User Guide, "Order of precedence for instance metadata options"
and "Troubleshoot instance launch issues" (`HttpTokensEnforced`); Organizations User Guide, "Declarative policies" (an
account that a policy manages cannot change the attribute itself).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from imdsctl.codify.asked import Asked, needs_of
from imdsctl.codify.launch import fleet_launches
from imdsctl.codify.needs import Need
from imdsctl.codify.policy_set import PolicySet, Written
from imdsctl.domain.options import AWS_NAMES, AccountDefaults, HttpTokens, InvalidOption, MetadataOptions, Switch
from imdsctl.domain.precedence import Resolution, image_options, resolve
from imdsctl.policy.decision import CallerPolicies, Decision, Effect, decide
from imdsctl.policy.document import PolicyKind
from imdsctl.policy.request import Keys, RequestContext, ResourceContext


class Result(StrEnum):
    """What becomes of a call."""

    ALLOWED = "allowed"
    DENIED = "denied"
    """A policy: AWS answers UnauthorizedOperation."""
    REFUSED = "refused"
    """Every policy allows it, and EC2 refuses it all the same."""


class Says(StrEnum):
    """What a layer says of one resource of a call."""

    ALLOWS = "allows"
    DENIES = "denies"
    SILENT = "does not allow"
    ABSENT = "is not there"


@dataclass(frozen=True, slots=True)
class Tested:
    """A condition that held: operator, key, what it is compared with, and what the call has (None: no such key)."""

    operator: str
    key: str
    wanted: tuple[str, ...]
    has: str | None


@dataclass(frozen=True, slots=True)
class Cited:
    """A statement that applies: its policy, its place in it (from 0), its Sid, and its conditions."""

    policy: str
    index: int
    sid: str | None
    conditions: tuple[Tested, ...]


@dataclass(frozen=True, slots=True)
class Part:
    """What one layer says, and which of its statements make it say so."""

    layer: str
    kind: PolicyKind
    says: Says
    statements: tuple[Cited, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of a call, and why.

    `action` and `resource` are the permission that decided: the one that was refused, else the call's own. `parts`
    are every layer's say on it. `refusal` is EC2's reason after authorization. `resolution` is what an instance
    launched by it gets and from where (also of a launch that is denied: what it would have got).
    """

    result: Result
    action: str
    resource: str
    parts: tuple[Part, ...]
    refusal: str = ""
    error_code: str = ""
    resolution: Resolution | None = None
    options: MetadataOptions | None = None
    """The options that the instance has afterwards, for a launch and for ModifyInstanceMetadataOptions where known."""


class Simulator:
    """Decides calls under one set of policies, which are compiled already. Holds nothing of the calls."""

    def __init__(self, policies: PolicySet) -> None:
        self.policies = policies
        self._caller: CallerPolicies = policies.caller_policies()
        self._layers = tuple(policies.layers())

    def result(self, asked: Asked) -> Result:
        """What becomes of the call, without the reasons."""
        if any(not decision.allowed for _, _, decision in self._decisions(asked)):
            return Result.DENIED
        return Result.REFUSED if self._refused(asked)[1] else Result.ALLOWED

    def outcome(self, asked: Asked) -> Outcome:
        """What becomes of the call, with every layer's part. Raises InvalidOption for a value that AWS has not."""
        resolution, code, refusal, options = self._effect(asked)
        first: tuple[Need, RequestContext, Decision] | None = None
        for each in self._decisions(asked):
            first = first or each
            if not each[2].allowed:
                need, request, decision = each
                resource = next(one for one in need.resources if one.arn == decision.resource)
                parts = tuple(self._parts(request, resource, denies=decision.effect is Effect.EXPLICIT_DENY))
                return Outcome(Result.DENIED, need.action, decision.resource, parts, "", "", resolution, options)
        assert first is not None  # a call needs its own action at least
        need, request, _ = first
        instance = next((one for one in need.resources if ":instance/" in one.arn), need.resources[0])
        parts = tuple(self._parts(request, instance, denies=False))
        result = Result.REFUSED if code else Result.ALLOWED
        return Outcome(result, need.action, instance.arn, parts, refusal, code, resolution, options)

    # -- authorization -----------------------------------------------------------------------------------------------

    def _decisions(self, asked: Asked) -> Iterator[tuple[Need, RequestContext, Decision]]:
        context = asked.context()
        for need in needs_of(asked):
            keys = {**context, **need.keys} if need.keys else context
            request = RequestContext(need.action, asked.principal, keys, need.resources)
            yield need, request, decide(request, self._caller)

    def _parts(self, request: RequestContext, resource: ResourceContext, *, denies: bool) -> Iterator[Part]:
        keys = {**request.keys, **resource.keys} if resource.keys else request.keys
        bound = not request.principal.service_linked
        for kind, name, level in self._layers:
            if level is None or (kind is PolicyKind.SCP and not bound):
                yield Part(name, kind, Says.ABSENT)
                continue
            allowing: list[Cited] = []
            denying: list[Cited] = []
            for each in level:
                for statement in each.policy.about(request.action):
                    if statement.named(resource.arn, request.principal, keys):
                        cited = _cited(each, statement.index, statement.sid, keys)
                        (allowing if statement.allows else denying).append(cited)
            if denying:
                yield Part(name, kind, Says.DENIES, tuple(denying))
            else:
                yield Part(name, kind, Says.ALLOWS if allowing else Says.SILENT, tuple(allowing))

    # -- what EC2 does then ------------------------------------------------------------------------------------------

    def _refused(self, asked: Asked) -> tuple[None, str]:
        return None, self._effect(asked)[1]

    def defaults(self, asked: Asked) -> AccountDefaults:
        """The account's defaults in the Region, with the declarative policy laid over them."""
        return self.policies.declarative.over(asked.known.defaults)

    def _effect(self, asked: Asked) -> tuple[Resolution | None, str, str, MetadataOptions | None]:
        """The resolution of a launch, EC2's error code and reason, and the options afterwards."""
        params = asked.parameters
        if asked.action == "RunInstances":
            return self._launch(asked, params)
        if asked.action == "CreateFleet":
            last: tuple[Resolution | None, str, str, MetadataOptions | None] = (None, "", "", None)
            for each in fleet_launches(params):
                last = self._launch(asked, each)
                if last[1]:
                    # A fleet is made all the same: what cannot be launched is in its errors.
                    return last[0], "", f"the fleet is made, and launches nothing: {last[2]}", None
            return last
        if asked.action == "ModifyInstanceMetadataDefaults" and self.policies.declarative.manages_metadata_defaults:
            return None, "UnsupportedOperation", self.policies.declarative.exception_message, None
        if asked.action == "ModifyInstanceMetadataOptions":
            wanted = MetadataOptions.from_aws(params)
            contradiction = _contradiction(wanted)
            if contradiction:
                return None, "InvalidParameterCombination", contradiction, None
            if wanted.http_tokens is HttpTokens.OPTIONAL and self.defaults(asked).enforced:
                why = "the Region enforces HttpTokens: no instance can be set to `optional`"
                return None, "UnsupportedOperation", why, None
            current = asked.known.instances.get(str(params.get("InstanceId")))
            return None, "", "", wanted.over(current) if current is not None else None
        return None, "", "", None

    def _launch(
        self, asked: Asked, params: Mapping[str, Any]
    ) -> tuple[Resolution | None, str, str, MetadataOptions | None]:
        data = _template_data(asked, params)
        own = MetadataOptions.from_aws(params.get("MetadataOptions"))
        of_template = MetadataOptions.from_aws(data.get("MetadataOptions"))
        image = str(params.get("ImageId") or data.get("ImageId") or "")
        support = asked.known.imds_support.get(image)
        resolution = resolve(own, self.defaults(asked), image_options(support), launch_template=of_template)
        contradiction = _contradiction(own.over(of_template))
        if contradiction:
            return resolution, "InvalidParameterCombination", contradiction, None
        if resolution.refused:
            why = "the Region enforces HttpTokens, and the launch resolves to `optional`"
            return resolution, "UnsupportedOperation", why, None
        return resolution, "", "", resolution.options


def _template_data(asked: Asked, params: Mapping[str, Any]) -> Mapping[str, Any]:
    named = params.get("LaunchTemplate") or {}
    known = asked.known.templates.get(str(named.get("LaunchTemplateId") or named.get("LaunchTemplateName")))
    return (known.data(named.get("Version")) or {}) if known is not None else {}


_NEED_AN_ENDPOINT = ("http_tokens", "http_put_response_hop_limit", "http_protocol_ipv6")


def _contradiction(asked: MetadataOptions) -> str:
    """What a request says beside HttpEndpoint=disabled that only matters while it is on (docs/fidelity.md)."""
    if asked.http_endpoint is not Switch.DISABLED:
        return ""
    named = [AWS_NAMES[name] for name in _NEED_AN_ENDPOINT if getattr(asked, name) is not None]
    return f"{', '.join(named)} cannot be specified when HttpEndpoint is set to 'disabled'" if named else ""


def _cited(written: Written, index: int, sid: str | None, keys: Keys) -> Cited:
    tested = tuple(
        Tested(operator, key, _texts(value), _has(keys, key)) for operator, key, value in written.conditions(index)
    )
    return Cited(written.policy.name, index, sid, tested)


def _texts(value: Any) -> tuple[str, ...]:
    listed = value if isinstance(value, list | tuple) else [value]
    return tuple(str(each).lower() if isinstance(each, bool) else str(each) for each in listed)


def _has(keys: Keys, key: str) -> str | None:
    value = keys.get(key.lower())
    return value if value is None or isinstance(value, str) else ", ".join(value)


__all__ = ["Cited", "InvalidOption", "Outcome", "Part", "Result", "Says", "Simulator", "Tested"]
