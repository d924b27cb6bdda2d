"""Progress on a terminal, and silence everywhere else."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from imdsctl.fleet.events import AccountEntered, AccountsFound, AccountSkipped, Event, Listener, TargetRead, ignore
from imdsctl.views.terminal import canvas, still_guarded

if TYPE_CHECKING:
    from rich.progress import Progress

    from imdsctl.fleet.evidence import TargetAsked


@contextmanager
def listening(stream: TextIO) -> Iterator[Listener]:
    """A listener that draws bars on `stream` when it is a terminal that can move its cursor."""
    with _drawing(stream) as progress:
        yield ignore if progress is None else Bars(progress).hear


@contextmanager
def asking(stream: TextIO, targets: int) -> Iterator[Callable[[TargetAsked], None]]:
    """The same while CloudWatch is asked: one bar for the Regions."""
    with _drawing(stream) as progress:
        if progress is None:
            yield lambda event: None
            return
        bar = progress.add_task("Regions", total=targets, note="")
        metrics = 0

        def hear(event: TargetAsked) -> None:
            nonlocal metrics
            metrics += event.metrics
            progress.update(bar, advance=1, note=f"{metrics:,} metrics")

        yield hear


@contextmanager
def _drawing(stream: TextIO) -> Iterator[Progress | None]:
    if not stream.isatty() or os.environ.get("TERM") == "dumb":
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    # A redraw costs CPU: four a second look alive.
    console = Console(file=canvas(stream))
    with Progress(*columns, console=console, transient=True, refresh_per_second=4) as progress, still_guarded():
        yield progress


class Bars:
    """One bar for accounts and one for their Regions; what could not be entered is counted beside them."""

    def __init__(self, progress: object) -> None:
        from rich.progress import Progress

        assert isinstance(progress, Progress)
        self._progress = progress
        self._accounts = progress.add_task("accounts", total=None, note="")
        self._regions = progress.add_task("Regions", total=0, note="")
        self._total = 0
        self._instances = 0
        self._skipped = 0

    def hear(self, event: Event) -> None:
        """Move the bars."""
        match event:
            case AccountsFound(accounts):
                self._progress.update(self._accounts, total=accounts)
            case AccountEntered(_, regions):
                self._total += regions
                self._progress.update(self._regions, total=self._total)
                self._progress.advance(self._accounts)
            case AccountSkipped(unseen):
                if unseen.region is None:
                    self._skipped += 1
                    self._progress.update(self._accounts, advance=1, note=f"{self._skipped} not entered")
            case TargetRead(_, instances, _):
                self._instances += instances
                self._progress.update(self._regions, advance=1, note=f"{self._instances:,} instances")
