"""What AWS announced, typed as AWS typed it, against the local AWS: boto3 and the AWS CLI, unmodified.

"Set IMDSv2 as default for all new instance launches in your account" (2024), "Amazon EC2 now lets you register AMIs
that use IMDSv2 by default" (2022) and the EC2 User Guide, "Order of precedence for instance metadata options".
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError

Refusal = pytest.ExceptionInfo[ClientError]
ACCOUNTS = 4


def code(refusal: Refusal) -> tuple[str, int]:
    """AWS's error code and the HTTP status it came with."""
    response = refusal.value.response
    return response["Error"]["Code"], response["ResponseMetadata"]["HTTPStatusCode"]


def printed(done: Any) -> Any:
    """What a successful `aws` command printed."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if done.stdout.strip() else None


# -- the account's default -------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_boto3_requires_v2_in_every_region_of_every_account(
    start_local: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    shell = start_local("--accounts", str(ACCOUNTS), "--instances", "1")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in shell.env.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    accounts = boto3.client("organizations").list_accounts()["Accounts"]
    assert len(accounts) == ACCOUNTS
    seen = set()
    for account in accounts:
        chosen = shell.exporting(shell.imdsctl("local", "env", "--account", account["Id"]).stdout)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", chosen.env["AWS_ACCESS_KEY_ID"])
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", chosen.env["AWS_SECRET_ACCESS_KEY"])
        session = boto3.Session()
        assert session.client("sts").get_caller_identity()["Account"] == account["Id"]
        for region in [each["RegionName"] for each in session.client("ec2").describe_regions()["Regions"]]:
            ec2 = session.client("ec2", region_name=region)
            assert ec2.modify_instance_metadata_defaults(HttpTokens="required")["Return"] is True
            assert ec2.get_instance_metadata_defaults()["AccountLevel"]["HttpTokens"] == "required"
            seen.add((account["Id"], region))
            ec2.close()
    assert len(seen) == ACCOUNTS * 17


@pytest.mark.slow
def test_the_aws_cli_sets_and_shows_the_default(place: Any) -> None:
    modify = place.shell.aws("ec2", "modify-instance-metadata-defaults", "--http-tokens", "required")
    assert printed(modify) == {"Return": True}
    shown = printed(place.shell.aws("ec2", "get-instance-metadata-defaults"))
    assert shown == {"AccountLevel": {"HttpTokens": "required", "ManagedBy": "account"}}


def test_a_default_is_partial_and_no_preference_takes_it_back(place: Any) -> None:
    def level() -> dict[str, Any]:
        return dict(place.ec2.get_instance_metadata_defaults()["AccountLevel"])

    place.ec2.modify_instance_metadata_defaults(HttpTokens="required", HttpPutResponseHopLimit=3)
    place.ec2.modify_instance_metadata_defaults(HttpTokensEnforced="enabled")
    everything = {"HttpTokens": "required", "HttpPutResponseHopLimit": 3, "HttpTokensEnforced": "enabled"}
    assert level() == {**everything, "ManagedBy": "account"}
    with pytest.raises(ClientError) as refusal:
        place.ec2.modify_instance_metadata_defaults(HttpTokens="no-preference", DryRun=True)
    assert code(refusal) == ("DryRunOperation", 412)
    assert level() == {**everything, "ManagedBy": "account"}
    place.ec2.modify_instance_metadata_defaults(
        HttpTokens="no-preference", HttpPutResponseHopLimit=-1, HttpTokensEnforced="disabled"
    )
    assert level().keys() - {"HttpTokensEnforced"} == {"ManagedBy"}
    for wrong in ({"HttpTokens": "require"}, {"HttpPutResponseHopLimit": 65}, {"HttpPutResponseHopLimit": 0}):
        with pytest.raises(ClientError) as refusal:
            place.ec2.modify_instance_metadata_defaults(**wrong)
        assert code(refusal) == ("InvalidParameterValue", 400)


# -- images ----------------------------------------------------------------------------------------------------------


REGISTER_IMAGE = (
    *("ec2", "register-image", "--name", "my-image", "--root-device-name", "/dev/xvda"),
    *("--block-device-mappings", "DeviceName=/dev/xvda,Ebs={{SnapshotId={snapshot}}}"),
    *("--architecture", "x86_64", "--imds-support", "v2.0"),
)


def register_image(snapshot: str) -> list[str]:
    """The announcement's command line."""
    return [word.format(snapshot=snapshot) for word in REGISTER_IMAGE]


