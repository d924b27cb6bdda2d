"""botocore as the client of EKS, ECS, SageMaker and Elastic Beanstalk: what there carries or decides IMDS settings."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from tests.contract.conftest import Offline

from imdsctl.local.beanstalk.generator import first_environments
from imdsctl.local.ecs.state import first_clusters as first_ecs_clusters
from imdsctl.local.eks.generator import first_clusters as first_eks_clusters
from imdsctl.local.sagemaker.generator import first_notebooks

LAUNCH = "aws:autoscaling:launchconfiguration"
MAKERS: dict[str, Callable[..., Any]] = {
    "ecs": first_ecs_clusters,
    "eks": first_eks_clusters,
    "elasticbeanstalk": first_environments,
    "sagemaker": first_notebooks,
}


@pytest.fixture(scope="module")
def aws(make_offline: Any) -> Offline:
    """One world for the tests that only read, or write to what they made themselves."""
    found: Offline = make_offline(accounts=8, instances=20)
    return found


class Place:
    """An account's Region in which a service has something."""

    def __init__(self, aws: Offline, account: str, region: str) -> None:
        self.aws, self.account, self.region = aws, account, region

    def client(self, service: str, **more: Any) -> Any:
        return self.aws.client(service, self.account, region=self.region, **more)


def places(aws: Offline, service: str) -> list[Place]:
    """Where the service has something, by the generator; the same in every run."""
    world = aws.world
    return [
        Place(aws, account.id, region)
        for account in world.accounts.values()
        if account.state == "ACTIVE"
        for region in world.spec.regions[:6]
        if any(vars_of(MAKERS[service](world.spec, world.region(account.id, region))))
    ]


def vars_of(state: Any) -> list[Any]:
    return [getattr(state, name) for name in type(state).__slots__]


def setting(value: str, option: str = "DisableIMDSv1", namespace: str = LAUNCH) -> dict[str, Any]:
    return {"OptionSettings": [{"Namespace": namespace, "OptionName": option, "Value": value}]}


# -- the fleet -------------------------------------------------------------------------------------------------------


def test_some_regions_have_them_and_others_do_not(aws: Offline) -> None:
    everywhere = sum(1 for each in aws.world.accounts.values() if each.state == "ACTIVE") * 6
    for service in MAKERS:
        assert 0 < len(places(aws, service)) < everywhere, service


def test_two_worlds_of_one_seed_have_the_same(aws: Offline, make_offline: Any) -> None:
    again = make_offline(accounts=8, instances=20, created=aws.world.created)
    for service, make in MAKERS.items():
        for here in places(aws, service)[:3]:
            other = again.world
            assert make(other.spec, other.region(here.account, here.region)) == make(
                aws.world.spec, aws.world.region(here.account, here.region)
            )


def test_a_new_version_of_a_generated_template_replaces_none(make_offline: Any) -> None:
    ec2 = make_offline().client("ec2")
    templates = ec2.describe_launch_templates()["LaunchTemplates"]
    assert max(each["LatestVersionNumber"] for each in templates) > 1
    for template in templates:
        made = ec2.create_launch_template_version(
            LaunchTemplateId=template["LaunchTemplateId"], LaunchTemplateData={"InstanceType": "t3.nano"}
        )
        assert made["LaunchTemplateVersion"]["VersionNumber"] == template["LatestVersionNumber"] + 1


def test_what_was_there_first_does_not_depend_on_when_somebody_looks(make_offline: Any) -> None:
    worlds = [make_offline(accounts=8, instances=20, created=datetime(2026, 1, 1, tzinfo=UTC)) for _ in range(2)]
    here = places(worlds[0], "eks")[0]
    shown = []
    for number, aws in enumerate(worlds):
        ec2, eks = (aws.client(each, here.account, region=here.region) for each in ("ec2", "eks"))
        if number:
            reservations = ec2.describe_instances()["Reservations"]
            ids = [each["InstanceId"] for one in reservations for each in one["Instances"]]
            ec2.terminate_instances(InstanceIds=ids)
        shown.append(eks.describe_nodegroup(clusterName="platform", nodegroupName="general")["nodegroup"])
    assert shown[0] == shown[1]


# -- EKS -------------------------------------------------------------------------------------------------------------


