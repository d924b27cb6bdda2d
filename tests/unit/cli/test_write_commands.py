"""Wrong command lines of `apply` and `rollback`: a clear error, exit code 2, and nothing is changed."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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
from imdsctl.domain.journal import Began
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


def test_a_rollback_says_what_to_type(plan_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dependencies = Dependencies(aws=nobody, scans=nobody, now=lambda: NOW, new_id=lambda: "s")
    run(["rollback", str(plan_file), "--wave", "all", "--delete-versions"], dependencies)
    expected = f"imdsctl rollback {plan_file} --wave all --delete-versions --confirm 1"
    assert expected in capsys.readouterr().err.replace("\n", " ")
