"""What is printed arrives whole, also where Python's own buffer is switched off (PYTHONUNBUFFERED)."""

from __future__ import annotations

import io
import sys
from typing import Any

import pytest

from imdsctl.cli.errors import report
from imdsctl.cli.terminal import guarded_streams
from imdsctl.domain.diagnostics import Diagnostic
from imdsctl.fleet.events import AccountEntered, AccountsFound
from imdsctl.views.progress import listening
from imdsctl.views.terminal import Guarded


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


class Screen(io.StringIO):
    """A terminal that can move its cursor."""

    def isatty(self) -> bool:
        return True


def test_bars_are_drawn_by_the_terminal_and_what_is_printed_meanwhile_steers_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = Screen()
    monkeypatch.setattr(sys, "stdout", screen)
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with guarded_streams(), listening(sys.stderr) as tell:
        guards = sys.stdout, sys.stderr
        tell(AccountsFound(3))
        tell(AccountEntered("111122223333", 2))
        report([Diagnostic("clock-off", "a\x1b[2Jb\rc")])
    drawn = screen.getvalue()
    assert "\x1b[?25l" in drawn, "the cursor is hidden while bars are drawn"
    assert "\x1b[2K" in drawn
    assert "\\u001b[?25l" not in drawn
    assert "a\\u001b[2Jb\\u000dc" in drawn
    assert all(isinstance(each, Guarded) for each in guards)
    assert (sys.stdout, sys.stderr) == (screen, screen)
