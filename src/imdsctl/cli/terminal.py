"""Standard output and error that obey nothing but this program: the last barrier before a terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from imdsctl.views.terminal import Guarded


@contextmanager
def guarded_streams() -> Iterator[None]:
    """While this holds, `print` cannot be used by a name in somebody's account to steer the terminal."""
    before = sys.stdout, sys.stderr
    whole = [_whole(stream) for stream in before]
    sys.stdout, sys.stderr = (Guarded(stream) for stream in whole)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for ours, stream in zip(whole, before, strict=True):
            if ours is not stream:
                # Else its end would close the program's own output.
                ours.detach()  # type: ignore[attr-defined]


def _whole(stream: TextIO) -> TextIO:
    """A stream that writes all of a text. Under PYTHONUNBUFFERED Python's own does not repeat a short write, and a pipe
    whose reader is slow then loses what is left."""
    raw = getattr(stream, "buffer", None)
    if not isinstance(raw, io.RawIOBase):
        return stream
    buffer: Any = _Unbuffered(raw)
    return io.TextIOWrapper(buffer, stream.encoding, stream.errors, write_through=True)


class _Unbuffered(io.BufferedIOBase):
    """Bytes to a raw stream: at once, and all of them."""

    def __init__(self, raw: io.RawIOBase) -> None:
        self._raw = raw

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._raw.fileno()

    def isatty(self) -> bool:
        return self._raw.isatty()

    def write(self, data: Any) -> int:
        left = memoryview(data).cast("B")
        size = len(left)
        while left:
            taken = self._raw.write(left)
            if taken is None:
                raise BlockingIOError("standard output does not block, and is full")
            left = left[taken:]
        return size
