"""Nothing acknowledged is lost: `kill -9` in the middle of writes, start again, and everything that was answered is
there, as it was answered. `make soak` does the same 1,000 times.
"""

from __future__ import annotations

import json
import os
import random
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

ROUNDS = int(os.environ.get("IMDSCTL_SOAK_ROUNDS", "25"))
WRITERS = 4
ONCE = Config(retries={"total_max_attempts": 1}, max_pool_connections=WRITERS)


class Killed:
    """A local AWS in a state directory that is killed again and again, and what it has acknowledged."""

    def __init__(self, shell: Any, state: Path) -> None:
        self.shell = shell
        self.state = state
        self.acknowledged: dict[str, dict[str, Any]] = {}
        self.pid = 0
        self.ec2: Any = None

    def start(self) -> None:
        options = ("--state", str(self.state), "--port", "0", "--no-throttle")
        up = self.shell.imdsctl("local", "up", "--detach", *options)
        assert up.returncode == 0, up.stderr
        (server,) = json.loads(self.shell.imdsctl("local", "status", "--json").stdout)["servers"]
        self.pid = server["pid"]
        there = self.shell.exporting(self.shell.imdsctl("local", "env").stdout).env
        session = boto3.Session(there["AWS_ACCESS_KEY_ID"], there["AWS_SECRET_ACCESS_KEY"], region_name="eu-west-1")
        self.ec2 = session.client("ec2", endpoint_url=there["AWS_ENDPOINT_URL"], config=ONCE)

    def instances(self) -> dict[str, dict[str, Any]]:
        pages = self.ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 1000})
        return {each["InstanceId"]: each for page in pages for row in page["Reservations"] for each in row["Instances"]}

    def write_until_killed(self, writes_before: int) -> None:
        """Four clients launch instances at once; the server dies as soon as so many were acknowledged."""
        image = self.ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
        lock = threading.Lock()
        seen = 0

        def writer(_: int) -> None:
            nonlocal seen
            while True:
                try:
                    answer = self.ec2.run_instances(ImageId=image, InstanceType="t3.micro", MinCount=1, MaxCount=1)
                except (BotoCoreError, ClientError):
                    return
                with lock:
                    (instance,) = answer["Instances"]
                    self.acknowledged[instance["InstanceId"]] = instance
                    seen += 1
                    if seen == writes_before:
                        os.kill(self.pid, signal.SIGKILL)

        with ThreadPoolExecutor(WRITERS) as writers:
            list(writers.map(writer, range(WRITERS)))
        assert seen >= writes_before


LASTING = ("InstanceId", "ImageId", "InstanceType", "PrivateIpAddress", "LaunchTime", "ClientToken", "SubnetId")


@pytest.mark.slow
def test_nothing_acknowledged_is_lost_by_kill_9(new_shell: Callable[[], Any], tmp_path: Path) -> None:
    chance = random.Random(11)
    server = Killed(new_shell(), tmp_path / "state")
    made = server.shell.imdsctl(
        "local", "up", "--detach", "--state", str(server.state), "--port", "0", "--accounts", "1", "--instances", "2"
    )
    assert made.returncode == 0, made.stderr
    assert server.shell.imdsctl("local", "down").returncode == 0

    before: dict[str, dict[str, Any]] = {}
    for round_ in range(ROUNDS):
        server.start()
        now = server.instances()
        assert {key: now[key] for key in before} == before, f"round {round_}: what was there has changed"
        for key, answered in server.acknowledged.items():
            assert [now[key].get(name) for name in LASTING] == [answered.get(name) for name in LASTING]
        unanswered = now.keys() - before.keys() - server.acknowledged.keys()
        assert round_ == 0 or len(unanswered) <= WRITERS, "only what was under way may be there unanswered"
        before = now
        server.write_until_killed(chance.randint(1, 12))

    server.start()
    assert server.acknowledged.keys() <= server.instances().keys()
    assert server.shell.imdsctl("local", "down").returncode == 0
