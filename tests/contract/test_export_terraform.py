"""`imdsctl export terraform` and Terraform itself, against the local AWS: nothing to do, and exactly the drift."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.contract.test_terraform import client, initialised

__all__ = ["client"]
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
