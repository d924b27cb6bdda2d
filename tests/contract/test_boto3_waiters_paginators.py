"""Every waiter and every paginator that botocore has for an operation that is implemented.

botocore's own data says which there are: an operation that is added brings its waiters and paginators into these tests,
and fails them by name until it is said here how its list gets longer than a page, or its waiter something to wait for.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import botocore.session
import jmespath
import pytest
from botocore.exceptions import WaiterError

from imdsctl.adapters.local_server import OPERATIONS
from imdsctl.local.appstream import state as appstream
from imdsctl.local.emr import state as emr

SETTLE_SECONDS = 8
POLL_SECONDS = 5
ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
READ_ONLY = "arn:aws:iam::aws:policy/IAMReadOnlyAccess"
NAMES = ("one", "two", "three", "four", "five", "six")
TAGS = [{"Key": name, "Value": "1"} for name in NAMES]


def document(action: str, **more: Any) -> str:
    statement = {"Effect": "Allow", "Action": action, **(more or {"Resource": "*"})}
    return json.dumps({"Version": "2012-10-17", "Statement": statement})


TRUST = document("sts:AssumeRole", Principal={"Service": "ec2.amazonaws.com"})

LOADER = botocore.session.Session().get_component("data_loader")


def of_botocore(kind: str, member: str) -> Iterator[tuple[str, str, str, dict[str, Any]]]:
    """(signing name, botocore's name, name, definition) of everything of a kind that an implemented service has."""
    for signing_name in OPERATIONS:
        service = {"elasticmapreduce": "emr", "monitoring": "cloudwatch"}.get(signing_name, signing_name)
        assert service in LOADER.list_available_services("service-2"), f"say botocore's name of {service}"
        if service in LOADER.list_available_services(kind):
            for name, definition in LOADER.load_service_model(service, kind)[member].items():
                yield signing_name, service, name, definition


PAGINATORS = {
    f"{service}.{operation}": (service, operation, definition)
    for signing_name, service, operation, definition in of_botocore("paginators-1", "pagination")
    if operation in OPERATIONS[signing_name]
}
WAITERS = {
    f"{service}.{name}": (service, name)
    for signing_name, service, name, definition in of_botocore("waiters-2", "waiters")
    if definition["operation"] in OPERATIONS[signing_name]
}


@dataclass
class Stage:
    """A local AWS whose changes take `SETTLE_SECONDS`, and what was made in it."""

    offline: Any
    made: dict[str, str] = field(default_factory=dict)

    def client(self, service: str) -> Any:
        return self.offline.client(service)

    @property
    def now(self) -> datetime:
        """The time, there."""
        return datetime.now(UTC) + self.offline.offset

    def pass_(self, seconds: float) -> None:
        """Let time pass, there."""
        self.offline.offset += timedelta(seconds=seconds)

    def launch(self, **parameters: Any) -> str:
        """Launch an instance."""
        request = {"ImageId": self.made["image"], "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1}
        return str(self.client("ec2").run_instances(**request, **parameters)["Instances"][0]["InstanceId"])

    def running(self) -> str:
        """An instance that runs already."""
        instance = self.launch()
        self.pass_(SETTLE_SECONDS + 1)
        return instance


@pytest.fixture(scope="module")
def stage(make_offline: Any) -> Stage:
    """More of everything than the smallest page holds: EC2's smallest is 5, IAM's 1."""
    stage = Stage(make_offline(settle_seconds=SETTLE_SECONDS))
    furnish_iam(stage)
    furnish_ec2(stage)
    furnish_spot(stage)
    furnish_organizations(stage)
    furnish_autoscaling(stage)
    furnish_ssm(stage)
    furnish_cloudwatch(stage)
    furnish_compute(stage)
    furnish_more_services(stage)
    stage.pass_(SETTLE_SECONDS + 1)  # nothing changes any more by itself between two listings
    return stage


def furnish_iam(stage: Stage) -> None:
    iam = stage.client("iam")
    made = iam.create_policy(PolicyName="p", PolicyDocument=document("ec2:*"), Tags=TAGS)
    policy = stage.made["policy"] = made["Policy"]["Arn"]
    iam.create_policy(PolicyName="q", PolicyDocument=document("ec2:*"))
    iam.create_policy_version(PolicyArn=policy, PolicyDocument=document("sts:*"))
    iam.create_user(UserName="ann", Tags=TAGS)
    iam.create_role(RoleName="deploy", AssumeRolePolicyDocument=TRUST, Tags=TAGS)
    for name in NAMES[:2]:
        iam.create_access_key(UserName="ann")
        iam.put_user_policy(UserName="ann", PolicyName=name, PolicyDocument=document("ec2:*"))
        iam.put_role_policy(RoleName="deploy", PolicyName=name, PolicyDocument=document("ec2:*"))
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)
        iam.create_instance_profile(InstanceProfileName=name, Tags=TAGS)
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName="deploy")
    for arn in (policy, ADMINISTRATOR, READ_ONLY):
        iam.attach_user_policy(UserName="ann", PolicyArn=arn)
        iam.attach_role_policy(RoleName="deploy", PolicyArn=arn)


