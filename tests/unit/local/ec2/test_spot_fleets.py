"""Spot Fleet requests: they launch like RunInstances, on the terms of Spot."""

from __future__ import annotations

from typing import Any

import pytest

ABSENT = "sfr-11111111-2222-3333-4444-555555555555"


def spec(ec2: Any, **more: Any) -> dict[str, Any]:
    """A launch specification of Amazon Linux 2."""
    return {"ImageId": ec2.image(), "InstanceType": "t3.micro", **more}


def named(template: str, *overrides: dict[str, Any]) -> list[dict[str, Any]]:
    config: dict[str, Any] = {"LaunchTemplateSpecification": {"LaunchTemplateId": template, "Version": "$Latest"}}
    return [{**config, "Overrides": list(overrides)} if overrides else config]


def config(ec2: Any, *specifications: dict[str, Any], total: int = 1, **more: Any) -> dict[str, Any]:
    sources = {} if "LaunchTemplateConfigs" in more else {"LaunchSpecifications": list(specifications) or [spec(ec2)]}
    return {"IamFleetRole": ec2.role("fleet", "spotfleet.amazonaws.com"), "TargetCapacity": total, **sources, **more}


def requested(ec2: Any, *specifications: dict[str, Any], **more: Any) -> str:
    return str(
        ec2("RequestSpotFleet", SpotFleetRequestConfig=config(ec2, *specifications, **more))["SpotFleetRequestId"]
    )


def described(ec2: Any, request_id: str) -> dict[str, Any]:
    [found] = ec2("DescribeSpotFleetRequests", SpotFleetRequestIds=[request_id])["SpotFleetRequestConfigs"]
    return dict(found)


def active(ec2: Any, request_id: str) -> list[str]:
    answer = ec2("DescribeSpotFleetInstances", SpotFleetRequestId=request_id)
    return [each["InstanceId"] for each in answer["ActiveInstances"]]


# -- what its instances get -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("default", "family", "expected"), [
    (None, "al2", "optional"),
    (None, "al2023", "required"),
    ("required", "al2", "required"),
    ("optional", "al2023", "optional"),
])  # fmt: skip
def test_a_launch_specification_leaves_it_to_the_region_and_the_image(
    ec2: Any, default: str | None, family: str, expected: str
) -> None:
    if default:
        ec2("ModifyInstanceMetadataDefaults", HttpTokens=default)
    [instance_id] = active(ec2, requested(ec2, spec(ec2, ImageId=ec2.image(family))))
    assert ec2.options(instance_id)["HttpTokens"] == expected


def test_a_template_decides_before_the_region(ec2: Any) -> None:
    ec2("ModifyInstanceMetadataDefaults", HttpTokens="required")
    template = ec2.template(MetadataOptions={"HttpTokens": "optional"})
    [instance_id] = active(ec2, requested(ec2, LaunchTemplateConfigs=named(template)))
    assert ec2.options(instance_id)["HttpTokens"] == "optional"


def test_what_enforcement_refuses_is_in_the_history(ec2: Any) -> None:
    ec2("ModifyInstanceMetadataDefaults", HttpTokensEnforced="enabled")
    request_id = requested(ec2, total=2)
    found = described(ec2, request_id)
    assert (found["SpotFleetRequestState"], found["ActivityStatus"]) == ("active", "error")
    asked = {"SpotFleetRequestId": request_id, "StartTime": ec2.now, "EventType": "error"}
    [record] = ec2("DescribeSpotFleetRequestHistory", **asked)["HistoryRecords"]
    assert record["EventInformation"]["EventSubType"] == "spotFleetRequestConfigurationInvalid"
    assert "httpTokensEnforced" in record["EventInformation"]["EventDescription"]


def test_instances_say_where_they_came_from(ec2: Any) -> None:
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "team", "Value": "blue"}]}]
    own = [{"ResourceType": "spot-fleet-request", "Tags": [{"Key": "team", "Value": "green"}]}]
    request_id = requested(ec2, spec(ec2, TagSpecifications=tags), TagSpecifications=own)
    [instance] = ec2.instances(InstanceIds=active(ec2, request_id))
    assert {each["Key"]: each["Value"] for each in instance["Tags"]} == {
        "team": "blue",
        "aws:ec2spot:fleet-request-id": request_id,
    }
    assert instance["InstanceLifecycle"] == "spot"
    found = described(ec2, request_id)
    assert found["Tags"] == own[0]["Tags"]
    assert (found["SpotFleetRequestState"], found["ActivityStatus"]) == ("active", "fulfilled")
    ec2("CreateTags", Resources=[request_id], Tags=[{"Key": "stage", "Value": "test"}])
    filters = [{"Name": "resource-type", "Values": ["spot-fleet-request"]}]
    assert [each["Key"] for each in ec2("DescribeTags", Filters=filters)["Tags"]] == ["stage", "team"]


# -- how many, and of what --------------------------------------------------------------------------------------------


