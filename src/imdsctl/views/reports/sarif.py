"""Findings as SARIF 2.1.0, for code scanning.

Source: OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0".
A cloud resource is no file: its place is a logical location, and an artifact URI of the form `aws/ACCOUNT/REGION/...`,
because code scanners show only results that have one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import sha256
from heapq import nsmallest
from typing import Any, TypeVar
from urllib.parse import quote

from imdsctl import __version__
from imdsctl.domain import diagnostics
from imdsctl.domain.diagnostics import Diagnostic
from imdsctl.domain.evidence import Use
from imdsctl.domain.exposure import Verdict
from imdsctl.domain.findings import RULES, SHUT, Finding, Severity, evidence_text
from imdsctl.domain.json_text import json_bytes
from imdsctl.domain.report import Report
from imdsctl.domain.shown import shown
from imdsctl.domain.verdicts import NOTHING_SEEN
from imdsctl.views.text import not_inspectable_lines

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {Severity.HIGH: "error", Severity.MEDIUM: "warning", Severity.LOW: "note", Severity.INFORMATIONAL: "note"}
_SCORES = {Severity.HIGH: "8.0", Severity.MEDIUM: "5.5", Severity.LOW: "3.0", Severity.INFORMATIONAL: "0.0"}
"""What GitHub's code scanning reads as `security-severity`: 7.0 and more is high, 4.0 and more medium."""
_NUMBERS = {rule.id: number for number, rule in enumerate(RULES)}


RESULTS_MAX = 25_000
"""Code scanning refuses a whole file whose run has more, and shows the 5,000 most severe of those that it takes.

Source: GitHub Docs, "SARIF results exceed one or more limits"."""
T = TypeVar("T")

_WHOLE = {"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 2}
"""A cloud resource has no lines; code scanning asks for a region all the same."""


def _hash(text: str) -> str:
    return sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def most_serious(
    findings: Iterable[T], rank: Callable[[T], int], tell: Callable[[Diagnostic], None]
) -> tuple[list[T], list[dict[str, Any]]]:
    """The findings that code scanning takes, those of the lowest `rank` first, and the run's notifications.

    How many are left out is told to `tell`, and stands in a notification.
    """
    found = 0

    def counted() -> Iterator[T]:
        nonlocal found
        for each in findings:
            found += 1
            yield each

    kept = nsmallest(RESULTS_MAX, counted(), key=rank)
    if found == len(kept):
        return kept, []
    cut = Diagnostic(
        "results-left-out",
        f"{found - len(kept):,} of {found:,} findings are not in the SARIF log, the least serious: code scanning takes "
        f"{RESULTS_MAX:,} of one run",
        hint="JSON has them all; look at less at a time",
        severity=diagnostics.Severity.WARNING,
    )
    tell(cut)
    return kept, [notification("warning", cut.code, cut.summary)]


def notification(level: str, code: str, said: str) -> dict[str, Any]:
    """Something that happened while the findings were gathered."""
    return {"level": level, "message": {"text": shown(said)}, "descriptor": {"id": code}}


def sarif_text(report: Report, tell: Callable[[Diagnostic], None]) -> Iterator[str]:
    """One SARIF log with one run, in pieces, the most serious findings first. `tell` hears how many are left out."""
    findings, notes = most_serious(report.findings(), _rank, tell)
    coverage = report.coverage
    if coverage.nothing_seen:
        notes.append(notification("warning", "nothing-seen", NOTHING_SEEN))
    if coverage.not_inspectable:
        head, *lines = not_inspectable_lines(coverage.not_inspectable)
        notes.append(notification("note", SHUT.id, f"{head}. {'; '.join(map(str.strip, lines))}"))
    run: dict[str, Any] = {
        "tool": {
            "driver": {
                "name": "imdsctl",
                "version": __version__,
                "semanticVersion": __version__,
                "rules": [_rule(number) for number in range(len(RULES))],
            }
        },
        "automationDetails": {"id": f"imdsctl/scan/{report.scan_id}"},
        "invocations": [
            {
                "executionSuccessful": True,
                "endTimeUtc": f"{report.finished:%Y-%m-%dT%H:%M:%SZ}",
                "toolExecutionNotifications": notes,
            }
        ],
        "columnKind": "utf16CodeUnits",
    }
    head = json_bytes({"$schema": SCHEMA, "version": "2.1.0"}).decode()[:-1]
    yield f'{head},"runs":[{json_bytes(run).decode()[:-1]},"results":['
    separator = ""
    for finding in findings:
        yield separator + json_bytes(_result(finding)).decode()
        separator = ",\n"
    yield "]}]}\n"


_WORST_FIRST = (Severity.HIGH, Severity.MEDIUM, Severity.LOW, Severity.INFORMATIONAL)


def _rank(finding: Finding) -> int:
    """What is exposed by its severity, what is used before it; then the unknown, the accepted, and the enforced."""
    if finding.verdict is Verdict.ENFORCED:
        return 7
    if finding.accepted:
        return 6
    if finding.verdict is Verdict.UNKNOWN:
        return 5
    return 0 if finding.use is Use.USED else 1 + _WORST_FIRST.index(finding.severity)


def _rule(number: int) -> dict[str, Any]:
    rule = RULES[number]
    return {
        "id": f"imdsctl/{rule.id}",
        "name": "".join(word.capitalize() for word in rule.id.split("-")),
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.why},
        "help": {"text": f"{rule.title}: {rule.why}. The message has the reason, the evidence and the next step."},
        "defaultConfiguration": {"level": _LEVELS[rule.severity]},
        "properties": {
            "tags": ["security", "aws", "imds", *rule.controls],
            "security-severity": _SCORES[rule.severity],
        },
    }


def _result(finding: Finding) -> dict[str, Any]:
    parts = [f"{finding.rule.title}: {finding.reason}."]
    if finding.evidence is not None:
        parts.append(f"Evidence: {evidence_text(finding.evidence)}.")
    parts.append(finding.next_step)
    name = shown(finding.id)
    result: dict[str, Any] = {
        "ruleId": f"imdsctl/{finding.rule.id}",
        "ruleIndex": _NUMBERS[finding.rule.id],
        "kind": {Verdict.EXPOSED: "fail", Verdict.UNKNOWN: "open", Verdict.ENFORCED: "pass"}[finding.verdict],
        "level": _LEVELS[finding.rule.severity] if finding.verdict is Verdict.EXPOSED else "none",
        "message": {"text": shown(" ".join(parts))},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": f"aws/{quote(name, safe='/:$')}"},
                    "region": _WHOLE,
                },
                "logicalLocations": [{"fullyQualifiedName": name, "kind": "resource"}],
            }
        ],
        "partialFingerprints": {"primaryLocationLineHash": f"{_hash(finding.id)}:1", "imdsctl/v1": name},
    }
    if finding.accepted:
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": shown(finding.accepted)}]
    return result
