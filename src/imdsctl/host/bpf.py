"""bpf(2) from Python: load a program, attach it to a cgroup, read a ring buffer. No compiler, no library, no module.

Everything lives in file descriptors: when this process ends, however it ends, the kernel detaches the programs.
Source of the numbers: Linux, include/uapi/linux/bpf.h.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import platform
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

_SYSCALL_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "ppc64le": 361, "s390x": 351}
_MAP_CREATE, _PROG_LOAD, _LINK_CREATE = 0, 5, 28
_MAP_TYPE_RINGBUF = 27
_LOG_BYTES = 64 * 1024
_BUSY, _DISCARDED = 1 << 31, 1 << 30
_RECORD_HEADER_BYTES = 8


def _bpf(command: int, attributes: bytes) -> int:
    """One call of bpf(2). Raises OSError."""
    number = _SYSCALL_NUMBERS.get(platform.machine())
    if number is None:
        raise OSError(38, f"the number of bpf(2) on {platform.machine()} is not known")
    libc = ctypes.CDLL(None, use_errno=True)
    # The kernel takes a longer structure as long as what it does not know is zero.
    buffer = ctypes.create_string_buffer(attributes, max(len(attributes), 128))
    result = libc.syscall(
        ctypes.c_long(number), ctypes.c_long(command), ctypes.byref(buffer), ctypes.c_ulong(len(buffer))
    )
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return int(result)


def load_program(kind: int, attach_type: int, code: bytes, name: str) -> int:
    """Have the kernel verify and load a program; its descriptor. Raises OSError with the verifier's last words."""
    instructions = ctypes.create_string_buffer(code, len(code))
    license_name = ctypes.create_string_buffer(b"Apache-2.0")
    log = ctypes.create_string_buffer(_LOG_BYTES)
    attributes = struct.pack(
        "=IIQQIIQII16sII",
        kind,
        len(code) // 8,
        ctypes.addressof(instructions),
        ctypes.addressof(license_name),
        1,
        _LOG_BYTES,
        ctypes.addressof(log),
        0,
        0,
        name.encode()[:15],
        0,
        attach_type,
    )
    try:
        return _bpf(_PROG_LOAD, attributes)
    except OSError as error:
        words = log.value.decode(errors="replace").strip().splitlines()
        detail = f" ({'; '.join(words[-3:])})" if words else ""
        raise OSError(error.errno, f"{error.strerror}{detail}") from None


def attach(program: int, cgroup: Path, attach_type: int) -> int:
    """Attach a program to a cgroup and everything below it, beside what is attached there; the link's descriptor."""
    directory = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return _bpf(_LINK_CREATE, struct.pack("=IIII", program, directory, attach_type, 0))
    finally:
        os.close(directory)


class RingBuffer:
    """A ring buffer that programs write and this process reads. `size_bytes` is a power of two and of whole pages.

    When it is full, programs drop their records: they can never hold up a process that they watch.
    """

    def __init__(self, size_bytes: int) -> None:
        self.fd = _bpf(_MAP_CREATE, struct.pack("=IIIII", _MAP_TYPE_RINGBUF, 0, 0, size_bytes, 0))
        self._mask = size_bytes - 1
        page = mmap.PAGESIZE
        try:
            self._consumer = mmap.mmap(self.fd, page, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE, offset=0)
            # The data is mapped twice in a row, so that a record that wraps around still reads in one piece.
            self._records = mmap.mmap(self.fd, page + 2 * size_bytes, mmap.MAP_SHARED, mmap.PROT_READ, offset=page)
        except BaseException:
            os.close(self.fd)
            raise
        self._barrier = threading.Lock()

    def drain(self) -> Iterator[bytes]:
        """Everything that is complete now, in the order in which it was reserved."""
        position = int.from_bytes(self._consumer[:8], sys.byteorder)
        end = int.from_bytes(self._records[:8], sys.byteorder)
        if position == end:
            return
        found = []
        while position < end:
            at = mmap.PAGESIZE + (position & self._mask)
            length = int.from_bytes(self._records[at : at + 4], sys.byteorder)
            if length & _BUSY:
                break
            size = length & ~_DISCARDED
            if not length & _DISCARDED:
                found.append((at + _RECORD_HEADER_BYTES, size))
            position += (size + _RECORD_HEADER_BYTES + 7) & ~7
        with self._barrier:  # on processors that reorder loads: no content is read before its header
            contents = [self._records[at : at + size] for at, size in found]
        self._consumer[:8] = position.to_bytes(8, sys.byteorder)
        yield from contents

    def close(self) -> None:
        """Unmap and close it."""
        with contextlib.suppress(BufferError):
            self._consumer.close()
            self._records.close()
        os.close(self.fd)