def test_a_node_group_names_its_launch_template_and_its_nodes_name_it(aws: Offline) -> None:
    here = places(aws, "eks")[0]
    eks, ec2 = here.client("eks"), here.client("ec2")
    assert "platform" in eks.list_clusters()["clusters"]
    assert eks.describe_cluster(name="platform")["cluster"]["status"] == "ACTIVE"
    assert "general" in eks.list_nodegroups(clusterName="platform")["nodegroups"]
    group = eks.describe_nodegroup(clusterName="platform", nodegroupName="general")["nodegroup"]
    template = ec2.describe_launch_template_versions(
        LaunchTemplateId=group["launchTemplate"]["id"], Versions=[group["launchTemplate"]["version"]]
    )["LaunchTemplateVersions"][0]
    assert template["LaunchTemplateName"] == group["launchTemplate"]["name"] == "eks-workers"
    tags = [{"Name": "tag:eks:cluster-name", "Values": ["platform"]}]
    tags += [{"Name": "tag:eks:nodegroup-name", "Values": ["general"]}]
    assert ec2.describe_instances(Filters=tags)["Reservations"]


def test_a_node_group_whose_template_is_gone_is_degraded(make_offline: Any) -> None:
    aws = make_offline(accounts=4, instances=20)
    here = places(aws, "eks")[0]
    eks, ec2 = here.client("eks"), here.client("ec2")
    ec2.delete_launch_template(LaunchTemplateName="eks-workers")
    group = eks.describe_nodegroup(clusterName="platform", nodegroupName="general")["nodegroup"]
    assert group["status"] == "DEGRADED"
    assert group["health"]["issues"][0]["code"] == "Ec2LaunchTemplateNotFound"
    assert group["health"]["issues"][0]["resourceIds"] == [group["launchTemplate"]["id"]]


def test_what_eks_does_not_find_it_names(aws: Offline) -> None:
    eks = places(aws, "eks")[0].client("eks")
    with pytest.raises(eks.exceptions.ResourceNotFoundException) as caught:
        eks.describe_nodegroup(clusterName="platform", nodegroupName="none")
    response = caught.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 404
    assert (response["clusterName"], response["nodegroupName"]) == ("platform", "none")
    assert aws.refused(lambda: eks.describe_cluster(name="none")) == (
        "ResourceNotFoundException",
        404,
        "No cluster found for name: none.",
    )
    assert aws.refused(lambda: eks.list_clusters(nextToken="never"))[0] == "InvalidParameterException"


# -- EKS: nodes come and go ------------------------------------------------------------------------------------------

NODES = {
    "Version": "2012-10-17",
    "Statement": {
        "Effect": "Allow",
        "Action": "sts:AssumeRole",
        "Principal": {"Service": ["ec2.amazonaws.com", "eks.amazonaws.com"]},
    },
}


class Eks:
    """A cluster of our own, with a launch template of two versions: `optional`, then `required`."""

    def __init__(self, aws: Offline) -> None:
        self.aws, self.api, self.ec2 = aws, aws.client("eks"), aws.client("ec2")
        made = aws.client("iam").create_role(RoleName="nodes", AssumeRolePolicyDocument=json.dumps(NODES))
        self.role = made["Role"]["Arn"]
        self.subnets = [each["SubnetId"] for each in self.ec2.describe_subnets()["Subnets"]][:2]
        self.ec2.create_launch_template(LaunchTemplateName="nodes", LaunchTemplateData=self.data("optional", 2))
        self.ec2.create_launch_template_version(LaunchTemplateName="nodes", LaunchTemplateData=self.data("required", 1))
        network = {"subnetIds": self.subnets}
        self.api.create_cluster(name="ours", roleArn=self.role, resourcesVpcConfig=network)

    @staticmethod
    def data(tokens: str, hops: int) -> dict[str, Any]:
        return {"MetadataOptions": {"HttpTokens": tokens, "HttpPutResponseHopLimit": hops}}

    def add(self, name: str = "blue", **more: Any) -> Any:
        request = {"clusterName": "ours", "nodegroupName": name, "subnets": self.subnets, "nodeRole": self.role}
        return self.api.create_nodegroup(**{**request, **more})["nodegroup"]

    def group(self, name: str = "blue", cluster: str = "ours") -> dict[str, Any]:
        return dict(self.api.describe_nodegroup(clusterName=cluster, nodegroupName=name)["nodegroup"])

    def nodes(self, name: str = "blue", cluster: str = "ours") -> dict[str, tuple[str, int]]:
        """The nodes that run, with tokens and hop limit."""
        wanted = {"tag:eks:nodegroup-name": name, "tag:eks:cluster-name": cluster, "instance-state-name": "running"}
        filters = [{"Name": key, "Values": [value]} for key, value in wanted.items()]
        found = self.ec2.describe_instances(Filters=filters)["Reservations"]
        options = {each["InstanceId"]: each["MetadataOptions"] for one in found for each in one["Instances"]}
        return {key: (one["HttpTokens"], one["HttpPutResponseHopLimit"]) for key, one in options.items()}


