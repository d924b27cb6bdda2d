"""The lock of one machine: the second writer is refused and hears who is first, and a dead one holds nothing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from imdsctl.adapters.machine_lock import machine_lock
from imdsctl.domain.diagnostics import DiagnosticError

HOLDS = """
import sys
from pathlib import Path
from imdsctl.adapters.machine_lock import machine_lock
with machine_lock(Path(sys.argv[1]), "111122223333", "arn:aws:iam::111122223333:user/ann on box process 1"):
    print("held", flush=True)
    sys.stdin.read()
"""


def held(directory: Path, account_id: str = "111122223333") -> None:
    with machine_lock(directory, account_id, "me"):
        pass


def test_the_second_is_told_who_is_first_and_goes_on_when_that_one_is_killed(tmp_path: Path) -> None:
    directory = tmp_path / "data"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(directory)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        with pytest.raises(DiagnosticError, match="user/ann on box process 1 is at work by") as refused:
            held(directory)
        assert refused.value.diagnostics[0].code == "apply-running"
        held(directory, "444455556666")
        first.send_signal(signal.SIGKILL)
    held(directory)


def test_it_is_for_its_owner_only(tmp_path: Path) -> None:
    held(tmp_path / "data")
    (file,) = (tmp_path / "data").iterdir()
    assert (os.stat(file).st_mode & 0o777, os.stat(file.parent).st_mode & 0o777) == (0o600, 0o700)


def test_where_nothing_can_be_kept_there_is_nobody_to_be_kept_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    held(tmp_path / "file" / "data")


def test_a_full_disk_takes_no_name_and_the_lock_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with (
        machine_lock(tmp_path, "111122223333", "me"),
        pytest.raises(DiagnosticError, match="somebody else is at work"),
    ):
        held(tmp_path)
    held(tmp_path)
