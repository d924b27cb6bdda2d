"""A session of somebody who tries out Spot Instances, fleets and profiles, as the AWS CLI and boto3 spell it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

REQUIRED = "required"


class Cli:
    """`aws ...` in a shell: what a command printed, or how it was refused."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell

    def __call__(self, service: str, operation: str, *arguments: str, **options: Any) -> Any:
        """Options become `--option value`; structures are written as JSON."""
        done = self.shell.aws(service, operation, *arguments, *self._written(options), "--output", "json")
        assert done.returncode == 0, f"{operation}: {done.stderr}"
        return json.loads(done.stdout) if done.stdout.strip() else None

    def refused(self, service: str, operation: str, *arguments: str, **options: Any) -> str:
        """The code of AWS's refusal."""
        done = self.shell.aws(service, operation, *arguments, *self._written(options))
        assert done.returncode == 255, done.stdout
        return str(done.stderr.partition("(")[2].partition(")")[0])

    @staticmethod
    def _written(options: dict[str, Any]) -> list[str]:
        words = []
        for name, value in options.items():
            words += [
                f"--{name.replace('_', '-')}",
                json.dumps(value) if isinstance(value, dict | list) else str(value),
            ]
        return words


@pytest.mark.slow
def test_a_session(place: Any) -> None:
    aws = Cli(place.shell)
    image = place.image_without
    aws("ec2", "modify-instance-metadata-defaults", http_tokens=REQUIRED, http_put_response_hop_limit=3)

    # A Spot request: the Region's defaults decide.
    [request] = aws(
        "ec2",
        "request-spot-instances",
        launch_specification={"ImageId": image, "InstanceType": "t3.micro"},
        tag_specifications=[{"ResourceType": "spot-instances-request", "Tags": [{"Key": "team", "Value": "a"}]}],
    )["SpotInstanceRequests"]
    named = {"spot_instance_request_ids": request["SpotInstanceRequestId"]}
    aws("ec2", "wait", "spot-instance-request-fulfilled", **named)
    [request] = aws("ec2", "describe-spot-instance-requests", filters="Name=tag:team,Values=a")["SpotInstanceRequests"]
    spot = place.instance(request["InstanceId"])
    assert (spot["InstanceLifecycle"], spot["SpotInstanceRequestId"]) == ("spot", request["SpotInstanceRequestId"])
    assert (spot["MetadataOptions"]["HttpTokens"], spot["MetadataOptions"]["HttpPutResponseHopLimit"]) == (REQUIRED, 3)
    [cancelled] = aws("ec2", "cancel-spot-instance-requests", **named)["CancelledSpotInstanceRequests"]
    assert cancelled["State"] == "cancelled"

    # The instance as a template, and a fleet of that template.
    data = aws("ec2", "get-launch-template-data", instance_id=spot["InstanceId"])["LaunchTemplateData"]
    assert data["MetadataOptions"]["HttpTokens"] == REQUIRED
    del data["InstanceMarketOptions"]
    aws("ec2", "create-launch-template", launch_template_name="like-it", launch_template_data=data)
    configs = [{"LaunchTemplateSpecification": {"LaunchTemplateName": "like-it", "Version": "$Latest"}}]
    made = aws(
        "ec2",
        "create-fleet",
        type="instant",
        launch_template_configs=configs,
        target_capacity_specification={"TotalTargetCapacity": 2, "DefaultTargetCapacityType": "on-demand"},
    )
    [group] = made["Instances"]
    assert len(group["InstanceIds"]) == 2
    assert {place.instance(each)["MetadataOptions"]["HttpTokens"] for each in group["InstanceIds"]} == {REQUIRED}
    [deleted] = aws("ec2", "delete-fleets", "--terminate-instances", fleet_ids=made["FleetId"])[
        "SuccessfulFleetDeletions"
    ]
    assert deleted["CurrentFleetState"] == "deleted_terminating"

    # A fleet that goes on.
    fleet = aws(
        "ec2",
        "create-fleet",
        launch_template_configs=configs,
        target_capacity_specification={"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "spot"},
    )["FleetId"]
    aws("ec2", "modify-fleet", fleet_id=fleet, target_capacity_specification={"TotalTargetCapacity": 2})
    assert len(aws("ec2", "describe-fleet-instances", fleet_id=fleet)["ActiveInstances"]) == 2
    [shown] = aws("ec2", "describe-fleets", fleet_ids=fleet)["Fleets"]
    assert (shown["FleetState"], shown["FulfilledCapacity"]) == ("active", 2.0)
    history = aws("ec2", "describe-fleet-history", fleet_id=fleet, start_time="2020-01-01T00:00:00Z")
    assert [each["EventInformation"]["EventSubType"] for each in history["HistoryRecords"]].count("launched") == 2

    # An instance profile has to exist before it is given.
    profile = f"cli-{place.region}"
    given = {"instance_id": spot["InstanceId"], "iam_instance_profile": f"Name={profile}"}
    assert aws.refused("ec2", "associate-iam-instance-profile", **given) == "InvalidParameterValue"
    aws("iam", "create-instance-profile", instance_profile_name=profile)
    association = aws("ec2", "associate-iam-instance-profile", **given)["IamInstanceProfileAssociation"]
    [found] = aws("ec2", "describe-iam-instance-profile-associations")["IamInstanceProfileAssociations"]
    assert (found["AssociationId"], found["State"]) == (association["AssociationId"], "associated")
    aws("ec2", "disassociate-iam-instance-profile", association_id=association["AssociationId"])

    # Managed resources, and prices.
    hidden = aws("ec2", "modify-managed-resource-visibility", default_visibility="hidden")
    assert hidden == aws("ec2", "get-managed-resource-visibility") == {"Visibility": {"DefaultVisibility": "hidden"}}
    aws("ec2", "modify-managed-resource-visibility", default_visibility="visible")
    prices = aws("ec2", "describe-spot-price-history", instance_types="m5.large", product_descriptions="Linux/UNIX")
    assert {each["InstanceType"] for each in prices["SpotPriceHistory"]} == {"m5.large"}


def test_the_same_with_boto3s_waiters_and_paginators(make_offline: Any) -> None:
    offline = make_offline(instances=0)
    ec2 = offline.client("ec2", region="eu-west-1")
    images = ec2.describe_images(Owners=["amazon"], Filters=[{"Name": "name", "Values": ["al2023-ami-2023*x86_64"]}])
    specification = {"ImageId": images["Images"][0]["ImageId"], "InstanceType": "t3.micro"}
    asked = ec2.request_spot_instances(LaunchSpecification=specification, InstanceCount=12)["SpotInstanceRequests"]
    ids = {each["SpotInstanceRequestId"] for each in asked}
    ec2.get_waiter("spot_instance_request_fulfilled").wait(SpotInstanceRequestIds=list(ids))

    def pages(operation: str, answer: str, size: int, **params: Any) -> list[list[Any]]:
        paginator = ec2.get_paginator(operation).paginate(PaginationConfig={"PageSize": size}, **params)
        return [page[answer] for page in paginator]

    found = pages("describe_spot_instance_requests", "SpotInstanceRequests", 5)
    assert [len(page) for page in found] == [5, 5, 2]
    assert {each["SpotInstanceRequestId"] for page in found for each in page} == ids
    instances = [each["InstanceId"] for page in found for each in page]
    ec2.get_waiter("instance_running").wait(InstanceIds=instances)

    ec2.create_launch_template(LaunchTemplateName="many", LaunchTemplateData=specification)
    config = {"LaunchTemplateSpecification": {"LaunchTemplateName": "many", "Version": "$Default"}}
    fleets = {
        ec2.create_fleet(
            LaunchTemplateConfigs=[config],
            TargetCapacitySpecification={"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "spot"},
        )["FleetId"]
        for _ in range(3)
    }
    found = pages("describe_fleets", "Fleets", 2)
    assert [len(page) for page in found] == [2, 1]
    assert {each["FleetId"] for page in found for each in page} == fleets

    offline.client("iam").create_instance_profile(InstanceProfileName="web")
    for each in instances[:6]:
        ec2.associate_iam_instance_profile(InstanceId=each, IamInstanceProfile={"Name": "web"})
    found = pages("describe_iam_instance_profile_associations", "IamInstanceProfileAssociations", 5)
    assert [len(page) for page in found] == [5, 1]
    found = pages("describe_spot_price_history", "SpotPriceHistory", 5, InstanceTypes=["m5.large"])
    assert len({json.dumps(each, default=str) for page in found for each in page}) == sum(map(len, found)) == 12

    ec2.terminate_instances(InstanceIds=instances)
    ec2.get_waiter("instance_terminated").wait(InstanceIds=instances)
    closed = ec2.describe_spot_instance_requests(Filters=[{"Name": "state", "Values": ["closed"]}])
    assert {each["SpotInstanceRequestId"] for each in closed["SpotInstanceRequests"]} == ids


def fleet_role(offline: Any) -> str:
    """The ARN of a new role that Spot Fleet may assume."""
    trust = {"Effect": "Allow", "Principal": {"Service": "spotfleet.amazonaws.com"}, "Action": "sts:AssumeRole"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [trust]})
    made = offline.client("iam").create_role(RoleName="spot-fleet", AssumeRolePolicyDocument=document)
    return str(made["Role"]["Arn"])


def test_a_spot_fleet_request_with_boto3s_paginators(make_offline: Any) -> None:
    offline = make_offline(instances=0)
    ec2, role = offline.client("ec2"), fleet_role(offline)
    images = ec2.describe_images(Owners=["amazon"], Filters=[{"Name": "architecture", "Values": ["x86_64"]}])["Images"]
    group = ec2.describe_security_groups()["SecurityGroups"][0]
    specification = {
        "ImageId": images[0]["ImageId"],
        "InstanceType": "t3.micro",
        "SecurityGroups": [{"GroupId": group["GroupId"]}],
        "BlockDeviceMappings": [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 5, "VolumeType": "gp3"}}],
        "Monitoring": {"Enabled": True},
        "UserData": "IyEvYmluL3NoCg==",
        "WeightedCapacity": 1.5,
        "TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": "team", "Value": "blue"}]}],
    }
    asked = {
        "AllocationStrategy": "diversified",
        "IamFleetRole": role,
        "LaunchSpecifications": [specification],
        "SpotPrice": "0.5",
        "TargetCapacity": 3,
        "TagSpecifications": [{"ResourceType": "spot-fleet-request", "Tags": [{"Key": "team", "Value": "blue"}]}],
    }
    ids = [ec2.request_spot_fleet(SpotFleetRequestConfig=asked)["SpotFleetRequestId"] for _ in range(3)]

    def pages(operation: str, answer: str, size: int, **params: Any) -> list[list[Any]]:
        paginator = ec2.get_paginator(operation).paginate(PaginationConfig={"PageSize": size}, **params)
        return [page[answer] for page in paginator]

    found = pages("describe_spot_fleet_requests", "SpotFleetRequestConfigs", 2)
    assert [len(page) for page in found] == [2, 1]
    by_id = {each["SpotFleetRequestId"]: each for page in found for each in page}
    assert sorted(by_id) == sorted(ids)
    shown = by_id[ids[0]]
    config = shown["SpotFleetRequestConfig"]
    assert {name: config[name] for name in asked} == asked
    assert (shown["SpotFleetRequestState"], config["Type"], config["FulfilledCapacity"]) == ("active", "maintain", 3.0)
    assert shown["Tags"] == [{"Key": "team", "Value": "blue"}]
    found = pages("describe_spot_fleet_instances", "ActiveInstances", 1, SpotFleetRequestId=ids[0])
    instances = [each["InstanceId"] for page in found for each in page]
    assert (len(found), len(instances)) == (2, 2)
    assert {each["InstanceHealth"] for page in found for each in page} == {"healthy"}
    since = {"SpotFleetRequestId": ids[0], "StartTime": shown["CreateTime"]}
    history = ec2.describe_spot_fleet_request_history(**since, MaxResults=3)
    assert [each["EventInformation"]["EventSubType"] for each in history["HistoryRecords"]] == [
        "submitted",
        "active",
        "launched",
    ]
    rest = ec2.describe_spot_fleet_request_history(**since, NextToken=history["NextToken"])
    assert [each["EventInformation"]["InstanceId"] for each in rest["HistoryRecords"]] == instances[1:]

    ec2.modify_spot_fleet_request(SpotFleetRequestId=ids[0], TargetCapacity=0)
    done = ec2.cancel_spot_fleet_requests(SpotFleetRequestIds=ids, TerminateInstances=True)
    assert [each["SpotFleetRequestId"] for each in done["SuccessfulFleetRequests"]] == ids
    ec2.get_waiter("instance_terminated").wait(InstanceIds=instances)


