"""How a command ends: diagnostics on standard error and an exit code. A bug still ends in a traceback."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress

import typer

from imdsctl.cli.terminal import OutputLost
from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError

EXIT_DONE = 0
EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_FOUND = 3
"""`--fail-on` of `run` and `trace` found what it was to look for."""
EXIT_GATE_CLOSED = 4
"""`apply`: a gate is not open yet. Nothing is wrong; the same command goes on later."""
EXIT_GATE_FAILED = 5
"""`apply`: a gate says no, or nobody can tell."""
EXIT_INTERRUPTED = 130

UsageError: type[Exception] = typer.BadParameter.__bases__[0]
"""What typer raises for a command line it cannot parse; its home differs between typer's releases."""


@contextmanager
def interruptible(safe: str, *, hint: str | None = None) -> Iterator[None]:
    """Turn Ctrl-C into the diagnostic `interrupted` (exit code 130).

    `safe` is a clause that says what state things are in ("nothing was changed: a scan only reads").
    """
    try:
        yield
    except KeyboardInterrupt:
        diagnostic = Diagnostic("interrupted", f"stopped by Ctrl-C; {safe}", hint=hint)
        raise DiagnosticError(diagnostic, exit_code=EXIT_INTERRUPTED) from None


def report(diagnostics: Iterable[Diagnostic]) -> None:
    """Print diagnostics on standard error."""
    from imdsctl.views.diagnostics import diagnostics_text

    print(diagnostics_text(diagnostics, colour=wants_colour(sys.stderr)), file=sys.stderr)


def report_one(diagnostic: Diagnostic) -> None:
    """Print one."""
    report([diagnostic])


def wants_colour(stream: object) -> bool:
    """Colour goes to a terminal only, and never when NO_COLOR is set (https://no-color.org) or TERM is `dumb`."""
    if os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    isatty = getattr(stream, "isatty", None)
    return bool(isatty is not None and isatty())


def guarded(command: Callable[[], object]) -> int:
    """Call `command` and give its exit code: what it returns when that is an int, else 0.

    DiagnosticError is printed and gives its own code; a wrong command line gives 2; Ctrl-C gives 130; a reader of our
    output that went away (`| head`) gives 1 without noise, and a full disk behind it 1 with a sentence.
    """
    try:
        code = _ended(command)
        sys.stdout.flush()
    except BrokenPipeError:
        _give_output_up()
        return EXIT_FAILED
    except OutputLost as error:
        _give_output_up()
        what = f"standard output cannot be written: {str(error).lower()}; what was printed is not whole"
        hint = "make room where it is led to, or lead it elsewhere, and run the command again"
        with suppress(OSError):  # standard error may be led to the same place
            report_one(Diagnostic("output-unwritable", what, hint=hint))
        return EXIT_FAILED
    return code


def _give_output_up() -> None:
    """Python flushes standard output again at exit; that must not fail."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _ended(command: Callable[[], object]) -> int:
    try:
        result = command()
    except DiagnosticError as error:
        report(error.diagnostics)
        return error.exit_code
    except UsageError as error:
        error.show()  # type: ignore[attr-defined]
        return EXIT_USAGE
    except (KeyboardInterrupt, typer.Abort):
        report([Diagnostic("interrupted", "stopped by Ctrl-C")])
        return EXIT_INTERRUPTED
    except SystemExit as ended:
        # Typer's own answer to a reader that went away.
        return ended.code if isinstance(ended.code, int) else EXIT_FAILED
    return result if isinstance(result, int) and not isinstance(result, bool) else EXIT_DONE
