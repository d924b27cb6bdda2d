"""Whether a policy document is one: the grammar of IAM's JSON policies, with the sentence AWS refuses it with.

Source: IAM User Guide, "Grammar of the IAM JSON policy language" and the reference of its elements. What a well-formed
document means is not decided here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

IDENTITY = "identity"
"""A policy attached to a user or role, a boundary, a session policy or an SCP: it names resources, no principal."""
TRUST = "trust"
"""A role's trust policy: it names principals, and the role is the resource."""

VERSIONS = ("2012-10-17", "2008-10-17")
SYNTAX = "Syntax errors in policy."

_TOP = frozenset({"Version", "Id", "Statement"})
_MEMBERS = frozenset(
    {
        *("Sid", "Effect", "Principal", "NotPrincipal", "Action", "NotAction", "Resource", "NotResource"),
        "Condition",
    }
)
_ACTION = re.compile(r"\*|[A-Za-z0-9*?-]+:[A-Za-z0-9*?]+")
_SID = re.compile(r"[0-9A-Za-z]*")
_CONDITION_KEY = re.compile(r"[A-Za-z0-9-]+:\S.*", re.DOTALL)
_BASE_OPERATORS = frozenset(
    {
        *("StringEquals", "StringNotEquals", "StringEqualsIgnoreCase", "StringNotEqualsIgnoreCase"),
        *("StringLike", "StringNotLike", "Bool", "BinaryEquals", "IpAddress", "NotIpAddress", "Null"),
        *("NumericEquals", "NumericNotEquals", "NumericLessThan", "NumericLessThanEquals"),
        *("NumericGreaterThan", "NumericGreaterThanEquals"),
        *("DateEquals", "DateNotEquals", "DateLessThan", "DateLessThanEquals"),
        *("DateGreaterThan", "DateGreaterThanEquals"),
        *("ArnEquals", "ArnLike", "ArnNotEquals", "ArnNotLike"),
    }
)
_OPERATORS = {each.lower() for each in _BASE_OPERATORS}
_PRINCIPALS = frozenset({"AWS", "Service", "Federated", "CanonicalUser"})


class MalformedDocument(ValueError):
    """A document that AWS would refuse; the message is AWS's."""


def parse_document(text: str, kind: str = IDENTITY) -> dict[str, Any]:
    """The JSON of a well-formed policy document of a kind (`IDENTITY`, `TRUST`).

    Raises MalformedDocument with AWS's sentence for the first thing that is wrong.
    """
    try:
        document = orjson.loads(text)
    except ValueError:
        raise MalformedDocument("This policy contains invalid Json") from None
    if not isinstance(document, dict) or not document.keys() <= _TOP:
        raise MalformedDocument(SYNTAX)
    if document.get("Version", VERSIONS[0]) not in VERSIONS:
        raise MalformedDocument("The policy must contain a valid version string")
    if not isinstance(document.get("Id", ""), str):
        raise MalformedDocument(SYNTAX)
    found = statements(document)
    if not found:
        raise MalformedDocument(SYNTAX)
    sids: set[str] = set()
    for statement in found:
        _check_statement(statement, kind)
        sid = statement.get("Sid")
        if sid:
            if sid in sids:
                raise MalformedDocument("Statement IDs (SID) in a single policy must be unique.")
            sids.add(sid)
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


