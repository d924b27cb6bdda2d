"""The heads of HTTP messages in one direction of a TCP connection that is only listened to. Pure.

Whatever is sent, memory stays within the bounds below and nothing raises.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

from imdsctl.host.packets import FIN, SYN, Segment

HEAD_BYTES_MAX = 16 * 1024
EARLY_SEGMENTS_MAX = 32
"""So many segments may wait for one that is missing."""
EARLY_BYTES_MAX = 64 * 1024
WINDOW_BYTES_MAX = 1 << 24
"""A segment further ahead than this is not of this stream."""

Heard: TypeAlias = Callable[[bytes, bool], int | None]
"""Called with a head (and whether it is whole); gives how many bytes of body follow, None: that cannot be told."""

_SEQUENCE = 0xFFFFFFFF
_HALF = 1 << 31


class Stream:
    """Puts segments in order and finds the heads. What was missed is skipped, up to the next segment with a head."""

    __slots__ = ("_buffer", "_early", "_expected", "_seek", "_skip", "fin_at", "starts")

    def __init__(self, starts: Callable[[bytes], bool]) -> None:
        self.starts = starts
        self.fin_at: int | None = None
        self._expected: int | None = None
        self._early: dict[int, tuple[bytes, int]] = {}
        self._buffer = b""
        self._skip = 0
        self._seek = False

    @property
    def held_bytes(self) -> int:
        """What is kept in memory."""
        early = sum(len(content) for content, _ in self._early.values()) if self._early else 0
        return len(self._buffer) + early

    @property
    def finished(self) -> bool:
        """The sender said that it ends, and everything before that was seen."""
        return self.fin_at is not None and self.fin_at == self._expected

    def knows(self, segment: Segment) -> bool:
        """Everything in this segment was seen before."""
        if self._expected is None:
            return False
        return (self._expected - segment.sequence - segment.size) & _SEQUENCE < _HALF

    def unfinished(self) -> bytes:
        """The beginning of a head whose end was not seen, taken away."""
        buffer, self._buffer = self._buffer, b""
        self._seek = self._seek or bool(buffer)
        return buffer

    def forget(self) -> None:
        """Drop what is kept; the stream is over."""
        self._early = {}
        self._buffer = b""

    def feed(self, segment: Segment, heard: Heard) -> None:
        """Take a segment; `heard` is called for every head that is complete now."""
        sequence = segment.sequence
        if segment.flags & SYN:
            sequence = (sequence + 1) & _SEQUENCE
            if self._expected is None:
                self._expected = sequence
        elif self._expected is None:
            # The connection is older than the capture: this may be the middle of a body.
            self._expected = sequence
            self._seek = True
        if segment.flags & FIN:
            self.fin_at = (sequence + segment.size) & _SEQUENCE
        if segment.size:
            for content, size in self._in_order(sequence, segment.payload, segment.size):
                self._read(content, size, heard)

    def _in_order(self, sequence: int, content: bytes, size: int) -> Iterator[tuple[bytes, int]]:
        assert self._expected is not None
        if self._is_ahead(sequence):
            if (sequence - self._expected) & _SEQUENCE > WINDOW_BYTES_MAX:
                return
            held = sum(len(each) for each, _ in self._early.values())
            if len(self._early) < EARLY_SEGMENTS_MAX and held + len(content) <= EARLY_BYTES_MAX:
                self._early.setdefault(sequence, (content, size))
                return
            # What is missing will not come any more (it was lost on its way to us): go on behind the gap.
            self._early[sequence] = (content, size)
            before = self._expected
            sequence = min(self._early, key=lambda each: (each - before) & _SEQUENCE)
            content, size = self._early.pop(sequence)
            self._expected = sequence
            self._buffer, self._skip, self._seek = b"", 0, True
        while True:
            known = (self._expected - sequence) & _SEQUENCE
            if known < size:
                self._expected = (sequence + size) & _SEQUENCE
                yield content[known:], size - known
            following = next((each for each in self._early if not self._is_ahead(each)), None)
            if following is None:
                return
            sequence = following
            content, size = self._early.pop(sequence)

    def _is_ahead(self, sequence: int) -> bool:
        assert self._expected is not None
        return 0 < (sequence - self._expected) & _SEQUENCE < _HALF

    def _read(self, content: bytes, size: int, heard: Heard) -> None:
        while size:
            if self._skip:
                skipped = min(self._skip, size)
                self._skip -= skipped
                content, size = content[skipped:], size - skipped
                continue
            if self._seek:
                if not self.starts(content):
                    return
                self._seek = False
            buffer = self._buffer + content if self._buffer else content
            missing = size - len(content)
            end = _end_of_head(buffer)
            if end < 0:
                if missing or len(buffer) > HEAD_BYTES_MAX:
                    self._buffer, self._seek = b"", True
                    heard(buffer[:HEAD_BYTES_MAX], False)
                else:
                    self._buffer = buffer
                return
            self._buffer = b""
            body = heard(buffer[:end], True)
            if body is None:
                self._seek = True
            else:
                self._skip = body
            content, size = buffer[end:], len(buffer) - end + missing


def _end_of_head(data: bytes) -> int:
    """Where the body begins; -1: the head is not complete. Line feeds alone end lines, too, as RFC 9112 allows."""
    both = data.find(b"\r\n\r\n")
    bare = data.find(b"\n\n")
    if bare >= 0 and (both < 0 or bare < both):
        return bare + 2
    return both + 4 if both >= 0 else -1
