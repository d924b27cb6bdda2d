"""What a person reads when something is wrong: what, where, and what to do next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from enum import StrEnum


class Severity(StrEnum):
    """`error` stops the command, `warning` does not."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One finding about the user's input or surroundings.

    `code` is stable and listed in docs/messages.md; `summary` is one lowercase clause without a full stop; `subject`
    says where (`fleet.toml:12`, `111122223333/eu-west-1/i-0abc`); `hint` is the next command or edit.
    """

    code: str
    summary: str
    subject: str | None = None
    hint: str | None = None
    severity: Severity = Severity.ERROR

    def about(self, subject: str) -> Diagnostic:
        """The same finding with its place, given by a caller that knows it; a place already there stays."""
        return self if self.subject else replace(self, subject=subject)


class DiagnosticError(Exception):
    """Ends a command with one or more diagnostics. `exit_code`: 1 failed, 2 usage (see docs/guide.md)."""

    def __init__(self, diagnostics: Diagnostic | Iterable[Diagnostic], *, exit_code: int = 1) -> None:
        self.diagnostics = (diagnostics,) if isinstance(diagnostics, Diagnostic) else tuple(diagnostics)
        self.exit_code = exit_code
        super().__init__("; ".join(f"{each.code}: {each.summary}" for each in self.diagnostics))
