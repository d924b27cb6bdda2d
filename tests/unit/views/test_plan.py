"""A plan for a person: on a terminal, as a page. Whole outputs are in tests/cases/plan-views;
IMDSCTL_UPDATE_SNAPSHOTS=1 writes them anew."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest
from lxml import html
from tests.unit.domain.plan_cases import ACCOUNT, NOON, evidence_of, scan_of

from imdsctl.domain.intent import parse_intent
from imdsctl.domain.plan import Plan
from imdsctl.domain.planner import make_plan
from imdsctl.domain.what_if import answer, parse_question
from imdsctl.views.plan import LINES_MAX, plan_text
from imdsctl.views.plan_html import CHANGES_MAX, plan_html
from imdsctl.views.what_if import answer_text

SNAPSHOTS = Path(__file__).parents[2] / "cases" / "plan-views"
NAMES = {ACCOUNT: "shop"}
INTENT = """
version = 1
groups.refresh = true
[[wave]]
name = "dev"
match.tag = "env=dev"
no-v1-calls = "14d"
[[wave]]
name = "prod"
approval = true
soak = "1d"
rejected-calls-max = 0
on-failure = "rollback"
[[exception]]
match.tag = "app=billing"
owner = "billing@example.com"
reason = "its agent knows only IMDSv1"
expires = 2027-03-31
"""
REGION: dict[str, Any] = {
    "name": "shop",
    "templates": [{"id": "lt-0a", "name": "web", "options": {"HttpTokens": "optional"}}],
    "groups": [{"name": "web", "launches": [{"template": "lt-0a"}], "instances": ["i-1", "i-2"]}],
    "configurations": [{"name": "old", "options": {"HttpTokens": "optional"}}],
    "instances": [
        {"id": "i-1", "template": "lt-0a"},
        {"id": "i-2", "template": "lt-0a"},
        {"id": "i-3", "tags": {"env": "dev", "Name": "box", "kubernetes.io/cluster/x": "owned"}},
        {"id": "i-4", "tags": {"app": "billing"}},
        {"id": "i-5", "managed-by": "eks.amazonaws.com"},
    ],
    "unseen": [{"what": "images", "reason": "not authorized"}],
}


def plan_of(*regions: dict[str, Any], intent: str = INTENT, evidence: Any = None) -> Plan:
    return make_plan(scan_of(*regions), parse_intent(intent, "imdsctl.toml"), made_at=NOON, evidence=evidence)


def agrees(name: str, text: str) -> None:
    path = SNAPSHOTS / name
    if os.environ.get("IMDSCTL_UPDATE_SNAPSHOTS"):
        path.write_text(text)
    assert text == path.read_text()


def page_of(plan: Plan) -> str:
    return "".join(plan_html(plan, NAMES, file="plan.json"))


def words(page: str) -> str:
    return re.sub(r"\s+", " ", html.fromstring(page).text_content())


def test_a_plan_in_waves() -> None:
    evidence = evidence_of({"i-3": {"no-token": 0}})
    agrees("waves.txt", plan_text(plan_of(REGION, evidence=evidence), NAMES, file="plan.json") + "\n")


def test_a_large_plan_is_folded_by_account_and_region() -> None:
    regions = [
        {"account": f"{account:012}", "region": region, "instances": [{"id": f"i-{n}"} for n in range(LINES_MAX)]}
        for account in (1, 2)
        for region in ("eu-west-1", "us-east-1")
    ]
    agrees("folded.txt", plan_text(plan_of(*regions, intent="version = 1"), {}) + "\n")


def test_an_answer_to_what_if() -> None:
    scan = scan_of({**REGION, "defaults": {"HttpTokens": "required"}})
    agrees("what-if.txt", answer_text(answer(scan, parse_question("enforce on")), NAMES) + "\n")


def test_a_page_says_everything_that_a_reviewer_needs() -> None:
    said = words(page_of(plan_of(REGION, evidence=evidence_of({"i-3": {"no-token": 0}}))))
    for word in (
        "Wave dev",
        "Gates: no IMDSv1 call in 14d (unknown evidence stops it). On failure: stop.",
        "Wave prod",
        "i-3 (box): HttpTokens optional -> required, HttpPutResponseHopLimit 1 -> 2",
        "unused: no call without a token in 14d",
        "Auto Scaling group web (2 desired)",
        "billing@example.com until 2027-03-31: its agent knows only IMDSv1 (imdsctl.toml:14)",
        "only its operator (eks.amazonaws.com) can change it",
        "not authorized",
    ):
        assert word in said


HOSTILE = '"><script>alert(1)</script>\x1b[2J\u202e{{7*7}}'


def test_hostile_names_do_nothing_to_a_page() -> None:
    region = {
        "name": HOSTILE,
        "templates": [{"id": "lt-0a", "name": HOSTILE, "options": {"HttpTokens": "optional"}}],
        "groups": [{"name": HOSTILE, "launches": [{"template": "lt-0a"}]}],
        "instances": [{"id": "i-1", "tags": {"Name": HOSTILE, f"kubernetes.io/{HOSTILE}": "x"}}],
        "unseen": [{"what": HOSTILE, "reason": HOSTILE}],
    }
    plan = plan_of(region, intent="version = 1")
    page = "".join(plan_html(plan, {ACCOUNT: HOSTILE}, file=HOSTILE))
    assert not html.fromstring(page).xpath("//script | //*[@src] | //*[@href] | //*[starts-with(name(@*), 'on')]")
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "{{7*7}}" in page
    assert "\x1b" not in plan_text(plan, {ACCOUNT: HOSTILE})


def test_a_page_of_a_large_plan_says_what_it_leaves_out() -> None:
    plan = plan_of({"instances": [{"id": f"i-{n:05}"} for n in range(CHANGES_MAX + 10)]}, intent="version = 1")
    page = page_of(plan)
    assert page.count("<tr>") < CHANGES_MAX + 20
    assert "more are in the plan file" in words(page)


@pytest.mark.parametrize("tag", ["script", "img", "link", "iframe", "form"])
def test_a_page_loads_nothing(tag: str) -> None:
    assert not html.fromstring(page_of(plan_of(REGION))).xpath(f"//{tag}")
