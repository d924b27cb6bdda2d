"""What boto3 makes, the scan sees and judges: launch configurations, groups, fleets and Spot requests."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from imdsctl.adapters.aws import AwsClient
from imdsctl.adapters.profile import Profile
from imdsctl.domain.exposure import Verdict
from imdsctl.domain.launches import configuration_exposure, fleet_exposure, group_exposure
from imdsctl.domain.observations import FleetKind, RegionSeen
from imdsctl.fleet.memory_store import MemoryStore
from imdsctl.fleet.scan import header_of, sweep
from imdsctl.fleet.selection import Selection
from imdsctl.fleet.targets import find_accounts

REQUIRED = {"HttpTokens": "required"}


def scanned(place: Any, monkeypatch: pytest.MonkeyPatch) -> RegionSeen:
    """The place, as a scan through our own client sees it."""
    for name, value in place.shell.env.items():
        if name.startswith("AWS_"):
            monkeypatch.setenv(name, value)
    selection = Selection(current_account=True, regions=(place.region,))

    async def run() -> RegionSeen:
        client = AwsClient(Profile(None))
        try:
            visit = await find_accounts(client, selection)
            now = datetime.now(UTC)
            writer = MemoryStore().begin(header_of(selection, visit, scan_id="s", started=now))
            (seen,) = (await sweep(client, selection, visit, writer, now=lambda: now, services={})).regions
            return seen
        finally:
            await client.aclose()

    return asyncio.run(run())


def test_every_launch_source_that_boto3_makes_is_seen_and_judged(
    place: Any, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent, safe = place.image_without, place.image_with_v2
    before = scanned(place, monkeypatch)
    template = place.ec2.create_launch_template(
        LaunchTemplateName="mine", LaunchTemplateData={"ImageId": silent, "InstanceType": "m5.large"}
    )["LaunchTemplate"]["LaunchTemplateId"]
    for options in (REQUIRED, {"HttpTokens": "optional"}):
        place.ec2.create_launch_template_version(
            LaunchTemplateId=template, SourceVersion="1", LaunchTemplateData={"MetadataOptions": options}
        )
    asg = client("autoscaling", place.region)
    for name, options in (("unused", {}), ("used", {"MetadataOptions": REQUIRED})):
        asg.create_launch_configuration(
            LaunchConfigurationName=name, ImageId=silent, InstanceType="t3.micro", **options
        )
    common = {"MinSize": 0, "MaxSize": 1, "AvailabilityZones": [f"{place.region}a"]}
    named = {"LaunchTemplateId": template}
    sources: dict[str, dict[str, Any]] = {
        "by-configuration": {"LaunchConfigurationName": "used"},
        "by-version-2": {"LaunchTemplate": {**named, "Version": "2"}},
        "by-default": {"LaunchTemplate": named},
        "by-override": {
            "MixedInstancesPolicy": {
                "LaunchTemplate": {
                    "LaunchTemplateSpecification": {**named, "Version": "2"},
                    "Overrides": [
                        {"InstanceType": "t3.micro"},
                        {"InstanceType": "m5.large", "LaunchTemplateSpecification": {**named, "Version": "$Latest"}},
                    ],
                }
            }
        },
    }
    for name, source in sources.items():
        asg.create_auto_scaling_group(AutoScalingGroupName=name, **source, **common)
    place.ec2.create_fleet(
        Type="maintain",
        LaunchTemplateConfigs=[{"LaunchTemplateSpecification": {**named, "Version": "2"}}],
        TargetCapacitySpecification={"TotalTargetCapacity": 0, "DefaultTargetCapacityType": "spot"},
    )
    for kind, image in (("persistent", silent), ("persistent", safe), ("one-time", silent)):
        place.ec2.request_spot_instances(Type=kind, LaunchSpecification={"ImageId": image, "InstanceType": "t3.micro"})

    seen = scanned(place, monkeypatch)
    assert seen.unseen == ()
    configurations = {each.name: each for each in seen.configurations}
    assert (configurations["unused"].in_use, configurations["used"].in_use) == (False, True)
    assert configuration_exposure(seen, configurations["unused"]).verdict is Verdict.EXPOSED
    groups = {each.name: group_exposure(seen, each).verdict for each in seen.groups if each.name in sources}
    assert groups == {
        "by-configuration": Verdict.ENFORCED,
        "by-version-2": Verdict.ENFORCED,
        "by-default": Verdict.EXPOSED,
        "by-override": Verdict.EXPOSED,
    }
    assert {each.version: each.in_use for each in seen.templates if each.template_id == template} == {
        1: True,
        2: True,
        3: True,
    }
    known = {each.fleet_id for each in before.fleets}
    made = [(each.kind, fleet_exposure(seen, each).verdict) for each in seen.fleets if each.fleet_id not in known]
    assert sorted(made) == [
        (FleetKind.EC2_FLEET, Verdict.ENFORCED),
        (FleetKind.SPOT_REQUEST, Verdict.ENFORCED),
        (FleetKind.SPOT_REQUEST, Verdict.EXPOSED),
    ]


def test_the_generated_fleet_has_the_groups_that_its_instances_are_tagged_with(
    aws_shell: Any, client: Any, monkeypatch: pytest.MonkeyPatch, places: Any
) -> None:
    place = next(places)
    seen = scanned(place, monkeypatch)
    while not seen.instances:  # some Regions are empty
        place = next(places)
        seen = scanned(place, monkeypatch)
    tagged = {
        value: each.instance_id
        for each in seen.instances
        for key, value in each.tags
        if key == "aws:autoscaling:groupName" and each.state == "running"
    }
    groups = {each.name: each for each in seen.groups}
    assert {"ecs-hosts", "web-blue", "web-mixed"} <= groups.keys()
    assert all(instance_id in groups[name].instance_ids for name, instance_id in tagged.items())
    assert [each.name for each in seen.configurations if each.in_use] == ["web-blue"]
