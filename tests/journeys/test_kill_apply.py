"""`kill -9` at random points of an apply and of its rollback: the same command goes on, and nothing is lost or doubled.

An organization is planned, applied and rolled back, again and again, by processes that are killed all the time. After
each apply every change is done exactly as planned, once; after each rollback the whole world is to the byte what it
was. `make soak` does it 1,000 times.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import boto3
import pytest

from imdsctl.adapters.journal_file import open_journal
from imdsctl.adapters.plan_file import read_plan, write_plan
from imdsctl.domain.plan import Plan, Surface
from imdsctl.domain.waves import Gates, PlannedWave
from imdsctl.fleet.rollback import selected

ROUNDS = int(os.environ.get("IMDSCTL_SOAK_ROUNDS", "50"))
WARM = "warm"
KILLS_AN_APPLY, KILLS_A_ROLLBACK = 6, 4
REGIONS = ("eu-west-1", "us-east-1")
ROLE = "OrganizationAccountAccessRole"
SECONDS_MAX = 60.0

World = dict[tuple[str, ...], Any]
"""Everything that says something about the metadata service, by account, Region, kind and id: AWS's own answers."""


@dataclass
class Commands:
    """Command lines run by the fork server."""

    server: subprocess.Popen[str]
    folder: Path

    def warm_up(self, *words: str) -> None:
        self._send(["here", *words])
        while self._answer() != WARM:  # what commands print
            pass

    def run(self, *words: str) -> tuple[int, str]:
        """To the end: exit code and output."""
        output = self.folder / "output"
        self._send([str(output), *words])
        self._answer()
        return self._ended(), output.read_text()

    def killed(self, journal: Path, entries: int, *words: str) -> bool:
        """Kill -9 as soon as the journal has grown by so many entries; False when the command ended before."""
        before = lines(journal)
        self._send([str(self.folder / "output"), *words])
        child = int(self._answer())
        deadline = time.monotonic() + SECONDS_MAX
        while lines(journal) < before + entries and not is_over(child):
            assert time.monotonic() < deadline
            time.sleep(0.0002)
        os.kill(child, signal.SIGKILL)
        return self._ended() == -signal.SIGKILL

    def _ended(self) -> int:
        assert self.server.stdin is not None
        self.server.stdin.write("\n")
        self.server.stdin.flush()
        return os.waitstatus_to_exitcode(int(self._answer()))

    def _send(self, words: list[str]) -> None:
        assert self.server.stdin is not None
        self.server.stdin.write(json.dumps(words) + "\n")
        self.server.stdin.flush()

    def _answer(self) -> str:
        assert self.server.stdout is not None
        answer = self.server.stdout.readline().strip()
        assert self.server.poll() is None
        return answer


def lines(journal: Path) -> int:
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def is_over(child: int) -> bool:
    """Whether a process that nobody has waited for yet runs no more."""
    return Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


@contextmanager
def fork_server(shell: Any, folder: Path) -> Iterator[Commands]:
    program = [sys.executable, str(Path(__file__).with_name("fork_server.py"))]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(program, env=shell.env, cwd=folder, **pipes) as server:
        try:
            yield Commands(server, folder)
        finally:
            assert server.stdin is not None
            server.stdin.close()
            server.wait(SECONDS_MAX)


class Observer:
    """Looks at all accounts and Regions with boto3."""

    def __init__(self, settings: dict[str, str]) -> None:
        session = boto3.Session(
            aws_access_key_id=settings["AWS_ACCESS_KEY_ID"], aws_secret_access_key=settings["AWS_SECRET_ACCESS_KEY"]
        )
        where = {"endpoint_url": settings["AWS_ENDPOINT_URL"]}
        organizations = session.client("organizations", region_name="us-east-1", **where)
        sts = session.client("sts", region_name="us-east-1", **where)
        own = sts.get_caller_identity()["Account"]
        self.clients: dict[tuple[str, str], Any] = {}
        for account in (each["Id"] for each in organizations.list_accounts()["Accounts"]):
            keys = {}
            if account != own:
                role = f"arn:aws:iam::{account}:role/{ROLE}"
                given = sts.assume_role(RoleArn=role, RoleSessionName="observer")["Credentials"]
                names = {"aws_access_key_id": "AccessKeyId", "aws_secret_access_key": "SecretAccessKey"}
                names["aws_session_token"] = "SessionToken"
                keys = {name: given[theirs] for name, theirs in names.items()}
            for region in REGIONS:
                self.clients[account, region] = session.client("ec2", region_name=region, **where, **keys)

    def world(self) -> World:
        found: World = {}
        for place, ec2 in self.clients.items():
            found[*place, "default"] = ec2.get_instance_metadata_defaults()["AccountLevel"]
            for page in ec2.get_paginator("describe_instances").paginate():
                for each in (instance for row in page["Reservations"] for instance in row["Instances"]):
                    found[*place, "instance", each["InstanceId"]] = each
            for template in ec2.describe_launch_templates()["LaunchTemplates"]:
                name = template["LaunchTemplateId"]
                found[*place, "template", name] = template
                for each in ec2.describe_launch_template_versions(LaunchTemplateId=name)["LaunchTemplateVersions"]:
                    found[*place, "version", name, str(each["VersionNumber"])] = each
            for each in ec2.describe_images(Owners=["self"])["Images"]:
                found[*place, "image", each["ImageId"]] = each
        return found


