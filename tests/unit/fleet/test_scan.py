"""The sweep: what it sees, and that what it could not see is never called clean."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.domain.exposure import Verdict
from imdsctl.domain.observations import ImageSeen, RegionSeen, Scan, Target
from imdsctl.domain.options import HttpTokens
from imdsctl.domain.planner_region import LAUNCH_PARTS
from imdsctl.domain.verdicts import scan_summary, target_summary, template_exposure
from imdsctl.fleet.events import AccountEntered, AccountsFound, AccountSkipped, Event, TargetRead
from imdsctl.fleet.memory_store import MemoryStore
from imdsctl.fleet.ports import Unreachable
from imdsctl.fleet.scan import header_of, sweep
from imdsctl.fleet.selection import Selection
from imdsctl.fleet.services import READERS
from imdsctl.fleet.target_reader import PublicImages, read_target
from imdsctl.fleet.targets import find_accounts
from imdsctl.wire.errors import ServiceError

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
DENIED = ServiceError("UnauthorizedOperation", "You are not authorized to perform this operation.", 403)
ONE = Selection(current_account=True, regions=("eu-west-1",))


def scanned(aws: Any, selection: Selection = ONE, events: list[Event] | None = None) -> Scan:
    async def run() -> Scan:
        visit = await find_accounts(aws, selection)
        tell = events.append if events is not None else lambda event: None
        writer = MemoryStore().begin(header_of(selection, visit, scan_id="s1", started=NOON))
        return await sweep(aws, selection, visit, writer, now=lambda: NOON, tell=tell, services={})

    return asyncio.run(run())


def only(scan: Scan) -> RegionSeen:
    (region,) = scan.regions
    return region


def instance(instance_id: str = "i-1", tokens: str = "optional", **more: Any) -> dict[str, Any]:
    return {
        "InstanceId": instance_id,
        "State": {"Name": "running"},
        "MetadataOptions": {"State": "applied", "HttpTokens": tokens, "HttpEndpoint": "enabled"},
        "ImageId": "ami-1",
        **more,
    }


def page(*instances: dict[str, Any]) -> dict[str, Any]:
    return {"Reservations": [{"Instances": [each]} for each in instances]}


def version(number: int, tokens: str | None = None, *, default: bool = False, **data: Any) -> dict[str, Any]:
    options = {"MetadataOptions": {"HttpTokens": tokens}} if tokens else {}
    return {
        "LaunchTemplateId": "lt-1",
        "LaunchTemplateName": "web",
        "VersionNumber": number,
        "DefaultVersion": default,
        "LaunchTemplateData": {**options, **data},
    }


def from_template(number: int) -> dict[str, Any]:
    return {
        "Tags": [
            {"Key": "aws:ec2launchtemplate:id", "Value": "lt-1"},
            {"Key": "aws:ec2launchtemplate:version", "Value": str(number)},
        ]
    }


def by_id(params: Mapping[str, Any]) -> list[str]:
    """The image ids that a DescribeImages filters by."""
    return [
        each for filter_ in params.get("Filters", ()) if filter_["Name"] == "image-id" for each in filter_["Values"]
    ]


# The four defects of scanners that this tool must not have.


def test_a_template_is_judged_by_each_version_that_can_launch_not_by_the_best_one(fake_aws: Any) -> None:
    """Defect 1: a required version somewhere does not excuse a default version that allows IMDSv1."""
    aws = fake_aws(
        DescribeLaunchTemplateVersions={
            "LaunchTemplateVersions": [version(1, "optional", default=True), version(2, "required")]
        }
    )
    seen = only(scanned(aws))
    verdicts = {each.version: template_exposure(seen, each).verdict for each in seen.templates}
    assert verdicts == {1: Verdict.EXPOSED, 2: Verdict.ENFORCED}
    assert [(each.is_default, each.is_latest) for each in seen.templates] == [(True, False), (False, True)]


def test_a_template_without_options_is_resolved_through_default_and_image(fake_aws: Any) -> None:
    """Defect 1, second half: no MetadataOptions does not mean that the metadata service is off."""
    aws = fake_aws(
        DescribeLaunchTemplateVersions={"LaunchTemplateVersions": [version(1, default=True, ImageId="ami-1")]},
        DescribeImages=lambda params: {"Images": [{"ImageId": each} for each in by_id(params)]},
    )
    seen = only(scanned(aws))
    assert template_exposure(seen, seen.templates[0]).verdict is Verdict.EXPOSED


def test_an_empty_region_without_a_default_is_exposed(fake_aws: Any) -> None:
    """Defect 2: the Region where nobody has launched yet is where the next one launches."""
    summary = target_summary(only(scanned(fake_aws())))
    assert summary.default.verdict is Verdict.EXPOSED
    assert summary.instances.total == 0


def test_a_denied_default_is_unknown_with_awss_words(fake_aws: Any) -> None:
    """Defect 3: a Region whose default cannot be read must not drop out of the report."""
    scan = scanned(fake_aws(GetInstanceMetadataDefaults=DENIED))
    assert target_summary(only(scan)).default.verdict is Verdict.UNKNOWN
    (unknown,) = scan_summary(scan).unknowns
    assert unknown.subject == "111111111111/eu-west-1"
    assert (unknown.unseen.what, unknown.unseen.code) == ("defaults", "UnauthorizedOperation")
    assert unknown.unseen.reason == DENIED.message


def test_the_default_is_read_in_every_region_of_every_account(fake_aws: Any) -> None:
    """Defect 4: the default belongs to the account in that Region, not to the account."""
    aws = fake_aws(
        **{"222222222222/eu-west-1 GetInstanceMetadataDefaults": {"AccountLevel": {"HttpTokensEnforced": "enabled"}}}
    )
    scan = scanned(aws, Selection())
    assert aws.places("GetInstanceMetadataDefaults") == [
        "111111111111/eu-west-1",
        "111111111111/us-east-1",
        "222222222222/eu-west-1",
        "222222222222/us-east-1",
    ]
    verdicts = {str(each.target): each.default.verdict for each in scan_summary(scan).targets}
    assert [place for place, verdict in verdicts.items() if verdict is Verdict.ENFORCED] == ["222222222222/eu-west-1"]


# What cannot be seen.


@pytest.mark.parametrize(
    ("operation", "what"),
    [
        ("GetInstanceMetadataDefaults", "defaults"),
        ("DescribeInstances", "instances"),
        ("DescribeLaunchTemplateVersions", "templates"),
        ("DescribeImages", "images"),
        ("DescribeLaunchConfigurations", "launch configurations"),
        ("DescribeAutoScalingGroups", "Auto Scaling groups"),
        ("DescribeFleets", "EC2 Fleets"),
        ("DescribeSpotFleetRequests", "Spot Fleet requests"),
        ("DescribeSpotInstanceRequests", "Spot requests"),
    ],
)
@pytest.mark.parametrize("error", [DENIED, Unreachable("ec2.eu-west-1", "the reply was cut", "try again")])
def test_a_part_that_is_refused_is_unknown_and_the_others_are_read(
    fake_aws: Any, operation: str, what: str, error: Exception
) -> None:
    aws = fake_aws(**{"DescribeInstances": page(instance()), operation: error})
    seen = only(scanned(aws))
    # The same call reads the account's own images and those that instances name.
    assert [each.what for each in seen.unseen] == [what, *(["images in use"] if what == "images" else [])]
    assert (seen.defaults is None) is (what == "defaults")
    assert bool(seen.instances) is (what != "instances")


def test_the_parts_of_a_region_that_need_no_other_are_asked_for_at_once(fake_aws: Any) -> None:
    class Far:
        """Answers only when nothing more is asked: a part that waited for another's answer would come too late."""

        default_region = "us-east-1"

        def __init__(self) -> None:
            self.aws = fake_aws(DescribeLaunchTemplateVersions={"LaunchTemplateVersions": [version(1, default=True)]})
            self.rounds: list[set[str]] = []
            self.waiting: set[str] = set()

        async def call(self, *args: Any) -> Any:
            self.waiting.add(args[3])
            for _ in range(20):  # turns of the event loop, not time
                await asyncio.sleep(0)
            if self.waiting:
                self.rounds.append(set(self.waiting))
                self.waiting.clear()
            return await self.aws.call(*args)

        async def paginate(self, *args: Any) -> AsyncIterator[Any]:
            yield await self.call(*args)

    far = Far()
    asyncio.run(read_target(far, None, Target("111111111111", "eu-west-1"), PublicImages()))
    first, *later = far.rounds
    assert first == {
        "GetInstanceMetadataDefaults",
        "DescribeInstances",
        "DescribeLaunchConfigurations",
        "DescribeAutoScalingGroups",
        "DescribeFleets",
        "DescribeSpotFleetRequests",
        "DescribeSpotInstanceRequests",
        "DescribeLaunchTemplateVersions",
        "DescribeImages",
    }
    assert later == [{"DescribeLaunchTemplates"}]


