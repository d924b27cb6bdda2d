"""Waves behind gates: what lets them pass, what stops or undoes them, and that no crash point loses any of it."""

from __future__ import annotations

import copy
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.unit.fleet.ec2_in_memory import (
    REGION,
    A,
    B,
    FakeClock,
    Group,
    Killed,
    MemoryJournal,
    carry_out,
    fleet,
    outcomes,
    planned,
)

from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.domain.evidence import InstanceEvidence
from imdsctl.domain.intent import Intent
from imdsctl.domain.journal import Approved, Failed, GateChecked, SoakBegan, SoakFailed, WaveBegan, WaveEnded
from imdsctl.domain.metric_asks import Price
from imdsctl.domain.observations import Target
from imdsctl.domain.options import AccountDefaults, HttpTokens, Switch
from imdsctl.domain.plan import Change, Plan, Stage, Surface, plan_from_plain, plan_to_plain
from imdsctl.domain.waves import Gates, OnFailure, OnUnknown, PlannedWave
from imdsctl.fleet.apply_gates import Approval
from imdsctl.fleet.apply_report import ChangeEnded, Event, GateVerdict, Outcome, Report, Waiting
from imdsctl.fleet.refreshes import REFRESH_SECONDS_MAX
from imdsctl.views.apply import report_diagnostics, report_text

I0, I1 = "i-00000000000000000", "i-00000000000000001"
HOUR = timedelta(hours=1)
DAYS = timedelta(days=14)
START = FakeClock().now()


@dataclass
class FakeGauge:
    """What CloudWatch would say; an instance that is not named has no datapoints."""

    used: dict[str, float] = field(default_factory=dict)
    rejections: dict[str, float] = field(default_factory=dict)
    asked: list[tuple[str, set[str], datetime]] = field(default_factory=list)

    async def no_token(
        self, instances: Collection[tuple[Target, str]], since: datetime
    ) -> Mapping[tuple[Target, str], InstanceEvidence]:
        self.asked.append(("no_token", {name for _, name in instances}, since))
        return {each: InstanceEvidence(*each, no_token=self.used.get(each[1])) for each in instances}

    async def rejected(
        self, instances: Collection[tuple[Target, str]], since: datetime
    ) -> Mapping[tuple[Target, str], InstanceEvidence]:
        self.asked.append(("rejected", {name for _, name in instances}, since))
        return {each: InstanceEvidence(*each, rejected=self.rejections.get(each[1])) for each in instances}


def quiet() -> FakeGauge:
    return FakeGauge({I0: 0, I1: 0}, {I0: 0, I1: 0})


def in_waves(ec2: Any, first: PlannedWave, second: PlannedWave = PlannedWave("second")) -> Plan:  # noqa: B008
    """A plan of two waves: account A comes first, B second."""
    plan = planned(ec2, Intent())
    changes = tuple(
        replace(change, wave=first.name if change.target.account_id == A else second.name) for change in plan.changes
    )
    return plan_from_plain(plan_to_plain(replace(plan, changes=changes, waves=(first, second))))


def gated(on_failure: OnFailure = OnFailure.STOP, **gates: Any) -> PlannedWave:
    return PlannedWave("first", Gates(**gates), on_failure)


def gate_of(report: Report) -> tuple[str, str, GateVerdict]:
    assert report.gate is not None
    assert not report.done
    return report.gate.wave, report.gate.gate, report.gate.verdict


async def yes(wave: PlannedWave, changes: int) -> Approval:
    return Approval("arn:aws:iam::111122223333:user/ops", "ops", "--approve")


# Before a wave


def test_v1_calls_in_the_look_back_stop_before_the_wave_and_name_the_instance() -> None:
    ec2 = fleet(A, B)
    gauge = FakeGauge({I0: 0, I1: 12})
    report = carry_out(in_waves(ec2, gated(no_v1_calls=DAYS)), ec2, gauge=gauge)
    assert gate_of(report) == ("first", "no IMDSv1 calls", GateVerdict.FAILED)
    assert report.gate is not None
    assert [(each.instance_id, each.no_token) for each in report.gate.instances] == [(I1, 12)]
    assert outcomes(report) == {Outcome.HELD_BACK}
    assert ec2.writes == []
    assert gauge.asked == [("no_token", {I0, I1}, START - DAYS)]