def check_applied(plan: Plan, before: World, now: World) -> None:
    """Every change is done as planned, and nothing else has changed: not an option, not a version more."""
    expected = dict(before)
    for change in plan.ready:
        place = (change.target.account_id, change.target.region)
        if change.surface is Surface.REGION_DEFAULT:
            expected[*place, "default"] = {**expected[*place, "default"], **change.after}
        elif change.surface is Surface.INSTANCE:
            instance = expected[*place, "instance", change.resource]
            options = {**instance["MetadataOptions"], **change.after}
            expected[*place, "instance", change.resource] = {**instance, "MetadataOptions": options}
        else:
            assert change.surface is Surface.LAUNCH_TEMPLATE
            _expect_versions(change, place, expected, now)
    assert now.keys() == expected.keys()
    for key, value in expected.items():
        assert now[key] == value, key


def _expect_versions(change: Any, place: tuple[str, str], expected: World, now: World) -> None:
    template = expected[*place, "template", change.resource]
    latest = template["LatestVersionNumber"]
    # Numbers are never given twice, so that after a rollback they go on where they were.
    made = sorted(
        int(key[4]) for key in now if key[:4] == (*place, "version", change.resource) and int(key[4]) > latest
    )
    assert len(made) == len(change.after), change.id
    for part, number in zip(change.after, made, strict=True):
        source = expected[*place, "version", change.resource, str(change.before[f"{part}Version"])]
        version = now[*place, "version", change.resource, str(number)]
        options = {**change.before[part], **change.after[part]}
        assert version["LaunchTemplateData"] == {**source["LaunchTemplateData"], "MetadataOptions": options}
        expected[*place, "version", change.resource, str(number)] = version
    default = made[0] if "Default" in change.after else template["DefaultVersionNumber"]
    expected[*place, "template", change.resource] = {
        **template,
        "LatestVersionNumber": made[-1],
        "DefaultVersionNumber": default,
    }
    for key, version in list(expected.items()):
        if key[:4] == (*place, "version", change.resource):
            expected[key] = {**version, "DefaultVersion": version["VersionNumber"] == default}


def in_two_waves(plan: Plan) -> Plan:
    """By account; the second wave waits for approval."""
    accounts = sorted({change.target.account_id for change in plan.ready})
    changes = tuple(
        replace(change, wave="first" if change.target.account_id == accounts[0] else "second")
        for change in plan.changes
    )
    waves = (PlannedWave("first"), PlannedWave("second", Gates(approval=True)))
    return replace(plan, changes=changes, waves=waves)


@pytest.mark.slow
def test_an_apply_and_its_rollback_survive_kill_9(start_local: Callable[..., Any], tmp_path: Path) -> None:
    chance = random.Random(5)
    shell = start_local("--accounts", "2", "--regions", ",".join(REGIONS), "--instances", "8")
    observer = Observer(dict(shell.env))
    kills = cycles = 0
    with fork_server(shell, tmp_path) as commands:
        commands.warm_up("scan", "--json", "--regions", ",".join(REGIONS))
        before = observer.world()
        while kills < ROUNDS:
            cycles += 1
            file = tmp_path / f"plan-{cycles}.json"
            journal = file.with_name(file.name + ".journal")
            assert commands.run("scan", "--regions", ",".join(REGIONS))[0] == 0
            assert commands.run("plan", "-o", str(file))[0] == 0
            plan = in_two_waves(read_plan(file))
            write_plan(plan, file)
            plan = read_plan(file)
            entries = 2 * len(plan.ready) + 6
            apply = (
                "apply",
                str(file),
                "--confirm",
                str(len(plan.ready)),
                "--approve",
                "second",
                "--db",
                "team.sqlite3",
            )
            for _ in range(KILLS_AN_APPLY):
                kills += commands.killed(journal, chance.randint(0, 1 + 2 * entries // KILLS_AN_APPLY), *apply)
            code, output = commands.run(*apply)
            assert code == 0, output
            check_applied(plan, before, observer.world())

            rollback = ("rollback", str(file), "--delete-versions", "--db", "team.sqlite3")
            rollback = (*rollback, "--confirm", to_put_back(plan, journal))
            for _ in range(KILLS_A_ROLLBACK):
                grown = chance.randint(0, 1 + 2 * entries // KILLS_A_ROLLBACK)
                kills += commands.killed(journal, grown, *rollback)
            code, output = commands.run(*rollback)
            assert code == 0, output
            assert observer.world() == before
    assert kills >= ROUNDS


def to_put_back(plan: Plan, journal: Path) -> str:
    """The number that `rollback` wants to hear."""
    with open_journal(journal, plan.digest, "") as opened:
        return str(len(selected(plan, opened.progress)))