def _check_statement(statement: Any, kind: str) -> None:
    if not isinstance(statement, dict) or not statement.keys() <= _MEMBERS:
        raise MalformedDocument(SYNTAX)
    sid = statement.get("Sid", "")
    if not isinstance(sid, str):
        raise MalformedDocument(SYNTAX)
    if not _SID.fullmatch(sid):
        raise MalformedDocument(
            "Statement IDs (SID) must be alpha-numeric. Check that your input satisfies the regular expression "
            "[0-9A-Za-z]*"
        )
    if "Effect" not in statement:
        raise MalformedDocument("Missing required field Effect")
    if statement["Effect"] not in ("Allow", "Deny"):
        raise MalformedDocument(f"Invalid effect: {statement['Effect']}")
    if kind == TRUST:
        _check_principal(statement)
    _check_actions(statement, kind)
    if kind == TRUST:
        for member in ("Resource", "NotResource"):
            if member in statement:
                raise MalformedDocument(f"Has prohibited field {member}")
    else:
        for member in ("Principal", "NotPrincipal"):
            if member in statement:
                raise MalformedDocument("Policy document should not specify a principal.")
        _check_resources(statement)
    if "Condition" in statement:
        _check_condition(statement["Condition"])


def _one_of(statement: Mapping[str, Any], member: str, missing: str) -> list[str]:
    """The strings of an element or of its `Not` form; exactly one of the two must be there."""
    given = [name for name in (member, f"Not{member}") if name in statement]
    if not given:
        raise MalformedDocument(missing)
    if len(given) > 1:
        raise MalformedDocument(SYNTAX)
    value = statement[given[0]]
    if not _is_texts(value):
        raise MalformedDocument(SYNTAX)
    if not value:
        raise MalformedDocument(missing)
    return texts(value)


def _check_actions(statement: Mapping[str, Any], kind: str) -> None:
    for action in _one_of(statement, "Action", "Policy statement must contain actions."):
        if ":" not in action and action != "*":
            raise MalformedDocument("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.")
        if not _ACTION.fullmatch(action):
            raise MalformedDocument(f"Action {action} is invalid.")
        if kind == TRUST and action != "*" and not action.lower().startswith("sts:"):
            raise MalformedDocument("AssumeRole policy may only specify STS AssumeRole actions.")


def _check_resources(statement: Mapping[str, Any]) -> None:
    for resource in _one_of(statement, "Resource", "Policy statement must contain resources."):
        if resource != "*" and not (resource.startswith("arn:") and resource.count(":") >= 5):
            raise MalformedDocument(f'Resource {resource} must be in ARN format or "*".')


def _check_principal(statement: Mapping[str, Any]) -> None:
    if "Principal" not in statement:
        if "NotPrincipal" in statement:
            raise MalformedDocument("Has prohibited field NotPrincipal")
        raise MalformedDocument("Missing required field Principal")
    if "NotPrincipal" in statement:
        raise MalformedDocument(SYNTAX)
    principal = statement["Principal"]
    if principal == "*":
        return
    if not isinstance(principal, dict) or not principal or not principal.keys() <= _PRINCIPALS:
        raise MalformedDocument("Invalid principal in policy")
    for kind, value in principal.items():
        if not value or not _is_texts(value):
            raise MalformedDocument(f'Invalid principal in policy: "{kind}"')


def _check_condition(condition: Any) -> None:
    if not isinstance(condition, dict):
        raise MalformedDocument(SYNTAX)
    for operator, keys in condition.items():
        name = operator.lower()
        for quantifier in ("forallvalues:", "foranyvalue:"):
            name = name.removeprefix(quantifier)
        # Null has no IfExists form: it asks for existence itself.
        if name not in _OPERATORS and (name == "nullifexists" or name.removesuffix("ifexists") not in _OPERATORS):
            raise MalformedDocument(f"Invalid Condition type : {operator}.")
        if not isinstance(keys, dict) or not keys:
            raise MalformedDocument(SYNTAX)
        for key, values in keys.items():
            if not _CONDITION_KEY.fullmatch(key):
                raise MalformedDocument("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc.")
            listed: Sequence[Any] = values if isinstance(values, list) else [values]
            if not all(isinstance(each, str | bool | int | float) for each in listed):
                raise MalformedDocument(SYNTAX)


def _is_texts(value: Any) -> bool:
    return isinstance(value, str) or (isinstance(value, list) and all(isinstance(each, str) for each in value))
