"""Terraform's AWS provider, unmodified, against Auto Scaling: apply, an empty plan, refresh, import, destroy."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.contract.test_terraform import Attached, attached, client

__all__ = ["attached", "client"]  # the fixtures

CONFIGURATION = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "size" { default = 2 }
variable "tokens" { default = "optional" }

provider "aws" { region = "us-east-1" }

data "aws_ami" "al2" {
  most_recent = true
  owners      = ["amazon"]
  filter {
    name   = "name"
    values = ["amzn2-ami-kernel-5.10-hvm-*-x86_64-gp2"]
  }
}

data "aws_subnets" "default" {
  filter {
    name   = "availability-zone"
    values = ["us-east-1a", "us-east-1b"]
  }
}

resource "aws_launch_configuration" "plain" {
  name_prefix   = "plain-"
  image_id      = data.aws_ami.al2.id
  instance_type = "t3.micro"
  user_data     = "#!/bin/sh\\n"
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = var.tokens
    http_put_response_hop_limit = 2
  }
  root_block_device {
    volume_size = 20
    volume_type = "gp3"
  }
  lifecycle { create_before_destroy = true }
}

resource "aws_launch_template" "base" {
  name          = "base"
  image_id      = data.aws_ami.al2.id
  instance_type = "t3.small"
  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = var.tokens
    http_put_response_hop_limit = 1
  }
}

resource "aws_autoscaling_group" "configured" {
  name                 = "configured"
  min_size             = 1
  max_size             = 5
  desired_capacity     = var.size
  launch_configuration = aws_launch_configuration.plain.name
  vpc_zone_identifier  = data.aws_subnets.default.ids
  enabled_metrics      = ["GroupMinSize", "GroupMaxSize"]
  tag {
    key                 = "Role"
    value               = "web"
    propagate_at_launch = true
  }
}

resource "aws_autoscaling_group" "templated" {
  name               = "templated"
  min_size           = 1
  max_size           = 5
  desired_capacity   = var.size
  availability_zones = ["us-east-1a", "us-east-1b"]
  suspended_processes = ["AZRebalance"]
  launch_template {
    id      = aws_launch_template.base.id
    version = aws_launch_template.base.latest_version
  }
  instance_refresh {
    strategy = "Rolling"
    preferences { min_healthy_percentage = 50 }
  }
}

resource "aws_autoscaling_group" "mixed" {
  name_prefix         = "mixed-"
  min_size            = 0
  max_size            = 4
  desired_capacity    = var.size
  vpc_zone_identifier = data.aws_subnets.default.ids
  force_delete        = true
  mixed_instances_policy {
    launch_template {
      launch_template_specification {
        launch_template_id = aws_launch_template.base.id
        version            = "$Latest"
      }
      override { instance_type = "m5.large" }
      override { instance_type = "m5a.large" }
    }
    instances_distribution {
      on_demand_base_capacity                  = 1
      on_demand_percentage_above_base_capacity = 0
      spot_allocation_strategy                 = "price-capacity-optimized"
    }
  }
}

data "aws_autoscaling_groups" "all" {
  depends_on = [aws_autoscaling_group.configured, aws_autoscaling_group.templated, aws_autoscaling_group.mixed]
}

data "aws_autoscaling_group" "templated" { name = aws_autoscaling_group.templated.name }

output "groups" { value = length(data.aws_autoscaling_groups.all.names) }
"""


def instances(ec2: Any, group: str) -> list[dict[str, Any]]:
    """The instances of a group that run."""
    filters = [
        {"Name": "tag:aws:autoscaling:groupName", "Values": [group]},
        {"Name": "instance-state-name", "Values": ["running"]},
    ]
    return [each for page in ec2.describe_instances(Filters=filters)["Reservations"] for each in page["Instances"]]


def tokens(ec2: Any, group: str) -> list[str]:
    return [each["MetadataOptions"]["HttpTokens"] for each in instances(ec2, group)]


def test_groups_live_and_die(client: tuple[Any, Callable[..., Any]], attached: Attached, tmp_path: Path) -> None:
    _, make = client
    ec2, autoscaling = make("ec2"), make("autoscaling")
    terraform = attached(CONFIGURATION)

    terraform("apply", "-auto-approve")
    assert terraform.outputs()["groups"] == 3
    assert tokens(ec2, "configured") == tokens(ec2, "templated") == ["optional"] * 2
    assert {each["InstanceType"] for each in instances(ec2, "templated")} == {"t3.small"}
    terraform("plan", "-detailed-exitcode")

    # More of them; the template's new version starts a refresh, a new launch configuration does not.
    before = {each["InstanceId"] for each in instances(ec2, "templated")}
    changed = ("-var", "size=3", "-var", "tokens=required")
    terraform("apply", "-auto-approve", *changed)
    assert sorted(tokens(ec2, "configured")) == ["optional", "optional", "required"]
    assert tokens(ec2, "templated") == ["required"] * 3
    assert not before & {each["InstanceId"] for each in instances(ec2, "templated")}
    terraform("plan", "-detailed-exitcode", *changed)

    resources = json.loads(terraform("show", "-json"))["values"]["root_module"]["resources"]
    imported = {each["address"]: each["values"]["id"] for each in resources if each["mode"] == "managed"}
    addresses = ("aws_launch_configuration.plain", "aws_autoscaling_group.configured")
    terraform("state", "rm", *addresses)
    blocks = (f'import {{\n  to = {each}\n  id = "{imported[each]}"\n}}\n' for each in addresses)
    (tmp_path / "imports.tf").write_text("".join(blocks))
    told = terraform("apply", "-auto-approve", *changed)  # also what only the configuration knows, such as force_delete
    assert "2 imported, 0 added" in told
    terraform("plan", "-detailed-exitcode", *changed)

    terraform("destroy", "-auto-approve", *changed)
    assert autoscaling.describe_auto_scaling_groups()["AutoScalingGroups"] == []
    assert autoscaling.describe_launch_configurations()["LaunchConfigurations"] == []
    assert instances(ec2, "configured") == instances(ec2, "templated") == []
