"""A scan as text and as JSON: large organizations, hostile names, and pieces that make one document."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

from imdsctl.domain.observations import (
    Account,
    AccountUnseen,
    GroupSeen,
    LaunchSource,
    PolicyKind,
    PolicySeen,
    RegionSeen,
    Scan,
    Target,
    Unseen,
)
from imdsctl.domain.options import AccountDefaults
from imdsctl.domain.verdicts import scan_summary
from imdsctl.views.json import scan_json
from imdsctl.views.text import ACCOUNTS_BY_REGION_MAX, scan_text

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
HOSTILE = "shop\nUnknown (0)\x1b[2J"


def scan(accounts: int, *, name: str = "shop", unseen: tuple[AccountUnseen, ...] = ()) -> Scan:
    ids = [f"{number:012}" for number in range(accounts)]
    group = GroupSeen("web", (LaunchSource(image_id="ami-1"),))
    return Scan(
        "s1",
        NOON,
        NOON,
        tuple(Account(each, name, ou_path="Root") for each in ids),
        tuple(RegionSeen(Target(each, "eu-west-1"), AccountDefaults(), groups=(group,)) for each in ids),
        unseen,
        policies=(PolicySeen("p-1", name, PolicyKind.SERVICE_CONTROL_POLICY, "{}", ("r-1",)),),
    )


def text_of(taken: Scan) -> str:
    return scan_text(taken, scan_summary(taken))


def test_a_large_organization_is_a_line_an_account() -> None:
    assert "REGION" in text_of(scan(ACCOUNTS_BY_REGION_MAX))
    large = text_of(scan(ACCOUNTS_BY_REGION_MAX + 1))
    assert "ACCOUNT" in large
    assert "eu-west-1" not in large.split("\n\n")[0]
    assert f"{ACCOUNTS_BY_REGION_MAX + 1} Regions in {ACCOUNTS_BY_REGION_MAX + 1} accounts" in large


def test_services_that_were_left_out_are_not_passed_over_in_silence() -> None:
    assert "Other services" not in text_of(scan(1))
    without = text_of(replace(scan(1), scope=(("no-services", "yes"),)))
    assert "left out (--no-services): enforcement is not planned from this scan" in without


def test_names_and_messages_of_others_forge_no_line() -> None:
    unseen = (AccountUnseen("000000000000", "us-east-1", Unseen("Region", HOSTILE, "X")),)
    text = text_of(scan(1, name=HOSTILE, unseen=unseen))
    assert "\x1b[2J" not in text
    assert not any(line.startswith("Unknown (0)") for line in text.splitlines())


def test_the_pieces_of_json_are_one_document_with_every_source_judged() -> None:
    for number in (0, 1, 3):
        taken = scan(number)
        document = json.loads("".join(scan_json(taken, scan_summary(taken))))
        assert (document["kind"], document["complete"], len(document["targets"])) == ("scan", True, number)
        for target in document["targets"]:
            (group,) = target["auto_scaling_groups"]
            assert (group["verdict"], group["sources"][0]["verdict"]) == ("unknown", "unknown")
        assert document["policies"][0]["targets"] == ["r-1"]
