"""Hooks of the kernel that see every connect to the metadata service, with the process that makes it.

Two programs on the root of the cgroup2 hierarchy, so that they see every container. `connect` runs in the process
that connects and tells who it is; `sockops` runs a moment later, before the first packet leaves, and tells from which
address and port. The socket's cookie joins the two. Both only look: they always let the connection pass, and they are
gone when this process ends, in whatever way.

Source: Linux, Documentation/bpf/prog_cgroup_sockopt.rst and include/uapi/linux/bpf.h (5.8 or newer).
"""

from __future__ import annotations

import contextlib
import os
import resource
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from imdsctl.domain.metadata_endpoint import SERVICE_PORT
from imdsctl.host.bpf import RingBuffer, attach, load_program
from imdsctl.host.bpf_assembler import DOUBLE, R0, R1, R2, R3, R4, R6, R10, WORD, Program
from imdsctl.host.packets import PACKED_IPV4, PACKED_IPV6

RING_BYTES = 1 << 22
"""Room for 35,000 connects between two looks: longer than the packets of so many can wait."""

_SOCK_OPS, _CGROUP_SOCK_ADDR = 13, 18  # program types
_ATTACH_SOCK_OPS, _ATTACH_CONNECT4, _ATTACH_CONNECT6 = 3, 10, 11
_GET_PID, _GET_UID, _GET_COMM, _GET_COOKIE = 14, 15, 16, 46
_GET_CGROUP, _GET_BOOT_TIME, _RING_OUTPUT = 80, 125, 130
_TCP_CONNECT = 3  # BPF_SOCK_OPS_TCP_CONNECT_CB
_AF_INET6, _IPPROTO_TCP = 10, 6

_CALLER = struct.Struct("=QQQQQQ16s")  # 1, cookie, pid, boot time, uid, cgroup, name
_ADDRESS = struct.Struct("=QQQ16s")  # 4 or 6, cookie, port, address
_MAPPED = bytes(10) + b"\xff\xff" + PACKED_IPV4  # an IPv6 socket (Java's are) that connects to the IPv4 address


@dataclass(frozen=True, slots=True)
class Caller:
    """Who connects: known before the connection has an address.

    `boot_seconds` is when, on the clock that runs since boot; `name` is the thread's, at most 15 bytes.
    """

    cookie: int
    pid: int
    boot_seconds: float
    uid: int
    cgroup_id: int
    name: str


@dataclass(frozen=True, slots=True)
class Address:
    """From where a socket connects: its packets carry this address and port."""

    cookie: int
    client: tuple[bytes, int]


Event: TypeAlias = Caller | Address


class ConnectHooks:
    """The hooks, attached. Raises OSError when the kernel does not let us; nothing is attached then."""

    def __init__(self, cgroup: Path) -> None:
        with contextlib.suppress(OSError, ValueError):  # before Linux 5.11 maps count as locked memory
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        self._ring = RingBuffer(RING_BYTES)
        self._fds: list[int] = []
        try:
            for name, kind, attach_type, code in _programs(self._ring.fd):
                program = load_program(kind, attach_type, code, name)
                self._fds.append(program)
                self._fds.append(attach(program, cgroup, attach_type))
        except BaseException:
            self.close()
            raise

    def fileno(self) -> int:
        """What to wait on: readable when something was seen."""
        return self._ring.fd

    def events(self) -> Iterator[Event]:
        """What was seen since the last time. Everything about a packet that was captured is in here before it."""
        for record in self._ring.drain():
            (kind,) = struct.unpack_from("=Q", record)
            if kind == 1:
                _, cookie, pid, boot, uid, cgroup, name = _CALLER.unpack(record)
                text = name.split(b"\0", 1)[0].decode(errors="replace")
                yield Caller(cookie, pid >> 32, boot / 1e9, uid & 0xFFFFFFFF, cgroup, text)
            else:
                _, cookie, port, address = _ADDRESS.unpack(record)
                yield Address(cookie, (address[:4] if kind == 4 else address, port))

    def close(self) -> None:
        """Detach."""
        for fd in reversed(self._fds):
            os.close(fd)
        self._fds.clear()
        self._ring.close()


def cgroup2_root(mounts: str) -> Path | None:
    """Where /proc/self/mounts says the cgroup2 hierarchy is; on hybrid systems it is not /sys/fs/cgroup itself."""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) > 2 and fields[2] == "cgroup2":
            return Path(fields[1].encode().decode("unicode_escape"))
    return None


def _programs(ring: int) -> Iterator[tuple[str, int, int, bytes]]:
    yield "imds_connect4", _CGROUP_SOCK_ADDR, _ATTACH_CONNECT4, _connect4(ring)
    yield "imds_connect6", _CGROUP_SOCK_ADDR, _ATTACH_CONNECT6, _connect6(ring)
    yield "imds_sockops", _SOCK_OPS, _ATTACH_SOCK_OPS, _sockops(ring)


