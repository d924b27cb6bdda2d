"""Standard output and error that obey nothing but this program: the last barrier before a terminal."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from imdsctl.views.terminal import Guarded


@contextmanager
def guarded_streams() -> Iterator[None]:
    """While this holds, `print` cannot be used by a name in somebody's account to steer the terminal."""
    before = sys.stdout, sys.stderr
    whole = [_whole(stream) for stream in before]
    sys.stdout, sys.stderr = _Output(whole[0]), Guarded(whole[1])
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for ours, stream in zip(whole, before, strict=True):
            if ours is not stream:
                # Else its end would close the program's own output.
                ours.detach()  # type: ignore[attr-defined]


class OutputLost(Exception):
    """Standard output takes no more: a full disk, or whatever it is led to. It is no OSError, of which commands think
    that it is about a file of theirs. A reader that went away is something else, and stays BrokenPipeError."""


class _Output(Guarded):
    """Standard output. Its `write`, `writelines` and `flush` raise OutputLost."""

    def write(self, text: str) -> int:
        with _losing():
            return super().write(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        with _losing():
            self.unguarded.flush()


@contextmanager
def _losing() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputLost(error.strerror or str(error)) from error


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
