"""Hostile requests: no 5xx, no traceback, no growth, and no change by what was refused.

Requests are made of botocore's models for every operation that is implemented, with values that nobody should send, and
are then damaged on the wire: 5,000 of them here, 100,000 in `make soak`. The same numbers make the same requests.
"""

from __future__ import annotations

import gc
import json
import os
import random
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote_plus

import botocore.session
import pytest
from botocore.model import OperationModel, Shape
from botocore.parsers import create_parser
from botocore.serialize import create_serializer

from imdsctl.adapters.local_server import OPERATIONS, local_aws
from imdsctl.local.generator import make_world
from imdsctl.local.iam.generator import ADMIN_USER
from imdsctl.local.log import decode
from imdsctl.local.pipeline import LocalAws
from imdsctl.local.spec import WorldSpec
from imdsctl.wire.http import HttpRequest, HttpResponse
from imdsctl.wire.sigv4 import sign

REQUESTS = int(os.environ.get("IMDSCTL_SOAK_REQUESTS", "5000"))
SEED = int(os.environ.get("IMDSCTL_SOAK_SEED", "1"))
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
SPEC = WorldSpec(seed=11, created=NOON, accounts=9, regions=("eu-west-1", "us-east-1"), instances=3)
ENDPOINT = "127.0.0.1:16925"
MODEL_OF = {"elasticmapreduce": "emr", "monitoring": "cloudwatch"}
"""botocore's name of a service, where it is not the name it signs with."""

NUMBERS: tuple[Any, ...] = (0, 1, -1, 2, 64, 65, 1000, 2**31 - 1, 2**31, -(2**31), 2**63 - 1, 2**63, 2**64, 10**30)
FRACTIONS: tuple[Any, ...] = (0.0, -0.0, 1.5, -1e308, 1e-320, float("inf"), float("-inf"), float("nan"), 10**30)
TEXTS = (
    *("", " ", "*", "?", ".", "..", "/", "//", "\\", "%", "%00", "%zz", "${aws:username}", "{}", "[]", "null", "true"),
    *("0", "-1", "1e9", "٣", "NaN", "\x00", "a\x00b", "\ufeff", "\ud7ff", "\U0001f4a9", "é" * 300, "x" * 5000),
    *("<a>&amp;]]></a>", "<!DOCTYPE x [<!ENTITY e 'e'>]>&e;", "'; DROP TABLE x;--", "\r\nX-Injected: 1\r\n", "\u2028"),
    *("arn:aws:iam::111122223333:role/x", "arn:aws:iam::aws:policy/ReadOnlyAccess", "arn::::::", "arn:aws:", "i-"),
    *("i-0123456789abcdef0", "lt-0", "ami-", "vol-zz", "sg-0123456789abcdef0", "$Latest", "$Default", "10.0.0.0/8"),
    *("0.0.0.0/0", "300.1.1.1/99", "::/0", "2026-11-24T12:00:00Z", "9999-12-31T23:59:59Z", "0000-00-00", "t3.micro"),
    *("AQ==", "!!!", '{"Version":"2012-10-17","Statement":[]}', '{"Statement":{"Effect":"Allow"}}', "[" * 2000),
    *('{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}', '{"a":' * 900),
)
TAME: dict[str, Any] = {
    "MinCount": 1,
    "MaxCount": 1,
    "InstanceType": "t3.micro",
    "Path": "/",
    "PolicyDocument": '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}',
    "AssumeRolePolicyDocument": '{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"sts:AssumeRole",'
    '"Principal":{"Service":"ec2.amazonaws.com"}}]}',
    "CidrIp": "10.0.0.0/8",
    "IpProtocol": "tcp",
    "FromPort": 22,
    "ToPort": 22,
}
"""What these members are in a tame request, where no answer shows a value to send back."""
TIMES = (datetime(1, 1, 1, tzinfo=UTC), NOON, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC))


