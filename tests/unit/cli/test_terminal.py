"""What is printed arrives whole, also where Python's own buffer is switched off (PYTHONUNBUFFERED)."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from imdsctl.cli.terminal import guarded_streams


class ShortWrites(io.RawIOBase):
    """A pipe with little room: it takes seven bytes at a time."""

    def __init__(self) -> None:
        self.taken = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.taken += bytes(data[:7])
        return min(7, len(data))


def test_a_short_write_is_gone_on_with(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = ShortWrites()
    stream = io.TextIOWrapper(raw, "utf-8", write_through=True)  # type: ignore[arg-type]
    monkeypatch.setattr(sys, "stdout", stream)
    with guarded_streams():
        print("a" * 20_000)
        print("\x1b[2Jé")
    assert raw.taken.decode() == "a" * 20_000 + "\n\\u001b[2Jé\n"
    assert sys.stdout is stream
    print("still open", flush=True)
    monkeypatch.undo()
    stream.detach()
