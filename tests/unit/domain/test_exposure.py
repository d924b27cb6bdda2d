"""Enforced, exposed or unknown: the verdicts, and that unknown never passes for enforced."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import product

import pytest

from imdsctl.domain.exposure import Verdict, combined, instance_exposure, launch_exposure, region_exposure
from imdsctl.domain.observations import (
    Account,
    AccountUnseen,
    ImageSeen,
    InstanceSeen,
    RegionSeen,
    Scan,
    Target,
    TemplateVersionSeen,
    Unseen,
)
from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions, Switch
from imdsctl.domain.precedence import image_options, resolve
from imdsctl.domain.verdicts import (
    REGION_NOT_ENABLED,
    image_exposure,
    region_default_exposure,
    scan_summary,
    target_summary,
    template_exposure,
)

HERE = Target("111122223333", "eu-west-1")
NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
NOTHING = MetadataOptions()
REQUIRED = MetadataOptions(http_tokens=HttpTokens.REQUIRED)
OPTIONAL = MetadataOptions(http_tokens=HttpTokens.OPTIONAL)
OFF = MetadataOptions(http_tokens=HttpTokens.OPTIONAL, http_endpoint=Switch.DISABLED)


def template(options: MetadataOptions, image_id: str | None = "ami-1") -> TemplateVersionSeen:
    return TemplateVersionSeen("lt-1", "web", 1, True, True, options, image_id)


def region(
    defaults: AccountDefaults | None, images: tuple[ImageSeen, ...] = (), unseen: tuple[Unseen, ...] = ()
) -> RegionSeen:
    return RegionSeen(HERE, defaults, images=images, unseen=unseen)


@pytest.mark.parametrize(
    ("options", "verdict"),
    [
        (REQUIRED, Verdict.ENFORCED),
        (OPTIONAL, Verdict.EXPOSED),
        (OFF, Verdict.ENFORCED),
        (NOTHING, Verdict.UNKNOWN),
        (MetadataOptions(http_endpoint=Switch.ENABLED), Verdict.UNKNOWN),
    ],
)
def test_an_instance_is_judged_by_what_it_holds(options: MetadataOptions, verdict: Verdict) -> None:
    assert instance_exposure(options).verdict is verdict


@pytest.mark.parametrize(
    ("defaults", "verdict"),
    [
        (AccountDefaults(), Verdict.EXPOSED),
        (AccountDefaults(http_tokens=HttpTokens.REQUIRED), Verdict.EXPOSED),
        (AccountDefaults(http_tokens=HttpTokens.OPTIONAL), Verdict.EXPOSED),
        (AccountDefaults(http_tokens_enforced=Switch.ENABLED), Verdict.ENFORCED),
        (AccountDefaults(http_tokens=HttpTokens.REQUIRED, http_tokens_enforced=Switch.DISABLED), Verdict.EXPOSED),
    ],
)
def test_only_enforcement_closes_a_region(defaults: AccountDefaults, verdict: Verdict) -> None:
    assert region_exposure(defaults).verdict is verdict


def test_a_launch_that_enforcement_refuses_is_enforced() -> None:
    resolution = resolve(OPTIONAL, AccountDefaults(http_tokens_enforced=Switch.ENABLED), NOTHING)
    assert launch_exposure(resolution).verdict is Verdict.ENFORCED


def test_the_reason_names_the_layer_that_decided() -> None:
    resolution = resolve(NOTHING, AccountDefaults(http_tokens=HttpTokens.OPTIONAL), image_options("v2.0"))
    assert "account default" in launch_exposure(resolution).reason


def test_a_default_that_was_not_read_is_unknown_with_the_reason() -> None:
    seen = region(None, unseen=(Unseen("defaults", "You are not authorized", "UnauthorizedOperation"),))
    exposure = region_default_exposure(seen)
    assert exposure.verdict is Verdict.UNKNOWN
    assert "not authorized" in exposure.reason


@pytest.mark.parametrize(
    ("options", "verdict"),
    [(REQUIRED, Verdict.ENFORCED), (OFF, Verdict.ENFORCED), (OPTIONAL, Verdict.UNKNOWN), (NOTHING, Verdict.UNKNOWN)],
)
def test_without_the_default_only_a_template_that_is_safe_by_itself_is_enforced(
    options: MetadataOptions, verdict: Verdict
) -> None:
    assert template_exposure(region(None), template(options)).verdict is verdict


def test_a_template_that_says_nothing_is_judged_by_its_image() -> None:
    plain = ImageSeen("ami-1")
    safe = ImageSeen("ami-1", imds_support="v2.0")
    assert template_exposure(region(AccountDefaults(), (plain,)), template(NOTHING)).verdict is Verdict.EXPOSED
    assert template_exposure(region(AccountDefaults(), (safe,)), template(NOTHING)).verdict is Verdict.ENFORCED


@pytest.mark.parametrize("image", [(), (ImageSeen("ami-1", found=False),)])
def test_an_image_that_cannot_be_seen_makes_a_template_unknown_where_it_matters(image: tuple[ImageSeen, ...]) -> None:
    assert template_exposure(region(AccountDefaults(), image), template(NOTHING)).verdict is Verdict.UNKNOWN
    decided = AccountDefaults(http_tokens=HttpTokens.OPTIONAL)
    assert template_exposure(region(decided, image), template(NOTHING)).verdict is Verdict.EXPOSED
    assert template_exposure(region(AccountDefaults(), image), template(REQUIRED)).verdict is Verdict.ENFORCED


def test_a_template_that_leaves_the_image_open_can_launch_imdsv1() -> None:
    assert template_exposure(region(AccountDefaults()), template(NOTHING, None)).verdict is Verdict.EXPOSED


def test_the_regions_optional_default_exposes_an_image_with_v2() -> None:
    image = ImageSeen("ami-1", owned=True, imds_support="v2.0")
    assert image_exposure(region(AccountDefaults(), (image,)), image).verdict is Verdict.ENFORCED
    optional = AccountDefaults(http_tokens=HttpTokens.OPTIONAL)
    assert image_exposure(region(optional, (image,)), image).verdict is Verdict.EXPOSED


@pytest.mark.parametrize("parts", list(product(Verdict, repeat=2)))
def test_a_whole_is_as_bad_as_its_worst_part(parts: tuple[Verdict, Verdict]) -> None:
    order = [Verdict.ENFORCED, Verdict.UNKNOWN, Verdict.EXPOSED]
    assert combined(parts) is max(parts, key=order.index)


def test_a_list_that_was_not_read_counts_as_unknown_not_as_empty() -> None:
    summary = target_summary(region(AccountDefaults(), unseen=(Unseen("instances", "denied"),)))
    assert (summary.instances.unknown, summary.templates.unknown) == (1, 0)


def test_a_region_that_is_not_enabled_is_counted_apart() -> None:
    scan = Scan(
        "1",
        NOON,
        NOON,
        accounts=(Account("111122223333", "one"),),
        regions=(),
        unseen=(
            AccountUnseen("111122223333", "af-south-1", Unseen("Region", "not enabled", REGION_NOT_ENABLED)),
            AccountUnseen("111122223333", "me-south-1", Unseen("Region", "the Region is DISABLING", "DISABLING")),
        ),
    )
    summary = scan_summary(scan)
    assert [each.region for each in summary.not_inspectable] == ["af-south-1"]
    assert [each.subject for each in summary.unknowns] == ["111122223333/me-south-1"]


def test_an_instance_whose_tokens_are_not_said_is_listed_among_the_unknown() -> None:
    seen = RegionSeen(HERE, AccountDefaults(), (InstanceSeen("i-1", "running", NOTHING),))
    scan = Scan("1", NOON, NOON, (Account("111122223333", "one"),), (seen,))
    assert [each.subject for each in scan_summary(scan).unknowns] == ["111122223333/eu-west-1/i-1"]
