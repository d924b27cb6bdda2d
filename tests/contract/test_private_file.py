"""Where a new file may take the place of what is there."""

from __future__ import annotations

from pathlib import Path

import pytest

from imdsctl.adapters.private_file import write_private
from imdsctl.domain.diagnostics import DiagnosticError


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system shows open files elsewhere")
def test_a_link_to_an_open_file_stays_what_it_is(tmp_path: Path) -> None:
    """/dev/stdout is such a link, and root could replace it for everybody when standard output is a file."""
    with (tmp_path / "out").open("w") as out:
        (tmp_path / "stdout").symlink_to(f"/proc/self/fd/{out.fileno()}")
        (tmp_path / "link").symlink_to("stdout")
        for name in ("stdout", "link"):
            with pytest.raises(DiagnosticError, match="this is not a file"):
                write_private(tmp_path / name, ["text"])
            assert (tmp_path / name).is_symlink()
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(DiagnosticError, match="this is not a file"):
        write_private(tmp_path / "loop", ["text"])


def test_a_link_to_a_file_is_written(tmp_path: Path) -> None:
    (tmp_path / "old").write_text("old")
    (tmp_path / "link").symlink_to("old")
    write_private(tmp_path / "link", ["new"])
    assert (tmp_path / "link").read_text() == "new"
