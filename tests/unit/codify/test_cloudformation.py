"""The exported template: cfn-lint is its judge."""

from __future__ import annotations

import json

import pytest
from cfnlint.api import lint_all

from imdsctl.codify.cloudformation import template
from imdsctl.codify.declarative import declarative_policy
from imdsctl.domain.intent import Intent
from imdsctl.domain.observations import PolicyKind, PolicySeen

DENY = '{"Version":"2012-10-17","Statement":[{"Effect":"Deny","Action":"ec2:RunInstances","Resource":"${aws:x}"}]}'
DECLARED = '{"ec2_attributes":{"instance_metadata_defaults":{"http_tokens":{"@@assign":"required"}}}}'
POLICIES = (
    PolicySeen("p-example2", "imdsv2", PolicyKind.DECLARATIVE_POLICY_EC2, DECLARED, ("ou-ab12-cdefghij",)),
    PolicySeen("p-example1", 'deny "v1" ${AWS::Region}', PolicyKind.SERVICE_CONTROL_POLICY, DENY, ("111122223333",)),
    PolicySeen("p-FullAWSAccess", "FullAWSAccess", PolicyKind.SERVICE_CONTROL_POLICY, DENY, ("r-ab12",), True),
)


def test_a_template_of_policies() -> None:
    made = template(POLICIES, declarative_policy(Intent()))
    complaints = [each for each in lint_all(made.text) if not each.rule.id.startswith("I")]  # I: mere information
    assert [str(each) for each in complaints] == []
    resources = json.loads(made.text)["Resources"]
    assert [each["Properties"]["Name"] for each in resources.values()] == [
        'deny "v1" ${AWS::Region}',
        "imdsv2",
        "imdsv2",
    ]
    assert all(each["DeletionPolicy"] == "Retain" for each in resources.values())
    assert next(iter(resources.values()))["Properties"]["Content"] == json.loads(DENY)


def test_what_is_there_already_can_be_imported() -> None:
    made = template(POLICIES)
    resources = json.loads(made.text)["Resources"]
    identities = {each["LogicalResourceId"]: each["ResourceIdentifier"]["Id"] for each in json.loads(made.imports)}
    assert list(identities) == list(resources)
    assert list(identities.values()) == ["p-example1", "p-example2"]


@pytest.mark.parametrize("content", ['{"Statement": {"Ref": "AWS::AccountId"}}', '{"Fn::Sub": "${x}"}', "not JSON"])
def test_a_document_never_becomes_a_function_of_the_template(content: str) -> None:
    policy = PolicySeen("p-1", "x", PolicyKind.SERVICE_CONTROL_POLICY, content)
    [resource] = json.loads(template([policy]).text)["Resources"].values()
    assert resource["Properties"] == {"Name": "x", "Type": "SERVICE_CONTROL_POLICY", "Content": content}


def test_nothing_to_express() -> None:
    made = template(POLICIES[2:])
    assert (made.policies, made.imports) == (0, "")
    with pytest.raises(ValueError, match="501 policies"):
        template([PolicySeen(f"p-{number}", "x", PolicyKind.SERVICE_CONTROL_POLICY, "{}") for number in range(501)])
