"""A directory that keeps a local AWS: what it was made from, and the log of its writes.

DIR/world.json   the manifest: format, seed, accounts, Regions, instances, created; written by renaming
DIR/log          one line for each accepted write (imdsctl/local/log.py), on disk before the write is answered; after a
                 restore or reset it is `log-` and eight digits, and the manifest names it
DIR/lock         held by the server that uses the directory
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

import orjson

from imdsctl.adapters.private_file import sync_directory, write_whole
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.local.log import Record, decode
from imdsctl.local.spec import V1_PERCENT, WorldSpec

FORMAT = 2


class StateDirectory:
    """One state directory, locked for this process until `close`. It is the server's journal, too."""

    def __init__(self, path: Path) -> None:
        """Create the directory when it is missing, and lock it.

        Raises DiagnosticError: `state-in-use` when another server has it, `state-not-writable` when it cannot be,
        `state-incomplete` when it holds something else, in which case not even a lock is left there.
        """
        self.path = path
        self.position = 0
        self._buffer: list[bytes] = []
        self._log = -1
        self._lock = -1
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._refuse_others()
            self._lock = os.open(path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock)
            self._lock = -1
            raise DiagnosticError(
                Diagnostic(
                    "state-in-use",
                    "another local AWS is using this state",
                    subject=str(path),
                    hint=f"`imdsctl local status` shows it; `imdsctl local down --state {path}` ends it",
                )
            ) from None
        except OSError as error:
            self.close()
            raise _not_writable(path, error) from None

    def manifest(self) -> WorldSpec | None:
        """From what the world was made; None for a directory that holds nothing yet.

        Raises DiagnosticError `state-incomplete` when there is a log but no (whole) manifest, or one of a later
        version.
        """
        manifest = self._manifest()
        return None if manifest is None else manifest[0]

    def _manifest(self) -> tuple[WorldSpec, str] | None:
        found = read_manifest(self.path)
        if found is None:
            self._refuse_others()
        return found

    def _refuse_others(self) -> None:
        """Raises DiagnosticError `state-incomplete` for a directory with no manifest and with something in it."""
        names = _names(self.path)
        others = [name for name in names if not _leftover(name)]
        if others and "world.json" not in names:
            listed = ", ".join(f"`{name}`" for name in others[:3])
            raise _incomplete(self.path, f"it holds {listed} but no `world.json`")

    def write_manifest(self, spec: WorldSpec) -> None:
        """Write the manifest of a new world, whole or not at all."""
        try:
            self._write_manifest(spec, _LOG)
        except OSError as error:
            raise _not_writable(self.path, error) from None

    def _write_manifest(self, spec: WorldSpec, log: str) -> None:
        content = manifest_content(spec) | ({"log": log} if log != _LOG else {})
        write_whole(self.path / "world.json", orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")

    def empty(self) -> bool:
        """Whether the directory holds nothing that anybody could miss."""
        return all(_leftover(name) for name in _names(self.path))

    def replace(self, spec: WorldSpec, log: bytes) -> None:
        """Make this the state: a world and the log of its writes, in the place of what was there.

        The manifest's renaming is the moment at which it happens: killed before, the old state is whole; after, the new
        one is. Not for a directory whose log is open. Raises DiagnosticError `state-incomplete` for a directory that
        holds files which are not of a state (they are left alone), `state-not-writable`.
        """
        foreign = [name for name in _names(self.path) if not (_leftover(name) or _OURS.fullmatch(name))]
        if foreign:
            listed = ", ".join(f"`{name}`" for name in foreign[:3])
            raise _incomplete(self.path, f"it holds {listed}, which is no part of a state")
        name = f"{_LOG}-{secrets.token_hex(4)}"
        try:
            write_whole(self.path / name, log)
            self._write_manifest(spec, name)
            for other in _names(self.path):
                if _LOG_NAME.fullmatch(other) and other != name:
                    (self.path / other).unlink()
        except OSError as error:
            raise _not_writable(self.path, error) from None

    def records(self) -> Iterator[Record]:
        """The writes to replay; afterwards the log is open for more, without a torn last line.

        Raises DiagnosticError `state-damaged`.
        """
        manifest = read_manifest(self.path)
        log = self.path / (_LOG if manifest is None else manifest[1])
        data = log.read_bytes() if log.exists() else b""
        end = 0
        try:
            for record, end in decode(data):  # noqa: B007 - the last end is where the log is cut
                self.position += 1
                yield record
        except DiagnosticError as error:
            raise DiagnosticError(each.about(str(log)) for each in error.diagnostics) from None
        try:
            self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.ftruncate(self._log, end)
            os.lseek(self._log, end, os.SEEK_SET)
            os.fsync(self._log)
            sync_directory(self.path)
        except OSError as error:
            raise _not_writable(self.path, error) from None

    # -- the journal -------------------------------------------------------------------------------------------------

    def append(self, line: bytes) -> None:
        """Take a line; it is on disk after the next `sync`."""
        self._buffer.append(line)
        self.position += 1

    def sync(self) -> None:
        """Write and fsync everything taken before the call. Raises OSError; may run on another thread."""
        taken = len(self._buffer)
        data = memoryview(b"".join(self._buffer[:taken]))
        while data:
            data = data[os.write(self._log, data) :]
        os.fdatasync(self._log) if hasattr(os, "fdatasync") else os.fsync(self._log)
        del self._buffer[:taken]

    def close(self) -> None:
        """Give the directory back. What was not synced was not answered."""
        for descriptor in (self._log, self._lock):
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
        self._log = self._lock = -1


_LOG = "log"
_LOG_NAME = re.compile(r"log(-[0-9a-f]{8})?")
_OURS = re.compile(rf"world\.json|{_LOG_NAME.pattern}")


def _names(path: Path) -> list[str]:
    return sorted(each.name for each in path.iterdir())


def _leftover(name: str) -> bool:
    """The lock, or what is left of a start or restore that ended before anything was served."""
    return name == "lock" or name.startswith((".world.json.", ".log-"))


def manifest_content(spec: WorldSpec) -> dict[str, Any]:
    """A manifest's members, as they are written."""
    return {"format": FORMAT, **asdict(spec), "created": spec.created.isoformat()}


def spec_of(value: Any) -> WorldSpec:
    """From what a manifest says a world was made. Raises ValueError, KeyError or TypeError when it does not say it."""
    if value["format"] != FORMAT:
        raise ValueError(f"format {value['format']}, this version reads {FORMAT}")
    return WorldSpec(
        seed=int(value["seed"]),
        created=datetime.fromisoformat(value["created"]),
        accounts=int(value["accounts"]),
        regions=tuple(map(str, value["regions"])),
        instances=int(value["instances"]),
        settle_seconds=float(value["settle_seconds"]),
        v1_percent=int(value.get("v1_percent", V1_PERCENT)),
    )


def read_manifest(path: Path) -> tuple[WorldSpec, str] | None:
    """A state directory's manifest and the name of its log; None when there is none.

    Raises DiagnosticError `state-incomplete` when it is not whole or of a later version, `state-not-writable` when it
    cannot be read.
    """
    try:
        value = orjson.loads((path / "world.json").read_bytes())
        log = value.get("log", _LOG)
        if not _LOG_NAME.fullmatch(log):
            raise ValueError(f"log `{log}`")
        return spec_of(value), log
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _not_writable(path, error) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _incomplete(path, f"`world.json` cannot be read ({type(error).__name__}: {error})") from None


def read_state(path: Path) -> tuple[WorldSpec, bytes]:
    """A state as it is at this moment, while a server may be writing it: the manifest, and the log's whole lines.

    Raises DiagnosticError `state-missing` when there is no state, `state-incomplete`, `state-not-writable`.
    """
    while True:
        manifest = read_manifest(path)
        if manifest is None:
            raise DiagnosticError(
                Diagnostic(
                    "state-missing",
                    "there is no local AWS in this directory",
                    subject=str(path),
                    hint="name the directory that `imdsctl local up --state DIR` was given",
                )
            )
        spec, name = manifest
        try:
            data = (path / name).read_bytes()
        except FileNotFoundError:
            data = b""  # no server has started yet; or the log was replaced in this moment
        except OSError as error:
            raise _not_writable(path, error) from None
        if read_manifest(path) == manifest:
            # What follows the last line feed is being written now, and has not been answered.
            return spec, data[: data.rfind(b"\n") + 1]


def _incomplete(path: Path, what: str) -> DiagnosticError:
    return DiagnosticError(
        Diagnostic(
            "state-incomplete",
            f"this directory is not a whole state: {what}",
            subject=str(path),
            hint="restore the missing file, or choose an empty directory for `--state`",
        )
    )


def _not_writable(path: Path, error: OSError) -> DiagnosticError:
    return DiagnosticError(
        Diagnostic(
            "state-not-writable",
            f"this directory cannot be used: {error.strerror or error}",
            subject=str(path),
            hint="choose another directory for `--state`, or change its owner or permissions",
        )
    )
