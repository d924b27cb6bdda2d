"""EC2 Fleets: they launch like RunInstances, and say what they could not launch."""

from __future__ import annotations

from typing import Any

import pytest


def fleet(ec2: Any, template: str, *overrides: dict[str, Any], total: int = 1, **more: Any) -> dict[str, Any]:
    config: dict[str, Any] = {"LaunchTemplateSpecification": {"LaunchTemplateId": template, "Version": "$Latest"}}
    if overrides:
        config["Overrides"] = list(overrides)
    target = {"TotalTargetCapacity": total, **more.pop("target", {})}
    request = {"LaunchTemplateConfigs": [config], "TargetCapacitySpecification": target, "Type": "instant", **more}
    made: dict[str, Any] = ec2("CreateFleet", **request)
    return made


def ids(made: dict[str, Any]) -> list[str]:
    return [each for group in made["Instances"] for each in group["InstanceIds"]]


def described(ec2: Any, fleet_id: str) -> dict[str, Any]:
    [found] = ec2("DescribeFleets", FleetIds=[fleet_id])["Fleets"]
    return dict(found)


def active(ec2: Any, fleet_id: str) -> list[str]:
    return [each["InstanceId"] for each in ec2("DescribeFleetInstances", FleetId=fleet_id)["ActiveInstances"]]


@pytest.mark.parametrize(
    ("template", "default", "expected"),
    [(None, None, "optional"), (None, "required", "required"), ("optional", "required", "optional")],
)
def test_the_precedence_is_that_of_run_instances(
    ec2: Any, template: str | None, default: str | None, expected: str
) -> None:
    if default:
        ec2("ModifyInstanceMetadataDefaults", HttpTokens=default)
    data = {"MetadataOptions": {"HttpTokens": template}} if template else {}
    [instance_id] = ids(fleet(ec2, ec2.template(**data)))
    assert ec2.options(instance_id)["HttpTokens"] == expected


def test_an_override_of_the_image_decides_as_well(ec2: Any) -> None:
    [instance_id] = ids(fleet(ec2, ec2.template(), {"ImageId": ec2.image("al2023")}))
    assert ec2.options(instance_id)["HttpTokens"] == "required"


def test_what_enforcement_refuses_is_among_the_errors(ec2: Any) -> None:
    ec2("ModifyInstanceMetadataDefaults", HttpTokensEnforced="enabled")
    made = fleet(ec2, ec2.template(), total=2)
    [error] = made["Errors"]
    assert (error["ErrorCode"], made["Instances"]) == ("UnsupportedOperation", [])
    assert "httpTokensEnforced" in error["ErrorMessage"]
    made = fleet(ec2, ec2.template(), {"InstanceType": "t3.nano"}, {"ImageId": ec2.image("al2023")}, total=2)
    assert len(ids(made)) == 2  # from the pool that works
    assert len(made["Errors"]) == 1


def test_instances_say_where_they_came_from(ec2: Any) -> None:
    template = ec2.template()
    given = [{"ResourceType": kind, "Tags": [{"Key": "of", "Value": kind}]} for kind in ("fleet", "instance")]
    made = fleet(ec2, template, TagSpecifications=given)
    [instance] = ec2.instances(InstanceIds=ids(made))
    assert {each["Key"]: each["Value"] for each in instance["Tags"]} == {
        "of": "instance",
        "aws:ec2:fleet-id": made["FleetId"],
        "aws:ec2launchtemplate:id": template,
        "aws:ec2launchtemplate:version": "1",
    }
    found = described(ec2, made["FleetId"])
    assert found["Tags"] == [{"Key": "of", "Value": "fleet"}]
    assert (found["FleetState"], found["ActivityStatus"], found["FulfilledCapacity"]) == ("active", "fulfilled", 1)
    assert found["Instances"][0]["InstanceIds"] == ids(made)


