"""The metadata server over real sockets: the attack suite byte for byte, and clients that are slow, greedy or gone.

Nothing sleeps: where time has to pass, the event loop's clock is moved.
"""

from __future__ import annotations

import asyncio
import random
import resource
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from typing import Any

import pytest
import uvloop
from tests.contract.needs import missing
from tests.unit.imds.attacks import INSTANCE, KEY, NOW, ROLE, SECRET, STRICT, Attack, attacks

from imdsctl.adapters import metadata_server
from imdsctl.adapters.metadata_server import CONNECTION_SECONDS_MAX, MetadataServer, Peer
from imdsctl.domain.options import MetadataOptions
from imdsctl.imds.facts import RoleCredentials
from imdsctl.imds.fixed import FixedSource, example_facts
from imdsctl.imds.messages import Access, Reply, Request
from imdsctl.imds.service import MetadataService

SECONDS_MAX = 20.0
"""How long a test waits before it fails; none comes near."""
GET = b"GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: x\r\n\r\n"
HELLO = Reply(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, Access.V1, "/")


def always(reply: Reply) -> Callable[[Request, Peer], Reply]:
    return lambda request, peer: reply


# -- the attack suite --------------------------------------------------------------------------------------------------


class Victim:
    """A server whose one service is what the next attack needs."""

    def __init__(self) -> None:
        self.port = 0
        self.service = self.with_options(MetadataOptions.from_aws(STRICT))
        self.ipv6 = False
        self.accesses: list[Access] = []

    @staticmethod
    def with_options(options: MetadataOptions) -> MetadataService:
        at = datetime.fromtimestamp(NOW, UTC)

        def issue(role: str, delivery: str, now: float) -> RoleCredentials:
            return RoleCredentials(at, "ASIAEXAMPLE", SECRET, "session", at)

        return MetadataService(FixedSource(options, example_facts(role=ROLE, instance_id=INSTANCE), issue), KEY)

    def respond(self, request: Request, peer: Peer) -> Reply:
        request = Request(request.method, request.target, request.headers, self.ipv6)
        return self.service.respond(request, NOW)

    def send(self, *pieces: bytes) -> bytes:
        """What comes back to the end of the connection."""
        with socket.create_connection(("127.0.0.1", self.port), SECONDS_MAX) as client:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for piece in pieces:
                client.sendall(piece)
            arrived = b""
            while data := client.recv(65536):
                arrived += data
        return arrived


@pytest.fixture(scope="module", params=[asyncio, uvloop], ids=["asyncio", "uvloop"])
def victim(request: pytest.FixtureRequest) -> Iterator[Victim]:
    """A server in a thread: the attacker's sockets block, as an attacker's do."""
    made = Victim()
    loop = request.param.new_event_loop()
    problems: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: problems.append(context))
    server = MetadataServer(
        made.respond, seen=lambda peer, request, reply: made.accesses.append(reply.access), clock=lambda: NOW
    )
    listener = socket.create_server(("127.0.0.1", 0))
    made.port = listener.getsockname()[1]
    loop.run_until_complete(server.start([listener]))
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    yield made
    asyncio.run_coroutine_threadsafe(server.close(), loop).result(SECONDS_MAX)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(SECONDS_MAX)
    loop.close()
    assert problems == []


def pieces_of(raw: bytes, seed: str) -> list[bytes]:
    """The same bytes in a few packets."""
    chance = random.Random(seed)
    cuts = sorted(chance.randrange(1, len(raw)) for _ in range(3))
    return [raw[start:end] for start, end in zip([0, *cuts], [*cuts, len(raw)], strict=True)]


@pytest.mark.parametrize("attack", [pytest.param(each, id=each.name) for each in attacks()])
def test_nothing_leaves_through_the_socket_that_must_not(attack: Attack, victim: Victim) -> None:
    victim.service, victim.ipv6 = victim.with_options(attack.options), attack.ipv6
    for pieces in ([attack.raw], pieces_of(attack.raw, attack.name)):
        victim.accesses.clear()
        arrived = victim.send(*pieces)
        if attack.status == 0:
            assert arrived == b""
        else:
            assert arrived.startswith(f"HTTP/1.1 {attack.status} ".encode()), attack.must_not
        assert arrived.count(b"HTTP/1.1") == (attack.status != 0)
        assert (SECRET.encode() in arrived) == (attack.gives == "credentials"), attack.must_not
        if attack.access is not None:
            assert victim.accesses == [attack.access]


