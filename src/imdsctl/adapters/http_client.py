"""A small HTTP/1.1 client for AWS's APIs: connections that stay open, shared by every account that asks one host.

A request is one write; a response may be fed to a decoder while it arrives. What goes wrong on the way is
`Unreachable`, in words: which host, what happened, what to do next.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
import sys
import zlib
from base64 import b64encode
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from os.path import isdir
from typing import Any, NamedTuple, Protocol, cast
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

import httptools

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.fleet.ports import Unreachable
from imdsctl.wire.http import HttpRequest, HttpResponse

CONNECTIONS_PER_HOST_MAX = 1024
"""More than a sweep has calls under way: with AWS_ENDPOINT_URL all Regions are one host, and a call that waits for a
connection waits as long as another's answer is away."""
CONNECT_TIMEOUT_SECONDS = 10.0
"""For name, connection, proxy and TLS together."""
READ_TIMEOUT_SECONDS = 60.0
"""Between one piece of a response and the next, as botocore counts it."""
EXCHANGE_SECONDS_MAX = 300.0
"""From a request to the end of its response, however lively the response is."""
HEAD_BYTES_MAX = 65_536
OPEN_FILES_MIN = 2048
"""What a sweep needs: its connections, and the rest."""


class Futile(Unreachable):
    """Asking again would end the same way: a certificate, a name or an address has to be put right first."""


class NoAnswer(Unreachable):
    """Nothing of a response arrived: no connection, a connection that was closed, or silence."""


class Sink(Protocol):
    """Takes the body of a response, piece by piece."""

    def feed(self, data: bytes) -> None: ...


OpenSink = Callable[[int, Mapping[str, str]], Sink | None]
"""Called with status and headers; None: the body is wanted whole, in the response."""


class Origin(NamedTuple):
    """One host to connect to."""

    scheme: str
    host: str
    port: int

    @property
    def authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(slots=True)
class Traffic:
    """What went over the wire so far."""

    connections: int = 0
    bytes_sent: int = 0
    bytes_received: int = 0


