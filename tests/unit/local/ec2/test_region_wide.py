"""Regions, zones, the Region's metadata defaults, tags."""

from __future__ import annotations

from typing import Any

import pytest

from imdsctl.domain.regions import COMMERCIAL_REGIONS, DEFAULT_REGIONS
from imdsctl.local.world import ENABLED

# -- Regions ----------------------------------------------------------------------------------------------------------


def names(answer: dict[str, Any]) -> list[str]:
    return [each["RegionName"] for each in answer["Regions"]]


def test_only_enabled_regions_unless_all_are_asked_for(ec2: Any) -> None:
    assert names(ec2("DescribeRegions")) == list(DEFAULT_REGIONS)
    ec2.world.set_region_opt_status(ec2.account_id, "af-south-1", ENABLED, ec2.now)
    assert names(ec2("DescribeRegions")) == ["af-south-1", *DEFAULT_REGIONS]
    every = ec2("DescribeRegions", AllRegions=True)["Regions"]
    assert {each["RegionName"]: each["OptInStatus"] for each in every}.items() >= {
        "af-south-1": "opted-in",
        "il-central-1": "not-opted-in",
        "us-east-1": "opt-in-not-required",
    }.items()
    assert len(every) == len(COMMERCIAL_REGIONS)


def test_regions_by_name_and_filter(ec2: Any) -> None:
    assert names(ec2("DescribeRegions", RegionNames=["eu-west-1"])) == ["eu-west-1"]
    by_endpoint = [{"Name": "endpoint", "Values": ["*ap-northeast-*"]}]
    assert names(ec2("DescribeRegions", Filters=by_endpoint)) == ["ap-northeast-1", "ap-northeast-2", "ap-northeast-3"]
    closed = [{"Name": "opt-in-status", "Values": ["not-opted-in"]}]
    assert len(names(ec2("DescribeRegions", AllRegions=True, Filters=closed))) == 17
    assert ec2.code("DescribeRegions", RegionNames=["mars-1"]) == "InvalidParameterValue"
    assert ec2.code("DescribeRegions", Filters=[{"Name": "x", "Values": ["y"]}]) == "InvalidParameterValue"


@pytest.mark.parametrize("region", COMMERCIAL_REGIONS)
def test_every_region_has_zones_and_public_images(ec2: Any, region: str) -> None:
    ec2.region = region
    zones = ec2("DescribeAvailabilityZones")["AvailabilityZones"]
    assert len(zones) >= 2
    assert all(each["ZoneName"].startswith(region) and each["RegionName"] == region for each in zones)
    assert ec2("DescribeImages", Owners=["amazon"])["Images"]


# -- the Region's defaults --------------------------------------------------------------------------------------------


def test_a_region_starts_without_preferences(ec2: Any) -> None:
    assert ec2("GetInstanceMetadataDefaults") == {"AccountLevel": {"ManagedBy": "account"}}


def test_only_the_named_defaults_change(ec2: Any) -> None:
    everything = {
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 3,
        "HttpEndpoint": "enabled",
        "InstanceMetadataTags": "disabled",
        "HttpTokensEnforced": "disabled",
    }
    assert ec2("ModifyInstanceMetadataDefaults", **everything) == {"Return": True}
    ec2("ModifyInstanceMetadataDefaults", HttpTokensEnforced="enabled")
    level = {**everything, "HttpTokensEnforced": "enabled", "ManagedBy": "account"}
    assert ec2("GetInstanceMetadataDefaults")["AccountLevel"] == level
    ec2("ModifyInstanceMetadataDefaults", HttpTokens="no-preference", HttpPutResponseHopLimit=-1)
    del level["HttpTokens"], level["HttpPutResponseHopLimit"]
    assert ec2("GetInstanceMetadataDefaults")["AccountLevel"] == level


def test_defaults_belong_to_one_account_in_one_region(ec2: Any) -> None:
    ec2("ModifyInstanceMetadataDefaults", HttpTokens="required")
    ec2.region = "eu-west-1"
    assert ec2("GetInstanceMetadataDefaults")["AccountLevel"] == {"ManagedBy": "account"}
    ec2.region, ec2.account_id = "us-east-1", "444455556666"
    assert ec2("GetInstanceMetadataDefaults")["AccountLevel"] == {"ManagedBy": "account"}


