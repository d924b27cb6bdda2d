"""Matches of an intent that nothing answers to: a mistyped name is told before it is missed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from tests.unit.domain.plan_cases import ACCOUNT, NOON, scan_of

from imdsctl.domain.intent import parse_intent
from imdsctl.domain.intent_unanswered import unanswered
from imdsctl.domain.observations import AccountUnseen, Scan, Unseen
from imdsctl.domain.verdicts import REGION_NOT_ENABLED

WORLD: dict[str, Any] = {
    "name": "shop",
    "ou": "Root/Prod",
    "instances": [{"id": "i-00000001", "tags": {"app": "billing"}, "template": "lt-00000001"}, {"id": "i-00000002"}],
    "templates": [{"id": "lt-00000001", "name": "web"}],
    "groups": [{"name": "workers", "instances": ["i-00000002"]}],
}


def told(match: str, scan: Scan | None = None, kind: str = "exception") -> list[str]:
    more = 'owner = "o"\nreason = "r"\nexpires = 2099-01-01\n' if kind == "exception" else ""
    more = 'name = "w"\n' if kind == "wave" else more
    intent = parse_intent(f"version = 1\n[[{kind}]]\nmatch = {{ {match} }}\n{more}", "imdsctl.toml")
    found = unanswered(scan or scan_of(WORLD), intent, NOON)
    assert {each.subject for each in found} <= {"imdsctl.toml:2"}
    return [each.summary for each in found]


@pytest.mark.parametrize("kind", ["exception", "scope", "wave"])
@pytest.mark.parametrize(
    "match",
    [
        'account = "shop"',
        f'account = "{ACCOUNT}", region = "eu-*"',
        'ou = "Prod"',
        'tag = "app=billing"',
        'tag = "app"',
        'resource = "i-00000002"',
        'resource = "workers"',
        'resource = "web", tag = "app=*"',
    ],
)
def test_what_somebody_answers_to_is_not_told(match: str, kind: str) -> None:
    assert told(match, kind=kind) == []


@pytest.mark.parametrize(
    ("match", "words"),
    [
        ('account = "shpo"', "account shpo"),
        ('account = "shop", region = "us-east-1"', "account shop, region us-east-1"),
        ('ou = "Production"', "ou Production"),
        ('tag = "app=biling"', "tag app=biling"),
        ('resource = "i-00000003"', "resource i-00000003"),
        ('resource = "web", tag = "app=x"', "tag app=x, resource web"),
    ],
)
def test_what_nobody_answers_to_is_told_with_its_line(match: str, words: str) -> None:
    assert told(match) == [f"nothing answers to {words}: the exception of o covers nothing"]
    assert told(match, kind="wave") == [f"nothing answers to {words}: wave `w` covers nothing"]
    assert told(match, kind="scope") == [f"nothing answers to {words}: this scope covers nothing"]


def test_an_exclusion_is_as_easily_mistyped() -> None:
    text = 'version = 1\n[exclude]\nresources = ["i-00000001", "i-0000000f"]\nregions = ["eu-west-1", "eu-west-9"]\n'
    found = unanswered(scan_of(WORLD), parse_intent(text), NOON)
    assert [each.summary.split(":")[0] for each in found] == [
        "nothing answers to region eu-west-9",
        "nothing answers to resource i-0000000f",
    ]


def test_what_may_be_where_nobody_looked_is_not_told() -> None:
    whole = scan_of(WORLD)
    refused = (AccountUnseen(ACCOUNT, None, Unseen("account", "denied", "AccessDenied")),)
    assert told('resource = "i-00000003"', replace(whole, unseen=refused)) == []
    assert told('resource = "i-00000003"', scan_of({**WORLD, "unseen": [{"what": "images", "reason": "no"}]})) == []
    assert told('account = "elsewhere"', replace(whole, scope=(("accounts", ACCOUNT),))) == []


def test_a_region_that_is_not_enabled_is_there_and_hides_nothing_that_is_changed() -> None:
    shut = (AccountUnseen(ACCOUNT, "ap-east-1", Unseen("Region", "not enabled", REGION_NOT_ENABLED)),)
    scan = replace(scan_of(WORLD), unseen=shut)
    assert told('region = "ap-east-1"', scan) == []
    assert told('region = "ap-east-1", resource = "i-00000003"', scan) == []
    assert len(told('resource = "i-00000003"', scan)) == 1


def test_where_nobody_knows_the_units_no_name_of_one_is_called_wrong() -> None:
    world = {name: value for name, value in WORLD.items() if name != "ou"}
    assert told('ou = "Workloads"', scan_of(world)) == []


def test_an_exception_that_has_expired_is_told_as_that_only() -> None:
    text = 'version = 1\n[[exception]]\nmatch = { tag = "x" }\nowner = "o"\nreason = "r"\nexpires = 2020-01-01\n'
    assert unanswered(scan_of(WORLD), parse_intent(text), NOON) == ()