def test_the_same_command_asks_again_and_goes_on() -> None:
    ec2 = fleet(A, B)
    plan = in_waves(ec2, gated(no_v1_calls=DAYS))
    journal = MemoryJournal()
    carry_out(plan, ec2, journal, gauge=FakeGauge({I0: 0, I1: 12}))
    assert carry_out(plan, ec2, journal, gauge=quiet()).done
    said = [entry.verdict for entry in journal.entries if isinstance(entry, GateChecked)]
    assert said == ["failed", "passed"]


def test_the_second_waves_gate_leaves_the_first_wave_done() -> None:
    ec2 = fleet(A, B)
    second = PlannedWave("second", Gates(no_v1_calls=DAYS))
    report = carry_out(in_waves(ec2, PlannedWave("first"), second), ec2, gauge=FakeGauge({I0: 3, I1: 0}))
    assert gate_of(report) == ("second", "no IMDSv1 calls", GateVerdict.FAILED)
    ended = {result.change.target.account_id: result.outcome for result in report.results}
    assert ended == {A: Outcome.APPLIED, B: Outcome.HELD_BACK}


@pytest.mark.parametrize("gauge", [FakeGauge({I0: 0}), None])
def test_what_nobody_can_tell_stops_or_passes_as_the_gate_says(gauge: FakeGauge | None) -> None:
    ec2 = fleet(A, B)
    report = carry_out(in_waves(ec2, gated(no_v1_calls=DAYS)), ec2, gauge=gauge)
    assert gate_of(report) == ("first", "no IMDSv1 calls", GateVerdict.UNKNOWN)
    allowing = in_waves(ec2, gated(no_v1_calls=DAYS, unknown_evidence=OnUnknown.ALLOW))
    assert carry_out(allowing, ec2, gauge=gauge).done


def test_use_is_use_even_where_the_unknown_may_pass() -> None:
    ec2 = fleet(A, B)
    plan = in_waves(ec2, gated(no_v1_calls=DAYS, unknown_evidence=OnUnknown.ALLOW))
    assert gate_of(carry_out(plan, ec2, gauge=FakeGauge({I0: 1})))[2] is GateVerdict.FAILED


def test_nobody_approves_and_the_gate_is_closed() -> None:
    ec2 = fleet(A, B)
    report = carry_out(in_waves(ec2, gated(approval=True)), ec2)
    assert gate_of(report) == ("first", "approval", GateVerdict.CLOSED)
    assert ec2.writes == []


def test_an_approval_is_recorded_with_who_and_when_and_not_asked_for_again() -> None:
    ec2 = fleet(A, B)
    plan = in_waves(ec2, gated(approval=True, windows=("Sat 10:00-11:00 UTC",)))
    journal = MemoryJournal()
    assert gate_of(carry_out(plan, ec2, journal, approve=yes))[1] == "maintenance window"
    (approval,) = (entry for entry in journal.entries if isinstance(entry, Approved))
    assert (approval.by, approval.user, approval.at) == (
        "arn:aws:iam::111122223333:user/ops",
        "ops",
        START.isoformat(),
    )
    assert carry_out(plan, ec2, journal, clock=FakeClock(datetime.fromisoformat("2026-11-07T10:30Z"))).done


def test_a_closed_window_says_when_it_opens() -> None:
    ec2 = fleet(A, B)
    report = carry_out(in_waves(ec2, gated(windows=("Tue 02:00-04:00 UTC", "Sat 10:00-11:00 UTC"))), ec2)
    assert gate_of(report) == ("first", "maintenance window", GateVerdict.CLOSED)
    assert report.gate is not None
    assert report.gate.opens == datetime.fromisoformat("2026-11-03T02:00Z")
    assert ec2.writes == []


def test_a_window_can_be_waited_for() -> None:
    ec2 = fleet(A, B)
    clock = FakeClock(datetime.fromisoformat("2026-11-03T01:50Z"))
    waited: list[Event] = []
    plan = in_waves(ec2, gated(windows=("Tue 02:00-04:00 UTC",)))
    assert carry_out(plan, ec2, clock=clock, wait=True, listener=waited.append).done
    assert clock.now() >= datetime.fromisoformat("2026-11-03T02:00Z")
    assert any(isinstance(event, Waiting) for event in waited)


@dataclass
class SlowClock(FakeClock):
    """Half an hour goes by with each change that is made."""

    def __call__(self, event: Event) -> None:
        if isinstance(event, ChangeEnded) and event.result.outcome is Outcome.APPLIED:
            self.time += HOUR / 2