def furnish_more_services(stage: Stage) -> None:
    builder, sqs = stage.client("imagebuilder"), stage.client("sqs")
    for name in NAMES[:2]:
        builder.create_infrastructure_configuration(name=f"build-{name}", instanceProfileName="p")
        sqs.create_queue(QueueName=f"queue-{name}")
    world, account = stage.offline.world, stage.offline.management
    # What nobody can make here is put there.
    world.service_state(emr.first_state, account, "us-east-1").clusters = tuple(
        emr.Cluster(f"j-{state}", "pages", state, stage.now, "emr-7.1.0", "p") for state in ("WAITING", "TERMINATED")
    )
    fleets = world.service_state(appstream.first_state, account, "us-east-1").fleets
    for state in ("RUNNING", "STOPPED"):
        arn = f"arn:aws:appstream:us-east-1:{account}:fleet/{state}"
        fleets[state] = appstream.Streamer("fleet", state, arn, stage.now, "stream.small", "WINDOWS", state, True)


def furnish_ec2(stage: Stage) -> None:
    ec2 = stage.client("ec2")
    images = ec2.describe_images(Owners=["amazon"], Filters=[{"Name": "name", "Values": ["amzn2-ami-kernel*"]}])
    stage.made["image"] = next(each["ImageId"] for each in images["Images"] if each["Architecture"] == "x86_64")
    zone = ec2.describe_availability_zones()["AvailabilityZones"][0]["ZoneName"]
    stage.made["zone"] = zone
    template = ec2.create_launch_template(LaunchTemplateName="pages", LaunchTemplateData={"InstanceType": "t3.micro"})
    stage.made["template"] = template["LaunchTemplate"]["LaunchTemplateId"]
    instances = [stage.launch(IamInstanceProfile={"Name": "one"}) for _ in NAMES]
    stage.pass_(SETTLE_SECONDS + 1)
    for name, instance in zip(NAMES, instances, strict=True):
        ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData={"InstanceType": "t3.micro"})
        ec2.create_launch_template_version(
            LaunchTemplateId=stage.made["template"], LaunchTemplateData={"InstanceType": "t3.small"}
        )
        ec2.create_security_group(GroupName=name, Description=name)
        volume = ec2.create_volume(Size=8, VolumeType="gp3", AvailabilityZone=zone)["VolumeId"]
        ec2.modify_volume(VolumeId=volume, Size=9)
        ec2.create_snapshot(VolumeId=volume)
        ec2.create_image(InstanceId=instance, Name=name)
    stage.made["instance"], stage.made["volume"] = instances[0], volume


def requested_spot(stage: Stage) -> dict[str, Any]:
    specification = {"ImageId": stage.made["image"], "InstanceType": "t3.micro"}
    asked = stage.client("ec2").request_spot_instances(LaunchSpecification=specification)
    return {"SpotInstanceRequestIds": [each["SpotInstanceRequestId"] for each in asked["SpotInstanceRequests"]]}


