"""A terminal that obeys this program, and nothing that it shows."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from imdsctl.domain.shown import shown_lines


class Guarded:
    """A text stream through which no escape sequence passes but the program's own. All else is the stream's."""

    def __init__(self, stream: TextIO) -> None:
        self.unguarded = stream

    def write(self, text: str) -> int:
        """Write `text`, with what a terminal would obey spelt out; gives how much of it was taken."""
        self.unguarded.write(shown_lines(text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.unguarded, name)


def canvas(stream: TextIO) -> TextIO:
    """The stream for what moves the cursor about, and shows no text of anybody else's."""
    return stream.unguarded if isinstance(stream, Guarded) else stream


@contextmanager
def still_guarded() -> Iterator[None]:
    """While rich draws it takes `print` upon itself, to keep it apart from what is drawn. That is guarded as before."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (Guarded(stream) for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