def test_nothing_is_begun_when_the_window_has_closed_under_way_and_the_same_command_goes_on() -> None:
    ec2, journal = fleet(A, B, instances=9), MemoryJournal()
    plan = in_waves(ec2, gated(windows=("Tue 02:00-03:00 UTC",)))
    clock = SlowClock(datetime.fromisoformat("2026-11-03T02:00Z"))
    report = carry_out(plan, ec2, journal, clock=clock, listener=clock)
    assert gate_of(report) == ("first", "maintenance window", GateVerdict.CLOSED)
    assert report.gate is not None
    assert report.gate.opens == datetime.fromisoformat("2026-11-10T02:00Z")
    assert not report.interrupted
    assert outcomes(report) == {Outcome.APPLIED, Outcome.HELD_BACK}
    ready = sum(change.wave == "first" for change in plan.ready)
    assert 0 < report.count(Outcome.APPLIED) < ready
    again = carry_out(plan, ec2, journal, clock=FakeClock(datetime.fromisoformat("2026-11-10T02:00Z")))
    assert again.done
    assert outcomes(again) == {Outcome.EARLIER, Outcome.APPLIED}


def test_what_the_window_left_over_can_be_waited_for_and_its_evidence_is_asked_anew() -> None:
    ec2, gauge = fleet(A, B, instances=9), FakeGauge({f"i-{number:017x}": 0 for number in range(9)})
    plan = in_waves(ec2, gated(windows=("Tue 02:00-03:00 UTC",), no_v1_calls=DAYS))
    clock = SlowClock(datetime.fromisoformat("2026-11-03T02:00Z"))
    report = carry_out(plan, ec2, clock=clock, listener=clock, gauge=gauge, wait=True)
    assert report.done
    assert outcomes(report) == {Outcome.APPLIED}
    assert gauge.asked[-1][2] - gauge.asked[0][2] >= timedelta(days=7)


# After a wave


def test_a_wave_soaks_and_what_it_changed_is_watched() -> None:
    ec2 = fleet(A, B)
    journal, clock, gauge = MemoryJournal(), FakeClock(), quiet()
    plan = in_waves(ec2, gated(soak=HOUR, rejected_calls_max=0))
    told: list[Event] = []
    assert carry_out(plan, ec2, journal, clock=clock, gauge=gauge, listener=told.append).done
    assert clock.now() == START + HOUR
    # What is paid for was said before: two instances at each look.
    assert next(each.price for each in told if isinstance(each, Waiting)) == Price(2 * len(gauge.asked))
    assert {(kind, since) for kind, _, since in gauge.asked} == {("rejected", START)}
    assert all(instances == {I0, I1} for _, instances, _ in gauge.asked)
    assert len(gauge.asked) == 13  # every five minutes, and at both ends
    kinds = [type(entry) for entry in journal.entries]
    assert kinds.index(SoakBegan) < kinds.index(WaveEnded) < kinds.index(WaveBegan, kinds.index(SoakBegan))


def test_a_soak_without_a_cap_only_waits() -> None:
    ec2 = fleet(A, B)
    clock = FakeClock()
    assert carry_out(in_waves(ec2, gated(soak=HOUR)), ec2, clock=clock).done
    assert clock.now() == START + HOUR


def test_a_soak_that_was_interrupted_ends_when_it_would_have() -> None:
    ec2 = fleet(A, B)
    plan = in_waves(ec2, gated(soak=HOUR, rejected_calls_max=0))
    journal, clock, gauge = MemoryJournal(), FakeClock(), quiet()
    stop_at = START + HOUR / 2
    report = carry_out(plan, ec2, journal, clock=clock, gauge=gauge, stopped=lambda: clock.now() >= stop_at)
    assert report.interrupted
    assert outcomes(report) == {Outcome.APPLIED, Outcome.NOT_REACHED}
    assert clock.now() == stop_at
    assert carry_out(plan, ec2, journal, clock=clock, gauge=gauge).done
    assert clock.now() == START + HOUR
    assert {since for _, _, since in gauge.asked} == {START}


