"""The client against a real server on the loopback: pooling, damage on the way, throttling, pages, proxies.

The server plays canned bytes; nothing here waits for a clock except where a server's silence is the case.
"""

from __future__ import annotations

import asyncio
import gzip
import os
import resource
import shutil
import socket
import ssl
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import parse_qs

import pytest

from imdsctl.adapters.aws import AwsClient
from imdsctl.adapters.breaker import COOL_DOWN_SECONDS, FAILURES_MAX, SILENT_SECONDS_MIN
from imdsctl.adapters.http_client import Futile, HttpClient, Origin
from imdsctl.adapters.profile import Profile
from imdsctl.domain.diagnostics import Diagnostic, Severity
from imdsctl.fleet.ports import Credentials, Unreachable
from imdsctl.wire import sigv4
from imdsctl.wire.errors import ServiceError
from imdsctl.wire.http import HttpRequest

T = TypeVar("T")
NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
KEYS = Credentials("AKIDEXAMPLE", "secret", "token")


@dataclass
class Reply:
    """`data` as it goes out; then the connection stays open, is closed, or says nothing more."""

    data: bytes
    close: bool = False
    silent: bool = False


@dataclass
class Received:
    connection: int
    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Server:
    """Answers each request with the next reply; the last one is repeated."""

    replies: list[Reply]
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    tls: ssl.SSLContext | None = None
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    by_request: Callable[[Received], Reply] | None = None
    """Where the order of requests is nobody's business: what each one gets."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self.tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self._writers: list[asyncio.StreamWriter] = []
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()
        await asyncio.sleep(0)

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        connection = self.connections
        self._writers.append(writer)
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
                headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
                body = await reader.readexactly(int(headers.get("content-length", "0")))
                self.received.append(Received(connection, head[0], headers, body))
                self.asked.set()
                if self.by_request is not None:
                    reply = self.by_request(self.received[-1])
                else:
                    reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
                writer.write(reply.data)
                await writer.drain()
                if reply.close:
                    break
                if reply.silent:
                    await reader.read()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


def http(status: int, body: bytes, *headers: str, length: int | None = None) -> bytes:
    lines = [f"HTTP/1.1 {status} Whatever", f"Content-Length: {len(body) if length is None else length}", *headers]
    return "\r\n".join([*lines, "", ""]).encode() + body


def xml(body: str, status: int = 200) -> Reply:
    return Reply(http(status, body.encode(), "Content-Type: text/xml;charset=UTF-8"))


def regions(*names: str, token: str = "") -> str:
    items = "".join(f"<item><regionName>{name}</regionName></item>" for name in names)
    return (
        '<DescribeRegionsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId>'
        f"<regionInfo>{items}</regionInfo></DescribeRegionsResponse>"
    )


def page(*ids: str, token: str = "") -> str:
    items = "".join(f"<item><instanceId>{each}</instanceId></item>" for each in ids)
    reservations = f"<item><instancesSet>{items}</instancesSet></item>" if ids else ""
    marker = f"<nextToken>{token}</nextToken>" if token else ""
    return (
        '<DescribeInstancesResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r</requestId>'
        f"<reservationSet>{reservations}</reservationSet>{marker}</DescribeInstancesResponse>"
    )


def refusal(code: str, status: int, message: str = "m") -> Reply:
    return xml(
        f"<Response><Errors><Error><Code>{code}</Code><Message>{message}</Message></Error></Errors>"
        "<RequestID>req</RequestID></Response>",
        status,
    )


class FakeClock:
    """Stands still; remembers how long somebody wanted to wait."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def now(self) -> datetime:
        return NOW

    def monotonic(self) -> float:
        return sum(self.slept)

    def fraction(self) -> float:
        return 0.5

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)


@contextmanager
def environment(**values: str) -> Iterator[None]:
    kept = dict(os.environ)
    for name in kept:
        if name.startswith("AWS_") or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ.update(values, AWS_CONFIG_FILE="/nonexistent/config", AWS_SHARED_CREDENTIALS_FILE="/nonexistent/keys")
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(kept)


def run(
    replies: list[Reply], story: Callable[[AwsClient, Server], Awaitable[T]], *, read_timeout_seconds: float = 5.0
) -> tuple[T, Server, AwsClient, FakeClock]:
    async def main() -> tuple[T, Server, AwsClient, FakeClock]:
        async with Server(replies) as server:
            clock = FakeClock()
            with environment(AWS_ENDPOINT_URL=server.url):
                client = AwsClient(
                    Profile(), http=HttpClient(read_timeout_seconds=read_timeout_seconds), clock=clock, attempts_max=4
                )
                try:
                    return await story(client, server), server, client, clock
                finally:
                    await client.aclose()

    return asyncio.run(main())


