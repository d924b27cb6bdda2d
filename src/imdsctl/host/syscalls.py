"""The system calls for namespaces that Python 3.11 does not have: unshare, setns, mount, prctl."""

from __future__ import annotations

import ctypes
import os
import signal

NEW_MOUNTS = 0x00020000
NEW_USERS = 0x10000000
NEW_PIDS = 0x20000000
NEW_NETWORK = 0x40000000

_MS_NOSUID, _MS_NODEV, _MS_NOEXEC, _MS_REC, _MS_SLAVE = 0x2, 0x4, 0x8, 0x4000, 0x80000
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


def unshare(flags: int) -> None:
    """Leave the namespaces that `flags` name for new ones. Raises OSError."""
    _checked("unshare", _libc().unshare(flags))


def enter_network(namespace: int) -> None:
    """Move the calling thread into the network namespace of a descriptor. Raises OSError."""
    _checked("setns", _libc().setns(namespace, NEW_NETWORK))


def end_with_parent() -> None:
    """Have the kernel kill this process when the thread that started it ends."""
    _checked("prctl", _libc().prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))


def adopt_orphans() -> None:
    """Become the parent of every descendant whose own parent ends. Raises OSError."""
    _checked("prctl", _libc().prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0))


def keep_mounts_to_ourselves() -> None:
    """In a new mount namespace: what is mounted here is not seen outside, what is mounted outside is seen here."""
    _checked("mount", _libc().mount(None, b"/", None, _MS_REC | _MS_SLAVE, None))


def mount_proc() -> None:
    """Mount /proc anew, so that it shows the caller's process namespace. Raises OSError."""
    _checked("mount", _libc().mount(b"proc", b"/proc", b"proc", _MS_NOSUID | _MS_NODEV | _MS_NOEXEC, None))


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(call: str, result: int) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), call)
