"""Reports, read by others: Security Hub's model, OCSF's, a JUnit parser, a CSV reader, an XML and an HTML parser."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from html import escape
from html.parser import HTMLParser
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator
from junitparser import JUnitXml
from py_ocsf_models.events.findings.compliance_finding import ComplianceFinding
from tests.sarif_rules import breaches
from tests.unit.views.named_scan import ids_in, named_evidence, named_scan

from imdsctl.domain.coverage import Cell, Coverage, TrendPoint, coverage_of
from imdsctl.domain.diagnostics import Diagnostic
from imdsctl.domain.evidence import Evidence, InstanceEvidence
from imdsctl.domain.exposure import Verdict
from imdsctl.domain.findings import RULES, findings
from imdsctl.domain.history import Kind, ScanRecord
from imdsctl.domain.observations import (
    Account,
    AccountUnseen,
    GroupSeen,
    ImageSeen,
    InstanceSeen,
    RegionSeen,
    Scan,
    Target,
    TemplateVersionSeen,
    Unseen,
)
from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions, Switch
from imdsctl.domain.redaction import Redactor
from imdsctl.domain.report import Report, redacted
from imdsctl.domain.verdicts import Count
from imdsctl.views.history import history_text
from imdsctl.views.reports.cloud import asff_text, ocsf_text
from imdsctl.views.reports.html import html_text
from imdsctl.views.reports.junit import junit_text
from imdsctl.views.reports.rows import csv_lines, json_lines
from imdsctl.views.reports.sarif import RESULTS_MAX, sarif_text

NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
SHOP, BANK, GONE = "111111111111", "222222222222", "333333333333"
V1 = MetadataOptions(HttpTokens.OPTIONAL, 1, Switch.ENABLED)
V2 = MetadataOptions(HttpTokens.REQUIRED, 2, Switch.ENABLED)
SCRIPT = "<script>alert('x')</script>\n\x1b[2J\u202e"


def instance(name: str, options: MetadataOptions = V1, **tags: str) -> InstanceSeen:
    return InstanceSeen(
        f"i-{name}", "running", options, tags=tuple((key.replace("__", ":"), value) for key, value in tags.items())
    )


SCAN = Scan(
    scan_id="s1",
    started=NOON,
    finished=NOON,
    accounts=(
        Account(SHOP, "shop-prod", ou_path="Root/Prod"),
        Account(BANK, SCRIPT, ou_path="Root/Dev"),
        Account(GONE, "closed", state="SUSPENDED", ou_path="Root"),
    ),
    regions=(
        RegionSeen(
            Target(SHOP, "eu-west-1"),
            AccountDefaults(),
            instances=(
                instance("0a1", Name="=HYPERLINK(1)", aws__autoscaling__groupName="web"),
                instance("0a2", aws__autoscaling__groupName="web"),
                instance("0a3", V2),
            ),
            templates=(TemplateVersionSeen("lt-0b1", "web", 3, True, True, V1),),
            images=(ImageSeen("ami-0c1", "golden", owned=True),),
        ),
        RegionSeen(
            Target(BANK, "eu-west-1"),
            AccountDefaults(http_tokens=HttpTokens.REQUIRED, http_tokens_enforced=Switch.ENABLED),
            instances=(instance("0d1", Name=SCRIPT),),
            unseen=(Unseen("images", f"not authorized: arn:aws:iam::{BANK}:role/x {SCRIPT}", "AccessDenied"),),
        ),
        RegionSeen(Target(BANK, "us-east-1"), AccountDefaults(http_tokens_enforced=Switch.ENABLED)),
    ),
    unseen=(AccountUnseen(GONE, None, Unseen("account", "it is SUSPENDED", "AccountNotActive")),),
    scope=(("ou", "Root"),),
)
EVIDENCE = Evidence(
    "s1",
    NOON,
    timedelta(days=14),
    {
        (Target(SHOP, "eu-west-1"), "i-0a1"): InstanceEvidence(
            Target(SHOP, "eu-west-1"), "i-0a1", no_token=1234.0, last_used=NOON - timedelta(hours=2)
        ),
        (Target(SHOP, "eu-west-1"), "i-0a2"): InstanceEvidence(Target(SHOP, "eu-west-1"), "i-0a2", no_token=0.0),
    },
)


def make(*, enforced: bool = False, evidence: Evidence | None = EVIDENCE, scan: Scan = SCAN) -> Report:
    return Report(
        scan_id=scan.scan_id,
        finished=NOON,
        made_at=NOON,
        coverage=coverage_of(scan),
        findings=partial(findings, scan, evidence, enforced=enforced),
        scope=scan.scope,
        trend=(TrendPoint(NOON - timedelta(days=7), Count(1, 9)), TrendPoint(NOON, Count(6, 4))),
        evidence_taken=evidence.taken if evidence else None,
        look_back=evidence.look_back if evidence else None,
    )


Write = Callable[[Report], Iterator[str]]
TOLD: list[Diagnostic] = []


def sarif(report: Report) -> Iterator[str]:
    TOLD.clear()
    return sarif_text(report, TOLD.append)


FORMATS: tuple[Write, ...] = (html_text, csv_lines, json_lines, sarif, ocsf_text, asff_text, junit_text)


def text(write: Write, report: Report) -> str:
    return "".join(write(report))


def test_every_finding_has_its_evidence_and_the_next_step() -> None:
    found = {finding.resource: finding for finding in make().findings()}
    assert found["i-0a1"].use == "used"
    assert "imdsctl trace" in found["i-0a1"].next_step
    assert found["i-0a2"].use == "unused"
    assert "imdsctl plan" in found["i-0a2"].next_step
    assert found["i-0d1"].use == "unknown"
    assert "i-0a3" not in found  # it is enforced
    assert found["images"].verdict is Verdict.UNKNOWN


def test_security_hub_takes_the_findings() -> None:
    """The model of BatchImportFindings is the judge."""
    found = json.loads(text(asff_text, make(enforced=True)))
    model = botocore.session.Session().get_service_model("securityhub")
    shape = model.operation_model("BatchImportFindings").input_shape
    problems = ParamValidator().validate({"Findings": found}, shape)
    assert not problems.has_errors(), problems.generate_report()
    by_id = {each["Id"]: each for each in found}
    exposed = by_id[f"{SHOP}/eu-west-1/instance/i-0a1"]
    assert exposed["Resources"][0]["Id"] == f"arn:aws:ec2:eu-west-1:{SHOP}:instance/i-0a1"
    assert exposed["Compliance"] == {"Status": "FAILED", "RelatedRequirements": ["Security Hub EC2.8"]}
    assert exposed["Severity"]["Label"] == "HIGH"
    assert by_id[f"{SHOP}/eu-west-1/instance/i-0a3"]["Compliance"]["Status"] == "PASSED"
    assert by_id[f"{BANK}/eu-west-1/unseen/images"]["Compliance"]["Status"] == "NOT_AVAILABLE"


def test_a_security_lake_takes_the_findings() -> None:
    """Prowler's models of OCSF are the judge."""
    found = json.loads(text(ocsf_text, make(enforced=True)))
    parsed = [ComplianceFinding.model_validate(each) for each in found]
    assert len(parsed) == len(list(make(enforced=True).findings())) + 1, "and the account that nobody can enter"
    statuses = {each.finding_info.uid.rpartition("/")[2]: each.compliance.status_id.name for each in parsed}
    assert (statuses["i-0a1"], statuses["i-0a3"], statuses["images"]) == ("Fail", "Pass", "Unknown")
    assert all(each.class_uid == 2003 and each.type_uid == 200301 for each in parsed)


