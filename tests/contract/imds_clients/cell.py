"""One program in one cell: network namespaces, a metadata service, the program, and what came of it."""

from __future__ import annotations

import asyncio
import os
import re
import select
import signal
import socket
import tempfile
import threading
from collections import Counter
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from tests.contract.imds_clients.table import Cell

from imdsctl.adapters.metadata_server import MetadataServer, Peer
from imdsctl.domain.options import HttpTokens
from imdsctl.host.bed import SERVICE, Bed
from imdsctl.imds.fixed import DEFAULT_OPTIONS, FixedSource, example_credentials, example_facts
from imdsctl.imds.identity import IdentitySigner
from imdsctl.imds.messages import Access, Reply, Request
from imdsctl.imds.service import MetadataService

T = TypeVar("T")

ADDRESSES = ("169.254.169.254", "fd00:ec2::254")
INSTANCE = replace(
    example_facts(role="web"),
    user_data=b"#!/bin/sh\n",
    public_key=(
        "ops",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f ops@example.org",
    ),
)
ACCESS_KEY = re.compile(r"ASIAEXAMPLEV(?P<version>[12])[A-Z2-7]{7}")
"""What `example_credentials` makes: it says by which version it was fetched."""


@dataclass(frozen=True)
class Observation:
    """What a program put out until `ended` (or until its time was up), and what the service saw of it."""

    output: str
    ended: bool
    seen: Mapping[Access, int]

    def got(self, what: str) -> bool:
        """The output holds what the client was to get."""
        if what == "instance-id":
            return INSTANCE.instance_id in self.output
        return ACCESS_KEY.search(self.output) is not None

    def outcome(self, what: str) -> str:
        """In the table's words."""
        v1, v2 = self.seen[Access.V1], self.seen[Access.V2]
        if self.got(what):
            return "v1 and v2" if v1 and v2 else "v1" if v1 else "v2"
        if not self.ended:
            return "waits"
        return "refused" if self.seen[Access.V1_REFUSED] else "no token"

    def delivery(self) -> str | None:
        """By which version the credentials in the output were fetched; None when there are none."""
        found = ACCESS_KEY.search(self.output)
        return None if found is None else f"v{found['version']}"


class Services:
    """Metadata services of many namespaces, in one thread."""

    def __enter__(self) -> Services:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._signer = IdentitySigner.generate(INSTANCE.pending_time)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def observe(self, cell: Cell, command: Sequence[str], env: Mapping[str, str], seconds_max: float) -> Observation:
        """Run a command in a cell until it ends, or for so long; nothing of it is left running.

        Its home is empty. It has no way to any other address, so that looking up a name fails at once.
        """
        with tempfile.TemporaryDirectory() as home, tempfile.TemporaryFile() as output, Bed(hops=cell.hops) as bed:
            seen: Counter[Access] = Counter()
            listeners = [bed.listen(SERVICE, address, 80) for address in ADDRESSES]
            server = self._do(self._serve(cell, listeners, seen))
            env = {"PATH": os.environ["PATH"], "HOME": home, "LANG": "C.UTF-8", **env}
            with open(os.devnull) as nothing:
                program = bed.start(command, env=env, stdio=[nothing.fileno(), output.fileno(), output.fileno()])
            ended = bool(select.select([program], [], [], seconds_max)[0])
            if not ended:
                program.signal(signal.SIGKILL)
            program.code()
            bed.close()
            self._do(server.close())
            output.seek(0)
            return Observation(output.read().decode(errors="replace"), ended, seen)

    def _do(self, what: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(what, self._loop).result()

    async def _serve(self, cell: Cell, listeners: Sequence[socket.socket], counts: Counter[Access]) -> MetadataServer:
        """The metadata service of a cell; what it sees is counted."""
        options = replace(
            DEFAULT_OPTIONS, http_tokens=HttpTokens(cell.http_tokens), http_put_response_hop_limit=cell.hop_limit
        )
        source = FixedSource(options, INSTANCE, example_credentials)
        service = MetadataService(source, os.urandom(32), signer=self._signer)

        def seen(peer: Peer, request: Request | None, reply: Reply) -> None:
            counts[reply.access] += 1

        server = MetadataServer(lambda request, _: service.respond(request, server.clock()), seen=seen)
        await server.start(listeners)
        return server
