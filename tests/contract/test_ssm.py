"""botocore as the client of Parameter Store: own parameters, AWS's public ones, and launches that name one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

AL2023 = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-x86_64"


def test_a_parameter_from_its_making_to_its_end(offline: Any) -> None:
    ssm = offline.client("ssm")
    made = ssm.put_parameter(
        Name="/app/url", Value="one", Type="String", Description="d", Tags=[{"Key": "a", "Value": "b"}]
    )
    assert (made["Version"], made["Tier"]) == (1, "Standard")
    refusal = offline.refused(lambda: ssm.put_parameter(Name="/app/url", Value="two", Type="String"))
    assert refusal[:2] == ("ParameterAlreadyExists", 400)
    assert ssm.put_parameter(Name="/app/url", Value="two", Overwrite=True)["Version"] == 2
    parameter = ssm.get_parameter(Name="/app/url")["Parameter"]
    assert parameter["Value"] == "two"
    assert parameter["ARN"] == f"arn:aws:ssm:us-east-1:{offline.management}:parameter/app/url"
    assert ssm.get_parameter(Name="/app/url:1")["Parameter"]["Value"] == "one"
    assert ssm.get_parameter(Name=parameter["ARN"])["Parameter"] == parameter
    assert offline.refused(lambda: ssm.get_parameter(Name="/app/url:9"))[0] == "ParameterVersionNotFound"
    history = ssm.get_parameter_history(Name="/app/url")["Parameters"]
    assert [(each["Version"], each["Value"], each["Description"]) for each in history] == [
        (1, "one", "d"),
        (2, "two", "d"),
    ]
    ssm.add_tags_to_resource(ResourceType="Parameter", ResourceId="/app/url", Tags=[{"Key": "c", "Value": "d"}])
    ssm.remove_tags_from_resource(ResourceType="Parameter", ResourceId="/app/url", TagKeys=["a"])
    tags = ssm.list_tags_for_resource(ResourceType="Parameter", ResourceId="/app/url")["TagList"]
    assert tags == [{"Key": "c", "Value": "d"}]
    described = ssm.describe_parameters(ParameterFilters=[{"Key": "Name", "Values": ["/app/url"]}])["Parameters"]
    assert [each["Version"] for each in described] == [2]
    ssm.delete_parameter(Name="/app/url")
    assert offline.refused(lambda: ssm.get_parameter(Name="/app/url"))[:2] == ("ParameterNotFound", 400)
    assert offline.refused(lambda: ssm.delete_parameter(Name="/app/url"))[0] == "ParameterNotFound"


def test_a_secret_is_told_only_to_who_asks_for_decryption(offline: Any) -> None:
    ssm = offline.client("ssm")
    ssm.put_parameter(Name="secret", Value="hush", Type="SecureString")
    assert ssm.get_parameter(Name="secret", WithDecryption=True)["Parameter"]["Value"] == "hush"
    assert "hush" not in str(ssm.get_parameter(Name="secret"))
    assert "hush" not in str(ssm.get_parameter_history(Name="secret"))
    assert ssm.describe_parameters()["Parameters"][0]["KeyId"] == "alias/aws/ssm"


def test_paths_are_walked_in_pages(offline: Any) -> None:
    ssm = offline.client("ssm")
    for number in range(12):
        ssm.put_parameter(Name=f"/a/{number:02}", Value="x", Type="String")
    ssm.put_parameter(Name="/a/b/c", Value="x", Type="String")
    pages = list(ssm.get_paginator("get_parameters_by_path").paginate(Path="/a"))
    assert [len(page["Parameters"]) for page in pages] == [10, 2]
    deep = ssm.get_paginator("get_parameters_by_path").paginate(Path="/a/", Recursive=True)
    assert sum(len(page["Parameters"]) for page in deep) == 13
    answer = ssm.get_parameters(Names=["/a/00", "/nowhere"])
    assert [each["Name"] for each in answer["Parameters"]] == ["/a/00"]
    assert answer["InvalidParameters"] == ["/nowhere"]
    deleted = ssm.delete_parameters(Names=["/a/00", "/nowhere"])
    assert (deleted["DeletedParameters"], deleted["InvalidParameters"]) == (["/a/00"], ["/nowhere"])


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("aws-thing", {}),
        ("/ssm/x", {}),
        ("a/b", {}),
        ("with space", {}),
        ("/aws/service/mine", {}),
        ("/" + "/".join("abcdefghijklmnop"), {}),
        ("x", {"Value": "v" * 4097}),
        ("x", {"AllowedPattern": r"\d+"}),
        ("x", {"AllowedPattern": "(a+)+$"}),
        ("x", {"DataType": "aws:ec2:image"}),
        ("x", {"Tier": "Huge"}),
    ],
)
def test_what_breaks_a_rule_is_refused(offline: Any, name: str, more: dict[str, Any]) -> None:
    ssm = offline.client("ssm", checked=False)
    offline.refused(lambda: ssm.put_parameter(**{"Name": name, "Value": "v", "Type": "String", **more}))
    assert ssm.describe_parameters()["Parameters"] == []


def test_public_parameters_name_images_that_are_there(offline: Any) -> None:
    ssm, ec2 = offline.client("ssm", region="eu-west-1"), offline.client("ec2", region="eu-west-1")
    pages = ssm.get_paginator("get_parameters_by_path").paginate(Path="/aws/service", Recursive=True)
    parameters = {each["Name"]: each["Value"] for page in pages for each in page["Parameters"]}
    assert len(parameters) == 23
    images = ec2.describe_images(ImageIds=sorted(set(parameters.values())))["Images"]
    assert {each["ImageId"] for each in images} == set(parameters.values())
    named = next(each for each in images if each["ImageId"] == parameters[AL2023])
    assert (named["Name"][:16], named["ImdsSupport"]) == ("al2023-ami-2023.", "v2.0")
    elsewhere = offline.client("ssm").get_parameter(Name=AL2023)["Parameter"]
    assert elsewhere["Value"] != parameters[AL2023]
    assert elsewhere["ARN"] == f"arn:aws:ssm:us-east-1::parameter{AL2023}"


def test_a_launch_resolves_what_a_template_keeps(offline: Any) -> None:
    ssm, ec2 = offline.client("ssm"), offline.client("ec2")
    image = ssm.get_parameter(Name=AL2023)["Parameter"]["Value"]
    ssm.put_parameter(Name="golden", Value=image, Type="String", DataType="aws:ec2:image")
    ec2.create_launch_template(LaunchTemplateName="golden", LaunchTemplateData={"ImageId": "resolve:ssm:golden:1"})
    kept = ec2.describe_launch_template_versions(LaunchTemplateName="golden")["LaunchTemplateVersions"][0]
    assert kept["LaunchTemplateData"]["ImageId"] == "resolve:ssm:golden:1"
    resolved = ec2.describe_launch_template_versions(LaunchTemplateName="golden", ResolveAlias=True)
    assert resolved["LaunchTemplateVersions"][0]["LaunchTemplateData"]["ImageId"] == image
    for more in ({"LaunchTemplate": {"LaunchTemplateName": "golden"}}, {"ImageId": f"resolve:ssm:{AL2023}"}):
        launched = ec2.run_instances(InstanceType="t3.micro", MinCount=1, MaxCount=1, **more)["Instances"][0]
        assert launched["ImageId"] == image
    request = {"ImageId": "resolve:ssm:nothing", "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1}
    assert offline.refused(lambda: ec2.run_instances(**request))[0] == "InvalidParameterValue"


def test_parameters_outlive_a_restart(make_offline: Any, tmp_path: Path) -> None:
    before = make_offline(tmp_path / "state")
    before.client("ssm").put_parameter(Name="/a", Value="1", Type="SecureString")
    before.client("ssm").put_parameter(Name="/a", Value="2", Overwrite=True)
    told = before.client("ssm").get_parameter_history(Name="/a", WithDecryption=True)["Parameters"]
    after = make_offline(tmp_path / "state")
    assert after.client("ssm").get_parameter_history(Name="/a", WithDecryption=True)["Parameters"] == told
