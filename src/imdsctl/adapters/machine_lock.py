"""One writer an account at a time on this machine, for whoever names no database: two plans, two terminals, one user.

A lock of the operating system on a file in the user's data directory: it ends with its process, however that ends.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError

OWNER_BYTES_MAX = 2048


@contextmanager
def machine_lock(directory: Path, account_id: str, owner: str) -> Iterator[None]:
    """Hold the right to write by the caller's account `account_id`; `owner` is a clause that says who does.

    Raises DiagnosticError `apply-running`. Where nothing can be kept in `directory` there is no lock: a machine without
    a home has no second terminal either.
    """
    path = directory / f"write-{account_id}.lock"
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError:
        yield
        return
    try:
        if not locked(descriptor):
            other = os.read(descriptor, OWNER_BYTES_MAX).decode("utf-8", "replace").strip() or "somebody else"
            raise DiagnosticError(
                Diagnostic(
                    "apply-running",
                    f"{other} is at work by the same account",
                    str(path),
                    "wait until it has ended; the same command then goes on from its journal",
                )
            )
        with suppress(OSError):  # A full disk takes no name, and the lock holds all the same.
            os.truncate(descriptor, 0)
            os.write(descriptor, f"{owner}\n".encode()[:OWNER_BYTES_MAX])
        yield
    finally:
        os.close(descriptor)


def locked(descriptor: int) -> bool:
    """Take the lock of an open file, which lasts until it is closed. False when another process has it."""
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
