"""Which scan somebody means, which may go, and how far a scan was."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from imdsctl.domain.diagnostics import DiagnosticError
from imdsctl.domain.history import ScanRecord, choose, coverage, to_prune
from imdsctl.domain.verdicts import Count

DAY = timedelta(days=1)
FIRST = datetime(2026, 11, 3, 23, 59, tzinfo=UTC)


def record(scan_id: str, days: int, *, finished: bool = True) -> ScanRecord:
    end = FIRST + days * DAY if finished else None
    return ScanRecord(scan_id, FIRST + days * DAY - timedelta(hours=1), end, (), 1, 1, 0)


RECORDS = [record("b-2", 2), record("a-1", 0), record("b-3", 5), record("now", 9, finished=False), record("b-30", 1)]


@pytest.mark.parametrize(
    ("name", "chosen"),
    [
        ("latest", "b-3"),
        ("previous", "b-2"),
        ("a-1", "a-1"),
        ("a", "a-1"),
        ("b-3", "b-3"),  # an id is an id, though another begins with it
        ("2026-11-03", "a-1"),
        ("2026-11-04", "b-30"),
        ("2026-11-07", "b-2"),
        ("2027-01-01", "b-3"),
    ],
)
def test_a_scan_by_its_name(name: str, chosen: str) -> None:
    assert choose(name, RECORDS).scan_id == chosen


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("nosuch", "scan-unknown", "there is no scan `nosuch`"),
        ("", "scan-unknown", "there is no scan ``"),
        ("now", "scan-unknown", "is not finished"),
        ("b", "scan-ambiguous", "3 scans begin with `b`"),
        ("2026-11-02", "scan-unknown", "no scan finished on 2026-11-02 or before"),
        ("2026-13-01", "scan-unknown", "there is no scan `2026-13-01`"),
    ],
)
def test_a_name_that_is_no_scan(name: str, code: str, words: str) -> None:
    with pytest.raises(DiagnosticError) as error:
        choose(name, RECORDS)
    (diagnostic,) = error.value.diagnostics
    assert (diagnostic.code, error.value.exit_code) == (code, 2)
    assert words in diagnostic.summary


def test_previous_needs_two_scans() -> None:
    with pytest.raises(DiagnosticError, match="there is no previous scan"):
        choose("previous", RECORDS[:1])


@pytest.mark.parametrize(
    ("keep", "days", "gone"),
    [
        (2, None, ["a-1", "b-30"]),
        (9, None, []),
        (None, 0, ["a-1", "b-30", "b-2"]),  # the latest stays, however old
        (None, 4, ["a-1", "b-30"]),
        (3, 4, ["a-1"]),
        (1, 5, ["a-1"]),
    ],
)
def test_what_may_be_forgotten(keep: int | None, days: int | None, gone: list[str]) -> None:
    before = None if days is None else FIRST + 6 * DAY - days * DAY
    assert [each.scan_id for each in to_prune(RECORDS, keep=keep, older_than=before)] == gone


def test_unknown_is_not_covered() -> None:
    assert coverage(Count(enforced=1, exposed=1, unknown=2)) == 0.25
    assert coverage(Count()) is None