@pytest.mark.slow
def test_the_aws_cli_registers_an_image_that_requires_v2(place: Any) -> None:
    volume = place.ec2.create_volume(AvailabilityZone=f"{place.region}a", Size=8)["VolumeId"]
    snapshot = place.ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    place.ec2.get_waiter("snapshot_completed").wait(SnapshotIds=[snapshot])

    image_id = printed(place.shell.aws(*register_image(snapshot)))["ImageId"]

    (image,) = place.ec2.describe_images(ImageIds=[image_id])["Images"]
    assert (image["Name"], image["ImdsSupport"], image["State"]) == ("my-image", "v2.0", "available")
    attribute = place.ec2.describe_image_attribute(ImageId=image_id, Attribute="imdsSupport")
    assert attribute["ImdsSupport"] == {"Value": "v2.0"}
    options = place.launch(image_id)["MetadataOptions"]
    assert (options["HttpTokens"], options["HttpPutResponseHopLimit"]) == ("required", 2)


@pytest.mark.slow
def test_the_announcements_placeholder_snapshot_gets_awss_own_error(place: Any) -> None:
    done = place.shell.aws(*register_image("snap-0123456789example"))
    assert done.returncode != 0
    assert "An error occurred (InvalidSnapshotID.Malformed) when calling the RegisterImage operation" in done.stderr


def test_an_image_that_supports_v2_stays_so(place: Any) -> None:
    volume = place.ec2.create_volume(AvailabilityZone=f"{place.region}a", Size=8)["VolumeId"]
    snapshot = place.ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    image_id = place.ec2.register_image(
        Name="plain",
        RootDeviceName="/dev/xvda",
        Architecture="x86_64",
        BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": snapshot}}],
    )["ImageId"]
    assert "ImdsSupport" not in place.ec2.describe_images(ImageIds=[image_id])["Images"][0]
    place.ec2.modify_image_attribute(ImageId=image_id, ImdsSupport={"Value": "v2.0"})
    with pytest.raises(ClientError):
        place.ec2.modify_image_attribute(ImageId=image_id, ImdsSupport={"Value": "v1.0"})
    assert place.ec2.describe_images(ImageIds=[image_id])["Images"][0]["ImdsSupport"] == "v2.0"


# -- launches --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_aws_cli_launches_with_and_without_metadata_options(place: Any) -> None:
    launch = ("ec2", "run-instances", "--instance-type", "t3.micro", "--image-id", place.image_without)
    options = ("--metadata-options", "HttpTokens=required,HttpPutResponseHopLimit=2,HttpEndpoint=enabled")
    plain = printed(place.shell.aws(*launch))["Instances"][0]["InstanceId"]
    asked = printed(place.shell.aws(*launch, *options))["Instances"][0]["InstanceId"]
    shown = printed(place.shell.aws("ec2", "describe-instances", "--instance-ids", plain, asked))
    seen = {
        instance["InstanceId"]: (
            instance["MetadataOptions"]["HttpTokens"],
            instance["MetadataOptions"]["HttpPutResponseHopLimit"],
        )
        for reservation in shown["Reservations"]
        for instance in reservation["Instances"]
    }
    assert seen == {plain: ("optional", 1), asked: ("required", 2)}


ROWS = [
    # launch option, Region default, image -> tokens
    ("required", "optional", None, "required"),
    ("required", None, None, "required"),
    ("optional", "required", "v2.0", "optional"),
    ("optional", None, "v2.0", "optional"),
    (None, "required", None, "required"),
    (None, "required", "v2.0", "required"),
    (None, "optional", "v2.0", "optional"),
    (None, "optional", None, "optional"),
    (None, None, "v2.0", "required"),
    (None, None, None, "optional"),
]


def test_launch_option_beats_region_default_beats_image_beats_optional(place: Any) -> None:
    images = {"v2.0": place.image_with_v2, None: place.image_without}
    for launch, default, image, tokens in ROWS:
        place.ec2.modify_instance_metadata_defaults(HttpTokens=default or "no-preference")
        options = {"MetadataOptions": {"HttpTokens": launch}} if launch else {}
        seen = place.launch(images[image], **options)["MetadataOptions"]
        assert seen["HttpTokens"] == tokens, (launch, default, image)
        assert (seen["HttpEndpoint"], seen["HttpProtocolIpv6"]) == ("enabled", "disabled")
        assert (seen["InstanceMetadataTags"], seen["State"]) == ("disabled", "applied")

    place.ec2.modify_instance_metadata_defaults(HttpTokens="no-preference", HttpPutResponseHopLimit=1)
    mixed = place.launch(images["v2.0"])["MetadataOptions"]
    assert (mixed["HttpTokens"], mixed["HttpPutResponseHopLimit"]) == ("required", 1), "the guide's first example"


