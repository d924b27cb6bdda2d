"""What a state directory holds after a clean end, a crash, and a mistake."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from imdsctl.adapters.private_file import write_whole
from imdsctl.adapters.state_directory import StateDirectory
from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.local.call import Caller
from imdsctl.local.log import Record, encode
from imdsctl.local.spec import WorldSpec

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
SPEC = WorldSpec(seed=3, created=NOON, accounts=4, regions=("eu-west-1", "us-east-1"), instances=5, settle_seconds=1.5)
CALLER = Caller("111122223333", "arn:aws:iam::111122223333:user/a", "AIDA", "AKIA")


def record(number: int) -> Record:
    return Record(number, NOON, f"id-{number}", "ec2", "CreateTags", "eu-west-1", CALLER, {"number": number})


def written(path: Path, *numbers: int) -> None:
    """A state directory that was used for these writes and closed."""
    state = StateDirectory(path)
    if state.manifest() is None:
        state.write_manifest(SPEC)
    assert list(state.records()) is not None
    for number in numbers:
        state.append(encode(record(number)))
    state.sync()
    state.close()


def code(caught: pytest.ExceptionInfo[DiagnosticError]) -> str:
    [diagnostic] = caught.value.diagnostics
    assert diagnostic.hint
    assert diagnostic.subject
    return diagnostic.code


def test_a_new_directory_is_made_for_its_owner_only(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "a" / "b")
    assert state.manifest() is None
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    state.close()


def test_the_manifest_and_the_writes_come_back(tmp_path: Path) -> None:
    written(tmp_path, 1, 2)
    written(tmp_path, 3)
    state = StateDirectory(tmp_path)
    assert state.manifest() == SPEC
    assert list(state.records()) == [record(1), record(2), record(3)]
    assert state.position == 3
    state.close()


def test_a_torn_last_line_is_dropped_and_written_over(tmp_path: Path) -> None:
    written(tmp_path, 1, 2)
    with (tmp_path / "log").open("ab") as log:
        log.write(encode(record(3))[:-7])
    written(tmp_path, 3)
    assert (tmp_path / "log").read_bytes() == b"".join(encode(record(number)) for number in (1, 2, 3))


def test_damage_in_the_middle_changes_nothing_and_is_said(tmp_path: Path) -> None:
    written(tmp_path, 1, 2, 3)
    log = tmp_path / "log"
    damaged = log.read_bytes().replace(b'"id-2"', b'"id-9"')
    log.write_bytes(damaged)
    state = StateDirectory(tmp_path)
    with pytest.raises(DiagnosticError) as caught:
        list(state.records())
    assert code(caught) == "state-damaged"
    assert log.read_bytes() == damaged
    state.close()


def test_a_log_without_its_manifest_is_said(tmp_path: Path) -> None:
    written(tmp_path, 1)
    (tmp_path / "world.json").unlink()
    with pytest.raises(DiagnosticError) as caught:
        StateDirectory(tmp_path)
    assert code(caught) == "state-incomplete"
    assert "`log`" in str(caught.value)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"format": 99}', '{"format": 1, "seed": "x"}', "\x00" * 40])
def test_half_a_manifest_is_said(tmp_path: Path, content: str) -> None:
    written(tmp_path, 1)
    (tmp_path / "world.json").write_text(content)
    state = StateDirectory(tmp_path)
    with pytest.raises(DiagnosticError) as caught:
        state.manifest()
    assert code(caught) == "state-incomplete"
    state.close()


def test_somebody_elses_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("dear reader")
    with pytest.raises(DiagnosticError) as caught:
        StateDirectory(tmp_path)
    assert code(caught) == "state-incomplete"
    assert [each.name for each in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_start_that_never_finished_does_not_count(tmp_path: Path) -> None:
    (tmp_path / ".world.json.abc").write_text("{")
    state = StateDirectory(tmp_path)
    assert state.manifest() is None
    state.close()


def test_two_servers_cannot_have_one_directory(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    with pytest.raises(DiagnosticError) as caught:
        StateDirectory(tmp_path)
    assert code(caught) == "state-in-use"
    state.close()
    StateDirectory(tmp_path).close()


def test_a_file_in_the_way_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DiagnosticError) as caught:
        StateDirectory(tmp_path / "file")
    assert code(caught) == "state-not-writable"


def test_a_file_is_replaced_whole_and_for_its_owner_only(tmp_path: Path) -> None:
    target = tmp_path / "file"
    write_whole(target, b"one")
    write_whole(target, b"two")
    assert target.read_bytes() == b"two"
    assert target.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path) == ["file"]
