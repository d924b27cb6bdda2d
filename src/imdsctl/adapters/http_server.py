"""HTTP/1.1 for a synchronous, fast handler: an asyncio protocol over httptools.

Keep-alive, pipelining answered in order, `Expect: 100-continue`, chunked bodies, limits on headers and body. A response
that depends on a write is held until the journal says that the write is on disk; one fsync serves all that wait. Who
wants it (`imdsctl.local.adversary`) has a response sent late, in part or not at all; other connections do not wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections import deque
from collections.abc import Callable
from http import HTTPStatus
from typing import Protocol, cast

import httptools

from imdsctl.local.adversary import Delivery, Manner
from imdsctl.wire.http import HttpRequest, HttpResponse

Handler = Callable[[HttpRequest], HttpResponse]

BODY_BYTES_MAX = 4 * 1024 * 1024
HEADER_BYTES_MAX = 64 * 1024
HEADERS_COUNT_MAX = 200
PIPELINED_MAX = 1000
COPIED_BYTES_MAX = 64 * 1024
"""Up to here a response is put together; beyond, its pieces are sent as they are, if they are worth it."""
PIECE_BYTES_MIN = 1024
CLOSE_SECONDS_MAX = 5.0
DRIPS = 10
"""The pieces of an answer that drips."""

_REASONS = {status.value: status.phrase for status in HTTPStatus}
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Journal(Protocol):
    """What makes accepted writes durable."""

    @property
    def position(self) -> int:
        """How many writes were taken so far."""

    def sync(self) -> None:
        """Block until everything taken so far is on disk. Raises OSError."""


class HttpServer:
    """Serves `handler` on one socket; `journal` is None when nothing is kept.

    `deliver`, where there is one, is asked in the handler's place, and says how its response is to be sent. When the
    journal cannot be written, the responses that wait for it are never sent, and `failure` holds the OSError.
    """

    def __init__(
        self,
        handler: Handler,
        journal: Journal | None = None,
        deliver: Callable[[HttpRequest], Delivery] | None = None,
    ) -> None:
        self.handler = handler
        self.deliver = deliver
        self.failure: OSError | None = None
        self.stopped = asyncio.Event()
        self._journal = journal
        self._connections: set[Connection] = set()
        self._held: list[tuple[int, Callable[[], None]]] = []  # (journal position, what to do when it is durable)
        self._durable = journal.position if journal else 0
        self._syncing: asyncio.Task[None] | None = None
        self._server: asyncio.Server | None = None

    async def start(self, listener: socket.socket) -> None:
        """Begin to accept connections on a bound socket."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Connection(self), sock=listener, backlog=1024)

    async def close(self) -> None:
        """Stop accepting, finish what waits for the disk, close every connection."""
        if self._server is not None:
            self._server.close()
        while self._syncing is not None:
            await self._syncing
        for connection in tuple(self._connections):
            connection.close()

    @property
    def position(self) -> int:
        """The journal's position, 0 without one."""
        return self._journal.position if self._journal else 0

    def make_durable(self) -> None:
        """Have everything that was taken so far written soon, whether or not a response waits for it."""
        if self._journal is not None and self._journal.position > self._durable:
            self.when_durable(self._journal.position, lambda: None)

    def when_durable(self, position: int, action: Callable[[], None]) -> None:
        """Do `action` when everything up to the journal's `position` is on disk."""
        self._held.append((position, action))
        if self._syncing is None:
            self._syncing = asyncio.get_running_loop().create_task(self._sync())

    async def _sync(self) -> None:
        assert self._journal is not None
        loop = asyncio.get_running_loop()
        try:
            while self._held and self.failure is None:
                # One turn of the loop first: what arrived together is written together.
                await asyncio.sleep(0)
                reached = self._journal.position
                await loop.run_in_executor(None, self._journal.sync)
                self._durable = reached
                ready = [action for position, action in self._held if position <= reached]
                self._held = [each for each in self._held if each[0] > reached]
                for action in ready:
                    action()
        except OSError as error:
            self.failure = error
            self.stopped.set()
        finally:
            self._syncing = None


