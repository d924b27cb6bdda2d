"""The listeners through which programs of this machine reach the metadata services of the local AWS's instances."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import replace
from typing import cast

from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.imds.messages import Reply, Request
from imdsctl.local.metadata.services import Place, Services

Listen = Callable[[str, int], socket.socket]


class Listeners:
    """One listener for an instance, opened when it is asked for. For one event loop.

    `host` is where to listen and `shown` how a program of this machine names it. `listen` gives a bound socket that
    listens; it raises DiagnosticError.
    """

    def __init__(self, services: Services, host: str, shown: str, listen: Listen) -> None:
        self._services = services
        self._host = host
        self._shown = f"[{shown}]" if ":" in shown else shown
        self._listen = listen
        self._endpoints: dict[Place, str] = {}
        self._servers: list[asyncio.Task[asyncio.Server]] = []

    def open(self, place: Place, port: int) -> str:
        """The URL of an instance's service. The port is taken when it is opened; an open one keeps its own.

        Raises DiagnosticError when the port cannot be had.
        """
        endpoint = self._endpoints.get(place)
        if endpoint is None:
            try:
                listener = self._listen(self._host, port)
            except DiagnosticError as error:
                raise DiagnosticError(
                    replace(each, hint="leave `--listen` out: any free port is taken") for each in error.diagnostics
                ) from None
            endpoint = f"http://{self._shown}:{listener.getsockname()[1]}"
            self._endpoints[place] = endpoint
            # The socket takes connections already: none is refused before the server has begun.
            self._servers.append(asyncio.get_running_loop().create_task(self._serve(place, listener)))
        return endpoint

    async def close(self) -> None:
        """Close every listener."""
        for task in self._servers:
            server = await task
            server.close()
        self._servers.clear()
        self._endpoints.clear()

    async def _serve(self, place: Place, listener: socket.socket) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        return await loop.create_server(
            lambda: _Connection(lambda request: self._services.respond(place, request)), sock=listener
        )


class _Connection(asyncio.Protocol):
    def __init__(self, respond: Callable[[Request], Reply | None]) -> None:
        self._respond = respond
        self._data = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        head, found, _ = self._data.partition(b"\r\n\r\n")
        if found:
            line, *fields = head.split(b"\r\n")
            method, target, _ = line.split(b" ", 2)
            headers = [(n.lower(), v.strip()) for n, _, v in (each.partition(b":") for each in fields)]
            reply = self._respond(Request(method.decode(), target, headers))
            if reply is not None:
                self._transport.write(reply.content)
            self._transport.close()
