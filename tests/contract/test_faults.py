"""A local AWS that misbehaves by `--faults` and `--latency-ms`, with boto3 as the client."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from urllib.request import urlopen

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError, ConnectionClosedError, ReadTimeoutError, ResponseStreamingError

RULES = """
[[rule]]
fault = "throttle"
operation = "Describe[KR]*"
first = 1
each = true

[[rule]]
fault = "500"
operation = "DescribeVpcs"

[[rule]]
fault = "503"
operation = "DescribeSubnets"

[[rule]]
fault = "timeout"
operation = "DescribeImages"

[[rule]]
fault = "reset"
operation = "ModifyInstanceMetadataDefaults"
when = "after"
first = 1

[[rule]]
fault = "truncate"
operation = "DescribeInstances"

[[rule]]
fault = "expired-token"
service = "sts"
operation = "GetSessionToken"

[[rule]]
fault = "access-denied"
service = "organizations"

[[rule]]
fault = "throttle"
service = "cloudwatch"

[[rule]]
fault = "region-down"
region = "ap-*"

[[rule]]
fault = "wrong-clock"
service = "iam"
minutes = 10
"""

Client = Callable[..., Any]


@pytest.fixture(scope="module")
def client(start_local: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Client:
    """Makes clients of a local AWS with RULES, each of which tries once unless told otherwise."""
    rules = tmp_path_factory.mktemp("faults") / "faults.toml"
    rules.write_text(RULES)
    shell = start_local("--accounts", "1", "--instances", "2", "--latency-ms", "1", "--faults", str(rules))
    session = boto3.Session(shell.env["AWS_ACCESS_KEY_ID"], shell.env["AWS_SECRET_ACCESS_KEY"])

    def make(service: str, region: str = "eu-west-1", attempts: int = 1) -> Any:
        config = Config(retries={"total_max_attempts": attempts}, read_timeout=0.2)
        return session.client(service, region_name=region, endpoint_url=shell.env["AWS_ENDPOINT_URL"], config=config)

    return make


@pytest.mark.parametrize(
    ("service", "operation", "code", "status"),
    [
        ("ec2", "describe_key_pairs", "RequestLimitExceeded", 503),
        ("ec2", "describe_vpcs", "InternalError", 500),
        ("ec2", "describe_subnets", "Unavailable", 503),
        ("sts", "get_session_token", "ExpiredToken", 403),
        ("organizations", "describe_organization", "AccessDeniedException", 400),
        ("cloudwatch", "list_metrics", "ThrottlingException", 400),
        ("iam", "list_users", "SignatureDoesNotMatch", 403),
    ],
)
def test_a_refusal_is_in_the_words_of_its_service(
    client: Client, service: str, operation: str, code: str, status: int
) -> None:
    with pytest.raises(ClientError) as refused:
        getattr(client(service), operation)()
    response = refused.value.response
    assert (response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]) == (code, status)


def test_a_client_that_tries_again_gets_through(client: Client) -> None:
    assert client("ec2", "us-east-1", attempts=2).describe_regions()["Regions"]


def test_answers_that_never_come_or_come_in_part_are_seen_as_such(client: Client) -> None:
    with pytest.raises(ReadTimeoutError):
        client("ec2").describe_images(Owners=["self"])
    with pytest.raises((ConnectionClosedError, ResponseStreamingError)):
        client("ec2").describe_instances()
    with pytest.raises(ConnectionClosedError):
        client("ec2", "ap-south-1").get_instance_metadata_defaults()


def test_a_write_whose_answer_is_lost_has_happened(client: Client) -> None:
    ec2 = client("ec2")
    with pytest.raises(ConnectionClosedError):
        ec2.modify_instance_metadata_defaults(HttpTokens="required")
    assert ec2.get_instance_metadata_defaults()["AccountLevel"]["HttpTokens"] == "required"


def test_the_status_counts_what_each_rule_has_hit(client: Client) -> None:
    ec2 = client("ec2")
    with urlopen(f"{ec2.meta.endpoint_url}/_imdsctl/status") as answer:
        before = json.load(answer)["faults"]
    with pytest.raises(ClientError):
        ec2.describe_vpcs()
    with urlopen(f"{ec2.meta.endpoint_url}/_imdsctl/status") as answer:
        after = json.load(answer)["faults"]
    assert [now - then for then, now in zip(before, after, strict=True)] == [0, 1, *[0] * 9]


@pytest.mark.parametrize(
    ("name", "text", "code", "where"),
    [
        ("f.toml", "[[rule]\n", "faults-syntax", "f.toml:1"),
        ("f.json", '{"rule": [', "faults-syntax", "f.json:1"),
        ("f.toml", '[[rule]]\nfault = "500"\n[[rule]]\nfault = "flood"\n', "faults-invalid", "f.toml: rule 2"),
        ("f.json", '[{"fault": "flood"}]', "faults-invalid", "f.json: rule 1"),
        ("f.json", "17", "faults-invalid", "f.json: rule"),
        ("f.toml", None, "faults-unreadable", "f.toml"),
    ],
)
def test_a_file_that_cannot_be_used_starts_nothing(
    shell: Any, name: str, text: str | None, code: str, where: str
) -> None:
    if text is not None:
        (shell.home / name).write_text(text)
    done = shell.imdsctl("local", "up", "--detach", "--port", "0", "--faults", name)
    assert done.returncode == 2
    assert f"error[{code}]" in done.stderr
    assert f"--> {where}" in done.stderr
    assert not (shell.home / "run" / "imdsctl").exists()
