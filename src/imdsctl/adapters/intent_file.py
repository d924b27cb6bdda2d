"""The intent file on disk."""

from __future__ import annotations

from pathlib import Path

from imdsctl.domain.diagnostics import Diagnostic, DiagnosticError
from imdsctl.domain.intent import Intent, parse_intent


def read_intent(path: Path) -> Intent:
    """An intent from its TOML file.

    Raises DiagnosticError (exit code 2): `intent-unreadable`, and what `parse_intent` finds.
    """
    hint = "write one as docs/guide.md shows, or leave `--intent` out for the built-in intent"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise DiagnosticError(Diagnostic("intent-unreadable", why, str(path), hint), exit_code=2) from None
    except UnicodeDecodeError as error:
        why = f"byte {error.start} is not UTF-8"
        raise DiagnosticError(Diagnostic("intent-unreadable", why, str(path), hint), exit_code=2) from None
    return parse_intent(text, str(path))
