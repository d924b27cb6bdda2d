"""`imdsctl export` at the command line: files, choices, exit codes."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.unit.domain.plan_cases import scan_of

from imdsctl.cli.app import run
from imdsctl.cli.dependencies import Dependencies
from imdsctl.domain.observations import AccountUnseen, PolicyKind, PolicySeen, Scan, Unseen
from imdsctl.domain.regions import DEFAULT_REGIONS
from imdsctl.fleet.memory_store import MemoryStore

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
TWO = ({"region": "eu-west-1", "instances": [{"id": "i-1"}]}, {"region": "us-east-1"})
DENY = PolicySeen("p-1", "deny", PolicyKind.SERVICE_CONTROL_POLICY, "{}", ("r-1",))


def export(*argv: str, scan: Scan | None = None) -> int:
    store = MemoryStore()
    if scan is not None:
        store.save(scan)
    deps: dict[str, Any] = {"aws": None, "scans": lambda url: store, "now": lambda: NOON, "new_id": lambda: "s2"}
    return run(["export", *argv], Dependencies(**deps))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_terraform(capsys: pytest.CaptureFixture[str]) -> None:
    assert export("terraform", "-o", "infra/imds", "--regions", "us-east-1", scan=scan_of(*TWO)) == 0
    assert "1 Region default of scan s1" in capsys.readouterr().err
    text = Path("infra/imds/region_defaults.tf").read_text()
    assert "us_east_1" in text
    assert "eu_west_1" not in text
    assert "i-1" not in Path("infra/imds/metadata_options.tf").read_text()
    assert Path("infra/imds/versions.tf").stat().st_mode & 0o777 == 0o600


def test_terraform_by_account(capsys: pytest.CaptureFixture[str]) -> None:
    scan = replace(scan_of(*TWO), policies=(DENY,))
    assert export("terraform", "-o", "infra", "--by-account", scan=scan) == 0
    said = capsys.readouterr()
    assert "2 Region defaults of scan s1" in said.err
    assert "infra/111122223333/region_defaults.tf" in said.out.splitlines()
    assert sorted(each.name for each in Path("infra").iterdir()) == ["111122223333", "organization"]
    assert '"p-1"' in Path("infra/organization/organization.tf").read_text()


def test_terraform_of_many_accounts_at_once_is_warned_of(capsys: pytest.CaptureFixture[str]) -> None:
    accounts = [f"{number:012d}" for number in range(1, 4)]
    scan = scan_of(*({"account": account, "region": region} for account in accounts for region in DEFAULT_REGIONS))
    for choice, warned in (((), True), (("--by-account",), False), (("--provider", "6"), False)):
        assert export("terraform", "-o", "infra", *choice, scan=scan) == 0
        assert ("51 processes of the provider" in capsys.readouterr().err) is warned


def test_terraform_of_a_scan_with_gaps_is_partial(capsys: pytest.CaptureFixture[str]) -> None:
    assert export("terraform", "-o", ".", scan=scan_of({"defaults": None})) == 1
    assert "Left out: 111122223333/eu-west-1: the Region default could not be read" in capsys.readouterr().err


@pytest.mark.parametrize("option", [("--role", 'x"}'), ("--own-account", "1"), ("--provider", "7"), ("--accounts", "")])
def test_wrong_options_write_nothing(option: tuple[str, str]) -> None:
    assert export("terraform", "-o", "infra", *option, scan=scan_of(*TWO)) == 2
    assert not Path("infra").exists()


@pytest.mark.parametrize("command", ["terraform", "cloudformation", "cli"])
def test_without_a_scan(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert export(command, "-o", "out") == 2
    assert "scan-missing" in capsys.readouterr().err
    assert not Path("out").exists()


def test_the_script_of_a_plan_that_is_a_file(capsys: pytest.CaptureFixture[str]) -> None:
    store = MemoryStore()
    store.save(scan_of(*TWO))
    deps: dict[str, Any] = {"aws": None, "scans": lambda url: store, "now": lambda: NOON, "new_id": lambda: "s2"}
    assert run(["plan", "-o", "plan.json"], Dependencies(**deps)) == 0
    assert export("cli", "plan.json", "-o", "change.sh") == 0
    assert "5 to change, 0 deferred" in capsys.readouterr().err
    assert export("cli", "-o", "same.sh", scan=scan_of(*TWO)) == 0
    for ending in (".sh", ".undo.sh"):
        assert Path(f"same{ending}").read_text() == Path(f"change{ending}").read_text()
    Path("plan.json").write_text(Path("plan.json").read_text().replace("required", "optional", 1))
    assert export("cli", "plan.json", "-o", "edited.sh") == 2
    assert not Path("edited.sh").exists()


def test_cloudformation(capsys: pytest.CaptureFixture[str]) -> None:
    assert export("cloudformation", "-o", "stack.json", scan=replace(scan_of(*TWO), policies=(DENY,))) == 0
    assert [each["ResourceIdentifier"] for each in json.loads(Path("stack.import.json").read_text())] == [{"Id": "p-1"}]
    assert export("cloudformation", "-o", "wanted.json", "--as", "wanted", scan=scan_of(*TWO)) == 0
    assert "WantedRegionDefaults" in json.loads(Path("wanted.json").read_text())["Resources"]
    assert "no resource type for the Region defaults" in capsys.readouterr().err
    gap = AccountUnseen("111122223333", None, Unseen("policies of the organization (x)", "AccessDenied"))
    partial = replace(scan_of(*TWO), policies=(DENY,), unseen=(gap,))
    assert export("cloudformation", "-o", "partial.json", scan=partial) == 1
    assert "Left out: policies of the organization (x): AccessDenied" in capsys.readouterr().err
    assert export("cloudformation", "-o", "none.json", scan=scan_of(*TWO)) == 2
    assert "export-impossible" in capsys.readouterr().err
    assert not Path("none.json").exists()