def test_capacity_is_split_between_the_markets(ec2: Any) -> None:
    target = {"OnDemandTargetCapacity": 1, "DefaultTargetCapacityType": "spot"}
    made = fleet(ec2, ec2.template(), total=3, target=target)
    lifecycles = [each.get("InstanceLifecycle") for each in ec2.instances()]
    assert sorted(lifecycles, key=str) == [None, "spot", "spot"]
    assert len(ec2("DescribeSpotInstanceRequests")["SpotInstanceRequests"]) == 2
    assert described(ec2, made["FleetId"])["TargetCapacitySpecification"] == {
        "TotalTargetCapacity": 3,
        "OnDemandTargetCapacity": 1,
        "SpotTargetCapacity": 2,
        "DefaultTargetCapacityType": "spot",
    }


def test_weights_count(ec2: Any) -> None:
    made = fleet(ec2, ec2.template(), {"InstanceType": "m5.xlarge", "WeightedCapacity": 4.0}, total=10)
    assert len(ids(made)) == 3
    assert described(ec2, made["FleetId"])["FulfilledCapacity"] == 12


@pytest.mark.parametrize(
    ("strategy", "types"),
    [
        ("lowest-price", ["t3.nano"] * 4),
        ("prioritized", ["m5.large"] * 4),
    ],
)
def test_allocation_on_demand(ec2: Any, strategy: str, types: list[str]) -> None:
    overrides = (
        {"InstanceType": "c5.large", "Priority": 2.0},
        {"InstanceType": "m5.large", "Priority": 1.0},
        {"InstanceType": "t3.nano"},
    )
    fleet(ec2, ec2.template(), *overrides, total=4, OnDemandOptions={"AllocationStrategy": strategy})
    assert [each["InstanceType"] for each in ec2.instances()] == types


def test_a_diversified_fleet_uses_every_pool(ec2: Any) -> None:
    overrides = [{"InstanceType": name} for name in ("c5.large", "m5.large", "t3.nano")]
    options = {"AllocationStrategy": "diversified"}
    target = {"DefaultTargetCapacityType": "spot"}
    fleet(ec2, ec2.template(), *overrides, total=5, SpotOptions=options, target=target)
    found = [each["InstanceType"] for each in ec2.instances()]
    assert sorted(found) == ["c5.large", "c5.large", "m5.large", "m5.large", "t3.nano"]


def test_nothing_is_launched_below_the_minimum(ec2: Any) -> None:
    options = {"MinTargetCapacity": 2, "SingleInstanceType": True}
    made = fleet(ec2, ec2.template(), {"InstanceType": "t4g.micro"}, total=2, OnDemandOptions=options)
    assert (made["Instances"], len(made["Errors"])) == ([], 1)
    made = fleet(ec2, ec2.template(), {"InstanceType": "t3.nano"}, total=2, OnDemandOptions=options)
    assert len(ids(made)) == 2


def test_a_single_zone(ec2: Any) -> None:
    overrides = [{"InstanceType": "m5.large", "AvailabilityZone": f"us-east-1{letter}"} for letter in "abc"]
    options = {"SingleAvailabilityZone": True}
    fleet(ec2, ec2.template(), *overrides, total=3, OnDemandOptions=options)
    assert {each["Placement"]["AvailabilityZone"] for each in ec2.instances()} == {"us-east-1a"}


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"Type": "sometimes"}, "InvalidParameterValue"),
        ({"total": 0}, "InvalidParameterValue"),
        ({"total": 1, "target": {"OnDemandTargetCapacity": 2}}, "InvalidParameterCombination"),
        ({"target": {"DefaultTargetCapacityType": "capacity-block"}}, "UnsupportedOperation"),
        ({"SpotOptions": {"AllocationStrategy": "best"}}, "InvalidParameterValue"),
        ({"OnDemandOptions": {"MinTargetCapacity": 1}}, "InvalidParameterCombination"),
        ({"Type": "maintain", "OnDemandOptions": {"SingleInstanceType": True}}, "InvalidParameterCombination"),
        (
            {"Type": "maintain", "TagSpecifications": [{"ResourceType": "instance", "Tags": []}]},
            "InvalidParameterValue",
        ),
    ],
)
def test_fleets_that_are_refused(ec2: Any, more: dict[str, Any], code: str) -> None:
    config = {"LaunchTemplateSpecification": {"LaunchTemplateId": ec2.template(), "Version": "1"}}
    target = {"TotalTargetCapacity": more.pop("total", 1), **more.pop("target", {})}
    request = {"LaunchTemplateConfigs": [config], "TargetCapacitySpecification": target, "Type": "instant", **more}
    assert ec2.code("CreateFleet", **request) == code
    assert (ec2.state.fleets, ec2.instances()) == ({}, [])


