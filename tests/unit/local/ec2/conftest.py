"""A little EC2: a world of two accounts whose Regions are empty, spoken to without a wire."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from imdsctl.local.call import AwsError, Call, Ids
from imdsctl.local.ec2 import OPERATIONS
from imdsctl.local.ec2.public_images import public_image
from imdsctl.local.ec2.state import RegionState
from imdsctl.local.iam.state import InstanceProfile, Role
from imdsctl.local.spec import WorldSpec
from imdsctl.local.world import Account, Organization, World

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
ACCOUNT = "111122223333"
OTHER_ACCOUNT = "444455556666"
ED25519 = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f somebody@example.org"
"""An OpenSSH public key whose 32 bytes count up."""


def empty_region(world: World, account_id: str, region: str) -> RegionState:
    return RegionState(account_id, region, seed=world.seed)


class Ec2:
    """Calls handlers the way the pipeline does: settle what is due, then the handler with a `Call` of its own."""

    def __init__(self, settle_seconds: float = 0.0) -> None:
        accounts = {
            each: Account(each, each, f"{each}@example.org", NOON, "r-root") for each in (ACCOUNT, OTHER_ACCOUNT)
        }
        self.world = World(
            WorldSpec(seed=1, created=NOON, settle_seconds=settle_seconds),
            Organization("o-example", "r-root", ACCOUNT, ()),
            accounts,
            empty_region,
        )
        self.now = NOON
        self.account_id = ACCOUNT
        self.region = "us-east-1"
        self._sequence = 0
        self._templates = 0

    def __call__(self, action: str, **params: Any) -> dict[str, Any]:
        self._sequence += 1
        credentials = self.world.admin_credentials(self.account_id)
        call = Call(
            service="ec2",
            action=action,
            caller=credentials.caller,
            account_id=self.account_id,
            region=self.region,
            params=params,
            now=self.now,
            request_id="request",
            ids=Ids(self.world.seed, self._sequence),
            world=self.world,
        )
        self.state.settle(self.now)
        return dict(OPERATIONS[action].handler(call))

    def refusal(self, action: str, **params: Any) -> tuple[str, str]:
        """The code and the sentence with which a call is refused."""
        with pytest.raises(AwsError) as refused:
            self(action, **params)
        assert refused.value.status in (400, 403)
        return refused.value.code, refused.value.message

    def code(self, action: str, **params: Any) -> str:
        """The code with which a call is refused."""
        return self.refusal(action, **params)[0]

    def wait(self, **time: float) -> None:
        """Let time pass."""
        self.now += timedelta(**time)

    @property
    def state(self) -> RegionState:
        return self.world.region(self.account_id, self.region)

    def key_pair(self, name: str = "ops") -> str:
        """The name of a key pair that was just imported."""
        self("ImportKeyPair", KeyName=name, PublicKeyMaterial=ED25519)
        return name

    def profile(self, name: str = "web") -> str:
        """The ARN of an instance profile that IAM was just given."""
        arn = f"arn:aws:iam::{self.account_id}:instance-profile/{name}"
        made = InstanceProfile(name, "/", f"AIPA{name.upper()}", arn, self.now)
        self.world.iam(self.account_id).profiles[name.lower()] = made
        return arn

    def role(self, name: str, service: str) -> str:
        """The ARN of a role that IAM was just given, and that the service may assume."""
        arn = f"arn:aws:iam::{self.account_id}:role/{name}"
        trust = {"Effect": "Allow", "Principal": {"Service": service}, "Action": "sts:AssumeRole"}
        document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
        role = Role(name, "/", f"AROA{name.upper()}", arn, self.now, trust=document)
        self.world.iam(self.account_id).roles[name.lower()] = role
        return arn

    def template(self, **data: Any) -> str:
        """The id of a launch template of Amazon Linux 2 on a t3.micro, and of `data`."""
        data = {"ImageId": self.image(), "InstanceType": "t3.micro", **data}
        self._templates += 1
        made = self("CreateLaunchTemplate", LaunchTemplateName=f"lt-{self._templates}", LaunchTemplateData=data)
        return str(made["LaunchTemplate"]["LaunchTemplateId"])

    def image(self, family: str = "al2", architecture: str = "x86_64") -> str:
        """A public image's id."""
        return public_image(self.region, family, architecture).id

    def launch(self, count: int = 1, *, family: str = "al2", **params: Any) -> list[dict[str, Any]]:
        """Instances of a type that every image here runs on."""
        params = {"ImageId": self.image(family), "InstanceType": "t3.micro", **params}
        launched: list[dict[str, Any]] = self("RunInstances", MinCount=count, MaxCount=count, **params)["Instances"]
        return launched

    def instances(self, **params: Any) -> list[dict[str, Any]]:
        """What DescribeInstances shows, without the reservations."""
        return [each for group in self("DescribeInstances", **params)["Reservations"] for each in group["Instances"]]

    def options(self, instance_id: str) -> dict[str, Any]:
        """The metadata options of an instance."""
        [instance] = self.instances(InstanceIds=[instance_id])
        shown: dict[str, Any] = instance["MetadataOptions"]
        return shown


@pytest.fixture
def ec2() -> Ec2:
    return Ec2()


@pytest.fixture
def slow_ec2() -> Ec2:
    """Transitions take five seconds."""
    return Ec2(settle_seconds=5.0)
