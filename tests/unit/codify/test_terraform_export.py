"""The exported configuration: every field as it is, what is left out and why, and text that stays text."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from tests.unit.domain.plan_cases import ACCOUNT, REGION, scan_of

from imdsctl.codify.export_gaps import LeftOut
from imdsctl.codify.terraform import Configuration, Settings, by_account, configuration
from imdsctl.domain.intent import Intent
from imdsctl.domain.observations import AccountUnseen, PolicyKind, PolicySeen, Scan, Unseen
from imdsctl.domain.planner import make_plan
from imdsctl.domain.regions import DEFAULT_REGIONS

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
ROLE = Settings("reader")


def export(scan: Scan, settings: Settings = ROLE, *, wanted: bool = False) -> tuple[Configuration, dict[str, str]]:
    plan = make_plan(scan, Intent(), made_at=NOON) if wanted else None
    made = configuration(scan, settings, plan=plan, chosen=lambda target: True)
    return made, {name: "".join(pieces) for name, pieces in made.files.items()}


def only(**region: Any) -> Scan:
    return scan_of(region)


def test_every_field_is_written_and_what_is_unset_stays_unset() -> None:
    made, files = export(only(defaults={"HttpTokens": "optional", "HttpTokensEnforced": "enabled"}))
    assert made.left_out == ()
    assert files["region_defaults.tf"].endswith(
        """
