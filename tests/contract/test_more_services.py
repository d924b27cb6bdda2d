"""botocore as the client of EMR, Image Builder, Lightsail and AppStream, and what the sweep's readers make of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from imdsctl.domain.observations import SAYS_NOTHING, ServiceKind, ServiceSeen
from imdsctl.domain.options import HttpTokens, MetadataOptions, Switch
from imdsctl.domain.regions import DEFAULT_REGIONS
from imdsctl.fleet.services import READERS, lightsail
from imdsctl.fleet.services.calls import ServiceCalls
from imdsctl.local.appstream import state as appstream_state
from imdsctl.local.emr import state as emr_state
from imdsctl.local.imagebuilder import state as imagebuilder_state
from imdsctl.local.lightsail import state as lightsail_state
from imdsctl.wire.errors import ServiceError

IMDS = "InstanceMetadataServiceConfiguration"
VERSION = "MinimumInstanceMetadataServiceVersion"


class Botocore:
    """Implements `fleet.ports.Aws` with botocore; keeps the names of the calls."""

    default_region = None

    def __init__(self, offline: Any) -> None:
        self.offline = offline
        self.calls: list[str] = []

    async def call(
        self, credentials: Any, service: str, region: str, operation: str, params: Mapping[str, Any], projection: Any
    ) -> dict[str, Any]:
        self.calls.append(operation)
        client = self.offline.client(service, region=region)
        names = {api: method for method, api in client.meta.method_to_api_mapping.items()}
        answer: dict[str, Any] = getattr(client, names[operation])(**params)
        return answer

    def paginate(self, *_: Any, **__: Any) -> Any:
        raise AssertionError("the readers page for themselves")


def read(offline: Any, name: str, region: str) -> list[ServiceSeen]:
    """What a reader sees of the management account."""
    aws = Botocore(offline)
    calls = ServiceCalls(aws, None, READERS[name].service, offline.management, region)
    return asyncio.run(READERS[name].read(calls))  # type: ignore[arg-type]


def places(offline: Any, first_state: Any) -> Iterator[tuple[str, Any]]:
    """The management account's Regions with what a service has there."""
    return ((each, offline.world.service_state(first_state, offline.management, each)) for each in DEFAULT_REGIONS)


@pytest.fixture(scope="module")
def shared(make_offline: Any) -> Any:
    """A local AWS for tests that only read, or that write where no other does."""
    return make_offline(seed=7)


# -- EMR -------------------------------------------------------------------------------------------------------------


def test_an_emr_security_configuration_from_its_making_to_its_end(shared: Any) -> None:
    emr = shared.client("emr", region="eu-central-1")
    text = json.dumps({IMDS: {VERSION: 2, "HttpPutResponseHopLimit": 3}})
    made = emr.create_security_configuration(Name="mine", SecurityConfiguration=text)
    assert made["Name"] == "mine"
    assert emr.describe_security_configuration(Name="mine")["SecurityConfiguration"] == text
    assert [each["Name"] for each in emr.list_security_configurations()["SecurityConfigurations"]] == ["mine"]
    again = shared.refused(lambda: emr.create_security_configuration(Name="mine", SecurityConfiguration=text))
    assert again == (
        "InvalidRequestException",
        400,
        "Security configuration with name 'mine' already exists.",
    )
    [seen] = read(shared, "emr", "eu-central-1")
    assert (seen.kind, seen.resource) == (ServiceKind.EMR_SECURITY_CONFIGURATION, "mine")
    assert seen.options == MetadataOptions(HttpTokens.REQUIRED, 3)
    assert not seen.in_use
    emr.delete_security_configuration(Name="mine")
    gone = shared.refused(lambda: emr.describe_security_configuration(Name="mine"))
    assert gone == ("InvalidRequestException", 400, "Security configuration with name 'mine' does not exist.")


@pytest.mark.parametrize(
    "content",
    [
        "no json",
        "[]",
        json.dumps({IMDS: {}}),
        json.dumps({IMDS: {VERSION: 3}}),
        json.dumps({IMDS: {VERSION: "2"}}),
        json.dumps({IMDS: {VERSION: True}}),
        json.dumps({IMDS: {VERSION: 2, "HttpPutResponseHopLimit": 65}}),
    ],
)
def test_emr_refuses_an_impossible_setting(shared: Any, content: str) -> None:
    emr = shared.client("emr", region="eu-west-2")
    refusal = shared.refused(lambda: emr.create_security_configuration(Name="x", SecurityConfiguration=content))
    assert refusal[:2] == ("InvalidRequestException", 400)
    assert emr.list_security_configurations()["SecurityConfigurations"] == []


