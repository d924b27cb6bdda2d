"""botocore against Auto Scaling: changes, instance refreshes, restarts, and who may do what."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.contract.conftest import MakeOffline
from tests.contract.scaling import ENFORCED, Scaling, tags


@pytest.fixture
def here(make_offline: MakeOffline) -> Scaling:
    return Scaling(make_offline(instances=0))


# -- changing --------------------------------------------------------------------------------------------------------


def test_capacity_goes_up_and_down(here: Scaling) -> None:
    here.create(size=1, LaunchConfigurationName=here.configuration())
    [first] = here.ids()
    here.asg.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=3)
    assert len(here.ids()) == 3
    here.asg.set_instance_protection(InstanceIds=[first], AutoScalingGroupName="web", ProtectedFromScaleIn=True)
    here.asg.update_auto_scaling_group(AutoScalingGroupName="web", MaxSize=1)
    assert here.ids() == [first]
    assert here.group()["DesiredCapacity"] == 1
    latest = here.activities()[0]
    assert "constraints to min: 0, max: 1, desired: 1" in latest["Cause"]
    assert "shrinking the capacity from 3 to 1" in latest["Cause"]
    assert here.refused(lambda: here.asg.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=2)) == (
        "ValidationError",
        400,
        "New SetDesiredCapacity value 2 is above max value 1 for the AutoScalingGroup.",
    )


def test_what_a_group_does_by_itself_is_in_cloudtrail(here: Scaling) -> None:
    here.create(size=1, LaunchConfigurationName=here.configuration())
    [instance] = here.ids()
    here.asg.update_auto_scaling_group(AutoScalingGroupName="web", MinSize=0, DesiredCapacity=0)
    assert here.ids() == []
    found = here.aws.client("cloudtrail", region="eu-west-1").lookup_events(
        LookupAttributes=[{"AttributeKey": "ResourceName", "AttributeValue": instance}]
    )["Events"]
    assert [each["EventName"] for each in found] == ["TerminateInstances", "RunInstances"]
    for each in found:
        event = json.loads(each["CloudTrailEvent"])
        who = event["userIdentity"]
        assert (who["type"], who["invokedBy"]) == ("AssumedRole", "autoscaling.amazonaws.com")
        assert who["sessionContext"]["sessionIssuer"]["userName"] == "AWSServiceRoleForAutoScaling"
        assert "accessKeyId" not in who
        assert event["sourceIPAddress"] == event["userAgent"] == "autoscaling.amazonaws.com"


@pytest.mark.parametrize(
    ("policy", "kept"),
    [("OldestInstance", "2"), ("NewestInstance", "1"), ("Default", "2"), ("OldestLaunchTemplate", "2")],
)
def test_scaling_in_keeps_the_zones_even_and_follows_the_policy(here: Scaling, policy: str, kept: str) -> None:
    template = here.template()
    here.create(
        size=4, LaunchTemplate={"LaunchTemplateId": template, "Version": "$Latest"}, TerminationPolicies=[policy]
    )
    here.group()
    here.ec2.create_launch_template_version(
        LaunchTemplateId=template, SourceVersion="1", LaunchTemplateData={"InstanceType": "t3.small"}
    )
    here.asg.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=8)
    here.group()
    here.asg.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=4)
    left = here.group()["Instances"]
    assert sorted(each["AvailabilityZone"] for each in left) == ["eu-west-1a"] * 2 + ["eu-west-1b"] * 2
    assert {each["LaunchTemplate"]["Version"] for each in left} == {kept}


@pytest.mark.parametrize("act", ["terminate_instances", "stop_instances"])
def test_an_instance_lost_behind_the_groups_back_is_replaced(here: Scaling, act: str) -> None:
    here.create(LaunchConfigurationName=here.configuration())
    lost, kept = here.ids()
    getattr(here.ec2, act)(InstanceIds=[lost])
    after = here.ids()
    assert len(after) == 2
    assert kept in after
    assert lost not in after
    assert here.ec2.describe_instances(InstanceIds=[lost])["Reservations"][0]["Instances"][0]["State"]["Name"] == (
        "terminated"
    )
    assert any("EC2 health check" in each["Cause"] for each in here.activities())


def test_suspended_processes_wait(here: Scaling) -> None:
    here.create(LaunchConfigurationName=here.configuration())
    lost, kept = here.ids()
    here.asg.suspend_processes(AutoScalingGroupName="web", ScalingProcesses=["Launch"])
    here.asg.set_instance_health(InstanceId=lost, HealthStatus="Unhealthy")
    assert here.ids() == [kept]
    assert [each["ProcessName"] for each in here.group()["SuspendedProcesses"]] == ["Launch"]
    here.asg.resume_processes(AutoScalingGroupName="web")
    assert len(here.ids()) == 2


def test_instances_are_terminated_detached_attached_and_put_aside(here: Scaling) -> None:
    here.create(size=3, LaunchConfigurationName=here.configuration())
    one, two, three = here.ids()
    answer = here.asg.terminate_instance_in_auto_scaling_group(InstanceId=one, ShouldDecrementDesiredCapacity=True)
    assert "shrinking the capacity from 3 to 2" in answer["Activity"]["Cause"]
    assert here.ids() == [two, three]

    here.asg.detach_instances(AutoScalingGroupName="web", InstanceIds=[two], ShouldDecrementDesiredCapacity=True)
    assert here.ids() == [three]
    [loose] = here.ec2.describe_instances(InstanceIds=[two])["Reservations"][0]["Instances"]
    assert (loose["State"]["Name"], loose.get("Tags", [])) == ("running", [])
    here.asg.attach_instances(AutoScalingGroupName="web", InstanceIds=[two])
    assert sorted(here.ids()) == sorted([two, three])
    assert here.group()["DesiredCapacity"] == 2
    assert here.refused(lambda: here.asg.attach_instances(AutoScalingGroupName="web", InstanceIds=[two]))[0] == (
        "ValidationError"
    )

    here.asg.enter_standby(AutoScalingGroupName="web", InstanceIds=[two], ShouldDecrementDesiredCapacity=True)
    states = {each["InstanceId"]: each["LifecycleState"] for each in here.group()["Instances"]}
    assert states == {two: "Standby", three: "InService"}
    here.asg.exit_standby(AutoScalingGroupName="web", InstanceIds=[two])
    [shown] = here.asg.describe_auto_scaling_instances(InstanceIds=[two])["AutoScalingInstances"]
    assert (shown["LifecycleState"], shown["AutoScalingGroupName"]) == ("InService", "web")
    assert here.group()["DesiredCapacity"] == 2


def test_tags_of_groups(here: Scaling) -> None:
    here.create(LaunchConfigurationName=here.configuration())
    tag = {"ResourceId": "web", "ResourceType": "auto-scaling-group", "Key": "Stage", "Value": "test"}
    here.asg.create_or_update_tags(Tags=[{**tag, "PropagateAtLaunch": True}])
    here.asg.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=3)
    assert sorted(tags(each).get("Stage", "-") for each in here.instances()) == ["-", "-", "test"]
    filters = [{"Name": "auto-scaling-group", "Values": ["web"]}]
    assert here.asg.describe_tags(Filters=filters)["Tags"] == [{**tag, "PropagateAtLaunch": True}]
    found = here.asg.describe_auto_scaling_groups(Filters=[{"Name": "tag:Stage", "Values": ["test"]}])
    assert [each["AutoScalingGroupName"] for each in found["AutoScalingGroups"]] == ["web"]
    here.asg.delete_tags(Tags=[tag])
    assert here.group()["Tags"] == []
    assert "not found" in here.refused(lambda: here.asg.create_or_update_tags(Tags=[{**tag, "ResourceId": "x"}]))[2]


# -- instance refresh ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("least", [0, 50, 90, 100])
def test_a_refresh_replaces_every_instance(here: Scaling, least: int) -> None:
    template = here.template(MetadataOptions={"HttpTokens": "optional"})
    here.create(size=4, LaunchTemplate={"LaunchTemplateId": template, "Version": "$Latest"})
    before = here.ids()
    here.ec2.create_launch_template_version(
        LaunchTemplateId=template, SourceVersion="1", LaunchTemplateData={"MetadataOptions": {"HttpTokens": "required"}}
    )
    refresh = here.asg.start_instance_refresh(
        AutoScalingGroupName="web",
        Preferences={"MinHealthyPercentage": least, "MaxHealthyPercentage": 100 if least < 100 else 150},
    )
    [shown] = here.asg.describe_instance_refreshes(
        AutoScalingGroupName="web", InstanceRefreshIds=[refresh["InstanceRefreshId"]]
    )["InstanceRefreshes"]
    assert (shown["Status"], shown["PercentageComplete"], shown["InstancesToUpdate"]) == ("Successful", 100, 0)
    assert not set(before) & set(here.ids())
    assert [each["MetadataOptions"]["HttpTokens"] for each in here.instances()] == ["required"] * 4


def test_a_refresh_with_a_desired_configuration_becomes_the_groups_and_skips_what_matches(here: Scaling) -> None:
    template = here.template()
    here.create(LaunchConfigurationName=here.configuration())
    wanted = {"LaunchTemplate": {"LaunchTemplateId": template, "Version": "1"}}
    here.asg.start_instance_refresh(AutoScalingGroupName="web", DesiredConfiguration=wanted)
    group = here.group()
    assert group["LaunchTemplate"]["LaunchTemplateId"] == template
    assert "LaunchConfigurationName" not in group
    same = here.ids()
    here.asg.start_instance_refresh(AutoScalingGroupName="web", Preferences={"SkipMatching": True})
    assert here.ids() == same
    statuses = [
        each["Status"] for each in here.asg.describe_instance_refreshes(AutoScalingGroupName="web")["InstanceRefreshes"]
    ]
    assert statuses == ["Successful"] * 2


def test_a_refresh_that_cannot_launch_fails_after_an_hour(here: Scaling) -> None:
    here.create(LaunchConfigurationName=here.configuration(MetadataOptions={"HttpTokens": "optional"}))
    here.group()
    here.ec2.modify_instance_metadata_defaults(HttpTokensEnforced="enabled")
    here.asg.start_instance_refresh(AutoScalingGroupName="web")
    assert len(here.ids()) == 1  # one was terminated, and its replacement is refused
    refused = here.refused(lambda: here.asg.start_instance_refresh(AutoScalingGroupName="web"))
    assert refused[0] == "InstanceRefreshInProgress"
    # botocore signs with the clock of the machine, and a signature is good for 15 minutes: settled by hand.
    here.aws.world.region(here.aws.management, "eu-west-1").settle(datetime.now(UTC) + timedelta(hours=2))
    [shown] = here.asg.describe_instance_refreshes(AutoScalingGroupName="web")["InstanceRefreshes"]
    assert (shown["Status"], shown["PercentageComplete"]) == ("Failed", 50)
    assert here.activities()[0]["StatusMessage"].startswith(ENFORCED)


def test_a_refresh_waits_for_protected_instances_and_can_be_cancelled(here: Scaling) -> None:
    here.create(LaunchConfigurationName=here.configuration(), NewInstancesProtectedFromScaleIn=True)
    before = here.ids()
    here.asg.start_instance_refresh(AutoScalingGroupName="web")
    assert here.ids() == before
    here.asg.cancel_instance_refresh(AutoScalingGroupName="web")
    [shown] = here.asg.describe_instance_refreshes(AutoScalingGroupName="web")["InstanceRefreshes"]
    assert shown["Status"] == "Cancelled"
    refused = here.refused(lambda: here.asg.cancel_instance_refresh(AutoScalingGroupName="web"))
    assert refused[0] == "ActiveInstanceRefreshNotFound"


# -- time and restarts -----------------------------------------------------------------------------------------------


def test_with_a_settling_time_instances_are_pending_first(make_offline: MakeOffline) -> None:
    here = Scaling(make_offline(settle_seconds=30.0))
    here.create(LaunchConfigurationName=here.configuration())
    assert [each["LifecycleState"] for each in here.group()["Instances"]] == ["Pending"] * 2
    assert {each["StatusCode"] for each in here.activities()} == {"InProgress"}
    delete = {"AutoScalingGroupName": "web"}
    assert here.refused(lambda: here.asg.delete_auto_scaling_group(**delete))[0] == "ScalingActivityInProgress"
    here.aws.offset += timedelta(seconds=31)
    assert [each["LifecycleState"] for each in here.group()["Instances"]] == ["InService"] * 2
    here.asg.delete_auto_scaling_group(**delete, ForceDelete=True)
    group = here.group()
    assert group["Status"] == "Delete in progress"
    assert [each["LifecycleState"] for each in group["Instances"]] == ["Terminating"] * 2
    refused = here.refused(lambda: here.asg.update_auto_scaling_group(**delete, MaxSize=3))
    assert refused[0] == "ScalingActivityInProgress"
    here.aws.offset += timedelta(seconds=31)
    assert here.asg.describe_auto_scaling_groups(AutoScalingGroupNames=["web"])["AutoScalingGroups"] == []


@pytest.mark.parametrize("looks", [False, True])
def test_a_restart_finds_the_same_instances_however_often_somebody_looked(
    make_offline: MakeOffline, tmp_path: Path, looks: bool
) -> None:
    spec = {"seed": 23, "settle_seconds": 20.0}
    here = Scaling(make_offline(tmp_path, **spec))

    def passes(**time: float) -> None:
        if looks:
            for _ in range(3):
                here.aws.offset += timedelta(**time) / 3
                here.group()
                here.ec2.describe_instances()
        else:
            here.aws.offset += timedelta(**time)

    template = here.template(MetadataOptions={"HttpTokens": "optional"})
    here.create(size=3, LaunchTemplate={"LaunchTemplateId": template, "Version": "$Latest"})
    passes(minutes=1)
    here.ec2.modify_instance_metadata_defaults(HttpTokensEnforced="enabled")
    here.asg.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=4)
    passes(minutes=7)  # refused launches, tried again
    here.ec2.create_launch_template_version(
        LaunchTemplateId=template, SourceVersion="1", LaunchTemplateData={"MetadataOptions": {"HttpTokens": "required"}}
    )
    passes(minutes=1)
    here.asg.start_instance_refresh(AutoScalingGroupName="web", Preferences={"MinHealthyPercentage": 50})
    passes(seconds=30)
    # A write elsewhere, of another service, whose log entry must not move what was due before it.
    here.iam.create_user(UserName=f"after-{looks}")
    passes(minutes=4)
    seen = (here.group(), here.activities(), here.ec2.describe_instances()["Reservations"])
    offset = here.aws.offset

    again = Scaling(make_offline(tmp_path, **spec))
    again.aws.offset = offset
    assert (again.group(), again.activities(), again.ec2.describe_instances()["Reservations"]) == seen
    assert [each["LifecycleState"] for each in seen[0]["Instances"]] == ["InService"] * 4
    assert {each["LaunchTemplate"]["Version"] for each in seen[0]["Instances"]} == {"2"}


# -- what nobody has -------------------------------------------------------------------------------------------------


def test_what_a_group_does_not_have_is_empty_and_what_auto_scaling_knows_is_listed(here: Scaling) -> None:
    here.create(LaunchConfigurationName=here.configuration())
    named = {"AutoScalingGroupName": "web"}
    assert here.asg.describe_lifecycle_hooks(**named)["LifecycleHooks"] == []
    assert here.asg.describe_load_balancers(**named)["LoadBalancers"] == []
    assert here.asg.describe_load_balancer_target_groups(**named)["LoadBalancerTargetGroups"] == []
    assert here.asg.describe_traffic_sources(**named)["TrafficSources"] == []
    assert here.asg.describe_warm_pool(**named)["Instances"] == []
    assert here.asg.describe_policies(**named)["ScalingPolicies"] == []
    assert here.asg.describe_scheduled_actions(**named)["ScheduledUpdateGroupActions"] == []
    assert here.asg.describe_notification_configurations()["NotificationConfigurations"] == []
    assert "Default" in here.asg.describe_termination_policy_types()["TerminationPolicyTypes"]
    assert len(here.asg.describe_adjustment_types()["AdjustmentTypes"]) == 3
    assert "Launch" in [each["ProcessName"] for each in here.asg.describe_scaling_process_types()["Processes"]]
    here.asg.enable_metrics_collection(**named, Granularity="1Minute", Metrics=["GroupMinSize"])
    assert here.group()["EnabledMetrics"] == [{"Metric": "GroupMinSize", "Granularity": "1Minute"}]
    here.asg.disable_metrics_collection(**named)
    assert here.group()["EnabledMetrics"] == []


def test_groups_and_instances_come_in_pages(here: Scaling) -> None:
    here.configuration()
    for number in range(55):
        here.create(f"g-{number:02d}", 1, LaunchConfigurationName="lc")
    pages = list(here.asg.get_paginator("describe_auto_scaling_groups").paginate())
    assert [len(page["AutoScalingGroups"]) for page in pages] == [50, 5]
    members = list(here.asg.get_paginator("describe_auto_scaling_instances").paginate())
    assert [len(page["AutoScalingInstances"]) for page in members] == [50, 5]
    ids = [each["InstanceId"] for page in members for each in page["AutoScalingInstances"]]
    here.ec2.get_waiter("instance_running").wait(InstanceIds=ids)  # botocore has no waiters for groups


# -- who may ---------------------------------------------------------------------------------------------------------


def user_of(here: Scaling, *statements: dict[str, Any]) -> Any:
    """An Auto Scaling client of a user with this identity policy."""
    here.iam.create_user(UserName="builder")
    document = json.dumps({"Version": "2012-10-17", "Statement": statements})
    here.iam.put_user_policy(UserName="builder", PolicyName="only", PolicyDocument=document)
    key = here.iam.create_access_key(UserName="builder")["AccessKey"]
    return here.aws.client("autoscaling", credentials=key, region="eu-west-1")


def test_a_group_launches_with_its_own_role_and_not_with_the_rights_of_who_made_it(here: Scaling) -> None:
    builder = user_of(here, {"Effect": "Allow", "Action": ["autoscaling:*"], "Resource": "*"})
    builder.create_launch_configuration(LaunchConfigurationName="lc", ImageId=here.image(), InstanceType="t3.micro")
    places = {"AvailabilityZones": ["eu-west-1a"], "MinSize": 1, "MaxSize": 1}
    builder.create_auto_scaling_group(AutoScalingGroupName="web", LaunchConfigurationName="lc", **places)
    assert len(here.ids()) == 1
    # With a launch template AWS asks for ec2:RunInstances, once.
    template = {"LaunchTemplateId": here.template(), "Version": "1"}
    code, status, _ = here.refused(
        lambda: builder.create_auto_scaling_group(AutoScalingGroupName="lt", LaunchTemplate=template, **places)
    )
    assert (code, status) == ("AccessDenied", 403)


def test_a_policy_can_ask_for_tokens_in_launch_configurations(here: Scaling) -> None:
    builder = user_of(
        here,
        {"Effect": "Allow", "Action": "autoscaling:*", "Resource": "*"},
        {
            "Effect": "Deny",
            "Action": "autoscaling:CreateLaunchConfiguration",
            "Resource": "*",
            "Condition": {"StringNotEquals": {"autoscaling:MetadataHttpTokens": "required"}},
        },
    )
    named = {"LaunchConfigurationName": "lc", "ImageId": here.image(), "InstanceType": "t3.micro"}
    for options in ({}, {"MetadataOptions": {"HttpTokens": "optional"}}):
        code, _, message = here.refused(lambda options=options: builder.create_launch_configuration(**named, **options))
        assert code == "AccessDenied"
        assert "with an explicit deny" in message
    builder.create_launch_configuration(**named, MetadataOptions={"HttpTokens": "required"})


def test_a_generated_region_has_launch_configurations_that_nobody_deleted(make_offline: MakeOffline) -> None:
    here = Scaling(make_offline())
    world = here.aws.world
    region = next(name for name in world.spec.regions if world.region(here.aws.management, name).instances)
    asg = here.aws.client("autoscaling", region=region)
    options = {
        each["LaunchConfigurationName"]: each.get("MetadataOptions", {}).get("HttpTokens")
        for each in asg.describe_launch_configurations()["LaunchConfigurations"]
    }
    assert options == {"legacy-app": None, "web-blue": "optional", "web-green": "required"}
    asg.create_auto_scaling_group(
        AutoScalingGroupName="old",
        LaunchConfigurationName="legacy-app",
        MinSize=1,
        MaxSize=1,
        AvailabilityZones=[f"{region}a"],
    )
    [group] = asg.describe_auto_scaling_groups(AutoScalingGroupNames=["old"])["AutoScalingGroups"]
    assert [each["LifecycleState"] for each in group["Instances"]] == ["InService"]


# -- what binds a group and what does not ----------------------------------------------------------------------------

REQUIRE_V2 = {
    "Version": "2012-10-17",
    "Statement": {
        "Effect": "Deny",
        "Action": "ec2:RunInstances",
        "Resource": "arn:aws:ec2:*:*:instance/*",
        "Condition": {"StringNotEquals": {"ec2:MetadataHttpTokens": "required"}},
    },
}


def test_an_scp_does_not_bind_a_group_and_a_declarative_policy_does(org: Any) -> None:
    member = org.offline.client("autoscaling", org.member, region="eu-west-1")
    ec2 = org.offline.client("ec2", org.member, region="eu-west-1")
    ec2.modify_instance_metadata_defaults(HttpTokensEnforced="disabled", HttpTokens="no-preference")
    images = ec2.describe_images(Owners=["amazon"], Filters=[{"Name": "architecture", "Values": ["x86_64"]}])["Images"]
    launch = {"ImageId": images[0]["ImageId"], "InstanceType": "t3.micro"}
    options = {"HttpTokens": "optional", "HttpEndpoint": "enabled"}
    org.api.attach_policy(PolicyId=org.policy(json.dumps(REQUIRE_V2)), TargetId=org.member)
    refused = org.offline.refused(lambda: ec2.run_instances(**launch, MinCount=1, MaxCount=1, MetadataOptions=options))
    assert refused[0] == "UnauthorizedOperation"

    member.create_launch_configuration(LaunchConfigurationName="lc", MetadataOptions=options, **launch)
    member.create_auto_scaling_group(
        AutoScalingGroupName="web",
        LaunchConfigurationName="lc",
        MinSize=1,
        MaxSize=2,
        AvailabilityZones=["eu-west-1a"],
    )
    [group] = member.describe_auto_scaling_groups(AutoScalingGroupNames=["web"])["AutoScalingGroups"]
    assert len(group["Instances"]) == 1

    org.declare(org.declared(http_tokens_enforced="enabled"))
    member.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=2)
    latest = member.describe_scaling_activities(AutoScalingGroupName="web")["Activities"][0]
    assert latest["StatusCode"] == "Failed"
    assert latest["StatusMessage"].startswith(ENFORCED)
