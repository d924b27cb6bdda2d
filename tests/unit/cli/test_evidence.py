"""`imdsctl evidence`: what it costs is said first, and no more is spent than was agreed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from imdsctl.cli.app import run
from imdsctl.cli.dependencies import Dependencies
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.evidence import Use
from imdsctl.domain.observations import Account, AccountUnseen, InstanceSeen, RegionSeen, Scan, Target, Unseen
from imdsctl.domain.options import HttpTokens, MetadataOptions
from imdsctl.domain.verdicts import REGION_NOT_ENABLED
from imdsctl.fleet.memory_store import MemoryStore

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
ACCOUNT = "111111111111"
HERE, THERE = Target(ACCOUNT, "eu-west-1"), Target(ACCOUNT, "us-east-1")
OPTIONAL = MetadataOptions(http_tokens=HttpTokens.OPTIONAL)
GROUP = (("aws:autoscaling:groupName", "web\x1b[2J"),)
"""A name that would clear the screen."""


def region(target: Target, count: int) -> RegionSeen:
    found = (InstanceSeen(f"i-{n:08x}", "running", OPTIONAL, image_id="ami-1", tags=GROUP) for n in range(count))
    return RegionSeen(target, instances=tuple(found))


class OneAccount:
    """CloudWatch of one account: the first instance is busy, the second silent, the others have no datapoints."""

    default_region = "us-east-1"

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []
        self.interrupted_in = ""

    async def call(
        self, credentials: Any, service: str, region: str, operation: str, params: Mapping[str, Any], *rest: Any
    ) -> Any:
        self.asked.append((operation, region))
        if operation == "GetMetricData" and region == self.interrupted_in:
            await asyncio.sleep(0)  # let the other Region finish
            raise KeyboardInterrupt
        if operation == "GetCallerIdentity":
            return {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/me"}
        if operation == "LookupEvents":
            return {}
        values = [[7.0], [0.0]]
        return {
            "MetricDataResults": [
                {
                    "Id": each["Id"],
                    "Timestamps": [NOW - timedelta(hours=12)] if number < 2 else [],
                    "Values": values[number] if number < 2 else [],
                    "StatusCode": "Complete",
                }
                for number, each in enumerate(params["MetricDataQueries"])
            ]
        }

    async def paginate(self, *args: Any) -> AsyncIterator[Any]:
        yield await self.call(*args)


class World:
    def __init__(self, *regions: RegionSeen) -> None:
        self.store = MemoryStore()
        self.aws = OneAccount()
        if regions:
            self.store.save(Scan("s1", NOW, NOW, (Account(ACCOUNT, "shop", ou_path="Root/Prod"),), regions))

    def run(self, *argv: str) -> int:
        @asynccontextmanager
        async def aws(profile: str | None) -> AsyncIterator[Any]:
            yield self.aws

        deps = Dependencies(aws=aws, scans=lambda url: self.store, now=lambda: NOW, new_id=lambda: "s1")
        return run(("evidence", *argv), deps)

    @property
    def metric_calls(self) -> list[str]:
        return [where for operation, where in self.aws.asked if operation == "GetMetricData"]


def test_the_price_is_said_first_and_the_evidence_is_shown_and_kept(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(region(HERE, 3))
    assert world.run() == 0
    said = capsys.readouterr()
    first, *_, last = said.err.strip().splitlines()
    assert first == (
        "CloudWatch will be asked for 3 metrics in 1 Region (1 call of GetMetricData, 12 hours a datapoint): "
        "less than USD 0.01 at the price of us-east-1."
    )
    assert last == "Asked for 3 metrics in 1 call: less than USD 0.01."
    assert "1 used, 1 unused, 1 unknown" in said.out
    assert "111111111111/eu-west-1/i-00000000  7 IMDSv1 calls; last before 2026-11-26 12:00 UTC" in said.out
    assert "`imdsctl trace`" in said.out
    assert "running, yet no datapoints" in said.out
    assert "\x1b" not in said.out
    kept = world.store.evidence("s1")
    assert kept is not None
    assert (len(kept.instances), kept.metrics_requested, kept.taken) == (3, 3, NOW)


def test_more_than_the_agreed_money_is_not_spent_without_a_yes(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(region(HERE, 1500))
    assert world.run("--max-cost", "0.01") == 2
    said = capsys.readouterr().err
    assert "error[cost-unconfirmed]: asking may cost up to USD 0.02" in said
    assert "--yes" in said
    assert world.metric_calls == []
    assert world.store.evidence("s1") is None
    assert world.run("--max-cost", "0.01", "--yes") == 0
    assert len(world.metric_calls) == 3


def test_what_was_gathered_is_shown_again_for_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(region(HERE, 2))
    assert world.run("--stored") == 1
    assert "error[evidence-missing]" in capsys.readouterr().err
    world.run()
    asked = list(world.aws.asked)
    capsys.readouterr()
    assert world.run("--stored", "--roll-up", "ou", "--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["kind"], document["format_version"], document["asked"]) == ("evidence", 1, None)
    assert [(each["kind"], each["name"], each["use"]) for each in document["workloads"]] == [
        ("ou", "Root/Prod", "used")
    ]
    assert world.aws.asked == asked


def test_json_has_every_instance_and_what_was_asked(capsys: pytest.CaptureFixture[str]) -> None:
    assert World(region(HERE, 3)).run("--json") == 0
    document = json.loads(capsys.readouterr().out)
    assert document["asked"] == {"metrics": 3, "calls": 1, "usd_estimate": 0.00003}
    assert document["totals"] == {"used": 1, "unused": 1, "unknown": 1}
    assert [each["no_token"] for each in document["instances"]] == [7.0, 0.0, None]
    (workload,) = document["workloads"]
    assert (workload["kind"], workload["name"], workload["region"]) == ("group", "web\x1b[2J", "eu-west-1")
    assert [each["instance_id"] for each in workload["look_at"]] == ["i-00000000"]


def test_what_the_scan_could_not_see_is_unknown(capsys: pytest.CaptureFixture[str]) -> None:
    blind = replace(region(THERE, 0), unseen=(Unseen("instances", "denied", "UnauthorizedOperation"),))
    world = World(region(HERE, 2), blind)
    scan = world.store.load("s1")
    refused = AccountUnseen("444455556666", None, Unseen("account", "no such role", "AccessDenied"))
    disabled = AccountUnseen(ACCOUNT, "af-south-1", Unseen("Region", "not enabled", REGION_NOT_ENABLED))
    policies = AccountUnseen(ACCOUNT, None, Unseen("policies", "denied", "AccessDeniedException"))
    accounts = (*scan.accounts, Account("444455556666", "partner"))
    world.store.save(replace(scan, scan_id="s2", accounts=accounts, unseen=(refused, disabled, policies)))
    assert world.run("--fail-on", "unknown") == 1
    said = f"could not see the instances of 444455556666, {THERE}: who uses IMDSv1 there is unknown"
    assert said in capsys.readouterr().err
    assert world.run("--stored", "--fail-on", "unknown", "--regions", HERE.region, "--accounts", ACCOUNT) == 0
    assert "could not see" not in capsys.readouterr().err


def test_a_part_is_asked_and_what_is_known_of_the_rest_stays(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(region(HERE, 1), region(THERE, 1))
    world.run("--regions", "eu-west-1")
    world.run("--regions", "us-east-1")
    assert world.metric_calls == ["eu-west-1", "us-east-1"]
    kept = world.store.evidence("s1")
    assert kept is not None
    assert {target for target, _ in kept.instances} == {HERE, THERE}


def test_ctrl_c_keeps_what_was_paid_for_and_the_rest_can_be_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(region(HERE, 1), region(THERE, 1))
    world.aws.interrupted_in = "us-east-1"
    assert world.run() == 130
    assert "the evidence of 1 instance(s) is kept" in capsys.readouterr().err
    world.aws.interrupted_in = ""
    world.aws.asked.clear()
    assert world.run("--missing") == 0
    assert world.metric_calls == ["us-east-1"]
    kept = world.store.evidence("s1")
    assert kept is not None
    assert {target for target, _ in kept.instances} == {HERE, THERE}
    assert World(region(HERE, 1)).run("--missing") == 1
    assert "error[evidence-missing]" in capsys.readouterr().err


def test_unknown_and_used_can_fail_a_gate() -> None:
    assert World(region(HERE, 1)).run("--fail-on", "used") == 1
    assert World(region(HERE, 1)).run("--fail-on", "unknown") == 0
    assert World(region(HERE, 3)).run("--fail-on", "unknown") == 1


def test_cloudtrails_files_and_event_history_are_asked_on_demand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    identity = {
        "principalId": "AROA:i-00000002",
        "accountId": ACCOUNT,
        "sessionContext": {"ec2RoleDelivery": "1.0"},
    }
    good, bad = tmp_path / "a.json", tmp_path / "b.json"
    good.write_text(json.dumps({"Records": [{"eventTime": "2026-11-26T11:00:00Z", "userIdentity": identity}]}))
    bad.write_text('{"Records": [')
    world = World(region(HERE, 4))
    assert world.run("--cloudtrail", str(tmp_path), "--cloudtrail-lookup", "--json") == 0
    said = capsys.readouterr()
    by_id = {each["instance_id"]: each for each in json.loads(said.out)["instances"]}
    assert (by_id["i-00000002"]["use"], by_id["i-00000002"]["role_delivery_v1"]) == ("used", 1)
    assert by_id["i-00000003"]["use"] == "unknown"
    assert "warning[cloudtrail-file-damaged]" in said.err
    assert str(bad) in said.err
    assert [where for operation, where in world.aws.asked if operation == "LookupEvents"] == ["eu-west-1"]
    assert any("90 days" in note for note in json.loads(said.out)["notes"])


def test_the_part_that_is_asked_for_is_shown_and_judged(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(region(HERE, 3), region(THERE, 1))
    world.run()
    capsys.readouterr()
    assert world.run("--stored", "--regions", "us-east-1", "--json", "--fail-on", "unknown") == 0
    document = json.loads(capsys.readouterr().out)
    assert {each["region"] for each in document["instances"]} == {"us-east-1"}
    assert world.run("--stored", "--regions", "eu-west-1", "--fail-on", "unknown") == 1


def test_cloudtrails_files_are_added_to_what_is_kept_without_asking_aws(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(region(HERE, 3))
    world.run()
    asked = list(world.aws.asked)
    identity = {"principalId": "AROA:i-00000001", "accountId": ACCOUNT, "sessionContext": {"ec2RoleDelivery": "1.0"}}
    (tmp_path / "a.jsonl").write_text(json.dumps({"eventTime": "2026-11-26T11:00:00Z", "userIdentity": identity}))
    assert world.run("--stored", "--cloudtrail", str(tmp_path)) == 0
    assert world.aws.asked == asked
    kept = world.store.evidence("s1")
    assert kept is not None
    assert kept.of(HERE, "i-00000001").use is Use.USED


def test_what_was_paid_for_is_shown_when_it_cannot_be_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(evidence: Any) -> None:
        raise DiagnosticError(Diagnostic("database-full", "the disk is full"))

    world = World(region(HERE, 3))
    monkeypatch.setattr(world.store, "save_evidence", full)
    assert world.run() == 1
    said = capsys.readouterr()
    assert "1 used, 1 unused, 1 unknown" in said.out
    assert "the disk is full" in said.err


def test_a_scan_without_instances_asks_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    world = World(RegionSeen(HERE))
    assert world.run() == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert "No instance that the scan saw there allows IMDSv1" in said.out
    assert world.metric_calls == []


@pytest.mark.parametrize(
    ("argv", "code"),
    [
        (("--look-back", "14"), "duration-invalid"),
        (("--look-back", "456d"), "duration-invalid"),
        (("--look-back", "1m"), "duration-invalid"),
        (("--roll-up", "tag:"), "roll-up-invalid"),
        (("--roll-up", "tag"), "roll-up-invalid"),
        (("--roll-up", "image:x"), "roll-up-invalid"),
        (("--max-cost", "free"), "cost-invalid"),
        (("--max-cost", "-1"), "cost-invalid"),
        (("--max-cost", "NaN"), "cost-invalid"),
        (("--cloudtrail", "/nowhere"), "cloudtrail-missing"),
        (("--accounts", "nobody"), "account-unknown"),
        (("--stored", "--missing"), "option-conflict"),
        (("--stored", "--cloudtrail-lookup"), "option-conflict"),
    ],
)
def test_a_wrong_command_line_is_refused_before_anything_is_asked(
    argv: tuple[str, ...], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(region(HERE, 1))
    assert world.run(*argv) == 2
    assert f"error[{code}]" in capsys.readouterr().err
    assert world.metric_calls == []


def test_there_has_to_be_a_scan(capsys: pytest.CaptureFixture[str]) -> None:
    assert World().run() == 1
    assert "error[scan-missing]" in capsys.readouterr().err
