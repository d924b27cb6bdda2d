"""Terraform's AWS provider, unmodified, against the local AWS: apply, an empty plan, change, import, destroy.

Needs the `terraform` program, and the provider as a file in a plugin directory (`terraform init` never downloads it
here): `TF_PLUGIN_DIR`, or one of the usual places.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

PROVIDER = "registry.terraform.io/hashicorp/aws/5.*/*/terraform-provider-aws_v5*"
PLUGIN_DIRECTORIES = (
    os.environ.get("TF_PLUGIN_DIR", ""),
    "~/.terraform.d/plugins",
    "/usr/local/share/terraform/plugins",
    "/usr/share/terraform/plugins",
    "/opt/tf-plugins",
)

CONFIGURATION = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "member" { type = string }
variable "changed" { default = false }

provider "aws" { region = "us-east-1" }

provider "aws" {
  alias  = "frankfurt"
  region = "eu-central-1"
}

provider "aws" {
  alias  = "member"
  region = "eu-west-1"
  assume_role { role_arn = "arn:aws:iam::${var.member}:role/OrganizationAccountAccessRole" }
}

resource "aws_ec2_instance_metadata_defaults" "imdsv2" {
  http_tokens                 = "required"
  instance_metadata_tags      = "disabled"
  http_endpoint               = "enabled"
  http_put_response_hop_limit = var.changed ? 2 : 1
}

resource "aws_ec2_instance_metadata_defaults" "frankfurt" {
  provider                    = aws.frankfurt
  http_tokens                 = "required"
  http_put_response_hop_limit = 2
}

resource "aws_ec2_instance_metadata_defaults" "member" {
  provider               = aws.member
  http_tokens            = "required"
  instance_metadata_tags = "enabled"
}

data "aws_caller_identity" "me" {}

data "aws_caller_identity" "member" { provider = aws.member }

data "aws_regions" "enabled" {}

data "aws_ami" "al2" {
  most_recent = true
  owners      = ["amazon"]
  filter {
    name   = "name"
    values = ["amzn2-ami-kernel-5.10-hvm-*-x86_64-gp2"]
  }
}

data "aws_vpc" "default" { default = true }

data "aws_subnets" "default" {
  filter {
    name   = "vpc-id"
    values = [data.aws_vpc.default.id]
  }
}

data "aws_subnet" "first" { id = sort(data.aws_subnets.default.ids)[0] }

resource "aws_default_vpc" "default" { tags = { Name = "default" } }

resource "aws_ebs_volume" "data" {
  availability_zone = "us-east-1a"
  size              = 10
  type              = "gp3"
  tags              = { Name = var.changed ? "newer" : "data" }
}

resource "aws_ebs_snapshot" "data" {
  volume_id = aws_ebs_volume.data.id
  tags      = { Name = "data" }
}

resource "aws_ami" "own" {
  name                = "own"
  virtualization_type = "hvm"
  root_device_name    = "/dev/xvda"
  ena_support         = true
  imds_support        = "v2.0"
  ebs_block_device {
    device_name = "/dev/xvda"
    snapshot_id = aws_ebs_snapshot.data.id
    volume_size = 10
  }
}

resource "aws_ami_copy" "own" {
  provider          = aws.frankfurt
  name              = "copied"
  source_ami_id     = aws_ami.own.id
  source_ami_region = "us-east-1"
}

resource "aws_ami_from_instance" "explicit" {
  name               = "from-instance"
  source_instance_id = aws_instance.explicit.id
}

resource "aws_key_pair" "ops" {
  key_name   = "ops"
  public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f ops@example.org"
}

resource "aws_security_group" "web" {
  name   = "web"
  vpc_id = aws_default_vpc.default.id
  ingress {
    description = "https"
    from_port   = 443
    to_port     = 443
    protocol    = "tcp"
    cidr_blocks = var.changed ? ["10.0.0.0/8", "192.168.0.0/16"] : ["10.0.0.0/8"]
  }
  ingress {
    from_port = 0
    to_port   = 0
    protocol  = "-1"
    self      = true
  }
  egress {
    from_port        = 0
    to_port          = 0
    protocol         = "-1"
    cidr_blocks      = ["0.0.0.0/0"]
    ipv6_cidr_blocks = ["::/0"]
  }
}

resource "aws_launch_template" "fixed" {
  name          = "fixed"
  image_id      = data.aws_ami.al2.id
  instance_type = "t3.small"
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "optional"
    http_put_response_hop_limit = 3
  }
}

resource "aws_launch_template" "growing" {
  name                   = "growing"
  instance_type          = "t3.small"
  update_default_version = true
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = var.changed ? "required" : "optional"
    http_put_response_hop_limit = 1
  }
}

resource "aws_instance" "explicit" {
  depends_on    = [aws_ec2_instance_metadata_defaults.imdsv2]
  ami           = data.aws_ami.al2.id
  instance_type = "t3.micro"
  user_data     = "#!/bin/sh\\n"
  tags          = { Name = "explicit" }
  credit_specification { cpu_credits = "standard" }
  metadata_options {
    http_tokens                 = var.changed ? "required" : "optional"
    http_put_response_hop_limit = 2
    instance_metadata_tags      = "enabled"
  }
}

resource "aws_instance" "inherited" {
  depends_on             = [aws_ec2_instance_metadata_defaults.imdsv2]
  ami                    = data.aws_ami.al2.id
  instance_type          = "t3.micro"
  key_name               = aws_key_pair.ops.key_name
  subnet_id              = data.aws_subnet.first.id
  private_ip             = cidrhost(data.aws_subnet.first.cidr_block, 100)
  vpc_security_group_ids = [aws_security_group.web.id]
  root_block_device {
    volume_size = 20
    encrypted   = true
    tags        = { Name = "root" }
  }
}

resource "aws_instance" "templated" {
  launch_template {
    id      = aws_launch_template.fixed.id
    version = "$Latest"
  }
}

resource "aws_instance" "from_image" {
  provider      = aws.frankfurt
  ami           = aws_ami_copy.own.id
  instance_type = "m5.large"
}

data "aws_instances" "v1" {
  depends_on = [aws_instance.explicit, aws_instance.inherited, aws_instance.templated]
  filter {
    name   = "metadata-options.http-tokens"
    values = ["optional"]
  }
}

output "accounts" { value = [data.aws_caller_identity.me.account_id, data.aws_caller_identity.member.account_id] }
output "regions" { value = length(data.aws_regions.enabled.names) }
output "v1" { value = sort(data.aws_instances.v1.ids) }
output "ids" {
  value = {
    explicit  = aws_instance.explicit.id
    inherited = aws_instance.inherited.id
    templated = aws_instance.templated.id
  }
}
output "tokens" {
  value = {
    explicit  = aws_instance.explicit.metadata_options[0].http_tokens
    inherited = aws_instance.inherited.metadata_options[0].http_tokens
    templated = aws_instance.templated.metadata_options[0].http_tokens
    image     = aws_instance.from_image.metadata_options[0].http_tokens
  }
}
"""


