"""A snapshot comes back byte for byte, or says what is wrong with it and changes nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from imdsctl.adapters import state_directory
from imdsctl.adapters.snapshot_file import load, take
from imdsctl.adapters.state_directory import StateDirectory
from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.local.call import Caller
from imdsctl.local.log import Record, encode
from imdsctl.local.spec import WorldSpec

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
SPEC = WorldSpec(seed=3, created=NOON, accounts=4, regions=("eu-west-1", "us-east-1"), instances=5, settle_seconds=1.5)
CALLER = Caller("111122223333", "arn:aws:iam::111122223333:user/a", "AIDA", "AKIA")


def line(number: int) -> bytes:
    return encode(Record(number, NOON, f"id-{number}", "ec2", "CreateTags", "eu-west-1", CALLER, {"number": number}))


def kept(path: Path, *numbers: int, spec: WorldSpec = SPEC) -> Path:
    """A state directory with these writes."""
    state = StateDirectory(path)
    state.replace(spec, b"".join(map(line, numbers)))
    state.close()
    return path


def sequences(path: Path) -> list[int]:
    """The writes that a start with this directory would replay."""
    state = StateDirectory(path)
    try:
        return [record.sequence for record in state.records()]
    finally:
        state.close()


def code(caught: pytest.ExceptionInfo[DiagnosticError]) -> str:
    [diagnostic] = caught.value.diagnostics
    assert diagnostic.hint
    assert diagnostic.subject
    return diagnostic.code


def test_what_was_taken_comes_back(tmp_path: Path) -> None:
    assert take(kept(tmp_path / "state", 1, 2), tmp_path / "file") == 2
    assert load(tmp_path / "file") == (SPEC, line(1) + line(2), 2)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_a_server_that_writes_meanwhile_leaves_whole_lines_only(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "state")
    state.write_manifest(SPEC)
    assert list(state.records()) == []
    state.append(line(1))
    state.sync()
    state.append(line(2)[:-5])
    state.sync()
    assert take(tmp_path / "state", tmp_path / "file") == 1
    state.close()


def test_a_world_that_was_never_written_to_can_be_kept(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path / "state")
    state.write_manifest(SPEC)
    state.close()
    assert take(tmp_path / "state", tmp_path / "file") == 0
    assert load(tmp_path / "file") == (SPEC, b"", 0)


@pytest.mark.parametrize("part", range(10))
def test_a_snapshot_cut_short_is_refused(tmp_path: Path, part: int) -> None:
    file = tmp_path / "file"
    take(kept(tmp_path / "state", 1, 2), file)
    file.write_bytes(file.read_bytes()[: len(file.read_bytes()) * part // 10])
    with pytest.raises(DiagnosticError) as caught:
        load(file)
    assert code(caught) == "snapshot-invalid"


def test_a_snapshot_with_any_byte_changed_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    take(kept(tmp_path / "state", 1), file)
    whole = file.read_bytes()
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        with pytest.raises(DiagnosticError) as caught:
            load(file)
        assert code(caught) == "snapshot-invalid"


def test_a_snapshot_of_a_later_version_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"imdsctl-snapshot 2 x\n")
    with pytest.raises(DiagnosticError) as caught:
        load(tmp_path / "file")
    assert "format 2" in str(caught.value)


def test_no_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(DiagnosticError) as caught:
        load(tmp_path / "file")
    assert code(caught) == "snapshot-unreadable"


def test_a_damaged_state_gives_no_snapshot(tmp_path: Path) -> None:
    with pytest.raises(DiagnosticError) as caught:
        take(kept(tmp_path / "state", 1, 3), tmp_path / "file")
    assert code(caught) == "state-damaged"
    assert not (tmp_path / "file").exists()


def test_a_directory_without_a_state_gives_no_snapshot(tmp_path: Path) -> None:
    with pytest.raises(DiagnosticError) as caught:
        take(tmp_path, tmp_path / "file")
    assert code(caught) == "state-missing"


def test_only_a_snapshot_is_written_over(tmp_path: Path) -> None:
    state = kept(tmp_path / "state", 1)
    take(state, tmp_path / "file")
    take(kept(tmp_path / "state", 1, 2), tmp_path / "file")
    assert load(tmp_path / "file")[2] == 2
    (tmp_path / "thesis.tex").write_text("dear reader")
    with pytest.raises(DiagnosticError) as caught:
        take(state, tmp_path / "thesis.tex")
    assert code(caught) == "snapshot-exists"
    assert (tmp_path / "thesis.tex").read_text() == "dear reader"


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(DiagnosticError) as caught:
        take(kept(tmp_path / "state", 1), tmp_path / "nowhere" / "file")
    assert code(caught) == "snapshot-not-writable"


# -- replacing a state ------------------------------------------------------------------------------------------------


def test_a_state_is_replaced_whole_and_goes_on(tmp_path: Path) -> None:
    path = kept(tmp_path, 1, 2, 3)
    kept(path, 1, spec=WorldSpec(seed=4, created=NOON))
    state = StateDirectory(path)
    found = state.manifest()
    assert found is not None
    assert found.seed == 4
    assert len(list(state.records())) == 1
    state.append(line(2))
    state.sync()
    state.close()
    assert sequences(path) == [1, 2]
    assert len(list(path.glob("log*"))) == 1


@pytest.mark.parametrize("step", range(4))
def test_killed_at_any_step_of_a_replacement_the_old_state_or_the_new_is_whole(
    tmp_path: Path, step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The steps are: write the log, rename it, write the manifest, rename it."""
    path = kept(tmp_path, 1, 2, 3)
    steps = iter(range(4))

    def stopping(name: str) -> None:
        real = getattr(state_directory.os, name)

        def call(*arguments: object) -> object:
            if next(steps) == step:
                raise KeyboardInterrupt
            return real(*arguments)

        monkeypatch.setattr(state_directory.os, name, call)

    stopping("fchmod")
    stopping("replace")
    state = StateDirectory(path)
    with pytest.raises(KeyboardInterrupt):
        state.replace(SPEC, line(1))
    state.close()
    monkeypatch.undo()
    assert sequences(path) == [1, 2, 3]
    kept(path, 1)
    assert sequences(path) == [1]


def test_somebody_elses_files_are_left_alone(tmp_path: Path) -> None:
    state = StateDirectory(tmp_path)
    (tmp_path / "thesis.tex").write_text("dear reader")
    assert not state.empty()
    with pytest.raises(DiagnosticError) as caught:
        state.replace(SPEC, b"")
    assert code(caught) == "state-incomplete"
    assert [each.name for each in sorted(tmp_path.iterdir())] == ["lock", "thesis.tex"]
    state.close()
