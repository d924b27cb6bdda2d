"""The intent file on disk."""

from __future__ import annotations

from functools import lru_cache
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
    path = given or _here()
    return (Intent(), None) if path is None else (read_intent(path), path)


def _here() -> Path | None:
    path = Path(INTENT_FILE)
    return path if path.exists() else None


class IntentFollowed:
    """The intent of a command that goes on for long, and its file (empty for the built-in one), as they are now.

    A file once found is asked for ever after: without it there would be no exceptions all of a sudden.
    """

    def __init__(self, file: Path | None) -> None:
        self._file = file
        self._parse = lru_cache(maxsize=1)(parse_intent)

    def __call__(self) -> tuple[Intent, str]:
        """Raises DiagnosticError as `find_intent` does."""
        self._file = self._file or _here()
        if self._file is None:
            return Intent(), ""
        return self._parse(_text(self._file), str(self._file)), str(self._file)


def read_intent(path: Path) -> Intent:
    """An intent from its TOML file.

    Raises DiagnosticError (exit code 2): `intent-unreadable`, and what `parse_intent` finds.
    """
    return parse_intent(_text(path), str(path))


def _text(path: Path) -> str:
    hint = "write one with `imdsctl init`, or leave `--intent` out for the built-in intent"
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise DiagnosticError(Diagnostic("intent-unreadable", why, str(path), hint), exit_code=2) from None
    except UnicodeDecodeError as error:
        why = f"byte {error.start} is not UTF-8"
        raise DiagnosticError(Diagnostic("intent-unreadable", why, str(path), hint), exit_code=2) from None
