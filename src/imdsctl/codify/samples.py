"""Calls to try a policy on: launches, changes of an instance, changes of a Region's defaults, use of a role.

Source of the resources and keys of each call: Service Authorization Reference, "Actions, resources, and condition keys
for Amazon EC2"; a key is absent where neither request nor template says anything (see local/authorization).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

from imdsctl.codify import statements
from imdsctl.codify.vocabulary import (
    ASKED,
    CONFIGURATION,
    DEFAULTS,
    ENDPOINT,
    HOPS,
    IMAGE,
    NEW_VERSION,
    OPTIONS,
    ROLE_DELIVERY,
    RUN,
    TAGS,
    TEMPLATE_DEFAULT,
    TOKENS,
    TYPE,
)
from imdsctl.policy.decision import CallerPolicies, Decision, decide
from imdsctl.policy.document import PolicyKind, parse_policy
from imdsctl.policy.patterns import like, pieces_of
from imdsctl.policy.problems import MalformedPolicy
from imdsctl.policy.request import Principal, PrincipalKind, RequestContext, ResourceContext, context_keys

ACCOUNT, REGION, INSTANCE = "111122223333", "eu-west-1", "i-0123456789abcdef0"
SHORT = {
    "ec2:MetadataHttpTokens": "HttpTokens",
    "ec2:MetadataHttpPutResponseHopLimit": "HttpPutResponseHopLimit",
    "ec2:MetadataHttpEndpoint": "HttpEndpoint",
    "ec2:InstanceMetadataTags": "InstanceMetadataTags",
    "autoscaling:MetadataHttpTokens": "HttpTokens",
    "autoscaling:MetadataHttpPutResponseHopLimit": "HttpPutResponseHopLimit",
    "autoscaling:MetadataHttpEndpoint": "HttpEndpoint",
}
"""Parameters by the condition key that carries them."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A call. `asked` are its parameters (None: not said), `had` what the instance has before a change."""

    action: str
    asked: Mapping[str, str | None]
    resources: tuple[ResourceContext, ...]
    had: Mapping[str, str] = field(default_factory=dict)
    keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def words(self) -> str:
        """For a sentence: `a launch with HttpTokens=required`."""
        said = ", ".join(f"{name}={value}" for name, value in self.asked.items() if value is not None)
        if self.action == RUN:
            return f"a launch with {said}" if said else "a launch that says nothing about metadata options"
        if self.action == CONFIGURATION:
            return f"a launch configuration with {said}" if said else "a launch configuration that says nothing"
        if self.action == OPTIONS:
            had = ", ".join(f"{name}={value}" for name, value in self.had.items())
            return f"setting {said} on an instance" + (f" that has {had}" if had else "")
        if self.action == DEFAULTS:
            return f"setting a Region's defaults to {said}"
        return f"a call of {self.action}" + (f" with {said}" if said else "")


class Trial:
    """One or more statements, to be tried on samples; all of them deny, or `alone` they have to allow."""

    def __init__(self, tried: Sequence[Mapping[str, Any]], *, alone: bool = False) -> None:
        """Raises MalformedPolicy."""
        body = {"Version": "2012-10-17", "Statement": [{**each, "Sid": f"S{n}"} for n, each in enumerate(tried)]}
        policy = parse_policy(body, name="tried", kind=PolicyKind.IDENTITY)
        allow = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
        everything = parse_policy(allow, name="everything", kind=PolicyKind.IDENTITY)
        self._policies = CallerPolicies(identity=(policy,) if alone else (everything, policy))

    def decide(self, sample: Sample, caller: str = "") -> Decision:
        """The engine's decision for an ordinary role, or for the role (or user) with the ARN `caller`."""
        role = caller or f"arn:aws:iam::{ACCOUNT}:role/sample"
        name = role.rpartition("/")[2]
        principal = Principal(
            PrincipalKind.ROLE_SESSION, f"arn:aws:sts::{ACCOUNT}:assumed-role/{name}/s", ACCOUNT, role
        )
        keys = context_keys({**principal.keys(), "aws:requestedregion": REGION, "ec2:region": REGION, **sample.keys})
        return decide(RequestContext(sample.action, principal, keys, sample.resources), self._policies)

    def denies(self, sample: Sample, caller: str = "") -> bool:
        """Whether the call is refused."""
        return not self.decide(sample, caller).allowed


