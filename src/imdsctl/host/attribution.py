"""Which process is at the other end of a connection, asked while it waits for its answer: so it is always there."""

from __future__ import annotations

from collections import deque
from ipaddress import ip_address
from pathlib import Path

from imdsctl.host.processes import PROC, Process, holder, read_process
from imdsctl.host.sock_diag import SockDiag

RECENT_PIDS_MAX = 8


class Attribution:
    """Looks clients up in one network namespace, among the processes that one /proc shows.

    `diag` asks the namespace, `proc` is where its processes are looked for. A client in a network namespace that the
    program made itself is not found.
    """

    def __init__(self, diag: SockDiag, proc: Path = PROC) -> None:
        self._diag = diag
        self._proc = proc
        self._recent: deque[int] = deque(maxlen=RECENT_PIDS_MAX)

    def who(self, client: tuple[str, int], service: tuple[str, int]) -> Process | None:
        """The process that has the socket; None: it is not known. Addresses as Python's sockets give them."""
        try:
            inode = self._diag.inode(_packed(client), _packed(service))
        except (OSError, ValueError):
            return None
        if inode is None:
            return None
        pid = holder(inode, self._proc, self._recent)
        if pid is None:
            return None
        if pid not in self._recent:
            self._recent.append(pid)
        return read_process(pid, self._proc)

    def close(self) -> None:
        """Ask no more."""
        self._diag.close()


def _packed(address: tuple[str, int]) -> tuple[bytes, int]:
    return ip_address(address[0].partition("%")[0]).packed, address[1]
