"""From a fragment of a scan and an intent to changes, case by case. The cases are data in tests/cases/plan: add the one
that bit you there. `changes` are all of the plan's, in order; of each, what the case does not say is not compared."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.unit.domain.plan_cases import ACCOUNT, NOON, REGION, evidence_of, scan_of

from imdsctl.domain.intent import Intent, parse_intent
from imdsctl.domain.observations import ServiceKind
from imdsctl.domain.plan import Change, Surface
from imdsctl.domain.planner import make_plan

CASES = Path(__file__).parents[2] / "cases" / "plan"
TEXTS = ("held", "reason", "risk", "evidence", "gate")
"""Of these, the words that a case names have to be in there."""


def rows() -> list[Any]:
    return [
        pytest.param(case, id=f"{path.stem}: {case['name']}")
        for path in sorted(CASES.glob("*.json"))
        for case in json.loads(path.read_text())["cases"]
    ]


def said_of(change: Change, wanted: dict[str, Any]) -> dict[str, Any]:
    """What a change says of the things that the case names."""
    said: dict[str, Any] = {"id": short(change.id)}
    for key in wanted.keys() - {"id"}:
        value = getattr(change, key)
        if key == "stage":
            value = value.title
        elif key == "blast_radius":
            value = list(value)
        elif key in TEXTS:
            value = wanted[key] if (wanted[key] in value if wanted[key] else not value) else value
        said[key] = value
    return said


def short(address: str) -> str:
    return address.removeprefix(f"{ACCOUNT}/{REGION}/")


@pytest.mark.parametrize("case", rows())
def test_a_plan_has_the_changes_that_the_table_says(case: dict[str, Any]) -> None:
    intent = parse_intent("\n".join(["version = 1", *case.get("intent", [])]))
    regions = case["scan"] if isinstance(case["scan"], list) else [case["scan"]]
    evidence = evidence_of(case["evidence"]) if "evidence" in case else None
    scan = replace(scan_of(*regions), scope=tuple(case.get("scope", {}).items()))
    plan = make_plan(scan, intent, made_at=NOON, evidence=evidence)
    wanted = [{**each, "held": each.get("held", "")} for each in case["changes"]]
    assert [short(change.id) for change in plan.changes] == [each["id"] for each in wanted]
    assert [said_of(change, each) for change, each in zip(plan.changes, wanted, strict=True)] == wanted
    assert [short(each.id) for each in plan.exempt] == case.get("exempt", [])
    assert [gap.what for gap in plan.unknown] == case.get("unknown", [])


@pytest.mark.parametrize("kind", ServiceKind)
def test_every_service_is_deferred_with_its_next_command(kind: ServiceKind) -> None:
    service = {"kind": str(kind), "id": "an id; rm -rf /", "options": {"HttpTokens": "optional"}}
    plan = make_plan(scan_of({"services": [service]}), Intent(), made_at=NOON)
    (change,) = (each for each in plan.changes if each.surface is Surface.SERVICE)
    assert "`aws " in change.held
    # A name from AWS is one word of the command, whatever is in it.
    assert "'an id; rm -rf /'" in change.held or "an id" not in change.held


def test_every_surface_has_a_case() -> None:
    seen = {part for case in rows() for change in case.values[0]["changes"] for part in change["id"].split("/")[:1]}
    assert seen >= {str(surface) for surface in Surface}
