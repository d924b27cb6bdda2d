"""Findings for AWS Security Hub (ASFF) and for a security lake (OCSF).

Sources: Security Hub User Guide, "AWS Security Finding Format (ASFF)", and its API Reference, `BatchImportFindings`
(at most 100 findings a call, each into its own account and Region); OCSF 1.5, "Compliance Finding".
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256
from itertools import chain
from typing import Any

from imdsctl import __version__
from imdsctl.domain.exposure import Verdict
from imdsctl.domain.findings import Finding, Severity, evidence_text, shut
from imdsctl.domain.json_text import json_bytes
from imdsctl.domain.report import Report
from imdsctl.domain.shown import shown

OCSF_VERSION = "1.5.0"
STANDARD = "IMDSv2 required"
DESCRIPTION_CHARACTERS_MAX = 1024
"""Source: ASFF, `Description`."""
ID_CHARACTERS_MAX = 512
"""Source: ASFF, `Id`, and `Id` of `Resources`."""
TITLE_CHARACTERS_MAX = 256
NEXT_STEP_CHARACTERS_MAX = 512
"""Source: ASFF, `Remediation.Recommendation.Text`."""
_ASFF_STATUS = {Verdict.ENFORCED: "PASSED", Verdict.EXPOSED: "FAILED", Verdict.UNKNOWN: "NOT_AVAILABLE"}
_OCSF_STATUS = {Verdict.ENFORCED: (1, "Pass"), Verdict.EXPOSED: (3, "Fail"), Verdict.UNKNOWN: (0, "Unknown")}
_OCSF_SEVERITY = {
    Severity.INFORMATIONAL: (1, "Informational"),
    Severity.LOW: (2, "Low"),
    Severity.MEDIUM: (3, "Medium"),
    Severity.HIGH: (4, "High"),
}
NO_REGION = "us-east-1"
"""Where Security Hub is told of an account that nobody could enter."""


def partition_of(region: str) -> str:
    """The partition of a Region, by its name."""
    return "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"


def arn_of(finding: Finding) -> str:
    """The resource's ARN, or the account's where the resource has none."""
    region = finding.target.region if finding.target else NO_REGION
    place = f"arn:{partition_of(region)}:ec2:{region}:{finding.account_id}"
    match finding.rule.id:
        case "instance":
            return f"{place}:instance/{finding.resource}"
        case "launch-template":
            return f"{place}:launch-template/{finding.resource.partition(':')[0]}"
        case "image":
            return f"arn:{partition_of(region)}:ec2:{region}::image/{finding.resource}"
        case "region-default":
            return f"{place}:instance-metadata-defaults"
    return f"AWS::::Account:{finding.account_id}"


def asff_text(report: Report) -> Iterator[str]:
    """A JSON list of findings; hand them to `BatchImportFindings` a hundred at a time."""
    yield from _json_list(_asff(finding, report.finished) for finding in _all(report))


def _all(report: Report) -> Iterator[Finding]:
    """What was judged, and one finding for each account of what nobody can look into."""
    return chain(report.findings(), shut(report.coverage.not_inspectable))


def _asff(finding: Finding, seen: datetime) -> dict[str, Any]:
    region = finding.target.region if finding.target else NO_REGION
    partition = partition_of(region)
    at = f"{seen:%Y-%m-%dT%H:%M:%SZ}"
    resource: dict[str, Any] = {
        "Type": finding.rule.asff_type,
        "Id": _id(arn_of(finding)),
        "Partition": partition,
        "Region": region,
    }
    out: dict[str, Any] = {
        "SchemaVersion": "2018-10-08",
        "Id": _id(finding.id),
        "ProductArn": f"arn:{partition}:securityhub:{region}:{finding.account_id}:product/{finding.account_id}/default",
        "ProductName": "imdsctl",
        "CompanyName": "imdsctl",
        "GeneratorId": f"imdsctl/{finding.rule.id}",
        "AwsAccountId": finding.account_id,
        "Region": region,
        "Types": ["Software and Configuration Checks/AWS Security Best Practices"],
        "FirstObservedAt": at,
        "LastObservedAt": at,
        "CreatedAt": at,
        "UpdatedAt": at,
        "Severity": {"Label": str(finding.severity)},
        "Title": finding.rule.title[:TITLE_CHARACTERS_MAX],
        "Description": _description(finding)[:DESCRIPTION_CHARACTERS_MAX],
        "Remediation": {"Recommendation": {"Text": shown(finding.next_step)[:NEXT_STEP_CHARACTERS_MAX]}},
        "Resources": [resource],
        "Compliance": {"Status": _ASFF_STATUS[finding.verdict]},
        "Workflow": {"Status": "SUPPRESSED" if finding.accepted else "NEW"},
        "RecordState": "ACTIVE",
    }
    if finding.rule.controls:
        out["Compliance"]["RelatedRequirements"] = [f"Security Hub {control}" for control in finding.rule.controls]
    return out


def _id(text: str) -> str:
    """An id that Security Hub takes, the same for the same text."""
    text = shown(text)
    if len(text) <= ID_CHARACTERS_MAX:
        return text
    digest = sha256(text.encode()).hexdigest()
    return f"{text[: ID_CHARACTERS_MAX - len(digest) - 1]}~{digest}"


def ocsf_text(report: Report) -> Iterator[str]:
    """A JSON list of OCSF Compliance Findings (class 2003)."""
    names = {account.account_id: account.name for account in report.coverage.accounts}
    yield from _json_list(
        _ocsf(finding, report.finished, names.get(finding.account_id, "")) for finding in _all(report)
    )


def _ocsf(finding: Finding, seen: datetime, account_name: str) -> dict[str, Any]:
    region = finding.target.region if finding.target else ""
    severity_id, severity = _OCSF_SEVERITY[finding.severity]
    status_id, status = _OCSF_STATUS[finding.verdict]
    milliseconds = round(seen.timestamp() * 1000)
    return {
        "activity_id": 1,
        "activity_name": "Create",
        "category_name": "Findings",
        "category_uid": 2,
        "class_name": "Compliance Finding",
        "class_uid": 2003,
        "type_uid": 200301,
        "type_name": "Compliance Finding: Create",
        "time": milliseconds,
        "message": _description(finding),
        "severity_id": severity_id,
        "severity": severity,
        "status_id": 3 if finding.accepted else 1,
        "status": "Suppressed" if finding.accepted else "New",
        "metadata": {
            "version": OCSF_VERSION,
            "product": {"name": "imdsctl", "vendor_name": "imdsctl", "version": __version__},
            "profiles": ["cloud"],
        },
        "cloud": {
            "provider": "AWS",
            "region": region,
            "account": {"uid": finding.account_id, "name": shown(account_name), "type": "AWS Account", "type_id": 10},
        },
        "finding_info": {
            "uid": shown(finding.id),
            "title": finding.rule.title,
            "desc": finding.rule.why,
            "created_time": milliseconds,
            "types": ["Software and Configuration Checks"],
        },
        "compliance": {
            "control": finding.rule.controls[0] if finding.rule.controls else f"imdsctl/{finding.rule.id}",
            "standards": [STANDARD],
            "requirements": [f"Security Hub {control}" for control in finding.rule.controls],
            "status_id": status_id,
            "status": status,
        },
        "remediation": {"desc": shown(finding.next_step)},
        "resources": [
            {
                "uid": shown(arn_of(finding)),
                "name": shown(finding.name or finding.resource),
                "type": finding.rule.noun,
                "region": region,
                "cloud_partition": partition_of(region),
            }
        ],
    }


def _description(finding: Finding) -> str:
    parts = [f"{finding.rule.why} {finding.resource}: {finding.reason}."]
    if finding.evidence is not None:
        parts.append(f"Evidence: {evidence_text(finding.evidence)}.")
    return shown(" ".join(parts))


def _json_list(values: Iterator[dict[str, Any]]) -> Iterator[str]:
    separator = "[\n"
    for value in values:
        yield separator + json_bytes(value).decode()
        separator = ",\n"
    yield "[]\n" if separator == "[\n" else "\n]\n"
