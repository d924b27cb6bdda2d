"""Which running local AWS a command means."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError

if TYPE_CHECKING:
    from imdsctl.adapters.local_registry import Entry, Registry

StateOption = Annotated[
    Path | None, typer.Option("--state", metavar="DIR", help="Directory that keeps the local AWS.", show_default=False)
]
PortOption = Annotated[
    int | None, typer.Option("--port", min=1, max=65535, help="Which one, when several run.", show_default=False)
]


def registry_here() -> Registry:
    """Where running servers are registered."""
    from imdsctl.adapters.local_registry import Registry, directory

    return Registry(directory(os.environ))


def running(state: Path | None, port: int | None) -> list[tuple[Entry, dict[str, Any]]]:
    """The servers that run, with what they say of themselves: all, or those with that state or port."""
    wanted = None if state is None else str(state.expanduser().resolve())
    return [
        (entry, answer)
        for entry, answer in registry_here().running()
        if (wanted is None or entry.state == wanted) and (port is None or entry.port == port)
    ]


def only(found: Sequence[tuple[Entry, dict[str, Any]]]) -> tuple[Entry, dict[str, Any]]:
    """The one server that was found. Raises DiagnosticError `local-ambiguous` (usage) when there are more."""
    if len(found) > 1:
        ports = ", ".join(str(entry.port) for entry, _ in found)
        raise DiagnosticError(
            Diagnostic(
                "local-ambiguous",
                f"{len(found)} local AWS servers are running, on ports {ports}",
                hint=f"say which: `--port {found[0][0].port}`",
            ),
            exit_code=2,
        )
    return found[0]
