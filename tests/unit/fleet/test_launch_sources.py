"""What launches instances beside a call of RunInstances: read, resolved to a verdict, and never clean when unseen."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from imdsctl.domain.exposure import Verdict
from imdsctl.domain.launches import fleet_exposure, group_exposure, service_exposure
from imdsctl.domain.observations import (
    FleetKind,
    LaunchSource,
    RegionSeen,
    Scan,
    ServiceKind,
    ServiceSeen,
)
from imdsctl.domain.scope import services_left_out
from imdsctl.domain.verdicts import target_summary
from imdsctl.fleet.memory_store import MemoryStore
from imdsctl.fleet.scan import header_of, sweep
from imdsctl.fleet.selection import Selection
from imdsctl.fleet.services import Reader
from imdsctl.fleet.services.calls import ServiceCalls
from imdsctl.fleet.targets import find_accounts
from imdsctl.wire.errors import ServiceError

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
ONE = Selection(current_account=True, regions=("eu-west-1",))
ORGANIZATION = Selection(regions=("eu-west-1",))
DENIED = ServiceError("UnauthorizedOperation", "You are not authorized to perform this operation.", 403)
SILENT = {"LaunchTemplateId": "lt-1", "LaunchTemplateName": "web"}


def scanned(aws: Any, selection: Selection = ONE, **more: Any) -> Scan:
    async def run() -> Scan:
        visit = await find_accounts(aws, selection)
        writer = MemoryStore().begin(header_of(selection, visit, scan_id="s1", started=NOON))
        return await sweep(aws, selection, visit, writer, now=lambda: NOON, **{"services": {}, **more})

    return asyncio.run(run())


def only(scan: Scan) -> RegionSeen:
    (region,) = scan.regions
    return region


def versions(params: Any) -> Any:
    """A template whose default, 1, says nothing; 2 requires tokens; 3, the latest, allows IMDSv1."""
    data = {
        1: {},
        2: {"MetadataOptions": {"HttpTokens": "required"}},
        3: {"MetadataOptions": {"HttpTokens": "optional"}},
    }
    numbers = [1, 3] if "LaunchTemplateId" not in params else [int(each) for each in params["Versions"]]
    return {
        "LaunchTemplateVersions": [
            {**SILENT, "VersionNumber": each, "DefaultVersion": each == 1, "LaunchTemplateData": data[each]}
            for each in numbers
        ]
    }


def images(params: Any) -> Any:
    named = [each for filter_ in params.get("Filters", ()) for each in filter_["Values"]]
    return {"Images": [{"ImageId": each, "ImdsSupport": "v2.0" if each == "ami-2" else None} for each in named]}


def mixed(*overrides: dict[str, Any]) -> dict[str, Any]:
    common = {"LaunchTemplateSpecification": {**SILENT, "Version": "$Default"}}
    return {"MixedInstancesPolicy": {"LaunchTemplate": {**common, "Overrides": list(overrides)}}}


def groups(*each: dict[str, Any]) -> dict[str, Any]:
    return {"AutoScalingGroups": [{"AutoScalingGroupName": f"g{at}", **group} for at, group in enumerate(each)]}


def test_a_launch_configuration_is_seen_used_or_not_and_its_options_are_launch_parameters(fake_aws: Any) -> None:
    aws = fake_aws(
        DescribeLaunchConfigurations={
            "LaunchConfigurations": [
                {"LaunchConfigurationName": "old", "ImageId": "ami-1"},
                {"LaunchConfigurationName": "new", "ImageId": "ami-1", "MetadataOptions": {"HttpTokens": "required"}},
            ]
        },
        DescribeAutoScalingGroups=groups({"LaunchConfigurationName": "new"}),
        DescribeImages=images,
    )
    seen = only(scanned(aws))
    assert {each.name: each.in_use for each in seen.configurations} == {"old": False, "new": True}
    counts = target_summary(seen).counts
    assert (counts.configurations.exposed, counts.configurations.enforced) == (1, 1)
    assert group_exposure(seen, seen.groups[0]).verdict is Verdict.ENFORCED


def test_a_group_is_as_bad_as_the_worst_of_its_overrides(fake_aws: Any) -> None:
    """An override may bring a template of its own, or an image; the common template counts where none does."""
    required = {"LaunchTemplateSpecification": {**SILENT, "Version": "2"}}
    aws = fake_aws(
        DescribeAutoScalingGroups=groups(
            mixed(required, {"ImageId": "ami-2"}),
            mixed(required, {"InstanceType": "m5.large"}),
            mixed(required, {"LaunchTemplateSpecification": {**SILENT, "Version": "$Latest"}}),
        ),
        DescribeLaunchTemplateVersions=versions,
        DescribeImages=images,
    )
    seen = only(scanned(aws))
    verdicts = [group_exposure(seen, each).verdict for each in seen.groups]
    assert verdicts == [Verdict.ENFORCED, Verdict.EXPOSED, Verdict.EXPOSED]
    assert seen.groups[0].sources[1] == LaunchSource("lt-1", "web", "$Default", image_id="ami-2")


def test_versions_that_groups_and_fleets_name_are_read_and_in_use(fake_aws: Any) -> None:
    aws = fake_aws(
        DescribeAutoScalingGroups=groups({"LaunchTemplate": {**SILENT, "Version": "2"}}),
        DescribeFleets={
            "Fleets": [
                {
                    "FleetId": "fleet-1",
                    "FleetState": "active",
                    "LaunchTemplateConfigs": [
                        {"LaunchTemplateSpecification": {"LaunchTemplateName": "web", "Version": "$Latest"}}
                    ],
                }
            ]
        },
        DescribeLaunchTemplateVersions=versions,
    )
    seen = only(scanned(aws))
    assert {each.version: each.in_use for each in seen.templates} == {1: False, 2: True, 3: True}
    assert fleet_exposure(seen, seen.fleets[0]).verdict is Verdict.EXPOSED


def test_spot_says_no_options_so_default_and_image_decide(fake_aws: Any) -> None:
    aws = fake_aws(
        DescribeSpotFleetRequests={
            "SpotFleetRequestConfigs": [
                {
                    "SpotFleetRequestId": "sfr-1",
                    "SpotFleetRequestState": "active",
                    "SpotFleetRequestConfig": {"LaunchSpecifications": [{"ImageId": "ami-2"}, {"ImageId": "ami-1"}]},
                },
                {"SpotFleetRequestId": "sfr-2", "SpotFleetRequestState": "cancelled_running"},
            ]
        },
        DescribeSpotInstanceRequests={
            "SpotInstanceRequests": [
                {"SpotInstanceRequestId": f"sir-{at}", **each, "LaunchSpecification": {"ImageId": "ami-2"}}
                for at, each in enumerate(
                    [
                        {"State": "open", "Type": "one-time"},
                        {"State": "active", "Type": "one-time"},
                        {"State": "active", "Type": "persistent"},
                        {"State": "closed", "Type": "persistent"},
                    ]
                )
            ]
        },
        DescribeImages=images,
    )
    seen = only(scanned(aws))
    verdicts = {each.fleet_id: fleet_exposure(seen, each).verdict for each in seen.fleets}
    assert verdicts == {"sfr-1": Verdict.EXPOSED, "sir-0": Verdict.ENFORCED, "sir-2": Verdict.ENFORCED}
    assert {each.kind for each in seen.fleets} == {FleetKind.SPOT_FLEET, FleetKind.SPOT_REQUEST}


def test_a_source_whose_template_was_not_seen_is_unknown(fake_aws: Any) -> None:
    aws = fake_aws(
        DescribeAutoScalingGroups=groups({"LaunchTemplate": {**SILENT, "Version": "2"}}),
        DescribeLaunchTemplateVersions=DENIED,
    )
    summary = target_summary(only(scanned(aws)))
    assert summary.counts.groups.unknown == 1


def test_images_of_instances_and_of_every_source_are_looked_up(fake_aws: Any) -> None:
    aws = fake_aws(
        DescribeInstances={"Reservations": [{"Instances": [{"InstanceId": "i-1", "ImageId": "ami-1"}]}]},
        DescribeLaunchConfigurations={"LaunchConfigurations": [{"LaunchConfigurationName": "c", "ImageId": "ami-2"}]},
        DescribeAutoScalingGroups=groups(mixed({"ImageId": "ami-3"})),
        DescribeLaunchTemplateVersions=versions,
        DescribeImages=images,
    )
    assert [each.image_id for each in only(scanned(aws)).images] == ["ami-1", "ami-2", "ami-3"]


def test_other_services_are_asked_where_they_exist_and_a_refusal_is_unknown(fake_aws: Any) -> None:
    async def notebooks(calls: ServiceCalls) -> list[ServiceSeen]:
        return [ServiceSeen(ServiceKind.SAGEMAKER_NOTEBOOK, f"{calls.account_id}/{calls.region}", reason="it is off")]

    async def denied(calls: ServiceCalls) -> list[ServiceSeen]:
        raise DENIED

    services = {
        "appstream": Reader("appstream", "AppStream fleets", denied),
        "eks": Reader("eks", "EKS node groups", denied),
        "sagemaker": Reader("sagemaker", "SageMaker notebooks", notebooks),
    }
    seen = only(scanned(fake_aws(), services=services, serves=lambda service, region: service != "appstream"))
    assert [each.resource for each in seen.services] == ["111111111111/eu-west-1"]
    assert [each.what for each in seen.unseen] == ["EKS node groups"]
    assert target_summary(seen).counts.services.unknown == 2

    without = scanned(fake_aws(), replace(ONE, services=False), services=services)
    assert services_left_out(without.scope)
    assert (only(without).services, only(without).unseen) == ((), ())


def test_a_service_is_judged_by_what_it_refers_to_when_it_says_nothing_itself(fake_aws: Any) -> None:
    options = {"HttpTokens": "optional", "HttpEndpoint": "enabled"}
    aws = fake_aws(
        DescribeInstances={"Reservations": [{"Instances": [{"InstanceId": "i-1", "MetadataOptions": options}]}]},
        DescribeAutoScalingGroups=groups({"LaunchTemplate": {**SILENT, "Version": "2"}}),
        DescribeLaunchTemplateVersions=versions,
    )
    seen = only(scanned(aws))

    def verdict(**more: Any) -> Verdict:
        return service_exposure(seen, ServiceSeen(ServiceKind.EKS_NODEGROUP, "n", **more)).verdict

    assert verdict() is Verdict.UNKNOWN
    assert verdict(group_names=("g0",)) is Verdict.ENFORCED
    assert verdict(group_names=("g0",), instance_ids=("i-1",)) is Verdict.EXPOSED
    assert verdict(group_names=("g0", "gone")) is Verdict.UNKNOWN
    assert verdict(sources=(LaunchSource("lt-1", version="$Latest"),)) is Verdict.EXPOSED


def test_the_organizations_policies_are_read_once_with_their_targets_and_what_is_in_force(fake_aws: Any) -> None:
    def listed(params: Any) -> Any:
        if params["Filter"] == "SERVICE_CONTROL_POLICY":
            return {"Policies": [{"Id": "p-FullAWSAccess", "Name": "FullAWSAccess", "AwsManaged": True}]}
        return {"Policies": [{"Id": "p-1", "Name": "imds"}]}

    aws = fake_aws(
        ListRoots={"Roots": [{"Id": "r-1", "Name": "Root"}]},
        ListAccountsForParent={"Accounts": [{"Id": "111111111111"}, {"Id": "222222222222"}]},
        ListPolicies=listed,
        DescribePolicy=lambda params: {"Policy": {"Content": f"content of {params['PolicyId']}"}},
        ListTargetsForPolicy={"Targets": [{"TargetId": "222222222222"}]},
        DescribeEffectivePolicy={"EffectivePolicy": {"PolicyContent": "{}"}},
    )
    scan = scanned(aws, ORGANIZATION)
    assert {(each.policy_id, each.aws_managed, each.content, each.targets) for each in scan.policies} == {
        ("p-FullAWSAccess", True, "content of p-FullAWSAccess", ("222222222222",)),
        ("p-1", False, "content of p-1", ("222222222222",)),
    }
    # The account beside the one that the policy is attached to is not asked for.
    assert scan.effective_policies == (("222222222222", "{}"),)


def test_policies_that_may_not_be_read_are_unknown_and_the_accounts_are_scanned(fake_aws: Any) -> None:
    refused = ServiceError("AccessDeniedException", "You don't have permissions to access this resource.", 400)
    scan = scanned(fake_aws(ListPolicies=refused), ORGANIZATION)
    assert len(scan.regions) == 2
    assert {(each.account_id, each.unseen.code) for each in scan.unseen} == {("111111111111", "AccessDeniedException")}