V1_CREDENTIALS = b"GET /latest/meta-data/iam/security-credentials/web HTTP/1.1\r\nHost: x\r\n\r\n"
PUT_HEAD = b"PUT /latest/api/token HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n"


@pytest.mark.parametrize(
    ("raw", "status"),
    [
        pytest.param(GET + V1_CREDENTIALS, 401, id="two requests in one packet"),
        pytest.param(GET * 500, 401, id="five hundred requests"),
        pytest.param(PUT_HEAD + b"\r\n" + V1_CREDENTIALS, 200, id="a token, and a request that has not read it"),
        pytest.param(
            PUT_HEAD + b"Content-Length: %d\r\n\r\n" % len(V1_CREDENTIALS) + V1_CREDENTIALS, 200, id="a request as body"
        ),
        pytest.param(PUT_HEAD + b"Content-Length: 5\r\n\r\n" + V1_CREDENTIALS, 200, id="a body longer than its length"),
        pytest.param(PUT_HEAD + b"Content-Length: 0\r\n\r\n", 200, id="a body of nothing"),
        pytest.param(
            PUT_HEAD + b"Content-Length: 0\r\nContent-Length: 9\r\n\r\n", 400, id="two lengths, the first of them 0"
        ),
        pytest.param(b"\r\n" + GET, 400, id="an empty line first"),
        pytest.param(GET.replace(b"\r\n", b"\n"), 0, id="bare line feeds: no head that ever ends"),
        pytest.param(GET.replace(b"Host: x", b"A: " + b"b" * 20_000), 400, id="a header of 20,000 bytes"),
        pytest.param(b"GET /" + b"a" * 100_000, 400, id="a line that does not end"),
        pytest.param(GET.replace(b"Host: x\r\n", b"A: b\r\n" * 101), 400, id="101 headers"),
        pytest.param(PUT_HEAD + b"Content-Length: 16385\r\n\r\n" + b"x" * 16385, 400, id="a body of 16 KiB and a byte"),
        pytest.param(PUT_HEAD + b"Content-Length: 99999999999999999999\r\n\r\n", 400, id="a length beyond all memory"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400, id="TLS"),
        pytest.param(bytes(range(256)) + b"\r\n\r\n", 400, id="every byte"),
    ],
)
def test_a_connection_has_one_request_and_one_answer(raw: bytes, status: int, victim: Victim) -> None:
    """What follows is never answered, and never takes the answer away."""
    victim.service, victim.ipv6 = victim.with_options(MetadataOptions.from_aws(STRICT)), False
    with socket.create_connection(("127.0.0.1", victim.port), SECONDS_MAX) as client:
        client.sendall(raw)
        client.shutdown(socket.SHUT_WR)
        arrived = b""
        while data := client.recv(65536):
            arrived += data
    assert arrived.count(b"HTTP/1.1") == (status != 0)
    assert arrived.startswith(b"HTTP/1.1 %d" % status if status else b"")
    assert SECRET.encode() not in arrived


def test_a_request_that_comes_byte_by_byte_is_a_request(victim: Victim) -> None:
    victim.service, victim.ipv6 = victim.with_options(MetadataOptions.from_aws(STRICT)), False
    raw = PUT_HEAD + b"Content-Length: 3\r\n\r\nabc"
    assert victim.send(*(raw[index : index + 1] for index in range(len(raw)))).startswith(b"HTTP/1.1 200")


# -- clients that do not behave ----------------------------------------------------------------------------------------


class MovedLoop(asyncio.SelectorEventLoop):
    """A loop whose time can be moved."""

    moved = 0.0

    def time(self) -> float:
        return super().time() + self.moved


