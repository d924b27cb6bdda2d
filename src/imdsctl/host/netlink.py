"""Links, addresses and routes of a network namespace, by rtnetlink: what the bed of `imdsctl run` is made of.

Source: Linux, rtnetlink(7), include/uapi/linux/rtnetlink.h, if_link.h, if_addr.h.
"""

from __future__ import annotations

import os
import socket
import struct
from ipaddress import IPv4Address, IPv6Address
from itertools import count
from typing import TypeAlias

Address: TypeAlias = IPv4Address | IPv6Address

_NEW_LINK, _NEW_ADDRESS, _NEW_ROUTE = 16, 20, 24
_REQUEST, _ACKNOWLEDGE, _EXCLUSIVE, _CREATE = 0x1, 0x4, 0x200, 0x400
_ERROR = 2
_IFLA_NAME, _IFLA_LINK_INFO, _IFLA_NS_FD = 3, 18, 28
_INFO_KIND, _INFO_DATA, _VETH_PEER = 1, 2, 1
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_NO_DUPLICATE_CHECK = 0x02  # an address that waits for its check cannot be bound
_RTA_DESTINATION, _RTA_GATEWAY = 1, 5
_MAIN_TABLE, _PROTOCOL_BOOT, _UNICAST = 254, 3, 1
_UP = 0x1
_ANSWER_BYTES_MAX = 16 * 1024


class Network:
    """The network namespace that the calling thread was in when this was made. Everything raises OSError."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._numbers = count(1)

    def close(self) -> None:
        """Give the socket back."""
        self._socket.close()

    def add_veth(self, name: str, peer: str, namespace: int) -> None:
        """A pair of interfaces: `name` here, `peer` in the network namespace of a descriptor."""
        other = (
            _interface() + _attribute(_IFLA_NAME, _name(peer)) + _attribute(_IFLA_NS_FD, struct.pack("=I", namespace))
        )
        info = _attribute(_INFO_KIND, b"veth") + _attribute(_INFO_DATA, _attribute(_VETH_PEER, other))
        body = _interface() + _attribute(_IFLA_NAME, _name(name)) + _attribute(_IFLA_LINK_INFO, info)
        self._ask(_NEW_LINK, _CREATE | _EXCLUSIVE, body)

    def up(self, index: int) -> None:
        """Switch an interface on."""
        self._ask(_NEW_LINK, 0, _interface(index, _UP))

    def add_address(self, index: int, address: Address, prefix: int) -> None:
        """Give an interface an address, usable at once."""
        head = struct.pack("=BBBBI", _family(address), prefix, _NO_DUPLICATE_CHECK, 0, index)
        both = _attribute(_IFA_LOCAL, address.packed) + _attribute(_IFA_ADDRESS, address.packed)
        self._ask(_NEW_ADDRESS, _CREATE | _EXCLUSIVE, head + both)

    def add_route(self, destination: Address | None, gateway: Address) -> None:
        """Send what is for `destination` (None: everything that has no route of its own) by way of `gateway`."""
        bits = destination.max_prefixlen if destination is not None else 0
        head = struct.pack("=BBBBBBBBI", _family(gateway), bits, 0, 0, _MAIN_TABLE, _PROTOCOL_BOOT, 0, _UNICAST, 0)
        to = _attribute(_RTA_DESTINATION, destination.packed) if destination is not None else b""
        self._ask(_NEW_ROUTE, _CREATE | _EXCLUSIVE, head + to + _attribute(_RTA_GATEWAY, gateway.packed))

    def _ask(self, kind: int, flags: int, body: bytes) -> None:
        head = struct.pack("=IHHII", 16 + len(body), kind, _REQUEST | _ACKNOWLEDGE | flags, next(self._numbers), 0)
        self._socket.send(head + body)
        answer = self._socket.recv(_ANSWER_BYTES_MAX)
        _, answered = struct.unpack_from("=IH", answer)
        number = -struct.unpack_from("=i", answer, 16)[0]
        if answered != _ERROR or number:  # an acknowledgement is an error of number 0
            raise OSError(number, os.strerror(number), "rtnetlink")


def _interface(index: int = 0, flags: int = 0) -> bytes:
    return struct.pack("=BBHiII", socket.AF_UNSPEC, 0, 0, index, flags, flags)


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + b"\0" * (-len(value) % 4)


def _name(name: str) -> bytes:
    return name.encode() + b"\0"


def _family(address: Address) -> int:
    return socket.AF_INET if address.version == 4 else socket.AF_INET6
