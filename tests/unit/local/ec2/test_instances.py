from __future__ import annotations

from typing import Any

import pytest

from imdsctl.local.ec2.errors import HTTP_TOKENS_ENFORCED_MODIFY
from imdsctl.local.ec2.instances import INSTANCE_FILTERS

# -- ModifyInstanceMetadataOptions ------------------------------------------------------------------------------------


def test_only_what_is_named_changes(ec2: Any) -> None:
    [instance] = ec2.launch(
        MetadataOptions={"HttpPutResponseHopLimit": 5, "HttpProtocolIpv6": "enabled", "InstanceMetadataTags": "enabled"}
    )
    answer = ec2("ModifyInstanceMetadataOptions", InstanceId=instance["InstanceId"], HttpTokens="required")
    expected = {
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 5,
        "HttpEndpoint": "enabled",
        "HttpProtocolIpv6": "enabled",
        "InstanceMetadataTags": "enabled",
    }
    assert answer["InstanceMetadataOptions"] == {"State": "pending", **expected}
    assert ec2.options(instance["InstanceId"]) == {"State": "applied", **expected}


def test_an_endpoint_that_is_off_stays_off(ec2: Any) -> None:
    [instance] = ec2.launch(MetadataOptions={"HttpEndpoint": "disabled"})
    ec2("ModifyInstanceMetadataOptions", InstanceId=instance["InstanceId"], HttpTokens="required")
    assert ec2.options(instance["InstanceId"])["HttpEndpoint"] == "disabled"


def test_pending_lasts_as_long_as_the_world_takes_to_settle(slow_ec2: Any) -> None:
    [instance] = slow_ec2.launch()
    slow_ec2.wait(seconds=5)
    slow_ec2("ModifyInstanceMetadataOptions", InstanceId=instance["InstanceId"], HttpTokens="required")
    slow_ec2.wait(seconds=4)
    assert slow_ec2.options(instance["InstanceId"])["State"] == "pending"
    slow_ec2.wait(seconds=1)
    assert slow_ec2.options(instance["InstanceId"])["State"] == "applied"


def test_an_earlier_change_does_not_settle_a_later_one(slow_ec2: Any) -> None:
    [instance] = slow_ec2.launch()
    named = {"InstanceId": instance["InstanceId"]}
    slow_ec2.wait(seconds=10)
    slow_ec2("ModifyInstanceMetadataOptions", **named, HttpTokens="required")
    slow_ec2.wait(seconds=3)
    slow_ec2("ModifyInstanceMetadataOptions", **named, HttpPutResponseHopLimit=2)
    slow_ec2.wait(seconds=3)
    assert slow_ec2.options(instance["InstanceId"])["State"] == "pending"
    slow_ec2.wait(seconds=2)
    assert slow_ec2.options(instance["InstanceId"])["State"] == "applied"


def test_enforcement_refuses_the_word_optional_and_nothing_else(ec2: Any) -> None:
    [instance] = ec2.launch()
    named = {"InstanceId": instance["InstanceId"]}
    ec2("ModifyInstanceMetadataDefaults", HttpTokensEnforced="enabled")
    refused = ec2.refusal("ModifyInstanceMetadataOptions", **named, HttpTokens="optional")
    assert refused == ("UnsupportedOperation", HTTP_TOKENS_ENFORCED_MODIFY)
    ec2("ModifyInstanceMetadataOptions", **named, HttpPutResponseHopLimit=2)
    assert ec2.options(instance["InstanceId"])["HttpTokens"] == "optional"
    ec2("ModifyInstanceMetadataOptions", **named, HttpTokens="required")
    assert ec2.options(instance["InstanceId"])["HttpTokens"] == "required"


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"InstanceId": "i-nonsense", "HttpTokens": "required"}, "InvalidInstanceID.Malformed"),
        ({"InstanceId": "i-0123456789abcdef0", "HttpTokens": "required"}, "InvalidInstanceID.NotFound"),
        ({"HttpTokens": "required"}, "MissingParameter"),
        ({"HttpTokens": "no"}, "MissingParameter"),
    ],
)
def test_a_modification_of_nobody_is_refused(ec2: Any, params: dict[str, Any], code: str) -> None:
    assert ec2.code("ModifyInstanceMetadataOptions", **params) == code


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({}, "MissingParameter"),
        ({"HttpPutResponseHopLimit": 0}, "InvalidParameterValue"),
        ({"HttpPutResponseHopLimit": 200}, "InvalidParameterValue"),
        ({"HttpTokens": "no-preference"}, "InvalidParameterValue"),
        ({"HttpEndpoint": "disabled", "HttpTokens": "required"}, "InvalidParameterCombination"),
    ],
)
def test_a_refused_modification_changes_nothing(ec2: Any, options: dict[str, Any], code: str) -> None:
    [instance] = ec2.launch()
    before = ec2.options(instance["InstanceId"])
    assert ec2.code("ModifyInstanceMetadataOptions", InstanceId=instance["InstanceId"], **options) == code
    assert ec2.options(instance["InstanceId"]) == before


