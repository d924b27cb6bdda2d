"""What a decision says beside yes and no: the statements that made it, what was lacking, and AWS's phrase."""

from __future__ import annotations

from typing import Any

import pytest

from imdsctl.policy.decision import CallerPolicies, Decision, Effect, Reason, decide
from imdsctl.policy.document import Policy, PolicyKind, parse_policy
from imdsctl.policy.request import Principal, PrincipalKind, RequestContext, ResourceContext, context_keys

ACCOUNT = "111122223333"
ALICE = Principal(PrincipalKind.USER, f"arn:aws:iam::{ACCOUNT}:user/alice", ACCOUNT)
INSTANCE = ResourceContext(f"arn:aws:ec2:eu-west-1:{ACCOUNT}:instance/i-1")
VOLUME = ResourceContext(f"arn:aws:ec2:eu-west-1:{ACCOUNT}:volume/vol-1")


def policy(name: str, *statements: dict[str, Any], kind: PolicyKind = PolicyKind.IDENTITY) -> Policy:
    who = {"Principal": "*"} if kind in (PolicyKind.RESOURCE, PolicyKind.TRUST) else {}
    where = {} if kind is PolicyKind.TRUST else {"Resource": "*"}
    filled = [{"Action": "*", **where, **who, **statement} for statement in statements]
    return parse_policy({"Version": "2012-10-17", "Statement": filled}, name=name, kind=kind)


ALLOW = {"Effect": "Allow"}
DENY = {"Effect": "Deny"}
NOTHING = {"Effect": "Allow", "Action": "none:None"}
EVERYTHING = policy("Everything", ALLOW)


def ask(policies: CallerPolicies, *resources: ResourceContext, action: str = "ec2:StopInstances") -> Decision:
    return decide(RequestContext(action, ALICE, context_keys({}), resources or (INSTANCE,)), policies)


def test_an_allowed_call_names_what_allows_it_at_every_gate() -> None:
    scp = policy("Root", ALLOW, kind=PolicyKind.SCP)
    decision = ask(
        CallerPolicies([policy("Own", NOTHING, {"Sid": "Stop", **ALLOW})], EVERYTHING, [EVERYTHING], [[scp]])
    )
    assert decision.allowed
    assert decision.reasons == (
        Reason(PolicyKind.SCP, "Root", 0),
        Reason(PolicyKind.IDENTITY, "Own", 1, "Stop"),
        Reason(PolicyKind.BOUNDARY, "Everything", 0),
        Reason(PolicyKind.SESSION, "Everything", 0),
    )
    assert (decision.lacking, decision.resource, decision.phrase) == (None, "", "")


def test_a_statement_that_allows_several_resources_is_named_once() -> None:
    decision = ask(CallerPolicies([EVERYTHING]), INSTANCE, VOLUME)
    assert len(decision.made) == 2
    assert decision.reasons == (Reason(PolicyKind.IDENTITY, "Everything", 0),)


def test_every_deny_is_named_in_the_order_of_aws() -> None:
    denies = policy("Deny", DENY)
    trust = ResourceContext("arn:aws:iam::1:role/r", policy=policy("Trust", DENY, kind=PolicyKind.TRUST))
    policies = CallerPolicies([denies], denies, [denies], [[policy("Scp", DENY, kind=PolicyKind.SCP)]])
    decision = ask(policies, trust)
    assert decision.effect is Effect.EXPLICIT_DENY
    assert [reason.kind for reason in decision.reasons] == [
        PolicyKind.SCP,
        PolicyKind.TRUST,
        PolicyKind.IDENTITY,
        PolicyKind.BOUNDARY,
        PolicyKind.SESSION,
    ]
    assert decision.resource == trust.arn
    assert decision.lacking is None


def test_made_holds_the_very_statements() -> None:
    own = policy("Own", ALLOW, DENY)
    ((kind, found, statement),) = ask(CallerPolicies([own])).made
    assert kind is PolicyKind.IDENTITY
    assert found is own
    assert statement is own.statements[1]