def furnish_spot(stage: Stage) -> None:
    data = {"ImageId": stage.made["image"], "InstanceType": "t3.micro"}
    ec2 = stage.client("ec2")
    ec2.create_launch_template(LaunchTemplateName="fleet", LaunchTemplateData=data)
    template = {"LaunchTemplateName": "fleet", "Version": "1"}
    trust = document("sts:AssumeRole", Principal={"Service": "spotfleet.amazonaws.com"})
    role = stage.client("iam").create_role(RoleName="spot-fleet", AssumeRolePolicyDocument=trust)["Role"]["Arn"]
    config = {
        "IamFleetRole": role,
        "TargetCapacity": 1,
        "LaunchTemplateConfigs": [{"LaunchTemplateSpecification": template}],
    }
    for _ in NAMES:
        asked = ec2.request_spot_fleet(SpotFleetRequestConfig=config)
        stage.made["spot fleet"] = asked["SpotFleetRequestId"]
        requested_spot(stage)
        # One more, in a reservation of its own: a page may end within one.
        ec2.modify_spot_fleet_request(SpotFleetRequestId=stage.made["spot fleet"], TargetCapacity=2)
        ec2.create_fleet(
            LaunchTemplateConfigs=[{"LaunchTemplateSpecification": template}],
            TargetCapacitySpecification={"TotalTargetCapacity": 1, "DefaultTargetCapacityType": "on-demand"},
        )


def furnish_organizations(stage: Stage) -> None:
    api, member = stage.client("organizations"), stage.offline.member
    api.tag_resource(ResourceId=member, Tags=TAGS)
    allow = document("*")
    for name in NAMES[:2]:
        api.create_account(Email=f"{name}@example.org", AccountName=name)
        made = api.create_policy(Name=name, Description="", Type="SERVICE_CONTROL_POLICY", Content=allow)
        stage.made["scp"] = made["Policy"]["PolicySummary"]["Id"]
        api.attach_policy(PolicyId=stage.made["scp"], TargetId=member)
    api.attach_policy(PolicyId=stage.made["scp"], TargetId=root(stage))
    api.enable_policy_type(RootId=root(stage), PolicyType="DECLARATIVE_POLICY_EC2")
    assign = {"ec2_attributes": {"instance_metadata_defaults": {"http_tokens": {"@@assign": "required"}}}}
    declared = api.create_policy(
        Name="tokens", Description="", Type="DECLARATIVE_POLICY_EC2", Content=json.dumps(assign)
    )
    api.attach_policy(PolicyId=declared["Policy"]["PolicySummary"]["Id"], TargetId=member)
    other = list(stage.offline.world.accounts)[2]
    for principal, account in (("ec2", member), ("account", member), ("config", other)):
        api.enable_aws_service_access(ServicePrincipal=f"{principal}.amazonaws.com")
        api.register_delegated_administrator(AccountId=account, ServicePrincipal=f"{principal}.amazonaws.com")


def furnish_autoscaling(stage: Stage) -> None:
    scaling = stage.client("autoscaling")
    for name in NAMES[:2]:
        scaling.create_launch_configuration(
            LaunchConfigurationName=name, ImageId=stage.made["image"], InstanceType="t3.micro"
        )
        scaling.create_auto_scaling_group(
            AutoScalingGroupName=name,
            LaunchConfigurationName=name,
            MinSize=2,
            MaxSize=2,
            AvailabilityZones=[stage.made["zone"]],
            Tags=[{"Key": name, "Value": "1"}],
        )
    stage.pass_(SETTLE_SECONDS + 1)


def furnish_ssm(stage: Stage) -> None:
    ssm = stage.client("ssm")
    for name in NAMES:
        ssm.put_parameter(Name=f"/pages/{name}", Value="1", Type="String")
        ssm.put_parameter(Name="versions", Value=name, Type="String", Overwrite=True)


def furnish_cloudwatch(stage: Stage) -> None:
    data = [{"MetricName": name, "Value": 1.0} for name in NAMES]
    stage.client("cloudwatch").put_metric_data(Namespace="Pages", MetricData=data)


