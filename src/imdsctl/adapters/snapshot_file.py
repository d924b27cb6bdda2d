"""A snapshot: a whole local AWS in one file, to keep, to copy to another machine, and to go back to.

imdsctl-snapshot 1 SHA256          of everything below this line
{"format": 1, "seed": 2019, ...}   the manifest, as in the state directory, on one line
...                                the log of the accepted writes, line by line (imdsctl/local/log.py)
"""

from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import orjson

from imdsctl.adapters.private_file import write_whole
from imdsctl.adapters.state_directory import manifest_content, read_state, spec_of
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.local.log import decode
from imdsctl.local.spec import WorldSpec

FORMAT = 1
_MAGIC = b"imdsctl-snapshot "


def take(state: Path, file: Path) -> int:
    """Write the snapshot of a state directory, whole or not at all; gives the number of its writes.

    A server may go on writing: everything that was answered before the call is in the snapshot, and whatever came
    later is in it whole or not at all. A file that is no snapshot is never written over.

    Raises DiagnosticError: `state-missing`, `state-incomplete`, `state-damaged`, `snapshot-exists`,
    `snapshot-not-writable`.
    """
    spec, log = read_state(state)
    writes = _checked(log, state)
    body = orjson.dumps(manifest_content(spec)) + b"\n" + log
    try:
        if file.exists() and not _is_snapshot(file):
            raise DiagnosticError(
                Diagnostic(
                    "snapshot-exists",
                    "there is a file of that name, and it is no snapshot",
                    subject=str(file),
                    hint="choose another name; only a snapshot is written over",
                )
            )
        write_whole(file, b"%b%d %b\n%b" % (_MAGIC, FORMAT, sha256(body).hexdigest().encode(), body))
    except OSError as error:
        raise DiagnosticError(
            Diagnostic(
                "snapshot-not-writable",
                f"the snapshot cannot be written: {error.strerror or error}",
                subject=str(file),
                hint="choose a file in a directory of yours, on a disk with room",
            )
        ) from None
    return writes


def load(file: Path) -> tuple[WorldSpec, bytes, int]:
    """From what the world was made, the log, and the number of its writes; every byte has been checked.

    Raises DiagnosticError: `snapshot-unreadable`, `snapshot-invalid`.
    """
    try:
        data = file.read_bytes()
    except OSError as error:
        raise DiagnosticError(
            Diagnostic(
                "snapshot-unreadable",
                f"the snapshot cannot be read: {error.strerror or error}",
                subject=str(file),
                hint="name a file that `imdsctl local snapshot FILE` has written",
            )
        ) from None
    head, _, body = data.partition(b"\n")
    if not head.startswith(_MAGIC):
        raise _invalid(file, "it does not begin as a snapshot does")
    version, _, checksum = head[len(_MAGIC) :].partition(b" ")
    if version != b"%d" % FORMAT:
        raise _invalid(file, f"it has format {version.decode('latin-1')}, this version reads {FORMAT}")
    if sha256(body).hexdigest().encode() != checksum:
        raise _invalid(file, "its checksum differs: it is cut short or was changed")
    manifest, _, log = body.partition(b"\n")
    try:
        spec = spec_of(orjson.loads(manifest))
    except (ValueError, KeyError, TypeError) as error:
        raise _invalid(file, f"its manifest cannot be read ({error})") from None
    return spec, log, _checked(log, file)


def _is_snapshot(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(len(_MAGIC)) in (_MAGIC, b"")


def _checked(log: bytes, where: Path) -> int:
    """How many writes a log holds, every one of which checks out."""
    try:
        return sum(1 for _ in decode(log))
    except DiagnosticError as error:
        raise DiagnosticError(each.about(str(where)) for each in error.diagnostics) from None


def _invalid(file: Path, what: str) -> DiagnosticError:
    return DiagnosticError(
        Diagnostic(
            "snapshot-invalid",
            f"this is no snapshot that can be restored: {what}",
            subject=str(file),
            hint="take it again with `imdsctl local snapshot FILE`, or use another copy of it; nothing was changed",
        )
    )
