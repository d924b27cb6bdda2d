"""A scan that is interrupted in the middle keeps what it has read, and goes on with the rest."""

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


SCAN = ("scan", "--no-services", "--json", "--regions", "us-east-1,eu-west-1,sa-east-1")


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

    resumed = shell.imdsctl("scan", "--resume", "--json", "--no-services", "--db", str(file))
    assert resumed.returncode == 0, resumed.stderr
    found = json.loads(resumed.stdout)
    assert {**found, **dict.fromkeys(DIFFER)} == {**whole, **dict.fromkeys(DIFFER)}
    if kept:
        assert found["calls"] < whole["calls"]
    same = shell.imdsctl("diff", "--db", str(file), "--exit-code")
    assert same.returncode == 0, same.stdout


def count(file: Path) -> int:
    connection = sqlite3.connect(file)
    ((found,),) = connection.execute("SELECT count(*) FROM targets").fetchall()
    connection.close()
    return int(found)
