"""Two evaluators that share no line must agree: imdsctl.policy and naive.py, on 100,000 random requests.

Each block of them also has to be worth something: every outcome occurs, and every operator decides some of them, which
is seen by letting the naive evaluator answer the opposite for it.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest
from tests.unit.policy.naive import ALLOWED, EXPLICIT, IMPLICIT, Verdict, evaluate
from tests.unit.policy.random_scenarios import BASES, scenarios

from imdsctl.policy.decision import CallerPolicies, Decision, decide
from imdsctl.policy.document import Policy, PolicyKind, parse_policy
from imdsctl.policy.operators import OPERATORS
from imdsctl.policy.request import Principal, PrincipalKind, RequestContext, ResourceContext, context_keys

BLOCKS = 10
POLICIES = 1_000
REQUESTS = 10
OPERATORS_TURNED = 3  # of every REQUESTS
SHARE_MIN = 0.05


class Compiled:
    """A set of policies as imdsctl reads it, for any number of requests."""

    def __init__(self, documents: dict[str, Any]) -> None:
        self._attached = {
            document["Id"]: _parse(document, PolicyKind.TRUST if trust else PolicyKind.RESOURCE)
            for document, trust in documents["attached"]
        }
        boundary, session, scps = (documents[name] for name in ("boundary", "session", "scps"))
        self._policies = CallerPolicies(
            [_parse(each) for each in documents["identity"]],
            None if boundary is None else _parse(boundary),
            None if session is None else [_parse(each) for each in session],
            None if scps is None else [[_parse(each, PolicyKind.SCP) for each in level] for level in scps],
            documents["management account"],
        )

    def decide(self, request: dict[str, Any]) -> Decision:
        caller = request["caller"]
        principal = Principal(
            PrincipalKind(caller["kind"]),
            caller["arn"],
            caller["account"],
            caller["issuer"],
            caller["name"],
            caller["service linked"],
        )
        resources = [
            ResourceContext(
                each["arn"],
                context_keys(each["keys"]),
                each["account"],
                None if each["policy"] is None else self._attached[each["policy"]["Id"]],
            )
            for each in request["resources"]
        ]
        context = RequestContext(request["action"], principal, context_keys(request["keys"]), tuple(resources))
        return decide(context, self._policies)


def _parse(document: dict[str, Any], kind: PolicyKind = PolicyKind.IDENTITY) -> Policy:
    return parse_policy(document, name=document["Id"], kind=kind)


def _said(decision: Decision) -> Verdict:
    made = [(str(kind), policy.name, statement.index) for kind, policy, statement in decision.made]
    lacking = None if decision.lacking is None else str(decision.lacking)
    return Verdict(str(decision.effect), made, lacking, decision.resource)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(BLOCKS))
def test_both_evaluators_agree_on_random_requests(seed: int) -> None:
    effects: Counter[str] = Counter()
    lacking: Counter[str] = Counter()
    decided: Counter[str] = Counter()
    for documents, requests in scenarios(seed, POLICIES, REQUESTS):
        compiled = Compiled(documents)
        for number, request in enumerate(requests):
            scenario = {**documents, **request}
            expected = evaluate(scenario)
            said = _said(compiled.decide(request))
            assert said == expected, f"{said} is not {expected}\n{json.dumps(scenario)}"
            effects[expected.effect] += 1
            lacking[expected.lacking or "nothing"] += 1
            if number < OPERATORS_TURNED:
                decided.update(_deciding(scenario, expected.effect))

    total = POLICIES * REQUESTS
    assert sum(effects.values()) == total
    for effect in (ALLOWED, IMPLICIT, EXPLICIT):
        assert effects[effect] >= SHARE_MIN * total, effects
    assert set(lacking) == {"nothing", *map(str, PolicyKind)}, "every kind of policy was the one that lacked"
    bases = {operator.rpartition(":")[2].removesuffix("IfExists") for operator in decided}
    assert bases == {*OPERATORS, "Null"}, "every operator decided a request"
    forms = {(operator.rpartition(":")[0], operator.endswith("IfExists")) for operator in decided}
    assert len(forms) == 6, forms


def test_the_scenarios_know_every_operator() -> None:
    assert set(BASES) == set(OPERATORS)
    assert BLOCKS * POLICIES * REQUESTS >= 100_000, "docs/architecture.md says so"


def _deciding(scenario: dict[str, Any], effect: str) -> set[str]:
    """The operators without whose true answer the outcome would be another."""
    operators: set[str] = set()
    documents = [*scenario["identity"], *(scenario["session"] or [])]
    documents += [each for level in scenario["scps"] or [] for each in level]
    documents += [each["policy"] for each in scenario["resources"] if each["policy"] is not None]
    documents += [scenario["boundary"]] if scenario["boundary"] is not None else []
    for document in documents:
        statements = document["Statement"]
        for statement in statements if isinstance(statements, list) else [statements]:
            operators.update(statement.get("Condition", ()))
    return {operator for operator in operators if evaluate(scenario, turned=operator).effect != effect}