@pytest.mark.parametrize(("rejected", "most", "done"), [(3, 3, True), (4, 3, False), (1, 0, False)])
def test_more_rejected_calls_than_the_cap_stop_before_the_next_wave(rejected: int, most: int, done: bool) -> None:
    ec2 = fleet(A, B)
    gauge = FakeGauge(rejections={I0: rejected, I1: 0})
    clock = FakeClock()
    report = carry_out(in_waves(ec2, gated(soak=HOUR, rejected_calls_max=most)), ec2, gauge=gauge, clock=clock)
    assert report.done is done
    if not done:
        assert gate_of(report) == ("first", "rejected calls", GateVerdict.FAILED)
        assert clock.now() == START  # at the first look
        assert report.rolled_back is None
        assert ec2.instances[A, REGION][I0]["HttpTokens"] == "required"
        assert ec2.instances[B, REGION][I0]["HttpTokens"] == "optional"


def test_a_soak_counts_from_the_beginning_of_its_wave() -> None:
    """The first instances of a large wave are changed long before its last."""
    ec2, gauge, clock = fleet(A, B), quiet(), SlowClock()
    plan = in_waves(ec2, gated(soak=HOUR, rejected_calls_max=0))
    assert carry_out(plan, ec2, clock=clock, listener=clock, gauge=gauge).done
    assert {since for _, _, since in gauge.asked} == {START}


def test_what_a_later_run_changes_in_a_wave_that_was_through_is_watched_too() -> None:
    ec2, journal, clock = fleet(A, B), MemoryJournal(), FakeClock()
    plan = in_waves(ec2, gated(soak=HOUR))
    ec2.instances[A, REGION][I0]["HttpPutResponseHopLimit"] = 5  # somebody else's change: left alone
    assert Outcome.STALE in outcomes(carry_out(plan, ec2, journal, clock=clock))
    ec2.instances[A, REGION][I0]["HttpPutResponseHopLimit"] = 1
    before = clock.now()
    assert carry_out(plan, ec2, journal, clock=clock).done
    assert clock.now() - before >= HOUR


def test_a_second_soak_counts_from_its_own_beginning() -> None:
    ec2 = fleet(A, B)
    plan = in_waves(ec2, gated(soak=HOUR, rejected_calls_max=0))
    journal = MemoryJournal()
    carry_out(plan, ec2, journal, gauge=FakeGauge(rejections={I0: 1, I1: 0}))
    gauge, later = quiet(), START + timedelta(days=1)
    assert carry_out(plan, ec2, journal, gauge=gauge, clock=FakeClock(later)).done
    assert gauge.asked[0][2] == later


def test_figures_that_come_late_are_waited_for_and_missing_ones_are_unknown() -> None:
    ec2 = fleet(A, B)
    plan = in_waves(ec2, gated(OnFailure.ROLLBACK, soak=HOUR, rejected_calls_max=0))
    journal, clock = MemoryJournal(), FakeClock()
    report = carry_out(plan, ec2, journal, gauge=FakeGauge(rejections={I0: 0}), clock=clock)
    assert gate_of(report) == ("first", "rejected calls", GateVerdict.UNKNOWN)
    assert report.rolled_back is None  # nobody knows that anything went wrong
    assert clock.now() == START + HOUR + timedelta(minutes=10)
    assert carry_out(plan, ec2, journal, gauge=quiet(), clock=clock).done


# Rolled back


def snapshot(ec2: Any) -> Any:
    """The whole world, but for launch template versions that are left lying."""
    kept = {
        place: {name: (each.default, each.versions[: each.default]) for name, each in templates.items()}
        for place, templates in ec2.templates.items()
    }
    return copy.deepcopy((ec2.defaults, ec2.instances, ec2.images, kept))


BROKEN = FakeGauge({I0: 0, I1: 0}, {I0: 2, I1: 0})


def breaking(ec2: Any) -> Plan:
    return in_waves(ec2, gated(OnFailure.ROLLBACK, soak=HOUR, rejected_calls_max=0))


