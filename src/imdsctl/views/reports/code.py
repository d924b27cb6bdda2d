"""Findings of a check of code as SARIF 2.1.0, for code scanning, and as JUnit XML, for a build server.

Source: OASIS, "Static Analysis Results Interchange Format (SARIF) Version 2.1.0"; GitHub Docs, "SARIF support for code
scanning" (what it requires beyond that, and its limits).
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from hashlib import sha256
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import orjson

from imdsctl import __version__
from imdsctl.codify.findings import CodeFinding, CodeRule, Fix, Severity
from imdsctl.domain.diagnostics import Diagnostic
from imdsctl.domain.json_text import json_bytes
from imdsctl.domain.shown import shown
from imdsctl.views.reports.sarif import SCHEMA, most_serious, notification

_SCORES = {Severity.ERROR: "7.0", Severity.WARNING: "5.0", Severity.NOTE: "2.0"}
_WORST_FIRST = list(Severity)
_LINE = re.compile(r":\d+")


def code_sarif(
    findings: Sequence[CodeFinding],
    rules: Sequence[CodeRule],
    unread: Sequence[Diagnostic],
    *,
    check: str,
    uri: Callable[[str], str],
    tell: Callable[[Diagnostic], None],
) -> str:
    """One SARIF log with one run, the most serious findings first; `check` names the check in its category.

    `uri` is that of a file. `tell` hears how many findings are left out.
    """
    numbers = {rule.id: number for number, rule in enumerate(rules)}
    driver = {
        "name": "imdsctl",
        "version": __version__,
        "semanticVersion": __version__,
        "rules": list(map(_rule, rules)),
    }
    kept, cut = most_serious(findings, lambda each: _WORST_FIRST.index(each.severity), tell)
    notes = [notification("error", each.code, f"{each.subject or ''}: {each.summary}") for each in unread]
    seen: Counter[str] = Counter()
    run = {
        "tool": {"driver": driver},
        "automationDetails": {"id": f"imdsctl/{check}/"},
        "invocations": [{"executionSuccessful": not unread, "toolExecutionNotifications": [*notes, *cut]}],
        "columnKind": "unicodeCodePoints",
        "results": [_result(each, numbers, uri(each.file), seen) for each in kept],
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json_bytes(log, orjson.OPT_INDENT_2).decode() + "\n"


def _rule(rule: CodeRule) -> dict[str, Any]:
    return {
        "id": f"imdsctl/{rule.id}",
        "name": "".join(word.capitalize() for word in rule.id.split("-")),
        "shortDescription": {"text": rule.title},
        "fullDescription": {"text": rule.why},
        "help": {"text": f"{rule.title}: {rule.why}. The message says where and why; `imdsctl` names what is right."},
        "defaultConfiguration": {"level": str(rule.severity)},
        "properties": {"tags": ["security", "aws", "imds"], "security-severity": _SCORES[rule.severity]},
    }


def _result(finding: CodeFinding, numbers: dict[str, int], uri: str, seen: Counter[str]) -> dict[str, Any]:
    text = f"{finding.message}."
    if finding.remedy:
        text += f" To do: {finding.remedy}."
    if finding.corrected is not None:
        corrected = finding.corrected if isinstance(finding.corrected, str) else json.dumps(finding.corrected)
        text += f" Corrected: {corrected}"
    region = {
        "startLine": finding.line,
        "startColumn": finding.column,
        "endLine": finding.line,
        "endColumn": max(finding.end_column, finding.column + 1),
    }
    result = {
        "ruleId": f"imdsctl/{finding.rule.id}",
        "ruleIndex": numbers[finding.rule.id],
        "level": str(finding.severity),
        "message": {"text": shown(text)},
        "locations": [{"physicalLocation": {"artifactLocation": {"uri": uri}, "region": region}}],
        "partialFingerprints": {"primaryLocationLineHash": _fingerprint(finding, uri, seen)},
    }
    if finding.fix is not None:
        result["fixes"] = [_fix(finding.fix, uri)]
    return result


def _fingerprint(finding: CodeFinding, uri: str, seen: Counter[str]) -> str:
    """What stays the same when lines above it come and go: the rule and what is said, without the numbers of lines."""
    said = "\n".join((uri, finding.rule.id, _LINE.sub("", finding.message)))
    digest = sha256(said.encode("utf-8", "replace")).hexdigest()[:16]
    seen[digest] += 1
    return f"{digest}:{seen[digest]}"


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