def test_weights_subnets_and_zones_make_pools(ec2: Any) -> None:
    subnets = list(ec2.state.subnets)[:2]
    heavy = spec(ec2, InstanceType="m5.large", WeightedCapacity=2.0, SubnetId=", ".join(subnets))
    zones = spec(ec2, InstanceType="m5.large", WeightedCapacity=2.0, Placement={"AvailabilityZone": "us-east-1c"})
    request_id = requested(ec2, heavy, zones, total=5, AllocationStrategy="diversified")
    found = ec2.instances(InstanceIds=active(ec2, request_id))
    assert sorted(each["Placement"]["AvailabilityZone"] for each in found) == ["us-east-1a", "us-east-1b", "us-east-1c"]
    assert described(ec2, request_id)["SpotFleetRequestConfig"]["FulfilledCapacity"] == 6


def test_the_cheapest_pool_or_the_one_of_highest_priority(ec2: Any) -> None:
    cheap, best = {"InstanceType": "t3.nano"}, {"InstanceType": "m5.large", "Priority": 0.0, "SpotPrice": "0.07"}
    pools = named(ec2.template(), cheap, best)
    requested(ec2, LaunchTemplateConfigs=pools)
    requested(ec2, LaunchTemplateConfigs=pools, AllocationStrategy="capacityOptimizedPrioritized", SpotPrice="0.5")
    assert [each["InstanceType"] for each in ec2.instances()] == ["t3.nano", "m5.large"]
    assert {each["SpotPrice"] for each in ec2("DescribeSpotInstanceRequests")["SpotInstanceRequests"]} > {"0.07"}


def test_on_demand_capacity_comes_from_templates(ec2: Any) -> None:
    both = {"LaunchTemplateConfigs": named(ec2.template()), "OnDemandTargetCapacity": 1, "total": 3}
    request_id = requested(ec2, **both)
    assert sorted(each.get("InstanceLifecycle", "") for each in ec2.instances()) == ["", "spot", "spot"]
    shown = described(ec2, request_id)["SpotFleetRequestConfig"]
    assert (shown["FulfilledCapacity"], shown["OnDemandFulfilledCapacity"]) == (3, 1)


# -- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"IamFleetRole": None}, "MissingParameter"),
        ({"TargetCapacity": None}, "MissingParameter"),
        ({"IamFleetRole": "arn:aws:iam::111122223333:role/nobody"}, "InvalidSpotFleetRequestConfig"),
        ({"Type": "instant"}, "InvalidSpotFleetRequestConfig"),
        ({"Type": "request", "TargetCapacity": 0}, "InvalidSpotFleetRequestConfig"),
        ({"AllocationStrategy": "best"}, "InvalidSpotFleetRequestConfig"),
        ({"ExcessCapacityTerminationPolicy": "all"}, "InvalidSpotFleetRequestConfig"),
        ({"OnDemandTargetCapacity": 1}, "InvalidSpotFleetRequestConfig"),
        ({"LaunchSpecifications": None}, "InvalidSpotFleetRequestConfig"),
        ({"SpotPrice": "free"}, "InvalidParameterValue"),
        ({"TargetCapacityUnitType": "vcpu"}, "UnsupportedOperation"),
        ({"TagSpecifications": [{"ResourceType": "instance", "Tags": []}]}, "InvalidParameterValue"),
    ],
)
def test_requests_that_are_refused(ec2: Any, more: dict[str, Any], code: str) -> None:
    assert ec2.code("RequestSpotFleet", SpotFleetRequestConfig={**config(ec2), **more}) == code
    assert (ec2.state.spot_fleets, ec2.instances()) == ({}, [])


def test_the_role_has_to_trust_spot_fleet(ec2: Any) -> None:
    asked = {**config(ec2), "IamFleetRole": ec2.role("web", "ec2.amazonaws.com")}
    sentence = "Parameter: SpotFleetRequestConfig.IamFleetRole is invalid"
    refused = ec2.refusal("RequestSpotFleet", SpotFleetRequestConfig=asked)
    assert refused == ("InvalidSpotFleetRequestConfig", sentence)


def test_a_client_token_makes_one_request(ec2: Any) -> None:
    first = requested(ec2, ClientToken="once")
    assert requested(ec2, ClientToken="once") == first
    assert len(ec2.instances()) == 1
    again = config(ec2, total=2, ClientToken="once")
    assert ec2.code("RequestSpotFleet", SpotFleetRequestConfig=again) == "IdempotentParameterMismatch"


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"SpotFleetRequestIds": [ABSENT]}, "InvalidSpotFleetRequestId.NotFound"),
        ({"SpotFleetRequestIds": ["sfr-1"]}, "InvalidSpotFleetRequestId.Malformed"),
        ({"SpotFleetRequestIds": [ABSENT.replace("sfr", "fleet")]}, "InvalidSpotFleetRequestId.Malformed"),
        ({"MaxResults": 0}, "InvalidParameterValue"),
        ({"MaxResults": 1001}, "InvalidParameterValue"),
        ({"NextToken": "x"}, "InvalidNextToken"),
    ],
)
def test_what_cannot_be_listed(ec2: Any, params: dict[str, Any], code: str) -> None:
    assert ec2.code("DescribeSpotFleetRequests", **params) == code
    assert ec2("DescribeSpotFleetRequests", MaxResults=1000) == {"SpotFleetRequestConfigs": []}


