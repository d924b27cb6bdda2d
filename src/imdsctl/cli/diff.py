"""`imdsctl diff`: what is different between two scans."""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer

from imdsctl.cli import dependencies, options
from imdsctl.cli.errors import EXIT_DONE, EXIT_FOUND, interruptible, wants_colour
from imdsctl.domain.history import LATEST, PREVIOUS

if TYPE_CHECKING:
    from imdsctl.domain.diff import Happened

_NAMES = "an id or its beginning, `latest`, `previous`, or a date (the last scan until then, UTC)"


def command(
    ctx: typer.Context,
    before: Annotated[str, typer.Argument(metavar="[SCAN]", help=f"The earlier scan: {_NAMES}.")] = PREVIOUS,
    after: Annotated[str, typer.Argument(metavar="[SCAN]", help="The later scan.")] = LATEST,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 3 when there is a difference, as `git diff` does with 1.")
    ] = False,
    db: options.Database = None,
    json: options.Json = False,
) -> int:
    """See what became enforced, exposed or unknown, what came and what went between two scans.

    Without arguments: between the last scan and the one before it. Exit codes: 0 compared, 2 no such scan, 3 with
    `--exit-code` when there is a difference.
    """
    from imdsctl.domain.diff import diff
    from imdsctl.domain.history import choose
    from imdsctl.views.history import diff_json, diff_lines, diff_sums, tallied

    with interruptible("nothing was changed"):
        store = dependencies.of(ctx).scans(db)
        records = store.history()
        old, new = choose(before, records), choose(after, records)
        tally: Counter[Happened] = Counter()
        differences = tallied(diff(store.load(old.scan_id), store.load(new.scan_id)), tally)
        if json:
            for piece in diff_json(old, new, differences, tally):
                sys.stdout.write(piece)
        else:
            for line in diff_lines(differences, colour=wants_colour(sys.stdout)):
                print(line)
            print(("\n" if tally else "") + diff_sums(old, new, tally))
    return EXIT_FOUND if exit_code and tally else EXIT_DONE
