"""Guardrails: statements that deny what would bring IMDSv1 back, each with its reason and its source.

A guardrail written from memory is how organizations lock themselves out. Three things are built in here. A condition on
a key of the instance is put on `instance/*` alone: on `*` it would be tested against the image and the subnet of the
same call, which have no such key, and a negated operator matches an absent key (EC2 User Guide, "Identity-based
policies for Amazon EC2"). What is asked of a change is `ec2:Attribute/NAME`: `ec2:MetadataHttpTokens` is the value
*before* the change there. And those who have to undo a rollout are exempt by the ARN of their role, never by a tag that
anybody could set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from imdsctl.domain.options import HOP_LIMIT_MAX, HOP_LIMIT_MIN

UG_EXAMPLES = "EC2 User Guide, 'Example policies to control access to the Amazon EC2 API', work with instance metadata"
ORG_EXAMPLES = "AWS Organizations User Guide, 'Example SCPs for Amazon EC2'"
KEYS = "Service Authorization Reference, 'Actions, resources, and condition keys for Amazon EC2'"


class Unset(StrEnum):
    """What becomes of a launch in which neither the request nor its template says HttpTokens."""

    DENY = "deny"
    """As AWS publishes it: everybody has to say it. A launch that the Region default would make right is denied too."""
    ALLOW = "allow"
    """Only an explicit `optional` is denied; the Region default or an EC2 policy has to see to the rest."""


class Rule(StrEnum):
    """What a guardrail is about. The order is that of the statements."""

    LAUNCH = "launch"
    LAUNCH_CONFIGURATION = "launch-configuration"
    HOP_LIMIT = "hop-limit"
    INSTANCES = "instances"
    DEFAULTS = "defaults"
    ROLE_DELIVERY = "role-delivery"


USUAL = (Rule.LAUNCH, Rule.LAUNCH_CONFIGURATION, Rule.HOP_LIMIT, Rule.INSTANCES, Rule.DEFAULTS)
"""What is generated when nobody chooses. Role delivery is not among them: it breaks every call of whoever still has
credentials that IMDSv1 delivered, at once, and belongs at the end of a rollout."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What somebody may choose."""

    rules: tuple[Rule, ...] = USUAL
    unset: Unset = Unset.DENY
    hop_limit_max: int = 2
    exempt_roles: tuple[str, ...] = ()
    """ARNs of principals, with `*` for parts of them, to whom nothing of this applies."""
    exempt_tag: tuple[str, str] | None = None
    """Key and value: a launch that asks for this tag, and an instance that has it, are exempt; then the tag is guarded
    too, so that only exempt roles can set it."""
    partition: str = "aws"

    def __post_init__(self) -> None:
        if not HOP_LIMIT_MIN <= self.hop_limit_max <= HOP_LIMIT_MAX:
            raise ValueError(f"a hop limit is {HOP_LIMIT_MIN} to {HOP_LIMIT_MAX}")
        if self.exempt_tag and not self.exempt_roles:
            raise ValueError("a tag that exempts has to be guarded: somebody must be allowed to set it")


@dataclass(frozen=True, slots=True)
class Guardrail:
    """One statement with what a reader has to know."""

    statement: Mapping[str, Any]
    reason: str
    source: str
    caution: str = ""
    """Whom it may hurt, in a sentence; empty when nobody."""

    @property
    def sid(self) -> str:
        """The statement's id."""
        return str(self.statement["Sid"])


def guardrails(settings: Settings) -> tuple[Guardrail, ...]:
    """The statements for some rules, in their order. All of them deny: they narrow, and allow nothing."""
    made = [each for rule in Rule if rule in settings.rules for each in _MAKERS[rule](settings)]
    if settings.exempt_tag:
        made += _guarded_tag(settings, settings.exempt_tag)
    return tuple(made)


def _launch(settings: Settings) -> Iterator[Guardrail]:
    if settings.unset is Unset.DENY:
        condition = {"StringNotEquals": {"ec2:MetadataHttpTokens": "required"}}
        reason = "no instance is launched unless its request or launch template says HttpTokens=required"
        caution = (
            "A launch that says nothing is denied even where the Region default would make it right: whether the "
            "default fills this key is not documented. Every template has to say it."
        )
    else:
        condition = {"StringEquals": {"ec2:MetadataHttpTokens": "optional"}}
        reason = "no instance is launched with HttpTokens=optional"
        caution = "A launch that says nothing passes: the Region default, or an EC2 policy, has to make it right."
    yield Guardrail(
        _deny(
            "DenyLaunchWithImdsV1",
            "ec2:RunInstances",
            _instances(settings),
            _exempting(condition, settings, "aws:RequestTag"),
        ),
        reason,
        UG_EXAMPLES,
        caution,
    )


def _launch_configuration(settings: Settings) -> Iterator[Guardrail]:
    condition: dict[str, dict[str, Any]] = (
        {"StringNotEquals": {"autoscaling:MetadataHttpTokens": "required"}}
        if settings.unset is Unset.DENY
        else {"StringEquals": {"autoscaling:MetadataHttpTokens": "optional"}}
    )
    yield Guardrail(
        _deny(
            "DenyLaunchConfigurationWithImdsV1",
            "autoscaling:CreateLaunchConfiguration",
            f"arn:{settings.partition}:autoscaling:*:*:launchConfiguration:*:launchConfigurationName/*",
            _exempting(condition, settings, None),
        ),
        "what an Auto Scaling group launches is not checked again, so that its launch configuration has to be right",
        "Service Authorization Reference, 'Actions, resources, and condition keys for Amazon EC2 Auto Scaling'",
    )


