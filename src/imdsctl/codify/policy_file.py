"""What a check of policies works on: files, what was read of them, and how a flaw becomes a finding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from imdsctl.codify.findings import CodeFinding
from imdsctl.codify.json_places import Document
from imdsctl.codify.policy_rules import RULE
from imdsctl.codify.vocabulary import Flaw


class Kind(StrEnum):
    """What a file is to be attached as."""

    SCP = "scp"
    IAM = "iam"
    BOUNDARY = "boundary"
    DECLARATIVE = "declarative"


@dataclass(frozen=True, slots=True)
class File:
    """A text to check. `kind` None: its name (`NAME.scp.json`) or its content says."""

    name: str
    text: str
    kind: Kind | None = None


@dataclass(frozen=True, slots=True)
class Read:
    """A policy of statements, put right where it was misspelt."""

    file: File
    document: Document
    kind: Kind | None
    paths: tuple[str, ...]
    mended: tuple[dict[str, Any], ...]


def finding(file: File, document: Document, flaw: Flaw, under: str = "", corrected: Any = None) -> CodeFinding:
    """`under`: the path of the statement that the flaw's path is below."""
    rule = RULE[flaw.rule]
    place = document.place(f"{under}.{flaw.path}" if under and flaw.path else flaw.path or under)
    fixed = flaw.corrected if flaw.corrected is not None else corrected
    made = CodeFinding(rule, rule.severity, file.name, place.line, place.column, flaw.message, flaw.remedy, fixed)
    return replace(made, end_column=end_of_line(file.text.split("\n"), place.line))


def end_of_line(lines: Sequence[str], number: int) -> int:
    """The column behind the last character of a line; 0 for a line that is not there."""
    return len(lines[number - 1].rstrip()) + 1 if 1 <= number <= len(lines) else 0
