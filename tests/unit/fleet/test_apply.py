"""Apply obeys the plan and nothing else, and can be killed anywhere. The other end is a small EC2 in memory."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
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
    carry_out,
    enter,
    fleet,
    of,
    outcomes,
    planned,
    refusal,
    version,
)

from imdsctl.domain.intent import Intent
from imdsctl.domain.journal import Applied, Began, Failed
from imdsctl.domain.options import Switch
from imdsctl.domain.plan import Stage, Surface
from imdsctl.fleet.apply_changes import CHANGES_PER_READ_MAX
from imdsctl.fleet.apply_report import ChangeEnded, Event, Outcome
from imdsctl.fleet.ports import Credentials, Unreachable
from imdsctl.fleet.surfaces import SETTLE_SECONDS_MAX
from imdsctl.views.apply import report_diagnostics


def test_what_a_plan_says_is_done_and_nothing_is_left_to_plan() -> None:
    ec2 = fleet(A, B)
    report = carry_out(planned(ec2), ec2)
    assert report.done
    assert outcomes(report) == {Outcome.APPLIED}
    assert planned(ec2).changes == ()


def test_a_write_sends_only_what_differs() -> None:
    ec2 = fleet(instances=1)
    carry_out(planned(ec2, Intent()), ec2)
    sent = dict(reversed(ec2.writes))
    assert sent["ModifyInstanceMetadataDefaults"] == {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}
    assert sent["ModifyInstanceMetadataOptions"] == {"InstanceId": "i-00000000000000000", "HttpTokens": "required"}
    assert ec2.writes[-1] == ("ModifyInstanceMetadataDefaults", {"HttpTokensEnforced": "enabled"})


def test_an_endpoint_that_was_off_is_never_switched_on() -> None:
    """A peer always sends HttpEndpoint=enabled: (optional, disabled, hop 5) came out (required, enabled)."""
    ec2 = fleet(instances=1)
    off = replace(V1, http_endpoint=Switch.DISABLED, http_put_response_hop_limit=5).to_aws()
    ec2.instances[A, REGION]["i-00000000000000000"] = dict(off)
    assert carry_out(planned(ec2), ec2).done
    assert ec2.instances[A, REGION]["i-00000000000000000"] == off
    assert not any("HttpEndpoint" in params for _, params in ec2.writes)


def test_an_endpoint_switched_off_after_planning_makes_the_change_stale() -> None:
    ec2 = fleet(instances=1)
    plan = planned(ec2)
    ec2.instances[A, REGION]["i-00000000000000000"]["HttpEndpoint"] = "disabled"
    report = carry_out(plan, ec2)
    assert of(report, "/instance/") is Outcome.STALE
    assert ec2.instances[A, REGION]["i-00000000000000000"]["HttpTokens"] == "optional"


def test_old_values_are_recorded_before_the_call() -> None:
    ec2 = fleet(instances=1)
    journal = MemoryJournal()
    ec2.before_write = lambda operation, params: seen.append((operation, journal.entries[-1]))
    seen: list[Any] = []
    carry_out(planned(ec2, Intent()), ec2, journal)
    (entry,) = (entry for operation, entry in seen if operation == "ModifyInstanceMetadataOptions")
    assert isinstance(entry, Began)
    assert entry.old == V1.to_aws()


def test_a_change_by_somebody_else_is_refused_and_the_others_go_on() -> None:
    ec2 = fleet()
    plan = planned(ec2)
    ec2.instances[A, REGION]["i-00000000000000001"]["HttpPutResponseHopLimit"] = 7
    report = carry_out(plan, ec2)
    assert of(report, "i-00000000000000001") is Outcome.STALE
    assert of(report, "i-00000000000000000") is Outcome.APPLIED
    assert "HttpPutResponseHopLimit was 1, is 7" in next(each.detail for each in report.results if each.code)
    assert not report.done


def test_a_region_in_which_something_is_not_done_is_not_enforced() -> None:
    ec2 = fleet(A, B)
    plan = planned(ec2)
    ec2.instances[A, REGION]["i-00000000000000001"]["HttpPutResponseHopLimit"] = 7
    report = carry_out(plan, ec2)
    assert of(report, f"{A}/{REGION}/region-default/enforcement") is Outcome.HELD_BACK
    assert of(report, f"{B}/{REGION}/region-default/enforcement") is Outcome.APPLIED
    assert not ec2.defaults[A, REGION].enforced
    assert ec2.defaults[B, REGION].enforced


def test_what_is_so_already_is_done_without_a_call() -> None:
    ec2 = fleet(instances=1)
    plan = planned(ec2, Intent())
    ec2.instances[A, REGION]["i-00000000000000000"]["HttpTokens"] = "required"
    report = carry_out(plan, ec2)
    assert of(report, "/instance/") is Outcome.ALREADY
    assert report.done
    assert "ModifyInstanceMetadataOptions" not in dict(ec2.writes)


def test_an_instance_that_is_gone_needs_nothing() -> None:
    ec2 = fleet(instances=1)
    plan = planned(ec2)
    ec2.instances[A, REGION].clear()
    report = carry_out(plan, ec2)
    assert of(report, "/instance/") is Outcome.GONE
    assert report.done


def refusing(account: str, operation: str, error: Exception) -> Callable[[str, Mapping[str, Any]], None]:
    def refuse(called: str, params: Mapping[str, Any]) -> None:
        if called == operation:
            raise error

    return refuse


def test_a_refusal_is_recorded_and_stops_before_the_next_wave() -> None:
    ec2 = fleet()
    journal = MemoryJournal()
    ec2.before_write = refusing(A, "ModifyInstanceMetadataOptions", refusal())
    report = carry_out(planned(ec2), ec2, journal)
    assert [entry.code for entry in journal.entries if isinstance(entry, Failed)] == ["UnauthorizedOperation"] * 2
    held = {result.change.stage for result in report.results if result.outcome is Outcome.HELD_BACK}
    assert held == {Stage.ENFORCEMENT}


def test_a_permission_that_is_missing_is_named_with_what_prints_it() -> None:
    ec2 = fleet(instances=1)
    ec2.before_write = refusing(A, "ModifyInstanceMetadataOptions", refusal())
    hints = {each.code: each.hint or "" for each in report_diagnostics(carry_out(planned(ec2), ec2), "p", "apply p")}
    assert "`imdsctl iam-policy write`" in hints["apply-failed"]
    ec2.before_write = refusing(A, "ModifyInstanceMetadataOptions", refusal("IncorrectInstanceState"))
    hints = {each.code: each.hint or "" for each in report_diagnostics(carry_out(planned(ec2), ec2), "p", "apply p")}
    assert "iam-policy" not in hints["apply-failed"]


def test_the_same_command_tries_again_what_was_refused() -> None:
    ec2 = fleet()
    journal = MemoryJournal()
    plan = planned(ec2)
    ec2.before_write = refusing(A, "ModifyInstanceMetadataOptions", refusal())
    carry_out(plan, ec2, journal)
    ec2.before_write = lambda operation, params: None
    report = carry_out(plan, ec2, journal)
    assert report.done
    assert outcomes(report) == {Outcome.EARLIER, Outcome.APPLIED}


def test_keep_going_holds_back_only_the_region_that_failed() -> None:
    ec2 = fleet(A, B)

    async def refused_in_a(account_id: str) -> Credentials | None:
        if account_id == A:
            raise refusal("AccessDenied")
        return await enter(account_id)

    report = carry_out(planned(ec2), ec2, enter=refused_in_a, keep_going=True)
    assert {each.outcome for each in report.results if each.change.target.account_id == B} == {Outcome.APPLIED}
    assert {each.outcome for each in report.results if each.change.target.account_id == A} == {
        Outcome.FAILED,
        Outcome.HELD_BACK,
    }


@pytest.mark.parametrize("error", [Unreachable("ec2", "timed out", "try again"), refusal("InternalError", "server")])
@pytest.mark.parametrize("arrived", [True, False])
def test_a_lost_answer_is_read_back_not_guessed(arrived: bool, error: Exception) -> None:
    """Nor is one of AWS's own failures: what it says it could not do, it may have done."""
    ec2 = fleet(instances=1)
    journal = MemoryJournal()
    lost = refusing(A, "ModifyInstanceMetadataOptions", error)
    if arrived:
        ec2.after_write = lost
    else:
        ec2.before_write = lost
    plan = planned(ec2, Intent())
    report = carry_out(plan, ec2, journal)
    assert of(report, "/instance/") is (Outcome.APPLIED if arrived else Outcome.IN_DOUBT)
    assert not any(isinstance(entry, Failed) for entry in journal.entries)
    assert bool(journal.progress.in_doubt) is not arrived
    ec2.before_write = ec2.after_write = lambda operation, params: None
    assert carry_out(plan, ec2, journal).done


