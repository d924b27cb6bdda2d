from __future__ import annotations

import base64
from typing import Any

import pytest

from imdsctl.local.ec2.errors import HTTP_TOKENS_ENFORCED_LAUNCH

BUILT_IN = {
    "HttpTokens": "optional",
    "HttpPutResponseHopLimit": 1,
    "HttpEndpoint": "enabled",
    "HttpProtocolIpv6": "disabled",
    "InstanceMetadataTags": "disabled",
}


def applied(**options: Any) -> dict[str, Any]:
    return {"State": "applied", **BUILT_IN, **options}


@pytest.mark.parametrize(
    ("launch", "default", "family", "expected"),
    [
        ("required", "optional", "al2", "required"),
        ("required", None, "al2", "required"),
        ("optional", "required", "al2023", "optional"),
        (None, None, "al2023", "required"),
        (None, "required", "al2023", "required"),
        (None, "optional", "al2023", "optional"),
        (None, None, "al2", "optional"),
        (None, "required", "al2", "required"),
        (None, "optional", "al2", "optional"),
    ],
)
def test_launch_option_beats_region_default_beats_image_beats_optional(
    ec2: Any, launch: str | None, default: str | None, family: str, expected: str
) -> None:
    if default:
        ec2("ModifyInstanceMetadataDefaults", HttpTokens=default)
    options = {"MetadataOptions": {"HttpTokens": launch}} if launch else {}
    [instance] = ec2.launch(family=family, **options)
    assert ec2.options(instance["InstanceId"])["HttpTokens"] == expected


def test_each_option_is_decided_on_its_own(ec2: Any) -> None:
    ec2("ModifyInstanceMetadataDefaults", HttpPutResponseHopLimit=1, InstanceMetadataTags="enabled")
    [instance] = ec2.launch(family="al2023", MetadataOptions={"HttpProtocolIpv6": "enabled"})
    assert ec2.options(instance["InstanceId"]) == applied(
        HttpTokens="required", HttpProtocolIpv6="enabled", InstanceMetadataTags="enabled"
    )


def test_an_image_with_v2_brings_hop_limit_two(ec2: Any) -> None:
    [instance] = ec2.launch(family="al2023")
    assert ec2.options(instance["InstanceId"]) == applied(HttpTokens="required", HttpPutResponseHopLimit=2)


def test_a_launch_that_resolves_to_v1_is_refused_where_tokens_are_enforced(ec2: Any) -> None:
    ec2("ModifyInstanceMetadataDefaults", HttpTokensEnforced="enabled")
    with_image = {"ImageId": ec2.image("al2"), "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1}
    assert ec2.refusal("RunInstances", **with_image) == ("UnsupportedOperation", HTTP_TOKENS_ENFORCED_LAUNCH)
    assert ec2.instances() == []
    ec2.launch(family="al2", MetadataOptions={"HttpTokens": "required"})
    ec2.launch(family="al2023")
    assert len(ec2.instances()) == 2


def test_an_optional_default_under_enforcement_refuses_even_an_image_with_v2(ec2: Any) -> None:
    ec2("ModifyInstanceMetadataDefaults", HttpTokens="optional", HttpTokensEnforced="enabled")
    asked = {"ImageId": ec2.image("al2023"), "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1}
    assert ec2.code("RunInstances", **asked) == "UnsupportedOperation"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"HttpTokens": "require"},
            "A value of 'require' is not valid for HttpTokens. Specify either 'optional' or 'required' and try again.",
        ),
        (
            {"HttpEndpoint": ""},
            "A value of '' is not valid for HttpEndpoint. Specify either 'enabled' or 'disabled' and try again.",
        ),
        (
            {"HttpPutResponseHopLimit": 65},
            "A value of '65' is not valid for HttpPutResponseHopLimit. Specify a value between 1 and 64 and try again.",
        ),
    ],
)
def test_a_wrong_option_gets_awss_sentence(ec2: Any, options: dict[str, Any], sentence: str) -> None:
    asked = {"ImageId": ec2.image(), "MinCount": 1, "MaxCount": 1, "MetadataOptions": options}
    assert ec2.refusal("RunInstances", **asked) == ("InvalidParameterValue", sentence)


