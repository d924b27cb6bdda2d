"""Packets as a client and the metadata service send them, made by hand: independent of what reads them."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address

SERVICE = {4: "169.254.169.254", 6: "fd00:ec2::254"}
FIN, SYN, RST, ACK = 0x01, 0x02, 0x04, 0x10


def tcp(source: int, target: int, sequence: int, flags: int = ACK, content: bytes = b"") -> bytes:
    return struct.pack("!HHIIBBHHH", source, target, sequence & 0xFFFFFFFF, 0, 0x50, flags, 0, 0, 0) + content


def ip(source: str, target: str, content: bytes, *, ttl: int = 64, protocol: int = 6, place: int = 0) -> bytes:
    """An IPv4 or IPv6 packet; `place` is IPv4's word of fragment flags and offset."""
    one, other = ip_address(source), ip_address(target)
    if one.version == 4:
        head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(content), 7, place, ttl, protocol, 0)
    else:
        head = struct.pack("!IHBB", 6 << 28, len(content), protocol, ttl)
    return head + one.packed + other.packed + content


@dataclass
class Talk:
    """A connection from its client's and its service's point of view; every method gives one packet."""

    client: str = "10.0.0.9"
    port: int = 40_000
    sent: int = 0xFFFFFFF0  # the numbers come round in the middle of the request
    answered: int = 5_000
    ttl: int = 64

    @property
    def service(self) -> str:
        return SERVICE[ip_address(self.client).version]

    def to(self, content: bytes = b"", flags: int = ACK, *, ttl: int | None = None) -> bytes:
        packet = ip(
            self.client,
            self.service,
            tcp(self.port, 80, self.sent, flags, content),
            ttl=self.ttl if ttl is None else ttl,
        )
        self.sent += len(content) + (1 if flags & (SYN | FIN) else 0)
        return packet

    def back(self, content: bytes = b"", flags: int = ACK, *, ttl: int = 64) -> bytes:
        packet = ip(self.service, self.client, tcp(80, self.port, self.answered, flags, content), ttl=ttl)
        self.answered += len(content) + (1 if flags & (SYN | FIN) else 0)
        return packet

    def begin(self) -> Iterator[bytes]:
        yield self.to(flags=SYN)
        yield self.back(flags=SYN | ACK)

    def end(self) -> Iterator[bytes]:
        yield self.back(flags=FIN | ACK)
        yield self.to(flags=FIN | ACK)

    def call(self, request: bytes, reply: bytes) -> list[bytes]:
        """A whole connection with one request."""
        return [*self.begin(), self.to(request), self.back(reply), *self.end()]
