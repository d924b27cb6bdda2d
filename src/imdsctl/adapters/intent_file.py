"""The intent file on disk."""

from __future__ import annotations

from pathlib import Path

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.intent import Intent, parse_intent

INTENT_FILE = "imdsctl.toml"
"""Read from the current folder when no `--intent` names another."""


def find_intent(given: Path | None) -> tuple[Intent, Path | None]:
    """The intent of a command, and its file: the one that is named, else `imdsctl.toml` in the current folder, else
    the built-in intent without a file.

    Raises DiagnosticError (exit code 2): `intent-unreadable`, and what `parse_intent` finds.
    """
    here = Path(INTENT_FILE)
    path = given or (here if here.exists() else None)
    return (Intent(), None) if path is None else (read_intent(path), path)


def read_intent(path: Path) -> Intent:
    """An intent from its TOML file.

    Raises DiagnosticError (exit code 2): `intent-unreadable`, and what `parse_intent` finds.
    """
    hint = "write one with `imdsctl init`, or leave `--intent` out for the built-in intent"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise DiagnosticError(Diagnostic("intent-unreadable", why, str(path), hint), exit_code=2) from None
    except UnicodeDecodeError as error:
        why = f"byte {error.start} is not UTF-8"
        raise DiagnosticError(Diagnostic("intent-unreadable", why, str(path), hint), exit_code=2) from None
    return parse_intent(text, str(path))