def test_an_endpoint_that_is_off_takes_no_token_options(ec2: Any) -> None:
    asked = {"ImageId": ec2.image(), "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1}
    options = {"HttpEndpoint": "disabled", "HttpTokens": "required"}
    assert ec2.code("RunInstances", **asked, MetadataOptions=options) == "InvalidParameterCombination"
    [instance] = ec2.launch(MetadataOptions={"HttpEndpoint": "disabled"})
    assert ec2.options(instance["InstanceId"])["HttpEndpoint"] == "disabled"


# -- counts, tokens ---------------------------------------------------------------------------------------------------


def test_one_launch_is_one_reservation(ec2: Any) -> None:
    launched = ec2.launch(3)
    [reservation] = ec2("DescribeInstances")["Reservations"]
    assert [each["InstanceId"] for each in reservation["Instances"]] == [each["InstanceId"] for each in launched]
    assert [each["AmiLaunchIndex"] for each in reservation["Instances"]] == [0, 1, 2]
    assert len({each["PrivateIpAddress"] for each in reservation["Instances"]}) == 3


def test_the_answer_comes_before_the_instance_runs(ec2: Any) -> None:
    [instance] = ec2.launch()
    assert (instance["State"]["Name"], instance["MetadataOptions"]["State"]) == ("pending", "pending")
    [later] = ec2.instances()
    assert (later["State"], later["MetadataOptions"]["State"]) == ({"Code": 16, "Name": "running"}, "applied")


def test_a_client_token_launches_once(ec2: Any) -> None:
    [first] = ec2.launch(ClientToken="once")
    [again] = ec2.launch(ClientToken="once")
    assert again["InstanceId"] == first["InstanceId"]
    assert len(ec2.instances()) == 1
    asked = {"ImageId": ec2.image("al2023"), "MinCount": 1, "MaxCount": 1, "ClientToken": "once"}
    assert ec2.code("RunInstances", **asked) == "IdempotentParameterMismatch"


def test_a_client_token_is_forgotten_after_a_day(ec2: Any) -> None:
    [first] = ec2.launch(ClientToken="daily")
    ec2.wait(days=2)
    [second] = ec2.launch(ClientToken="daily")
    assert second["InstanceId"] != first["InstanceId"]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"MaxCount": 1}, "MissingParameter"),
        ({"MinCount": 0, "MaxCount": 1}, "InvalidParameterValue"),
        ({"MinCount": 2, "MaxCount": 1}, "InvalidParameterCombination"),
        ({"MinCount": 1001, "MaxCount": 10**9}, "InstanceLimitExceeded"),
        ({"ImageId": None}, "MissingParameter"),
        ({"ImageId": "ami-0123456789example"}, "InvalidAMIID.Malformed"),
        ({"ImageId": "ami-0123456789abcdef0"}, "InvalidAMIID.NotFound"),
        ({"InstanceType": "banana"}, "InvalidParameterValue"),
        ({"InstanceType": "m7g.large"}, "InvalidParameterValue"),
        ({"SubnetId": "subnet-0123456789abcdef0"}, "InvalidSubnetID.NotFound"),
        ({"SecurityGroupIds": ["sg-0123456789abcdef0"]}, "InvalidGroup.NotFound"),
        ({"SecurityGroups": ["nobody"]}, "InvalidGroup.NotFound"),
        ({"Placement": {"AvailabilityZone": "eu-west-1a"}}, "InvalidParameterValue"),
        ({"UserData": "%%%"}, "InvalidUserData.Malformed"),
        ({"UserData": base64.b64encode(bytes(16385)).decode()}, "InvalidParameterValue"),
        ({"LaunchTemplate": {"LaunchTemplateName": "none"}}, "InvalidLaunchTemplateName.NotFoundException"),
        ({"BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 1}}]}, "InvalidBlockDeviceMapping"),
        (
            {"TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "aws:x", "Value": "y"}]}]},
            "InvalidParameterValue",
        ),
        (
            {
                "MetadataOptions": {"InstanceMetadataTags": "enabled"},
                "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "two words", "Value": ""}]}],
            },
            "InvalidParameterValue",
        ),
    ],
)
def test_nothing_is_launched_when_a_parameter_is_refused(ec2: Any, params: dict[str, Any], code: str) -> None:
    asked = {"ImageId": ec2.image(), "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1, **params}
    if "MaxCount" in params and "MinCount" not in params:
        del asked["MinCount"]
    assert ec2.code("RunInstances", **{name: value for name, value in asked.items() if value is not None}) == code
    assert ec2.instances() == []
    assert ec2.state.volumes == {}


def test_what_is_asked_for_is_what_is_shown(ec2: Any) -> None:
    profile = ec2.profile("web")
    ec2.launch(
        InstanceType="c6i.2xlarge",
        KeyName=ec2.key_pair(),
        Placement={"AvailabilityZone": "us-east-1c"},
        IamInstanceProfile={"Name": "web"},
        Monitoring={"Enabled": True},
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "web-1"}]}],
    )
    [shown] = ec2.instances()
    assert shown["InstanceType"] == "c6i.2xlarge"
    assert shown["CpuOptions"] == {"CoreCount": 4, "ThreadsPerCore": 2}
    assert shown["KeyName"] == "ops"
    assert shown["Placement"]["AvailabilityZone"] == "us-east-1c"
    assert shown["IamInstanceProfile"] == {"Arn": profile, "Id": "AIPAWEB"}
    assert shown["Monitoring"] == {"State": "enabled"}
    assert shown["Tags"] == [{"Key": "Name", "Value": "web-1"}]
    assert shown["BlockDeviceMappings"][0]["DeviceName"] == shown["RootDeviceName"] == "/dev/xvda"
    assert shown["NetworkInterfaces"][0]["PrivateIpAddress"] == shown["PrivateIpAddress"]


