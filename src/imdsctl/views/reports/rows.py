"""Findings as CSV, for a spreadsheet, and as JSON, one object a line, for a program."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from itertools import chain
from typing import Any

from imdsctl import __version__
from imdsctl.domain.exposure import Verdict
from imdsctl.domain.findings import SHUT, Finding, evidence_text
from imdsctl.domain.json_text import json_bytes
from imdsctl.domain.observations import AccountUnseen, Target
from imdsctl.domain.report import Report
from imdsctl.domain.shown import shown
from imdsctl.views.json import FORMAT_VERSION, count_json, not_inspectable_json

COLUMNS = (
    "account_id", "account_name", "ou", "region", "kind", "resource", "name", "workload", "verdict", "severity",
    "reason", "use", "evidence", "last_used", "accepted", "next_step", "controls",
)  # fmt: skip


_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20")


def csv_lines(report: Report) -> Iterator[str]:
    """RFC 4180, one finding a line, a header first; at the end, a line each, the places that nobody can look into."""
    names = {account.account_id: account for account in report.coverage.accounts}
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerow(COLUMNS)
    for finding in chain(report.findings(), map(_place, report.coverage.not_inspectable)):
        account = names.get(finding.account_id)
        row = finding_json(finding)
        row["account_name"] = account.name if account else ""
        row["ou"] = account.ou_path if account else ""
        if finding.rule is SHUT:
            row["verdict"] = "not inspectable"
        row["controls"] = " ".join(finding.rule.controls)
        writer.writerow([_cell(row[column]) for column in COLUMNS])
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def _place(each: AccountUnseen) -> Finding:
    target = Target(each.account_id, each.region) if each.region else None
    return Finding(SHUT, target, each.account_id, each.unseen.what, Verdict.UNKNOWN, each.unseen.reason)


def _cell(value: Any) -> str:
    """A cell that a spreadsheet takes for text. A name that begins like a formula would be run by the one who opens the
    file, in full-width letters and behind blanks too (OWASP, "CSV Injection")."""
    text = shown("" if value is None else str(value))
    return f"'{text}" if text.lstrip().startswith(_FORMULA) else text


def json_lines(report: Report) -> Iterator[str]:
    """One object a line: the report's head, then the findings."""
    total = report.coverage.total
    head = {
        "imdsctl_version": __version__,
        "format_version": FORMAT_VERSION,
        "kind": "report",
        "scan_id": report.scan_id,
        "finished": report.finished,
        "made_at": report.made_at,
        "scope": dict(report.scope),
        "redacted": report.redacted,
        "totals": {
            **count_json(total),
            "not_inspectable": len(report.coverage.not_inspectable),
            "by_kind": {k: count_json(c) for k, c in report.coverage.by_kind.items()},
        },
        "not_inspectable": not_inspectable_json(report.coverage.not_inspectable),
        "evidence_taken": report.evidence_taken,
        "look_back_days": report.look_back.days if report.look_back else None,
    }
    yield json_bytes(head).decode() + "\n"
    for finding in report.findings():
        yield json_bytes({"kind": "finding", "id": finding.id, **finding_json(finding)}).decode() + "\n"


def finding_json(finding: Finding) -> dict[str, Any]:
    """A finding as plain values."""
    evidence = finding.evidence
    return {
        "account_id": finding.account_id,
        "region": finding.target.region if finding.target else "",
        "kind": finding.rule.id,
        "resource": finding.resource,
        "name": finding.name,
        "workload": finding.workload,
        "verdict": str(finding.verdict),
        "severity": str(finding.severity),
        "reason": finding.reason,
        "use": str(finding.use) if finding.use else None,
        "evidence": evidence_text(evidence),
        "last_used": evidence.last_used.isoformat() if evidence and evidence.last_used else None,
        "accepted": finding.accepted,
        "next_step": finding.next_step,
    }
