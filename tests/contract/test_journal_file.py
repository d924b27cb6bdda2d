"""The journal on a real file system: torn, damaged, locked, shared by many tasks."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from imdsctl.adapters.journal_file import JournalFile, open_journal
from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.domain.journal import Applied, Began, Fold, Progress

DIGEST = "sha256:abc"
OLD = {"HttpTokens": "optional"}


def write(path: Path, *entries: Began | Applied) -> None:
    async def append(journal: JournalFile) -> None:
        for entry in entries:
            await journal.append(entry)

    with open_journal(path, DIGEST, "now") as journal:
        asyncio.run(append(journal))


def progress(path: Path) -> Progress:
    with open_journal(path, DIGEST, "later") as journal:
        return journal.progress


def test_what_one_run_wrote_the_next_one_knows(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, Began("a", OLD), Applied("a", {}))
    write(path, Began("b", OLD))
    assert progress(path) == Progress(
        frozenset("a"),
        frozenset("b"),
        old={"a": OLD, "b": OLD},
        begun={"a": OLD, "b": OLD},
        now={"a": {}},
        done_at={"a": "", "b": ""},
    )


def test_cut_anywhere_it_goes_on_with_the_whole_lines(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, Began("a", OLD), Applied("a", {}))
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        write(path, Began("b", OLD))
        assert "b" in progress(path).in_doubt
        whole = content[:length].count(b"\n")
        assert ("a" in progress(path).done) is (whole == 3)
        assert ("a" in progress(path).in_doubt) is (whole == 2)


def test_damage_before_the_last_line_is_told_with_its_place(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, Began("a", OLD), Applied("a", {}))
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([lines[0], b'{"entry": "beg\n', lines[2]]))
    with pytest.raises(DiagnosticError, match="journal-damaged: line 2") as caught:
        progress(path)
    assert caught.value.diagnostics[0].subject == str(path)


def test_the_journal_of_another_plan_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    write(path, Began("a", OLD))
    content = path.read_bytes()
    with pytest.raises(DiagnosticError, match="journal-mismatch"), open_journal(path, "sha256:other", "now"):
        pass
    assert path.read_bytes() == content


def test_two_applies_at_once_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    with (
        open_journal(path, DIGEST, "now"),
        pytest.raises(DiagnosticError, match="apply-running"),
        open_journal(path, DIGEST, "now"),
    ):
        pass
    assert progress(path) == Progress()


def test_a_folder_that_is_not_there_is_a_diagnostic(tmp_path: Path) -> None:
    with pytest.raises(DiagnosticError, match="journal-unwritable"), open_journal(tmp_path / "no" / "j", DIGEST, "now"):
        pass


def test_entries_of_many_tasks_share_their_syncs_and_none_is_lost(tmp_path: Path) -> None:
    syncs: list[int] = []

    async def many(path: Path) -> None:
        with path.open("ab") as file:
            journal = JournalFile(file, path, Fold(), syncs.append)
            await asyncio.gather(*(journal.append(Began(str(number), OLD)) for number in range(500)))

    path = tmp_path / "journal"
    write(path, Began("0", OLD))
    asyncio.run(many(path))
    assert progress(path).in_doubt == {str(number) for number in range(500)}
    assert len(syncs) < 5


def test_a_disk_that_does_not_take_the_entry_stops_the_task_that_waits(tmp_path: Path) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    async def append(path: Path) -> None:
        with path.open("ab") as file:
            await JournalFile(file, path, Fold(), full).append(Began("a", OLD))

    with pytest.raises(DiagnosticError, match=r"journal-unwritable: .*no space"):
        asyncio.run(append(tmp_path / "journal"))