def test_emr_configurations_are_listed_in_pages(offline: Any) -> None:
    emr = offline.client("emr", region="sa-east-1")
    for number in range(51):
        emr.create_security_configuration(Name=f"c-{number:02}", SecurityConfiguration="{}")
    pages = list(emr.get_paginator("list_security_configurations").paginate())
    assert [len(each["SecurityConfigurations"]) for each in pages] == [50, 1]
    assert len(read(offline, "emr", "sa-east-1")) == 51
    assert offline.refused(lambda: emr.list_clusters(Marker="made-up"))[0] == "InvalidRequestException"


def test_emr_s_clusters_say_which_configuration_is_in_use(shared: Any) -> None:
    region, state = next((r, s) for r, s in places(shared, emr_state.first_state) if len(s.configurations) == 3)
    emr = shared.client("emr", region=region)
    clusters = emr.list_clusters(ClusterStates=["RUNNING", "WAITING"])["Clusters"]
    assert len(clusters) == 3
    used = {emr.describe_cluster(ClusterId=each["Id"])["Cluster"].get("SecurityConfiguration") for each in clusters}
    assert used == {"analytics-v1", "analytics-v2", None}
    refusal = shared.refused(lambda: emr.delete_security_configuration(Name="analytics-v1"))
    assert refusal[0] == "InvalidRequestException"
    assert shared.refused(lambda: emr.describe_cluster(ClusterId="j-NONE"))[2] == "Cluster id 'j-NONE' is not valid."
    seen = {each.name: each for each in read(shared, "emr", region)}
    assert seen["analytics-v1"].options == MetadataOptions(HttpTokens.OPTIONAL, 2)
    assert seen["analytics-v2"].options == MetadataOptions(HttpTokens.REQUIRED, 1)
    assert (seen["analytics-v2"].in_use, seen["at-rest"].in_use) == (True, False)
    assert seen["at-rest"].options == SAYS_NOTHING != seen["analytics-v1"].options
    assert "no security configuration" in seen["ad-hoc"].reason
    assert state.configurations.keys() <= seen.keys()


class Deleting(Botocore):
    """Somebody deletes what is to be described, just before."""

    async def call(self, *args: Any) -> dict[str, Any]:
        _, service, region, operation, params, _ = args
        client = self.offline.client(service, region=region)
        if operation == "DescribeSecurityConfiguration":
            client.delete_security_configuration(**params)
        if operation == "GetInfrastructureConfiguration":
            client.delete_infrastructure_configuration(**params)
        try:
            return await super().call(*args)
        except ClientError as error:
            said = error.response["Error"]
            raise ServiceError(said["Code"], said["Message"], 400) from None


@pytest.mark.parametrize("name", ["emr", "imagebuilder"])
def test_what_is_deleted_between_the_list_and_the_look_is_left_out(offline: Any, name: str) -> None:
    region = "ap-southeast-1"
    offline.client("emr", region=region).create_security_configuration(Name="mine", SecurityConfiguration="{}")
    offline.client("imagebuilder", region=region).create_infrastructure_configuration(
        name="mine", instanceProfileName="p"
    )
    calls = ServiceCalls(Deleting(offline), None, name, offline.management, region)  # type: ignore[arg-type]
    assert asyncio.run(READERS[name].read(calls)) == []


# -- Image Builder ---------------------------------------------------------------------------------------------------


