"""What apply, rollback and the launches' DryRuns do in the local AWS, beside what boto3 sees of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeVar

import pytest

from imdsctl.adapters.aws import open_aws
from imdsctl.adapters.clock import SystemClock
from imdsctl.domain.intent import Intent
from imdsctl.domain.journal import Entry, Fold, Progress
from imdsctl.domain.observations import Account, ImageSeen, RegionSeen, Scan, Target, TemplateVersionSeen
from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions, Switch
from imdsctl.domain.plan import Change, Plan, Stage, Surface, plan_from_plain, plan_to_plain
from imdsctl.domain.planner import make_plan
from imdsctl.fleet.apply import Applying
from imdsctl.fleet.apply_report import Outcome, Report
from imdsctl.fleet.launch_dry_run import Launches, dry_runs
from imdsctl.fleet.ports import Aws
from imdsctl.fleet.rollback import RollingBack
from imdsctl.fleet.selection import ROLE_NAME
from imdsctl.fleet.sessions import Sessions
from imdsctl.fleet.targets import who_am_i

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
GUARDRAIL = {
    "Version": "2012-10-17",
    "Statement": {
        "Effect": "Deny",
        "Action": "ec2:RunInstances",
        "Resource": "arn:aws:ec2:*:*:instance/*",
        "Condition": {"StringNotEqualsIfExists": {"ec2:MetadataHttpTokens": "required"}},
    },
}

T = TypeVar("T")


class MemoryJournal:
    def __init__(self) -> None:
        self.fold = Fold()

    @property
    def progress(self) -> Progress:
        return self.fold.progress

    async def append(self, entry: Entry) -> None:
        self.fold.add(entry)


@pytest.fixture
def inside(aws_shell: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Aws, Sessions], Awaitable[T]]], T]:
    """Runs something with the program's own client and credentials."""
    for name, value in aws_shell.env.items():
        if name.startswith(("AWS_", "HOME")):
            monkeypatch.setenv(name, value)

    def run(work: Callable[[Aws, Sessions], Awaitable[T]]) -> T:
        async def with_client() -> T:
            async with open_aws() as aws:
                return await work(aws, Sessions(aws, await who_am_i(aws), ROLE_NAME, lambda: datetime.now(UTC)))

        return asyncio.run(with_client())

    return run


# Auto Scaling groups


def refresh_of(target: Target, name: str, instances: list[str]) -> Plan:
    change = Change(
        id=f"{target}/auto-scaling-group/{name}/refresh",
        stage=Stage.REFRESHES,
        surface=Surface.AUTO_SCALING_GROUP,
        target=target,
        resource=name,
        before={"Instances": instances},
        after={"Instances": []},
        reason="its instances answer IMDSv1",
    )
    plan = Plan("s", "", NOW, Intent(), (change,))
    return plan_from_plain(plan_to_plain(plan))


def test_a_refresh_replaces_every_instance_once(place: Any, client: Any, inside: Any) -> None:
    autoscaling = client("autoscaling", place.region)
    data = {"ImageId": place.image_without, "InstanceType": "t3.micro"}
    template = place.ec2.create_launch_template(LaunchTemplateName="refreshed", LaunchTemplateData=data)
    source = {"LaunchTemplateId": template["LaunchTemplate"]["LaunchTemplateId"], "Version": "$Default"}
    subnet = place.ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    group = {"AutoScalingGroupName": "refreshed", "MinSize": 2, "MaxSize": 4, "DesiredCapacity": 2}
    autoscaling.create_auto_scaling_group(**group, LaunchTemplate=source, VPCZoneIdentifier=subnet)

    def members() -> list[str]:
        (found,) = autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=["refreshed"])["AutoScalingGroups"]
        return sorted(each["InstanceId"] for each in found["Instances"])

    before = members()
    place.ec2.modify_instance_metadata_defaults(HttpTokens="required")
    plan, journal = refresh_of(Target(place.account_id, place.region), "refreshed", before), MemoryJournal()

    async def apply(aws: Aws, enter: Sessions) -> Report:
        return await Applying(plan, aws, enter, journal, SystemClock()).run()

    assert inside(apply).done
    after = members()
    assert len(after) == 2
    assert not set(before) & set(after)
    assert {place.instance(each)["MetadataOptions"]["HttpTokens"] for each in after} == {"required"}
    assert [each.outcome for each in inside(apply).results] == [Outcome.EARLIER]
    # Another operator with the same plan and no journal: what was to be replaced is gone.
    journal = MemoryJournal()
    assert [each.outcome for each in inside(apply).results] == [Outcome.ALREADY]
    refreshes = autoscaling.describe_instance_refreshes(AutoScalingGroupName="refreshed")["InstanceRefreshes"]
    assert [each["Status"] for each in refreshes] == ["Successful"]


# Launch templates


