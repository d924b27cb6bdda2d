"""Why each statement of a guardrail is there: JSON has no room for it."""

from __future__ import annotations

from imdsctl.codify.packing import Document


def reasons_text(document: Document) -> str:
    """For a terminal."""
    lines = [f"{document.name} ({len(document.minified):,} characters)"]
    for each in document.guardrails:
        lines.append(f"  {each.sid}: {each.reason}.")
        if each.caution:
            lines.append(f"    Caution: {each.caution}")
        lines.append(f"    Source: {each.source}.")
    return "\n".join(lines)


def reasons_markdown(document: Document) -> str:
    """To be kept beside the document."""
    lines = [f"# {document.name}", "", "| statement | why | caution | source |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{each.sid}` | {each.reason} | {each.caution or '-'} | {each.source} |" for each in document.guardrails
    ]
    return "\n".join(lines) + "\n"
