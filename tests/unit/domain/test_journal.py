"""The journal as a fold: every point at which an apply can be killed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.domain.journal import (
    Applied,
    Began,
    Entry,
    Failed,
    Progress,
    check_header,
    entry_from_plain,
    entry_to_plain,
    header_to_plain,
    replay,
)

OLD = {"HttpTokens": "optional"}
NEW = {"HttpTokens": "required"}


@pytest.mark.parametrize(
    ("entries", "progress"),
    [
        ([], Progress()),
        ([Began("a", OLD)], Progress(in_doubt=frozenset("a"), old={"a": OLD})),
        ([Began("a", OLD), Applied("a", NEW)], Progress(done=frozenset("a"), old={"a": OLD})),
        ([Began("a", OLD), Failed("a", "Denied", "no")], Progress(failed=frozenset("a"), old={"a": OLD})),
        ([Applied("a", NEW)], Progress(done=frozenset("a"))),
        (
            [Began("a", OLD), Failed("a", "Denied", "no"), Began("a", OLD)],
            Progress(in_doubt=frozenset("a"), old={"a": OLD}),
        ),
        (
            [Began("a", OLD), Began("a", NEW), Applied("a", NEW)],
            Progress(done=frozenset("a"), old={"a": OLD}),
        ),
        (
            [Began("a", OLD), Applied("a", NEW), Began("b", OLD)],
            Progress(done=frozenset("a"), in_doubt=frozenset("b"), old={"a": OLD, "b": OLD}),
        ),
    ],
)
def test_what_a_journal_says(entries: list[Entry], progress: Progress) -> None:
    assert replay(entries) == progress


entry = st.one_of(
    st.builds(Began, st.sampled_from("abc"), st.just(OLD), st.just("t")),
    st.builds(Applied, st.sampled_from("abc"), st.just(NEW), st.just("t")),
    st.builds(Failed, st.sampled_from("abc"), st.text(), st.text(), st.just("t")),
)


@given(st.lists(entry))
def test_a_change_is_in_one_state_and_its_first_old_values_stay(entries: list[Entry]) -> None:
    progress = replay(entries)
    assert not progress.in_doubt & progress.failed
    assert progress.in_doubt | progress.done | progress.failed == {each.change for each in entries}
    assert set(progress.old) == {each.change for each in entries if isinstance(each, Began)}


@given(entry)
def test_an_entry_can_be_read_back(value: Entry) -> None:
    assert entry_from_plain(entry_to_plain(value), 2) == value


@pytest.mark.parametrize("value", [None, [], 3, {}, {"entry": "began"}, {"entry": "ended", "change": "a"}])
def test_what_is_no_entry_is_damage(value: object) -> None:
    with pytest.raises(DiagnosticError, match="journal-damaged"):
        entry_from_plain(value, 7)


def test_a_journal_belongs_to_one_plan() -> None:
    header = header_to_plain("sha256:a", "now")
    check_header(header, "sha256:a")
    with pytest.raises(DiagnosticError, match="journal-mismatch"):
        check_header(header, "sha256:b")
    with pytest.raises(DiagnosticError, match="journal-damaged"):
        check_header({**header, "format_version": 2}, "sha256:a")