async def describe_regions(client: AwsClient, _: Server | None = None) -> dict[str, Any]:
    return await client.call(KEYS, "ec2", "eu-west-1", "DescribeRegions", {})


async def ids_of_pages(client: AwsClient, _: Server) -> list[str]:
    pages = client.paginate(KEYS, "ec2", "eu-west-1", "DescribeInstances", {"MaxResults": 5}, INSTANCE_IDS)
    return [
        instance["InstanceId"]
        async for each in pages
        for reservation in each.get("Reservations", [])
        for instance in reservation["Instances"]
    ]


INSTANCE_IDS: Mapping[str, Any] = {"Reservations": {"Instances": {"InstanceId": None}}}
ONE_REGION = {"Regions": [{"RegionName": "eu-west-1"}]}


# -- one exchange


def test_a_call_is_a_signed_request_and_a_decoded_reply() -> None:
    result, server, client, _ = run([xml(regions("eu-west-1"))], describe_regions)
    assert result == ONE_REGION
    (request,) = server.received
    assert request.line == "POST / HTTP/1.1"
    assert parse_qs(request.body.decode())["Action"] == ["DescribeRegions"]
    claims = sigv4.parse_authorization(request.headers, "")
    assert (claims.access_key, claims.region, claims.service, claims.token) == (
        "AKIDEXAMPLE",
        "eu-west-1",
        "ec2",
        "token",
    )
    sigv4.verify(claims, "POST", "/", "", request.headers, request.body, "secret", now=NOW)
    assert (client.stats.calls, client.stats.attempts, client.stats.retries) == (1, 1, 0)
    assert client.stats.traffic.bytes_received > len(regions("eu-west-1"))


JSON = "Content-Type: application/x-amz-json-1.1"


def test_services_of_other_protocols_are_asked_in_their_own_way() -> None:
    async def story(client: AwsClient, server: Server) -> list[Any]:
        server.replies[:] = [
            Reply(http(200, b'{"Organization": {"Id": "o-1"}}', JSON)),
            Reply(http(200, b'{"Regions": [{"RegionName": "eu-west-1", "RegionOptStatus": "ENABLED"}]}', JSON)),
            Reply(http(400, b'{"__type": "AccessDeniedException", "Message": "no"}', JSON)),
        ]
        organization = await client.call(KEYS, "organizations", "us-east-1", "DescribeOrganization", {})
        listed = await client.call(KEYS, "account", "us-east-1", "ListRegions", {"MaxResults": 50})
        with pytest.raises(ServiceError, match="AccessDeniedException: no"):
            await client.call(KEYS, "organizations", "us-east-1", "DescribeOrganization", {})
        return [organization, listed]

    result, server, _, _ = run([Reply(b"")], story)
    assert result == [
        {"Organization": {"Id": "o-1"}},
        {"Regions": [{"RegionName": "eu-west-1", "RegionOptStatus": "ENABLED"}]},
    ]
    assert server.received[0].headers["x-amz-target"] == "AWSOrganizationsV20161128.DescribeOrganization"
    assert server.received[1].line == "POST /listRegions HTTP/1.1"