def test_an_override_may_say_everything_the_model_knows(offline: Any) -> None:
    ec2 = offline.client("ec2")
    images = ec2.describe_images(Owners=["amazon"], Filters=[{"Name": "architecture", "Values": ["x86_64"]}])["Images"]
    data = {"ImageId": images[0]["ImageId"], "InstanceType": "t3.micro"}
    ec2.create_launch_template(LaunchTemplateName="plain", LaunchTemplateData=data)
    override = {
        "InstanceType": "m5.large",
        "ImageId": images[1]["ImageId"],
        "MaxPrice": "1.0",
        "WeightedCapacity": 2.0,
        "Priority": 1.5,
        "BlockDeviceMappings": [{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 5, "VolumeType": "gp3"}}],
    }
    placement = {"Tenancy": "dedicated", "AvailabilityZone": "us-east-1c"}
    template = {"LaunchTemplateName": "plain", "Version": "1"}
    made = ec2.create_fleet(
        Type="instant",
        LaunchTemplateConfigs=[
            {"LaunchTemplateSpecification": template, "Overrides": [{**override, "Placement": placement}]}
        ],
        TargetCapacitySpecification={"TotalTargetCapacity": 3},
    )
    [group] = made["Instances"]
    assert group["LaunchTemplateAndOverrides"]["Overrides"] == override
    [shown] = ec2.describe_fleets(FleetIds=[made["FleetId"]])["Fleets"]
    assert shown["LaunchTemplateConfigs"] == [{"LaunchTemplateSpecification": template, "Overrides": [override]}]
    [reservation] = ec2.describe_instances(InstanceIds=group["InstanceIds"])["Reservations"]
    assert [each["ImageId"] for each in reservation["Instances"]] == [override["ImageId"]] * 2
    assert {each["Placement"]["Tenancy"] for each in reservation["Instances"]} == {"dedicated"}


