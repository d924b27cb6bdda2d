"""What `watch` saw and did, for a terminal, as JSON lines, and for a webhook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from imdsctl.domain.drift import Drift
from imdsctl.domain.json_text import json_bytes
from imdsctl.domain.plan import Change, change_to_plain
from imdsctl.domain.shown import shown
from imdsctl.domain.trail_events import Actor
from imdsctl.fleet.watch_events import Began, Blind, IntentRead, RepairEnded, RoundEnded, Trouble, WatchEvent

FORMAT = "imdsctl.watch"
FORMAT_VERSION = 1
UNKNOWN_WHO = "unknown who"
BUILT_IN = "built in (no --intent, and no imdsctl.toml here)"
USER_AGENT_MAX = 60
"""Of a user agent a line shows its beginning; JSON has all of it."""
SHOWN_MAX = 50
"""Of one round, so many drifts are written out for a person and a webhook; how many there are is always said."""


def watch_text(event: WatchEvent) -> str:
    """One event in lines for a person."""
    match event:
        case Began():
            return "\n".join(_first_lines(event))
        case IntentRead(at, intent, without_soak):
            return "\n".join([f"{_time(at)}  intent: {intent} has changed and was read again", *_soaks(without_soak)])
        case RoundEnded():
            return "\n".join(_round_lines(event))
        case RepairEnded():
            return "\n".join(_repair_lines(event))
        case Trouble(at, subject, reason):
            return f"{_time(at)}  trouble: {shown(subject)}: {shown(reason)}"


def is_quiet(event: WatchEvent) -> bool:
    """Whether nothing happened that somebody who is not looking has to hear of."""
    return isinstance(event, Began) or (
        isinstance(event, RoundEnded) and not event.drifts and not event.blind and not event.lapsed
    )


def watch_json(event: WatchEvent) -> str:
    """One event as a line of JSON."""
    return json_bytes(watch_plain(event)).decode() + "\n"


def watch_plain(event: WatchEvent, *, most: int | None = None) -> dict[str, Any]:
    """One event as JSON values; with `most` only so many drifts and repairs are written out."""
    head: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION}
    match event:
        case Began(baseline, since, targets):
            return {
                **head,
                "kind": "began",
                "baseline": baseline,
                "since": _iso(since),
                "targets": targets,
                "intent": event.intent or None,
                "without_soak": list(event.without_soak),
            }
        case IntentRead(at, intent, without_soak):
            return {**head, "kind": "intent", "at": _iso(at), "intent": intent, "without_soak": list(without_soak)}
        case RoundEnded():
            return {
                **head,
                "kind": "round",
                "at": _iso(event.at),
                "round": event.number,
                "scan": event.scan_id or None,
                "targets": event.targets,
                "events": event.events,
                "drift_count": len(event.drifts),
                "drift": [_drift_plain(each) for each in event.drifts[:most]],
                "unknown": [{"subject": each.subject, "reason": each.reason} for each in event.blind[:most]],
                "no_longer_exempt": [change_to_plain(each) for each in event.lapsed[:most]],
            }
        case RepairEnded():
            return {
                **head,
                "kind": "repair",
                "at": _iso(event.at),
                "changes": [
                    {"id": each.change_id, "outcome": each.outcome, "detail": each.detail}
                    for each in event.changes[:most]
                ],
                "left": event.left,
                "given_up": list(event.given_up[:most]),
                "plan": event.plan or None,
            }
        case Trouble(at, subject, reason):
            return {**head, "kind": "trouble", "at": _iso(at), "subject": subject, "reason": reason}


def notice(event: WatchEvent) -> Mapping[str, Any]:
    """What a webhook gets: the event, and `text`, a line that chat programs show.

    To many of those `<` begins a link or a call to everybody, and a drift's user agent is whatever its author likes.
    """
    return {"text": watch_text(event).strip().replace("<", "\u2039"), **watch_plain(event, most=SHOWN_MAX)}


def _first_lines(event: Began) -> list[str]:
    lines = [f"Intent: {event.intent or BUILT_IN}"]
    if event.baseline is None or event.since is None:
        lines.append("Watching. There is no earlier scan: the first look is what later ones are compared with.")
    else:
        lines.append(
            f"Watching. Compared with scan {event.baseline} of {_time(event.since)} "
            f"({_counted(event.targets, 'target')})."
        )
    return lines + _soaks(event.without_soak)


def _soaks(without: Sequence[str]) -> list[str]:
    if not without:
        return []
    named = ", ".join(shown(each) for each in without)
    return [f"Repairs do not soak: after one nobody counts rejected calls, and no wave waits for another ({named})."]


def _round_lines(event: RoundEnded) -> list[str]:
    what = f"scan {event.scan_id}" if event.scan_id else f"{_counted(event.events, 'event')}"
    lines = [
        f"{_time(event.at)}  round {event.number}: {what}, {_counted(event.targets, 'target')} read, "
        f"{_counted(len(event.drifts), 'drift') if event.drifts else 'no drift'}"
        + (f", {len(event.blind)} unknown" if event.blind else "")
        + (f", {len(event.lapsed)} no longer exempt" if event.lapsed else "")
    ]
    for drift in event.drifts[:SHOWN_MAX]:
        change = drift.change
        lines.append(f"  drift  {_change_words(change)}")
        lines.append(f"         {_who(drift.actor)}")
        if change.held:
            lines.append(f"         cannot be repaired: {shown(change.held)}")
    if len(event.drifts) > SHOWN_MAX:
        lines.append(f"  and {len(event.drifts) - SHOWN_MAX} more")
    lines += [_blind_line(each) for each in event.blind[:SHOWN_MAX]]
    lines += [f"  no longer exempt  {_change_words(each)}" for each in event.lapsed[:SHOWN_MAX]]
    if event.lapsed:
        lines.append("         no exception holds for it now; it is not repaired: `imdsctl plan` has it")
    return lines


def _change_words(change: Change) -> str:
    name = f" ({shown(change.name)})" if change.name and change.name != change.resource else ""
    return f"{change.target}  {shown(change.resource)}{name}: {shown(change.reason)}"


def _blind_line(each: Blind) -> str:
    return f"  unknown  {shown(each.subject)}: {shown(each.reason)}"


def _repair_lines(event: RepairEnded) -> list[str]:
    lines = []
    if event.changes:
        place = f" ({event.plan} and its journal)" if event.plan else ""
        lines.append(f"{_time(event.at)}  repair: {_counted(len(event.changes), 'change')}{place}")
        lines += [
            f"  {each.outcome}  {shown(each.change_id)}" + (f": {shown(each.detail)}" if each.detail else "")
            for each in event.changes
        ]
    if event.left:
        lines.append(
            f"  {_counted(event.left, 'change')} over the limit of a round: left for the next one (--repair-max)"
        )
    lines += [
        f"  left alone  {shown(each)}: it was repaired several times and is not as wanted" for each in event.given_up
    ]
    return lines


def _who(actor: Actor | None) -> str:
    if actor is None:
        return UNKNOWN_WHO
    parts = [f"by {shown(actor.arn)}" if actor.arn else f"by {UNKNOWN_WHO}"]
    parts += [f"from {shown(actor.source_ip)}"] if actor.source_ip else []
    parts += [f"with {shown(actor.user_agent[:USER_AGENT_MAX])}"] if actor.user_agent else []
    parts += [f"at {_time(actor.at)}"] if actor.at is not None else []
    parts += [f"({shown(actor.event_name)}, event {shown(actor.event_id)})"] if actor.event_id else []
    return " ".join(parts)


def _drift_plain(drift: Drift) -> dict[str, Any]:
    actor = drift.actor
    return {
        "change": change_to_plain(drift.change),
        "since": _iso(drift.since),
        "actor": None
        if actor is None
        else {
            "arn": actor.arn,
            "source_ip": actor.source_ip,
            "user_agent": actor.user_agent,
            "event_id": actor.event_id,
            "event_name": actor.event_name,
            "at": _iso(actor.at),
        },
    }


def _counted(number: int, thing: str) -> str:
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M:%SZ}"


def _iso(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