def test_accounts_share_one_connection_and_each_signs_for_itself() -> None:
    async def two(client: AwsClient, _: Server) -> None:
        for key in ("FIRST", "SECOND"):
            await client.call(Credentials(key, "s"), "ec2", "eu-west-1", "DescribeRegions", {})

    _, server, _, _ = run([xml(regions())], two)
    assert server.connections == 1
    assert [sigv4.parse_authorization(each.headers, "").access_key for each in server.received] == ["FIRST", "SECOND"]


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("form", ["length", "chunked", "until the end", "gzip", "chunked gzip"])
def test_every_framing_of_a_body_gives_the_same_result(form: str, size: int) -> None:
    ids = [f"i-{number:017x}" for number in range(size if size < 100 else 1500)]
    body = page(*ids).encode()
    kind = "Content-Type: text/xml"
    if "gzip" in form:
        body = gzip.compress(body)
        kind += "\r\nContent-Encoding: gzip"
    if "chunked" in form:
        step = max(1, len(body) // 5)
        pieces = [body[at : at + step] for at in range(0, len(body), step)]
        chunks = b"".join(f"{len(piece):x}\r\n".encode() + piece + b"\r\n" for piece in pieces) + b"0\r\n\r\n"
        reply = Reply(f"HTTP/1.1 200 OK\r\n{kind}\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + chunks)
    elif form == "until the end":
        reply = Reply(f"HTTP/1.1 200 OK\r\n{kind}\r\nConnection: close\r\n\r\n".encode() + body, close=True)
    else:
        reply = Reply(http(200, body, kind))
    result, _, _, _ = run([reply], ids_of_pages)
    assert result == ids


# -- damage on the way

CUT = [
    pytest.param(http(200, regions("eu-west-1").encode(), "Content-Type: text/xml", length=10_000), id="short body"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Ty", id="in the head"),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nContent-Type: text/xml\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n<Describe",
        id="in a chunk",
    ),
    pytest.param(
        http(
            200, gzip.compress(regions("eu-west-1").encode())[:60], "Content-Type: text/xml", "Content-Encoding: gzip"
        ),
        id="inside the compression",
    ),
]


@pytest.mark.parametrize("data", CUT)
def test_a_reply_cut_in_the_middle_is_asked_for_again(data: bytes) -> None:
    result, server, client, clock = run([Reply(data, close=True), xml(regions("eu-west-1"))], describe_regions)
    assert result == ONE_REGION
    assert len(server.received) == 2
    assert client.stats.retries == 1
    assert clock.slept == [0.25]


@pytest.mark.parametrize("data", CUT)
def test_a_reply_that_is_always_cut_is_unreachable_and_says_why(data: bytes) -> None:
    with pytest.raises(Unreachable, match=r"cut off in the middle") as broken:
        run([Reply(data, close=True)], describe_regions)
    assert broken.value.host == "127.0.0.1"
    assert broken.value.next_step


def test_a_head_cut_after_a_line_is_not_taken_for_an_empty_answer() -> None:
    async def story(client: AwsClient, _: Server) -> dict[str, Any]:
        return await client.call(KEYS, "organizations", "us-east-1", "ListAccounts", {})

    cut = Reply(f"HTTP/1.1 200 OK\r\n{JSON}\r\nContent-Le".encode(), close=True)
    assert run([cut, Reply(http(200, b'{"Accounts": [{"Id": "1"}]}', JSON))], story)[0] == {"Accounts": [{"Id": "1"}]}


def test_a_reply_without_its_end_tags_is_not_taken_for_a_short_list() -> None:
    whole = page("i-1", "i-2").encode()
    with pytest.raises(Unreachable, match="cannot be read as AWS's"):
        run([Reply(http(200, whole[: len(whole) // 2], "Content-Type: text/xml"))], ids_of_pages)


def test_a_page_that_is_not_aws_at_all_is_not_asked_for_again() -> None:
    login = Reply(http(200, b"<html><body>Please sign in<br></html>", "Content-Type: text/html"))

    async def story(client: AwsClient, server: Server) -> None:
        with pytest.raises(Unreachable, match=r"HTTP 200, text/html, starting `<html>") as refused:
            await describe_regions(client)
        assert "AWS_ENDPOINT_URL" in refused.value.next_step
        assert len(server.received) == 1

    run([login], story)


def test_a_gateway_that_cannot_reach_aws_is_asked_again() -> None:
    gateway = Reply(http(502, b"<html>Bad Gateway", "Content-Type: text/html"))
    result, server, _, _ = run([gateway, xml(regions("eu-west-1"))], describe_regions)
    assert result == ONE_REGION
    assert len(server.received) == 2


def test_what_is_not_http_is_said_so() -> None:
    with pytest.raises(Unreachable, match="not HTTP"):
        run([Reply(b"SSH-2.0-OpenSSH_9.6\r\n", close=True)], describe_regions)


@pytest.mark.parametrize("start", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n<Desc"])
def test_a_silent_host_is_given_up_after_the_read_timeout(start: bytes) -> None:
    with pytest.raises(Unreachable, match=r"silent for 0\.01 s"):
        run([Reply(start, silent=True)], describe_regions, read_timeout_seconds=0.01)


def test_a_pooled_connection_that_went_stale_is_replaced_without_a_word() -> None:
    async def story(client: AwsClient, server: Server) -> dict[str, Any]:
        await describe_regions(client)
        server.replies[:] = [Reply(b"", close=True), xml(regions("eu-west-1"))]
        return await describe_regions(client)

    result, server, client, clock = run([xml(regions())], story)
    assert result == ONE_REGION
    assert server.connections == 2
    assert (client.stats.attempts, clock.slept) == (2, [])


def test_a_connection_that_the_host_closed_at_rest_is_not_used() -> None:
    async def story(client: AwsClient, server: Server) -> dict[str, Any]:
        await describe_regions(client)
        server.hang_up()
        return await describe_regions(client)

    _, server, client, _ = run([xml(regions("eu-west-1"))], story)
    assert (server.connections, client.stats.attempts) == (2, 2)


def test_a_connection_whose_call_was_cancelled_is_not_used_again() -> None:
    async def story(client: AwsClient, server: Server) -> dict[str, Any]:
        call = asyncio.create_task(describe_regions(client))
        await server.asked.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        server.replies[:] = [xml(regions("eu-west-1"))]
        return await describe_regions(client)

    result, server, _, _ = run([Reply(b"HTTP/1.1 200 OK\r\n", silent=True)], story)
    assert result == ONE_REGION
    assert server.connections == 2


def test_a_machine_that_lets_nothing_more_be_opened_is_said_so() -> None:
    async def story(client: AwsClient, server: Server) -> None:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        last = os.open(os.devnull, os.O_RDONLY)
        resource.setrlimit(resource.RLIMIT_NOFILE, (last + 1, before[1]))
        try:
            with pytest.raises(Unreachable, match=r"lets nothing more be opened; raise `ulimit -n`") as refused:
                await describe_regions(client)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
            os.close(last)
        assert not refused.value.maybe_done
        assert await describe_regions(client) == ONE_REGION, "it says nothing of the host"

    run([xml(regions("eu-west-1"))], story)


def test_many_calls_share_few_connections() -> None:
    async def story(_: AwsClient, server: Server) -> list[bytes]:
        client = HttpClient(connections_per_host_max=3)
        request = HttpRequest("GET", "/", headers={"host": "h"})
        origin = Origin("http", "127.0.0.1", server.port)
        answers = await asyncio.gather(*(client.send(origin, request) for _ in range(50)))
        await client.aclose()
        return [answer.body for answer in answers]

    bodies, server, _, _ = run([Reply(http(200, b"body"))], story)
    assert bodies == [b"body"] * 50
    assert server.connections == 3


def test_waiting_for_a_connection_may_be_cancelled() -> None:
    async def story(_: AwsClient, server: Server) -> bytes:
        client = HttpClient(connections_per_host_max=1, read_timeout_seconds=0.05)
        request = HttpRequest("GET", "/", headers={"host": "h"})
        origin = Origin("http", "127.0.0.1", server.port)
        stuck = asyncio.create_task(client.send(origin, request))
        await server.asked.wait()
        waiting = [asyncio.create_task(client.send(origin, request)) for _ in range(2)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        server.replies[:] = [Reply(http(200, b"body"))]
        with pytest.raises(Unreachable):
            await stuck
        answer = await waiting[1]
        await client.aclose()
        return answer.body

    assert run([Reply(b"", silent=True)], story)[0] == b"body"


# -- what AWS answers


@pytest.mark.parametrize(
    ("code", "status"),
    [("RequestLimitExceeded", 503), ("Throttling", 400), ("InternalError", 500), ("Unavailable", 503)],
)
def test_throttling_and_server_errors_are_tried_again_later(code: str, status: int) -> None:
    replies = [refusal(code, status), refusal(code, status), xml(regions("eu-west-1"))]
    result, _, client, clock = run(replies, describe_regions)
    assert result == ONE_REGION
    assert clock.slept == [0.25, 0.5]
    assert client.stats.retries == 2


def test_patience_ends_with_what_aws_said() -> None:
    with pytest.raises(ServiceError, match="RequestLimitExceeded: slow down"):
        run([refusal("RequestLimitExceeded", 503, "slow down")], describe_regions)


@pytest.mark.parametrize(
    ("code", "status"), [("UnauthorizedOperation", 403), ("ExpiredToken", 403), ("AuthFailure", 401)]
)
def test_a_refusal_is_passed_on_at_once(code: str, status: int) -> None:
    async def story(client: AwsClient, server: Server) -> None:
        with pytest.raises(ServiceError) as refused:
            await describe_regions(client)
        assert (refused.value.code, refused.value.status, refused.value.request_id) == (code, status, "req")
        assert len(server.received) == 1

    run([refusal(code, status)], story)


async def create_key(client: AwsClient, _: Server) -> dict[str, Any]:
    return await client.call(KEYS, "ec2", "eu-west-1", "CreateKeyPair", {"KeyName": "k"})


KEY_MADE = xml("<CreateKeyPairResponse><keyName>k</keyName></CreateKeyPairResponse>")


@pytest.mark.parametrize("reply", [Reply(b"", close=True), refusal("InternalError", 500)])
def test_what_must_not_happen_twice_is_not_sent_again_when_it_may_have_happened(reply: Reply) -> None:
    async def story(client: AwsClient, server: Server) -> None:
        with pytest.raises((Unreachable, ServiceError)):
            await create_key(client, server)
        assert len(server.received) == 1

    run([reply], story)


def test_what_must_not_happen_twice_is_sent_again_when_aws_was_too_busy_to_look() -> None:
    result, server, _, _ = run([refusal("RequestLimitExceeded", 503), KEY_MADE], create_key)
    assert result["KeyName"] == "k"
    assert len(server.received) == 2


def test_an_idempotency_token_makes_a_write_repeatable_and_stays_the_same() -> None:
    async def story(client: AwsClient, _: Server) -> dict[str, Any]:
        params = {"LaunchTemplateId": "lt-1", "LaunchTemplateData": {"ImageId": "ami-1"}}
        return await client.call(KEYS, "ec2", "eu-west-1", "CreateLaunchTemplateVersion", params)

    made = xml("<CreateLaunchTemplateVersionResponse/>")
    _, server, _, _ = run([Reply(b"", close=True), refusal("InternalError", 500), made], story)
    tokens = {parse_qs(each.body.decode())["ClientToken"][0] for each in server.received}
    assert len(server.received) == 3
    assert len(tokens) == 1


# -- pages


def test_pages_are_followed_to_the_end_even_past_an_empty_one() -> None:
    replies = [xml(page("i-1", token="a")), xml(page(token="b")), xml(page("i-2"))]
    result, server, _, _ = run(replies, ids_of_pages)
    assert result == ["i-1", "i-2"]
    assert [parse_qs(each.body.decode()).get("NextToken") for each in server.received] == [None, ["a"], ["b"]]


def test_a_list_that_would_never_end_is_an_error() -> None:
    with pytest.raises(Unreachable, match="same page marker twice"):
        run([xml(page("i-1", token="a"))], ids_of_pages)


# -- before AWS is reached


def unreachable(url: str, **variables: str) -> Unreachable:
    async def main() -> Unreachable:
        with environment(AWS_ENDPOINT_URL=url, **variables):
            client = AwsClient(Profile(), clock=FakeClock(), attempts_max=1)
            with pytest.raises(Unreachable) as broken:
                await describe_regions(client)
            await client.aclose()
            return broken.value

    return asyncio.run(main())


def test_an_address_where_nothing_listens_says_how_to_start_the_local_aws() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    broken = unreachable(f"http://127.0.0.1:{port}")
    assert isinstance(broken, Futile)
    assert not broken.maybe_done
    assert "imdsctl local" in broken.next_step


def test_a_name_that_does_not_exist_is_said_so() -> None:
    broken = unreachable("http://nowhere.invalid")
    assert "name cannot be resolved" in broken.reason


def test_certificates_that_cannot_be_read_are_said_so() -> None:
    broken = unreachable("https://127.0.0.1:1", AWS_CA_BUNDLE="/nonexistent/ca.pem")
    assert "cannot be read" in broken.reason
    assert "AWS_CA_BUNDLE" in broken.next_step


def test_http_goes_through_the_proxy_that_the_environment_names() -> None:
    async def story(_: AwsClient, proxy: Server) -> dict[str, Any]:
        with environment(
            AWS_ENDPOINT_URL="http://ec2.example.com:81", HTTP_PROXY=f"http://me:pa%20ss@127.0.0.1:{proxy.port}"
        ):
            client = AwsClient(Profile(), clock=FakeClock())
            result = await describe_regions(client)
            await client.aclose()
            return result

    result, proxy, _, _ = run([xml(regions("eu-west-1"))], story)
    assert result == ONE_REGION
    (request,) = proxy.received
    assert request.line == "POST http://ec2.example.com:81/ HTTP/1.1"
    assert request.headers["host"] == "ec2.example.com:81"
    assert request.headers["proxy-authorization"] == "Basic bWU6cGEgc3M="


def test_https_asks_the_proxy_for_a_tunnel_and_says_when_it_refuses() -> None:
    async def story(_: AwsClient, proxy: Server) -> Unreachable:
        with environment(AWS_ENDPOINT_URL="https://ec2.example.com", HTTPS_PROXY=f"127.0.0.1:{proxy.port}"):
            client = AwsClient(Profile(), clock=FakeClock(), attempts_max=1)
            with pytest.raises(Unreachable) as broken:
                await describe_regions(client)
            await client.aclose()
            return broken.value

    broken, proxy, _, _ = run([Reply(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", close=True)], story)
    assert proxy.received[0].line == "CONNECT ec2.example.com:443 HTTP/1.1"
    assert "407" in broken.reason
    assert "proxy" in broken.reason


def test_no_proxy_is_honoured() -> None:
    async def story(_: AwsClient, server: Server) -> dict[str, Any]:
        with environment(AWS_ENDPOINT_URL=server.url, HTTP_PROXY="http://127.0.0.1:1", NO_PROXY="127.0.0.1"):
            client = AwsClient(Profile(), clock=FakeClock())
            result = await describe_regions(client)
            await client.aclose()
            return result

    assert run([xml(regions("eu-west-1"))], story)[0] == ONE_REGION


# -- TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file with the key and the certificate of `localhost`."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    key, made = (tmp_path_factory.mktemp("tls") / name for name in ("key.pem", "certificate.pem"))
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost"
    command += f" -addext subjectAltName=DNS:localhost -keyout {key} -out {made}"
    subprocess.run(command.split(), check=True, capture_output=True)
    made.write_text(made.read_text() + key.read_text())
    return made


def over_tls(certificate: Path, **variables: str) -> tuple[dict[str, Any], Server]:
    async def main() -> tuple[dict[str, Any], Server]:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate)
        async with Server([xml(regions("eu-west-1"))], tls=tls) as server:
            url = f"https://localhost:{server.port}"
            with environment(AWS_ENDPOINT_URL=url, **{"REQUESTS_CA_BUNDLE": "", **variables}):
                client = AwsClient(Profile(), clock=FakeClock())
                try:
                    await describe_regions(client)
                    return await describe_regions(client), server
                finally:
                    await client.aclose()

    return asyncio.run(main())


def test_https_keeps_its_connection_and_offers_compression(certificate: Path) -> None:
    result, server = over_tls(certificate, AWS_CA_BUNDLE=str(certificate))
    assert result == ONE_REGION
    assert server.connections == 1
    assert server.received[0].headers["accept-encoding"] == "gzip"


def test_a_certificate_that_is_not_trusted_is_said_so(certificate: Path) -> None:
    with pytest.raises(Futile, match=r"certificate is not trusted.*AWS_CA_BUNDLE"):
        over_tls(certificate)


def test_https_goes_through_the_tunnel_of_a_proxy(certificate: Path) -> None:
    async def main() -> tuple[dict[str, Any], list[bytes]]:
        asked: list[bytes] = []
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate)
        async with Server([xml(regions("eu-west-1"))], tls=tls) as server:

            async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                with suppress(ConnectionError):
                    while data := await reader.read(65_536):
                        writer.write(data)
                writer.close()

            async def tunnel(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                asked.append(await reader.readuntil(b"\r\n\r\n"))
                from_there, to_there = await asyncio.open_connection("127.0.0.1", server.port)
                writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                await asyncio.gather(pipe(reader, to_there), pipe(from_there, writer))
                for end in (to_there, writer):
                    with suppress(ConnectionError):
                        await end.wait_closed()
                finished.set()

            finished = asyncio.Event()
            proxy = await asyncio.start_server(tunnel, "127.0.0.1", 0)
            port = proxy.sockets[0].getsockname()[1]
            with environment(
                AWS_ENDPOINT_URL="https://localhost:444",
                AWS_CA_BUNDLE=str(certificate),
                HTTPS_PROXY=f"http://user:pass@127.0.0.1:{port}",
            ):
                client = AwsClient(Profile(), clock=FakeClock(), attempts_max=1)
                result = await describe_regions(client)
                await client.aclose()
            await finished.wait()
            proxy.close()
            await proxy.wait_closed()
            return result, asked

    result, asked = asyncio.run(main())
    assert result == ONE_REGION
    assert asked[0].startswith(b"CONNECT localhost:444 HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic dXNlcjpwYXNz\r\n" in asked[0]


# -- clocks, credentials and hosts that fail while a run is under way


def refused_at(code: str, status: int, date: str) -> Reply:
    reply = refusal(code, status)
    return Reply(reply.data.replace(b"\r\n", f"\r\nDate: {date}\r\n".encode(), 1))


SOON = "Wed, 04 Mar 2026 05:16:07 GMT"
"""Ten minutes after NOW."""


@pytest.mark.parametrize(
    "code", ["RequestExpired", "SignatureDoesNotMatch", "InvalidSignatureException", "AuthFailure"]
)
def test_a_clock_that_is_off_is_learned_from_the_refusal_and_the_user_is_told_once(code: str) -> None:
    warned: list[Diagnostic] = []

    async def story(client: AwsClient, server: Server) -> None:
        client._warn = warned.append
        for _ in range(3):
            assert await describe_regions(client) == ONE_REGION

    replies = [refused_at(code, 400, SOON), xml(regions("eu-west-1"))]
    _, server, _, clock = run(replies, story)
    assert [each.headers["x-amz-date"] for each in server.received] == ["20260304T050607Z", *["20260304T051607Z"] * 3]
    assert clock.slept == [], "nothing is waited for"
    assert [(each.code, each.severity) for each in warned] == [("clock-off", Severity.WARNING)]
    assert "10 minutes behind" in warned[0].summary


def test_many_calls_that_find_the_clock_off_at_once_correct_it_once() -> None:
    def by_date(request: Received) -> Reply:
        late = request.headers["x-amz-date"] == "20260304T050607Z"
        return refused_at("RequestExpired", 400, SOON) if late else xml(regions("eu-west-1"))

    async def story(client: AwsClient, server: Server) -> None:
        server.by_request = by_date
        await asyncio.gather(*(describe_regions(client) for _ in range(5)))
        assert client._targets["ec2", "eu-west-1"].ahead.total_seconds() == 600

    run([], story)


def test_a_signature_that_is_wrong_at_the_right_time_is_a_refusal() -> None:
    async def story(client: AwsClient, server: Server) -> None:
        with pytest.raises(ServiceError, match="SignatureDoesNotMatch"):
            await describe_regions(client)
        assert len(server.received) == 1

    run([refused_at("SignatureDoesNotMatch", 403, "Wed, 04 Mar 2026 05:07:07 GMT")], story)


def test_a_clock_that_stays_off_after_the_correction_is_a_refusal_and_no_loop() -> None:
    async def story(client: AwsClient, server: Server) -> None:
        with pytest.raises(ServiceError, match="InvalidSignatureException"):
            await describe_regions(client)
        assert len(server.received) == 2

    run([refused_at("InvalidSignatureException", 400, SOON)], story)


@pytest.mark.parametrize("code", ["ExpiredToken", "ExpiredTokenException", "RequestExpired"])
def test_expired_credentials_are_renewed_once_for_all_calls_that_find_out(code: str) -> None:
    renewals = 0

    async def renew() -> Credentials:
        nonlocal renewals
        renewals += 1
        await asyncio.sleep(0)
        return Credentials("FRESH", "secret", "token")

    stale = Credentials("STALE", "secret", "token", renew=renew)

    def by_key(request: Received) -> Reply:
        expired = sigv4.parse_authorization(request.headers, "").access_key == "STALE"
        refused = refused_at(code, 403, "Wed, 04 Mar 2026 05:06:07 GMT")
        return refused if expired else xml(regions("eu-west-1"))

    async def story(client: AwsClient, server: Server) -> None:
        server.by_request = by_key
        first = [client.call(stale, "ec2", "eu-west-1", "DescribeRegions", {}) for _ in range(4)]
        assert await asyncio.gather(*first) == [ONE_REGION] * 4
        sent = len(server.received)
        await client.call(stale, "ec2", "eu-west-1", "DescribeRegions", {})
        assert len(server.received) == sent + 1, "what took the place of the expired ones is remembered"

    _, _, client, clock = run([], story)
    assert (renewals, client.stats.renewed, clock.slept) == (1, 4, [])


def test_expired_credentials_that_cannot_be_renewed_are_a_refusal_with_both_reasons() -> None:
    async def renew() -> Credentials:
        raise ServiceError("AccessDenied", "the role was deleted", 403)

    async def story(client: AwsClient, server: Server) -> None:
        with pytest.raises(ServiceError, match=r"ExpiredToken: m New credentials could not be had: .*role was deleted"):
            await client.call(Credentials("STALE", "s", renew=renew), "ec2", "eu-west-1", "DescribeRegions", {})
        with pytest.raises(ServiceError, match=r"ExpiredToken: m$"):
            await describe_regions(client)

    run([refusal("ExpiredToken", 403)], story)


def test_the_users_own_credentials_are_read_again_when_they_have_expired(tmp_path: Path) -> None:
    keys = tmp_path / "credentials"

    def sign_in(key: str) -> None:
        keys.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = s\naws_session_token = t\n")

    async def story(client: AwsClient, server: Server) -> list[str]:
        os.environ["AWS_SHARED_CREDENTIALS_FILE"] = str(keys)
        sign_in("STALE")
        with pytest.raises(ServiceError, match="ExpiredToken"):
            await client.call(None, "ec2", "eu-west-1", "DescribeRegions", {})
        sign_in("FRESH")
        server.replies[:] = [refusal("ExpiredToken", 403), xml(regions("eu-west-1"))]
        assert await client.call(None, "ec2", "eu-west-1", "DescribeRegions", {}) == ONE_REGION
        return [sigv4.parse_authorization(each.headers, "").access_key for each in server.received]

    assert run([refusal("ExpiredToken", 403)], story)[0] == ["STALE", "STALE", "FRESH"]


def test_a_host_that_says_nothing_is_left_alone_then_probed_then_asked_again() -> None:
    async def story(client: AwsClient, server: Server) -> None:
        with pytest.raises(Unreachable, match="closed before a reply"):
            await asyncio.gather(*(describe_regions(client) for _ in range(FAILURES_MAX)))
        before = len(server.received)
        assert before > FAILURES_MAX, "many failures at the same moment are one disturbance, and worth another try"
        client._clock.slept.append(SILENT_SECONDS_MIN)  # type: ignore[attr-defined]
        with pytest.raises(Unreachable, match="closed before a reply"):
            await describe_regions(client)
        assert len(server.received) == before + 1
        with pytest.raises(Unreachable, match=r"did not answer \d+ times in a row") as left_alone:
            await describe_regions(client)
        assert not left_alone.value.maybe_done, "nothing was sent"
        assert len(server.received) == before + 1
        with pytest.raises(Unreachable, match="closed before a reply"):
            await client.call(KEYS, "ec2", "us-east-1", "DescribeRegions", {})
        assert len(server.received) > before + 1, "another Region is asked"
        client._clock.slept.append(COOL_DOWN_SECONDS)  # type: ignore[attr-defined]
        server.replies[:] = [xml(regions("eu-west-1"))]
        assert await describe_regions(client) == ONE_REGION
        assert await describe_regions(client) == ONE_REGION

    run([Reply(b"", close=True)], story)


def test_a_call_that_was_sent_stays_in_doubt_whatever_its_other_attempts_come_to() -> None:
    async def modify(client: AwsClient, _: Server) -> None:
        await client.call(KEYS, "ec2", "eu-west-1", "ModifyInstanceMetadataDefaults", {"HttpTokens": "required"})

    for last in (refusal("RequestLimitExceeded", 503), Reply(b"", close=True)):
        with pytest.raises(Unreachable) as broken:
            run([Reply(b"", close=True), last], modify)
        assert broken.value.maybe_done


def test_a_call_ends_in_time_although_every_piece_of_its_reply_comes_in_time() -> None:
    async def story(client: AwsClient, server: Server) -> None:
        http_client = HttpClient(read_timeout_seconds=60)
        origin = Origin("http", "127.0.0.1", server.port)
        with pytest.raises(Unreachable, match="time for the call was over"):
            await http_client.send(origin, HttpRequest("GET", "/", headers={"host": "h"}), seconds_max=0.01)
        await http_client.aclose()

    run([Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", silent=True)], story)


def test_calls_wait_for_their_bucket_instead_of_being_throttled() -> None:
    async def story(client: AwsClient, server: Server) -> None:
        for _ in range(4):
            await client.call(KEYS, "ec2", "eu-west-1", "ModifyInstanceMetadataDefaults", {"HttpTokens": "required"})

    done = xml("<ModifyInstanceMetadataDefaultsResponse><return>true</return></ModifyInstanceMetadataDefaultsResponse>")
    _, _, client, clock = run([done], story)
    assert clock.slept == [0.5, 0.5]
    assert client.stats.waited_seconds == 1.0