@pytest.mark.parametrize(
    "params",
    [
        {"HttpTokens": "require"},
        {"HttpTokens": "required", "HttpPutResponseHopLimit": 0},
        {"HttpTokens": "required", "HttpPutResponseHopLimit": 65},
        {"HttpTokens": "required", "HttpTokensEnforced": "true"},
        {"HttpTokens": "required", "HttpEndpoint": "on"},
    ],
)
def test_a_wrong_default_changes_nothing(ec2: Any, params: dict[str, Any]) -> None:
    assert ec2.code("ModifyInstanceMetadataDefaults", **params) == "InvalidParameterValue"
    assert ec2("GetInstanceMetadataDefaults")["AccountLevel"] == {"ManagedBy": "account"}


def test_defaults_touch_no_existing_instance(ec2: Any) -> None:
    [instance] = ec2.launch()
    ec2("ModifyInstanceMetadataDefaults", HttpTokens="required", HttpTokensEnforced="enabled")
    assert ec2.options(instance["InstanceId"])["HttpTokens"] == "optional"
    ec2("StopInstances", InstanceIds=[instance["InstanceId"]])
    ec2("StartInstances", InstanceIds=[instance["InstanceId"]])
    assert ec2.options(instance["InstanceId"])["HttpTokens"] == "optional"


# -- tags -------------------------------------------------------------------------------------------------------------


def pairs(**tags: str) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def test_tags_come_and_go(ec2: Any) -> None:
    instance = ec2.launch()[0]["InstanceId"]
    resources = {"Resources": [instance, ec2.state.vpc_id]}
    ec2("CreateTags", **resources, Tags=pairs(a="1", b="2", c="3"))
    ec2("CreateTags", Resources=[instance], Tags=pairs(a="one"))
    ec2("DeleteTags", **resources, Tags=[{"Key": "b"}, {"Key": "c", "Value": "other"}])
    shown = ec2("DescribeTags", Filters=[{"Name": "resource-id", "Values": [instance]}])["Tags"]
    assert shown == [
        {"Key": "a", "ResourceId": instance, "ResourceType": "instance", "Value": "one"},
        {"Key": "c", "ResourceId": instance, "ResourceType": "instance", "Value": "3"},
    ]
    assert ec2.instances()[0]["Tags"] == pairs(a="one", c="3")
    ec2("DeleteTags", Resources=[instance])
    kinds = {each["ResourceType"] for each in ec2("DescribeTags")["Tags"]}
    assert kinds == {"vpc"}
    assert "Tags" not in ec2.instances()[0]


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        (pairs(**{"aws:mine": ""}), "InvalidParameterValue"),
        (pairs(**{"k" * 129: ""}), "InvalidParameterValue"),
        (pairs(k="v" * 257), "InvalidParameterValue"),
        (pairs(**{f"k{number}": "" for number in range(51)}), "TagLimitExceeded"),
        ([*pairs(a="1"), *pairs(a="2")], "InvalidParameterValue"),
        ([], "MissingParameter"),
    ],
)
def test_tag_restrictions(ec2: Any, tags: list[dict[str, str]], code: str) -> None:
    instance = ec2.launch()[0]["InstanceId"]
    assert ec2.code("CreateTags", Resources=[instance], Tags=tags) == code


@pytest.mark.parametrize("key", ["two words", "a/b", ".", "..", "_index"])
def test_a_key_that_the_metadata_service_cannot_serve(ec2: Any, key: str) -> None:
    plain = ec2.launch()[0]["InstanceId"]
    ec2("CreateTags", Resources=[plain], Tags=pairs(**{key: ""}))
    told = ec2.launch(MetadataOptions={"InstanceMetadataTags": "enabled"})[0]["InstanceId"]
    assert ec2.code("CreateTags", Resources=[told], Tags=pairs(**{key: ""})) == "InvalidParameterValue"
    asked = {"InstanceId": plain, "InstanceMetadataTags": "enabled"}
    assert ec2.code("ModifyInstanceMetadataOptions", **asked) == "InvalidParameterValue"


def test_tags_of_nobody(ec2: Any) -> None:
    assert ec2.code("CreateTags", Resources=["i-0123456789abcdef0"], Tags=pairs(a="")) == "InvalidInstanceID.NotFound"
    assert ec2.code("CreateTags", Resources=["nonsense"], Tags=pairs(a="")) == "InvalidID"
    assert ec2.code("CreateTags", Tags=pairs(a="")) == "MissingParameter"