def test_a_template_that_does_not_exist(ec2: Any) -> None:
    config = {"LaunchTemplateSpecification": {"LaunchTemplateName": "no-such", "Version": "1"}}
    request = {"LaunchTemplateConfigs": [config], "TargetCapacitySpecification": {"TotalTargetCapacity": 1}}
    assert ec2.code("CreateFleet", **request) == "InvalidLaunchTemplateName.NotFoundException"


# -- fleets that go on ------------------------------------------------------------------------------------------------


def maintained(ec2: Any, total: int = 2, **more: Any) -> str:
    target = {"DefaultTargetCapacityType": "spot"}
    made = fleet(ec2, ec2.template(), total=total, Type="maintain", target=target, **more)
    assert set(made) == {"FleetId"}
    return str(made["FleetId"])


def test_a_maintained_fleet_replaces_what_it_lost(ec2: Any) -> None:
    fleet_id = maintained(ec2)
    before = active(ec2, fleet_id)
    ec2("ModifyInstanceMetadataDefaults", HttpTokens="required")
    ec2("TerminateInstances", InstanceIds=before[:1])
    after = active(ec2, fleet_id)
    assert len(after) == 2
    [new] = set(after) - set(before)
    assert ec2.options(new)["HttpTokens"] == "required"
    assert described(ec2, fleet_id)["FulfilledCapacity"] == 2


def test_a_request_fleet_does_not(ec2: Any) -> None:
    fleet_id = fleet(ec2, ec2.template(), Type="request", target={"DefaultTargetCapacityType": "spot"})["FleetId"]
    ec2("TerminateInstances", InstanceIds=active(ec2, fleet_id))
    assert active(ec2, fleet_id) == []
    assert described(ec2, fleet_id)["ActivityStatus"] == "pending_fulfillment"


def test_enforcement_keeps_a_fleet_from_replacing(ec2: Any) -> None:
    fleet_id = maintained(ec2)
    ec2("ModifyInstanceMetadataDefaults", HttpTokensEnforced="enabled")
    ec2("TerminateInstances", InstanceIds=active(ec2, fleet_id))
    assert active(ec2, fleet_id) == []
    assert described(ec2, fleet_id)["ActivityStatus"] == "error"
    asked = {"FleetId": fleet_id, "StartTime": ec2.now, "EventType": "service-error"}
    [record] = ec2("DescribeFleetHistory", **asked)["HistoryRecords"]
    assert "httpTokensEnforced" in record["EventInformation"]["EventDescription"]


def test_a_fleet_grows_and_shrinks(ec2: Any) -> None:
    fleet_id = maintained(ec2)
    first = active(ec2, fleet_id)
    ec2("ModifyFleet", FleetId=fleet_id, TargetCapacitySpecification={"TotalTargetCapacity": 4})
    assert len(active(ec2, fleet_id)) == 4
    ec2("ModifyFleet", FleetId=fleet_id, TargetCapacitySpecification={"TotalTargetCapacity": 2})
    assert sorted(active(ec2, fleet_id)) == sorted(first)
    keep = {"ExcessCapacityTerminationPolicy": "no-termination"}
    ec2("ModifyFleet", FleetId=fleet_id, TargetCapacitySpecification={"TotalTargetCapacity": 0}, **keep)
    assert sorted(active(ec2, fleet_id)) == sorted(first)
    split = {"TotalTargetCapacity": 1, "SpotTargetCapacity": 1}
    refused = {"FleetId": fleet_id, "TargetCapacitySpecification": split}
    assert ec2.code("ModifyFleet", **refused) == "InvalidTargetCapacitySpecification"
    instant = fleet(ec2, ec2.template())["FleetId"]
    assert ec2.code("ModifyFleet", FleetId=instant) == "UnsupportedOperation"