@pytest.fixture
def ours(offline: Offline) -> Eks:
    return Eks(offline)


def test_nodes_have_the_options_of_the_version_that_their_group_was_made_with(ours: Eks) -> None:
    made = ours.add(launchTemplate={"name": "nodes", "version": "1"}, scalingConfig=SIZES)
    assert made["launchTemplate"]["version"] == "1"
    before = ours.nodes()
    assert sorted(before.values()) == [("optional", 2)] * 3
    # A new default version changes nothing: the node group stays where it is.
    ours.ec2.modify_launch_template(LaunchTemplateName="nodes", DefaultVersion="2")
    assert ours.nodes() == before
    update = ours.api.update_nodegroup_version(
        clusterName="ours", nodegroupName="blue", launchTemplate={"name": "nodes", "version": "2"}
    )["update"]
    after = ours.nodes()
    assert sorted(after.values()) == [("required", 1)] * 3
    assert not set(after) & set(before)
    told = ours.api.describe_update(name="ours", nodegroupName="blue", updateId=update["id"])["update"]
    assert told["status"] == "Successful"
    assert {"type": "LaunchTemplateVersion", "value": "2"} in told["params"]
    assert ours.group()["launchTemplate"]["version"] == "2"
    [group] = ours.group()["resources"]["autoScalingGroups"]
    [scaling] = ours.aws.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=[group["name"]])[
        "AutoScalingGroups"
    ]
    specification = scaling["MixedInstancesPolicy"]["LaunchTemplate"]["LaunchTemplateSpecification"]
    assert specification["LaunchTemplateName"].startswith("eks-"), "EKS launches from a copy of its own"


SIZES = {"minSize": 1, "maxSize": 5, "desiredSize": 3}


def test_a_generated_node_group_replaces_its_nodes_when_it_is_updated(make_offline: Any) -> None:
    aws = make_offline(accounts=8, instances=20)
    here = places(aws, "eks")[0]
    eks = Eks.__new__(Eks)
    eks.aws, eks.api, eks.ec2 = aws, here.client("eks"), here.client("ec2")
    before = eks.nodes("general", "platform")
    eks.api.update_nodegroup_version(
        clusterName="platform", nodegroupName="general", launchTemplate={"name": "eks-workers", "version": "3"}
    )
    after = eks.nodes("general", "platform")
    size = eks.group("general", "platform")["scalingConfig"]["desiredSize"]
    assert sorted(after.values()) == [("required", 2)] * size
    assert not set(after) & set(before)


def test_a_node_group_that_enforcement_keeps_from_launching_is_degraded(ours: Eks) -> None:
    ours.ec2.modify_instance_metadata_defaults(HttpTokensEnforced="enabled", HttpTokens="required")
    ours.add(launchTemplate={"name": "nodes", "version": "1"})
    assert ours.nodes() == {}
    group = ours.group()
    assert group["status"] == "DEGRADED"
    assert group["health"]["issues"][0]["code"] == "AsgInstanceLaunchFailures"
    assert "httpTokensEnforced" in group["health"]["issues"][0]["message"]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"launchTemplate": {"name": "nowhere"}}, "InvalidParameterException"),
        ({"launchTemplate": {"name": "nodes", "version": "9"}}, "InvalidParameterException"),
        ({"launchTemplate": {"name": "nodes"}, "diskSize": 30}, "InvalidParameterException"),
        ({"instanceTypes": ["t3.huge"]}, "InvalidRequestException"),
        ({"nodeRole": "arn:aws:iam::123456789012:role/nobody"}, "InvalidParameterException"),
        ({"scalingConfig": {"minSize": 3, "maxSize": 2, "desiredSize": 3}}, "InvalidParameterException"),
        ({"clusterName": "nowhere"}, "ResourceNotFoundException"),
    ],
)
def test_a_node_group_that_cannot_be_leaves_nothing_behind(ours: Eks, more: dict[str, Any], code: str) -> None:
    before = ours.ec2.describe_launch_templates()["LaunchTemplates"]
    assert ours.aws.refused(lambda: ours.add(**more))[0] == code
    assert ours.ec2.describe_launch_templates()["LaunchTemplates"] == before
    assert ours.aws.client("iam").list_instance_profiles()["InstanceProfiles"] == []
    assert ours.api.list_nodegroups(clusterName="ours")["nodegroups"] == []


CLUSTER = [{"Name": "tag:eks:cluster-name", "Values": ["ours"]}]


