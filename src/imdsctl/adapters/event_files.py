"""CloudTrail's events from files: one file, or a folder that something fills, followed.

A log file of CloudTrail (`{"Records": [...]}`, gzipped or not) is read once it is whole; a file whose name ends in
`.jsonl`, `.ndjson` or `.log` has one event a line and is followed at its end. What was there at the start is read too.
Source: CloudTrail User Guide, "CloudTrail log file name format".
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.trail_events import NotAnEvent, events_of_text
from imdsctl.fleet.watch_events import Delivery

FILE_BYTES_MAX = 256 * 1024 * 1024
"""A file is not read past this, packed or unpacked: nobody fills the memory with one."""
LINES_PER_TURN_MAX = 1_000
FILES_PER_TURN_MAX = 100
_LINES = frozenset({".jsonl", ".ndjson", ".log"})
_WHOLE = frozenset({".json", ".gz"})


class EventFiles:
    """Implements `fleet.watch_events.EventSource`. Raises DiagnosticError `events-unreadable`.

    What was delivered and not done is delivered again at the next `receive`, before anything new.
    """

    def __init__(self, path: Path) -> None:
        if not path.exists():
            raise _unreadable(path, "there is no such file or folder")
        self._path = path
        self._read: dict[Path, tuple[int, int]] = {}
        """Of whole files the size and time of change when they were read."""
        self._offsets: dict[Path, int] = {}
        self._waiting: dict[str, Delivery] = {}

    async def receive(self) -> Sequence[Delivery]:
        """What is new in the files; nothing at once when nothing is."""
        again = [_again(each) for each in self._waiting.values()]
        fresh = await asyncio.to_thread(lambda: list(self._new()))
        for each in (*again, *fresh):
            if not each.problem:
                self._waiting[each.receipt] = each
        return (*again, *fresh)

    async def done(self, deliveries: Sequence[Delivery]) -> None:
        """These are not delivered again."""
        for each in deliveries:
            self._waiting.pop(each.receipt, None)

    def _new(self) -> Iterator[Delivery]:
        turn = 0
        for path in self._files():
            if turn == FILES_PER_TURN_MAX:
                return
            try:
                found = list(self._lines(path) if path.suffix in _LINES else self._whole(path))
            except FileNotFoundError:
                continue  # it was moved away between two looks
            except OSError as error:
                raise _unreadable(path, (error.strerror or str(error)).lower()) from None
            turn += bool(found)
            yield from found

    def _files(self) -> list[Path]:
        if not self._path.is_dir():
            return [self._path]
        return sorted(
            each
            for each in self._path.rglob("*")
            if each.suffix in _LINES | _WHOLE and not each.name.startswith(".") and each.is_file()
        )

    def _whole(self, path: Path) -> Iterator[Delivery]:
        status = path.stat()
        state = status.st_size, status.st_mtime_ns
        if self._read.get(path) == state:
            return
        self._read[path] = state
        try:
            text = _content(path)
            yield Delivery(f"{path}@{state[1]}", tuple(events_of_text(text)))
        except NotAnEvent as error:
            yield Delivery(f"{path}@{state[1]}", problem=f"{path.name}: {error}")

    def _lines(self, path: Path) -> Iterator[Delivery]:
        offset = self._offsets.get(path, 0)
        if path.stat().st_size < offset:
            offset = 0  # it was begun anew
        with path.open("rb") as file:
            file.seek(offset)
            for _ in range(LINES_PER_TURN_MAX):
                line = file.readline(FILE_BYTES_MAX)
                if not line.endswith(b"\n"):
                    break  # it is being written
                place = f"{path}:{offset}"
                offset += len(line)
                if line.strip():
                    yield _line(place, path, line)
        self._offsets[path] = offset


def _line(place: str, path: Path, line: bytes) -> Delivery:
    try:
        return Delivery(place, tuple(events_of_text(line)))
    except NotAnEvent as error:
        return Delivery(place, problem=f"{path.name}: {error}")


def _again(each: Delivery) -> Delivery:
    return Delivery(each.receipt, each.events, each.problem, each.times + 1)


def _content(path: Path) -> bytes:
    """The file's content, unpacked. Raises NotAnEvent for one that is too large, or cut."""
    with path.open("rb") as file:
        data = file.read(FILE_BYTES_MAX + 1)
    if data[:2] == b"\x1f\x8b":
        unpacker = zlib.decompressobj(wbits=31)
        try:
            data = unpacker.decompress(data, FILE_BYTES_MAX + 1)
        except zlib.error:
            raise NotAnEvent("it is not a gzip file, or it is damaged") from None
        if not unpacker.eof and len(data) <= FILE_BYTES_MAX:
            raise NotAnEvent("it is cut: it will be read again when it changes")
    if len(data) > FILE_BYTES_MAX:
        raise NotAnEvent(f"it is larger than {FILE_BYTES_MAX // 1024 // 1024} MiB")
    return data


def _unreadable(path: Path, why: str) -> DiagnosticError:
    return DiagnosticError(
        Diagnostic(
            "events-unreadable",
            f"the events cannot be read: {why}",
            subject=str(path),
            hint="`--events` takes a log file of CloudTrail, a file with one event a line, or a folder of these",
        ),
        exit_code=2,
    )
