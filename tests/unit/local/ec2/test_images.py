from __future__ import annotations

from typing import Any

import pytest


def snapshot(ec2: Any) -> str:
    volume = ec2("CreateVolume", AvailabilityZone=f"{ec2.region}a", Size=8)["VolumeId"]
    identifier: str = ec2("CreateSnapshot", VolumeId=volume)["SnapshotId"]
    return identifier


def mapping(snapshot_id: str) -> list[dict[str, Any]]:
    return [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot_id}}]


def register(ec2: Any, name: str = "my-image", **params: Any) -> str:
    made = ec2(
        "RegisterImage",
        Name=name,
        RootDeviceName="/dev/xvda",
        BlockDeviceMappings=mapping(snapshot(ec2)),
        Architecture="x86_64",
        **params,
    )
    identifier: str = made["ImageId"]
    return identifier


def test_a_registered_image_with_v2_launches_with_v2(ec2: Any) -> None:
    image = register(ec2, ImdsSupport="v2.0")
    [shown] = ec2("DescribeImages", ImageIds=[image])["Images"]
    assert shown["ImdsSupport"] == "v2.0"
    assert shown["BlockDeviceMappings"][0]["Ebs"]["VolumeSize"] == 8
    [instance] = ec2.launch(ImageId=image)
    assert ec2.options(instance["InstanceId"])["HttpTokens"] == "required"


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"BlockDeviceMappings": mapping("snap-0123456789example")}, "InvalidSnapshotID.Malformed"),
        ({"BlockDeviceMappings": mapping("snap-0123456789abcdef0")}, "InvalidSnapshot.NotFound"),
        ({"BlockDeviceMappings": []}, "InvalidBlockDeviceMapping"),
        ({"ImdsSupport": "v1.0"}, "InvalidParameterValue"),
        ({"Architecture": "z80"}, "InvalidParameterValue"),
        ({"Name": "x"}, "InvalidAMIName.Malformed"),
        ({"Name": "taken"}, "InvalidAMIName.Duplicate"),
    ],
)
def test_an_image_that_cannot_be(ec2: Any, params: dict[str, Any], code: str) -> None:
    register(ec2, "taken")
    asked = {
        "Name": "fresh",
        "RootDeviceName": "/dev/xvda",
        "Architecture": "x86_64",
        "BlockDeviceMappings": mapping(snapshot(ec2)),
    }
    assert ec2.code("RegisterImage", **{**asked, **params}) == code


def test_the_sentence_about_an_unknown_snapshot(ec2: Any) -> None:
    asked = {"Name": "fresh", "RootDeviceName": "/dev/xvda", "BlockDeviceMappings": mapping("snap-0123456789abcdef0")}
    assert ec2.refusal("RegisterImage", **asked)[1] == "The snapshot 'snap-0123456789abcdef0' does not exist."


def imds_support(ec2: Any, image: str) -> dict[str, str]:
    shown: dict[str, str] = ec2("DescribeImageAttribute", ImageId=image, Attribute="imdsSupport")["ImdsSupport"]
    return shown


def test_imds_support_can_be_set_and_never_taken_back(ec2: Any) -> None:
    image = register(ec2)
    assert imds_support(ec2, image) == {}
    ec2("ModifyImageAttribute", ImageId=image, ImdsSupport={"Value": "v2.0"})
    assert imds_support(ec2, image) == {"Value": "v2.0"}
    for value in ("", "v1.0", "none"):
        asked = {"ImageId": image, "ImdsSupport": {"Value": value}}
        assert ec2.code("ModifyImageAttribute", **asked) == "InvalidParameterValue"
    assert ec2.code("ModifyImageAttribute", ImageId=image, ImdsSupport={}) == "InvalidParameterValue"
    assert imds_support(ec2, image) == {"Value": "v2.0"}


def test_the_older_form_of_modify_image_attribute(ec2: Any) -> None:
    image = register(ec2)
    ec2("ModifyImageAttribute", ImageId=image, Attribute="imdsSupport", Value="v2.0")
    assert imds_support(ec2, image) == {"Value": "v2.0"}


def test_one_attribute_in_each_request(ec2: Any) -> None:
    image = register(ec2)
    both = {"ImdsSupport": {"Value": "v2.0"}, "Description": {"Value": "x"}}
    assert ec2.code("ModifyImageAttribute", ImageId=image, **both) == "InvalidParameterCombination"
    assert ec2.code("ModifyImageAttribute", ImageId=image) == "MissingParameter"


def test_only_the_owner_changes_an_image(ec2: Any) -> None:
    asked = {"ImageId": ec2.image("al2"), "ImdsSupport": {"Value": "v2.0"}}
    assert ec2.code("ModifyImageAttribute", **asked) == "AuthFailure"
    assert ec2.code("DeregisterImage", ImageId=ec2.image("al2")) == "AuthFailure"


def test_an_image_is_seen_by_whom_it_is_shared_with(ec2: Any) -> None:
    image = register(ec2)
    ec2.account_id = "444455556666"
    assert ec2.code("DescribeImages", ImageIds=[image]) == "InvalidAMIID.NotFound"
    ec2.account_id = "111122223333"
    ec2("ModifyImageAttribute", ImageId=image, LaunchPermission={"Add": [{"UserId": "444455556666"}]})
    ec2.account_id = "444455556666"
    assert len(ec2("DescribeImages", ImageIds=[image])["Images"]) == 1
    assert ec2("DescribeImages", Owners=["self"])["Images"] == []
    ec2.launch(ImageId=image)
    ec2.account_id = "111122223333"
    ec2("ModifyImageAttribute", ImageId=image, LaunchPermission={"Remove": [{"UserId": "444455556666"}]})
    assert len(ec2("DescribeImages", ImageIds=[image])["Images"]) == 1, "the owner still sees it"
    ec2.account_id = "444455556666"
    assert ec2.code("DescribeImages", ImageIds=[image]) == "InvalidAMIID.NotFound"