# HttpTokensEnforced is enabled; the provider has no argument for it and leaves it so
resource "aws_ec2_instance_metadata_defaults" "a111122223333_eu_west_1" {
  provider                    = aws.a111122223333_eu_west_1
  http_endpoint               = "no-preference"
  http_put_response_hop_limit = -1
  http_tokens                 = "optional"
  instance_metadata_tags      = "no-preference"
  lifecycle {
    prevent_destroy = true
  }
}
"""
    )
    assert 'role_arn = "arn:aws:iam::111122223333:role/reader"' in files["providers.tf"]
    assert "changes nothing" in files["region_defaults.tf"]


def test_as_the_intent_wants_it() -> None:
    _, files = export(only(defaults={"HttpTokens": "optional", "InstanceMetadataTags": "enabled"}), wanted=True)
    text = files["region_defaults.tf"]
    for line in (
        'http_tokens                 = "required"',
        "http_put_response_hop_limit = 2",
        'instance_metadata_tags      = "enabled"',
    ):
        assert line in text
    assert "changes nothing" not in text


def test_twenty_accounts_in_every_region() -> None:
    accounts = [f"{number:012d}" for number in range(1, 21)]
    scan = scan_of(*({"account": account, "region": region} for account in accounts for region in DEFAULT_REGIONS))
    made, files = export(scan)
    assert made.defaults == 340
    assert files["providers.tf"].count("  alias  = ") == 340
    _, six = export(scan, Settings("reader", provider=6))
    assert six["providers.tf"].count("  alias  = ") == 20
    assert six["region_defaults.tf"].count('  region                      = "') == 340
    assert six["region_defaults.tf"].count("\n  provider                    = aws.a000000000020\n") == 17
    assert 'version = "~> 6.0"' in six["versions.tf"]
    backwards = replace(scan, regions=tuple(scan.regions)[::-1])
    assert export(backwards)[1] == files


def test_a_root_module_for_each_account() -> None:
    accounts = [f"{number:012d}" for number in range(1, 21)]
    regions = [{"account": account, "region": region} for account in accounts for region in DEFAULT_REGIONS]
    gone = AccountUnseen("999988887777", None, Unseen("account", "AccessDenied"))
    scan = replace(scan_of(*regions), policies=(policy("{}"),), unseen=(gone,))
    modules = dict(by_account(scan, ROLE, chosen=lambda target: True))
    assert sorted(modules) == [*accounts, "999988887777", "organization"]
    for account in accounts:
        files = {name: "".join(pieces) for name, pieces in modules[account].files.items()}
        assert modules[account].defaults == files["providers.tf"].count("  alias  = ") == 17
        assert files["providers.tf"].count(f"iam::{account}:role/") == 17
        assert "organization.tf" not in files
    assert modules["999988887777"].left_out == (LeftOut("999988887777", "AccessDenied", unread=True),)
    of_organization = {name: "".join(pieces) for name, pieces in modules["organization"].files.items()}
    assert "aws_organizations_policy.deny_p_1" in of_organization["organization.tf"]
    assert "  alias " not in of_organization["providers.tf"]

    chosen = [
        name
        for name, _ in by_account(scan, replace(ROLE, policies=False), chosen=lambda t: t.account_id == accounts[3])
    ]
    assert chosen == [accounts[3]]


def test_a_root_module_for_each_account_as_the_intent_wants_it() -> None:
    scan = scan_of({"account": "000000000001"}, {"account": "000000000002", "defaults": {"HttpTokens": "optional"}})
    plan = make_plan(scan, Intent(), made_at=NOON)
    whole = "".join(configuration(scan, ROLE, plan=plan, chosen=lambda target: True).files["region_defaults.tf"])
    for name, made in by_account(scan, replace(ROLE, policies=False), plan=plan, chosen=lambda target: True):
        text = "".join(made.files["region_defaults.tf"])
        assert text.count("resource ") == 1
        assert name in text
        assert text[text.index("resource ") :] in whole


def test_no_role_in_the_account_of_the_credentials() -> None:
    _, files = export(only(), Settings("reader", own_account=ACCOUNT))
    assert "assume_role" not in files["providers.tf"]
    assert "arn:aws-cn:iam::" in export(only(region="cn-north-1"))[1]["providers.tf"]


def test_what_was_not_read_or_is_decided_elsewhere_is_left_out_and_said() -> None:
    scan = scan_of(
        {"region": "us-east-1", "defaults": None, "unseen": [{"what": "Region default", "reason": "denied\n}"}]},
        {"region": "us-east-2", "defaults": {"ManagedBy": "declarative-policy", "HttpTokens": "required"}},
    )
    gone = AccountUnseen("999988887777", None, Unseen("account", "AccessDenied"))
    made, files = export(replace(scan, unseen=(gone,)))
    assert made.defaults == 0
    assert made.left_out == (
        LeftOut("999988887777", "AccessDenied", unread=True),
        LeftOut(f"{ACCOUNT}/us-east-1", "the Region default could not be read: denied\n}", unread=True),
        LeftOut(f"{ACCOUNT}/us-east-2", "a declarative-policy decides the Region default: AWS refuses to change it"),
    )
    assert all(line.startswith("#") or not line for line in files["region_defaults.tf"].splitlines())


def policy(content: str, name: str = "deny", targets: tuple[str, ...] = (ACCOUNT,)) -> PolicySeen:
    return PolicySeen("p-1", name, PolicyKind.SERVICE_CONTROL_POLICY, content, targets)


def organization(*policies: PolicySeen) -> str:
    return export(replace(only(), policies=policies))[1]["organization.tf"]


def test_policies_are_imported_with_what_they_are_attached_to() -> None:
    text = organization(policy('{"Version": "2012-10-17", "Statement": [{"Resource": "${aws:username}"}]}'))
    assert 'to = aws_organizations_policy.deny_p_1\n  id = "p-1"' in text
    assert f'to = aws_organizations_policy_attachment.deny_p_1_{ACCOUNT}\n  id = "{ACCOUNT}:p-1"' in text
    assert 'Resource = "$${aws:username}"' in text
    managed = replace(policy("{}"), aws_managed=True)
    assert "resource" not in organization(managed)


def test_a_document_that_is_none_is_written_as_it_is() -> None:
    for content in ("{", "[1]", '{"x": 1e999}', '{"x":' * 5000):
        assert 'content = "' in organization(policy(content))


def test_hostile_names_stay_text() -> None:
    hostile = 'x"\n}\nresource "null_resource" "r" { provisioner "local-exec" { command = "${file("/etc/passwd")}" } }'
    text = organization(policy("{}", hostile))
    assert '\nresource "null_resource' not in text
    assert "$${file(" in text
    scan = only(templates=[{"id": "lt-1", "name": hostile, "options": {"HttpTokens": "optional"}}])
    for wanted in (False, True):
        lines = export(scan, wanted=wanted)[1]["metadata_options.tf"].splitlines()
        assert "#   metadata_options {" in lines
        assert all(line.startswith("#") or not line for line in lines)


def test_patches_say_the_whole_block() -> None:
    instance = {"id": "i-1", "options": {"HttpTokens": "optional", "HttpPutResponseHopLimit": 3}}
    seen, wanted = (export(only(instances=[instance]), wanted=each)[1]["metadata_options.tf"] for each in (False, True))
    block = """\
# import {
#   to = aws_instance.i_1
#   id = "i-1"
# }
# resource "aws_instance" "i_1" {
#   metadata_options {
#     http_put_response_hop_limit = 3
#     http_tokens                 = "%s"
#   }
# }
"""
    assert block % "optional" in seen
    assert block % "required" in wanted
    assert f"i-1, {ACCOUNT}/{REGION}" in seen


def test_a_policy_that_was_not_read_is_said_whatever_accounts_are_chosen() -> None:
    refused = Unseen("policy p-9", "AccessDenied\n}")
    scan = replace(only(), unseen=(AccountUnseen("999988887777", None, refused),))
    made = configuration(scan, ROLE, plan=None, chosen=lambda target: target.account_id == ACCOUNT)
    assert made.left_out == (LeftOut("policy p-9", "AccessDenied\n}", unread=True),)
    assert "# Left out: policy p-9: AccessDenied\\u000a}\n" in "".join(made.files["organization.tf"])
