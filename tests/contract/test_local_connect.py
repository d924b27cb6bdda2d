"""`imdsctl local connect`, with what AWS's own clients make of the endpoint: each in a process, over sockets."""

from __future__ import annotations

import asyncio
import http.client
import json
from base64 import b64decode
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.credentials import InstanceMetadataProvider
from botocore.utils import InstanceMetadataFetcher
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509 import load_pem_x509_certificates

from imdsctl.adapters.local_metadata import describe, remote_responder
from imdsctl.adapters.local_registry import Registry, directory
from imdsctl.imds.messages import Access, Request
from imdsctl.local.generator import make_world
from imdsctl.local.region_generator import generate_region

TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
ALLOW_ALL = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


class Connected:
    """An instance of the shared local AWS that has a role, and its endpoint."""

    def __init__(self, place: Any, client: Any) -> None:
        self.place = place
        iam = client("iam")
        if not any(each["RoleName"] == "connected" for each in iam.list_roles()["Roles"]):
            iam.create_role(RoleName="connected", AssumeRolePolicyDocument=json.dumps(TRUST))
            iam.put_role_policy(RoleName="connected", PolicyName="p", PolicyDocument=json.dumps(ALLOW_ALL))
            iam.create_instance_profile(InstanceProfileName="connected")
            iam.add_role_to_instance_profile(InstanceProfileName="connected", RoleName="connected")
        launched = place.launch(place.image_without, IamInstanceProfile={"Name": "connected"})
        self.id = launched["InstanceId"]
        self.said = self.connect()
        self.endpoint = self.said["endpoint"]

    def connect(self, *more: str) -> dict[str, Any]:
        done = self.place.shell.imdsctl("local", "connect", self.id, "--json", *more)
        assert done.returncode == 0, done.stderr
        return dict(json.loads(done.stdout))

    def get(self, path: str, method: str = "GET", headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(urlsplit(self.endpoint).netloc, timeout=10)
        try:
            connection.request(method, path, headers=dict(headers or {}))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


@pytest.fixture(scope="module")
def place(shared_place: Any) -> Any:
    """One Region for all of them: each has instances of its own."""
    return shared_place


@pytest.fixture
def connected(place: Any, client: Any) -> Connected:
    return Connected(place, client)


def test_boto3_finds_the_instances_credentials_and_works_with_them(connected: Connected, client: Any) -> None:
    assert (connected.said["instance"], connected.said["role"]) == (connected.id, "connected")
    for tokens in ("optional", "required"):
        connected.place.ec2.modify_instance_metadata_options(
            InstanceId=connected.id, HttpTokens=tokens, HttpEndpoint="enabled"
        )
        fetcher = InstanceMetadataFetcher(num_attempts=1, config={"ec2_metadata_service_endpoint": connected.endpoint})
        found = InstanceMetadataProvider(iam_role_fetcher=fetcher).load()
        assert found is not None
        frozen = found.get_frozen_credentials()
        given = {
            "AccessKeyId": frozen.access_key,
            "SecretAccessKey": frozen.secret_key,
            "SessionToken": frozen.token,
        }
        identity = client("sts", connected.place.region, given).get_caller_identity()
        assert identity["Arn"].endswith(f":assumed-role/connected/{connected.id}")
        assert client("ec2", connected.place.region, given).describe_instances(InstanceIds=[connected.id])
    assert connected.get("/latest/meta-data/instance-id")[0] == 401


def test_a_shell_becomes_the_instance(connected: Connected) -> None:
    done = connected.place.shell.imdsctl("local", "connect", connected.id)
    assert done.returncode == 0, done.stderr
    exports, unset = done.stdout.rstrip().rpartition("\n")[::2]
    assert (
        unset == "unset AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_PROFILE AWS_EC2_METADATA_DISABLED"
    )
    assert f"{connected.id} ({connected.place.account_id}, {connected.place.region}, running)" in done.stderr
    there = connected.place.shell.exporting(exports)
    said = there.aws("sts", "get-caller-identity", **dict.fromkeys(unset.split()[1:]))
    assert said.returncode == 0, said.stderr
    assert json.loads(said.stdout)["Arn"].endswith(f":assumed-role/connected/{connected.id}")


def test_the_endpoint_stays_while_the_instance_stops_and_starts(connected: Connected) -> None:
    assert connected.connect()["endpoint"] == connected.endpoint
    assert connected.connect("--listen", "1")["endpoint"] == connected.endpoint
    assert connected.get("/latest/meta-data/instance-id") == (200, connected.id.encode())
    connected.place.ec2.stop_instances(InstanceIds=[connected.id])
    with pytest.raises((http.client.RemoteDisconnected, ConnectionError)):
        connected.get("/latest/meta-data/instance-id")
    connected.place.ec2.start_instances(InstanceIds=[connected.id])
    assert connected.get("/latest/meta-data/instance-id") == (200, connected.id.encode())


def test_what_cannot_be_connected_is_said(connected: Connected) -> None:
    def refused(*arguments: str) -> tuple[int, str]:
        done = connected.place.shell.imdsctl("local", "connect", *arguments)
        assert done.stdout == ""
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr.partition("]")[0]

    taken = str(urlsplit(connected.endpoint).port)
    other = connected.place.launch(connected.place.image_without)["InstanceId"]
    assert refused("i-0none", "--account", connected.place.account_id, "--region", connected.place.region) == (
        2,
        "error[instance-unknown",
    )
    assert refused(other, "--listen", taken) == (1, "error[port-in-use")
    assert refused(other, "--port", "1") == (1, "error[local-not-running")
    connected.place.ec2.terminate_instances(InstanceIds=[other])
    assert refused(other) == (1, "error[instance-not-running")


def test_another_process_answers_for_the_instance(connected: Connected) -> None:
    [entry] = Registry(directory(connected.place.shell.env)).entries()
    instance = describe(entry, connected.id)
    assert (instance.account_id, instance.region) == (connected.place.account_id, connected.place.region)

    async def ask() -> None:
        respond = remote_responder(entry, instance)
        try:
            reply = await respond(Request("GET", b"/latest/meta-data/instance-id"))
            assert (reply.status, reply.access) == (200, Access.V1)
            assert reply.content.endswith(b"\r\n\r\n" + connected.id.encode())
            both = await asyncio.gather(*(respond(Request("GET", b"/latest/meta-data/mac")) for _ in range(5)))
            assert {each.status for each in both} == {200}
            connected.place.ec2.stop_instances(InstanceIds=[connected.id])
            with pytest.raises(ConnectionError, match="stopped"):
                await respond(Request("GET", b"/latest/meta-data/instance-id"))
        finally:
            await respond.aclose()

    asyncio.run(ask())


def test_the_printed_certificate_verifies_the_identity_document(connected: Connected) -> None:
    printed = connected.place.shell.imdsctl("local", "certificate")
    assert printed.returncode == 0, printed.stderr
    for_rsa, for_dsa = load_pem_x509_certificates(printed.stdout.encode())
    document = connected.get("/latest/dynamic/instance-identity/document")[1]
    assert json.loads(document)["instanceId"] == connected.id
    signature = b64decode(connected.get("/latest/dynamic/instance-identity/signature")[1])
    for_rsa.public_key().verify(signature, document, PKCS1v15(), SHA256())
    assert "DSA" in type(for_dsa.public_key()).__name__


def test_an_event_is_announced_to_the_instance(connected: Connected) -> None:
    done = connected.place.shell.imdsctl("local", "notify", connected.id, "--event", "system-reboot", "--in-hours", "3")
    assert done.returncode == 0, done.stderr
    event_id = done.stdout.partition("EventId ")[2].partition(",")[0]
    [event] = json.loads(connected.get("/latest/meta-data/events/maintenance/scheduled")[1])
    assert event["EventId"] == event_id
    assert connected.place.shell.imdsctl("local", "notify", connected.id, "--cancel", event_id).returncode == 0
    assert json.loads(connected.get("/latest/meta-data/events/maintenance/scheduled")[1]) == []
    for wrong in (("--spot-interruption",), ("--rebalance", "--event", "system-reboot")):
        done = connected.place.shell.imdsctl("local", "notify", connected.id, *wrong)
        assert (done.returncode, done.stdout) == (2, "")


def test_what_was_counted_outlives_the_server(start_local: Any, session: Any) -> None:
    options = ("--state", "state", "--accounts", "1", "--instances", "3")
    shell = start_local(*options)

    def client(service: str) -> Any:
        env = shell.env
        return session.client(
            service,
            region_name="us-west-2",
            endpoint_url=env["AWS_ENDPOINT_URL"],
            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        )

    ec2 = client("ec2")
    images = ec2.describe_images(Owners=["amazon"])["Images"]
    image = next(each["ImageId"] for each in images if each["Name"].startswith("amzn2-ami-kernel"))
    kind = (
        "t4g.micro"
        if next(each for each in images if each["ImageId"] == image)["Architecture"] == "arm64"
        else "t3.micro"
    )
    launched = ec2.run_instances(ImageId=image, InstanceType=kind, MinCount=1, MaxCount=1)
    instance_id = launched["Instances"][0]["InstanceId"]
    ec2.close()
    found = json.loads(shell.imdsctl("local", "connect", instance_id, "--json").stdout)
    for _ in range(3):
        connection = http.client.HTTPConnection(urlsplit(found["endpoint"]).netloc, timeout=10)
        connection.request("GET", "/latest/meta-data/instance-id")
        assert connection.getresponse().read() == instance_id.encode()
        connection.close()
    assert shell.imdsctl("local", "down").returncode == 0
    with pytest.raises(ConnectionError):
        http.client.HTTPConnection(urlsplit(found["endpoint"]).netloc, timeout=10).request("GET", "/")

    up = shell.imdsctl("local", "up", "--detach", "--port", "0", "--state", "state")
    assert up.returncode == 0, up.stderr
    shell = shell.exporting(shell.imdsctl("local", "env").stdout)
    cloudwatch = client("cloudwatch")
    now = datetime.now(UTC)
    [metric] = cloudwatch.get_metric_statistics(
        Namespace="AWS/EC2",
        MetricName="MetadataNoToken",
        Dimensions=[{"Name": "InstanceId", "Value": instance_id}],
        StartTime=now - timedelta(hours=1),
        EndTime=now + timedelta(minutes=5),
        Period=7200,
        Statistics=["Sum"],
    )["Datapoints"]
    cloudwatch.close()
    assert metric["Sum"] == 3

    # An instance in a Region that nobody has touched is found by its id alone.
    [entry] = Registry(directory(shell.env)).entries()
    world = make_world(entry.spec)
    elsewhere = next(iter(generate_region(world, world.management.id, "eu-north-1").instances))
    connected = shell.imdsctl("local", "connect", elsewhere, "--json", AWS_REGION="us-east-1")
    assert connected.returncode == 0, connected.stderr
    assert json.loads(connected.stdout)["region"] == "eu-north-1"
