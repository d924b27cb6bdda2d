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

LINKS_MAX = 40
"""As many links as Linux follows (path_resolution(7))."""
_SQLITE = b"SQLite format 3\x00"
"""How every SQLite file begins (sqlite.org, "Database File Format")."""


def write_private(path: Path, pieces: Iterable[str]) -> None:
    """Write a text (UTF-8). Raises DiagnosticError `file-unwritable` (exit code 2) and whatever `pieces` raises."""
    with whole_file(path) as file:
        file.writelines(piece.encode("utf-8", "backslashreplace") for piece in pieces)


@contextmanager
def whole_file(
    path: Path, *, code: str = "file-unwritable", instead: str = "name a file in a folder that you can write to"
) -> Iterator[BinaryIO]:
    """A new file in the place of `path` (mode 0600) once it is whole on the disk: a reader sees the old one or the new.

    An exception inside leaves the old file as it was. Raises DiagnosticError (exit code 2) `code` when the place cannot
    be written, and what `check_free` raises; `instead` is the hint when it is no file.
    """
    if (path.exists() and not path.is_file()) or _is_device(path):
        # Renaming a file onto /dev/stdout, as root, would replace the device.
        raise DiagnosticError(Diagnostic(code, "this is not a file", str(path), instead), exit_code=2)
    check_free(path)
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


def _is_device(path: Path) -> bool:
    """Whether a path leads, over links, to an open file of a process: /dev/stdout is one also when it is a file."""
    here = os.path.abspath(path)
    for _ in range(LINKS_MAX):
        if here.startswith("/proc/"):
            return True
        if not os.path.islink(here):
            return False
        here = os.path.normpath(os.path.join(os.path.dirname(here), os.readlink(here)))
    return True


def check_free(path: Path, *reads: Path | None) -> None:
    """Nothing is written over what is the only way back, nor over a file that the command `reads`.

    Raises DiagnosticError (exit code 2): `plan-applied` for a plan that has a journal, `file-kept` for a journal, a
    SQLite database and what is read.
    """
    journal = path.with_name(path.name + ".journal")
    if journal.exists() and (not journal.is_file() or journal.stat().st_size):
        raise DiagnosticError(
            Diagnostic(
                "plan-applied",
                f"a plan of that name is being applied, or was: `{journal.name}` goes on with it and rolls it back",
                str(path),
                "write to another file; or move that plan and its journal away, together",
            ),
            exit_code=2,
        )
    what = _irreplaceable(path)
    if any(each is not None and is_same_file(path, each) for each in reads):
        what = "this very command reads it"
    if what:
        raise DiagnosticError(
            Diagnostic("file-kept", f"it is not written over: {what}", str(path), "write to another file"), exit_code=2
        )


def is_same_file(one: Path, other: Path) -> bool:
    """Whether two paths lead to the same file, be it there or not."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return os.path.realpath(one) == os.path.realpath(other)


def _irreplaceable(path: Path) -> str:
    """What a file is, when nothing can bring back what it holds; else empty."""
    from imdsctl.domain.journal import JOURNAL_FORMAT

    head = b""
    if path.is_file():
        with contextlib.suppress(OSError), path.open("rb") as file:
            head = file.read(100)
    if f'"{JOURNAL_FORMAT}"'.encode() in head:
        return "this is a journal, and only it has the values of before an apply"
    return "this is a SQLite database" if head.startswith(_SQLITE) else ""


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