def test_a_cluster_goes_when_its_node_groups_have_gone(ours: Eks) -> None:
    ours.add()
    assert ours.aws.refused(lambda: ours.add())[:2] == ("ResourceInUseException", 409)
    assert ours.aws.refused(lambda: ours.api.delete_cluster(name="ours"))[:2] == ("ResourceInUseException", 409)
    assert set(ours.nodes().values()) == {("required", 2)}, "the image of EKS's template says v2.0"
    ours.api.delete_nodegroup(clusterName="ours", nodegroupName="blue")
    assert ours.nodes() == {}
    assert ours.aws.client("iam").list_instance_profiles()["InstanceProfiles"] == []
    assert "eks-" not in str(ours.ec2.describe_launch_templates(Filters=CLUSTER)["LaunchTemplates"])
    ours.api.delete_cluster(name="ours")
    assert "ours" not in ours.api.list_clusters()["clusters"]


def test_nodes_are_the_same_after_a_restart(make_offline: Any, tmp_path: Path) -> None:
    ours = Eks(make_offline(tmp_path))
    ours.add(launchTemplate={"name": "nodes"})
    again = make_offline(tmp_path)
    there = Eks.__new__(Eks)
    there.aws, there.api, there.ec2 = again, again.client("eks"), again.client("ec2")
    assert there.nodes() == ours.nodes() != {}
    assert there.group() == ours.group()


# -- ECS -------------------------------------------------------------------------------------------------------------


def test_container_instances_are_ec2_instances_for_as_long_as_those_live(make_offline: Any) -> None:
    aws = make_offline(accounts=4, instances=20)
    here = places(aws, "ecs")[0]
    ecs, ec2 = here.client("ecs"), here.client("ec2")
    named = {"cluster": "services"}

    def hosts() -> dict[str, Any]:
        arns = ecs.list_container_instances(**named)["containerInstanceArns"]
        if not arns:
            return {}
        answer = ecs.describe_container_instances(**named, containerInstances=arns)
        assert not answer["failures"]
        return {each["ec2InstanceId"]: each for each in answer["containerInstances"]}

    before = hosts()
    assert before
    [cluster] = ecs.describe_clusters(clusters=["services"])["clusters"]
    assert cluster["registeredContainerInstancesCount"] == len(before)
    described = ec2.describe_instances(InstanceIds=list(before))["Reservations"]
    assert {each["InstanceId"] for reservation in described for each in reservation["Instances"]} == set(before)
    one = next(iter(before))
    [member] = here.client("autoscaling").describe_auto_scaling_instances(InstanceIds=[one])["AutoScalingInstances"]
    here.client("autoscaling").suspend_processes(AutoScalingGroupName=member["AutoScalingGroupName"])  # no replacement
    ec2.stop_instances(InstanceIds=[one])
    assert hosts()[one]["agentConnected"] is False
    ec2.terminate_instances(InstanceIds=[one])
    assert set(hosts()) == set(before) - {one}


def test_the_agent_of_an_ecs_image_registers_where_its_user_data_says(make_offline: Any) -> None:
    aws = make_offline(accounts=4, instances=20)
    here = places(aws, "ecs")[0]
    ecs, ec2, ssm = here.client("ecs"), here.client("ec2"), here.client("ssm")
    image = ssm.get_parameter(Name="/aws/service/ecs/optimized-ami/amazon-linux-2023/recommended/image_id")
    launched = ec2.run_instances(
        ImageId=image["Parameter"]["Value"],
        InstanceType="m5.large",
        MinCount=1,
        MaxCount=1,
        UserData="#!/bin/bash\necho ECS_CLUSTER=services >> /etc/ecs/ecs.config\n",
    )["Instances"][0]["InstanceId"]
    arns = ecs.list_container_instances(cluster="services")["containerInstanceArns"]
    hosts = ecs.describe_container_instances(cluster="services", containerInstances=arns)["containerInstances"]
    assert launched in [each["ec2InstanceId"] for each in hosts]


def test_a_cluster_of_ecs_goes_when_its_hosts_have_gone(make_offline: Any) -> None:
    aws = make_offline(accounts=4, instances=20)
    here = places(aws, "ecs")[0]
    ecs = here.client("ecs")
    assert aws.refused(lambda: ecs.delete_cluster(cluster="services"))[0] == (
        "ClusterContainsContainerInstancesException"
    )
    made = ecs.create_cluster(tags=[{"key": "a", "value": "b"}])["cluster"]
    assert made["clusterName"] == "default"
    assert ecs.create_cluster()["cluster"]["tags"] == made["tags"], "what is there is not made again"
    assert ecs.list_container_instances()["containerInstanceArns"] == []
    assert ecs.delete_cluster(cluster=made["clusterArn"])["cluster"]["status"] == "INACTIVE"
    assert aws.refused(ecs.list_container_instances)[0] == "ClusterNotFoundException"


