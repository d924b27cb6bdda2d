"""The member role as a CloudFormation template, for a service-managed StackSet over the whole organization.

Source: CloudFormation User Guide, "AWS CloudFormation StackSets"; IAM User Guide, "AWS::IAM::Role".
"""

from __future__ import annotations

import json
from textwrap import indent

from imdsctl.domain.permissions import Mode, Place, needs, policy, reasons
from imdsctl.fleet.limits import ASSUMED_ROLE_SECONDS

_HEAD = """\
AWSTemplateFormatVersion: "2010-09-09"
Description: >-
  The role that imdsctl assumes in each account ({mode}). Deploy it as a service-managed StackSet, in one Region:
  IAM is global. A StackSet leaves out the management account, where imdsctl uses its own credentials.
Parameters:
  RoleName:
    Type: String
    Default: {role}
    AllowedPattern: "[A-Za-z0-9+=,.@_-]{{1,64}}"
    Description: Give the same name to imdsctl with --role.
  TrustedAccountId:
    Type: String
    AllowedPattern: "\\\\d{{12}}"
    Description: The account from which imdsctl runs.
  TrustedPrincipalArn:
    Type: String
    Default: "*"
    Description: >-
      Who in that account may assume the role: the ARN of a role or user, with * for parts of it. The default leaves it
      to the policies of that account.
  PermissionsBoundaryArn:
    Type: String
    Default: ""
    Description: A permissions boundary, where the organization demands one.
Conditions:
  HasBoundary: !Not [!Equals [!Ref PermissionsBoundaryArn, ""]]
Resources:
  Role:
    Type: AWS::IAM::Role
    Properties:
      RoleName: !Ref RoleName
      Description: Assumed by imdsctl ({mode}) to make IMDSv2 the rule
      MaxSessionDuration: {seconds}
      PermissionsBoundary: !If [HasBoundary, !Ref PermissionsBoundaryArn, !Ref AWS::NoValue]
      AssumeRolePolicyDocument:
        Version: "2012-10-17"
        Statement:
          - Effect: Allow
            Action: sts:AssumeRole
            Principal:
              AWS: !Sub arn:${{AWS::Partition}}:iam::${{TrustedAccountId}}:root
            Condition:
              ArnLike:
                aws:PrincipalArn: !Ref TrustedPrincipalArn
      Policies:
        - PolicyName: imdsctl-{mode}
          PolicyDocument:
"""
_TAIL = """\
Outputs:
  RoleArn:
    Value: !GetAtt Role.Arn
"""


def role_template(mode: Mode, *, role: str, rollback: bool = True) -> str:
    """The template's YAML. The permissions are those of `imdsctl iam-policy`, each with its reason as a comment."""
    document = policy(mode, Place.MEMBER, role=role, partition="${AWS::Partition}", rollback=rollback)
    why = reasons(needs(mode, Place.MEMBER))
    lines = [f'Version: "{document["Version"]}"', "Statement:"]
    for statement in document["Statement"]:
        lines.append(f"  # {why[statement['Sid']]}")
        lines.append(f"  - Sid: {statement['Sid']}")
        lines.append("    Effect: Allow")
        lines.append("    Action:")
        lines += [f"      - {action}" for action in statement["Action"]]
        resource = statement["Resource"]
        lines.append(f'    Resource: {"!Sub " if "${" in resource else ""}"{resource}"')
        if "Condition" in statement:
            lines.append(f"    Condition: {json.dumps(statement['Condition'])}")
    head = _HEAD.format(mode=mode, role=role, seconds=ASSUMED_ROLE_SECONDS)
    return head + indent("\n".join(lines), " " * 12) + "\n" + _TAIL
