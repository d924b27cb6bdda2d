"""The kernel's filter, run by a plain interpreter of classic BPF, against the decoder that reads what it passes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.host.packet_maker import ACK, FIN, RST, SYN, Talk, ip, tcp
from tests.unit.host.test_connections import hostile_packets

from imdsctl.host.capture_filter import REPLY_BYTES_MAX, REQUEST_BYTES_MAX, service_filter
from imdsctl.host.packets import Decoder

LOOPBACK = 1
PROGRAM = service_filter(LOOPBACK)
OUTGOING = 4


def run(packet: bytes, *, protocol: int | None = None, kind: int = 0, interface: int = 2) -> int:
    """How many bytes of the packet the program lets through (Linux, Documentation/networking/filter.rst)."""
    code = [struct.unpack_from("=HBBI", PROGRAM, at) for at in range(0, len(PROGRAM), 8)]
    if protocol is None:
        protocol = 0x86DD if packet[:1] and packet[0] >> 4 == 6 else 0x0800
    ancillary = {0xFFFFF000: protocol, 0xFFFFF004: kind, 0xFFFFF008: interface}
    a = x = at = 0
    memory = [0] * 16
    while True:
        operation, yes, no, k = code[at]
        at += 1
        load = {0x20: 4, 0x28: 2, 0x30: 1, 0x40: 4, 0x48: 2, 0x50: 1}.get(operation)
        if load is not None:
            begin = k + (x if operation & 0x40 else 0)
            if k in ancillary:
                a = ancillary[k]
            elif begin + load > len(packet):
                return 0
            else:
                a = int.from_bytes(packet[begin : begin + load], "big")
        elif operation in (0x15, 0x45, 0x2D):
            holds = {0x15: a == k, 0x45: bool(a & k), 0x2D: a > x}[operation]
            at += yes if holds else no
        else:
            match operation:
                case 0x00:
                    a = k
                case 0x01:
                    x = k
                case 0x02:
                    memory[k] = a
                case 0x60:
                    a = memory[k]
                case 0x07:
                    x = a
                case 0x87:
                    a = x
                case 0x54:
                    a &= k
                case 0x64:
                    a = a << k & 0xFFFFFFFF
                case 0x74:
                    a >>= k
                case 0x04:
                    a = (a + k) & 0xFFFFFFFF
                case 0x0C:
                    a = (a + x) & 0xFFFFFFFF
                case 0x05:
                    at += k
                case 0x06:
                    return k
                case 0x16:
                    return a
                case _:
                    raise AssertionError(f"opcode {operation:#x}")


@pytest.mark.parametrize("client", ["10.0.0.9", "fd00::9"])
def test_what_says_something_passes(client: str) -> None:
    talk = Talk(client)
    assert run(talk.to(flags=SYN)) == run(talk.to(b"GET")) == run(talk.to(flags=FIN | ACK)) == REQUEST_BYTES_MAX
    assert run(talk.back(flags=SYN | ACK)) == run(talk.back(b"HTTP")) == run(talk.back(flags=RST)) == REPLY_BYTES_MAX


@pytest.mark.parametrize("client", ["10.0.0.9", "fd00::9"])
def test_acknowledgements_without_content_stay_in_the_kernel(client: str) -> None:
    talk = Talk(client)
    assert run(talk.to()) == run(talk.back()) == 0
    assert run(talk.to() + bytes(6)) == 0  # padded


def test_on_loopback_a_packet_is_seen_once() -> None:
    packet = Talk().to(b"GET")
    assert run(packet, kind=OUTGOING, interface=LOOPBACK) == 0
    assert run(packet, kind=0, interface=LOOPBACK) == run(packet, kind=OUTGOING) == REQUEST_BYTES_MAX


def test_vlan_tags_are_skipped() -> None:
    packet = Talk().to(b"GET")
    one, two = bytes.fromhex("00050800"), bytes.fromhex("6005810000050800")
    assert run(one + packet, protocol=0x8100) == run(two + packet, protocol=0x88A8) == REQUEST_BYTES_MAX
    # On its way out a frame may be shown from its IP header on and still be said to have a tag.
    assert run(packet, protocol=0x8100) == REQUEST_BYTES_MAX


@pytest.mark.parametrize(
    "packet",
    [
        ip("10.0.0.9", "169.254.169.254", tcp(40_000, 443, 1, SYN)),
        ip("10.0.0.9", "169.254.169.253", tcp(40_000, 80, 1, SYN)),
        ip("10.0.0.9", "169.254.169.254", tcp(40_000, 80, 1, SYN), protocol=17),
        ip("fd00::9", "fd00:ec2::253", tcp(40_000, 80, 1, SYN)),
        b"",
        b"\x45",
    ],
    ids=["another port", "another address", "UDP", "another IPv6 address", "nothing", "one byte"],
)
def test_everything_else_stays_in_the_kernel(packet: bytes) -> None:
    assert run(packet) == 0


@given(st.one_of(hostile_packets(), st.binary(max_size=80)))
@settings(max_examples=400)
def test_the_filter_drops_nothing_that_the_decoder_could_use(packet: bytes) -> None:
    segment = Decoder().decode(packet)
    if segment is not None and (segment.size or segment.flags & (SYN | FIN | RST)):
        assert run(packet) in (REQUEST_BYTES_MAX, REPLY_BYTES_MAX)
