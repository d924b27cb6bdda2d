"""A sweep shared by Dask's workers, as processes: a lost worker's accounts are read again, and the scan is the same."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from tests.contract.postgresql import PASSWORD, postgresql
from tests.journeys.stalling import stalling

REGIONS = "us-east-1,eu-west-1"
COLUMNS = "account_id, region, default_verdict, instances_exposed, instances_enforced, unseen, document"
SECONDS_MAX = 120
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

    def worker(self, **changed: str) -> int:
        """Start a worker with its own environment; returns its process id when the scheduler has it."""
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

    def _start(self, module: str, *options: str, waits_for: str, **changed: str) -> str:
        log = self.directory / f"{module}-{len(self.processes)}.log"
        read, write = os.pipe()
        process = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.{module}", *options, "--host", "127.0.0.1", "--no-dashboard"],
            env={**self.env, **changed},
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


def scan(shell: Any, *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "imdsctl", "scan", "--regions", REGIONS, "--json", *options],
        env=shell.env,
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
