"""Serves metadata services over TCP: one request a connection, as EC2 does, with a hop limit that the kernel enforces.

The answer to a PUT on the token path leaves with the hop limit as its IP TTL. The socket keeps that TTL to its end:
putting it back after the write would let the kernel retransmit the token with the usual one.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import cast

from imdsctl.imds.messages import Access, Reply, Request
from imdsctl.imds.responses import refusal
from imdsctl.imds.wire import BadRequest, read_head

CONNECTIONS_MAX = 10_000
"""Connections of one server that have not been answered yet; beyond, new ones are closed."""
REQUEST_SECONDS_MAX = 10.0
"""How long a client may take to send its request."""
SWEEP_SECONDS = 1.0
BACKLOG = 4096

_TCP_SAVE_SYN = 27
_TCP_SAVED_SYN = 28
_SYN_BYTES_MAX = 256
_FIRST_TTLS = (64, 128, 255)
"""The TTLs that operating systems begin with."""


class Peer:
    """Who asked. Each property is a system call: ask for what you need, before the answer is written."""

    __slots__ = ("_transport", "ipv6")

    def __init__(self, transport: asyncio.Transport, ipv6: bool) -> None:
        self._transport = transport
        self.ipv6 = ipv6

    @property
    def address(self) -> tuple[str, int]:
        """The client's address and port."""
        host, port = self._transport.get_extra_info("peername")[:2]
        return _unmapped(host), port

    @property
    def local(self) -> tuple[str, int]:
        """The address and port that was asked."""
        host, port = self._transport.get_extra_info("sockname")[:2]
        return _unmapped(host), port

    @property
    def distance(self) -> int | None:
        """How many routers the request came through: what is missing of its first packet's TTL.

        None where the kernel has not kept that packet: the server must be started with `distances`.
        """
        try:
            syn = self._transport.get_extra_info("socket").getsockopt(
                socket.IPPROTO_TCP, _TCP_SAVED_SYN, _SYN_BYTES_MAX
            )
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
        self._servers: list[asyncio.Server] = []
        self._waiting: dict[_Connection, float] = {}  # since when (the loop's time), in the order of arrival
        self._answering: set[asyncio.Future[Reply]] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    async def start(self, sockets: Sequence[socket.socket]) -> None:
        """Begin to accept connections on bound sockets, of any network namespace. May be called again with others."""
        loop = asyncio.get_running_loop()
        for listener in sockets:
            if self._distances:
                # Not every kernel has it; then distances are unknown.
                with contextlib.suppress(OSError):
                    listener.setsockopt(socket.IPPROTO_TCP, _TCP_SAVE_SYN, 1)
            made = partial(_Connection, self, loop, listener.family == socket.AF_INET6)
            self._servers.append(await loop.create_server(made, sock=listener, backlog=BACKLOG))
        if self._sweeper is None:
            self._sweep(loop)

    async def close(self) -> None:
        """Stop accepting, and close what has not been answered."""
        for server in self._servers:
            server.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
        for answering in tuple(self._answering):
            answering.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)
        for connection in tuple(self._waiting):
            connection.abort()

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """Close who took too long. One timer for all: most connections are answered in a millisecond."""
        oldest_allowed = loop.time() - REQUEST_SECONDS_MAX
        for connection, since in tuple(self._waiting.items()):
            if since > oldest_allowed:
                break
            connection.abort()
        self._sweeper = loop.call_later(SWEEP_SECONDS, self._sweep, loop)


class _Connection(asyncio.Protocol):
    """One client's connection."""

    __slots__ = ("_data", "_ipv6", "_loop", "_server", "_transport")

    def __init__(self, server: MetadataServer, loop: asyncio.AbstractEventLoop, ipv6: bool) -> None:
        self._server = server
        self._loop = loop
        self._ipv6 = ipv6
        self._data = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        waiting = self._server._waiting
        if len(waiting) >= CONNECTIONS_MAX:
            self._transport.abort()
            return
        waiting[self] = self._loop.time()
        if self._ipv6:  # a socket for both families shows IPv4's addresses mapped
            self._ipv6 = not transport.get_extra_info("peername")[0].startswith(_MAPPED)

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._server._waiting.pop(self, None)

    def data_received(self, data: bytes) -> None:
        if self not in self._server._waiting:
            return  # what comes after the request is nobody's: one request a connection
        self._data += data
        try:
            read = read_head(self._data, ipv6=self._ipv6)
        except BadRequest:
            self._answer(None, Reply(refusal(400, self._server.clock()), 400, Access.REFUSED, ""))
            return
        if read is None:
            return
        assert self._transport is not None
        request = read[0]
        answer = self._server.respond(request, Peer(self._transport, self._ipv6))
        if isinstance(answer, Reply):
            self._answer(request, answer)
        else:
            del self._server._waiting[self]
            task = asyncio.ensure_future(answer)
            self._server._answering.add(task)
            task.add_done_callback(partial(self._answered, request))

    def _answered(self, request: Request, task: asyncio.Future[Reply]) -> None:
        self._server._answering.discard(task)
        if task.cancelled() or isinstance(task.exception(), ConnectionError):
            self.abort()
        else:
            self._answer(request, task.result())

    def _answer(self, request: Request | None, reply: Reply) -> None:
        self._server._waiting.pop(self, None)
        transport = self._transport
        if transport is None:  # the client has gone
            return
        if self._server.seen is not None:
            self._server.seen(Peer(transport, self._ipv6), request, reply)
        if not reply.content:
            transport.abort()
            return
        if reply.hop_limit is not None:
            _limit_hops(transport.get_extra_info("socket"), reply.hop_limit)
        transport.write(reply.content)
        transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()


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
