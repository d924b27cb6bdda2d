"""CloudTrail's files: role deliveries out of files and folders, plain or gzip, in memory that does not grow with them.

A trail's file is one object with `Records` (CloudTrail User Guide, "CloudTrail log file examples"); what
`aws cloudtrail lookup-events` prints has `Events`, each with its event as text; an export has one event a line. A file
that is damaged counts as far as it can be read, and is named.
"""

from __future__ import annotations

import gzip
import io
import os
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import ijson
import orjson

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError, Severity
from imdsctl.domain.role_delivery import Deliveries, delivery_of, delivery_of_event

Stream: TypeAlias = gzip.GzipFile | io.BufferedReader

LINE_BYTES_MAX = 1_048_576
"""A line that is longer is no event: CloudTrail's have 256 KB at most."""
TRAIL_SUFFIXES = (".json", ".json.gz", ".jsonl", ".jsonl.gz", ".gz", ".log")
_MAGIC = b"\x1f\x8b"
_HEAD_BYTES = 4096
_FIELDS = {
    "userIdentity.principalId": "principal",
    "userIdentity.accountId": "account_id",
    "userIdentity.sessionContext.ec2RoleDelivery": "version",
    "eventTime": "time",
}
_RECORDS = {f"Records.item.{path}": name for path, name in _FIELDS.items()}
_LIST = {f"item.{path}": name for path, name in _FIELDS.items()}


def trail_files(paths: Iterable[Path], suffixes: tuple[str, ...] = TRAIL_SUFFIXES) -> list[Path]:
    """The files that are named, and those below the folders that are, in order; a folder that cannot be looked through
    is among them, so that reading it fails. Raises DiagnosticError for neither."""
    found: list[Path] = []
    missing = []
    for path in paths:
        if path.is_dir():
            found += sorted(_below(path, suffixes))
        elif os.path.lexists(path):
            found.append(path)
        else:
            missing.append(path)
    if missing:
        raise DiagnosticError(
            [
                Diagnostic("cloudtrail-missing", "there is no such file or folder", str(path), "correct `--cloudtrail`")
                for path in missing
            ],
            exit_code=2,
        )
    return list(dict.fromkeys(found))


def _below(folder: Path, suffixes: tuple[str, ...]) -> Iterator[Path]:
    refused: list[OSError] = []
    for here, _, names in os.walk(folder, onerror=refused.append):
        for name in names:
            path = Path(here, name)
            if name.lower().endswith(suffixes) and (path.is_file() or path.is_symlink()):
                yield path
    yield from (Path(error.filename) for error in refused)


def what_is_damaged(path: Path) -> str:
    """The beginning of a sentence."""
    return "a folder could not be looked through" if path.is_dir() else "a CloudTrail file could not be read to its end"


def read_trail_files(files: Iterable[Path], into: Deliveries) -> list[Diagnostic]:
    """Count the deliveries of every file; a warning for each that is damaged or cannot be read."""
    problems = []
    for path in files:
        before = into.events
        try:
            with path.open("rb") as file:
                _read(file, into)
        except (OSError, EOFError, zlib.error, ijson.JSONError, ValueError) as error:
            kept = into.events - before
            problems.append(
                Diagnostic(
                    "cloudtrail-file-damaged",
                    f"{what_is_damaged(path)} ({_why(error)}); {kept} of its role events are counted",
                    str(path),
                    "fetch it again; the other files were read",
                    Severity.WARNING,
                )
            )
    return problems


def _why(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).strip().split("\n")[0][:100] or type(error).__name__


def _read(file: io.BufferedReader, into: Deliveries) -> None:
    packed = file.peek(2)[:2] == _MAGIC
    stream: Stream = gzip.GzipFile(fileobj=file, mode="rb") if packed else file
    head = stream.peek(_HEAD_BYTES)[:_HEAD_BYTES].lstrip()
    if head.startswith(b"["):
        _records(stream, _LIST, "item", into)
    elif head.startswith(b"{") and b'"Records"' in head[:64]:
        _records(stream, _RECORDS, "Records.item", into)
    elif head.startswith(b"{") and b'"Events"' in head[:64]:
        _looked_up(stream, into)
    else:
        _lines(stream, into)


def _records(stream: Stream, paths: dict[str, str], end: str, into: Deliveries) -> None:
    """Only the four members that are needed are kept of a record, however large it is."""
    found: dict[str, Any] = {}
    for prefix, event, value in ijson.parse(stream, use_float=True):
        if prefix == end and event == "end_map":
            if "version" in found:
                _add(into, found)
            found = {}
        elif prefix in paths:
            found[paths[prefix]] = value


def _add(into: Deliveries, found: dict[str, Any]) -> None:
    delivery = delivery_of(found.get("principal"), found.get("account_id"), found["version"], found.get("time"))
    if delivery is not None:
        into.add(delivery)


def _looked_up(stream: Stream, into: Deliveries) -> None:
    for prefix, _, value in ijson.parse(stream, use_float=True):
        if prefix == "Events.item.CloudTrailEvent" and isinstance(value, str):
            delivery = delivery_of_event(orjson.loads(value))
            if delivery is not None:
                into.add(delivery)


def _lines(stream: Stream, into: Deliveries) -> None:
    for line in _short(stream):
        delivery = delivery_of_event(orjson.loads(line))
        if delivery is not None:
            into.add(delivery)


def _short(stream: Stream) -> Iterator[bytes]:
    while line := stream.readline(LINE_BYTES_MAX + 1):
        if len(line) > LINE_BYTES_MAX:
            raise ValueError(f"a line is longer than {LINE_BYTES_MAX} bytes")
        if line.strip():
            yield line
