"""A plan for a person: by account and Region, one line a change, ending with what it comes to and what to type next."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from imdsctl.domain.observations import Target
from imdsctl.domain.plan import Change, Plan, Stage, Surface, affected_targets, plan_to_plain
from imdsctl.fleet.verify import Verification
from imdsctl.views.json import document
from imdsctl.views.text import painted

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
    ready = plan.ready
    lines += _in_full(ready, names, colour) if full or len(ready) <= LINES_MAX else _folded(ready, names, colour)
    lines += _listed("Deferred", [(each.id, each.held) for each in plan.deferred], "!", "yellow", full, colour)
    lines += _listed(
        "Unknown", [(e.subject, f"{e.what}: {e.reason}") for e in plan.unknown], "?", "yellow", full, colour
    )
    lines += _waves(plan)
    lines.append(painted(plan_summary(plan), "bold", colour))
    lines.append(_next(plan, file))
    return "\n".join(lines)


def plan_summary(plan: Plan) -> str:
    """The one line that can be counted."""
    unseen = "every target was seen" if plan.complete else f"incomplete: {counted(len(plan.unknown), 'unknown')}"
    if not plan.changes:
        return f"Plan: nothing to change ({unseen})."
    parts = [f"{len(plan.ready)} to change", f"{len(plan.deferred)} deferred", unseen]
    targets = len(affected_targets(plan.ready))
    return f"Plan: {', '.join(parts)}; in {counted(targets, 'target')} (account and Region)."


def verification_text(
    judged: Verification, names: Mapping[str, str], *, full: bool = False, colour: bool = False
) -> str:
    """What is left, or that nothing is."""
    plan = judged.plan
    lines: list[str] = []
    ready = plan.ready
    if ready:
        lines += _in_full(ready, names, colour) if full or len(ready) <= LINES_MAX else _folded(ready, names, colour)
    lines += _listed("Deferred", [(each.id, each.held) for each in plan.deferred], "!", "yellow", full, colour)
    lines += _listed(
        "Unknown", [(e.subject, f"{e.what}: {e.reason}") for e in plan.unknown], "?", "yellow", full, colour
    )
    accepted = [(each.subject, each.reason) for each in judged.accepted]
    lines += _listed("Left exposed by the intent", accepted, "-", "dim", full, colour)
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
    lines.append(painted(f"Not verified: {where} read; {', '.join(left)}.", "red", colour))
    lines.append(
        "Next: imdsctl plan -o plan.json" if ready else "Next: see to what is deferred or unknown, then verify again."
    )
    return "\n".join(lines)


def verification_json(judged: Verification) -> str:
    """The verdict as one JSON object, with what is left as a plan."""
    return document(
        "verification",
        proven=judged.proven,
        targets=judged.targets,
        left=plan_to_plain(judged.plan),
        accepted=[{"subject": each.subject, "reason": each.reason} for each in judged.accepted],
    )


def change_text(change: Change) -> str:
    """What a change does, in a line without its place."""
    if change.surface is Surface.REGION_DEFAULT:
        title = "region default"
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


def _in_full(changes: Iterable[Change], names: Mapping[str, str], colour: bool) -> Iterator[str]:
    for target, members in _by_target(changes).items():
        yield painted(_heading(target, names), "bold", colour)
        for change in members:
            symbol = "+" if change.surface is Surface.LAUNCH_TEMPLATE else "~"
            yield f"  {painted(symbol, 'green', colour)} {change_text(change)}"
            yield f"      {painted(change.reason, 'dim', colour)}"
        yield ""


def _folded(changes: Iterable[Change], names: Mapping[str, str], colour: bool) -> Iterator[str]:
    account = ""
    for target, members in _by_target(changes).items():
        if target.account_id != account:
            account = target.account_id
            name = names.get(account)
            yield painted(f"{account} ({name})" if name else account, "bold", colour)
        by_stage = Counter(change.stage for change in members)
        parts = [counted(by_stage[stage], _SINGULAR[stage]) for stage in Stage if by_stage[stage]]
        yield f"  {painted('~', 'green', colour)} {target.region:<15} {', '.join(parts)}"
    yield ""
    yield "(folded: `--full` shows every change)"
    yield ""


def _by_target(changes: Iterable[Change]) -> dict[Target, list[Change]]:
    found: dict[Target, list[Change]] = {}
    for change in changes:
        found.setdefault(change.target, []).append(change)
    return dict(sorted(found.items()))


def _heading(target: Target, names: Mapping[str, str]) -> str:
    name = names.get(target.account_id)
    return f"{target.account_id} ({name}) {target.region}" if name else f"{target.account_id} {target.region}"


def _listed(
    title: str, entries: list[tuple[str, str]], symbol: str, shade: str, full: bool, colour: bool
) -> Iterator[str]:
    if not entries:
        return
    yield painted(f"{title} ({len(entries)})", "bold", colour)
    shown = entries if full else entries[:REASONS_MAX]
    for subject, reason in shown:
        yield f"  {painted(symbol, shade, colour)} {subject}: {reason}"
    if len(shown) < len(entries):
        yield f"  and {len(entries) - len(shown)} more: `--full` shows them"
    yield ""


def _waves(plan: Plan) -> Iterator[str]:
    several = len(plan.waves) > 1
    last = None
    for wave, stage, members in plan.steps():
        if several and wave is not last:
            yield f"Wave {wave.name}"
        last = wave
        yield f"{'  ' if several else ''}{stage.title.capitalize()} ({len(members)})"
    if last is not None:
        yield ""


def _next(plan: Plan, file: str | None) -> str:
    if not plan.ready:
        if plan.deferred or plan.unknown:
            return "Next: see to what is deferred or unknown, then run `imdsctl scan` and `imdsctl plan` again."
        return "Next: `imdsctl verify` proves it with a fresh scan."
    if file is None:
        return "Next: `imdsctl plan -o plan.json` writes it to a file, for `imdsctl apply`."
    return f"Next: imdsctl apply {shlex.quote(file)} --confirm {len(plan.ready)}"


def counted(number: int, what: str) -> str:
    """`1 instance`, `3 instances`."""
    return f"{number} {what}" if number == 1 or what == "enforcement" else f"{number} {what}s"
