"""Who a statement names that nobody is: conditions on aws:PrincipalArn and aws:userid that no principal can meet.

Source: IAM User Guide, "AWS global condition context keys" (aws:PrincipalArn is the ARN of the user or role, not of the
session; aws:userid of a role is its unique id and the session's name), "IAM identifiers" (unique ids).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import product
from typing import Any

from imdsctl.codify import statements
from imdsctl.codify.statements import Test, strings
from imdsctl.codify.vocabulary import Flaw
from imdsctl.policy.operators import OPERATORS, InvalidValue
from imdsctl.policy.variables import literal

_SESSION = re.compile(r"arn:(?P<partition>[^:]*):sts::(?P<account>[^:]*):assumed-role/(?P<role>[^/]+)(?:/.*)?")
_PRINCIPAL = re.compile(
    r"arn:[a-z-]+:(iam::\d{12}:(root|(role|user)/[\w+=,.@/-]+)|sts::\d{12}:federated-user/[\w+=,.@-]+)"
)
_ACCOUNTS = "arn:aws:iam::111122223333"
_FILLS = ("", "x", "aws", "111122223333", "iam::111122223333:role/x", "role/x", _ACCOUNTS, f"{_ACCOUNTS}:role/x")
_WILDCARDS_MAX = 4
_ACCOUNT = re.compile(r"\d{12}")
_NO_UNIQUE_ID = re.compile(r"[^*?:$]*[^A-Z0-9*?:$]")
"""Unique ids (AROA..., AIDA..., an account's number) have capital letters and digits only."""


def nobody(statement: dict[str, Any]) -> Iterator[Flaw]:
    """What names nobody; `statement` is put right in place as far as it is plain who was meant."""
    for test in list(statements.tests(statement)):
        if test.key.lower() == "aws:principalarn" and test.base in OPERATORS:
            yield from _arns(statement, test)
        elif test.key.lower() == "aws:userid" and test.base in OPERATORS:
            yield from _ids(statement, test)


def _arns(statement: dict[str, Any], test: Test) -> Iterator[Flaw]:
    written = statement["Condition"][test.operator][test.key]
    values = strings(written)
    right = []
    for index, value in enumerate(values):
        wrong = not _somebody(value)
        meant = _meant(value) if wrong else None
        right.append(meant or value)
        # One of several that names nobody takes nothing away from the others, where it is asked for.
        if wrong and (test.negated or len(values) == 1):
            path = f"{test.path}[{index}]" if isinstance(written, list) else test.path
            if _SESSION.fullmatch(value):
                what = f"`{value}` is a session; its aws:PrincipalArn is its role's IAM ARN"
            else:
                what = f"no aws:PrincipalArn is like `{value}`: it is the ARN of a role, a user or an account's root"
            yield _nobody(test, path, what, meant, "write the ARN of the role or user")
    if right:
        statement["Condition"][test.operator][test.key] = statements.same_shape(written, right)
    if test.base in ("StringNotEquals", "StringNotEqualsIgnoreCase") and any("*" in each for each in right):
        meant = test.operator.replace(test.base, "ArnNotLike")
        statements.renamed(statement, test, operator=meant)
        if any("*" in each for each in values):
            what = f"`{test.base}` takes `*` for a plain character: no role has such an ARN"
            yield _nobody(test, test.path, what, meant)


def _ids(statement: dict[str, Any], test: Test) -> Iterator[Flaw]:
    for value in strings(statement["Condition"][test.operator][test.key]):
        if _NO_UNIQUE_ID.match(value):
            what = f"`{value}` is no aws:userid: that of a role is its unique id (AROA...), a colon and the session"
            yield _nobody(test, test.path, what, None, "write `aws:PrincipalArn` and the role's ARN")


def _nobody(test: Test, path: str, what: str, meant: str | None, hint: str = "") -> Flaw:
    rule, follows = ("exempts-nobody", "nobody is exempt") if test.negated else ("no-effect", "it applies to nobody")
    return Flaw(rule, path, f"{what}: {follows}", f"write `{meant}`" if meant else hint, mended=meant is not None)


def _somebody(pattern: str) -> bool:
    """Can there be a principal with an ARN like this? The operator is judged by itself: `*` stands for any text."""
    wildcards = sum(pattern.count(each) for each in "*?")
    if "${" in pattern or wildcards > _WILDCARDS_MAX:
        return True
    try:
        matches = OPERATORS["ArnLike" if pattern.startswith("arn:") else "StringLike"].test(literal(pattern))
    except InvalidValue:
        return False
    pieces = re.split(r"[*?]", pattern)
    for fills in product(_FILLS, repeat=wildcards):
        made = "".join(each for pair in zip(pieces, (*fills, ""), strict=True) for each in pair)
        if _PRINCIPAL.fullmatch(made) and matches(made, {}):
            return True
    return False


def _meant(value: str) -> str | None:
    """The ARN of the role that was meant, where its name is plain."""
    session = _SESSION.fullmatch(value)
    if session is not None:
        return f"arn:{session['partition']}:iam::{session['account']}:role/{session['role']}"
    kind, _, name = value.rpartition(":")[2].rpartition("/")
    if not re.fullmatch(r"[\w+=,.@*?-]+", name) or kind.rpartition("/")[2] not in ("", "role", "roles"):
        return None
    if ":" in value and not kind and not re.search(r":roles?:[^:]*$", value):
        return None
    account = _ACCOUNT.search(value)
    return f"arn:aws:iam::{account[0] if account else '*'}:role/{name}"