class Generator:
    """Makes a request's parameters from a model: mostly right in their type, often wrong in everything else."""

    def __init__(self, chance: random.Random, known: dict[str, list[str]]) -> None:
        self.chance = chance
        self.known = known
        self.names = sorted(known)
        self.tame = False

    def parameters(self, operation: OperationModel, *, tame: bool) -> dict[str, Any]:
        """Tame ones are small and name what is there, so that many get as far as changing something."""
        self.tame = tame
        shape = operation.input_shape
        return {} if shape is None else self._structure(shape, 0)

    def text(self, member: str = "") -> str:
        """A text for a member: one that was seen under its name, one that was seen anywhere, or a hostile one."""
        chance = self.chance.random()
        seen = self.known.get(member.lower().removesuffix("s"))
        if seen and chance < (0.95 if self.tame else 0.5):
            return self.chance.choice(seen)
        if self.tame and chance < 0.9:
            return f"name-{self.chance.randrange(30)}"
        if chance < 0.6:
            return self.chance.choice(self.known[self.chance.choice(self.names)])
        if chance < 0.9:
            return self.chance.choice(TEXTS)
        return "".join(
            chr(self.chance.choice((self.chance.randrange(128), self.chance.randrange(0xD800)))) for _ in range(9)
        )

    def _structure(self, shape: Any, depth: int) -> dict[str, Any]:
        required = set(shape.required_members)
        few = 2 / (2 + len(shape.members)) if self.tame else 0.3 / (1 + depth)
        made = {}
        for name, member in shape.members.items():
            wanted = 1.0 if name in required else few
            usual = self.tame and name in TAME and member.type_name in ("string", "integer")
            if self.tame and (name.lower().removesuffix("s") in self.known or usual):
                wanted = max(wanted, 0.6)
            if self.chance.random() < wanted:
                made[name] = TAME[name] if usual else self._value(member, depth + 1, name)
        return made

    def _value(self, shape: Shape, depth: int, member: str) -> Any:
        chance = self.chance
        kind = shape.type_name
        if kind == "structure":
            return self._structure(shape, depth) if depth < 7 else {}
        if kind == "list":
            size = 1 if self.tame else chance.choice((0, 1, 1, 1, 2, 3, 30 if depth < 3 else 1))
            return [self._value(shape.member, depth + 1, member) for _ in range(size)]  # type: ignore[attr-defined]
        if kind == "map":
            return {self.text(): self._value(shape.value, depth + 1, "") for _ in range(chance.randrange(3))}  # type: ignore[attr-defined]
        if kind == "boolean":
            return chance.random() < 0.3
        if kind in ("integer", "long"):
            return chance.choice((1, 1, 2, 8, 64) if self.tame else NUMBERS)
        if kind in ("float", "double"):
            return chance.choice(FRACTIONS)
        if kind == "timestamp":
            return chance.choice(TIMES)
        if kind == "blob":
            return chance.choice((b"", b"\x00\xff", b"x" * 70_000, self.text().encode("utf-8", "replace")))
        if getattr(shape, "enum", None) and chance.random() < 0.8:
            return chance.choice(shape.enum)  # type: ignore[attr-defined]
        return self.text(member)


@dataclass
class Target:
    """An operation of the local AWS, with botocore's model of it."""

    service: str
    model: OperationModel
    writes: bool

    @property
    def protocol(self) -> str:
        return str(self.model.service_model.metadata["protocol"])


def targets() -> list[Target]:
    session = botocore.session.Session()
    found = []
    for name, operations in sorted(OPERATIONS.items()):
        model = session.get_service_model(MODEL_OF.get(name, name))
        found += [Target(name, model.operation_model(each), operations[each].writes) for each in sorted(operations)]
    return found