def test_requests_and_fleets_outlive_a_restart(make_offline: Callable[..., Any], tmp_path: Any) -> None:
    before = make_offline(tmp_path / "state", instances=0)
    ec2 = before.client("ec2")
    image = ec2.describe_images(Owners=["amazon"])["Images"][0]
    kind = "t4g.micro" if image["Architecture"] == "arm64" else "t3.micro"
    data = {"ImageId": image["ImageId"], "InstanceType": kind}
    ec2.create_launch_template(LaunchTemplateName="kept", LaunchTemplateData=data)
    config = {"LaunchTemplateSpecification": {"LaunchTemplateName": "kept", "Version": "1"}}
    target = {"TotalTargetCapacity": 3, "OnDemandTargetCapacity": 1, "DefaultTargetCapacityType": "spot"}
    ec2.create_fleet(LaunchTemplateConfigs=[config], TargetCapacitySpecification=target)
    wanted = {"IamFleetRole": fleet_role(before), "TargetCapacity": 2, "LaunchSpecifications": [data]}
    fleet = ec2.request_spot_fleet(SpotFleetRequestConfig=wanted)["SpotFleetRequestId"]
    ec2.modify_spot_fleet_request(SpotFleetRequestId=fleet, TargetCapacity=1)
    until = before.world.created + timedelta(days=9)
    asked = {"LaunchSpecification": data, "Type": "persistent", "ValidUntil": until}
    [request] = ec2.request_spot_instances(**asked)["SpotInstanceRequests"]
    named = {"SpotInstanceRequestIds": [request["SpotInstanceRequestId"]]}
    [request] = ec2.describe_spot_instance_requests(**named)["SpotInstanceRequests"]
    ec2.terminate_instances(InstanceIds=[request["InstanceId"]])
    ec2.modify_managed_resource_visibility(DefaultVisibility="hidden")

    def told(client: Any) -> list[Any]:
        answers = [
            client.describe_instances(),
            client.describe_fleets(),
            client.describe_spot_instance_requests(),
            client.describe_spot_fleet_requests(),
            client.describe_spot_fleet_instances(SpotFleetRequestId=fleet),
            client.describe_spot_fleet_request_history(SpotFleetRequestId=fleet, StartTime=before.world.created),
            client.get_managed_resource_visibility(),
        ]
        for answer in answers:
            del answer["ResponseMetadata"]
            answer.pop("LastEvaluatedTime", None)
        return answers

    shown = told(ec2)
    assert len(shown[2]["SpotInstanceRequests"]) == 5
    assert told(make_offline(tmp_path / "state", instances=0).client("ec2")) == shown
