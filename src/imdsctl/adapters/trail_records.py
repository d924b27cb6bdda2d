"""CloudTrail's records out of files and folders, one by one, in memory that does not grow with them.

A trail's file is one object with `Records` (CloudTrail User Guide, "CloudTrail log file examples"); what
`aws cloudtrail lookup-events` prints has `Events`, each with its event as text; Athena and CloudTrail Lake export one
event a line, as JSON or as CSV. Plain or gzip. A file that is damaged counts as far as it can be read, and is named.

CloudTrail writes a file without white space, and every record begins with `{"eventVersion"`. No text in a record can
hold that (a quotation mark in a text is escaped), so the file is cut there, and records of other calls are never
parsed. What is written differently is parsed as a stream.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import re
import sys
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import ijson
import orjson

from imdsctl.adapters.cloudtrail_files import TRAIL_SUFFIXES, trail_files, what_is_damaged
from imdsctl.adapters.utf8_text import NotText, decoded
from imdsctl.codify.json_places import read_json
from imdsctl.domain.diagnostics import Diagnostic, Severity

Stream: TypeAlias = gzip.GzipFile | io.BufferedReader
Add: TypeAlias = Callable[[Mapping[str, Any]], object]

CHUNK_BYTES = 1 << 18
RECORD_BYTES_MAX = 4 << 20
"""A record that is longer is none: CloudTrail's have 256 KB at most."""
PROBLEMS_NAMED_MAX = 3
"""Of each file, so many records that cannot be used are named; the rest is counted."""
NEARLY_JSON_BYTES_MAX = 32 << 20
"""A file that is no JSON is read once more, slowly, up to this size."""
_MAGIC = b"\x1f\x8b"
_BEGIN = b'{"eventVersion"'
_NEXT_FILE = re.compile(rb'\]\s*\}\s*(?:\{"Records":\[\]\}\s*)*\{"Records":\[$')
"""Between the last record of a file and the first of one that was put behind it."""
_SUFFIXES = (".csv", ".csv.gz")
_MAY_BE_EMPTY = (".jsonl", ".jsonl.gz", ".log", *_SUFFIXES)


