"""Decisions as data: tests/cases/policy. Add the case that bit you there.

A case names its policies; what it leaves out is the simple thing: user alice of account 111122223333, who may do
everything, no boundary, no session policy, no SCPs.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from imdsctl.policy.decision import CallerPolicies, decide
from imdsctl.policy.document import Policy, PolicyKind, parse_policy
from imdsctl.policy.request import Principal, PrincipalKind, RequestContext, ResourceContext, context_keys

CASES = Path(__file__).parents[2] / "cases" / "policy"
DECISIONS = ("guardrails.json", "evaluation.json", "variables.json")
ALICE = "arn:aws:iam::111122223333:user/alice"
EVERYTHING = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}


def rows() -> Iterator[Any]:
    for name in DECISIONS:
        document = json.loads((CASES / name).read_text())
        for case in document["cases"]:
            yield pytest.param(document["policies"], case, id=f"{name.removesuffix('.json')}: {case['name']}")


def caller(name: str) -> Principal:
    if name.startswith("web:"):
        return Principal(PrincipalKind.WEB_IDENTITY, name=name.removeprefix("web:"))
    if not name.startswith("arn:"):
        return Principal(PrincipalKind.SERVICE, name=name)
    account, resource = name.split(":", 5)[4:]
    kind, _, rest = resource.partition("/")
    if kind == "assumed-role":
        role = rest.partition("/")[0]
        linked = role.startswith("AWSServiceRoleFor")
        return Principal(
            PrincipalKind.ROLE_SESSION, name, account, f"arn:aws:iam::{account}:role/{role}", service_linked=linked
        )
    if kind == "federated-user":
        return Principal(PrincipalKind.FEDERATED_USER, name, account, f"arn:aws:iam::{account}:user/broker")
    return Principal(PrincipalKind.ROOT if kind == "root" else PrincipalKind.USER, name, account)


@pytest.mark.parametrize(("documents", "case"), list(rows()))
def test_the_decision_is_what_the_case_says(documents: dict[str, Any], case: dict[str, Any]) -> None:
    def policy(name: str, kind: PolicyKind) -> Policy:
        return parse_policy(json.dumps(documents[name]), name=name, kind=kind)

    attached = PolicyKind.TRUST if case["action"].startswith("sts:") else PolicyKind.RESOURCE
    principal = caller(case.get("caller", ALICE))
    request = RequestContext(
        case["action"],
        principal,
        context_keys({**principal.keys(), **case.get("keys", {})}),
        tuple(
            ResourceContext(
                each["arn"],
                context_keys(each.get("keys", {})),
                each.get("account", ""),
                policy(each["policy"], attached) if "policy" in each else None,
            )
            for each in case["resources"]
        ),
    )
    identity = [parse_policy(EVERYTHING, name="Administrator")]
    if "identity" in case:
        identity = [policy(name, PolicyKind.IDENTITY) for name in case["identity"]]
    session = None
    if "session" in case:
        session = [policy(name, PolicyKind.IDENTITY) for name in case["session"]]
    scps = None
    if "scps" in case:
        scps = [[policy(name, PolicyKind.SCP) for name in level] for level in case["scps"]]
    boundary = policy(case["boundary"], PolicyKind.IDENTITY) if "boundary" in case else None

    decision = decide(request, CallerPolicies(identity, boundary, session, scps, case.get("management account", False)))

    assert str(decision.effect) == case["decision"], decision
    assert decision.allowed is (case["decision"] == "allowed")
    if "because" in case:
        assert [f"{reason.policy}[{reason.index}]" for reason in decision.reasons] == case["because"]
    if "kind" in case:
        assert {str(reason.kind) for reason in decision.reasons} == {case["kind"]}
    if "lacking" in case:
        assert str(decision.lacking) == case["lacking"]
    if "resource" in case:
        assert decision.resource == case["resource"]
    if "phrase" in case:
        assert decision.phrase == case["phrase"]


def test_every_case_file_says_where_its_rows_come_from() -> None:
    for path in CASES.glob("*.json"):
        document = json.loads(path.read_text())
        assert document["topic"], path
        assert document["source"], path
