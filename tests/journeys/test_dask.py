"""A sweep shared by Dask's workers, as processes: a lost worker's accounts are read again, and the scan is the same."""

from __future__ import annotations

import asyncio
import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from tests.contract.postgresql import PASSWORD, postgresql
from tests.journeys.stalling import stalling

from imdsctl.adapters.aws import open_aws
from imdsctl.adapters.dask_sweep import dask_sweep
from imdsctl.adapters.database import ScanDatabase
from imdsctl.domain.observations import Target
from imdsctl.domain.verdicts import NOT_REACHED
from imdsctl.fleet.events import Event, TargetRead
from imdsctl.fleet.scan import SweepStopped, header_of
from imdsctl.fleet.selection import Selection
from imdsctl.fleet.targets import find_accounts

REGIONS = "us-east-1,eu-west-1"
COLUMNS = "account_id, region, default_verdict, instances_exposed, instances_enforced, unseen, document"
SECONDS_MAX = 120
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
SIGNED_IN = 10
"""More answers than it takes to sign in, fewer than it takes to read one account's Regions."""


@dataclass
class Cluster:
    """A scheduler and workers on this machine."""

    directory: Path
    env: dict[str, str]
    address: str = ""
    processes: list[subprocess.Popen[str]] = field(default_factory=list)
    logs: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Start the scheduler; returns when it listens."""
        scheduler = self._start("dask_scheduler", "--port", "0", waits_for="Scheduler at:")
        self.address = scheduler.rpartition(" ")[2].strip()

    def worker(self, **changed: str | None) -> int:
        """Start a worker with its own environment (None: without that variable); its process id, when it is there."""
        options = ("--nthreads", "1", "--no-nanny", "--memory-limit", "0", "--local-directory", str(self.directory))
        self._start("dask_worker", self.address, *options, waits_for="Registered to:", **changed)
        return self.processes[-1].pid

    def stop(self) -> None:
        """End everything; the logs are written then."""
        for process in self.processes:
            process.kill()
            process.wait()
        for log in self.logs:
            log.join()

    def _start(self, module: str, *options: str, waits_for: str, **changed: str | None) -> str:
        log = self.directory / f"{module}-{len(self.processes)}.log"
        read, write = os.pipe()
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{module}", *options, "--host", "127.0.0.1", "--no-dashboard"],
            env={name: value for name, value in {**self.env, **changed}.items() if value is not None},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=write,
            text=True,
        )
        self.processes.append(process)
        os.close(write)
        lines = os.fdopen(read)
        found = next((line for line in lines if waits_for in line), "")

        def drain() -> None:
            with lines:
                log.write_text(lines.read())

        self.logs.append(threading.Thread(target=drain))
        self.logs[-1].start()
        assert found, f"{module} did not start"
        return found


@pytest.fixture
def cluster(tmp_path: Path, organization: Any) -> Iterator[Cluster]:
    made = Cluster(tmp_path, {**organization.env, "TMPDIR": str(tmp_path)})
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.fixture(scope="module")
def organization(start_local: Callable[..., Any]) -> Any:
    return start_local("--accounts", "6", "--instances", "60", "--seed", "5")


def rows(file: Path) -> list[tuple[Any, ...]]:
    """What a scan's database says of its targets, documents included."""
    connection = sqlite3.connect(file)
    found = connection.execute(f"SELECT {COLUMNS} FROM targets ORDER BY account_id, region").fetchall()
    connection.close()
    return found


def scan(shell: Any, *options: str, **changed: str | None) -> subprocess.Popen[str]:
    where = () if "--resume" in options else ("--regions", REGIONS)
    return subprocess.Popen(
        [sys.executable, "-m", "imdsctl", "scan", *where, "--json", *options],
        env={name: value for name, value in {**shell.env, **changed}.items() if value is not None},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> dict[str, Any]:
    """The scan as JSON without what differs between two runs: times, its id, and how many calls it took."""
    output, errors = process.communicate(timeout=SECONDS_MAX)
    assert process.returncode == 0, errors
    found: dict[str, Any] = json.loads(output)
    return {name: value for name, value in found.items() if name not in ("scan_id", "started", "finished", "calls")}


@pytest.fixture(scope="module")
def alone(organization: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], list[tuple[Any, ...]]]:
    """What one machine sees."""
    file = tmp_path_factory.mktemp("alone") / "scans.sqlite3"
    return ended(scan(organization, "--db", str(file))), rows(file)


