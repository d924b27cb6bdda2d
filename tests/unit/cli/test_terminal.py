"""What is printed arrives whole, also where Python's own buffer is switched off (PYTHONUNBUFFERED), or it is told."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from typing import Any

import pytest

from imdsctl.cli.errors import EXIT_DONE, EXIT_FAILED, guarded, report
from imdsctl.cli.terminal import guarded_streams
from imdsctl.cli.writing import listening as listening_to_changes
from imdsctl.domain.diagnostics import Diagnostic
from imdsctl.domain.plan import Stage
from imdsctl.fleet.apply_report import StageBegan
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


def ended(command: Callable[[], object]) -> int:
    """How a command ends whose output is led to a disk without room; Python's own flush at the end has to go well."""
    if not os.path.exists("/dev/full"):
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "w", encoding="utf-8") as full, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", full)
        with guarded_streams():
            return guarded(command)


@pytest.mark.parametrize("lines", [1, 10_000])
@pytest.mark.parametrize("printing", [print, lambda text: sys.stdout.writelines([text, text])])
def test_a_full_disk_behind_standard_output_is_told_in_one_message(
    capsys: pytest.CaptureFixture[str], printing: Callable[[str], None], lines: int
) -> None:
    assert ended(lambda: printing("a scan\n" * lines)) == EXIT_FAILED
    told = capsys.readouterr().err
    assert told.startswith("error[output-unwritable]: standard output cannot be written: no space left on device; ")
    assert len(told.splitlines()) == 2


def test_a_full_disk_leaves_no_change_half_made(capsys: pytest.CaptureFixture[str]) -> None:
    def apply() -> int:
        with listening_to_changes(as_json=True) as tell:
            tell(StageBegan("prod", Stage.INSTANCES, 3))
        made.append("the change")
        return EXIT_DONE

    made: list[str] = []
    assert ended(apply) == EXIT_FAILED
    assert made
    assert "error[output-unwritable]" in capsys.readouterr().err


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
