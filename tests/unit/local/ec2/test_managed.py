"""Managed resources: who may touch them, and who sees them. And instances as launch template data."""

from __future__ import annotations

from typing import Any

import pytest

OPERATOR = {"Principal": "eks.amazonaws.com"}
HIDE = {"DefaultVisibility": "hidden"}


def test_managed_resources_are_shown_until_the_account_hides_them(ec2: Any) -> None:
    own, managed = ec2.launch()[0]["InstanceId"], ec2.launch(Operator=OPERATOR)[0]["InstanceId"]
    shown = {each["InstanceId"]: each["Operator"] for each in ec2.instances()}
    assert shown == {own: {"Managed": False}, managed: {"Managed": True, **OPERATOR, "HiddenByDefault": False}}
    assert ec2("GetManagedResourceVisibility") == {"Visibility": {"DefaultVisibility": "visible"}}

    assert ec2("ModifyManagedResourceVisibility", **HIDE) == {"Visibility": HIDE}
    assert ec2("GetManagedResourceVisibility") == {"Visibility": HIDE}
    assert [each["InstanceId"] for each in ec2.instances()] == [own]
    assert ec2.instances(InstanceIds=[managed]) == []
    everything = ec2.instances(IncludeManagedResources=True)
    assert {each["InstanceId"] for each in everything} == {own, managed}
    assert [each["Operator"]["HiddenByDefault"] for each in everything if each["InstanceId"] == managed] == [True]
    only = [{"Name": "operator.managed", "Values": ["true"]}]
    assert ec2.instances(Filters=only) == []
    assert [each["InstanceId"] for each in ec2.instances(Filters=only, IncludeManagedResources=True)] == [managed]
    for action, answer in (
        ("DescribeInstanceStatus", "InstanceStatuses"),
        ("DescribeVolumes", "Volumes"),
        ("DescribeNetworkInterfaces", "NetworkInterfaces"),
    ):
        assert len(ec2(action)[answer]) == 1, action
        assert len(ec2(action, IncludeManagedResources=True)[answer]) == 2, action


def test_the_setting_is_the_accounts_in_every_region(ec2: Any) -> None:
    ec2.launch(Operator=OPERATOR)
    ec2.region = "eu-west-1"
    ec2("ModifyManagedResourceVisibility", **HIDE)
    ec2.launch(Operator=OPERATOR)
    for ec2.region in ("us-east-1", "eu-west-1", "eu-central-1"):
        assert ec2.instances() == []
        assert ec2("GetManagedResourceVisibility") == {"Visibility": HIDE}
    ec2.account_id = "444455556666"
    assert ec2("GetManagedResourceVisibility") == {"Visibility": {"DefaultVisibility": "visible"}}


def test_launch_templates_are_hidden_as_well(ec2: Any) -> None:
    data = {"LaunchTemplateData": {"InstanceType": "t3.micro"}}
    ec2("CreateLaunchTemplate", LaunchTemplateName="own", **data)
    ec2("CreateLaunchTemplate", LaunchTemplateName="theirs", Operator=OPERATOR, **data)
    ec2("ModifyManagedResourceVisibility", **HIDE)
    latest = {"Versions": ["$Latest"]}
    for params, names in (({}, ["own"]), ({"IncludeManagedResources": True}, ["own", "theirs"])):
        templates = ec2("DescribeLaunchTemplates", **params)["LaunchTemplates"]
        versions = ec2("DescribeLaunchTemplateVersions", **latest, **params)["LaunchTemplateVersions"]
        for found in (templates, versions):
            assert sorted(each["LaunchTemplateName"] for each in found) == names
            assert {each["Operator"]["Managed"] for each in found} == {name == "theirs" for name in names}


def test_a_wrong_visibility(ec2: Any) -> None:
    assert ec2.code("ModifyManagedResourceVisibility") == "MissingParameter"
    assert ec2.code("ModifyManagedResourceVisibility", DefaultVisibility="off") == "InvalidParameterValue"


@pytest.mark.parametrize("action", ["StopInstances", "RebootInstances", "TerminateInstances", "StartInstances"])
def test_only_the_operator_manages_a_managed_instance(ec2: Any, action: str) -> None:
    instance_id = ec2.launch(Operator=OPERATOR)[0]["InstanceId"]
    assert ec2.code(action, InstanceIds=[instance_id]) == "OperationNotPermitted"
    options = {"InstanceId": instance_id, "HttpTokens": "required"}
    assert ec2.code("ModifyInstanceMetadataOptions", **options) == "OperationNotPermitted"
    ec2("CreateTags", Resources=[instance_id], Tags=[{"Key": "a", "Value": "b"}])  # tags are the user's


