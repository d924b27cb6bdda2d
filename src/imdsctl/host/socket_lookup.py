"""Who has the socket of a connection, asked after it was seen: the way where the kernel's hooks may not be used.

A thread asks sock_diag in every network namespace of this host and then looks for the socket among the descriptors of
the processes. Short-lived processes may be gone by then.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imdsctl.host.packets import Client
from imdsctl.host.processes import PROC, Process, holder, pids, read_process
from imdsctl.host.sock_diag import SockDiag
from imdsctl.host.syscalls import enter_network
from imdsctl.host.trace_table import Unattributed

LOOKUPS_WAITING_MAX = 4_096
NAMESPACES_MAX = 256
NAMESPACES_SECONDS_MAX = 1.0
"""So long this stays in other network namespaces: one that should go away must not wait for us."""
RECENT_PIDS_MAX = 4


class SocketLookup:
    """Looks sockets up in a thread of its own. Answers are taken with `answers`, in the thread that asked."""

    def __init__(self) -> None:
        self._wanted: queue.Queue[tuple[Client, Any, float] | None] = queue.Queue(LOOKUPS_WAITING_MAX)
        self._found: deque[tuple[Any, Process | Unattributed]] = deque()
        self._namespaces: dict[str, SockDiag] = {}
        self._namespaces_at = 0.0
        self._recent: deque[int] = deque(maxlen=RECENT_PIDS_MAX)
        self._ready, self._wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._work, name="socket-lookup", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """What to wait on: readable when there is an answer."""
        return self._ready

    def wake(self) -> None:
        """Have whoever waits on this go on."""
        with contextlib.suppress(OSError):
            os.write(self._wake, b"\0")

    def ask(self, client: Client, about: Any) -> bool:
        """Have a client's end looked up; False: too many wait already."""
        try:
            self._wanted.put_nowait((client, about, time.clock_gettime(time.CLOCK_BOOTTIME)))
        except queue.Full:
            return False
        return True

    def answers(self) -> Iterator[tuple[Any, Process | Unattributed]]:
        """What was found since the last time: what the question was about, and who it is."""
        with contextlib.suppress(OSError):
            os.read(self._ready, 65_536)
        while self._found:
            yield self._found.popleft()

    def close(self, seconds_max: float) -> None:
        """Let the thread answer what waits, for so long, and end it. Answers can still be taken afterwards."""
        if not self._thread.is_alive():
            return
        until = time.monotonic() + seconds_max
        while not self._wanted.empty() and time.monotonic() < until:
            time.sleep(0.01)
        with contextlib.suppress(queue.Empty):
            while True:
                _, about, _ = self._wanted.get_nowait() or (None, None, None)
                self._found.append((about, Unattributed.TOO_MANY))
        self._wanted.put(None)
        self._thread.join()
        os.close(self._ready)
        os.close(self._wake)

    def _work(self) -> None:
        home = None
        with contextlib.suppress(OSError):
            home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        while True:
            if time.clock_gettime(time.CLOCK_BOOTTIME) - self._namespaces_at >= NAMESPACES_SECONDS_MAX:
                self._leave_namespaces()
            try:
                wanted = self._wanted.get(timeout=NAMESPACES_SECONDS_MAX if self._namespaces else None)
            except queue.Empty:
                continue
            if wanted is None:
                break
            client, about, asked_at = wanted
            self._found.append((about, self._find(client, asked_at, home)))
            self.wake()
        self._leave_namespaces()
        if home is not None:
            os.close(home)

    def _leave_namespaces(self) -> None:
        for each in self._namespaces.values():
            each.close()
        self._namespaces.clear()
        self._namespaces_at = 0.0

    def _find(self, client: Client, asked_at: float, home: int | None) -> Process | Unattributed:
        inode = self._inode(client)
        # A list of the namespaces from after the connection began has the one that it is in. Many questions that
        # waited share one list.
        if inode is None and self._namespaces_at < asked_at and self._refresh_namespaces(home):
            inode = self._inode(client)
        if inode is None:
            return Unattributed.SOCKET_GONE
        pid = holder(inode, first=self._recent)
        process = read_process(pid) if pid is not None else None
        # A process that began after the connection was seen has the number of one that is gone.
        if process is None or (process.started or 0.0) > asked_at:
            return Unattributed.OWNER_HIDDEN
        self._recent.append(process.pid)
        return process

    def _inode(self, client: Client) -> int | None:
        for name, each in list(self._namespaces.items()):
            try:
                inode = each.inode(client)
            except OSError:
                each.close()
                del self._namespaces[name]
                continue
            if inode is not None:
                return inode
        return None

    def _refresh_namespaces(self, home: int | None) -> bool:
        """Look for network namespaces that are new or gone; True when there is a new one."""
        self._namespaces_at = time.clock_gettime(time.CLOCK_BOOTTIME)
        there: dict[str, Path] = {}
        for pid in pids():
            path = PROC / str(pid) / "ns/net"
            with contextlib.suppress(OSError):
                there.setdefault(os.readlink(path), path)
        for name in [name for name in self._namespaces if name not in there]:
            self._namespaces.pop(name).close()
        new = [name for name in there if name not in self._namespaces][: NAMESPACES_MAX - len(self._namespaces)]
        for name in new:
            with contextlib.suppress(OSError):
                self._namespaces[name] = _inside(there[name], home)
        return bool(new)


def _inside(namespace: Path, home: int | None) -> SockDiag:
    """A socket that asks this network namespace. Only the calling thread goes there, and comes back."""
    if home is None or os.readlink(namespace) == os.readlink("/proc/thread-self/ns/net"):
        return SockDiag()
    fd = os.open(namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        enter_network(fd)
        try:
            return SockDiag()
        finally:
            try:
                enter_network(home)
            except OSError as error:  # not to be taken for a namespace that is gone
                raise RuntimeError("the thread cannot come back from another network namespace") from error
    finally:
        os.close(fd)
