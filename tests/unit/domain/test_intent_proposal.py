"""`imdsctl init`: a file to begin with, that parses whatever the names are."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.domain.plan_cases import NOON, evidence_of, scan_of

from imdsctl.domain.evidence import Evidence
from imdsctl.domain.intent import Intent, parse_intent
from imdsctl.domain.intent_match import Home
from imdsctl.domain.intent_proposal import look_over, proposal
from imdsctl.domain.planner import make_plan
from imdsctl.domain.waves import OnUnknown


def proposed(*regions: dict[str, Any], evidence: Evidence | None = None) -> tuple[Intent, str]:
    scan = scan_of(*regions)
    text = proposal(scan, look_over(scan, evidence), evidence, now=NOON)
    intent = parse_intent(text)
    # Whatever is seen, every change finds its wave.
    assert all(change.wave != "no wave" for change in make_plan(scan, intent, made_at=NOON).changes)
    return intent, text


def wave_of(intent: Intent, home: Home, tags: tuple[tuple[str, str], ...] = ()) -> str:
    return next(rule.wave.name for rule in intent.waves if rule.match.holds_at(home) and rule.match.picks((), tags))


def account(number: int, **said: Any) -> dict[str, Any]:
    return {"account": f"{number:012}", **said}


def test_waves_come_from_units_that_are_called_like_environments() -> None:
    intent, _ = proposed(
        account(1, ou="Root/Sandbox"), account(2, ou="Root/Workloads/Pre-Prod"), account(3, ou="Root/Workloads/Prod EU")
    )
    assert [rule.wave.name for rule in intent.waves] == ["sandbox", "staging", "prod", "rest"]
    assert wave_of(intent, Home("000000000003", "x", ou_path="Root/Workloads/Prod EU/Shop")) == "prod"
    assert wave_of(intent, Home("000000000004", "x", ou_path="Root/Security")) == "rest"


def test_production_is_not_the_first_wave_and_somebody_has_to_approve_it() -> None:
    """Where only production is called so, small accounts outside of it come first."""
    sizes = {"Root/Workloads/Prod": 9, "Root/Security": 1, "Root/Infrastructure": 40, "Root": 3}
    intent, _ = proposed(
        *(
            account(n, ou=ou, instances=[{"id": f"i-{n}-{each}"} for each in range(count)])
            for n, (ou, count) in enumerate(sizes.items())
        )
    )
    assert [rule.wave.name for rule in intent.waves] == ["pilot", "prod", "rest"]
    pilot, prod, _ = (rule.wave.gates for rule in intent.waves)
    assert wave_of(intent, Home("000000000001", "x", ou_path="Root/Security")) == "pilot"
    assert wave_of(intent, Home("000000000002", "x", ou_path="Root/Infrastructure")) == "rest"
    assert (pilot.approval, prod.approval, prod.rejected_calls_max) == (False, True, 0)
    assert (pilot.unknown_evidence, prod.unknown_evidence) == (OnUnknown.ALLOW, OnUnknown.STOP)
    only, _ = proposed(account(0, ou="Root/Workloads/Prod"))
    assert [(rule.wave.name, rule.wave.gates.approval) for rule in only.waves] == [("prod", True), ("rest", True)]


def test_else_from_a_tag() -> None:
    intent, _ = proposed(
        account(
            1, instances=[{"id": "i-1", "tags": {"Environment": "dev"}}, {"id": "i-2", "tags": {"Environment": "live"}}]
        )
    )
    assert [rule.wave.name for rule in intent.waves] == ["dev", "prod", "rest"]
    assert wave_of(intent, Home("000000000001", "x"), (("Environment", "live"),)) == "prod"


def test_else_from_the_accounts_sizes_small_ones_first() -> None:
    sizes = {1: 1, 2: 2, 3: 10, 4: 100}
    intent, _ = proposed(
        *(account(n, instances=[{"id": f"i-{n}-{each}"} for each in range(count)]) for n, count in sizes.items())
    )
    assert [rule.wave.name for rule in intent.waves] == ["small", "rest"]
    assert wave_of(intent, Home("000000000003", "x")) == "small"
    assert wave_of(intent, Home("000000000004", "x")) == "rest"


def test_workloads_that_use_imdsv1_get_a_stub_to_decide_on() -> None:
    region = {
        "instances": [{"id": "i-1"}, {"id": "i-2"}, {"id": "i-3", "template": "lt-0a"}, {"id": "i-4"}],
        "groups": [{"name": "web", "instances": ["i-1", "i-2"]}],
    }
    used = evidence_of({"i-1": {"no-token": 1}, "i-2": {"no-token": 1}, "i-3": {"no-token": 1}, "i-4": {"no-token": 0}})
    intent, text = proposed(region, evidence=used)
    assert intent.exemptions == ()
    assert '# match = { account = "111122223333", region = "eu-west-1", resource = "web" }' in text
    assert "# Auto Scaling group web: 2 instances use IMDSv1" in text
    assert "# launch template lt-0a: 1 instance uses IMDSv1" in text
    assert "i-4" not in text
    # Taken as it is, with the marks away, a stub is an exception.
    stubs = "\n".join(
        line.removeprefix("# ")
        for line in text.splitlines()
        if line.startswith("# ") and ("=" in line or "[[exc" in line)
    )
    begin = stubs.index("[[exception]]")
    assert len(parse_intent(f"version = 1\n{stubs[begin:]}").exemptions) == 2


def test_what_others_manage_is_noted() -> None:
    _, text = proposed(
        {
            "defaults": {"ManagedBy": "declarative-policy"},
            "instances": [{"id": "i-1", "managed-by": "eks.amazonaws.com"}],
        }
    )
    assert "instances of eks.amazonaws.com: 1" in text
    assert "Region defaults of 111122223333/eu-west-1 (declarative-policy)" in text


HOSTILE = st.text(max_size=12)  # without surrogates: AWS sends UTF-8


@given(HOSTILE, HOSTILE, HOSTILE)
@pytest.mark.parametrize("unit", ["prod-{}", "{}"])
def test_whatever_the_names_are_the_file_parses(unit: str, ou: str, group: str, value: str) -> None:
    region = {
        "ou": f"Root/{unit.format(ou)}",
        "instances": [{"id": "i-1", "tags": {"env": f"dev-{value}"}}, {"id": "i-2", "tags": {"env": f"prod-{value}"}}],
        "groups": [{"name": group, "instances": ["i-1"]}],
    }
    proposed(region, evidence=evidence_of({"i-1": {"no-token": 1}}))