def test_a_public_image_is_seen_by_all_until_it_is_deregistered(ec2: Any) -> None:
    image = register(ec2, "everybody's")
    ec2("ModifyImageAttribute", ImageId=image, LaunchPermission={"Add": [{"Group": "all"}]})
    found = {"Filters": [{"Name": "name", "Values": ["everybody's"]}]}
    ec2.account_id = "444455556666"
    assert [each["ImageId"] for each in ec2("DescribeImages", **found)["Images"]] == [image]
    ec2.account_id = "111122223333"
    assert [each["ImageId"] for each in ec2("DescribeImages", **found)["Images"]] == [image], "the owner sees it once"
    ec2("DeregisterImage", ImageId=image)
    ec2.account_id = "444455556666"
    assert ec2("DescribeImages", **found)["Images"] == []


def test_a_deregistered_image_is_gone_and_its_instances_stay(ec2: Any) -> None:
    image = register(ec2)
    ec2.launch(ImageId=image)
    ec2("DeregisterImage", ImageId=image)
    assert ec2.code("DescribeImages", ImageIds=[image]) == "InvalidAMIID.NotFound"
    assert len(ec2.instances()) == 1


# -- public images ----------------------------------------------------------------------------------------------------


def image_names(ec2: Any, **params: Any) -> list[str]:
    return sorted(each["Name"] for each in ec2("DescribeImages", **params)["Images"])


def test_public_images_as_their_owners_publish_them(ec2: Any) -> None:
    amazon = ec2("DescribeImages", Owners=["amazon"])["Images"]
    v2 = {each["Name"].split("-")[0] for each in amazon if each.get("ImdsSupport") == "v2.0"}
    assert v2 == {"al2023"}
    assert {each.get("Platform") for each in amazon} == {None, "windows"}
    canonical = ec2("DescribeImages", Owners=["099720109477"])["Images"]
    assert {each["Architecture"] for each in canonical} == {"x86_64", "arm64"}
    assert not any("ImdsSupport" in each or "ImageOwnerAlias" in each for each in canonical)
    assert ec2("DescribeImages", Owners=["aws-marketplace"])["Images"] == []


def test_images_by_name_with_wildcards(ec2: Any) -> None:
    filters = [{"Name": "name", "Values": ["al2023-ami-2023.*-arm64"]}]
    assert len(image_names(ec2, Owners=["amazon"], Filters=filters)) == 2
    assert image_names(ec2, Filters=[{"Name": "owner-alias", "Values": ["nobody"]}]) == []


def test_public_images_differ_by_region_and_not_by_account(ec2: Any) -> None:
    here = ec2.image("al2023")
    ec2.account_id = "444455556666"
    assert len(ec2("DescribeImages", ImageIds=[here])["Images"]) == 1
    ec2.region = "eu-west-1"
    assert ec2.image("al2023") != here
    assert ec2.code("DescribeImages", ImageIds=[here]) == "InvalidAMIID.NotFound"


# -- volumes and snapshots --------------------------------------------------------------------------------------------


def test_snapshots_by_id_owner_filter_and_page(ec2: Any) -> None:
    ids = sorted(snapshot(ec2) for _ in range(7))
    first = ec2("DescribeSnapshots", OwnerIds=["self"], MaxResults=5)
    rest = ec2("DescribeSnapshots", OwnerIds=["self"], MaxResults=5, NextToken=first["NextToken"])
    assert [each["SnapshotId"] for each in first["Snapshots"] + rest["Snapshots"]] == ids
    assert "NextToken" not in rest
    [one] = ec2("DescribeSnapshots", SnapshotIds=ids[:1])["Snapshots"]
    assert (one["State"], one["VolumeSize"], one["OwnerId"]) == ("completed", 8, "111122223333")
    assert ec2("DescribeSnapshots", OwnerIds=["amazon"])["Snapshots"] == []
    assert ec2("DescribeSnapshots", Filters=[{"Name": "volume-size", "Values": ["9"]}])["Snapshots"] == []
    assert ec2.code("DescribeSnapshots", SnapshotIds=["snap-0123456789abcdef0"]) == "InvalidSnapshot.NotFound"


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"Size": 8}, "MissingParameter"),
        ({"AvailabilityZone": "us-east-1a"}, "MissingParameter"),
        ({"AvailabilityZone": "us-east-1z", "Size": 8}, "InvalidParameterValue"),
        ({"AvailabilityZone": "us-east-1a", "Size": 8, "VolumeType": "fast"}, "InvalidParameterValue"),
        ({"AvailabilityZone": "us-east-1a", "Size": 99999}, "InvalidParameterValue"),
        ({"AvailabilityZone": "us-east-1a", "SnapshotId": "snap-0123456789abcdef0"}, "InvalidSnapshot.NotFound"),
    ],
)
def test_a_volume_that_cannot_be(ec2: Any, params: dict[str, Any], code: str) -> None:
    assert ec2.code("CreateVolume", **params) == code
    assert ec2.code("CreateSnapshot", VolumeId="vol-0123456789abcdef0") == "InvalidVolume.NotFound"


def test_the_root_volume_of_an_instance_can_be_made_an_image(ec2: Any) -> None:
    ec2.launch()
    volume = ec2.instances()[0]["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    made = ec2("CreateSnapshot", VolumeId=volume)
    assert (made["State"], made["VolumeSize"]) == ("pending", 8)
