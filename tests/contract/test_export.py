"""What `imdsctl export` writes, run by Terraform and by the AWS CLI against the local AWS."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from tests.contract.test_terraform import Terraform, find_program, find_provider, initialised, plugin_directory

from imdsctl.adapters.hcl_tree import read_hcl

REGIONS = ("us-east-1", "eu-west-1")
SCP = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "DenyV1",
            "Effect": "Deny",
            "Action": "ec2:RunInstances",
            "Resource": "arn:aws:ec2:*:*:instance/*",
            "Condition": {"StringNotEquals": {"ec2:MetadataHttpTokens": "required", "aws:x": "${aws:username} %{x}"}},
        }
    ],
}
DECLARED = {"ec2_attributes": {"instance_metadata_defaults": {"http_tokens": {"@@assign": "required"}}}}


@pytest.fixture
def client(start_local: Callable[..., Any]) -> Iterator[tuple[Any, Callable[..., Any]]]:
    """A local AWS without instances of three accounts: its shell, and what makes boto3 clients."""
    shell = start_local("--accounts", "3", "--instances", "0", "--seed", "11")
    made: list[Any] = []

    def make(service: str, region: str = "us-east-1", keys: dict[str, str] | None = None) -> Any:
        env = shell.env
        made.append(
            boto3.client(
                service,
                region_name=region,
                endpoint_url=env["AWS_ENDPOINT_URL"],
                aws_access_key_id=keys["AccessKeyId"] if keys else env["AWS_ACCESS_KEY_ID"],
                aws_secret_access_key=keys["SecretAccessKey"] if keys else env["AWS_SECRET_ACCESS_KEY"],
                aws_session_token=keys["SessionToken"] if keys else None,
            )
        )
        return made[-1]

    yield shell, make
    for each in made:
        each.close()


def defaults_of(ec2: Any) -> dict[str, Any]:
    return dict(ec2.get_instance_metadata_defaults()["AccountLevel"])


def test_export(client: tuple[Any, Callable[..., Any]], tmp_path: Path) -> None:
    shell, make = client
    me = make("sts").get_caller_identity()["Account"]
    api = make("organizations")
    [root] = api.list_roots()["Roots"]
    member, declared = sorted(each["Id"] for each in api.list_accounts()["Accounts"] if each["Id"] != me)
    api.enable_policy_type(RootId=root["Id"], PolicyType="DECLARATIVE_POLICY_EC2")
    api.enable_aws_service_access(ServicePrincipal="ec2.amazonaws.com")
    scp = {"Name": 'deny "${v1}"', "Description": "said by hand", "Type": "SERVICE_CONTROL_POLICY"}
    scp_id = api.create_policy(Content=json.dumps(SCP), **scp)["Policy"]["PolicySummary"]["Id"]
    api.attach_policy(PolicyId=scp_id, TargetId=member)
    ec2_policy = {"Name": "imdsv2", "Description": "", "Type": "DECLARATIVE_POLICY_EC2"}
    ec2_policy_id = api.create_policy(Content=json.dumps(DECLARED), **ec2_policy)["Policy"]["PolicySummary"]["Id"]
    api.attach_policy(PolicyId=ec2_policy_id, TargetId=declared)
    virginia, ireland = make("ec2"), make("ec2", "eu-west-1")
    virginia.modify_instance_metadata_defaults(HttpTokens="required", HttpTokensEnforced="enabled")
    before = defaults_of(virginia), defaults_of(ireland)

    scanned = shell.imdsctl("scan", "--accounts", f"{me},{member}", "--regions", ",".join(REGIONS))
    assert scanned.returncode == 0, scanned.stderr
    made = shell.imdsctl("export", "terraform", "-o", str(tmp_path), "--own-account", me)
    assert made.returncode == 0, made.stderr
    assert "4 Region defaults" in made.stderr

    terraform = initialised(shell, tmp_path, "")
    terraform("fmt", "-check", "-diff")
    terraform("validate")
    told = terraform("apply", "-auto-approve")
    assert "4 imported, 4 added, 0 changed, 0 destroyed" in told
    assert (defaults_of(virginia), defaults_of(ireland)) == before  # also what the provider has no argument for
    terraform("plan", "-detailed-exitcode")

    ireland.modify_instance_metadata_defaults(HttpTokens="optional")
    told = terraform("plan", "-detailed-exitcode", expect=2)
    assert "0 to add, 1 to change, 0 to destroy" in told
    assert told.count("will be updated in-place") == 1
    assert f"aws_ec2_instance_metadata_defaults.a{me}_eu_west_1 will be" in told
    assert '"optional" -> "no-preference"' in told


@pytest.fixture
def for_provider_6(client: tuple[Any, Callable[..., Any]], tmp_path: Path) -> tuple[Any, Path]:
    """A shell, and an export of one account for provider 6."""
    shell, make = client
    me = make("sts").get_caller_identity()["Account"]
    shell.imdsctl("scan", "--accounts", me, "--regions", ",".join(REGIONS))
    made = shell.imdsctl("export", "terraform", "-o", str(tmp_path), "--own-account", me, "--provider", "6")
    assert made.returncode == 0, made.stderr
    return shell, tmp_path


def test_what_is_for_provider_6_parses(for_provider_6: tuple[Any, Path]) -> None:
    shell, folder = for_provider_6
    Terraform(shell, find_program(), folder, "")("fmt", "-check", "-diff")
    text = (folder / "region_defaults.tf").read_text()
    read = read_hcl("region_defaults.tf", text)
    assert isinstance(read, tuple)
    assert [text.count(f'region                      = "{each}"') for each in REGIONS] == [1, 1]


def test_what_is_for_provider_6_is_valid(for_provider_6: tuple[Any, Path]) -> None:
    shell, folder = for_provider_6
    provider = find_provider(6)
    if provider is None:
        pytest.skip("Terraform's AWS provider 6 is nowhere on the disk: what is for it is parsed, but not validated")
    terraform = Terraform(shell, find_program(), folder, "")
    terraform("init", "-backend=false", f"-plugin-dir={plugin_directory(provider, folder / 'plugins')}")
    terraform("validate")


def said_by(template: str, ec2: Any) -> list[Any]:
    named = ec2.describe_launch_template_versions(LaunchTemplateId=template, Versions=["$Default", "$Latest"])
    return [
        (version["VersionNumber"], version["LaunchTemplateData"]["MetadataOptions"])
        for version in named["LaunchTemplateVersions"]
    ]


def test_the_script_and_its_inverse(client: tuple[Any, Callable[..., Any]], tmp_path: Path) -> None:
    shell, make = client
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    api = make("organizations")
    me = make("sts").get_caller_identity()["Account"]
    member = next(each["Id"] for each in api.list_accounts()["Accounts"] if each["Id"] != me)
    role = f"arn:aws:iam::{member}:role/OrganizationAccountAccessRole"
    there = make("sts").assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
    ec2 = make("ec2", "eu-west-1", there)
    data = {"InstanceType": "t3.micro", "MetadataOptions": {"HttpTokens": "optional", "HttpPutResponseHopLimit": 2}}
    template = ec2.create_launch_template(LaunchTemplateName="web", LaunchTemplateData=data)["LaunchTemplate"]
    ec2.modify_instance_metadata_defaults(HttpTokens="optional", InstanceMetadataTags="enabled")
    before = defaults_of(ec2), said_by(template["LaunchTemplateId"], ec2)

    scanned = shell.imdsctl("scan", "--accounts", member, "--regions", "eu-west-1")
    assert scanned.returncode == 0, scanned.stderr
    file, undo = tmp_path / "change.sh", tmp_path / "change.undo.sh"
    made = shell.imdsctl("export", "cli", "-o", str(file))
    assert made.stdout.splitlines() == [str(file), str(undo)], made.stderr

    ran = shell.run("bash", str(file), PATH=path)
    assert ran.returncode == 0, ran.stderr
    assert defaults_of(ec2) == {
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 2,
        "InstanceMetadataTags": "enabled",
        "HttpTokensEnforced": "enabled",
        "ManagedBy": "account",
    }
    [(number, options)] = said_by(template["LaunchTemplateId"], ec2)
    assert (number, options["HttpTokens"], options["HttpPutResponseHopLimit"]) == (2, "required", 2)

    ran = shell.run("bash", str(undo), PATH=path)
    assert ran.returncode == 0, ran.stderr
    assert (defaults_of(ec2), said_by(template["LaunchTemplateId"], ec2)) == before
