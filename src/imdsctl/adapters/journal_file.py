"""The journal on disk: one JSON object a line, the first of which names the plan. Locked while an apply runs."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import orjson

from imdsctl.adapters.machine_lock import locked
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.journal import (
    JOURNAL_FORMAT,
    Entry,
    Fold,
    Progress,
    check_header,
    damaged,
    entry_from_plain,
    entry_to_plain,
    header_to_plain,
)

_BEGINNING = orjson.dumps({"format": JOURNAL_FORMAT})[:-1]


class JournalFile:
    """An open journal. Entries of many tasks that wait at the same time reach the disk with one fsync."""

    def __init__(self, file: BinaryIO, path: Path, known: Fold, sync: Callable[[int], None] = os.fsync) -> None:
        self._file = file
        self._path = path
        self._known = known
        self._sync = sync
        self._waiting: list[Entry] = []
        self._flush: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._broken: OSError | None = None

    @property
    def progress(self) -> Progress:
        """All that is on the disk, from earlier runs and from this one."""
        return self._known.progress

    async def append(self, entry: Entry) -> None:
        """Record one entry; returns when it is on the disk.

        Raises DiagnosticError `journal-unwritable` when the disk does not take it.
        """
        self._waiting.append(entry)
        if self._flush is None:
            self._flush = asyncio.create_task(self._flush_waiting())
            self._flush.add_done_callback(_told)
        await asyncio.shield(self._flush)

    async def _flush_waiting(self) -> None:
        async with self._writing:
            # Whoever comes from here on waits for the next flush.
            entries, self._waiting, self._flush = self._waiting, [], None
            lines = b"".join(orjson.dumps(entry_to_plain(entry)) + b"\n" for entry in entries)
            try:
                await asyncio.to_thread(self._write, lines)
            except OSError as error:
                raise _unwritable(self._path, error, "free the disk; then the same command goes on") from None
            for entry in entries:
                self._known.add(entry)

    def _write(self, data: bytes) -> None:
        if self._broken is not None:
            raise self._broken
        whole = self._file.tell()
        try:
            while data:
                data = data[self._file.write(data) :]
            self._file.flush()
            self._sync(self._file.fileno())
        except OSError as error:
            # Half a line must not stand before whole ones: take it away, and write no more.
            self._broken = error
            with suppress(OSError):
                os.ftruncate(self._file.fileno(), whole)
            raise


def _told(flush: asyncio.Task[None]) -> None:
    """Whoever waited for a failed flush may have been cancelled: nobody is left to ask, and that is no bug."""
    if not flush.cancelled():
        flush.exception()


@contextmanager
def open_journal(path: Path, plan_digest: str, at: str) -> Iterator[JournalFile]:
    """The journal of a plan, new or continued; nobody else can open it meanwhile.

    `at` is the time for a new journal's header. Raises DiagnosticError: `apply-running` when another apply holds it,
    `journal-mismatch` when it belongs to another plan, `journal-damaged` when a line other than the last is broken (a
    torn last line is dropped: its entry was never acted on), `journal-unwritable`.
    """
    try:
        # Unbuffered: what the disk did not take must not be tried once more when the file is closed.
        file = open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "r+b", buffering=0)  # noqa: SIM115 (closed below)
    except OSError as error:
        raise _unwritable(path, error, "name another file with `--journal FILE`") from None
    with file:
        _lock(file, path)
        fresh = os.fstat(file.fileno()).st_size == 0
        try:
            known = _continue(file, plan_digest, at)
        except DiagnosticError as error:
            raise DiagnosticError([each.about(str(path)) for each in error.diagnostics]) from None
        _sync_folder(path.parent)
        head = file.tell()
        try:
            yield JournalFile(file, path, known)
        finally:
            if fresh and file.tell() == head:
                # Nothing began, and the plan does not count as applied. The file stays: somebody may wait for its lock.
                file.truncate(0)


def _unwritable(path: Path, error: OSError, hint: str) -> DiagnosticError:
    why = f"nothing is changed without a record: {(error.strerror or str(error)).lower()}"
    return DiagnosticError(Diagnostic("journal-unwritable", why, str(path), hint))


def _continue(file: BinaryIO, plan_digest: str, at: str) -> Fold:
    known = Fold()
    content = file.read()
    whole = content.rfind(b"\n") + 1
    lines = content[:whole].splitlines()
    if not lines:
        if content[: len(_BEGINNING)] != _BEGINNING[: len(content)]:
            raise damaged("it is no journal", 1)
        file.seek(0)
        file.truncate()
        file.write(orjson.dumps(header_to_plain(plan_digest, at)) + b"\n")
        file.flush()
        os.fsync(file.fileno())
        return known
    decoded = [_decode(line, number) for number, line in enumerate(lines, 1)]
    check_header(decoded[0], plan_digest)
    for number, value in enumerate(decoded[1:], 2):
        known.add(entry_from_plain(value, number))
    file.seek(whole)
    file.truncate()
    return known


def _decode(line: bytes, number: int) -> object:
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        raise damaged("not JSON", number) from None


def _lock(file: BinaryIO, path: Path) -> None:
    if not locked(file.fileno()):
        raise DiagnosticError(
            Diagnostic(
                "apply-running",
                "another `imdsctl apply` or `rollback` works on this plan",
                str(path),
                "wait until it has ended; the same command then goes on from its journal",
            )
        )


def _sync_folder(folder: Path) -> None:
    """Make the file's name durable as well as its content."""
    if sys.platform == "win32":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