def test_what_ecs_does_not_find(aws: Offline) -> None:
    ecs = places(aws, "ecs")[0].client("ecs")
    assert aws.refused(ecs.list_container_instances)[:2] == ("ClusterNotFoundException", 400)
    assert ecs.describe_clusters(clusters=["none"])["failures"][0]["reason"] == "MISSING"
    answer = ecs.describe_container_instances(cluster="services", containerInstances=["none"])
    assert answer["failures"][0]["reason"] == "MISSING"
    assert aws.refused(lambda: ecs.list_clusters(maxResults=101))[0] == "InvalidParameterException"


# -- SageMaker -------------------------------------------------------------------------------------------------------

TRUST = {
    "Version": "2012-10-17",
    "Statement": {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"Service": "sagemaker.amazonaws.com"}},
}


def role(aws: Offline, name: str = "notebooks", principal: str = "sagemaker.amazonaws.com") -> str:
    trust = {**TRUST, "Statement": {**TRUST["Statement"], "Principal": {"Service": principal}}}  # type: ignore[dict-item]
    made = aws.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust))
    return str(made["Role"]["Arn"])


def version_of(sagemaker: Any, name: str) -> str:
    answer = sagemaker.describe_notebook_instance(NotebookInstanceName=name)
    return str(answer["InstanceMetadataServiceConfiguration"]["MinimumInstanceMetadataServiceVersion"])


def v(number: str) -> dict[str, Any]:
    return {"InstanceMetadataServiceConfiguration": {"MinimumInstanceMetadataServiceVersion": number}}


def test_a_notebook_allows_both_versions_until_it_is_stopped_and_told_otherwise(offline: Offline) -> None:
    sagemaker = offline.client("sagemaker")
    named = {"NotebookInstanceName": "lab"}
    made = sagemaker.create_notebook_instance(**named, InstanceType="ml.t3.medium", RoleArn=role(offline))
    assert made["NotebookInstanceArn"] == f"arn:aws:sagemaker:us-east-1:{offline.management}:notebook-instance/lab"
    assert version_of(sagemaker, "lab") == "1"
    assert offline.refused(lambda: sagemaker.update_notebook_instance(**named, **v("2"))) == (
        "ValidationException",
        400,
        "Status (InService) not in ([Stopped, Failed]). Unable to transition to (Updating) for Notebook Instance "
        f"({made['NotebookInstanceArn']}).",
    )
    assert version_of(sagemaker, "lab") == "1"
    sagemaker.stop_notebook_instance(**named)
    sagemaker.update_notebook_instance(**named, **v("2"))
    sagemaker.start_notebook_instance(**named)
    answer = sagemaker.describe_notebook_instance(**named)
    assert (answer["NotebookInstanceStatus"], answer["InstanceType"]) == ("InService", "ml.t3.medium")
    assert version_of(sagemaker, "lab") == "2"
    assert offline.refused(lambda: sagemaker.delete_notebook_instance(**named))[0] == "ValidationException"
    sagemaker.stop_notebook_instance(**named)
    sagemaker.delete_notebook_instance(**named)
    assert offline.refused(lambda: sagemaker.describe_notebook_instance(**named)) == (
        "ValidationException",
        400,
        "RecordNotFound",
    )


