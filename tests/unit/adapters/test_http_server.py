"""The HTTP server, spoken to in bytes over a transport that only remembers what was written."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from imdsctl.adapters.http_server import BODY_BYTES_MAX, DRIPS, HEADER_BYTES_MAX, Connection, HttpServer
from imdsctl.local.adversary import Delivery, Manner
from imdsctl.wire.http import HttpRequest, HttpResponse


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.closed = False
        self.aborted = False
        self.paused = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def write(self, data: Any) -> None:
        self.written.append(bytes(data))

    def writelines(self, pieces: Any) -> None:
        self.written.extend(pieces)

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False


class Journal:
    """A journal whose disk is as slow, or as full, as a test wants."""

    def __init__(self, error: OSError | None = None) -> None:
        self.position = 0
        self.synced: list[int] = []
        self.error = error

    def sync(self) -> None:
        if self.error:
            raise self.error
        self.synced.append(self.position)


def echo(request: HttpRequest) -> HttpResponse:
    return HttpResponse(200, {"x-method": request.method}, f"{request.path}?{request.query}".encode() + request.body)


def talk(*pieces: bytes, handler: Any = echo) -> tuple[bytes, Transport]:
    """What the server writes when these bytes arrive one after the other."""

    async def conversation() -> Transport:
        connection, transport = Connection(HttpServer(handler)), Transport()
        connection.connection_made(transport)
        for piece in pieces:
            connection.data_received(piece)
        return transport

    transport = asyncio.run(conversation())
    return b"".join(transport.written), transport


GET = b"GET /a?b=c HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhello"
CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_head_and_body_leave_in_one_write() -> None:
    _, transport = talk(GET)
    assert transport.written == [b"HTTP/1.1 200 OK\r\nx-method: GET\r\ncontent-length: 6\r\n\r\n/a?b=c"]
    assert not transport.closed


def test_a_large_body_leaves_in_its_pieces_without_a_copy() -> None:
    pieces = [b"a" * 50_000, b"b" * 50_000]
    answer, transport = talk(GET, handler=lambda request: HttpResponse(200, {}, pieces))
    assert answer == b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n" + b"".join(pieces)
    assert [written is piece for written, piece in zip(transport.written[1:], pieces, strict=True)] == [True, True]


def test_a_body_of_many_small_pieces_is_put_together() -> None:
    answer, transport = talk(GET, handler=lambda request: HttpResponse(200, {}, [b"abc"] * 50_000))
    assert answer.endswith(b"content-length: 150000\r\n\r\n" + b"abc" * 50_000)
    assert len(transport.written) == 1


@pytest.mark.parametrize("message", [GET, POST, CHUNKED])
def test_byte_by_byte_is_the_same_as_at_once(message: bytes) -> None:
    assert talk(*(message[i : i + 1] for i in range(len(message))))[0] == talk(message)[0]


def test_a_chunked_body_is_put_together() -> None:
    assert talk(CHUNKED)[0].endswith(b"\r\n\r\n/?hello")


def test_pipelined_requests_are_answered_in_order() -> None:
    answer, _ = talk(GET + POST + GET.replace(b"/a", b"/z"))
    assert [part.partition(b"HTTP")[0] for part in answer.split(b"\r\n\r\n")[1:]] == [b"/a?b=c", b"/?hello", b"/z?b=c"]


def test_a_client_that_waits_for_100_continue_gets_it() -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
    assert talk(head)[0] == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert talk(head, b"hi")[0].endswith(b"/?hi")


def test_connection_close_is_obeyed() -> None:
    answer, transport = talk(GET.replace(b"host: x", b"host: x\r\nconnection: close"))
    assert b"connection: close\r\n" in answer
    assert transport.closed


def test_http_1_0_is_closed_after_its_answer() -> None:
    assert talk(b"GET / HTTP/1.0\r\n\r\n")[1].closed


def test_a_head_request_gets_no_body() -> None:
    assert talk(GET.replace(b"GET", b"HEAD"))[0].endswith(b"content-length: 6\r\n\r\n")


def test_a_wish_for_http_2_is_passed_over() -> None:
    wish = GET.replace(b"host: x", b"host: x\r\nconnection: Upgrade, HTTP2-Settings\r\nupgrade: h2c")
    answer, _ = talk(wish + GET)
    assert answer.count(b"HTTP/1.1 200") == 2


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: ten\r\n\r\n", 400),
        (f"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: {BODY_BYTES_MAX + 1}\r\n\r\n".encode(), 413),
        (b"GET / HTTP/1.1\r\nhost: x\r\nexpect: miracles\r\n\r\n", 417),
        (b"GET / HTTP/1.1\r\nlong: " + b"x" * HEADER_BYTES_MAX + b"\r\n\r\n", 431),
        (b"GET /" + b"x" * HEADER_BYTES_MAX + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"h%d: v\r\n" % i for i in range(300)) + b"\r\n", 431),
    ],
)
def test_what_cannot_be_served_is_refused_and_hung_up_on(message: bytes, expected: int) -> None:
    answer, transport = talk(message)
    assert status(answer) == expected
    assert transport.closed


def test_an_endless_header_is_cut_off() -> None:
    answer, transport = talk(b"GET / HTTP/1.1\r\nendless: ", *[b"x" * 4096] * (HEADER_BYTES_MAX // 4096 + 2))
    assert status(answer) == 431
    assert transport.closed


def test_an_endless_chunked_body_is_cut_off() -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    piece = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    answer, _ = talk(head, *[piece] * (BODY_BYTES_MAX // 0x10000 + 1))
    assert status(answer) == 413


def test_nothing_is_read_from_a_client_that_does_not_read() -> None:
    async def conversation() -> list[bool]:
        connection, transport = Connection(HttpServer(echo)), Transport()
        connection.connection_made(transport)
        connection.pause_writing()
        paused = transport.paused
        connection.resume_writing()
        return [paused, transport.paused]

    assert asyncio.run(conversation()) == [True, False]


# -- durability ------------------------------------------------------------------------------------------------------


def test_writes_that_arrive_together_share_one_sync_and_answers_stay_in_order() -> None:
    journal = Journal()

    def handler(request: HttpRequest) -> HttpResponse:
        if request.method == "POST":
            journal.position += 1
        return echo(request)

    async def conversation() -> tuple[list[bytes], bytes]:
        server = HttpServer(handler, journal)
        first, second = Connection(server), Connection(server)
        transports = Transport(), Transport()
        first.connection_made(transports[0])
        second.connection_made(transports[1])
        first.data_received(POST + GET)
        second.data_received(POST)
        before = [*transports[0].written, *transports[1].written]
        await server.close()
        assert transports[1].written
        return before, b"".join(transports[0].written)

    before, after = asyncio.run(conversation())
    assert before == []
    assert after.index(b"x-method: POST") < after.index(b"x-method: GET")
    assert journal.synced == [2]


def test_a_read_does_not_wait_for_the_disk() -> None:
    async def conversation() -> list[bytes]:
        connection, transport = Connection(HttpServer(echo, Journal())), Transport()
        connection.connection_made(transport)
        connection.data_received(GET)
        return transport.written

    assert len(asyncio.run(conversation())) == 1


def test_a_write_that_cannot_reach_the_disk_is_never_answered() -> None:
    journal = Journal(OSError(28, "No space left on device"))

    def handler(request: HttpRequest) -> HttpResponse:
        journal.position += 1
        return echo(request)

    async def conversation() -> tuple[list[bytes], OSError | None]:
        server, transport = HttpServer(handler, journal), Transport()
        connection = Connection(server)
        connection.connection_made(transport)
        connection.data_received(POST)
        await server.stopped.wait()
        return transport.written, server.failure

    written, failure = asyncio.run(conversation())
    assert written == []
    assert failure is journal.error


# -- answers that are late, in part, or missing ------------------------------------------------------------------------


def misdelivered(delivery: Delivery, data: bytes = GET) -> tuple[list[bytes], list[bytes], Transport]:
    """What is written at once, and what is written in the end."""

    async def conversation() -> tuple[list[bytes], list[bytes], Transport]:
        loop = asyncio.get_running_loop()
        connection, transport = Connection(HttpServer(echo, deliver=lambda request: delivery)), Transport()
        connection.connection_made(transport)
        connection.data_received(data)
        at_once = list(transport.written)
        for _ in range(2 * DRIPS):  # every timer that is due, without waiting for the clock
            for timer in sorted(loop._scheduled):  # type: ignore[attr-defined]
                timer._run()
                timer.cancel()
        return at_once, transport.written[len(at_once) :], transport

    return asyncio.run(conversation())


ANSWER = HttpResponse(200, {"x": "y"}, b"z" * 100)
WHOLE = b"HTTP/1.1 200 OK\r\nx: y\r\ncontent-length: 100\r\n\r\n" + b"z" * 100


def test_a_late_answer_is_whole_and_in_its_turn() -> None:
    at_once, later, transport = misdelivered(Delivery(ANSWER, delay_seconds=9.0), GET + GET)
    assert (at_once, b"".join(later), transport.closed) == ([], WHOLE + WHOLE, False)


def test_half_an_answer_ends_with_its_connection() -> None:
    at_once, later, transport = misdelivered(Delivery(ANSWER, manner=Manner.HALF))
    assert (b"".join(at_once), later, transport.closed) == (WHOLE[: len(WHOLE) // 2], [], True)


def test_an_answer_that_drips_comes_whole_in_ten_pieces() -> None:
    at_once, later, transport = misdelivered(Delivery(ANSWER, manner=Manner.DRIP, over_seconds=9.0))
    assert (at_once, len(later), b"".join(later), transport.closed) == ([], DRIPS, WHOLE, False)


def test_silence_keeps_the_connection_and_a_reset_ends_it() -> None:
    assert misdelivered(Delivery(None, manner=Manner.SILENCE))[:2] == ([], [])
    at_once, later, transport = misdelivered(Delivery(None, manner=Manner.RESET), GET + GET)
    assert (at_once, later, transport.aborted) == ([], [], True)