def test_an_infrastructure_configuration_from_its_making_to_its_end(shared: Any) -> None:
    region = "eu-central-1"
    builder = shared.client("imagebuilder", region=region)
    asked = {"name": "My Build", "instanceProfileName": "builder", "clientToken": "t-1", "tags": {"Team": "os"}}
    made = builder.create_infrastructure_configuration(**asked)
    arn = made["infrastructureConfigurationArn"]
    assert arn == f"arn:aws:imagebuilder:{region}:{shared.management}:infrastructure-configuration/my-build"
    assert builder.create_infrastructure_configuration(**asked)["infrastructureConfigurationArn"] == arn
    other = shared.refused(
        lambda: builder.create_infrastructure_configuration(**{**asked, "instanceProfileName": "another"})
    )
    assert other[:2] == ("IdempotentParameterMismatchException", 400)
    twice = shared.refused(lambda: builder.create_infrastructure_configuration(**{**asked, "clientToken": "t-2"}))
    assert twice[:2] == ("ResourceAlreadyExistsException", 400)
    [seen] = read(shared, "imagebuilder", region)
    assert seen.options == MetadataOptions(HttpTokens.OPTIONAL, 1)  # Image Builder's own defaults
    assert seen.tags == (("Team", "os"),)
    builder.update_infrastructure_configuration(
        infrastructureConfigurationArn=arn,
        instanceProfileName="builder",
        instanceMetadataOptions={"httpTokens": "required", "httpPutResponseHopLimit": 2},
    )
    found = builder.get_infrastructure_configuration(infrastructureConfigurationArn=arn)["infrastructureConfiguration"]
    assert found["instanceMetadataOptions"] == {"httpTokens": "required", "httpPutResponseHopLimit": 2}
    assert found["dateUpdated"].endswith("Z")
    assert read(shared, "imagebuilder", region)[0].options == MetadataOptions(HttpTokens.REQUIRED, 2)
    builder.delete_infrastructure_configuration(infrastructureConfigurationArn=arn)
    gone = shared.refused(lambda: builder.get_infrastructure_configuration(infrastructureConfigurationArn=arn))
    assert gone[:2] == ("ResourceNotFoundException", 404)
    assert read(shared, "imagebuilder", region) == []


def test_image_builder_refuses_what_its_model_does_not_allow(shared: Any) -> None:
    builder = shared.client("imagebuilder", region="eu-west-1", checked=False)
    for wrong in (
        {"instanceMetadataOptions": {"httpTokens": "maybe"}},
        {"instanceMetadataOptions": {"httpPutResponseHopLimit": 65}},
        {"name": "x"},
        {"instanceProfileName": "no spaces"},
    ):
        asked = {"name": "wrong", "instanceProfileName": "builder", **wrong}
        assert shared.refused(lambda asked=asked: builder.create_infrastructure_configuration(**asked))[:2] == (
            "InvalidRequestException",
            400,
        )
    refusal = shared.refused(lambda: builder.list_infrastructure_configurations(nextToken="made-up"))
    assert refusal[0] == "InvalidPaginationTokenException"


def test_infrastructure_configurations_are_listed_in_pages_without_their_options(offline: Any) -> None:
    builder = offline.client("imagebuilder", region="ap-south-1")
    there = len(builder.list_infrastructure_configurations()["infrastructureConfigurationSummaryList"])
    for number in range(26):
        builder.create_infrastructure_configuration(
            name=f"build-{number}", instanceProfileName="p", instanceMetadataOptions={"httpTokens": "required"}
        )
    first = builder.list_infrastructure_configurations()
    assert len(first["infrastructureConfigurationSummaryList"]) == 25
    assert "instanceMetadataOptions" not in first["infrastructureConfigurationSummaryList"][-1]
    named = builder.list_infrastructure_configurations(filters=[{"name": "name", "values": ["build-25"]}])
    assert [each["name"] for each in named["infrastructureConfigurationSummaryList"]] == ["build-25"]
    assert len(read(offline, "imagebuilder", "ap-south-1")) == there + 26


# -- Lightsail -------------------------------------------------------------------------------------------------------


def test_lightsail_s_options_are_changed_and_are_pending_until_applied(make_offline: Any) -> None:
    offline = make_offline(seed=7, settle_seconds=30)
    region, name = next(
        (region, each.name)
        for region, state in places(offline, lightsail_state.first_state)
        for each in state.instances.values()
        if each.running and each.options.http_tokens is HttpTokens.OPTIONAL
    )
    sail = offline.client("lightsail", region=region)
    assert name in [each["name"] for each in sail.get_instances()["instances"]]
    answer = sail.update_instance_metadata_options(instanceName=name, httpTokens="required")["operation"]
    assert (answer["operationType"], answer["status"]) == ("UpdateInstanceMetadataOptions", "Succeeded")
    options = sail.get_instance(instanceName=name)["instance"]["metadataOptions"]
    assert (options["state"], options["httpTokens"]) == ("pending", "required")
    seen = next(each for each in read(offline, "lightsail", region) if each.name == name)
    assert "pending" in seen.reason
    assert seen.options == SAYS_NOTHING
    offline.offset += timedelta(seconds=31)
    assert sail.get_instance(instanceName=name)["instance"]["metadataOptions"]["state"] == "applied"
    seen = next(each for each in read(offline, "lightsail", region) if each.name == name)
    assert seen.options.http_tokens is HttpTokens.REQUIRED
    assert (seen.options.http_endpoint, seen.reason) == (Switch.ENABLED, "")
    # As the API Reference says: httpTokens that is not specified becomes `optional`.
    sail.update_instance_metadata_options(instanceName=name, httpPutResponseHopLimit=2)
    options = sail.get_instance(instanceName=name)["instance"]["metadataOptions"]
    assert (options["httpTokens"], options["httpPutResponseHopLimit"]) == ("optional", 2)