def missing(what: str) -> None:
    """Skip, but not where the project's own checks run: there a missing tool would hide a failure."""
    if os.environ.get("CI", "").lower() in ("1", "true"):
        pytest.fail(f"{what}, and CI is set")
    pytest.skip(what)


def plugin_directory() -> Path | None:
    for place in filter(None, PLUGIN_DIRECTORIES):
        directory = Path(place).expanduser()
        if any(directory.glob(PROVIDER)):
            return directory
    return None


class Terraform:
    """A working directory of Terraform in a shell of the local AWS."""

    def __init__(self, shell: Any, program: str, directory: Path, member: str) -> None:
        self.shell, self.program, self.directory = shell, program, directory
        self.settings = {
            "TF_VAR_member": member,
            "TF_IN_AUTOMATION": "1",
            "TF_CLI_CONFIG_FILE": str(directory / "terraformrc"),
            "CHECKPOINT_DISABLE": "1",
        }
        (directory / "terraformrc").write_text("")

    def __call__(self, command: str, *arguments: str, expect: int = 0) -> str:
        done = self.shell.run(
            self.program, f"-chdir={self.directory}", command, *arguments, "-no-color", **self.settings
        )
        assert done.returncode == expect, f"terraform {command}: {done.stdout}\n{done.stderr}"
        return str(done.stdout)

    def outputs(self) -> dict[str, Any]:
        return {name: each["value"] for name, each in json.loads(self("output", "-json")).items()}


