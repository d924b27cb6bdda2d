"""Explain: which layer decided each option, live and from a scan, and what is only reconstructed."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.domain.exposure import Verdict
from imdsctl.domain.observations import (
    Account,
    ImageSeen,
    InstanceSeen,
    RegionSeen,
    Scan,
    Target,
    TemplateVersionSeen,
)
from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions, Switch
from imdsctl.domain.precedence import Layer
from imdsctl.fleet.explain import (
    Explanation,
    Kind,
    Parts,
    Subject,
    explain,
    from_scan,
    launch_options,
    locate,
    parse_resource,
    read_live,
)
from imdsctl.wire.errors import ServiceError

HERE = Target("111111111111", "eu-west-1")
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
REQUIRED = MetadataOptions(http_tokens=HttpTokens.REQUIRED)
OPTIONAL = MetadataOptions(http_tokens=HttpTokens.OPTIONAL)
INSTANCE_ID = "i-0123456789abcdef0"
V2 = ImageSeen("ami-1", "al2023", imds_support="v2.0")


def live(aws: Any, subject: Subject, region: str | None = "eu-west-1", account: str | None = None) -> Explanation:
    parts = asyncio.run(read_live(aws, subject, account_id=account, region=region, role="Admin"))
    return explain(subject, parts)


def refused(aws: Any, subject: Subject, **where: Any) -> str:
    with pytest.raises(DiagnosticError) as error:
        live(aws, subject, **where)
    (diagnostic,) = error.value.diagnostics
    assert diagnostic.hint
    return diagnostic.code


def template(number: int, options: dict[str, Any] | None = None, *, default: bool = False) -> dict[str, Any]:
    return {
        "LaunchTemplateId": "lt-1",
        "LaunchTemplateName": "web",
        "VersionNumber": number,
        "DefaultVersion": default,
        "LaunchTemplateData": {"ImageId": "ami-1", **({"MetadataOptions": options} if options else {})},
    }


@pytest.mark.parametrize(
    ("text", "kind", "name", "version"),
    [
        (INSTANCE_ID, Kind.INSTANCE, INSTANCE_ID, None),
        ("i-01234567", Kind.INSTANCE, "i-01234567", None),
        ("ami-0123456789abcdef0", Kind.IMAGE, "ami-0123456789abcdef0", None),
        ("lt-0123456789abcdef0", Kind.TEMPLATE, "lt-0123456789abcdef0", None),
        ("lt-0123456789abcdef0:7", Kind.TEMPLATE, "lt-0123456789abcdef0", "7"),
        ("web:$Latest", Kind.TEMPLATE, "web", "$Latest"),
        ("web", Kind.TEMPLATE, "web", None),
    ],
)
def test_a_resource_is_known_by_its_id_or_name(text: str, kind: Kind, name: str, version: str | None) -> None:
    subject, place = parse_resource(text)
    assert (subject.kind, subject.name, subject.version, place) == (kind, name, version, None)


def test_a_resource_may_be_pasted_from_the_output_of_a_scan() -> None:
    subject, place = parse_resource(f"111111111111/eu-west-1/{INSTANCE_ID}")
    assert (subject.name, place) == (INSTANCE_ID, HERE)


@pytest.mark.parametrize("text", ["", "i-xyz", "web:newest"])
def test_what_cannot_be_a_resource_is_a_usage_error(text: str) -> None:
    with pytest.raises(DiagnosticError, match="resource-invalid") as error:
        parse_resource(text)
    assert error.value.exit_code == 2


def test_a_wrong_launch_option_names_the_values_allowed() -> None:
    with pytest.raises(DiagnosticError) as error:
        launch_options({"HttpTokens": "require"})
    assert error.value.exit_code == 2
    assert error.value.diagnostics[0].hint == "use 'optional' or 'required'"


def test_every_option_names_its_layer() -> None:
    defaults = AccountDefaults(http_put_response_hop_limit=1)
    parts = Parts(HERE, "live", defaults, template=None, image=V2)
    subject = Subject(Kind.LAUNCH, launch=MetadataOptions(http_protocol_ipv6=Switch.ENABLED), image_id="ami-1")
    resolution = explain(subject, parts).resolution
    assert resolution.http_tokens.layer is Layer.IMAGE
    assert resolution.http_put_response_hop_limit.layer is Layer.ACCOUNT_DEFAULT
    assert resolution.http_protocol_ipv6.layer is Layer.LAUNCH
    assert resolution.http_endpoint.layer is Layer.BUILT_IN


def test_an_instance_shows_what_it_holds_and_what_a_relaunch_would_change() -> None:
    instance = InstanceSeen(INSTANCE_ID, "running", OPTIONAL, image_id="ami-1")
    answer = explain(Subject(Kind.INSTANCE, INSTANCE_ID), Parts(HERE, "live", AccountDefaults(), instance, image=V2))
    assert answer.exposure.verdict is Verdict.EXPOSED
    assert answer.held == OPTIONAL
    assert answer.changed_by_relaunch.http_tokens is HttpTokens.REQUIRED
    assert any("does not record" in note for note in answer.notes)


def test_an_image_that_is_gone_is_said_and_makes_the_verdict_unknown_where_it_would_decide() -> None:
    gone = ImageSeen("ami-1", found=False)
    subject = Subject(Kind.LAUNCH, image_id="ami-1")
    answer = explain(subject, Parts(HERE, "live", AccountDefaults(), image=gone))
    assert (answer.exposure.verdict, answer.image_unknown) == (Verdict.UNKNOWN, True)
    decided = explain(subject, Parts(HERE, "live", AccountDefaults(http_tokens=HttpTokens.OPTIONAL), image=gone))
    assert decided.exposure.verdict is Verdict.EXPOSED


def test_a_default_set_by_the_organization_is_said_with_its_message() -> None:
    defaults = AccountDefaults(managed_by="declarative-policy", managed_exception_message="ask the platform team")
    notes = explain(Subject(Kind.LAUNCH), Parts(HERE, "live", defaults)).notes
    assert any("declarative-policy" in note and "ask the platform team" in note for note in notes)


def test_live_a_launch_is_refused_by_enforcement(fake_aws: Any) -> None:
    aws = fake_aws(GetInstanceMetadataDefaults={"AccountLevel": {"HttpTokensEnforced": "enabled"}})
    answer = live(aws, Subject(Kind.LAUNCH, launch=OPTIONAL))
    assert answer.resolution.refused
    assert answer.exposure.verdict is Verdict.ENFORCED


def test_live_an_instance_is_explained_through_the_template_version_in_its_tags(fake_aws: Any) -> None:
    tags = [
        {"Key": "aws:ec2launchtemplate:id", "Value": "lt-1"},
        {"Key": "aws:ec2launchtemplate:version", "Value": "2"},
    ]
    raw = {"InstanceId": INSTANCE_ID, "ImageId": "ami-1", "MetadataOptions": {"HttpTokens": "optional"}, "Tags": tags}
    aws = fake_aws(
        DescribeInstances={"Reservations": [{"Instances": [raw]}]},
        DescribeLaunchTemplateVersions={
            "LaunchTemplateVersions": [template(2, {"HttpTokens": "optional"}), template(3, default=True)]
        },
        DescribeImages={"Images": [{"ImageId": "ami-1", "ImdsSupport": "v2.0"}]},
    )
    answer = live(aws, Subject(Kind.INSTANCE, INSTANCE_ID))
    assert answer.resolution.http_tokens.layer is Layer.LAUNCH_TEMPLATE
    assert answer.sources[Layer.LAUNCH_TEMPLATE].startswith("lt-1:2 web")
    assert answer.target == HERE


def test_live_a_template_means_its_default_version_unless_one_is_named(fake_aws: Any) -> None:
    versions = {"LaunchTemplateVersions": [template(1, {"HttpTokens": "optional"}, default=True), template(4)]}
    aws = fake_aws(DescribeLaunchTemplateVersions=versions, DescribeImages={"Images": [{"ImageId": "ami-1"}]})
    assert "lt-1:1 web (default)" in live(aws, Subject(Kind.TEMPLATE, "web")).sources[Layer.LAUNCH_TEMPLATE]
    latest = live(aws, Subject(Kind.TEMPLATE, "lt-1", "$Latest")).sources[Layer.LAUNCH_TEMPLATE]
    assert "lt-1:4 web (latest)" in latest


def test_live_another_account_is_entered_by_its_role(fake_aws: Any) -> None:
    aws = fake_aws()
    live(aws, Subject(Kind.LAUNCH), account="222222222222")
    assert aws.places("GetInstanceMetadataDefaults") == ["222222222222/eu-west-1"]


def test_live_what_is_missing_or_refused_is_a_diagnostic(fake_aws: Any) -> None:
    gone = ServiceError("InvalidInstanceID.NotFound", "The instance ID does not exist", 400)
    denied = ServiceError("UnauthorizedOperation", "You are not authorized", 403)
    instance = Subject(Kind.INSTANCE, INSTANCE_ID)
    assert refused(fake_aws(DescribeInstances=gone), instance) == "resource-not-found"
    assert refused(fake_aws(DescribeInstances=denied), instance) == "read-refused"
    assert refused(fake_aws(GetInstanceMetadataDefaults=denied), instance) == "read-refused"
    assert refused(fake_aws(), Subject(Kind.IMAGE, "ami-1", image_id="ami-1")) == "resource-not-found"
    no_template = ServiceError("InvalidLaunchTemplateName.NotFoundException", "does not exist", 400)
    assert refused(fake_aws(DescribeLaunchTemplateVersions=no_template), Subject(Kind.TEMPLATE, "web")) == (
        "resource-not-found"
    )
    entry = ServiceError("AccessDenied", "not authorized to assume", 403)
    assert refused(fake_aws(AssumeRole=entry), instance, account="222222222222") == "account-refused"
    assert refused(fake_aws(), instance, region="eu-west-9") == "region-unknown"


SEEN = RegionSeen(
    HERE,
    AccountDefaults(http_tokens=HttpTokens.REQUIRED),
    instances=(
        InstanceSeen(INSTANCE_ID, "running", OPTIONAL, "ami-9", launch_template_id="lt-1", launch_template_version="1"),
    ),
    templates=(TemplateVersionSeen("lt-1", "web", 1, True, True, MetadataOptions(), "ami-1"),),
    images=(V2,),
)
SCAN = Scan("s1", NOON, NOON, (Account("111111111111", "one"),), (SEEN,))


def test_a_scan_knows_where_a_resource_is() -> None:
    for text in (INSTANCE_ID, "lt-1", "web:1", "ami-1"):
        assert locate(SCAN, parse_resource(text)[0]) == HERE
    assert locate(SCAN, parse_resource("i-0aaaaaaaaaaaaaaaa")[0]) is None


def test_a_scan_answers_without_asking_aws() -> None:
    subject, _ = parse_resource(INSTANCE_ID)
    answer = explain(subject, from_scan(SCAN, subject, None))
    assert (answer.source, answer.held) == ("s1", OPTIONAL)
    assert answer.resolution.http_tokens.layer is Layer.ACCOUNT_DEFAULT
    # The scan did not look up the image of an instance, so it must not be taken for one without v2.0.
    assert answer.image_unknown
    assert answer.sources[Layer.IMAGE].endswith("(not seen by the scan)")


@pytest.mark.parametrize("text", ["i-0aaaaaaaaaaaaaaaa", "web:7", "ami-2"])
def test_what_a_scan_did_not_see_is_a_diagnostic(text: str) -> None:
    subject, _ = parse_resource(text)
    with pytest.raises(DiagnosticError, match="resource-not-found"):
        from_scan(SCAN, subject, HERE)


def test_a_default_that_the_scan_could_not_read_is_not_taken_for_none() -> None:
    unread = Scan("s1", NOON, NOON, SCAN.accounts, (RegionSeen(HERE, None, images=(V2,)),))
    with pytest.raises(DiagnosticError, match="read-refused"):
        from_scan(unread, parse_resource("ami-1")[0], HERE)
