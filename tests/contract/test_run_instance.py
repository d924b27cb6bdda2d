"""`imdsctl run --instance`: the AWS CLI as on an instance of the local AWS, which holds the options and the role."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tests.contract.needs import with_namespaces

from imdsctl.host.bed import Bed

TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
AS_ON_AN_INSTANCE = dict.fromkeys(
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_EC2_METADATA_DISABLED")
)
AWS = str(Path(sys.executable).parent / "aws")


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    with_namespaces(lambda: Bed().close())


@pytest.fixture(scope="module")
def place(shared_place: Any) -> Any:
    """One Region for all of them: each has instances of its own."""
    return shared_place


@pytest.fixture
def instance_id(place: Any, client: Any) -> str:
    """A running instance with a role that may nothing but say who it is."""
    iam = client("iam")
    if not any(each["RoleName"] == "ran" for each in iam.list_roles()["Roles"]):
        iam.create_role(RoleName="ran", AssumeRolePolicyDocument=json.dumps(TRUST))
        iam.create_instance_profile(InstanceProfileName="ran")
        iam.add_role_to_instance_profile(InstanceProfileName="ran", RoleName="ran")
    launched = place.launch(place.image_without, IamInstanceProfile={"Name": "ran"})
    return str(launched["InstanceId"])


def run(place: Any, *arguments: str) -> tuple[int, str, Any]:
    """Exit code, what the program printed, and the report."""
    file = place.shell.home / "report.json"
    done = place.shell.imdsctl("run", "--report", str(file), *arguments, **AS_ON_AN_INSTANCE)
    assert done.returncode in (0, 3), done.stderr
    return done.returncode, done.stdout, json.loads(file.read_text())


def test_the_aws_cli_is_the_instance_and_its_options_hold_as_they_are_changed(place: Any, instance_id: str) -> None:
    def change(**options: Any) -> None:
        place.ec2.modify_instance_metadata_options(InstanceId=instance_id, HttpEndpoint="enabled", **options)

    cli = ["--instance", instance_id, "--network", "host-loopback", "--hops", "1"]
    cli += ["--", sys.executable, AWS, "sts", "get-caller-identity"]
    change(HttpTokens="optional", HttpPutResponseHopLimit=1)
    code, said, report = run(place, "--fail-on", "v1", *cli)
    assert code == 3, (said, report)
    assert json.loads(said)["Arn"].endswith(f":assumed-role/ran/{instance_id}")
    assert [each["why"] for each in report["verdict"]["reasons"]] == ["fell-back"]

    change(HttpTokens="required", HttpPutResponseHopLimit=report["verdict"]["hop_limit"])
    code, said, report = run(place, "--fail-on", "any-v1-attempt", *cli)
    assert code == 0
    assert json.loads(said)["Arn"].endswith(f":assumed-role/ran/{instance_id}")
    assert report["options"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}
    assert report["verdict"] == {"readiness": "ready", "hop_limit": 2, "reasons": []}


def test_an_instance_that_does_not_run_has_no_service(place: Any, instance_id: str) -> None:
    place.ec2.stop_instances(InstanceIds=[instance_id])
    done = place.shell.imdsctl("run", "--instance", instance_id, "true")
    assert done.returncode == 1
    assert "error[instance-not-running]" in done.stderr