# -- GetLaunchTemplateData --------------------------------------------------------------------------------------------


def test_a_template_of_an_instance_fixes_its_options(ec2: Any) -> None:
    options = {"HttpTokens": "required", "HttpPutResponseHopLimit": 3, "InstanceMetadataTags": "enabled"}
    [instance] = ec2.launch(
        MetadataOptions=options,
        KeyName=ec2.key_pair(),
        IamInstanceProfile={"Arn": ec2.profile()},
        UserData="aGk=",
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "b"}]}],
    )
    data = ec2("GetLaunchTemplateData", InstanceId=instance["InstanceId"])["LaunchTemplateData"]
    assert data["MetadataOptions"] == {"HttpEndpoint": "enabled", "HttpProtocolIpv6": "disabled", **options}
    assert (data["KeyName"], data["UserData"], data["InstanceType"]) == ("ops", "aGk=", "t3.micro")
    assert data["TagSpecifications"] == [{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "b"}]}]

    ec2("CreateLaunchTemplate", LaunchTemplateName="like-it", LaunchTemplateData=data)
    ec2("ModifyInstanceMetadataDefaults", HttpTokens="optional", HttpPutResponseHopLimit=1)
    template = {"LaunchTemplateName": "like-it"}
    [again] = ec2("RunInstances", LaunchTemplate=template, MinCount=1, MaxCount=1)["Instances"]
    assert ec2.options(again["InstanceId"]) == {"State": "applied", **data["MetadataOptions"]}
    assert again["IamInstanceProfile"] == instance["IamInstanceProfile"]
    assert again["SubnetId"] == instance["SubnetId"]


def test_template_data_of_a_spot_instance(ec2: Any) -> None:
    [instance] = ec2.launch(InstanceMarketOptions={"MarketType": "spot", "SpotOptions": {"MaxPrice": "0.02"}})
    data = ec2("GetLaunchTemplateData", InstanceId=instance["InstanceId"])["LaunchTemplateData"]
    assert data["InstanceMarketOptions"]["SpotOptions"]["MaxPrice"] == "0.02"
    assert ec2.code("GetLaunchTemplateData", InstanceId="i-0123456789abcdef0") == "InvalidInstanceID.NotFound"


# -- instance profiles ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("profile", "sentence"),
    [
        ({"Name": "no-such"}, "Invalid IAM Instance Profile name"),
        ({"Arn": "arn:aws:iam::111122223333:instance-profile/no-such"}, "Invalid IAM Instance Profile ARN"),
        ({"Arn": "arn:aws:iam::444455556666:instance-profile/web"}, "Invalid IAM Instance Profile ARN"),
    ],
)
def test_a_profile_has_to_exist(ec2: Any, profile: dict[str, str], sentence: str) -> None:
    ec2.profile()
    asked = {"ImageId": ec2.image(), "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1}
    code, message = ec2.refusal("RunInstances", **asked, IamInstanceProfile=profile)
    assert (code, message.rpartition(". ")[2]) == ("InvalidParameterValue", sentence)
    instance_id = ec2.launch()[0]["InstanceId"]
    given = {"InstanceId": instance_id, "IamInstanceProfile": profile}
    assert ec2.code("AssociateIamInstanceProfile", **given) == "InvalidParameterValue"


def test_a_profile_is_associated_replaced_and_taken_away(ec2: Any) -> None:
    instance_id = ec2.launch()[0]["InstanceId"]
    first, second = ec2.profile("first"), ec2.profile("second")
    given = {"InstanceId": instance_id, "IamInstanceProfile": {"Name": "first"}}
    made = ec2("AssociateIamInstanceProfile", **given)["IamInstanceProfileAssociation"]
    assert (made["IamInstanceProfile"], made["State"]) == ({"Arn": first, "Id": "AIPAFIRST"}, "associating")
    assert ec2.code("AssociateIamInstanceProfile", **given) == "IncorrectState"
    replaced = ec2(
        "ReplaceIamInstanceProfileAssociation",
        AssociationId=made["AssociationId"],
        IamInstanceProfile={"Arn": second},
    )["IamInstanceProfileAssociation"]
    assert ec2.instances()[0]["IamInstanceProfile"] == {"Arn": second, "Id": "AIPASECOND"}
    by_id = [{"Name": "iam-instance-profile.id", "Values": ["AIPASECOND"]}]
    assert len(ec2.instances(Filters=by_id)) == 1
    ec2("DisassociateIamInstanceProfile", AssociationId=replaced["AssociationId"])
    assert ec2("DescribeIamInstanceProfileAssociations")["IamInstanceProfileAssociations"] == []
    assert "IamInstanceProfile" not in ec2.instances()[0]
