"""Nothing acknowledged is lost: `kill -9` in the middle of writes, start again, and everything that was answered is
there, as it was answered. `make soak` does the same 1,000 times.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

ROUNDS = int(os.environ.get("IMDSCTL_SOAK_ROUNDS", "25"))
ROUNDS_A_WORLD = 25
"""Every round reads the whole world back, which every round makes larger: a long campaign begins anew now and then."""
REGIONS = ("eu-west-1", "us-east-1", "eu-central-1", "ap-south-1")
"""One for each of the clients that write at once."""
ONCE = Config(retries={"total_max_attempts": 1}, max_pool_connections=len(REGIONS))
LASTING = ("InstanceId", "ImageId", "InstanceType", "PrivateIpAddress", "LaunchTime", "ClientToken", "SubnetId")

Facts = dict[tuple[str, ...], Any]
"""What is there, by kind and name."""


def chosen(value: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value.get(name) for name in names}


class Killed:
    """A local AWS in a state directory that is killed again and again, and what it has acknowledged."""

    def __init__(self, shell: Any, state: Path) -> None:
        self.shell = shell
        self.state = state
        self.pid = 0
        self.session = boto3.Session()
        self.clients: dict[tuple[str, str], Any] = {}
        self.settings: Mapping[str, str] = {}
        self.acknowledged: Facts = {}
        self.sent_limits: dict[str, int] = {}  # the hop limit last asked for in a round, acknowledged or not
        self.numbers = itertools.count()

    def start(self) -> None:
        options = ("--state", str(self.state), "--port", "0", "--no-throttle")
        up = self.shell.imdsctl("local", "up", "--detach", *options)
        assert up.returncode == 0, up.stderr
        (server,) = json.loads(self.shell.imdsctl("local", "status", "--json").stdout)["servers"]
        self.pid = server["pid"]
        if not self.settings:  # the keys stay the same; only the port does not
            self.settings = self.shell.exporting(self.shell.imdsctl("local", "env").stdout).env
        for service, region in [("iam", "us-east-1"), *(("ec2", region) for region in REGIONS)]:
            self.clients[service, region] = self.session.client(
                service,
                region_name=region,
                endpoint_url=server["url"],
                aws_access_key_id=self.settings["AWS_ACCESS_KEY_ID"],
                aws_secret_access_key=self.settings["AWS_SECRET_ACCESS_KEY"],
                config=ONCE,
            )

    @property
    def iam(self) -> Any:
        return self.clients["iam", "us-east-1"]

    # -- what is there ------------------------------------------------------------------------------------------------

    def facts(self) -> Facts:
        """Everything of the kinds that are written here."""
        found: Facts = {}
        for page in self.iam.get_paginator("list_users").paginate():
            found |= {("user", each["UserName"]): each for each in page["Users"]}
        for kind, user, *rest in self.acknowledged:
            if kind == "key":
                keys = {
                    each["AccessKeyId"]: each for each in self.iam.list_access_keys(UserName=user)["AccessKeyMetadata"]
                }
                found |= {("key", user, *rest): keys.get(rest[0])}
        for region in REGIONS:
            ec2 = self.clients["ec2", region]
            for page in ec2.get_paginator("describe_instances").paginate(PaginationConfig={"PageSize": 1000}):
                for each in (instance for row in page["Reservations"] for instance in row["Instances"]):
                    tags = each.pop("Tags", ())
                    found["instance", each["InstanceId"]] = each
                    found |= {("tag", each["InstanceId"], tag["Key"]): tag["Value"] for tag in tags}
            for page in ec2.get_paginator("describe_launch_templates").paginate(PaginationConfig={"PageSize": 200}):
                found |= {("template", each["LaunchTemplateId"]): each for each in page["LaunchTemplates"]}
            found["limit", region] = ec2.get_instance_metadata_defaults()["AccountLevel"].get("HttpPutResponseHopLimit")
        return found

    def check(self, now: Facts, before: Facts) -> None:
        """What was there is there, unchanged; what was acknowledged since is there, as it was answered."""
        for key, value in before.items():
            if key[0] not in ("limit", "key"):
                assert now[key] == value, f"{key} has changed"
        for key, answered in self.acknowledged.items():
            if key[0] == "instance":
                assert chosen(now[key], LASTING) == chosen(answered, LASTING)
            elif key[0] != "limit":
                assert now[key] == answered, key
        for region in REGIONS if before else ():
            acknowledged = self.acknowledged.get(("limit", region), before.get(("limit", region)))
            assert now["limit", region] in (acknowledged, self.sent_limits.get(region)), region
        kinds = ("user", "instance", "tag", "template")
        unanswered = [key for key in now if key[0] in kinds and key not in before and key not in self.acknowledged]
        assert not before or len(unanswered) <= len(REGIONS), "only what was under way may be there unanswered"

    # -- what is written ---------------------------------------------------------------------------------------------

    def writes(self, region: str, chance: random.Random, image: str) -> Iterator[Facts]:
        """Writes without end, each of a kind that chance picks; what each one has acknowledged."""
        ec2 = self.clients["ec2", region]
        user = instance = ""  # of its own, the latest
        while True:
            name = f"name-{next(self.numbers)}"
            kind = chance.choice(("instance", "instance", "tag", "limit", "template", "user", "key"))
            if kind == "instance" or (kind == "tag" and not instance):
                answer = ec2.run_instances(ImageId=image, InstanceType="t3.micro", MinCount=1, MaxCount=1)
                instance = answer["Instances"][0]["InstanceId"]
                yield {("instance", instance): answer["Instances"][0]}
            elif kind == "tag":
                ec2.create_tags(Resources=[instance], Tags=[{"Key": name, "Value": region}])
                yield {("tag", instance, name): region}
            elif kind == "limit":
                self.sent_limits[region] = limit = chance.randint(1, 64)
                ec2.modify_instance_metadata_defaults(HttpPutResponseHopLimit=limit)
                yield {("limit", region): limit}
            elif kind == "template":
                data = {"MetadataOptions": {"HttpTokens": "required"}}
                made = ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)["LaunchTemplate"]
                yield {("template", made["LaunchTemplateId"]): made}
            elif kind == "user" or not user:
                made = self.iam.create_user(UserName=name)["User"]
                user = name
                yield {("user", user): made}
            else:
                made = self.iam.create_access_key(UserName=user)["AccessKey"]
                del made["SecretAccessKey"]
                yield {("key", user, made["AccessKeyId"]): made}
                user = ""

    def write_until_killed(self, writes_before: int, chance: random.Random) -> None:
        """Four clients write at once; the server dies as soon as so many writes were acknowledged."""
        self.acknowledged = {}
        self.sent_limits = {}
        lock = threading.Lock()
        seen = 0
        images = {
            region: self.clients["ec2", region].describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
            for region in REGIONS
        }

        def writer(region: str, seed: int) -> None:
            nonlocal seen
            writes = self.writes(region, random.Random(seed), images[region])
            while True:
                try:
                    facts = next(writes)
                except (BotoCoreError, ClientError):
                    return
                with lock:
                    self.acknowledged |= facts
                    seen += 1
                    if seen == writes_before:
                        os.kill(self.pid, signal.SIGKILL)

        with ThreadPoolExecutor(len(REGIONS)) as writers:
            list(writers.map(writer, REGIONS, [chance.getrandbits(32) for _ in REGIONS]))
        assert seen >= writes_before


@pytest.mark.slow
@pytest.mark.parametrize("campaign", range(-(-ROUNDS // ROUNDS_A_WORLD)))
def test_nothing_acknowledged_is_lost_by_kill_9(new_shell: Callable[[], Any], tmp_path: Path, campaign: int) -> None:
    chance = random.Random(11 + campaign)
    server = Killed(new_shell(), tmp_path / "state")
    made = server.shell.imdsctl(
        "local", "up", "--detach", "--state", str(server.state), "--port", "0", "--accounts", "1", "--instances", "2"
    )
    assert made.returncode == 0, made.stderr
    assert server.shell.imdsctl("local", "down").returncode == 0

    before: Facts = {}
    for _ in range(min(ROUNDS_A_WORLD, ROUNDS - campaign * ROUNDS_A_WORLD)):
        server.start()
        now = server.facts()
        server.check(now, before)
        before = now
        server.write_until_killed(chance.randint(1, 12), chance)

    server.start()
    server.check(server.facts(), before)
    assert server.shell.imdsctl("local", "down").returncode == 0
