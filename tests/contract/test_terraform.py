"""Terraform's AWS provider, unmodified, against the local AWS: apply, an empty plan, change, import, destroy.

Needs the `terraform` program, and the provider as a file on the disk (`terraform init` never downloads it here):
`TF_PLUGIN_DIR` names its plugin directory, otherwise it is searched for.
"""

from __future__ import annotations

import fnmatch
import json
import os
import platform
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import boto3
import pytest
from tests.contract.needs import missing

PLUGIN_DIRECTORIES = (
    os.environ.get("TF_PLUGIN_DIR", ""),
    "~/.terraform.d/plugins",
    "~/.terraform.d/plugin-cache",
    "/usr/local/share/terraform/plugins",
    "/usr/share/terraform/plugins",
    "/opt/tf-plugins",
)
GARBAGE_PERCENT = "400"
"""When Go's collector runs: the provider loads its thousand schemas in a fifth less CPU than with its own 100."""
NOT_ON_A_DISK = ("/proc", "/sys", "/dev", "/run")

CONFIGURATION = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "changed" { default = false }

provider "aws" { region = "us-east-1" }

resource "aws_ec2_instance_metadata_defaults" "imdsv2" {
  http_tokens                 = "required"
  instance_metadata_tags      = "disabled"
  http_endpoint               = "enabled"
  http_put_response_hop_limit = var.changed ? 2 : 1
}

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

resource "aws_default_subnet" "b" {
  availability_zone = "us-east-1b"
  tags              = { Name = var.changed ? "newer" : "default" }
}

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

resource "aws_ami_from_instance" "explicit" {
  name               = "from-instance"
  source_instance_id = aws_instance.explicit.id
}

resource "aws_key_pair" "ops" {
  key_name   = "ops"
  public_key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f ops@example.org"
  lifecycle { ignore_changes = [public_key] } # which the provider does not import
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

resource "aws_launch_template" "whole" {
  name          = "whole"
  image_id      = data.aws_ami.al2.id
  instance_type = "t3.micro"
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = var.changed ? 3 : 2
    http_protocol_ipv6          = "enabled"
    instance_metadata_tags      = "enabled"
  }
}

resource "aws_iam_role" "web" {
  name = "web"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "ec2.amazonaws.com" } }]
  })
}

resource "aws_iam_instance_profile" "web" {
  name = "web"
  role = aws_iam_role.web.name
}

resource "aws_spot_instance_request" "spot" {
  depends_on    = [aws_ec2_instance_metadata_defaults.imdsv2]
  ami           = data.aws_ami.al2.id
  instance_type = "t3.micro"
  spot_type     = "one-time"
  subnet_id     = aws_default_subnet.b.id
  tags          = { Name = var.changed ? "newer" : "spot" }
  # The provider does not read these, so that every request it imports would be replaced.
  lifecycle { ignore_changes = [user_data_replace_on_change, secondary_private_ips] }
}

resource "aws_ec2_fleet" "workers" {
  depends_on          = [aws_ec2_instance_metadata_defaults.imdsv2]
  type                = "maintain"
  terminate_instances = false # the provider waits five minutes for the others
  launch_template_config {
    launch_template_specification {
      launch_template_id = aws_launch_template.whole.id
      version            = "1"
    }
    override {
      instance_type = "t3.small"
    }
    override {
      instance_type     = "m5.large"
      weighted_capacity = 2
    }
  }
  target_capacity_specification {
    default_target_capacity_type = "spot"
    total_target_capacity        = var.changed ? 3 : 2
  }
}

resource "aws_iam_role" "spot_fleet" {
  name = "spot-fleet"
  assume_role_policy = jsonencode({
    Version   = "2012-10-17"
    Statement = [{ Effect = "Allow", Action = "sts:AssumeRole", Principal = { Service = "spotfleet.amazonaws.com" } }]
  })
}