def test_a_build_server_reads_a_case_for_everything_that_was_looked_at() -> None:
    suites = JUnitXml.fromstring(text(junit_text, make(enforced=True)).encode())
    by_name = {suite.name.split()[0]: suite for suite in suites}
    assert {name: (each.tests, each.failures, each.errors, each.skipped) for name, each in by_name.items()} == {
        SHOP: (4, 4, 0, 0),
        BANK: (4, 1, 1, 0),
        GONE: (1, 0, 0, 1),
    }
    [failed] = [case for case in by_name[SHOP] if case.name == "instance"]
    assert failed.result[0].message == "2 of 3 allow IMDSv1"
    assert "1,234 IMDSv1 calls" in failed.result[0].text


def test_a_code_scanner_reads_rules_and_results() -> None:
    log = json.loads(text(sarif, make()))
    assert breaches(log) == []
    [run] = log["runs"]
    rules = run["tool"]["driver"]["rules"]
    assert [rule["id"] for rule in rules] == [f"imdsctl/{rule.id}" for rule in RULES]
    for result in run["results"]:
        assert rules[result["ruleIndex"]]["id"] == result["ruleId"]
        assert result["message"]["text"]
        assert result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].startswith("aws/")
        assert (result["level"] == "none") == (result["kind"] != "fail")
    assert len({result["partialFingerprints"]["imdsctl/v1"] for result in run["results"]}) == len(run["results"])