def test_a_worker_that_is_killed_in_the_middle_changes_nothing(
    cluster: Cluster, organization: Any, alone: Any, tmp_path: Path
) -> None:
    file = tmp_path / "scans.sqlite3"
    cluster.worker()
    with stalling(organization.env["AWS_ENDPOINT_URL"], after=SIGNED_IN) as (url, stalled):
        victim = cluster.worker(AWS_ENDPOINT_URL=url)
        process = scan(organization, "--db", str(file), "--dask", cluster.address)
        assert stalled.wait(SECONDS_MAX)
        os.kill(victim, 9)
        found = ended(process)
    assert (found, rows(file)) == alone


def test_what_a_scan_leaves_out_its_workers_leave_out_too(
    cluster: Cluster, organization: Any, alone: Any, tmp_path: Path
) -> None:
    cluster.worker()
    file = tmp_path / "scans.sqlite3"
    found = ended(scan(organization, "--db", str(file), "--dask", cluster.address, "--no-services"))
    assert any(each["services"] for each in alone[0]["targets"])
    assert not any(each["services"] for each in found["targets"])
    assert found["scope"] == {"regions": REGIONS, "no-services": "yes"}


async def stopped_in_the_middle(address: str, file: Path, stalled: threading.Event) -> tuple[set[Target], Any]:
    """A shared sweep whose time is over when one worker has read an account and the other waits for AWS.

    Gives what was heard to be read, and how the sweep ended.
    """
    selection, stop, heard = Selection(regions=tuple(REGIONS.split(","))), asyncio.Event(), set[Target]()

    def look() -> None:
        if stalled.is_set() and heard:
            stop.set()

    def hear(event: Event) -> None:
        if isinstance(event, TargetRead):
            heard.add(event.target)
            look()

    loop = asyncio.get_running_loop()
    waiting = threading.Thread(target=lambda: stalled.wait(SECONDS_MAX) and loop.call_soon_threadsafe(look))
    waiting.start()
    async with open_aws(None) as aws:
        visit = await find_accounts(aws, selection)
        header = header_of(selection, visit, scan_id="stopped", started=NOON)
        writer = ScanDatabase(str(file)).begin(header)
        with pytest.raises(SweepStopped) as ended:
            await dask_sweep(
                address,
                [(None, aws)],
                selection,
                visit,
                writer,
                database=None,
                now=lambda: NOON,
                tell=hear,
                stop=stop,
            )
    waiting.join()
    return heard, ended.value