def in_a_loop(test: Callable[[], Awaitable[None]], problems: list[dict[str, Any]] | None = None) -> None:
    """Run a test in a loop of its own; `problems` takes what is reported to it, otherwise nothing may be."""
    seen: list[dict[str, Any]] = [] if problems is None else problems
    with asyncio.Runner(loop_factory=MovedLoop) as runner:
        runner.get_loop().set_exception_handler(lambda _, context: seen.append(context))

        async def bounded() -> None:
            async with asyncio.timeout(SECONDS_MAX + 10 * CONNECTION_SECONDS_MAX):
                await test()

        runner.run(bounded())
    assert problems is not None or seen == []


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@asynccontextmanager
async def serving(server: MetadataServer, host: str = "127.0.0.1") -> Any:
    """Gives what opens connections to it."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, 0), family=family, dualstack_ipv6=host == "::")
    port = listener.getsockname()[1]
    await server.start([listener])
    writers = []

    async def connect(to: str = host, **options: Any) -> Streams:
        reader, writer = await asyncio.open_connection(to, port, **options)
        writers.append(writer)
        return reader, writer

    try:
        yield connect
    finally:
        for writer in writers:
            writer.close()
        await server.close()


def move(seconds: float) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, MovedLoop)
    loop.moved += seconds


async def accepted(server: MetadataServer, count: int) -> None:
    """Until so many connections wait."""
    while len(server._waiting) != count:  # noqa: ASYNC110 - nothing tells of it, and nothing should
        await asyncio.sleep(0)


@pytest.mark.parametrize("begun", [b"G", GET[:-1], PUT_HEAD + b"Content-Length: 3\r\n\r\nab"])
def test_a_request_that_does_not_end_is_closed_after_its_time(begun: bytes) -> None:
    async def test() -> None:
        server = MetadataServer(always(HELLO))
        async with serving(server) as connect:
            reader, writer = await connect()
            writer.write(begun)
            await accepted(server, 1)
            move(CONNECTION_SECONDS_MAX - 1)
            for _ in range(3):
                await asyncio.sleep(0)
            assert len(server._waiting) == 1
            move(2)
            assert await reader.read() == b""
            assert not server._waiting

    in_a_loop(test)


def test_a_client_that_trickles_gets_no_more_time_for_it() -> None:
    async def test() -> None:
        server = MetadataServer(always(HELLO))
        async with serving(server) as connect:
            reader, writer = await connect()
            for byte in GET[: int(CONNECTION_SECONDS_MAX) + 2]:
                writer.write(bytes((byte,)))
                await asyncio.sleep(0)
                move(1)
            assert await reader.read() == b""

    in_a_loop(test)


def test_a_client_that_never_reads_is_closed_after_its_time() -> None:
    async def test() -> None:
        large = Reply(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (64 << 20), 200, Access.V1, "/")
        server = MetadataServer(always(large))
        async with serving(server) as connect:
            reader, writer = await connect(limit=1)
            writer.transport.pause_reading()
            writer.write(GET)
            await accepted(server, 1)
            move(CONNECTION_SECONDS_MAX + 1)
            await accepted(server, 0)
            assert reader is not None

    in_a_loop(test)


def test_an_answer_larger_than_any_buffer_arrives_whole() -> None:
    async def test() -> None:
        body = random.Random(1).randbytes(16 << 20)
        async with serving(MetadataServer(always(Reply(body, 200, Access.V1, "/")))) as connect:
            reader, writer = await connect()
            writer.write(GET)
            writer.write_eof()  # a client that says no more still listens
            assert await reader.read() == body

    in_a_loop(test)


def test_connections_beyond_the_limit_are_closed_and_the_others_served(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata_server, "CONNECTIONS_MAX", 3)

    async def test() -> None:
        server = MetadataServer(always(HELLO))
        async with serving(server) as connect:
            slow = []
            for count in (1, 2, 3):
                slow.append(await connect())
                slow[-1][1].write(GET[:10])
                await accepted(server, count)
            reader, writer = await connect()
            writer.write(GET[:10])
            assert await reader.read() == b""
            # Who asks at once takes no place.
            reader, writer = await connect()
            writer.write(GET)
            assert await reader.read() == HELLO.content
            for reader, writer in slow:
                writer.write(GET[10:])
                assert await reader.read() == HELLO.content

    in_a_loop(test)


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as lowest_free:
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest_free.fileno(), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_a_process_without_a_descriptor_left_serves_again_when_it_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = 0

    async def test() -> None:
        nonlocal tried
        server = MetadataServer(always(HELLO))
        listen = server._listen

        def counted(listener: socket.socket) -> None:
            nonlocal tried
            tried += 1
            listen(listener)

        monkeypatch.setattr(server, "_listen", counted)
        async with serving(server) as connect:
            reader, writer = await connect()
            with no_descriptor_left():
                writer.write(GET)
                for _ in range(20):
                    await asyncio.sleep(0)
                assert tried == 1  # it does not spin
            move(1)
            assert await reader.read() == HELLO.content

    in_a_loop(test)
    assert tried == 2


# -- responders --------------------------------------------------------------------------------------------------------


def test_an_answer_may_be_waited_for() -> None:
    async def test() -> None:
        release = asyncio.Event()

        async def respond(request: Request, peer: Peer) -> Reply:
            await release.wait()
            return HELLO

        async with serving(MetadataServer(respond)) as connect:
            reader, writer = await connect()
            writer.write(GET)
            writer.write_eof()
            await asyncio.sleep(0)
            release.set()
            assert await reader.read() == HELLO.content

    in_a_loop(test)


def test_a_lost_connection_behind_the_answer_closes_without_a_word() -> None:
    async def test() -> None:
        async def respond(request: Request, peer: Peer) -> Reply:
            raise ConnectionResetError

        async with serving(MetadataServer(respond)) as connect:
            reader, writer = await connect()
            writer.write(GET)
            assert await reader.read() == b""

    in_a_loop(test)


@pytest.mark.parametrize("waits", [False, True])
def test_a_bug_is_reported_closes_its_connection_and_no_other(waits: bool) -> None:
    problems: list[dict[str, Any]] = []

    def respond(request: Request, peer: Peer) -> Any:
        if request.target == b"/fine":
            return HELLO

        async def later() -> Reply:
            raise ZeroDivisionError

        if waits:
            return later()
        raise ZeroDivisionError

    async def test() -> None:
        async with serving(MetadataServer(respond)) as connect:
            for raw, answer in ((GET, b""), (b"GET /fine HTTP/1.0\r\n\r\n", HELLO.content)):
                reader, writer = await connect()
                writer.write(raw)
                assert await reader.read() == answer

    in_a_loop(test, problems)
    assert [type(each["exception"]) for each in problems] == [ZeroDivisionError]


def test_a_server_that_closes_leaves_nobody_waiting() -> None:
    async def test() -> None:
        async def respond(request: Request, peer: Peer) -> Reply:
            await asyncio.get_running_loop().create_future()
            raise AssertionError

        server = MetadataServer(respond)
        async with serving(server) as connect:
            asking, sending = await connect(), await connect()
            asking[1].write(GET)
            sending[1].write(GET[:5])
            await accepted(server, 2)
            await server.close()
            assert [await reader.read() for reader, _ in (asking, sending)] == [b"", b""]

    in_a_loop(test)


@pytest.mark.parametrize(
    ("bound", "to", "ipv6"),
    [("127.0.0.1", "127.0.0.1", False), ("::1", "::1", True), ("::", "::1", True), ("::", "127.0.0.1", False)],
)
def test_a_peer_says_who_asks_and_whom(bound: str, to: str, ipv6: bool) -> None:
    """Also where one socket is for both families and shows IPv4's addresses as IPv6's."""
    if not socket.has_dualstack_ipv6():
        missing("there is no IPv6")
    asked = []

    async def test() -> None:
        def respond(request: Request, peer: Peer) -> Reply:
            asked.append((request.ipv6, peer.ipv6, peer.address, peer.local))
            return HELLO

        async with serving(MetadataServer(respond), bound) as connect:
            reader, writer = await connect(to)
            writer.write(GET)
            await reader.read()
            own, server = writer.get_extra_info("sockname")[:2], writer.get_extra_info("peername")[:2]
            assert asked == [(ipv6, ipv6, (to, own[1]), (to, server[1]))]

    in_a_loop(test)


def test_everything_that_was_answered_is_seen_before_it_leaves() -> None:
    seen: list[tuple[str | None, int]] = []

    async def test() -> None:
        def tell(peer: Peer, request: Request | None, reply: Reply) -> None:
            seen.append((request and request.method, reply.status))

        async with serving(MetadataServer(always(HELLO), seen=tell, clock=time.time)) as connect:
            for raw in (GET, b"nonsense\r\n\r\n"):
                reader, writer = await connect()
                writer.write(raw)
                await reader.read()

    in_a_loop(test)
    assert seen == [("GET", 200), (None, 400)]
