"""Files that are for their owner's eyes, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError


def write_private(path: Path, pieces: Iterable[str]) -> None:
    """Write `path` (mode 0600). A reader sees the old file or the whole new one.

    Raises DiagnosticError `file-unwritable` (exit code 2); whatever `pieces` raises leaves the old file as it was.
    """
    if path.exists() and not path.is_file():
        # Renaming a file onto /dev/stdout, as root, would replace the device.
        raise _unwritable(path, "this is not a file")
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with open(descriptor, "w", encoding="utf-8", errors="backslashreplace", newline="") as file:
                for piece in pieces:
                    file.write(piece)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise _unwritable(path, (error.strerror or str(error)).lower()) from None


def _unwritable(path: Path, why: str) -> DiagnosticError:
    hint = "name a file in a folder that you can write to"
    return DiagnosticError(Diagnostic("file-unwritable", why, str(path), hint), exit_code=2)