def test_lightsail_refuses_an_unknown_instance_and_impossible_values(shared: Any) -> None:
    region, state = next((r, s) for r, s in places(shared, lightsail_state.first_state) if s.instances)
    sail, name = shared.client("lightsail", region=region, checked=False), next(iter(state.instances))
    gone = shared.refused(lambda: sail.get_instance(instanceName="none"))
    assert gone == ("NotFoundException", 400, "The Instance does not exist: none")
    for wrong in ({"httpTokens": "no"}, {"httpPutResponseHopLimit": 0}, {"httpEndpoint": "on"}):
        call = lambda wrong=wrong: sail.update_instance_metadata_options(instanceName=name, **wrong)  # noqa: E731
        assert shared.refused(call)[:2] == ("InvalidInputException", 400)


def test_lightsail_that_does_not_say_its_options_is_unknown() -> None:
    assert lightsail.options_of({"state": "pending", "httpTokens": "optional"})[0].http_tokens is HttpTokens.OPTIONAL
    assert lightsail.options_of(None) == (SAYS_NOTHING, "Lightsail does not say its metadata options")
    assert lightsail.options_of({"httpTokens": "later"})[0] == SAYS_NOTHING


# -- AppStream -------------------------------------------------------------------------------------------------------


def test_an_appstream_fleet_gives_up_imdsv1_once_it_is_stopped(offline: Any) -> None:
    region, state = next((r, s) for r, s in places(offline, appstream_state.first_state) if s.image_builders)
    stream = offline.client("appstream", region=region)
    fleets = stream.describe_fleets()["Fleets"]
    assert [each["Name"] for each in fleets] == sorted(state.fleets)
    assert stream.describe_fleets(Names=["back-office"])["Fleets"][0]["DisableIMDSV1"] is False
    [builder] = stream.describe_image_builders()["ImageBuilders"]
    running = offline.refused(lambda: stream.update_fleet(Name="back-office", DisableIMDSV1=True))
    assert running[:2] == ("OperationNotPermittedException", 400)
    stream.stop_fleet(Name="back-office")
    assert stream.update_fleet(Name="back-office", DisableIMDSV1=True)["Fleet"]["DisableIMDSV1"] is True
    stream.start_fleet(Name="back-office")
    gone = offline.refused(lambda: stream.describe_fleets(Names=["none"]))
    assert gone[:2] == ("ResourceNotFoundException", 400)
    seen = {(each.kind, each.name): each for each in read(offline, "appstream", region)}
    fleet = seen[ServiceKind.APPSTREAM_FLEET, "back-office"]
    assert fleet.options == MetadataOptions(HttpTokens.REQUIRED)
    assert fleet.resource == f"arn:aws:appstream:{region}:{offline.management}:fleet/back-office"
    kept = seen[ServiceKind.APPSTREAM_IMAGE_BUILDER, builder["Name"]]
    assert kept.options == MetadataOptions(HttpTokens.OPTIONAL)


# -- all of them -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("service", "operation", "code"),
    [
        ("emr", "list_security_configurations", ("AccessDeniedException", 400)),
        ("imagebuilder", "list_infrastructure_configurations", ("AccessDeniedException", 403)),
        ("lightsail", "get_instances", ("AccessDeniedException", 400)),
        ("appstream", "describe_fleets", ("AccessDeniedException", 400)),
        ("sqs", "list_queues", ("AccessDenied", 403)),
    ],
)
def test_a_user_without_permission_is_refused_in_the_service_s_way(
    shared: Any, nobody: dict[str, Any], service: str, operation: str, code: tuple[str, int]
) -> None:
    refusal = shared.refused(getattr(shared.client(service, credentials=nobody), operation))
    assert refusal[:2] == code
    assert f"user/nobody is not authorized to perform: {_PREFIX.get(service, service)}:" in refusal[2]