def furnish_compute(stage: Stage) -> None:
    trust = document("sts:AssumeRole", Principal={"Service": [f"{each}.amazonaws.com" for each in ("eks", "ec2")]})
    stage.made["cluster role"] = stage.client("iam").create_role(RoleName="eks", AssumeRolePolicyDocument=trust)[
        "Role"
    ]["Arn"]
    for name in NAMES[:2]:
        stage.client("ecs").create_cluster(clusterName=name)
        stage.client("ec2").run_instances(
            ImageId=stage.client("ssm").get_parameter(
                Name="/aws/service/ecs/optimized-ami/amazon-linux-2/recommended/image_id"
            )["Parameter"]["Value"],
            InstanceType="t3.micro",
            MinCount=1,
            MaxCount=1,
            UserData="#!/bin/bash\necho ECS_CLUSTER=one >> /etc/ecs/ecs.config\n",
        )
        made_cluster(stage, name)
    for name in NAMES[:2]:
        made_nodegroup(stage, name)
    stage.client("elasticbeanstalk").create_application(ApplicationName="pages")
    for name in ("first", "second"):
        made_environment(stage, name)
    trust = document("sts:AssumeRole", Principal={"Service": "sagemaker.amazonaws.com"})
    stage.made["notebook role"] = stage.client("iam").create_role(RoleName="sm", AssumeRolePolicyDocument=trust)[
        "Role"
    ]["Arn"]
    for name in NAMES[:2]:
        made_notebook(stage, name)
    stage.pass_(SETTLE_SECONDS + 1)


def made_cluster(stage: Stage, name: str) -> dict[str, Any]:
    subnets = [each["SubnetId"] for each in stage.client("ec2").describe_subnets()["Subnets"]]
    stage.client("eks").create_cluster(
        name=name, roleArn=stage.made["cluster role"], resourcesVpcConfig={"subnetIds": subnets}
    )
    return {"name": name}


def deleted_cluster(stage: Stage) -> dict[str, Any]:
    made = made_cluster(stage, "passing")
    stage.client("eks").delete_cluster(**made)
    return made


def made_nodegroup(stage: Stage, name: str) -> dict[str, Any]:
    subnets = [each["SubnetId"] for each in stage.client("ec2").describe_subnets()["Subnets"]]
    made = {"clusterName": "one", "nodegroupName": name}
    stage.client("eks").create_nodegroup(**made, subnets=subnets, nodeRole=stage.made["cluster role"])
    return made


def deleted_nodegroup(stage: Stage) -> dict[str, Any]:
    made = made_nodegroup(stage, "passing")
    stage.client("eks").delete_nodegroup(**made)
    return made


def made_environment(stage: Stage, name: str) -> dict[str, Any]:
    stage.client("elasticbeanstalk").create_environment(
        ApplicationName="pages",
        EnvironmentName=name,
        SolutionStackName="64bit Amazon Linux 2023 v6.6.5 running Node.js 22",
    )
    return {"EnvironmentNames": [name]}


def updated_environment(stage: Stage) -> dict[str, Any]:
    stage.client("elasticbeanstalk").update_environment(EnvironmentName="first", Description="changed")
    return {"EnvironmentNames": ["first"]}


def terminated_environment(stage: Stage) -> dict[str, Any]:
    made = made_environment(stage, "passing")
    stage.client("elasticbeanstalk").terminate_environment(EnvironmentName="passing", ForceTerminate=True)
    return made


def made_notebook(stage: Stage, name: str) -> dict[str, Any]:
    made = {"NotebookInstanceName": name}
    stage.client("sagemaker").create_notebook_instance(
        **made, InstanceType="ml.t3.medium", RoleArn=stage.made["notebook role"]
    )
    return made


def stopped_notebook(stage: Stage, name: str = "to-stop") -> dict[str, Any]:
    made = made_notebook(stage, name)
    stage.pass_(SETTLE_SECONDS + 1)
    stage.client("sagemaker").stop_notebook_instance(**made)
    return made


def deleted_notebook(stage: Stage) -> dict[str, Any]:
    made = stopped_notebook(stage, "to-delete")
    stage.pass_(SETTLE_SECONDS + 1)
    stage.client("sagemaker").delete_notebook_instance(**made)
    return made


# -- paginators ------------------------------------------------------------------------------------------------------

