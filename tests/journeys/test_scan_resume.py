"""A scan that is interrupted in the middle keeps what it has read, and goes on with the rest, as it began."""

from __future__ import annotations

import json
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.journeys.stalling import stalling

SECONDS_MAX = 120
LEFT = 6
"""Answers that are missing when the scan stops: fewer than it has Regions to read, so that some are whole."""
DIFFER = ("scan_id", "started", "finished", "calls")


WHERE = ("--regions", "us-east-1,eu-west-1,sa-east-1")
SCAN = ("scan", "--no-services", "--json", *WHERE)


@pytest.fixture(scope="module")
def shell(start_local: Callable[..., Any]) -> Any:
    return start_local("--accounts", "5", "--instances", "40", "--seed", "5")


@pytest.fixture(scope="module")
def uninterrupted(shell: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Path]:
    """A scan that nobody disturbed, and the database that it is in."""
    file = tmp_path_factory.mktemp("whole") / "scans.sqlite3"
    done = shell.imdsctl(*SCAN, "--db", str(file))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout), file


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_scan_goes_on(
    shell: Any, uninterrupted: tuple[dict[str, Any], Path], tmp_path: Path, sent: signal.Signals
) -> None:
    whole, before = uninterrupted
    file = Path(shutil.copy(before, tmp_path))
    assert len(whole["targets"]) > LEFT
    with stalling(shell.env["AWS_ENDPOINT_URL"], after=whole["calls"] - LEFT) as (url, stalled):
        process = subprocess.Popen(
            [sys.executable, "-m", "imdsctl", *SCAN, "--db", str(file)],
            env={**shell.env, "AWS_ENDPOINT_URL": url},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert stalled.wait(SECONDS_MAX)
        process.send_signal(sent)
        _, errors = process.communicate(timeout=SECONDS_MAX)
    kept = count(file) - len(whole["targets"])
    if sent is signal.SIGINT:
        assert process.returncode == 130
        assert "imdsctl scan --resume" in errors
        assert 0 < kept < len(whole["targets"])
    else:
        assert process.returncode == -sent  # what it had written of late may be lost: it is read again

    resumed = shell.imdsctl("scan", "--resume", "--json", "--db", str(file))
    assert resumed.returncode == 0, resumed.stderr
    found = json.loads(resumed.stdout)
    assert {**found, **dict.fromkeys(DIFFER)} == {**whole, **dict.fromkeys(DIFFER)}
    if kept:
        assert found["calls"] < whole["calls"]
    assert found["scope"]["no-services"] == "yes"
    assert not any(each["services"] for each in found["targets"])
    same = shell.imdsctl("diff", "--db", str(file), "--exit-code")
    assert same.returncode == 0, same.stdout


def test_what_a_scan_leaves_out_is_not_changed_half_way(shell: Any, tmp_path: Path) -> None:
    refused = shell.imdsctl("scan", "--resume", "--no-services", "--db", str(tmp_path / "scans.sqlite3"))
    assert (refused.returncode, "error[option-conflict]: `--no-services` cannot be changed" in refused.stderr) == (
        2,
        True,
    )


def test_a_scan_without_other_services_plans_no_enforcement_and_one_with_them_does(
    shell: Any, uninterrupted: tuple[dict[str, Any], Path], tmp_path: Path
) -> None:
    file = Path(shutil.copy(uninterrupted[1], tmp_path))
    without = enforcement(shell, file)
    assert without
    assert all("scan again without `--no-services`" in each["held"] for each in without)
    assert shell.imdsctl("scan", *WHERE, "--db", str(file)).returncode == 0
    whole = enforcement(shell, file)
    assert [each["id"] for each in whole] == [each["id"] for each in without]
    assert not all(each["held"] for each in whole)
    assert not any("--no-services" in each["held"] for each in whole)


def enforcement(shell: Any, file: Path) -> list[dict[str, Any]]:
    """The changes of the plan from the latest scan that switch enforcement on, deferred ones too."""
    planned = shell.imdsctl("plan", "--json", "--db", str(file))
    assert planned.returncode == 0, planned.stderr
    return [each for each in json.loads(planned.stdout)["changes"] if "HttpTokensEnforced" in each["after"]]


def count(file: Path) -> int:
    connection = sqlite3.connect(file)
    ((found,),) = connection.execute("SELECT count(*) FROM targets").fetchall()
    connection.close()
    return int(found)