@pytest.mark.parametrize(
    ("terminate", "first", "left"), [(True, "deleted_terminating", 0), (False, "deleted_running", 2)]
)
def test_deleting(ec2: Any, terminate: bool, first: str, left: int) -> None:
    fleet_id = maintained(ec2)
    [done] = ec2("DeleteFleets", FleetIds=[fleet_id], TerminateInstances=terminate)["SuccessfulFleetDeletions"]
    assert done == {"FleetId": fleet_id, "PreviousFleetState": "active", "CurrentFleetState": first}
    running = [each for each in ec2.instances() if each["State"]["Name"] == "running"]
    assert len(running) == left
    assert described(ec2, fleet_id)["FleetState"] == ("deleted" if terminate else "deleted_running")
    if running:
        ec2("TerminateInstances", InstanceIds=[each["InstanceId"] for each in running])
        assert len(ec2.instances()) == 2  # a deleted fleet replaces nothing
        assert described(ec2, fleet_id)["FleetState"] == "deleted"


def test_what_cannot_be_deleted_is_reported_beside_what_was(ec2: Any) -> None:
    good, instant = maintained(ec2), fleet(ec2, ec2.template())["FleetId"]
    absent = "fleet-00000000-0000-0000-0000-000000000000"
    answer = ec2("DeleteFleets", FleetIds=[good, instant, absent, "fleet"], TerminateInstances=False)
    assert [each["FleetId"] for each in answer["SuccessfulFleetDeletions"]] == [good]
    codes = {each["FleetId"]: each["Error"]["Code"] for each in answer["UnsuccessfulFleetDeletions"]}
    assert codes == {instant: "unexpectedError", absent: "fleetIdDoesNotExist", "fleet": "fleetIdMalformed"}
    again = ec2("DeleteFleets", FleetIds=[good], TerminateInstances=True)["UnsuccessfulFleetDeletions"]
    assert again[0]["Error"]["Code"] == "fleetNotInDeletableState"


def test_instant_fleets_are_described_by_their_id_only(ec2: Any) -> None:
    instant, other = fleet(ec2, ec2.template())["FleetId"], maintained(ec2)
    assert [each["FleetId"] for each in ec2("DescribeFleets")["Fleets"]] == [other]
    assert described(ec2, instant)["Type"] == "instant"
    assert ec2.code("DescribeFleetInstances", FleetId=instant) == "UnsupportedOperation"
    assert ec2("DescribeFleets", Filters=[{"Name": "type", "Values": ["request"]}])["Fleets"] == []
    assert ec2.code("DescribeFleets", FleetIds=["fleet-1"]) == "InvalidFleetId.Malformed"


def test_the_history_tells_what_happened(ec2: Any) -> None:
    fleet_id = maintained(ec2, total=1)
    ec2.wait(hours=2)
    ec2("TerminateInstances", InstanceIds=active(ec2, fleet_id))
    later = ec2("DescribeFleetHistory", FleetId=fleet_id, StartTime=ec2.now)["HistoryRecords"]
    assert [each["EventInformation"]["EventSubType"] for each in later] == ["terminated", "launched"]


def test_a_client_token_makes_one_fleet(ec2: Any) -> None:
    template = ec2.template()
    first = fleet(ec2, template, ClientToken="once")
    assert fleet(ec2, template, ClientToken="once") == first
    assert len(ec2.instances()) == 1
