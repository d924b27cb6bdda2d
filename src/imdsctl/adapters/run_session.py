"""One `imdsctl run`: a bed with a metadata service in it, a program, and the calls that its processes made."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import re
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from imdsctl.adapters.metadata_server import MetadataServer, Peer
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.metadata_endpoint import SERVICE_IPV4, SERVICE_IPV6, SERVICE_PORT
from imdsctl.domain.readiness import UNKNOWN_CALLER, Caller, Usage, UsageTable, Use
from imdsctl.domain.run_environment import ENDPOINT, ENDPOINT_MODE
from imdsctl.host.attribution import Attribution
from imdsctl.host.bed import PROGRAM, SERVICE, Bed, Program
from imdsctl.host.loopback import LoopbackMirror
from imdsctl.host.sock_diag import NETLINK_SOCK_DIAG, SockDiag
from imdsctl.imds.messages import Access, Reply, Request

FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that go on to the program; any other that ends this process ends everything with it."""
FROM_THE_KERNEL = 0
"""Codes above it are of signals that the terminal sent: to the program as well, which is in the same group."""
EXIT_NOT_EXECUTABLE, EXIT_NOT_FOUND = 126, 127

Respond = Callable[[Request], Reply | Awaitable[Reply]]

_TOKEN = re.compile(r"(?<=-metadata-token: )[\w+/=-]+", re.IGNORECASE)
_USES = {
    Access.TOKEN: Use.TOKEN,
    Access.TOKEN_REFUSED: Use.TOKEN_REFUSED,
    Access.V2: Use.V2,
    Access.V2_REFUSED: Use.V2_REFUSED,
    Access.V1: Use.V1,
    Access.V1_REFUSED: Use.V1_REFUSED,
    Access.REFUSED: Use.OTHER_REFUSED,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run and where. `loopback`: the program reaches this host's loopback services."""

    command: Sequence[str]
    environ: dict[str, str]
    hops: int = 0
    namespaces: bool = True
    loopback: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the program ended (as a shell says it), and who called the metadata service how."""

    code: int
    usages: Sequence[Usage]


def run(plan: Plan, respond: Respond, close: Callable[[], Awaitable[None]] | None = None) -> Outcome:
    """Run a program to its end. `respond` answers for the instance; ConnectionError: the connection is closed.

    `close` is awaited afterwards, in the event loop in which `respond` was called.
    Raises DiagnosticError: `namespaces-refused`, `command-missing` (127), `command-not-executable` (126).
    """
    with Bed(hops=plan.hops, namespaces=plan.namespaces) as bed:
        return asyncio.run(_run(plan, respond, close, bed))


async def _run(plan: Plan, respond: Respond, close: Callable[[], Awaitable[None]] | None, bed: Bed) -> Outcome:
    table = UsageTable()
    attribution = _attribution(plan, bed)
    observer = _Observer(respond, table, attribution, knows_distance=plan.namespaces)
    server = MetadataServer(observer.respond, seen=observer.seen, distances=plan.namespaces)
    mirror = LoopbackMirror(lambda address, port: bed.listen(PROGRAM, address, port))
    environ = dict(plan.environ)
    with contextlib.ExitStack() as opened:
        listeners = [opened.enter_context(each) for each in _listeners(plan, bed)]
        await server.start(listeners)
        if plan.namespaces and plan.loopback:
            await mirror.start()
        if not plan.namespaces:
            environ[ENDPOINT] = f"http://127.0.0.1:{listeners[0].getsockname()[1]}"
            environ.pop(ENDPOINT_MODE, None)  # `IPv6` is refused by some SDKs together with an IPv4 address
        try:
            code = await _to_its_end(bed, plan.command, environ)
        finally:
            await mirror.close()
            await server.close()
            if close is not None:
                await close()
            if attribution is not None:
                attribution.close()
    return Outcome(code, table.usages())


def _listeners(plan: Plan, bed: Bed) -> list[socket.socket]:
    if not plan.namespaces:
        return [bed.listen(SERVICE, "127.0.0.1", 0)]
    made = [bed.listen(SERVICE, SERVICE_IPV4, SERVICE_PORT)]
    try:
        made.append(bed.listen(SERVICE, SERVICE_IPV6, SERVICE_PORT))
    except OSError as error:
        if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):  # a kernel without IPv6
            raise
    return made


def _attribution(plan: Plan, bed: Bed) -> Attribution | None:
    if sys.platform != "linux":
        return None
    netlink = bed.socket(PROGRAM, socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG)
    return Attribution(SockDiag(netlink), bed.proc)


class _Observer:
    """Answers, and writes down who asked."""

    def __init__(
        self, respond: Respond, table: UsageTable, attribution: Attribution | None, *, knows_distance: bool
    ) -> None:
        self._respond = respond
        self._table = table
        self._attribution = attribution
        self._knows_distance = knows_distance
        self._callers: dict[tuple[str, int], tuple[Caller, int | None]] = {}

    def respond(self, request: Request, peer: Peer) -> Reply | Awaitable[Reply]:
        """The answer. Who asks is looked up first: while it waits, it is there."""
        self._callers[peer.address] = self._who(peer)
        return self._respond(request)

    def seen(self, peer: Peer, request: Request | None, reply: Reply) -> None:
        """Count an answer."""
        known = self._callers.pop(peer.address) if peer.address in self._callers else None
        caller, pid = known or self._who(peer)  # what is no request was not answered by `respond`
        routers = peer.distance if self._knows_distance else None
        use = _USES[reply.access]
        if use is Use.TOKEN and routers is not None and reply.hop_limit is not None and reply.hop_limit <= routers:
            use = Use.TOKEN_LOST
        self._table.add(caller, pid, use, reply.path, routers)

    def _who(self, peer: Peer) -> tuple[Caller, int | None]:
        process = self._attribution.who(peer.address, peer.local) if self._attribution is not None else None
        if process is None:
            return UNKNOWN_CALLER, None
        # A token belongs into no report, and calls that differ by it only are the same program's.
        command = _TOKEN.sub("…", process.command)
        return Caller(process.name, command, process.place.container or ""), process.pid


async def _to_its_end(bed: Bed, command: Sequence[str], environ: dict[str, str]) -> int:
    """Start the program, pass signals on to it, and give its exit code."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    try:
        program = bed.start(command, env=environ)
    except OSError as error:
        raise _not_started(command[0], error) from None
    loop.add_reader(program.fileno(), ended.set)
    try:
        with _signals(lambda number: loop.call_soon_threadsafe(_forward, program, number)):
            await ended.wait()
    finally:
        loop.remove_reader(program.fileno())
    return program.code()


def _forward(program: Program, number: int) -> None:
    with contextlib.suppress(ConnectionError, BrokenPipeError):  # the bed is gone: the program, too
        program.signal(number)


def _not_started(command: str, error: OSError) -> DiagnosticError:
    if error.errno in (errno.ENOENT, errno.ENOTDIR):
        found = Diagnostic(
            "command-missing",
            f"there is no program `{command}`",
            hint="what stands behind `--` is run as it is, without a shell: `-- sh -c '...'` for a line of shell",
        )
        return DiagnosticError(found, exit_code=EXIT_NOT_FOUND)
    found = Diagnostic(
        "command-not-executable",
        f"`{command}` cannot be run: {(error.strerror or str(error)).lower()}",
        hint="a script needs `chmod +x` and a first line such as `#!/bin/sh`",
    )
    return DiagnosticError(found, exit_code=EXIT_NOT_EXECUTABLE)


@contextmanager
def _signals(forward: Callable[[int], object]) -> Iterator[None]:
    """Take the signals that would end this process, in a thread that sees where they come from, and pass them on.

    Those that are ignored stay ignored (`nohup`), for the program has inherited that.
    """
    taken = {number for number in FORWARDED if signal.getsignal(number) != signal.SIG_IGN}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, taken)
    stopped = False

    def take() -> None:
        while True:
            info = signal.sigwaitinfo(taken)
            if stopped:
                return
            if info.si_code <= FROM_THE_KERNEL:
                forward(info.si_signo)

    thread = threading.Thread(target=take, name="signals", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopped = True
        if taken and thread.ident is not None:
            signal.pthread_kill(thread.ident, min(taken))
        thread.join()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
