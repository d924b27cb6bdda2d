"""The rules of `imdsctl policy check`, as a table."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from imdsctl.codify.findings import CodeRule, Severity

_ERROR, _WARNING, _NOTE = Severity.ERROR, Severity.WARNING, Severity.NOTE

RULES = (
    CodeRule("not-json", _ERROR, "not JSON", "AWS refuses a document with comments, a comma too many, a name twice"),
    CodeRule("malformed-policy", _ERROR, "not a policy", "IAM and Organizations refuse a document like this"),
    CodeRule("too-long", _ERROR, "longer than AWS allows", "every kind of policy has a limit of characters"),
    CodeRule("unknown-operator", _ERROR, "no such condition operator", "AWS refuses a condition it does not know"),
    CodeRule("unknown-element", _ERROR, "no such element", "AWS refuses an element it does not know"),
    CodeRule("unknown-key", _ERROR, "no such condition key", "a key that no request has is always absent"),
    CodeRule(
        "unknown-action", _ERROR, "no such action", "a statement about an action that does not exist does nothing"
    ),
    CodeRule(
        "impossible-value", _ERROR, "a value that the key never has", "nothing matches it; a negated one always does"
    ),
    CodeRule("wrong-operator-type", _ERROR, "an operator of another type than its key", "text is no number"),
    CodeRule("wrong-resource", _ERROR, "an ARN that no resource has", "the statement never applies"),
    CodeRule("old-version", _WARNING, "a version without variables", "`${...}` is plain text before 2012-10-17"),
    CodeRule(
        "absent-key",
        _ERROR,
        "a condition on a key that is absent",
        "a negated operator, IfExists and ForAllValues match an absent key; every call is denied",
    ),
    CodeRule("key-not-on-action", _ERROR, "a key that the action does not have", "the key is always absent there"),
    CodeRule("locks-out", _ERROR, "denies whatever is asked", "no value passes, not the right one either"),
    CodeRule("reversed", _ERROR, "the wrong way round", "it refuses what it should ask for, and lets pass the rest"),
    CodeRule(
        "current-value",
        _ERROR,
        "the value before the change, not the one asked for",
        "keys of an existing instance carry what it has; what a change asks for is ec2:Attribute/NAME",
    ),
    CodeRule(
        "negated-without-null",
        _ERROR,
        "a negated operator on a key that need not be there",
        "a change of something else has no such key, and is denied as well",
    ),
    CodeRule("conditions-joined", _ERROR, "two conditions where each should do", "conditions are joined by AND"),
    CodeRule("no-effect", _ERROR, "a statement that never applies", "it looks like a guardrail and is none"),
    CodeRule("enforcer-locked-out", _WARNING, "denies the hardening as well", "who has to enforce IMDSv2 cannot"),
    CodeRule("exempts-nobody", _ERROR, "an exemption that matches nobody", "aws:PrincipalArn is the role's IAM ARN"),
    CodeRule("not-action", _ERROR, "NotAction covers more than is meant", "it means every other action of AWS"),
    CodeRule("shadowed-allow", _NOTE, "an Allow without effect", "another statement decides the same already"),
    CodeRule("contradiction", _ERROR, "statements that no launch can satisfy", "one asks for what another denies"),
    CodeRule("contradicts-declarative", _ERROR, "an EC2 policy sets what is denied", "both cannot be wanted"),
    CodeRule("declarative-value", _ERROR, "not a value of an EC2 policy", "Organizations refuses the policy"),
    CodeRule("declarative-element", _ERROR, "not a setting of an EC2 policy", "Organizations refuses the policy"),
    CodeRule("declarative-overlap", _WARNING, "EC2 policies with different values", "one of them has no effect"),
    CodeRule(
        "declarative-contradiction",
        _ERROR,
        "an EC2 policy against itself",
        "with enforcement, a launch that says nothing fails where the default is `optional`",
    ),
)

RULE: Mapping[str, CodeRule] = MappingProxyType({rule.id: rule for rule in RULES})