MINE = {"OwnerIds": ["self"]}
SCP, DECLARATIVE = {"Filter": "SERVICE_CONTROL_POLICY"}, {"PolicyType": "DECLARATIVE_POLICY_EC2"}
GROUP = {"AutoScalingGroupName": "one"}
ANN, DEPLOY, PROFILE = {"UserName": "ann"}, {"RoleName": "deploy"}, {"InstanceProfileName": "one"}
PARAMETERS: dict[str, Callable[[Stage], dict[str, Any]]] = {
    "ec2.DescribeImages": lambda _: {"Owners": ["self"]},
    "ec2.DescribeSpotFleetInstances": lambda stage: {"SpotFleetRequestId": stage.made["spot fleet"]},
    "ecs.ListContainerInstances": lambda _: {"cluster": "one"},
    "emr.ListBootstrapActions": lambda _: {"ClusterId": "j-WAITING"},
    "emr.ListInstanceGroups": lambda _: {"ClusterId": "j-WAITING"},
    "eks.ListNodegroups": lambda _: {"clusterName": "one"},
    "ec2.DescribeSnapshots": lambda _: MINE,
    "ec2.DescribeLaunchTemplateVersions": lambda stage: {"LaunchTemplateId": stage.made["template"]},
    "iam.ListAccessKeys": lambda _: ANN,
    "iam.ListAttachedUserPolicies": lambda _: ANN,
    "iam.ListUserPolicies": lambda _: ANN,
    "iam.ListUserTags": lambda _: ANN,
    "iam.ListAttachedRolePolicies": lambda _: DEPLOY,
    "iam.ListInstanceProfilesForRole": lambda _: DEPLOY,
    "iam.ListRolePolicies": lambda _: DEPLOY,
    "iam.ListRoleTags": lambda _: DEPLOY,
    "iam.ListInstanceProfileTags": lambda _: PROFILE,
    "iam.ListEntitiesForPolicy": lambda stage: {"PolicyArn": stage.made["policy"]},
    "iam.ListPolicyTags": lambda stage: {"PolicyArn": stage.made["policy"]},
    "iam.ListPolicyVersions": lambda stage: {"PolicyArn": stage.made["policy"]},
    "organizations.ListAccountsForParent": lambda stage: {"ParentId": largest_parent(stage)},
    "organizations.ListOrganizationalUnitsForParent": lambda stage: {"ParentId": root(stage)},
    "organizations.ListParents": lambda stage: {"ChildId": stage.offline.member},
    "organizations.ListChildren": lambda stage: {"ParentId": root(stage), "ChildType": "ORGANIZATIONAL_UNIT"},
    "organizations.ListPolicies": lambda _: SCP,
    "organizations.ListPoliciesForTarget": lambda stage: {"TargetId": stage.offline.member, **SCP},
    "organizations.ListTargetsForPolicy": lambda stage: {"PolicyId": stage.made["scp"]},
    "organizations.ListTagsForResource": lambda stage: {"ResourceId": stage.offline.member},
    "organizations.ListDelegatedServicesForAccount": lambda stage: {"AccountId": stage.offline.member},
    "organizations.ListAccountsWithInvalidEffectivePolicy": lambda _: DECLARATIVE,
    "organizations.ListEffectivePolicyValidationErrors": lambda stage: {
        "AccountId": stage.offline.member,
        **DECLARATIVE,
    },
    "autoscaling.DescribeLoadBalancerTargetGroups": lambda _: GROUP,
    "autoscaling.DescribeLoadBalancers": lambda _: GROUP,
    "autoscaling.DescribeWarmPool": lambda _: GROUP,
    "ec2.DescribeSpotPriceHistory": lambda _: {"InstanceTypes": ["m5.large"]},
    "ssm.GetParametersByPath": lambda _: {"Path": "/pages"},
    "ssm.GetParameterHistory": lambda _: {"Name": "versions"},
    "cloudtrail.LookupEvents": lambda _: {
        "LookupAttributes": [{"AttributeKey": "EventName", "AttributeValue": "ModifyVolume"}]
    },
    "cloudwatch.ListMetrics": lambda _: {"Namespace": "Pages"},
    "cloudwatch.GetMetricData": lambda stage: {
        "StartTime": stage.now - timedelta(hours=1),
        "EndTime": stage.now + timedelta(hours=1),
        "MetricDataQueries": [
            {
                "Id": name,
                "MetricStat": {"Metric": {"Namespace": "Pages", "MetricName": name}, "Period": 60, "Stat": "Sum"},
            }
            for name in NAMES
        ],
    },
}
"""What to ask a list for, by operation; nothing when it is not here."""