def test_a_request_that_never_left_is_a_failure_not_a_doubt() -> None:
    ec2 = fleet(instances=1)
    never = Unreachable("ec2", "name not found", "check the network", maybe_done=False)
    ec2.before_write = refusing(A, "ModifyInstanceMetadataOptions", never)
    assert of(carry_out(planned(ec2), ec2), "/instance/") is Outcome.FAILED


def test_a_change_counts_as_applied_only_when_aws_says_so() -> None:
    ec2 = fleet(instances=1)
    ec2.pending_reads = 4
    clock = FakeClock()
    assert carry_out(planned(ec2), ec2, clock=clock).done
    assert clock.slept == [0.2, 0.4, 0.8, 1.6]


def test_what_stays_pending_is_left_in_doubt_after_a_limit() -> None:
    ec2 = fleet(instances=1)
    ec2.pending_reads = 1000
    clock = FakeClock()
    report = carry_out(planned(ec2), ec2, clock=clock)
    assert of(report, "/instance/") is Outcome.IN_DOUBT
    assert SETTLE_SECONDS_MAX <= sum(clock.slept) < SETTLE_SECONDS_MAX + 6


def test_a_stopped_instance_keeps_its_change_pending_until_it_starts_and_is_done() -> None:
    ec2 = fleet(instances=1)
    ec2.stopped.add("i-00000000000000000")
    ec2.pending_reads = 1000
    assert carry_out(planned(ec2), ec2).done


