"""Packets of the metadata service on every interface of this host, by AF_PACKET. It only reads."""

from __future__ import annotations

import ctypes
import os
import socket
import struct

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.host.capture_filter import NOTHING, REQUEST_BYTES_MAX, service_filter

SOCKET_BUFFER_BYTES_MAX = 64 * 1024 * 1024
"""What waits for us: some two seconds of 5,000 calls/s. The kernel takes twice of it, and only while it is needed."""
SOCKET_BUFFER_SHARE_MAX = 1 / 32
"""Of this host's memory: a small instance has other uses for it."""

_ETH_P_ALL = 3  # ETH_P_IP would miss what this host sends
_SO_RCVBUFFORCE, _SO_ATTACH_FILTER = 33, 26
_SOL_PACKET, _PACKET_STATISTICS = 263, 6


class Capture:
    """An open capture.

    Raises DiagnosticError `capture-not-permitted` without CAP_NET_RAW, `capture-failed` when there is no such socket.
    """

    def __init__(self) -> None:
        try:
            # Protocol 0: nothing arrives before it is bound, and by then the filter is in place.
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        except PermissionError:
            raise DiagnosticError(
                Diagnostic(
                    "capture-not-permitted",
                    "packets can only be captured with the capability CAP_NET_RAW",
                    hint="use `sudo imdsctl trace`; a container needs the host's network and the capability NET_RAW",
                )
            ) from None
        except OSError as error:
            raise DiagnosticError(
                Diagnostic("capture-failed", f"this kernel offers no packet capture: {error.strerror}")
            ) from None
        self.packets = 0
        self.lost = 0
        self._buffer = bytearray(REQUEST_BYTES_MAX)
        try:
            self._open()
        except BaseException:
            self._socket.close()
            raise

    def _open(self) -> None:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        size = min(SOCKET_BUFFER_BYTES_MAX, int(memory * SOCKET_BUFFER_SHARE_MAX))
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, size)
        except PermissionError:  # CAP_NET_RAW alone: what the system allows to everyone
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        self._attach(service_filter(socket.if_nametoindex("lo")))
        self._socket.setblocking(False)
        # Python's bind wants an interface's name; this one is for all of them.
        address = struct.pack("=HHiHBB8s", socket.AF_PACKET, socket.htons(_ETH_P_ALL), 0, 0, 0, 0, b"")
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.bind(self._socket.fileno(), address, len(address)):
            raise OSError(ctypes.get_errno(), "bind of a packet socket")

    def _attach(self, code: bytes) -> None:
        instructions = ctypes.create_string_buffer(code, len(code))
        program = struct.pack("@HP", len(code) // 8, ctypes.addressof(instructions))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)

    def fileno(self) -> int:
        """What to wait on: readable when there is a packet."""
        return self._socket.fileno()

    def read(self, packets_max: int) -> list[bytes]:
        """What was captured since the last time, at most `packets_max` packets, each from its IP header on."""
        buffer, receive = self._buffer, self._socket.recv_into
        found = []
        for _ in range(packets_max):
            try:
                size = receive(buffer)
            except BlockingIOError:
                break
            except OSError:  # an interface went away or down: the socket says so once and goes on
                continue
            found.append(bytes(buffer[:size]))
        return found

    def count(self) -> None:
        """Bring `packets` and `lost` up to date: what passed the filter, and what found the buffer full."""
        seen, lost = struct.unpack("=II", self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8))
        self.packets += seen  # the kernel counts the lost ones among them, and begins anew with every look
        self.lost += lost

    def pause(self) -> None:
        """Capture nothing more; what was captured can still be read."""
        self._attach(NOTHING)

    def close(self) -> None:
        """End the capture."""
        self._socket.close()
