"""What the sweep reads of EKS, ECS, SageMaker and Elastic Beanstalk, from an offline local AWS."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest
from tests.contract.conftest import Offline
from tests.contract.offline_aws import OfflineAws
from tests.contract.test_local_compute import Eks, Place, places, setting

from imdsctl.domain.observations import SAYS_NOTHING, LaunchSource, ServiceKind, ServiceSeen
from imdsctl.domain.options import HttpTokens, MetadataOptions
from imdsctl.domain.permissions import NEEDS
from imdsctl.fleet.ports import Unreachable
from imdsctl.fleet.services import READERS
from imdsctl.wire.errors import ServiceError

V1 = MetadataOptions(http_tokens=HttpTokens.OPTIONAL)
V2 = MetadataOptions(http_tokens=HttpTokens.REQUIRED)


@pytest.fixture(scope="module")
def aws(make_offline: Any) -> Offline:
    found: Offline = make_offline(accounts=8, instances=20)
    return found


def read(name: str, place: Place, **changed: Any) -> tuple[list[ServiceSeen], Counter[str]]:
    """What a reader gives, and how often it asked for what."""
    reader = READERS[name]
    port = OfflineAws(place.aws, place.account, **changed)
    seen = asyncio.run(reader.read(port.calls(reader.service, place.region)))
    return seen, Counter(port.asked)


def test_a_node_group_refers_to_its_template_at_its_version(aws: Offline) -> None:
    here = places(aws, "eks")[0]
    seen, asked = read("eks", here)
    [general] = [each for each in seen if each.name == "general"]
    told = here.client("eks").describe_nodegroup(clusterName="platform", nodegroupName="general")["nodegroup"]
    template = told["launchTemplate"]
    assert general == ServiceSeen(
        ServiceKind.EKS_NODEGROUP,
        told["nodegroupArn"],
        name="general",
        sources=(LaunchSource(template["id"], "eks-workers", template["version"]),),
        parent="platform",
        tags=(("environment", "production"),),
    )
    assert asked == {"ListClusters": 1, "ListNodegroups": asked["ListNodegroups"], "DescribeNodegroup": len(seen)}


def test_a_node_group_without_a_template_is_known_by_its_group_only(offline: Offline) -> None:
    Eks(offline).add("plain")
    seen, _ = read("eks", Place(offline, offline.management, "us-east-1"))
    [plain] = [each for each in seen if each.name == "plain"]
    assert (plain.options, plain.sources, plain.parent) == (SAYS_NOTHING, (), "ours")
    assert plain.group_names[0].startswith("eks-plain-")
    assert "EKS made one" in plain.reason


def test_a_container_host_refers_to_its_instance(aws: Offline) -> None:
    here = places(aws, "ecs")[0]
    seen, asked = read("ecs", here)
    ecs = here.client("ecs")
    arns = ecs.list_container_instances(cluster="services")["containerInstanceArns"]
    told = ecs.describe_container_instances(cluster="services", containerInstances=arns)["containerInstances"]
    assert [(each.resource, each.instance_ids, each.parent) for each in seen] == [
        (each["containerInstanceArn"], (each["ec2InstanceId"],), "services") for each in told
    ]
    assert max(asked.values()) == 1, "a cluster on Fargate is not asked for hosts"


def test_a_host_outside_aws_is_unknown_with_a_reason(aws: Offline) -> None:
    host = {"containerInstanceArn": "arn:aws:ecs:::container-instance/services/1", "ec2InstanceId": "mi-0123"}
    seen, _ = read("ecs", places(aws, "ecs")[0], DescribeContainerInstances=lambda _: {"containerInstances": [host]})
    assert (seen[0].instance_ids, seen[0].options) == ((), SAYS_NOTHING)
    assert "not an EC2 instance" in seen[0].reason


def test_a_notebook_says_itself_what_it_allows(aws: Offline) -> None:
    found: dict[str, MetadataOptions] = {}
    for here in places(aws, "sagemaker"):
        seen, asked = read("sagemaker", here)
        assert asked == {"ListNotebookInstances": 1, "DescribeNotebookInstance": len(seen)}
        found |= {each.name: each.options for each in seen}
    assert found == {"churn-features": V1, "forecast-2021": V1, "fraud-scoring": V2}


@pytest.mark.parametrize("answer", [{}, {"InstanceMetadataServiceConfiguration": {}}])
def test_a_notebook_of_which_sagemaker_says_nothing_is_unknown(aws: Offline, answer: dict[str, Any]) -> None:
    seen, _ = read("sagemaker", places(aws, "sagemaker")[0], DescribeNotebookInstance=lambda _: answer)
    assert seen[0].options == SAYS_NOTHING
    assert seen[0].reason


def test_an_environment_says_it_by_its_option_or_its_platform(make_offline: Any) -> None:
    aws = make_offline(accounts=8, instances=20)
    here = places(aws, "elasticbeanstalk")[0]
    eb = here.client("elasticbeanstalk")

    def now() -> dict[str, ServiceSeen]:
        seen, asked = read("beanstalk", here)
        assert asked == {
            "DescribeEnvironments": 1,
            "DescribeConfigurationSettings": len(seen),
            "DescribeEnvironmentResources": len(seen),
        }
        return {each.name: each for each in seen}

    before = now()
    assert {name: each.options for name, each in before.items()} == {
        "storefront-prod": V1,
        "storefront-next": V2,
        "intranet-prod": V1,
    }
    assert before["storefront-prod"].sources == (LaunchSource(configuration="web-blue"),)
    assert before["storefront-prod"].parent == "storefront"
    eb.update_environment(EnvironmentName="intranet-prod", **setting("true"))
    after = now()["intranet-prod"]
    assert after.options == V2
    [template] = eb.describe_environment_resources(EnvironmentName="intranet-prod")["EnvironmentResources"][
        "LaunchTemplates"
    ]
    assert after.sources == (LaunchSource(template_id=template["Id"]),)


def test_an_unset_option_on_amazon_linux_2023_is_unknown(aws: Offline) -> None:
    environment = {
        "EnvironmentName": "new",
        "EnvironmentArn": "arn:aws:elasticbeanstalk:::environment/app/new",
        "EnvironmentId": "e-1",
        "ApplicationName": "app",
        "SolutionStackName": "64bit Amazon Linux 2023 v6.6.5 running Node.js 22",
        "Status": "Ready",
    }
    seen, _ = read(
        "beanstalk",
        places(aws, "elasticbeanstalk")[0],
        DescribeEnvironments=lambda _: {"Environments": [environment, {**environment, "Status": "Terminating"}]},
        DescribeConfigurationSettings=lambda _: {"ConfigurationSettings": [{"DeploymentStatus": "deployed"}]},
        DescribeEnvironmentResources=lambda _: {"EnvironmentResources": {"AutoScalingGroups": [{"Name": "awseb"}]}},
    )
    assert len(seen) == 1, "one that is on its way out is not there"
    assert (seen[0].options, seen[0].group_names) == (SAYS_NOTHING, ("awseb",))
    assert "DisableIMDSv1" in seen[0].reason


def test_lists_are_followed_to_their_last_page(aws: Offline) -> None:
    pages = {None: {"clusters": ["one"], "nextToken": "2"}, "2": {"clusters": [], "nextToken": "3"}, "3": {}}
    seen, asked = read(
        "eks",
        places(aws, "eks")[0],
        ListClusters=lambda params: pages[params.get("nextToken")],
        ListNodegroups=lambda params: {"nodegroups": ["a", "b"]},
        DescribeNodegroup=lambda params: {"nodegroup": {"nodegroupArn": f"arn:{params['nodegroupName']}"}},
    )
    assert [(each.resource, each.parent) for each in seen] == [("arn:a", "one"), ("arn:b", "one")]
    assert asked["ListClusters"] == 3


def test_a_list_that_would_never_end_is_unreachable(aws: Offline) -> None:
    with pytest.raises(Unreachable, match="never end"):
        read("eks", places(aws, "eks")[0], ListClusters=lambda _: {"clusters": [], "nextToken": "same"})


def gone(code: str, message: str = "") -> Any:
    def refuse(_: Any) -> Any:
        raise ServiceError(code, message)

    return refuse


VANISHED = [
    ("eks", "eks", {"DescribeNodegroup": gone("ResourceNotFoundException")}),
    ("eks", "eks", {"ListNodegroups": gone("ResourceNotFoundException")}),
    ("ecs", "ecs", {"ListContainerInstances": gone("ClusterNotFoundException")}),
    ("sagemaker", "sagemaker", {"DescribeNotebookInstance": gone("ValidationException", "RecordNotFound")}),
    ("beanstalk", "elasticbeanstalk", {"DescribeEnvironmentResources": gone("InvalidParameterValue")}),
]


@pytest.mark.parametrize(("name", "service", "answers"), VANISHED)
def test_what_vanishes_between_list_and_look_is_not_there(
    aws: Offline, name: str, service: str, answers: dict[str, Any]
) -> None:
    assert read(name, places(aws, service)[0], **answers)[0] == []


@pytest.mark.parametrize(("name", "service", "answers"), VANISHED)
def test_a_refusal_is_the_sweep_s_to_hear(aws: Offline, name: str, service: str, answers: dict[str, Any]) -> None:
    refused = {operation: gone("AccessDeniedException", "no") for operation in answers}
    with pytest.raises(ServiceError, match="AccessDeniedException"):
        read(name, places(aws, service)[0], **refused)


def test_the_printed_policy_allows_what_the_readers_ask(aws: Offline) -> None:
    for name, service in (("beanstalk", "elasticbeanstalk"), ("ecs",) * 2, ("eks",) * 2, ("sagemaker",) * 2):
        _, asked = read(name, places(aws, service)[0])
        [need] = [each for each in NEEDS if each.service == service]
        assert set(need.operations) == set(asked)


def test_a_region_without_any_costs_one_call_a_service(aws: Offline) -> None:
    somebody = next(each for each in aws.world.accounts.values() if each.state == "ACTIVE").id
    empty = Place(aws, somebody, "af-south-1")
    aws.world.set_region_opt_status(somebody, "af-south-1", "ENABLING", aws.aws.now())
    for name in ("beanstalk", "ecs", "eks", "sagemaker"):
        seen, asked = read(name, empty)
        assert (seen, asked.total()) == ([], 1), name