ONE_PAGE = {
    "ec2.DescribeNetworkAcls": "a Region has one VPC here, and a VPC one ACL",
    "ec2.DescribeRouteTables": "a Region has one VPC here, and a VPC one route table",
    "ec2.DescribeVpcs": "a Region has one VPC here",
    "autoscaling.DescribeLoadBalancerTargetGroups": "groups have no load balancers here",
    "autoscaling.DescribeLoadBalancers": "groups have no load balancers here",
    "autoscaling.DescribeNotificationConfigurations": "groups have no notifications here",
    "autoscaling.DescribePolicies": "groups have no scaling policies here",
    "autoscaling.DescribeScheduledActions": "groups have no scheduled actions here",
    "autoscaling.DescribeWarmPool": "groups have no warm pools here",
    "appstream.DescribeFleets": "fleets are generated here, and few",
    "appstream.DescribeImageBuilders": "builders are generated here, and few",
    "emr.ListBootstrapActions": "clusters are generated here, without such actions",
    "emr.ListSecurityConfigurations": "its pages hold 50, and the caller has no say",
    "emr.ListClusters": "clusters are generated here, and few",
    "emr.ListInstanceGroups": "a cluster has two groups here",
    "lightsail.GetInstances": "instances are generated here, and few",
    "cloudwatch.ListMetrics": "its pages hold 500 metrics, and the caller has no say",
    "organizations.ListAccountsWithInvalidEffectivePolicy": "policies that contradict each other always merge",
    "organizations.ListEffectivePolicyValidationErrors": "policies that contradict each other always merge",
    "organizations.ListTagsForResource": "a resource has 50 tags at most, and the caller has no say",
    "organizations.ListParents": "whoever is in the tree has one parent",
    "organizations.ListRoots": "an organization has one root",
}
"""The lists that never have a second page, and why."""


def root(stage: Stage) -> str:
    return str(stage.client("organizations").list_roots()["Roots"][0]["Id"])


def largest_parent(stage: Stage) -> str:
    parents = [account.parent_id for account in stage.offline.world.accounts.values()]
    return max(parents, key=parents.count)


def operation_of(client: Any, operation: str) -> str:
    """boto3's name of an operation's method."""
    return next(method for method, name in client.meta.method_to_api_mapping.items() if name == operation)


def page_size(client: Any, operation: str, definition: dict[str, Any]) -> int | None:
    """The smallest page that a list has; None when the caller has no say.

    EC2's documents say 5 where its model says nothing; of its newer lists the smallest page is 1, as everywhere.
    """
    if "limit_key" not in definition:
        return None
    limit = client.meta.service_model.operation_model(operation).input_shape.members[definition["limit_key"]]
    return int(limit.metadata.get("min") or (5 if client.meta.service_model.service_name == "ec2" else 1))


@pytest.mark.parametrize("name", PAGINATORS)
def test_pages_add_up_to_the_whole(stage: Stage, name: str) -> None:
    service, operation, definition = PAGINATORS[name]
    client = stage.client(service)
    method = operation_of(client, operation)
    parameters = PARAMETERS.get(name, lambda _: {})(stage)
    size = page_size(client, operation, definition)
    keys = definition["result_key"] if isinstance(definition["result_key"], list) else [definition["result_key"]]

    whole = getattr(client, method)(**parameters)
    assert not jmespath.search(definition["output_token"], whole), "the whole is one page"
    paginator = client.get_paginator(method)
    pages = list(paginator.paginate(**parameters, PaginationConfig={"PageSize": size}))

    counts = [sum(len(page.get(key, ())) for key in keys) for page in pages]
    assert size is None or max(counts) <= size
    if name in ONE_PAGE:
        assert len(pages) == 1, f"no longer so: {ONE_PAGE[name]}"
    else:
        assert len(pages) > 1, f"{name} has one page only: make more of them when the stage is furnished"
        assert 0 not in counts, "no page is empty"
    for key in keys:
        assert [item for page in pages for item in page.get(key, ())] == whole.get(key, [])


