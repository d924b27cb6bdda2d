"""Spot Instance requests: what they launch, and what becomes of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest


def request(ec2: Any, family: str = "al2", *, count: int = 1, **more: Any) -> list[dict[str, Any]]:
    specification = {"ImageId": ec2.image(family), "InstanceType": "t3.micro", **more.pop("specification", {})}
    asked = {"LaunchSpecification": specification, "InstanceCount": count, **more}
    made: list[dict[str, Any]] = ec2("RequestSpotInstances", **asked)["SpotInstanceRequests"]
    return made


def shown(ec2: Any, *ids: str, **params: Any) -> list[dict[str, Any]]:
    named = {"SpotInstanceRequestIds": list(ids)} if ids else {}
    found: list[dict[str, Any]] = ec2("DescribeSpotInstanceRequests", **named, **params)["SpotInstanceRequests"]
    return found


def status(ec2: Any, request_id: str) -> tuple[str, str]:
    [found] = shown(ec2, request_id)
    return found["State"], found["Status"]["Code"]


def launched(ec2: Any, **params: Any) -> tuple[str, str]:
    """A request's id and its instance's."""
    [made] = request(ec2, **params)
    [found] = shown(ec2, made["SpotInstanceRequestId"])
    return found["SpotInstanceRequestId"], found["InstanceId"]


@pytest.mark.parametrize(
    ("default", "family", "expected"),
    [
        (None, "al2", "optional"),
        (None, "al2023", "required"),
        ("required", "al2", "required"),
        ("optional", "al2023", "optional"),
    ],
)
def test_the_layers_below_the_launch_decide(ec2: Any, default: str | None, family: str, expected: str) -> None:
    if default:
        ec2("ModifyInstanceMetadataDefaults", HttpTokens=default)
    _, instance_id = launched(ec2, family=family)
    assert ec2.options(instance_id)["HttpTokens"] == expected


def test_a_request_that_resolves_to_v1_is_refused_where_tokens_are_enforced(ec2: Any) -> None:
    ec2("ModifyInstanceMetadataDefaults", HttpTokensEnforced="enabled")
    specification = {"ImageId": ec2.image("al2"), "InstanceType": "t3.micro"}
    assert ec2.code("RequestSpotInstances", LaunchSpecification=specification) == "UnsupportedOperation"
    assert (shown(ec2), ec2.instances()) == ([], [])
    launched(ec2, family="al2023")


def test_a_request_is_open_in_the_answer_and_active_afterwards(ec2: Any) -> None:
    [made] = request(ec2, SpotPrice="0.05", TagSpecifications=[tags("spot-instances-request", team="a")])
    assert (made["State"], made["Status"]["Code"], "InstanceId" in made) == ("open", "pending-evaluation", False)
    [found] = shown(ec2, made["SpotInstanceRequestId"])
    assert (found["State"], found["Status"]["Code"], found["SpotPrice"]) == ("active", "fulfilled", "0.05")
    assert found["Tags"] == [{"Key": "team", "Value": "a"}]
    [instance] = ec2.instances(InstanceIds=[found["InstanceId"]])
    assert instance["InstanceLifecycle"] == "spot"
    assert instance["SpotInstanceRequestId"] == found["SpotInstanceRequestId"]
    assert "Tags" not in instance  # the request's tags are the request's
    assert found["LaunchSpecification"]["SubnetId"] == instance["SubnetId"]


def test_every_instance_has_a_request_of_its_own(ec2: Any) -> None:
    made = request(ec2, count=3)
    found = shown(ec2)
    assert {each["SpotInstanceRequestId"] for each in made} == {each["SpotInstanceRequestId"] for each in found}
    assert len({each["InstanceId"] for each in found}) == 3


def test_run_instances_on_the_spot_market(ec2: Any) -> None:
    market = {"MarketType": "spot", "SpotOptions": {"MaxPrice": "0.01"}}
    given = [tags("spot-instances-request", a="1"), tags("instance", b="2")]
    [instance] = ec2.launch(InstanceMarketOptions=market, TagSpecifications=given)
    [found] = shown(ec2, instance["SpotInstanceRequestId"])
    assert (found["InstanceId"], found["Type"], found["SpotPrice"]) == (instance["InstanceId"], "one-time", "0.01")
    assert (found["Tags"], instance["Tags"]) == ([{"Key": "a", "Value": "1"}], [{"Key": "b", "Value": "2"}])


def test_a_template_can_ask_for_spot(ec2: Any) -> None:
    template = ec2.template(InstanceMarketOptions={"MarketType": "spot"})
    asked = {"LaunchTemplate": {"LaunchTemplateId": template}, "MinCount": 1, "MaxCount": 1}
    [instance] = ec2("RunInstances", **asked)["Instances"]
    assert instance["InstanceLifecycle"] == "spot"


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"SpotInstanceType": "persistent"}, "InvalidParameterCombination"),
        ({"SpotInstanceType": "sometimes"}, "InvalidParameterValue"),
        ({"MaxPrice": "cheap"}, "InvalidParameterValue"),
        ({"MaxPrice": "0.0001"}, "InvalidParameterValue"),
        ({"MaxPrice": "nan"}, "InvalidParameterValue"),
        ({"InstanceInterruptionBehavior": "sleep"}, "InvalidParameterValue"),
    ],
)
def test_market_options_that_run_instances_refuses(ec2: Any, options: dict[str, Any], code: str) -> None:
    market = {"MarketType": "spot", "SpotOptions": options}
    asked = {"ImageId": ec2.image(), "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1}
    assert ec2.code("RunInstances", **asked, InstanceMarketOptions=market) == code
    assert shown(ec2) == []


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({}, "MissingParameter"),
        ({"InstanceCount": 0}, "InvalidParameterValue"),
        ({"Type": "often"}, "InvalidParameterValue"),
        ({"SpotPrice": "-1"}, "InvalidParameterValue"),
        ({"ValidUntil": -1}, "InvalidParameterValue"),
        ({"ValidFrom": 1}, "UnsupportedOperation"),
    ],
)
def test_requests_that_are_refused(ec2: Any, params: dict[str, Any], code: str) -> None:
    if params:
        params = {**params, "LaunchSpecification": {"ImageId": ec2.image(), "InstanceType": "t3.micro"}}
    for name in ("ValidUntil", "ValidFrom"):
        if name in params:
            params[name] = ec2.now + timedelta(days=params[name])
    assert ec2.code("RequestSpotInstances", **params) == code
    assert shown(ec2) == []


def test_a_cancelled_request_leaves_its_instance(ec2: Any) -> None:
    request_id, instance_id = launched(ec2)
    answer = ec2("CancelSpotInstanceRequests", SpotInstanceRequestIds=[request_id])
    assert answer["CancelledSpotInstanceRequests"] == [{"SpotInstanceRequestId": request_id, "State": "cancelled"}]
    assert status(ec2, request_id) == ("cancelled", "request-canceled-and-instance-running")
    assert ec2.instances(InstanceIds=[instance_id])[0]["State"]["Name"] == "running"
    ec2("TerminateInstances", InstanceIds=[instance_id])
    assert status(ec2, request_id) == ("cancelled", "instance-terminated-by-user")


def test_a_one_time_request_closes_with_its_instance(ec2: Any) -> None:
    request_id, instance_id = launched(ec2)
    assert ec2.code("StopInstances", InstanceIds=[instance_id]) == "UnsupportedOperation"
    ec2("TerminateInstances", InstanceIds=[instance_id])
    assert status(ec2, request_id) == ("closed", "instance-terminated-by-user")
    [instance] = ec2.instances()
    assert (instance["State"]["Name"], instance["SpotInstanceRequestId"]) == ("terminated", request_id)


def test_a_persistent_request_launches_again(ec2: Any) -> None:
    request_id, first = launched(ec2, Type="persistent")
    ec2("ModifyInstanceMetadataDefaults", HttpTokens="required")
    ec2("TerminateInstances", InstanceIds=[first])
    assert status(ec2, request_id) == ("active", "fulfilled")
    [found] = shown(ec2, request_id)
    second = found["InstanceId"]
    assert second != first
    assert ec2.options(second)["HttpTokens"] == "required"  # the layers as they are now
    assert ec2.instances(InstanceIds=[second])[0]["SpotInstanceRequestId"] == request_id
    assert len(shown(ec2)) == 1


def test_a_persistent_request_fails_when_its_launch_would_be_refused_now(ec2: Any) -> None:
    request_id, first = launched(ec2, Type="persistent")
    ec2("ModifyInstanceMetadataDefaults", HttpTokensEnforced="enabled")
    ec2("TerminateInstances", InstanceIds=[first])
    [found] = shown(ec2, request_id)
    assert (found["State"], found["Fault"]["Code"], "InstanceId" in found) == ("failed", "bad-parameters", False)
    assert "httpTokensEnforced" in found["Fault"]["Message"]


def test_a_spot_instance_of_a_persistent_request_stops_and_starts(ec2: Any) -> None:
    request_id, instance_id = launched(ec2, Type="persistent", InstanceInterruptionBehavior="stop")
    ec2("StopInstances", InstanceIds=[instance_id])
    assert status(ec2, request_id) == ("disabled", "instance-stopped-by-user")
    ec2("StartInstances", InstanceIds=[instance_id])
    assert status(ec2, request_id) == ("active", "fulfilled")


def test_a_client_token_requests_once(ec2: Any) -> None:
    first = request(ec2, count=2, ClientToken="once")
    again = request(ec2, count=2, ClientToken="once")
    assert [each["SpotInstanceRequestId"] for each in first] == [each["SpotInstanceRequestId"] for each in again]
    assert len(ec2.instances()) == 2


def test_requests_by_filter_and_page(ec2: Any) -> None:
    request(ec2, count=6, specification={"KeyName": ec2.key_pair()})
    request_id, instance_id = launched(ec2, family="al2023", Type="persistent", LaunchGroup="together")
    for name, value in (
        ("instance-id", instance_id),
        ("type", "persistent"),
        ("launch-group", "toge*"),
        ("launch.image-id", ec2.image("al2023")),
        ("spot-instance-request-id", request_id),
    ):
        found = shown(ec2, Filters=[{"Name": name, "Values": [value]}])
        assert [each["SpotInstanceRequestId"] for each in found] == [request_id], name
    assert len(shown(ec2, Filters=[{"Name": "launch.key-name", "Values": ["ops"]}])) == 6
    first = ec2("DescribeSpotInstanceRequests", MaxResults=5)
    rest = ec2("DescribeSpotInstanceRequests", MaxResults=5, NextToken=first["NextToken"])
    assert len(first["SpotInstanceRequests"]) == 5
    assert len(rest["SpotInstanceRequests"]) == 2
    assert "NextToken" not in rest


def test_requests_that_are_not_there(ec2: Any) -> None:
    for action in ("DescribeSpotInstanceRequests", "CancelSpotInstanceRequests"):
        assert ec2.code(action, SpotInstanceRequestIds=["sir-abcd1234"]) == "InvalidSpotInstanceRequestID.NotFound"
        assert ec2.code(action, SpotInstanceRequestIds=["spot"]) == "InvalidSpotInstanceRequestID.Malformed"


def test_the_price_history(ec2: Any) -> None:
    asked = {"InstanceTypes": ["m5.large"], "ProductDescriptions": ["Linux/UNIX"], "AvailabilityZone": "us-east-1a"}
    [price] = ec2("DescribeSpotPriceHistory", **asked)["SpotPriceHistory"]
    assert 0 < float(price["SpotPrice"]) < 0.1
    assert price["Timestamp"] <= ec2.now
    assert ec2.code("DescribeSpotPriceHistory", InstanceTypes=["large"]) == "InvalidInstanceType"


def tags(kind: str, **given: str) -> dict[str, Any]:
    return {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in given.items()]}