def test_a_stopped_instance_can_be_modified_and_a_terminated_one_not(ec2: Any) -> None:
    [instance] = ec2.launch()
    named = {"InstanceId": instance["InstanceId"], "HttpTokens": "required"}
    ec2("StopInstances", InstanceIds=[instance["InstanceId"]])
    ec2("ModifyInstanceMetadataOptions", **named)
    assert ec2.options(instance["InstanceId"])["HttpTokens"] == "required"
    ec2("TerminateInstances", InstanceIds=[instance["InstanceId"]])
    assert ec2.code("ModifyInstanceMetadataOptions", **named) == "IncorrectInstanceState"


# -- start, stop, reboot, terminate -----------------------------------------------------------------------------------


def state_names(change: dict[str, Any]) -> tuple[str, str]:
    return change["PreviousState"]["Name"], change["CurrentState"]["Name"]


def test_the_life_of_an_instance(ec2: Any) -> None:
    [instance] = ec2.launch()
    ids = [instance["InstanceId"]]
    assert state_names(ec2("StopInstances", InstanceIds=ids)["StoppingInstances"][0]) == ("running", "stopping")
    assert ec2.instances()[0]["State"] == {"Code": 80, "Name": "stopped"}
    assert state_names(ec2("StartInstances", InstanceIds=ids)["StartingInstances"][0]) == ("stopped", "pending")
    assert ec2("RebootInstances", InstanceIds=ids) == {}
    change = ec2("TerminateInstances", InstanceIds=ids)["TerminatingInstances"][0]
    assert state_names(change) == ("running", "shutting-down")
    [gone] = ec2.instances()
    assert gone["State"]["Name"] == "terminated"
    assert gone["NetworkInterfaces"] == []
    ec2.wait(minutes=59)
    assert len(ec2.instances()) == 1
    ec2.wait(minutes=1)
    assert ec2.instances() == []
    assert ec2.code("DescribeInstances", InstanceIds=ids) == "InvalidInstanceID.NotFound"
    assert ec2.state.volumes == {}


@pytest.mark.parametrize("action", ["StartInstances", "StopInstances", "RebootInstances"])
def test_a_terminated_instance_stays_terminated(ec2: Any, action: str) -> None:
    ids = [ec2.launch()[0]["InstanceId"]]
    ec2("TerminateInstances", InstanceIds=ids)
    assert ec2.code(action, InstanceIds=ids) == "IncorrectInstanceState"


def test_one_unknown_instance_refuses_the_whole_request(ec2: Any) -> None:
    ids = [ec2.launch()[0]["InstanceId"], "i-0123456789abcdef0"]
    assert ec2.refusal("TerminateInstances", InstanceIds=ids) == (
        "InvalidInstanceID.NotFound",
        "The instance ID 'i-0123456789abcdef0' does not exist",
    )
    assert ec2.instances()[0]["State"]["Name"] == "running"


