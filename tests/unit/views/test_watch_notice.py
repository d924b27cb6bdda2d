"""What a webhook is told."""

from __future__ import annotations

from datetime import UTC, datetime

from imdsctl.fleet.watch_events import Trouble
from imdsctl.views.watch import notice

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)


def test_a_name_links_nowhere_and_calls_nobody_in_a_chat() -> None:
    told = notice(Trouble(NOON, "a <!channel>\nforged", "<https://evil.example|approve>"))
    assert told["text"] == (
        "2026-11-03 12:00:00Z  trouble: a \u2039!channel>\\u000aforged: \u2039https://evil.example|approve>"
    )
    assert told["reason"] == "<https://evil.example|approve>", "programs get it as it is"
