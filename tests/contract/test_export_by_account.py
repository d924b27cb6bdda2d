"""An organization's Region defaults, templates, instances and policies in Terraform, a root module for each account.

`imdsctl export terraform --by-account`, and Terraform's AWS provider against the local AWS: imported, or created with
the values that are in force; a plan shows what drifted, and nothing else; applied, `imdsctl verify` is clean. Two
accounts in two Regions here; `make soak` does it for 20 accounts in 17 Regions.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.exceptions import ClientError
from tests.contract.test_export import SCP, defaults_of
from tests.contract.test_terraform import Terraform, initialised

from imdsctl.domain.regions import DEFAULT_REGIONS

ACCOUNTS = int(os.environ.get("IMDSCTL_SOAK_TERRAFORM", "2"))
REGIONS = ("us-east-1", "eu-west-1") if ACCOUNTS == 2 else tuple(DEFAULT_REGIONS)
SPARE = 4
"""A generated organization has some accounts that cannot be entered; one more has an EC2 policy."""
V2 = {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}
V1 = {"HttpTokens": "optional", "HttpPutResponseHopLimit": 2}


class Organization:
    """boto3 clients everywhere in a local AWS, and the accounts that can be entered."""

    def __init__(self, shell: Any, stack: ExitStack) -> None:
        self._stack = stack
        self._settings = {
            "endpoint_url": shell.env["AWS_ENDPOINT_URL"],
            "aws_access_key_id": shell.env["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": shell.env["AWS_SECRET_ACCESS_KEY"],
        }
        self.organizations = self._client("organizations", "us-east-1")
        self._sts = self._client("sts", "us-east-1")
        self.me: str = self._sts.get_caller_identity()["Account"]
        self._keys: dict[str, dict[str, str]] = {self.me: {}}
        self._clients: dict[tuple[str, str], Any] = {}
        pages = self.organizations.get_paginator("list_accounts").paginate()
        everybody = sorted(each["Id"] for page in pages for each in page["Accounts"] if each["State"] == "ACTIVE")
        self.members = [each for each in everybody if each != self.me and self._enter(each)]

    def ec2(self, account: str, region: str) -> Any:
        known = self._clients.get((account, region))
        if known is None:
            known = self._clients[account, region] = self._client("ec2", region, **self._keys[account])
        return known

    def defaults(self, accounts: Iterable[str]) -> dict[tuple[str, str], dict[str, Any]]:
        """What every Region's default is."""
        return {(each, region): defaults_of(self.ec2(each, region)) for each in accounts for region in REGIONS}

    def _enter(self, account: str) -> bool:
        role = f"arn:aws:iam::{account}:role/OrganizationAccountAccessRole"
        try:
            keys = self._sts.assume_role(RoleArn=role, RoleSessionName="test")["Credentials"]
        except ClientError:
            return False
        self._keys[account] = {
            "aws_access_key_id": keys["AccessKeyId"],
            "aws_secret_access_key": keys["SecretAccessKey"],
            "aws_session_token": keys["SessionToken"],
        }
        return True

    def _client(self, service: str, region: str, **keys: str) -> Any:
        client: Any = boto3.client(service, region_name=region, **{**self._settings, **keys})
        self._stack.callback(client.close)
        return client


