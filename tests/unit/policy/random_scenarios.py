"""Random policies and requests in which everything matters: few names, so that they meet; every operator, absent keys,
differences of case, wildcards and variables. The form is that of naive.py. The same seed gives the same scenarios.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

ACCOUNT, OTHER_ACCOUNT = "111122223333", "444455556666"

_ACTIONS = ["ec2:RunInstances", "ec2:StopInstances", "EC2:runinstances", "s3:GetObject", "sts:AssumeRole"]
_ACTION_PATTERNS = [
    *("*", "*", "ec2:*", "ec2:Run*", "EC2:*Instances", "ec2:?????nstances", "ec2:stop?nstances", "s3:Get*"),
    *("sts:AssumeRole", "ec2:RunInstances", "s3:*", "iam:*", "*"),
]
_RESOURCES = [
    "*",
    f"arn:aws:ec2:eu-west-1:{ACCOUNT}:instance/*",
    f"arn:aws:ec2:eu-west-1:{ACCOUNT}:instance/i-blue",
    f"arn:aws:ec2:eu-west-1:{ACCOUNT}:volume/v-1",
    "arn:aws:ec2:eu-west-1::image/ami-1",
    "arn:aws:s3:::blue/red:key",
    "arn:aws:s3:::red/a*c",
    f"arn:aws:iam::{ACCOUNT}:role/team/target",
]
_RESOURCE_PATTERNS = [
    *("*", "*", "*", "arn:aws:ec2:*:*:instance/*", "arn:aws:ec2:*:*:*/*", "arn:aws:ec2:*::image/*", "arn:aws:s3"),
    *("arn:*", "arn:aws:s3:::*", "arn:aws:s3:::*/red:k?y", "arn:aws:ec2:*:instance/*", "arn:aws:ec2:eu-*:vol*"),
    *("arn:aws:ec2:e?-west-?:*3:i*/i-b*e", "arn:aws:ec2:eu-w*t-1:1*3*:*", "arn:aws:ec2:?:*:*", "arn:aws:iam::*:role/*"),
    *("arn:aws:ec2:*:*:instance/i-${aws:PrincipalTag/team}", "arn:aws:s3:::${AWS:principaltag/Team, 'red'}/*"),
    *("arn:aws:s3:::red/a${*}c", "arn:aws:s3:::red/a${?}c", "arn:aws:s3:::${aws:TagKeys}/*", "arn:aws:s3:*:a*c"),
    *("arn:aws:ec2:eu-west-1:111122223333:instance/${*}", "arn:aws:iam::111122223333:role/${aws:username}/*"),
]

ALICE = f"arn:aws:iam::{ACCOUNT}:user/alice"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/team/ops"
SESSION = f"arn:aws:sts::{ACCOUNT}:assumed-role/ops/x"
FEDERATED = f"arn:aws:sts::{ACCOUNT}:federated-user/bob"
ROOT = f"arn:aws:iam::{ACCOUNT}:root"


def _caller(kind: str, arn: str = "", issuer: str = "", name: str = "", *, linked: bool = False) -> dict[str, Any]:
    account = ACCOUNT if arn else ""
    return {"kind": kind, "arn": arn, "account": account, "issuer": issuer, "name": name, "service linked": linked}


_LINKED = f"arn:aws:sts::{ACCOUNT}:assumed-role/AWSServiceRoleForX/x"
_CALLERS = [
    *[_caller("User", ALICE)] * 5,
    *[_caller("AssumedRole", SESSION, ROLE)] * 5,
    _caller("FederatedUser", FEDERATED, ALICE),
    _caller("Account", ROOT),
    _caller("AssumedRole", _LINKED, f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/AWSServiceRoleForX", linked=True),
    _caller("Service", name="ec2.amazonaws.com"),
    _caller("WebIdentity", name="id.example.com"),
    _caller("Anonymous"),
]
_PRINCIPALS: list[Any] = [
    "*",
    {"AWS": "*"},
    {"AWS": ACCOUNT},
    {"AWS": [ROOT]},
    {"AWS": [ALICE]},
    {"AWS": [ROLE]},
    {"AWS": [SESSION]},
    {"AWS": [FEDERATED, OTHER_ACCOUNT]},
    {"AWS": [ROLE, SESSION, ACCOUNT]},
    {"AWS": [SESSION, ACCOUNT]},
    {"AWS": [ROLE, ROOT]},
    {"AWS": [ALICE, ROOT], "Service": "ec2.amazonaws.com"},
    {"AWS": [FEDERATED, ALICE, ACCOUNT]},
    {"Service": ["ec2.amazonaws.com", "lambda.amazonaws.com"]},
    {"Federated": "id.example.com", "AWS": OTHER_ACCOUNT},
]

# By kind of operator: the keys it is asked about, what requests have and what policies want.
_TEXTS = ["required", "Required", "optional", "requi*", "blue", "red", "", "*"]
_WANTED = [*_TEXTS[:6], "${aws:PrincipalTag/team}", "${aws:PrincipalTag/Team, 'red'}", "x${$}{", "${*}", "requi${*}"]
_ARNS = [ALICE, ROLE, f"arn:aws:ec2:eu-west-1:{ACCOUNT}:instance/i-1", "arn:aws:s3:::blue:red", "blue"]
_KINDS: dict[str, tuple[list[str], list[str], list[Any]]] = {
    "String": (
        ["ec2:MetadataHttpTokens", "aws:PrincipalTag/team", "aws:TagKeys", "aws:username"],
        _TEXTS,
        [*_WANTED, "req*", "?ptional", "*e*", "${aws:username}?", "${aws:TagKeys}", "*"],
    ),
    "Numeric": (["ec2:HopLimit"], ["1", "2", "2.0", "+2", "10", "64", "-1", "two", ""], ["1", "2", 2, 3, "2.00", "10"]),
    "Date": (
        ["aws:CurrentTime"],
        ["2026-02-24T10:00:00Z", "2026-02-24T11:00:00+01:00", "1771927200", "2026-02-25", "2026", "soon"],
        ["2026-02-24T10:00:00Z", "2026-02-24", "1771927200", 1771927201, "2026-01"],
    ),
    "Bool": (
        ["aws:SecureTransport"],
        ["true", "false", "True", "yes"],
        [True, False, "true", "${aws:SecureTransport}"],
    ),
    "Binary": (["ec2:Blob"], ["QUJD", "QUI=", "***"], ["QUJD", "QUI="]),
    "Ip": (
        ["aws:SourceIp"],
        ["203.0.113.1", "203.0.112.1", "198.51.100.1", "2001:db8::1", "2001:DB8:0:0::1", "nowhere"],
        ["203.0.113.0/24", "203.0.113.1", "2001:db8::/64", "0.0.0.0/0", "198.51.100.7/24"],
    ),
    "Arn": (
        ["aws:PrincipalArn", "aws:SourceArn"],
        _ARNS,
        [
            *(*_ARNS[:4], "arn:aws:iam::*:user/*", "arn:aws:iam::*:role/*/o?s", "arn:aws:s3", "*", "arn:*:red"),
            *("arn:aws:*", "arn:aws:ec2:*:instance/*", "${aws:PrincipalArn}"),
            "arn:aws:iam::1111*:user/${aws:PrincipalTag/team, 'alice'}",
        ],
    ),
}
_COMPARED = ("Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals")
BASES = {
    **{f"String{each}": "String" for each in ("Equals", "NotEquals", "Like", "NotLike")},
    **{f"String{each}IgnoreCase": "String" for each in ("Equals", "NotEquals")},
    **{f"Numeric{each}": "Numeric" for each in _COMPARED},
    **{f"Date{each}": "Date" for each in _COMPARED},
    "Bool": "Bool",
    "BinaryEquals": "Binary",
    "IpAddress": "Ip",
    "NotIpAddress": "Ip",
    **{f"Arn{each}": "Arn" for each in ("Equals", "NotEquals", "Like", "NotLike")},
}
"""Every operator but Null, with what it compares."""

OPERATORS = [
    *(f"{prefix}{base}{suffix}" for base in BASES for prefix in ("", "ForAllValues:", "ForAnyValue:")
      for suffix in ("", "IfExists")),
    "Null",
]  # fmt: skip


def scenarios(seed: int, policies: int, requests: int) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """`policies` sets of policies (a scenario without a request), each with `requests` requests to decide."""
    random = Random(seed)
    for _ in range(policies):
        attached = _policies(random)
        yield attached, [_request(random, attached) for _ in range(requests)]


def _policies(random: Random) -> dict[str, Any]:
    maker = _Maker(random)
    chance = random.random
    return {
        "identity": [maker.document("identity") for _ in range(random.choice((0, 1, 1, 2)))],
        "boundary": maker.document("boundary") if chance() < 0.2 else None,
        "session": [maker.document("session") for _ in range(random.choice((0, 1, 1, 2)))] if chance() < 0.25 else None,
        "scps": [maker.level() for _ in range(random.choice((1, 2, 3)))] if chance() < 0.35 else None,
        "management account": chance() < 0.1,
        # What requests may meet on a resource.
        "attached": [(maker.document("resource", principals=True), False) for _ in range(2)]
        + [(maker.document("trust", principals=True, resources=False), True)],
    }


class _Maker:
    """Writes documents; each has a name of its own."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._count = 0
        self._variables = True

    def level(self) -> list[Any]:
        """The SCPs at one place: mostly one that allows everything, and perhaps one that does not."""
        level = [self.document("scp") for _ in range(self._random.choice((0, 0, 1, 2)))]
        if self._random.random() < 0.85:
            everything = [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
            level.append({"Id": self._name("full"), "Version": "2012-10-17", "Statement": everything})
        return level

    def document(self, what: str, *, principals: bool = False, resources: bool = True) -> dict[str, Any]:
        version = self._random.choice(("2012-10-17",) * 8 + ("2008-10-17", None))
        self._variables = version == "2012-10-17"
        statements: Any = [self._statement(principals, resources) for _ in range(self._random.choice((1, 1, 2, 3)))]
        if len(statements) == 1 and self._random.random() < 0.3:
            statements = statements[0]
        document = {"Id": self._name(what), "Version": version, "Statement": statements}
        if version is None:
            del document["Version"]
        return document

    def _name(self, what: str) -> str:
        self._count += 1
        return f"{what}-{self._count}"

    def _statement(self, principals: bool, resources: bool) -> dict[str, Any]:
        random = self._random
        statement: dict[str, Any] = {"Effect": "Deny" if random.random() < 0.25 else "Allow"}
        element, few = ("NotAction", (1, 2)) if random.random() < 0.15 else ("Action", (1, 2, 3))
        statement[element] = self._some(_ACTION_PATTERNS, few)
        if resources:
            element, few = ("NotResource", (1, 2)) if random.random() < 0.15 else ("Resource", (1, 2, 3))
            statement[element] = self._some(_RESOURCE_PATTERNS, few)
        if principals:
            statement["NotPrincipal" if random.random() < 0.2 else "Principal"] = random.choice(_PRINCIPALS)
        conditions = [self._condition() for _ in range(random.choice((0, 1, 1, 2)))]
        if conditions:
            statement["Condition"] = {}
            for operator, key, values in conditions:
                statement["Condition"].setdefault(operator, {})[key] = values
        return statement

    def _condition(self) -> tuple[str, str, Any]:
        random = self._random
        if random.random() < 0.05:
            keys = random.choice(list(_KINDS.values()))[0]
            return "Null", self._spelled(random.choice(keys)), random.choice(("true", "false", True, False))
        base = random.choice(list(BASES))
        keys, _, wanted = _KINDS[BASES[base]]
        if base == "Bool" and not self._variables:
            wanted = wanted[:3]  # without variables it takes `true` and `false` only
        if random.random() < 0.05:  # a key of another kind
            keys = random.choice(list(_KINDS.values()))[0]
        prefix = random.choice(("", "", "ForAllValues:", "ForAnyValue:"))
        suffix = random.choice(("", "", "IfExists"))
        return f"{prefix}{base}{suffix}", self._spelled(random.choice(keys)), self._some(wanted, (1, 1, 2))

    def _some(self, values: list[Any], few: tuple[int, ...]) -> Any:
        chosen = [self._random.choice(values) for _ in range(self._random.choice(few))]
        return chosen[0] if len(chosen) == 1 and self._random.random() < 0.5 else chosen

    def _spelled(self, key: str) -> str:
        return self._random.choice((key, key, key.lower(), key.upper()))


def _request(random: Random, policies: dict[str, Any]) -> dict[str, Any]:
    resources = [_resource(random, policies) for _ in range(random.choice((1, 1, 1, 2, 3)))]
    return {
        "action": random.choice(_ACTIONS),
        "caller": random.choice(_CALLERS),
        "keys": _keys(random, 0.65),
        "resources": resources,
    }


def _resource(random: Random, policies: dict[str, Any]) -> dict[str, Any]:
    account = random.choice(("", "", "", ACCOUNT, ACCOUNT, ACCOUNT, OTHER_ACCOUNT))
    policy, trust = random.choice(policies["attached"]) if random.random() < 0.4 else (None, False)
    return {
        "arn": random.choice(_RESOURCES),
        "keys": _keys(random, 0.2),
        "account": account,
        "policy": policy,
        "trust": trust,
    }


def _keys(random: Random, share: float) -> dict[str, Any]:
    keys: dict[str, Any] = {}
    for names, values, _ in _KINDS.values():
        for name in names:
            if random.random() < share:
                several = random.random() < (0.8 if name == "aws:TagKeys" else 0.15)
                value = [random.choice(values) for _ in range(random.choice((0, 1, 2, 3)))] if several else None
                keys[random.choice((name, name.upper()))] = random.choice(values) if value is None else value
    return keys
