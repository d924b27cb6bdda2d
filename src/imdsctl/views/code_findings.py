"""Findings of a check of code, for a reader and for a program."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import orjson

from imdsctl import __version__
from imdsctl.codify.findings import CodeFinding
from imdsctl.domain.diagnostics import Diagnostic
from imdsctl.domain.json_text import json_bytes
from imdsctl.domain.shown import shown
from imdsctl.views.json import FORMAT_VERSION


def findings_text(
    findings: Sequence[CodeFinding], *, files: int, unread: int, what: str, rests_on: Sequence[str] = ()
) -> Iterator[str]:
    """A paragraph a finding, then a line that counts. `what` are the files: `policy`."""
    for each in findings:
        yield f"{shown(each.file)}:{each.line}:{each.column}: {each.severity}: {each.rule.title} [{each.rule.id}]"
        yield f"  {shown(each.message)}."
        if each.remedy:
            yield f"  To do: {shown(each.remedy)}."
        if each.corrected is not None:
            yield "  Corrected:"
            text = each.corrected if isinstance(each.corrected, str) else json.dumps(each.corrected, indent=2)
            yield from (f"    {shown(line)}" for line in text.splitlines())
        yield ""
    yield from (f"note: {shown(each)}." for each in rests_on)
    seen = f"{files} file{'' if files == 1 else 's'} checked"
    found = f"{len(findings)} finding{'' if len(findings) == 1 else 's'}" if findings else "nothing found"
    partial = f"; partial: {unread} could not be read" if unread else ""
    yield f"{what}: {seen}, {found}{partial}"


def findings_json(
    findings: Sequence[CodeFinding],
    *,
    files: int,
    unread: Sequence[Diagnostic],
    kind: str,
    rests_on: Sequence[str] | None = None,
) -> str:
    """One JSON document."""
    body: dict[str, Any] = {
        "imdsctl_version": __version__,
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "files": files,
        "complete": not unread,
        "findings": [
            {
                "rule": each.rule.id,
                "severity": str(each.severity),
                "file": each.file,
                "line": each.line,
                "column": each.column,
                "title": each.rule.title,
                "message": each.message,
                "remedy": each.remedy,
                "corrected": each.corrected,
                "fix": None if each.fix is None else asdict(each.fix),
            }
            for each in findings
        ],
        "unread": [{"code": each.code, "summary": each.summary, "subject": each.subject} for each in unread],
    }
    if rests_on is not None:
        body["rests_on"] = rests_on
    return json_bytes(body, orjson.OPT_INDENT_2).decode() + "\n"
