"""botocore against Auto Scaling: launch configurations, groups that really launch, and what they are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.contract.conftest import MakeOffline
from tests.contract.scaling import ENFORCED, Scaling, tags


@pytest.fixture
def here(make_offline: MakeOffline) -> Scaling:
    return Scaling(make_offline(instances=0))


# -- launch configurations -------------------------------------------------------------------------------------------


def test_a_launch_configuration_says_what_it_was_given(here: Scaling) -> None:
    options = {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}
    here.configuration(MetadataOptions=options)
    [shown] = here.asg.describe_launch_configurations(LaunchConfigurationNames=["lc"])["LaunchConfigurations"]
    assert shown["MetadataOptions"] == options
    assert shown["InstanceMonitoring"] == {"Enabled": True}
    assert f":{here.aws.management}:launchConfiguration:" in shown["LaunchConfigurationARN"]
    assert here.refused(lambda: here.configuration()) == (
        "AlreadyExists",
        400,
        "Launch Configuration by this name already exists - A launch configuration already exists with the name lc",
    )


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"ImageId": "ami-0123456789abcdef0"}, "does not exist"),
        ({"InstanceType": "x9.tiny"}, "x9.tiny"),
        ({"InstanceType": ""}, "InstanceType cannot be null or empty"),
        ({"KeyName": "nobody"}, "The key pair 'nobody' does not exist"),
        ({"SecurityGroups": ["sg-0123456789abcdef0"]}, "does not exist"),
        ({"MetadataOptions": {"HttpTokens": "always"}}, "httpTokens"),
        ({"MetadataOptions": {"HttpPutResponseHopLimit": 65}}, "less than or equal to 64"),
        ({"PlacementTenancy": "shared"}, "placementTenancy"),
        ({"InstanceId": "i-0123456789abcdef0"}, "does not exist"),
    ],
)
def test_a_launch_configuration_that_cannot_launch_is_refused(
    here: Scaling, parameters: dict[str, Any], says: str
) -> None:
    asg = here.aws.client("autoscaling", region="eu-west-1", checked=False)
    whole = {"LaunchConfigurationName": "lc", "ImageId": here.image(), "InstanceType": "t3.micro", **parameters}
    code, status, message = here.refused(lambda: asg.create_launch_configuration(**whole))
    assert (code, status) == ("ValidationError", 400)
    assert says in message
    assert here.asg.describe_launch_configurations()["LaunchConfigurations"] == []


def test_launch_configurations_come_in_pages(here: Scaling) -> None:
    names = [here.configuration(f"lc-{number:03d}") for number in range(120)]
    pages = list(here.asg.get_paginator("describe_launch_configurations").paginate(PaginationConfig={"PageSize": 100}))
    assert [len(page["LaunchConfigurations"]) for page in pages] == [100, 20]
    assert [each["LaunchConfigurationName"] for page in pages for each in page["LaunchConfigurations"]] == names
    assert here.asg.describe_account_limits()["NumberOfLaunchConfigurations"] == 120
    code, _, _ = here.refused(lambda: here.asg.describe_launch_configurations(MaxRecords=101))
    assert code == "ValidationError"
    code, _, _ = here.refused(lambda: here.asg.describe_launch_configurations(NextToken="nonsense"))
    assert code == "InvalidNextToken"


def test_a_launch_configuration_in_use_stays(here: Scaling) -> None:
    here.create(LaunchConfigurationName=here.configuration())
    delete: Callable[[], Any] = lambda: here.asg.delete_launch_configuration(LaunchConfigurationName="lc")  # noqa: E731
    assert here.refused(delete)[0] == "ResourceInUse"
    here.asg.update_auto_scaling_group(
        AutoScalingGroupName="web", LaunchTemplate={"LaunchTemplateId": here.template(), "Version": "$Latest"}
    )
    delete()
    assert "not found" in here.refused(delete)[2]


def test_a_launch_configuration_from_an_instance(here: Scaling) -> None:
    [made] = here.ec2.run_instances(ImageId=here.image(), InstanceType="t3.small", MinCount=1, MaxCount=1)["Instances"]
    here.asg.create_launch_configuration(LaunchConfigurationName="copy", InstanceId=made["InstanceId"])
    [shown] = here.asg.describe_launch_configurations()["LaunchConfigurations"]
    assert (shown["ImageId"], shown["InstanceType"]) == (made["ImageId"], "t3.small")
    assert shown["SecurityGroups"] == [made["SecurityGroups"][0]["GroupId"]]
    assert "MetadataOptions" not in shown


# -- groups that launch ----------------------------------------------------------------------------------------------


def test_a_group_launches_as_its_service_linked_role(here: Scaling) -> None:
    here.create(
        size=4,
        LaunchConfigurationName=here.configuration(),
        Tags=[
            {"Key": "Role", "Value": "web", "PropagateAtLaunch": True},
            {"Key": "Owner", "Value": "me", "PropagateAtLaunch": False},
        ],
    )
    group = here.group()
    assert {each["LifecycleState"] for each in group["Instances"]} == {"InService"}
    assert sorted(each["AvailabilityZone"] for each in group["Instances"]) == ["eu-west-1a"] * 2 + ["eu-west-1b"] * 2
    assert {each["LaunchConfigurationName"] for each in group["Instances"]} == {"lc"}
    for instance in here.instances():
        assert tags(instance) == {"Role": "web", "aws:autoscaling:groupName": "web"}
        assert instance["Monitoring"]["State"] == "enabled"
    role = here.iam.get_role(RoleName="AWSServiceRoleForAutoScaling")["Role"]
    assert role["Path"] == "/aws-service-role/autoscaling.amazonaws.com/"
    assert group["ServiceLinkedRoleARN"] == role["Arn"]
    assert here.refused(lambda: here.iam.delete_role(RoleName=role["RoleName"]))[0] == "UnmodifiableEntity"
    trust = json.dumps(role["AssumeRolePolicyDocument"])
    like = {"RoleName": "like", "Path": role["Path"], "AssumeRolePolicyDocument": trust}
    assert here.refused(lambda: here.iam.create_role(**like))[0] == "InvalidInput"
    done = here.activities()
    assert [each["StatusCode"] for each in done] == ["Successful"] * 4
    assert "changing the desired capacity from 0 to 4" in done[0]["Cause"]
    reservations = here.ec2.describe_instances(InstanceIds=here.ids())["Reservations"]
    assert {each["RequesterId"] for each in reservations} == {"940372691376"}


def test_options_of_a_launch_configuration_are_one_layer_of_the_precedence(here: Scaling) -> None:
    here.ec2.modify_instance_metadata_defaults(HttpTokens="required", HttpPutResponseHopLimit=3)
    here.create("silent", 1, LaunchConfigurationName=here.configuration("silent"))
    here.create(
        "spoken", 1, LaunchConfigurationName=here.configuration("spoken", MetadataOptions={"HttpTokens": "optional"})
    )
    found = {name: here.instances(name)[0]["MetadataOptions"] for name in ("silent", "spoken")}
    assert [found["silent"][each] for each in ("HttpTokens", "HttpPutResponseHopLimit")] == ["required", 3]
    assert [found["spoken"][each] for each in ("HttpTokens", "HttpPutResponseHopLimit")] == ["optional", 3]


def test_latest_moves_with_the_template_and_default_does_not(here: Scaling) -> None:
    template = here.template(MetadataOptions={"HttpTokens": "optional"})
    here.create("latest", 1, LaunchTemplate={"LaunchTemplateId": template, "Version": "$Latest"})
    here.create("default", 1, LaunchTemplate={"LaunchTemplateName": "base", "Version": "$Default"})
    here.create("fixed", 1, LaunchTemplate={"LaunchTemplateName": "base", "Version": "1"})
    here.ec2.create_launch_template_version(
        LaunchTemplateId=template,
        SourceVersion="1",
        LaunchTemplateData={"MetadataOptions": {"HttpTokens": "required"}},
    )
    seen = {}
    for name in ("latest", "default", "fixed"):
        here.asg.set_desired_capacity(AutoScalingGroupName=name, DesiredCapacity=2)
        seen[name] = [
            (
                tags(each)["aws:ec2launchtemplate:version"],
                tags(each)["aws:ec2launchtemplate:id"] == template,
                each["MetadataOptions"]["HttpTokens"],
            )
            for each in here.instances(name)
        ]
    assert sorted(seen["latest"]) == [("1", True, "optional"), ("2", True, "required")]
    assert seen["default"] == seen["fixed"] == [("1", True, "optional")] * 2
    assert here.group("latest")["LaunchTemplate"]["Version"] == "$Latest"
    here.ec2.modify_launch_template(LaunchTemplateId=template, DefaultVersion="2")
    here.asg.set_desired_capacity(AutoScalingGroupName="default", DesiredCapacity=3)
    assert sorted(each["LaunchTemplate"]["Version"] for each in here.group("default")["Instances"]) == ["1", "1", "2"]


def test_mixed_instances_take_type_template_and_market_from_the_policy(here: Scaling) -> None:
    template, other = here.template(), here.template("other", MetadataOptions={"HttpTokens": "required"})
    here.create(
        size=4,
        MixedInstancesPolicy={
            "LaunchTemplate": {
                "LaunchTemplateSpecification": {"LaunchTemplateId": template, "Version": "$Latest"},
                "Overrides": [
                    {
                        "InstanceType": "m5.large",
                        "LaunchTemplateSpecification": {"LaunchTemplateId": other, "Version": "$Default"},
                    },
                    {"InstanceType": "m5.xlarge"},
                ],
            },
            "InstancesDistribution": {"OnDemandBaseCapacity": 1, "OnDemandPercentageAboveBaseCapacity": 0},
        },
    )
    instances = here.instances()
    assert {each["InstanceType"] for each in instances} == {"m5.large"}
    assert {each["MetadataOptions"]["HttpTokens"] for each in instances} == {"required"}
    assert sorted(each.get("InstanceLifecycle", "on-demand") for each in instances) == ["on-demand"] + ["spot"] * 3
    assert here.group()["Instances"][0]["LaunchTemplate"]["LaunchTemplateId"] == other


def test_weights_count_towards_the_capacity(here: Scaling) -> None:
    here.create(
        size=5,
        MixedInstancesPolicy={
            "LaunchTemplate": {
                "LaunchTemplateSpecification": {"LaunchTemplateId": here.template(), "Version": "1"},
                "Overrides": [
                    {"InstanceType": "m5.large", "WeightedCapacity": "2"},
                    {"InstanceType": "m5.xlarge", "WeightedCapacity": "4"},
                ],
            }
        },
    )
    assert [each["WeightedCapacity"] for each in here.group()["Instances"]] == ["2"] * 3


def test_a_group_in_named_subnets_whose_template_has_a_network_interface(here: Scaling) -> None:
    subnet = here.ec2.describe_subnets()["Subnets"][1]
    template = here.template(NetworkInterfaces=[{"DeviceIndex": 0, "AssociatePublicIpAddress": False}])
    here.create(LaunchTemplate={"LaunchTemplateId": template}, VPCZoneIdentifier=subnet["SubnetId"])
    assert here.group()["AvailabilityZones"] == [subnet["AvailabilityZone"]]
    for instance in here.instances():
        assert instance["SubnetId"] == subnet["SubnetId"]
        assert "PublicIpAddress" not in instance


def test_a_group_from_an_instance_makes_a_launch_configuration_of_its_name(here: Scaling) -> None:
    [made] = here.ec2.run_instances(ImageId=here.image(), InstanceType="t3.small", MinCount=1, MaxCount=1)["Instances"]
    here.asg.create_auto_scaling_group(
        AutoScalingGroupName="twins", InstanceId=made["InstanceId"], MinSize=1, MaxSize=2
    )
    both = {"InstanceId": made["InstanceId"], "LaunchConfigurationName": "twins"}
    refused = here.refused(lambda: here.create("more", **both))
    assert "Valid requests must contain either" in refused[2]
    assert here.group("twins")["LaunchConfigurationName"] == "twins"
    assert here.instances("twins")[0]["InstanceType"] == "t3.small"
    assert here.group("twins")["AvailabilityZones"] == [made["Placement"]["AvailabilityZone"]]


# -- refusals --------------------------------------------------------------------------------------------------------


def test_a_refused_launch_is_a_failed_activity_and_is_tried_again(here: Scaling) -> None:
    here.ec2.modify_instance_metadata_defaults(HttpTokensEnforced="enabled")
    template = here.template(MetadataOptions={"HttpTokens": "optional"})
    here.create(LaunchTemplate={"LaunchTemplateId": template, "Version": "$Latest"})
    assert here.ids() == []
    [failed] = here.activities()
    assert (failed["StatusCode"], failed["Progress"]) == ("Failed", 100)
    assert failed["StatusMessage"].startswith(ENFORCED)
    assert failed["StatusMessage"].endswith("Launching EC2 instance failed.")
    assert failed["Description"].startswith("Launching a new EC2 instance.  Status Reason: ")
    here.aws.offset += timedelta(minutes=2)
    assert [each["StatusCode"] for each in here.activities()] == ["Failed"] * 3  # after 30 seconds, and 60 more

    here.ec2.create_launch_template_version(
        LaunchTemplateId=template,
        SourceVersion="1",
        LaunchTemplateData={"MetadataOptions": {"HttpTokens": "required"}},
    )
    assert here.ids() == []
    here.aws.offset += timedelta(minutes=5)
    assert {each["MetadataOptions"]["HttpTokens"] for each in here.instances()} == {"required"}
    assert len(here.ids()) == 2


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ({"LaunchConfigurationName": "none"}, "Launch configuration none not found"),
        ({"LaunchTemplate": {"LaunchTemplateName": "none"}}, "template name none, does not exist"),
        ({"LaunchTemplate": {"LaunchTemplateName": "base", "Version": "7"}}, "specified version 7"),
        ({"LaunchTemplate": {"LaunchTemplateName": "empty"}}, "must contain the parameter ImageId"),
        ({}, "Valid requests must contain either"),
        ({"LaunchTemplate": {"LaunchTemplateName": "base"}, "LaunchConfigurationName": "lc"}, "Valid requests must"),
        ({"InstanceId": "i-0123456789abcdef0", "LaunchConfigurationName": "lc"}, "does not exist"),
        ({"LaunchConfigurationName": "lc", "MinSize": 3, "MaxSize": 2}, "Max bound, 2, must be greater"),
        ({"LaunchConfigurationName": "lc", "DesiredCapacity": 11}, "Desired capacity:11 must be between"),
        ({"LaunchConfigurationName": "lc", "AvailabilityZones": ["us-east-1a"]}, "Invalid availability zone"),
        ({"LaunchConfigurationName": "lc", "AvailabilityZones": []}, "At least one Availability Zone"),
        ({"LaunchConfigurationName": "lc", "VPCZoneIdentifier": "subnet-1"}, "subnet-1"),
        ({"LaunchConfigurationName": "lc", "TargetGroupARNs": ["arn:x"]}, "Target Groups may not be valid"),
        ({"LaunchConfigurationName": "lc", "TerminationPolicies": ["Random"]}, "Random"),
        ({"LaunchConfigurationName": "lc", "Tags": [{"Key": "aws:x", "Value": ""}]}, "reserved"),
        ({"LaunchConfigurationName": "lc", "ServiceLinkedRoleARN": "arn:aws:iam::1:role/x"}, "does not exist"),
    ],
)
def test_a_group_that_cannot_be_is_refused(here: Scaling, parameters: dict[str, Any], says: str) -> None:
    here.configuration()
    here.template()
    here.ec2.create_launch_template(LaunchTemplateName="empty", LaunchTemplateData={"InstanceType": "t3.micro"})
    code, status, message = here.refused(lambda: here.create(**parameters))
    assert (code, status) == ("ValidationError", 400)
    assert says in message
    assert here.asg.describe_auto_scaling_groups()["AutoScalingGroups"] == []


def test_a_name_is_taken_until_the_group_is_gone(here: Scaling) -> None:
    here.create(LaunchConfigurationName=here.configuration())
    assert here.refused(lambda: here.create(LaunchConfigurationName="lc"))[0] == "AlreadyExists"
    delete = {"AutoScalingGroupName": "web"}
    ids = here.ids()
    assert here.refused(lambda: here.asg.delete_auto_scaling_group(**delete))[0] == "ResourceInUse"
    here.asg.delete_auto_scaling_group(**delete, ForceDelete=True)
    assert here.asg.describe_auto_scaling_groups()["AutoScalingGroups"] == []
    gone = here.ec2.describe_instances(InstanceIds=ids)["Reservations"]
    assert {instance["State"]["Name"] for each in gone for instance in each["Instances"]} == {"terminated"}
    kept = here.asg.describe_scaling_activities(AutoScalingGroupName="web", IncludeDeletedGroups=True)["Activities"]
    assert len(kept) == 4
    assert {each["AutoScalingGroupState"] for each in kept} == {"Deleted"}
    assert "not found" in here.refused(lambda: here.activities())[2]
    here.create(LaunchConfigurationName="lc")
    assert not set(ids) & set(here.ids())
