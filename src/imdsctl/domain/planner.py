"""From what was seen and what is wanted to the smallest change that closes the gap. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import datetime
from operator import attrgetter

from imdsctl.domain.evidence import Evidence
from imdsctl.domain.intent import Intent
from imdsctl.domain.intent_match import Home
from imdsctl.domain.observations import RegionSeen, Scan, Target
from imdsctl.domain.plan import Change, Exempt, Gap, Plan, canonical
from imdsctl.domain.planner_here import Here
from imdsctl.domain.planner_instances import TRANSIENT_STATES
from imdsctl.domain.planner_region import plan_region
from imdsctl.domain.scope import services_left_out
from imdsctl.domain.verdicts import NOT_INSPECTABLE
from imdsctl.domain.waves import EVERYTHING, UNASSIGNED, PlannedWave

__all__ = ["TRANSIENT_STATES", "make_plan"]


def make_plan(scan: Scan, intent: Intent, *, made_at: datetime, evidence: Evidence | None = None) -> Plan:
    """The plan for what a scan saw. The same scan, intent and evidence give the same changes, with the same ids, in
    order. The scan is gone through once; what is kept of it is in the changes."""
    accounts = {account.account_id: account for account in scan.accounts}
    steps = _Steps(intent)
    exempt: list[Exempt] = []
    gaps = list(_accounts_unseen(scan, intent))
    digest = hashlib.sha256()
    left_out = services_left_out(scan.scope)
    for region in scan.regions:
        digest.update(_identity(region))
        target = region.target
        if intent.excludes(target):
            continue
        account = accounts.get(target.account_id)
        home = Home(
            target.account_id, target.region, account.name if account else "", account.ou_path if account else ""
        )
        gaps += _unseen(region)
        here = Here(region, home, intent, made_at, evidence, left_out)
        gaps += plan_region(here)
        steps.take(target, here.changes)
        exempt += here.exempt
    digest.update(canonical([scan.scan_id, scan.accounts, scan.unseen, scan.scope]))
    return Plan(
        scan_id=scan.scan_id,
        scan_digest=f"sha256:{digest.hexdigest()}",
        made_at=made_at,
        intent=intent,
        changes=tuple(steps.ordered()),
        unknown=tuple(sorted(gaps, key=lambda each: (each.subject, each.what, each.reason))),
        waves=steps.waves,
        exempt=tuple(sorted(exempt, key=lambda each: each.id)),
    )


def _identity(region: RegionSeen) -> bytes:
    """What tells one scan of a target from another, without going through all its instances: its Region default, what
    could not be read, and how much of everything was."""
    counts = [len(getattr(region, part)) for part in _PARTS]
    return canonical([region.target, region.defaults, region.unseen, counts])


_PARTS = ("instances", "templates", "images", "configurations", "groups", "fleets", "services")


_BY_RESOURCE = attrgetter("resource", "id")


class _Steps:
    """Changes by wave and stage. A million of them are put in order target by target, not one by one."""

    def __init__(self, intent: Intent) -> None:
        self._named = tuple(rule.wave for rule in intent.waves) or (EVERYTHING,)
        self._numbers = {wave.name: number for number, wave in enumerate(self._named)}
        self._numbers[UNASSIGNED] = len(self._named)
        self._steps: dict[tuple[int, int], list[tuple[Target, list[Change]]]] = {}

    def take(self, target: Target, changes: list[Change]) -> None:
        """Add the changes of one target."""
        by_step: dict[tuple[int, int], list[Change]] = {}
        members: list[Change] = []
        wave, stage = None, None
        for change in changes:
            if change.stage is not stage or change.wave != wave:  # few of them: most changes are one step's
                wave, stage = change.wave, change.stage
                members = by_step.setdefault((self._numbers[wave], stage.number), [])
            members.append(change)
        for step, members in by_step.items():
            members.sort(key=_BY_RESOURCE)
            self._steps.setdefault(step, []).append((target, members))

    def ordered(self) -> Iterator[Change]:
        """All changes: by wave, by stage, by account and Region, by resource."""
        for step in sorted(self._steps):
            for _, members in sorted(self._steps[step], key=lambda each: each[0]):
                yield from members

    @property
    def waves(self) -> tuple[PlannedWave, ...]:
        """The intent's waves, and one more for what is in none of them, when there is something."""
        lost = any(wave == self._numbers[UNASSIGNED] for wave, _ in self._steps)
        return (*self._named, PlannedWave(UNASSIGNED)) if lost else self._named


def _accounts_unseen(scan: Scan, intent: Intent) -> Iterator[Gap]:
    for account in scan.unseen:
        if account.account_id in intent.exclude_accounts or account.region in intent.exclude_regions:
            continue
        if account.unseen.code in NOT_INSPECTABLE:
            continue  # Nothing can launch or change there until somebody enables it: reported by scan, not planned.
        subject = f"{account.account_id}/{account.region}" if account.region else account.account_id
        yield Gap(subject, account.unseen.what, account.unseen.reason)


def _unseen(region: RegionSeen) -> Iterator[Gap]:
    for part in region.unseen:
        yield Gap(str(region.target), part.what, part.reason)
    if region.defaults is None and not any("default" in part.what for part in region.unseen):
        yield Gap(str(region.target), "Region default", "the scan holds no answer")
