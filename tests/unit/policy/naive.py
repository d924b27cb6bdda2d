"""The IAM policy language a second time, as plainly as the User Guide says it. Nothing of imdsctl is imported here.

It reads raw JSON documents and a request as plain dictionaries, remembers nothing and is in no hurry. A scenario:

    {"action": "ec2:StopInstances",
     "caller": {"kind": "User", "arn": ..., "account": ..., "issuer": "", "name": "", "service linked": false},
     "keys": {"aws:Key": "value" or ["several", ...]},
     "resources": [{"arn": ..., "keys": {...}, "account": "", "policy": None or document, "trust": false}],
     "identity": [document], "boundary": document or None, "session": [document] or None,
     "scps": [[document], ...] or None, "management account": false}

A document has its name under `Id`. Sources are named at each rule; all are pages of the IAM User Guide.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cache, lru_cache
from ipaddress import ip_address, ip_network
from typing import Any

ALLOWED, IMPLICIT, EXPLICIT = "allowed", "implicit deny", "explicit deny"
Found = tuple[str, str, int]  # kind of policy, its name, the place of the statement


@dataclass
class Verdict:
    """The outcome, whether statements made it, what had to allow and did not, and the resource that was refused."""

    effect: str
    made: list[Found] = field(default_factory=list)
    lacking: str | None = None
    resource: str = ""


def evaluate(scenario: dict[str, Any], turned: str = "") -> Verdict:
    """Decide. With `turned`, every condition with this operator answers the opposite of what it should.

    "Policy evaluation logic": a request that needs several permissions needs all of them; an explicit deny overrides.
    """
    verdicts = [_one(scenario, resource, turned) for resource in scenario["resources"]]
    for wanted in (EXPLICIT, IMPLICIT):
        for verdict in verdicts:
            if verdict.effect == wanted:
                return verdict
    return Verdict(ALLOWED, [found for verdict in verdicts for found in verdict.made])


def _one(scenario: dict[str, Any], resource: dict[str, Any], turned: str) -> Verdict:
    caller = scenario["caller"]
    # A resource's key wins over the request's; a list without values is an absent key. Names are case-insensitive.
    keys = {name.lower(): value for each in (scenario, resource) for name, value in each["keys"].items() if value != []}

    def applying(kind: str, documents: Iterable[Any], effect: str) -> list[tuple[Found, str]]:
        """The statements of this effect that apply, each with how it names the caller."""
        found = []
        for document in documents:
            statements = document["Statement"]
            for index, statement in enumerate(statements if isinstance(statements, list) else [statements]):
                if statement["Effect"] == effect:
                    how = _applies(document, statement, scenario["action"], caller, resource["arn"], keys, turned)
                    if how:
                        found.append(((kind, document["Id"], index), how))
        return found

    # Which policies there are, in the order of AWS's flow chart.
    attached_kind = "role trust policy" if resource["trust"] else "resource-based policy"
    attached = [resource["policy"]] if resource["policy"] is not None else []
    bound_by_scps = caller["kind"] in ("Account", "User", "AssumedRole", "FederatedUser")
    bound_by_scps = bound_by_scps and not scenario["management account"] and not caller["service linked"]
    levels = scenario["scps"] if scenario["scps"] is not None and bound_by_scps else []
    boundary = [scenario["boundary"]] if scenario["boundary"] is not None else []
    session = scenario["session"] or []

    # "An explicit deny in any of these policies overrides the allow."
    denies = [
        found
        for kind, documents in [
            *[("service control policy", level) for level in levels],
            (attached_kind, attached),
            ("identity-based policy", scenario["identity"]),
            ("permissions boundary", boundary),
            ("session policy", session),
        ]
        for found, _ in applying(kind, documents, "Deny")
    ]
    if denies:
        return Verdict(EXPLICIT, denies, None, resource["arn"])

    # "SCP evaluation": an allow is needed at every level from the root to the account.
    made: list[Found] = []
    for level in levels:
        allows = applying("service control policy", level, "Allow")
        if not allows:
            return Verdict(IMPLICIT, [], "service control policy", resource["arn"])
        made += [found for found, _ in allows]

    granted = applying(attached_kind, attached, "Allow")
    made += [found for found, _ in granted]
    named = {how for _, how in granted}
    same_account = resource["account"] in ("", caller["account"])
    no_policies_of_its_own = caller["kind"] in ("Service", "WebIdentity", "Anonymous")

    # A role's trust policy is always needed, and "cross-account policy evaluation logic": both sides have to allow.
    # Who has no identity-based policies has nothing but what a resource-based policy gives.
    if not granted and (resource["trust"] or not same_account or no_policies_of_its_own):
        return Verdict(IMPLICIT, [], attached_kind, resource["arn"])
    if no_policies_of_its_own:
        return Verdict(ALLOWED, made)

    # "Evaluating identity-based policies with resource-based policies": within one account, what is granted to the ARN
    # of a user or a session is not limited by an implicit deny of its other policies.
    if same_account and "directly" in named:
        return Verdict(ALLOWED, made)

    # What is granted to the ARN of a role is limited by implicit denies of boundary and session policy. Root has no
    # identity-based policies and needs none.
    identity = applying("identity-based policy", scenario["identity"], "Allow")
    if not identity and caller["kind"] != "Account" and not (same_account and "issuer" in named):
        return Verdict(IMPLICIT, [], "identity-based policy", resource["arn"])
    made += [found for found, _ in identity]
    if scenario["boundary"] is not None:
        allows = applying("permissions boundary", boundary, "Allow")
        if not allows:
            return Verdict(IMPLICIT, [], "permissions boundary", resource["arn"])
        made += [found for found, _ in allows]
    # "GetFederationToken": without a session policy the resulting session has no permissions.
    if scenario["session"] is not None or caller["kind"] == "FederatedUser":
        allows = applying("session policy", session, "Allow")
        if not allows:
            return Verdict(IMPLICIT, [], "session policy", resource["arn"])
        made += [found for found, _ in allows]
    return Verdict(ALLOWED, made)


# -- one statement ---------------------------------------------------------------------------------------------------


def _applies(
    document: Any, statement: Any, action: str, caller: Any, arn: str, keys: dict[str, Any], turned: str
) -> str:
    """ "" when the statement does not apply, else how it names the caller: directly, issuer or account."""
    variables = document.get("Version") == "2012-10-17"

    # "Action": prefix and name are case-insensitive. "NotAction" matches everything except the list.
    inverted = "NotAction" in statement
    patterns = _list(statement["NotAction" if inverted else "Action"])
    if any(_glob(_wild(pattern.lower()), action.lower()) for pattern in patterns) == inverted:
        return ""

    if "Resource" in statement or "NotResource" in statement:
        inverted = "NotResource" in statement
        patterns = _list(statement["NotResource" if inverted else "Resource"])
        if any(_resource_matches(pattern, arn, keys, variables) for pattern in patterns) == inverted:
            return ""

    how = _names(statement, caller)
    if not how:
        return ""

    # "Conditions with multiple context keys or values": operators and keys are joined by AND.
    for operator, block in statement.get("Condition", {}).items():
        for key, values in block.items():
            holds = _condition(operator, keys.get(key.lower()), _list(values), keys, variables)
            if holds == (operator == turned):
                return ""
    return how


def _resource_matches(pattern: str, arn: str, keys: dict[str, Any], variables: bool) -> bool:
    """ "Resource": a lone `*` is everything; "an incomplete ARN is completed with `*` for all missing fields"."""
    if pattern == "*":
        return True
    filled = _fill(pattern, keys, variables)
    if filled is None:
        return False
    colons = sum(character == ":" for character, _ in filled)
    completed = filled + ((":", False), ("*", True)) * (5 - colons)
    return any(_glob(_within_parts(each, crossing=True), arn) for each in (filled, completed))


def _names(statement: Any, caller: Any) -> str:
    """ "Principal" and "NotPrincipal"."""
    if "Principal" in statement:
        return _named_by(statement["Principal"], caller)
    if "NotPrincipal" not in statement:
        return "directly"
    element = statement["NotPrincipal"]
    if statement["Effect"] == "Allow":
        return "" if _named_by(element, caller) else "directly"
    # "When you use NotPrincipal with Deny you must also specify the account ARN of the not-denied principal" and, for a
    # session, its role: every identity of the caller has to be in the list.
    if element == "*" or "*" in _list(element.get("AWS", [])):
        return ""
    if caller["kind"] in ("Service", "WebIdentity"):
        return "" if _named_by(element, caller) else "directly"
    listed = {_account_or_name(name) for name in _list(element.get("AWS", []))}
    identities = {caller["account"]}
    if caller["kind"] != "Account":
        identities.add(caller["arn"])
    if caller["issuer"]:
        identities.add(caller["issuer"])
    return "" if identities <= listed else "directly"


def _named_by(element: Any, caller: Any) -> str:
    if element == "*" or "*" in _list(element.get("AWS", [])):
        return "directly"
    if caller["kind"] == "Service":
        return "directly" if caller["name"] in _list(element.get("Service", [])) else ""
    if caller["kind"] == "WebIdentity":
        return "directly" if caller["name"] in _list(element.get("Federated", [])) else ""
    listed = {_account_or_name(name) for name in _list(element.get("AWS", []))}
    if caller["kind"] == "Account" and caller["account"] in listed:
        return "directly"
    for identity, how in ((caller["arn"], "directly"), (caller["issuer"], "issuer"), (caller["account"], "account")):
        if identity and identity in listed:
            return how
    return ""


def _account_or_name(name: str) -> str:
    """`arn:aws:iam::111122223333:root` is the account 111122223333."""
    return name.split(":")[4] if name.endswith(":root") else name


# -- conditions ------------------------------------------------------------------------------------------------------

# "Condition operators": the negated ones are true when none of the values matches, and when the key is absent.
NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
    "NotIpAddress": "IpAddress",
    "ArnNotEquals": "ArnEquals",
    "ArnNotLike": "ArnLike",
}


def _condition(operator: str, value: Any, wanted: list[Any], keys: dict[str, Any], variables: bool) -> bool:
    texts = [str(each).lower() if isinstance(each, bool) else str(each) for each in wanted]
    if operator == "Null":
        absent = value is None or value == ""
        return any((text.lower() == "true") == absent for text in texts)
    quantifier, _, rest = operator.rpartition(":")
    base = rest.removesuffix("IfExists")
    if value is None:
        if rest != base or quantifier == "ForAllValues":
            return True
        return quantifier != "ForAnyValue" and base in NEGATED
    if quantifier == "ForAllValues" and value == "":
        return True  # "or if the context key value resolves to a null dataset, such as an empty string"

    def matches(one: str) -> bool:
        return any(_matches(NEGATED.get(base, base), one, text, keys, variables) for text in texts)

    of_request = _list(value)
    if quantifier == "ForAllValues":
        return all(matches(one) != (base in NEGATED) for one in of_request)
    if quantifier == "ForAnyValue":
        return any(matches(one) != (base in NEGATED) for one in of_request)
    return any(matches(one) for one in of_request) != (base in NEGATED)


def _matches(operator: str, value: str, wanted: str, keys: dict[str, Any], variables: bool) -> bool:
    """Does one value of the request match one of the policy?"""
    if operator.startswith(("String", "Arn", "Bool")):
        filled = _fill(wanted, keys, variables)
        if filled is None:
            return False  # "the value is effectively null. There is no equal or like value."
        text = "".join(character for character, _ in filled)
        if operator == "StringEquals":
            return value == text
        if operator in ("StringEqualsIgnoreCase", "Bool"):
            return value.lower() == text.lower()
        if operator == "StringLike":
            return _glob(tuple((c, _ANY if wild else "") for c, wild in filled), value)
        if text == "*" and filled[0][1]:
            return True
        completed = filled + ((":", False), ("*", True)) * (5 - text.count(":"))
        return _glob(_within_parts(completed, crossing=False), value)
    if operator == "IpAddress":
        try:
            address = ip_address(value)
        except ValueError:
            return False
        return address in ip_network(wanted, strict=False)
    if operator == "BinaryEquals":
        try:
            return base64.b64decode(value, validate=True) == base64.b64decode(wanted)
        except ValueError:
            return False
    read = _number if operator.startswith("Numeric") else _moment
    one, two = read(value), read(wanted)
    if one is None or two is None:
        return False
    comparison = operator.removeprefix("Numeric").removeprefix("Date")
    return {
        "Equals": one == two,
        "LessThan": one < two,
        "LessThanEquals": one <= two,
        "GreaterThan": one > two,
        "GreaterThanEquals": one >= two,
    }[comparison]


def _number(text: str) -> Decimal | None:
    try:
        return Decimal(text) if text and set(text) <= set("0123456789+-.") else None
    except ArithmeticError:
        return None


@cache
def _moment(text: str) -> float | None:
    """A W3C date, down to the day without a zone, or seconds since 1970 (more digits than a year has)."""
    if text.isdigit() and len(text) > 4:
        return float(text)
    if len(text) == 4:
        text += "-01"
    if len(text) == 7:
        text += "-01"
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


# -- variables and wildcards -----------------------------------------------------------------------------------------

_ANY, _WITHIN = "any character", "any character but a colon"


def _fill(text: str, keys: dict[str, Any], variables: bool) -> tuple[tuple[str, bool], ...] | None:
    """ "Variables and tags": the characters of the text, each with whether it is a wildcard; None: no value."""
    characters: list[tuple[str, bool]] = []
    while text:
        if variables and text.startswith("${"):
            name, _, text = text[2:].partition("}")
            if name in ("*", "?", "$"):
                characters.append((name, False))
                continue
            name, comma, default = name.partition(",")
            value = keys.get(name.strip().lower())
            if not value and comma:
                value = default.strip()[1:-1]
            elif not value or not isinstance(value, str):
                return None  # absent, empty or multivalued
            if not isinstance(value, str):
                return None
            characters += [(character, False) for character in value]
        else:
            characters.append((text[0], text[0] in "*?"))
            text = text[1:]
    return tuple(characters)


def _wild(text: str) -> tuple[tuple[str, str], ...]:
    return tuple((character, _ANY if character in "*?" else "") for character in text)


def _within_parts(characters: tuple[tuple[str, bool], ...], *, crossing: bool) -> tuple[tuple[str, str], ...]:
    """An ARN has six parts; wildcards stay within the first five, except (`crossing`) a star at a part's end."""
    pattern = []
    part = 1
    for position, (character, wild) in enumerate(characters):
        following = characters[position + 1][0] if position + 1 < len(characters) else ":"
        part += character == ":" and not wild
        crosses = part == 6 or (crossing and character == "*" and following == ":")
        pattern.append((character, "" if not wild else _ANY if crosses else _WITHIN))
        part = min(part, 6)
    return tuple(pattern)


@lru_cache(maxsize=100_000)
def _glob(pattern: tuple[tuple[str, str], ...], text: str) -> bool:
    """At which places of the text can we be after each character of the pattern?"""
    places = {0}
    for character, wild in pattern:
        after = set()
        for place in places:
            if wild and character == "*":
                after.add(place)
                while place < len(text) and (wild == _ANY or text[place] != ":"):
                    place += 1
                    after.add(place)
            elif place < len(text) and (text[place] == character if not wild else wild == _ANY or text[place] != ":"):
                after.add(place + 1)
        places = after
    return len(text) in places


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
