"""Bytes that are no HTTP, over real sockets: answered in HTTP or hung up on, while everybody else is served."""

from __future__ import annotations

import asyncio
import os
import random
import socket
import struct
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from imdsctl.adapters.http_server import BODY_BYTES_MAX, HEADER_BYTES_MAX, HEADERS_COUNT_MAX, HttpServer
from imdsctl.adapters.local_server import local_aws
from imdsctl.local.generator import make_world
from imdsctl.local.paths import STATUS_PATH
from imdsctl.local.spec import WorldSpec

CONVERSATIONS = int(os.environ.get("IMDSCTL_SOAK_REQUESTS", "5000")) // 10
SEED = int(os.environ.get("IMDSCTL_SOAK_SEED", "1"))
NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
ANSWER_SECONDS_MAX = 20.0
GOOD = f"GET {STATUS_PATH} HTTP/1.1\r\nhost: x\r\n\r\n".encode()
POST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 34\r\n\r\nAction=Describe&Version=2016-11-15"
CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n4\r\nActi\r\n2\r\non\r\n0\r\n\r\n"
STARTS = (
    GOOD,
    POST,
    CHUNKED,
    GOOD * 5 + POST,
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
)
WORDS = (
    *(
        b"\r\n",
        b"\n",
        b"\r",
        b"\x00",
        b"\xff",
        b" ",
        b":",
        b"\r\n\r\n",
        b"HTTP/9.9",
        b"HTTP/1.0",
        b"GET",
        b"%00",
        b"#",
        b"?",
    ),
    *(b"content-length: -1\r\n", b"content-length: 99999999999999999999\r\n", b"content-length: 1\r\n", b"a" * 3000),
    *(b"transfer-encoding: chunked\r\n", b"transfer-encoding: gzip\r\n", b"connection: close\r\n", b"upgrade: h2c\r\n"),
    *(
        b"expect: 100-continue\r\n",
        b"expect: x\r\n",
        b"connection: upgrade\r\n",
        b"ffffffffffffffff\r\n",
        b"-1\r\n",
        b"zz\r\n",
    ),
    *(
        b"authorization: AWS4-HMAC-SHA256 Credential=a/20261124/us-east-1/ec2/aws4_request\r\n",
        b"x:\r\n y\r\n",
        b"http://y/",
    ),
)


Exchange = Callable[..., Awaitable[bytes]]


def serving(talk: Callable[[HttpServer, Exchange], Awaitable[None]]) -> None:
    """Serve a local AWS on a socket while `talk` talks to it; no bug may be reported, no connection left."""
    bugs: list[Any] = []
    aws = local_aws(make_world(WorldSpec(seed=11, created=NOON, accounts=2)), clock=lambda: NOON, report=bugs.append)

    async def run() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: bugs.append(context))
        server = HttpServer(aws.handle)
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]
            await server.start(listener)

            async def exchange(*pieces: bytes, end: bool = True) -> bytes:
                """Send the pieces, say that nothing more comes, and read until the server hangs up."""
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                try:
                    for piece in pieces:
                        writer.write(piece)
                        await writer.drain()
                        await asyncio.sleep(0)  # a turn of the loop, so that the pieces arrive one by one
                    if end:
                        writer.write_eof()
                    return await asyncio.wait_for(reader.read(), ANSWER_SECONDS_MAX)
                except TimeoutError:
                    raise AssertionError(f"no answer and no end to {pieces!r:.500}") from None
                except OSError:
                    return b""  # hung up in the middle of what we said
                finally:
                    writer.close()

            await talk(server, exchange)
            for _ in range(100):
                await asyncio.sleep(0)
            assert not server._connections
            await server.close()

    asyncio.run(run())
    assert bugs == []
    assert aws.world.sequence == 0


def statuses(answer: bytes) -> list[int]:
    """The statuses of all the responses in an answer; each must be whole."""
    found = []
    while answer:
        head, separator, rest = answer.partition(b"\r\n\r\n")
        assert separator, answer[:300]
        first, *lines = head.split(b"\r\n")
        version, status, _ = first.split(b" ", 2)
        assert version == b"HTTP/1.1"
        found.append(int(status))
        fields = dict(line.lower().split(b": ", 1) for line in lines)
        answer = rest[int(fields.get(b"content-length", b"0")) :] if found[-1] != 100 else rest
    return found


def hostile(chance: random.Random) -> list[bytes]:
    """A conversation: something that begins well, with words put in, bytes exchanged and the end cut, in pieces."""
    data = bytearray(chance.choice(STARTS))
    for _ in range(chance.randrange(5)):
        place = chance.randrange(len(data) + 1)
        if chance.random() < 0.6:
            data[place:place] = chance.choice(WORDS) * chance.choice((1, 1, 2, 40))
        elif place < len(data):
            data[place] = chance.randrange(256)
    if chance.random() < 0.3:
        del data[chance.randrange(len(data) + 1) :]
    cuts = sorted(chance.randrange(len(data) + 1) for _ in range(chance.choice((0, 0, 1, 3, 20))))
    return [bytes(data[start:end]) for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]


@pytest.mark.slow
def test_whatever_the_bytes_the_answer_is_http_and_no_5xx() -> None:
    chance = random.Random(SEED)

    async def talk(server: HttpServer, exchange: Exchange) -> None:
        for number in range(CONVERSATIONS):
            pieces = hostile(chance)
            answer = await exchange(*pieces)
            if b"HEAD" not in b"".join(pieces):
                assert all(status < 500 for status in statuses(answer)), (number, pieces, answer)
        assert statuses(await exchange(GOOD)) == [200]

    serving(talk)


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ((b"GET / HTTP/1.1\r\nx: " + b"a" * (HEADER_BYTES_MAX + 1), b"a"), [431]),
        ((b"GET /" + b"a" * (HEADER_BYTES_MAX + 1),), [431]),
        ((b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * (HEADERS_COUNT_MAX + 2),), [431]),
        ((b"POST / HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % (BODY_BYTES_MAX + 1),), [413]),
        ((b"POST / HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n",), [400]),
        ((b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",), [400]),
        ((b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\nffffffffffffffffff\r\n",), [400]),
        ((b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",), [400]),
        ((b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",), [400]),
    ],
)
def test_what_goes_beyond_a_limit_is_refused_at_once(sent: tuple[bytes, ...], expected: list[int]) -> None:
    async def talk(server: HttpServer, exchange: Exchange) -> None:
        # The other side does not say that it is done: the server must not wait for it.
        assert statuses(await exchange(*sent, end=False)) == expected

    serving(talk)


def test_requests_in_one_piece_or_byte_by_byte_get_the_same_answers_in_order() -> None:
    async def talk(server: HttpServer, exchange: Exchange) -> None:
        together = GOOD + CHUNKED + POST + GOOD
        whole = statuses(await exchange(together))
        assert (len(whole), whole[0], whole[-1]) == (4, 200, 200)
        assert statuses(await exchange(*(bytes([byte]) for byte in together))) == whole

    serving(talk)


def test_a_client_that_stays_silent_keeps_nobody_waiting() -> None:
    async def talk(server: HttpServer, exchange: Exchange) -> None:
        port = server._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(50)]
        for number, (_, writer) in enumerate(silent):
            writer.write(POST[:number])
        assert statuses(await exchange(GOOD)) == [200]
        for _, writer in silent:  # and goes away in the rudest way: a reset instead of an end
            connected = writer.get_extra_info("socket")
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.close()
        assert statuses(await exchange(GOOD)) == [200]

    serving(talk)
