"""AWS's managed policies that can be attached here: the same for every account, under `arn:aws:iam::aws:policy`.

Source: AWS Managed Policy Reference Guide. `ReadOnlyAccess`, `ViewOnlyAccess` and `SecurityAudit` list thousands of
actions there; here they have what they say of the services that this local AWS has.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cache
from typing import Any

from imdsctl.local.call import base32_letters
from imdsctl.local.iam.state import ManagedPolicy, PolicyVersion

ADMINISTRATOR_ACCESS = "arn:aws:iam::aws:policy/AdministratorAccess"

_READ = (
    *("account:Get*", "account:List*", "appstream:Describe*", "autoscaling:Describe*", "cloudtrail:LookupEvents"),
    *("cloudwatch:Describe*", "cloudwatch:Get*", "cloudwatch:List*", "ec2:Describe*", "ec2:Get*"),
    *("elasticmapreduce:Describe*", "elasticmapreduce:List*", "imagebuilder:Get*", "imagebuilder:List*"),
    *("lightsail:Get*", "sqs:Get*", "sqs:List*"),
    *("ecs:Describe*", "ecs:List*", "eks:Describe*", "eks:List*", "elasticbeanstalk:Describe*"),
    *("sagemaker:Describe*", "sagemaker:List*"),
    *("iam:Get*", "iam:List*", "organizations:Describe*", "organizations:List*"),
    *("ssm:Describe*", "ssm:Get*", "ssm:List*", "sts:GetAccessKeyInfo", "sts:GetCallerIdentity"),
)
_VIEW = tuple(each for each in _READ if not each.endswith(":Get*"))


def _allow(*actions: str, resource: str = "*") -> dict[str, Any]:
    return {"Effect": "Allow", "Action": list(actions) if len(actions) > 1 else actions[0], "Resource": resource}


# name: (path, created, description, statements)
_POLICIES: Mapping[str, tuple[str, str, str, Sequence[Mapping[str, Any]]]] = {
    "AdministratorAccess": ("/", "2015-02-06", "Provides full access to AWS services and resources.", [_allow("*")]),
    "PowerUserAccess": (
        "/",
        "2015-02-06",
        "Provides full access to AWS services and resources, but does not allow management of Users and groups.",
        [
            {
                "Effect": "Allow",
                "NotAction": ["iam:*", "organizations:*", "account:*"],
                "Resource": "*",
            },
            _allow(
                *("account:GetAccountInformation", "account:GetGovCloudAccountInformation", "account:GetPrimaryEmail"),
                *("account:ListRegions", "iam:CreateServiceLinkedRole", "iam:DeleteServiceLinkedRole"),
                *("iam:ListRoles", "organizations:DescribeEffectivePolicy", "organizations:DescribeOrganization"),
            ),
        ],
    ),
    "ReadOnlyAccess": ("/", "2015-02-06", "Provides read-only access to AWS services and resources.", [_allow(*_READ)]),
    "SecurityAudit": (
        "/",
        "2015-02-06",
        "The security audit template grants access to read security configuration metadata.",
        [_allow(*_READ)],
    ),
    "ViewOnlyAccess": (
        "/job-function/",
        "2016-11-10",
        "This policy grants permissions to view resources and basic metadata across all AWS services.",
        [_allow(*_VIEW)],
    ),
    "IAMFullAccess": (
        "/",
        "2015-02-06",
        "Provides full access to IAM via the AWS Management Console.",
        [
            _allow(
                *("iam:*", "organizations:DescribeAccount", "organizations:DescribeOrganization"),
                *("organizations:DescribeOrganizationalUnit", "organizations:DescribePolicy"),
                *("organizations:ListChildren", "organizations:ListParents", "organizations:ListPoliciesForTarget"),
                *("organizations:ListRoots", "organizations:ListPolicies", "organizations:ListTargetsForPolicy"),
            )
        ],
    ),
    "IAMReadOnlyAccess": (
        "/",
        "2015-02-06",
        "Provides read only access to IAM via the AWS Management Console.",
        [
            _allow(
                *("iam:GenerateCredentialReport", "iam:GenerateServiceLastAccessedDetails", "iam:Get*", "iam:List*"),
                *("iam:SimulateCustomPolicy", "iam:SimulatePrincipalPolicy"),
            )
        ],
    ),
    "AmazonEC2FullAccess": (
        "/",
        "2015-02-06",
        "Provides full access to Amazon EC2 via the AWS Management Console.",
        [_allow("ec2:*"), _allow("elasticloadbalancing:*"), _allow("cloudwatch:*"), _allow("autoscaling:*")],
    ),
    "AmazonEC2ReadOnlyAccess": (
        "/",
        "2015-02-06",
        "Provides read only access to Amazon EC2 via the AWS Management Console.",
        [
            _allow("ec2:Describe*", "ec2:GetSecurityGroupsForVpc"),
            _allow("elasticloadbalancing:Describe*"),
            _allow("cloudwatch:ListMetrics", "cloudwatch:GetMetricStatistics", "cloudwatch:Describe*"),
            _allow("autoscaling:Describe*"),
        ],
    ),
    "AmazonS3ReadOnlyAccess": (
        "/",
        "2015-02-06",
        "Provides read only access to all buckets via the AWS Management Console.",
        [_allow("s3:Get*", "s3:List*", "s3:Describe*", "s3-object-lambda:Get*", "s3-object-lambda:List*")],
    ),
    "AmazonSSMManagedInstanceCore": (
        "/",
        "2019-03-15",
        "The policy for Amazon EC2 Role to enable AWS Systems Manager service core functionality.",
        [
            _allow(
                *("ssm:DescribeAssociation", "ssm:GetDeployablePatchSnapshotForInstance", "ssm:GetDocument"),
                *("ssm:DescribeDocument", "ssm:GetManifest", "ssm:GetParameter", "ssm:GetParameters"),
                *("ssm:ListAssociations", "ssm:ListInstanceAssociations", "ssm:PutInventory"),
                *("ssm:PutComplianceItems", "ssm:PutConfigurePackageResult", "ssm:UpdateAssociationStatus"),
                *("ssm:UpdateInstanceAssociationStatus", "ssm:UpdateInstanceInformation"),
            ),
            _allow(
                *("ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel"),
                *("ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel"),
            ),
            _allow(
                *("ec2messages:AcknowledgeMessage", "ec2messages:DeleteMessage", "ec2messages:FailMessage"),
                *("ec2messages:GetEndpoint", "ec2messages:GetMessages", "ec2messages:SendReply"),
            ),
        ],
    ),
    "CloudWatchAgentServerPolicy": (
        "/",
        "2018-03-07",
        "Permissions required to use AmazonCloudWatchAgent on servers",
        [
            _allow(
                *("cloudwatch:PutMetricData", "ec2:DescribeVolumes", "ec2:DescribeTags", "logs:PutLogEvents"),
                *("logs:PutRetentionPolicy", "logs:DescribeLogStreams", "logs:DescribeLogGroups"),
                *("logs:CreateLogStream", "logs:CreateLogGroup"),
            ),
            _allow("ssm:GetParameter", resource="arn:aws:ssm:*:*:parameter/AmazonCloudWatch-*"),
        ],
    ),
}


@cache
def aws_managed_policies() -> dict[str, ManagedPolicy]:
    """AWS's policies by ARN. They never change, so all accounts share them."""
    return {policy.arn: policy for policy in (_policy(name) for name in sorted(_POLICIES))}


def _policy(name: str) -> ManagedPolicy:
    path, day, description, statements = _POLICIES[name]
    created = datetime.fromisoformat(day).replace(tzinfo=UTC)
    document = json.dumps({"Version": "2012-10-17", "Statement": list(statements)}, separators=(",", ":"))
    number = int.from_bytes(name.encode(), "big") * 0x9E3779B97F4A7C15
    return ManagedPolicy(
        name=name,
        path=path,
        id="ANPA" + base32_letters(number, 17),
        arn=f"arn:aws:iam::aws:policy{path}{name}",
        created=created,
        updated=created,
        description=description,
        versions={"v1": PolicyVersion("v1", document, created)},
    )
