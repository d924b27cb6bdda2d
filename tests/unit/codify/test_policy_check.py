"""`policy check`: every bad policy of the corpus is caught for the right reason, and no good one is."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from imdsctl.adapters.policy_files import vocabulary
from imdsctl.codify.declarative import declarative_policy, declarative_text
from imdsctl.codify.findings import CodeFinding, Severity
from imdsctl.codify.guardrails import Rule, Settings, Unset, guardrails
from imdsctl.codify.packing import Form, packed
from imdsctl.codify.policy_check import Checked, check_policies
from imdsctl.codify.policy_file import File, Kind
from imdsctl.domain.intent import Intent

CASES = Path(__file__).parents[2] / "cases" / "guardrails"
BAD: dict[str, list[str]] = json.loads((CASES / "bad-rules.json").read_text())
INSTANCES = "arn:aws:ec2:*:*:instance/*"


def check(*texts: str | tuple[str, str]) -> Checked:
    files = [File(*each) if isinstance(each, tuple) else File(f"{n}.json", each) for n, each in enumerate(texts)]
    return check_policies(files, vocabulary())


def rules(checked: Checked) -> list[str]:
    return sorted({each.rule.id for each in checked.findings})


def policy(*statements: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)}, indent=2)


def deny(action: str, resource: str, condition: dict[str, Any]) -> dict[str, Any]:
    return {"Effect": "Deny", "Action": action, "Resource": resource, "Condition": condition}


def bad(name: str) -> list[CodeFinding]:
    return list(check((name, (CASES / "bad" / name).read_text())).findings)


# -- the corpus ------------------------------------------------------------------------------------------------------


def test_the_corpus_is_whole() -> None:
    assert {path.name for path in (CASES / "bad").iterdir()} == set(BAD)
    assert len(BAD) >= 100
    assert len(list((CASES / "good").iterdir())) >= 40


@pytest.mark.parametrize("name", BAD)
def test_a_bad_policy_is_caught_for_the_right_reason(name: str) -> None:
    findings = bad(name)
    assert sorted({each.rule.id for each in findings}) == BAD[name]
    for each in findings:
        assert each.line >= 1
        assert each.column >= 1
        assert each.message
        assert each.remedy or each.rule.id in ("not-json", "malformed-policy")


@pytest.mark.parametrize("name", BAD)
def test_a_corrected_statement_has_no_finding(name: str) -> None:
    for each in bad(name):
        corrected = each.corrected if isinstance(each.corrected, list) else [each.corrected]
        if corrected[0] is not None and "Effect" in corrected[0]:
            assert rules(check(policy(*corrected))) == [], each.rule.id


@pytest.mark.parametrize("path", sorted((CASES / "good").iterdir()), ids=lambda path: path.stem)
def test_a_good_policy_has_no_finding(path: Path) -> None:
    checked = check((path.name, path.read_text()))
    assert [(each.rule.id, each.message) for each in checked.findings] == []
    assert not checked.unread


ROLES = ("arn:aws:iam::*:role/imdsctl", "arn:aws:iam::*:role/platform/*")


@pytest.mark.parametrize("form", Form)
@pytest.mark.parametrize(
    "chosen",
    [
        {},
        {"unset": Unset.ALLOW},
        {"exempt_roles": ROLES},
        {"exempt_roles": ROLES, "exempt_tag": ("imdsv1-exempt", "true"), "hop_limit_max": 2},
        {"rules": tuple(Rule), "hop_limit_max": 3, "partition": "aws-us-gov"},
    ],
)
def test_what_is_generated_has_no_finding(form: Form, chosen: dict[str, Any]) -> None:
    documents = packed(form, guardrails(Settings(**chosen)), "guard")
    declared = declarative_text(declarative_policy(Intent(), message="Ask us", lock=True))
    files = [(f"{each.name}.{form}.json", each.text) for each in documents]
    assert [(each.rule.id, each.message) for each in check(*files, declared).findings] == []


# -- the two lock-outs that linters miss -----------------------------------------------------------------------------


def test_a_lock_out_is_proven_and_put_right() -> None:
    [finding] = bad("lock-out-star.json")
    assert "a launch with HttpTokens=required is denied too, for arn:aws:ec2:eu-west-1::image/" in finding.message
    assert (finding.line, finding.column) == (8, 7)
    assert finding.corrected["Resource"] == INSTANCES
    [typo] = bad("lock-out-value.json")
    assert "Proven: every launch is denied, a launch with HttpTokens=required too" in typo.message
    assert typo.remedy == "write `required`"
    assert typo.corrected["Condition"] == {"StringNotEquals": {"ec2:MetadataHttpTokens": "required"}}


def test_two_mistakes_in_one_statement_get_one_correction() -> None:
    findings = bad("lock-out-both.json")
    assert len(findings) == 2
    right = deny("ec2:RunInstances", INSTANCES, {"StringNotEquals": {"ec2:MetadataHttpTokens": "required"}})
    for each in findings:
        assert each.corrected == {"Sid": "Guard", **right}


def test_the_value_before_a_change_is_proven_not_to_be_what_is_asked_for() -> None:
    [finding] = bad("change-of-current-value.json")
    assert "setting HttpTokens=required on an instance that has HttpTokens=optional" in finding.message
    asked = "ec2:Attribute/HttpTokens"
    assert finding.corrected["Condition"] == {"StringNotEquals": {asked: "required"}, "Null": {asked: "false"}}


# -- several files ---------------------------------------------------------------------------------------------------


def declared(**settings: str) -> str:
    assigned = {name: {"@@assign": value} for name, value in settings.items()}
    return json.dumps({"ec2_attributes": {"instance_metadata_defaults": assigned}})


def test_an_scp_and_an_ec2_policy_that_cannot_both_be_wanted() -> None:
    scp = policy(deny("ec2:RunInstances", INSTANCES, {"StringNotEquals": {"ec2:MetadataHttpTokens": "required"}}))
    checked = check(("a.scp.json", scp), ("ec2.json", declared(http_tokens="optional")))
    assert rules(checked) == ["contradicts-declarative"]
    assert checked.findings[0].file == "ec2.json"
    assert "a.scp.json denies every launch that asks for it" in checked.findings[0].message
    hops = policy(
        deny("ec2:RunInstances", INSTANCES, {"NumericGreaterThan": {"ec2:MetadataHttpPutResponseHopLimit": "2"}})
    )
    assert rules(check(hops, declared(http_put_response_hop_limit="4"))) == ["contradicts-declarative"]
    assert rules(check(hops, declared(http_put_response_hop_limit="2", http_tokens="required"))) == []


def test_files_that_together_let_no_launch_pass() -> None:
    one = policy(deny("ec2:RunInstances", INSTANCES, {"StringNotEquals": {"ec2:MetadataHttpEndpoint": "enabled"}}))
    two = policy(deny("ec2:RunInstances", INSTANCES, {"StringEquals": {"ec2:MetadataHttpEndpoint": "enabled"}}))
    assert rules(check(one)) == rules(check(two)) == []
    [finding] = check(("one.json", one), ("two.json", two)).findings
    assert (finding.rule.id, finding.file) == ("contradiction", "two.json")
    assert "one.json" in finding.message


def test_guardrails_for_different_callers_do_not_contradict_each_other() -> None:
    def about(operator: str, role: str) -> dict[str, Any]:
        condition = {operator: {"ec2:MetadataHttpEndpoint": "enabled"}, "ArnLike": {"aws:PrincipalArn": role}}
        return deny("ec2:RunInstances", INSTANCES, condition)

    one, two = "arn:aws:iam::*:role/one", "arn:aws:iam::*:role/two"
    assert rules(check(policy(about("StringEquals", one)), policy(about("StringNotEquals", two)))) == []


def test_two_ec2_policies_with_different_values() -> None:
    checked = check(declared(http_tokens="required"), declared(http_tokens="no_preference"))
    assert rules(checked) == ["declarative-overlap"]
    assert checked.findings[0].severity is Severity.WARNING


# -- bad input -------------------------------------------------------------------------------------------------------

GOOD = policy(deny("ec2:RunInstances", INSTANCES, {"StringNotEquals": {"ec2:MetadataHttpTokens": "required"}}))


@pytest.mark.parametrize(
    ("text", "place", "why"),
    [
        (GOOD[:-30], None, "the document ends in the middle"),
        ('{"Version" "2012-10-17"}', "1:12", "`:` is missing"),
        ("{'Version': 1}", "1:2", "a name in double quotes"),
        ("", "1:1", "ends in the middle"),
        ("[" * 500, "1:102", "100 brackets deep"),
        ('{"Statement": NaN}', "1:15", "`N` begins no JSON value"),
        ("[1, 2]", "1:1", "a JSON object"),
        ('{"Resources": {}}', "1:1", "not a policy"),
        ('{"a": "\n"}', "1:8", "control character"),
        (GOOD + "}", None, "more text follows"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_and_the_rest_is_checked(text: str, place: str | None, why: str) -> None:
    checked = check(("bad.json", text), ("star.json", GOOD.replace(INSTANCES, "*")))
    [diagnostic] = checked.unread
    assert diagnostic.code == "policy-unreadable"
    assert why in diagnostic.summary
    assert (diagnostic.subject or "").startswith(f"bad.json:{place or ''}")
    assert rules(checked) == ["absent-key"]


def test_a_document_that_is_far_too_long_is_not_read() -> None:
    [diagnostic] = check(" " * 6_000_000).unread
    assert "more than 200,000 characters" in diagnostic.summary


def test_comments_and_commas_are_named_by_line_and_read_past() -> None:
    text = GOOD.replace('"Effect"', '/* no\n v1 */ "Effect"').replace(INSTANCES, "*").replace('"*",', '"*", # all\n')
    checked = check(text.replace("}\n  ]", "},\n  ]"))
    found = [(each.rule.id, each.line) for each in checked.findings]
    assert [rule for rule, _ in found] == ["not-json", "absent-key", "not-json", "not-json"]
    assert found[0] == ("not-json", 5)
    assert not checked.unread


@pytest.mark.parametrize("broken", [None, 7, [], "x", {}, [None], {"Effect": 1, "Action": {}, "Condition": []}])
def test_nothing_well_formed_is_needed(broken: Any) -> None:
    text = json.dumps({"Version": "2012-10-17", "Statement": broken})
    assert rules(check(text)) == ["malformed-policy"]
    assert check(json.dumps({"ec2_attributes": broken})).findings


def test_nothing_that_is_json_makes_it_stumble() -> None:
    """Corpus policies with parts put where they do not belong."""
    random = Random(20)
    paths = [path for path in sorted(CASES.glob("*/*.json")) if not path.name.startswith("json-")]
    junk: list[Any] = [None, True, -1, 1e9, "", "*", "${", "ec2:", "arn:aws:ec2:::", "Null", [], {}, [[]], {"a": 1}]
    for _ in range(400):
        body = json.loads(random.choice(paths).read_text())
        holder, name = random.choice(list(members(body)))
        if isinstance(holder, dict) and random.random() < 0.3:
            holder[str(random.choice(junk))] = holder.pop(name)
        else:
            holder[name] = random.choice(junk)
        check(json.dumps(body), ("b.scp.json", json.dumps(body)))


def members(value: Any) -> Iterator[tuple[Any, Any]]:
    names = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for name in names:
        yield value, name
        yield from members(value[name])


def test_every_rule_is_in_the_corpus_or_in_a_test_here() -> None:
    from imdsctl.codify.policy_rules import RULES

    shown = {rule for expected in BAD.values() for rule in expected} | {
        "contradicts-declarative",
        "declarative-overlap",
    }
    assert {rule.id for rule in RULES} == shown


def test_the_kind_decides_about_size() -> None:
    text = (CASES / "bad" / "too-long.scp.json").read_text()
    assert rules(check(("some.json", text))) == []
    assert "too-long" in rules(check_policies([File("some.json", text, Kind.SCP)], vocabulary()))