def test_a_notebook_passes_through_its_states(make_offline: Any) -> None:
    aws = make_offline(settle_seconds=60)
    sagemaker = aws.client("sagemaker")
    named = {"NotebookInstanceName": "slow"}
    sagemaker.create_notebook_instance(**named, InstanceType="ml.t3.medium", RoleArn=role(aws))

    def status() -> str:
        return str(sagemaker.describe_notebook_instance(**named)["NotebookInstanceStatus"])

    seen = [status()]
    for change in ("stop", "start", "stop", "update", "delete"):
        aws.offset += timedelta(seconds=61)
        seen.append(status())
        getattr(sagemaker, f"{change}_notebook_instance")(**named)
        seen.append(status())
    assert seen == [
        *("Pending", "InService", "Stopping", "Stopped", "Pending", "InService", "Stopping", "Stopped"),
        *("Updating", "Stopped", "Deleting"),
    ]


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (v("3"), "Member must satisfy regular expression pattern: 1|2"),
        ({"InstanceType": "t3.medium"}, "instanceType"),
        ({"NotebookInstanceName": "-lab"}, "notebookInstanceName"),
        ({"RoleArn": "arn:aws:iam::123456789012:role/nobody"}, "Could not assume role"),
        ({"RoleArn": "other"}, "Could not assume role"),
        ({"SubnetId": "subnet-0123"}, "subnet"),
        ({"DirectInternetAccess": "Disabled"}, "SubnetId"),
        ({"VolumeSizeInGB": 4}, "volumeSizeInGB"),
    ],
)
def test_notebooks_that_cannot_be(aws: Offline, more: dict[str, Any], says: str) -> None:
    iam = aws.client("iam")
    roles = {each["RoleName"]: each["Arn"] for each in iam.list_roles()["Roles"]}
    good = roles.get("notebooks") or role(aws)
    if more.get("RoleArn") == "other":
        more = {"RoleArn": roles.get("elsewhere") or role(aws, "elsewhere", "ec2.amazonaws.com")}
    sagemaker = aws.client("sagemaker", checked=False)
    asked = {"NotebookInstanceName": "lab", "InstanceType": "ml.t3.medium", "RoleArn": good, **more}
    code, status, message = aws.refused(lambda: sagemaker.create_notebook_instance(**asked))
    assert (code, status) == ("ValidationException", 400)
    assert says in message
    listed = sagemaker.list_notebook_instances(NameContains="lab")["NotebookInstances"]
    assert not [each for each in listed if each["NotebookInstanceName"].strip("-") == "lab"], "nothing was made"


# -- Elastic Beanstalk -----------------------------------------------------------------------------------------------


def options_of(eb: Any, name: str) -> dict[str, str]:
    [settings] = eb.describe_configuration_settings(ApplicationName=name.partition("-")[0], EnvironmentName=name)[
        "ConfigurationSettings"
    ]
    return {each["OptionName"]: each["Value"] for each in settings["OptionSettings"]}


def test_an_environment_moves_to_a_launch_template_that_says_what_the_option_does(make_offline: Any) -> None:
    aws = make_offline(accounts=8, instances=20)
    here = places(aws, "elasticbeanstalk")[0]
    eb, ec2 = here.client("elasticbeanstalk"), here.client("ec2")
    assert options_of(eb, "storefront-prod")["DisableIMDSv1"] == "false"
    assert options_of(eb, "storefront-next")["DisableIMDSv1"] == "true"
    assert "DisableIMDSv1" not in options_of(eb, "intranet-prod")

    def resources(name: str) -> dict[str, Any]:
        return dict(eb.describe_environment_resources(EnvironmentName=name)["EnvironmentResources"])

    assert resources("storefront-prod")["LaunchConfigurations"] == [{"Name": "web-blue"}]
    for value, tokens in (("true", "required"), ("false", "optional")):
        eb.update_environment(EnvironmentName="storefront-prod", **setting(value))
        assert options_of(eb, "storefront-prod")["DisableIMDSv1"] == value
        now = resources("storefront-prod")
        assert now["LaunchConfigurations"] == []
        [version] = ec2.describe_launch_template_versions(
            LaunchTemplateId=now["LaunchTemplates"][0]["Id"], Versions=["$Default"]
        )["LaunchTemplateVersions"]
        assert version["LaunchTemplateData"]["MetadataOptions"]["HttpTokens"] == tokens
        assert version["LaunchTemplateData"]["ImageId"]


AL2, AL2023 = "64bit Amazon Linux 2 v5.11.1 running Node.js 18", "64bit Amazon Linux 2023 v6.6.5 running Node.js 22"


