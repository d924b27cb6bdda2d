"""The listeners through which programs of this machine reach the metadata services of the local AWS's instances."""

from __future__ import annotations

import asyncio
import socket
import traceback
from collections.abc import Callable
from dataclasses import replace

from imdsctl.adapters.metadata_server import MetadataServer, Peer
from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.imds.messages import Access, Reply, Request
from imdsctl.local.metadata.services import Place, Services

NOBODY = Reply(b"", 0, Access.REFUSED, "")
"""Where nothing listens: the connection is closed without a word."""


class Listeners:
    """One port for an instance, opened when it is asked for. For one event loop.

    `host` is where to listen and `shown` how a program of this machine names it. `listen` gives a bound socket that
    listens; it raises DiagnosticError. `report` takes the traceback of a bug, which closes a connection.
    """

    def __init__(
        self,
        services: Services,
        host: str,
        shown: str,
        listen: Callable[[str, int], socket.socket],
        report: Callable[[str], None],
    ) -> None:
        self._services = services
        self._host = host
        self._shown = f"[{shown}]" if ":" in shown else shown
        self._listen = listen
        self._report = report
        self._ports: dict[Place, int] = {}
        self._places: dict[int, Place] = {}
        self._server = MetadataServer(self._respond)
        self._starting: set[asyncio.Task[None]] = set()

    def open(self, place: Place, port: int) -> str:
        """The URL of an instance's service. An instance that has a port keeps it, whatever `port` is asked for.

        Raises DiagnosticError when the port cannot be had.
        """
        open_port = self._ports.get(place)
        if open_port is None:
            try:
                listener = self._listen(self._host, port)
            except DiagnosticError as error:
                raise DiagnosticError(
                    replace(each, hint="leave `--listen` out: any free port is taken") for each in error.diagnostics
                ) from None
            open_port = listener.getsockname()[1]
            self._ports[place], self._places[open_port] = open_port, place
            # The socket takes connections already: none is refused before the server has begun.
            starting = asyncio.get_running_loop().create_task(self._server.start([listener]))
            self._starting.add(starting)
            starting.add_done_callback(self._starting.discard)
        return f"http://{self._shown}:{open_port}"

    async def close(self) -> None:
        """Close every listener."""
        await asyncio.gather(*self._starting)
        await self._server.close()

    def _respond(self, request: Request, peer: Peer) -> Reply:
        if request.ipv6:  # a port stands for 169.254.169.254, whatever address of this machine it is at
            request = replace(request, ipv6=False)
        try:
            return self._services.respond(self._places[peer.local[1]], request) or NOBODY
        except Exception:
            self._report(traceback.format_exc())
            return NOBODY
