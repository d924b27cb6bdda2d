"""Serves metadata services over TCP: one request a connection, as EC2 does, with a hop limit that the kernel enforces.

The answer to a PUT on the token path leaves with the hop limit as its IP TTL. The socket keeps that TTL to its end:
putting it back after the write would let the kernel retransmit the token with the usual one.

Almost every request is there in one piece when its connection is accepted, and almost every answer fits into the
socket: such a connection is accept, recv, send and close. The others wait in the event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from imdsctl.imds.messages import Access, Reply, Request
from imdsctl.imds.responses import refusal
from imdsctl.imds.wire import BadRequest, read_head

CONNECTIONS_MAX = 10_000
"""Connections of one server that wait for something; beyond, new ones are closed."""
CONNECTION_SECONDS_MAX = 10.0
"""How long a connection may take, from its first byte to its end."""
SWEEP_SECONDS = 1.0
BACKLOG = 4096
ACCEPTS_PER_TURN = 64
"""Connections that are accepted before the event loop does something else."""
ACCEPT_RETRY_SECONDS = 0.5
"""How long a listener rests when the process has no descriptor left for a connection."""
READ_BYTES = 8192

_TCP_SAVE_SYN = 27
_TCP_SAVED_SYN = 28
_SYN_BYTES_MAX = 256
_FIRST_TTLS = (64, 128, 255)
"""The TTLs that operating systems begin with."""

# An answer and the end of its connection leave in one packet where the system can be told that more comes.
_SEND_FLAGS = socket.MSG_DONTWAIT | getattr(socket, "MSG_MORE", 0)
_NOT_NOW = (BlockingIOError, InterruptedError)


class Peer:
    """Who asked: ask for what you need before the answer is written."""

    __slots__ = ("_address", "_socket", "ipv6")

    def __init__(self, connected: socket.socket, address: tuple[Any, ...], ipv6: bool) -> None:
        self._socket = connected
        self._address = address
        self.ipv6 = ipv6

    @property
    def address(self) -> tuple[str, int]:
        """The client's address and port."""
        return _unmapped(self._address[0]), self._address[1]

    @property
    def local(self) -> tuple[str, int]:
        """The address and port that was asked (a system call)."""
        host, port = self._socket.getsockname()[:2]
        return _unmapped(host), port

    @property
    def distance(self) -> int | None:
        """How many routers the request came through: what is missing of its first packet's TTL (a system call).

        None where the kernel has not kept that packet: the server must be started with `distances`.
        """
        try:
            syn = self._socket.getsockopt(socket.IPPROTO_TCP, _TCP_SAVED_SYN, _SYN_BYTES_MAX)
        except OSError:
            return None
        if len(syn) < 20:
            return None
        ttl = syn[7] if syn[0] >> 4 == 6 else syn[8]
        return min((first - ttl for first in _FIRST_TTLS if first >= ttl), default=None)


Responder = Callable[[Request, Peer], Reply | Awaitable[Reply]]
Seen = Callable[[Peer, Request | None, Reply], None]


