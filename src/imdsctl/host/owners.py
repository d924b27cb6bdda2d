"""Who made a connection: what the hooks told at connect time, else what a look at the sockets finds."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from imdsctl.host.connect_hooks import Address, Caller, Event
from imdsctl.host.packets import Client
from imdsctl.host.processes import Place, Process, place_of, read_process
from imdsctl.host.socket_lookup import SocketLookup
from imdsctl.host.trace_table import Tally, TraceTable, Unattributed

CALLERS_MAX = 10_000
"""So many connects may wait for the kernel to choose their address."""
CLIENTS_MAX = 50_000
"""So many connections may be told by the hooks before their first packet is read."""
UNSEEN_SECONDS = 5.0
"""A connection without a packet in this time is one whose packets do not come by this host's interfaces."""
PROCESSES_MAX = 4_096
PROCESS_SECONDS_MAX = 0.1
"""So long what was read of a process is good: it may begin another program."""
PID_SECONDS_MAX = 1.0
"""So long a process that is gone is the one that was read before: numbers do not come round in this time."""
_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


Key = TypeVar("Key")
Value = TypeVar("Value")


@dataclass(slots=True)
class Owner:
    """Who made a connection, or will be known to have; its calls are counted here until then."""

    tally: Tally = field(default_factory=Tally)


class Owners:
    """Gives every connection its owner and has what is counted for it end up in the table."""

    def __init__(self, table: TraceTable, lookup: SocketLookup, cgroup: Path | None = None) -> None:
        self._table = table
        self._lookup = lookup
        self._cgroup = cgroup
        self._callers: dict[int, Process] = {}
        self._clients: dict[Client, tuple[Process, float]] = {}
        self._processes: dict[int, tuple[Process, float]] = {}

    def heard(self, events: Iterable[Event]) -> None:
        """Take what the hooks saw. At once: the processes may not live long."""
        for event in events:
            if isinstance(event, Caller):
                _put(self._callers, event.cookie, self._process(event), CALLERS_MAX)
            elif isinstance(event, Address) and (process := self._callers.pop(event.cookie, None)) is not None:
                self._clients.pop(event.client, None)
                _put(self._clients, event.client, (process, time.monotonic()), CLIENTS_MAX)

    def of(self, client: Client) -> Owner:
        """The owner of a connection that begins now."""
        owner = Owner()
        owner.tally.connections = 1
        told = self._clients.pop(client, None)
        if told is not None:
            self._settle(owner, told[0])
        elif not self._lookup.ask(client, owner):
            self._settle(owner, Unattributed.TOO_MANY)
        return owner

    def take_answers(self) -> None:
        """Count for those who were found what their connections did meanwhile."""
        for owner, who in self._lookup.answers():
            self._settle(owner, who)

    def expire(self, now: float) -> None:
        """Count connects that no packet followed, `now` on the monotonic clock. To be called about once a second.

        What is left here must go: its address may come again, in another network namespace, with another process.
        """
        while self._clients:
            client = next(iter(self._clients))
            process, told_at = self._clients[client]
            if now - told_at < UNSEEN_SECONDS:
                return
            del self._clients[client]
            self._table.of(process).unseen += 1

    def _settle(self, owner: Owner, who: Process | Unattributed) -> None:
        tally = self._table.of(who)
        tally.merge(owner.tally)
        owner.tally = tally

    def _process(self, caller: Caller) -> Process:
        now = time.monotonic()
        known = self._processes.get(caller.pid)
        if known is not None and now - known[1] <= PROCESS_SECONDS_MAX:
            return known[0]
        process = read_process(caller.pid)
        # One that began after the connect has the number of one that is gone; one without arguments ended meanwhile.
        late = process is None or (process.started or 0.0) > caller.boot_seconds + _TICK_SECONDS or not process.command
        if process is None or late:
            if known is not None and now - known[1] <= PID_SECONDS_MAX and known[0].name == caller.name:
                return known[0]
            place = cgroup_place(self._cgroup, caller.cgroup_id) if self._cgroup else Place()
            return Process(caller.pid, caller.name, uid=caller.uid, place=place)
        self._processes.pop(caller.pid, None)
        _put(self._processes, caller.pid, (process, now), PROCESSES_MAX)
        return process


def _put(into: dict[Key, Value], key: Key, value: Value, most: int) -> None:
    """Add to a dict that holds so many at most: the one that came first gives way."""
    if len(into) >= most:
        del into[next(iter(into))]
    into[key] = value


_FILEID_KERNFS = 0xFE


def cgroup_place(root: Path, cgroup_id: int) -> Place:
    """Where a cgroup2's number leads, for a process that is gone; an empty place when the cgroup is gone, too."""

    class Handle(ctypes.Structure):
        _fields_ = [("size", ctypes.c_uint), ("kind", ctypes.c_int), ("number", ctypes.c_uint64)]

    libc = ctypes.CDLL(None, use_errno=True)
    mount = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = libc.open_by_handle_at(mount, ctypes.byref(Handle(8, _FILEID_KERNFS, cgroup_id)), os.O_RDONLY)
        if fd < 0:
            return Place()
        try:
            return place_of(os.readlink(f"/proc/self/fd/{fd}"))
        finally:
            os.close(fd)
    finally:
        os.close(mount)
