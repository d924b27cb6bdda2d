"""The command line: which commands there are. Each lives in its own module, imported when it is named."""

from __future__ import annotations

import re
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core
import typer.main

from imdsctl import __version__
from imdsctl.cli.errors import guarded, interruptible
from imdsctl.cli.terminal import guarded_streams
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError

if TYPE_CHECKING:
    from imdsctl.cli.dependencies import Dependencies

COMMANDS = (
    "demo",
    "scan",
    "evidence",
    "explain",
    "init",
    "intent",
    "plan",
    "apply",
    "rollback",
    "verify",
    "watch",
    "report",
    "history",
    "diff",
    "scans",
    "run",
    "trace",
    "local",
    "imds",
    "iam-policy",
    "check",
    "policy",
    "export",
)
"""Names, in the order of help. `imdsctl.cli.NAME` has a function `command`, or `app` when it has its own commands."""


class Commands(typer.core.TyperGroup):
    """The commands, imported one at a time: `imdsctl scan` does not pay for `imdsctl local`."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        if cmd_name not in self.commands:
            self.commands[cmd_name] = _load(cmd_name)
        return self.commands[cmd_name]

    def make_context(self, *args: Any, **extra: Any) -> Any:
        # Typer turns Ctrl-C in here into a silent 130.
        with interruptible("nothing was begun"):
            return super().make_context(*args, **extra)

    def invoke(self, ctx: Any) -> Any:
        # A command says itself what is safe while it works. Around that, typer would end Ctrl-C without a word.
        with interruptible("nothing is left half done"):
            return super().invoke(ctx)


def _load(name: str) -> Any:
    module = import_module("imdsctl.cli." + name.replace("-", "_"))
    if hasattr(module, "app"):
        group = typer.main.get_command(module.app)
        group.name = name  # help lists commands by their own names
        return _careful(group)
    single = typer.Typer(add_completion=False)
    single.command(name, context_settings=getattr(module, "CONTEXT_SETTINGS", None))(module.command)
    return _careful(typer.main.get_command(single))


def _careful(command: Any) -> Any:
    """The command, which looks at its words before it begins: no AWS API and no database takes what is not UTF-8.

    The path of a file may be any bytes (a `Path` passes), and so may the words of a program that is run.
    """
    for each in getattr(command, "commands", {}).values():
        _careful(each)
    if not hasattr(command, "commands"):
        invoke = command.invoke

        def looked_at(ctx: Any) -> Any:
            for parameter in command.params:
                if parameter.param_type_name == "argument" and not ctx.allow_interspersed_args:
                    continue
                given = ctx.params.get(parameter.name)
                for word in given if isinstance(given, (list, tuple)) else (given,):
                    if isinstance(word, str) and not word.isascii() and _LONE.search(word):
                        # The word itself may be a URL with a password: it is not repeated.
                        option = parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar
                        what = Diagnostic(
                            "usage", f"what was given as `{option}` is not UTF-8", hint="write it in UTF-8"
                        )
                        raise DiagnosticError(what, exit_code=2)
            return invoke(ctx)

        command.invoke = looked_at
    return command


_LONE = re.compile("[\ud800-\udfff]")
"""What Python makes of bytes of the command line that are not UTF-8."""


def _show_version(asked: bool) -> None:
    if asked:
        typer.echo(f"imdsctl {__version__}")
        raise typer.Exit


def _program(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Make IMDSv2 the enforced rule in every Region of every AWS account.

    Exit codes: 0 done, 1 failed, 2 the command line or the input is wrong, 130 interrupted.
    """


def program() -> Any:
    """The whole command line as one click command."""
    app = typer.Typer(cls=Commands, no_args_is_help=True)
    app.callback()(_program)
    return typer.main.get_command(app)


def run(argv: Sequence[str], dependencies: Dependencies) -> int:
    """Run one command line, print what went wrong on standard error, and return the exit code."""
    command = program()
    with guarded_streams():
        return guarded(
            lambda: command.main(args=list(argv), prog_name="imdsctl", standalone_mode=False, obj=dependencies)
        )
