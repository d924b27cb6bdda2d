"""`--network host-loopback`: what listens on this host's loopback listens in the program's network, too.

Every TCP port that programs of this host could reach at a loopback address gets a listener at the same address there,
whose connections are passed on. Ports come and go with those of the host. A port that the program took itself is its
own. UDP is not passed on.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

SCAN_SECONDS = 0.5
PORTS_MAX = 1_024
CHUNK_BYTES = 64 * 1024
TABLES = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))

Address = tuple[str, int]

_LISTEN = "0A"


def listening(table: str) -> Iterator[Address]:
    """The loopback addresses and ports that answer, from the text of /proc/net/tcp or tcp6.

    Source: Linux, Documentation/networking/proc_net_tcp.rst: addresses as 32-bit words in the machine's byte order.
    """
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 4 or fields[3] != _LISTEN:
            continue
        words, _, port = fields[1].partition(":")
        packed = b"".join(struct.pack("=I", int(words[at : at + 8], 16)) for at in range(0, len(words), 8))
        for address in _loopback(packed):
            yield address, int(port, 16)


def _loopback(packed: bytes) -> Iterable[str]:
    """At which loopback addresses a listener on this address is reached."""
    if len(packed) == 16:
        address = IPv6Address(packed)
        if address.ipv4_mapped is not None:
            return _loopback(address.ipv4_mapped.packed)
        if address.is_unspecified:
            return ("::1", "127.0.0.1")  # on most systems a listener on :: is there for both
        return ("::1",) if address.is_loopback else ()
    found = IPv4Address(packed)
    if found.is_unspecified:
        return ("127.0.0.1",)
    return (str(found),) if found.is_loopback else ()


class LoopbackMirror:
    """Listens in the program's network through `listen(address, port)`. For one event loop."""

    def __init__(self, listen: Callable[[str, int], socket.socket]) -> None:
        self._listen = listen
        self._servers: dict[Address, asyncio.Server] = {}
        self._scanning: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Mirror what listens now, and from here on what begins to."""
        await self._scan()
        self._scanning = asyncio.create_task(self._keep_scanning())

    async def close(self) -> None:
        """End the listeners; connections that are open go with the event loop."""
        if self._scanning is not None:
            self._scanning.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._scanning
        for server in self._servers.values():
            server.close()

    async def _keep_scanning(self) -> None:
        while True:
            await asyncio.sleep(SCAN_SECONDS)
            await self._scan()

    async def _scan(self) -> None:
        there: set[Address] = set()
        for table in TABLES:
            with contextlib.suppress(OSError):
                there.update(listening(table.read_text()))
        for gone in self._servers.keys() - there:
            self._servers.pop(gone).close()
        for address in sorted(there - self._servers.keys())[: PORTS_MAX - len(self._servers)]:
            # In use: the program has that port itself.
            with contextlib.suppress(OSError):
                listener = self._listen(*address)
                self._servers[address] = await asyncio.start_server(partial(_pass_on, address), sock=listener)


async def _pass_on(address: Address, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        theirs, to_them = await asyncio.open_connection(*address)
    except OSError:
        writer.transport.abort()
        return
    try:
        await asyncio.gather(_pump(reader, to_them), _pump(theirs, writer))
    except OSError:
        pass  # one end is gone: so is the other
    finally:
        to_them.transport.abort()
        writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One direction, to its end, which is passed on as well."""
    while data := await reader.read(CHUNK_BYTES):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        if writer.can_write_eof():
            writer.write_eof()
    await writer.drain()