def test_an_allow_of_the_resource_itself_is_the_whole_reason() -> None:
    bucket = ResourceContext("arn:aws:s3:::b/k", policy=policy("Bucket", ALLOW, kind=PolicyKind.RESOURCE))
    decision = ask(CallerPolicies([EVERYTHING], boundary=policy("None", NOTHING)), bucket, action="s3:GetObject")
    assert decision.reasons == (Reason(PolicyKind.RESOURCE, "Bucket", 0),)


NONE = policy("None", NOTHING)
LACKING = {
    "service control policy": CallerPolicies([], NONE, [], [[policy("Scp", NOTHING, kind=PolicyKind.SCP)]]),
    "identity-based policy": CallerPolicies([], NONE, []),
    "permissions boundary": CallerPolicies([EVERYTHING], NONE, []),
    "session policy": CallerPolicies([EVERYTHING], EVERYTHING, []),
}


@pytest.mark.parametrize("kind", LACKING)
def test_the_first_gate_in_the_order_of_aws_that_does_not_allow_is_what_is_lacking(kind: str) -> None:
    decision = ask(LACKING[kind])
    assert decision.effect is Effect.IMPLICIT_DENY
    assert str(decision.lacking) == kind
    assert decision.phrase == f"because no {kind} allows the ec2:StopInstances action"
    assert decision.made == ()
    assert decision.resource == INSTANCE.arn


@pytest.mark.parametrize(
    ("kind", "phrase"),
    [
        (PolicyKind.SCP, "with an explicit deny in a service control policy"),
        (PolicyKind.RESOURCE, "with an explicit deny in a resource-based policy"),
        (PolicyKind.TRUST, "with an explicit deny in the role trust policy"),
        (PolicyKind.IDENTITY, "with an explicit deny in an identity-based policy"),
        (PolicyKind.BOUNDARY, "with an explicit deny in a permissions boundary"),
        (PolicyKind.SESSION, "with an explicit deny in a session policy"),
    ],
)
def test_the_phrase_of_an_explicit_deny_is_that_of_its_kind(kind: PolicyKind, phrase: str) -> None:
    denies = policy("Deny", ALLOW, DENY, kind=kind)
    attached = denies if kind in (PolicyKind.RESOURCE, PolicyKind.TRUST) else None
    policies = CallerPolicies(
        [denies if kind is PolicyKind.IDENTITY else EVERYTHING],
        denies if kind is PolicyKind.BOUNDARY else None,
        [denies] if kind is PolicyKind.SESSION else None,
        [[denies]] if kind is PolicyKind.SCP else None,
    )
    assert ask(policies, ResourceContext(INSTANCE.arn, policy=attached)).phrase == phrase


def test_of_several_refused_resources_the_first_is_named_but_a_deny_comes_first() -> None:
    only_images = policy("Images", {"Effect": "Allow", "Resource": "arn:aws:ec2:*::image/*"})
    assert ask(CallerPolicies([only_images]), INSTANCE, VOLUME).resource == INSTANCE.arn
    no_volumes = policy("NoVolumes", {"Effect": "Deny", "Resource": "arn:aws:ec2:*:*:volume/*"})
    decision = ask(CallerPolicies([only_images, no_volumes]), INSTANCE, VOLUME)
    assert (decision.effect, decision.resource) == (Effect.EXPLICIT_DENY, VOLUME.arn)


def test_a_key_of_a_resource_wins_over_the_request_and_stays_with_its_resource() -> None:
    condition = {"StringEquals": {"ec2:MetadataHttpTokens": "required"}}
    required = policy("Required", {"Effect": "Allow", "Condition": condition})
    keys = context_keys({"ec2:MetadataHttpTokens": "required"})
    asked = RequestContext("ec2:StopInstances", ALICE, keys, (INSTANCE,))
    assert decide(asked, CallerPolicies([required])).allowed
    optional = ResourceContext(VOLUME.arn, context_keys({"EC2:metadataHttpTokens": "optional"}))
    asked = RequestContext("ec2:StopInstances", ALICE, keys, (optional, INSTANCE))
    assert decide(asked, CallerPolicies([required])).resource == VOLUME.arn
