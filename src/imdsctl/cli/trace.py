"""`imdsctl trace`: which processes of this host call the metadata service, and how?"""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imdsctl.cli.errors import EXIT_DONE, EXIT_FOUND, EXIT_INTERRUPTED, report, wants_colour
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError, Severity
from imdsctl.domain.readiness import FailOn

if TYPE_CHECKING:
    from imdsctl.host.trace import Tracer

SECONDS_MAX = 365 * 86_400
REFRESH_SECONDS = 2.0
_UNITS = {"": 1, "s": 1, "m": 60, "h": 3_600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class TraceOptions:
    """The command line of `trace`, checked. Times in seconds."""

    duration: float | None = None
    interval: float | None = None
    json: bool = False
    prometheus: int | None = None
    hooks: bool = True
    fail_on: FailOn | None = None


def command(
    duration: Annotated[
        str | None,
        typer.Option("--duration", metavar="TIME", help="Stop after `30`, `30s`, `5m`, `2h`. Else Ctrl-C ends it."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, one object a line, instead of a table.")] = False,
    interval: Annotated[
        str | None,
        typer.Option("--interval", metavar="TIME", help="With --json: also print what was counted so far, so often."),
    ] = None,
    prometheus: Annotated[
        int | None,
        typer.Option(
            "--prometheus", metavar="PORT", min=0, max=65_535, help="Serve metrics on 127.0.0.1; 0: any port."
        ),
    ] = None,
    no_hooks: Annotated[
        bool, typer.Option("--no-hooks", help="Do not let the kernel tell who connects; look sockets up instead.")
    ] = False,
    fail_on: Annotated[
        FailOn | None,
        typer.Option("--fail-on", help="Exit with 3 when an IMDSv1 call was answered, or when any was tried."),
    ] = None,
) -> int:
    """See which processes of this Linux host call the metadata service, by IMDSv1 or by IMDSv2. It only observes.

    Needs root. Containers are seen as far as their packets cross this host's interfaces.

    Exit codes: 0 done, 1 it cannot observe, 2 wrong command line, 3 `--fail-on` found something, 130 stopped before
    its `--duration` was over.
    """
    return run(
        TraceOptions(
            duration=_seconds("--duration", duration),
            interval=_seconds("--interval", interval, needs_json=not json),
            json=json,
            prometheus=prometheus,
            hooks=not no_hooks,
            fail_on=fail_on,
        )
    )


def _seconds(option: str, text: str | None, *, needs_json: bool = False) -> float | None:
    if text is None:
        return None
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd]?)", text)
    seconds = float(found[1]) * _UNITS[found[2]] if found else 0.0
    if not 0 < seconds <= SECONDS_MAX:
        raise DiagnosticError(
            Diagnostic("duration-invalid", f"`{option} {text}` is no time", hint="write it like `30s`, `5m` or `2h`"),
            exit_code=2,
        )
    if needs_json:
        raise DiagnosticError(
            Diagnostic("usage", f"`{option}` goes with `--json`", hint="a table is refreshed by itself on a terminal"),
            exit_code=2,
        )
    return seconds


def run(asked: TraceOptions) -> int:
    """Observe, show, and give the exit code."""
    if sys.platform != "linux":
        raise DiagnosticError(
            Diagnostic(
                "linux-needed",
                "`imdsctl trace` observes a Linux host, and this is none",
                hint="run it on the instance itself",
            )
        )
    from imdsctl.host.trace import Tracer
    from imdsctl.views.trace import lost_packets

    with Tracer(use_hooks=asked.hooks) as tracer:
        if tracer.hooks_problem is not None and asked.hooks:
            report([_only_sockets(tracer.hooks_problem)])
        with ExitStack() as around:
            if asked.prometheus is not None:
                around.enter_context(_metrics(tracer, asked.prometheus))
            interrupted = around.enter_context(_stopping(tracer))
            show = around.enter_context(_showing(tracer, asked))
            tracer.run(asked.duration, show)
            tracer.finish()
        health = tracer.health()
        _print(tracer, asked, final=True)
        if (lost := lost_packets(health)) is not None:
            report([lost])
        if interrupted() and asked.duration is not None:
            return EXIT_INTERRUPTED
        return EXIT_FOUND if _found(tracer, asked.fail_on) else EXIT_DONE


def _only_sockets(problem: str) -> Diagnostic:
    return Diagnostic(
        "hooks-unavailable",
        f"connect hooks are not used: {problem}",
        hint="sockets are looked up instead; short-lived processes may be missed, and are counted as not attributed",
        severity=Severity.WARNING,
    )


@contextmanager
def _metrics(tracer: Tracer, port: int) -> Iterator[None]:
    from imdsctl.adapters.metrics_server import ADDRESS, serving
    from imdsctl.views.trace_metrics import trace_metrics

    def page() -> str:
        with tracer.lock:
            return trace_metrics(tracer.table, tracer.health())

    with serving(port, page) as served:
        print(f"metrics: http://{ADDRESS}:{served}/metrics", file=sys.stderr, flush=True)
        yield


@contextmanager
def _stopping(tracer: Tracer) -> Iterator[Callable[[], bool]]:
    """Ctrl-C and SIGTERM end the trace with its summary; a second one ends it at once."""
    came: list[int] = []

    def stop(number: int, _: Any) -> None:
        came.append(number)
        tracer.stop()
        signal.signal(number, signal.default_int_handler)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _showing(tracer: Tracer, asked: TraceOptions) -> Iterator[Callable[[], None]]:
    """What is shown while it goes on: a table that is redrawn on a terminal, objects where they were asked for."""
    how = "Ctrl-C ends it" if asked.duration is None else f"for {asked.duration:g} s"
    print(f"observing the metadata service on all interfaces; {how}", file=sys.stderr, flush=True)
    if asked.json:
        yield _every(asked.interval, lambda: _print(tracer, asked, final=False)) if asked.interval else _nothing
        return
    if not wants_colour(sys.stdout):
        yield _nothing
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from imdsctl.views.terminal import canvas, still_guarded

    console = Console(file=canvas(sys.stdout))
    with Live(console=console, auto_refresh=False, transient=True) as live, still_guarded():
        yield _every(REFRESH_SECONDS, lambda: live.update(Text.from_ansi(_text(tracer, colour=True)), refresh=True))


def _every(seconds: float, do: Callable[[], None]) -> Callable[[], None]:
    import time

    due = time.monotonic() + seconds

    def tick() -> None:
        nonlocal due
        if time.monotonic() >= due:
            due += seconds
            do()

    return tick


def _nothing() -> None:
    """Nothing is shown before the end."""


def _print(tracer: Tracer, asked: TraceOptions, *, final: bool) -> None:
    from imdsctl.views.trace import trace_json

    if asked.json:
        sys.stdout.write(trace_json(tracer.table, tracer.health(), final=final))
        sys.stdout.flush()
    else:
        print(_text(tracer, colour=wants_colour(sys.stdout)))


def _text(tracer: Tracer, *, colour: bool) -> str:
    from imdsctl.views.trace import trace_text

    return trace_text(tracer.table, tracer.health(), colour=colour)


def _found(tracer: Tracer, fail_on: FailOn | None) -> bool:
    from imdsctl.host.calls import Kind, Outcome

    total = tracer.table.total()
    if fail_on is FailOn.V1:
        return bool(total.count(Kind.V1, Outcome.ANSWERED))
    return fail_on is FailOn.ANY_V1_ATTEMPT and bool(total.count(Kind.V1))