# -- launch templates -------------------------------------------------------------------------------------------------


def template(ec2: Any, name: str = "web", **data: Any) -> str:
    data = {"ImageId": ec2.image(), "InstanceType": "t3.small", **data}
    made = ec2("CreateLaunchTemplate", LaunchTemplateName=name, LaunchTemplateData=data)
    identifier: str = made["LaunchTemplate"]["LaunchTemplateId"]
    return identifier


def launch_from(ec2: Any, specification: dict[str, str], **params: Any) -> dict[str, Any]:
    launched = ec2("RunInstances", MinCount=1, MaxCount=1, LaunchTemplate=specification, **params)
    [shown] = ec2.instances(InstanceIds=[launched["Instances"][0]["InstanceId"]])
    assert isinstance(shown, dict)
    return shown


def test_a_template_counts_as_launch_parameters_and_the_request_overrides_it_option_by_option(ec2: Any) -> None:
    ec2("ModifyInstanceMetadataDefaults", HttpTokens="optional", HttpPutResponseHopLimit=5)
    template(ec2, MetadataOptions={"HttpTokens": "required", "HttpPutResponseHopLimit": 3})
    shown = launch_from(ec2, {"LaunchTemplateName": "web"}, MetadataOptions={"HttpPutResponseHopLimit": 2})
    assert shown["MetadataOptions"] == applied(HttpTokens="required", HttpPutResponseHopLimit=2)
    assert shown["InstanceType"] == "t3.small"
    assert launch_from(ec2, {"LaunchTemplateName": "web"}, InstanceType="t3.large")["InstanceType"] == "t3.large"


def test_a_template_that_says_nothing_leaves_the_options_to_region_and_image(ec2: Any) -> None:
    ec2("ModifyInstanceMetadataDefaults", HttpTokens="required")
    template(ec2)
    assert launch_from(ec2, {"LaunchTemplateName": "web"})["MetadataOptions"]["HttpTokens"] == "required"


def test_versions_by_number_default_and_latest(ec2: Any) -> None:
    identifier = template(ec2, InstanceType="t3.nano")
    ec2(
        "CreateLaunchTemplateVersion",
        LaunchTemplateId=identifier,
        SourceVersion="1",
        LaunchTemplateData={"InstanceType": "t3.medium"},
    )
    kinds = {
        version: launch_from(ec2, {"LaunchTemplateId": identifier, **({"Version": version} if version else {})})
        for version in ("", "1", "2", "$Default", "$Latest")
    }
    assert {version: shown["InstanceType"] for version, shown in kinds.items()} == {
        "": "t3.nano",
        "1": "t3.nano",
        "2": "t3.medium",
        "$Default": "t3.nano",
        "$Latest": "t3.medium",
    }
    assert {"Key": "aws:ec2launchtemplate:version", "Value": "2"} in kinds["$Latest"]["Tags"]
    assert {"Key": "aws:ec2launchtemplate:id", "Value": identifier} in kinds["$Latest"]["Tags"]
    missing = {"LaunchTemplateId": identifier, "Version": "9"}
    asked = {"MinCount": 1, "MaxCount": 1, "LaunchTemplate": missing}
    assert ec2.code("RunInstances", **asked) == "InvalidLaunchTemplateId.VersionNotFound"
