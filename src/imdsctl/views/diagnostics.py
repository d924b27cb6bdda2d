"""Diagnostics as text for a person, and the colours of a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from imdsctl.domain.diagnostics import Diagnostic, Severity

_COLOURS = {"red": "31", "yellow": "33", "green": "32", "cyan": "36", "dim": "2", "bold": "1"}


def painted(text: str, colour: str, wanted: bool) -> str:
    """`text` in a terminal's colour when `wanted`."""
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if wanted and text else text


def diagnostics_text(diagnostics: Iterable[Diagnostic], *, colour: bool = False) -> str:
    """Every diagnostic as its summary, its place and the next step, with an empty line between two of them."""
    return "\n\n".join(_diagnostic(each, colour) for each in diagnostics)


def _diagnostic(diagnostic: Diagnostic, colour: bool) -> str:
    shade = "red" if diagnostic.severity is Severity.ERROR else "yellow"
    lines = [f"{painted(f'{diagnostic.severity}[{diagnostic.code}]', shade, colour)}: {diagnostic.summary}"]
    if diagnostic.subject:
        lines.append(f"  {painted('-->', 'cyan', colour)} {diagnostic.subject}")
    if diagnostic.hint:
        lines.append(f"{painted('hint', 'cyan', colour)}: {diagnostic.hint}")
    return "\n".join(lines)