# -- requests that go on ----------------------------------------------------------------------------------------------


def test_a_maintained_request_replaces_what_it_lost(ec2: Any) -> None:
    maintained, once = requested(ec2, total=2), requested(ec2, Type="request")
    before = active(ec2, maintained)
    ec2("ModifyInstanceMetadataDefaults", HttpTokens="required")
    ec2("TerminateInstances", InstanceIds=[before[0], *active(ec2, once)])
    [new] = set(active(ec2, maintained)) - set(before)
    assert ec2.options(new)["HttpTokens"] == "required"
    assert (active(ec2, once), described(ec2, once)["ActivityStatus"]) == ([], "pending_fulfillment")


def test_a_request_grows_and_shrinks(ec2: Any) -> None:
    request_id = requested(ec2, total=2)
    first = sorted(active(ec2, request_id))
    for capacity, policy, left in ((4, "default", 4), (2, "Default", 2), (0, "noTermination", 2)):
        changes = {"TargetCapacity": capacity, "ExcessCapacityTerminationPolicy": policy}
        assert ec2("ModifySpotFleetRequest", SpotFleetRequestId=request_id, **changes) == {"Return": True}
        assert len(active(ec2, request_id)) == left
    assert sorted(active(ec2, request_id)) == first
    assert described(ec2, request_id)["SpotFleetRequestConfig"]["TargetCapacity"] == 0
    history = ec2("DescribeSpotFleetRequestHistory", SpotFleetRequestId=request_id, StartTime=ec2.now)["HistoryRecords"]
    kinds = [(each["EventType"], each["EventInformation"]["EventSubType"]) for each in history]
    assert kinds[:2] == [("fleetRequestChange", "submitted"), ("fleetRequestChange", "active")]
    assert kinds.count(("instanceChange", "launched")) == 4
    assert kinds[-1] == ("fleetRequestChange", "modify_succeeded")


def test_a_request_takes_another_template(ec2: Any) -> None:
    request_id = requested(ec2, LaunchTemplateConfigs=named(ec2.template()))
    strict = named(ec2.template(MetadataOptions={"HttpTokens": "required"}))
    changes = {"SpotFleetRequestId": request_id, "LaunchTemplateConfigs": strict, "TargetCapacity": 2}
    ec2("ModifySpotFleetRequest", **changes)
    assert [each["MetadataOptions"]["HttpTokens"] for each in ec2.instances()] == ["optional", "required"]
    assert described(ec2, request_id)["SpotFleetRequestConfig"]["LaunchTemplateConfigs"] == strict
    changes["SpotFleetRequestId"] = requested(ec2)
    assert ec2.code("ModifySpotFleetRequest", **changes) == "InvalidSpotFleetRequestConfig"
    changes["SpotFleetRequestId"] = requested(ec2, Type="request")
    assert ec2.code("ModifySpotFleetRequest", **changes) == "FleetNotInModifiableState"


@pytest.mark.parametrize(
    ("terminate", "first", "left"), [(True, "cancelled_terminating", 0), (False, "cancelled_running", 2)]
)
def test_cancelling(ec2: Any, terminate: bool, first: str, left: int) -> None:
    request_id = requested(ec2, total=2)
    asked = {"SpotFleetRequestIds": [request_id, ABSENT, "sfr"], "TerminateInstances": terminate}
    answer = ec2("CancelSpotFleetRequests", **asked)
    assert answer["SuccessfulFleetRequests"] == [
        {
            "SpotFleetRequestId": request_id,
            "PreviousSpotFleetRequestState": "active",
            "CurrentSpotFleetRequestState": first,
        }
    ]
    codes = [each["Error"]["Code"] for each in answer["UnsuccessfulFleetRequests"]]
    assert codes == ["fleetRequestIdDoesNotExist", "fleetRequestIdMalformed"]
    running = active(ec2, request_id)
    assert len(running) == left
    if running:
        ec2("TerminateInstances", InstanceIds=running)
        assert len(ec2.instances()) == 2  # a cancelled request replaces nothing
    ec2.wait(minutes=5)
    assert described(ec2, request_id)["SpotFleetRequestState"] == "cancelled"
    [again] = ec2("CancelSpotFleetRequests", **asked)["UnsuccessfulFleetRequests"][:1]
    assert again["Error"]["Code"] == "fleetRequestNotInCancellableState"
    assert ec2.code("ModifySpotFleetRequest", SpotFleetRequestId=request_id) == "FleetNotInModifiableState"
