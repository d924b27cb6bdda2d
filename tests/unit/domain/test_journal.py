"""The journal as a fold: every point at which an apply can be killed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.domain.journal import (
    Applied,
    Approved,
    Began,
    Entry,
    Failed,
    GateChecked,
    RollbackBegan,
    RollbackFailed,
    RolledBack,
    RunBegan,
    SoakBegan,
    SoakFailed,
    WaveBegan,
    WaveEnded,
    WaveProgress,
    WaveRollbackBegan,
    WaveRollbackEnded,
    check_header,
    entry_from_plain,
    entry_to_plain,
    header_to_plain,
    replay,
)

OLD = {"HttpTokens": "optional"}
NEW = {"HttpTokens": "required"}


@pytest.mark.parametrize(
    ("entries", "known"),
    [
        ([], {}),
        ([Began("a", OLD)], {"in_doubt": {"a"}, "old": {"a": OLD}}),
        ([Began("a", OLD), Applied("a", NEW)], {"done": {"a"}, "old": {"a": OLD}, "now": {"a": NEW}}),
        ([Began("a", OLD), Failed("a", "Denied", "no")], {"failed": {"a"}, "old": {"a": OLD}}),
        ([Applied("a", NEW)], {"done": {"a"}, "now": {"a": NEW}}),
        (
            [Began("a", OLD), Failed("a", "Denied", "no"), Began("a", OLD)],
            {"in_doubt": {"a"}, "old": {"a": OLD}},
        ),
        (
            [Began("a", OLD), Began("a", NEW), Applied("a", NEW)],
            {"done": {"a"}, "old": {"a": OLD}, "now": {"a": NEW}},
        ),
        (
            [Began("a", OLD), Applied("a", NEW), Began("b", OLD)],
            {"done": {"a"}, "in_doubt": {"b"}, "old": {"a": OLD, "b": OLD}, "now": {"a": NEW}},
        ),
        (
            [Began("a", OLD), Applied("a", NEW), RollbackBegan("a", NEW)],
            {"done": {"a"}, "rollback_in_doubt": {"a"}, "old": {"a": OLD}, "now": {"a": NEW}},
        ),
        (
            [Began("a", OLD), Applied("a", NEW), RollbackBegan("a", NEW), RolledBack("a", OLD)],
            {"rolled_back": {"a"}, "old": {"a": OLD}, "now": {"a": NEW}},
        ),
        (
            [Began("a", OLD), RollbackBegan("a", OLD), RollbackFailed("a", "Denied", "no")],
            {"in_doubt": {"a"}, "old": {"a": OLD}},
        ),
    ],
)
def test_what_a_journal_says(entries: list[Entry], known: dict[str, Any]) -> None:
    progress = replay(entries)
    sets = ("done", "in_doubt", "failed", "rolled_back", "rollback_in_doubt")
    assert {name: getattr(progress, name) for name in sets} == {name: known.get(name, set()) for name in sets}
    assert (progress.old, progress.now) == (known.get("old", {}), known.get("now", {}))


@pytest.mark.parametrize(
    ("entries", "known"),
    [
        ([WaveBegan("w", "t1"), WaveBegan("w", "t2")], WaveProgress(began="t1")),
        ([Approved("w", "arn", "me", "typed", "t")], WaveProgress(approved=True)),
        ([SoakBegan("w", "t1", "t9", "t2")], WaveProgress(soak_since="t1", soak_until="t9")),
        ([SoakBegan("w", "t1", "t9", "t2"), SoakFailed("w", "too many", "t3")], WaveProgress(soaks_failed=1)),
        ([SoakBegan("w", "t1", "t9", "t2"), WaveEnded("w", "t9")], WaveProgress(ended=True)),
        ([WaveRollbackBegan("w", "t")], WaveProgress(rollback_began=True)),
        (
            [WaveRollbackBegan("w", "t"), WaveRollbackEnded("w", "t")],
            WaveProgress(rollback_began=True, rollback_ended=True),
        ),
        ([GateChecked("w", "soak", "passed", "", "t"), RunBegan("apply", "arn", "host", 3, "t")], WaveProgress()),
    ],
)
def test_what_a_journal_says_of_a_wave(entries: list[Entry], known: WaveProgress) -> None:
    assert replay(entries).wave("w") == known
    assert replay(entries).wave("another") == WaveProgress()


def test_old_values_are_the_first_ones_and_the_last_beginning_is_known_too() -> None:
    progress = replay([Began("a", OLD, "t1"), Failed("a", "Denied", "no", "t2"), Began("a", NEW, "t3")])
    assert (progress.old, progress.begun, progress.done_at) == ({"a": OLD}, {"a": NEW}, {"a": "t3"})


entry = st.one_of(
    st.builds(Began, st.sampled_from("abc"), st.just(OLD), st.just("t")),
    st.builds(Applied, st.sampled_from("abc"), st.just(NEW), st.just("t")),
    st.builds(Failed, st.sampled_from("abc"), st.text(), st.text(), st.just("t")),
)
any_entry = st.one_of(
    entry,
    *(st.builds(kind, st.sampled_from("abc"), st.just(NEW), st.just("t")) for kind in (RollbackBegan, RolledBack)),
    st.builds(RollbackFailed, st.text(), st.text(), st.text(), st.text()),
    st.builds(RunBegan, st.text(), st.text(), st.text(), st.none() | st.integers(1, 9), st.text()),
    st.builds(GateChecked, st.text(), st.text(), st.text(), st.text(), st.text()),
    st.builds(Approved, st.text(), st.text(), st.text(), st.text(), st.text()),
    st.builds(SoakBegan, st.text(), st.text(), st.text(), st.text()),
    st.builds(SoakFailed, st.text(), st.text(), st.text()),
    *(st.builds(kind, st.text(), st.text()) for kind in (WaveBegan, WaveEnded, WaveRollbackBegan, WaveRollbackEnded)),
)


@given(st.lists(entry))
def test_a_change_is_in_one_state_and_its_first_old_values_stay(entries: list[Any]) -> None:
    progress = replay(entries)
    assert not progress.in_doubt & progress.failed
    assert progress.in_doubt | progress.done | progress.failed == {each.change for each in entries}
    assert set(progress.old) == {each.change for each in entries if isinstance(each, Began)}


@given(any_entry)
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
        check_header({**header, "format_version": 1}, "sha256:a")