class MetadataServer:
    """Serves `respond`; `seen` is told of every answer before it leaves (without a request: what came was not one).

    `respond` may be a coroutine; when it raises ConnectionError the connection closes without a word. With `distances`
    the kernel keeps each connection's first packet, for `Peer.distance`. Everything runs in one event loop.
    """

    def __init__(
        self,
        respond: Responder,
        *,
        seen: Seen | None = None,
        distances: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.respond = respond
        self.seen = seen
        self.clock = clock
        self._distances = distances
        self._loop: asyncio.AbstractEventLoop | None = None
        self._listeners: set[socket.socket] = set()
        self._waiting: dict[_Connection, float] = {}  # since when (the loop's time), in the order of arrival
        self._answering: set[asyncio.Future[Reply]] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Begin to accept connections on bound sockets, of any network namespace. May be called again with others."""
        loop = self._loop = asyncio.get_running_loop()
        for listener in sockets:
            # Not every kernel has these: then distances are unknown, and a connection is accepted before its request.
            with contextlib.suppress(OSError, AttributeError):
                listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, 1)
            if self._distances:
                with contextlib.suppress(OSError):
                    listener.setsockopt(socket.IPPROTO_TCP, _TCP_SAVE_SYN, 1)
            listener.setblocking(False)
            listener.listen(BACKLOG)
            self._listeners.add(listener)
            self._listen(listener)
        if self._sweeper is None:
            self._sweep(loop)

    async def close(self) -> None:
        """Stop accepting, and close what has not been answered."""
        for listener in self._listeners:
            assert self._loop is not None
            self._loop.remove_reader(listener)
            listener.close()
        self._listeners.clear()
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        for answering in tuple(self._answering):
            answering.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)
        for connection in tuple(self._waiting):
            connection.close()

    def _listen(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            assert self._loop is not None
            self._loop.add_reader(listener, self._accept, listener, listener.family == socket.AF_INET6)

    def _accept(self, listener: socket.socket, ipv6: bool) -> None:
        assert self._loop is not None
        for _ in range(ACCEPTS_PER_TURN):
            try:
                connected, address = listener.accept()
            except _NOT_NOW:
                return
            except ConnectionError:
                continue
            except OSError:  # no descriptor or memory left; the listener stays readable, and asking again is no help
                self._loop.remove_reader(listener)
                self._loop.call_later(ACCEPT_RETRY_SECONDS, self._listen, listener)
                return
            # A socket for both families shows IPv4's addresses mapped.
            real_ipv6 = ipv6 and not address[0].startswith(_MAPPED)
            _Connection(self, self._loop, connected, address, real_ipv6).read()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close who took too long. One timer for all: hardly a connection ever waits."""
        oldest_allowed = loop.time() - CONNECTION_SECONDS_MAX
        for connection, since in tuple(self._waiting.items()):
            if since > oldest_allowed:
                break
            connection.close()
        self._sweeper = loop.call_later(SWEEP_SECONDS, self._sweep, loop)


class _Connection:
    """One client's connection: its request, the answer, and nothing after that."""

    __slots__ = (
        *("_address", "_ipv6", "_loop", "_server", "_socket"),
        *("_data", "_leaving", "_open", "_request", "_taken", "_unsent"),
    )

    def __init__(
        self,
        server: MetadataServer,
        loop: asyncio.AbstractEventLoop,
        connected: socket.socket,
        address: tuple[Any, ...],
        ipv6: bool,
    ) -> None:
        self._server = server
        self._loop = loop
        self._socket = connected  # blocking by itself: every call says that it does not wait
        self._address = address
        self._ipv6 = ipv6
        self._open = True
        self._data = b""
        self._request: Request | None = None
        self._taken = 0  # bytes of the request
        self._unsent: bytes | None = None  # what has not left of the answer; None until there is a request
        self._leaving = False  # everything is said

    def read(self) -> None:
        """Read what there is, and answer when it is a request."""
        try:
            data = self._socket.recv(READ_BYTES, socket.MSG_DONTWAIT)
        except _NOT_NOW:
            self._wait()
            return
        except OSError:
            data = b""
        if not data:
            if self._unsent is None or self._leaving:
                self.close()
            else:  # a client that says no more may still listen
                self._loop.remove_reader(self._socket)
        elif self._unsent is None:  # what comes after the request is nobody's: one request a connection
            self._data = self._data + data if self._data else data
            self._answer_if_whole()

    def _answer_if_whole(self) -> None:
        if self._request is None:
            try:
                head = read_head(self._data, ipv6=self._ipv6)
            except BadRequest:
                self._answer(Reply(refusal(400, self._server.clock()), 400, Access.REFUSED, ""))
                return
            if head is None:
                self._wait()
                return
            self._request, self._taken = head
        if len(self._data) < self._taken:
            self._wait()
            return
        try:
            answer = self._server.respond(self._request, Peer(self._socket, self._address, self._ipv6))
        except BaseException:
            self.close()
            raise
        if isinstance(answer, Reply):
            self._answer(answer)
        else:
            task = asyncio.ensure_future(answer)
            self._server._answering.add(task)
            task.add_done_callback(self._answered)
            self._unsent = b""
            self._wait()

    def _answered(self, task: asyncio.Future[Reply]) -> None:
        self._server._answering.discard(task)
        if task.cancelled() or task.exception() is not None:
            self.close()
            if not task.cancelled() and not isinstance(task.exception(), ConnectionError):
                task.result()  # a bug: the loop reports it
        else:
            self._answer(task.result())

    def _answer(self, reply: Reply) -> None:
        if not self._open:  # the client has gone
            return
        if self._server.seen is not None:
            self._server.seen(Peer(self._socket, self._address, self._ipv6), self._request, reply)
        if not reply.content:
            self.close()
            return
        if reply.hop_limit is not None:
            _limit_hops(self._socket, reply.hop_limit)
        self._unsent = reply.content
        self._write()

    def _write(self) -> None:
        assert self._unsent is not None
        try:
            sent = self._socket.send(self._unsent, _SEND_FLAGS)
        except _NOT_NOW:
            sent = 0
        except OSError:
            self.close()
            return
        if sent < len(self._unsent):
            self._unsent = self._unsent[sent:]
            if self._wait():
                self._loop.add_writer(self._socket, self._write)
        elif len(self._data) == self._taken:
            self.close()
        else:
            # More came than the request, and more may come: a socket that closes on unread bytes resets the
            # connection, and the client may never see the answer. So say goodbye and read until the client ends.
            self._leaving = True
            if self._wait():
                self._loop.remove_writer(self._socket)
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_WR)

    def _wait(self) -> bool:
        """Have the loop call when there is more to read. False: too many wait already, the connection is closed."""
        waiting = self._server._waiting
        if self not in waiting:
            if len(waiting) >= CONNECTIONS_MAX:
                self.close()
                return False
            waiting[self] = self._loop.time()
            self._loop.add_reader(self._socket, self.read)
        return True

    def close(self) -> None:
        """Close, answered or not."""
        self._open = False
        if self._server._waiting.pop(self, None) is not None:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
        self._socket.close()


def _limit_hops(connected: socket.socket, hops: int) -> None:
    if connected.family == socket.AF_INET6:
        connected.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, hops)
        # An IPv4 client of a socket for both families goes by this one; IPv6-only sockets do not have it.
        with contextlib.suppress(OSError):
            connected.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)
    else:
        connected.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, hops)


_MAPPED = "::ffff:"


def _unmapped(host: str) -> str:
    return host.removeprefix(_MAPPED) if "." in host else host
