"""Programs of the kernel's machines as bytes: classic BPF for sockets and eBPF for hooks. Pure.

Source: Linux, Documentation/networking/filter.rst and Documentation/bpf/standardization/instruction-set.rst.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field

# --- eBPF -----------------------------------------------------------------------------------------------------------

R0, R1, R2, R3, R4, R6, R10 = 0, 1, 2, 3, 4, 6, 10
WORD, DOUBLE = 0x00, 0x18
_PSEUDO_MAP_FD = 1


class Program:
    """An eBPF program, one instruction after another; jumps go forward, to labels."""

    def __init__(self) -> None:
        self._code: list[tuple[int, int, int, int]] = []  # opcode, registers, offset, immediate
        self._jumps: list[tuple[int, str]] = []
        self._labels: dict[str, int] = {}

    def _emit(self, opcode: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> None:
        self._code.append((opcode, to | source << 4, offset, value & 0xFFFFFFFF))

    def copy(self, to: int, source: int) -> None:
        """to = source, 64 bits."""
        self._emit(0xBF, to, source)

    def put(self, to: int, value: int) -> None:
        """to = value (sign-extended 32 bits)."""
        self._emit(0xB7, to, value=value)

    def add(self, to: int, value: int) -> None:
        """to += value, 64 bits."""
        self._emit(0x07, to, value=value)

    def load(self, size: int, to: int, base: int, offset: int) -> None:
        """to = memory at base + offset."""
        self._emit(0x61 | size, to, base, offset)

    def store(self, size: int, base: int, offset: int, source: int) -> None:
        """Memory at base + offset = source."""
        self._emit(0x63 | size, base, source, offset)

    def store_value(self, size: int, base: int, offset: int, value: int) -> None:
        """Memory at base + offset = value."""
        self._emit(0x62 | size, base, 0, offset, value)

    def unless_equal(self, register: int, value: int, label: str) -> None:
        """Jump when the register's lower 32 bits are not `value`."""
        self._jump(0x56, register, value, label)

    def if_equal(self, register: int, value: int, label: str) -> None:
        """Jump when the register's lower 32 bits are `value`."""
        self._jump(0x16, register, value, label)

    def jump(self, label: str) -> None:
        """Jump always."""
        self._jump(0x05, 0, 0, label)

    def _jump(self, opcode: int, register: int, value: int, label: str) -> None:
        self._jumps.append((len(self._code), label))
        self._emit(opcode, register, value=value)

    def label(self, name: str) -> None:
        """What follows can be jumped to."""
        self._labels[name] = len(self._code)

    def call(self, helper: int) -> None:
        """Call a helper of the kernel: arguments in R1 to R5, the result in R0; R1 to R5 are gone."""
        self._emit(0x85, value=helper)

    def load_map(self, to: int, fd: int) -> None:
        """to = the map behind a file descriptor."""
        self._emit(0x18, to, _PSEUDO_MAP_FD, value=fd)
        self._emit(0)

    def leave(self, value: int) -> None:
        """Return `value`."""
        self.put(R0, value)
        self._emit(0x95)

    def code(self) -> bytes:
        """The program as the kernel takes it."""
        targets = {at: self._labels[label] - at - 1 for at, label in self._jumps}
        return b"".join(
            struct.pack("=BBhI", opcode, registers, targets.get(at, offset), value)
            for at, (opcode, registers, offset, value) in enumerate(self._code)
        )


# --- classic BPF ----------------------------------------------------------------------------------------------------

LD_WORD, LD_HALF = 0x20, 0x28  # A = packet[k]
LDX_WORD, LDX_HALF, LDX_BYTE = 0x40, 0x48, 0x50  # A = packet[X + k]
SET_A, SET_X = 0x00, 0x01  # A = k, X = k
KEEP_A, GET_A = 0x02, 0x60  # M[k] = A, A = M[k]
AND, SHIFT_LEFT, SHIFT_RIGHT, ADD, ADD_X = 0x54, 0x64, 0x74, 0x04, 0x0C  # with k; the last with X
A_TO_X, GET_X_TO_A = 0x07, 0x87
RETURN, RETURN_A = 0x06, 0x16
IF_EQUAL, IF_BITS, IF_ABOVE_X = 0x15, 0x45, 0x2D
GOTO = 0x05


@dataclass(slots=True)
class Filter:
    """A classic BPF program; jumps go forward, to labels."""

    _code: list[tuple[int, str | None, str | None, int]] = field(default_factory=list)
    _labels: dict[str, int] = field(default_factory=dict)

    def do(self, opcode: int, value: int = 0) -> None:
        """One instruction that does not jump."""
        self._code.append((opcode, None, None, value))

    def when(self, opcode: int, value: int, then: str | None, otherwise: str | None = None) -> None:
        """Jump to `then` when the test holds, else to `otherwise`; None: go on with the next instruction."""
        self._code.append((opcode, then, otherwise, value))

    def label(self, name: str) -> None:
        """What follows can be jumped to."""
        self._labels[name] = len(self._code)

    def code(self) -> bytes:
        """The program as the kernel takes it. Raises ValueError for a jump that is too long for its byte."""
        out = []
        for at, (opcode, then, otherwise, value) in enumerate(self._code):
            yes, no = (0 if name is None else self._labels[name] - at - 1 for name in (then, otherwise))
            if opcode == GOTO:
                yes, value = 0, yes
            if not (0 <= yes <= 255 and 0 <= no <= 255):
                raise ValueError(f"instruction {at} jumps {max(yes, no)} instructions, or back")
            out.append(struct.pack("=HBBI", opcode, yes, no, value & 0xFFFFFFFF))
        return b"".join(out)
