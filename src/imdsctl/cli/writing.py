"""What `apply` and `rollback` share: who may write, how they are stopped, and how they tell what they do."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from imdsctl.cli.dependencies import Dependencies
from imdsctl.cli.errors import report
from imdsctl.cli.options import DATABASE_VARIABLE
from imdsctl.cli.terminal import OutputLost
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError

if TYPE_CHECKING:
    from imdsctl.adapters.journal_file import JournalFile
    from imdsctl.fleet.apply_report import Event, Listener
    from imdsctl.fleet.ports import Aws, Lease
    from imdsctl.fleet.sessions import Sessions
    from imdsctl.fleet.targets import Caller


@dataclass(frozen=True, slots=True)
class Access:
    """How a command gets in, and where the team's lock is."""

    role: str
    profile: str | None
    db: str | None


@dataclass(frozen=True, slots=True)
class Writing:
    """A run that may write."""

    aws: Aws
    caller: Caller
    enter: Sessions
    lease: Lease | None
    listener: Listener
    stopped: Callable[[], bool]


@asynccontextmanager
async def may_write(
    command: str, dependencies: Dependencies, access: Access, journal: JournalFile, *, as_json: bool
) -> AsyncIterator[Writing]:
    """Everything that a run needs, with its beginning in the journal. Raises DiagnosticError `apply-running`."""
    from imdsctl.domain.journal import RunBegan
    from imdsctl.fleet.sessions import Sessions
    from imdsctl.fleet.targets import who_am_i

    async with dependencies.aws(access.profile) as aws:
        caller = await who_am_i(aws)
        host = f"{socket.gethostname()} process {os.getpid()}"
        dead = _dead_owner(journal)
        async with leased(dependencies, access.db, caller, host, dead) as lease:
            number = None if lease is None else lease.number
            await journal.append(RunBegan(command, caller.arn, host, number, dependencies.now().isoformat()))
            with _stopping() as stopped, listening(as_json=as_json) as listener:
                enter = Sessions(aws, caller, access.role, dependencies.now)
                yield Writing(aws, caller, enter, lease, listener, stopped)


def _dead_owner(journal: JournalFile) -> int | None:
    """The lease of the run before, on this machine: it held the journal's lock, which is ours now, so it is dead."""
    last = next(iter(reversed(journal.progress.runs)), None)
    return last.fencing if last is not None and last.host.split(" ")[0] == socket.gethostname() else None


@asynccontextmanager
async def leased(
    dependencies: Dependencies, db: str | None, caller: Caller, host: str, dead: int | None = None
) -> AsyncIterator[Lease | None]:
    """The right to write by the caller's account: this machine's, and the team's where it shares a database.

    Raises DiagnosticError `apply-running`. `dead` is the number of an earlier owner that is known to be dead.
    """
    owner = f"{caller.arn} on {host}"
    if db is None:
        with dependencies.alone(caller.account_id, owner):
            yield None
        return
    async with dependencies.lease(db, owner, dead) as lease:
        if lease.taken_over is not None:
            report([lease.taken_over])
        with dependencies.alone(caller.account_id, owner):
            yield lease


def user() -> str:
    """Who sits at this machine, as far as it knows."""
    import getpass

    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "unknown"


def confirmed(confirm: int | None, count: int, file: Path, *, command: str, what: str) -> None:
    """The count is asked for on a terminal, and given with --confirm anywhere. Raises DiagnosticError (exit code 2).

    `command` is what to type but for `--confirm`, `what` which changes the number counts ("that this plan makes").
    """
    said = f"{count} {'change' if count == 1 else 'changes'} {what}"
    if confirm is None and count and sys.stdin.isatty() and sys.stderr.isatty():
        print(f"{said}, in AWS. Type the number to go on: ", end="", file=sys.stderr, flush=True)
        typed = sys.stdin.readline().strip()
        confirm = int(typed) if typed.isdecimal() else -1
    if confirm is None and count:
        raise DiagnosticError(
            Diagnostic(
                "confirm-missing",
                f"{said}, and nobody has confirmed that",
                str(file),
                f"read it, then run `{command} --confirm {count}`",
            ),
            exit_code=2,
        )
    if confirm is not None and confirm != count:
        raise DiagnosticError(
            Diagnostic(
                "confirm-mismatch",
                f"the number given is not right: {said}; nothing was changed",
                str(file),
                "is it the plan that you read?",
            ),
            exit_code=2,
        )


def command_line(*words: str | None, **options: object) -> str:
    """A command to type again: words, and those options that are set (a list is repeated, True is a flag).

    A database's password is not among them, nor a database that the environment names.
    """
    line = [word for word in words if word is not None]
    for name, value in options.items():
        if name == "db" and isinstance(value, str):
            from imdsctl.adapters.database_engine import without_password

            value = None if value == os.environ.get(DATABASE_VARIABLE) else without_password(value)
        option = f"--{name.replace('_', '-')}"
        if value is True:
            line.append(option)
        elif isinstance(value, (list, tuple)):
            line += [part for each in value for part in (option, str(each))]
        elif value not in (None, False):
            line += [option, str(value)]
    return shlex.join(line)


@contextmanager
def listening(*, as_json: bool) -> Iterator[Callable[[Event], None]]:
    """Tells how it goes: a line an event, for a program on standard output, else for a person on standard error."""
    from imdsctl.views.apply import ProgressLines, event_json

    def write(stream: TextIO, text: str) -> None:
        # A reader that went away (`| head`), or a full disk, must not leave a change half made: go on without telling.
        with suppress(OSError, OutputLost):
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
