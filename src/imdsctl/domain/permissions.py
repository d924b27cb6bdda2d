"""Which permissions imdsctl needs, for what: one line a call that it makes. A test holds it to the calls it does make.

Source of the action names and of what can be narrowed to a resource: Service Authorization Reference.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

POLICY_VERSION = "2012-10-17"


class Mode(StrEnum):
    """What the credentials are to be good for."""

    READ = "read"
    WRITE = "write"


class Place(StrEnum):
    """Whose credentials make the call."""

    CALLER = "caller"
    """Those that imdsctl is started with: in the management account, or a delegated administrator's."""
    MEMBER = "member"
    """The role in each account; and the caller's own, for the account that it is in."""


@dataclass(frozen=True, slots=True)
class Need:
    """A group of calls with one purpose. `service` is botocore's name, `prefix` IAM's."""

    sid: str
    place: Place
    mode: Mode
    service: str
    prefix: str
    operations: tuple[str, ...]
    why: str
    resource: str = "*"
    """Most describing calls cannot be narrowed; those that write are narrowed as far as AWS allows."""
    condition: Mapping[str, Any] = field(default_factory=dict)
    """What the request has to say: the call can do more than it is needed for."""

    @property
    def actions(self) -> tuple[str, ...]:
        """IAM's names."""
        return tuple(f"{self.prefix}:{operation}" for operation in self.operations)


def _read(sid: str, service: str, prefix: str, why: str, *operations: str, place: Place = Place.MEMBER) -> Need:
    return Need(sid, place, Mode.READ, service, prefix, operations, why)


def _write(
    sid: str,
    service: str,
    prefix: str,
    why: str,
    *operations: str,
    resource: str = "*",
    condition: Mapping[str, Any] | None = None,
) -> Need:
    return Need(sid, Place.MEMBER, Mode.WRITE, service, prefix, operations, why, resource, condition or {})


NEEDS: tuple[Need, ...] = (
    _read(
        "Organization",
        "organizations",
        "organizations",
        "find the accounts, their units and the policies in force",
        "DescribeEffectivePolicy",
        "DescribePolicy",
        "ListAccounts",
        "ListAccountsForParent",
        "ListOrganizationalUnitsForParent",
        "ListPolicies",
        "ListRoots",
        "ListTargetsForPolicy",
        place=Place.CALLER,
    ),
    Need(
        "EnterAccounts",
        Place.CALLER,
        Mode.READ,
        "sts",
        "sts",
        ("AssumeRole",),
        "enter each account through its role",
        "arn:{partition}:iam::*:role/{role}",
    ),
    _read(
        "WatchQueue",
        "sqs",
        "sqs",
        "read CloudTrail's events from the queue of `watch --queue`",
        "DeleteMessage",
        "ReceiveMessage",
        place=Place.CALLER,
    ),
    _read("Regions", "account", "account", "which Regions the account has enabled", "ListRegions"),
    _read(
        "Ec2",
        "ec2",
        "ec2",
        "the Region default, and everything that runs or launches",
        "DescribeFleets",
        "DescribeImages",
        "DescribeInstances",
        "DescribeLaunchTemplateVersions",
        "DescribeLaunchTemplates",
        "DescribeRegions",
        "DescribeSpotFleetRequests",
        "DescribeSpotInstanceRequests",
        "GetInstanceMetadataDefaults",
    ),
    _read(
        "AutoScaling",
        "autoscaling",
        "autoscaling",
        "groups and launch configurations",
        "DescribeAutoScalingGroups",
        "DescribeLaunchConfigurations",
    ),
    _read(
        "AppStream",
        "appstream",
        "appstream",
        "fleets and builders of AppStream",
        "DescribeAppBlockBuilders",
        "DescribeFleets",
        "DescribeImageBuilders",
    ),
    _read(
        "Emr",
        "emr",
        "elasticmapreduce",
        "security configurations of EMR, and which clusters use them",
        "DescribeCluster",
        "DescribeSecurityConfiguration",
        "ListClusters",
        "ListSecurityConfigurations",
    ),
    _read(
        "ImageBuilder",
        "imagebuilder",
        "imagebuilder",
        "infrastructure configurations of Image Builder",
        "GetInfrastructureConfiguration",
        "ListInfrastructureConfigurations",
    ),
    _read("Lightsail", "lightsail", "lightsail", "instances of Lightsail", "GetInstances"),
    _read("UseOfImdsv1", "cloudwatch", "cloudwatch", "evidence of IMDSv1 use, and gates", "GetMetricData"),
    _read("WhoDidIt", "cloudtrail", "cloudtrail", "role deliveries by IMDSv1, and who caused a drift", "LookupEvents"),
    _read(
        "Ecs",
        "ecs",
        "ecs",
        "which instances are hosts of containers",
        "DescribeClusters",
        "DescribeContainerInstances",
        "ListClusters",
        "ListContainerInstances",
    ),
    _read(
        "Eks",
        "eks",
        "eks",
        "node groups and their launch templates",
        "DescribeNodegroup",
        "ListClusters",
        "ListNodegroups",
    ),
    _read(
        "ElasticBeanstalk",
        "elasticbeanstalk",
        "elasticbeanstalk",
        "environments and their option DisableIMDSv1",
        "DescribeConfigurationSettings",
        "DescribeEnvironmentResources",
        "DescribeEnvironments",
    ),
    _read(
        "SageMaker",
        "sagemaker",
        "sagemaker",
        "notebook instances and the versions that they allow",
        "DescribeNotebookInstance",
        "ListNotebookInstances",
    ),
    _write(
        "RegionDefaults",
        "ec2",
        "ec2",
        "set, and restore, the Region default and its enforcement",
        "ModifyInstanceMetadataDefaults",
    ),
    _write(
        "Instances",
        "ec2",
        "ec2",
        "set, and restore, an instance's options",
        "ModifyInstanceMetadataOptions",
        resource="arn:{partition}:ec2:*:*:instance/*",
    ),
    _write(
        "LaunchTemplates",
        "ec2",
        "ec2",
        "make a version that requires IMDSv2, move the default, take a version back",
        "CreateLaunchTemplateVersion",
        "DeleteLaunchTemplateVersions",
        "ModifyLaunchTemplate",
        resource="arn:{partition}:ec2:*:*:launch-template/*",
    ),
    _write(
        "Images",
        "ec2",
        "ec2",
        "mark an own image with ImdsSupport=v2.0, when the intent asks for it",
        "ModifyImageAttribute",
        resource="arn:{partition}:ec2:*::image/*",
        # The same call shares an image, or makes it public: with one attribute a call, this leaves that out.
        condition={"StringEquals": {"ec2:Attribute/ImdsSupport": "v2.0"}},
    ),
    _write(
        "Refreshes",
        "autoscaling",
        "autoscaling",
        "replace a group's instances, when the intent asks for it, and follow that to its end",
        "DescribeInstanceRefreshes",
        "StartInstanceRefresh",
    ),
)
"""In the order of the printed policy."""