class Connection(asyncio.Protocol):
    """One client's connection. httptools calls the `on_...` methods while it parses."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[_Answer] = deque()  # answers in the order of their requests
        self._closing = False
        self._reading_paused = False
        self._reset()

    def _reset(self) -> None:
        self._in_headers = False
        self._target = b""
        self._headers: dict[str, str] = {}
        self._header_bytes = 0
        self._header_count = 0
        self._body: list[bytes] = []
        self._body_bytes = 0

    # -- asyncio -----------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports are Transports in all but their base class.
        self._transport = cast(asyncio.Transport, transport)
        self._server._connections.add(self)
        connected = transport.get_extra_info("socket")
        if connected is not None:
            with contextlib.suppress(OSError):
                connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def connection_lost(self, error: Exception | None) -> None:
        self._closing = True
        self._transport = None
        self._server._connections.discard(self)

    def data_received(self, data: bytes) -> None:
        if self._closing:
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            # A server may ignore a wish for another protocol (RFC 9110, 7.8); the request itself has been answered.
            self._parser = httptools.HttpRequestParser(self)
            self.data_received(data[upgrade.args[0] :])
        except httptools.HttpParserCallbackError as error:
            self._refuse(error.__context__.status if isinstance(error.__context__, _Refused) else 400)
        except httptools.HttpParserError:
            self._refuse(400)
        else:
            # An unfinished header is kept by the parser, which has no limit of its own.
            if self._in_headers:
                self._header_bytes += len(data)
                if self._header_bytes > HEADER_BYTES_MAX:
                    self._refuse(431)

    def pause_writing(self) -> None:
        """The client does not read its answers: read no more of its requests."""
        if self._transport is not None and not self._reading_paused:
            self._reading_paused = True
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None and self._reading_paused:
            self._reading_paused = False
            self._transport.resume_reading()

    # -- httptools ---------------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._reset()
        self._in_headers = True

    def on_url(self, target: bytes) -> None:
        self._target += target
        if len(self._target) > HEADER_BYTES_MAX:
            raise _Refused(431)

    def on_header(self, name: bytes, value: bytes | None) -> None:
        self._header_count += 1
        self._header_bytes += len(name) + len(value or b"")
        if self._header_count > HEADERS_COUNT_MAX or self._header_bytes > HEADER_BYTES_MAX:
            raise _Refused(431)
        key, text = name.decode("latin-1").lower(), (value or b"").decode("latin-1")
        before = self._headers.get(key)
        self._headers[key] = text if before is None else f"{before},{text}"

    def on_headers_complete(self) -> None:
        self._in_headers = False
        length = self._headers.get("content-length", "0")
        if length.isdecimal() and int(length[:18]) > BODY_BYTES_MAX:
            raise _Refused(413)
        expected = self._headers.get("expect")
        if expected is not None:
            if expected.lower() != "100-continue":
                raise _Refused(417)
            self._answer(_Answer([_CONTINUE], True, ready=True))

    def on_body(self, data: bytes) -> None:
        self._body_bytes += len(data)
        if self._body_bytes > BODY_BYTES_MAX:
            raise _Refused(413)
        self._body.append(data)

    def on_message_complete(self) -> None:
        if self._closing:
            return
        body = self._body[0] if len(self._body) == 1 else b"".join(self._body)
        path, query = _path_and_query(self._target)
        method = self._parser.get_method().decode("latin-1")
        server = self._server
        before = server.position
        request = HttpRequest(method, path, query, self._headers, body)
        keep_alive = self._parser.should_keep_alive()
        late = 0.0
        if server.deliver is None:
            answer = _Answer(_encode(server.handler(request), keep_alive, head=method == "HEAD"), keep_alive)
        else:
            delivery = server.deliver(request)
            late = delivery.delay_seconds
            data = _encode(delivery.response, keep_alive, head=method == "HEAD") if delivery.response else []
            answer = _Answer(data, keep_alive, manner=delivery.manner, over_seconds=delivery.over_seconds)
        reached = server.position
        if reached != before:
            self._waiting.append(answer)
            server.when_durable(reached, lambda: self._ready_in(answer, late))
        elif late:
            self._waiting.append(answer)
            self._ready_in(answer, late)
        else:
            answer.ready = True
            self._answer(answer)
        if len(self._waiting) > PIPELINED_MAX:
            raise _Refused(429)

    # -- answers -----------------------------------------------------------------------------------------------------

    def _answer(self, answer: _Answer) -> None:
        """Send a finished answer, after those that are due before it."""
        if self._waiting:
            self._waiting.append(answer)
        else:
            self._write(answer)

    def _ready_in(self, answer: _Answer, seconds: float) -> None:
        if seconds:
            asyncio.get_running_loop().call_later(seconds, self._ready, answer)
        else:
            self._ready(answer)

    def _ready(self, answer: _Answer) -> None:
        answer.ready = True
        while self._waiting and self._waiting[0].ready:
            self._write(self._waiting.popleft())

    def _write(self, answer: _Answer) -> None:
        if self._transport is None:
            return
        if answer.manner is not Manner.WHOLE:
            self._spoil(answer)
            return
        if len(answer.data) == 1:
            self._transport.write(answer.data[0])
        else:
            self._transport.writelines(answer.data)
        if not answer.keep_alive:
            self.close()

    def _spoil(self, answer: _Answer) -> None:
        """Send an answer as it is not meant to be sent."""
        assert self._transport is not None
        data = b"".join(answer.data)
        match answer.manner:
            case Manner.HALF:
                self._transport.write(data[: len(data) // 2])
                self.close()
            case Manner.RESET:
                connected = self._transport.get_extra_info("socket")
                if connected is not None:
                    # Lingering for no time makes the kernel send a reset where it would say goodbye.
                    with contextlib.suppress(OSError):
                        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self._closing = True
                self._transport.abort()
            case Manner.DRIP:
                step = -(-len(data) // DRIPS)
                pieces = [_Answer([data[at : at + step]], keep_alive=True) for at in range(0, len(data), step)]
                pieces[-1].keep_alive = answer.keep_alive
                self._waiting.extendleft(reversed(pieces))
                for number, piece in enumerate(pieces, 1):
                    self._ready_in(piece, number * answer.over_seconds / DRIPS)
            case _:
                self._closing = True  # silence

    def _refuse(self, status: int) -> None:
        """Answer what cannot be read as a request, after the answers that are still due, and hang up."""
        self._closing = True
        reason = _REASONS[status]
        text = f"{status} {reason}\n".encode()
        response = HttpResponse(status, {"content-type": "text/plain"}, text)
        self._answer(_Answer(_encode(response, keep_alive=False), False, ready=True))

    def close(self) -> None:
        """Close when what was written is sent."""
        self._closing = True
        if self._transport is not None:
            self._transport.close()


class _Refused(Exception):
    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class _Answer:
    __slots__ = ("data", "keep_alive", "manner", "over_seconds", "ready")

    def __init__(
        self,
        data: list[bytes],
        keep_alive: bool,
        *,
        ready: bool = False,
        manner: Manner = Manner.WHOLE,
        over_seconds: float = 0.0,
    ) -> None:
        self.data = data
        self.keep_alive = keep_alive
        self.ready = ready
        self.manner = manner
        self.over_seconds = over_seconds


def _path_and_query(target: bytes) -> tuple[str, str]:
    """Raw path and raw query of a request target; an absolute one (as sent to a proxy) loses its scheme and host."""
    text = target.decode("latin-1")
    if not text.startswith("/"):
        scheme, found, rest = text.partition("://")
        text = "/" + rest.partition("/")[2] if found and scheme.isalpha() else "/" + text
    path, _, query = text.partition("#")[0].partition("?")
    return path, query


def _encode(response: HttpResponse, keep_alive: bool, *, head: bool = False) -> list[bytes]:
    """A small response as one piece of bytes, so that it leaves in one write; a large one in pieces, without a copy."""
    pieces = response.pieces
    length = sum(map(len, pieces))
    lines = [f"HTTP/1.1 {response.status} {_REASONS.get(response.status, '')}"]
    lines += [f"{name}: {value}" for name, value in response.headers.items()]
    lines.append(f"content-length: {length}")
    if not keep_alive:
        lines.append("connection: close")
    lines.append("\r\n")
    encoded = "\r\n".join(lines).encode("latin-1", "replace")
    if head:
        return [encoded]
    if length <= COPIED_BYTES_MAX or length < PIECE_BYTES_MIN * len(pieces):
        return [b"".join((encoded, *pieces))]
    return [encoded, *pieces]