def test_more_results_than_code_scanning_takes_are_cut_from_the_end_and_said() -> None:
    """GitHub refuses a file with more than 25,000 results in a run, whole."""
    home = Target(SHOP, "eu-west-1")
    many = tuple(instance(f"0{number:05x}") for number in range(RESULTS_MAX))
    region = RegionSeen(home, AccountDefaults(), instances=many, unseen=(Unseen("images", "no", "AccessDenied"),))
    last = many[-1].instance_id
    used = replace(EVIDENCE, instances={(home, last): InstanceEvidence(home, last, no_token=1.0)})
    log = json.loads(text(sarif, make(scan=replace(SCAN, regions=(region,)), evidence=used)))
    assert breaches(log) == []
    [run] = log["runs"]
    [said, _] = run["invocations"][0]["toolExecutionNotifications"]
    assert "2 of 25,002 findings are not in the SARIF log" in said["message"]["text"]
    assert [(each.code, each.summary) for each in TOLD] == [("results-left-out", said["message"]["text"])]
    results = run["results"]
    assert len(results) == RESULTS_MAX
    assert results[0]["partialFingerprints"]["imdsctl/v1"].endswith(last), "what uses IMDSv1 comes first"
    assert {each["ruleId"] for each in results} == {"imdsctl/instance"}, "the Region default and the unknown come last"


def test_fewer_results_are_all_there_and_nothing_is_said() -> None:
    log = json.loads(text(sarif, make(enforced=True)))
    assert len(log["runs"][0]["results"]) == len(list(make(enforced=True).findings()))
    assert TOLD == []


@pytest.mark.parametrize(
    "name", ["=1+1", "+1", "-1", "@SUM(1)", "\t=1", "\r=1", " =1", "\u00a0=1", "\uff1d1", "\uff0b1"]
)
def test_a_spreadsheet_takes_no_name_for_a_formula(name: str) -> None:
    region = replace(next(iter(SCAN.regions)), groups=(GroupSeen(name),), instances=(instance("0a1", Name=name),))
    scan = replace(SCAN, accounts=(Account(SHOP, name, ou_path=name),), regions=(region,), unseen=())
    rows = csv.reader(io.StringIO(text(csv_lines, make(scan=scan)), newline=""))
    # A tab at the start is spelt out: what begins with a backslash is no formula.
    assert all(cell.lstrip()[:1] not in tuple("=+-@\uff1d\uff0b") for row in rows for cell in row if cell)


def test_a_spreadsheet_runs_nothing() -> None:
    rows = list(csv.DictReader(io.StringIO(text(csv_lines, make()), newline="")))
    named = {row["resource"]: row for row in rows}
    assert named["i-0a1"]["name"] == "'=HYPERLINK(1)"
    assert named["i-0a1"]["evidence"].startswith("1,234 IMDSv1 calls")
    assert len(rows) == len(list(make().findings())) + 1, "and the account that nobody can enter"


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def test_the_page_runs_and_loads_nothing_whatever_a_name_says() -> None:
    page = Page()
    page.feed(text(html_text, make()))
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "iframe", "object", "embed", "link", "img", "form", "base"}
    assert not any(key.startswith("on") or key in ("src", "href") for _, attributes in page.tags for key in attributes)
    policies = [attributes for tag, attributes in page.tags if attributes.get("http-equiv")]
    assert policies == [
        {"http-equiv": "Content-Security-Policy", "content": "default-src 'none'; style-src 'unsafe-inline'"}
    ]
    said = "".join(page.said)
    assert "<script>alert('x')</script>\\u000a\\u001b[2J\\u202e" in said  # there to be read, and no more
    assert "1 of 2 use IMDSv1; i-0a1: 1,234 IMDSv1 calls, the last on 2026-11-26" in said
    assert "Share enforced over time" in str(page.tags)