class Reader:
    """Hands records over, and keeps what was wrong.

    `wanted` are names of calls: records of others are counted in `skipped` and may be left unparsed. `add` raises
    ValueError for a record that it cannot use; its message says why.
    """

    def __init__(self, wanted: Iterable[str], add: Add) -> None:
        names = b"|".join(sorted(re.escape(each.encode()) for each in wanted))
        self._wanted = re.compile(rb'"eventName"\s*:\s*"(?:' + names + rb')"')
        self._add = add
        self.records = 0
        self._before = 0
        self.skipped = 0
        self.problems: list[Diagnostic] = []

    def files(self, paths: Iterable[Path]) -> None:
        """Read everything. Raises DiagnosticError (exit code 2) for a path that is not there."""
        for each in trail_files(paths, (*TRAIL_SUFFIXES, *_SUFFIXES)):
            self._file(each)

    def _file(self, path: Path) -> None:
        before = self._before = self.records
        unusable = _Unusable()
        try:
            with path.open("rb") as file:
                packed = file.peek(2)[:2] == _MAGIC
                stream: Stream = gzip.GzipFile(fileobj=file, mode="rb") if packed else file
                self._stream(stream, path, unusable)
        except ijson.JSONError as error:
            if not self._past_faults(path, unusable):
                self._damaged(path, error, self.records - before)
        except (OSError, EOFError, zlib.error, csv.Error, ValueError) as error:
            self._damaged(path, error, self.records - before)
        self.problems += unusable.diagnostics(path)

    def _damaged(self, path: Path, error: Exception, kept: int) -> None:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error).strip().split("\n")[0]
        self.problems.append(
            Diagnostic(
                "cloudtrail-file-damaged",
                f"{what_is_damaged(path)} ({why[:100] or type(error).__name__}); {kept:,} of its records are counted",
                str(path),
                "fetch it again; the other files were read",
                Severity.WARNING,
            )
        )

    def _past_faults(self, path: Path, unusable: _Unusable) -> bool:
        """A file that is nearly JSON: records behind a comment or a comma too many, and where these are. False where
        that is not what is wrong with it."""
        with path.open("rb") as file:
            packed = file.peek(2)[:2] == _MAGIC
            stream: Stream = gzip.GzipFile(fileobj=file, mode="rb") if packed else file
            content = stream.read(NEARLY_JSON_BYTES_MAX + 1)
        if len(content) > NEARLY_JSON_BYTES_MAX:
            return False
        document = read_json(content.decode("utf-8", "replace"))
        if not document.faults:
            return False
        value = document.value
        if isinstance(value, dict):
            events = value.get("Events")
            texts = [each.get("CloudTrailEvent") for each in events or () if isinstance(each, dict)]
            value = [orjson.loads(each) for each in texts if isinstance(each, str)] if events else value.get("Records")
        taken = self.records - self._before
        self._each(value[taken:] if isinstance(value, list) else (), unusable)
        counted = f"{self.records - self._before:,} of its records are counted"
        for fault in document.faults[:PROBLEMS_NAMED_MAX]:
            place = f"{path}:{fault.place.line}:{fault.place.column}"
            why = f"not JSON: {fault.message.partition(':')[0]}; {counted}"
            self.problems.append(
                Diagnostic("cloudtrail-file-damaged", why, place, "the other files were read", Severity.WARNING)
            )
        return True

    def _stream(self, stream: Stream, path: Path, unusable: _Unusable) -> None:
        start = stream.peek(4096)[:4096]
        _check_text(start)
        head = start.removeprefix(codecs.BOM_UTF8).lstrip()
        if start.startswith(codecs.BOM_UTF8):
            stream.read(len(codecs.BOM_UTF8))
        if b'"digestStartTime"' in head and head.startswith(b"{"):
            return  # a digest lies beside the files that it vouches for, and holds no record
        if path.name.lower().endswith(_SUFFIXES):
            self._each(_csv_records(stream), unusable)
        elif head.startswith(b'{"Records":[' + _BEGIN):
            self._cut(stream, unusable)
        elif head.startswith(b"{") and b'"Records"' in head[:64]:
            self._each(ijson.items(stream, "Records.item", use_float=True, multiple_values=True), unusable)
        elif head.startswith(b"{") and b'"Events"' in head[:64]:
            texts = ijson.items(stream, "Events.item.CloudTrailEvent", multiple_values=True)
            self._lines((text.encode() for text in texts if isinstance(text, str)), unusable)
        elif head.startswith(b"["):
            self._each(ijson.items(stream, "item", use_float=True), unusable)
        elif head:
            self._lines(_short_lines(stream), unusable)
        elif not path.name.lower().endswith(_MAY_BE_EMPTY):
            raise ValueError("it is empty")

    # -- one record --------------------------------------------------------------------------------------------------

    def _each(self, records: Iterable[Any], unusable: _Unusable) -> None:
        for record in records:
            self._one(record, unusable)

    def _one(self, record: Any, unusable: _Unusable) -> None:
        self.records += 1
        try:
            if not isinstance(record, Mapping):
                raise ValueError("it is no object")
            self._add(_unwrapped(record))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            unusable.add(self.records - self._before, error)

    def _text(self, text: bytes, unusable: _Unusable) -> None:
        if self._wanted.search(text) is None and b"eventData" not in text and b'"eventName"' in text:
            self.records += 1
            self.skipped += 1
            return
        try:
            record = orjson.loads(text)
        except orjson.JSONDecodeError as error:
            self.records += 1
            unusable.add(self.records - self._before, ValueError(f"not JSON: {error}"))
            return
        self._one(record, unusable)

    def _lines(self, lines: Iterable[bytes], unusable: _Unusable) -> None:
        for line in lines:
            self._text(line, unusable)

    def _cut(self, stream: Stream, unusable: _Unusable) -> None:
        """A file as CloudTrail writes it, cut where records begin."""
        rest = b""
        while True:
            try:
                # What is there, not so many bytes: of a file that is cut, `read` would keep the last part to itself.
                chunk = stream.read1(CHUNK_BYTES)
            except (EOFError, OSError, zlib.error):
                self._pieces(rest, unusable, last=False)
                raise
            if not chunk:
                break
            rest = self._pieces(rest + chunk, unusable, last=False)
            if len(rest) > RECORD_BYTES_MAX:
                raise ValueError(f"a record is longer than {RECORD_BYTES_MAX:,} bytes")
        if not rest.rstrip().endswith(b"}"):
            self._pieces(rest, unusable, last=False)
            raise ValueError("it ends in the middle of a record")
        self._pieces(rest, unusable, last=True)

    def _pieces(self, text: bytes, unusable: _Unusable, *, last: bool) -> bytes:
        """Take the whole records off the front; what is left is the beginning of another."""
        start = text.find(_BEGIN)
        while start >= 0:
            end = text.find(_BEGIN, start + 1)
            if end < 0:
                break
            piece = text[start:end].rstrip(b", \r\n\t")
            if piece.endswith(b"["):
                piece = _NEXT_FILE.sub(b"", piece)
            self._text(piece, unusable)
            start = end
        if start < 0:
            return text
        rest = text[start:]
        if last:
            close = rest.rfind(b"]")
            record = (rest[:close] if close > 0 else rest).rstrip()
            self._text(record.rstrip(b", \r\n\t"), unusable)
            if record.endswith(b","):
                raise ValueError("not JSON: a comma too many before the last `]`")
            return b""
        return rest


def _check_text(start: bytes) -> None:
    """Raises NotText for what begins as no UTF-8 text does. A character may be cut at the end."""
    try:
        decoded(start)
    except NotText as error:
        if (error.line == 1 and error.column == 1) or b"\0" in start:
            raise
        tail = start[-3:].decode("utf-8", "ignore").encode()
        decoded(start[:-3] + tail)