class HttpClient:
    """Pools connections per origin. Use it inside one event loop and end with `aclose`.

    `ca_bundle` gives the file or folder of trusted certificates; it is asked once, at the first HTTPS connection.
    Proxies come from the environment (`HTTPS_PROXY`, `HTTP_PROXY`, `NO_PROXY`) as they do for botocore, unless they
    are given, by scheme.
    """

    def __init__(
        self,
        *,
        ca_bundle: Callable[[], str | None] = lambda: None,
        connections_per_host_max: int = CONNECTIONS_PER_HOST_MAX,
        connect_timeout_seconds: float = CONNECT_TIMEOUT_SECONDS,
        read_timeout_seconds: float = READ_TIMEOUT_SECONDS,
        proxies: dict[str, str] | None = None,
    ) -> None:
        self.traffic = Traffic()
        self._ca_bundle = ca_bundle
        self._connections_per_host_max = connections_per_host_max
        self._connect_timeout_seconds = connect_timeout_seconds
        self._read_timeout_seconds = read_timeout_seconds
        self._pools: dict[Origin, _Pool] = {}
        self._ssl_context: ssl.SSLContext | None = None
        self._proxies = proxies

    async def send(
        self,
        origin: Origin,
        request: HttpRequest,
        *,
        replayable: bool = True,
        open_sink: OpenSink | None = None,
        seconds_max: float = EXCHANGE_SECONDS_MAX,
    ) -> HttpResponse:
        """One exchange, of `seconds_max` at most. `request.path` and `query` are as they go on the wire.

        A pooled connection that the host had closed before anything of the response arrived is replaced once, when
        the request is `replayable`. With a sink the response's `body` is empty.
        Raises `Unreachable`, DiagnosticError `proxy-invalid`, and whatever the sink raises.
        """
        pool = self._pools.get(origin)
        if pool is None:
            pool = self._pools[origin] = _Pool(self._proxy(origin), self._connections_per_host_max)
        data = _head(origin, request, absolute=pool.proxy is not None and origin.scheme == "http", proxy=pool.proxy)
        data += request.body
        while True:
            connection = await self._connection(origin, pool)
            reused = connection.exchanges > 0
            try:
                response = await connection.exchange(data, open_sink, self._read_timeout_seconds, seconds_max)
            except _Lost as lost:
                if reused and lost.closed and not lost.answered and (replayable or not lost.sent):
                    pool.drop_idle()  # they are as old as this one: what closed it has closed them
                    continue
                kind = Unreachable if lost.answered else NoAnswer
                raise kind(origin.host, lost.reason, _RETRY_LATER, maybe_done=lost.sent) from None
            finally:
                pool.give_back(connection)
            return response

    def direct(self, origin: Origin) -> bool:
        """Whether requests go to the origin without a proxy; only then may they have a `head`."""
        return self._proxy(origin) is None

    async def aclose(self) -> None:
        """Close every idle connection; one in use ends with its exchange."""
        for pool in self._pools.values():
            pool.close()
        self._pools.clear()
        await asyncio.sleep(0)  # lets the transports take notice, so that none is left to the garbage collector

    async def _connection(self, origin: Origin, pool: _Pool) -> _Connection:
        idle = await pool.take()
        if idle is not None:
            return idle
        try:
            return await self._connect(origin, pool.proxy)
        except BaseException:
            pool.give_up_turn()
            raise

    async def _connect(self, origin: Origin, proxy: str | None) -> _Connection:
        host = origin.host
        try:
            async with asyncio.timeout(self._connect_timeout_seconds):
                return await self._open(origin, proxy)
        except TimeoutError:
            reason = f"no connection within {self._connect_timeout_seconds:g} s"
        except ssl.SSLCertVerificationError as error:
            raise Futile(
                host,
                f"its certificate is not trusted ({error.verify_message})",
                "if a proxy inspects HTTPS, name its certificate with AWS_CA_BUNDLE",
                maybe_done=False,
            ) from error
        except ssl.SSLError as error:
            reason = f"TLS failed ({error.reason or error})"
        except socket.gaierror as error:
            kind = NoAnswer if error.errno == socket.EAI_AGAIN else Futile
            raise kind(
                host,
                f"its name cannot be resolved ({error.strerror})",
                "check the Region's name, AWS_ENDPOINT_URL and the network's DNS",
                maybe_done=False,
            ) from error
        except OSError as error:
            if error.errno in (errno.EMFILE, errno.ENFILE):
                raise Unreachable(
                    host, "this machine lets nothing more be opened", "raise `ulimit -n`", maybe_done=False
                ) from error
            # asyncio puts several failures of a name with several addresses into one OSError; uvloop does not.
            refused = isinstance(error, ConnectionRefusedError) or "Connect call failed" in str(error)
            if proxy is None and host in ("127.0.0.1", "::1", "localhost") and refused:
                raise Futile(
                    host,
                    f"nothing listens on port {origin.port}",
                    "start it with `imdsctl local up --detach`, or correct AWS_ENDPOINT_URL",
                    maybe_done=False,
                ) from error
            reason = f"the connection failed ({error.strerror or error})"
        except _Lost as lost:
            reason = lost.reason
        via = f" through the proxy `{urlsplit(proxy).hostname}`" if proxy else ""
        raise NoAnswer(
            host, reason + via, "check the network, the proxy settings and AWS_ENDPOINT_URL", maybe_done=False
        )

    async def _open(self, origin: Origin, proxy: str | None) -> _Connection:
        loop = asyncio.get_running_loop()
        self.traffic.connections += 1
        tls = self._tls() if origin.scheme == "https" else None
        if proxy is None:
            _, protocol = await loop.create_connection(
                lambda: _Connection(self.traffic), origin.host, origin.port, ssl=tls
            )
            return protocol
        parts = urlsplit(proxy)
        to_proxy = self._tls() if parts.scheme == "https" else None
        host, port = parts.hostname or "", parts.port or (443 if to_proxy else 80)
        if tls is None:
            _, protocol = await loop.create_connection(lambda: _Connection(self.traffic), host, port, ssl=to_proxy)
            return protocol
        transport, tunnel = await loop.create_connection(_Tunnel, host, port, ssl=to_proxy)
        try:
            await tunnel.open(origin, _proxy_authorization(proxy))
            connection = _Connection(self.traffic)
            inner = await loop.start_tls(transport, connection, tls, server_hostname=origin.host)
        except BaseException:
            transport.abort()
            raise
        if inner is None:
            raise _Lost("the connection ended during the TLS handshake", answered=False)
        connection.connection_made(inner)
        return connection

    def _tls(self) -> ssl.SSLContext:
        if self._ssl_context is None:
            bundle = self._ca_bundle()
            try:
                self._ssl_context = ssl.create_default_context(
                    cafile=bundle if bundle and not isdir(bundle) else None,
                    capath=bundle if bundle and isdir(bundle) else None,
                )
            except OSError as error:
                raise Futile(
                    str(bundle),
                    f"this file of trusted certificates cannot be read ({error.strerror or error})",
                    "correct AWS_CA_BUNDLE, REQUESTS_CA_BUNDLE or `ca_bundle` in `~/.aws/config`",
                    maybe_done=False,
                ) from error
        return self._ssl_context

    def _proxy(self, origin: Origin) -> str | None:
        """The proxy for this origin, as botocore chooses it."""
        if self._proxies is None:
            self._proxies = getproxies()
        default_port = {"http": 80, "https": 443}[origin.scheme]
        netloc = origin.host if origin.port == default_port else origin.authority
        proxy = self._proxies.get(origin.scheme)
        if not proxy or proxy_bypass(netloc):
            return None
        if proxy.startswith("//"):
            proxy = "http:" + proxy
        return _checked_proxy(proxy if "://" in proxy else "http://" + proxy)


