"""`imdsctl rollback`: write back what an apply has changed, from its journal: recorded values, never a default."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imdsctl.cli import options
from imdsctl.cli.dependencies import Dependencies, of
from imdsctl.cli.errors import EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, interruptible, report
from imdsctl.cli.writing import Access, command_line, confirmed, may_write
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.fleet.selection import ROLE_NAME

if TYPE_CHECKING:
    from imdsctl.adapters.journal_file import JournalFile
    from imdsctl.domain.plan import Plan
    from imdsctl.fleet.apply_report import Report


def command(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(help="The plan that was applied.", show_default=False)],
    wave: Annotated[str | None, typer.Option("--wave", metavar="NAME", help="Only what this wave has changed.")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--change", metavar="ID", help="Only this change, as the plan names it; repeat it."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option("--since", metavar="TIME", help="Only what was applied then or later: 2026-11-26T09:00, in UTC."),
    ] = None,
    confirm: Annotated[
        int | None,
        typer.Option("--confirm", help="How many changes are put back, or are already: the answer to the question."),
    ] = None,
    delete_versions: Annotated[
        bool,
        typer.Option("--delete-versions", help="Delete the launch template versions that apply has made, too."),
    ] = False,
    journal: Annotated[
        Path | None, typer.Option("--journal", help="The apply's memory. Default: FILE.journal.")
    ] = None,
    role: options.Role = ROLE_NAME,
    profile: options.Profile = None,
    db: options.Lock = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print events as JSON, one object a line.")] = False,
) -> int:
    """Put back what an apply has changed, enforcement first. What somebody else has changed since is left alone.

    Stopped at any point, the same command goes on. Exit codes: 0 all of it is as it was, 1 something is not, 2 wrong
    command line or input, 130 interrupted.
    """
    from imdsctl.adapters.journal_file import open_journal
    from imdsctl.adapters.plan_file import read_plan
    from imdsctl.fleet.apply_report import Outcome, Report
    from imdsctl.fleet.rollback import decided, selected
    from imdsctl.views.apply import report_json, rollback_diagnostics, rollback_text

    dependencies = of(context)
    plan = read_plan(file)
    where = journal or file.with_name(file.name + ".journal")
    if not where.exists():
        raise DiagnosticError(
            Diagnostic(
                "journal-missing",
                "there is no journal: nothing is known of an apply of this plan",
                str(where),
                "name it with `--journal FILE`; the machine that ran `imdsctl apply` has it",
            ),
            exit_code=2,
        )
    changes = options.listed(change, {each.id for each in plan.changes})
    narrowing = {"wave": wave, "change": list(changes), "since": since}
    settings = {
        **narrowing,
        "delete_versions": delete_versions,
        "journal": journal,
        "role": None if role == ROLE_NAME else role,
        "profile": profile,
        "db": db,
    }
    asked = command_line("imdsctl", "rollback", str(file), **settings)
    _check(plan, wave, changes, file)
    moment = _moment(since)
    with (
        interruptible("calls that were under way are in the journal", hint=f"`{asked}` reads them back and goes on"),
        open_journal(where, plan.digest, dependencies.now().isoformat()) as opened,
    ):
        chosen = selected(
            plan,
            opened.progress,
            wave=wave,
            changes=frozenset(changes),
            since=moment,
        )
        known = [decided(each, opened.progress, delete_versions=delete_versions) for each in chosen]
        ends = [each for each in known if each is not None]
        already = sum(each.outcome is Outcome.RESTORED_EARLIER for each in ends)
        what = (
            f"to put back, of which {already} {'is' if already == 1 else 'are'} already" if already else "to put back"
        )
        if len(ends) < len(chosen):
            confirmed(confirm, len(chosen), file, command=asked, what=what)
            only = frozenset(each.id for each in chosen)
            work = _run(
                dependencies,
                plan,
                opened,
                Access(role, profile, db),
                only,
                delete_versions=delete_versions,
                as_json=as_json,
            )
            ended = options.run_async(work)
        else:  # nothing that AWS has to be asked about
            if confirm is not None:
                confirmed(confirm, len(chosen), file, command=asked, what=what)
            ended = Report(tuple(ends), interrupted=False)
    if as_json:
        sys.stdout.write(report_json(ended).decode() + "\n")
    else:
        print(rollback_text(ended))
    found = rollback_diagnostics(ended, str(file), asked)
    if ended.interrupted:
        found.append(
            Diagnostic(
                "interrupted",
                "stopped by Ctrl-C; what had begun was finished and is recorded, the rest was not begun",
                str(file),
                f"`{asked}` goes on from here",
            )
        )
    if found:
        report(found)
    if ended.interrupted:
        return EXIT_INTERRUPTED
    return EXIT_DONE if ended.done else EXIT_FAILED


def _check(plan: Plan, wave: str | None, changes: tuple[str, ...], file: Path) -> None:
    found = []
    waves = [each.name for each in plan.waves]
    if wave is not None and wave not in waves:
        hint = f"it has: {', '.join(waves)}"
        found.append(Diagnostic("wave-unknown", f"the plan has no wave `{wave}`", str(file), hint))
    known = {change.id for change in plan.changes}
    hint = "`imdsctl apply --json` and the plan file have the ids"
    found += [
        Diagnostic("change-unknown", f"the plan has no change `{each}`", str(file), hint)
        for each in changes
        if each not in known
    ]
    if found:
        raise DiagnosticError(found, exit_code=2)


def _moment(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise DiagnosticError(
            Diagnostic("option-invalid", f"`{text}` is no time", "--since", "write it like 2026-11-26T09:00"),
            exit_code=2,
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


async def _run(
    dependencies: Dependencies,
    plan: Plan,
    journal: JournalFile,
    access: Access,
    only: frozenset[str],
    *,
    delete_versions: bool,
    as_json: bool,
) -> Report:
    from imdsctl.adapters.clock import SystemClock
    from imdsctl.fleet.rollback import RollingBack

    async with may_write("rollback", dependencies, access, journal, as_json=as_json) as writing:
        rolling = RollingBack(
            plan=plan,
            aws=writing.aws,
            enter=writing.enter,
            journal=journal,
            clock=SystemClock(),
            only=only,
            listener=writing.listener,
            stopped=writing.stopped,
            lease=writing.lease,
            delete_versions=delete_versions,
        )
        return await rolling.run()