@dataclass(frozen=True)
class Own:
    """A template and an instance that somebody's own code is to have."""

    account: str
    region: str
    template: str
    instance: str
    image: str

    @staticmethod
    def made(world: Organization, account: str, region: str) -> Own:
        ec2 = world.ec2(account, region)
        data = {"InstanceType": "t3.micro", "MetadataOptions": V2}
        template = ec2.create_launch_template(LaunchTemplateName="own", LaunchTemplateData=data)["LaunchTemplate"]
        image = ec2.describe_images(Owners=["amazon"])["Images"][0]["ImageId"]
        launch = {"ImageId": image, "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1, "MetadataOptions": V2}
        [instance] = ec2.run_instances(**launch)["Instances"]
        return Own(account, region, template["LaunchTemplateId"], instance["InstanceId"], image)

    @property
    def addresses(self) -> set[str]:
        return {
            f"aws_launch_template.{self.template}".replace("-", "_"),
            f"aws_instance.{self.instance}".replace("-", "_"),
        }

    def code(self, patches: str) -> str:
        """What the exported patches say, in resources that say the rest too."""
        provider = f"  provider = aws.a{self.account}_{self.region.replace('-', '_')}\n"
        uncommented = re.sub("^# ?", "", patches, flags=re.M)
        template = self._block(uncommented, "aws_launch_template", self.template)
        instance = self._block(uncommented, "aws_instance", self.instance)
        pinned = f'{provider}  name = "own"\n  instance_type = "t3.micro"\n  default_version = 1\n'
        # Arguments of Terraform alone, which no import can know.
        ignored = "  lifecycle {\n    ignore_changes = [user_data_replace_on_change]\n  }\n"
        launched = f'{provider}  ami = "{self.image}"\n  instance_type = "t3.micro"\n{ignored}'
        return template.format(pinned) + instance.format(launched)

    @staticmethod
    def _block(text: str, kind: str, resource: str) -> str:
        """An import block and its resource, with a place for more arguments."""
        address = re.escape(f"{kind}.{resource.replace('-', '_')}")
        found = re.search(rf"(^import {{\n  to = {address}\n.*?^}}\n)(resource .*?\n)(.*?^}}\n)", text, re.M | re.S)
        assert found, address
        block, opening, body = (each.replace("{", "{{").replace("}", "}}") for each in found.groups())
        return f"{block}{opening}{{}}{body}"

    def drift(self, world: Organization) -> None:
        ec2 = world.ec2(self.account, self.region)
        data = {"MetadataOptions": V1}
        ec2.create_launch_template_version(LaunchTemplateId=self.template, SourceVersion="1", LaunchTemplateData=data)
        ec2.modify_launch_template(LaunchTemplateId=self.template, DefaultVersion="2")
        ec2.modify_instance_metadata_options(InstanceId=self.instance, HttpPutResponseHopLimit=5)


def policies(world: Organization, declared: str, content: str) -> tuple[str, str]:
    """An SCP at one account and an EC2 policy at another: their ids."""
    api = world.organizations
    [root] = api.list_roots()["Roots"]
    if all(each["Type"] != "DECLARATIVE_POLICY_EC2" for each in root["PolicyTypes"]):
        api.enable_policy_type(RootId=root["Id"], PolicyType="DECLARATIVE_POLICY_EC2")
    api.enable_aws_service_access(ServicePrincipal="ec2.amazonaws.com")
    made = []
    for kind, text, target in (
        ("SERVICE_CONTROL_POLICY", json.dumps(SCP), world.members[0]),
        ("DECLARATIVE_POLICY_EC2", content, declared),
    ):
        policy = api.create_policy(Name=f"v2 {kind}", Description="", Type=kind, Content=text)["Policy"]
        made.append(policy["PolicySummary"]["Id"])
        api.attach_policy(PolicyId=made[-1], TargetId=target)
    return made[0], made[1]


def of_plan(told: str) -> set[str]:
    return set(re.findall(r"^  # (\S+) (?:will|must) be", told, re.M))


def test_an_organization(start_local: Callable[..., Any], tmp_path: Path) -> None:
    shell = start_local(
        *("--accounts", str(ACCOUNTS + SPARE), "--regions", ",".join(REGIONS)),
        *("--instances", "1", "--v1-percent", "0", "--seed", "12"),
    )
    here = ("--regions", ",".join(REGIONS))
    plan, folder = tmp_path / "plan.json", tmp_path / "terraform"
    assert shell.imdsctl("scan", *here).returncode == 0
    assert shell.imdsctl("plan", "-o", str(plan)).returncode == 0
    done = shell.imdsctl("apply", str(plan), "--confirm", str(json.loads(plan.read_text())["count"]))
    assert done.returncode == 0, done.stderr
    with ExitStack() as stack:
        world = Organization(shell, stack)
        accounts = sorted([world.me, *world.members[: ACCOUNTS - 1]])
        scp, declared = policies(
            world, world.members[ACCOUNTS - 1], shell.imdsctl("policy", "generate", "declarative").stdout
        )
        owned = [Own.made(world, accounts[0], REGIONS[0]), Own.made(world, accounts[-1], REGIONS[-1])]
        entered = ("--accounts", ",".join([world.me, *world.members]))
        assert shell.imdsctl("scan", *here, *entered).returncode == 0
        verified = shell.imdsctl("verify", *here, *entered)
        assert verified.returncode == 0, verified.stdout

        chosen = ("--accounts", ",".join(accounts))
        made = shell.imdsctl(
            "export", "terraform", "-o", str(folder), "--own-account", world.me, "--by-account", *chosen
        )
        assert made.returncode == 0, made.stderr
        assert sorted(each.name for each in folder.iterdir()) == [*accounts, "organization"]
        assert f"{ACCOUNTS * len(REGIONS)} Region defaults" in made.stderr

        before = world.defaults(accounts)
        modules: dict[str, Terraform] = {}
        for name in (*accounts, "organization"):
            mine = [each for each in owned if each.account == name]
            patches = (folder / name / "metadata_options.tf").read_text()
            modules[name] = initialised(shell, folder / name, "".join(each.code(patches) for each in mine))
            told = modules[name]("apply", "-auto-approve")  # which validates, and plans
            imported = 4 if name == "organization" else 2 * len(mine)
            added = 0 if name == "organization" else len(REGIONS)
            counted = f"{imported} imported, {added} added" if imported else f"{added} added"
            assert f"Resources: {counted}, 0 changed, 0 destroyed" in told
        assert world.defaults(accounts) == before

        wrong = {name: set[str]() for name in modules}
        for account, region, values in (
            (accounts[0], REGIONS[0], {"HttpTokens": "no-preference"}),
            (accounts[-1], REGIONS[-1], {"HttpPutResponseHopLimit": 7, "InstanceMetadataTags": "enabled"}),
            (accounts[-1], REGIONS[0], {"HttpEndpoint": "disabled"}),
        ):
            world.ec2(account, region).modify_instance_metadata_defaults(**values)
            wrong[account].add(f"aws_ec2_instance_metadata_defaults.a{account}_{region.replace('-', '_')}")
        for each in owned:
            each.drift(world)
            wrong[each.account] |= each.addresses
        opened = {"ec2_attributes": {"instance_metadata_defaults": {"http_tokens": {"@@assign": "optional"}}}}
        world.organizations.update_policy(PolicyId=declared, Content=json.dumps(opened))
        world.organizations.detach_policy(PolicyId=scp, TargetId=world.members[0])
        wrong["organization"] = {
            f"aws_organizations_policy.v2_declarative_policy_ec2_{declared.replace('-', '_')}",
            f"aws_organizations_policy_attachment.v2_service_control_policy_{scp}_{world.members[0]}".replace("-", "_"),
        }
        unverified = shell.imdsctl("verify", *here, *entered)
        assert unverified.returncode == 1, unverified.stdout

        for name, terraform in modules.items():
            told = terraform("plan", "-detailed-exitcode", "-out", "drift", expect=2 if wrong[name] else 0)
            assert {each.lower() for each in of_plan(told)} == wrong[name]
            if wrong[name]:
                terraform("apply", "drift")
                terraform("plan", "-detailed-exitcode")
        assert world.defaults(accounts) == before
        verified = shell.imdsctl("verify", *here, *entered)
        assert verified.returncode == 0, verified.stdout