def test_what_is_unseen_is_told_in_one_order_whichever_part_answers_first(fake_aws: Any) -> None:
    refused = ("GetInstanceMetadataDefaults", "DescribeInstances", "DescribeFleets", "DescribeImages")
    region = only(scanned(fake_aws(**dict.fromkeys(refused, DENIED))))
    assert [each.what for each in region.unseen] == ["defaults", "instances", "EC2 Fleets", "images"]


def test_a_refusal_on_the_second_page_keeps_the_first_and_says_so(fake_aws: Any) -> None:
    seen = only(scanned(fake_aws(DescribeInstances=[page(instance()), DENIED])))
    assert [each.instance_id for each in seen.instances] == ["i-1"]
    assert target_summary(seen).instances.unknown == 1


def test_a_value_that_aws_invents_tomorrow_is_unknown_not_a_crash(fake_aws: Any) -> None:
    aws = fake_aws(DescribeInstances=page(instance(tokens="quantum"), instance("i-2", "required")))
    summary = target_summary(only(scanned(aws)))
    assert (summary.instances.enforced, summary.instances.unknown) == (1, 1)


def test_an_account_that_refuses_the_role_is_data_and_the_others_are_scanned(fake_aws: Any) -> None:
    refused = ServiceError("AccessDenied", "User: me is not authorized to perform: sts:AssumeRole", 403)
    scan = scanned(fake_aws(**{"222222222222 AssumeRole": refused}), Selection())
    assert {each.target.account_id for each in scan.regions} == {"111111111111"}
    (unknown,) = scan_summary(scan).unknowns
    assert unknown.subject == "222222222222"
    assert "sts:AssumeRole" in unknown.unseen.reason
    assert unknown.unseen.code == "AccessDenied"


