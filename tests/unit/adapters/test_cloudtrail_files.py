"""CloudTrail's files: every form that people have them in, damaged ones named, memory that does not grow."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from imdsctl.adapters.cloudtrail_files import read_trail_files, trail_files
from imdsctl.domain.diagnostics import DiagnosticError, Severity
from imdsctl.domain.role_delivery import Deliveries

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
ACCOUNT, NAME = "111122223333", "i-0123456789abcdef0"
KEY = ACCOUNT, NAME


def event(version: str | None = "1.0", **more: Any) -> dict[str, Any]:
    context = {"attributes": {"mfaAuthenticated": "false"}} | ({"ec2RoleDelivery": version} if version else {})
    identity = {"type": "AssumedRole", "principalId": f"AROA:{NAME}", "accountId": ACCOUNT, "sessionContext": context}
    return {"eventVersion": "1.11", "userIdentity": identity, "eventTime": "2026-11-26T11:00:00Z", **more}


EVENTS = [event(), event(None), event("2.0"), event("1.0", requestParameters={"n": 1.5, "deep": [{"a": None}]})]
WHOLE = json.dumps({"Records": EVENTS}).encode()
FORMS = {
    "trail.json": WHOLE,
    "trail.json.gz": gzip.compress(WHOLE),
    "no-suffix": gzip.compress(WHOLE),
    "spaced.json": json.dumps({"Records": EVENTS}, indent=2).encode(),
    "list.json": json.dumps(EVENTS).encode(),
    "looked-up.json": json.dumps({"Events": [{"CloudTrailEvent": json.dumps(each)} for each in EVENTS]}).encode(),
    "lines.jsonl": b"\n".join(json.dumps(each).encode() for each in EVENTS) + b"\n\n",
}


def counted(*files: Path) -> tuple[Deliveries, list[Any]]:
    found = Deliveries(NOON - timedelta(days=1), NOON, frozenset({KEY}))
    return found, read_trail_files(files, found)


@pytest.mark.parametrize("name", FORMS)
def test_the_deliveries_are_found_in_every_form(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(FORMS[name])
    found, problems = counted(path)
    assert problems == []
    assert found.by_instance == {KEY: (2, NOON - timedelta(hours=1))}
    assert found.events == 3


@pytest.mark.parametrize(
    "damaged",
    [
        WHOLE[:-100],
        gzip.compress(WHOLE)[:-20],
        b"\x1f\x8bnot gzip at all",
        b'{"Records": [}',
        b"this is no JSON\n",
        b"\xff\xfe\x00",
        b'{"a": "' + b"x" * 1_100_000 + b'"}',
    ],
    ids=["cut", "gzip cut", "no gzip", "no JSON", "text", "bytes", "a line without an end"],
)
def test_a_damaged_file_is_named_and_the_others_are_read(tmp_path: Path, damaged: bytes) -> None:
    bad, good = tmp_path / "a-bad.json", tmp_path / "b-good.json"
    bad.write_bytes(damaged)
    good.write_bytes(WHOLE)
    found, problems = counted(bad, good)
    assert [(each.code, each.subject, each.severity) for each in problems] == [
        ("cloudtrail-file-damaged", str(bad), Severity.WARNING)
    ]
    assert "\n" not in problems[0].summary
    assert found.by_instance[KEY][0] >= 2


def test_a_cut_file_counts_as_far_as_it_can_be_read(tmp_path: Path) -> None:
    path = tmp_path / "cut.json"
    path.write_bytes(WHOLE[:-100])
    found, problems = counted(path)
    assert (found.events, "2 of its role events are counted" in problems[0].summary) == (2, True)


@pytest.mark.parametrize("nothing", [b"", b"{}", b'{"Records": []}', b"null", b"[]", b'{"digestStartTime": "x"}'])
def test_files_without_events_are_no_problem(tmp_path: Path, nothing: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(nothing)
    found, problems = counted(path)
    assert (found.events, problems) == (0, [])


def test_folders_are_gone_through_and_each_file_is_read_once(tmp_path: Path) -> None:
    deep = tmp_path / "AWSLogs" / ACCOUNT / "CloudTrail" / "eu-west-1"
    deep.mkdir(parents=True)
    (deep / "a.json.gz").write_bytes(b"")
    (deep / "b.json").write_bytes(b"")
    (deep / "notes.txt").write_bytes(b"")
    assert [each.name for each in trail_files([tmp_path, deep / "b.json"])] == ["a.json.gz", "b.json"]


def test_a_path_that_is_not_there_is_a_usage_error(tmp_path: Path) -> None:
    with pytest.raises(DiagnosticError) as raised:
        trail_files([tmp_path / "nowhere"])
    assert (raised.value.exit_code, raised.value.diagnostics[0].code) == (2, "cloudtrail-missing")


def test_memory_does_not_grow_with_the_file_or_with_a_record(tmp_path: Path) -> None:
    """25 MB of records, one of them of 5 MB, compressed a hundredfold."""
    path = tmp_path / "large.json.gz"
    filler = event("2.0", responseElements={"text": "x" * 200_000})
    huge = event("1.0", responseElements=[{"n": number, "text": "y" * 1000} for number in range(5000)])
    with gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b'{"Records": [')
        for _ in range(100):
            file.write(json.dumps(filler).encode() + b",")
        file.write(json.dumps(huge).encode() + b"]}")
    tracemalloc.start()
    found, problems = counted(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.events, problems) == (101, [])
    assert peak < 3_000_000
