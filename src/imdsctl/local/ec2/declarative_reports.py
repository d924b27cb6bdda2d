"""EC2's account status report of declarative policies: started, described, cancelled, summarised.

Source: EC2 API Reference, the four pages; Organizations User Guide, "Generating the account status report". For the
management account and EC2's delegated administrators; one report at a time. There is no S3 here: the summary is all
there is to read.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from imdsctl.local.call import AwsError, Call, Operation
from imdsctl.local.ec2.common import aws_tags, tag_specifications
from imdsctl.local.ec2.errors import invalid_value, missing, refuse
from imdsctl.local.ec2.pages import page
from imdsctl.local.organizations.reports import COMPLETE, RUNNING, Covered, Report

SERVICE = "ec2.amazonaws.com"
RESOURCE_TYPE = "declarative-policies-report"


def start_report(call: Call) -> dict[str, Any]:
    """Start a report on a root, a unit or an account.

    Raises OperationNotPermitted for other accounts and without trusted access, IncorrectState while another report
    runs, MissingParameter, InvalidParameterValue.
    """
    _only_administrators(call)
    world, params = call.world, call.params
    organizations = world.organizations
    if SERVICE not in organizations.services:
        raise refuse("OperationNotPermitted", f"Trusted access for {SERVICE} is not enabled in the organization.")
    for name in ("S3Bucket", "TargetId"):
        if not params.get(name):
            raise missing(name)
    target = params["TargetId"]
    if not organizations.is_target(target):
        raise invalid_value(f"Value ({target}) for parameter TargetId is invalid. The target does not exist.")
    tags = tag_specifications(params.get("TagSpecifications"), (RESOURCE_TYPE,)).get(RESOURCE_TYPE, {})
    if any(each.status(call.now) == RUNNING for each in organizations.reports.values()):
        raise refuse("IncorrectState", "Only one report per organization can be generated at a time.")
    accounts = organizations.accounts_under(target)
    covered = {
        account.id: Covered(
            tuple(world.enabled_regions(account.id, call.now)), world.effective_declarative_policy(account.id)
        )
        for account in accounts.values()
        if account.state == "ACTIVE"
    }
    report = Report(
        id=f"p-{call.ids.hex17()}",
        region=call.region,
        bucket=params["S3Bucket"],
        prefix=params.get("S3Prefix"),
        target=target,
        tags=tags,
        started=call.now,
        ended=call.now + timedelta(seconds=world.settle_seconds),
        accounts=covered,
        failed=len(accounts) - len(covered),
        touched={
            (account_id, region): state.own_defaults
            for account_id, region, state in world.touched()
            if account_id in covered
        },
    )
    organizations.reports[report.id] = report
    return {"ReportId": report.id}


def describe_reports(call: Call) -> dict[str, Any]:
    """The reports of this Region. Raises OperationNotPermitted, and as `page`."""
    _only_administrators(call)
    reports = [each for each in call.world.organizations.reports.values() if each.region == call.region]
    if call.params.get("ReportIds"):
        reports = [_report(call, each) for each in call.params["ReportIds"]]
    reports.sort(key=lambda report: report.id)
    found, after = page(reports, lambda report: report.id, call.params, "declarative-policies-reports", least=1)
    listed = [{**_written(each), "Status": each.status(call.now), "Tags": aws_tags(each.tags)} for each in found]
    for each, written in zip(found, listed, strict=True):
        if each.status(call.now) == RUNNING:
            del written["EndTime"]
    return {"Reports": listed, "NextToken": after} if after else {"Reports": listed}


def cancel_report(call: Call) -> dict[str, Any]:
    """Cancel a report that is running. Raises OperationNotPermitted, MissingParameter, IncorrectState."""
    _only_administrators(call)
    report = _report(call, call.params.get("ReportId"))
    if report.status(call.now) != RUNNING:
        raise _not_in(report, call, RUNNING)
    report.cancelled = report.ended = call.now
    return {"Return": True}


def report_summary(call: Call) -> dict[str, Any]:
    """What a complete report says. Raises OperationNotPermitted, MissingParameter, IncorrectState."""
    _only_administrators(call)
    report = _report(call, call.params.get("ReportId"))
    if report.status(call.now) != COMPLETE:
        raise _not_in(report, call, COMPLETE)
    return {
        **_written(report),
        "NumberOfAccounts": len(report.accounts) + report.failed,
        "NumberOfFailedAccounts": report.failed,
        "AttributeSummaries": report.summaries(call.world.first_defaults),
    }


def _only_administrators(call: Call) -> None:
    if not call.world.organizations.administers(call.account_id, SERVICE):
        raise refuse(
            "OperationNotPermitted",
            "Only the management account or a delegated administrator of the organization can use account status "
            "reports.",
        )


def _report(call: Call, report_id: str | None) -> Report:
    if not report_id:
        raise missing("ReportId")
    report = call.world.organizations.reports.get(report_id)
    if report is None or report.region != call.region:
        raise refuse("InvalidReportId.NotFound", f"The report ID '{report_id}' does not exist")
    return report


def _not_in(report: Report, call: Call, wanted: str) -> AwsError:
    return refuse(
        "IncorrectState", f"The report '{report.id}' is '{report.status(call.now)}'; it must be '{wanted}' for this."
    )


def _written(report: Report) -> dict[str, Any]:
    written = {
        "ReportId": report.id,
        "S3Bucket": report.bucket,
        "TargetId": report.target,
        "StartTime": report.started,
        "EndTime": report.ended,
    }
    return {**written, "S3Prefix": report.prefix} if report.prefix else written


OPERATIONS = {
    "StartDeclarativePoliciesReport": Operation(start_report, writes=True),
    "DescribeDeclarativePoliciesReports": Operation(describe_reports),
    "CancelDeclarativePoliciesReport": Operation(cancel_report, writes=True),
    "GetDeclarativePoliciesReportSummary": Operation(report_summary),
}
