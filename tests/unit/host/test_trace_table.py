"""Calls added up by who makes them, with bounds."""

from __future__ import annotations

import pytest

from imdsctl.host import trace_table
from imdsctl.host.calls import Asked, Call, Kind, Outcome
from imdsctl.host.processes import Place, Process
from imdsctl.host.trace_table import Tally, TraceTable, Unattributed


def call(kind: Kind = Kind.V1, outcome: Outcome = Outcome.ANSWERED, path: str = "/", at: float = 1.0) -> Call:
    return Call(Asked(kind, "GET", path), outcome, at)


def process(pid: int, name: str = "app", place: Place = Place()) -> Process:  # noqa: B008 - frozen
    return Process(pid, name, f"/usr/bin/{name}", f"{name} --serve", 0, 5.0, ((1, "init"),), place)


def test_processes_that_differ_only_in_their_number_share_a_row() -> None:
    table = TraceTable()
    for pid in (10, 11, 11):
        table.of(process(pid)).add(call())
    [row] = table.sorted_rows()
    assert row.tally.count(Kind.V1) == 3
    assert row.pids == {10, 11}
    assert row.last.pid == 11


def test_the_same_program_in_two_containers_has_two_rows() -> None:
    table = TraceTable()
    for container in ("docker:aaa", "docker:bbb"):
        table.of(process(10, place=Place(container))).add(call())
    assert [row.identity.place.container for row in table.sorted_rows()] == ["docker:aaa", "docker:bbb"]


def test_who_calls_by_imdsv1_stands_first() -> None:
    table = TraceTable()
    for _ in range(5):
        table.of(process(1, "modern")).add(call(Kind.V2))
    table.of(process(2, "old")).add(call(Kind.V1))
    assert [row.identity.name for row in table.sorted_rows()] == ["old", "modern"]


def test_more_programs_than_rows_are_counted_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_table, "ROWS_MAX", 10)
    table = TraceTable()
    for number in range(25):
        table.of(process(number, f"app{number}")).add(call())
    assert len(table.rows) == 10
    assert table.others.count(Kind.V1) == 15
    assert table.total().count(Kind.V1) == 25


def test_more_processes_than_are_told_apart_stay_in_their_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_table, "PIDS_COUNTED_MAX", 3)
    table = TraceTable()
    for pid in range(10):
        table.of(process(pid)).add(call())
    [row] = table.sorted_rows()
    assert len(row.pids) == 3
    assert row.tally.count(Kind.V1) == 10


def test_what_nobody_is_known_for_is_counted_by_its_reason() -> None:
    table = TraceTable()
    table.of(Unattributed.SOCKET_GONE).add(call())
    assert table.rows == {}
    assert table.unattributed[Unattributed.SOCKET_GONE].count(Kind.V1) == 1
    assert set(trace_table.REASONS) == set(Unattributed)


def test_first_and_last_are_by_time_not_by_arrival() -> None:
    tally, late = Tally(), Tally()
    tally.add(call(path="/second", at=2.0))
    late.add(call(path="/third", at=3.0))
    late.add(call(path="/first", at=1.0))
    tally.merge(late)
    assert (tally.first_path, tally.last_path, tally.first_at, tally.last_at) == ("/first", "/third", 1.0, 3.0)


@pytest.mark.parametrize("failed", [Outcome.REFUSED, Outcome.HOP_LIMIT, Outcome.NO_ANSWER])
def test_imdsv1_after_a_token_that_did_not_come_is_a_fall_back(failed: Outcome) -> None:
    tally = Tally()
    tally.add(call(Kind.TOKEN, failed))
    assert not tally.falls_back
    tally.add(call(Kind.V1))
    assert tally.falls_back


def test_imdsv1_beside_tokens_that_come_is_no_fall_back() -> None:
    tally = Tally()
    tally.add(call(Kind.TOKEN))
    tally.add(call(Kind.V1))
    assert not tally.falls_back
