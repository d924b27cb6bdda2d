"""Findings of a check of code as SARIF 2.1.0, for code scanning, and as JUnit XML, for a build server.

Source: OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0".
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

import orjson

from imdsctl import __version__
from imdsctl.codify.findings import CodeFinding, CodeRule, Fix, Severity
from imdsctl.domain.diagnostics import Diagnostic
from imdsctl.domain.shown import shown
from imdsctl.views.reports.sarif import SCHEMA

_SCORES = {Severity.ERROR: "7.0", Severity.WARNING: "5.0", Severity.NOTE: "2.0"}


def code_sarif(
    findings: Sequence[CodeFinding], rules: Sequence[CodeRule], unread: Sequence[Diagnostic], *, check: str
) -> str:
    """One SARIF log with one run; `check` names the check in its id."""
    numbers = {rule.id: number for number, rule in enumerate(rules)}
    driver = {
        "name": "imdsctl",
        "version": __version__,
        "semanticVersion": __version__,
        "rules": list(map(_rule, rules)),
    }
    notes = [
        {
            "level": "error",
            "message": {"text": shown(f"{each.subject or ''}: {each.summary}")},
            "descriptor": {"id": each.code},
        }
        for each in unread
    ]
    run = {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"imdsctl/{check}"},
        "invocations": [{"executionSuccessful": not unread, "toolExecutionNotifications": notes}],
        "columnKind": "unicodeCodePoints",
        "results": [_result(each, numbers) for each in findings],
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return orjson.dumps(log, option=orjson.OPT_INDENT_2).decode() + "\n"


def _rule(rule: CodeRule) -> dict[str, Any]:
    return {
        "id": f"imdsctl/{rule.id}",
        "name": "".join(word.capitalize() for word in rule.id.split("-")),
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.why},
        "defaultConfiguration": {"level": str(rule.severity)},
        "properties": {"tags": ["security", "aws", "imds"], "security-severity": _SCORES[rule.severity]},
    }


def _result(finding: CodeFinding, numbers: dict[str, int]) -> dict[str, Any]:
    text = f"{finding.message}."
    if finding.remedy:
        text += f" To do: {finding.remedy}."
    if finding.corrected is not None:
        corrected = finding.corrected if isinstance(finding.corrected, str) else json.dumps(finding.corrected)
        text += f" Corrected: {corrected}"
    region = {"startLine": finding.line, "startColumn": finding.column}
    uri = quote(finding.file, safe="/:$")
    result = {
        "ruleId": f"imdsctl/{finding.rule.id}",
        "ruleIndex": numbers[finding.rule.id],
        "level": str(finding.severity),
        "message": {"text": shown(text)},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}],
    }
    if finding.fix is not None:
        result["fixes"] = [_fix(finding.fix, uri)]
    return result


def _fix(fix: Fix, uri: str) -> dict[str, Any]:
    region = {"startLine": fix.line, "startColumn": fix.column, "endLine": fix.end_line, "endColumn": fix.end_column}
    replacement = {"deletedRegion": region, "insertedContent": {"text": fix.text}}
    change = {"artifactLocation": {"uri": uri}, "replacements": [replacement]}
    return {"description": {"text": "write it right"}, "artifactChanges": [change]}


def code_junit(
    findings: Sequence[CodeFinding], files: Sequence[str], unread: Sequence[Diagnostic], *, check: str
) -> Iterator[str]:
    """One document: a test case a file, clean ones too; a file that could not be read is an error."""
    by_file: dict[str, list[CodeFinding]] = {name: [] for name in files}
    for each in findings:
        by_file.setdefault(each.file, []).append(each)
    errors = {name: each for each in unread for name in by_file if _is_about(each, name)}
    failures = sum(bool(found) and name not in errors for name, found in by_file.items())
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="imdsctl">\n'
    yield f'<testsuite name={_quoted(check)} tests="{len(by_file)}" failures="{failures}" errors="{len(errors)}">\n'
    for name, found in by_file.items():
        yield f"<testcase classname={_quoted(check)} name={_quoted(name)}>"
        if name in errors:
            yield f"<error message={_quoted(errors[name].summary)}>{escape(shown(errors[name].subject or ''))}</error>"
        elif found:
            lines = (shown(f"{each.line}:{each.column} {each.rule.id}: {each.message}") for each in found)
            yield f"<failure message={_quoted(f'{len(found)} findings')}>{escape(chr(10).join(lines))}</failure>"
        yield "</testcase>\n"
    yield "</testsuite>\n</testsuites>\n"


def _is_about(diagnostic: Diagnostic, name: str) -> bool:
    subject = diagnostic.subject or ""
    return subject == name or subject.startswith(f"{name}:")


def _quoted(text: str) -> str:
    return quoteattr(shown(text))
