"""The AWS CLI as a user types it: the scripts of tests/cases/cli call every operation that is implemented."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from imdsctl.adapters.local_server import OPERATIONS

SCRIPTS = sorted((Path(__file__).parent.parent / "cases" / "cli").glob("*.txt"))
PLAYER = Path(__file__).with_name("aws_cli_script.py")

SESSION_SECONDS_MAX = 600.0
"""Hundreds of commands: when a session hangs, not how fast it is."""
REFUSED_AT_BEST = {("ec2", "CancelDeclarativePoliciesReport"): "a report is complete before anybody can cancel it"}
"""What cannot succeed where every change takes effect at once, and why."""


@pytest.fixture(scope="module")
def steps(start_local: Any) -> list[dict[str, Any]]:
    """What every command of every script came to, on a local AWS that only they use."""
    shell = start_local("--accounts", "8", "--instances", "4", "--seed", "7")
    run = subprocess.run(
        [sys.executable, "-W", "ignore", str(PLAYER), *map(str, SCRIPTS)],
        env=shell.env,
        cwd=shell.home,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=SESSION_SECONDS_MAX,
    )
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("script", [path.stem for path in SCRIPTS])
def test_the_session_goes_as_its_script_says(steps: list[dict[str, Any]], script: str) -> None:
    mine = [step for step in steps if step["script"] == script]
    assert mine, "no command was played"
    last = mine[-1]
    assert last["problem"] is None, f"tests/cases/cli/{script}.txt:{last['line']}: {last['command']}\n{last['problem']}"


@pytest.mark.slow
def test_every_operation_was_called_and_succeeded(steps: list[dict[str, Any]]) -> None:
    answers = [(service, action, status) for step in steps for service, action, status in step["called"]]
    called = {(service, action) for service, action, status in answers if status < 300} | {
        (service, action) for service, action, _ in answers if (service, action) in REFUSED_AT_BEST
    }
    implemented = {(service, action) for service, operations in OPERATIONS.items() for action in operations}
    missing = "\n".join(
        f"add to tests/cases/cli/{service}.txt: a command that calls {action}, and what it is expected to answer"
        for service, action in sorted(implemented - called)
    )
    assert not missing, missing