def test_a_sweep_whose_time_is_over_keeps_what_every_worker_read_and_is_gone_on_with(
    cluster: Cluster, organization: Any, alone: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "scans.sqlite3"
    for name, value in organization.env.items():
        monkeypatch.setenv(name, value)
    cluster.worker()
    with stalling(organization.env["AWS_ENDPOINT_URL"], after=SIGNED_IN) as (url, stalled):
        stuck = cluster.worker(AWS_ENDPOINT_URL=url)
        heard, ended_by = asyncio.run(stopped_in_the_middle(cluster.address, file, stalled))
        os.kill(stuck, 9)
    kept = {Target(account_id, region) for account_id, region, *_ in rows(file)}
    left = [each for each in ended_by.unseen if each.unseen.code == NOT_REACHED]
    assert len(left) == ended_by.not_reached > 0
    missing = {
        Target(each.account_id, region)
        for each in left
        for region in ([each.region] if each.region else REGIONS.split(","))
    }
    assert heard <= kept
    assert kept.isdisjoint(missing)
    assert kept | missing == {Target(account_id, region) for account_id, region, *_ in alone[1]}

    gone_on_with = ended(scan(organization, "--db", str(file), "--resume", "--dask", cluster.address))
    assert (gone_on_with, rows(file)) == alone


def test_a_time_limit_ends_a_shared_scan_as_it_ends_one_of_one_machine(
    cluster: Cluster, organization: Any, tmp_path: Path
) -> None:
    options = ("--db", str(tmp_path / "scans.sqlite3"), "--time-limit", "1s")
    with stalling(organization.env["AWS_ENDPOINT_URL"], after=SIGNED_IN) as (url, _):
        cluster.worker(AWS_ENDPOINT_URL=url)
        process = scan(organization, *options, "--dask", cluster.address)
        output, errors = process.communicate(timeout=SECONDS_MAX)
    found = json.loads(output)
    assert process.returncode == 1, errors
    assert (found["complete"], found["targets"]) == (False, [])
    assert "NotReached" in {each["code"] for each in found["unknown"]}
    assert "warning[scan-unfinished]: the scan was stopped by its time limit of 1 second: " in errors
    assert f"imdsctl scan --resume {found['scan_id']}" in errors


def test_profiles_of_two_organizations_are_shared_out_as_one_machine_scans_them(
    cluster: Cluster, organization: Any, start_local: Callable[..., Any], tmp_path: Path
) -> None:
    config = tmp_path / "config"
    with config.open("w") as file:
        for name, shell in (
            ("one", organization),
            ("two", start_local("--accounts", "3", "--instances", "20", "--seed", "6")),
        ):
            file.write(f"[profile {name}]\nregion = us-east-1\n")
            for variable in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
                key = variable.lower() if "KEY" in variable else "endpoint_url"
                file.write(f"{key} = {shell.env[variable]}\n")
    mine: dict[str, str | None] = {name: None for name in organization.env if name.startswith("AWS_")}
    mine["AWS_CONFIG_FILE"] = str(config)
    both = ("--profile", "two", "--profile", "one")
    files = [tmp_path / f"{name}.sqlite3" for name in ("alone", "shared")]
    expected = ended(scan(organization, *both, "--db", str(files[0]), **mine))
    assert len({each["account_id"] for each in expected["targets"]}) == 3 + 6
    cluster.worker(**mine)  # one worker gets shards of two accounts: one of them is of both organizations
    found = ended(scan(organization, *both, "--db", str(files[1]), "--dask", cluster.address, **mine))
    assert (found, rows(files[1])) == (expected, rows(files[0]))


def test_workers_write_into_a_shared_postgresql_and_get_no_password(
    cluster: Cluster, organization: Any, alone: Any, tmp_path: Path
) -> None:
    with postgresql() as server:
        url = server.new_place()
        cluster.worker(PGPASSWORD=PASSWORD)
        cluster.worker(PGPASSWORD=PASSWORD)
        found = ended(scan(organization, "--db", url, "--dask", cluster.address))
        written = server.sql(
            f"SELECT {COLUMNS} FROM targets ORDER BY account_id, region", schema=url.rpartition("%3D")[2]
        )
        assert (found, written) == alone

        # Another account's credentials on the workers' side would make another scan: refused.
        caller = organization.aws("sts", "get-caller-identity", "--query", "Account", "--output", "text").stdout.strip()
        account = next(each["account_id"] for each in found["targets"] if each["account_id"] != caller)
        role = f"arn:aws:iam::{account}:role/OrganizationAccountAccessRole"
        query = "Credentials.[AccessKeyId,SecretAccessKey,SessionToken]"
        assumed = organization.aws(
            *("sts", "assume-role", "--role-arn", role, "--role-session-name", "member"),
            *("--query", query, "--output", "text"),
        )
        assert assumed.returncode == 0, assumed.stderr
        names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
        member = dict(zip(names, assumed.stdout.split(), strict=True))
        refused = organization.imdsctl(
            "scan", "--current-account", "--regions", "us-east-1", "--db", url, "--dask", cluster.address, **member
        )
    assert refused.returncode == 1
    assert "error[dask-worker-identity]" in refused.stderr
    cluster.stop()
    logs = "".join(log.read_text() for log in tmp_path.glob("*.log"))
    assert PASSWORD not in logs + refused.stderr
