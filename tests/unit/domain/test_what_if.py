"""`plan --what-if`: a sentence, and what every launch would get."""

from __future__ import annotations

from typing import Any

import pytest
from tests.unit.domain.plan_cases import ACCOUNT, REGION, scan_of

from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.domain.exposure import Verdict
from imdsctl.domain.what_if import NOTHING, Answer, answer, parse_question

REQUIRED = {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}
WORLD: dict[str, Any] = {
    "name": "shop",
    "defaults": REQUIRED,
    "templates": [{"id": "lt-0a", "name": "web"}, {"id": "lt-0b", "options": {"HttpTokens": "optional"}}],
    "groups": [{"name": "web", "launches": [{"template": "lt-0a"}]}],
    "images": [{"id": "ami-1"}],
}


def asked(sentence: str, *regions: dict[str, Any]) -> Answer:
    return answer(scan_of(*(regions or (WORLD,))), parse_question(sentence))


def titles(launches: Any) -> list[str]:
    return [each.title for each in launches]


def test_a_default_of_optional_opens_what_says_nothing() -> None:
    found = asked("account default optional in eu-west-1")
    assert titles(found.opened) == [
        NOTHING,
        "launch template lt-0a (web), $Default",
        "Auto Scaling group web, from launch template lt-0a (web) $Default",
        "a launch from image ami-1 that says nothing else",
    ]
    assert found.failing == ()
    unchanged = next(each for each in found.launches if "lt-0b" in each.title)
    assert not unchanged.changes
    assert unchanged.then.verdict is Verdict.EXPOSED


def test_enforcement_makes_what_says_optional_fail() -> None:
    found = asked("enforce on")
    assert titles(found.failing) == ["launch template lt-0b, $Default"]
    assert titles(asked("enforce on and template lt-0b required").failing) == []


def test_enforcement_over_a_default_of_optional_fails_every_launch_that_says_nothing() -> None:
    """An optional default outranks an image's v2.0."""
    found = asked("account default optional; enforce on; image ami-1 v2")
    assert "a launch from image ami-1 that says nothing else" in titles(found.failing)
    assert titles(asked("account default no-preference, enforce on, image ami-1 v2").failing) == [
        NOTHING,
        "launch template lt-0a (web), $Default",
        "launch template lt-0b, $Default",
        "Auto Scaling group web, from launch template lt-0a (web) $Default",
    ]


def test_a_name_with_a_space_stands_in_quotes() -> None:
    shop = {**WORLD, "name": "Shared Services, EU"}
    assert asked("enforce on for 'Shared Services, EU' in eu-west-1", shop).targets == 1
    assert asked('enforce on for "Shared Services, EU"', shop).targets == 1


@pytest.mark.parametrize(
    "sentence",
    [
        "enforce on and enforce off",
        "account default required; account default tokens optional",
        "template web hop-limit 2 and template web hop-limit 3",
    ],
)
def test_a_sentence_that_contradicts_itself_is_no_question(sentence: str) -> None:
    with pytest.raises(DiagnosticError, match="it says two things about"):
        parse_question(sentence)
    assert parse_question("account default required and account default required").defaults


def test_whatever_the_scan_does_not_hold_is_named_with_what_comes_close() -> None:
    with pytest.raises(DiagnosticError) as found:
        asked("enforce on in EU-WEST-1 for shpo")
    assert [each.summary for each in found.value.diagnostics] == [
        "the scan read no Region `EU-WEST-1`: did you mean `eu-west-1`?",
        "the scan read no account `shpo`: did you mean `shop`?",
    ]
    with pytest.raises(DiagnosticError) as found:
        asked("template lt-0c required and image ami-2 v2")
    assert [each.summary for each in found.value.diagnostics] == [
        "the scan saw no `ami-2` there",
        "the scan saw no `lt-0c` there",
    ]
    elsewhere = {"account": "222222222222", "region": "us-east-1", "name": "lab"}
    with pytest.raises(DiagnosticError, match="the scan read nothing in us-east-1 of shop"):
        asked("enforce on in us-east-1 for shop", WORLD, elsewhere)


def test_a_template_by_its_name_and_an_option_of_it() -> None:
    found = asked("template web hop-limit 3")
    changed = [each for each in found.launches if each.changes]
    assert titles(changed) == [
        "launch template lt-0a (web), $Default",
        "Auto Scaling group web, from launch template lt-0a (web) $Default",
    ]
    assert changed[0].then_options.http_put_response_hop_limit == 3


@pytest.mark.parametrize(
    ("where", "targets"),
    [
        ("", 3),
        (" in eu-west-1", 2),
        (f" for {ACCOUNT}", 2),
        (" for shop in us-east-1", 1),
        (" in us-east-1 for shop", 1),
    ],
)
def test_only_the_accounts_and_regions_that_are_named_are_asked(where: str, targets: int) -> None:
    regions = (WORLD, {**WORLD, "region": "us-east-1"}, {"account": "999988887777"})
    assert asked(f"account default optional{where}", *regions).targets == targets


def test_what_the_scan_did_not_see_is_unknown() -> None:
    found = asked(
        "enforce on",
        {"defaults": None},
        {**WORLD, "region": "us-east-1", "groups": [{"name": "x", "launches": [{"template": "lt-0c"}]}]},
    )
    assert [each.split(": ")[0] for each in found.unknown] == [f"{ACCOUNT}/{REGION}", f"{ACCOUNT}/us-east-1"]


@pytest.mark.parametrize(
    ("sentence", "why"),
    [
        ("", "it ends where `account default`"),
        ("account default", "it ends where a value"),
        ("account defualt optional", "did you mean `default`?"),
        ("account default optinal", "did you mean `optional`?"),
        ("account default hop-limit 65", "a whole number from 1 to 64"),
        ("account default ipv6 enabled", "a Region default has no HttpProtocolIpv6"),
        ("image ami-1 v3", "`v3` is not understood"),
        ("enforce maybe", "`on` or `off`"),
        ("enforce on in eu-west-1 in us-east-1", "`in` is there twice"),
        ("enforce on at night", "`at` is not understood"),
        ("drop table scans", "`drop` is not understood"),
    ],
)
def test_a_sentence_that_is_not_understood_gets_the_grammar(sentence: str, why: str) -> None:
    with pytest.raises(DiagnosticError) as caught:
        parse_question(sentence)
    (found,) = caught.value.diagnostics
    assert (found.code, caught.value.exit_code) == ("what-if-invalid", 2)
    assert why in found.summary
    assert "account default" in (found.hint or "")


@pytest.mark.parametrize(
    "sentence", ["enforce on in mars-1", "template lt-0c required", "image ami-2 v2", "enforce on for x"]
)
def test_a_question_about_nothing_is_no_answer(sentence: str) -> None:
    with pytest.raises(DiagnosticError, match="what-if-nothing"):
        asked(sentence)
