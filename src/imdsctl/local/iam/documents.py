"""Whether a policy document is one, with the sentence IAM refuses it with.

The grammar itself is the policy language's (policy/document.py), so that nothing is accepted here which would mean
nothing there. What is added is what IAM alone asks: of trust policies, and how long a document may be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from imdsctl.policy.document import PolicyKind, parse_policy
from imdsctl.policy.json_text import read_document
from imdsctl.policy.problems import MalformedPolicy, Problem

IDENTITY = PolicyKind.IDENTITY
"""A policy attached to a user or role, a boundary, a session policy or an SCP: it names resources, no principal."""
TRUST = PolicyKind.TRUST
"""A role's trust policy: it names principals, and the role is the resource."""

SYNTAX = "Syntax errors in policy."
_SENTENCES = {
    "not-json": "This policy contains invalid Json",
    "invalid-version": "The policy must contain a valid version string",
}
_OWN_WORDS = frozenset(
    {
        *("missing-element", "invalid-effect", "invalid-action", "invalid-resource", "invalid-principal"),
        *("prohibited-element", "invalid-key", "unknown-operator", "duplicate-sid", "invalid-sid"),
    }
)
"""Problems whose message is IAM's own sentence; every other one is a syntax error to IAM."""


class MalformedDocument(ValueError):
    """A document that AWS would refuse; the message is AWS's."""


def parse_document(text: str, kind: PolicyKind = IDENTITY) -> Mapping[str, Any]:
    """The JSON of a well-formed policy document of a kind (`IDENTITY`, `TRUST`).

    Raises MalformedDocument with AWS's sentence for the first thing that is wrong.
    """
    try:
        document = read_document(text)
        parse_policy(document, name="", kind=kind)
    except MalformedPolicy as error:
        raise MalformedDocument(_sentence(error.problems[0], kind)) from None
    for statement in statements(document):
        if kind is TRUST:
            _check_trust(statement)
        else:
            _check_resources(statement)
    return document


def statements(document: Mapping[str, Any]) -> list[Any]:
    """The statements of a document; one may stand without a list around it."""
    found = document.get("Statement")
    return found if isinstance(found, list) else [] if found is None else [found]


def texts(value: Any) -> list[str]:
    """The strings of an element that is a string or a list of them."""
    return [value] if isinstance(value, str) else list(value or ())


def policy_length(text: str) -> int:
    """A document's size as IAM counts it against its quotas: white space is free."""
    return sum(not character.isspace() for character in text)


def _sentence(problem: Problem, kind: PolicyKind) -> str:
    if problem.code == "prohibited-element" and kind is not TRUST:
        return "Policy document should not specify a principal."
    if problem.code == "missing-element" and problem.path == "Statement":
        return SYNTAX
    return _SENTENCES.get(problem.code) or (problem.message if problem.code in _OWN_WORDS else SYNTAX)


def _check_trust(statement: Mapping[str, Any]) -> None:
    if "NotPrincipal" in statement:
        raise MalformedDocument("Has prohibited field NotPrincipal")
    for action in texts(statement.get("Action") or statement.get("NotAction")):
        if action != "*" and not action.lower().startswith("sts:"):
            raise MalformedDocument("AssumeRole policy may only specify STS AssumeRole actions.")


def _check_resources(statement: Mapping[str, Any]) -> None:
    """IAM wants all parts of an ARN, which the policy language as such does not."""
    for resource in texts(statement.get("Resource") or statement.get("NotResource")):
        if resource != "*" and resource.count(":") < 5:
            raise MalformedDocument(f'Resource {resource} must be in ARN format or "*".')