# Launch templates


def test_the_default_moves_and_the_latest_stays_what_it_was() -> None:
    ec2 = fleet()
    carry_out(planned(ec2), ec2)
    two = ec2.templates[A, REGION]["lt-two"]
    assert two.default == 3
    new_default, new_latest = (each["LaunchTemplateData"] for each in two.versions[2:])
    assert (new_default["ImageId"], new_default["MetadataOptions"]) == ("ami-old", V2.to_aws())
    assert (new_latest["ImageId"], new_latest["MetadataOptions"]) == ("ami-new", V2.to_aws())


def test_only_the_latest_is_wrong_and_the_default_stays() -> None:
    ec2 = fleet()
    carry_out(planned(ec2), ec2)
    new = ec2.templates[A, REGION]["lt-new"]
    assert (new.default, len(new.versions)) == (1, 3)
    assert new.versions[2]["LaunchTemplateData"]["MetadataOptions"] == {"HttpTokens": "required"}


def test_a_default_that_the_intent_keeps_does_not_move_and_its_new_version_is_made_once() -> None:
    ec2, keeping = fleet(), Intent(move_default=False)
    before = {name: each.default for name, each in ec2.templates[A, REGION].items()}
    plan = planned(ec2, keeping)
    assert carry_out(plan, ec2).done
    assert {name: each.default for name, each in ec2.templates[A, REGION].items()} == before
    assert "ModifyLaunchTemplate" not in [operation for operation, _ in ec2.writes]
    one = ec2.templates[A, REGION]["lt-one"]
    assert [each["LaunchTemplateData"]["MetadataOptions"]["HttpTokens"] for each in one.versions] == [
        "optional",
        "required",
    ]
    again = planned(ec2, keeping)
    assert [change for change in again.ready if change.surface is Surface.LAUNCH_TEMPLATE] == []
    assert any("keeps $Default" in change.held for change in again.changes)


