"""The proof: a fresh scan with nothing left to plan and nothing unknown."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime

from imdsctl.domain.intent import Intent, parse_intent
from imdsctl.domain.observations import Account, AccountUnseen, InstanceSeen, RegionSeen, Scan, Target, Unseen
from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions, Switch
from imdsctl.domain.verdicts import REGION_NOT_ENABLED
from imdsctl.fleet.launch_dry_run import DryRun, Launches
from imdsctl.fleet.verify import verify
from imdsctl.views.plan import verification_json, verification_text

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
HERE = Target("111122223333", "eu-west-1")
RIGHT = AccountDefaults(HttpTokens.REQUIRED, 2, http_tokens_enforced=Switch.ENABLED)
V1 = MetadataOptions(HttpTokens.OPTIONAL, 1, Switch.ENABLED)


def scan(region: RegionSeen) -> Scan:
    return Scan("s", NOON, NOON, (Account(HERE.account_id, ""),), (region,))


def test_a_region_that_is_enforced_with_nothing_in_it_is_proven() -> None:
    assert verify(scan(RegionSeen(HERE, RIGHT)), Intent(), at=NOON).proven


def test_a_scan_that_saw_no_region_proves_nothing() -> None:
    """`verify --regions` of one that is not enabled reads nothing; that is no proof of anything."""
    nothing = Scan("s", NOON, NOON, (Account(HERE.account_id, ""),), ())
    assert not verify(nothing, Intent(), at=NOON).proven


def test_a_region_that_is_not_enabled_is_no_obstacle_and_is_not_called_proven() -> None:
    shut = AccountUnseen(HERE.account_id, "ap-east-1", Unseen("Region", "not enabled", REGION_NOT_ENABLED))
    whole = replace(scan(RegionSeen(HERE, RIGHT)), unseen=(shut,))
    judged = verify(whole, Intent(), at=NOON)
    assert judged.proven
    assert "Not inspectable, and so not proven: 1 Region not enabled" in verification_text(judged, {})
    assert json.loads(verification_json(judged))["not_inspectable"][0]["region"] == "ap-east-1"
    left_out = verify(whole, Intent(exclude_regions=frozenset({"ap-east-1"})), at=NOON)
    assert "inspectable" not in verification_text(left_out, {})


def test_services_that_were_left_out_are_not_called_proven() -> None:
    enforced, whole = (scan(RegionSeen(HERE, each)) for each in (RIGHT, replace(RIGHT, http_tokens_enforced=None)))
    judged = verify(replace(enforced, scope=(("no-services", "yes"),)), Intent(), at=NOON)
    assert judged.proven
    assert "Left out by --no-services, and so not proven: the settings of other services." in verification_text(
        judged, {}
    )
    assert json.loads(verification_json(judged))["services_left_out"] is True
    assert "Left out" not in verification_text(verify(enforced, Intent(), at=NOON), {})
    waiting = verify(replace(whole, scope=(("no-services", "yes"),)), Intent(), at=NOON)
    assert not waiting.proven
    assert [each.id for each in waiting.plan.deferred] == [f"{HERE}/region-default/enforcement"]


def test_a_required_default_without_enforcement_is_not_proven() -> None:
    """A peer says nothing for a Region with no instances; there the next team launches first."""
    unfinished = replace(RIGHT, http_tokens_enforced=None)
    assert not verify(scan(RegionSeen(HERE, unfinished)), Intent(), at=NOON).proven


def test_a_part_that_was_not_read_is_not_proven() -> None:
    region = RegionSeen(HERE, RIGHT, unseen=(Unseen("instances", "denied"),))
    assert not verify(scan(region), Intent(), at=NOON).proven


def test_a_managed_instance_that_answers_v1_is_not_proven_though_nobody_here_can_change_it() -> None:
    region = RegionSeen(HERE, RIGHT, (InstanceSeen("i-1", "running", V1, managed_by="eks.amazonaws.com"),))
    judged = verify(scan(region), Intent(), at=NOON)
    assert not judged.proven
    assert not judged.plan.ready


def test_what_the_intent_excludes_is_listed_and_does_not_fail() -> None:
    region = RegionSeen(HERE, RIGHT, (InstanceSeen("i-0123456789abcdef0", "running", V1),))
    intent = Intent(exclude_resources=frozenset({"i-0123456789abcdef0"}))
    judged = verify(scan(region), intent, at=NOON)
    assert judged.proven
    assert [each.subject for each in judged.accepted] == ["111122223333/eu-west-1/i-0123456789abcdef0"]


def with_exception(expires: str) -> Intent:
    return parse_intent(
        f"""version = 1
[[exception]]
match = {{ resource = ["i-0123456789abcdef0"] }}
owner = "payments"
reason = "agent 3.1 knows IMDSv1 only"
expires = {expires}
""",
        "imdsctl.toml",
    )


def test_an_exception_is_accepted_with_its_owner_until_it_expires_and_then_fails() -> None:
    region = RegionSeen(HERE, RIGHT, (InstanceSeen("i-0123456789abcdef0", "running", V1),))
    judged = verify(scan(region), with_exception("2026-11-02"), at=NOON)
    assert judged.proven
    (accepted,) = judged.accepted
    assert accepted.reason.endswith("an exception of payments until 2026-11-02: agent 3.1 knows IMDSv1 only")
    late = verify(scan(region), with_exception("2026-11-01"), at=NOON)
    assert [each.code for each in late.expired] == ["exception-expired"]
    assert not late.proven


def test_an_expired_exception_fails_even_when_nothing_is_left_to_change() -> None:
    assert not verify(scan(RegionSeen(HERE, RIGHT)), with_exception("2026-11-01"), at=NOON).proven


def dry_run(launches: Launches) -> DryRun:
    return DryRun(HERE, "lt-1", "launch template lt-1 version 1", launches)


def test_a_launch_source_that_may_launch_v1_or_nothing_or_is_unknown_is_not_proven() -> None:
    proven = verify(scan(RegionSeen(HERE, RIGHT)), Intent(), at=NOON)
    for launches in Launches:
        judged = replace(proven, dry_runs=(dry_run(launches),))
        assert judged.proven is (launches in (Launches.V2_BY_POLICY, Launches.V2_BY_ENFORCEMENT))
    lenient = verify(scan(RegionSeen(HERE, RIGHT)), Intent(enforce=False), at=NOON)
    assert replace(lenient, dry_runs=(dry_run(Launches.V1),)).proven
    elsewhere = verify(scan(RegionSeen(HERE, RIGHT)), Intent(exclude_regions=frozenset({HERE.region})), at=NOON)
    assert replace(elsewhere, dry_runs=(dry_run(Launches.V1),)).proven
