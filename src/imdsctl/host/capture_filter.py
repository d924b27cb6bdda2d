"""Which packets the kernel hands to `trace`: those of the metadata service that say something. Pure.

The program looks at a packet from its IP header on (the socket is a SOCK_DGRAM one, so every kind of link looks the
same), after at most two VLAN tags. Acknowledgements without content never leave the kernel: they are a third of all.
"""

from __future__ import annotations

from struct import unpack

from imdsctl.domain.metadata_endpoint import SERVICE_PORT
from imdsctl.host import bpf_assembler as bpf
from imdsctl.host.packets import FIN, PACKED_IPV4, PACKED_IPV6, RST, SYN

REQUEST_BYTES_MAX = 32 * 1024
"""So much of a packet to the service is captured."""
REPLY_BYTES_MAX = 1024
"""And so much of one from it: the head is what counts."""

NOTHING = bytes.fromhex("0600000000000000")
"""A program that lets nothing through."""

_ANCILLARY = 0xFFFFF000  # SKF_AD_OFF
_PROTOCOL, _PACKET_TYPE, _INTERFACE = _ANCILLARY, _ANCILLARY + 4, _ANCILLARY + 8
_OUTGOING = 4
_VLANS = (0x8100, 0x88A8, 0x9100)
_IP_TYPES = (0x0800, 0x86DD)
_TCP = 6
_EXTENSIONS = (0, 43, 44, 51, 60, 135)
_SNAP, _END = 0, 1  # scratch memory


def service_filter(loopback_index: int) -> bytes:
    """The program. `loopback_index` is the loopback interface's number; there every packet is seen twice."""
    code = bpf.Filter()
    code.do(bpf.LD_WORD, _PACKET_TYPE)
    code.when(bpf.IF_EQUAL, _OUTGOING, None, "begin")
    code.do(bpf.LD_WORD, _INTERFACE)
    code.when(bpf.IF_EQUAL, loopback_index, "drop")
    code.label("begin")
    code.do(bpf.SET_X, 0)
    _skip_tags(code)
    code.label("ip")
    code.do(bpf.LDX_BYTE, 0)
    code.do(bpf.AND, 0xF0)
    code.when(bpf.IF_EQUAL, 0x40, "v4")
    code.when(bpf.IF_EQUAL, 0x60, "v6", "drop")
    _ipv4(code)
    code.label("drop")
    code.do(bpf.RETURN, 0)
    _ipv6(code)
    _tcp(code)
    return code.code()


def _skip_tags(code: bpf.Filter) -> None:
    """X = where the IP header begins."""
    code.do(bpf.LD_WORD, _PROTOCOL)
    for kind in _VLANS:
        code.when(bpf.IF_EQUAL, kind, "tag")
    code.when(bpf.GOTO, 0, "ip")
    code.label("tag")
    # A frame on its way out may be seen without its tag although it is said to have one: then this is the IP header.
    code.do(bpf.LD_HALF, 2)
    for kind in _IP_TYPES:
        code.when(bpf.IF_EQUAL, kind, "one tag")
    for kind in _VLANS:
        code.when(bpf.IF_EQUAL, kind, "two tags")
    code.when(bpf.GOTO, 0, "ip")
    code.label("one tag")
    code.do(bpf.SET_X, 4)
    code.when(bpf.GOTO, 0, "ip")
    code.label("two tags")
    code.do(bpf.SET_X, 8)


def _ipv4(code: bpf.Filter) -> None:
    (service,) = unpack("!I", PACKED_IPV4)
    code.label("v4")
    code.do(bpf.LDX_WORD, 16)
    code.when(bpf.IF_EQUAL, service, "v4 to")
    code.do(bpf.LDX_WORD, 12)
    code.when(bpf.IF_EQUAL, service, "v4 from", "drop")
    for way, size in (("to", REQUEST_BYTES_MAX), ("from", REPLY_BYTES_MAX)):
        code.label(f"v4 {way}")
        _remember(code, _SNAP, size)
        code.when(bpf.GOTO, 0, "v4 protocol")
    code.label("v4 protocol")
    code.do(bpf.LDX_BYTE, 9)
    code.when(bpf.IF_EQUAL, _TCP, None, "drop")
    code.do(bpf.LDX_HALF, 6)
    code.when(bpf.IF_BITS, 0x3FFF, "accept")  # a fragment: whoever puts it together looks at the rest
    code.do(bpf.LDX_HALF, 2)
    code.when(bpf.IF_EQUAL, 0, "accept")
    code.do(bpf.ADD_X)
    code.do(bpf.KEEP_A, _END)
    code.do(bpf.LDX_BYTE, 0)
    code.do(bpf.AND, 0x0F)
    code.do(bpf.SHIFT_LEFT, 2)
    code.do(bpf.ADD_X)
    code.do(bpf.A_TO_X)
    code.when(bpf.GOTO, 0, "tcp")


def _ipv6(code: bpf.Filter) -> None:
    code.label("v6")
    for at, way, otherwise in ((24, "to", "v6 source"), (8, "from", "reject")):
        if way == "from":
            code.label("v6 source")
        for number, word in enumerate(unpack("!4I", PACKED_IPV6)):
            code.do(bpf.LDX_WORD, at + 4 * number)
            code.when(bpf.IF_EQUAL, word, f"v6 {way}" if number == 3 else None, otherwise)
    for way, size in (("to", REQUEST_BYTES_MAX), ("from", REPLY_BYTES_MAX)):
        code.label(f"v6 {way}")
        _remember(code, _SNAP, size)
        code.when(bpf.GOTO, 0, "v6 next")
    code.label("v6 next")
    code.do(bpf.LDX_BYTE, 6)
    for extension in _EXTENSIONS:
        code.when(bpf.IF_EQUAL, extension, "accept")
    code.when(bpf.IF_EQUAL, _TCP, None, "reject")
    code.do(bpf.LDX_HALF, 4)
    code.when(bpf.IF_EQUAL, 0, "accept")
    code.do(bpf.ADD_X)
    code.do(bpf.ADD, 40)
    code.do(bpf.KEEP_A, _END)
    code.do(bpf.GET_X_TO_A)
    code.do(bpf.ADD, 40)
    code.do(bpf.A_TO_X)


def _tcp(code: bpf.Filter) -> None:
    """X is where the TCP header begins."""
    code.label("tcp")
    # One of the two ports is the service's; which one must be is for the decoder to say.
    code.do(bpf.LDX_HALF, 2)
    code.when(bpf.IF_EQUAL, SERVICE_PORT, "flags")
    code.do(bpf.LDX_HALF, 0)
    code.when(bpf.IF_EQUAL, SERVICE_PORT, None, "reject")
    code.label("flags")
    code.do(bpf.LDX_BYTE, 13)
    code.when(bpf.IF_BITS, FIN | SYN | RST, "accept")
    code.do(bpf.LDX_BYTE, 12)
    code.do(bpf.SHIFT_RIGHT, 4)
    code.do(bpf.SHIFT_LEFT, 2)
    code.do(bpf.ADD_X)
    code.do(bpf.A_TO_X)
    code.do(bpf.GET_A, _END)
    code.when(bpf.IF_ABOVE_X, 0, "accept", "reject")
    code.label("accept")
    code.do(bpf.GET_A, _SNAP)
    code.do(bpf.RETURN_A)
    code.label("reject")
    code.do(bpf.RETURN, 0)


def _remember(code: bpf.Filter, cell: int, value: int) -> None:
    code.do(bpf.SET_A, value)
    code.do(bpf.KEEP_A, cell)
