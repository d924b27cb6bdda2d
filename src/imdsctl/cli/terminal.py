"""Standard output and error that obey nothing but this program: the last barrier before a terminal."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from imdsctl.domain.shown import shown_lines


class Guarded:
    """A text stream through which no escape sequence passes but the program's own. All else is the stream's."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write `text`, with what a terminal would obey spelt out; gives how much of it was taken."""
        self._stream.write(shown_lines(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def guarded_streams() -> Iterator[None]:
    """While this holds, `print` cannot be used by a name in somebody's account to steer the terminal."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (Guarded(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