def trial(tried: Sequence[Mapping[str, Any]], *, alone: bool = False) -> Trial | None:
    """A trial; None for statements that are no policy."""
    try:
        return Trial(tried, alone=alone)
    except MalformedPolicy:
        return None


@dataclass(frozen=True, slots=True)
class Where:
    """Partition, Region and account that the samples are in: those that a statement names, if it names one."""

    partition: str = "aws"
    region: str = REGION
    account: str = ACCOUNT
    instance: str = INSTANCE

    def arn(self, kind: str, identifier: str) -> str:
        """Of an EC2 resource; images have no account."""
        account = "" if kind == "image" else self.account
        return f"arn:{self.partition}:ec2:{self.region}:{account}:{kind}/{identifier}"


def where(statement: Mapping[str, Any]) -> Where:
    """From the first EC2 ARN of a statement; wildcards are filled in."""
    arns = [each for each in statements.strings(statement.get("Resource")) if each.count(":") >= 5]
    arn = next((each for each in arns if ":instance/" in each), arns[0] if arns else "arn:*:ec2:*:*:instance/*")
    _, partition, _, region, account, resource = arn.split(":", 5)
    kind, _, identifier = resource.partition("/")
    usual = Where()
    return Where(
        _filled(partition, usual.partition),
        _filled(region, usual.region),
        _filled(account, usual.account),
        _filled(identifier, usual.instance) if kind == "instance" else usual.instance,
    )


def _filled(pattern: str, usual: str) -> str:
    """Something that a pattern matches: what is usual, if it does."""
    if not pattern or "${" in pattern or like(pieces_of(pattern))(usual):
        return usual
    return pattern.replace("*", "1").replace("?", "1")


AROUND = (
    ("image", "ami-0123456789abcdef0"), ("subnet", "subnet-0123456789abcdef0"),
    ("network-interface", "eni-0123456789abcdef0"), ("security-group", "sg-0123456789abcdef0"),
    ("volume", "vol-0123456789abcdef0"),
)  # fmt: skip
"""What a launch needs permission for beside its instance."""


def launches(
    at: Where, hops: Iterable[str] = (), *, more: Mapping[str, Iterable[str]] | None = None
) -> Iterator[Sample]:
    """Launches with every combination of options; `hops` are further hop limits, `more` further values by parameter."""
    extra = more or {}
    around = tuple(ResourceContext(at.arn(kind, identifier), {TYPE: kind}) for kind, identifier in AROUND)
    limits = _numbers((*hops, *extra.get("HttpPutResponseHopLimit", ())))
    for tokens, hop, endpoint, tags in product(
        ("required", "optional", None), (None, *limits), (None, "enabled", "disabled"), (None, "disabled", "enabled")
    ):
        asked = {
            "HttpTokens": tokens,
            "HttpPutResponseHopLimit": hop,
            "HttpEndpoint": endpoint,
            "InstanceMetadataTags": tags,
        }
        keys = context_keys({TOKENS: tokens, HOPS: hop, ENDPOINT: endpoint, TAGS: tags, TYPE: "instance"})
        yield Sample(RUN, asked, (ResourceContext(at.arn("instance", INSTANCE), keys), *around))


def _numbers(said: Iterable[str]) -> list[str]:
    """1, 2, 64, and what is just below, at and above the numbers that are said."""
    wanted = {1, 2, 3, 64}
    for each in said:
        if re.fullmatch(r"\d{1,2}(?:\.0)?", each):
            number = int(float(each))
            wanted |= {number - 1, number, number + 1}
    return [str(each) for each in sorted(wanted) if 1 <= each <= 64]


def configurations(statement: Mapping[str, Any], hops: Iterable[str] = ()) -> Iterator[Sample]:
    """Launch configurations of EC2 Auto Scaling."""
    named = [each for each in statements.strings(statement.get("Resource")) if ":autoscaling:" in each]
    usual = f"arn:aws:autoscaling:{REGION}:{ACCOUNT}:launchConfiguration:1:launchConfigurationName/sample"
    arn = named[0].replace("*", "1").replace("?", "1") if named else usual
    for tokens, hop, endpoint in product(
        ("required", "optional", None), (None, *_numbers(hops)), (None, "enabled", "disabled")
    ):
        asked = {"HttpTokens": tokens, "HttpPutResponseHopLimit": hop, "HttpEndpoint": endpoint}
        keys = context_keys({f"autoscaling:Metadata{name}": value for name, value in asked.items()})
        yield Sample(CONFIGURATION, asked, (ResourceContext(arn, keys),))


