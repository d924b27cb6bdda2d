"""`imdsctl history`: the scans that are kept, and how coverage went."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from imdsctl.cli import dependencies, options
from imdsctl.cli.errors import EXIT_DONE, interruptible, wants_colour

LIMIT = 20


def command(
    ctx: typer.Context,
    limit: Annotated[int, typer.Option("--limit", metavar="N", min=1, help="So many scans, the newest.")] = LIMIT,
    db: options.Database = None,
    json: options.Json = False,
) -> int:
    """See the scans that are kept: coverage, what is exposed and unknown, and the trend of each kind.

    Coverage is the enforced part of everything that was judged; what is unknown counts as not enforced.
    """
    from imdsctl.views.history import ASCII_BARS, BARS, history_json, history_text

    with interruptible("nothing was changed"):
        records = dependencies.of(ctx).scans(db).history()
        if json:
            sys.stdout.write(history_json(records, limit=limit))
        else:
            bars = BARS if _can_show(BARS) else ASCII_BARS
            print(history_text(records, limit=limit, colour=wants_colour(sys.stdout), bars=bars))
    return EXIT_DONE


def _can_show(text: str) -> bool:
    try:
        text.encode(sys.stdout.encoding or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
