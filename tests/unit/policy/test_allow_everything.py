"""Whether anything can be refused at all to a caller: the short way must never be wider than the long one."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from imdsctl.policy.decision import CallerPolicies, decide
from imdsctl.policy.document import Policy, PolicyKind, parse_policy
from imdsctl.policy.request import Principal, PrincipalKind, RequestContext, ResourceContext

STATEMENTS: tuple[dict[str, Any], ...] = (
    {"Effect": "Allow", "Action": "*", "Resource": "*"},
    {"Effect": "Allow", "Action": ["*"], "Resource": ["*"]},
    {"Effect": "Allow", "Action": "ec2:*", "Resource": "*"},
    {"Effect": "Allow", "Action": "*", "Resource": "arn:aws:ec2:*:*:*"},
    {"Effect": "Allow", "NotAction": "iam:*", "Resource": "*"},
    {"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"Bool": {"aws:SecureTransport": "true"}}},
    {"Effect": "Deny", "Action": "s3:*", "Resource": "*"},
)
REQUESTS = tuple(
    RequestContext(
        action,
        Principal(PrincipalKind.USER, "arn:aws:iam::111122223333:user/ann", "111122223333"),
        resources=(ResourceContext(resource),),
    )
    for action in ("ec2:RunInstances", "iam:CreateUser", "s3:GetObject")
    for resource in ("*", "arn:aws:ec2:us-east-1:111122223333:instance/*", "arn:aws:s3:::bucket/key")
)


def policy(kind: PolicyKind, *statements: dict[str, Any]) -> Policy:
    text = json.dumps({"Version": "2012-10-17", "Statement": list(statements)})
    return parse_policy(text, name="p", kind=kind)


@pytest.mark.parametrize("place", ["identity", "boundary", "session", "scps"])
@pytest.mark.parametrize("pair", list(itertools.combinations(range(len(STATEMENTS)), 2)), ids=str)
def test_who_is_allowed_everything_is_refused_nothing(place: str, pair: tuple[int, int]) -> None:
    whole = policy(PolicyKind.IDENTITY, STATEMENTS[0])
    chosen = policy(PolicyKind.IDENTITY, *(STATEMENTS[index] for index in pair))
    given: dict[str, Any] = {"identity": [whole]}
    given[place] = chosen if place == "boundary" else [[whole], [chosen]] if place == "scps" else [chosen]
    policies = CallerPolicies(**given)
    decisions = [decide(request, policies).allowed for request in REQUESTS]
    if policies.allow_everything:
        assert all(decisions)
    assert policies.allow_everything == (bool({0, 1} & set(pair)) and 6 not in pair)


def test_a_level_without_an_scp_allows_nothing() -> None:
    whole = policy(PolicyKind.IDENTITY, STATEMENTS[0])
    assert CallerPolicies(identity=[whole], scps=[[whole], [whole]]).allow_everything
    assert not CallerPolicies(identity=[whole], scps=[[whole], []]).allow_everything
    assert not CallerPolicies().allow_everything