def test_termination_protection(ec2: Any) -> None:
    ids = [ec2.launch(DisableApiTermination=True)[0]["InstanceId"]]
    assert ec2.code("TerminateInstances", InstanceIds=ids) == "OperationNotPermitted"


# -- DescribeInstances ------------------------------------------------------------------------------------------------


def found(ec2: Any, *filters: tuple[str, str]) -> list[str]:
    return [
        {tag["Key"]: tag["Value"] for tag in each["Tags"]}["Name"]
        for each in ec2.instances(Filters=[{"Name": name, "Values": value.split("|")} for name, value in filters])
    ]


def named(name: str, **tags: str) -> list[dict[str, Any]]:
    pairs = [{"Key": key, "Value": value} for key, value in {"Name": name, **tags}.items()]
    return [{"ResourceType": "instance", "Tags": pairs}]


@pytest.fixture
def fleet(ec2: Any) -> Any:
    ec2.launch(TagSpecifications=named("old", team="web"), KeyName=ec2.key_pair())
    ec2.launch(
        TagSpecifications=named("new", team="data"),
        family="al2023",
        MetadataOptions={"InstanceMetadataTags": "enabled", "HttpProtocolIpv6": "enabled"},
        InstanceType="m5.large",
    )
    ec2.launch(TagSpecifications=named("dark"), MetadataOptions={"HttpEndpoint": "disabled"})
    [stopped] = ec2.launch(TagSpecifications=named("asleep", team="we*b"))
    ec2("StopInstances", InstanceIds=[stopped["InstanceId"]])
    return ec2


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([("metadata-options.http-tokens", "required")], ["new"]),
        ([("metadata-options.http-tokens", "optional")], ["old", "dark", "asleep"]),
        ([("metadata-options.http-tokens", "optional|required")], ["old", "new", "dark", "asleep"]),
        ([("metadata-options.http-endpoint", "disabled")], ["dark"]),
        ([("metadata-options.http-protocol-ipv4", "disabled")], ["dark"]),
        ([("metadata-options.http-protocol-ipv6", "enabled")], ["new"]),
        ([("metadata-options.http-put-response-hop-limit", "2")], ["new"]),
        ([("metadata-options.instance-metadata-tags", "enabled")], ["new"]),
        ([("metadata-options.state", "applied")], ["old", "new", "dark", "asleep"]),
        ([("instance-state-name", "stopped")], ["asleep"]),
        ([("instance-state-code", "80")], ["asleep"]),
        ([("instance-type", "m5.*")], ["new"]),
        ([("instance-type", "t?.micro")], ["old", "dark", "asleep"]),
        ([("instance-type", "M5.LARGE")], []),
        ([("tag:team", "web|data")], ["old", "new"]),
        ([("tag:team", "we*b")], ["old", "asleep"]),
        ([("tag:team", "we\\*b")], ["asleep"]),
        ([("tag-key", "team")], ["old", "new", "asleep"]),
        ([("tag-value", "data")], ["new"]),
        ([("key-name", "ops")], ["old"]),
        ([("owner-id", "111122223333"), ("architecture", "x86_64"), ("tag:Name", "d*")], ["dark"]),
        ([("platform", "windows")], []),
        ([("tenancy", "default"), ("root-device-name", "/dev/xvda"), ("instance-state-name", "running")],
         ["old", "new", "dark"]),
    ],
)  # fmt: skip
def test_filters(fleet: Any, filters: list[tuple[str, str]], expected: list[str]) -> None:
    assert found(fleet, *filters) == expected


def test_an_unknown_filter_is_an_error(ec2: Any) -> None:
    asked = [{"Name": "metadata-options.tokens", "Values": ["required"]}]
    assert ec2.refusal("DescribeInstances", Filters=asked) == (
        "InvalidParameterValue",
        "The filter 'metadata-options.tokens' is invalid",
    )


def test_every_filter_can_be_asked_of_every_instance(fleet: Any) -> None:
    for name in INSTANCE_FILTERS.names:
        fleet("DescribeInstances", Filters=[{"Name": name, "Values": ["x*"]}])


