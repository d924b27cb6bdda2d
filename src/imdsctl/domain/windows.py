"""Maintenance windows: `Mon-Fri 09:00-17:00 Europe/Berlin`. Is one open, and when does the next one open?

Days are a name, a span (`Fri-Mon` goes over the week's end) or several by commas; left out, every day. A window that
ends at or before its start ends on the next day, and belongs to the day on which it starts. The time zone is one of the
IANA database; left out, UTC. Local times are what clocks on the wall there show, in summer and winter.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from zoneinfo import ZoneInfo

DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_WINDOW = re.compile(r"(?:(?P<days>[A-Za-z,-]+)\s+)?(?P<start>\d\d:\d\d)-(?P<end>\d\d:\d\d)(?:\s+(?P<zone>\S+))?")
EXAMPLE = "`Mon-Fri 09:00-17:00 Europe/Berlin`"


class InvalidWindow(ValueError):
    """The text is no window; the message says what is wrong with it, in a clause."""


@dataclass(frozen=True, slots=True)
class Window:
    """A time of the week. `days` are 0 (Monday) to 6; `end` 00:00 is the end of the day."""

    days: frozenset[int]
    start: time
    end: time
    zone: ZoneInfo

    def open_at(self, moment: datetime) -> bool:
        """Whether it is open at an aware moment: from its start on, until just before its end."""
        return any(start <= moment < end for start, end in self._around(moment, days=1))

    def opens_after(self, moment: datetime) -> datetime:
        """When it opens next, in UTC; `moment` itself when it is open."""
        if self.open_at(moment):
            return moment.astimezone(UTC)
        return min(start for start, _ in self._around(moment, days=8) if start > moment)

    def _around(self, moment: datetime, *, days: int) -> Iterable[tuple[datetime, datetime]]:
        """Openings that start from the day before until so many days later, in UTC."""
        today = moment.astimezone(self.zone).date()
        for offset in range(-1, days + 1):
            day = today + timedelta(days=offset)
            if day.weekday() not in self.days:
                continue
            last = day if self.end > self.start else day + timedelta(days=1)
            start = datetime.combine(day, self.start, self.zone).astimezone(UTC)
            yield start, datetime.combine(last, self.end, self.zone).astimezone(UTC)


def parse_window(text: str) -> Window:
    """A window as written. Raises InvalidWindow."""
    found = _WINDOW.fullmatch(text.strip())
    if found is None:
        raise InvalidWindow(f"`{text}` is no maintenance window: write it like {EXAMPLE}")
    zone = found["zone"] or "UTC"
    try:
        return Window(_days(found["days"]), _time(found["start"]), _time(found["end"]), ZoneInfo(zone))
    except InvalidWindow as error:
        raise InvalidWindow(f"`{text}`: {error}") from None
    except (OSError, KeyError, ValueError):  # ZoneInfo raises each of them, by what is wrong with the name.
        raise InvalidWindow(f"`{text}`: there is no time zone `{zone}`") from None


def next_opening(windows: Iterable[Window], moment: datetime) -> datetime | None:
    """When the first of them opens, in UTC: `moment` or before when one is open; None when there are none."""
    return min((window.opens_after(moment) for window in windows), default=None)


def _days(text: str | None) -> frozenset[int]:
    if text is None:
        return frozenset(range(7))
    days: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        start = _day(first)
        end = _day(last) if dash else start
        days |= {(start + step) % 7 for step in range((end - start) % 7 + 1)}
    return frozenset(days)


def _day(name: str) -> int:
    try:
        return DAYS.index(name.capitalize())
    except ValueError:
        raise InvalidWindow(f"`{name}` is no day: use {', '.join(DAYS)}") from None


def _time(text: str) -> time:
    hour, minute = int(text[:2]), int(text[3:])
    if (hour, minute) == (24, 0):
        return time(0)
    if hour > 23 or minute > 59:
        raise InvalidWindow(f"`{text}` is no time of the day")
    return time(hour, minute)