def test_a_version_that_somebody_else_makes_meanwhile_makes_the_change_stale() -> None:
    ec2 = fleet()
    plan = planned(ec2)
    ec2.templates[A, REGION]["lt-one"].versions.append(version(V1))
    assert of(carry_out(plan, ec2), "lt-one") is Outcome.STALE


# Killed and resumed


def crash_points() -> Iterator[tuple[str, int]]:
    ec2 = fleet(instances=1)
    journal = MemoryJournal()
    carry_out(planned(ec2), ec2, journal)
    for number in range(1, len(journal.entries) + 1):
        yield "after entry", number
    for number in range(1, len(ec2.writes) + 1):
        yield "before call", number
        yield "after call", number


@pytest.mark.parametrize(("point", "number"), list(crash_points()))
def test_killed_anywhere_the_same_command_comes_to_the_same_end(point: str, number: int) -> None:
    untouched = fleet(instances=1)
    carry_out(planned(untouched), untouched)

    ec2 = fleet(instances=1)
    plan = planned(ec2)
    journal = MemoryJournal()
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
        carry_out(plan, ec2, journal)

    journal.killed_at = None
    ec2.before_write = ec2.after_write = lambda operation, params: None
    recorded = copy.deepcopy(journal.progress.old)
    assert carry_out(plan, ec2, journal).done
    assert ec2.defaults == untouched.defaults
    assert ec2.instances == untouched.instances
    assert ec2.templates == untouched.templates
    assert ec2.images == untouched.images
    assert recorded.items() <= journal.progress.old.items()
    assert journal.progress.done == {change.id for change in plan.ready}


def test_a_second_run_of_a_finished_plan_calls_nobody() -> None:
    ec2 = fleet()
    plan = planned(ec2)
    journal = MemoryJournal()
    carry_out(plan, ec2, journal)
    ec2.calls.clear()
    report = carry_out(plan, ec2, journal)
    assert outcomes(report) == {Outcome.EARLIER}
    assert ec2.calls == []


def test_a_stopped_run_finishes_what_is_under_way_and_begins_nothing_new() -> None:
    ec2 = fleet(instances=CHANGES_PER_READ_MAX + 5)
    plan = planned(ec2)
    journal = MemoryJournal()
    ended: list[Event] = []

    def stopped() -> bool:
        return sum(isinstance(entry, Began) for entry in journal.entries) >= 7

    report = carry_out(plan, ec2, journal, stopped=stopped, listener=ended.append)
    assert report.interrupted
    assert outcomes(report) == {Outcome.APPLIED, Outcome.NOT_REACHED}
    assert report.count(Outcome.APPLIED) == 7
    assert not journal.progress.in_doubt
    assert sum(isinstance(event, ChangeEnded) for event in ended) == len(plan.ready)
    assert carry_out(plan, ec2, journal).done


def test_every_call_is_between_its_beginning_and_its_end_in_the_journal() -> None:
    ec2 = fleet(A, B, instances=3)
    journal = MemoryJournal()
    plan = planned(ec2)
    carry_out(plan, ec2, journal)
    for change in plan.ready:
        kinds = [type(entry) for entry in journal.entries if getattr(entry, "change", "") == change.id]
        assert kinds == [Began, Applied]