def pages(ec2: Any, action: str, result: str, **params: Any) -> list[list[dict[str, Any]]]:
    out, token = [], None
    while True:
        answer = ec2(action, **params, **({"NextToken": token} if token else {}))
        out.append(answer[result])
        token = answer.get("NextToken")
        if token is None:
            return out


@pytest.mark.parametrize("counts", [[1] * 12, [4, 4, 4], [12], [1, 9, 2]])
def test_pages_hold_every_instance_once(ec2: Any, counts: list[int]) -> None:
    launched = [each["InstanceId"] for count in counts for each in ec2.launch(count)]
    found = pages(ec2, "DescribeInstances", "Reservations", MaxResults=5)
    ids = [[each["InstanceId"] for group in page for each in group["Instances"]] for page in found]
    assert [len(page) for page in ids] == [5, 5, 2]
    assert [each for page in ids for each in page] == launched


def test_what_goes_away_between_two_pages_skips_nobody(ec2: Any) -> None:
    launched = [ec2.launch()[0]["InstanceId"] for _ in range(10)]
    ec2("TerminateInstances", InstanceIds=launched[:3])
    first = ec2("DescribeInstances", MaxResults=5)
    ec2.wait(hours=2)
    rest = ec2("DescribeInstances", MaxResults=5, NextToken=first["NextToken"])
    assert [group["Instances"][0]["InstanceId"] for group in rest["Reservations"]] == launched[5:]


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"MaxResults": 4}, "InvalidParameterValue"),
        ({"MaxResults": 1001}, "InvalidParameterValue"),
        ({"MaxResults": 5, "NextToken": "garbage"}, "InvalidNextToken"),
        ({"MaxResults": 5, "InstanceIds": ["i-0123456789abcdef0"]}, "InvalidParameterCombination"),
        ({"InstanceIds": ["x"]}, "InvalidInstanceID.Malformed"),
        ({"Filters": [{"Name": "instance-id", "Values": ["x"] * 201}]}, "FilterLimitExceeded"),
    ],
)
def test_a_wrong_page_or_id_is_refused(ec2: Any, params: dict[str, Any], code: str) -> None:
    assert ec2.code("DescribeInstances", **params) == code


def test_a_token_is_good_for_its_own_list_only(ec2: Any) -> None:
    for _ in range(6):
        ec2.launch()
    token = ec2("DescribeInstances", MaxResults=5)["NextToken"]
    assert ec2.code("DescribeTags", MaxResults=5, NextToken=token) == "InvalidNextToken"


def test_status_is_of_running_instances_unless_all_are_asked_for(fleet: Any) -> None:
    assert len(fleet("DescribeInstanceStatus")["InstanceStatuses"]) == 3
    every = fleet("DescribeInstanceStatus", IncludeAllInstances=True)["InstanceStatuses"]
    assert sorted(each["InstanceStatus"]["Status"] for each in every) == ["not-applicable", "ok", "ok", "ok"]


# -- cached XML -------------------------------------------------------------------------------------------------------


def text_fragment(shape: str, value: Any) -> bytes:
    return f"<{shape} {value}>".encode()


def test_xml_is_made_once_and_again_after_a_change(ec2: Any) -> None:
    ec2.world.fragment = text_fragment
    single, pair = ec2.launch()[0]["InstanceId"], ec2.launch(2)[0]["InstanceId"]
    before = ec2("DescribeInstances")["Reservations"]
    assert all(isinstance(each, bytes) for each in before)
    assert [a is b for a, b in zip(before, ec2("DescribeInstances")["Reservations"], strict=True)] == [True, True]
    for changed in (single, pair):
        ec2("ModifyInstanceMetadataOptions", InstanceId=changed, HttpPutResponseHopLimit=7)
        ec2("CreateTags", Resources=[changed], Tags=[{"Key": "seen", "Value": "yes"}])
    for shown in ec2("DescribeInstances")["Reservations"]:
        assert b"'HttpPutResponseHopLimit': 7" in shown
        assert b"seen" in shown
