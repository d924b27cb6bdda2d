"""`imdsctl check` at the command line: exit codes, forms of output, a scan, wrong command lines."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree

import pytest

from imdsctl.cli.app import run as command
from imdsctl.cli.dependencies import Dependencies
from imdsctl.domain.observations import ImageSeen, RegionSeen, Scan, Target
from imdsctl.domain.options import AccountDefaults
from imdsctl.fleet.memory_store import MemoryStore

FILES = Path(__file__).parents[2] / "cases" / "iac" / "files"
OPTIONAL = str(FILES / "bad-instance-optional.tf")
UNKNOWN = str(FILES / "bad-instance-variable.tf")
REQUIRED = str(FILES / "good-instance-required.tf")
SILENT = str(FILES / "good-instance-silent.tf")
WHERE = ("--account", "111122223333", "--region", "eu-west-1")


def nothing(*_: object) -> NoReturn:
    raise AssertionError("a check asks nobody")


NOTHING = Dependencies(aws=nothing, scans=nothing, now=nothing, new_id=nothing)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: str, dependencies: Dependencies = NOTHING) -> int:
    return command(["check", *arguments], dependencies)


REGION = (
    "note: 1 launch or template says nothing about HttpTokens: the answer is that of a Region default of `required`, "
    "as the intent wants it. With --account and --region it is as a scan saw it.\n"
)


def test_clean(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(REQUIRED) == 0
    assert capsys.readouterr().out == "check: 1 file checked, nothing found\n"


def test_an_answer_that_rests_on_a_wish_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(SILENT) == 0
    assert capsys.readouterr().out == f"{REGION}check: 1 file checked, nothing found\n"
    assert run(SILENT, "--json") == 0
    assert json.loads(capsys.readouterr().out)["rests_on"] == [REGION.removeprefix("note: ").removesuffix(".\n")]


def test_a_finding_says_file_line_and_reason(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(OPTIONAL) == 1
    out = capsys.readouterr().out
    assert out.startswith(
        f"{OPTIONAL}:5:5: error: IMDSv1 is answered [imdsv1-allowed]\n  aws_instance.web: this launch"
    )


@pytest.mark.parametrize(("fail_on", "code"), [("unknown", 1), ("exposed", 0)])
def test_unknown_is_told_and_fails_unless_it_may(fail_on: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(UNKNOWN, "--fail-on", fail_on) == code
    assert "[imds-unknown]" in capsys.readouterr().out


def test_what_cannot_be_read_makes_it_partial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torn = tmp_path / "torn.json"
    torn.write_text('{"Resources": {"A": {"Type": "AWS::EC2::Instance"')
    assert run(str(torn), SILENT, "--fail-on", "exposed") == 1
    out, err = capsys.readouterr()
    assert out == f"{REGION}check: 2 files checked, nothing found; partial: 1 could not be read\n"
    assert f"{torn}:1:50" in err


def test_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    run(OPTIONAL, SILENT, "--json")
    document = json.loads(capsys.readouterr().out)
    assert [(each["rule"], each["line"]) for each in document["findings"]] == [("imdsv1-allowed", 5)]
    run(OPTIONAL, SILENT, "--sarif")
    (result,) = json.loads(capsys.readouterr().out)["runs"][0]["results"]
    assert result["locations"][0]["physicalLocation"]["region"] == {
        "startLine": 5,
        "startColumn": 5,
        "endLine": 5,
        "endColumn": 29,
    }
    run(OPTIONAL, SILENT, "--junit")
    (suite,) = ElementTree.fromstring(capsys.readouterr().out)
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")


def test_against_a_scan(capsys: pytest.CaptureFixture[str]) -> None:
    day = datetime(2026, 11, 26, tzinfo=UTC)
    seen = RegionSeen(Target("111122223333", "eu-west-1"), AccountDefaults(), images=(ImageSeen("ami-0a"),))
    store = MemoryStore()
    store.save(Scan("s1", day, day, (), (seen,)))
    with_scan = replace(NOTHING, scans=lambda _: store)
    assert run(SILENT, *WHERE, "--scan", "s1", dependencies=with_scan) == 1
    assert "the Region default is unset (the scan of 111122223333/eu-west-1)" in capsys.readouterr().out
    assert run(SILENT, "--account", "111122223333", "--region", "eu-west-2", dependencies=with_scan) == 2


@pytest.mark.parametrize("wrong", [["--json", "--sarif"], ["--scan", "s1"], ["no-such-file.tf"], ["--fail-on", "x"]])
def test_wrong_command_lines(wrong: list[str]) -> None:
    assert run(SILENT, *wrong) == 2
