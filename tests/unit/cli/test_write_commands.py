"""Wrong command lines of `apply` and `rollback`: a clear error, exit code 2, and nothing is changed."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.fleet.ec2_in_memory import fleet, planned

from imdsctl.adapters.journal_file import open_journal
from imdsctl.adapters.plan_file import read_plan, write_plan
from imdsctl.cli.app import run
from imdsctl.cli.apply import approver
from imdsctl.cli.dependencies import Dependencies
from imdsctl.domain.intent import Intent
from imdsctl.domain.journal import Began, RolledBack
from imdsctl.domain.waves import PlannedWave
from imdsctl.fleet.apply_gates import Approval, Approve, Interrupted

NOW = planned(fleet(), Intent()).made_at


def nobody(profile: str | None) -> Any:
    raise AssertionError("AWS was asked")


@pytest.fixture
def plan_file(tmp_path: Path) -> Path:
    """A plan of which one change was begun."""
    file = tmp_path / "plan.json"
    write_plan(planned(fleet(), Intent()), file)
    plan = read_plan(file)
    with open_journal(Path(f"{file}.journal"), plan.digest, "") as journal:
        asyncio.run(journal.append(Began(plan.ready[0].id, plan.ready[0].before, NOW.isoformat())))
    return file


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("apply", "PLAN", "--approve", "nosuch", "--confirm", "1"), "wave-unknown"),
        (("apply", "PLAN"), "confirm-missing"),
        (("apply", "PLAN", "--confirm", "9999"), "confirm-mismatch"),
        (("rollback", "PLAN", "--wave", "nosuch"), "wave-unknown"),
        (("rollback", "PLAN", "--change", "nosuch"), "change-unknown"),
        (("rollback", "PLAN", "--since", "yesterday"), "option-invalid"),
        (("rollback", "PLAN"), "confirm-missing"),
        (("rollback", "PLAN", "--confirm", "9999"), "confirm-mismatch"),
        (("rollback", "PLAN", "--journal", "nosuch"), "journal-missing"),
    ],
)
def test_a_wrong_command_line_changes_nothing(
    plan_file: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], code: str
) -> None:
    before = {path.name: path.read_bytes() for path in plan_file.parent.iterdir()}
    dependencies = Dependencies(aws=nobody, scans=nobody, now=lambda: NOW, new_id=lambda: "s")
    assert run([str(plan_file) if word == "PLAN" else word for word in words], dependencies) == 2
    told = capsys.readouterr().err
    assert f"error[{code}]" in told
    assert "hint: " in told
    assert {path.name: path.read_bytes() for path in plan_file.parent.iterdir()} == before


@contextmanager
def terminal(typed: str) -> Iterator[None]:
    """A terminal, at which this process sits and something is typed."""
    keys, screen = os.openpty()
    os.write(keys, typed.encode())
    with (
        pytest.MonkeyPatch.context() as patch,
        os.fdopen(screen, "r") as read,
        os.fdopen(screen, "w", closefd=False) as shown,
    ):
        patch.setattr(sys, "stdin", read)
        patch.setattr(sys, "stderr", shown)
        yield
    os.close(keys)


async def answer(ask: Approve) -> Approval | None:
    return await ask(PlannedWave("prod"), 3)


@pytest.mark.parametrize(("typed", "approved"), [("prod\n", True), ("yes\n", False), ("\x04", False)])
def test_a_wave_is_approved_by_typing_its_name(typed: str, approved: bool) -> None:
    ask = approver((), "arn:aws:iam::111122223333:user/ops", lambda: False)
    with terminal(typed):
        said = asyncio.run(answer(ask))
    assert (said is not None) is approved


def test_ctrl_c_ends_a_question_that_nobody_answers() -> None:
    with terminal(""), pytest.raises(Interrupted):
        asyncio.run(answer(approver((), "arn:aws:iam::111122223333:user/ops", lambda: True)))


def test_a_wave_and_a_change_with_a_comma_are_named_as_they_are_called(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = "prod, eu"
    file = tmp_path / "plan.json"
    plan = planned(fleet(), Intent())
    changes = tuple(replace(each, wave=name, resource=f"{each.resource},b") for each in plan.changes)
    write_plan(replace(plan, changes=changes, waves=(PlannedWave(name), PlannedWave("rest")), digest=""), file)
    plan = read_plan(file)
    with open_journal(Path(f"{file}.journal"), plan.digest, "") as journal:
        asyncio.run(journal.append(Began(plan.ready[0].id, {}, NOW.isoformat())))
    dependencies = Dependencies(aws=nobody, scans=nobody, now=lambda: NOW, new_id=lambda: "s")
    for words in (
        ["apply", str(file), "--approve", name, "--approve", "rest"],
        ["rollback", str(file), "--wave", name, "--change", plan.ready[0].id],
    ):
        assert run(words, dependencies) == 2
        assert "error[confirm-missing]" in capsys.readouterr().err


def rolled_back(plan_file: Path) -> Path:
    """The change that was begun is put back, as its journal has it."""
    plan, where = read_plan(plan_file), Path(f"{plan_file}.journal")
    with open_journal(where, plan.digest, "") as journal:
        asyncio.run(journal.append(RolledBack(plan.ready[0].id, {}, NOW.isoformat())))
    return where


@pytest.mark.parametrize("confirm", [(), ("--confirm", "1")])
def test_a_rollback_that_has_ended_says_so_when_it_is_repeated_and_writes_nothing(
    plan_file: Path, capsys: pytest.CaptureFixture[str], confirm: tuple[str, ...]
) -> None:
    journal = rolled_back(plan_file)
    before = journal.read_bytes()
    dependencies = Dependencies(aws=nobody, scans=nobody, now=lambda: NOW, new_id=lambda: "s")
    assert run(["rollback", str(plan_file), *confirm], dependencies) == 0
    assert "Rollback: nothing is left to put back; 1 restored earlier." in capsys.readouterr().out
    assert journal.read_bytes() == before


def test_the_number_to_confirm_stays_the_same_while_a_rollback_goes_on(
    plan_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = read_plan(plan_file)
    with open_journal(rolled_back(plan_file), plan.digest, "") as journal:
        asyncio.run(journal.append(Began(plan.ready[1].id, plan.ready[1].before, NOW.isoformat())))
    dependencies = Dependencies(aws=nobody, scans=nobody, now=lambda: NOW, new_id=lambda: "s")
    for words in ([], ["--confirm", "1"]):
        assert run(["rollback", str(plan_file), *words], dependencies) == 2
        assert "2 changes to put back, of which 1 is already" in " ".join(capsys.readouterr().err.split())
    with pytest.raises(AssertionError, match="AWS was asked"):
        run(["rollback", str(plan_file), "--confirm", "2"], dependencies)


def test_a_rollback_says_what_to_type(plan_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dependencies = Dependencies(aws=nobody, scans=nobody, now=lambda: NOW, new_id=lambda: "s")
    run(["rollback", str(plan_file), "--wave", "all", "--delete-versions"], dependencies)
    expected = f"imdsctl rollback {plan_file} --wave all --delete-versions --confirm 1"
    assert expected in capsys.readouterr().err.replace("\n", " ")


@pytest.mark.parametrize(
    ("place", "again"),
    [
        ("--db", "--db 'postgresql+psycopg://me:***@host/name'"),
        ("IMDSCTL_DB", ""),
    ],
)
def test_the_command_to_type_again_tells_no_password(
    place: str, again: str, plan_file: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    url = "postgresql+psycopg://me:hunter2@host/name"
    words = ["rollback", str(plan_file)]
    if place == "--db":
        words += [place, url]
    else:
        monkeypatch.setenv(place, url)
    assert run(words, Dependencies(aws=nobody, scans=nobody, now=lambda: NOW, new_id=lambda: "s")) == 2
    said = capsys.readouterr().err
    assert "confirm-missing" in said
    assert "hunter2" not in said
    command = f"imdsctl rollback {plan_file} {again}".rstrip()
    assert f"run `{command} --confirm 1`" in said
