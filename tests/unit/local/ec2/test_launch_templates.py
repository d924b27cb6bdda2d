from __future__ import annotations

from typing import Any

import pytest


def create(ec2: Any, name: str, **data: Any) -> str:
    data = data or {"InstanceType": "t3.micro"}
    made = ec2("CreateLaunchTemplate", LaunchTemplateName=name, LaunchTemplateData=data)
    identifier: str = made["LaunchTemplate"]["LaunchTemplateId"]
    return identifier


def add_version(ec2: Any, name: str, source: str | None = None, **data: Any) -> dict[str, Any]:
    params = {"SourceVersion": source} if source else {}
    made = ec2("CreateLaunchTemplateVersion", LaunchTemplateName=name, LaunchTemplateData=data, **params)
    version: dict[str, Any] = made["LaunchTemplateVersion"]
    return version


def numbers(ec2: Any, **params: Any) -> list[int]:
    found = ec2("DescribeLaunchTemplateVersions", **params)["LaunchTemplateVersions"]
    return [each["VersionNumber"] for each in found]


@pytest.fixture
def web(ec2: Any) -> Any:
    """A template `web` with three versions, the second being the default."""
    create(ec2, "web", InstanceType="t3.micro", KeyName="ops")
    add_version(ec2, "web", InstanceType="t3.small", MetadataOptions={"HttpTokens": "optional"})
    add_version(ec2, "web", source="1", MetadataOptions={"HttpTokens": "required"})
    ec2("ModifyLaunchTemplate", LaunchTemplateName="web", DefaultVersion="2")
    return ec2


def test_a_new_version_inherits_from_its_source_what_it_does_not_say(web: Any) -> None:
    [newest] = web("DescribeLaunchTemplateVersions", LaunchTemplateName="web", Versions=["3"])["LaunchTemplateVersions"]
    assert newest["LaunchTemplateData"] == {
        "InstanceType": "t3.micro",
        "KeyName": "ops",
        "MetadataOptions": {"HttpTokens": "required"},
    }
    [second] = web("DescribeLaunchTemplateVersions", LaunchTemplateName="web", Versions=["2"])["LaunchTemplateVersions"]
    assert "KeyName" not in second["LaunchTemplateData"]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, [3, 2, 1]),
        ({"Versions": ["1"]}, [1]),
        ({"Versions": ["$Default"]}, [2]),
        ({"Versions": ["$Latest"]}, [3]),
        ({"Versions": ["$Latest", "$Default", "3"]}, [3, 2]),
        ({"MinVersion": "2"}, [3, 2]),
        ({"MaxVersion": "2"}, [2, 1]),
        ({"MinVersion": "2", "MaxVersion": "2"}, [2]),
        ({"Filters": [{"Name": "http-tokens", "Values": ["required"]}]}, [3]),
        ({"Filters": [{"Name": "is-default-version", "Values": ["true"]}]}, [2]),
        ({"Filters": [{"Name": "instance-type", "Values": ["*.micro"]}]}, [3, 1]),
        ({"MaxResults": 2}, [3, 2]),
    ],
)
def test_versions_of_one_template(web: Any, params: dict[str, Any], expected: list[int]) -> None:
    assert numbers(web, LaunchTemplateName="web", **params) == expected


def test_default_and_latest_of_all_templates(web: Any) -> None:
    create(web, "other")
    found = web("DescribeLaunchTemplateVersions", Versions=["$Latest", "$Default"])["LaunchTemplateVersions"]
    assert sorted((each["LaunchTemplateName"], each["VersionNumber"], each["DefaultVersion"]) for each in found) == [
        ("other", 1, True),
        ("web", 2, True),
        ("web", 3, False),
    ]


