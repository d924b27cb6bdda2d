"""A plan for a person: by wave, stage and account, ending with what it comes to and what to type next."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from imdsctl.domain.observations import Target
from imdsctl.domain.plan import (
    NOT_GATHERED,
    Change,
    Exempt,
    Plan,
    Stage,
    Surface,
    affected_targets,
    by_target,
    plan_to_plain,
)
from imdsctl.domain.shown import shown
from imdsctl.domain.waves import PlannedWave
from imdsctl.fleet.launch_dry_run import Launches
from imdsctl.fleet.verify import Verification
from imdsctl.views.diagnostics import painted
from imdsctl.views.json import document

LINES_MAX = 60
"""More changes than this are folded into one line for each account and Region, unless asked for in full."""
WIDEN = "Next: name other Regions or accounts; `imdsctl scan` lists the Regions that are not enabled."
"""What to do when nothing was seen."""
REASONS_MAX = 20
"""Deferred changes and unknowns that are listed one by one before the rest is only counted."""

_SINGULAR = {
    Stage.IMAGES: "image",
    Stage.LAUNCH_TEMPLATES: "launch template",
    Stage.REGION_DEFAULTS: "region default",
    Stage.INSTANCES: "instance",
    Stage.CONTAINER_HOSTS: "container host",
    Stage.REFRESHES: "instance refresh",
    Stage.ENFORCEMENT: "enforcement",
}


def plan_text(
    plan: Plan,
    names: Mapping[str, str],
    *,
    file: str | None = None,
    full: bool = False,
    colour: bool = False,
    empty: bool = False,
) -> str:
    """The whole plan.

    `names` are account names by id; `file` is where the plan was written, for the last line; `empty` says that the
    scan saw no Region at all, which is no reason for content.
    """
    if empty and plan.complete:
        return f"{painted('Plan: nothing to change, for the scan saw no enabled Region.', 'bold', colour)}\n{WIDEN}"
    lines: list[str] = []
    waves = _by_wave(plan)
    ready = sum(len(members) for _, stages in waves for _, members in stages)
    targets = {(wave.name, stage): affected_targets(members) for wave, stages in waves for stage, members in stages}
    in_full = full or ready <= LINES_MAX
    for wave, stages in waves:
        if len(plan.waves) > 1:
            lines += _wave_heading(wave, sum(len(members) for _, members in stages), colour)
        for stage, members in stages if in_full else ():
            lines.append(painted(f"{stage.title.capitalize()} ({len(members)})", "cyan", colour))
            lines += _in_full(members, names, colour)
        if not in_full:
            lines += _folded(stages, names, colour)
    deferred = plan.deferred if ready < len(plan.changes) else ()
    lines += _deferred(deferred, full, colour)
    lines += _listed("Exempt", [(each.id, exempt_text(each)) for each in plan.exempt], "-", "dim", full, colour)
    lines += _listed(
        "Unknown", [(e.subject, f"{e.what}: {e.reason}") for e in plan.unknown], "?", "yellow", full, colour
    )
    lines += _waves(plan, waves, targets)
    lines.append(painted(_summary(plan, ready, len(set().union(*targets.values()))), "bold", colour))
    lines.append(_next(plan, ready, file))
    return "\n".join(lines)


def plan_summary(plan: Plan) -> str:
    """The one line that can be counted."""
    ready = plan.ready
    return _summary(plan, len(ready), len(affected_targets(ready)))


def _summary(plan: Plan, ready: int, targets: int) -> str:
    unseen = "every target was seen" if plan.complete else f"incomplete: {counted(len(plan.unknown), 'unknown')}"
    if not plan.changes:
        return f"Plan: nothing to change ({unseen})."
    parts = [f"{ready} to change", f"{len(plan.changes) - ready} deferred", unseen]
    if plan.exempt:
        parts.insert(2, f"{len(plan.exempt)} exempt")
    return f"Plan: {', '.join(parts)}; in {counted(targets, 'target')} (account and Region)."


def verification_text(
    judged: Verification, names: Mapping[str, str], *, full: bool = False, colour: bool = False
) -> str:
    """What is left, or that nothing is."""
    plan = judged.plan
    lines: list[str] = []
    ready = plan.ready
    if ready:
        stages = [(stage, members) for _, stage, members in plan.steps()]
        lines += _in_full(ready, names, colour) if full or len(ready) <= LINES_MAX else _folded(stages, names, colour)
    lines += _deferred(plan.deferred, full, colour)
    lines += _listed(
        "Unknown", [(e.subject, f"{e.what}: {e.reason}") for e in plan.unknown], "?", "yellow", full, colour
    )
    accepted = [(each.subject, each.reason) for each in judged.accepted]
    lines += _listed("Left exposed by the intent", accepted, "-", "dim", full, colour)
    lines += _dry_runs(judged, full, colour)
    lines += _not_proven(judged)
    where = f"{counted(judged.targets, 'target')} (account and Region)"
    if judged.proven:
        tail = f"; {len(accepted)} left exposed by the intent" if accepted else ""
        lines.append(
            painted(f"Verified: {where} read, nothing left to change, nothing unknown{tail}.", "green", colour)
        )
        return "\n".join(lines)
    if not judged.targets and plan.complete:
        lines.append(painted(f"Not verified: {where} read, for no enabled Region was selected.", "red", colour))
        lines.append(WIDEN)
        return "\n".join(lines)
    left = [f"{len(ready)} to change", f"{len(plan.deferred)} deferred", f"{len(plan.unknown)} unknown"]
    left += [f"{counted(len(judged.expired), 'exception')} expired"] if judged.expired else []
    left += [f"{len(judged.launching_otherwise)} launching otherwise"] if judged.launching_otherwise else []
    lines.append(painted(f"Not verified: {where} read; {', '.join(left)}.", "red", colour))
    lines.append(
        "Next: imdsctl plan -o plan.json" if ready else "Next: see to what is deferred or unknown, then verify again."
    )
    return "\n".join(lines)


def _not_proven(judged: Verification) -> Iterator[str]:
    accounts = sum(each.region is None for each in judged.not_inspectable)
    regions = len(judged.not_inspectable) - accounts
    parts = [f"{counted(regions, 'Region')} not enabled"] if regions else []
    parts += [f"{counted(accounts, 'account')} not active"] if accounts else []
    if parts:
        yield f"Not inspectable, and so not proven: {', '.join(parts)}; what is left there nobody can see."
    if judged.services_left_out:
        yield "Left out by --no-services, and so not proven: the settings of other services."


def _dry_runs(judged: Verification, full: bool, colour: bool) -> Iterator[str]:
    """What the DryRuns prove, what they leave to prediction, and what is wrong."""
    if not judged.dry_runs:
        return
    wrong = [(f"{each.target}: {each.source}", each.detail) for each in judged.launching_otherwise]
    yield from _listed("Launches otherwise than wanted", wrong, "!", "red", full, colour)
    counts = Counter(each.launches for each in judged.dry_runs)
    said = "; ".join(f"{counts[kind]} launch {kind}" for kind in Launches if counts[kind])
    yield f"DryRun launches: {counted(len(judged.dry_runs), 'launch source')}: {said}."
    yield "A DryRun ends before AWS looks at HttpTokensEnforced: what enforcement refuses is predicted, not proven."


def verification_json(judged: Verification) -> str:
    """The verdict as one JSON object, with what is left as a plan."""
    return document(
        "verification",
        proven=judged.proven,
        targets=judged.targets,
        left=plan_to_plain(judged.plan),
        accepted=[{"subject": each.subject, "reason": each.reason} for each in judged.accepted],
        expired=[each.summary for each in judged.expired],
        not_inspectable=[
            {"account": each.account_id, "region": each.region, "reason": each.unseen.reason}
            for each in judged.not_inspectable
        ],
        services_left_out=judged.services_left_out,
        dry_runs=[
            {
                "account": each.target.account_id,
                "region": each.target.region,
                "source": each.source,
                "launches": str(each.launches),
                "detail": each.detail,
            }
            for each in judged.dry_runs
        ],
    )


def change_text(change: Change) -> str:
    """What a change does, in a line without its place."""
    if change.surface is Surface.REGION_DEFAULT:
        title = "region default"
    elif change.stage is Stage.REFRESHES:
        return f"{change.resource}: instance refresh, for {counted(len(change.before['Instances']), 'instance')}"
    elif change.name:
        title = f"{change.resource} ({change.name})"
    else:
        title = change.resource
    return f"{title}: {_steps(change)}"


def _steps(change: Change) -> str:
    if change.surface is not Surface.LAUNCH_TEMPLATE:
        return _difference(change.before, change.after)
    steps = []
    for part, after in change.after.items():
        what = _difference(change.before[part], after) or "the same again, to stay the latest"
        steps.append(f"new version from ${part} ({change.before[f'{part}Version']}): {what}")
    if "Default" in change.after:
        steps.append("set the first as $Default")
    return "; ".join(steps)


def _difference(before: Mapping[str, Any], after: Mapping[str, Any]) -> str:
    def shown(value: Any) -> str:
        return "unset" if value is None else str(value)

    return ", ".join(f"{name} {shown(before.get(name))} -> {value}" for name, value in after.items())


Stages = list[tuple[Stage, tuple[Change, ...]]]
WaveOfStages = tuple[PlannedWave, Stages]


def _by_wave(plan: Plan) -> list[WaveOfStages]:
    found: dict[str, Stages] = {}
    for wave, stage, members in plan.steps():
        found.setdefault(wave.name, []).append((stage, members))
    return [(wave, found[wave.name]) for wave in plan.waves if wave.name in found]


def _wave_heading(wave: PlannedWave, count: int, colour: bool) -> Iterator[str]:
    yield painted(f"Wave {shown(wave.name)}: {counted(count, 'change')}", "bold", colour)
    if wave.gates.text:
        yield painted(f"  gates: {wave.gates.text}; on failure: {wave.on_failure}", "dim", colour)


def exempt_text(exempt: Exempt) -> str:
    """Who answers for an exempt resource, until when, and where that is written."""
    place = f" ({exempt.place})" if exempt.place else ""
    return f"{exempt.owner} until {exempt.expires.isoformat()}: {exempt.why}{place}"


def _in_full(changes: Iterable[Change], names: Mapping[str, str], colour: bool) -> Iterator[str]:
    for target, members in by_target(changes).items():
        yield painted(_heading(target, names), "bold", colour)
        for change in members:
            symbol = "+" if change.surface is Surface.LAUNCH_TEMPLATE else "~"
            yield f"  {painted(symbol, 'green', colour)} {shown(change_text(change))}"
            yield f"      {painted(shown(change.reason), 'dim', colour)}"
            for label, text in (("reach", "; ".join(change.blast_radius)), ("evidence", _evidence(change))):
                if text:
                    yield f"      {painted(f'{label}: {shown(text)}', 'dim', colour)}"
        yield ""


def _evidence(change: Change) -> str:
    """What is worth a line: that nothing was gathered is said once, at the end."""
    return "" if change.evidence == NOT_GATHERED else change.evidence


def _folded(stages: Stages, names: Mapping[str, str], colour: bool) -> Iterator[str]:
    counts: dict[Target, list[str]] = {}
    for stage, members in stages:
        for target, there in by_target(members).items():
            counts.setdefault(target, []).append(counted(len(there), _SINGULAR[stage]))
    account = ""
    for target, parts in sorted(counts.items()):
        if target.account_id != account:
            account = target.account_id
            name = names.get(account)
            yield painted(f"{account} ({shown(name)})" if name else account, "bold", colour)
        yield f"  {painted('~', 'green', colour)} {target.region:<15} {', '.join(parts)}"
    yield ""
    yield "(folded: `--full` shows every change)"
    yield ""


def _heading(target: Target, names: Mapping[str, str]) -> str:
    name = names.get(target.account_id)
    return f"{target.account_id} ({shown(name)}) {target.region}" if name else f"{target.account_id} {target.region}"


def _deferred(deferred: Sequence[Change], full: bool, colour: bool) -> Iterator[str]:
    """Deferred changes one by one, and how many of each surface they are when that says more."""
    counts = Counter(change.surface for change in deferred)
    kinds = ", ".join(f"{count} {surface}" for surface, count in counts.most_common()) if len(counts) > 1 else ""
    yield from _listed("Deferred", [(each.id, each.held) for each in deferred], "!", "yellow", full, colour, kinds)


def _listed(
    title: str, entries: list[tuple[str, str]], symbol: str, shade: str, full: bool, colour: bool, kinds: str = ""
) -> Iterator[str]:
    if not entries:
        return
    yield painted(f"{title} ({len(entries)}{f': {kinds}' if kinds else ''})", "bold", colour)
    listed = entries if full else entries[:REASONS_MAX]
    for subject, reason in listed:
        yield f"  {painted(symbol, shade, colour)} {shown(subject)}: {shown(reason)}"
    if len(listed) < len(entries):
        yield f"  and {len(entries) - len(listed)} more: `--full` shows them"
    yield ""


def _waves(
    plan: Plan, waves: list[WaveOfStages], targets: Mapping[tuple[str, Stage], Collection[Target]]
) -> Iterator[str]:
    """One line a wave: its stages in order, with counts and accounts."""
    number = 0
    for wave, stages in waves:
        number += 1
        accounts = len({target.account_id for stage, _ in stages for target in targets[wave.name, stage]})
        steps = ", then ".join(counted(len(members), _SINGULAR[stage]) for stage, members in stages)
        title = f" {shown(wave.name)}" if len(plan.waves) > 1 else ""
        yield f"Wave {number}{title}: {steps}; in {counted(accounts, 'account')}"
    if number:
        if any(change.evidence == NOT_GATHERED for change in plan.changes):
            yield (
                "Evidence of IMDSv1 use: not gathered for this scan; `imdsctl evidence` asks CloudWatch, `--scan ID` "
                "takes one that has it."
            )
        yield ""


def _next(plan: Plan, ready: int, file: str | None) -> str:
    if not ready:
        if plan.changes or plan.unknown:
            return "Next: see to what is deferred or unknown, then run `imdsctl scan` and `imdsctl plan` again."
        return "Next: `imdsctl verify` proves it with a fresh scan."
    if file is None:
        return "Next: `imdsctl plan -o plan.json` writes it to a file, for `imdsctl apply`."
    return f"Next: imdsctl apply {shlex.quote(file)} --confirm {ready}"


def counted(number: int, what: str) -> str:
    """`1 instance`, `3 instances`."""
    if number == 1 or what == "enforcement":
        return f"{number} {what}"
    return f"{number} {what}es" if what.endswith("sh") else f"{number} {what}s"
