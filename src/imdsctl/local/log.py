"""The log of accepted writes: one line each, with a checksum. The world is a fold over it.

Bytes in, bytes out; the file is `adapters/state_directory.py`'s. A line is the CRC-32 of what follows in eight
hexadecimal digits, a space, and a JSON object.
"""

from __future__ import annotations

import base64
from binascii import crc32
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.local.call import Caller


@dataclass(frozen=True, slots=True)
class Record:
    """One accepted write: all that its handler saw."""

    sequence: int
    now: datetime
    request_id: str
    service: str
    action: str
    region: str
    caller: Caller
    params: dict[str, Any]


def encode(record: Record) -> bytes:
    """A record's line, with its line feed."""
    caller = record.caller
    text = orjson.dumps(
        {
            "sequence": record.sequence,
            "now": record.now.isoformat(),
            "request_id": record.request_id,
            "service": record.service,
            "action": record.action,
            "region": record.region,
            "caller": [caller.account_id, caller.arn, caller.user_id, caller.access_key_id],
            "params": _plain(record.params),
        }
    )
    return b"%08x %b\n" % (crc32(text), text)


def decode_line(line: bytes) -> Record:
    """The record of one line (without its line feed). Raises ValueError when the line is damaged."""
    checksum, _, text = line.partition(b" ")
    if len(checksum) != 8 or int(checksum, 16) != crc32(text):
        raise ValueError("checksum differs")
    value = orjson.loads(text)
    return Record(
        sequence=value["sequence"],
        now=datetime.fromisoformat(value["now"]),
        request_id=value["request_id"],
        service=value["service"],
        action=value["action"],
        region=value["region"],
        caller=Caller(*value["caller"]),
        params=_rich(value["params"]),
    )


def decode(data: bytes) -> Iterator[tuple[Record, int]]:
    """The records of a log, each with the offset after it.

    A last line without its line feed was being written when the power went: it was never answered, so it is dropped.
    Anything else that does not check out raises DiagnosticError `state-damaged` with the line's number.
    """
    offset = 0
    for number, line in enumerate(data.split(b"\n")[:-1], 1):
        end = offset + len(line) + 1
        try:
            record = decode_line(line)
            if record.sequence != number:
                raise ValueError(f"write {number} is missing")
        except (ValueError, KeyError, TypeError) as error:
            raise DiagnosticError(
                Diagnostic(
                    "state-damaged",
                    f"line {number} of the log does not check out ({error})",
                    hint=f"keep the state up to there: cut the log to its first {offset} bytes, "
                    "or start with another `--state` directory",
                )
            ) from None
        yield record, end
        offset = end


def _plain(value: Any) -> Any:
    """Parameters as JSON; what JSON has no word for goes into an object with one `$` key."""
    if isinstance(value, dict):
        plain = {key: _plain(each) for key, each in value.items()}
        return {"$map": plain} if any(key.startswith("$") for key in plain) else plain
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, datetime):
        return {"$time": value.isoformat()}
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode()}
    return value


def _rich(value: Any) -> Any:
    if isinstance(value, list):
        return [_rich(each) for each in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        (key, inner) = next(iter(value.items()))
        if key == "$time":
            return datetime.fromisoformat(inner)
        if key == "$bytes":
            return base64.b64decode(inner)
        if key == "$map":
            return {name: _rich(each) for name, each in inner.items()}
    return {key: _rich(each) for key, each in value.items()}
