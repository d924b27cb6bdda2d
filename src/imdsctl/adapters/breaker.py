"""Stops asking a host that does not answer: a Region that is down must not cost every account the full timeout."""

from __future__ import annotations

FAILURES_MAX = 5
SILENT_SECONDS_MIN = 10.0
"""After so many attempts in a row without any answer, over so long a time, a host is left alone. The time is there for
the many calls that a short disturbance breaks all at once: their other attempts outlast it."""
COOL_DOWN_SECONDS = 30.0
"""How long it is left alone before one call is let through to see whether it is back."""


class Breaker:
    """One host's. Times are in seconds of a clock that never goes back.

    An answer of any kind counts as life, a refusal or an error too: this is about hosts that say nothing.
    """

    __slots__ = ("_failures", "_reason", "_since", "_until", "tripped")

    def __init__(self) -> None:
        self.tripped = False
        """The host is left alone: who has just failed need not try again."""
        self._failures = 0
        self._reason = ""
        self._since = 0.0
        self._until = 0.0

    def refuses(self, now: float) -> str | None:
        """Why nothing is to be sent now; None: send. Past the cool-down one caller is let through, as a probe."""
        if not self.tripped:
            return None
        if now >= self._until:
            self._until = now + COOL_DOWN_SECONDS
            return None
        return f"{self._reason}; it did not answer {self._failures} times in a row and is left alone for a while"

    def failed(self, reason: str, now: float) -> None:
        """An attempt got no answer at all."""
        if not self._failures:
            self._since = now
        self._failures += 1
        self._reason = reason
        self._until = now + COOL_DOWN_SECONDS
        self.tripped = self._failures >= FAILURES_MAX and now - self._since >= SILENT_SECONDS_MIN

    def worked(self) -> None:
        """The host answered something."""
        self._failures = 0
        self.tripped = False
