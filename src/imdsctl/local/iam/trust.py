"""Whether a role's trust policy lets a principal assume it.

Only principals, actions and effects are looked at. A statement with conditions counts against the caller: an Allow does
not allow, a Deny denies.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from imdsctl.local.iam.documents import TRUST, MalformedDocument, parse_document, statements, texts


@dataclass(frozen=True, slots=True)
class Principal:
    """Who asks: the account, and every ARN that names it (a role's session has its role's, too)."""

    account_id: str
    arns: frozenset[str]


def trusts(document: str, principal: Principal, action: str) -> bool:
    """Whether a trust policy allows an action (`sts:AssumeRole`, `sts:TagSession`, ...) to a principal."""
    try:
        found = statements(parse_document(document, TRUST))
    except MalformedDocument:
        return False
    allowed = False
    for statement in found:
        if not _names(statement["Principal"], principal) or not _covers(statement, action):
            continue
        if statement["Effect"] == "Deny":
            return False
        allowed = allowed or not statement.get("Condition")
    return allowed


def _names(element: Any, principal: Principal) -> bool:
    if element == "*":
        return True
    named = texts(element.get("AWS")) if isinstance(element, Mapping) else []
    whole = {"*", principal.account_id, f"arn:aws:iam::{principal.account_id}:root"}
    return any(each in whole or each in principal.arns for each in named)


def _covers(statement: Mapping[str, Any], action: str) -> bool:
    if "Action" in statement:
        return any(fnmatchcase(action.lower(), each.lower()) for each in texts(statement["Action"]))
    return not any(fnmatchcase(action.lower(), each.lower()) for each in texts(statement["NotAction"]))