@pytest.fixture
def client(start_local: Callable[..., Any]) -> Iterator[tuple[Any, Callable[..., Any]]]:
    """A local AWS without instances of three accounts: its shell, and boto3 clients of the management account."""
    shell = start_local("--accounts", "3", "--instances", "0", "--seed", "11")
    made: list[Any] = []

    def make(service: str, region: str = "us-east-1") -> Any:
        env = shell.env
        made.append(
            boto3.client(
                service,
                region_name=region,
                endpoint_url=env["AWS_ENDPOINT_URL"],
                aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
                aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
            )
        )
        return made[-1]

    yield shell, make
    for each in made:
        each.close()


def options(ec2: Any, instance_id: str) -> dict[str, Any]:
    [reservation] = ec2.describe_instances(InstanceIds=[instance_id])["Reservations"]
    return dict(reservation["Instances"][0]["MetadataOptions"])


def importable(terraform: Terraform) -> dict[str, str]:
    """Addresses of resources that the provider can import, with their import ids."""
    wanted = (
        "aws_ebs_volume.data",
        "aws_ebs_snapshot.data",
        "aws_ami.own",
        "aws_key_pair.ops",
        "aws_security_group.web",
        "aws_launch_template.growing",
        "aws_instance.explicit",
    )
    resources = json.loads(terraform("show", "-json"))["values"]["root_module"]["resources"]
    return {each["address"]: each["values"]["id"] for each in resources if each["address"] in wanted}


def test_life_cycle(client: tuple[Any, Callable[..., Any]], tmp_path: Path) -> None:
    program = shutil.which("terraform")
    plugins = plugin_directory()
    if program is None:
        missing("there is no terraform program on PATH")
    if plugins is None:
        missing("Terraform's AWS provider 5 is in none of the plugin directories (TF_PLUGIN_DIR names another)")
    shell, make = client
    ec2, frankfurt = make("ec2"), make("ec2", "eu-central-1")
    me = make("sts").get_caller_identity()["Account"]
    accounts = make("organizations").list_accounts()["Accounts"]
    member = next(account["Id"] for account in accounts if account["Id"] != me)
    (tmp_path / "main.tf").write_text(CONFIGURATION)
    terraform = Terraform(shell, str(program), tmp_path, member)
    terraform("init", "-backend=false", f"-plugin-dir={plugins}")

    terraform("apply", "-auto-approve")
    shown = terraform.outputs()
    assert shown["accounts"] == [me, member]
    assert shown["regions"] == 17
    # Asked for; from the Region; from the template; from the image in a Region that requires tokens as well.
    assert shown["tokens"] == {
        "explicit": "optional",
        "inherited": "required",
        "templated": "optional",
        "image": "required",
    }
    ids = shown["ids"]
    assert shown["v1"] == sorted([ids["explicit"], ids["templated"]])
    assert options(ec2, ids["inherited"])["HttpPutResponseHopLimit"] == 1
    assert frankfurt.describe_images(Owners=["self"])["Images"][0]["ImdsSupport"] == "v2.0"
    terraform("plan", "-detailed-exitcode")

    changed = ("-var", "changed=true")
    told = terraform("apply", "-auto-approve", *changed)
    assert "0 added, 5 changed, 0 destroyed" in told
    assert options(ec2, ids["explicit"])["HttpTokens"] == "required"
    account_level = ec2.get_instance_metadata_defaults()["AccountLevel"]
    assert (account_level["HttpTokens"], account_level["HttpPutResponseHopLimit"]) == ("required", 2)
    assert options(ec2, ids["inherited"])["HttpPutResponseHopLimit"] == 1  # defaults do not touch what runs
    terraform("plan", "-detailed-exitcode", *changed)

    # (The provider's aws_ec2_instance_metadata_defaults has no import in 5.100: it says so itself.)
    for address, resource_id in importable(terraform).items():
        terraform("state", "rm", address)
        terraform("import", *changed, address, resource_id)
    terraform(
        "apply", "-auto-approve", *changed
    )  # what only the configuration knows, such as user_data_replace_on_change
    terraform("plan", "-detailed-exitcode", *changed)

    terraform("destroy", "-auto-approve", *changed)
    assert ec2.get_instance_metadata_defaults()["AccountLevel"] == {"ManagedBy": "account"}
    assert ec2.describe_volumes()["Volumes"] == []
    assert [group["GroupName"] for group in ec2.describe_security_groups()["SecurityGroups"]] == ["default"]
    for region in (ec2, frankfurt):
        assert region.describe_images(Owners=["self"])["Images"] == []
        assert region.describe_snapshots(OwnerIds=["self"])["Snapshots"] == []


