"""Which socket of which network namespace has a connection: the kernel's sock_diag, asked by address and port.

Source: Linux, include/uapi/linux/inet_diag.h; sock_diag(7).
"""

from __future__ import annotations

import socket
import struct

from imdsctl.domain.metadata_endpoint import SERVICE_PORT
from imdsctl.host.packets import PACKED_IPV4, PACKED_IPV6, Client

NETLINK_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY, _NLM_F_REQUEST, _NLMSG_ERROR = 20, 1, 2
_ANY_STATE = 0xFFFFFFFF
_NO_COOKIE = b"\xff" * 8
_INODE_AT = 16 + 4 + 48 + 16
ANSWER_SECONDS_MAX = 1.0


class SockDiag:
    """Asks the network namespace that the calling thread was in when this was made. Raises OSError when it may not.

    Or that of `netlink`: a socket of family AF_NETLINK, kind SOCK_RAW, protocol NETLINK_SOCK_DIAG.
    """

    def __init__(self, netlink: socket.socket | None = None) -> None:
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = netlink or socket.socket(socket.AF_NETLINK, kind, NETLINK_SOCK_DIAG)
        self._socket.settimeout(ANSWER_SECONDS_MAX)

    def inode(self, client: Client, service: Client | None = None) -> int | None:
        """The inode of the socket at the client's end of a connection to the service; None: there is none here.

        `service` is where it is; None: at the metadata service's address of that family.
        """
        address, port = client
        family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
        if service is None:
            service = (PACKED_IPV4 if len(address) == 4 else PACKED_IPV6, SERVICE_PORT)
        request = struct.pack(
            "=IHHIIBBBBI2s2s16s16sI8s",
            72,
            _SOCK_DIAG_BY_FAMILY,
            _NLM_F_REQUEST,
            0,
            0,
            family,
            socket.IPPROTO_TCP,
            0,
            0,
            _ANY_STATE,
            port.to_bytes(2, "big"),
            service[1].to_bytes(2, "big"),
            address,
            service[0],
            0,
            _NO_COOKIE,
        )
        self._socket.send(request)
        answer = self._socket.recv(8192)
        kind = struct.unpack_from("=H", answer, 4)[0] if len(answer) >= 16 else _NLMSG_ERROR
        if kind == _NLMSG_ERROR or len(answer) < _INODE_AT + 4:
            return None
        (inode,) = struct.unpack_from("=I", answer, _INODE_AT)
        return inode or None  # 0: the socket is closed, only its TIME_WAIT is left

    def close(self) -> None:
        """Ask no more."""
        self._socket.close()
