"""What a check of code finds: a rule that is broken, where, why, and what would be right."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Severity(StrEnum):
    """How much it matters; the words are SARIF's levels."""

    ERROR = "error"
    """It breaks something, or does not do what it is there for."""
    WARNING = "warning"
    """It does something that is seldom meant."""
    NOTE = "note"
    """It does nothing; it only misleads its readers."""


@dataclass(frozen=True, slots=True)
class CodeRule:
    """A rule of a check: its stable id, its usual severity, its name in a few words, and why it is one."""

    id: str
    severity: Severity
    title: str
    why: str


@dataclass(frozen=True, slots=True)
class Fix:
    """An edit: the text from one place up to another becomes `text`. All count from 1; an end is not part of it."""

    line: int
    column: int
    end_line: int
    end_column: int
    text: str


@dataclass(frozen=True, slots=True)
class CodeFinding:
    """One finding in a file.

    `line` and `column` count from 1 (columns are characters). `message` says what is wrong and what follows from it,
    `remedy` what to do. `corrected` is the right text, of a policy as JSON values (a statement, or several); None where
    it is not certain what was meant. `fix` is the edit that makes the file so, where that is plain.
    """

    rule: CodeRule
    severity: Severity
    file: str
    line: int
    column: int
    message: str
    remedy: str = ""
    corrected: Any = None
    fix: Fix | None = None
    end_column: int = 0
    """Behind the last character of what stands there, on the same line; 0: not known."""
