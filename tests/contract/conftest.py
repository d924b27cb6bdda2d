"""boto3 and the AWS CLI as the other end of a local AWS that is shared by all tests.

Tests that write take a `place` of their own, so they need no clean-up and no order.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.session
import pytest
from botocore.awsrequest import AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError

from imdsctl.adapters.local_server import local_aws
from imdsctl.adapters.state_directory import StateDirectory
from imdsctl.local.generator import make_world
from imdsctl.local.spec import WorldSpec
from imdsctl.wire.http import HttpRequest

ACCOUNTS = 45
ROLE = "OrganizationAccountAccessRole"


@dataclass(frozen=True)
class Place:
    """One account's Region that no other test touches: a client for boto3, a shell for the AWS CLI."""

    account_id: str
    region: str
    ec2: Any
    shell: Any

    def launch(self, image_id: str, **parameters: Any) -> dict[str, Any]:
        """Launch one instance, and what DescribeInstances then says of it."""
        request = {"ImageId": image_id, "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1, **parameters}
        instance_id = self.ec2.run_instances(**request)["Instances"][0]["InstanceId"]
        return self.instance(instance_id)

    def instance(self, instance_id: str) -> dict[str, Any]:
        """What DescribeInstances says of an instance."""
        answer = self.ec2.describe_instances(InstanceIds=[instance_id])
        return dict(answer["Reservations"][0]["Instances"][0])

    def image(self, name: str) -> str:
        """The id of the newest x86_64 image of Amazon whose name matches."""
        filters = [{"Name": "name", "Values": [name]}, {"Name": "architecture", "Values": ["x86_64"]}]
        images = self.ec2.describe_images(Owners=["amazon"], Filters=filters)["Images"]
        return str(max(images, key=lambda image: image["CreationDate"])["ImageId"])

    @property
    def image_with_v2(self) -> str:
        """Amazon Linux 2023: its image says `ImdsSupport=v2.0`."""
        return self.image("al2023-ami-2023*")

    @property
    def image_without(self) -> str:
        """Amazon Linux 2: its image says nothing about the metadata service."""
        return self.image("amzn2-ami-kernel*")


@pytest.fixture(scope="session")
def aws_shell(start_local: Any) -> Any:
    """A shell of the management account of an organization with 45 accounts."""
    return start_local("--accounts", str(ACCOUNTS), "--instances", "4", "--seed", "7", "--regions", "all")


@pytest.fixture(scope="session")
def session() -> boto3.Session:
    """One session: its loaded models are shared by all clients. It finds no credentials of its own."""
    return boto3.Session()


Client = Callable[..., Any]


@pytest.fixture(scope="session")
def client(aws_shell: Any, session: boto3.Session) -> Iterator[Client]:
    """Makes boto3 clients of the local AWS: `client(service, region=..., credentials=...)`."""
    env = aws_shell.env
    made: list[Any] = []

    def make(service: str, region: str = env["AWS_REGION"], credentials: dict[str, Any] | None = None) -> Any:
        given = credentials or {
            "AccessKeyId": env["AWS_ACCESS_KEY_ID"],
            "SecretAccessKey": env["AWS_SECRET_ACCESS_KEY"],
        }
        made.append(
            session.client(
                service,
                region_name=region,
                endpoint_url=env["AWS_ENDPOINT_URL"],
                aws_access_key_id=given["AccessKeyId"],
                aws_secret_access_key=given["SecretAccessKey"],
                aws_session_token=given.get("SessionToken"),
            )
        )
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.fixture(scope="session")
def accounts(client: Client) -> list[dict[str, Any]]:
    """Every account of the organization, as ListAccounts says."""
    return [
        account
        for page in client("organizations").get_paginator("list_accounts").paginate()
        for account in page["Accounts"]
    ]


@pytest.fixture(scope="session")
def places(aws_shell: Any, client: Client) -> Iterator[Place]:
    """Places, one after another; the management account has enough Regions for every test."""
    identity = client("sts").get_caller_identity()
    regions = [each["RegionName"] for each in client("ec2").describe_regions()["Regions"]]

    def make() -> Iterator[Place]:
        for region in regions:
            there = type(aws_shell)(
                aws_shell.home, {**aws_shell.env, "AWS_REGION": region, "AWS_DEFAULT_REGION": region}
            )
            yield Place(identity["Account"], region, client("ec2", region), there)
        raise AssertionError("more tests than Regions: let some share a place")

    return itertools.chain(make())


@pytest.fixture
def place(places: Iterator[Place]) -> Place:
    """A Region of the management account that no other test touches, without a Region default."""
    return without_default(next(places))


@pytest.fixture(scope="module")
def shared_place(places: Iterator[Place]) -> Place:
    """The same for all tests of a file that need nothing but instances of their own."""
    return without_default(next(places))


def without_default(place: Place) -> Place:
    """The place, after its Region default was cleared."""
    place.ec2.modify_instance_metadata_defaults(
        HttpTokens="no-preference",
        HttpPutResponseHopLimit=-1,
        HttpEndpoint="no-preference",
        InstanceMetadataTags="no-preference",
        HttpTokensEnforced="no-preference",
    )
    return place


# -- without a socket ------------------------------------------------------------------------------------------------


class Offline:
    """A local AWS in this process, with a clock that can be moved, a log, and botocore clients for it."""

    def __init__(self, session: botocore.session.Session, state: StateDirectory | None, spec: WorldSpec) -> None:
        self.session = session
        self.offset = timedelta()
        self.bugs: list[str] = []
        self.world = make_world(spec)
        self.aws = local_aws(self.world, state, clock=lambda: datetime.now(UTC) + self.offset, report=self.bugs.append)
        self.management = self.world.management.id

    @property
    def member(self) -> str:
        """The id of an ordinary member account."""
        return list(self.world.accounts)[3]

    def client(
        self,
        service: str,
        account: str | None = None,
        credentials: dict[str, Any] | None = None,
        *,
        region: str = "us-east-1",
        checked: bool = True,
    ) -> Any:
        """A client of an account's administrator (the management account's when none is named), or of `credentials`.

        One that is not `checked` leaves the checking of parameters to the server.
        """
        if credentials is None:
            key = self.world.admin_credentials(account or self.management)
            credentials = {"AccessKeyId": key.access_key_id, "SecretAccessKey": key.secret_access_key}
        client = self.session.create_client(
            service,
            region_name=region,
            endpoint_url="http://127.0.0.1:16925",
            config=Config(retries={"total_max_attempts": 1}, parameter_validation=checked),
            aws_access_key_id=credentials["AccessKeyId"],
            aws_secret_access_key=credentials["SecretAccessKey"],
            aws_session_token=credentials.get("SessionToken"),
        )
        client.meta.events.register("before-send", self._send)
        return client

    def _send(self, request: Any, **_: Any) -> AWSResponse:
        parts = urlsplit(request.url)
        headers = {
            name.lower(): value.decode() if isinstance(value, bytes) else value
            for name, value in request.headers.items()
        }
        headers.setdefault("host", parts.netloc)
        body = request.body or b""
        data = body.encode() if isinstance(body, str) else bytes(body)
        response = self.aws.handle(HttpRequest(request.method, parts.path or "/", parts.query, headers, data))
        assert not self.bugs, self.bugs[-1]
        return AWSResponse(request.url, response.status, dict(response.headers), _Body(response.body))

    @staticmethod
    def refused(call: Callable[[], Any]) -> tuple[str, int, str]:
        """The code, status and message of AWS's refusal."""
        with pytest.raises(ClientError) as caught:
            call()
        response = caught.value.response
        return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Message"]


class _Body:
    """A body, as urllib3 would hand it to botocore."""

    def __init__(self, body: bytes) -> None:
        self.body = body

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        yield self.body


MakeOffline = Callable[..., Offline]


@pytest.fixture(scope="session")
def make_offline() -> Iterator[MakeOffline]:
    """Makes a local AWS: `make_offline(folder=None, **spec)`. One made of the same folder goes on from its log."""
    session = botocore.session.Session()
    created = datetime.now(UTC).replace(microsecond=0)
    opened: list[StateDirectory] = []

    def make(folder: Path | None = None, **spec: Any) -> Offline:
        state = None
        described = WorldSpec(**{"seed": 11, "created": created, "instances": 3, **spec})
        if folder is not None:
            while opened:  # no goodbye for the one before: its process is gone after its last answer
                before = opened.pop()
                before.sync()
                before.close()
            opened.append(state := StateDirectory(folder))
            if state.manifest() is None:
                state.write_manifest(described)
        return Offline(session, state, described)

    yield make
    for state in opened:
        state.close()


@pytest.fixture
def offline(make_offline: MakeOffline) -> Offline:
    """A new local AWS of the default size."""
    return make_offline()


# -- an organization -------------------------------------------------------------------------------------------------


class Org:
    """The management account's view of an offline local AWS, with the few calls that every test makes."""

    def __init__(self, offline: Any) -> None:
        self.offline = offline
        self.api = offline.client("organizations", checked=False)
        self.root = offline.world.organization.root_id
        self.member = offline.member

    @staticmethod
    def declared(message: str | None = None, **settings: Any) -> str:
        """A declarative policy that assigns metadata defaults."""
        attributes: dict[str, Any] = {
            "instance_metadata_defaults": {name: {"@@assign": value} for name, value in settings.items()}
        }
        if message is not None:
            attributes["exception_message"] = {"@@assign": message}
        return json.dumps({"ec2_attributes": attributes})

    def unit(self, name: str = "Team", parent: str | None = None) -> str:
        made = self.api.create_organizational_unit(ParentId=parent or self.root, Name=name)
        return str(made["OrganizationalUnit"]["Id"])

    def policy(self, content: str, name: str = "p", kind: str = "SERVICE_CONTROL_POLICY") -> str:
        made = self.api.create_policy(Name=name, Description="", Type=kind, Content=content)
        return str(made["Policy"]["PolicySummary"]["Id"])

    def declare(self, content: str, target: str | None = None, name: str = "d") -> str:
        """Create and attach a declarative policy, the type enabled if need be."""
        [root] = self.api.list_roots()["Roots"]
        if not any(each["Type"] == "DECLARATIVE_POLICY_EC2" for each in root["PolicyTypes"]):
            self.api.enable_policy_type(RootId=self.root, PolicyType="DECLARATIVE_POLICY_EC2")
        policy = self.policy(content, name, "DECLARATIVE_POLICY_EC2")
        self.api.attach_policy(PolicyId=policy, TargetId=target or self.root)
        return policy

    def attached(self, target: str, kind: str = "SERVICE_CONTROL_POLICY") -> list[str]:
        return [each["Id"] for each in self.api.list_policies_for_target(TargetId=target, Filter=kind)["Policies"]]

    def refused(self, operation: str, **params: Any) -> tuple[str, str | None]:
        """The code of AWS's refusal, and its Reason."""
        with pytest.raises(self.api.exceptions.ClientError) as caught:
            getattr(self.api, operation)(**params)
        response = caught.value.response
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 400
        assert response["Error"]["Message"]
        return response["Error"]["Code"], response.get("Reason")


@pytest.fixture
def make_org(make_offline: MakeOffline) -> Callable[..., Org]:
    """Makes a local AWS as `make_offline` does, seen by its management account."""
    return lambda *folder, **spec: Org(make_offline(*folder, **spec))


@pytest.fixture
def org(make_org: Callable[..., Org]) -> Org:
    """A new organization of the default size."""
    return make_org()