HOSTILE = {
    "escape sequences": "\x1b[2J\x1b]0;owned\x07",
    "C1 controls": "a\x9b31m\x85b",
    "directions": "a\u202eb\u2066c",
    "lines": "a\nb\r\nc\u2028d",
    "HTML": "<img src=x onerror=alert(1)>\"'&",
    "CDATA": "]]><x/>&amp;<!--",
    "what is no character": "a\ufffe\uffffb\0",
    "lone surrogates": "a\ud800b\udfff",
    "backticks": "a`b`c`",
    "a formula": "=cmd|' /C calc'!A0",
    "ten thousand characters": "x" * 10_000,
}


def named(name: Callable[[str], str], **accepted: str) -> Report:
    scan, evidence = named_scan(name), named_evidence(name)
    register = (lambda *_: accepted["accepted"]) if accepted else None
    report = make(scan=scan, evidence=evidence)
    return replace(report, findings=partial(findings, scan, evidence, enforced=True, accepts=register))


def parse(write: Write, written: str) -> None:
    """Whoever reads such a report reads it whole, and finds no markup of somebody else's in it."""
    if write is html_text:
        page = Page()
        page.feed(written)
        assert not {"img", "x", "script"} & {tag for tag, _ in page.tags}
    elif write is junit_text:
        JUnitXml.fromstring(written.encode())
        assert "<x/>" not in written
    elif write is csv_lines:
        assert {len(row) for row in csv.reader(io.StringIO(written, newline=""))} == {17}
    elif write is json_lines:
        assert all(json.loads(line) for line in written.removesuffix("\n").split("\n"))
    else:
        found = json.loads(written)
        if write is sarif:
            assert breaches(found) == []
        if write is asff_text:
            longest = max(len(each["Id"]) for each in found)
            assert longest <= 512, "Security Hub refuses longer ones"
            assert len({each["Id"] for each in found}) == len(found)