resource "aws_spot_fleet_request" "specified" {
  depends_on                    = [aws_ec2_instance_metadata_defaults.imdsv2]
  iam_fleet_role                = aws_iam_role.spot_fleet.arn
  allocation_strategy           = "diversified"
  target_capacity               = var.changed ? 2 : 1
  terminate_instances_on_delete = true
  tags                          = { Name = "specified" }
  launch_specification {
    ami               = data.aws_ami.al2.id
    instance_type     = "t3.small"
    weighted_capacity = "1"
    tags              = { Name = "worker" }
  }
}

resource "aws_instance" "explicit" {
  depends_on    = [aws_ec2_instance_metadata_defaults.imdsv2]
  ami           = data.aws_ami.al2.id
  instance_type = "t3.micro"
  user_data     = "#!/bin/sh\\n"
  tags          = { Name = "explicit" }

  iam_instance_profile = aws_iam_instance_profile.web.name
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

data "aws_instances" "v1" {
  depends_on = [aws_instance.explicit, aws_instance.inherited, aws_instance.templated]
  filter {
    name   = "metadata-options.http-tokens"
    values = ["optional"]
  }
}

output "v1" { value = sort(data.aws_instances.v1.ids) }
output "ids" {
  value = {
    explicit  = aws_instance.explicit.id
    inherited = aws_instance.inherited.id
    templated = aws_instance.templated.id
    spot      = aws_spot_instance_request.spot.id
    fleet     = aws_ec2_fleet.workers.id
    specified = aws_spot_fleet_request.specified.id
  }
}
output "tokens" {
  value = {
    explicit  = aws_instance.explicit.metadata_options[0].http_tokens
    inherited = aws_instance.inherited.metadata_options[0].http_tokens
    templated = aws_instance.templated.metadata_options[0].http_tokens
  }
}
"""


ELSEWHERE = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "member" { type = string }

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

data "aws_ami" "al2023" {
  most_recent = true
  owners      = ["amazon"]
  filter {
    name   = "name"
    values = ["al2023-ami-2023*-x86_64"]
  }
}

resource "aws_ami_copy" "own" {
  provider          = aws.frankfurt
  name              = "copied"
  source_ami_id     = data.aws_ami.al2023.id
  source_ami_region = "us-east-1"
}

resource "aws_instance" "from_image" {
  provider      = aws.frankfurt
  ami           = aws_ami_copy.own.id
  instance_type = "m5.large"
}

output "accounts" { value = [data.aws_caller_identity.me.account_id, data.aws_caller_identity.member.account_id] }
output "regions" { value = length(data.aws_regions.enabled.names) }
output "tokens" { value = aws_instance.from_image.metadata_options[0].http_tokens }
"""


@cache
def find_provider(major: int = 5) -> Path | None:
    """The provider's file: in one of the usual plugin directories, or wherever on the disk it lies."""
    provider = f"terraform-provider-aws_v{major}*"
    layout = f"registry.terraform.io/hashicorp/aws/{major}.*/*/{provider}"
    for place in filter(None, PLUGIN_DIRECTORIES):
        found = next(Path(place).expanduser().glob(layout), None)
        if found is not None:
            return found
    return next(found_on_disk(provider), None)


def found_on_disk(provider: str) -> Iterator[Path]:
    """Every file with the provider's name, which is a pattern. Links are not followed, so that the walk ends."""
    for folder, folders, files in os.walk("/"):
        folders[:] = [name for name in sorted(folders) if os.path.join(folder, name) not in NOT_ON_A_DISK]
        for name in sorted(fnmatch.filter(files, provider)):
            yield Path(folder, name)


def plugin_directory(provider: Path, directory: Path) -> Path:
    """A plugin directory with nothing but this provider, in the layout that `terraform init -plugin-dir` reads."""
    version = provider.name.removeprefix("terraform-provider-aws_v").partition("_")[0]
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    there = directory / f"registry.terraform.io/hashicorp/aws/{version}/{platform.system().lower()}_{machine}"
    there.mkdir(parents=True)
    (there / provider.name).symlink_to(provider)
    return directory


class Terraform:
    """A working directory of Terraform in a shell of the local AWS."""

    def __init__(self, shell: Any, program: str, directory: Path, member: str) -> None:
        self.shell, self.program, self.directory = shell, program, directory
        self.settings = {
            "TF_VAR_member": member,
            "TF_IN_AUTOMATION": "1",
            "GOGC": GARBAGE_PERCENT,
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


Attached = Callable[..., Terraform]


def find_program() -> str:
    """The `terraform` program; skips where it is missing."""
    return shutil.which("terraform") or missing("there is no terraform program on PATH")


def provider_5() -> Path:
    """The provider's file; skips where it is missing."""
    return find_provider() or missing(
        "Terraform's AWS provider 5 is nowhere on the disk (TF_PLUGIN_DIR names a plugin directory)"
    )


def initialised(shell: Any, directory: Path, configuration: str, member: str = "") -> Terraform:
    """Terraform with a configuration, after `terraform init`; skips where the program or the provider is missing."""
    program, provider = find_program(), provider_5()
    (directory / "main.tf").write_text(configuration)
    terraform = Terraform(shell, program, directory, member)
    terraform("init", "-backend=false", f"-plugin-dir={plugin_directory(provider, directory / 'plugins')}")
    # Every command would first read all 700 MB of the provider, to compare it with what `init` read.
    lock = directory / ".terraform.lock.hcl"
    lock.write_text(re.sub(r"hashes = \[.*?\]", "", lock.read_text(), flags=re.S))
    return terraform


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


@pytest.fixture
def attached(client: tuple[Any, Callable[..., Any]], tmp_path: Path) -> Iterator[Attached]:
    """Makes Terraform for a configuration of one Region of one account, served by one process of the provider.

    Terraform starts the provider anew for every step of every command and every alias, and each start costs a second
    of CPU. In the provider's own debug mode it is started once, and all commands are told where it listens; of several
    aliases it would obey the last.
    """
    shell, _ = client
    program, provider = find_program(), provider_5()
    command = [str(provider), "-debug"]
    env = {**shell.env, "GOGC": GARBAGE_PERCENT, "PLUGIN_UNIX_SOCKET_DIR": str(shell.home)}
    with (
        open(shell.home / "provider.log", "w") as log,
        subprocess.Popen(
            command, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        assert process.stdout is not None
        said = (re.search("TF_REATTACH_PROVIDERS='(.*)'", line) for line in process.stdout)
        where = next(filter(None, said), None)
        assert where is not None, (shell.home / "provider.log").read_text()

        def make(configuration: str, member: str = "") -> Terraform:
            (tmp_path / "main.tf").write_text(configuration)
            terraform = Terraform(shell, program, tmp_path, member)
            terraform.settings["TF_REATTACH_PROVIDERS"] = where[1]
            return terraform

        yield make
        process.send_signal(signal.SIGINT)


def instance(ec2: Any, instance_id: str) -> dict[str, Any]:
    [reservation] = ec2.describe_instances(InstanceIds=[instance_id])["Reservations"]
    return dict(reservation["Instances"][0])


def options(ec2: Any, instance_id: str) -> dict[str, Any]:
    return dict(instance(ec2, instance_id)["MetadataOptions"])


def spot_instance(ec2: Any, request_id: str) -> str:
    [request] = ec2.describe_spot_instance_requests(SpotInstanceRequestIds=[request_id])["SpotInstanceRequests"]
    return str(request["InstanceId"])


def spot_instance_state(ec2: Any, request_id: str) -> tuple[str, str]:
    [request] = ec2.describe_spot_instance_requests(SpotInstanceRequestIds=[request_id])["SpotInstanceRequests"]
    return request["State"], instance(ec2, request["InstanceId"])["State"]["Name"]


def of_spot_fleet(ec2: Any, request_id: str) -> list[str]:
    found = ec2.describe_spot_fleet_instances(SpotFleetRequestId=request_id)["ActiveInstances"]
    return [each["InstanceId"] for each in found]


def running(ec2: Any) -> list[str]:
    found = ec2.describe_instances(Filters=[{"Name": "instance-state-name", "Values": ["running"]}])["Reservations"]
    return [each["InstanceId"] for reservation in found for each in reservation["Instances"]]


IMPORTED = {
    "aws_ami.own": "id",
    "aws_default_subnet.b": "id",
    "aws_ebs_snapshot.data": "id",
    "aws_ebs_volume.data": "id",
    "aws_ec2_fleet.workers": "id",
    "aws_iam_instance_profile.web": "id",
    "aws_iam_role.web": "id",
    "aws_instance.explicit": "id",
    "aws_key_pair.ops": "id",
    "aws_launch_template.growing": "id",
    "aws_launch_template.whole": "id",
    "aws_security_group.web": "id",
    "aws_spot_instance_request.spot": "id",
}
"""Addresses of resources that the provider can import, with the attribute that is their import id."""


def imports(terraform: Terraform) -> str:
    """`import` blocks for the resources of the state."""
    resources = json.loads(terraform("show", "-json"))["values"]["root_module"]["resources"]
    values = {each["address"]: each["values"] for each in resources}
    return "".join(
        f'import {{\n  to = {address}\n  id = "{values[address][attribute]}"\n}}\n'
        for address, attribute in IMPORTED.items()
    )


def test_life_cycle(client: tuple[Any, Callable[..., Any]], attached: Attached, tmp_path: Path) -> None:
    _, make = client
    ec2 = make("ec2")
    terraform = attached(CONFIGURATION)

    terraform("apply", "-auto-approve")
    shown = terraform.outputs()
    # Asked for; from the Region; from the template.
    assert shown["tokens"] == {"explicit": "optional", "inherited": "required", "templated": "optional"}
    ids = shown["ids"]
    assert shown["v1"] == sorted([ids["explicit"], ids["templated"]])
    assert options(ec2, ids["inherited"])["HttpPutResponseHopLimit"] == 1
    assert instance(ec2, ids["explicit"])["IamInstanceProfile"]["Arn"].endswith(":instance-profile/web")
    # A Spot request and a launch specification of Spot Fleet cannot say anything of it: the Region does.
    assert options(ec2, spot_instance(ec2, ids["spot"]))["HttpTokens"] == "required"
    assert [options(ec2, each)["HttpTokens"] for each in of_spot_fleet(ec2, ids["specified"])] == ["required"]
    workers = [each["InstanceId"] for each in ec2.describe_fleet_instances(FleetId=ids["fleet"])["ActiveInstances"]]
    assert len(workers) == 2
    assert {name: value for name, value in options(ec2, workers[0]).items() if name != "State"} == {
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 2,
        "HttpEndpoint": "enabled",
        "HttpProtocolIpv6": "enabled",
        "InstanceMetadataTags": "enabled",
    }

    # Everything is read again: whatever differed from what was applied would change, too.
    changed = ("-var", "changed=true")
    told = terraform("apply", "-auto-approve", *changed)
    assert "0 added, 10 changed, 0 destroyed" in told
    assert options(ec2, ids["explicit"])["HttpTokens"] == "required"
    account_level = ec2.get_instance_metadata_defaults()["AccountLevel"]
    assert (account_level["HttpTokens"], account_level["HttpPutResponseHopLimit"]) == ("required", 2)
    assert options(ec2, ids["inherited"])["HttpPutResponseHopLimit"] == 1  # defaults do not touch what runs
    assert len(ec2.describe_fleet_instances(FleetId=ids["fleet"])["ActiveInstances"]) == 3
    assert len(of_spot_fleet(ec2, ids["specified"])) == 2
    terraform("plan", "-detailed-exitcode", *changed)

    # The provider's aws_ec2_instance_metadata_defaults has no import in 5.100: it says so itself.
    (tmp_path / "imports.tf").write_text(imports(terraform))
    known = "-refresh=false"  # what was read a moment ago need not be read again
    terraform("state", "rm", *IMPORTED)
    told = terraform("apply", "-auto-approve", known, *changed)
    assert f"{len(IMPORTED)} imported, 0 added" in told
    assert "0 destroyed" in told
    terraform("plan", "-detailed-exitcode", *changed)

    terraform("destroy", "-auto-approve", known, *changed)
    assert ec2.get_instance_metadata_defaults()["AccountLevel"] == {"ManagedBy": "account"}
    assert spot_instance_state(ec2, ids["spot"]) == ("cancelled", "terminated")
    [fleet] = ec2.describe_fleets(FleetIds=[ids["fleet"]])["Fleets"]
    assert fleet["FleetState"] == "deleted_running"
    left = running(ec2)
    assert len(left) == 3  # the fleet's, as terminate_instances = false asks
    ec2.terminate_instances(InstanceIds=left)
    assert ec2.describe_volumes()["Volumes"] == []
    assert [group["GroupName"] for group in ec2.describe_security_groups()["SecurityGroups"]] == ["default"]
    assert ec2.describe_images(Owners=["self"])["Images"] == []
    assert ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"] == []


def test_other_regions_and_accounts(client: tuple[Any, Callable[..., Any]], tmp_path: Path) -> None:
    shell, make = client
    frankfurt = make("ec2", "eu-central-1")
    me = make("sts").get_caller_identity()["Account"]
    member = next(each["Id"] for each in make("organizations").list_accounts()["Accounts"] if each["Id"] != me)
    terraform = initialised(shell, tmp_path, ELSEWHERE, member)

    terraform("apply", "-auto-approve")
    shown = terraform.outputs()
    assert shown["accounts"] == [me, member]
    assert shown["regions"] == 17
    assert shown["tokens"] == "required"  # of the image, and of its Region
    assert frankfurt.describe_images(Owners=["self"])["Images"][0]["ImdsSupport"] == "v2.0"
    assert frankfurt.get_instance_metadata_defaults()["AccountLevel"]["HttpPutResponseHopLimit"] == 2
    terraform("plan", "-detailed-exitcode")

    terraform("destroy", "-auto-approve", "-refresh=false")
    assert frankfurt.get_instance_metadata_defaults()["AccountLevel"] == {"ManagedBy": "account"}
    assert frankfurt.describe_images(Owners=["self"])["Images"] == []
    assert frankfurt.describe_snapshots(OwnerIds=["self"])["Snapshots"] == []


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


def test_an_organization(client: tuple[Any, Callable[..., Any]], attached: Attached) -> None:
    _, make = client
    api = make("organizations")
    [_, member, *_] = [account["Id"] for account in api.list_accounts()["Accounts"]]
    [root] = api.list_roots()["Roots"]
    # What the provider's resource for the organization itself would do; this organization exists already.
    api.enable_policy_type(RootId=root["Id"], PolicyType="DECLARATIVE_POLICY_EC2")
    api.enable_aws_service_access(ServicePrincipal="ec2.amazonaws.com")
    terraform = attached(ORGANIZATION, member)

    terraform("apply", "-auto-approve")
    made = terraform.outputs()["account"]
    assert api.describe_account(AccountId=made)["Account"]["State"] == "ACTIVE"
    effective = api.describe_effective_policy(PolicyType="DECLARATIVE_POLICY_EC2", TargetId=member)["EffectivePolicy"]
    assert "required" in effective["PolicyContent"]

    changed = ("-var", "changed=true")  # and nothing else: whatever differed from what was applied would change, too
    assert "0 added, 2 changed, 0 destroyed" in terraform("apply", "-auto-approve", *changed)
    terraform("plan", "-detailed-exitcode", *changed)

    terraform("destroy", "-auto-approve", *changed)
    assert api.describe_account(AccountId=made)["Account"]["State"] == "CLOSED"
    assert [each["Id"] for each in api.list_policies(Filter="SERVICE_CONTROL_POLICY")["Policies"]] == [
        "p-FullAWSAccess"
    ]
    assert api.list_policies(Filter="DECLARATIVE_POLICY_EC2")["Policies"] == []
    assert api.list_delegated_administrators()["DelegatedAdministrators"] == []