def test_a_wave_that_breaks_something_is_rolled_back_to_what_it_was() -> None:
    ec2 = fleet(A, B)
    before = snapshot(ec2)
    report = carry_out(breaking(ec2), ec2, gauge=BROKEN)
    assert gate_of(report) == ("first", "rejected calls", GateVerdict.FAILED)
    assert report.rolled_back is not None
    # Versions that apply made stay, and are what launches from $Latest get: that is no "restored", and is said.
    outcome = {each.change.resource: each.outcome for each in report.rolled_back.results}
    assert {name: outcome[name] for name in outcome if name.startswith("lt-")} == dict.fromkeys(
        ("lt-one", "lt-two", "lt-new"), Outcome.BUT_LATEST
    )
    assert set(outcome.values()) == {Outcome.RESTORED, Outcome.BUT_LATEST}
    assert snapshot(ec2) == before
    told = report_text(report, deferred=0)
    assert "lt-new: version 3 stays, and $Latest is 3: `--delete-versions` deletes what apply made" in told
    [hint] = [each.hint or "" for each in report_diagnostics(report, "plan.json", "imdsctl apply plan.json")]
    assert "this plan is not applied again" in hint
    assert "`imdsctl rollback plan.json --wave first --delete-versions`" in hint
    assert {result.change.target.account_id for result in report.rolled_back.results} == {A}


def test_a_plan_that_was_rolled_back_is_not_applied_again() -> None:
    ec2 = fleet(A, B)
    plan, journal = breaking(ec2), MemoryJournal()
    carry_out(plan, ec2, journal, gauge=BROKEN)
    with pytest.raises(DiagnosticError, match="plan-rolled-back"):
        carry_out(plan, ec2, journal, gauge=quiet())


def test_a_wave_that_failed_is_rolled_back_though_the_run_died_before_and_all_is_quiet_now() -> None:
    ec2 = fleet(A, B)
    before = snapshot(ec2)
    plan, journal = breaking(ec2), MemoryJournal()
    carry_out(plan, ec2, journal, gauge=BROKEN)
    failed = next(n for n, entry in enumerate(journal.entries, 1) if isinstance(entry, SoakFailed))
    ec2, journal = fleet(A, B), MemoryJournal(killed_at=failed)
    with pytest.raises((Killed, BaseExceptionGroup)):
        carry_out(plan, ec2, journal, gauge=BROKEN)
    assert ec2.instances[A, REGION][I0]["HttpTokens"] == "required"
    report = carry_out(plan, ec2, MemoryJournal(journal.entries), gauge=quiet())
    assert report.rolled_back is not None
    assert snapshot(ec2) == before


def test_killed_anywhere_in_wave_gate_and_rollback_the_same_command_comes_to_the_same_end() -> None:
    ec2 = fleet(A, B, instances=1)
    before = snapshot(ec2)
    plan, journal = breaking(ec2), MemoryJournal()
    carry_out(plan, ec2, journal, gauge=BROKEN)
    for point in range(1, len(journal.entries)):
        ec2 = fleet(A, B, instances=1)
        journal = MemoryJournal(killed_at=point)
        with pytest.raises((Killed, BaseExceptionGroup)):
            carry_out(plan, ec2, journal, gauge=BROKEN)
        journal.killed_at = None
        report = carry_out(plan, ec2, journal, gauge=BROKEN)
        assert gate_of(report)[0] == "first"
        assert snapshot(ec2) == before, point
        assert journal.progress.wave("first").rollback_ended


def test_a_run_that_is_stopped_in_its_rollback_goes_on_with_it() -> None:
    ec2 = fleet(A, B, instances=5)
    before = snapshot(ec2)
    plan, journal = breaking(ec2), MemoryJournal()

    def stopped() -> bool:
        return len(journal.progress.rolled_back) >= 3

    report = carry_out(plan, ec2, journal, gauge=BROKEN, stopped=stopped)
    assert report.interrupted
    assert snapshot(ec2) != before
    report = carry_out(plan, ec2, journal, gauge=quiet())
    assert report.gate is not None
    assert snapshot(ec2) == before


def test_where_an_earlier_plan_enforced_a_wave_that_is_rolled_back_says_what_is_not_restored() -> None:
    """AWS would take the old values, and refuse every launch from them."""
    ec2 = fleet(A, B)
    ec2.defaults[A, REGION] = AccountDefaults(HttpTokens.REQUIRED, http_tokens_enforced=Switch.ENABLED)
    plan, journal = breaking(ec2), MemoryJournal()
    report = carry_out(plan, ec2, journal, gauge=BROKEN)
    assert report.rolled_back is not None
    outcome = {each.change.resource: each.outcome for each in report.rolled_back.results}
    assert outcome["lt-one"] is Outcome.FAILED
    assert ec2.templates[A, REGION]["lt-one"].default == 2
    told = [each for each in report_diagnostics(report, "plan.json", "imdsctl apply") if each.code == "rollback-failed"]
    assert ["set HttpTokensEnforced=disabled" in each.summary for each in told] == [True]
    ec2.defaults[A, REGION] = AccountDefaults(HttpTokens.REQUIRED)
    carry_out(plan, ec2, journal, gauge=BROKEN)
    assert ec2.templates[A, REGION]["lt-one"].default == 1


