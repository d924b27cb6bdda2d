"""Maintenance windows: when may something be changed? Pure: the time is an argument."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from zoneinfo import ZoneInfo

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
WINDOW_EXAMPLE = "Mon-Fri 09:00-17:00 Europe/Berlin"
_WINDOW = re.compile(
    r"(?P<days>[A-Za-z]+(?:[-,][A-Za-z]+)*)\s+(?P<begin>\d\d:\d\d)-(?P<end>\d\d:\d\d)\s+(?P<zone>[A-Za-z0-9_+/-]+)"
)
_DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Window:
    """Some days of the week, from one time of day to another, on the clock of one time zone.

    A window that ends before it begins goes on over midnight and belongs to the day on which it began; one that ends
    when it begins lasts the whole day.
    """

    days: frozenset[int]
    """0 is Monday, as for datetime.weekday()."""
    begin: time
    end: time
    zone: str

    def is_open(self, at: datetime) -> bool:
        """Whether it is open at `at`, an aware time. The end is outside. Raises ValueError for a naive time."""
        if at.tzinfo is None:
            raise ValueError("a time without a time zone says nothing about a window")
        local = at.astimezone(ZoneInfo(self.zone))
        clock = local.time().replace(fold=0)
        today, yesterday = local.weekday() in self.days, (local - _DAY).weekday() in self.days
        if self.begin < self.end:
            return today and self.begin <= clock < self.end
        return (today and clock >= self.begin) or (yesterday and clock < self.end)


def parse_window(text: str) -> Window:
    """`Mon-Fri 09:00-17:00 Europe/Berlin` to a Window. Raises ValueError with a clause that says what is wrong.

    Days: `daily`, one (`Sat`), a range (`Mon-Fri`, `Sat-Sun`), or several of these with commas. The zone is a name of
    the IANA database, or `UTC`. `24:00` is the end of a day.
    """
    found = _WINDOW.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"write days, times and zone, like `{WINDOW_EXAMPLE}`")
    zone = found["zone"]
    try:
        ZoneInfo(zone)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"`{zone}` is not a time zone: use a name like Europe/Berlin, or UTC") from None
    return Window(_days(found["days"]), _clock(found["begin"]), _clock(found["end"]), zone)


def any_open(windows: tuple[str, ...], at: datetime) -> bool:
    """Whether one of some windows, as written, is open. Without any, it always is. Raises ValueError."""
    return not windows or any(parse_window(each).is_open(at) for each in windows)


def _days(text: str) -> frozenset[int]:
    days: set[int] = set()
    for part in text.split(","):
        if part.lower() == "daily":
            days.update(range(len(DAYS)))
            continue
        first, _, last = part.partition("-")
        begin, end = _day(first), _day(last or first)
        days.update((begin + step) % len(DAYS) for step in range((end - begin) % len(DAYS) + 1))
    return frozenset(days)


def _day(text: str) -> int:
    try:
        return [day.lower() for day in DAYS].index(text.lower())
    except ValueError:
        raise ValueError(f"`{text}` is not a day: use {', '.join(DAYS)} or daily") from None


def _clock(text: str) -> time:
    if text == "24:00":
        return time(0)
    try:
        return time.fromisoformat(text)
    except ValueError:
        raise ValueError(f"`{text}` is not a time of day: use 00:00 to 24:00") from None