class Fuzzer:
    """Sends hostile requests to a local AWS of its own, and holds every answer to what was promised."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.time = NOON
        self.bugs: list[str] = []
        self.log: list[bytes] = []
        self.aws = new_aws(self)
        self.world = self.aws.world
        self.targets = targets()
        key = self.world.management
        self.keys = (key.access_key_id, key.secret_access_key)
        self.generator = Generator(self.chance, known_names(self.aws, self))
        self.answers: Counter[int] = Counter()
        self.codes: Counter[str] = Counter()
        self.refused: list[tuple[Target, HttpRequest]] = []

    def append(self, line: bytes) -> None:
        """The log of accepted writes."""
        self.log.append(line)

    def clock(self) -> datetime:
        return self.time

    def run(self, requests: int) -> None:
        for number in range(requests):
            self.time += timedelta(seconds=1)
            target = self.chance.choice(self.targets)
            request = self.request(target)
            before = self.world.sequence
            answer = self.aws.handle(request)
            what = f"request {number} of seed {SEED}: {target.service} {target.model.name}\n{request!r:.3000}\n{answer}"
            assert not self.bugs, f"{what}\n{self.bugs[-1]}"
            assert answer.status < 500, what
            self.answers[answer.status] += 1
            self.check(target, request, answer, what)
            if answer.status >= 300:
                assert self.world.sequence == before, f"a refused request changed something: {what}"
                if len(self.refused) < 1000:
                    self.refused.append((target, request))

    def check(self, target: Target, request: HttpRequest, answer: HttpResponse, what: str) -> None:
        """botocore reads the answer as that of the service: an error with a code, or the operation's output."""
        protocol = target.protocol
        scope = rf"Credential=([^,/]*/){{3,}}{target.service}/aws4_request,"
        if re.search(scope, request.headers.get("authorization", "")) is None:
            # What does not say whose it is gets an answer in the form that it most likely reads.
            kind = answer.headers["content-type"]
            protocol = "json" if "json" in kind else "smithy-rpc-v2-cbor" if "cbor" in kind else "query"
        told = {"status_code": answer.status, "headers": dict(answer.headers), "body": answer.body}
        parsed = create_parser(protocol).parse(told, target.model.output_shape)
        if answer.status >= 300:
            code = parsed.get("Error", {}).get("Code")
            assert code, f"no code: {what}"
            assert code != str(answer.status), f"no code of AWS's: {what}"
            self.codes[code] += 1

    # -- making requests ---------------------------------------------------------------------------------------------

    def request(self, target: Target) -> HttpRequest:
        tame = self.chance.random() < 0.4
        parameters = self.generator.parameters(target.model, tame=tame)
        serializer = create_serializer(target.protocol, include_validation=False)
        try:
            made = serializer.serialize_to_request(parameters, target.model)
        except (ValueError, OverflowError, TypeError):  # what botocore itself cannot send: without parameters, then
            made = serializer.serialize_to_request({}, target.model)
        headers = {str(name).lower(): str(value) for name, value in made["headers"].items()}
        query = made.get("query_string") or {}
        pairs = list(query.items()) if isinstance(query, dict) else list(query)
        path = made["url_path"] or "/"
        body = made["body"]
        if isinstance(body, dict):
            body = form(list(body.items()) if tame else self.damaged_form(list(body.items())))
        else:
            body = body if isinstance(body, bytes) else str(body).encode()
            body = body if tame else self.damaged(body)
        headers["host"] = ENDPOINT
        if tame:
            return self.signed(target, made["method"], path, form(pairs).decode(), headers, body, tame=True)
        if self.chance.random() < 0.05:
            headers["content-type"] = self.chance.choice(CONTENT_TYPES)
        method = made["method"]
        if self.chance.random() < 0.03:
            method = self.chance.choice(("GET", "PUT", "DELETE", "HEAD", "OPTIONS", "POST", "BREW"))
            if target.protocol in ("ec2", "query") and method == "GET":
                pairs, body = [tuple(each.partition("=")[::2]) for each in body.decode("latin-1").split("&")], b""
        if self.chance.random() < 0.02:
            path = self.chance.choice(
                ("/", "//", "/..", "/%2e%2e/", "/" + "a/" * 500, "/\xff", "/_imdsctl/", "/listRegions")
            )
        if "x-amz-target" in headers and self.chance.random() < 0.03:
            headers["x-amz-target"] = self.chance.choice(("", ".", "AWSOrganizationsV20161128.", "A.B", "x" * 4000))
        return self.signed(target, method, path, form(pairs).decode(), headers, body)

    def signed(
        self,
        target: Target,
        method: str,
        path: str,
        query: str,
        headers: dict[str, str],
        body: bytes,
        *,
        tame: bool = False,
    ) -> HttpRequest:
        region = self.chance.choice(("us-east-1", "eu-west-1"))
        service = target.service
        roll = 1.0 if tame else self.chance.random()
        added = sign(
            method,
            path,
            query,
            headers,
            body,
            access_key=self.keys[0],
            secret_key=self.keys[1],
            token=None,
            region="mars-1" if roll < 0.01 else region,
            service="s3" if 0.01 < roll < 0.02 else service,
            amz_date=self.time.strftime("%Y%m%dT%H%M%SZ"),
        )
        signed = {**headers, **{name.lower(): value for name, value in added.items()}}
        if 0.02 < roll < 0.08:
            signed["authorization"] = self.broken_signature(signed["authorization"])
        elif 0.08 < roll < 0.1:
            del signed["authorization"]
        elif 0.1 < roll < 0.11:
            signed["x-amz-security-token"] = self.generator.text().encode("utf-8", "replace").decode("latin-1")
        elif 0.11 < roll < 0.12:
            signed["x-amz-date"] = self.chance.choice(("", "20261332T256199Z", "x", "99991231T235959Z"))
        return HttpRequest(method, path, query, signed, body)

    def broken_signature(self, header: str) -> str:
        chance = self.chance
        which = chance.randrange(4)
        if which == 0:
            return header[: chance.randrange(len(header))]
        if which == 1:
            return header[:-64] + "0" * chance.choice((0, 63, 64, 65))
        if which == 2:
            place = chance.randrange(len(header))
            return header[:place] + chance.choice("/,= \xff\x00a") + header[place + 1 :]
        return chance.choice(("", "Basic Zm9v", "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA256 Credential=a/b/c/d/e", "\x00"))

    def damaged_form(self, pairs: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
        """A form whose members are misnumbered, doubled, of another kind, or not there."""
        chance = self.chance
        for _ in range(chance.choice((0, 0, 0, 1, 1, 2, 6))):
            key, value = chance.choice(pairs)
            which = chance.randrange(9)
            if which == 0:
                pairs.append((key, self.generator.text()))
            elif which == 1:
                number = chance.choice(("0", "-1", "00", "1.1", "99999999999999999999", "x", "", "٣", "1e3", "N"))
                pairs.append((".".join(number if part.isdigit() else part for part in key.split(".")), value))
            elif which == 2:
                pairs.append((key + chance.choice((".", ".1", ".member.1", "." * 300, ".a.b", ".0", ".N")), value))
            elif which == 3:
                pairs.append((key.partition(".")[0], self.generator.text()))
            elif which == 4 and len(pairs) > 3:
                pairs.remove((key, value))
            elif which == 5:
                pairs.append((self.generator.text(), self.generator.text()))
            elif which == 6:
                pairs.append((key + ".1" * chance.choice((50, 3000)), "x"))
            elif which == 7:
                pairs += [(f"{key}.{number}", "x") for number in range(chance.choice((3, 1500)))]
            else:
                place = pairs.index((key, value))
                pairs[place] = (key, self.generator.text())
        return pairs

    def damaged(self, body: bytes) -> bytes:
        """A body with bytes lost, doubled or exchanged, and JSON of another kind than the model's."""
        chance = self.chance
        which = chance.randrange(16)
        if which == 0:
            return body[: chance.randrange(len(body) + 1)]
        if which == 1 and body:
            place = chance.randrange(len(body))
            return body[:place] + bytes([chance.randrange(256)]) + body[place + 1 :]
        if which == 2:
            return chance.choice(
                (b"", b"null", b"[]", b"1", b'"x"', b"{", b"\xff\xfe", b"{}{}", b"\x00", b"[" * 100_000)
            )
        if which == 3:
            return chance.choice(
                (b'{"a":' * 20_000, b"\xbf" * 5000, b"\x9f" * 5000, b"\xa1aa\x1b\xff\xff\xff\xff\xff\xff\xff\xff")
            )
        if which < 8 and body[:1] == b"{":
            value = json.loads(body)
            for key in list(value):
                if chance.random() < 0.5:
                    value[key] = chance.choice(
                        (None, True, 1, 1.5, 10**25, "x", [], {}, [None], [[]], {"a": 1}, ["x"] * 2000)
                    )
            value[self.generator.text()] = 1
            return json.dumps(value).encode()
        return body


CONTENT_TYPES = (
    "",
    "text/plain",
    "application/json",
    "application/cbor",
    "multipart/form-data; boundary=x",
    "\xff",
    "x" * 999,
)


def form(pairs: list[tuple[str, Any]]) -> bytes:
    """A form as it goes on the wire."""
    return "&".join(f"{quote_plus(str(key))}={quote_plus(str(value))}" for key, value in pairs).encode()


def new_aws(fuzzer: Fuzzer) -> LocalAws:
    """A local AWS that looks at a fuzzer's clock and keeps its log there."""
    aws = local_aws(make_world(SPEC), clock=fuzzer.clock, report=fuzzer.bugs.append)
    aws._log = fuzzer
    return aws


def known_names(aws: LocalAws, fuzzer: Fuzzer) -> dict[str, list[str]]:
    """Texts that answers hold, by the (lower-case, singular) name of their member: requests get further with them."""
    seen: dict[str, dict[str, None]] = {}
    for region in ("us-east-1", "eu-west-1"):
        for _, parsed in reads(aws, fuzzer, region):
            for name, value in strings(parsed, ""):
                seen.setdefault(name.lower().removesuffix("s"), {})[value] = None
    # Who deletes the key that signs is outside from then on.
    ours = {each for account in aws.world.accounts.values() for each in (account.access_key_id, ADMIN_USER)}
    known = {name: [each for each in values if each not in ours][:60] for name, values in sorted(seen.items())}
    return {name: values for name, values in known.items() if values}


def strings(value: Any, member: str) -> Iterator[tuple[str, str]]:
    if isinstance(value, dict):
        for name, each in value.items():
            yield from strings(each, name)
    elif isinstance(value, list):
        for each in value[:40]:
            yield from strings(each, member)
    elif isinstance(value, str) and len(value) < 500:
        yield member, value


NOT_KEPT = {("cloudtrail", "LookupEvents"), ("sts", "GetSessionToken")}
"""What tells of the requests made, or makes something new: no part of the state that is kept."""


def reads(aws: LocalAws, fuzzer: Fuzzer, region: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """What every read that needs no parameter answers there."""
    key = aws.world.management
    for target in targets():
        shape = target.model.input_shape
        if target.writes or (shape is not None and shape.required_members):
            continue
        if (target.service, target.model.name) in NOT_KEPT:
            continue
        made = create_serializer(target.protocol, include_validation=False).serialize_to_request({}, target.model)
        headers = {"host": ENDPOINT, **{name.lower(): value for name, value in made["headers"].items()}}
        body = form(list(made["body"].items())) if isinstance(made["body"], dict) else made["body"]
        body = body.encode() if isinstance(body, str) else body
        path = made["url_path"] or "/"
        date = fuzzer.time.strftime("%Y%m%dT%H%M%SZ")
        headers |= sign(
            made["method"],
            path,
            "",
            headers,
            body,
            access_key=key.access_key_id,
            secret_key=key.secret_access_key,
            token=None,
            region=region,
            service=target.service,
            amz_date=date,
        )
        signed = {name.lower(): value for name, value in headers.items()}
        answer = aws.handle(HttpRequest(made["method"], path, "", signed, body))
        told = {"status_code": answer.status, "headers": {}, "body": answer.body}
        parsed = create_parser(target.protocol).parse(told, target.model.output_shape)
        parsed.pop("ResponseMetadata", None)
        parsed.pop("requestId", None)  # Image Builder tells it beside the answer, too
        yield f"{region} {target.service} {target.model.name}", parsed


def observed(aws: LocalAws, fuzzer: Fuzzer) -> dict[str, Any]:
    """All that can be seen without naming anything, in both Regions."""
    return {name: parsed for region in ("us-east-1", "eu-west-1") for name, parsed in reads(aws, fuzzer, region)}


@pytest.fixture(scope="module")
def fuzzer() -> Fuzzer:
    """One that has sent all its requests."""
    fuzzer = Fuzzer(SEED)
    fuzzer.run(REQUESTS)
    return fuzzer


@pytest.mark.slow
def test_hostile_requests_get_an_answer_of_aws_and_never_a_5xx(fuzzer: Fuzzer) -> None:
    assert sum(fuzzer.answers.values()) == REQUESTS
    # The fuzz is worth something only when it gets past the door: many are accepted, many refused for many reasons.
    assert fuzzer.answers[200] > REQUESTS / 20
    assert len(fuzzer.codes) > 40, fuzzer.codes
    assert len(fuzzer.log) > REQUESTS / 100


@pytest.mark.slow
def test_what_was_refused_changed_nothing(fuzzer: Fuzzer) -> None:
    """A world that was told only the accepted writes answers every question as the one that was told everything."""
    again = local_aws(make_world(SPEC), clock=fuzzer.clock, report=fuzzer.bugs.append)
    for record, _ in decode(b"".join(fuzzer.log)):
        again.replay(record)
    there, here = observed(again, fuzzer), observed(fuzzer.aws, fuzzer)
    assert not fuzzer.bugs
    assert [name for name in here if there[name] != here[name]] == []


@pytest.mark.slow
def test_what_is_refused_leaves_nothing_behind(fuzzer: Fuzzer) -> None:
    def again() -> int:
        for _, request in fuzzer.refused:
            fuzzer.aws.handle(request)
        gc.collect()
        return sys.getallocatedblocks()

    again()
    before = again()
    grown = again() - before
    assert grown < len(fuzzer.refused), f"{grown} more blocks after {len(fuzzer.refused)} refused requests"
