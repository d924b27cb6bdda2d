"""SARIF of `imdsctl check` and `imdsctl policy check` at the command line, by the rules of code scanning."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any, NoReturn

import pytest
from tests.sarif_rules import breaches

from imdsctl.adapters.artifact_uris import artifact_uri
from imdsctl.cli.app import run
from imdsctl.cli.dependencies import Dependencies
from imdsctl.codify.findings import CodeFinding, CodeRule, Severity
from imdsctl.domain.diagnostics import Diagnostic
from imdsctl.views.reports.code import code_sarif
from imdsctl.views.reports.sarif import RESULTS_MAX

CASES = Path(__file__).parents[2] / "cases"
RULE = CodeRule("a-rule", Severity.WARNING, "a title", "a reason")


def nothing(*_: object) -> NoReturn:
    raise AssertionError("a check asks nobody")


NOTHING = Dependencies(aws=nothing, scans=nothing, now=nothing, new_id=nothing)


def sarif(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    run([*arguments, "--sarif"], NOTHING)
    return json.loads(capsys.readouterr().out)


def test_code(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CASES)
    log = sarif(capsys, "check", "iac/files")
    results = log["runs"][0]["results"]
    assert breaches(log) == []
    assert len(results) > 50
    assert sum("fixes" in each for each in results) > 30
    assert all(_uri(each).startswith("iac/files/") for each in results)


def test_policies(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(CASES / "guardrails")
    names = sorted(str(path) for path in Path("bad").iterdir())
    log = sarif(capsys, "policy", "check", *names, "missing.json")
    assert breaches(log) == []
    assert log["runs"][0]["invocations"][0]["executionSuccessful"] is False


def test_two_checks_do_not_overwrite_each_other(capsys: pytest.CaptureFixture[str]) -> None:
    one = sarif(capsys, "check", str(CASES / "iac" / "files" / "bad-typo.tf"))
    two = sarif(capsys, "policy", "check", str(CASES / "guardrails" / "bad" / "launch-reversed.json"))
    ids = [each["runs"][0]["automationDetails"]["id"].rpartition("/")[0] for each in (one, two)]
    assert ids == ["imdsctl/check", "imdsctl/policy-check"]


def test_lines_above_a_finding_leave_its_fingerprint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = (CASES / "iac" / "files" / "bad-variables" / "main.tf").read_text()
    (tmp_path / "main.tf").write_text(text)
    before = _prints(sarif(capsys, "check", str(tmp_path)))
    (tmp_path / "main.tf").write_text("# one more line\n" + text)
    after = sarif(capsys, "check", str(tmp_path))
    assert _prints(after) == before
    assert len(before) == len(after["runs"][0]["results"])


def test_uris(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "root"
    (root / "a b").mkdir(parents=True)
    (root / "real.tf").touch()
    (root / "link.tf").symlink_to("real.tf")
    monkeypatch.chdir(root)
    assert artifact_uri("./a b/../a b/c:d.tf") == "a%20b/c%3Ad.tf"
    assert artifact_uri(str(root / "x.tf")) == "x.tf"
    assert artifact_uri("link.tf") == "real.tf"
    assert artifact_uri("../x.tf") == (tmp_path / "x.tf").as_uri()
    assert artifact_uri("-") == "stdin"


def test_more_results_than_code_scanning_takes() -> None:
    many = [CodeFinding(RULE, Severity.NOTE, "a.tf", n, 1, "said") for n in range(1, RESULTS_MAX + 2)]
    worst = CodeFinding(RULE, Severity.ERROR, "a.tf", 1, 1, "worse")
    told: list[Diagnostic] = []
    log = json.loads(code_sarif([*many, worst], [RULE], (), check="check", uri=str, tell=told.append))
    run_ = log["runs"][0]
    assert breaches(log) == []
    assert (len(run_["results"]), run_["results"][0]["level"]) == (RESULTS_MAX, "error")
    [said] = run_["invocations"][0]["toolExecutionNotifications"]
    assert said["message"]["text"].startswith("2 of 25,002 findings are not in the SARIF log, the least serious: ")
    assert [(each.code, each.severity, each.summary) for each in told] == [
        ("results-left-out", "warning", said["message"]["text"])
    ]


@pytest.mark.parametrize(
    ("where", "value", "breach"),
    [
        ("startLine", 0, "counts from 1"),
        ("endColumn", 1, "ends before it begins"),
        ("uri", "/etc/x.tf", "neither a file's URI nor relative"),
        ("uri", "a b.tf", "no URI reference"),
        ("ruleId", "other", "another rule than ruleId"),
        ("help", {"text": ""}, "help.text: empty"),
        ("partialFingerprints", {"other": "x"}, "partialFingerprints"),
    ],
)
def test_the_rules_find_what_breaks_them(where: str, value: Any, breach: str) -> None:
    log = json.loads(
        code_sarif(
            [CodeFinding(RULE, Severity.ERROR, "a.tf", 2, 3, "said")], [RULE], (), check="c", uri=str, tell=nothing
        )
    )
    assert breaches(log) == []
    broken = copy.deepcopy(log)
    result = broken["runs"][0]["results"][0]
    physical = result["locations"][0]["physicalLocation"]
    if where == "uri":
        physical["artifactLocation"]["uri"] = value
    elif where == "help":
        broken["runs"][0]["tool"]["driver"]["rules"][0]["help"] = value
    elif where in physical["region"]:
        physical["region"][where] = value
    else:
        result[where] = value
    assert any(breach in each for each in breaches(broken))


def _uri(result: Any) -> str:
    return str(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"])


def _prints(log: Any) -> set[str]:
    return {each["partialFingerprints"]["primaryLocationLineHash"] for each in log["runs"][0]["results"]}
