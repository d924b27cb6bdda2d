"""`imdsctl apply`: carry out a plan. It obeys the file and nothing else, and goes on where it was stopped."""

from __future__ import annotations

import asyncio
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TextIO

import typer

from imdsctl.cli import options
from imdsctl.cli.dependencies import Dependencies, of
from imdsctl.cli.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, interruptible, report
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.fleet.targets import ROLE_NAME

if TYPE_CHECKING:
    from imdsctl.adapters.journal_file import JournalFile
    from imdsctl.domain.plan import Plan
    from imdsctl.fleet.apply import Event, Report


def command(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A plan, from `imdsctl plan -o FILE`.", show_default=False)],
    confirm: Annotated[
        int | None, typer.Option("--confirm", help="How many changes the plan makes: the answer to the question.")
    ] = None,
    journal: Annotated[
        Path | None, typer.Option("--journal", help="The memory of this apply. Default: FILE.journal.")
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="After a failure, hold back only the Region in which it happened.")
    ] = False,
    role: options.Role = ROLE_NAME,
    profile: options.Profile = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON, one object a line.")] = False,
) -> int:
    """Carry out a plan in waves. Stopped at any point, the same command goes on from its journal."""
    from imdsctl.adapters.journal_file import open_journal
    from imdsctl.adapters.plan_file import read_plan
    from imdsctl.views.apply import report_diagnostics, report_json, report_text

    dependencies = of(context)
    plan = read_plan(file)
    count = len(plan.ready)
    _confirmed(confirm, count, file)
    where = journal or file.with_name(file.name + ".journal")
    again = _again(file, count, journal, role=role, profile=profile, keep_going=keep_going)
    with (
        interruptible("calls that were under way are in the journal", hint=f"`{again}` reads them back and goes on"),
        open_journal(where, plan.digest, dependencies.now().isoformat()) as opened,
    ):
        done, doubt = len(opened.progress.done), len(opened.progress.in_doubt)
        if (done or doubt) and not as_json:
            print(f"Going on from {where}: {done} done, {doubt} in doubt (read back from AWS first).", file=sys.stderr)
        ended = options.run_async(
            _run(dependencies, plan, opened, role, profile, keep_going=keep_going, as_json=as_json)
        )
    if as_json:
        sys.stdout.write(report_json(ended).decode() + "\n")
    else:
        print(report_text(ended, deferred=len(plan.deferred)))
    found = report_diagnostics(ended, str(file), again)
    if ended.interrupted:
        found.append(
            Diagnostic(
                "interrupted",
                "stopped by Ctrl-C; what had begun was finished and is recorded, the rest was not begun",
                str(file),
                f"`{again}` goes on from here",
            )
        )
    if found:
        report(found)
    if ended.interrupted:
        return EXIT_INTERRUPTED
    return EXIT_DONE if ended.done else EXIT_FAILED


def _again(file: Path, count: int, journal: Path | None, *, role: str, profile: str | None, keep_going: bool) -> str:
    """The command line that goes on from here, with the options that it depends on."""
    words = ["imdsctl", "apply", str(file), "--confirm", str(count)]
    words += ["--journal", str(journal)] if journal else []
    words += ["--role", role] if role != ROLE_NAME else []
    words += ["--profile", profile] if profile else []
    words += ["--keep-going"] if keep_going else []
    return shlex.join(words)


def _confirmed(confirm: int | None, count: int, file: Path) -> None:
    """The count is asked for on a terminal, and given with --confirm anywhere. Raises DiagnosticError."""
    if confirm is None and count and sys.stdin.isatty() and sys.stderr.isatty():
        print(
            f"This plan makes {count} changes in AWS. Type the number to go on: ", end="", file=sys.stderr, flush=True
        )
        typed = sys.stdin.readline().strip()
        confirm = int(typed) if typed.isdecimal() else -1
    if confirm is None and count:
        raise DiagnosticError(
            Diagnostic(
                "confirm-missing",
                f"this plan makes {count} changes, and nobody has confirmed them",
                str(file),
                f"read it, then run `imdsctl apply {shlex.quote(str(file))} --confirm {count}`",
            ),
            exit_code=2,
        )
    if confirm is not None and confirm != count:
        raise DiagnosticError(
            Diagnostic(
                "confirm-mismatch",
                f"the number given is not the {count} changes that this plan makes; nothing was changed",
                str(file),
                "is it the plan that you read? its last line says the number",
            ),
            exit_code=2,
        )


async def _run(
    dependencies: Dependencies,
    plan: Plan,
    journal: JournalFile,
    role: str,
    profile: str | None,
    *,
    keep_going: bool,
    as_json: bool,
) -> Report:
    from imdsctl.adapters.clock import SystemClock
    from imdsctl.fleet.apply import Applying
    from imdsctl.fleet.sessions import Sessions
    from imdsctl.fleet.targets import who_am_i

    async with dependencies.aws(profile) as aws:
        caller = await who_am_i(aws)
        with _stopping() as stopped, _listening(as_json=as_json) as listener:
            applying = Applying(
                plan=plan,
                aws=aws,
                enter=Sessions(aws, caller, role, dependencies.now),
                journal=journal,
                clock=SystemClock(),
                listener=listener,
                stopped=stopped,
                keep_going=keep_going,
            )
            return await applying.run()


@contextmanager
def _listening(*, as_json: bool) -> Iterator[Callable[[Event], None]]:
    from imdsctl.views.apply import ProgressLines, event_json

    def write(stream: TextIO, text: str) -> None:
        # A reader that went away (`| head`) must not leave a change half made: go on without telling.
        with suppress(BrokenPipeError):
            stream.write(text)
            stream.flush()

    if as_json:
        yield lambda event: write(sys.stdout, event_json(event).decode() + "\n")
        return
    lines = ProgressLines(lambda text: write(sys.stderr, text), moving=sys.stderr.isatty())
    try:
        yield lines
    finally:
        lines.close()


@contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Ctrl-C (or SIGTERM) asks to stop; the second one stops at once, which the journal survives as well."""
    loop = asyncio.get_running_loop()
    asked = False

    def stop() -> None:
        nonlocal asked
        asked = True
        print("\nStopping: nothing new is begun, what is under way is finished...", file=sys.stderr, flush=True)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)

    if sys.platform == "win32":  # Its event loop has no such handlers: there Ctrl-C stops at once.
        yield lambda: False
        return
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        yield lambda: asked
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
