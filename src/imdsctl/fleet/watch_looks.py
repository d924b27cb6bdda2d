"""What earlier looks left of each target, and what a new one shows against it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime

from imdsctl.domain.drift import (
    Drift,
    Look,
    after_partial,
    drifts,
    drifts_by_another,
    first_drifts,
    look,
    newly_unseen,
    no_longer_exempt,
    plan_of,
)
from imdsctl.domain.intent import Intent
from imdsctl.domain.observations import Account, RegionSeen, Scan, Target
from imdsctl.domain.plan import Change, Plan
from imdsctl.domain.verdicts import NOT_INSPECTABLE
from imdsctl.fleet.watch_events import Blind


@dataclass(slots=True)
class Comparison:
    """What looks showed: drift, what can no longer be seen, and plans of the targets in which something is to do."""

    drifts: list[Drift] = field(default_factory=list)
    lapsed: list[Change] = field(default_factory=list)
    """What an exception covered at the last look and covers no more."""
    blind: list[Blind] = field(default_factory=list)
    plans: dict[Target, Plan] = field(default_factory=dict)
    targets: int = 0

    def add(self, other: Comparison) -> None:
        """Take the findings of another."""
        self.drifts += other.drifts
        self.lapsed += other.lapsed
        self.blind += other.blind
        self.plans.update(other.plans)
        self.targets += other.targets


class Looks:
    """The last look at every target. It holds what is wrong, not the fleet.

    `scope` is the selection, as scans record it: in two scans of the same one a target that only the second has is
    new. After another it may only not have been asked for.
    """

    def __init__(self, intent: Intent, scope: tuple[tuple[str, str], ...]) -> None:
        self._intent = intent
        self._scope = scope
        self._looks: dict[Target, Look] = {}
        self._judged: dict[Target, Intent] = {}
        """By which intent each of them was judged."""
        self._unread: set[tuple[str, str | None]] = set()
        self._blind: set[tuple[str, str | None]] = set()
        """Of these, what may have been there unseen: what is in a Region that is enabled later is new."""
        self._accounts: dict[str, Account] = {}
        self._comparable = False

    def __len__(self) -> int:
        return len(self._looks)

    def judge_by(self, intent: Intent) -> None:
        """What is seen from now on is judged by this intent."""
        self._intent = intent

    def take(self, scan: Scan) -> None:
        """Let a scan of earlier be what later looks are compared with."""
        self._remember(scan)
        for seen in scan.regions:
            self._looks[seen.target] = look(seen, self._plan(seen, scan), scan.started)
            self._judged[seen.target] = self._intent
        self._comparable = scan.scope == self._scope

    def compare_scan(self, scan: Scan, owed: Iterable[Target]) -> Comparison:
        """Everything that a new scan shows; plans of the targets with drift and of those in `owed`."""
        wanted = frozenset(owed)
        seen_before = frozenset(self._looks)
        new_is_drift = self._comparable
        found = Comparison()
        read: set[Target] = set()
        for seen in scan.regions:
            read.add(seen.target)
            plan = self._plan(seen, scan)
            before = self._looks.get(seen.target)
            if before is not None:
                drifted = self._drifts(before, seen, self._account(seen), plan)
                found.lapsed += no_longer_exempt(before, plan)
            elif new_is_drift and not self._was_unseen(seen.target):
                drifted = [Drift(change, scan.started) for change in plan.changes]
            else:
                drifted = []
            found.drifts += drifted
            found.blind += self._keep(seen, plan, look(seen, plan, scan.started))
            if drifted or seen.target in wanted:
                found.plans[seen.target] = plan
        found.blind += self._lost(scan, seen_before - read)
        found.targets = len(read)
        self._remember(scan)
        self._comparable = True
        return found

    def compare_target(self, seen: RegionSeen, account: Account, names: Iterable[str], at: datetime) -> Comparison:
        """What one target shows; at the first look at it only what `names` (of an event) has is drift."""
        account = self._accounts.setdefault(account.account_id, account)
        plan = plan_of(seen, account, self._intent, at)
        before = self._looks.get(seen.target)
        found = Comparison(targets=1)
        if before is None:
            found.drifts = first_drifts(plan, names, at)
        else:
            found.drifts = self._drifts(before, seen, account, plan)
            found.lapsed = no_longer_exempt(before, plan)
        found.blind = self._keep(seen, plan, look(seen, plan, at))
        found.plans[seen.target] = plan
        return found

    def mended(self, target: Target, change_id: str) -> None:
        """A change was made: if it is wanted again, that is drift."""
        before = self._looks.get(target)
        if before is not None:
            wanted = {name: value for name, value in before.wanted.items() if name != change_id}
            self._looks[target] = replace(before, wanted=wanted)

    def _plan(self, seen: RegionSeen, scan: Scan) -> Plan:
        return plan_of(seen, self._account(seen), self._intent, scan.finished)

    def _account(self, seen: RegionSeen) -> Account:
        return self._accounts.get(seen.target.account_id) or Account(seen.target.account_id, "")

    def _drifts(self, before: Look, seen: RegionSeen, account: Account, plan: Plan) -> list[Drift]:
        by = self._judged[seen.target]
        if by == self._intent:
            return drifts(before, plan, seen)
        return drifts_by_another(before, plan_of(seen, account, by, plan.made_at), plan, seen)

    def _keep(self, seen: RegionSeen, plan: Plan, now: Look) -> list[Blind]:
        """Keep a look; gives what is unseen now and was not before."""
        before = self._looks.get(seen.target)
        by = self._judged.get(seen.target, self._intent)
        self._looks[seen.target] = after_partial(before, now, same_intent=by == self._intent)
        self._judged[seen.target] = self._intent
        lost = newly_unseen(before, seen) if before is not None else ()
        reasons = {each.what: each.reason for each in seen.unseen}
        return [Blind(f"{seen.target}: {what}", reasons[what]) for what in lost]

    def _remember(self, scan: Scan) -> None:
        self._accounts = {each.account_id: each for each in scan.accounts}
        self._unread = {(each.account_id, each.region) for each in scan.unseen}
        self._blind = {
            (each.account_id, each.region) for each in scan.unseen if each.unseen.code not in NOT_INSPECTABLE
        }

    def _was_unseen(self, target: Target) -> bool:
        return bool({(target.account_id, None), (target.account_id, target.region)} & self._blind)

    def _lost(self, scan: Scan, known: frozenset[Target]) -> list[Blind]:
        """Accounts and Regions that were read at the last look (`known`), and that this scan could not read."""
        found = []
        for each in scan.unseen:
            if (each.account_id, each.region) in self._unread:
                continue
            if any(each.account_id == one.account_id and each.region in (None, one.region) for one in known):
                subject = f"{each.account_id}/{each.region}" if each.region else each.account_id
                found.append(Blind(subject, each.unseen.reason))
        return found
