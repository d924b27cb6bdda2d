"""Names written to hurt whoever looks at them, through every command that shows a scan."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from tests.unit.cli.test_commands import World
from tests.unit.views.named_scan import NOON, named_evidence, named_scan

HOSTILE = "\nFORGED \rFORGED \x85FORGED \u2028FORGED \x1b[2J\x1b]0;t\x07 \u202e\x0b\0 <script>x</script> `id` $(id) '\""
SHOWN = [
    "history",
    "history --json",
    "diff s0 s1",
    "diff s0 s1 --json",
    "plan",
    "plan --json",
    "plan -o plan.json --html plan.html",
    "plan --what-if=account@default@required@in@eu-west-1",
    "explain --from-scan i-0abc1111",
    "explain --from-scan lt-0bcd1111",
    "explain --from-scan lt-0bcd1111 --json",
    "evidence --stored",
    "evidence --stored --json",
    "evidence --stored --roll-up tag:team",
    "init -o imdsctl.toml",
    "intent check imdsctl.toml",
    "export terraform -o terraform",
    "export cli -o script.sh",
]


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> World:
    """Two scans of one fleet, before and after somebody gave everything another name; and a folder to write into."""
    monkeypatch.chdir(tmp_path)
    made = World()
    made.store.save(replace(named_scan(lambda kind: kind), scan_id="s0", finished=NOON - timedelta(hours=1)))
    made.store.save(named_scan(lambda kind: f"{kind} {request.param}"))
    made.store.save_evidence(named_evidence(lambda kind: f"{kind} {request.param}"))
    return made


@pytest.mark.parametrize("world", [HOSTILE, "x" * 10_000], indirect=True, ids=["hostile", "long"])
def test_names_forge_no_line_steer_no_terminal_and_run_nothing(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    for line in SHOWN:
        # Terraform leaves out what was not read, and says so by its exit code.
        assert world.run(*(word.replace("@", " ") for word in line.split())) in (0, 1), line
        printed = "".join(capsys.readouterr())
        assert not set("\x1b\x07\x0b\0\x85\u2028\u202e") & set(printed), line
        assert not re.search(r"(?m)^\s*FORGED", printed), line
    for file in (each for each in Path().rglob("*") if each.is_file()):
        written = file.read_bytes().decode()
        assert not re.search(r"(?m)^\s*FORGED", written), file
        if file.suffix != ".json":
            assert not set("\x1b\x07\x0b\0\x85\u2028\u202e") & set(written), file
        if file.suffix == ".html":
            assert "<script>" not in written
        if file.suffix == ".sh":
            read = subprocess.run(["bash", "-n", str(file)], capture_output=True, text=True, check=False)
            assert (read.returncode, read.stderr) == (0, ""), file
