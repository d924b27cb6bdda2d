"""`imdsctl local snapshot`, `restore` and `reset`: what is kept in a state directory, kept elsewhere and taken back."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from imdsctl.cli.local_servers import StateOption, only, running
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError


def snapshot(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write; a snapshot there is replaced.")],
    state: StateOption = None,
) -> int:
    """Write a whole local AWS into one file, while it runs or not.

    Everything that was answered before is in it. Without --state, that of the local AWS that runs.
    """
    from imdsctl.adapters.snapshot_file import take

    directory = _directory(state, "imdsctl local snapshot --state DIR FILE")
    writes = take(directory, file.expanduser())
    typer.echo(f"wrote {file}: {directory} with {writes} writes", err=True)
    typer.echo(f"`imdsctl local restore {shlex.quote(str(file))} --state DIR` brings it back", err=True)
    return 0


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `imdsctl local snapshot` has written.")],
    state: Annotated[Path, typer.Option("--state", metavar="DIR", help="Directory to restore it into.")],
    force: Annotated[bool, typer.Option("--force", help="Replace the state that is there.")] = False,
) -> int:
    """Bring a snapshot back into a state directory: all of it, or nothing when anything is wrong."""
    from imdsctl.adapters.snapshot_file import load
    from imdsctl.adapters.state_directory import StateDirectory

    spec, log, writes = load(file.expanduser())
    directory = StateDirectory(state.expanduser())
    try:
        if not force and not directory.empty():
            raise DiagnosticError(
                Diagnostic(
                    "state-exists",
                    "there is something in this directory already",
                    subject=str(state),
                    hint="choose an empty directory for `--state`, or give up what is there with `--force`",
                )
            )
        directory.replace(spec, log)
    finally:
        directory.close()
    typer.echo(f"restored {state}: {spec.accounts} accounts, seed {spec.seed}, {writes} writes", err=True)
    typer.echo(f"`imdsctl local up --state {shlex.quote(str(state))}` starts it", err=True)
    return 0


def reset(state: StateOption = None) -> int:
    """Take a local AWS back to where it was before its first write. It must not be running."""
    from imdsctl.adapters.state_directory import StateDirectory, read_state

    path = _directory(state, "imdsctl local reset --state DIR")
    spec, log = read_state(path)
    directory = StateDirectory(path)
    try:
        directory.replace(spec, b"")
    finally:
        directory.close()
    writes = log.count(b"\n")
    typer.echo(f"reset {path}: {writes} writes are forgotten; seed {spec.seed} is kept", err=True)
    return 0


def _directory(state: Path | None, usage: str) -> Path:
    """The state directory that is meant: the one named, or that of the server that runs."""
    if state is not None:
        return state.expanduser()
    found = running(None, None)
    if not found:
        raise DiagnosticError(
            Diagnostic(
                "usage", "no local AWS is running, so `--state` has to say which one is meant", hint=f"`{usage}`"
            ),
            exit_code=2,
        )
    entry, _ = only(found)
    if entry.state is None:
        raise DiagnosticError(
            Diagnostic(
                "state-not-kept",
                "the local AWS that runs keeps nothing: it was started without `--state`",
                subject=entry.url,
                hint="`imdsctl local down` and `imdsctl local up` begin anew; `--state DIR` keeps what is written",
            )
        )
    return Path(entry.state)
