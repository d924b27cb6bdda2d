"""`imdsctl trace`: capture and hooks in, a table of who calls the metadata service out. It only observes."""

from __future__ import annotations

import errno
import selectors
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from imdsctl.host.calls import Call
from imdsctl.host.capture import Capture
from imdsctl.host.connect_hooks import ConnectHooks, cgroup2_root
from imdsctl.host.connections import Connections
from imdsctl.host.owners import Owner, Owners
from imdsctl.host.packets import Decoder
from imdsctl.host.processes import foreign_namespace
from imdsctl.host.socket_lookup import SocketLookup
from imdsctl.host.trace_table import TraceTable

PACKETS_AT_ONCE = 512
READS_AT_ONCE = 16
PACKETS_SECONDS = 0.01
"""Under load packets are read this often, many at a time. Connects are heard at once."""
HOUSEKEEPING_SECONDS = 1.0
LAST_LOOKUPS_SECONDS_MAX = 2.0


@dataclass(frozen=True, slots=True)
class Health:
    """What the capture itself has to say. `hooks_problem` is None while connect hooks tell who connects."""

    seconds: float
    packets: int
    packets_lost: int
    connections_given_up: int
    hooks_problem: str | None


class Tracer(AbstractContextManager["Tracer"]):
    """Sees calls from the moment it is entered. Raises DiagnosticError when packets cannot be captured.

    `use_hooks` False: never ask for the kernel's hooks. `lock` is held while the table changes.
    """

    def __init__(self, *, use_hooks: bool = True) -> None:
        self.table = TraceTable()
        self.lock = threading.Lock()
        self._stopped = False
        self._began = time.monotonic()
        # A clock that never goes back, in seconds since 1970.
        self._wall = time.time() - self._began
        self._hooks: ConnectHooks | None = None
        self._hooks_problem: str | None = "not asked for"
        self._capture = Capture()
        root = None
        if use_hooks:
            root = self._attach_hooks()
        self._lookup = SocketLookup()
        self._owners = Owners(self.table, self._lookup, root)
        self._decoder = Decoder()
        self._connections: Connections[Owner] = Connections(self._owners.of)

    def _attach_hooks(self) -> Path | None:
        root = cgroup2_root(Path("/proc/self/mounts").read_text())
        if root is None:
            self._hooks_problem = "there is no cgroup2 hierarchy here to attach them to"
        elif (kind := foreign_namespace()) is not None:
            self._hooks_problem = f"this is a container's {kind} namespace, not the host's"
        else:
            try:
                self._hooks = ConnectHooks(root)
                self._hooks_problem = None
            except OSError as error:
                permission = error.errno in (errno.EPERM, errno.EACCES)
                words = "the kernel does not allow them" if permission else "the kernel does not have them"
                self._hooks_problem = f"{words}: {error.strerror}"
        return root

    def __exit__(self, *_: object) -> None:
        self._lookup.close(0.0)
        self._capture.close()
        if self._hooks is not None:
            self._hooks.close()

    @property
    def hooks_problem(self) -> str | None:
        """Why connect hooks are not used; None: they are."""
        return self._hooks_problem

    def health(self) -> Health:
        """How the capture does, as of the last second."""
        return Health(
            time.monotonic() - self._began,
            self._capture.packets,
            self._capture.lost,
            self._connections.given_up,
            self._hooks_problem,
        )

    def stop(self) -> None:
        """Have `run` return at once. May be called by a signal's handler."""
        self._stopped = True
        self._lookup.wake()

    def run(self, seconds: float | None = None, tick: Callable[[], None] | None = None) -> None:
        """Observe for so long (None: until `stop`, or KeyboardInterrupt); `tick` is called about once a second."""
        until = None if seconds is None else time.monotonic() + seconds
        housekeeping = time.monotonic() + HOUSEKEEPING_SECONDS
        with selectors.DefaultSelector() as ready:
            ready.register(self._lookup, selectors.EVENT_READ)
            if self._hooks is not None:
                ready.register(self._hooks, selectors.EVENT_READ)
            ready.register(self._capture, selectors.EVENT_READ)
            packets_at = 0.0
            while not self._stopped:
                now = time.monotonic()
                if until is not None and now >= until:
                    break
                if now >= housekeeping:
                    housekeeping = now + HOUSEKEEPING_SECONDS
                    self._housekeep(now)
                    if tick is not None:
                        tick()
                wakes = [housekeeping] if until is None else [housekeeping, until]
                if packets_at:
                    wakes.append(packets_at)
                ready.select(max(0.0, min(wakes) - now))
                self._hear()
                if not packets_at or time.monotonic() >= packets_at:
                    some = self._read_packets()
                    if self._hooks is None:
                        continue  # who sent a packet is looked up after it, so every packet is news at once
                    if some and not packets_at:
                        ready.unregister(self._capture)
                    elif not some and packets_at:
                        ready.register(self._capture, selectors.EVENT_READ)
                    packets_at = time.monotonic() + PACKETS_SECONDS if some else 0.0

    def finish(self) -> None:
        """Take what is still to be had: packets that wait, answers to come, requests that stay without one."""
        self._capture.pause()
        while self._read_packets():
            pass
        calls: list[tuple[Owner, Call]] = []
        with self.lock:
            self._connections.finish(calls)
            _count(calls)
        self._lookup.close(LAST_LOOKUPS_SECONDS_MAX)
        with self.lock:
            self._owners.take_answers()
        self._capture.count()

    def _hear(self) -> None:
        with self.lock:
            if self._hooks is not None:
                self._owners.heard(self._hooks.events())
            self._owners.take_answers()

    def _read_packets(self) -> bool:
        """Read what was captured; True when there was something."""
        for _ in range(READS_AT_ONCE):
            frames = self._capture.read(PACKETS_AT_ONCE)
            if frames:
                # What the hooks have to say about these packets is there by now: they run before a packet leaves.
                self._hear()
                self._take(frames)
            if len(frames) < PACKETS_AT_ONCE:
                return bool(frames)
        return True

    def _take(self, frames: list[bytes]) -> None:
        now = self._wall + time.monotonic()
        calls: list[tuple[Owner, Call]] = []
        decode, add = self._decoder.decode, self._connections.add
        with self.lock:
            for frame in frames:
                segment = decode(frame)
                if segment is not None:
                    add(segment, now, calls)
            _count(calls)

    def _housekeep(self, now: float) -> None:
        self._capture.count()
        calls: list[tuple[Owner, Call]] = []
        with self.lock:
            self._connections.expire(self._wall + now, calls)
            self._owners.expire(now)
            _count(calls)


def _count(calls: list[tuple[Owner, Call]]) -> None:
    for owner, call in calls:
        owner.tally.add(call)
