"""Rollback writes recorded values back, never a default, and leaves alone what somebody else has changed since."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.unit.fleet.ec2_in_memory import (
    REGION,
    V1,
    V2,
    A,
    B,
    FakeClock,
    Killed,
    MemoryJournal,
    Template,
    carry_out,
    enter,
    fleet,
    of,
    outcomes,
    planned,
    refusal,
    version,
)

from imdsctl.domain.intent import Images, Intent, Wanted
from imdsctl.domain.journal import Applied, RollbackFailed
from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions, Switch
from imdsctl.domain.plan import Plan, Surface
from imdsctl.fleet.apply_report import Outcome, Report
from imdsctl.fleet.ports import Unreachable
from imdsctl.fleet.rollback import RollingBack, decided, selected
from imdsctl.wire.errors import ServiceError

I0, I1 = "i-00000000000000000", "i-00000000000000001"


def snapshot(ec2: Any) -> Any:
    """Everything that says something about the metadata service; a deleted version is not there."""
    templates = {
        place: {
            name: (each.default, {number: each.versions[number - 1] for number in each.numbers})
            for name, each in named.items()
        }
        for place, named in ec2.templates.items()
    }
    return copy.deepcopy((ec2.defaults, ec2.instances, ec2.images, templates))


def roll_back(plan: Plan, ec2: Any, journal: Any, **more: Any) -> Report:
    delete_versions = more.pop("delete_versions", True)
    narrowed = {name: more.pop(name) for name in ("wave", "changes", "since") if name in more}
    chosen = selected(plan, journal.progress, **narrowed)
    only = frozenset(change.id for change in chosen)
    settings: dict[str, Any] = {"enter": enter, "clock": FakeClock(), **more}
    rolling = RollingBack(plan=plan, aws=ec2, journal=journal, only=only, delete_versions=delete_versions, **settings)
    return asyncio.run(rolling.run())


def applied(*accounts: str, instances: int = 2, intent: Intent = Intent()) -> tuple[Any, Plan, MemoryJournal, Any]:  # noqa: B008
    """A fleet after an apply, its plan and journal, and what it was before."""
    ec2 = fleet(*accounts, instances=instances)
    before, plan, journal = snapshot(ec2), planned(ec2, intent), MemoryJournal()
    assert carry_out(plan, ec2, journal).done
    ec2.calls.clear()
    return ec2, plan, journal, before


def test_the_whole_world_is_what_it_was() -> None:
    ec2, plan, journal, before = applied(A, B)
    report = roll_back(plan, ec2, journal)
    assert report.done
    assert outcomes(report) == {Outcome.RESTORED}
    assert snapshot(ec2) == before
    assert journal.progress.rolled_back == {change.id for change in plan.ready}


def test_enforcement_goes_first_because_it_would_refuse_the_rest() -> None:
    ec2, plan, journal, _ = applied()
    roll_back(plan, ec2, journal)
    assert ec2.writes[0] == ("ModifyInstanceMetadataDefaults", {"HttpTokensEnforced": "no-preference"})
    operations = [operation for operation, _ in ec2.writes]
    assert operations.index("ModifyInstanceMetadataOptions") < operations.index("ModifyLaunchTemplate")


def test_what_was_not_set_gets_no_preference_and_what_was_set_gets_its_value() -> None:
    ec2 = fleet(instances=1)
    ec2.defaults[A, REGION] = AccountDefaults(HttpTokens.OPTIONAL, None, Switch.ENABLED)
    before, plan, journal = snapshot(ec2), planned(ec2, Intent()), MemoryJournal()
    carry_out(plan, ec2, journal)
    ec2.calls.clear()
    roll_back(plan, ec2, journal)
    sent = [params for operation, params in ec2.writes if operation == "ModifyInstanceMetadataDefaults"]
    assert sent[-1] == {"HttpTokens": "optional", "HttpPutResponseHopLimit": -1}
    assert snapshot(ec2) == before


def test_an_instance_that_was_optional_at_hop_limit_one_is_so_again() -> None:
    ec2, plan, journal, _ = applied()
    roll_back(plan, ec2, journal)
    assert ec2.instances[A, REGION][I0] == V1.to_aws()
    assert ("ModifyInstanceMetadataOptions", {"InstanceId": I0, "HttpTokens": "optional"}) in ec2.writes


def test_versions_stay_and_are_reported_unless_they_are_to_be_deleted() -> None:
    ec2, plan, journal, before = applied()
    report = roll_back(plan, ec2, journal, delete_versions=False)
    assert report.done
    details = {result.change.resource: result.detail for result in report.results if result.detail}
    assert details == {
        "lt-one": "version 2 stays, and $Latest is 2: `--delete-versions` deletes what apply made",
        "lt-two": "versions 3, 4 stay, and $Latest is 4: `--delete-versions` deletes what apply made",
        "lt-new": "version 3 stays, and $Latest is 3: `--delete-versions` deletes what apply made",
    }
    assert {name: each.default for name, each in ec2.templates[A, REGION].items()} == dict.fromkeys(details, 1)
    assert roll_back(plan, ec2, journal).done  # now with --delete-versions
    assert snapshot(ec2) == before


def test_a_version_beside_a_default_that_was_kept_is_reported_or_deleted() -> None:
    ec2 = fleet()
    before, plan, journal = snapshot(ec2), planned(ec2, Intent(move_default=False)), MemoryJournal()
    assert carry_out(plan, ec2, journal).done
    report = roll_back(plan, ec2, journal, delete_versions=False)
    assert report.done
    details = {result.change.resource: result.detail for result in report.results if result.detail}
    assert details["lt-one"] == "version 2 stays, and $Latest is 2: `--delete-versions` deletes what apply made"
    assert roll_back(plan, ec2, journal).done
    assert snapshot(ec2) == before


def test_a_version_that_somebody_else_has_made_since_keeps_the_template_as_it_is() -> None:
    ec2, plan, journal, _ = applied()
    ec2.templates[A, REGION]["lt-one"].versions.append(version(V1))
    report = roll_back(plan, ec2, journal)
    assert of(report, "lt-one") is Outcome.STALE
    assert ec2.templates[A, REGION]["lt-one"].default == 2
    assert of(report, "lt-two") is Outcome.RESTORED


def test_a_default_that_somebody_else_has_moved_stays_there() -> None:
    ec2, plan, journal, _ = applied()
    ec2.templates[A, REGION]["lt-two"].default = 2
    assert of(roll_back(plan, ec2, journal), "lt-two") is Outcome.STALE
    assert ec2.templates[A, REGION]["lt-two"].default == 2


def test_what_somebody_else_has_changed_since_is_left_alone_and_reported() -> None:
    ec2, plan, journal, _ = applied()
    ec2.instances[A, REGION][I1]["HttpPutResponseHopLimit"] = 7
    report = roll_back(plan, ec2, journal)
    assert not report.done
    assert of(report, I1) is Outcome.STALE
    detail = next(result.detail for result in report.results if result.outcome is Outcome.STALE)
    assert detail == "it changed after apply had done its work: HttpPutResponseHopLimit was 1, is 7"
    assert ec2.instances[A, REGION][I1]["HttpTokens"] == "required"
    assert of(report, I0) is Outcome.RESTORED


def test_what_somebody_else_has_put_back_needs_no_call() -> None:
    ec2, plan, journal, before = applied()
    ec2.instances[A, REGION][I1]["HttpTokens"] = "optional"
    report = roll_back(plan, ec2, journal)
    assert of(report, I1) is Outcome.AS_BEFORE
    assert snapshot(ec2) == before


def test_a_terminated_instance_and_an_image_cannot_be_restored_and_are_told_apart() -> None:
    ec2, plan, journal, _ = applied(intent=Intent(images=Images.V2))
    del ec2.instances[A, REGION][I1]
    report = roll_back(plan, ec2, journal)
    assert of(report, I1) is Outcome.GONE
    assert of(report, "/image/") is Outcome.IRREVERSIBLE
    assert not report.done
    assert ec2.images[A, REGION] == {"ami-mine": "v2.0"}


def test_what_apply_found_as_wanted_is_not_its_to_undo() -> None:
    ec2 = fleet()
    plan, journal = planned(ec2, Intent()), MemoryJournal()
    ec2.instances[A, REGION][I0]["HttpTokens"] = "required"  # by somebody else, before the apply
    carry_out(plan, ec2, journal)
    roll_back(plan, ec2, journal)
    assert ec2.instances[A, REGION][I0]["HttpTokens"] == "required"
    assert ec2.instances[A, REGION][I1]["HttpTokens"] == "optional"


@pytest.mark.parametrize("arrived", [True, False])
def test_a_change_in_doubt_is_read_and_put_back_where_it_was_made(arrived: bool) -> None:
    ec2 = fleet(instances=1)
    before, plan, journal = snapshot(ec2), planned(ec2, Intent()), MemoryJournal()

    def die(operation: str, params: Mapping[str, Any]) -> None:
        if operation == "ModifyInstanceMetadataOptions":
            raise Killed

    if arrived:
        ec2.after_write = die
    else:
        ec2.before_write = die
    with pytest.raises((Killed, BaseExceptionGroup)):
        carry_out(plan, ec2, journal)
    ec2.before_write = ec2.after_write = lambda operation, params: None
    report = roll_back(plan, ec2, journal)
    assert of(report, "/instance/") is (Outcome.RESTORED if arrived else Outcome.AS_BEFORE)
    assert snapshot(ec2) == before


def test_a_refusal_is_recorded_and_the_same_command_tries_again() -> None:
    ec2, plan, journal, before = applied()
    ec2.before_write = lambda operation, params: deny(operation)

    def deny(operation: str) -> None:
        if operation == "ModifyInstanceMetadataOptions":
            raise refusal()

    report = roll_back(plan, ec2, journal)
    assert report.count(Outcome.FAILED) == 2
    assert [entry.code for entry in journal.entries if isinstance(entry, RollbackFailed)] == [
        "UnauthorizedOperation"
    ] * 2
    ec2.before_write = lambda operation, params: None
    assert roll_back(plan, ec2, journal).done
    assert snapshot(ec2) == before


def test_where_the_region_enforces_all_but_optional_goes_back_and_the_way_to_it_is_said() -> None:
    ec2, plan, journal, before = applied(instances=1)
    (change,) = (each for each in plan.ready if each.surface is Surface.INSTANCE)
    more = replace(change, after={**change.after, "HttpPutResponseHopLimit": 2})
    plan = replace(plan, changes=tuple(more if each is change else each for each in plan.changes))
    ec2.instances[A, REGION][I0]["HttpPutResponseHopLimit"] = 2
    (entry,) = (n for n, each in enumerate(journal.entries) if isinstance(each, Applied) and each.change == change.id)
    known = MemoryJournal()
    for number, each in enumerate(journal.entries):
        values = dict(ec2.instances[A, REGION][I0])
        asyncio.run(known.append(replace(each, now=values) if number == entry else each))

    def enforce(operation: str, params: Mapping[str, Any]) -> None:
        if operation == "ModifyInstanceMetadataOptions" and params.get("HttpTokens") == "optional":
            raise ServiceError("OperationNotPermitted", "httpTokensEnforced is enabled for this account.", 400)

    ec2.before_write = enforce
    (result,) = (each for each in roll_back(plan, ec2, known).results if each.change.id == change.id)
    assert result.outcome is Outcome.FAILED
    assert "HttpPutResponseHopLimit restored, HttpTokens not" in result.detail
    assert "set HttpTokensEnforced=disabled" in result.detail
    ec2.before_write = lambda operation, params: None
    assert roll_back(plan, ec2, known).done
    assert snapshot(ec2) == before


def test_a_lost_answer_is_read_back_not_guessed() -> None:
    ec2, plan, journal, before = applied()

    def lost(operation: str, params: Mapping[str, Any]) -> None:
        raise Unreachable("ec2", "timed out", "try again")

    ec2.after_write = lost
    assert roll_back(plan, ec2, journal).count(Outcome.IN_DOUBT) == 2  # templates: two calls, the second not made
    ec2.after_write = lambda operation, params: None
    assert roll_back(plan, ec2, journal).done
    assert snapshot(ec2) == before


def crash_points() -> list[tuple[str, int]]:
    ec2, plan, journal, _ = applied(instances=1)
    entries = len(journal.entries)
    roll_back(plan, ec2, journal)
    points = [("after entry", number) for number in range(entries + 1, len(journal.entries) + 1)]
    calls = range(1, len(ec2.writes) + 1)
    return points + [(where, number) for where in ("before call", "after call") for number in calls]


@pytest.mark.parametrize(("point", "number"), crash_points())
def test_killed_anywhere_the_same_rollback_comes_to_the_same_end(point: str, number: int) -> None:
    ec2, plan, journal, before = applied(instances=1)
    left = [number]

    def die(operation: str, params: Mapping[str, Any]) -> None:
        left[0] -= 1
        if not left[0]:
            raise Killed

    if point == "after entry":
        journal.killed_at = number
    elif point == "before call":
        ec2.before_write = die
    else:
        ec2.after_write = die
    with pytest.raises((Killed, BaseExceptionGroup)):
        roll_back(plan, ec2, journal)
    journal.killed_at = None
    ec2.before_write = ec2.after_write = lambda operation, params: None
    assert roll_back(plan, ec2, journal).done
    assert snapshot(ec2) == before
    assert journal.progress.rolled_back == {change.id for change in plan.ready}


def test_only_a_wave_only_a_change_only_what_came_since() -> None:
    _, plan, journal, _ = applied(A, B)
    changes = tuple(replace(change, wave="b" if change.target.account_id == B else "all") for change in plan.ready)
    in_waves = replace(plan, changes=changes)
    progress = journal.progress
    assert {change.target.account_id for change in selected(in_waves, progress, wave="b")} == {B}
    one = f"{A}/{REGION}/instance/{I0}"
    assert [change.id for change in selected(plan, progress, changes=frozenset({one}))] == [one]
    now = FakeClock().now()
    assert selected(plan, progress, since=now) == plan.ready
    assert selected(plan, progress, since=now + timedelta(seconds=1)) == ()
    assert selected(plan, MemoryJournal().progress) == ()
    assert datetime.fromisoformat(progress.done_at[one]) == now


def test_one_instance_alone_goes_back_and_the_others_stay() -> None:
    ec2, plan, journal, _ = applied()
    report = roll_back(plan, ec2, journal, changes=frozenset({f"{A}/{REGION}/instance/{I0}"}))
    assert outcomes(report) == {Outcome.RESTORED}
    assert ec2.instances[A, REGION][I0]["HttpTokens"] == "optional"
    assert ec2.instances[A, REGION][I1]["HttpTokens"] == "required"
    assert len(ec2.writes) == 1


# Under an enforcement that stays


def test_a_region_default_keeps_requiring_imdsv2_and_the_rest_of_it_goes_back() -> None:
    ec2, plan, journal, before = applied()
    (result,) = roll_back(plan, ec2, journal, changes=frozenset({f"{A}/{REGION}/region-default"})).results
    assert result.outcome is Outcome.FAILED
    assert "HttpPutResponseHopLimit restored, HttpTokens not" in result.detail
    assert "roll that back first, or set HttpTokensEnforced=disabled" in result.detail
    assert ec2.defaults[A, REGION] == AccountDefaults(
        HttpTokens.REQUIRED, instance_metadata_tags=Switch.ENABLED, http_tokens_enforced=Switch.ENABLED
    )
    assert roll_back(plan, ec2, journal).done
    assert snapshot(ec2) == before


@pytest.mark.parametrize("delete_versions", [False, True])
def test_a_template_whose_launches_would_be_refused_stays_as_it_is(delete_versions: bool) -> None:
    ec2, plan, journal, before = applied()
    template = f"{A}/{REGION}/launch-template/lt-one"
    report = roll_back(plan, ec2, journal, changes=frozenset({template}), delete_versions=delete_versions)
    (result,) = report.results
    assert result.outcome is Outcome.FAILED
    assert "$Default" in result.detail
    assert "not restored: the Region enforces IMDSv2 still" in result.detail
    assert "set HttpTokensEnforced=disabled" in result.detail
    assert ec2.writes == []
    assert [entry.code for entry in journal.entries if isinstance(entry, RollbackFailed)] == ["UnsupportedOperation"]
    assert roll_back(plan, ec2, journal).done
    assert snapshot(ec2) == before


def test_a_newest_version_that_requires_imdsv2_is_not_deleted_where_optional_would_be_the_newest_again() -> None:
    ec2, plan, journal, _ = applied()
    template = frozenset({f"{A}/{REGION}/launch-template/lt-new"})
    assert outcomes(roll_back(plan, ec2, journal, changes=template)) == {Outcome.FAILED}
    assert ec2.writes == []
    # Its $Default was right all along, and without the deletion nothing is to be done.
    assert outcomes(roll_back(plan, ec2, journal, changes=template, delete_versions=False)) == {Outcome.BUT_LATEST}


@pytest.mark.parametrize("says", [V2, MetadataOptions()])
def test_what_gets_imdsv2_as_it_was_goes_back(says: MetadataOptions) -> None:
    """A version that requires it, or that says nothing where the Region default requires it."""
    ec2 = fleet()
    ec2.defaults[A, REGION] = AccountDefaults(HttpTokens.REQUIRED, http_tokens_enforced=Switch.ENABLED)
    ec2.templates[A, REGION] = {"lt-one": Template([version(says)])}
    wanted = Wanted(MetadataOptions(HttpTokens.REQUIRED, instance_metadata_tags=Switch.ENABLED))
    plan, journal = planned(ec2, Intent(launch_templates=wanted, explicit_templates=True)), MemoryJournal()
    carry_out(plan, ec2, journal)
    template = frozenset({f"{A}/{REGION}/launch-template/lt-one"})
    assert outcomes(roll_back(plan, ec2, journal, changes=template)) == {Outcome.RESTORED}


def test_a_second_rollback_has_nothing_to_do() -> None:
    ec2, plan, journal, _ = applied()
    roll_back(plan, ec2, journal)
    ec2.calls.clear()
    assert selected(plan, journal.progress) == plan.ready
    assert all(decided(each, journal.progress, delete_versions=False) for each in plan.ready)
    assert outcomes(roll_back(plan, ec2, journal, delete_versions=False)) == {Outcome.RESTORED_EARLIER}
    assert ec2.calls == []


class Lost(Exception):
    """The lease is somebody else's."""


class LostLease:
    number = 1

    async def check(self) -> None:
        raise Lost


def test_without_the_lease_nothing_is_written() -> None:
    ec2, plan, journal, _ = applied()
    entries = len(journal.entries)
    with pytest.raises(BaseExceptionGroup):
        roll_back(plan, ec2, journal, lease=LostLease())
    fresh = fleet()
    with pytest.raises(BaseExceptionGroup):
        carry_out(planned(fresh), fresh, lease=LostLease())
    assert ec2.writes == fresh.writes == []
    assert len(journal.entries) == entries