def allow_connections() -> None:
    """Raise this process's own limit on open files, where the system lets it (macOS begins with 256)."""
    if sys.platform == "win32":
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES_MIN if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES_MIN)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class _Lost(Exception):
    """The connection broke. `answered`: something of the response had arrived; `sent`: the request had left;
    `closed`: the other end did it."""

    def __init__(self, reason: str, *, answered: bool, sent: bool = True, closed: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.answered = answered
        self.sent = sent
        self.closed = closed


def _checked_proxy(url: str) -> str:
    """The URL; it is not shown, for it may hold a password. Raises DiagnosticError `proxy-invalid`."""
    try:
        parts = urlsplit(url)
        good = bool(parts.hostname) and (parts.port or 1) > 0 and url.isascii()
    except ValueError:
        good = False
    if good:
        return url
    raise DiagnosticError(
        Diagnostic(
            "proxy-invalid",
            "the proxy that your environment names is not an address",
            hint="write HTTPS_PROXY and HTTP_PROXY like `http://host:3128`, or unset them",
        ),
        exit_code=2,
    )


class _Pool:
    """The connections of one origin: `open` counts those in use and those at rest."""

    __slots__ = ("_idle", "_max", "_open", "_waiting", "proxy")

    def __init__(self, proxy: str | None, connections_max: int) -> None:
        self.proxy = proxy
        self._max = connections_max
        self._open = 0
        self._idle: list[_Connection] = []
        self._waiting: deque[asyncio.Future[_Connection | None]] = deque()

    async def take(self) -> _Connection | None:
        """A connection at rest, or None: it is the caller's turn to open one."""
        while self._idle:
            connection = self._idle.pop()  # the youngest: the host is least likely to have closed it
            if not connection.closed:
                return connection
            self._open -= 1
        if self._open < self._max:
            self._open += 1
            return None
        waiter: asyncio.Future[_Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(waiter)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled():
                granted = waiter.result()
                if granted is None:
                    self.give_up_turn()
                else:
                    self.give_back(granted)
            raise

    def give_back(self, connection: _Connection) -> None:
        if connection.closed:
            self.give_up_turn()
        elif (waiter := self._next_waiting()) is not None:
            waiter.set_result(connection)
        else:
            self._idle.append(connection)

    def give_up_turn(self) -> None:
        """One connection fewer; whoever waits longest may open another."""
        if (waiter := self._next_waiting()) is not None:
            waiter.set_result(None)
        else:
            self._open -= 1

    def drop_idle(self) -> None:
        for connection in self._idle:
            connection.close()
        self._open -= len(self._idle)
        self._idle.clear()

    def close(self) -> None:
        self.drop_idle()
        self._max = 0

    def _next_waiting(self) -> asyncio.Future[_Connection | None] | None:
        while self._waiting:
            waiter = self._waiting.popleft()
            if not waiter.done():
                return waiter
        return None


class _Connection(asyncio.Protocol):
    """One connection; carries one exchange at a time."""

    def __init__(self, traffic: Traffic) -> None:
        self.closed = False
        self.exchanges = 0
        self._traffic = traffic
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._waiter: asyncio.Future[HttpResponse] | None = None
        self._open_sink: OpenSink | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._heard_at = 0.0
        self._over_at = 0.0
        self._timeout_seconds = 0.0
        self._forget()

    def _forget(self) -> None:
        self._answered = False
        self._head_whole = False
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self._sink: Sink | None = None
        self._unzip: Any = None
        self._sized = False
        self._complete = False
        self._keep_alive = False

    async def exchange(
        self, data: bytes, open_sink: OpenSink | None, timeout_seconds: float, seconds_max: float
    ) -> HttpResponse:
        """Write a request, await its response. Raises `_Lost`; the connection is then closed."""
        if self.closed or self._transport is None:
            raise _Lost("the connection was closed", answered=False, sent=False, closed=True)
        loop = asyncio.get_running_loop()
        self.exchanges += 1
        self._forget()
        self._open_sink = open_sink
        self._waiter = loop.create_future()
        self._heard_at = loop.time()
        self._over_at = self._heard_at + seconds_max
        self._timeout_seconds = timeout_seconds
        if self._timer is None:
            self._timer = loop.call_later(min(timeout_seconds, seconds_max), self._look_at_time)
        self._transport.write(data)
        self._traffic.bytes_sent += len(data)
        try:
            return await self._waiter
        except BaseException:
            self.close()  # its response may still come, and must not be taken for the next one's
            raise
        finally:
            self._waiter = None

    def close(self) -> None:
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._transport is not None:
            self._transport.abort()

    # -- asyncio calls these

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._traffic.bytes_received += len(data)
        if self._waiter is None or self._waiter.done():
            self.close()  # nobody asked
            return
        self._answered = True
        self._heard_at = asyncio.get_running_loop().time()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._fail(_Lost(f"the reply is not HTTP ({error})", answered=True))
            return
        if self._sink is not None and self._body:
            self._feed_sink()
        if self._complete:
            self._finish()

    def connection_lost(self, error: Exception | None) -> None:
        self.closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if not self._answered:
            reason = f"the connection was closed before a reply{_because(error)}"
            self._fail(_Lost(reason, answered=False, closed=True))
        elif error is None and self._head_whole and not self._sized:
            self._finish()  # a body that ends with the connection
        else:
            self._fail(_Lost(f"the reply was cut off in the middle{_because(error)}", answered=True))

    # -- the parser calls these

    def on_header(self, name: bytes, value: bytes) -> None:
        key, text = _header_name(name), value.decode("latin-1")
        self._headers[key] = f"{self._headers[key]}, {text}" if key in self._headers else text

    def on_headers_complete(self) -> None:
        status, headers = self._parser.get_status_code(), self._headers
        if status < 200:
            return
        self._head_whole = True
        self._sized = "content-length" in headers or "transfer-encoding" in headers or status in (204, 304)
        encoding = headers.get("content-encoding")
        if encoding in ("gzip", "x-gzip", "deflate"):
            self._unzip = zlib.decompressobj(wbits=47)  # 32 + 15: gzip or zlib, whichever it is
            headers["content-encoding"] = "identity"
        if self._open_sink is not None:
            self._sink = self._open_sink(status, headers)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._parser.get_status_code() < 200:  # 100 Continue and its like: the response is still to come
            self._headers = {}
            self._body = []
        else:
            self._complete = True
            self._keep_alive = self._parser.should_keep_alive()  # only known inside this callback

    # -- ends of an exchange

    def _feed_sink(self) -> None:
        data = b"".join(self._body)
        self._body.clear()
        try:
            if self._unzip is not None:
                data = self._unzip.decompress(data)
            if data and self._sink is not None:
                self._sink.feed(data)
        except Exception as error:  # the exchange's owner has to see it, not the event loop
            self._fail(_Lost("its compression is damaged", answered=True) if isinstance(error, zlib.error) else error)

    def _finish(self) -> None:
        if self._waiter is None or self._waiter.done():
            return
        body = b"".join(self._body)
        self._body.clear()
        if self._unzip is not None:
            try:
                body = self._unzip.decompress(body)
            except zlib.error as error:
                self._fail(_Lost(f"its compression is damaged ({error})", answered=True))
                return
            if not self._unzip.eof and self._sized:
                self._fail(_Lost("the compressed reply was cut off in the middle", answered=True))
                return
        if not self._keep_alive:
            self.close()
        self._waiter.set_result(HttpResponse(self._parser.get_status_code(), self._headers, body))

    def _fail(self, error: Exception) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
        self.close()

    def _look_at_time(self) -> None:
        """One timer a connection, armed again while an exchange lasts: cheaper than one for every exchange."""
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        quiet_until = self._heard_at + self._timeout_seconds
        if now >= quiet_until:
            self._fail(_Lost(f"silent for {self._timeout_seconds:g} s", answered=self._answered))
        elif now >= self._over_at:
            self._fail(_Lost("the time for the call was over before the reply was", answered=self._answered))
        else:
            self._timer = loop.call_at(min(quiet_until, self._over_at), self._look_at_time)


@lru_cache(maxsize=256)
def _header_name(name: bytes) -> str:
    return name.decode("latin-1").lower()


class _Tunnel(asyncio.Protocol):
    """Asks a proxy for a connection to the origin (RFC 9110, 9.3.6)."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._reply = b""
        self._opened: asyncio.Future[None] | None = None

    async def open(self, origin: Origin, authorization: str | None) -> None:
        """Return when the tunnel stands. Raises `_Lost` when the proxy refuses."""
        if self._transport is None:
            raise _Lost("the proxy closed the connection", answered=False)
        self._opened = asyncio.get_running_loop().create_future()
        head = f"CONNECT {origin.authority} HTTP/1.1\r\nHost: {origin.authority}\r\n"
        if authorization:
            head += f"Proxy-Authorization: {authorization}\r\n"
        self._transport.write(f"{head}\r\n".encode("latin-1"))
        await self._opened

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._reply += data
        if self._opened is None or self._opened.done():
            return
        if b"\r\n\r\n" in self._reply:
            status_line = self._reply.split(b"\r\n", 1)[0].decode("latin-1")
            if status_line.split(" ")[1:2] == ["200"]:
                self._opened.set_result(None)
            else:
                self._opened.set_exception(_Lost(f"the proxy refused (`{status_line[:100]}`)", answered=False))
        elif len(self._reply) > HEAD_BYTES_MAX:
            self._opened.set_exception(_Lost("the proxy's reply is not HTTP", answered=False))

    def connection_lost(self, error: Exception | None) -> None:
        if self._opened is not None and not self._opened.done():
            self._opened.set_exception(_Lost(f"the proxy closed the connection{_because(error)}", answered=False))


_RETRY_LATER = "check the network and run the same command again"


def _because(error: Exception | None) -> str:
    return f" ({error})" if error is not None and str(error) else ""


def static_head(origin: Origin, request: HttpRequest) -> str:
    """The part of a request's head that stays the same however often it is sent, for `HttpRequest.head`.

    Without a proxy only: the request line is in it.
    """
    head = _head(origin, request, absolute=False, proxy=None)
    return head.decode("utf-8", "surrogateescape").removesuffix("\r\n\r\n")


def _head(origin: Origin, request: HttpRequest, *, absolute: bool, proxy: str | None) -> bytes:
    if request.head:
        changing = "".join([f"\r\n{name}: {value}" for name, value in request.headers.items()])
        if changing.count("\n") != len(request.headers) or changing.count("\r") != len(request.headers):
            raise ValueError("a line break in a header would start another header")
        return f"{request.head}{changing}\r\n\r\n".encode("utf-8", "surrogateescape")
    target = f"{request.path}?{request.query}" if request.query else request.path
    if absolute:
        target = f"{origin.scheme}://{request.headers['host']}{target}"
    lines = [f"{request.method} {target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers.items()]
    if request.body or request.method not in ("GET", "HEAD"):
        lines.append(f"content-length: {len(request.body)}")
    if origin.scheme == "https":  # on one's own machine compression costs more than it saves
        lines.append("accept-encoding: gzip")
    if absolute and (authorization := _proxy_authorization(proxy)) is not None:
        lines.append(f"proxy-authorization: {authorization}")
    head = "\r\n".join(lines)
    if head.count("\n") != len(lines) - 1 or head.count("\r") != len(lines) - 1:
        raise ValueError("a line break in a header would start another header")
    return f"{head}\r\n\r\n".encode("utf-8", "surrogateescape")


def _proxy_authorization(proxy: str | None) -> str | None:
    parts = urlsplit(proxy or "")
    if parts.username is None:
        return None
    pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
    return f"Basic {b64encode(pair.encode()).decode()}"