ORGANIZATION = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "member" { type = string }
variable "changed" { default = false }

provider "aws" { region = "us-east-1" }

data "aws_organizations_organization" "it" {}

resource "aws_organizations_organizational_unit" "team" {
  name      = var.changed ? "crew" : "team"
  parent_id = data.aws_organizations_organization.it.roots[0].id
  tags      = { stage = var.changed ? "prod" : "dev" }
}

resource "aws_organizations_policy" "scp" {
  name = "defaults-are-not-yours"
  content = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Deny"
      Action   = var.changed ? "ec2:Modify*" : "ec2:ModifyInstanceMetadataDefaults"
      Resource = "*"
    }]
  })
}

resource "aws_organizations_policy" "declared" {
  name = "imdsv2"
  type = "DECLARATIVE_POLICY_EC2"
  content = jsonencode({
    ec2_attributes = { instance_metadata_defaults = { http_tokens = { "@@assign" = "required" } } }
  })
}

resource "aws_organizations_policy_attachment" "scp" {
  policy_id = aws_organizations_policy.scp.id
  target_id = aws_organizations_organizational_unit.team.id
}

resource "aws_organizations_policy_attachment" "declared" {
  policy_id = aws_organizations_policy.declared.id
  target_id = var.member
}

resource "aws_organizations_account" "new" {
  name              = "new"
  email             = "new@example.org"
  close_on_deletion = true
}

resource "aws_organizations_delegated_administrator" "ec2" {
  account_id        = var.member
  service_principal = "ec2.amazonaws.com"
}

output "account" { value = aws_organizations_account.new.id }
"""


def test_an_organization(client: tuple[Any, Callable[..., Any]], tmp_path: Path) -> None:
    program, plugins = shutil.which("terraform"), plugin_directory()
    if program is None or plugins is None:
        missing("there is no terraform program on PATH, or no AWS provider 5 in any of the plugin directories")
    shell, make = client
    api = make("organizations")
    [_, member, *_] = [account["Id"] for account in api.list_accounts()["Accounts"]]
    [root] = api.list_roots()["Roots"]
    # What the provider's resource for the organization itself would do; this organization exists already.
    api.enable_policy_type(RootId=root["Id"], PolicyType="DECLARATIVE_POLICY_EC2")
    api.enable_aws_service_access(ServicePrincipal="ec2.amazonaws.com")
    (tmp_path / "main.tf").write_text(ORGANIZATION)
    terraform = Terraform(shell, str(program), tmp_path, member)
    terraform("init", "-backend=false", f"-plugin-dir={plugins}")

    terraform("apply", "-auto-approve")
    made = terraform.outputs()["account"]
    assert api.describe_account(AccountId=made)["Account"]["State"] == "ACTIVE"
    effective = api.describe_effective_policy(PolicyType="DECLARATIVE_POLICY_EC2", TargetId=member)["EffectivePolicy"]
    assert "required" in effective["PolicyContent"]
    terraform("plan", "-detailed-exitcode")

    changed = ("-var", "changed=true")
    assert "0 added, 2 changed, 0 destroyed" in terraform("apply", "-auto-approve", *changed)
    terraform("plan", "-detailed-exitcode", *changed)

    terraform("destroy", "-auto-approve", *changed)
    assert api.describe_account(AccountId=made)["Account"]["State"] == "CLOSED"
    assert [each["Id"] for each in api.list_policies(Filter="SERVICE_CONTROL_POLICY")["Policies"]] == [
        "p-FullAWSAccess"
    ]
    assert api.list_policies(Filter="DECLARATIVE_POLICY_EC2")["Policies"] == []
    assert api.list_delegated_administrators()["DelegatedAdministrators"] == []
