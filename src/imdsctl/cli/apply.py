"""`imdsctl apply`: carry out a plan. It obeys the file and nothing else, and goes on where it was stopped."""

from __future__ import annotations

import asyncio
import select
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imdsctl.cli import options
from imdsctl.cli.dependencies import Dependencies, of
from imdsctl.cli.errors import (
    EXIT_DONE,
    EXIT_FAILED,
    EXIT_GATE_CLOSED,
    EXIT_GATE_FAILED,
    EXIT_INTERRUPTED,
    interruptible,
    report,
)
from imdsctl.cli.writing import Access, command_line, confirmed, may_write, user
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.fleet.selection import ROLE_NAME

if TYPE_CHECKING:
    from imdsctl.adapters.journal_file import JournalFile
    from imdsctl.domain.plan import Plan
    from imdsctl.domain.waves import PlannedWave
    from imdsctl.fleet.apply_gates import Approval, Approve
    from imdsctl.fleet.apply_report import Report

TYPED_LOOK_SECONDS = 0.1
"""How often it is looked whether somebody has typed an answer, or Ctrl-C."""


def command(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="A plan, from `imdsctl plan -o FILE`.", show_default=False)],
    confirm: Annotated[
        int | None, typer.Option("--confirm", help="How many changes the plan makes: the answer to the question.")
    ] = None,
    approve: Annotated[
        list[str] | None,
        typer.Option("--approve", metavar="WAVE", help="Let this wave begin, where its gate asks for approval."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for maintenance windows instead of ending.")] = False,
    journal: Annotated[
        Path | None, typer.Option("--journal", help="The memory of this apply. Default: FILE.journal.")
    ] = None,
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="After a failure, hold back only the Region in which it happened.")
    ] = False,
    role: options.Role = ROLE_NAME,
    profile: options.Profile = None,
    db: options.Lock = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON, one object a line.")] = False,
) -> int:
    """Carry out a plan in waves. Stopped at any point, the same command goes on from its journal.

    Exit codes: 0 done, 1 failed, 2 wrong command line or input, 4 a gate is not open yet (approval, maintenance
    window), 5 a gate failed, 130 interrupted.
    """
    from imdsctl.adapters.journal_file import open_journal
    from imdsctl.adapters.plan_file import read_plan
    from imdsctl.views.apply import report_diagnostics, report_json, report_text

    dependencies = of(context)
    plan = read_plan(file)
    approved = options.listed(approve, {wave.name for wave in plan.waves})
    _known_waves(plan, approved, file)
    count = len(plan.ready)
    again = command_line(
        "imdsctl",
        "apply",
        str(file),
        confirm=count,
        journal=journal,
        role=None if role == ROLE_NAME else role,
        profile=profile,
        db=db,
        keep_going=keep_going,
        wait=wait,
    )
    asked = command_line("imdsctl", "apply", str(file))
    confirmed(confirm, count, file, command=asked, what="that this plan makes")
    where = journal or file.with_name(file.name + ".journal")
    with (
        interruptible("calls that were under way are in the journal", hint=f"`{again}` reads them back and goes on"),
        open_journal(where, plan.digest, dependencies.now().isoformat()) as opened,
    ):
        done, doubt = len(opened.progress.done), len(opened.progress.in_doubt)
        if (done or doubt) and not as_json:
            print(f"Going on from {where}: {done} done, {doubt} in doubt (read back from AWS first).", file=sys.stderr)
        work = _run(
            dependencies,
            plan,
            opened,
            Access(role, profile, db),
            approved,
            keep_going=keep_going,
            wait=wait,
            as_json=as_json,
        )
        ended = options.run_async(work)
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
    return _exit_code(ended)


def _exit_code(ended: Report) -> int:
    from imdsctl.fleet.apply_report import GateVerdict

    if ended.interrupted:
        return EXIT_INTERRUPTED
    if ended.gate is not None:
        return EXIT_GATE_CLOSED if ended.gate.verdict is GateVerdict.CLOSED else EXIT_GATE_FAILED
    return EXIT_DONE if ended.done else EXIT_FAILED


def _known_waves(plan: Plan, names: tuple[str, ...], file: Path) -> None:
    known = [wave.name for wave in plan.waves]
    if unknown := [name for name in names if name not in known]:
        raise DiagnosticError(
            [
                Diagnostic("wave-unknown", f"the plan has no wave `{name}`", str(file), f"it has: {', '.join(known)}")
                for name in unknown
            ],
            exit_code=2,
        )


async def _run(
    dependencies: Dependencies,
    plan: Plan,
    journal: JournalFile,
    access: Access,
    approved: tuple[str, ...],
    *,
    keep_going: bool,
    wait: bool,
    as_json: bool,
) -> Report:
    from imdsctl.adapters.clock import SystemClock
    from imdsctl.fleet.apply import Applying
    from imdsctl.fleet.gauge import CloudWatchGauge

    async with may_write("apply", dependencies, access, journal, as_json=as_json) as writing:
        applying = Applying(
            plan=plan,
            aws=writing.aws,
            enter=writing.enter,
            journal=journal,
            clock=SystemClock(),
            listener=writing.listener,
            stopped=writing.stopped,
            keep_going=keep_going,
            gauge=CloudWatchGauge(writing.aws, writing.enter, dependencies.now),
            approve=approver(approved, writing.caller.arn, writing.stopped),
            wait=wait,
            lease=writing.lease,
            serves=dependencies.serves,
        )
        return await applying.run()


def approver(approved: tuple[str, ...], arn: str, stopped: Callable[[], bool]) -> Approve:
    """Says yes for the waves named on the command line; on a terminal it asks for the others."""
    from imdsctl.fleet.apply_gates import Approval

    async def approve(wave: PlannedWave, changes: int) -> Approval | None:
        if wave.name in approved:
            return Approval(arn, user(), "--approve")
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            return None
        question = f"Wave {wave.name} ({changes} changes) waits for approval. Type its name to let it begin: "
        print(question, end="", file=sys.stderr, flush=True)
        typed = await _line_typed(stopped)
        return Approval(arn, user(), "typed") if typed.strip() == wave.name else None

    return approve


async def _line_typed(stopped: Callable[[], bool]) -> str:
    """A line from the terminal. Raises Interrupted. (A thread that waits for one could not be stopped by Ctrl-C.)"""
    from imdsctl.fleet.apply_gates import Interrupted

    if sys.platform == "win32":  # there Ctrl-C ends the program at once
        return await asyncio.to_thread(sys.stdin.readline)
    while not select.select([sys.stdin], [], [], 0)[0]:
        if stopped():
            raise Interrupted
        await asyncio.sleep(TYPED_LOOK_SECONDS)
    return sys.stdin.readline()
