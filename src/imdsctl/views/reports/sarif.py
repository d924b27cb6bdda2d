"""Findings as SARIF 2.1.0, for code scanning.

Source: OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0".
A cloud resource is no file: its place is a logical location, and an artifact URI of the form `aws/ACCOUNT/REGION/...`,
because code scanners show only results that have one.
"""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any
from urllib.parse import quote

import orjson

from imdsctl import __version__
from imdsctl.domain.exposure import Verdict
from imdsctl.domain.findings import RULES, Finding, Severity, evidence_text
from imdsctl.domain.report import Report
from imdsctl.domain.shown import shown

SCHEMA = "https://json.schemastore.org/sarif-2.1.0.json"
_LEVELS = {Severity.HIGH: "error", Severity.MEDIUM: "warning", Severity.LOW: "note", Severity.INFORMATIONAL: "note"}
_SCORES = {Severity.HIGH: "8.0", Severity.MEDIUM: "5.5", Severity.LOW: "3.0", Severity.INFORMATIONAL: "0.0"}
"""What GitHub's code scanning reads as `security-severity`: 7.0 and more is high, 4.0 and more medium."""
_NUMBERS = {rule.id: number for number, rule in enumerate(RULES)}


_WHOLE = {"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 2}
"""A cloud resource has no lines; code scanning asks for a region all the same."""


def _hash(text: str) -> str:
    return sha256(text.encode("utf-8", "replace")).hexdigest()[:16]


def sarif_text(report: Report) -> Iterator[str]:
    """One SARIF log with one run, in pieces."""
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
        "invocations": [{"executionSuccessful": True, "endTimeUtc": f"{report.finished:%Y-%m-%dT%H:%M:%SZ}"}],
        "columnKind": "utf16CodeUnits",
    }
    head = orjson.dumps({"$schema": SCHEMA, "version": "2.1.0"}).decode()[:-1]
    yield f'{head},"runs":[{orjson.dumps(run).decode()[:-1]},"results":['
    separator = ""
    for finding in report.findings():
        yield separator + orjson.dumps(_result(finding)).decode()
        separator = ",\n"
    yield "]}]}\n"


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
    result: dict[str, Any] = {
        "ruleId": f"imdsctl/{finding.rule.id}",
        "ruleIndex": _NUMBERS[finding.rule.id],
        "kind": {Verdict.EXPOSED: "fail", Verdict.UNKNOWN: "open", Verdict.ENFORCED: "pass"}[finding.verdict],
        "level": _LEVELS[finding.rule.severity] if finding.verdict is Verdict.EXPOSED else "none",
        "message": {"text": shown(" ".join(parts))},
        "locations": [
            {
                "physicalLocation": {
                    "artifactLocation": {"uri": f"aws/{quote(finding.id, safe='/:$')}"},
                    "region": _WHOLE,
                },
                "logicalLocations": [{"fullyQualifiedName": finding.id, "kind": "resource"}],
            }
        ],
        "partialFingerprints": {"primaryLocationLineHash": f"{_hash(finding.id)}:1", "imdsctl/v1": finding.id},
    }
    if finding.accepted:
        result["suppressions"] = [{"kind": "external", "status": "accepted", "justification": finding.accepted}]
    return result
