"""botocore as a caller with few rights: every call is decided by the policies, and the refusal is AWS's own."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
from botocore.exceptions import ClientError

from imdsctl.domain.permissions import Mode, Place, policy
from imdsctl.local.sessions import ROLE, Session

ALLOW_ALL = {"Effect": "Allow", "Action": "*", "Resource": "*"}
INSTANCES = "arn:aws:ec2:*:*:instance/*"
REQUIRE_IMDSV2 = {
    "Sid": "RequireImdsV2",
    "Effect": "Deny",
    "Action": "ec2:RunInstances",
    "Resource": INSTANCES,
    "Condition": {"StringNotEquals": {"ec2:MetadataHttpTokens": "required"}},
}
MAX_HOP_LIMIT = {
    "Sid": "MaxImdsHopLimit",
    "Effect": "Deny",
    "Action": "ec2:RunInstances",
    "Resource": INSTANCES,
    "Condition": {"NumericGreaterThan": {"ec2:MetadataHttpPutResponseHopLimit": "3"}},
}
NEVER_OPTIONAL = {
    "Sid": "DenyIMDSv1HttpTokensModification",
    "Effect": "Deny",
    "Action": "ec2:ModifyInstanceMetadataOptions",
    "Resource": INSTANCES,
    "Condition": {
        "StringNotEquals": {"ec2:Attribute/HttpTokens": "required"},
        "Null": {"ec2:Attribute/HttpTokens": "false"},
    },
}
ROLES_USE_V2 = {
    "Sid": "RequireAllEc2RolesToUseV2",
    "Effect": "Deny",
    "Action": "*",
    "Resource": "*",
    "Condition": {"NumericLessThan": {"ec2:RoleDelivery": "2.0"}},
}


def document(*statements: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


class Ann:
    """A user of a member account who may do what one inline policy says."""

    def __init__(self, offline: Any) -> None:
        self.offline = offline
        self.account = offline.member
        self.iam = offline.client("iam", self.account)
        self.iam.create_user(UserName="ann")
        self.key = self.iam.create_access_key(UserName="ann")["AccessKey"]
        self.arn = f"arn:aws:iam::{self.account}:user/ann"

    def may(self, *statements: Any) -> None:
        self.iam.put_user_policy(UserName="ann", PolicyName="p", PolicyDocument=document(*statements))

    def client(self, service: str, region: str = "us-east-1") -> Any:
        return self.offline.client(service, credentials=self.key, region=region)

    @property
    def ec2(self) -> Any:
        return self.client("ec2")

    def launch(self, **more: Any) -> str:
        asked = {"ImageId": self.image, "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1, **more}
        return str(self.ec2.run_instances(**asked)["Instances"][0]["InstanceId"])

    @property
    def image(self) -> str:
        images = self.offline.client("ec2", self.account).describe_images(
            Owners=["amazon"], Filters=[{"Name": "name", "Values": ["amzn2-*x86_64*"]}]
        )
        return str(images["Images"][0]["ImageId"])


@pytest.fixture
def ann(offline: Any) -> Ann:
    return Ann(offline)


def refusal(call: Callable[[], Any]) -> tuple[str, int, str]:
    with pytest.raises(ClientError) as caught:
        call()
    response = caught.value.response
    error = response["Error"]
    return error["Code"], response["ResponseMetadata"]["HTTPStatusCode"], error["Message"]


def test_without_a_policy_nothing_is_allowed_and_the_refusal_says_so(ann: Ann) -> None:
    code, status, message = refusal(ann.ec2.describe_instances)
    assert (code, status) == ("UnauthorizedOperation", 403)
    assert message.startswith(
        "You are not authorized to perform this operation. "
        f"User: {ann.arn} is not authorized to perform: ec2:DescribeInstances because no identity-based policy allows "
        "the ec2:DescribeInstances action. Encoded authorization failure message: "
    )
    code, status, message = refusal(ann.client("iam").list_users)
    assert (code, status) == ("AccessDenied", 403)
    assert message == (
        f"User: {ann.arn} is not authorized to perform: iam:ListUsers on resource: arn:aws:iam::{ann.account}:user/ "
        "because no identity-based policy allows the iam:ListUsers action"
    )
    assert refusal(ann.client("account").list_regions)[:2] == ("AccessDeniedException", 403)
    assert ann.client("sts").get_caller_identity()["Arn"] == ann.arn


def test_an_encoded_message_is_opened_by_whoever_may_decode_it(ann: Ann) -> None:
    ann.may(ALLOW_ALL, REQUIRE_IMDSV2)
    message = refusal(ann.launch)[2]
    encoded = message.rpartition("Encoded authorization failure message: ")[2]
    decoded = json.loads(ann.client("sts").decode_authorization_message(EncodedMessage=encoded)["DecodedMessage"])
    assert (decoded["allowed"], decoded["explicitDeny"]) == (False, True)
    assert [each["statementId"] for each in decoded["matchedStatements"]["items"]] == ["RequireImdsV2"]
    context = decoded["context"]
    assert (context["action"], context["principal"]["arn"]) == ("ec2:RunInstances", ann.arn)
    assert context["resource"] == f"arn:aws:ec2:us-east-1:{ann.account}:instance/*"
    keys = {each["key"]: each["values"]["items"][0]["value"] for each in context["conditions"]["items"]}
    assert keys["ec2:instancetype"] == "t3.micro"
    assert "ec2:metadatahttptokens" not in keys
    for forged in (encoded[:-4] + "AAAA", "nonsense"):
        code, status, _ = refusal(
            lambda forged=forged: ann.client("sts").decode_authorization_message(EncodedMessage=forged)
        )
        assert (code, status) == ("InvalidAuthorizationMessageException", 400)
    ann.may({"Effect": "Allow", "Action": "ec2:*", "Resource": "*"})
    assert refusal(lambda: ann.client("sts").decode_authorization_message(EncodedMessage=encoded))[0] == "AccessDenied"


def test_require_imdsv2_at_launch(ann: Ann) -> None:
    ann.may(ALLOW_ALL, REQUIRE_IMDSV2)
    code, status, message = refusal(ann.launch)
    assert (code, status) == ("UnauthorizedOperation", 403)
    assert re.search(
        r"on resource: arn:aws:ec2:us-east-1:\d+:instance/\* with an explicit deny in an identity-", message
    )
    assert refusal(lambda: ann.launch(MetadataOptions={"HttpTokens": "optional"}))[0] == "UnauthorizedOperation"
    # A Region default does not fill the key: what the request and its template do not say is absent.
    ann.offline.client("ec2", ann.account).modify_instance_metadata_defaults(HttpTokens="required")
    assert refusal(ann.launch)[0] == "UnauthorizedOperation"
    ann.launch(MetadataOptions={"HttpTokens": "required"})
    template = {"ImageId": ann.image, "MetadataOptions": {"HttpTokens": "required"}}
    ann.ec2.create_launch_template(LaunchTemplateName="only-v2", LaunchTemplateData=template)
    ann.launch(LaunchTemplate={"LaunchTemplateName": "only-v2"})
    before = len(ann.ec2.describe_instances()["Reservations"])
    assert refusal(lambda: ann.launch(DryRun=True))[0] == "UnauthorizedOperation"
    assert refusal(lambda: ann.launch(DryRun=True, MetadataOptions={"HttpTokens": "required"}))[0] == "DryRunOperation"
    assert len(ann.ec2.describe_instances()["Reservations"]) == before


def test_the_lock_out_locks_out(ann: Ann) -> None:
    """On `*` the condition also meets the image, the subnet, ... which have no such key: every launch is denied."""
    ann.may(ALLOW_ALL, {**REQUIRE_IMDSV2, "Resource": "*"})
    required = {"HttpTokens": "required", "HttpEndpoint": "enabled"}
    code, _, message = refusal(lambda: ann.launch(MetadataOptions=required))
    assert code == "UnauthorizedOperation"
    assert "::image/ami-" in message


def test_max_hop_limit(ann: Ann) -> None:
    ann.may(ALLOW_ALL, MAX_HOP_LIMIT)
    ann.launch()  # absent: a positive operator does not match
    ann.launch(MetadataOptions={"HttpPutResponseHopLimit": 3})
    assert refusal(lambda: ann.launch(MetadataOptions={"HttpPutResponseHopLimit": 4}))[0] == "UnauthorizedOperation"


def test_an_instance_is_never_made_optional(ann: Ann) -> None:
    ann.may(ALLOW_ALL, NEVER_OPTIONAL)
    instance = ann.launch()
    modify = ann.ec2.modify_instance_metadata_options
    assert refusal(lambda: modify(InstanceId=instance, HttpTokens="optional"))[0] == "UnauthorizedOperation"
    modify(InstanceId=instance, HttpPutResponseHopLimit=2)
    modify(InstanceId=instance, HttpTokens="required")
    assert refusal(lambda: modify(InstanceId=instance, HttpTokens="optional"))[0] == "UnauthorizedOperation"


def test_a_key_of_an_existing_instance_has_its_current_value(ann: Ann) -> None:
    deny = {
        "Effect": "Deny",
        "Action": ["ec2:ModifyInstanceMetadataOptions", "ec2:TerminateInstances"],
        "Resource": "*",
        "Condition": {"StringEquals": {"ec2:MetadataHttpTokens": "required"}},
    }
    ann.may(ALLOW_ALL, deny)
    weak, strong = ann.launch(), ann.launch(MetadataOptions={"HttpTokens": "required"})
    modify = ann.ec2.modify_instance_metadata_options
    assert refusal(lambda: modify(InstanceId=strong, HttpTokens="optional"))[0] == "UnauthorizedOperation"
    # One refused resource refuses the call, and nothing of it is done.
    assert refusal(lambda: ann.ec2.terminate_instances(InstanceIds=[weak, strong]))[0] == "UnauthorizedOperation"
    modify(InstanceId=weak, HttpTokens="required")
    assert refusal(lambda: modify(InstanceId=weak, HttpPutResponseHopLimit=2))[0] == "UnauthorizedOperation"


def test_region_defaults_by_attribute(ann: Ann) -> None:
    weaken = {
        "Effect": "Deny",
        "Action": "ec2:ModifyInstanceMetadataDefaults",
        "Resource": "*",
        "Condition": {
            "StringNotEquals": {"ec2:Attribute/HttpTokens": "required"},
            "Null": {"ec2:Attribute/HttpTokens": "false"},
        },
    }
    unenforce = {
        "Effect": "Deny",
        "Action": "ec2:ModifyInstanceMetadataDefaults",
        "Resource": "*",
        "Condition": {"StringEquals": {"ec2:Attribute/HttpTokensEnforced": "disabled"}},
    }
    ann.may(ALLOW_ALL, weaken, unenforce)
    modify = ann.ec2.modify_instance_metadata_defaults
    modify(HttpTokens="required", HttpTokensEnforced="enabled")
    assert refusal(lambda: modify(HttpTokens="optional"))[0] == "UnauthorizedOperation"
    assert refusal(lambda: modify(HttpTokensEnforced="disabled"))[0] == "UnauthorizedOperation"
    modify(HttpPutResponseHopLimit=2)


@pytest.mark.parametrize(("delivery", "allowed"), [(None, True), ("1.0", False), ("2.0", True)])
def test_roles_of_instances_use_v2(ann: Ann, delivery: str | None, allowed: bool) -> None:
    """Credentials that an instance fetched carry how they were delivered; others do not have the key."""
    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    role = ann.iam.create_role(RoleName="app", AssumeRolePolicyDocument=document(trust))["Role"]
    ann.iam.put_role_policy(RoleName="app", PolicyName="p", PolicyDocument=document(ALLOW_ALL, ROLES_USE_V2))
    world = ann.offline.world
    session = Session(ann.account, ROLE, "app", role["RoleId"], "i-0abc", 2**31, "0", role_delivery=delivery)
    made = world.open_session(session)
    credentials = {
        "AccessKeyId": made.access_key_id,
        "SecretAccessKey": made.secret_access_key,
        "SessionToken": made.session_token,
    }
    ec2 = ann.offline.client("ec2", credentials=credentials)
    if allowed:
        ec2.describe_regions()
    else:
        assert refusal(ec2.describe_regions)[0] == "UnauthorizedOperation"


def test_tags_at_creation_and_passing_a_role_are_permissions_of_their_own(ann: Ann) -> None:
    ann.may({"Effect": "Allow", "Action": ["ec2:RunInstances", "ec2:Describe*"], "Resource": "*"})
    ann.launch()
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "team", "Value": "blue"}]}]
    message = refusal(lambda: ann.launch(TagSpecifications=tags))[2]
    assert f"ec2:CreateTags on resource: arn:aws:ec2:us-east-1:{ann.account}:instance/*" in message
    only_blue = {
        "Effect": "Allow",
        "Action": "ec2:CreateTags",
        "Resource": "*",
        "Condition": {"StringEquals": {"aws:RequestTag/team": "blue", "ec2:CreateAction": "RunInstances"}},
    }
    ann.may({"Effect": "Allow", "Action": ["ec2:RunInstances", "ec2:Describe*"], "Resource": "*"}, only_blue)
    instance = ann.launch(TagSpecifications=tags)
    green = [{"ResourceType": "instance", "Tags": [{"Key": "team", "Value": "green"}]}]
    assert refusal(lambda: ann.launch(TagSpecifications=green))[0] == "UnauthorizedOperation"
    blue = {"Resources": [instance], "Tags": [{"Key": "team", "Value": "blue"}]}
    assert refusal(lambda: ann.ec2.create_tags(**blue))[0] == "UnauthorizedOperation"

    trust = {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ann.iam.create_role(RoleName="app", AssumeRolePolicyDocument=document(trust))
    ann.iam.create_instance_profile(InstanceProfileName="app")
    ann.iam.add_role_to_instance_profile(InstanceProfileName="app", RoleName="app")
    message = refusal(lambda: ann.launch(IamInstanceProfile={"Name": "app"}))[2]
    assert f"iam:PassRole on resource: arn:aws:iam::{ann.account}:role/app" in message


def test_a_spot_fleet_needs_what_its_launches_need(ann: Ann) -> None:
    trust = {"Effect": "Allow", "Principal": {"Service": "spotfleet.amazonaws.com"}, "Action": "sts:AssumeRole"}
    role = ann.iam.create_role(RoleName="fleet", AssumeRolePolicyDocument=document(trust))["Role"]["Arn"]
    specification = {"ImageId": ann.image, "InstanceType": "t3.micro"}
    config = {"IamFleetRole": role, "TargetCapacity": 1, "LaunchSpecifications": [specification]}
    template = ann.offline.client("ec2", ann.account).create_launch_template(
        LaunchTemplateName="strict",
        LaunchTemplateData={**specification, "MetadataOptions": {"HttpTokens": "required"}},
    )["LaunchTemplate"]["LaunchTemplateId"]
    named = {"LaunchTemplateSpecification": {"LaunchTemplateId": template, "Version": "1"}}
    strict = {"IamFleetRole": role, "TargetCapacity": 1, "LaunchTemplateConfigs": [named]}

    def request(asked: dict[str, Any]) -> str:
        return str(ann.ec2.request_spot_fleet(SpotFleetRequestConfig=asked)["SpotFleetRequestId"])

    own = {"Effect": "Allow", "Action": ["ec2:RequestSpotFleet", "ec2:RunInstances"], "Resource": "*"}
    ann.may(own)
    assert f"iam:PassRole on resource: {role}" in refusal(lambda: request(config))[2]
    passed = {"StringEquals": {"iam:PassedToService": "spotfleet.amazonaws.com"}}
    ann.may(own, {"Effect": "Allow", "Action": "iam:PassRole", "Resource": role, "Condition": passed})
    request(config)
    # The guardrail of AWS's documentation also meets what a launch specification cannot say.
    only_v2 = {"StringNotEquals": {"ec2:MetadataHttpTokens": "required"}}
    guard = {"Effect": "Deny", "Action": "ec2:RunInstances", "Resource": INSTANCES, "Condition": only_v2}
    ann.may(own, {"Effect": "Allow", "Action": "iam:PassRole", "Resource": role}, guard)
    assert refusal(lambda: request(config))[0] == "UnauthorizedOperation"
    request(strict)


def test_resource_tags_decide(ann: Ann) -> None:
    own = {
        "Effect": "Allow",
        "Action": ["ec2:StopInstances", "ec2:ModifyInstanceMetadataOptions"],
        "Resource": INSTANCES,
        "Condition": {"StringEquals": {"aws:ResourceTag/team": "${aws:username}"}},
    }
    admin = ann.offline.client("ec2", ann.account)
    ann.may(own)
    ids = {}
    for team in ("ann", "bob"):
        tags = [{"ResourceType": "instance", "Tags": [{"Key": "team", "Value": team}]}]
        asked = {"ImageId": ann.image, "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1}
        ids[team] = admin.run_instances(TagSpecifications=tags, **asked)["Instances"][0]["InstanceId"]
    ann.ec2.modify_instance_metadata_options(InstanceId=ids["ann"], HttpTokens="required")
    ann.ec2.stop_instances(InstanceIds=[ids["ann"]])
    assert refusal(lambda: ann.ec2.stop_instances(InstanceIds=[ids["bob"]]))[0] == "UnauthorizedOperation"
    assert refusal(lambda: ann.ec2.stop_instances(InstanceIds=list(ids.values())))[0] == "UnauthorizedOperation"


def test_a_boundary_and_a_session_policy_only_take_away(ann: Ann) -> None:
    ann.may(ALLOW_ALL)
    only_reads = document({"Effect": "Allow", "Action": ["ec2:Describe*", "sts:*"], "Resource": "*"})
    arn = ann.iam.create_policy(PolicyName="reads", PolicyDocument=only_reads)["Policy"]["Arn"]
    ann.iam.put_user_permissions_boundary(UserName="ann", PermissionsBoundary=arn)
    ann.ec2.describe_instances()
    modify = ann.ec2.modify_instance_metadata_defaults
    message = refusal(lambda: modify(HttpTokens="required"))[2]
    assert "because no permissions boundary allows the ec2:ModifyInstanceMetadataDefaults action" in message
    ann.iam.delete_user_permissions_boundary(UserName="ann")
    modify(HttpTokens="required")

    trust = {"Effect": "Allow", "Principal": {"AWS": ann.arn}, "Action": "sts:AssumeRole"}
    role = ann.iam.create_role(RoleName="admin", AssumeRolePolicyDocument=document(trust))["Role"]["Arn"]
    ann.iam.put_role_policy(RoleName="admin", PolicyName="p", PolicyDocument=document(ALLOW_ALL))
    asked = {"RoleArn": role, "RoleSessionName": "me", "Policy": only_reads}
    session = ann.client("sts").assume_role(**asked)["Credentials"]
    ec2 = ann.offline.client("ec2", credentials=session)
    ec2.describe_instances()
    message = refusal(lambda: ec2.modify_instance_metadata_defaults(HttpTokens="optional"))[2]
    assert "because no session policy allows" in message


def test_a_trust_policy_with_conditions(ann: Ann) -> None:
    other = ann.offline.management
    trust = {
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{other}:root"},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"sts:ExternalId": "secret"}},
    }
    role = ann.iam.create_role(RoleName="vendor", AssumeRolePolicyDocument=document(trust))["Role"]["Arn"]
    sts = ann.offline.client("sts")
    assert refusal(lambda: sts.assume_role(RoleArn=role, RoleSessionName="me")) == (
        "AccessDenied",
        403,
        f"User: arn:aws:iam::{other}:user/imdsctl-admin is not authorized to perform: sts:AssumeRole "
        f"on resource: {role}",
    )
    assert sts.assume_role(RoleArn=role, RoleSessionName="me", ExternalId="secret")["Credentials"]


def test_a_refused_call_changes_nothing(ann: Ann) -> None:
    before = ann.offline.world.sequence
    ec2 = ann.ec2
    for call in (
        lambda: ec2.modify_instance_metadata_defaults(HttpTokens="required"),
        lambda: ec2.create_security_group(GroupName="g", Description="d"),
        lambda: ann.client("iam").create_user(UserName="eve"),
        lambda: ann.client("account").enable_region(RegionName="eu-south-1"),
    ):
        refusal(call)
    assert ann.offline.world.sequence == before


# -- whoever launches in another way ----------------------------------------------------------------------------------


def test_a_guardrail_on_launches_binds_spot_requests_and_fleets(ann: Ann) -> None:
    ann.may(ALLOW_ALL, REQUIRE_IMDSV2)
    data = {"ImageId": ann.image, "InstanceType": "t3.micro"}
    # A launch specification cannot say anything of the metadata service, so the guardrail refuses every one.
    assert refusal(lambda: ann.ec2.request_spot_instances(LaunchSpecification=data))[0] == "UnauthorizedOperation"
    strict = {**data, "MetadataOptions": {"HttpTokens": "required"}}
    for name, template in (("silent", data), ("strict", strict)):
        ann.ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=template)

    def fleet(name: str) -> Any:
        config = {"LaunchTemplateSpecification": {"LaunchTemplateName": name, "Version": "1"}}
        target = {"TotalTargetCapacity": 1}
        return ann.ec2.create_fleet(Type="instant", LaunchTemplateConfigs=[config], TargetCapacitySpecification=target)

    assert refusal(lambda: fleet("silent"))[0] == "UnauthorizedOperation"
    assert len(fleet("strict")["Instances"]) == 1


@pytest.mark.parametrize(
    ("condition", "override", "target"),
    [
        ({"ec2:InstanceType": "m5.*"}, {"InstanceType": "m5.large"}, {}),
        ({"ec2:InstanceMarketType": "spot"}, {"InstanceType": "t3.nano"}, {"DefaultTargetCapacityType": "spot"}),
        ({"ec2:InstanceMarketType": "spot"}, {"InstanceType": "t3.nano"}, {"SpotTargetCapacity": 1}),
    ],
)
def test_a_fleet_is_decided_with_its_overrides_and_markets(
    ann: Ann, condition: dict[str, str], override: dict[str, str], target: dict[str, Any]
) -> None:
    deny = {"Effect": "Deny", "Action": "ec2:RunInstances", "Resource": "*", "Condition": {"StringLike": condition}}
    ann.may(ALLOW_ALL, deny)
    data = {"ImageId": ann.image, "InstanceType": "t3.micro"}
    ann.ec2.create_launch_template(LaunchTemplateName="plain", LaunchTemplateData=data)

    def fleet(override: dict[str, str], target: dict[str, Any]) -> Any:
        template = {"LaunchTemplateName": "plain", "Version": "1"}
        return ann.ec2.create_fleet(
            LaunchTemplateConfigs=[{"LaunchTemplateSpecification": template, "Overrides": [override]}],
            TargetCapacitySpecification={"TotalTargetCapacity": 2, **target},
        )

    assert refusal(lambda: fleet(override, target))[0] == "UnauthorizedOperation"
    fleet({"InstanceType": "t3.small"}, {})


def test_template_data_of_an_instance_and_its_profile(ann: Ann) -> None:
    ann.may(ALLOW_ALL)
    instance = ann.launch()
    ann.may({"Effect": "Allow", "Action": "ec2:Describe*", "Resource": "*"})
    for call in (
        lambda: ann.ec2.get_launch_template_data(InstanceId=instance),
        lambda: ann.ec2.modify_managed_resource_visibility(DefaultVisibility="hidden"),
    ):
        assert refusal(call)[0] == "UnauthorizedOperation"


# -- whoever has imdsctl's own policies -------------------------------------------------------------------------------


class Stage:
    """An account in which IMDSv1 can be brought back in every way, and a thief of imdsctl's credentials."""

    def __init__(self, ann: Ann) -> None:
        self.ann = ann
        self.ec2 = ann.offline.client("ec2", ann.account)
        self.groups = ann.offline.client("autoscaling", ann.account)
        asked = {"ImageId": ann.image, "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1}
        off = self.ec2.run_instances(**asked, MetadataOptions={"HttpEndpoint": "disabled"})
        self.instance = off["Instances"][0]["InstanceId"]
        data = {"ImageId": ann.image, "InstanceType": "t3.micro"}
        made = self.ec2.create_launch_template(
            LaunchTemplateName="both-versions",
            LaunchTemplateData={**data, "MetadataOptions": {"HttpTokens": "optional"}},
        )
        self.template = {"LaunchTemplateId": made["LaunchTemplate"]["LaunchTemplateId"]}
        strict = {"MetadataOptions": {"HttpTokens": "required"}}
        self.ec2.create_launch_template_version(**self.template, SourceVersion="1", LaunchTemplateData=strict)
        self.groups.create_auto_scaling_group(
            AutoScalingGroupName="both",
            MinSize=0,
            MaxSize=1,
            AvailabilityZones=["us-east-1a"],
            LaunchTemplate={**self.template, "Version": "2"},
        )
        volume = self.ec2.create_volume(AvailabilityZone="us-east-1a", Size=8)["VolumeId"]
        snapshot = self.ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
        root = {"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot}}
        self.image = self.ec2.register_image(Name="own", BlockDeviceMappings=[root])["ImageId"]

    def thief(self, *, rollback: bool) -> Thief:
        document = policy(Mode.WRITE, Place.MEMBER, role="imdsctl", rollback=rollback)
        made = self.ann.iam.create_policy(PolicyName="imdsctl", PolicyDocument=json.dumps(document))
        self.ann.iam.attach_user_policy(UserName="ann", PolicyArn=made["Policy"]["Arn"])
        return Thief(self.ann.ec2, self.ann.client("autoscaling"), self)


@dataclass(frozen=True)
class Thief:
    ec2: Any
    groups: Any
    stage: Stage

    def sharing(self) -> Iterator[Callable[[], Any]]:
        """Every way to give an image away, or to change it otherwise."""
        image = {"ImageId": self.stage.image}
        for asked in (
            {"LaunchPermission": {"Add": [{"Group": "all"}]}},
            {"LaunchPermission": {"Add": [{"UserId": "111122223333"}]}},
            {"Attribute": "launchPermission", "OperationType": "add", "UserGroups": ["all"]},
            {"Description": {"Value": "x"}},
        ):
            yield partial(self.ec2.modify_image_attribute, **image, **asked)

    def opening(self) -> Iterator[Callable[[], Any]]:
        """Every way to bring IMDSv1 back by the calls that imdsctl makes."""
        for options in (
            {"HttpTokens": "optional"},
            {"HttpEndpoint": "enabled"},
            {"HttpTokens": "optional", "HttpEndpoint": "enabled"},
        ):
            yield partial(self.ec2.modify_instance_metadata_options, InstanceId=self.stage.instance, **options)
        for defaults in (
            {"HttpTokens": "optional"},
            {"HttpTokens": "no-preference"},
            {"HttpTokensEnforced": "disabled"},
            {"HttpTokensEnforced": "no-preference"},
            {"HttpEndpoint": "enabled"},
            {"HttpEndpoint": "no-preference"},
            {"HttpTokens": "required", "HttpEndpoint": "enabled"},
        ):
            yield partial(self.ec2.modify_instance_metadata_defaults, **defaults)
        template = self.stage.template
        optional = {"MetadataOptions": {"HttpTokens": "optional"}}
        yield partial(
            self.ec2.create_launch_template_version, **template, SourceVersion="1", LaunchTemplateData=optional
        )
        yield partial(self.ec2.modify_launch_template, **template, DefaultVersion="1")
        yield partial(self.ec2.delete_launch_template_versions, **template, Versions=["2"])
        older = {"LaunchTemplate": {**template, "Version": "1"}}
        yield partial(self.groups.start_instance_refresh, AutoScalingGroupName="both")
        yield partial(self.groups.start_instance_refresh, AutoScalingGroupName="both", DesiredConfiguration=older)

    def closing(self) -> Iterator[Callable[[], Any]]:
        """What apply asks for of instances, Region defaults and images."""
        instance = {"InstanceId": self.stage.instance}
        for defaults in (
            {"HttpTokens": "required", "HttpPutResponseHopLimit": 2, "HttpTokensEnforced": "enabled"},
            {"InstanceMetadataTags": "disabled"},
            {"HttpEndpoint": "disabled"},
        ):
            yield partial(self.ec2.modify_instance_metadata_defaults, **defaults)
        yield partial(self.ec2.modify_instance_metadata_options, **instance, HttpEndpoint="disabled")
        yield partial(self.ec2.modify_image_attribute, ImageId=self.stage.image, ImdsSupport={"Value": "v2.0"})
        self.stage.ec2.modify_instance_metadata_options(**instance, HttpEndpoint="enabled")
        yield partial(self.ec2.modify_instance_metadata_options, **instance, HttpPutResponseHopLimit=2)
        yield partial(self.ec2.modify_instance_metadata_options, **instance, HttpTokens="required")


def test_no_writing_policy_lets_an_image_be_shared_or_made_public(ann: Ann) -> None:
    thief = Stage(ann).thief(rollback=True)
    assert [refusal(call)[0] for call in thief.sharing()] == ["UnauthorizedOperation"] * 4
    for call in thief.closing():
        call()


def test_without_rollback_nothing_brings_imdsv1_back_and_all_the_rest_can_be_closed(ann: Ann) -> None:
    stage = Stage(ann)
    thief = stage.thief(rollback=False)
    for call in (*thief.opening(), *thief.sharing()):
        assert refusal(call)[0] in ("UnauthorizedOperation", "AccessDenied"), call
    for call in thief.closing():
        call()