class _Unusable:
    """Records of a file that could not be used."""

    def __init__(self) -> None:
        self._named: list[str] = []
        self._count = 0

    def add(self, number: int, error: Exception) -> None:
        self._count += 1
        if len(self._named) < PROBLEMS_NAMED_MAX:
            what = f"`{error}` is missing" if type(error).__name__ == "Incomplete" else str(error)[:100]
            self._named.append(f"record {number:,}: {what}")

    def diagnostics(self, path: Path) -> Iterator[Diagnostic]:
        if not self._count:
            return
        more = f", and {self._count - len(self._named):,} more" if self._count > len(self._named) else ""
        yield Diagnostic(
            "cloudtrail-record-unusable",
            f"{self._count:,} record(s) cannot be used ({'; '.join(self._named)}{more})",
            str(path),
            "the others were replayed",
            Severity.WARNING,
        )


def _short_lines(stream: Stream) -> Iterator[bytes]:
    while line := stream.readline(RECORD_BYTES_MAX + 1):
        if len(line) > RECORD_BYTES_MAX:
            raise ValueError(f"a line is longer than {RECORD_BYTES_MAX:,} bytes")
        if line.strip():
            yield line


# -- exports ---------------------------------------------------------------------------------------------------------

_MEMBERS = (
    *("eventVersion", "userIdentity", "eventTime", "eventSource", "eventName", "awsRegion", "sourceIPAddress"),
    *("userAgent", "errorCode", "errorMessage", "requestParameters", "responseElements", "eventID"),
    *("recipientAccountId", "vpcEndpointId", "eventData", "eventJson"),
)
_WRAPPERS = ("eventData", "eventdata", "eventJson", "eventjson", "detail", "CloudTrailEvent")
_BY_LOWER = {each.lower(): each for each in _MEMBERS}
_STRUCTURED = ("userIdentity", "requestParameters", "responseElements")
_PAIR = re.compile(r"([A-Za-z0-9]+)=([^,{}]*)")


def _csv_records(stream: Stream) -> Iterator[Mapping[str, Any]]:
    """The rows of an export; columns may be in lower case, and structures JSON or Athena's `{name=value, ...}`."""
    csv.field_size_limit(min(sys.maxsize, RECORD_BYTES_MAX))
    text = io.TextIOWrapper(stream, "utf-8-sig", errors="replace", newline="")
    try:
        for row in csv.DictReader(text):
            yield {
                _BY_LOWER.get(str(name).lower(), str(name)): value
                for name, value in row.items()
                if name is not None and value not in (None, "", "null")
            }
    finally:
        text.detach()  # the file is somebody else's to close


def _unwrapped(record: Mapping[str, Any]) -> Mapping[str, Any]:
    """An exported row as the record that it was: what is text there is a structure again."""
    inner = next((record[name] for name in _WRAPPERS if record.get(name)), None)
    if isinstance(inner, str) and inner.startswith("{"):
        inner = orjson.loads(inner)
    if isinstance(inner, Mapping) and ("eventName" in inner or "eventname" in inner):
        record = inner
    if "eventname" in record:
        record = {_BY_LOWER.get(name, name): value for name, value in record.items()}
    if not any(isinstance(record.get(each), str) for each in _STRUCTURED):
        return record
    return {name: _structure(value) if name in _STRUCTURED else value for name, value in record.items()}


def _structure(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return orjson.loads(value)
    except orjson.JSONDecodeError:
        pass
    if not value.startswith("{"):
        raise ValueError(f"neither JSON nor a structure: `{value[:40]}`")
    return _athena_identity(value)


def _athena_identity(text: str) -> dict[str, Any]:
    """`{type=AssumedRole, arn=..., sessioncontext={..., sessionissuer={..., arn=...}}}`: its outer members, and the
    session issuer's ARN."""
    outer, _, inner = text[1:].partition("{")
    names = {"accountid": "accountId", "invokedby": "invokedBy", "principalid": "principalId"}
    pairs = {name.lower(): value.strip() for name, value in _PAIR.findall(outer)}
    for name, value in _PAIR.findall(inner):
        if name.lower() in ("invokedby", "accountid"):
            pairs.setdefault(name.lower(), value.strip())
    found: dict[str, Any] = {names.get(name, name): value for name, value in pairs.items() if value and value != "null"}
    issuer = re.search(r"sessionissuer=\{[^}]*?arn=([^,}]+)", inner, re.IGNORECASE)
    delivery = re.search(r"ec2roledelivery=([\d.]+)", inner, re.IGNORECASE)
    context: dict[str, Any] = {}
    if issuer:
        context["sessionIssuer"] = {"arn": issuer[1].strip()}
    if delivery:
        context["ec2RoleDelivery"] = delivery[1]
    if context:
        found["sessionContext"] = context
    return found
