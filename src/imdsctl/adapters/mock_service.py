"""Runs a metadata service that stands alone: its config file, its sockets, the signals that end it."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import ipaddress
import secrets
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from imdsctl.adapters.data_directory import data_directory
from imdsctl.adapters.event_loop import loop_factory
from imdsctl.adapters.identity_keys import LazySigner, kept_signer
from imdsctl.adapters.metadata_server import BACKLOG, MetadataServer, Peer
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.imds.messages import Reply, Request
from imdsctl.imds.mock import Mock, MockSource
from imdsctl.imds.mock_file import MockFile, parse_mock_file
from imdsctl.imds.service import MetadataService

Address = tuple[str, int]


def read_mock_file(path: Path) -> MockFile:
    """A config file. Raises DiagnosticError (usage): `imds-config-unreadable`, and what `parse_mock_file` finds."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = f"byte {error.start} is not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise DiagnosticError(
            Diagnostic(
                "imds-config-unreadable",
                (why or str(error)).lower(),
                str(path),
                "`--config` takes a TOML file; docs/guide.md, `imdsctl imds serve`, shows one",
            ),
            exit_code=2,
        ) from None
    return parse_mock_file(text, str(path), lambda name: (path.parent / name).read_bytes())


def parse_bind(text: str) -> Address:
    """`HOST:PORT` (an IPv6 address in brackets) to its two parts. Raises DiagnosticError `bind-invalid` (usage)."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        if not colon or not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ValueError
        host = host[1:-1] if bracketed else host
        version = 4 if host == "localhost" else ipaddress.ip_address(host).version
        if bracketed != (version == 6):
            raise ValueError
    except ValueError:
        raise DiagnosticError(
            Diagnostic(
                "bind-invalid",
                f"`{text}` is not an address and a port to listen on",
                hint="such as `127.0.0.1:1338`, `[::1]:1338`; port 0 takes any free one",
            ),
            exit_code=2,
        ) from None
    return "127.0.0.1" if host == "localhost" else host, int(port)


@contextmanager
def listeners(binds: Sequence[Address]) -> Iterator[list[socket.socket]]:
    """Sockets that listen, all or none. Raises DiagnosticError: `port-in-use`, `port-not-allowed`, `bind-failed`."""
    with contextlib.ExitStack() as opened:
        yield [opened.enter_context(_listener(bind)) for bind in binds]


def _listener(bind: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in bind[0] else socket.AF_INET
    shown = shown_address(bind)
    try:
        listener = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        raise _no_socket(shown, error) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(bind)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise _no_socket(shown, error) from None
    return listener


def _no_socket(shown: str, error: OSError) -> DiagnosticError:
    if error.errno == errno.EADDRINUSE:
        found = Diagnostic(
            "port-in-use",
            "something listens there already",
            shown,
            "`--bind HOST:PORT` takes another; port 0 any free one",
        )
    elif error.errno in (errno.EACCES, errno.EPERM):
        found = Diagnostic(
            "port-not-allowed",
            "this port needs more rights than you have",
            shown,
            "take a port from 1024 up; `imdsctl run` gives a program the real address without root",
        )
    else:
        found = Diagnostic(
            "bind-failed",
            f"cannot listen there: {(error.strerror or str(error)).lower()}",
            shown,
            "`--bind` takes an address that this machine has",
        )
    return DiagnosticError(found)


def shown_address(address: Address) -> str:
    """`127.0.0.1:1338`, `[::1]:1338`."""
    return f"[{address[0]}]:{address[1]}" if ":" in address[0] else f"{address[0]}:{address[1]}"


def serve(
    mock: Mock,
    binds: Sequence[Address],
    announce: Callable[[Sequence[Address]], None],
    seen: Callable[[Address, Request | None, Reply], None] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT. `announce` is given the addresses once they answer, `seen` every answer.

    Raises DiagnosticError for everything that the user can mend.
    """
    with listeners(binds) as sockets, asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(mock, sockets, announce, seen))


async def _serve(
    mock: Mock,
    sockets: Sequence[socket.socket],
    announce: Callable[[Sequence[Address]], None],
    seen: Callable[[Address, Request | None, Reply], None] | None,
) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    service = MetadataService(
        MockSource(mock, datetime.now(UTC)),
        secrets.token_bytes(32),
        signer=LazySigner(lambda: kept_signer(data_directory())),
    )

    def respond(request: Request, peer: Peer) -> Reply:
        return service.respond(request, time.time())

    def tell(peer: Peer, request: Request | None, reply: Reply) -> None:
        assert seen is not None
        seen(peer.address, request, reply)

    server = MetadataServer(respond, seen=None if seen is None else tell)
    await server.start(sockets)
    try:
        announce([listener.getsockname()[:2] for listener in sockets])
        await stopped.wait()
    finally:
        await server.close()
