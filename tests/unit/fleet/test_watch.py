"""The watch over a fleet in memory, with a clock that does not wait and events from a list."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.intent import Intent, parse_intent
from imdsctl.domain.observations import (
    Account,
    AccountUnseen,
    InstanceSeen,
    RegionSeen,
    Scan,
    Target,
    TemplateVersionSeen,
    Unseen,
)
from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions, Switch
from imdsctl.domain.plan import Plan
from imdsctl.domain.trail_events import TrailEvent, events_of_text
from imdsctl.domain.verdicts import REGION_NOT_ENABLED
from imdsctl.fleet.ports import Unreachable
from imdsctl.fleet.watch import DELIVERIES_MAX, SETTLE_SECONDS, Hands, Watching
from imdsctl.fleet.watch_events import (
    Began,
    Blind,
    ChangeRepaired,
    Delivery,
    IntentRead,
    RepairEnded,
    RoundEnded,
    Trouble,
    WatchEvent,
)
from imdsctl.fleet.watch_repairs import HELD_ROUNDS_MAX, REPAIRS_OF_ONE_MAX, Repaired
from imdsctl.views.watch import is_quiet, watch_json, watch_text
from imdsctl.wire.errors import ServiceError

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
HERE = Target("111122223333", "eu-west-1")
THERE = Target("111122223333", "us-east-1")
RIGHT = AccountDefaults(HttpTokens.REQUIRED, 2, http_tokens_enforced=Switch.ENABLED)
V1 = MetadataOptions(HttpTokens.OPTIONAL, 1, Switch.ENABLED)
V2 = MetadataOptions(HttpTokens.REQUIRED, 1, Switch.ENABLED)
MALLORY = "arn:aws:iam::111122223333:user/mallory"


def instance(number: int, options: MetadataOptions = V2) -> InstanceSeen:
    return InstanceSeen(f"i-{number:017x}", "running", options)


def record(name: str, *names: str, target: Target = HERE, source: str = "ec2", **more: Any) -> dict[str, Any]:
    """A record of CloudTrail."""
    return {
        "userIdentity": {"type": "IAMUser", "arn": MALLORY},
        "eventTime": "2026-11-02T12:30:00Z",
        "eventSource": f"{source}.amazonaws.com",
        "eventName": name,
        "awsRegion": target.region,
        "sourceIPAddress": "203.0.113.9",
        "userAgent": "aws-cli/2",
        "requestParameters": {"names": list(names)},
        "eventID": f"event-{name}",
        "recipientAccountId": target.account_id,
        **more,
    }


def events(*records: dict[str, Any]) -> tuple[TrailEvent, ...]:
    return tuple(events_of_text(json.dumps({"Records": list(records)})))


@dataclass
class FakeClock:
    """Moves only when somebody sleeps; calls what is due after a sleep."""

    time: datetime = NOON
    slept: list[float] = field(default_factory=list)
    after: Callable[[int], None] = lambda number: None

    def now(self) -> datetime:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += timedelta(seconds=seconds)
        self.after(len(self.slept))
        await asyncio.sleep(0)


@dataclass
class Queue:
    """Hands out its messages until they are done with, then stops the watch or goes on being empty."""

    waiting: list[Delivery]
    finished: list[str] = field(default_factory=list)
    receives: int = 0

    async def receive(self) -> Sequence[Delivery]:
        self.receives += 1
        return [replace(each, times=self.receives) for each in self.waiting if each.receipt not in self.finished]

    async def done(self, deliveries: Sequence[Delivery]) -> None:
        self.finished += [each.receipt for each in deliveries]


class Fleet:
    """A fleet in memory, what was told of it, and what was asked of CloudTrail."""

    def __init__(self, *regions: RegionSeen) -> None:
        self.regions = {each.target: each for each in regions}
        self.unseen: tuple[AccountUnseen, ...] = ()
        self.clock = FakeClock()
        self.stop = asyncio.Event()
        self.told: list[WatchEvent] = []
        self.asked: list[tuple[Target, datetime]] = []
        self.read: list[Target] = []
        self.history: tuple[TrailEvent, ...] = ()
        self.fails: Exception | None = None
        self.applied: list[list[str]] = []
        self.scans = 0
        self.intent = Intent()
        self.intent_file: Callable[[], Intent] | None = None

    def see(self, *regions: RegionSeen) -> None:
        self.regions.update({each.target: each for each in regions})

    def scan(self) -> Scan:
        regions = tuple(self.regions[each] for each in sorted(self.regions))
        now = self.clock.now()
        return Scan(f"scan-{self.scans}", now, now, (Account(HERE.account_id, "prod"),), regions, self.unseen)

    async def _scan(self) -> Scan:
        self.scans += 1
        return self.scan()

    async def _read(self, target: Target) -> RegionSeen:
        self.read.append(target)
        if self.fails is not None:
            raise self.fails
        return self.regions[target]

    async def _watched(self, target: Target) -> Account | None:
        return Account(target.account_id, "prod") if target in self.regions else None

    async def _writes_since(self, target: Target, since: datetime) -> list[TrailEvent]:
        self.asked.append((target, since))
        return list(self.history)

    async def _repair(self, plan: Plan) -> Repaired:
        ids = [change.id for change in plan.changes]
        self.applied.append(ids)
        for change in plan.changes:
            seen = self.regions[change.target]
            fixed = [
                replace(each, options=V2) if each.instance_id == change.resource else each for each in seen.instances
            ]
            self.see(replace(seen, instances=tuple(fixed)))
        return Repaired(tuple(ChangeRepaired(each, "applied") for each in ids), frozenset(ids), "plan.json")

    def watching(self, *, repair: bool = False, **more: Any) -> Watching:
        file = self.intent_file
        hands = Hands(
            self._scan,
            self._read,
            self._watched,
            self._writes_since,
            self._repair if repair else None,
            None if file is None else lambda: (file(), "imdsctl.toml"),
        )
        return Watching(hands, self.intent, self.clock, self.stop, self.told.append, **more)

    def run(self, baseline: Scan | None = None, **more: Any) -> list[RoundEnded]:
        """Watch to the end; the rounds."""
        asyncio.run(self.watching(**more).run(baseline))
        return [each for each in self.told if isinstance(each, RoundEnded)]


def drifted(ended: RoundEnded) -> list[str]:
    return [each.change.resource for each in ended.drifts]


@pytest.fixture
def fleet() -> Fleet:
    """Two Regions as they should be, with an old gap in one: an instance that answered IMDSv1 all along."""
    return Fleet(
        RegionSeen(HERE, RIGHT, (instance(1), instance(2, V1))),
        RegionSeen(THERE, RIGHT, (instance(3),)),
    )


# -- by scans --------------------------------------------------------------------------------------------------------


def test_drift_is_what_came_since_the_last_look_and_is_told_once(fleet: Fleet) -> None:
    def later(number: int) -> None:
        if number == 1:
            fleet.see(RegionSeen(HERE, RIGHT, (instance(1, V1), instance(2, V1))))
        if number == 2:
            fleet.see(RegionSeen(THERE, AccountDefaults(), (instance(3),)))

    fleet.clock.after = later
    first, second, third, fourth = fleet.run(rounds=4)
    assert drifted(first) == []  # nothing to compare with: an old gap is no drift
    assert drifted(second) == [instance(1).instance_id]
    assert second.drifts[0].since == NOON
    assert set(drifted(third)) == {"us-east-1"}  # the Region default, and its enforcement
    assert drifted(fourth) == []
    assert fleet.clock.slept == [3600.0] * 3


def test_the_last_scan_that_is_kept_is_the_first_baseline(fleet: Fleet) -> None:
    before = fleet.scan()
    fleet.see(RegionSeen(HERE, RIGHT, (instance(1), instance(2, V1), instance(4, V1))))
    [only] = fleet.run(before, rounds=1)
    assert drifted(only) == [instance(4).instance_id]


def test_a_region_that_is_new_in_a_scan_of_the_same_scope_is_drift_and_one_that_was_refused_before_is_not(
    fleet: Fleet,
) -> None:
    new, refused = Target(HERE.account_id, "ap-east-1"), Target(HERE.account_id, "eu-north-1")
    fleet.unseen = (AccountUnseen(refused.account_id, refused.region, Unseen("Region", "no answer", "Unreachable")),)
    before = fleet.scan()
    fleet.unseen = ()
    fleet.see(RegionSeen(new, AccountDefaults()), RegionSeen(refused, AccountDefaults()))
    [only] = fleet.run(before, rounds=1)
    assert set(drifted(only)) == {"ap-east-1"}
    assert drifted(Fleet(*fleet.regions.values()).run(before, rounds=1, scope=(("regions", "all"),))[0]) == []


def test_cloudtrail_is_asked_once_for_a_target_and_nobody_is_blamed_on_a_guess(fleet: Fleet) -> None:
    before = fleet.scan()
    fleet.see(RegionSeen(HERE, RIGHT, (instance(1, V1), instance(2, V1), instance(5, V1))))
    fleet.history = events(record("ModifyInstanceMetadataOptions", instance(1).instance_id))
    [only] = fleet.run(before, rounds=1)
    actors = {each.change.resource: each.actor for each in only.drifts}
    blamed = actors[instance(1).instance_id]
    assert blamed is not None
    assert (blamed.arn, blamed.source_ip, blamed.event_id) == (
        MALLORY,
        "203.0.113.9",
        "event-ModifyInstanceMetadataOptions",
    )
    assert actors[instance(5).instance_id] is None
    assert fleet.asked == [(HERE, NOON)]
    text = watch_text(only)
    assert f"by {MALLORY} from 203.0.113.9 with aws-cli/2" in text
    assert "unknown who" in text


def test_what_can_no_longer_be_read_is_unknown_and_is_no_drift_when_it_is_back(fleet: Fleet) -> None:
    whole = fleet.regions[HERE]

    def later(number: int) -> None:
        fleet.see(replace(whole, instances=(), unseen=(Unseen("instances", "denied"),)) if number == 1 else whole)
        if number == 1:
            fleet.unseen = (
                AccountUnseen(THERE.account_id, THERE.region, Unseen("Region", "no answer", "Unreachable")),
            )
            del fleet.regions[THERE]

    fleet.clock.after = later
    _, second, third = fleet.run(rounds=3)
    assert second.blind == (Blind(f"{HERE}: instances", "denied"), Blind(str(THERE), "no answer"))
    assert (second.drifts, third.drifts, third.blind) == ((), (), ())


def test_a_region_that_is_disabled_meanwhile_is_told_once(fleet: Fleet) -> None:
    """What was exposed in it is neither gone nor mended."""

    def later(number: int) -> None:
        if number == 1:
            gone = Unseen("Region", "the account has not enabled this Region", REGION_NOT_ENABLED)
            fleet.unseen = (AccountUnseen(THERE.account_id, THERE.region, gone),)
            del fleet.regions[THERE]

    fleet.clock.after = later
    _, second, third = fleet.run(rounds=3)
    assert second.blind == (Blind(str(THERE), "the account has not enabled this Region"),)
    assert (third.drifts, third.blind) == ((), ())


def test_what_no_look_could_read_before_is_no_drift_when_it_is_read_at_last(fleet: Fleet) -> None:
    whole = fleet.regions[HERE]
    fleet.see(replace(whole, instances=(), unseen=(Unseen("instances", "denied"),)))

    def later(number: int) -> None:
        if number == 2:
            fleet.see(whole)
        if number == 3:
            fleet.see(replace(whole, instances=(instance(1, V1), instance(2, V1))))

    fleet.clock.after = later
    rounds = fleet.run(rounds=4)
    assert [drifted(each) for each in rounds] == [[], [], [], [instance(1).instance_id]]


def test_a_new_template_without_tokens_is_drift_as_a_changed_one_is(fleet: Fleet) -> None:
    fleet.see(replace(fleet.regions[HERE], defaults=replace(RIGHT, http_tokens_enforced=None)))
    before = fleet.scan()
    version = TemplateVersionSeen("lt-0123456789abcdef0", "web", 1, True, True, V1)
    fleet.see(replace(fleet.regions[HERE], templates=(version,)))
    [only] = fleet.run(before, rounds=1)
    assert drifted(only) == [version.template_id]


BILLING = replace(instance(8, V1), tags=(("app", "billing"),))


def with_exception(expires: str, waves: str = "") -> Intent:
    said = f'match = {{ tag = "app" }}\nowner = "b"\nreason = "r"\nexpires = {expires}\n'
    return parse_intent(f"version = 1\n{waves}[[exception]]\n{said}")


def test_an_exception_that_expires_is_told_and_is_no_drift_for_nobody_has_changed_anything(fleet: Fleet) -> None:
    fleet.intent = with_exception("2026-11-02")
    fleet.see(RegionSeen(HERE, RIGHT, (instance(1), BILLING)))
    before = fleet.scan()
    rounds = fleet.run(before, repair=True, rounds=3, interval=timedelta(hours=12))
    assert [drifted(each) for each in rounds] == [[], [], []]
    assert [[each.resource for each in ended.lapsed] for ended in rounds] == [[], [BILLING.instance_id], []]
    assert fleet.applied == []
    assert "no longer exempt" in watch_text(rounds[1])
    assert json.loads(watch_json(rounds[1]))["no_longer_exempt"][0]["resource"] == BILLING.instance_id
    assert [is_quiet(each) for each in rounds] == [True, False, True]


def test_what_is_exempt_is_no_drift_whatever_is_done_to_it(fleet: Fleet) -> None:
    fleet.intent = with_exception("2099-01-01")
    before = fleet.scan()
    fleet.see(RegionSeen(HERE, RIGHT, (instance(1), BILLING)))
    assert [drifted(each) for each in fleet.run(before, repair=True, rounds=1)] == [[]]
    assert fleet.applied == []


def test_an_exception_that_is_registered_while_it_watches_holds_from_then_on(fleet: Fleet) -> None:
    fleet.see(RegionSeen(HERE, RIGHT, (instance(1), replace(BILLING, options=V2))))
    fleet.intent_file = lambda: fleet.intent
    before = fleet.scan()

    def between(_: int) -> None:
        fleet.intent = with_exception("2099-01-01", '[[wave]]\nname = "all"\nsoak = "1h"\n')
        fleet.see(RegionSeen(HERE, RIGHT, (instance(1), BILLING)))

    fleet.clock.after = between
    rounds = fleet.run(before, repair=True, rounds=3)
    assert [drifted(each) for each in rounds] == [[], [], []]
    assert fleet.applied == []
    [told] = [each for each in fleet.told if isinstance(each, IntentRead)]
    assert "imdsctl.toml has changed and was read again\nRepairs do not soak" in watch_text(told)
    assert json.loads(watch_json(told))["without_soak"] == ["all"]


def test_an_exception_that_is_registered_before_an_event_comes_holds_for_it(fleet: Fleet) -> None:
    fleet.see(RegionSeen(HERE, RIGHT, (instance(1), replace(BILLING, options=V2))))
    before = fleet.scan()
    fleet.intent_file = lambda: with_exception("2099-01-01")
    fleet.see(RegionSeen(HERE, RIGHT, (instance(1, V1), BILLING)))
    queue = Queue([Delivery("a", events(record("ModifyInstanceMetadataOptions", BILLING.instance_id)))])
    fleet.run(before, repair=True, source=queue, interval=None, until_empty=True)
    assert fleet.applied == [[f"{HERE}/instance/{instance(1).instance_id}"]]


def test_an_exception_that_is_taken_out_of_the_file_is_told_and_is_no_drift(fleet: Fleet) -> None:
    fleet.intent = with_exception("2099-01-01")
    fleet.see(RegionSeen(HERE, RIGHT, (instance(1), BILLING)))
    before = fleet.scan()
    fleet.intent_file = Intent
    rounds = fleet.run(before, repair=True, rounds=2)
    assert [[each.resource for each in ended.lapsed] for ended in rounds] == [[BILLING.instance_id], []]
    assert fleet.applied == []


@pytest.mark.parametrize("unseen", [(), (Unseen("instances", "throttled", "RequestLimitExceeded"),)])
def test_what_only_a_new_intent_wants_is_a_gap_but_what_somebody_has_changed_too_is_drift(
    fleet: Fleet, unseen: tuple[Unseen, ...]
) -> None:
    """Else a line in a file would roll out to the fleet, past the plan that somebody reads."""
    before = fleet.scan()
    instances = fleet.regions[HERE].instances
    fleet.intent_file = lambda: parse_intent("version = 1\n[instances]\nhop-limit-exactly = 3\n")
    fleet.see(RegionSeen(HERE, RIGHT, () if unseen else instances, unseen=unseen))
    fleet.see(RegionSeen(THERE, RIGHT, (instance(3, V1),)))
    fleet.clock.after = lambda number: fleet.see(RegionSeen(HERE, RIGHT, instances))
    rounds = fleet.run(before, rounds=3)
    assert [drifted(each) for each in rounds] == [[instance(3).instance_id], [], []]


def test_while_the_intent_file_is_wrong_nothing_is_repaired_and_its_mistakes_are_told_once(fleet: Fleet) -> None:
    before = fleet.scan()
    texts = ["version = 1", "version = 1\nexeption = 2", "version = 1\nexeption = 2", "version = 1", "version = 1"]
    fleet.intent_file = lambda: parse_intent(texts[len(fleet.clock.slept)], "imdsctl.toml")
    fleet.clock.after = lambda number: fleet.see(RegionSeen(HERE, RIGHT, (instance(1, V1),))) if number == 1 else None
    rounds = fleet.run(before, repair=True, rounds=5)
    assert [drifted(each) for each in rounds] == [[], [instance(1).instance_id], [], [], []]
    kinds = [type(each) for each in fleet.told]
    wrong, right = [Trouble, Trouble, RoundEnded, RoundEnded], [IntentRead, RoundEnded, RepairEnded, RoundEnded]
    assert kinds == [Began, RoundEnded, *wrong, *right]
    assert "imdsctl.toml:2: `exeption` is not known here (intent-invalid)" in watch_text(fleet.told[2])
    assert "until it is, it goes on by the intent of before, and repairs nothing" in watch_text(fleet.told[3])


def test_what_waits_for_the_intent_file_is_repaired_without_another_event(fleet: Fleet) -> None:
    before = fleet.scan()
    fleet.see(RegionSeen(HERE, RIGHT, (instance(1, V1),)))
    wrong = Diagnostic("intent-unreadable", "no such file or directory", "imdsctl.toml")

    def read() -> Intent:
        if len(fleet.clock.slept) < 5:
            raise DiagnosticError(wrong)
        return Intent()

    fleet.intent_file = read
    queue = Queue([Delivery("a", events(record("ModifyInstanceMetadataOptions", instance(1).instance_id)))])
    fleet.run(before, repair=True, source=queue, interval=None, rounds=2)
    assert len(fleet.read) == 2
    assert len(fleet.applied) == 1


def test_it_says_by_which_intent_and_that_repairs_do_not_soak(fleet: Fleet) -> None:
    waves = '[[wave]]\nname = "canary"\nsoak = "1h"\nmatch = { tag = "x" }\n[[wave]]\nname = "rest"\n'
    fleet.intent = with_exception("2099-01-01", waves)
    fleet.run(fleet.scan(), repair=True, rounds=1, intent_file="imdsctl.toml")
    [began] = [each for each in fleet.told if isinstance(each, Began)]
    assert began.without_soak == ("canary",)
    first, _, last = watch_text(began).splitlines()
    assert first == "Intent: imdsctl.toml"
    assert (
        last == "Repairs do not soak: after one nobody counts rejected calls, and no wave waits for another (canary)."
    )
    fleet.told.clear()
    fleet.run(fleet.scan(), rounds=1)  # nothing is repaired, so there is nothing to say
    assert "soak" not in watch_text(fleet.told[0])
    assert watch_text(fleet.told[0]).startswith("Intent: built in")


# -- by events -------------------------------------------------------------------------------------------------------


def test_an_event_makes_only_its_target_be_read_and_names_who_did_it(fleet: Fleet) -> None:
    before = fleet.scan()
    fleet.see(RegionSeen(HERE, RIGHT, (instance(1, V1), instance(2, V1))))
    queue = Queue(
        [
            Delivery("a", events(record("ModifyInstanceMetadataOptions", instance(1).instance_id))),
            # Neither a read nor what AWS has refused makes it look there.
            Delivery(
                "b",
                events(
                    record("DescribeInstances", target=THERE),
                    record("RunInstances", target=THERE, errorCode="Client.Denied"),
                ),
            ),
        ]
    )
    [only] = fleet.run(before, source=queue, interval=None, until_empty=True)
    assert fleet.read == [HERE]
    assert drifted(only) == [instance(1).instance_id]
    assert only.drifts[0].actor is not None
    assert only.drifts[0].actor.arn == MALLORY
    assert fleet.asked == []  # the event says it
    assert queue.finished == ["a", "b"]
    plain = json.loads(watch_json(only))
    assert plain["drift"][0]["actor"]["event_name"] == "ModifyInstanceMetadataOptions"
    assert plain["drift"][0]["change"]["after"] == {"HttpTokens": "required"}


def test_a_message_stays_in_the_queue_until_its_target_was_read(fleet: Fleet) -> None:
    fleet.fails = ServiceError("RequestLimitExceeded", "slow down", 503)
    queue = Queue([Delivery("a", events(record("RunInstances")))])

    def read_well(number: int) -> None:
        fleet.fails = None

    told = fleet.told.append

    def tell(event: WatchEvent) -> None:
        told(event)
        if isinstance(event, RoundEnded) and event.number == 2:
            assert queue.finished == []
            read_well(2)

    watching = replace(fleet.watching(source=queue, interval=None, until_empty=True), tell=tell)
    asyncio.run(watching.run(fleet.scan()))
    rounds = [each for each in fleet.told if isinstance(each, RoundEnded)]
    assert [len(each.blind) for each in rounds] == [1, 1, 0]
    assert queue.finished == ["a"]


def test_a_message_whose_target_can_never_be_read_is_done_with_after_some_deliveries(fleet: Fleet) -> None:
    fleet.fails = Unreachable("host", "no answer", "wait")
    queue = Queue([Delivery("a", events(record("RunInstances")))])
    rounds = fleet.run(fleet.scan(), source=queue, interval=None, until_empty=True)
    assert len(rounds) == DELIVERIES_MAX
    assert queue.finished == ["a"]
    assert "it is given up" in [each.reason for each in fleet.told if isinstance(each, Trouble)][-1]


def test_an_event_that_is_younger_than_aws_is_consistent_waits(fleet: Fleet) -> None:
    at = f"{NOON - timedelta(seconds=1):%Y-%m-%dT%H:%M:%SZ}"
    queue = Queue([Delivery("a", events(record("RunInstances", eventTime=at)))])
    fleet.run(fleet.scan(), source=queue, interval=None, rounds=1)
    assert fleet.clock.slept == [SETTLE_SECONDS - 1]


def test_what_is_no_event_stays_and_is_told_and_what_is_not_watched_is_done_with(fleet: Fleet) -> None:
    elsewhere = record("RunInstances", target=Target("999999999999", "eu-west-1"))
    queue = Queue([Delivery("a", problem="it is not JSON"), Delivery("b", events(elsewhere))])
    [only] = fleet.run(fleet.scan(), source=queue, interval=None, rounds=1)
    assert queue.finished == ["b"]
    assert only.targets == 0
    assert [each.reason for each in fleet.told if isinstance(each, Trouble)] == [
        "a message that says nothing we know is left where it is: it is not JSON"
    ]


def test_the_first_look_at_a_target_tells_only_what_the_event_names(fleet: Fleet) -> None:
    before = replace(fleet.scan(), regions=(fleet.regions[THERE],))
    named = record("RunInstances", instance(6).instance_id)
    fleet.see(RegionSeen(HERE, RIGHT, (instance(2, V1), instance(6, V1))))
    [only] = fleet.run(before, source=Queue([Delivery("a", events(named))]), interval=None, rounds=1)
    assert drifted(only) == [instance(6).instance_id]


def test_a_policy_that_changed_makes_everything_be_scanned_and_is_named(fleet: Fleet) -> None:
    before = fleet.scan()
    fleet.see(RegionSeen(THERE, AccountDefaults(), (instance(3),)))
    management = Target("999999999999", "us-east-1")
    detached = record("DetachPolicy", target=management, source="organizations")
    queue = Queue([Delivery("a", events(detached))])
    [only] = fleet.run(before, source=queue, interval=None, until_empty=True)
    assert (fleet.scans, only.scan_id, queue.finished) == (1, "scan-1", ["a"])
    assert only.drifts[0].actor is not None
    assert only.drifts[0].actor.event_name == "DetachPolicy"


def test_a_source_in_trouble_is_asked_again_with_growing_pauses(fleet: Fleet) -> None:
    class Broken(Queue):
        async def receive(self) -> Sequence[Delivery]:
            self.receives += 1
            if self.receives <= 3:
                raise Unreachable("host", "no answer", "wait")
            return []

    fleet.run(fleet.scan(), source=Broken([]), interval=None, until_empty=True)
    assert fleet.clock.slept == [1.0, 2.0, 4.0]
    assert sum(isinstance(each, Trouble) for each in fleet.told) == 3


def test_an_empty_source_is_not_asked_without_a_pause_and_scans_come_between(fleet: Fleet) -> None:
    queue = Queue([])
    rounds = fleet.run(fleet.scan(), source=queue, interval=timedelta(seconds=60), rounds=2)
    assert [each.scan_id for each in rounds] == ["scan-1", "scan-2"]
    assert fleet.clock.slept == [5.0] * 24


def test_a_sweep_that_fails_is_told_and_the_only_one_that_was_asked_for_fails_the_watch(fleet: Fleet) -> None:
    scans, real = [1, 2, 3], fleet._scan

    async def failing() -> Scan:
        if scans.pop() == 3:
            raise DiagnosticError(Diagnostic("aws-unreachable", "no usable answer"))
        return await real()

    fleet._scan = failing  # type: ignore[method-assign]
    before = fleet.scan()
    fleet.run(before, rounds=2)
    assert [each.reason for each in fleet.told if isinstance(each, Trouble)] == ["no usable answer (aws-unreachable)"]
    scans.append(3)
    with pytest.raises(DiagnosticError, match="aws-unreachable"):
        fleet.run(before, rounds=1)


# -- ending ----------------------------------------------------------------------------------------------------------


def test_asked_to_stop_it_ends_at_once_and_leaves_the_message(fleet: Fleet) -> None:
    class Slow(Queue):
        async def receive(self) -> Sequence[Delivery]:
            fleet.stop.set()
            await asyncio.sleep(3600)
            raise AssertionError("it waited")

    queue = Slow([Delivery("a", events(record("RunInstances")))])
    assert fleet.run(fleet.scan(), source=queue, interval=None) == []
    assert queue.finished == []


# -- repairs ---------------------------------------------------------------------------------------------------------


def test_a_repair_is_only_of_drift_is_limited_and_the_rest_follows(fleet: Fleet) -> None:
    before = fleet.scan()
    new = tuple(instance(number, V1) for number in range(10, 15))
    fleet.see(RegionSeen(HERE, RIGHT, (instance(1), instance(2, V1), *new)))
    fleet.run(before, repair=True, repair_max=2, rounds=3)
    assert [len(each) for each in fleet.applied] == [2, 2, 1]
    assert not any(instance(2).instance_id in each for batch in fleet.applied for each in batch)
    ended = [each for each in fleet.told if isinstance(each, RepairEnded)]
    assert [each.left for each in ended] == [3, 1, 0]
    assert "3 changes over the limit of a round" in watch_text(ended[0])


def test_what_is_repaired_and_taken_back_is_drift_again_until_it_is_left_alone(fleet: Fleet) -> None:
    before = fleet.scan()
    bad = RegionSeen(HERE, RIGHT, (instance(1, V1), instance(2, V1)))
    fleet.see(bad)
    fleet.clock.after = lambda number: fleet.see(bad)
    rounds = fleet.run(before, repair=True, rounds=REPAIRS_OF_ONE_MAX + 1)
    assert [drifted(each) for each in rounds] == [[instance(1).instance_id]] * (REPAIRS_OF_ONE_MAX + 1)
    assert len(fleet.applied) == REPAIRS_OF_ONE_MAX
    last = [each for each in fleet.told if isinstance(each, RepairEnded)][-1]
    assert last.given_up == (f"{HERE}/instance/{instance(1).instance_id}",)


def test_what_cannot_be_changed_yet_is_repaired_when_it_can(fleet: Fleet) -> None:
    starting = RegionSeen(HERE, RIGHT, (replace(instance(7, V1), state="pending"),))
    before = fleet.scan()
    fleet.see(starting)
    fleet.clock.after = lambda number: fleet.see(RegionSeen(HERE, RIGHT, (instance(7, V1),)))
    first, second = fleet.run(before, repair=True, rounds=2)
    assert drifted(first) == [instance(7).instance_id]
    assert drifted(second) == []
    assert fleet.applied == [[f"{HERE}/instance/{instance(7).instance_id}"]]


def test_what_can_never_be_changed_is_not_looked_at_for_ever(fleet: Fleet) -> None:
    before = fleet.scan()
    fleet.see(RegionSeen(HERE, RIGHT, (replace(instance(7, V1), managed_by="eks.amazonaws.com"),)))
    queue = Queue([Delivery("a", events(record("RunInstances", instance(7).instance_id)))])
    fleet.run(before, repair=True, source=queue, interval=None, until_empty=True)
    assert len(fleet.read) == HELD_ROUNDS_MAX + 1
    assert fleet.applied == []


def test_a_repair_that_a_gate_holds_back_is_tried_until_the_gate_opens(fleet: Fleet) -> None:
    before = fleet.scan()
    fleet.see(RegionSeen(HERE, RIGHT, (instance(1, V1),)))
    real, tries = fleet._repair, []

    async def repair(plan: Plan) -> Repaired:
        tries.append(fleet.clock.now())
        if len(tries) <= REPAIRS_OF_ONE_MAX + 1:
            return Repaired(tuple(ChangeRepaired(each.id, "held back") for each in plan.changes), frozenset())
        return await real(plan)

    fleet._repair = repair  # type: ignore[method-assign]
    fleet.run(before, repair=True, rounds=REPAIRS_OF_ONE_MAX + 3)
    assert len(tries) == REPAIRS_OF_ONE_MAX + 2
    assert len(fleet.applied) == 1


def test_what_is_still_to_be_repaired_at_the_end_is_told_for_the_next_watch_takes_it_for_an_old_gap(
    fleet: Fleet,
) -> None:
    before = fleet.scan()
    fleet.see(RegionSeen(HERE, RIGHT, tuple(instance(number, V1) for number in range(10, 15))))
    fleet.run(before, repair=True, repair_max=2, rounds=1)
    assert "3 of the changes that drift asks for were not made" in watch_text(fleet.told[-1])
    assert [drifted(each) for each in Fleet(*fleet.regions.values()).run(fleet.scan(), rounds=1)] == [[]]
    fleet.told.clear()
    fleet.run(before, repair=True, rounds=1)
    assert not [each for each in fleet.told if isinstance(each, Trouble)]


def test_a_repair_that_cannot_begin_is_told_rests_and_is_tried_again(fleet: Fleet) -> None:
    before = fleet.scan()
    fleet.see(RegionSeen(HERE, RIGHT, (instance(1, V1),)))
    real, tries = fleet._repair, []

    async def repair(plan: Plan) -> Repaired:
        tries.append(fleet.clock.now())
        if len(tries) == 1:
            raise DiagnosticError(Diagnostic("apply-running", "another apply works on this plan", "db"))
        return await real(plan)

    fleet._repair = repair  # type: ignore[method-assign]
    fleet.run(before, repair=True, rounds=4, interval=timedelta(minutes=2))
    assert [each - NOON for each in tries] == [timedelta(0), timedelta(minutes=6)]
    assert "another apply works on this plan (apply-running)" in [
        each.reason for each in fleet.told if isinstance(each, Trouble)
    ]
    assert len(fleet.applied) == 1


def test_nothing_is_repaired_unless_asked(fleet: Fleet) -> None:
    before = fleet.scan()
    fleet.see(RegionSeen(HERE, RIGHT, (instance(1, V1),)))
    fleet.run(before, rounds=1)
    assert fleet.applied == []


def test_hostile_names_cannot_steer_a_terminal(fleet: Fleet) -> None:
    before = fleet.scan()
    fleet.see(RegionSeen(HERE, RIGHT, (instance(1, V1),)))
    fleet.history = events(record("RunInstances", instance(1).instance_id, userAgent="\x1b[2Jgone\nforged"))
    [only] = fleet.run(before, rounds=1)
    assert "\\u001b[2Jgone\\u000aforged" in watch_text(only)
