"""Drift: what the intent wants changed now and did not at the last look. Pure.

Both looks are judged by the planner. Something that was wrong at the last look already is a gap, which `plan` shows;
drift is what came since: a setting that was taken back, a launch that asked for IMDSv1, a new template without tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from imdsctl.domain.intent import Intent
from imdsctl.domain.observations import Account, RegionSeen, Scan, Target
from imdsctl.domain.plan import Change, Plan, digest_of
from imdsctl.domain.planner import make_plan
from imdsctl.domain.trail_events import Actor


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a target left: the changes that the intent wanted (by id, with what it wanted), those that it
    wanted and an exception covered, and gaps.

    It is all that is kept of a target between two looks, so that watching a fleet takes memory for what is wrong only.
    """

    at: datetime
    wanted: Mapping[str, str]
    exempt: frozenset[str] = frozenset()
    unseen: frozenset[str] = frozenset()
    unjudged: frozenset[str] = frozenset()
    """Of what is unseen: the parts that no look by this intent has read. What is in them nobody can call new."""


@dataclass(frozen=True, slots=True)
class Drift:
    """A change that the intent wants now and did not want at the last look (`since`). `actor` is None: unknown who."""

    change: Change
    since: datetime
    actor: Actor | None = None


def plan_of(seen: RegionSeen, account: Account, intent: Intent, at: datetime) -> Plan:
    """The plan for one target as it was just seen."""
    scan = Scan("watch", at, at, (account,), (seen,))
    return make_plan(scan, intent, made_at=at)


def look(seen: RegionSeen, plan: Plan, at: datetime) -> Look:
    """What to keep of a look."""
    wanted = {change.id: digest_of(dict(change.after)) for change in plan.changes}
    exempt = frozenset(each.id for each in plan.exempt)
    unseen = frozenset(each.what for each in seen.unseen)
    return Look(at, wanted, exempt, unseen, unseen)


def drifts(before: Look, plan: Plan, seen: RegionSeen) -> list[Drift]:
    """What came since the look before, by the same intent.

    What an exception covered then is none: nobody has changed it. Nor is what stands in a part that is read for the
    first time (`seen` has it, no look by this intent had).
    """
    first_read = before.unjudged - {each.what for each in seen.unseen}
    return [
        Drift(change, before.at)
        for change in plan.changes
        if before.wanted.get(change.id) != digest_of(dict(change.after))
        and change.id not in before.exempt
        and not any(_concerns(what, change.id) for what in first_read)
    ]


def drifts_by_another(before: Look, then: Plan, now: Plan, seen: RegionSeen) -> list[Drift]:
    """What came since the look before, which was by another intent: `then` is by that one too, `now` by the new one.

    What only the new one wants is a gap: nobody has changed it.
    """
    came = {each.change.id for each in drifts(before, then, seen)}
    return [Drift(change, before.at) for change in now.changes if change.id in came]


def no_longer_exempt(before: Look, plan: Plan) -> list[Change]:
    """What an exception covered at the look before and covers no more: it has expired, or its tags differ."""
    return [change for change in plan.changes if change.id in before.exempt]


def first_drifts(plan: Plan, names: Iterable[str], at: datetime) -> list[Drift]:
    """At the first look at a target there is nothing to compare with: only what an event has just named is drift."""
    named = frozenset(names)
    return [Drift(change, at) for change in plan.changes if change.resource in named or change.name in named - {""}]


def newly_unseen(before: Look | None, seen: RegionSeen) -> tuple[str, ...]:
    """What could be read at the last look and cannot now: it is unknown, and may be worse than it was."""
    known = before.unseen if before is not None else frozenset()
    return tuple(each.what for each in seen.unseen if each.what not in known)


def after_partial(before: Look | None, now: Look, *, same_intent: bool) -> Look:
    """The look to keep when a part could not be read: what was known of it stays, or it would be drift once it is back.

    What was known of the parts that could be read does not. `same_intent`: both looks are by the same one.
    """
    if before is None or not now.unseen:
        return now
    unjudged = now.unseen & before.unjudged if same_intent else now.unseen

    def unseen(change_id: str) -> bool:
        return any(_concerns(what, change_id) for what in now.unseen)

    kept = {change_id: wanted for change_id, wanted in before.wanted.items() if unseen(change_id)}
    exempt = now.exempt | set(filter(unseen, before.exempt))
    return replace(now, wanted={**kept, **now.wanted}, exempt=exempt, unjudged=unjudged)


def _concerns(what: str, change_id: str) -> bool:
    """Whether a part of a look ("template versions in use") is where a change's surface (`launch-template`) is seen."""
    surface = change_id.split("/")[2]
    return any(word.rstrip("s") in surface for word in what.lower().split())


def without_soak(plan: Plan) -> Plan:
    """The plan with the gates that come before a change, and none that watches for hours after it.

    A repair gives back what was so before; approvals, maintenance windows and evidence hold it back all the same.
    """
    waves = tuple(
        replace(wave, gates=replace(wave.gates, soak=timedelta(0), rejected_calls_max=None)) for wave in plan.waves
    )
    return replace(plan, waves=waves)


def only(plan: Plan, drifted: Iterable[Drift], most: int) -> Plan:
    """The plan with nothing but what drifted and can be changed: at most `most` changes, in the plan's order."""
    wanted = {each.change.id for each in drifted}
    chosen = [change for change in plan.changes if change.id in wanted and not change.held][:most]
    return replace(plan, changes=tuple(chosen), digest="")


def together(plans: Iterable[Plan]) -> Plan | None:
    """One plan out of the plans of several targets, in the order in which `apply` goes; None of none."""
    found = list(plans)
    if not found:
        return None
    changes = [change for plan in found for change in plan.changes]
    changes.sort(key=lambda change: (change.stage.number, change.target, change.resource))
    waves = {wave.name: wave for plan in found for wave in plan.waves}
    return replace(found[0], changes=tuple(changes), waves=tuple(waves.values()), digest="")


def targets_of(drifted: Iterable[Drift]) -> list[Target]:
    """The targets with drift, each once."""
    return list(dict.fromkeys(each.change.target for each in drifted))