def test_a_bug_stops_the_run(fake_aws: Any) -> None:
    with pytest.raises(BaseExceptionGroup):
        scanned(fake_aws(DescribeInstances=ZeroDivisionError("a bug")))


# Instances.


def test_every_page_is_read_and_managed_instances_too(fake_aws: Any) -> None:
    managed = instance("i-2", Operator={"Managed": True, "Principal": "eks.amazonaws.com"})
    aws = fake_aws(DescribeInstances=[page(instance("i-1")), page(), page(managed)])
    seen = only(scanned(aws))
    assert [(each.instance_id, each.managed_by) for each in seen.instances] == [
        ("i-1", None),
        ("i-2", "eks.amazonaws.com"),
    ]
    (params,) = [params for _, _, operation, params in aws.asked if operation == "DescribeInstances"]
    assert params["IncludeManagedResources"] is True
    assert params["MaxResults"] == 1000
    assert "terminated" not in params["Filters"][0]["Values"]


def test_an_instance_with_its_endpoint_off_is_not_exposed(fake_aws: Any) -> None:
    off = {"HttpTokens": "optional", "HttpEndpoint": "disabled", "HttpPutResponseHopLimit": 5}
    seen = only(scanned(fake_aws(DescribeInstances=page(instance(MetadataOptions=off)))))
    assert target_summary(seen).instances.enforced == 1
    assert seen.instances[0].options.http_tokens is HttpTokens.OPTIONAL


def test_a_change_under_way_is_seen(fake_aws: Any) -> None:
    pending = {"HttpTokens": "required", "State": "pending"}
    seen = only(scanned(fake_aws(DescribeInstances=page(instance(MetadataOptions=pending)))))
    assert seen.instances[0].options_pending


# Templates and images.


def test_a_version_that_an_instance_runs_from_is_read_besides_default_and_latest(fake_aws: Any) -> None:
    def versions(params: Any) -> Any:
        if "LaunchTemplateId" not in params:
            return {"LaunchTemplateVersions": [version(3, "required", default=True), version(5, "required")]}
        assert params["Versions"] == ["2"]
        return {"LaunchTemplateVersions": [version(2, "optional")]}

    aws = fake_aws(
        DescribeInstances=page(instance(**from_template(2)), instance("i-2", **from_template(5))),
        DescribeLaunchTemplateVersions=versions,
    )
    seen = only(scanned(aws))
    assert [(each.version, each.in_use, each.is_latest) for each in seen.templates] == [
        (3, False, False),
        (5, True, True),
        (2, True, False),
    ]


def test_a_version_that_was_deleted_can_launch_nothing_and_hides_no_other(fake_aws: Any) -> None:
    def versions(params: Any) -> Any:
        if "LaunchTemplateId" not in params:
            return {"LaunchTemplateVersions": [version(9, "required", default=True)]}
        if "2" in params["Versions"]:
            return ServiceError("InvalidLaunchTemplateId.VersionNotFound", "Could not find version 2", 400)
        return {"LaunchTemplateVersions": [version(4, "optional")]}

    aws = fake_aws(
        DescribeInstances=page(instance(**from_template(2)), instance("i-2", **from_template(4))),
        DescribeLaunchTemplateVersions=versions,
    )
    seen = only(scanned(aws))
    assert sorted(each.version for each in seen.templates) == [4, 9]
    assert seen.unseen == ()


def test_a_template_that_was_deleted_is_not_asked_for(fake_aws: Any) -> None:
    aws = fake_aws(DescribeInstances=page(instance(**from_template(1))))
    assert only(scanned(aws)).unseen == ()
    assert len(aws.places("DescribeLaunchTemplateVersions")) == 1


