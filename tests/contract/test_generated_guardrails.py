"""Every generated guardrail, attached in the local AWS, stops what it must and nothing else: real calls by botocore."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from imdsctl.codify.declarative import declarative_policy, declarative_text
from imdsctl.codify.guardrails import Rule, Settings, Unset, guardrails
from imdsctl.codify.packing import Form, packed
from imdsctl.domain.intent import Intent
from imdsctl.policy.declarative import parse_declarative_policy
from imdsctl.policy.document import parse_policy

V2 = {"HttpTokens": "required"}
V1 = {"HttpTokens": "optional"}
EXEMPT = "imdsv1-exempt"


class Member:
    """An account below the guardrails: what it can do there. `True` is done, `False` is denied."""

    def __init__(self, org: Any, *documents: str) -> None:
        self.org = org
        for number, content in enumerate(documents):
            org.api.attach_policy(PolicyId=org.policy(content, f"guard-{number}"), TargetId=org.root)
        self.ec2 = org.offline.client("ec2", org.member, checked=False)
        self.scaling = org.offline.client("autoscaling", org.member)
        filters = [
            {"Name": "name", "Values": ["amzn2-ami-kernel*"]},
            {"Name": "architecture", "Values": ["x86_64"]},
        ]
        self.image = self.ec2.describe_images(Owners=["amazon"], Filters=filters)["Images"][0]["ImageId"]

    def may(self, call: Callable[[], Any]) -> bool:
        """Whether a call is let through. Anything but a denial by policy is a failure of the test."""
        try:
            call()
        except self.ec2.exceptions.ClientError as error:
            refused = error.response["Error"]
        else:
            return True
        assert refused["Code"] in ("UnauthorizedOperation", "AccessDenied", "AccessDeniedException"), refused
        assert "service control policy" in refused["Message"]
        return False

    def launch(self, options: dict[str, Any] | None = None, ec2: Any = None, **more: Any) -> Any:
        said = {} if options is None else {"MetadataOptions": options}
        launched = (ec2 or self.ec2).run_instances(
            ImageId=self.image, InstanceType="t3.micro", MinCount=1, MaxCount=1, **said, **more
        )
        return launched["Instances"][0]["InstanceId"]

    def modify(self, instance_id: str, ec2: Any = None, **options: Any) -> Any:
        return (ec2 or self.ec2).modify_instance_metadata_options(InstanceId=instance_id, **options)

    def default(self, ec2: Any = None, **options: Any) -> Any:
        return (ec2 or self.ec2).modify_instance_metadata_defaults(**options)

    def configuration(self, name: str, options: dict[str, Any] | None = None) -> Any:
        said = {} if options is None else {"MetadataOptions": options}
        return self.scaling.create_launch_configuration(
            LaunchConfigurationName=name, ImageId=self.image, InstanceType="t3.micro", **said
        )


def scps(**chosen: Any) -> list[str]:
    return [document.minified for document in packed(Form.SCP, guardrails(Settings(**chosen)), "guard")]


def tagged(value: str = "true") -> dict[str, Any]:
    return {"TagSpecifications": [{"ResourceType": "instance", "Tags": [{"Key": EXEMPT, "Value": value}]}]}


def test_a_launch_has_to_say_required(org: Any) -> None:
    member = Member(org, *scps(rules=(Rule.LAUNCH,)))
    assert not member.may(lambda: member.launch(V1))
    assert not member.may(lambda: member.launch())
    assert member.may(lambda: member.launch(V2))
    template = {"LaunchTemplateData": {"ImageId": member.image, "InstanceType": "t3.micro", "MetadataOptions": V2}}
    member.ec2.create_launch_template(LaunchTemplateName="right", **template)
    named = {"LaunchTemplate": {"LaunchTemplateName": "right"}, "MinCount": 1, "MaxCount": 1}
    assert member.may(lambda: member.ec2.run_instances(**named))
    assert not member.may(lambda: member.ec2.run_instances(MetadataOptions=V1, **named))
    # Nothing else is touched, and the management account never is.
    member.ec2.describe_instances()
    own = org.offline.client("ec2")
    assert member.may(lambda: member.launch(V1, own))


def test_with_unset_allowed_only_an_explicit_optional_is_denied(org: Any) -> None:
    member = Member(org, *scps(rules=(Rule.LAUNCH, Rule.LAUNCH_CONFIGURATION), unset=Unset.ALLOW))
    assert not member.may(lambda: member.launch(V1))
    assert member.may(lambda: member.launch())
    assert member.may(lambda: member.launch(V2))
    assert not member.may(lambda: member.configuration("one", V1))
    assert member.may(lambda: member.configuration("two"))


def test_a_launch_configuration_has_to_say_required(org: Any) -> None:
    member = Member(org, *scps(rules=(Rule.LAUNCH_CONFIGURATION,)))
    assert not member.may(lambda: member.configuration("one", V1))
    assert not member.may(lambda: member.configuration("two"))
    assert member.may(lambda: member.configuration("three", V2))
    assert member.may(lambda: member.launch(V1))


def test_a_hop_limit_is_bounded_at_launch_and_later(org: Any) -> None:
    member = Member(org, *scps(rules=(Rule.HOP_LIMIT, Rule.INSTANCES), hop_limit_max=2))
    assert not member.may(lambda: member.launch({"HttpPutResponseHopLimit": 3}))
    assert member.may(lambda: member.launch({"HttpPutResponseHopLimit": 2}))
    assert member.may(lambda: member.launch())
    running = member.launch(V1)
    assert not member.may(lambda: member.modify(running, HttpPutResponseHopLimit=3))
    assert member.may(lambda: member.modify(running, HttpPutResponseHopLimit=2))


def test_nobody_opens_an_instance_and_everybody_may_close_one(org: Any) -> None:
    member = Member(org, *scps(rules=(Rule.INSTANCES,)))
    running = member.launch(V1)
    assert member.may(lambda: member.modify(running, HttpTokens="required"))
    assert not member.may(lambda: member.modify(running, HttpTokens="optional"))
    assert member.may(lambda: member.modify(running, InstanceMetadataTags="enabled"))
    assert not member.may(lambda: member.modify(running, HttpTokens="optional", HttpEndpoint="enabled"))


def test_nobody_weakens_a_region_and_everybody_may_strengthen_one(org: Any) -> None:
    member = Member(org, *scps(rules=(Rule.DEFAULTS,)))
    assert member.may(lambda: member.default(HttpTokens="required"))
    assert member.may(lambda: member.default(HttpPutResponseHopLimit=2))
    assert member.may(lambda: member.default(HttpTokensEnforced="enabled"))
    for weaker in (
        {"HttpTokens": "optional"},
        {"HttpTokens": "no-preference"},
        {"HttpTokensEnforced": "disabled"},
        {"HttpTokensEnforced": "no-preference", "HttpTokens": "required"},
    ):
        assert not member.may(lambda change=weaker: member.default(**change)), weaker


def test_the_enforcer_is_exempt_and_can_roll_back(org: Any) -> None:
    role = "OrganizationAccountAccessRole"
    member = Member(org, *scps(exempt_roles=(f"arn:aws:iam::*:role/{role}",)))
    assumed = org.offline.client("sts").assume_role(
        RoleArn=f"arn:aws:iam::{org.member}:role/{role}", RoleSessionName="imdsctl"
    )["Credentials"]
    enforcer = org.offline.client("ec2", credentials=assumed, checked=False)
    running = member.launch(V1, enforcer)
    assert not member.may(lambda: member.modify(running, HttpTokens="optional"))
    assert member.may(lambda: member.modify(running, enforcer, HttpTokens="required"))
    assert member.may(lambda: member.modify(running, enforcer, HttpTokens="optional"))
    assert member.may(lambda: member.default(enforcer, HttpTokens="optional"))


def test_an_exempting_tag_exempts_and_only_exempt_roles_can_set_it(org: Any) -> None:
    role = "OrganizationAccountAccessRole"
    member = Member(org, *scps(exempt_roles=(f"arn:aws:iam::*:role/{role}",), exempt_tag=(EXEMPT, "true")))
    assumed = org.offline.client("sts").assume_role(
        RoleArn=f"arn:aws:iam::{org.member}:role/{role}", RoleSessionName="imdsctl"
    )["Credentials"]
    platform = org.offline.client("ec2", credentials=assumed)
    assert not member.may(lambda: member.launch(V1, **tagged()))
    instance = member.launch(V2)
    assert not member.may(lambda: member.ec2.create_tags(Resources=[instance], Tags=[{"Key": EXEMPT, "Value": "true"}]))
    assert not member.may(lambda: member.modify(instance, HttpTokens="optional"))
    platform.create_tags(Resources=[instance], Tags=[{"Key": EXEMPT, "Value": "true"}])
    assert member.may(lambda: member.modify(instance, HttpTokens="optional"))
    member.ec2.create_tags(Resources=[instance], Tags=[{"Key": "Team", "Value": "web"}])  # other tags are free
    assert not member.may(lambda: member.ec2.delete_tags(Resources=[instance], Tags=[{"Key": EXEMPT}]))


@pytest.mark.parametrize("lock", [False, True])
def test_the_declarative_policy_binds_every_account(org: Any, lock: bool) -> None:
    policy = declarative_policy(Intent(), message="Ask the platform team", lock=lock)
    assert parse_declarative_policy(declarative_text(policy), name="generated")
    org.declare(declarative_text(policy))
    ec2 = org.offline.client("ec2", org.member)
    level = ec2.get_instance_metadata_defaults()["AccountLevel"]
    assert level == {
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 2,
        "HttpTokensEnforced": "enabled",
        "ManagedBy": "declarative-policy",
        "ManagedExceptionMessage": "Ask the platform team",
    }
    weaker = org.declared(http_tokens="optional")
    org.api.attach_policy(PolicyId=org.policy(weaker, "weaker", "DECLARATIVE_POLICY_EC2"), TargetId=org.member)
    tokens = ec2.get_instance_metadata_defaults()["AccountLevel"]["HttpTokens"]
    assert tokens == ("required" if lock else "optional")


def test_as_a_boundary_it_allows_what_policies_allow_and_denies_the_rest(org: Any) -> None:
    [boundary] = packed(Form.BOUNDARY, guardrails(Settings(rules=(Rule.INSTANCES, Rule.DEFAULTS))), "edge")
    iam = org.offline.client("iam", org.member)
    arn = iam.create_policy(PolicyName="edge", PolicyDocument=boundary.minified)["Policy"]["Arn"]
    iam.create_user(UserName="dev", PermissionsBoundary=arn)
    iam.attach_user_policy(UserName="dev", PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess")
    key = iam.create_access_key(UserName="dev")["AccessKey"]
    dev = org.offline.client("ec2", credentials=key)
    dev.modify_instance_metadata_defaults(HttpTokens="required")
    code, _, message = org.offline.refused(lambda: dev.modify_instance_metadata_defaults(HttpTokens="optional"))
    assert code == "UnauthorizedOperation"
    assert "permissions boundary" in message


def test_role_delivery_leaves_those_alone_who_are_no_instance(org: Any) -> None:
    member = Member(org, *scps(rules=(Rule.ROLE_DELIVERY,)))
    member.ec2.describe_instances()
    assert member.may(lambda: member.launch(V1))


@pytest.mark.parametrize("form", Form)
def test_documents_are_within_limits_and_parse(form: Form) -> None:
    roles = tuple(f"arn:aws:iam::*:role/platform-team-number-{number}" for number in range(25))
    rules = (Rule.LAUNCH,) if form is Form.BOUNDARY else tuple(Rule)
    documents = packed(form, guardrails(Settings(rules=rules, exempt_roles=roles)), "guard")
    assert len(documents) > 1 or form is Form.BOUNDARY
    limit = 5120 if form is Form.SCP else 6144
    for document in documents:
        assert len(document.minified) <= limit
        assert parse_policy(json.loads(document.text), name=document.name).statements
    sids = [each.sid for document in documents for each in document.guardrails]
    assert len(set(sids)) == len(sids)