def test_enforcement_refuses_a_launch_that_resolves_to_v1(place: Any) -> None:
    place.ec2.modify_instance_metadata_defaults(HttpTokensEnforced="enabled")
    with pytest.raises(
        ClientError, match="You can't launch instances with IMDSv1 because httpTokensEnforced"
    ) as refusal:
        place.launch(place.image_without)
    assert code(refusal) == ("UnsupportedOperation", 400)
    assert place.launch(place.image_with_v2)["MetadataOptions"]["HttpTokens"] == "required"
    required = place.launch(place.image_without, MetadataOptions={"HttpTokens": "required"})
    with pytest.raises(ClientError, match="You can't set httpTokens to 'optional'") as refusal:
        place.ec2.modify_instance_metadata_options(InstanceId=required["InstanceId"], HttpTokens="optional")
    assert code(refusal) == ("UnsupportedOperation", 400)


# -- what boto3's own machinery expects ------------------------------------------------------------------------------


def test_waiters_and_paginators_of_boto3_work(place: Any) -> None:
    launched = place.ec2.run_instances(
        ImageId=place.image_without,
        InstanceType="t3.micro",
        MinCount=12,
        MaxCount=12,
        ClientToken="once",
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Test", "Value": "pages"}]}],
    )
    ids = {instance["InstanceId"] for instance in launched["Instances"]}
    place.ec2.get_waiter("instance_running").wait(InstanceIds=sorted(ids))
    again = place.ec2.run_instances(
        ImageId=place.image_without, InstanceType="t3.micro", MinCount=12, MaxCount=12, ClientToken="once",
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": "Test", "Value": "pages"}]}],
    )  # fmt: skip
    assert {instance["InstanceId"] for instance in again["Instances"]} == ids, "a ClientToken launches once"

    pages = list(
        place.ec2.get_paginator("describe_instances").paginate(
            Filters=[{"Name": "tag:Test", "Values": ["pages"]}], PaginationConfig={"PageSize": 5}
        )
    )
    seen = [
        instance["InstanceId"]
        for page in pages
        for reservation in page["Reservations"]
        for instance in reservation["Instances"]
    ]
    assert len(pages) == 3
    assert len(seen) == 12
    assert set(seen) == ids

    place.ec2.terminate_instances(InstanceIds=sorted(ids))
    place.ec2.get_waiter("instance_terminated").wait(InstanceIds=sorted(ids))


def test_a_dry_run_changes_nothing(place: Any) -> None:
    before = place.ec2.describe_instances()["Reservations"]
    with pytest.raises(ClientError) as refusal:
        place.launch(place.image_without, DryRun=True)
    assert code(refusal) == ("DryRunOperation", 412)
    assert place.ec2.describe_instances()["Reservations"] == before


def test_a_modify_changes_only_what_it_names(place: Any) -> None:
    launched = {"HttpTokens": "optional", "HttpPutResponseHopLimit": 5}
    instance_id = place.launch(place.image_without, MetadataOptions=launched)["InstanceId"]
    place.ec2.modify_instance_metadata_options(InstanceId=instance_id, HttpEndpoint="disabled")
    options = {**launched, "HttpEndpoint": "disabled"}
    answer = place.ec2.modify_instance_metadata_options(InstanceId=instance_id, InstanceMetadataTags="enabled")
    assert answer["InstanceMetadataOptions"]["State"] == "pending"
    expected = {**options, "InstanceMetadataTags": "enabled", "HttpProtocolIpv6": "disabled", "State": "applied"}
    assert place.instance(instance_id)["MetadataOptions"] == expected
    for wrong in ({"HttpPutResponseHopLimit": 200}, {"HttpTokens": "always"}):
        with pytest.raises(ClientError) as refusal:
            place.ec2.modify_instance_metadata_options(InstanceId=instance_id, **wrong)
        assert code(refusal) == ("InvalidParameterValue", 400)
    assert place.instance(instance_id)["MetadataOptions"] == expected


def test_filters_select_by_metadata_options_and_unknown_ones_are_refused(place: Any) -> None:
    tag = [{"ResourceType": "instance", "Tags": [{"Key": "Test", "Value": "filters"}]}]
    mine = {"Name": "tag:Test", "Values": ["filters"]}
    for tokens, hops in (("optional", 1), ("required", 2), ("required", 3)):
        wanted = {"HttpTokens": tokens, "HttpPutResponseHopLimit": hops}
        place.launch(place.image_without, MetadataOptions=wanted, TagSpecifications=tag)

    def hop_limits(**wanted: str) -> list[int]:
        filters = [{"Name": f"metadata-options.{name.replace('_', '-')}", "Values": [v]} for name, v in wanted.items()]
        answer = place.ec2.describe_instances(Filters=[mine, *filters])
        return sorted(
            instance["MetadataOptions"]["HttpPutResponseHopLimit"]
            for reservation in answer["Reservations"]
            for instance in reservation["Instances"]
        )

    assert hop_limits() == [1, 2, 3]
    assert hop_limits(http_tokens="optional") == [1]
    assert hop_limits(http_tokens="required") == [2, 3]
    assert hop_limits(http_tokens="required", http_put_response_hop_limit="3") == [3]
    assert hop_limits(state="applied", http_endpoint="enabled", instance_metadata_tags="disabled") == [1, 2, 3]
    with pytest.raises(ClientError, match="metadata-options\\.colour") as refusal:
        hop_limits(colour="green")
    assert code(refusal) == ("InvalidParameterValue", 400)


