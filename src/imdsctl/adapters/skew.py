"""A clock that is off, seen from AWS's side: which refusals may come from it, and by how much it is off.

AWS refuses a signature whose time differs from its own by more than five minutes (some services: fifteen), in the words
of each service, some of which also mean other things. Every answer carries AWS's time in its `Date`.
Sources: IAM User Guide, "Elements of an AWS API request signature"; AWS SDKs and Tools Reference Guide, "Retry
behavior" (the SDKs correct the clock by `Date`, and take these codes for a clock that may be off).
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime

from imdsctl.domain.diagnostics import Diagnostic, Severity

OFF_MIN = timedelta(minutes=4)
"""Less than this no service refuses; a refusal then has another reason."""
MAY_BE_TIME = frozenset(
    {
        "AuthFailure",
        "InvalidSignatureException",
        "RequestExpired",
        "RequestInTheFuture",
        "RequestTimeTooSkewed",
        "SignatureDoesNotMatch",
    }
)
"""Refusals that a clock that is off may cause. `AuthFailure` and `RequestExpired` are EC2's."""


def offset_of(date: str | None, ours: datetime) -> timedelta | None:
    """How far AWS's time (an answer's `Date`) is ahead of ours (aware); None when it is about the same or not said."""
    if not date:
        return None
    try:
        theirs = parsedate_to_datetime(date)
    except ValueError:
        return None
    if theirs.tzinfo is None:
        theirs = theirs.replace(tzinfo=UTC)
    offset = theirs - ours
    return offset if abs(offset) >= OFF_MIN else None


def clock_off(offset: timedelta) -> Diagnostic:
    """The warning: by how many minutes, and in which direction."""
    minutes = round(abs(offset) / timedelta(minutes=1))
    direction = "behind" if offset > timedelta() else "ahead of"
    return Diagnostic(
        "clock-off",
        f"this machine's clock is {minutes} minutes {direction} AWS's; requests are signed with AWS's time",
        hint="set the clock (NTP); until then every time that imdsctl records is off by as much",
        severity=Severity.WARNING,
    )
