"""Names, tags and messages are written by strangers: none of it reaches a terminal as a command."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imdsctl.domain.shown import ERASED, shown, shown_lines

HOSTILE = [
    "\x1b[2J",
    "\x1b]0;title\x07",
    "\x1b[8mhidden\x1b[28m",
    "\x9b31m",
    "\u202eeslaf",
    "a\x00b",
    "\u2066x\u2069",
    "\ud800",
    "a\rforged",
    "a\r\x1b[Kforged",
    "\uffff",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_what_a_terminal_would_obey_is_spelt_out(text: str) -> None:
    for result in (shown(text), shown_lines(text)):
        assert "\x1b" not in result
        assert result.isprintable()
        assert "\\u" in result


def test_a_name_cannot_forge_a_line() -> None:
    assert shown("web\n  111122223333  enforced") == "web\\u000a  111122223333  enforced"


def test_our_own_lines_and_colours_pass() -> None:
    line = "\r\x1b[K\x1b[31mexposed\x1b[0m\t12\r\n\n"
    assert shown_lines(line) == line
    assert shown_lines(f"{line}{line}") == f"{line}\\u000d\\u001b[K{line.removeprefix(ERASED)}", "in its place only"


def test_ordinary_names_stay_as_they_are() -> None:
    for name in ("Zürich-1", "名前", "a/b:c=d+e@f", "naïve ☃"):
        assert shown(name) == shown_lines(name) == name


@given(st.dictionaries(st.text(), st.text()))
def test_json_stays_the_same_json(value: dict[str, str]) -> None:
    assert json.loads(shown_lines(json.dumps(value, ensure_ascii=False))) == value
