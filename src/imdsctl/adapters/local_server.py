"""Runs a local AWS: a world, its log, the HTTP server, and the signals that end it."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import secrets
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imdsctl import __version__
from imdsctl.adapters.event_loop import loop_factory
from imdsctl.adapters.http_server import HttpServer
from imdsctl.adapters.local_listeners import Listeners
from imdsctl.adapters.local_registry import Entry, Registry
from imdsctl.adapters.models import load_service
from imdsctl.adapters.state_directory import StateDirectory
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.local import account, autoscaling, ec2, iam, sts
from imdsctl.local.adversary import Adversary
from imdsctl.local.call import Operations
from imdsctl.local.cloudtrail import operations as cloudtrail
from imdsctl.local.cloudwatch import operations as cloudwatch
from imdsctl.local.faults import Faults
from imdsctl.local.generator import make_world
from imdsctl.local.later import Later
from imdsctl.local.metadata.control import Control
from imdsctl.local.metadata.operations import OPERATIONS as OWN_OPERATIONS
from imdsctl.local.organizations import operations as organizations
from imdsctl.local.pipeline import OWN, LocalAws
from imdsctl.local.spec import WorldSpec
from imdsctl.local.ssm import operations as ssm
from imdsctl.local.throttle import Throttle, Throttling
from imdsctl.local.world import World
from imdsctl.wire.service import Service

OPERATIONS: Mapping[str, Operations] = {
    "ec2": ec2.OPERATIONS,
    "autoscaling": autoscaling.OPERATIONS,
    "iam": iam.OPERATIONS,
    "sts": sts.OPERATIONS,
    "organizations": organizations.OPERATIONS,
    "account": account.OPERATIONS,
    "ssm": ssm.OPERATIONS,
    "monitoring": cloudwatch.OPERATIONS,
    "cloudtrail": cloudtrail.OPERATIONS,
    "appstream": Later("imdsctl.local.appstream.operations"),
    "ecs": Later("imdsctl.local.ecs.operations"),
    "eks": Later("imdsctl.local.eks.operations"),
    "elasticbeanstalk": Later("imdsctl.local.beanstalk.operations"),
    "elasticmapreduce": Later("imdsctl.local.emr.operations"),
    "imagebuilder": Later("imdsctl.local.imagebuilder.operations"),
    "lightsail": Later("imdsctl.local.lightsail.operations"),
    "sagemaker": Later("imdsctl.local.sagemaker.operations"),
    "sqs": Later("imdsctl.local.sqs.operations"),
}
"""What the local AWS implements, by signing name."""

COUNTS_KEPT_SECONDS = 60.0
"""How often the counts of metadata requests are logged."""


MODEL_NAMES = {
    "elasticmapreduce": "emr",
    "monitoring": "cloudwatch",
}
"""botocore's name of a service where it is not its signing name."""


class Services(Mapping[str, Service]):
    """The compiled models of what is implemented, each loaded when it is first asked for."""

    def __getitem__(self, name: str) -> Service:
        if name not in OPERATIONS:
            raise KeyError(name)
        return load_service(MODEL_NAMES.get(name, name))

    def __contains__(self, name: object) -> bool:
        return name in OPERATIONS

    def __iter__(self) -> Iterator[str]:
        return iter(OPERATIONS)

    def __len__(self) -> int:
        return len(OPERATIONS)


@dataclass(frozen=True, slots=True)
class Settings:
    """How to serve: where, and where to be found."""

    host: str
    port: int
    registry: Registry
    log: str | None = None
    throttling: Throttling = Throttling.WRITES
    latency_seconds: float = 0.0
    """How late every answer of AWS's APIs is."""
    faults: Faults | None = None


def report_bug(text: str) -> None:
    """Where tracebacks of bugs go: the server's log."""
    print(text, file=sys.stderr, flush=True)


def local_aws(
    world: World,
    state: StateDirectory | None = None,
    *,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    status: Callable[[], Mapping[str, Any]] = dict,
    report: Callable[[str], None] = report_bug,
    throttle: Throttle | None = None,
) -> LocalAws:
    """The local AWS of a world, with what a state directory remembers applied to it.

    Raises DiagnosticError when the state is damaged.
    """
    operations = {**OPERATIONS, OWN: OWN_OPERATIONS}
    aws = LocalAws(world, Services(), operations, clock, state, status=status, report=report, throttle=throttle)
    if state is not None:
        for record in state.records():
            aws.replay(record)
    return aws


