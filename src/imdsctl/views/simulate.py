"""What becomes of simulated calls: for a terminal, and as JSON."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from imdsctl.codify.flips import Flip
from imdsctl.codify.request_rows import Row
from imdsctl.codify.simulate import Cited, Outcome, Part, Result, Says
from imdsctl.domain.options import AWS_NAMES
from imdsctl.domain.shown import shown
from imdsctl.views.diagnostics import painted
from imdsctl.views.json import document
from imdsctl.views.text import table_text

Simulated = tuple[Row, Outcome, Flip | None]
_COLOURS = {Result.ALLOWED: "green", Result.DENIED: "red", Result.REFUSED: "red"}


def outcome_text(row: Row, outcome: Outcome, flip: Flip | None, *, colour: bool = False) -> str:
    """One call: what becomes of it, every layer's part, what the instance gets, and what would change it."""
    asked = row.asked
    who = asked.principal.issuer_arn or asked.principal.arn
    result = painted(str(outcome.result), _COLOURS[outcome.result], colour)
    lines = [f"{asked.action} by {shown(who)} in {asked.region}: {result}"]
    if outcome.result is Result.DENIED:
        lines.append(f"  {shown(outcome.action)} on {shown(outcome.resource)}")
    if outcome.refusal:
        code = f"{outcome.error_code}: " if outcome.error_code else ""
        lines.append(f"  {code}{shown(outcome.refusal)}")
    lines += ["", *_parts(outcome.parts)]
    if outcome.resolution is not None:
        would = "would have got" if outcome.result is not Result.ALLOWED else "gets"
        lines += ["", f"The instance {would}:"]
        for name, aws in AWS_NAMES.items():
            decided = getattr(outcome.resolution, name)
            lines.append(f"  {aws} = {decided.value} ({decided.layer})")
    if flip is not None:
        lines += ["", f"What would change it: {shown(' and '.join(flip.changes))} (then it is {flip.result})."]
    else:
        lines += ["", "What would change it: nothing that was tried."]
    return "\n".join(lines)


def _parts(parts: Iterable[Part]) -> Iterable[str]:
    for part in parts:
        yield f"  {part.layer}: {part.says}"
        if part.says is Says.DENIES:
            for each in part.statements:
                yield f"    {shown(_named(each))}"
                for tested in each.conditions:
                    has = "is not in the request" if tested.has is None else f"is `{shown(tested.has)}`"
                    yield f"      {tested.operator} {shown(tested.key)} {shown(', '.join(tested.wanted))}: {has}"


def _named(cited: Cited) -> str:
    return f"{cited.policy}: {cited.sid or f'statement {cited.index + 1}'}"


def table(rows: Iterable[Simulated], *, colour: bool = False) -> str:
    """One line a call."""
    cells = [["REQUEST", "ACTION", "RESULT", "EXPECTED", "BECAUSE", "WHAT WOULD CHANGE IT"]]
    for row, outcome, flip in rows:
        expected = "-" if row.expect is None else str(row.expect)
        result = painted(str(outcome.result), _COLOURS[outcome.result], colour)
        change = " and ".join(flip.changes) if flip is not None else "-"
        cells.append([shown(row.place), row.asked.action, result, expected, shown(_because(outcome)), shown(change)])
    return table_text(cells)


def _because(outcome: Outcome) -> str:
    for part in outcome.parts:
        if part.says is Says.DENIES:
            return _named(part.statements[0])
    if outcome.refusal:
        return outcome.refusal
    silent = next((part for part in outcome.parts if part.says is Says.SILENT), None)
    return f"{silent.layer}: does not allow it" if silent is not None and outcome.result is Result.DENIED else "-"


def simulated_json(rows: Iterable[Simulated], *, partial: bool) -> str:
    """Everything, as one JSON object."""
    return document("policy-simulate", partial=partial, requests=[_json(*each) for each in rows])


def _json(row: Row, outcome: Outcome, flip: Flip | None) -> dict[str, Any]:
    return {
        "request": row.place,
        "action": row.asked.action,
        "result": str(outcome.result),
        "expected": None if row.expect is None else str(row.expect),
        "permission": outcome.action,
        "resource": outcome.resource,
        "refusal": outcome.refusal,
        "layers": [
            {
                "layer": part.layer,
                "says": str(part.says),
                "statements": [
                    {
                        "policy": each.policy,
                        "statement": each.index,
                        "sid": each.sid,
                        "conditions": [
                            {
                                "operator": tested.operator,
                                "key": tested.key,
                                "values": list(tested.wanted),
                                "request_has": tested.has,
                            }
                            for tested in each.conditions
                        ],
                    }
                    for each in part.statements
                ],
            }
            for part in outcome.parts
        ],
        "instance_gets": outcome.options.to_aws() if outcome.options is not None else None,
        "would_change_it": None if flip is None else {"changes": list(flip.changes), "result": str(flip.result)},
    }
