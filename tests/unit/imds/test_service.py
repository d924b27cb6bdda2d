"""The service's answers, byte for byte as they were observed on instances, and the rules of both versions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from imdsctl.domain.options import HttpTokens, MetadataOptions, Switch
from imdsctl.imds.facts import Facts, RoleCredentials
from imdsctl.imds.fixed import DEFAULT_OPTIONS, FixedSource, example_credentials, example_facts
from imdsctl.imds.messages import Access, Reply, Request
from imdsctl.imds.service import MetadataService

NOW = datetime(2026, 3, 3, 10, 0, tzinfo=UTC).timestamp()
TOKEN = b"x-aws-ec2-metadata-token"
TTL = (b"x-aws-ec2-metadata-token-ttl-seconds", b"21600")
KEY = b"key"
REQUIRED = replace(DEFAULT_OPTIONS, http_tokens=HttpTokens.REQUIRED)


class Client:
    """A service, its source, and somebody who asks."""

    def __init__(self, facts: Facts | None = None, options: MetadataOptions = DEFAULT_OPTIONS) -> None:
        self.source = FixedSource(options, facts or example_facts(role="web"), example_credentials)
        self.service = MetadataService(self.source, KEY, nonce=lambda count: b"n" * count)

    def ask(
        self, target: str, *, method: str = "GET", token: bytes | None = None, now: float = NOW, ipv6: bool = False
    ) -> Reply:
        headers = [] if token is None else [(TOKEN, token)]
        return self.service.respond(Request(method, target.encode(), headers, ipv6), now)

    def put(self, headers: Sequence[tuple[bytes, bytes]] = (TTL,), target: bytes = b"/latest/api/token") -> Reply:
        return self.service.respond(Request("PUT", target, headers), NOW)

    def token(self) -> bytes:
        return self.put().content[-56:]


def body(reply: Reply) -> bytes:
    return reply.content.partition(b"\r\n\r\n")[2]


def test_a_token_as_observed() -> None:
    reply = Client().put()
    assert reply.content == (
        b"HTTP/1.1 200 OK\r\n"
        b"X-Aws-Ec2-Metadata-Token-Ttl-Seconds: 21600\r\n"
        b"Content-Length: 56\r\n"
        b"Date: Tue, 03 Mar 2026 10:00:00 GMT\r\n"
        b"Server: EC2ws\r\n"
        b"Connection: close\r\n"
        b"Content-Type: text/plain\r\n"
        b"\r\n"
    ) + body(reply)
    assert body(reply).startswith(b"AQAEA")
    assert (reply.status, reply.access, reply.path) == (200, Access.TOKEN, "/latest/api/token")


def test_a_read_with_a_token_as_observed() -> None:
    client = Client()
    reply = client.ask("/latest/meta-data/instance-type", token=client.token(), now=NOW + 82)
    assert reply.content == (
        b"HTTP/1.1 200 OK\r\n"
        b"X-Aws-Ec2-Metadata-Token-Ttl-Seconds: 21518\r\n"  # what is left
        b"Content-Type: text/plain\r\n"
        b"Accept-Ranges: none\r\n"
        b"Last-Modified: Sun, 01 Mar 2026 08:00:00 GMT\r\n"
        b"Content-Length: 8\r\n"
        b"Date: Tue, 03 Mar 2026 10:01:22 GMT\r\n"
        b"Server: EC2ws\r\n"
        b"Connection: close\r\n"
        b"\r\n"
        b"m5.large"
    )
    assert (reply.access, reply.hop_limit) == (Access.V2, None)


def test_a_read_without_a_token_is_the_same_without_the_ttl() -> None:
    client = Client()
    with_token = client.ask("/latest/meta-data/instance-type", token=client.token())
    without = client.ask("/latest/meta-data/instance-type")
    assert without.content == with_token.content.replace(b"X-Aws-Ec2-Metadata-Token-Ttl-Seconds: 21600\r\n", b"")
    assert without.access is Access.V1


def test_get_on_the_token_path_as_observed() -> None:
    assert Client().ask("/latest/api/token").content == (
        b"HTTP/1.1 405 Not Allowed\r\n"
        b"Allow: OPTIONS, PUT\r\n"
        b"Content-Length: 0\r\n"
        b"Date: Tue, 03 Mar 2026 10:00:00 GMT\r\n"
        b"Server: EC2ws\r\n"
        b"Connection: close\r\n"
        b"Content-Type: text/plain\r\n"
        b"\r\n"
    )


@pytest.mark.parametrize(("status", "title"), [(401, b"401 - Unauthorized"), (404, b"404 - Not Found")])
def test_the_pages_of_refusals_as_observed(status: int, title: bytes) -> None:
    client = Client(options=REQUIRED if status == 401 else DEFAULT_OPTIONS)
    reply = client.ask("/latest/meta-data/nothing")
    page = (
        b'<?xml version="1.0" encoding="iso-8859-1"?>\n'
        b'<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"\n'
        b'\t"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">\n'
        b'<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">\n'
        b" <head>\n  <title>%b</title>\n </head>\n <body>\n  <h1>%b</h1>\n </body>\n</html>\n" % (title, title)
    )
    assert reply.status == status
    assert body(reply) == page
    assert b"\r\nContent-Type: text/html\r\nContent-Length: %d\r\n" % len(page) in reply.content


@pytest.mark.parametrize("target", ["/latest/meta-data/instance-id", "/latest/meta-data/nothing", "/latest/meta-data/"])
@pytest.mark.parametrize("options", [DEFAULT_OPTIONS, REQUIRED])
def test_head_is_get_without_the_body(target: str, options: MetadataOptions) -> None:
    client = Client(options=options)
    get, head = client.ask(target), client.ask(target, method="HEAD")
    assert head.content == get.content.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    assert (head.status, head.access) == (get.status, get.access)


@pytest.mark.parametrize(
    ("headers", "status"),
    [((TTL,), 200), ((), 400), ((TTL, (b"x-forwarded-for", b"x")), 403), ((TTL, (b"expect", b"100-continue")), 417)],
)
@pytest.mark.parametrize("endpoint", list(Switch))
def test_every_answer_to_put_on_the_token_path_has_the_hop_limit(
    headers: Sequence[tuple[bytes, bytes]], status: int, endpoint: Switch
) -> None:
    client = Client(options=replace(DEFAULT_OPTIONS, http_put_response_hop_limit=3, http_endpoint=endpoint))
    reply = client.put(headers)
    assert reply.hop_limit == 3
    assert reply.status == (status if endpoint is Switch.ENABLED else 403)
    assert reply.access is (Access.TOKEN if reply.status == 200 else Access.TOKEN_REFUSED)


def test_no_other_answer_has_the_hop_limit() -> None:
    client = Client()
    others = [
        client.ask("/latest/meta-data/"),
        client.ask("/latest/api/token"),
        client.ask("/latest/api/token", method="POST"),
        client.put(target=b"/latest/meta-data/"),
    ]
    assert [reply.hop_limit for reply in others] == [None] * 4
    assert client.put(target=b"/2021-03-23/api/token").hop_limit == 1


def test_a_versioned_token_path_is_refused_without_a_word() -> None:
    reply = Client().put(target=b"/2021-03-23/api/token")
    assert reply.content.startswith(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n")
    assert body(reply) == b""


def test_options_change_from_one_request_to_the_next() -> None:
    client = Client()
    assert client.ask("/latest/meta-data/ami-id").access is Access.V1
    client.source.options = REQUIRED
    assert client.ask("/latest/meta-data/ami-id").access is Access.V1_REFUSED
    client.source.options = replace(REQUIRED, http_endpoint=Switch.DISABLED)
    assert client.ask("/latest/meta-data/ami-id").status == 403
    client.source.options = DEFAULT_OPTIONS
    assert client.ask("/latest/meta-data/ami-id").status == 200


def test_tags_come_and_go_with_the_options_and_with_the_instance() -> None:
    client = Client(replace(example_facts(), tags={"Name": "web-1"}))
    assert client.ask("/latest/meta-data/tags/instance/Name").status == 404
    client.source.options = replace(DEFAULT_OPTIONS, instance_metadata_tags=Switch.ENABLED)
    assert body(client.ask("/latest/meta-data/tags/instance/Name")) == b"web-1"
    client.source.instance = replace(client.source.instance, tags={"Name": "web-2"})
    assert body(client.ask("/latest/meta-data/tags/instance/Name")) == b"web-2"
    client.source.options = DEFAULT_OPTIONS
    assert client.ask("/latest/meta-data/tags/instance/Name").status == 404


def test_a_notice_that_comes_is_there_for_who_has_asked_before() -> None:
    client = Client()
    assert client.ask("/latest/meta-data/events/recommendations/rebalance").status == 404
    client.source.instance = replace(client.source.instance, rebalance=datetime(2026, 3, 3, tzinfo=UTC))
    reply = client.ask("/latest/meta-data/events/recommendations/rebalance")
    assert body(reply) == b'{"noticeTime": "2026-03-03T00:00:00Z"}'


def test_ipv6_answers_only_when_it_is_enabled() -> None:
    client = Client(options=replace(DEFAULT_OPTIONS, http_protocol_ipv6=Switch.DISABLED))
    assert client.ask("/latest/meta-data/ami-id", ipv6=True).content == b""
    assert client.ask("/latest/meta-data/ami-id").status == 200
    client.source.options = DEFAULT_OPTIONS
    assert client.ask("/latest/meta-data/ami-id", ipv6=True).status == 200


def test_credentials_say_by_which_version_they_were_fetched() -> None:
    asked: list[tuple[str, str]] = []

    def issue(role: str, delivery: str, now: float) -> RoleCredentials:
        asked.append((role, delivery))
        return example_credentials(role, delivery, now)

    client = Client()
    client.source.issue = issue
    first = client.ask("/latest/meta-data/iam/security-credentials/web")
    second = client.ask("/latest/meta-data/iam/security-credentials/web", token=client.token())
    third = client.ask("/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance")
    assert asked == [("web", "1.0"), ("web", "2.0"), ("ec2-instance", "1.0")]
    assert len({body(first), body(second), body(third)}) == 3


def test_a_token_lives_on_in_a_service_made_anew_and_dies_with_another_instance() -> None:
    client, again, other = Client(), Client(), Client(example_facts(name="other"))
    assert again.ask("/latest/meta-data/ami-id", token=client.token()).access is Access.V2
    assert other.ask("/latest/meta-data/ami-id", token=client.token()).access is Access.V2_REFUSED
    client.source.instance = other.source.instance  # the same service, of another instance
    assert client.ask("/latest/meta-data/ami-id", token=again.token()).access is Access.V2_REFUSED


def test_user_data_comes_as_it_was_given() -> None:
    data = bytes(range(256)) * 64
    reply = Client(replace(example_facts(), user_data=data)).ask("/latest/user-data")
    assert body(reply) == data
    assert b"\r\nContent-Type: application/octet-stream\r\n" in reply.content
    assert Client().ask("/latest/user-data").status == 404


@pytest.mark.parametrize("path", ["pkcs7", "signature", "rsa2048"])
def test_without_keys_there_are_no_signatures_and_none_are_listed(path: str) -> None:
    assert Client().ask(f"/latest/dynamic/instance-identity/{path}").status == 404
    assert body(Client().ask("/latest/dynamic/instance-identity/")) == b"document"


def test_what_is_kept_never_shows_another_path_or_another_time() -> None:
    """Answers are kept: asking for many things, in any order, twice, gives what a new service gives."""
    kept = Client()
    targets = [f"/{version}/meta-data/{path}" for version in ("latest", "2011-01-01") for path in PATHS] * 2
    for number, target in enumerate(targets):
        assert kept.ask(target, now=NOW + number).content == Client().ask(target, now=NOW + number).content


PATHS = ("", "ami-id", "ami-id/", "nothing", "iam/", "iam/info", "iam/security-credentials/web", "mac", "x" * 3000)
