"""Maintenance windows: the clock of the zone, over midnight, and when the clocks change."""

from __future__ import annotations

from datetime import datetime

import pytest

from imdsctl.domain.windows import any_open, parse_window

OFFICE = "Mon-Fri 09:00-17:00 Europe/Berlin"
NIGHT = "Fri 22:00-04:00 America/New_York"


@pytest.mark.parametrize(
    ("window", "at", "is_open"),
    [
        (OFFICE, "2026-11-02T08:00+00:00", True),  # a Monday, 09:00 in Berlin
        (OFFICE, "2026-11-02T07:59+00:00", False),
        (OFFICE, "2026-11-02T16:00+00:00", False),  # 17:00 is outside
        (OFFICE, "2026-07-06T07:00+00:00", True),  # 09:00 in summer
        (OFFICE, "2026-11-01T12:00+00:00", False),  # a Sunday
        (OFFICE, "2026-11-02T18:00+10:00", True),  # whatever zone the time is told in
        (NIGHT, "2026-11-07T03:30-05:00", True),  # belongs to the Friday on which it began
        (NIGHT, "2026-11-06T03:30-05:00", False),
        (NIGHT, "2026-11-07T22:30-05:00", False),
        ("Sat-Mon 00:00-24:00 UTC", "2026-11-02T23:59+00:00", True),
        ("Sat-Mon 00:00-24:00 UTC", "2026-11-03T00:00+00:00", False),
        ("daily 01:30-02:30 Europe/Berlin", "2026-10-25T01:15+00:00", True),  # 02:15, the second time that day
        ("Mon,Wed 09:00-10:00 UTC", "2026-11-04T09:30+00:00", True),
        ("Mon,Wed 09:00-10:00 UTC", "2026-11-03T09:30+00:00", False),
    ],
)
def test_a_window_is_open_by_the_clock_of_its_zone(window: str, at: str, is_open: bool) -> None:
    assert parse_window(window).is_open(datetime.fromisoformat(at)) is is_open
    assert any_open((window,), datetime.fromisoformat(at)) is is_open


def test_without_windows_it_is_always_open() -> None:
    assert any_open((), datetime.fromisoformat("2026-11-02T03:00+00:00"))


@pytest.mark.parametrize(
    ("window", "why"),
    [
        ("whenever", "write days, times and zone"),
        ("Mon-Fri 09:00-17:00", "write days, times and zone"),
        ("Mo-Fr 09:00-17:00 UTC", "`Mo` is not a day"),
        ("Mon 25:00-26:00 UTC", "`25:00` is not a time"),
        ("Mon 09:00-17:00 Mars/North", "not a time zone"),
        ("Mon 09:00-17:00 ../etc/passwd", "write days, times and zone"),
    ],
)
def test_what_is_no_window_says_why(window: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        parse_window(window)


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="time zone"):
        parse_window(OFFICE).is_open(datetime(2026, 11, 2, 12))  # noqa: DTZ001 (the point)