def changes(at: Where, hops: Iterable[str] = ()) -> Iterator[Sample]:
    """Changes of an instance's options, each from v1 and from v2."""
    for current, current_hop, tokens, hop, endpoint, tags in product(
        ("optional", "required"), ("1", "64"), (None, "required", "optional"), (None, *_numbers(hops)),
        (None, "enabled", "disabled"), (None, "enabled", "disabled"),
    ):  # fmt: skip
        asked = {
            "HttpTokens": tokens,
            "HttpPutResponseHopLimit": hop,
            "HttpEndpoint": endpoint,
            "InstanceMetadataTags": tags,
        }
        if any(asked.values()):
            keys: dict[str, Any] = {
                TYPE: "instance",
                TOKENS: current,
                HOPS: current_hop,
                ENDPOINT: "enabled",
                TAGS: "disabled",
            }
            keys |= _asked_keys(asked)
            had = {"HttpTokens": current, "HttpPutResponseHopLimit": current_hop}
            yield Sample(OPTIONS, asked, (ResourceContext(at.arn("instance", at.instance), context_keys(keys)),), had)


def ipv6_changes(at: Where) -> Iterator[Sample]:
    """Changes of an instance's IPv6 endpoint alone."""
    for switch in ("enabled", "disabled"):
        asked = {"HttpProtocolIpv6": switch}
        keys = context_keys({TYPE: "instance", TOKENS: "required", HOPS: "1", **_asked_keys(asked)})
        had = {"HttpTokens": "required", "HttpPutResponseHopLimit": "1"}
        yield Sample(OPTIONS, asked, (ResourceContext(at.arn("instance", at.instance), keys),), had)


def defaults(hops: Iterable[str] = ()) -> Iterator[Sample]:
    """Changes of a Region's defaults; the action has no resource."""
    for tokens, enforced, hop, endpoint in product(
        (None, "required", "optional", "no-preference"), (None, "enabled", "disabled", "no-preference"),
        (None, "-1", *_numbers(hops)), (None, "enabled", "disabled"),
    ):  # fmt: skip
        asked = {
            "HttpTokens": tokens,
            "HttpTokensEnforced": enforced,
            "HttpPutResponseHopLimit": hop,
            "HttpEndpoint": endpoint,
        }
        if any(asked.values()):
            yield Sample(DEFAULTS, asked, (ResourceContext("*", context_keys(_asked_keys(asked))),))


def templates(at: Where) -> Iterator[Sample]:
    """A new version of a launch template, and another default version. What the version says has no condition key."""
    arn = at.arn("launch-template", "lt-0123456789abcdef0")
    for action in (NEW_VERSION, TEMPLATE_DEFAULT):
        keys = context_keys({TYPE: "launch-template"})
        yield Sample(action, {"HttpTokens": "required"}, (ResourceContext(arn, keys),))


def images(at: Where) -> Iterator[Sample]:
    """Changes of an image: its ImdsSupport, or something else."""
    for support, description in (("v2.0", None), (None, "new")):
        asked = {"ImdsSupport": support, "Description": description}
        arn = at.arn("image", "ami-0123456789abcdef0")
        yield Sample(IMAGE, asked, (ResourceContext(arn, context_keys({TYPE: "image", **_asked_keys(asked)})),))


def _asked_keys(asked: Mapping[str, str | None]) -> dict[str, Any]:
    said = {name: value for name, value in asked.items() if value is not None}
    return {**{f"{ASKED}{name}": value for name, value in said.items()}, "ec2:Attribute": tuple(said)}


def deliveries(statement: Mapping[str, Any]) -> tuple[Sample, Sample, Sample]:
    """A call that the statement is about: by a role that IMDSv1 delivered, one that IMDSv2 did, and somebody who is no
    instance."""
    names = [each for each in statements.strings(statement.get("Action")) if ":" in each]
    action = names[0].replace("*", "x").replace("?", "x") if names else "s3:GetObject"
    arns = [each for each in statements.strings(statement.get("Resource")) if each != "*"]
    arn = arns[0].replace("*", "x").replace("?", "x") if arns else f"arn:aws:s3:::{ACCOUNT}/sample"

    def by(delivery: str | None) -> Sample:
        keys = {} if delivery is None else {ROLE_DELIVERY.lower(): delivery}
        return Sample(action, {"RoleDelivery": delivery}, (ResourceContext(arn),), keys=keys)

    return by("1.0"), by("2.0"), by(None)