@pytest.mark.parametrize(
    ("platform", "value", "tokens"),
    [(AL2, None, "optional"), (AL2, "true", "required"), (AL2023, None, "required"), (AL2023, "false", "optional")],
)
def test_the_instances_of_an_environment_obey_its_option(
    offline: Offline, platform: str, value: str | None, tokens: str
) -> None:
    eb, ec2 = offline.client("elasticbeanstalk"), offline.client("ec2")
    eb.create_application(ApplicationName="app")
    options = setting(value) if value is not None else {}
    made = eb.create_environment(ApplicationName="app", EnvironmentName="live", SolutionStackName=platform, **options)

    def instances() -> dict[str, str]:
        resources = eb.describe_environment_resources(EnvironmentId=made["EnvironmentId"])["EnvironmentResources"]
        ids = [each["Id"] for each in resources["Instances"]]
        found = ec2.describe_instances(InstanceIds=ids)["Reservations"]
        return {each["InstanceId"]: each["MetadataOptions"]["HttpTokens"] for one in found for each in one["Instances"]}

    before = instances()
    assert list(before.values()) == [tokens]
    # The option replaces the instances.
    other = "false" if tokens == "required" else "true"
    eb.update_environment(EnvironmentName="live", **setting(other))
    after = instances()
    assert list(after.values()) == ["optional" if other == "false" else "required"]
    assert not set(after) & set(before)
    eb.terminate_environment(EnvironmentName="live")
    [told] = eb.describe_environments(EnvironmentNames=["live"])["Environments"]
    assert told["Status"] == "Terminated"
    assert "live" not in [
        each["EnvironmentName"] for each in eb.describe_environments(IncludeDeleted=False)["Environments"]
    ]
    states = ec2.describe_instances(InstanceIds=list(after))["Reservations"][0]["Instances"][0]["State"]["Name"]
    assert states == "terminated"


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"ApplicationName": "none"}, "InvalidParameterValue"),
        ({"EnvironmentName": "x"}, "InvalidParameterValue"),
        ({"SolutionStackName": "64bit Plan 9 running ed"}, "InvalidParameterValue"),
        ({"CNAMEPrefix": "mine"}, "UnsupportedOperation"),
        (setting("t3.huge", "InstanceType"), "InvalidParameterValue"),
        (setting("9", "MinSize", "aws:autoscaling:asg"), "ConfigurationValidationException"),
    ],
)
def test_an_environment_that_cannot_be_leaves_nothing_behind(
    offline: Offline, asked: dict[str, Any], code: str
) -> None:
    eb, ec2 = offline.client("elasticbeanstalk", checked=False), offline.client("ec2")
    eb.create_application(ApplicationName="app")
    scaling = offline.client("autoscaling")

    def there() -> list[Any]:
        return [
            ec2.describe_launch_templates()["LaunchTemplates"],
            eb.describe_environments()["Environments"],
            scaling.describe_auto_scaling_groups()["AutoScalingGroups"],
        ]

    before = there()
    request = {"ApplicationName": "app", "EnvironmentName": "live", "SolutionStackName": AL2, **asked}
    assert offline.refused(lambda: eb.create_environment(**request))[:2] == (code, 400)
    assert there() == before


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"EnvironmentName": "nowhere", **setting("true")}, "InvalidParameterValue"),
        (setting("true"), "MissingParameter"),
        ({"EnvironmentName": "intranet-prod", **setting("perhaps")}, "ConfigurationValidationException"),
        ({"EnvironmentName": "intranet-prod", **setting("1", "HopLimit")}, "ConfigurationValidationException"),
        ({"EnvironmentName": "intranet-prod", "ApplicationName": "storefront"}, "InvalidParameterValue"),
        ({"EnvironmentName": "intranet-prod", "VersionLabel": "v2"}, "UnsupportedOperation"),
    ],
)
def test_updates_that_cannot_be(aws: Offline, asked: dict[str, Any], code: str) -> None:
    eb = places(aws, "elasticbeanstalk")[0].client("elasticbeanstalk")
    assert aws.refused(lambda: eb.update_environment(**asked))[:2] == (code, 400)


def test_an_environment_lists_the_instances_that_carry_its_tag(make_offline: Any) -> None:
    aws = make_offline(accounts=8, instances=20)
    here = places(aws, "elasticbeanstalk")[0]
    eb, ec2 = here.client("elasticbeanstalk"), here.client("ec2")
    running = [{"Name": "instance-state-name", "Values": ["running"]}]
    instance = ec2.describe_instances(Filters=running)["Reservations"][0]["Instances"][0]["InstanceId"]
    ec2.create_tags(
        Resources=[instance], Tags=[{"Key": "elasticbeanstalk:environment-name", "Value": "storefront-prod"}]
    )
    resources = eb.describe_environment_resources(EnvironmentName="storefront-prod")["EnvironmentResources"]
    assert resources["Instances"] == [{"Id": instance}]


# -- the rules that hold for every service ---------------------------------------------------------------------------


