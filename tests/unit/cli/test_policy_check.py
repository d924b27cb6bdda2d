"""`imdsctl policy check` at the command line: exit codes, forms of output, files that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import NoReturn
from xml.etree import ElementTree

import pytest

from imdsctl.cli.app import run as command
from imdsctl.cli.dependencies import Dependencies

CASES = Path(__file__).parents[2] / "cases" / "guardrails"
STAR = str(CASES / "bad" / "lock-out-star.json")
GOOD = str(CASES / "good" / "launch-required.json")


def nothing(*_: object) -> NoReturn:
    raise AssertionError("a check asks nobody")


NOTHING = Dependencies(aws=nothing, scans=nothing, now=nothing, new_id=nothing)


def run(*arguments: str) -> int:
    return command(["policy", "check", *arguments], NOTHING)


def test_nothing_found(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(GOOD) == 0
    assert capsys.readouterr().out == "policy check: 1 file checked, nothing found\n"


def test_a_finding_says_where_why_and_what_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(STAR, GOOD) == 1
    out = capsys.readouterr().out
    assert out.startswith(f"{STAR}:8:7: error: a condition on a key that is absent [absent-key]\n")
    assert '"Resource": "arn:aws:ec2:*:*:instance/*"' in out
    assert out.endswith("policy check: 2 files checked, 1 finding\n")


def test_a_file_that_cannot_be_read_makes_it_partial(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torn = tmp_path / "torn.json"
    torn.write_text('{"Version": "2012-10-17",\n "Statement": [')
    assert run(str(torn), str(tmp_path / "none.json"), GOOD) == 1
    out, err = capsys.readouterr()
    assert out == "policy check: 3 files checked, nothing found; partial: 2 could not be read\n"
    assert f"{torn}:2:16" in err
    assert "none.json" in err


def test_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--json", STAR) == 1
    body = json.loads(capsys.readouterr().out)
    assert body["complete"] is True
    assert body["findings"][0]["corrected"]["Resource"] == "arn:aws:ec2:*:*:instance/*"
    assert run("--sarif", STAR, GOOD, "missing.json") == 1
    [sarif] = json.loads(capsys.readouterr().out)["runs"]
    [result] = sarif["results"]
    assert result["ruleId"] == sarif["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == "imdsctl/absent-key"
    assert result["locations"][0]["physicalLocation"]["region"] == {
        "startLine": 8,
        "startColumn": 7,
        "endLine": 8,
        "endColumn": 23,
    }
    assert sarif["invocations"][0]["executionSuccessful"] is False
    assert run("--junit", STAR, GOOD, "missing.json") == 1
    [suite] = ElementTree.fromstring(capsys.readouterr().out)
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "1", "1")


def test_wrong_command_lines() -> None:
    assert run() == 2
    assert run("--json", "--sarif", GOOD) == 2
    assert run("--kind", "sometimes", GOOD) == 2


def test_hostile_text_in_a_policy_stays_one_harmless_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "hostile.json"
    statement = {"Effect": "Deny", "Action": "ec2:Run\x1b[2J\nInstances", "Resource": "*\u202e"}
    path.write_text(json.dumps({"Version": "2012-10-17", "Statement": statement}))
    assert run(str(path)) == 1
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\u202e" not in out


@pytest.mark.parametrize(
    ("answer", "inside"), [({"Policy": {"Content": "{}"}}, "Policy"), ({"PolicyVersion": {}}, "PolicyVersion")]
)
def test_what_an_aws_call_answered_is_no_policy_but_holds_one(
    answer: dict[str, object], inside: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "answer.json"
    file.write_text(json.dumps(answer))
    assert run(str(file)) == 1
    assert f"save the policy in its `{inside}` by itself" in capsys.readouterr().err
