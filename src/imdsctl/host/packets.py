"""Packets to and from the metadata service: from the bytes of a frame to a piece of a TCP connection. Pure.

Nothing here raises, whatever the bytes; what is no piece of such a connection is None.
Source: RFC 791 and 8200 (IP), RFC 9293 (TCP), IEEE 802.1Q (VLAN tags).
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_address
from struct import Struct
from typing import TypeAlias

from imdsctl.domain.metadata_endpoint import SERVICE_IPV4, SERVICE_IPV6, SERVICE_PORT

PACKED_IPV4 = ip_address(SERVICE_IPV4).packed
PACKED_IPV6 = ip_address(SERVICE_IPV6).packed

_SERVICES = (PACKED_IPV4, PACKED_IPV6)

FIN, SYN, RST = 0x01, 0x02, 0x04

Client: TypeAlias = tuple[bytes, int]
"""The other end of a connection: address (4 or 16 bytes) and port. The service's end follows from the length."""

VLAN_TAGS_MAX = 2  # a tag, and a provider's around it
IPV6_EXTENSIONS_MAX = 8
DATAGRAMS_MAX = 64  # in pieces, at one time
DATAGRAM_BYTES_MAX = 65_535

_TCP, _FRAGMENT = 6, 44
_EXTENSIONS = frozenset((0, 43, 51, 60, 135))  # hop-by-hop, routing, authentication, destination, mobility
_AUTHENTICATION = 51
_IPV4_HEAD = Struct("!BBHHHBBH4s4s")
_IPV6_HEAD = Struct("!IHBB16s16s")
_TCP_HEAD = Struct("!HHIIBB")


@dataclass(slots=True)
class Segment:
    """A TCP segment of a connection to the metadata service.

    `size` is the number of bytes that it carries, `payload` as many of them as were captured. `ttl` is the packet's
    TTL (IPv6: hop limit) where it was seen.
    """

    client: Client
    to_service: bool
    sequence: int
    flags: int
    ttl: int
    payload: bytes
    size: int


class Decoder:
    """Frames in, segments out. It keeps only the pieces of datagrams that came in fragments, and few of them."""

    def __init__(self) -> None:
        self._datagrams: dict[tuple[bytes, bytes, int], _Datagram] = {}

    def decode(self, frame: bytes) -> Segment | None:
        """The segment in a frame that begins with its IP header, or with VLAN tags and an IP header after them."""
        for tags in range(VLAN_TAGS_MAX + 1):
            at = 4 * tags
            version = frame[at] >> 4 if at < len(frame) else 0
            # A VLAN tag may look like the beginning of an IP header: the addresses decide.
            if version == 4 and len(frame) >= at + 20:
                found = self._ipv4(frame, at)
            elif version == 6 and len(frame) >= at + 40:
                found = self._ipv6(frame, at)
            else:
                continue
            if found is not None:
                return found
        return None

    def _ipv4(self, frame: bytes, at: int) -> Segment | None:
        first, _, total, number, place, ttl, protocol, _, source, target = _IPV4_HEAD.unpack_from(frame, at)
        if PACKED_IPV4 not in (source, target):
            return None
        begin = at + 4 * (first & 0x0F)
        if protocol != _TCP or begin < at + 20:
            return None
        # A length of 0: the kernel's own large packets, before they are cut up.
        end = at + total if total else len(frame)
        if place & 0x3FFF:
            whole = self._piece(
                (source, target, number), frame[begin:end], 8 * (place & 0x1FFF), more=bool(place & 0x2000)
            )
            return None if whole is None else _tcp(whole, 0, len(whole), source, target, ttl)
        return _tcp(frame, begin, end, source, target, ttl)

    def _ipv6(self, frame: bytes, at: int) -> Segment | None:
        _, length, kind, ttl, source, target = _IPV6_HEAD.unpack_from(frame, at)
        if PACKED_IPV6 not in (source, target):
            return None
        begin = at + 40
        end = begin + length if length else len(frame)
        for _ in range(IPV6_EXTENSIONS_MAX):
            if kind == _TCP:
                return _tcp(frame, begin, end, source, target, ttl)
            if begin + 8 > len(frame):
                return None
            following = frame[begin]
            if kind == _FRAGMENT:
                place = int.from_bytes(frame[begin + 2 : begin + 4], "big")
                if following != _TCP:
                    return None
                number = int.from_bytes(frame[begin + 4 : begin + 8], "big")
                whole = self._piece(
                    (source, target, number), frame[begin + 8 : end], place & 0xFFF8, more=bool(place & 1)
                )
                return None if whole is None else _tcp(whole, 0, len(whole), source, target, ttl)
            if kind not in _EXTENSIONS:
                return None
            begin += 4 * (frame[begin + 1] + 2) if kind == _AUTHENTICATION else 8 * (frame[begin + 1] + 1)
            kind = following
        return None

    def _piece(self, key: tuple[bytes, bytes, int], content: bytes, offset: int, *, more: bool) -> bytes | None:
        """Keep a fragment; the whole content when this was the last one missing."""
        datagram = self._datagrams.get(key)
        if datagram is None:
            if len(self._datagrams) >= DATAGRAMS_MAX:
                del self._datagrams[next(iter(self._datagrams))]
            datagram = self._datagrams[key] = _Datagram({}, None)
        if offset + len(content) > DATAGRAM_BYTES_MAX:
            del self._datagrams[key]
            return None
        # The first word counts, as the kernel has it: a later fragment cannot change what was said.
        datagram.pieces.setdefault(offset, content)
        if not more:
            datagram.size = offset + len(content)
        whole = datagram.whole()
        if whole is not None:
            del self._datagrams[key]
        return whole


@dataclass(slots=True)
class _Datagram:
    pieces: dict[int, bytes]
    size: int | None

    def whole(self) -> bytes | None:
        if self.size is None:
            return None
        content = bytearray()
        for offset in sorted(self.pieces):
            if offset > len(content):
                return None
            content += self.pieces[offset][len(content) - offset :]
        return bytes(content[: self.size]) if len(content) >= self.size else None


def _tcp(data: bytes, begin: int, end: int, source: bytes, target: bytes, ttl: int) -> Segment | None:
    """The segment whose TCP header begins at `begin`; the packet ends at `end`, what was captured may end before."""
    if begin + 14 > len(data):
        return None
    source_port, target_port, sequence, _, offset, flags = _TCP_HEAD.unpack_from(data, begin)
    content = begin + 4 * (offset >> 4)
    if content < begin + 20 or content > end:
        return None
    # Ports count as much as addresses: where the service is on this host, its clients may have the same address.
    if target_port == SERVICE_PORT and target in _SERVICES:
        client, to_service = (source, source_port), True
    elif source_port == SERVICE_PORT and source in _SERVICES:
        client, to_service = (target, target_port), False
    else:
        return None
    return Segment(client, to_service, sequence, flags, ttl, data[content:end], end - content)