def _word(address: bytes, number: int = 0) -> int:
    """A word of an address as a load from memory gives it: network order, seen by this machine."""
    return int(struct.unpack_from("=I", address, 4 * number)[0])


def _is(program: Program, field: int, address: bytes, otherwise: str) -> None:
    """Go on when the field of the context (R6) holds this address."""
    for number in range(len(address) // 4):
        program.load(WORD, R1, R6, field + 4 * number)
        program.unless_equal(R1, _word(address, number), otherwise)


# struct bpf_sock_addr
_USER_IP4, _USER_IP6, _USER_PORT, _PROTOCOL = 4, 8, 24, 36


def _connect4(ring: int) -> bytes:
    program = Program()
    program.copy(R6, R1)
    _is(program, _USER_IP4, PACKED_IPV4, "pass")
    _tell_caller(program, ring)
    return program.code()


def _connect6(ring: int) -> bytes:
    program = Program()
    program.copy(R6, R1)
    _is(program, _USER_IP6, PACKED_IPV6, "mapped")
    program.jump("tell")
    program.label("mapped")
    _is(program, _USER_IP6, _MAPPED, "pass")
    program.label("tell")
    _tell_caller(program, ring)
    return program.code()


def _tell_caller(program: Program, ring: int) -> None:
    program.load(WORD, R1, R6, _USER_PORT)
    program.unless_equal(R1, _word(SERVICE_PORT.to_bytes(2, "big") + bytes(2)), "pass")
    program.load(WORD, R1, R6, _PROTOCOL)
    program.unless_equal(R1, _IPPROTO_TCP, "pass")
    at = -_CALLER.size
    program.store_value(DOUBLE, R10, at, 1)
    program.copy(R1, R6)
    for number, helper in enumerate((_GET_COOKIE, _GET_PID, _GET_BOOT_TIME, _GET_UID, _GET_CGROUP), 1):
        program.call(helper)
        program.store(DOUBLE, R10, at + 8 * number, R0)
    program.store_value(DOUBLE, R10, -16, 0)
    program.store_value(DOUBLE, R10, -8, 0)
    program.copy(R1, R10)
    program.add(R1, -16)
    program.put(R2, 16)
    program.call(_GET_COMM)
    _output(program, ring, _CALLER.size)
    program.label("pass")
    program.leave(1)


# struct bpf_sock_ops
_OP, _FAMILY, _REMOTE_IP4, _LOCAL_IP4, _REMOTE_IP6, _LOCAL_IP6, _REMOTE_PORT, _LOCAL_PORT = (
    0,
    20,
    24,
    28,
    32,
    48,
    64,
    68,
)


def _sockops(ring: int) -> bytes:
    program = Program()
    program.copy(R6, R1)
    program.load(WORD, R1, R6, _OP)
    program.unless_equal(R1, _TCP_CONNECT, "pass")
    program.load(WORD, R1, R6, _REMOTE_PORT)
    program.unless_equal(R1, _word(bytes(2) + SERVICE_PORT.to_bytes(2, "big")), "pass")
    at = -_ADDRESS.size
    for offset in range(at, 0, 8):
        program.store_value(DOUBLE, R10, offset, 0)
    _is(program, _REMOTE_IP4, PACKED_IPV4, "six")
    program.store_value(DOUBLE, R10, at, 4)
    program.load(WORD, R1, R6, _LOCAL_IP4)
    program.store(WORD, R10, -16, R1)
    program.jump("tell")
    program.label("six")
    program.load(WORD, R1, R6, _FAMILY)
    program.unless_equal(R1, _AF_INET6, "pass")
    _is(program, _REMOTE_IP6, PACKED_IPV6, "pass")
    program.store_value(DOUBLE, R10, at, 6)
    for number in range(4):
        program.load(WORD, R1, R6, _LOCAL_IP6 + 4 * number)
        program.store(WORD, R10, -16 + 4 * number, R1)
    program.label("tell")
    program.load(WORD, R1, R6, _LOCAL_PORT)
    program.store(DOUBLE, R10, at + 16, R1)
    program.copy(R1, R6)
    program.call(_GET_COOKIE)
    program.store(DOUBLE, R10, at + 8, R0)
    _output(program, ring, _ADDRESS.size)
    program.label("pass")
    program.leave(1)
    return program.code()


def _output(program: Program, ring: int, size: int) -> None:
    """Hand the last `size` bytes of the stack to the ring."""
    program.load_map(R1, ring)
    program.copy(R2, R10)
    program.add(R2, -size)
    program.put(R3, size)
    program.put(R4, 0)
    program.call(_RING_OUTPUT)