def test_refusals_are_client_errors_with_awss_codes(client: Callable[..., Any]) -> None:
    ec2 = client("ec2")
    cases: list[tuple[str, dict[str, Any], str]] = [
        ("describe_instances", {"InstanceIds": ["i-0123456789abcdef0"]}, "InvalidInstanceID.NotFound"),
        ("describe_instances", {"InstanceIds": ["i-example"]}, "InvalidInstanceID.Malformed"),
        ("modify_instance_metadata_options", {"InstanceId": "i-0123456789abcdef0"}, "InvalidInstanceID.NotFound"),
        ("describe_images", {"ImageIds": ["ami-0123456789abcdef0"]}, "InvalidAMIID.NotFound"),
        ("run_instances", {"ImageId": "ami-0123456789abcdef0", "MinCount": 1, "MaxCount": 1}, "InvalidAMIID.NotFound"),
        ("describe_launch_template_versions", {"LaunchTemplateId": "lt-0123456789abcdef0"},
         "InvalidLaunchTemplateId.NotFound"),
        ("create_snapshot", {"VolumeId": "vol-0123456789abcdef0"}, "InvalidVolume.NotFound"),
    ]  # fmt: skip
    for method, parameters, expected in cases:
        with pytest.raises(ClientError) as refusal:
            getattr(ec2, method)(**parameters)
        assert code(refusal) == (expected, 400), method


def test_an_action_that_is_not_there_is_refused_and_not_retried(client: Callable[..., Any]) -> None:
    with pytest.raises(ClientError) as refusal:
        client("ec2").describe_vpc_peering_connections()
    assert refusal.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
    assert refusal.value.response["ResponseMetadata"]["RetryAttempts"] == 0


# -- who asks --------------------------------------------------------------------------------------------------------


def test_list_accounts_pages_over_45_accounts(client: Callable[..., Any]) -> None:
    pages = list(client("organizations").get_paginator("list_accounts").paginate())
    assert [len(page["Accounts"]) for page in pages] == [20, 20, 5]
    ids = [account["Id"] for page in pages for account in page["Accounts"]]
    assert len(set(ids)) == 45
    assert {account["State"] for page in pages for account in page["Accounts"]} == {"ACTIVE", "SUSPENDED"}


def test_a_role_is_another_account_and_one_account_refuses_it(
    client: Callable[..., Any], accounts: list[dict[str, Any]]
) -> None:
    sts = client("sts")
    own = sts.get_caller_identity()["Account"]
    refused = []
    for account in (each for each in accounts if each["State"] == "ACTIVE" and each["Id"] != own):
        role = f"arn:aws:iam::{account['Id']}:role/OrganizationAccountAccessRole"
        try:
            given = sts.assume_role(RoleArn=role, RoleSessionName="contract")
        except ClientError as error:
            refused.append(error.response["Error"]["Code"])
        else:
            assert given["AssumedRoleUser"]["Arn"].endswith(":assumed-role/OrganizationAccountAccessRole/contract")
            last = given["Credentials"]
    assert refused == ["AccessDenied"]
    there = client("sts", credentials=last).get_caller_identity()
    assert there["Account"] != own
    assert client("ec2", credentials=last).get_instance_metadata_defaults()["AccountLevel"]["ManagedBy"] == "account"


def test_wrong_credentials_are_refused(client: Callable[..., Any], aws_shell: Any) -> None:
    right = {"AccessKeyId": aws_shell.env["AWS_ACCESS_KEY_ID"], "SecretAccessKey": "not" + "the" + "secret"}
    unknown = {"AccessKeyId": "AKIAIOSFODNN7EXAMPLE", "SecretAccessKey": "not" + "the" + "secret"}
    cases = [
        ("ec2", "describe_regions", right, ("AuthFailure", 401)),
        ("ec2", "describe_regions", unknown, ("AuthFailure", 401)),
        ("sts", "get_caller_identity", right, ("SignatureDoesNotMatch", 403)),
        ("sts", "get_caller_identity", unknown, ("InvalidClientTokenId", 403)),
        ("organizations", "list_accounts", unknown, ("UnrecognizedClientException", 400)),
    ]
    for service, method, credentials, expected in cases:
        with pytest.raises(ClientError) as refusal:
            getattr(client(service, credentials=credentials), method)()
        assert code(refusal) == expected, (service, method)