_PREFIX = {"emr": "elasticmapreduce"}


@pytest.fixture(scope="module")
def nobody(shared: Any) -> dict[str, Any]:
    """A user who may do nothing but look for a builder that requires tokens."""
    iam = shared.client("iam")
    iam.create_user(UserName="nobody")
    allowed = {
        "Effect": "Allow",
        "Action": "imagebuilder:CreateInfrastructureConfiguration",
        "Resource": "arn:aws:imagebuilder:*:*:infrastructure-configuration/*",
        "Condition": {"StringEquals": {"imagebuilder:Ec2MetadataHttpTokens": "required"}},
    }
    document = json.dumps({"Version": "2012-10-17", "Statement": [allowed]})
    iam.put_user_policy(UserName="nobody", PolicyName="p", PolicyDocument=document)
    key = iam.create_access_key(UserName="nobody")["AccessKey"]
    return {"AccessKeyId": key["AccessKeyId"], "SecretAccessKey": key["SecretAccessKey"]}


def test_a_policy_can_ask_image_builder_for_tokens(shared: Any, nobody: dict[str, Any]) -> None:
    builder = shared.client("imagebuilder", credentials=nobody, region="eu-west-2")
    asked = {"name": "asked", "instanceProfileName": "builder"}
    assert shared.refused(lambda: builder.create_infrastructure_configuration(**asked))[0] == "AccessDeniedException"
    options = {"httpTokens": "required"}
    assert builder.create_infrastructure_configuration(**asked, instanceMetadataOptions=options)["clientToken"]


def test_writes_are_in_the_trail_and_come_back_from_the_log(make_offline: Any, tmp_path: Path) -> None:
    first = make_offline(tmp_path, seed=7)
    region, name = next(
        (region, next(iter(state.instances)))
        for region, state in places(first, lightsail_state.first_state)
        if state.instances
    )
    first.client("lightsail", region=region).update_instance_metadata_options(instanceName=name, httpTokens="required")
    first.client("emr").create_security_configuration(Name="kept", SecurityConfiguration="{}")
    first.client("imagebuilder").create_infrastructure_configuration(name="kept", instanceProfileName="p")
    queue = first.client("sqs").create_queue(QueueName="kept")["QueueUrl"]
    first.client("sqs").send_message(QueueUrl=queue, MessageBody="hello")
    events = first.client("cloudtrail").lookup_events()["Events"]
    sources = {each["EventSource"]: each["EventName"] for each in reversed(events)}
    assert sources["elasticmapreduce.amazonaws.com"] == "CreateSecurityConfiguration"
    assert sources["imagebuilder.amazonaws.com"] == "CreateInfrastructureConfiguration"
    assert sources["sqs.amazonaws.com"] == "CreateQueue"  # SendMessage is a data event
    second = make_offline(tmp_path, seed=7)
    found = second.client("lightsail", region=region).get_instance(instanceName=name)["instance"]
    assert found["metadataOptions"]["httpTokens"] == "required"
    assert second.client("emr").describe_security_configuration(Name="kept")["SecurityConfiguration"] == "{}"
    [message] = second.client("sqs").receive_message(QueueUrl=queue)["Messages"]
    assert message["Body"] == "hello"


def test_what_the_fleet_has_is_a_function_of_the_seed_and_not_everywhere(make_offline: Any) -> None:
    def picture(seed: int) -> dict[str, int]:
        world = make_offline(seed=seed).world
        accounts = list(world.accounts)[:4]
        makers = {
            "emr": (emr_state.first_state, "configurations"),
            "imagebuilder": (imagebuilder_state.first_state, "configurations"),
            "lightsail": (lightsail_state.first_state, "instances"),
            "appstream": (appstream_state.first_state, "fleets"),
        }
        return {
            f"{name}/{account}/{region}": len(getattr(world.service_state(make, account, region), member))
            for name, (make, member) in makers.items()
            for account in accounts
            for region in DEFAULT_REGIONS
        }

    one = picture(3)
    assert one == picture(3) != picture(4)
    for name in ("emr", "imagebuilder", "lightsail", "appstream"):
        there = [number for place, number in one.items() if place.startswith(f"{name}/")]
        assert 0 < sum(map(bool, there)) < len(there) / 2