def test_what_was_written_is_there_after_a_restart(make_offline: Any, tmp_path: Path) -> None:
    aws = make_offline(tmp_path, accounts=8, instances=20)
    here = places(aws, "elasticbeanstalk")[0]
    sagemaker, eb = aws.client("sagemaker"), here.client("elasticbeanstalk")
    sagemaker.create_notebook_instance(
        NotebookInstanceName="kept", InstanceType="ml.t3.medium", RoleArn=role(aws), **v("2")
    )
    eb.update_environment(EnvironmentName="storefront-prod", **setting("true"))
    resources = eb.describe_environment_resources(EnvironmentName="storefront-prod")["EnvironmentResources"]

    again = make_offline(tmp_path)
    assert version_of(again.client("sagemaker"), "kept") == "2"
    there = Place(again, here.account, here.region).client("elasticbeanstalk")
    assert options_of(there, "storefront-prod")["DisableIMDSv1"] == "true"
    assert there.describe_environment_resources(EnvironmentName="storefront-prod")["EnvironmentResources"] == resources


def test_a_policy_can_insist_on_version_2(offline: Offline) -> None:
    iam, arn = offline.client("iam"), role(offline)
    iam.create_user(UserName="ann")
    keys = iam.create_access_key(UserName="ann")["AccessKey"]
    statement = [
        {"Effect": "Allow", "Action": ["sagemaker:*"], "Resource": "*"},
        {
            "Effect": "Deny",
            "Action": "sagemaker:CreateNotebookInstance",
            "Resource": "*",
            "Condition": {"StringNotEquals": {"sagemaker:MinimumInstanceMetadataServiceVersion": "2"}},
        },
    ]
    policy = json.dumps({"Version": "2012-10-17", "Statement": statement})
    iam.put_user_policy(UserName="ann", PolicyName="p", PolicyDocument=policy)
    sagemaker = offline.client("sagemaker", credentials=keys)
    asked = {"NotebookInstanceName": "lab", "InstanceType": "ml.t3.medium", "RoleArn": arn}
    code, status, message = offline.refused(lambda: sagemaker.create_notebook_instance(**asked))
    assert (code, status) == ("AccessDeniedException", 400)
    assert "explicit deny" in message
    # The role is passed to SageMaker: that is a permission of its own.
    code, _, message = offline.refused(lambda: sagemaker.create_notebook_instance(**asked, **v("2")))
    assert code == "AccessDeniedException"
    assert "iam:PassRole" in message
    passing = {"Effect": "Allow", "Action": "iam:PassRole", "Resource": arn}
    statement.append({**passing, "Condition": {"StringEquals": {"iam:PassedToService": "sagemaker.amazonaws.com"}}})
    policy = json.dumps({"Version": "2012-10-17", "Statement": statement})
    iam.put_user_policy(UserName="ann", PolicyName="p", PolicyDocument=policy)
    sagemaker.create_notebook_instance(**asked, **v("2"))


@pytest.mark.parametrize(
    ("service", "operation", "params", "action", "status"),
    [
        ("eks", "describe_nodegroup", {"clusterName": "platform", "nodegroupName": "x"}, "eks:DescribeNodegroup", 403),
        ("ecs", "list_container_instances", {"cluster": "x"}, "ecs:ListContainerInstances", 400),
        ("sagemaker", "list_notebook_instances", {}, "sagemaker:ListNotebookInstances", 400),
        ("elasticbeanstalk", "describe_environments", {}, "elasticbeanstalk:DescribeEnvironments", 403),
    ],
)
def test_who_may_nothing_is_refused_in_the_service_s_own_way(
    aws: Offline, service: str, operation: str, params: dict[str, Any], action: str, status: int
) -> None:
    iam = aws.client("iam")
    name = f"nobody-{service}"
    iam.create_user(UserName=name)
    client = aws.client(service, credentials=iam.create_access_key(UserName=name)["AccessKey"])
    code, http, message = aws.refused(lambda: getattr(client, operation)(**params))
    assert code == ("AccessDenied" if service == "elasticbeanstalk" else "AccessDeniedException")
    assert http == status
    assert f"is not authorized to perform: {action}" in message


def test_cloudtrail_tells_who_changed_a_notebook(offline: Offline) -> None:
    sagemaker = offline.client("sagemaker")
    sagemaker.create_notebook_instance(
        NotebookInstanceName="lab", InstanceType="ml.t3.medium", RoleArn=role(offline), **v("2")
    )
    [event] = offline.client("cloudtrail").lookup_events(
        LookupAttributes=[{"AttributeKey": "EventName", "AttributeValue": "CreateNotebookInstance"}]
    )["Events"]
    assert event["EventSource"] == "sagemaker.amazonaws.com"
    assert {"ResourceType": "AWS::SageMaker::NotebookInstance", "ResourceName": "lab"} in event["Resources"]
    told = json.loads(event["CloudTrailEvent"])["requestParameters"]
    assert told["instanceMetadataServiceConfiguration"] == {"minimumInstanceMetadataServiceVersion": "2"}