# botocore counts the first list alone where an answer has several.
@pytest.mark.parametrize(
    "name", [name for name in PAGINATORS if name not in ONE_PAGE and isinstance(PAGINATORS[name][2]["result_key"], str)]
)
def test_who_stopped_in_the_middle_goes_on_from_there(stage: Stage, name: str) -> None:
    service, operation, definition = PAGINATORS[name]
    client = stage.client(service)
    paginator = client.get_paginator(operation_of(client, operation))
    parameters = PARAMETERS.get(name, lambda _: {})(stage)
    size, key = page_size(client, operation, definition), definition["result_key"]
    whole = paginator.paginate(**parameters).build_full_result()[key]

    # One item less than a page, if that is possible: botocore cuts the page, and its token says where.
    first = {"PageSize": size, "MaxItems": max(1, size - 1)}
    before = paginator.paginate(**parameters, PaginationConfig=first).build_full_result()
    rest = {"PageSize": size, "StartingToken": before["NextToken"]}
    after = paginator.paginate(**parameters, PaginationConfig=rest).build_full_result()
    assert before[key] + after[key] == whole


# -- waiters ---------------------------------------------------------------------------------------------------------


def created_image(stage: Stage) -> dict[str, Any]:
    made = stage.client("ec2").create_image(
        InstanceId=stage.made["instance"], Name=f"at-{stage.offline.offset.seconds}"
    )
    return {"ImageIds": [made["ImageId"]]}


def created_volume(stage: Stage) -> dict[str, Any]:
    made = stage.client("ec2").create_volume(Size=8, AvailabilityZone=stage.made["zone"])
    return {"VolumeIds": [made["VolumeId"]]}


def deleted_volume(stage: Stage) -> dict[str, Any]:
    made = created_volume(stage)
    stage.pass_(SETTLE_SECONDS + 1)
    stage.client("ec2").delete_volume(VolumeId=made["VolumeIds"][0])
    return made


def used_volume(stage: Stage) -> dict[str, Any]:
    mine = [{"Name": "attachment.instance-id", "Values": [stage.made["instance"]]}]
    return {"VolumeIds": [stage.client("ec2").describe_volumes(Filters=mine)["Volumes"][0]["VolumeId"]]}


def created_snapshot(stage: Stage) -> dict[str, Any]:
    return {"SnapshotIds": [stage.client("ec2").create_snapshot(VolumeId=stage.made["volume"])["SnapshotId"]]}


def created_group(stage: Stage) -> dict[str, Any]:
    made = stage.client("ec2").create_security_group(GroupName="waited-for", Description="it")
    return {"GroupIds": [made["GroupId"]]}


def imported_key_pair(stage: Stage) -> dict[str, Any]:
    material = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINvlwg1Iy8iv/sJcnowmXUTaf4QZwT96OeI51D2j3kDY"
    stage.client("ec2").import_key_pair(KeyName="waited-for", PublicKeyMaterial=material)
    return {"KeyNames": ["waited-for"]}


def stopped(stage: Stage) -> dict[str, Any]:
    ids = [stage.running()]
    stage.client("ec2").stop_instances(InstanceIds=ids)
    return {"InstanceIds": ids}


def terminated(stage: Stage) -> dict[str, Any]:
    ids = [stage.running()]
    stage.client("ec2").terminate_instances(InstanceIds=ids)
    return {"InstanceIds": ids}


def launched(stage: Stage) -> dict[str, Any]:
    return {"InstanceIds": [stage.launch()]}


def every_vpc(stage: Stage) -> dict[str, Any]:
    return {"VpcIds": [each["VpcId"] for each in stage.client("ec2").describe_vpcs()["Vpcs"]]}


