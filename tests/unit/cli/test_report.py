"""`report` at the command line: streams, exit codes, and what code scanning does not take."""

from __future__ import annotations

import json
from glob import glob
from pathlib import Path

import pytest
from tests.unit.cli.test_commands import NOT_ENABLED, World
from tests.unit.domain.test_diff import V1, instance, region, scan
from tests.unit.views.named_scan import ids_in, named_scan

from imdsctl.views.reports import sarif

CASES = Path(__file__).parents[2] / "cases"


@pytest.fixture
def world() -> World:
    made = World()
    made.store.save(scan(region(*(instance(V1, f"i-{number}") for number in range(4)))))
    return made


def test_what_is_left_out_of_sarif_is_said_on_standard_error_and_still_fails_the_build(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sarif, "RESULTS_MAX", 3)
    assert world.run("report", "-f", "sarif", "--fail-on", "exposed") == 1
    printed = capsys.readouterr()
    assert len(json.loads(printed.out)["runs"][0]["results"]) == 3
    assert printed.err.startswith(
        "warning[results-left-out]: 2 of 5 findings are not in the SARIF log, the least serious"
    )
    assert world.run("report", "-f", "csv") == 0
    assert capsys.readouterr().err == ""


def test_a_scan_that_has_read_nothing_is_unknown_to_both_gates(capsys: pytest.CaptureFixture[str]) -> None:
    blind, seeing = World(**NOT_ENABLED), World()
    for command in ("scan --current-account", "report -f junit"):
        assert blind.run(*command.split(), "--fail-on", "unknown") == 1
        assert "nothing was seen, and nothing is proven" in capsys.readouterr().out
        assert seeing.run(*command.split(), "--fail-on", "unknown") == 0


@pytest.mark.parametrize("command", ["check iac/files", "policy check guardrails/bad/*"])
def test_a_check_says_it_too(command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sarif, "RESULTS_MAX", 1)
    monkeypatch.chdir(CASES)
    words = [found for word in command.split() for found in sorted(glob(word)) or [word]]
    assert World().run(*words, "--sarif") == 1
    printed = capsys.readouterr()
    (worst,) = json.loads(printed.out)["runs"][0]["results"]
    assert worst["level"] == "error"
    assert "warning[results-left-out]: " in printed.err


@pytest.mark.parametrize("kind", ["html", "csv", "json", "sarif", "ocsf", "asff", "junit"])
def test_a_redacted_report_is_one_on_paper_too(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world, file = World(), tmp_path / "report"
    world.store.save(named_scan(lambda name: f"hush {name}"))
    assert world.run("report", "-f", kind, "--redact", "--all", "-o", str(file)) == 0
    assert world.run("report", "-f", kind, "--redact", "--all") == 0
    for written in (file.read_text(), capsys.readouterr().out):
        assert "hush" not in written
        assert not ids_in(written)
