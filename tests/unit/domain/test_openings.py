"""When a maintenance window opens next, also where clocks are put forward."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from imdsctl.domain.openings import next_opening, opens_after
from imdsctl.domain.windows import parse_window


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("window", "moment", "opens"),
    [
        # 2026-11-26 is a Thursday.
        ("Mon-Fri 09:00-17:00 UTC", "2026-11-26 09:00", "2026-11-26 09:00"),
        ("Mon-Fri 09:00-17:00 UTC", "2026-11-26 08:59", "2026-11-26 09:00"),
        ("Mon-Fri 09:00-17:00 UTC", "2026-11-26 17:00", "2026-11-27 09:00"),
        ("Mon-Fri 09:00-17:00 UTC", "2026-11-27 18:00", "2026-11-30 09:00"),
        ("Thu 09:00-17:00 UTC", "2026-11-26 17:00", "2026-12-03 09:00"),
        ("Sat,Sun 00:00-24:00 UTC", "2026-11-26 12:00", "2026-11-28 00:00"),
        ("Fri-Mon 22:00-02:00 UTC", "2026-12-01 01:59", "2026-12-01 01:59"),  # Monday's, until Tuesday
        ("Fri-Mon 22:00-02:00 UTC", "2026-12-01 02:00", "2026-12-04 22:00"),
        ("daily 09:00-17:00 Europe/Berlin", "2026-11-26 07:00", "2026-11-26 08:00"),
        ("daily 09:00-17:00 Europe/Berlin", "2026-07-26 06:00", "2026-07-26 07:00"),
        ("Sun 01:00-04:00 Europe/Berlin", "2026-03-28 12:00", "2026-03-29 00:00"),
        ("Sun 01:00-04:00 Europe/Berlin", "2026-03-29 02:00", "2026-04-04 23:00"),  # 04:00 there: an hour is missing
        ("Sun 02:30-05:00 Europe/Berlin", "2026-03-28 12:00", "2026-03-29 01:00"),  # 03:00 there, after 01:59
        ("Sun 02:30-03:15 Europe/Berlin", "2026-03-28 12:00", "2026-03-29 01:00"),
        ("Sun 02:30-02:45 Europe/Berlin", "2026-03-23 12:00", "2026-04-05 00:30"),  # not at all on the 29th
        ("Sun 02:15-02:30 Europe/Berlin", "2026-10-25 00:00", "2026-10-25 00:15"),
        ("Sun 02:15-02:30 Europe/Berlin", "2026-10-25 00:30", "2026-10-25 01:15"),  # 02:15 there for the second time
    ],
)
def test_when_a_window_opens(window: str, moment: str, opens: str) -> None:
    parsed = parse_window(window)
    assert opens_after(parsed, at(moment)) == at(opens)
    assert parsed.is_open(at(opens))
    assert moment == opens or not parsed.is_open(at(opens) - timedelta(minutes=1))


def test_of_several_the_first_counts() -> None:
    windows = ["Sun 10:00-11:00 UTC", "Fri 10:00-11:00 UTC"]
    assert next_opening(windows, at("2026-11-26 12:00")) == at("2026-11-27 10:00")
    assert next_opening([], at("2026-11-26 12:00")) is None