def test_pages_of_versions_over_all_templates(ec2: Any) -> None:
    for number in range(5):
        create(ec2, f"template-{number}")
        add_version(ec2, f"template-{number}", InstanceType="t3.large")
    seen: list[tuple[str, int]] = []
    token: dict[str, str] = {}
    while True:
        asked = {"Versions": ["$Latest", "$Default"], "MaxResults": 3, **token}
        answer = ec2("DescribeLaunchTemplateVersions", **asked)
        seen += [(each["LaunchTemplateName"], each["VersionNumber"]) for each in answer["LaunchTemplateVersions"]]
        if "NextToken" not in answer:
            break
        token = {"NextToken": answer["NextToken"]}
    assert sorted(seen) == [(f"template-{number}", version) for number in range(5) for version in (1, 2)]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({}, "MissingParameter"),
        ({"Versions": ["1"]}, "InvalidParameterValue"),
        ({"LaunchTemplateName": "web", "Versions": ["7"]}, "InvalidLaunchTemplateId.VersionNotFound"),
        ({"LaunchTemplateName": "web", "Versions": ["newest"]}, "InvalidParameterValue"),
        ({"LaunchTemplateName": "web", "Versions": ["1"], "MinVersion": "1"}, "InvalidParameterCombination"),
        ({"LaunchTemplateName": "none"}, "InvalidLaunchTemplateName.NotFoundException"),
        ({"LaunchTemplateId": "lt-0123456789abcdef0"}, "InvalidLaunchTemplateId.NotFound"),
        ({"LaunchTemplateId": "lt-x"}, "InvalidLaunchTemplateId.Malformed"),
        ({"LaunchTemplateName": "web", "MaxResults": 201}, "InvalidParameterValue"),
    ],
)
def test_versions_that_cannot_be_described(web: Any, params: dict[str, Any], code: str) -> None:
    assert web.code("DescribeLaunchTemplateVersions", **params) == code


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"LaunchTemplateName": "web"}, "InvalidLaunchTemplateName.AlreadyExistsException"),
        ({"LaunchTemplateName": "a b"}, "InvalidLaunchTemplateName.MalformedException"),
        ({"LaunchTemplateName": None}, "MissingParameter"),
        ({"LaunchTemplateData": {}}, "MissingParameter"),
        ({"LaunchTemplateData": {"MetadataOptions": {"HttpTokens": "yes"}}}, "InvalidParameterValue"),
        ({"LaunchTemplateData": {"MetadataOptions": {"HttpPutResponseHopLimit": 99}}}, "InvalidParameterValue"),
    ],
)
def test_templates_that_cannot_be(web: Any, params: dict[str, Any], code: str) -> None:
    asked = {"LaunchTemplateName": "fresh", "LaunchTemplateData": {"InstanceType": "t3.micro"}}
    assert web.code("CreateLaunchTemplate", **{**asked, **params}) == code


def test_a_client_token_makes_one_template(ec2: Any) -> None:
    asked = {"LaunchTemplateName": "one", "LaunchTemplateData": {"KeyName": "k"}, "ClientToken": "t"}
    first = ec2("CreateLaunchTemplate", **asked)
    assert ec2("CreateLaunchTemplate", **asked) == first
    assert ec2.code("CreateLaunchTemplate", **{**asked, "LaunchTemplateName": "two"}) == "IdempotentParameterMismatch"


def test_what_was_sent_empty_was_not_sent(ec2: Any) -> None:
    create(ec2, "web", UserData="", Placement={"AvailabilityZone": ""}, KeyName="ops")
    [version] = ec2("DescribeLaunchTemplateVersions", LaunchTemplateName="web")["LaunchTemplateVersions"]
    assert version["LaunchTemplateData"] == {"KeyName": "ops"}


def test_deleting_versions_keeps_the_default_and_never_gives_a_number_twice(web: Any) -> None:
    answer = web("DeleteLaunchTemplateVersions", LaunchTemplateName="web", Versions=["2", "3", "9"])
    deleted = answer["SuccessfullyDeletedLaunchTemplateVersions"]
    failed = answer["UnsuccessfullyDeletedLaunchTemplateVersions"]
    assert [each["VersionNumber"] for each in deleted] == [3]
    assert [(each["VersionNumber"], each["ResponseError"]["Code"]) for each in failed] == [
        (2, "unexpectedError"),
        (9, "launchTemplateVersionDoesNotExist"),
    ]
    assert numbers(web, LaunchTemplateName="web", Versions=["$Latest"]) == [2]
    assert add_version(web, "web", KeyName="x")["VersionNumber"] == 4


def test_a_deleted_template_frees_its_name(web: Any) -> None:
    [before] = web("DescribeLaunchTemplates", LaunchTemplateNames=["web"])["LaunchTemplates"]
    assert (before["DefaultVersionNumber"], before["LatestVersionNumber"]) == (2, 3)
    web("DeleteLaunchTemplate", LaunchTemplateId=before["LaunchTemplateId"])
    assert web("DescribeLaunchTemplates")["LaunchTemplates"] == []
    assert web.code("DescribeLaunchTemplates", LaunchTemplateIds=[before["LaunchTemplateId"]]) == (
        "InvalidLaunchTemplateId.NotFound"
    )
    assert create(web, "web") != before["LaunchTemplateId"]


def test_templates_by_tag(ec2: Any) -> None:
    tags = [{"ResourceType": "launch-template", "Tags": [{"Key": "team", "Value": "web"}]}]
    data = {"KeyName": "ops"}
    ec2("CreateLaunchTemplate", LaunchTemplateName="mine", LaunchTemplateData=data, TagSpecifications=tags)
    create(ec2, "theirs")
    filters = [{"Name": "tag:team", "Values": ["web"]}]
    [found] = ec2("DescribeLaunchTemplates", Filters=filters)["LaunchTemplates"]
    assert found["LaunchTemplateName"] == "mine"
    assert found["Tags"] == [{"Key": "team", "Value": "web"}]
