"""Events from files: read when they are whole, followed, and delivered again until somebody is done with them."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from imdsctl.adapters.event_files import EventFiles
from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.fleet.watch_events import Delivery


def record(name: str) -> dict[str, Any]:
    return {
        "userIdentity": {"arn": "arn:x"},
        "eventSource": "ec2.amazonaws.com",
        "eventName": name,
        "awsRegion": "eu-west-1",
        "recipientAccountId": "111122223333",
    }


def take(files: EventFiles) -> list[Delivery]:
    """What came, done with."""

    async def run() -> list[Delivery]:
        came = list(await files.receive())
        await files.done(came)
        return came

    return asyncio.run(run())


def names(came: list[Delivery]) -> list[str]:
    return [event.name for each in came for event in each.events]


def test_a_folder_s_log_files_are_read_packed_or_not_each_once(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"Records": [record("One"), record("Two")]}))
    deep = tmp_path / "2026" / "03"
    deep.mkdir(parents=True)
    (deep / "b.json.gz").write_bytes(gzip.compress(json.dumps({"Records": [record("Three")]}).encode()))
    (tmp_path / ".c.json").write_text("being written")
    (tmp_path / "notes.txt").write_text("nothing of ours")
    files = EventFiles(tmp_path)
    assert sorted(names(take(files))) == ["One", "Three", "Two"]
    assert take(files) == []
    (deep / "d.json").write_text(json.dumps(record("Four")))
    assert names(take(files)) == ["Four"]


def test_a_file_that_is_being_written_is_read_again_when_it_is_whole(tmp_path: Path) -> None:
    whole = gzip.compress(json.dumps({"Records": [record("One")]}).encode())
    path = tmp_path / "a.json.gz"
    path.write_bytes(whole[:-9])
    files = EventFiles(tmp_path)
    [cut] = take(files)
    assert "it is cut" in cut.problem
    path.write_bytes(whole)
    assert names(take(files)) == ["One"]


def test_a_file_of_lines_is_followed_at_its_end(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps({"detail": record("One")}) + "\n" + json.dumps(record("Two"))[:20])
    files = EventFiles(path)
    assert names(take(files)) == ["One"]
    assert take(files) == []
    with path.open("a") as file:
        file.write(json.dumps(record("Two"))[20:] + "\n\nno event\n")
    two, broken = take(files)
    assert names([two]) == ["Two"]
    assert broken.problem == "events.jsonl: it is not JSON"
    path.write_text(json.dumps(record("New")) + "\n")
    assert names(take(files)) == ["New"]


def test_what_nobody_was_done_with_comes_again_first(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text(json.dumps(record("One")) + "\n")
    files = EventFiles(path)
    assert names(list(asyncio.run(files.receive()))) == ["One"]
    with path.open("a") as file:
        file.write(json.dumps(record("Two")) + "\n")
    came = take(files)
    assert names(came) == ["One", "Two"]
    assert [each.times for each in came] == [2, 1]
    assert take(files) == []


def test_a_bomb_is_not_unpacked_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imdsctl.adapters.event_files.FILE_BYTES_MAX", 1_000_000)
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b" " * 5_000_000))
    [bomb] = take(EventFiles(tmp_path))
    assert "larger than" in bomb.problem


def test_a_path_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DiagnosticError) as caught:
        EventFiles(tmp_path / "none")
    assert (caught.value.diagnostics[0].code, caught.value.exit_code) == ("events-unreadable", 2)