def _hop_limit(settings: Settings) -> Iterator[Guardrail]:
    # A positive operator: false where the key is absent, so that a launch that says nothing passes (it gets 1 or 2).
    yield Guardrail(
        _deny(
            "DenyLaunchWithHighHopLimit",
            "ec2:RunInstances",
            _instances(settings),
            _exempting(
                {"NumericGreaterThan": {"ec2:MetadataHttpPutResponseHopLimit": str(settings.hop_limit_max)}},
                settings,
                "aws:RequestTag",
            ),
        ),
        f"a token travels at most {settings.hop_limit_max} hops: beyond that it may leave the host",
        ORG_EXAMPLES,
    )


def _weaker(settings: Settings) -> Iterator[Guardrail]:
    for sid, attribute, condition, reason in (
        (
            "DenyImdsV1OnInstance",
            "HttpTokens",
            {"StringNotEquals": {"ec2:Attribute/HttpTokens": "required"}},
            "nobody opens IMDSv1 on an instance that runs",
        ),
        (
            "DenyHighHopLimitOnInstance",
            "HttpPutResponseHopLimit",
            {"NumericGreaterThan": {"ec2:Attribute/HttpPutResponseHopLimit": str(settings.hop_limit_max)}},
            f"nobody raises the hop limit of an instance above {settings.hop_limit_max}",
        ),
    ):
        yield Guardrail(
            _deny(
                sid,
                "ec2:ModifyInstanceMetadataOptions",
                _instances(settings),
                _exempting(_where_sent(attribute, condition), settings, "aws:ResourceTag"),
            ),
            reason,
            UG_EXAMPLES,
        )


def _defaults(settings: Settings) -> Iterator[Guardrail]:
    for sid, attribute, wanted, reason in (
        ("DenyWeakerRegionDefault", "HttpTokens", "required", "nobody takes `required` back from a Region's default"),
        ("DenyEndOfEnforcement", "HttpTokensEnforced", "enabled", "nobody ends the enforcement in a Region"),
    ):
        condition = {"StringNotEquals": {f"ec2:Attribute/{attribute}": wanted}}
        yield Guardrail(
            # The action has no resource: `*` is the only one it can be tested against.
            _deny(
                sid,
                "ec2:ModifyInstanceMetadataDefaults",
                "*",
                _exempting(_where_sent(attribute, condition), settings, None),
            ),
            reason,
            KEYS,
        )


def _role_delivery(settings: Settings) -> Iterator[Guardrail]:
    yield Guardrail(
        _deny(
            "DenyRolesDeliveredByImdsV1",
            "*",
            "*",
            _exempting({"NumericLessThan": {"ec2:RoleDelivery": "2.0"}}, settings, None),
        ),
        "credentials that IMDSv1 delivered to an instance open nothing, wherever they are used",
        UG_EXAMPLES,
        "Whoever still fetches credentials by IMDSv1 loses every call at once: attach it when `imdsctl evidence` shows "
        "no use. Other principals have no such key, and are not touched.",
    )


def _guarded_tag(settings: Settings, tag: tuple[str, str]) -> Iterator[Guardrail]:
    key, _ = tag
    # Tags given at launch are authorized as ec2:CreateTags as well; the launch itself is what would be exempt.
    yield Guardrail(
        _deny(
            "DenyExemptingOneself",
            ["ec2:CreateTags", "ec2:DeleteTags"],
            "*",
            _exempting({"ForAnyValue:StringEquals": {"aws:TagKeys": key}}, settings, None),
        ),
        f"only exempt roles set the tag `{key}`, at launch or later: an exemption that anybody could give is none",
        "EC2 User Guide, 'Grant permission to tag Amazon EC2 resources during creation'",
    )


_MAKERS: Mapping[Rule, Callable[[Settings], Iterator[Guardrail]]] = {
    Rule.LAUNCH: _launch,
    Rule.LAUNCH_CONFIGURATION: _launch_configuration,
    Rule.HOP_LIMIT: _hop_limit,
    Rule.INSTANCES: _weaker,
    Rule.DEFAULTS: _defaults,
    Rule.ROLE_DELIVERY: _role_delivery,
}


def _deny(sid: str, action: str | list[str], resource: str, condition: Mapping[str, Any]) -> dict[str, Any]:
    return {"Sid": sid, "Effect": "Deny", "Action": action, "Resource": resource, "Condition": condition}


def _instances(settings: Settings) -> str:
    return f"arn:{settings.partition}:ec2:*:*:instance/*"


def _where_sent(attribute: str, condition: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Only where the change says something about it: a negated operator alone would match every other change too."""
    return {**{name: dict(keys) for name, keys in condition.items()}, "Null": {f"ec2:Attribute/{attribute}": "false"}}


def _exempting(
    condition: Mapping[str, Mapping[str, Any]], settings: Settings, tag_key: str | None
) -> dict[str, dict[str, Any]]:
    """The condition, unless an exempt role asks, or (where tags can be seen) the instance has the exempting tag."""
    out: dict[str, dict[str, Any]] = {operator: dict(keys) for operator, keys in condition.items()}
    if settings.exempt_roles:
        roles = list(settings.exempt_roles)
        out["ArnNotLike"] = {"aws:PrincipalArn": roles[0] if len(roles) == 1 else roles}
    if settings.exempt_tag and tag_key:
        key, value = settings.exempt_tag
        out.setdefault("StringNotEquals", {})[f"{tag_key}/{key}"] = value
    return out
