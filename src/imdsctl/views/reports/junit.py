"""A scan as JUnit XML, for a build server: a test suite an account, a test case for each kind of thing in each Region.

Every case that was looked at is there, so that a green build says what it has seen. What could not be seen is an error,
and so is a scan that saw nothing. What nobody can look into is skipped, a case an account: half of AWS's Regions are
not enabled in most.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from xml.sax.saxutils import escape, quoteattr

from imdsctl.domain.exposure import Verdict
from imdsctl.domain.findings import SHUT, Finding, evidence_text, shut
from imdsctl.domain.report import Report
from imdsctl.domain.shown import shown
from imdsctl.domain.verdicts import NOTHING_SEEN

LINES_PER_CASE_MAX = 200
"""Resources named in one failing case before the rest is only counted."""


def junit_text(report: Report) -> Iterator[str]:
    """One document, an account at a time. `report.findings` has to hold what is enforced as well."""
    names = {account.account_id: account.name for account in report.coverage.accounts}
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<testsuites name="imdsctl">\n'
    skipped = {each.account_id: [each] for each in shut(report.coverage.not_inspectable)}
    if report.coverage.nothing_seen:
        yield '<testsuite name="scan" tests="1" failures="0" errors="1" skipped="0">\n'
        yield f'<testcase classname="scan" name="anything"><error message={_quoted(NOTHING_SEEN)}/></testcase>\n'
        yield "</testsuite>\n"
    for account_id, found in groupby(_by_account(report), key=lambda finding: finding.account_id):
        yield from _suite(account_id, names.get(account_id, ""), [*found, *skipped.pop(account_id, ())])
    for account_id, left in skipped.items():
        yield from _suite(account_id, names.get(account_id, ""), left)
    yield "</testsuites>\n"


def _by_account(report: Report) -> Iterator[Finding]:
    # What is said of accounts as a whole comes first in a scan; its Regions follow by account.
    early: dict[str, list[Finding]] = {}
    seen: set[str] = set()
    held = False
    for finding in report.findings():
        if not held and finding.rule.id == "unseen":
            early.setdefault(finding.account_id, []).append(finding)
            continue
        held = True
        if finding.account_id not in seen:
            seen.add(finding.account_id)
            yield from early.pop(finding.account_id, ())
        yield finding
    for findings in early.values():
        yield from findings


def _suite(account_id: str, name: str, found: list[Finding]) -> Iterator[str]:
    cases: dict[tuple[str, str], list[Finding]] = {}
    for finding in found:
        region = finding.target.region if finding.target else "account"
        cases.setdefault((region, finding.rule.noun), []).append(finding)
    failed = sum(_fails(case) for case in cases.values())
    unknown = sum(_is_unknown(case) for case in cases.values())
    label = f"{account_id} {shown(name)}".strip()
    skipped = sum(map(_is_shut, cases.values()))
    counts = f'tests="{len(cases)}" failures="{failed}" errors="{unknown}" skipped="{skipped}"'
    yield f"<testsuite name={_quoted(label)} {counts}>\n"
    for (region, noun), case in cases.items():
        yield f"<testcase classname={_quoted(f'{account_id}.{region}')} name={_quoted(noun)}>"
        bad = [each for each in case if each.verdict is not Verdict.ENFORCED and not each.accepted]
        if _is_shut(case):
            yield f"<skipped message={_quoted(case[0].reason)}/>"
        elif _fails(case):
            exposed = sum(each.verdict is Verdict.EXPOSED for each in bad)
            yield f"<failure message={_quoted(f'{exposed} of {len(case)} allow IMDSv1')}>{_lines(bad)}</failure>"
        elif _is_unknown(case):
            yield f"<error message={_quoted(f'{len(bad)} could not be judged')}>{_lines(bad)}</error>"
        yield "</testcase>\n"
    yield "</testsuite>\n"


def _is_shut(case: list[Finding]) -> bool:
    return case[0].rule is SHUT


def _fails(case: list[Finding]) -> bool:
    return any(each.verdict is Verdict.EXPOSED and not each.accepted for each in case)


def _is_unknown(case: list[Finding]) -> bool:
    return (
        not _fails(case)
        and not _is_shut(case)
        and any(each.verdict is Verdict.UNKNOWN and not each.accepted for each in case)
    )


def _lines(bad: list[Finding]) -> str:
    lines = []
    for finding in bad[:LINES_PER_CASE_MAX]:
        name = f" ({finding.name})" if finding.name else ""
        seen = f"; {evidence_text(finding.evidence)}" if finding.evidence else ""
        lines.append(shown(f"{finding.resource}{name}: {finding.reason}{seen}"))
    if len(bad) > LINES_PER_CASE_MAX:
        lines.append(f"and {len(bad) - LINES_PER_CASE_MAX} more")
    return escape("\n".join(lines))


def _quoted(text: str) -> str:
    return quoteattr(shown(text))
