"""Maintenance windows: open or not, and when next, also where clocks are put forward."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from imdsctl.domain.windows import InvalidWindow, next_opening, parse_window


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("window", "moment", "opens"),
    [
        # 2026-11-26 is a Thursday.
        ("Mon-Fri 09:00-17:00", "2026-11-26 09:00", "2026-11-26 09:00"),
        ("Mon-Fri 09:00-17:00", "2026-11-26 08:59", "2026-11-26 09:00"),
        ("Mon-Fri 09:00-17:00", "2026-11-26 17:00", "2026-11-27 09:00"),
        ("Mon-Fri 09:00-17:00", "2026-11-27 18:00", "2026-11-30 09:00"),
        ("Thu 09:00-17:00", "2026-11-26 17:00", "2026-12-03 09:00"),
        ("Sat,Sun 00:00-24:00", "2026-11-26 12:00", "2026-11-28 00:00"),
        ("Sat,Sun 00:00-24:00", "2026-11-28 23:59", "2026-11-28 23:59"),
        ("Fri-Mon 22:00-02:00", "2026-12-01 01:59", "2026-12-01 01:59"),  # Monday's, until Tuesday
        ("Fri-Mon 22:00-02:00", "2026-12-01 02:00", "2026-12-04 22:00"),
        ("09:00-17:00 Europe/Berlin", "2026-11-26 08:00", "2026-11-26 08:00"),
        ("09:00-17:00 Europe/Berlin", "2026-07-26 07:00", "2026-07-26 07:00"),
        ("Sun 01:00-04:00 Europe/Berlin", "2026-03-29 01:59", "2026-03-29 01:59"),  # 03:59 there: an hour is missing
        ("Sun 01:00-04:00 Europe/Berlin", "2026-03-29 02:00", "2026-04-04 23:00"),
        ("mon 09:00-09:00", "2026-12-01 08:59", "2026-12-01 08:59"),  # a whole day
    ],
)
def test_when_a_window_opens(window: str, moment: str, opens: str) -> None:
    parsed = parse_window(window)
    assert parsed.opens_after(at(moment)) == at(opens)
    assert parsed.open_at(at(moment)) is (moment == opens)
    assert parsed.open_at(at(opens))
    assert not parsed.open_at(at(opens) - timedelta(minutes=1)) or moment == opens


def test_of_several_the_first_counts() -> None:
    windows = [parse_window("Sun 10:00-11:00"), parse_window("Fri 10:00-11:00")]
    assert next_opening(windows, at("2026-11-26 12:00")) == at("2026-11-27 10:00")
    assert next_opening([], at("2026-11-26 12:00")) is None


@pytest.mark.parametrize(
    "text", ["", "Mon", "Mon 9-17", "Mon 09:00", "Moo 09:00-10:00", "Mon 09:00-25:00", "09:00-10:00 Mars/Base", "- 1"]
)
def test_what_is_no_window_is_told(text: str) -> None:
    with pytest.raises(InvalidWindow, match="`"):
        parse_window(text)


def test_a_zone_that_is_a_path_is_no_zone() -> None:
    with pytest.raises(InvalidWindow, match="no time zone"):
        parse_window("09:00-10:00 ../../etc/passwd")