TRIGGERS: dict[str, Callable[[Stage], dict[str, Any]]] = {
    "appstream.FleetStarted": lambda _: {"Names": ["RUNNING"]},
    "appstream.FleetStopped": lambda _: {"Names": ["STOPPED"]},
    "emr.ClusterRunning": lambda _: {"ClusterId": "j-WAITING"},
    "emr.ClusterTerminated": lambda _: {"ClusterId": "j-TERMINATED"},
    "ec2.ImageAvailable": created_image,
    "ec2.ImageExists": created_image,
    "ec2.InstanceExists": launched,
    "ec2.InstanceRunning": launched,
    "ec2.InstanceStatusOk": launched,
    "ec2.InstanceStopped": stopped,
    "ec2.InstanceTerminated": terminated,
    "ec2.KeyPairExists": imported_key_pair,
    "ec2.SecurityGroupExists": created_group,
    "ec2.SnapshotCompleted": created_snapshot,
    "ec2.SpotInstanceRequestFulfilled": requested_spot,
    "ec2.SubnetAvailable": lambda _: {},
    "ec2.SystemStatusOk": launched,
    "ec2.VolumeAvailable": created_volume,
    "ec2.VolumeDeleted": deleted_volume,
    "ec2.VolumeInUse": used_volume,
    "ec2.VpcAvailable": every_vpc,
    "ec2.VpcExists": every_vpc,
    "eks.ClusterActive": lambda stage: made_cluster(stage, "waited-for"),
    "eks.ClusterDeleted": deleted_cluster,
    "eks.NodegroupActive": lambda stage: made_nodegroup(stage, "waited-for"),
    "eks.NodegroupDeleted": deleted_nodegroup,
    "elasticbeanstalk.EnvironmentExists": lambda stage: made_environment(stage, "waited-for"),
    "elasticbeanstalk.EnvironmentTerminated": terminated_environment,
    "elasticbeanstalk.EnvironmentUpdated": updated_environment,
    "iam.InstanceProfileExists": lambda _: PROFILE,
    "iam.PolicyExists": lambda stage: {"PolicyArn": stage.made["policy"]},
    "iam.RoleExists": lambda _: DEPLOY,
    "iam.UserExists": lambda _: ANN,
    "sagemaker.NotebookInstanceDeleted": deleted_notebook,
    "sagemaker.NotebookInstanceInService": lambda stage: made_notebook(stage, "waited-for"),
    "sagemaker.NotebookInstanceStopped": stopped_notebook,
}
"""What makes a waiter wait, and which parameters it then waits with."""

SEVERAL_POLLS = {
    "ec2.InstanceRunning",
    "ec2.InstanceStatusOk",
    "ec2.InstanceStopped",
    "ec2.InstanceTerminated",
    "ec2.SystemStatusOk",
    "eks.ClusterActive",
    "eks.ClusterDeleted",
    "eks.NodegroupActive",
    "eks.NodegroupDeleted",
    "elasticbeanstalk.EnvironmentExists",
    "elasticbeanstalk.EnvironmentTerminated",
    "elasticbeanstalk.EnvironmentUpdated",
    "sagemaker.NotebookInstanceDeleted",
    "sagemaker.NotebookInstanceInService",
    "sagemaker.NotebookInstanceStopped",
}
"""The waiters that see a state in passing first; the others are content at once."""

OUT_OF_REACH = {"ec2.NetworkInterfaceAvailable": "every interface here is an instance's: it is in use, or gone with it"}


@pytest.mark.parametrize("name", WAITERS)
def test_a_waiter_gets_what_it_waits_for(stage: Stage, name: str) -> None:
    if name in OUT_OF_REACH:
        assert "CreateNetworkInterface" not in OPERATIONS["ec2"], f"no longer so: {OUT_OF_REACH[name]}"
        return
    assert name in TRIGGERS, f"say in TRIGGERS what {name} can wait for"
    service, waiter_name = WAITERS[name]
    parameters = TRIGGERS[name](stage)
    client = stage.client(service)
    polls = polled(stage, client)
    waiter(client, waiter_name).wait(**parameters, WaiterConfig={"Delay": 0, "MaxAttempts": 5})
    assert (len(polls) > 1) == (name in SEVERAL_POLLS), f"{len(polls)} polls"


def test_a_waiter_gives_up_on_what_cannot_come_any_more(stage: Stage) -> None:
    parameters = terminated(stage)
    client = stage.client("ec2")
    polls = polled(stage, client)
    with pytest.raises(WaiterError, match="terminal failure state"):
        client.get_waiter("instance_running").wait(**parameters, WaiterConfig={"Delay": 0, "MaxAttempts": 5})
    assert len(polls) == 1


def polled(stage: Stage, client: Any) -> list[str]:
    """The calls a client makes from now on; each takes `POLL_SECONDS` of the stage's time."""
    calls: list[str] = []

    def poll(model: Any, **_: Any) -> None:
        calls.append(model.name)
        stage.pass_(POLL_SECONDS)

    client.meta.events.register("after-call", poll)
    return calls


def waiter(client: Any, name: str) -> Any:
    """A waiter by its name in botocore's data."""
    return client.get_waiter(next(each for each in client.waiter_names if each.replace("_", "") == name.lower()))
