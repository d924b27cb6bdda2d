"""What is different between two scans, as a table of cases: before, after, what is said."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from imdsctl.domain.diff import PLACE, Difference, Happened, Option, diff
from imdsctl.domain.exposure import Verdict
from imdsctl.domain.observations import (
    Account,
    AccountUnseen,
    GroupSeen,
    ImageSeen,
    InstanceSeen,
    LaunchSource,
    RegionSeen,
    Scan,
    ServiceKind,
    ServiceSeen,
    Target,
    TemplateVersionSeen,
    Unseen,
)
from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions, Switch
from imdsctl.domain.verdicts import Count

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
SHOP, BANK = "111111111111", "222222222222"
HERE = Target(SHOP, "eu-west-1")
V1 = MetadataOptions(HttpTokens.OPTIONAL, 1)
V2 = MetadataOptions(HttpTokens.REQUIRED, 1)
NOTHING = MetadataOptions()
DENIED = Unseen("instances", "You are not authorized", "UnauthorizedOperation")


def scan(
    *regions: RegionSeen, unseen: tuple[AccountUnseen, ...] = (), accounts: tuple[str, ...] = (SHOP, BANK)
) -> Scan:
    listed = tuple(Account(account_id, "") for account_id in accounts)
    return Scan("s", NOON, NOON + timedelta(hours=1), listed, regions, unseen)


def region(*instances: InstanceSeen, target: Target = HERE, **parts: object) -> RegionSeen:
    return RegionSeen(target, AccountDefaults(), instances, **parts)  # type: ignore[arg-type]


def instance(options: MetadataOptions, name: str = "i-1") -> InstanceSeen:
    return InstanceSeen(name, "running", options, tags=(("Name", "web"),))


def said(before: RegionSeen, after: RegionSeen) -> list[tuple[str, str, str]]:
    return [(each.kind, each.resource, str(each.happened)) for each in diff(scan(before), scan(after))]


I1 = ("instance", "i-1")
DEFAULT = ("region-default", "eu-west-1")


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (region(), region(), []),
        (region(instance(V1)), region(instance(V1)), []),
        (region(instance(V1)), region(instance(V2)), [(*I1, "became enforced")]),
        (region(instance(V2)), region(instance(V1)), [(*I1, "became exposed")]),
        (region(instance(V1)), region(instance(NOTHING)), [(*I1, "became unknown")]),
        (region(instance(V1)), region(), [(*I1, "vanished")]),
        (region(), region(instance(V1)), [(*I1, "appeared")]),
        (region(instance(V2)), region(instance(replace(V2, http_put_response_hop_limit=2))), [(*I1, "changed")]),
        # A tag, or a state, is no difference.
        (region(instance(V1)), region(replace(instance(V1), state="stopped", tags=())), []),
        # What could not be read is unknown, not gone; what could not be read before is known now, and is not new.
        (region(instance(V1)), region(unseen=(DENIED,)), [(*I1, "became unknown")]),
        (region(unseen=(DENIED,)), region(instance(V1)), [(*I1, "became known")]),
        (region(unseen=(replace(DENIED, what="images"),)), region(instance(V1)), [(*I1, "appeared")]),
        (RegionSeen(HERE, None, unseen=(replace(DENIED, what="defaults"),)), region(), [(*DEFAULT, "became known")]),
        (region(instance(V1)), region(unseen=(replace(DENIED, what="images"),)), [(*I1, "vanished")]),
        (
            region(),
            RegionSeen(HERE, None, unseen=(replace(DENIED, what="defaults"),)),
            [(*DEFAULT, "became unknown")],
        ),
        (
            region(),
            RegionSeen(HERE, AccountDefaults(HttpTokens.REQUIRED, http_tokens_enforced=Switch.ENABLED)),
            [(*DEFAULT, "became enforced")],
        ),
        # A Region default changes what its templates, images, groups launch.
        (
            region(
                templates=(TemplateVersionSeen("lt-1", "web", 1, True, True, NOTHING),),
                images=(ImageSeen("ami-1", "base", owned=True),),
                groups=(GroupSeen("asg", (LaunchSource(template_id="lt-1"),)),),
            ),
            replace(
                region(
                    templates=(TemplateVersionSeen("lt-1", "web", 1, True, True, NOTHING),),
                    images=(ImageSeen("ami-1", "base", owned=True),),
                    groups=(GroupSeen("asg", (LaunchSource(template_id="lt-1"),)),),
                ),
                defaults=AccountDefaults(HttpTokens.REQUIRED),
            ),
            [
                (*DEFAULT, "changed"),
                ("launch-template", "lt-1:1", "became enforced"),
                ("auto-scaling-group", "asg", "became enforced"),
                ("image", "ami-1", "became enforced"),
            ],
        ),
        (
            region(services=(ServiceSeen(ServiceKind.SAGEMAKER_NOTEBOOK, "arn:1", options=V1),)),
            region(unseen=(replace(DENIED, what="SageMaker notebooks"),)),
            [("service", "arn:1", "became unknown")],
        ),
        (
            region(unseen=(DENIED,)),
            region(unseen=(DENIED,), services=(ServiceSeen(ServiceKind.SAGEMAKER_NOTEBOOK, "arn:1", options=V1),)),
            [("service", "arn:1", "appeared")],
        ),
    ],
)
def test_what_is_said(before: RegionSeen, after: RegionSeen, expected: list[tuple[str, str, str]]) -> None:
    assert said(before, after) == expected


def test_a_difference_says_what_was_what_is_and_which_options_changed() -> None:
    assert list(diff(scan(region(instance(V1))), scan(region(instance(V2))))) == [
        Difference(
            Happened.ENFORCED,
            HERE,
            "instance",
            "i-1",
            "web",
            Verdict.EXPOSED,
            Verdict.ENFORCED,
            "HttpTokens=required",
            (Option("HttpTokens", "optional", "required"),),
        )
    ]


ELSEWHERE = region(instance(V1), target=Target(BANK, "eu-west-1"))


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        (scan(), "the later scan did not look there"),
        (scan(accounts=(SHOP,)), "the account is not part of the later scan"),
        (scan(unseen=(AccountUnseen(BANK, None, DENIED),)), "unknown in the later scan: You are not authorized"),
        (
            scan(unseen=(AccountUnseen(BANK, "eu-west-1", Unseen("Region", "not enabled", "RegionNotEnabled")),)),
            "not inspectable in the later scan: not enabled",
        ),
    ],
)
def test_a_place_that_is_not_seen_any_more_is_not_gone(after: Scan, reason: str) -> None:
    (lost,) = diff(scan(ELSEWHERE), after)
    assert (lost.happened, lost.kind, lost.reason) == (Happened.UNSEEN, PLACE, reason)
    assert lost.count == Count(exposed=2)
    (found,) = diff(after, scan(ELSEWHERE))
    assert (found.happened, found.count) == (Happened.SEEN, Count(exposed=2))
    assert found.reason == reason.replace("later", "earlier")


def test_places_are_compared_whatever_order_their_accounts_came_in() -> None:
    third = region(instance(V1), target=Target(SHOP, "us-east-1"))
    before = scan(ELSEWHERE, region(instance(V1)), third)
    after = scan(region(instance(V2)), replace(third, instances=()), ELSEWHERE, accounts=(BANK, SHOP))
    assert [(str(each.target), each.happened) for each in diff(before, after)] == [
        (f"{SHOP}/eu-west-1", Happened.ENFORCED),
        (f"{SHOP}/us-east-1", Happened.VANISHED),
    ]


@pytest.mark.parametrize("left_out", ["before", "after"])
def test_services_that_one_scan_left_out_neither_appear_nor_vanish(left_out: str) -> None:
    service = ServiceSeen(ServiceKind.SAGEMAKER_NOTEBOOK, "arn:1", options=V1)
    whole = scan(region(instance(V1), services=(service,)))
    without = replace(scan(region(instance(V2))), scope=(("no-services", "yes"),))
    before, after = (without, whole) if left_out == "before" else (whole, without)
    assert [each.kind for each in diff(before, after)] == ["instance"]


def version(number: int, *, default: bool = False, latest: bool = False, template: str = "lt-1") -> TemplateVersionSeen:
    return TemplateVersionSeen(template, "web", number, default, latest, V1, in_use=not default and not latest)


ONE, TWO = version(1, default=True), version(2, latest=True)
UNREAD = ("launch-template", "lt-1:2", "is no longer read")


@pytest.mark.parametrize(
    ("before", "after", "unseen", "expected"),
    [
        # A newer $Latest: version 2 is there all the same.
        ((ONE, TWO), (ONE, version(3, latest=True)), (), [UNREAD, ("launch-template", "lt-1:3", "appeared")]),
        # What was there, and is used or made $Default only now.
        ((version(2, default=True, latest=True),), (ONE, TWO), (), [("launch-template", "lt-1:1", "is read now")]),
        # The template itself is gone, or new.
        (
            (ONE, TWO),
            (version(1, default=True, latest=True, template="lt-2"),),
            (),
            [
                ("launch-template", "lt-1:1", "vanished"),
                ("launch-template", "lt-1:2", "vanished"),
                ("launch-template", "lt-2:1", "appeared"),
            ],
        ),
        # Nobody knows whether it is still in use.
        (
            (ONE, version(2), version(3, latest=True)),
            (ONE, version(3, latest=True)),
            (DENIED,),
            [
                ("launch-template", "lt-1:2", "became unknown"),
            ],
        ),
    ],
)
def test_a_template_version_that_is_not_read_any_more_is_not_called_gone(
    before: tuple[TemplateVersionSeen, ...],
    after: tuple[TemplateVersionSeen, ...],
    unseen: tuple[Unseen, ...],
    expected: list[tuple[str, str, str]],
) -> None:
    """A scan reads `$Default`, `$Latest` and what is in use, of every template."""
    assert said(region(templates=before), region(templates=after, unseen=unseen)) == expected


@pytest.mark.parametrize("left_out", ["before", "after"])
def test_a_version_that_only_a_service_uses_neither_comes_nor_goes_with_the_services(left_out: str) -> None:
    newest = version(3, latest=True)
    whole = scan(region(templates=(ONE, version(2), newest)))
    without = replace(scan(region(instance(V1), templates=(ONE, newest))), scope=(("no-services", "yes"),))
    before, after = (without, whole) if left_out == "before" else (whole, without)
    assert [each.kind for each in diff(before, after)] == ["instance"]