# Auto Scaling groups


def refreshing(ec2: Any, *old: str) -> Plan:
    target = Target(A, REGION)
    ec2.groups[A, REGION] = {"web": Group([I0, I1])}
    change = Change(
        id=f"{target}/auto-scaling-group/web",
        stage=Stage.REFRESHES,
        surface=Surface.AUTO_SCALING_GROUP,
        target=target,
        resource="web",
        before={"Instances": list(old or (I0, I1))},
        after={"Preferences": {"MinHealthyPercentage": 50}},
        reason="its instances answer IMDSv1",
        wave="first",
    )
    wave = gated(soak=HOUR, rejected_calls_max=0)
    plan = replace(planned(ec2, Intent()), changes=(change,), waves=(wave,))
    return plan_from_plain(plan_to_plain(plan))


def test_a_refresh_is_followed_to_its_end_and_its_new_instances_are_watched() -> None:
    ec2 = fleet(A)
    gauge = quiet()
    assert carry_out(refreshing(ec2), ec2, gauge=gauge).done
    assert dict(ec2.writes)["StartInstanceRefresh"]["Preferences"] == {"MinHealthyPercentage": 50}
    assert gauge.asked[0][1] == {I0, I1}


def test_a_group_whose_old_instances_are_gone_is_not_refreshed() -> None:
    """Somebody else replaced them, or it scaled in and out: a refresh would disturb what is right."""
    ec2 = fleet(A)
    plan = refreshing(ec2, "i-gone")
    assert outcomes(carry_out(plan, ec2, gauge=quiet())) == {Outcome.ALREADY}
    assert ec2.writes == []


def test_a_refresh_of_somebody_else_is_not_disturbed() -> None:
    ec2 = fleet(A)
    plan = refreshing(ec2)
    ec2.groups[A, REGION]["web"].refreshes.append({"InstanceRefreshId": "other", "Status": "InProgress", "left": 99})
    report = carry_out(plan, ec2)
    assert outcomes(report) == {Outcome.STALE}
    assert "another instance refresh runs" in report.results[0].detail
    assert ec2.writes == []


def test_a_refresh_that_fails_is_a_failure_and_the_same_command_begins_another() -> None:
    ec2 = fleet(A)
    plan, journal = refreshing(ec2), MemoryJournal()
    ec2.refresh_ends = "Failed"
    assert outcomes(carry_out(plan, ec2, journal, gauge=quiet())) == {Outcome.FAILED}
    assert [entry.code for entry in journal.entries if isinstance(entry, Failed)] == ["InstanceRefreshFailed"]
    ec2.refresh_ends = "Successful"
    assert carry_out(plan, ec2, journal, gauge=quiet()).done
    assert len(ec2.groups[A, REGION]["web"].refreshes) == 2


def test_a_refresh_is_begun_once_however_often_the_run_is_killed() -> None:
    ec2 = fleet(A)
    plan, journal = refreshing(ec2), MemoryJournal()

    def die(operation: str, params: Mapping[str, Any]) -> None:
        raise Killed

    ec2.after_write = die
    with pytest.raises((Killed, BaseExceptionGroup)):
        carry_out(plan, ec2, journal)
    ec2.after_write = lambda operation, params: None
    assert carry_out(plan, ec2, journal, gauge=quiet()).done
    assert len(ec2.groups[A, REGION]["web"].refreshes) == 1


def test_a_refresh_that_does_not_end_is_left_in_doubt_and_followed_by_the_same_command() -> None:
    ec2 = fleet(A)
    plan, journal = refreshing(ec2), MemoryJournal()
    ec2.refresh_reads = 10**9
    clock = FakeClock()
    assert outcomes(carry_out(plan, ec2, journal, clock=clock)) == {Outcome.IN_DOUBT}
    assert clock.now() - START >= timedelta(seconds=REFRESH_SECONDS_MAX)
    ec2.groups[A, REGION]["web"].refreshes[0]["left"] = 1
    assert carry_out(plan, ec2, journal, gauge=quiet()).done