def test_an_image_that_is_gone_is_seen_as_gone_and_hides_no_other(fake_aws: Any) -> None:
    def images(params: Any) -> Any:
        if params.get("Owners") == ["self"]:
            return {"Images": [{"ImageId": "ami-0own", "ImdsSupport": "v2.0"}]}
        return {"Images": [{"ImageId": each} for each in by_id(params) if each != "ami-0gone"]}

    named = [
        version(1, default=True, ImageId="ami-0gone"),
        {**version(1, default=True, ImageId="ami-0there"), "LaunchTemplateId": "lt-2"},
        {**version(1, default=True, ImageId="resolve:ssm:/ami"), "LaunchTemplateId": "lt-3"},
    ]
    aws = fake_aws(DescribeLaunchTemplateVersions={"LaunchTemplateVersions": named}, DescribeImages=images)
    seen = only(scanned(aws))
    assert {each.image_id: (each.found, each.owned) for each in seen.images} == {
        "ami-0own": (True, True),
        "ami-0gone": (False, False),
        "ami-0there": (True, False),
    }
    verdicts = [template_exposure(seen, each).verdict for each in seen.templates]
    assert verdicts == [Verdict.UNKNOWN, Verdict.EXPOSED, Verdict.UNKNOWN]


@pytest.mark.parametrize(
    ("refusal", "why"),
    [(DENIED, "UnauthorizedOperation"), (Unreachable("ec2.eu-west-1", "cut", "try again"), "Unreachable")],
)
def test_an_image_that_nobody_may_look_at_is_not_called_missing(fake_aws: Any, refusal: Exception, why: str) -> None:
    named = {"LaunchTemplateVersions": [version(1, default=True, ImageId="ami-1")]}
    seen = only(scanned(fake_aws(DescribeLaunchTemplateVersions=named, DescribeImages=refusal)))
    exposure = template_exposure(seen, seen.templates[0])
    assert exposure.verdict is Verdict.UNKNOWN
    assert exposure.reason == f"image ami-1 was not read ({why}), and nothing stronger decides"
    assert exposure.quoted == ("ami-1",)


def test_a_public_image_is_looked_up_once_for_all_accounts_of_a_region(fake_aws: Any) -> None:
    def images(params: Any) -> Any:
        if by_id(params):
            return {"Images": [{"ImageId": "ami-1", "Public": True, "ImdsSupport": "v2.0"}]}
        return {}

    templates = {"LaunchTemplateVersions": [version(1, default=True, ImageId="ami-1")]}
    aws = fake_aws(DescribeLaunchTemplateVersions=templates, DescribeImages=images)
    scan = scanned(aws, Selection(regions=("eu-west-1",)))
    assert [each.images for each in scan.regions] == [(ImageSeen("ami-1", imds_support="v2.0"),)] * 2
    assert sum(operation == "DescribeImages" and bool(by_id(params)) for _, _, operation, params in aws.asked) == 1


# Events, order and record.


def test_the_listener_hears_of_every_account_and_target(fake_aws: Any) -> None:
    events: list[Event] = []
    refused = ServiceError("AccessDenied", "no", 403)
    scanned(fake_aws(**{"222222222222 AssumeRole": refused}), Selection(), events)
    kinds = [type(each) for each in events]
    assert kinds[0] is AccountsFound
    assert (kinds.count(AccountEntered), kinds.count(AccountSkipped), kinds.count(TargetRead)) == (1, 1, 2)


def test_a_scan_records_its_scope_its_calls_and_a_stable_order(fake_aws: Any) -> None:
    aws = fake_aws()
    scan = scanned(aws, Selection(exclude_regions=("us-east-1",)))
    assert scan.scope == (("exclude-regions", "us-east-1"),)
    assert [str(each.target) for each in scan.regions] == ["111111111111/eu-west-1", "222222222222/eu-west-1"]
    # Per target one call for each surface; per account its Regions; and one role, and two kinds of policies.
    assert scan.calls == 2 * 9 + 2 + 1 + 2


def test_wrong_credentials_end_the_command_before_it_begins(fake_aws: Any) -> None:
    invalid = ServiceError("InvalidClientTokenId", "The security token included in the request is invalid.", 403)
    with pytest.raises(DiagnosticError, match="credentials-refused"):
        scanned(fake_aws(GetCallerIdentity=invalid))


def test_the_planner_knows_by_their_names_the_services_that_launch_in_the_account() -> None:
    """Enforcement waits until they were read: their names stand in two places, a pure one and this one."""
    assert {READERS[each].what for each in ("beanstalk", "eks", "emr", "imagebuilder")} < LAUNCH_PARTS