_ARNS = "arn:{partition}:ec2:*"
LAUNCH_DRY_RUN: tuple[tuple[str, str, tuple[str, ...], Mapping[str, Any], str], ...] = (
    (
        "LaunchDryRun",
        "ec2:RunInstances",
        (
            *(f"{_ARNS}::{kind}/*" for kind in ("image", "snapshot")),
            *(
                f"{_ARNS}:*:{kind}/*"
                for kind in (
                    "instance",
                    "key-pair",
                    "launch-template",
                    "network-interface",
                    "placement-group",
                    "security-group",
                    "subnet",
                    "volume",
                )
            ),
        ),
        {},
        "ask by DryRun what templates and images may launch; IAM has no key for DryRun, so this allows launches too",
    ),
    (
        "LaunchDryRunRoles",
        "iam:PassRole",
        ("arn:{partition}:iam::*:role/*",),
        {"StringEquals": {"iam:PassedToService": ("ec2.amazonaws.com", "ec2.amazonaws.com.cn")}},
        "the roles that the templates name, to EC2 alone; without it their answer is unknown",
    ),
)
"""What `verify --launch-dry-run` needs: sid, action, resources, condition, reason. Not in NEEDS, because it is more
than reading: the Service Authorization Reference lists no condition key for the parameter DryRun, so that a credential
which may ask may also launch. The resources are those of RunInstances that a template or an image can bring in."""

_CLOSING = {
    "StringEqualsIfExists": {
        "ec2:Attribute/HttpEndpoint": "disabled",
        "ec2:Attribute/HttpTokens": "required",
        "ec2:Attribute/HttpTokensEnforced": "enabled",
    }
}
"""Nothing that allows IMDSv1: not `optional`, and no endpoint switched on with `optional` behind it. `IfExists`:
a write sends only what differs. imdsctl asks for other values in a rollback only."""
_CLOSED_BY = {"RegionDefaults": _CLOSING, "Instances": _CLOSING}
_OPENS = frozenset({"LaunchTemplates", "Refreshes"})
"""Statements that no condition can close. IAM has no key for what a launch template version says (`ec2:Metadata...` are
not for CreateLaunchTemplateVersion), and a refresh launches what the group's template, or one that the request names,
says."""


def policy(
    mode: Mode, place: Place, *, role: str, partition: str = "aws", rollback: bool = True, launch_dry_run: bool = False
) -> dict[str, Any]:
    """The least-privilege policy document for one set of credentials.

    WRITE includes READ, since every write is preceded and followed by a read. Without `rollback` nothing
    is allowed that brings IMDSv1 back (`ec2:Attribute/...` are the *requested* values: EC2 User Guide, "Control access
    using attribute-based access").
    """
    statements = []
    for need in needs(mode, place, rollback=rollback):
        statement: dict[str, Any] = {
            "Sid": need.sid,
            "Effect": "Allow",
            "Action": sorted(need.actions),
            "Resource": need.resource.format(partition=partition, role=role),
        }
        condition = need.condition or (_CLOSED_BY.get(need.sid) if not rollback else None)
        if condition:
            statement["Condition"] = condition
        statements.append(statement)
    for sid, action, resources, condition, _ in LAUNCH_DRY_RUN if launch_dry_run else ():
        statements.append(
            {
                "Sid": sid,
                "Effect": "Allow",
                "Action": [action],
                "Resource": [each.format(partition=partition) for each in resources],
                **({"Condition": condition} if condition else {}),
            }
        )
    return {"Version": POLICY_VERSION, "Statement": statements}


def needs(mode: Mode, place: Place, *, rollback: bool = True) -> tuple[Need, ...]:
    """What one set of credentials needs; without `rollback` nothing that could bring IMDSv1 back."""
    modes = (Mode.READ,) if mode is Mode.READ else tuple(Mode)
    wanted = (need for need in NEEDS if need.place is place and need.mode in modes)
    return tuple(need for need in wanted if rollback or need.sid not in _OPENS)


def reasons(wanted: Iterable[Need]) -> Mapping[str, str]:
    """Statement id to its reason, for a reader: a policy document cannot hold comments."""
    return {need.sid: need.why for need in wanted}