def test_a_default_that_the_intent_keeps_stays_in_aws_and_the_new_version_is_made_once(place: Any, inside: Any) -> None:
    target = Target(place.account_id, place.region)
    template = made(place.ec2, "kept", place.image_without, "optional")

    def versions() -> list[tuple[int, bool, str]]:
        found = place.ec2.describe_launch_template_versions(LaunchTemplateId=template)["LaunchTemplateVersions"]
        return sorted(
            (each["VersionNumber"], each["DefaultVersion"], each["LaunchTemplateData"]["MetadataOptions"]["HttpTokens"])
            for each in found
        )

    enforced = AccountDefaults(HttpTokens.REQUIRED, 2, http_tokens_enforced=Switch.ENABLED)
    scan = region_with(target, enforced, (template, "optional"), image=place.image_without)
    plan = plan_from_plain(plan_to_plain(make_plan(scan, Intent(move_default=False), made_at=NOW)))
    journal = MemoryJournal()

    async def apply(aws: Aws, enter: Sessions) -> Report:
        return await Applying(plan, aws, enter, journal, SystemClock()).run()

    assert inside(apply).done
    after = [(1, True, "optional"), (2, False, "required")]
    assert versions() == after
    first = journal
    # Another operator with the same plan and no journal finds the version and makes no second one.
    journal = MemoryJournal()
    assert inside(apply).done
    assert versions() == after

    async def back(aws: Aws, enter: Sessions) -> Report:
        only = frozenset(change.id for change in plan.ready)
        return await RollingBack(plan, aws, enter, first, SystemClock(), only, delete_versions=True).run()

    assert inside(back).done
    assert versions() == after[:1]


# DryRun launches


def region_with(target: Target, defaults: AccountDefaults, *templates: tuple[str, str | None], image: str) -> Scan:
    versions = tuple(
        TemplateVersionSeen(
            name,
            name,
            1,
            is_default=True,
            is_latest=True,
            options=MetadataOptions(http_tokens=HttpTokens(tokens) if tokens else None),
            image_id=image,
        )
        for name, tokens in templates
    )
    region = RegionSeen(target, defaults, templates=versions, images=(ImageSeen(image),))
    return Scan("s", NOW, NOW, (Account(target.account_id, ""),), (region,))


def made(ec2: Any, name: str, image: str, tokens: str | None) -> str:
    data = {"ImageId": image, "InstanceType": "t3.micro"}
    data |= {"MetadataOptions": {"HttpTokens": tokens}} if tokens else {}
    template = ec2.create_launch_template(LaunchTemplateName=name, LaunchTemplateData=data)
    return str(template["LaunchTemplate"]["LaunchTemplateId"])


def test_dry_runs_say_what_is_proven_and_what_is_predicted(
    place: Any, client: Any, accounts: list[dict[str, Any]], inside: Any
) -> None:
    target = Target(place.account_id, place.region)
    image = place.image_without
    required, silent = made(place.ec2, "required", image, "required"), made(place.ec2, "silent", image, None)
    before = place.ec2.describe_instances()["Reservations"]
    unset = AccountDefaults()
    enforced = AccountDefaults(HttpTokens.REQUIRED, 2, http_tokens_enforced=Switch.ENABLED)

    def launches(scan: Scan) -> dict[str, Launches]:
        async def ask(aws: Aws, enter: Sessions) -> dict[str, Launches]:
            return {each.resource: each.launches for each in await dry_runs(aws, enter, scan)}

        return dict(inside(ask))

    def scan(defaults: AccountDefaults) -> Scan:
        return region_with(target, defaults, (required, "required"), (silent, None), image=image)

    assert launches(scan(unset)) == {required: Launches.V1, silent: Launches.V1}
    assert launches(scan(enforced)) == dict.fromkeys((required, silent), Launches.V2_BY_ENFORCEMENT)
    without_default = replace(enforced, http_tokens=None)
    assert launches(scan(without_default)) == {required: Launches.V2_BY_ENFORCEMENT, silent: Launches.REFUSED}
    (seen,) = scan(enforced).regions
    unseen = replace(scan(enforced), regions=(replace(seen, defaults=None),))
    assert launches(unseen) == dict.fromkeys((required, silent), Launches.UNKNOWN)
    assert place.ec2.describe_instances()["Reservations"] == before


def test_a_service_control_policy_is_proven_by_a_dry_run(
    client: Any, accounts: list[dict[str, Any]], inside: Any
) -> None:
    management = client("sts").get_caller_identity()["Account"]
    account = next(each["Id"] for each in reversed(accounts) if each["State"] == "ACTIVE" and each["Id"] != management)
    arn = f"arn:aws:iam::{account}:role/{ROLE_NAME}"
    credentials = client("sts").assume_role(RoleArn=arn, RoleSessionName="scp")["Credentials"]
    ec2 = client("ec2", "sa-east-1", credentials)
    image = max(ec2.describe_images(Owners=["amazon"])["Images"], key=lambda each: each["Name"])["ImageId"]
    template = made(ec2, "guarded", image, "required")
    scan = region_with(Target(account, "sa-east-1"), AccountDefaults(), (template, "required"), image=image)

    async def ask(aws: Aws, enter: Sessions) -> list[Launches]:
        return [each.launches for each in await dry_runs(aws, enter, scan)]

    organizations = client("organizations")
    assert inside(ask) == [Launches.V1]
    policy = organizations.create_policy(
        Name="imdsv2-launches", Description="", Type="SERVICE_CONTROL_POLICY", Content=json.dumps(GUARDRAIL)
    )["Policy"]["PolicySummary"]["Id"]
    organizations.attach_policy(PolicyId=policy, TargetId=account)
    try:
        assert inside(ask) == [Launches.V2_BY_POLICY]
    finally:
        organizations.detach_policy(PolicyId=policy, TargetId=account)
        organizations.delete_policy(PolicyId=policy)
