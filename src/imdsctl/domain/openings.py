"""When does a maintenance window open next? Local times are what clocks on the wall there show, all year round."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from imdsctl.domain.windows import Window, parse_window

DAYS_AHEAD = 15
"""Every window opens within a week and a day, or a week later when clocks are put forward over all of it."""
_MINUTE = timedelta(minutes=1)


def next_opening(windows: Iterable[str], at: datetime) -> datetime | None:
    """When the first of some windows, as written, opens, in UTC: `at` when one is open, None when there are none.

    Raises ValueError for what is no window.
    """
    return min((opens_after(parse_window(each), at) for each in windows), default=None)


def opens_after(window: Window, at: datetime) -> datetime:
    """When a window opens next, in UTC; `at` itself when it is open."""
    if window.is_open(at):
        return at.astimezone(UTC)
    return min(start for start in _starts(window, at) if start > at)


def _starts(window: Window, at: datetime) -> Iterator[datetime]:
    zone = ZoneInfo(window.zone)
    today = at.astimezone(zone).date()
    for offset in range(DAYS_AHEAD + 1):
        day = today + timedelta(days=offset)
        if day.weekday() in window.days:
            begin = datetime.combine(day, window.begin, zone)
            early, late = sorted(begin.replace(fold=fold).astimezone(UTC) for fold in (0, 1))
            # Two moments only on a day of change (PEP 495): where clocks are put back it begins twice. Where they are
            # put forward over its beginning one lies before the gap and one after it; it begins when the gap ends.
            while early < late and not window.is_open(early):
                early += _MINUTE
            yield from (each for each in (early, late) if window.is_open(each))
