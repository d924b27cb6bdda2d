"""Terraform's AWS provider, unmodified, against Parameter Store: the data source, the resource, a launch by it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.contract.test_terraform import Attached, attached, client

__all__ = ["attached", "client"]  # the fixtures

CONFIGURATION = """
terraform {
  required_providers {
    aws = { source = "hashicorp/aws" }
  }
}

variable "value" { default = "one" }

provider "aws" { region = "us-east-1" }

data "aws_ssm_parameter" "image" {
  name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"
}

resource "aws_ssm_parameter" "plain" {
  name        = "/app/plain"
  type        = "String"
  value       = var.value
  description = "what the app reads"
  tags        = { Team = var.value }
}

resource "aws_ssm_parameter" "secret" {
  name  = "/app/secret"
  type  = "SecureString"
  value = "hush"
}

resource "aws_ssm_parameter" "golden" {
  name      = "/app/image"
  type      = "String"
  data_type = "aws:ec2:image"
  value     = data.aws_ssm_parameter.image.insecure_value
}

resource "aws_launch_template" "golden" {
  name          = "golden"
  image_id      = "resolve:ssm:${aws_ssm_parameter.golden.name}"
  instance_type = "t3.micro"
}

resource "aws_instance" "web" {
  launch_template { id = aws_launch_template.golden.id }
  metadata_options { http_tokens = "required" }
}

output "image" { value = data.aws_ssm_parameter.image.insecure_value }
output "launched" { value = aws_instance.web.ami }
"""


def test_parameters_live_and_die(client: tuple[Any, Callable[..., Any]], attached: Attached) -> None:
    _, make = client
    terraform = attached(CONFIGURATION)

    terraform("apply", "-auto-approve")
    outputs = terraform.outputs()
    assert outputs["launched"] == outputs["image"]

    told = terraform("apply", "-auto-approve", "-var", "value=two")
    assert "0 added, 1 changed, 0 destroyed" in told  # nothing else differed from what was applied
    ssm = make("ssm")
    assert ssm.get_parameter(Name="/app/plain")["Parameter"]["Value"] == "two"
    terraform("plan", "-detailed-exitcode", "-var", "value=two")
    terraform("state", "rm", "aws_ssm_parameter.secret")
    terraform("import", "-var", "value=two", "aws_ssm_parameter.secret", "/app/secret")
    terraform("plan", "-detailed-exitcode", "-var", "value=two")

    terraform("destroy", "-auto-approve", "-var", "value=two")
    assert ssm.describe_parameters()["Parameters"] == []