@pytest.mark.parametrize("text_of_theirs", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("write", FORMATS)
def test_nothing_hostile_reaches_any_format_raw(write: Write, text_of_theirs: str) -> None:
    report = named(lambda kind: f"{kind} {text_of_theirs}", accepted=f"{text_of_theirs}, until tomorrow")
    for each in (report, replace(report, findings=named(lambda kind: f"{kind}{text_of_theirs}").findings)):
        written = text(write, each)
        written.encode()
        parse(write, written)
        # JSON for programs keeps the text as it is; a terminal gets it through `cli.terminal`.
        hostile = "\x1b\0\x07\ud800\udfff" if write is json_lines else "\x1b\x9b\x85\0\u202e\u2066\u2028\ud800\ufffe"
        assert not set(hostile) & set(written)


@pytest.mark.parametrize("write", FORMATS)
@pytest.mark.parametrize("space", [" ", "-", "`"])
def test_a_redacted_report_tells_nobody_whose_it_is(write: Write, space: str) -> None:
    """Not by a name or an id of any kind, in any column, nor in what AWS said."""

    def secret(kind: str) -> str:
        return f"hush{space}{kind.replace(' ', space)}{space}hush"

    for report in (named(secret), named(secret, accepted="hush, until tomorrow")):
        written = text(write, redacted(report, Redactor(report.coverage.accounts, b"k" * 32)))
        assert "hush" not in written, written[written.index("hush") - 80 : written.index("hush") + 80]
        assert not ids_in(written)
        assert "eu-west-1" in written
        parse(write, written)
        if write not in (html_text, junit_text):
            assert written.count("\n") == text(write, report).count("\n"), "nothing is left out"


def test_what_a_scan_left_out_is_said_and_is_no_secret() -> None:
    report = make(scan=replace(SCAN, scope=(("ou", "Root"), ("no-services", "yes"))))
    assert "; limited to ou Root, no-services" in text(html_text, report)
    assert "; limited to ou (hidden), no-services;" in text(
        html_text, redacted(report, Redactor(report.coverage.accounts, b"k" * 32))
    )


def test_what_a_redacted_report_says_of_one_thing_it_says_of_the_same_everywhere() -> None:
    report = named(lambda kind: kind.replace(" ", "-"))
    redactor = Redactor(report.coverage.accounts, b"k" * 32)
    found = {before.resource: redactor.finding(before) for before in report.findings()}
    assert found["i-0abc2222"].workload == f"Auto Scaling group {redactor.resource('group')}"
    assert found["group-two"].reason == f"launch template {redactor.resource('lost-template')} version 7 was not seen"
    assert found["instance i-0abc7777"].resource == f"instance {redactor.resource('i-0abc7777')}"
    assert found["template tags"].resource == "template tags"
    assert found["images"].reason == "(hidden)"
    assert found["images"].name == "AccessDenied"


def test_pseudonyms_hold_within_a_report_and_differ_between_two() -> None:
    first, again, other = (
        list(redacted(make(), Redactor(SCAN.accounts, key)).findings()) for key in (b"1" * 32, b"1" * 32, b"2" * 32)
    )
    assert first == again
    assert {each.resource for each in first}.isdisjoint(
        each.resource for each in other if each.rule.id not in ("unseen", "region-default")
    )
    ids = [each.id for each in first]
    assert len(set(ids)) == len(ids)


def test_coverage_adds_up_and_what_nobody_can_see_is_not_clean() -> None:
    coverage = coverage_of(SCAN)
    assert coverage.total == Count(enforced=3, exposed=6, unknown=1)
    assert coverage.cells[BANK, "us-east-1"].share == 1
    assert coverage.cells[GONE, ""].share is None
    assert not coverage.cells[GONE, ""].inspectable
    units = coverage.by_unit()
    assert units["Root"].count == units["Root/Prod"].count + units["Root/Dev"].count
    assert coverage.by_region()["eu-west-1"].count.exposed == 6


def test_an_account_that_refused_counts_as_unknown() -> None:
    refused = AccountUnseen("444444444444", None, Unseen("account", "AccessDenied", "AccessDenied"))
    scan = replace(SCAN, accounts=(*SCAN.accounts, Account("444444444444", "x")), unseen=(*SCAN.unseen, refused))
    assert coverage_of(scan).total.unknown == 2
    assert any(finding.account_id == "444444444444" for finding in findings(scan))


def test_a_registered_exception_is_accepted_not_exposed() -> None:
    def accepts(target: Target, resource: str, tags: tuple[tuple[str, str], ...]) -> str:
        return "team web, until 2027-01-31" if ("aws:autoscaling:groupName", "web") in tags else ""

    found = {each.resource: each for each in findings(SCAN, EVIDENCE, accepts=accepts)}
    assert found["i-0a1"].severity == "INFORMATIONAL"
    assert found["i-0a1"].next_step == "Accepted: team web, until 2027-01-31."
    assert found["lt-0b1:3"].severity == "MEDIUM"


@pytest.mark.parametrize(
    ("enforced", "said"),
    [(0, "0 %"), (1, "<1 %"), (479, "48 %"), (998, ">99 %"), (999, ">99 %"), (1000, "100 %")],
)
def test_a_hundred_percent_are_all_and_history_says_the_same_as_the_page(enforced: int, said: str) -> None:
    count = Count(enforced=enforced, exposed=1000 - enforced)
    record = ScanRecord("s1", NOON, NOON, (), 1, 1, 0, {Kind.INSTANCES: count})
    assert f" {said} " in history_text([record], limit=1)
    coverage = Coverage((Account(SHOP, "shop"),), ("eu-west-1",), {(SHOP, "eu-west-1"): Cell(count)}, {"x": count})
    page = text(html_text, replace(make(), coverage=coverage, findings=tuple))
    assert f'aria-label="enforced share">{escape(said)}<' in page
    assert f">{escape(said.removesuffix(' %'))}</td>" in page, "the heat map too"


CAPE, HONG_KONG = "af-south-1", "ap-east-1"
OFF = Unseen("Region", "the account has not enabled this Region", "RegionNotEnabled")
CLOSED_PLACES = (
    *SCAN.unseen,
    *(AccountUnseen(account_id, region, OFF) for account_id in (SHOP, BANK) for region in (CAPE, HONG_KONG)),
)


def not_inspectable_of(write: Write, report: Report) -> Any:
    """How a format tells what nobody can look into: by account, as far as it goes."""
    written = text(write, report)
    parse(write, written)
    if write is csv_lines:
        rows = csv.DictReader(io.StringIO(written, newline=""))
        return [(row["account_id"], row["region"]) for row in rows if row["verdict"] == "not inspectable"]
    if write is json_lines:
        head = json.loads(written.partition("\n")[0])
        assert head["totals"]["not_inspectable"] == len(head["not_inspectable"])
        return [(each["account_id"], each["region"] or "") for each in head["not_inspectable"]]
    if write is sarif:
        notes = json.loads(written)["runs"][0]["invocations"][0]["toolExecutionNotifications"]
        return [each["message"]["text"] for each in notes if each["descriptor"]["id"] == "not-inspectable"]
    if write is junit_text:
        cases = [(suite.name.split()[0], case) for suite in JUnitXml.fromstring(written.encode()) for case in suite]
        return [(name, case.result[0].message) for name, case in cases if case.is_skipped]
    if write is html_text:
        page = Page()
        page.feed(written)
        return [said for said in page.said if "not enabled: " in said or "it is SUSPENDED" in said]
    found = [each for each in json.loads(written) if "not-inspectable" in json.dumps(each)]
    if write is asff_text:
        assert {(each["Compliance"]["Status"], each["Severity"]["Label"]) for each in found} == {
            ("NOT_AVAILABLE", "INFORMATIONAL")
        }
        return [each["AwsAccountId"] for each in found]
    assert {(each["compliance"]["status"], each["severity"]) for each in found} == {("Unknown", "Informational")}
    return [each["cloud"]["account"]["uid"] for each in found]


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (csv_lines, [(each.account_id, each.region or "") for each in CLOSED_PLACES]),
        (json_lines, [(each.account_id, each.region or "") for each in CLOSED_PLACES]),
        (
            sarif,
            [
                f"Not inspectable: 1 account, 4 Regions not enabled. {GONE}: it is SUSPENDED; "
                f"{SHOP}, {BANK}: not enabled: {CAPE}, {HONG_KONG}"
            ],
        ),
        (html_text, [f"  {GONE}: it is SUSPENDED", f"  {SHOP}, {BANK}: not enabled: {CAPE}, {HONG_KONG}"]),
        (
            junit_text,
            [
                (SHOP, f"not enabled: {CAPE}, {HONG_KONG}"),
                (BANK, f"not enabled: {CAPE}, {HONG_KONG}"),
                (GONE, "it is SUSPENDED"),
            ],
        ),
        (asff_text, [GONE, SHOP, BANK]),
        (ocsf_text, [GONE, SHOP, BANK]),
    ],
)
def test_every_format_tells_what_nobody_can_look_into_and_drowns_nobody_in_it(write: Write, said: Any) -> None:
    report = make(scan=replace(SCAN, unseen=CLOSED_PLACES), enforced=write is junit_text)
    assert not_inspectable_of(write, report) == said
    assert report.coverage.total == make().coverage.total, "it is in no number of enforced, exposed or unknown"
    assert CAPE not in report.coverage.regions


def test_a_region_that_one_account_has_keeps_its_column_and_says_who_has_not_enabled_it() -> None:
    """Disabled between two scans, it does not look as if something had been fixed."""
    here = RegionSeen(Target(SHOP, CAPE), AccountDefaults(), instances=(instance("0c1"),))
    off = AccountUnseen(BANK, CAPE, OFF)
    report = make(scan=replace(SCAN, regions=(*SCAN.regions, here), unseen=(off,)))
    assert CAPE in report.coverage.regions
    assert f'<td class="none" title="{OFF.reason}">' in text(html_text, report)


@pytest.mark.parametrize("write", FORMATS)
def test_a_scan_that_has_seen_nothing_proves_nothing(write: Write) -> None:
    scan = replace(SCAN, regions=(), unseen=tuple(each for each in CLOSED_PLACES if each.region))
    report = make(scan=scan, evidence=None)
    written = text(write, report)
    if write in (html_text, junit_text, sarif):
        assert "nothing was seen, and nothing is proven" in written
    if write is junit_text:
        suites = JUnitXml.fromstring(written.encode())
        assert sum(suite.errors for suite in suites) == 1
        assert sum(suite.skipped for suite in suites) == 2
    assert CAPE in written
