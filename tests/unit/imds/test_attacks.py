"""No credential leaves without a token when tokens are required: tests/cases/imds, and any bytes at all."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tests.unit.imds.attacks import INSTANCE, KEY, NOW, ROLE, SECRET, STRICT, Attack, Kinds, attacks

from imdsctl.domain.options import MetadataOptions
from imdsctl.imds.facts import RoleCredentials
from imdsctl.imds.fixed import FixedSource, example_facts
from imdsctl.imds.messages import Access, Reply, Request
from imdsctl.imds.service import MetadataService
from imdsctl.imds.wire import BadRequest, read_head

UNHURRIED = settings(deadline=None)  # how long an example takes is the machine's business
CREDENTIALS = b"/latest/meta-data/iam/security-credentials/web"
TOKEN_TEXT = re.compile(rb"AQAEA[A-Za-z0-9_-]{49}==")


def service(options: MetadataOptions) -> MetadataService:
    """A service with credentials worth stealing."""
    at = datetime.fromtimestamp(NOW, UTC)

    def issue(role: str, delivery: str, now: float) -> RoleCredentials:
        return RoleCredentials(at, "ASIAEXAMPLE", SECRET, "session", at)

    return MetadataService(FixedSource(options, example_facts(role=ROLE, instance_id=INSTANCE), issue), KEY)


STRICT_SERVICE = service(MetadataOptions.from_aws(STRICT))


def leaked(reply: Reply) -> str:
    """What leaves with an answer."""
    if SECRET.encode() in reply.content:
        return "credentials"
    return "token" if TOKEN_TEXT.search(reply.content) else "nothing"


@pytest.mark.parametrize("attack", [pytest.param(each, id=each.name) for each in attacks()])
def test_nothing_leaves_that_must_not(attack: Attack) -> None:
    """Each case says what must not happen."""
    try:
        read = read_head(attack.raw, ipv6=attack.ipv6)
    except BadRequest:
        assert (attack.status, attack.gives) == (400, "nothing"), attack.must_not
        return
    assert read is not None
    reply = service(attack.options).respond(read[0], NOW)
    assert (reply.status, leaked(reply)) == (attack.status, attack.gives), attack.must_not
    if attack.access is not None:
        assert reply.access == attack.access, attack.must_not
    assert attack.says in reply.content
    if attack.status == 0:
        assert reply.content == b""


def test_the_suite_is_there() -> None:
    """A case that is not found cannot fail."""
    assert len(list(attacks())) > 200


# -- any bytes ---------------------------------------------------------------------------------------------------------

PIECES = st.sampled_from(
    [
        *(
            b"/",
            b"//",
            b".",
            b"..",
            b"%2e%2e",
            b"%2f",
            b"%",
            b"%00",
            b"\0",
            b"?",
            b"#",
            b"\\",
            b";",
            b"http://",
            b"\xff",
        ),
        *(
            b"latest",
            b"2021-03-23",
            b"meta-data",
            b"iam",
            b"security-credentials",
            b"web",
            b"api",
            b"token",
            b"user-data",
        ),
        CREDENTIALS,
        b"/latest/api/token",
    ]
)
TARGETS = st.lists(PIECES, max_size=12).map(b"".join) | st.binary(max_size=60)
NAMES = st.sampled_from(
    [
        b"x-aws-ec2-metadata-token",
        b"x_aws_ec2_metadata_token",
        b"X-Aws-Ec2-Metadata-Token",
        b"x-aws-ec2-metadata-token-ttl-seconds",
        b"x-forwarded-for",
        b"expect",
        b"host",
    ]
)
VALUES = st.sampled_from([b"", b"60", b"21600", Kinds(NOW, KEY, "i-0fedcba9876543210").valid.encode()]) | st.binary()
HEADERS = st.lists(st.tuples(NAMES | st.binary(max_size=8), VALUES), max_size=6)
METHODS = st.sampled_from(["GET", "HEAD", "PUT", "POST", "OPTIONS", "DELETE", "get", ""]) | st.text(max_size=5)


@UNHURRIED
@given(METHODS, TARGETS, HEADERS, st.booleans())
@example("GET", CREDENTIALS, [], False)
def test_whatever_comes_without_a_valid_token_gets_no_credentials(
    method: str, target: bytes, headers: list[tuple[bytes, bytes]], ipv6: bool
) -> None:
    reply = STRICT_SERVICE.respond(Request(method, target, headers, ipv6), NOW)
    assert leaked(reply) != "credentials"
    assert b"meta-data" not in reply.content
    assert reply.access not in (Access.V1, Access.V2)


@UNHURRIED
@given(METHODS, TARGETS, HEADERS)
def test_a_token_is_made_for_one_request_only(method: str, target: bytes, headers: list[tuple[bytes, bytes]]) -> None:
    reply = STRICT_SERVICE.respond(Request(method, target, headers), NOW)
    names = [name for name, _ in headers]
    if leaked(reply) == "token":
        assert (method, target) == ("PUT", b"/latest/api/token")
        assert b"x-forwarded-for" not in names
        assert names.count(b"x-aws-ec2-metadata-token-ttl-seconds") == 1
        assert reply.access is Access.TOKEN


@UNHURRIED
@given(TARGETS)
def test_with_a_token_any_target_has_an_answer(target: bytes) -> None:
    token = Kinds(NOW, KEY, INSTANCE).valid.encode()
    reply = STRICT_SERVICE.respond(Request("GET", target, [(b"x-aws-ec2-metadata-token", token)]), NOW)
    assert reply.status in (200, 400, 404, 405)
