"""Files that are for their owner's eyes, written whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError


def write_private(path: Path, pieces: Iterable[str]) -> None:
    """Write a text (UTF-8). Raises DiagnosticError `file-unwritable` (exit code 2) and whatever `pieces` raises."""
    with whole_file(path) as file:
        file.writelines(piece.encode("utf-8", "backslashreplace") for piece in pieces)


@contextmanager
def whole_file(
    path: Path, *, code: str = "file-unwritable", instead: str = "name a file in a folder that you can write to"
) -> Iterator[BinaryIO]:
    """A new file in the place of `path` (mode 0600) once it is whole on the disk: a reader sees the old one or the new.

    An exception inside leaves the old file as it was. Raises DiagnosticError `code` (exit code 2) when the place cannot
    be written; `instead` is the hint when it is no file.
    """
    if path.exists() and not path.is_file():
        # Renaming a file onto /dev/stdout, as root, would replace the device.
        raise DiagnosticError(Diagnostic(code, "this is not a file", str(path), instead), exit_code=2)
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with open(descriptor, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        hint = "make room, or name a file on another disk" if full else "name a file in a folder that you can write to"
        raise DiagnosticError(Diagnostic(code, why, str(path), hint), exit_code=2) from None


def write_whole(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace a file so that a reader, or a crash, sees the old content or the new, never a part. Raises OSError."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Have on the disk which names a directory holds. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