def listen(host: str, port: int) -> socket.socket:
    """A bound socket. Raises DiagnosticError with what to do when the address cannot be had."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise _no_address(host, port, error) from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Asked here and not by the loop: two servers may bind one address, but only one may listen.
        listener.listen(1024)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            raise DiagnosticError(
                Diagnostic(
                    "port-in-use",
                    f"port {port} is in use already",
                    subject=f"{host}:{port}",
                    hint="`imdsctl local status` shows what runs; `imdsctl local up --port N` takes another port",
                )
            ) from None
        raise _no_address(host, port, error) from None
    return listener


def serve(
    spec: WorldSpec,
    state: StateDirectory | None,
    settings: Settings,
    announce: Callable[[Entry, World], None],
) -> None:
    """Serve until SIGTERM or SIGINT. `announce` is called when requests are answered.

    Raises DiagnosticError for everything that the user can mend.
    """
    listener = listen(settings.host, settings.port)
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(_serve(spec, state, settings, listener, announce))
    finally:
        listener.close()


async def _serve(
    spec: WorldSpec,
    state: StateDirectory | None,
    settings: Settings,
    listener: socket.socket,
    announce: Callable[[Entry, World], None],
) -> None:
    # What was loaded stays. From here on garbage is looked for: a long log is replayed, then requests come.
    gc.freeze()
    gc.enable()
    # A world grows with what is asked of it, and stays. To go through all of it whenever it is a quarter larger, as
    # Python does, is a third of a second of silence at 34,000 instances; ten million new objects are a reason to.
    gc.set_threshold(10_000, 10, 100)
    world = make_world(spec)
    host, port = listener.getsockname()[:2]
    entry = Entry(
        pid=os.getpid(),
        token=secrets.token_hex(16),
        host={"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host),
        port=port,
        state=str(state.path.resolve()) if state is not None else None,
        spec=spec,
        log=settings.log,
        control=secrets.token_hex(32),
    )

    def status() -> dict[str, Any]:
        return {
            "imdsctl": __version__,
            "pid": entry.pid,
            "token": entry.token,
            "accounts": len(world.accounts),
            "writes": world.sequence,
            "regions_touched": sum(1 for _ in world.touched()),
            "faults": adversary.faults.hit if adversary is not None else [],
        }

    adversary: Adversary | None = None
    aws = local_aws(world, state, status=status, throttle=Throttle(settings.throttling))
    if settings.faults is not None or settings.latency_seconds:
        adversary = Adversary(aws, settings.faults, settings.latency_seconds, MODEL_NAMES)
    for name in ("ec2", "sts"):
        load_service(name)
    listeners = Listeners(aws.metadata, settings.host, entry.host, listen, report_bug)
    aws.control = Control(aws.metadata, entry.control, listeners.open, aws.write)
    server = HttpServer(aws.handle, state, adversary.deliver if adversary is not None else None)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, server.stopped.set)
    # What exists now lives as long as the server does: no collection has to walk it again.
    gc.collect()
    gc.freeze()
    await server.start(listener)
    try:
        settings.registry.register(entry)
    except OSError as error:
        await server.close()
        raise DiagnosticError(
            Diagnostic(
                "runtime-not-writable",
                f"the server cannot be registered: {error.strerror or error}",
                subject=str(settings.registry.path),
                hint="set XDG_RUNTIME_DIR to a directory of yours",
            )
        ) from None
    counting = loop.create_task(_keep_counts(aws, server))
    try:
        announce(entry, world)
        await server.stopped.wait()
        counting.cancel()
        await listeners.close()
        _keep(aws, server)
        await server.close()
    finally:
        if state is not None:
            state.close()
        settings.registry.remove(entry)
    if server.failure is not None:
        raise DiagnosticError(
            Diagnostic(
                "state-not-writable",
                f"the log could not be written: {server.failure.strerror or server.failure}; no write was answered "
                "that is not on disk",
                subject=entry.state,
                hint="make room on the disk and start again with the same `--state`",
            )
        )


async def _keep_counts(aws: LocalAws, server: HttpServer) -> None:
    """What instances were asked goes to the log once in a while, and not with each request: there may be thousands."""
    while True:
        await asyncio.sleep(COUNTS_KEPT_SECONDS)
        _keep(aws, server)


def _keep(aws: LocalAws, server: HttpServer) -> None:
    aws.keep_metadata_counts()
    server.make_durable()


def state_path(text: str) -> Path:
    """A state directory as the user wrote it."""
    return Path(text).expanduser()


def _no_address(host: str, port: int, error: Exception) -> DiagnosticError:
    what = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return DiagnosticError(
        Diagnostic(
            "address-not-available",
            f"cannot listen there: {what}",
            subject=f"{host}:{port}",
            hint="`--host` takes an address of this machine, `--port` a port from 1024 up (0: any free one)",
        )
    )
