"""botocore as the client of Organizations: the tree, its accounts, its policies, and that declarative policies bind."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from imdsctl.policy.document import Policy

SCP = "SERVICE_CONTROL_POLICY"
DECLARATIVE = "DECLARATIVE_POLICY_EC2"
FULL = "p-FullAWSAccess"
DENY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": {"Effect": "Deny", "Action": "ec2:ModifyInstanceMetadataDefaults", "Resource": "*"},
    }
)
MESSAGE = "Ask the platform team"


def declared(message: str | None = None, **settings: Any) -> str:
    """A declarative policy that assigns metadata defaults."""
    attributes: dict[str, Any] = {
        "instance_metadata_defaults": {name: {"@@assign": value} for name, value in settings.items()}
    }
    if message is not None:
        attributes["exception_message"] = {"@@assign": message}
    return json.dumps({"ec2_attributes": attributes})


class Org:
    """The management account's view of an offline local AWS, with the few calls that every test makes."""

    def __init__(self, offline: Any) -> None:
        self.offline = offline
        self.api = offline.client("organizations", checked=False)
        self.root = offline.world.organization.root_id
        self.member = offline.member

    def unit(self, name: str = "Team", parent: str | None = None) -> str:
        made = self.api.create_organizational_unit(ParentId=parent or self.root, Name=name)
        return str(made["OrganizationalUnit"]["Id"])

    def policy(self, content: str, name: str = "p", kind: str = SCP) -> str:
        made = self.api.create_policy(Name=name, Description="", Type=kind, Content=content)
        return str(made["Policy"]["PolicySummary"]["Id"])

    def declare(self, content: str, target: str | None = None, name: str = "d") -> str:
        """Create and attach a declarative policy, the type enabled if need be."""
        [root] = self.api.list_roots()["Roots"]
        if not any(each["Type"] == DECLARATIVE for each in root["PolicyTypes"]):
            self.api.enable_policy_type(RootId=self.root, PolicyType=DECLARATIVE)
        policy = self.policy(content, name, DECLARATIVE)
        self.api.attach_policy(PolicyId=policy, TargetId=target or self.root)
        return policy

    def attached(self, target: str, kind: str = SCP) -> list[str]:
        return [each["Id"] for each in self.api.list_policies_for_target(TargetId=target, Filter=kind)["Policies"]]

    def refused(self, operation: str, **params: Any) -> tuple[str, str | None]:
        """The code of AWS's refusal, and its Reason."""
        with pytest.raises(self.api.exceptions.ClientError) as caught:
            getattr(self.api, operation)(**params)
        response = caught.value.response
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 400
        assert response["Error"]["Message"]
        return response["Error"]["Code"], response.get("Reason")


@pytest.fixture
def org(offline: Any) -> Org:
    return Org(offline)


# -- units -----------------------------------------------------------------------------------------------------------


def test_a_unit_from_creation_to_deletion(org: Org) -> None:
    made = org.api.create_organizational_unit(ParentId=org.root, Name="Team", Tags=[{"Key": "a", "Value": "b"}])
    unit = made["OrganizationalUnit"]
    assert unit["Id"].startswith(f"ou-{org.root[2:]}-")
    assert unit["Path"] == f"{org.offline.world.organization.id}/{org.root}/{unit['Id']}/"
    assert org.api.describe_organizational_unit(OrganizationalUnitId=unit["Id"])["OrganizationalUnit"] == unit
    assert org.api.list_tags_for_resource(ResourceId=unit["Id"])["Tags"] == [{"Key": "a", "Value": "b"}]
    assert org.api.list_parents(ChildId=unit["Id"])["Parents"] == [{"Id": org.root, "Type": "ROOT"}]
    children = org.api.list_children(ParentId=org.root, ChildType="ORGANIZATIONAL_UNIT")["Children"]
    assert {"Id": unit["Id"], "Type": "ORGANIZATIONAL_UNIT"} in children
    renamed = org.api.update_organizational_unit(OrganizationalUnitId=unit["Id"], Name="Crew")["OrganizationalUnit"]
    assert renamed == {**unit, "Name": "Crew"}
    org.api.delete_organizational_unit(OrganizationalUnitId=unit["Id"])
    gone = org.refused("describe_organizational_unit", OrganizationalUnitId=unit["Id"])
    assert gone[0] == "OrganizationalUnitNotFoundException"


def test_the_name_of_a_unit_is_unique_under_its_parent_only(org: Org) -> None:
    unit = org.unit("Team")
    assert org.refused("create_organizational_unit", ParentId=org.root, Name="Team")[0] == (
        "DuplicateOrganizationalUnitException"
    )
    inner = org.unit("Team", unit)
    other = org.unit("Other", unit)
    refusal = org.refused("update_organizational_unit", OrganizationalUnitId=other, Name="Team")
    assert refusal[0] == "DuplicateOrganizationalUnitException"
    assert org.refused("delete_organizational_unit", OrganizationalUnitId=unit)[0] == (
        "OrganizationalUnitNotEmptyException"
    )
    org.api.delete_organizational_unit(OrganizationalUnitId=inner)


def test_units_are_at_most_five_deep(org: Org) -> None:
    parent = org.root
    for depth in range(5):
        parent = org.unit(f"level {depth}", parent)
    assert org.refused("create_organizational_unit", ParentId=parent, Name="too deep") == (
        "ConstraintViolationException",
        "OU_DEPTH_LIMIT_EXCEEDED",
    )


# -- accounts --------------------------------------------------------------------------------------------------------


def test_an_account_is_made_in_the_background_with_its_role(make_offline: Any) -> None:
    offline = make_offline(settle_seconds=30.0)
    org = Org(offline)
    begun = org.api.create_account(
        Email="new@example.org", AccountName="new", RoleName="Admin", Tags=[{"Key": "a", "Value": "b"}]
    )["CreateAccountStatus"]
    assert begun["State"] == "IN_PROGRESS"
    assert "AccountId" not in begun
    assert org.api.describe_create_account_status(CreateAccountRequestId=begun["Id"])["CreateAccountStatus"] == begun
    offline.offset = timedelta(seconds=31)
    done = org.api.describe_create_account_status(CreateAccountRequestId=begun["Id"])["CreateAccountStatus"]
    assert done["State"] == "SUCCEEDED"
    account = org.api.describe_account(AccountId=done["AccountId"])["Account"]
    assert (account["Name"], account["State"], account["JoinedMethod"]) == ("new", "ACTIVE", "CREATED")
    assert org.attached(done["AccountId"]) == [FULL]
    assert org.api.list_tags_for_resource(ResourceId=done["AccountId"])["Tags"] == [{"Key": "a", "Value": "b"}]
    role = offline.client("sts").assume_role(
        RoleArn=f"arn:aws:iam::{done['AccountId']}:role/Admin", RoleSessionName="first"
    )
    ec2 = offline.client("ec2", credentials=role["Credentials"])
    assert ec2.describe_instances()["Reservations"] == []
    assert ec2.get_instance_metadata_defaults()["AccountLevel"] == {"ManagedBy": "account"}


def test_an_address_that_is_taken_makes_the_creation_fail(org: Org) -> None:
    [first, *_] = org.api.list_accounts()["Accounts"]
    begun = org.api.create_account(Email=first["Email"].upper(), AccountName="twice")["CreateAccountStatus"]
    [failed] = org.api.list_create_account_status(States=["FAILED"])["CreateAccountStatuses"]
    assert failed["Id"] == begun["Id"]
    assert failed["FailureReason"] == "EMAIL_ALREADY_EXISTS"
    assert org.api.list_create_account_status(States=["SUCCEEDED"])["CreateAccountStatuses"] == []
    assert org.refused("create_account", Email="nobody", AccountName="x") == (
        "InvalidInputException",
        "INVALID_EMAIL_ADDRESS_TARGET",
    )


def test_an_account_moves(org: Org) -> None:
    unit = org.unit()
    [parent] = org.api.list_parents(ChildId=org.member)["Parents"]
    move = {"AccountId": org.member, "SourceParentId": parent["Id"], "DestinationParentId": unit}
    org.api.move_account(**move)
    assert org.api.list_children(ParentId=unit, ChildType="ACCOUNT")["Children"] == [
        {"Id": org.member, "Type": "ACCOUNT"}
    ]
    assert [each["Id"] for each in org.api.list_accounts_for_parent(ParentId=unit)["Accounts"]] == [org.member]
    [path] = org.api.describe_account(AccountId=org.member)["Account"]["Paths"]
    assert path.endswith(f"/{unit}/{org.member}/")
    assert org.refused("move_account", **move)[0] == "DuplicateAccountException"
    assert org.refused("move_account", **{**move, "DestinationParentId": org.root})[0] == "AccountNotFoundException"
    nowhere = f"ou-{org.root[2:]}-abcdefgh"
    assert org.refused("move_account", **{**move, "SourceParentId": nowhere})[0] == "SourceParentNotFoundException"
    assert org.refused("move_account", **{**move, "DestinationParentId": nowhere})[0] == (
        "DestinationParentNotFoundException"
    )


def test_a_closed_account_is_served_no_more(make_offline: Any) -> None:
    offline = make_offline(settle_seconds=30.0)
    org = Org(offline)
    sts = offline.client("sts", org.member)
    assert sts.get_caller_identity()["Account"] == org.member
    org.api.close_account(AccountId=org.member)
    assert offline.refused(sts.get_caller_identity)[0] == "InvalidClientTokenId"
    assert org.api.describe_account(AccountId=org.member)["Account"]["State"] == "PENDING_CLOSURE"
    assert org.refused("close_account", AccountId=org.member)[0] == "ConflictException"
    offline.offset = timedelta(seconds=31)
    account = org.api.describe_account(AccountId=org.member)["Account"]
    assert (account["State"], account["Status"]) == ("CLOSED", "SUSPENDED")
    assert org.refused("close_account", AccountId=org.member)[0] == "AccountAlreadyClosedException"
    assert org.refused("close_account", AccountId=offline.management) == (
        "ConstraintViolationException",
        "CANNOT_CLOSE_MANAGEMENT_ACCOUNT",
    )


# -- tags, trusted access, delegated administrators --------------------------------------------------------------------


def test_tags_are_added_replaced_and_taken_away(org: Org) -> None:
    org.api.tag_resource(ResourceId=org.root, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}])
    org.api.tag_resource(ResourceId=org.root, Tags=[{"Key": "a", "Value": "3"}])
    org.api.untag_resource(ResourceId=org.root, TagKeys=["b", "not there"])
    assert org.api.list_tags_for_resource(ResourceId=org.root)["Tags"] == [{"Key": "a", "Value": "3"}]
    many = [{"Key": str(number), "Value": ""} for number in range(50)]
    assert org.refused("tag_resource", ResourceId=org.root, Tags=many) == (
        "ConstraintViolationException",
        "MAX_TAG_LIMIT_EXCEEDED",
    )
    system = [{"Key": "aws:x", "Value": ""}]
    assert org.refused("tag_resource", ResourceId=org.root, Tags=system)[1] == "INVALID_SYSTEM_TAGS_PARAMETER"
    assert org.refused("tag_resource", ResourceId=org.root, Tags=[system[0] | {"Key": "x"}] * 2)[1] == (
        "DUPLICATE_TAG_KEY"
    )
    assert org.refused("list_tags_for_resource", ResourceId="p-12345678")[0] == "TargetNotFoundException"


def test_a_delegated_administrator_reads_the_organization(org: Org) -> None:
    service, theirs = "ec2.amazonaws.com", org.offline.client("organizations", org.member)
    register = {"AccountId": org.member, "ServicePrincipal": service}
    assert org.refused("register_delegated_administrator", **register) == (
        "ConstraintViolationException",
        "SERVICE_ACCESS_NOT_ENABLED",
    )
    org.api.enable_aws_service_access(ServicePrincipal=service)
    [trusted] = org.api.list_aws_service_access_for_organization()["EnabledServicePrincipals"]
    assert trusted["ServicePrincipal"] == service
    assert org.offline.refused(theirs.list_accounts)[0] == "AccessDeniedException"
    org.api.register_delegated_administrator(**register)
    assert org.refused("register_delegated_administrator", **register)[0] == "AccountAlreadyRegisteredException"
    [administrator] = org.api.list_delegated_administrators(ServicePrincipal=service)["DelegatedAdministrators"]
    assert administrator["Id"] == org.member
    [served] = org.api.list_delegated_services_for_account(AccountId=org.member)["DelegatedServices"]
    assert served["ServicePrincipal"] == service
    assert theirs.list_accounts()["Accounts"]
    assert org.offline.refused(lambda: theirs.create_organizational_unit(ParentId=org.root, Name="x"))[0] == (
        "AccessDeniedException"
    )
    org.api.deregister_delegated_administrator(**register)
    assert org.refused("deregister_delegated_administrator", **register)[0] == "AccountNotRegisteredException"
    org.api.disable_aws_service_access(ServicePrincipal=service)
    assert org.api.list_aws_service_access_for_organization()["EnabledServicePrincipals"] == []
    assert org.refused("register_delegated_administrator", AccountId=org.offline.management, ServicePrincipal=service)[
        1
    ] == ("CANNOT_REGISTER_MASTER_AS_DELEGATED_ADMINISTRATOR")
    assert org.refused("enable_aws_service_access", ServicePrincipal="me")[1] == "UNRECOGNIZED_SERVICE_PRINCIPAL"


# -- policies --------------------------------------------------------------------------------------------------------


def test_a_policy_from_creation_to_deletion(org: Org) -> None:
    made = org.api.create_policy(Name="deny", Description="no", Type=SCP, Content=DENY)["Policy"]
    summary = made["PolicySummary"]
    organization = org.offline.world.organization
    assert summary["Arn"] == (
        f"arn:aws:organizations::{org.offline.management}:policy/{organization.id}/service_control_policy/"
        f"{summary['Id']}"
    )
    assert org.api.describe_policy(PolicyId=summary["Id"])["Policy"] == made
    assert [each["Id"] for each in org.api.list_policies(Filter=SCP)["Policies"]] == [FULL, summary["Id"]]
    assert org.refused("create_policy", Name="deny", Description="", Type=SCP, Content=DENY)[0] == (
        "DuplicatePolicyException"
    )
    org.api.update_policy(PolicyId=summary["Id"], Name="denied")
    assert org.api.describe_policy(PolicyId=summary["Id"])["Policy"]["PolicySummary"]["Description"] == "no"
    org.api.attach_policy(PolicyId=summary["Id"], TargetId=org.member)
    assert org.refused("delete_policy", PolicyId=summary["Id"])[0] == "PolicyInUseException"
    [target] = org.api.list_targets_for_policy(PolicyId=summary["Id"])["Targets"]
    assert (target["TargetId"], target["Type"]) == (org.member, "ACCOUNT")
    org.api.detach_policy(PolicyId=summary["Id"], TargetId=org.member)
    assert org.refused("detach_policy", PolicyId=summary["Id"], TargetId=org.member)[0] == "PolicyNotAttachedException"
    org.api.delete_policy(PolicyId=summary["Id"])
    assert org.refused("describe_policy", PolicyId=summary["Id"])[0] == "PolicyNotFoundException"


def test_full_access_is_attached_everywhere_and_is_nobody_s_to_change(org: Org) -> None:
    unit = org.unit()
    for target in (org.root, unit, org.member, org.offline.management):
        assert org.attached(target) == [FULL]
    pages = org.api.get_paginator("list_targets_for_policy").paginate(PolicyId=FULL)
    kinds = [each["Type"] for page in pages for each in page["Targets"]]
    assert kinds.count("ACCOUNT") == len(org.offline.world.accounts)
    assert kinds.count("ROOT") == 1
    assert org.refused("update_policy", PolicyId=FULL, Name="mine") == ("InvalidInputException", "IMMUTABLE_POLICY")
    assert org.refused("delete_policy", PolicyId=FULL)[1] == "IMMUTABLE_POLICY"
    assert org.refused("attach_policy", PolicyId=FULL, TargetId=unit)[0] == "DuplicatePolicyAttachmentException"


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (SCP, "not json"),
        (SCP, "{}"),
        (SCP, DENY.replace("Deny", "Perhaps")),
        (SCP, DENY.replace('"Resource"', '"Principal": "*", "Resource"')),
        (DECLARATIVE, DENY),
        (DECLARATIVE, declared(http_tokens="sometimes")),
        (DECLARATIVE, declared(http_put_response_hop_limit="65")),
    ],
)
def test_a_malformed_document_is_refused(org: Org, kind: str, content: str) -> None:
    refusal = org.refused("create_policy", Name="p", Description="", Type=kind, Content=content)
    assert refusal[0] == "MalformedPolicyDocumentException"


@pytest.mark.parametrize(("kind", "content", "most"), [(SCP, DENY, 5_120), (DECLARATIVE, declared("x"), 10_000)])
def test_a_document_has_a_greatest_size_white_space_included(org: Org, kind: str, content: str, most: int) -> None:
    if kind == DECLARATIVE:
        content = declared("x", http_tokens="required")
    org.policy(content.ljust(most), "fits", kind)
    refusal = org.refused("create_policy", Name="p", Description="", Type=kind, Content=content.ljust(most + 1))
    assert refusal == ("ConstraintViolationException", "POLICY_CONTENT_LIMIT_EXCEEDED")


@pytest.mark.parametrize(("kind", "most"), [(SCP, 5), (DECLARATIVE, 10)])
def test_so_many_policies_can_be_at_one_place(org: Org, kind: str, most: int) -> None:
    if kind == DECLARATIVE:
        org.api.enable_policy_type(RootId=org.root, PolicyType=DECLARATIVE)
    content = DENY if kind == SCP else declared(http_tokens="required")
    policies = [org.policy(content, f"p{number}", kind) for number in range(most + 1)]
    for policy in policies[len(org.attached(org.member, kind)) : most]:
        org.api.attach_policy(PolicyId=policy, TargetId=org.member)
    assert org.refused("attach_policy", PolicyId=policies[most], TargetId=org.member) == (
        "ConstraintViolationException",
        "MAX_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED",
    )


def test_the_last_scp_stays(org: Org) -> None:
    assert org.refused("detach_policy", PolicyId=FULL, TargetId=org.member) == (
        "ConstraintViolationException",
        "MIN_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED",
    )
    allow_list = org.policy(DENY.replace("Deny", "Allow"))
    org.api.attach_policy(PolicyId=allow_list, TargetId=org.member)
    org.api.detach_policy(PolicyId=FULL, TargetId=org.member)
    assert org.attached(org.member) == [allow_list]


def test_disabling_scps_detaches_all_and_enabling_them_starts_with_full_access(org: Org) -> None:
    policy = org.policy(DENY)
    org.api.attach_policy(PolicyId=policy, TargetId=org.member)
    assert org.api.disable_policy_type(RootId=org.root, PolicyType=SCP)["Root"]["PolicyTypes"] == []
    assert org.offline.world.scp_levels(org.member) is None
    assert org.attached(org.member) == []
    assert org.refused("attach_policy", PolicyId=policy, TargetId=org.member)[0] == "PolicyTypeNotEnabledException"
    assert org.refused("disable_policy_type", RootId=org.root, PolicyType=SCP)[0] == "PolicyTypeNotEnabledException"
    org.api.enable_policy_type(RootId=org.root, PolicyType=SCP)
    assert org.attached(org.member) == [FULL]
    assert org.refused("enable_policy_type", RootId=org.root, PolicyType=SCP)[0] == (
        "PolicyTypeAlreadyEnabledException"
    )
    assert org.refused("enable_policy_type", RootId="r-none", PolicyType=SCP)[0] == "RootNotFoundException"


def test_types_that_are_not_here_are_not_available(org: Org) -> None:
    unavailable = "PolicyTypeNotAvailableForOrganizationException"
    assert org.refused("enable_policy_type", RootId=org.root, PolicyType="TAG_POLICY")[0] == unavailable
    assert org.refused("create_policy", Name="p", Description="", Type="TAG_POLICY", Content="{}")[0] == unavailable
    assert org.refused("list_policies", Filter="NOT_A_TYPE") == ("InvalidInputException", "INVALID_ENUM_POLICY_TYPE")
    assert org.api.list_policies(Filter="TAG_POLICY")["Policies"] == []


def test_the_levels_of_scps_follow_the_tree(org: Org) -> None:
    def names() -> list[list[str]]:
        levels = org.offline.world.scp_levels(org.member)
        assert all(isinstance(policy, Policy) for level in levels for policy in level)
        return [[policy.name.rpartition("/")[2] for policy in level] for level in levels]

    unit = org.unit("inner", org.unit("outer"))
    [parent] = org.api.list_parents(ChildId=org.member)["Parents"]
    org.api.move_account(AccountId=org.member, SourceParentId=parent["Id"], DestinationParentId=unit)
    assert names() == [[FULL]] * 4
    policy = org.policy(DENY)
    org.api.attach_policy(PolicyId=policy, TargetId=unit)
    assert names() == [[FULL], [FULL], [FULL, policy], [FULL]]
    assert org.offline.world.scp_levels(org.member) is org.offline.world.scp_levels(org.member)
    before = org.offline.world.scp_levels(org.member)
    org.api.update_policy(PolicyId=policy, Content=DENY.replace("Deny", "Allow"))
    assert org.offline.world.scp_levels(org.member) is not before
    org.api.move_account(AccountId=org.member, SourceParentId=unit, DestinationParentId=org.root)
    assert names() == [[FULL], [FULL]]


def test_only_the_management_account_writes_policies(org: Org) -> None:
    theirs = org.offline.client("organizations", org.member)
    for call in (
        lambda: theirs.create_policy(Name="p", Description="", Type=SCP, Content=DENY),
        lambda: theirs.attach_policy(PolicyId=FULL, TargetId=org.member),
        lambda: theirs.list_policies(Filter=SCP),
        lambda: theirs.enable_policy_type(RootId=org.root, PolicyType=DECLARATIVE),
    ):
        assert org.offline.refused(call)[0] == "AccessDeniedException"


# -- SCPs bind -------------------------------------------------------------------------------------------------------


def test_an_scp_binds_the_accounts_below_it_at_once_and_nobody_else(org: Org) -> None:
    unit = org.unit()
    [parent] = org.api.list_parents(ChildId=org.member)["Parents"]
    theirs, ours = org.offline.client("ec2", org.member), org.offline.client("ec2")
    policy = org.policy(DENY)
    org.api.attach_policy(PolicyId=policy, TargetId=unit)
    theirs.modify_instance_metadata_defaults(HttpEndpoint="enabled")
    org.api.move_account(AccountId=org.member, SourceParentId=parent["Id"], DestinationParentId=unit)
    code, status, message = org.offline.refused(lambda: theirs.modify_instance_metadata_defaults(HttpTokens="required"))
    assert (code, status) == ("UnauthorizedOperation", 403)
    assert "service control policy" in message
    theirs.get_instance_metadata_defaults()
    ours.modify_instance_metadata_defaults(HttpEndpoint="enabled")
    org.api.detach_policy(PolicyId=policy, TargetId=unit)
    theirs.modify_instance_metadata_defaults(HttpEndpoint="enabled")
    # The management account is never bound, even by what is attached to the root.
    org.api.attach_policy(PolicyId=policy, TargetId=org.root)
    ours.modify_instance_metadata_defaults(HttpEndpoint="enabled")
    assert org.offline.refused(lambda: theirs.modify_instance_metadata_defaults(HttpTokens="required"))[0] == (
        "UnauthorizedOperation"
    )


def test_what_no_scp_allows_at_one_level_is_denied(org: Org) -> None:
    allowed = org.policy(DENY.replace("Deny", "Allow").replace("ec2:ModifyInstanceMetadataDefaults", "ec2:Get*"))
    org.api.attach_policy(PolicyId=allowed, TargetId=org.member)
    org.api.detach_policy(PolicyId=FULL, TargetId=org.member)
    theirs = org.offline.client("ec2", org.member)
    theirs.get_instance_metadata_defaults()
    assert org.offline.refused(theirs.describe_instances)[0] == "UnauthorizedOperation"
    org.api.disable_policy_type(RootId=org.root, PolicyType=SCP)
    theirs.describe_instances()


# -- declarative policies bind ---------------------------------------------------------------------------------------


def test_a_declarative_policy_manages_the_defaults_until_it_is_detached(org: Org) -> None:
    ec2 = org.offline.client("ec2", org.member)
    ec2.modify_instance_metadata_defaults(
        HttpTokens="optional",
        HttpEndpoint="enabled",
        HttpPutResponseHopLimit=-1,
        InstanceMetadataTags="no-preference",
        HttpTokensEnforced="no-preference",
    )
    own = ec2.get_instance_metadata_defaults()["AccountLevel"]
    assert own == {"HttpTokens": "optional", "HttpEndpoint": "enabled", "ManagedBy": "account"}
    policy = org.declare(declared(MESSAGE, http_tokens="required", http_put_response_hop_limit="1"))
    assert ec2.get_instance_metadata_defaults()["AccountLevel"] == {
        "HttpTokens": "required",
        "HttpPutResponseHopLimit": 1,
        "HttpEndpoint": "enabled",
        "ManagedBy": "declarative-policy",
        "ManagedExceptionMessage": MESSAGE,
    }
    # Whatever a change would be, and in every Region.
    elsewhere = org.offline.client("ec2", org.member, region="eu-west-1")
    for client in (ec2, elsewhere):
        for change in ({"HttpTokens": "optional"}, {"InstanceMetadataTags": "enabled"}):
            refusal = org.offline.refused(lambda c=client, p=change: c.modify_instance_metadata_defaults(**p))
            assert refusal == ("UnsupportedOperation", 400, MESSAGE)
    dry = org.offline.refused(lambda: ec2.modify_instance_metadata_defaults(HttpTokens="optional", DryRun=True))
    assert dry[0] == "DryRunOperation"
    org.api.detach_policy(PolicyId=policy, TargetId=org.root)
    assert ec2.get_instance_metadata_defaults()["AccountLevel"] == own
    ec2.modify_instance_metadata_defaults(HttpTokens="required")


def test_the_management_account_is_bound_as_well(org: Org) -> None:
    org.declare(declared(http_endpoint="enabled"))
    ec2 = org.offline.client("ec2")
    code, _, message = org.offline.refused(lambda: ec2.modify_instance_metadata_defaults(HttpTokens="required"))
    assert (code, message) == (
        "UnsupportedOperation",
        "This action is denied due to an organizational policy in effect",
    )


def test_launches_and_modifications_obey_the_policy(org: Org) -> None:
    ec2 = org.offline.client("ec2", org.member)
    ec2.modify_instance_metadata_defaults(HttpTokens="no-preference", HttpTokensEnforced="no-preference")
    images = ec2.describe_images(
        Owners=["amazon"],
        Filters=[
            {"Name": "name", "Values": ["amzn2-ami-kernel*"]},
            {"Name": "architecture", "Values": ["x86_64"]},
        ],
    )["Images"]
    launch = {"ImageId": images[0]["ImageId"], "InstanceType": "t3.micro", "MinCount": 1, "MaxCount": 1}
    [before] = ec2.run_instances(**launch)["Instances"]
    assert before["MetadataOptions"]["HttpTokens"] == "optional"
    policy = org.declare(declared(http_tokens="required", instance_metadata_tags="enabled"))
    [after] = ec2.run_instances(**launch)["Instances"]
    assert after["MetadataOptions"]["HttpTokens"] == "required"
    assert after["MetadataOptions"]["InstanceMetadataTags"] == "enabled"
    org.api.update_policy(PolicyId=policy, Content=declared(http_tokens_enforced="enabled"))
    code, _, message = org.offline.refused(lambda: ec2.run_instances(**launch))
    assert code == "UnsupportedOperation"
    assert "httpTokensEnforced" in message
    ec2.run_instances(**launch, MetadataOptions={"HttpTokens": "required"})
    modify = {"InstanceId": after["InstanceId"], "HttpTokens": "optional"}
    assert org.offline.refused(lambda: ec2.modify_instance_metadata_options(**modify))[0] == "UnsupportedOperation"
    org.api.disable_policy_type(RootId=org.root, PolicyType=DECLARATIVE)
    ec2.run_instances(**launch)
    ec2.modify_instance_metadata_options(**modify)


def test_policies_bind_what_is_below_them_only_and_the_nearest_wins(org: Org) -> None:
    unit = org.unit()
    [parent] = org.api.list_parents(ChildId=org.member)["Parents"]
    org.declare(declared(http_tokens="required", http_endpoint="enabled"), unit, "outer")
    ec2 = org.offline.client("ec2", org.member)
    assert ec2.get_instance_metadata_defaults()["AccountLevel"]["ManagedBy"] == "account"
    org.api.move_account(AccountId=org.member, SourceParentId=parent["Id"], DestinationParentId=unit)
    org.declare(declared(http_tokens="optional"), org.member, "inner")
    level = ec2.get_instance_metadata_defaults()["AccountLevel"]
    assert (level["HttpTokens"], level["HttpEndpoint"]) == ("optional", "enabled")
    effective = org.offline.client("organizations", org.member).describe_effective_policy(PolicyType=DECLARATIVE)
    assert effective["EffectivePolicy"]["TargetId"] == org.member
    assert json.loads(effective["EffectivePolicy"]["PolicyContent"]) == {
        "ec2_attributes": {"instance_metadata_defaults": {"http_tokens": "optional", "http_endpoint": "enabled"}}
    }


def test_who_may_ask_for_an_effective_policy(org: Org) -> None:
    ask = {"PolicyType": DECLARATIVE, "TargetId": org.member}
    assert org.refused("describe_effective_policy", **ask)[0] == "EffectivePolicyNotFoundException"
    org.declare(declared(http_tokens="required"), org.member)
    found = org.api.describe_effective_policy(**ask)["EffectivePolicy"]
    assert found["TargetId"] == org.member
    assert org.refused("describe_effective_policy", PolicyType=DECLARATIVE)[0] == "EffectivePolicyNotFoundException"
    assert org.refused("describe_effective_policy", **ask | {"TargetId": "000000000000"})[0] == (
        "TargetNotFoundException"
    )
    assert org.refused("describe_effective_policy", **ask | {"PolicyType": SCP})[1] == "INVALID_ENUM_POLICY_TYPE"
    other = list(org.offline.world.accounts)[2]
    theirs = org.offline.client("organizations", other)
    assert org.offline.refused(lambda: theirs.describe_effective_policy(**ask))[0] == "AccessDeniedException"


def test_policies_that_contradict_each_other_are_listed(org: Org) -> None:
    def attribute(value: Any) -> str:
        return json.dumps({"ec2_attributes": {"image_block_public_access": value}})

    above = org.declare(attribute({"state": {"@@assign": "block_new_sharing"}}), org.root, "above")
    invalid = org.api.list_accounts_with_invalid_effective_policy(PolicyType=DECLARATIVE)
    assert invalid["Accounts"] == []
    below = org.declare(attribute({"@@assign": "block_new_sharing"}), org.member, "below")
    [account] = org.api.list_accounts_with_invalid_effective_policy(PolicyType=DECLARATIVE)["Accounts"]
    assert account["Id"] == org.member
    answer = org.api.list_effective_policy_validation_errors(AccountId=org.member, PolicyType=DECLARATIVE)
    [error] = answer["EffectivePolicyValidationErrors"]
    assert error["ContributingPolicies"] == [above, below]
    assert error["PathToError"] == "ec2_attributes.image_block_public_access"
    found = org.api.describe_effective_policy(PolicyType=DECLARATIVE, TargetId=org.member)["EffectivePolicy"]
    assert json.loads(found["PolicyContent"]) == {
        "ec2_attributes": {"image_block_public_access": {"state": "block_new_sharing"}}
    }


# -- the account status report ---------------------------------------------------------------------------------------


def report(org: Org, target: str, **more: Any) -> tuple[Any, str]:
    org.api.enable_aws_service_access(ServicePrincipal="ec2.amazonaws.com")
    ec2 = org.offline.client("ec2")
    started = ec2.start_declarative_policies_report(S3Bucket="reports", TargetId=target, **more)
    return ec2, started["ReportId"]


def test_a_report_counts_what_the_accounts_have(org: Org) -> None:
    org.declare(declared(http_tokens="required"))
    ec2, report_id = report(
        org,
        org.root,
        S3Prefix="p",
        TagSpecifications=[{"ResourceType": "declarative-policies-report", "Tags": [{"Key": "a", "Value": "b"}]}],
    )
    [described] = ec2.describe_declarative_policies_reports(ReportIds=[report_id])["Reports"]
    assert (described["Status"], described["S3Prefix"], described["TargetId"]) == ("complete", "p", org.root)
    assert described["Tags"] == [{"Key": "a", "Value": "b"}]
    summary = ec2.get_declarative_policies_report_summary(ReportId=report_id)
    accounts = org.offline.world.accounts.values()
    suspended = sum(account.state != "ACTIVE" for account in accounts)
    assert (summary["NumberOfAccounts"], summary["NumberOfFailedAccounts"]) == (len(accounts), suspended)
    tokens = summary["AttributeSummaries"][0]
    assert tokens["AttributeName"] == "instance_metadata_defaults.http_tokens"
    assert tokens["MostFrequentValue"] == "required"
    assert tokens["NumberOfMatchedAccounts"] == len(accounts) - suspended
    assert tokens["NumberOfUnmatchedAccounts"] == 0
    assert len(tokens["RegionalSummaries"]) == 17


def test_a_report_says_what_the_regions_themselves_say(org: Org) -> None:
    """Every Region that nobody touched is counted as it would answer, and one that changed later as it was."""
    ec2, report_id = report(org, org.member)
    theirs = org.offline.client("ec2", org.member)
    theirs.modify_instance_metadata_defaults(HttpPutResponseHopLimit=63)
    touched = len(list(org.offline.world.touched()))
    summary = ec2.get_declarative_policies_report_summary(ReportId=report_id)
    assert len(list(org.offline.world.touched())) == touched
    theirs.modify_instance_metadata_defaults(HttpPutResponseHopLimit=-1)
    regions = [each["RegionName"] for each in theirs.describe_regions()["Regions"]]
    answers = {
        region: org.offline.client("ec2", org.member, region=region).get_instance_metadata_defaults()["AccountLevel"]
        for region in regions
        if region != "us-east-1"
    }
    [tokens, *_] = summary["AttributeSummaries"]
    by_region = {each["RegionName"]: each["NumberOfMatchedAccounts"] for each in tokens["RegionalSummaries"]}
    assert sorted(by_region) == sorted(regions)
    for region, answer in answers.items():
        assert by_region[region] == (answer.get("HttpTokens", "no_preference") == tokens["MostFrequentValue"])
    hop = summary["AttributeSummaries"][1]
    assert hop["AttributeName"].endswith("http_put_response_hop_limit")
    assert hop["MostFrequentValue"] != "63"


def test_one_report_at_a_time_and_a_running_one_can_be_cancelled(make_offline: Any) -> None:
    org = Org(make_offline(settle_seconds=600.0))
    ec2, report_id = report(org, org.root)
    start = {"S3Bucket": "reports", "TargetId": org.root}
    refused = org.offline.refused
    assert refused(lambda: ec2.start_declarative_policies_report(**start))[0] == "IncorrectState"
    [running] = ec2.describe_declarative_policies_reports()["Reports"]
    assert running["Status"] == "running"
    assert "EndTime" not in running
    assert refused(lambda: ec2.get_declarative_policies_report_summary(ReportId=report_id))[0] == "IncorrectState"
    assert ec2.cancel_declarative_policies_report(ReportId=report_id)["Return"]
    assert refused(lambda: ec2.cancel_declarative_policies_report(ReportId=report_id))[0] == "IncorrectState"
    second = ec2.start_declarative_policies_report(**start)["ReportId"]
    org.offline.offset = timedelta(seconds=601)
    statuses = {each["ReportId"]: each["Status"] for each in ec2.describe_declarative_policies_reports()["Reports"]}
    assert statuses == {report_id: "cancelled", second: "complete"}


def test_reports_are_for_the_organization_s_administrators(org: Org) -> None:
    ec2, theirs = org.offline.client("ec2"), org.offline.client("ec2", org.member)
    start = {"S3Bucket": "reports", "TargetId": org.member}
    refused = org.offline.refused
    assert refused(lambda: ec2.start_declarative_policies_report(**start))[0] == "OperationNotPermitted"
    org.api.enable_aws_service_access(ServicePrincipal="ec2.amazonaws.com")
    assert refused(lambda: theirs.start_declarative_policies_report(**start))[0] == "OperationNotPermitted"
    org.api.register_delegated_administrator(AccountId=org.member, ServicePrincipal="ec2.amazonaws.com")
    report_id = theirs.start_declarative_policies_report(**start)["ReportId"]
    assert theirs.get_declarative_policies_report_summary(ReportId=report_id)["NumberOfAccounts"] == 1
    assert refused(lambda: ec2.start_declarative_policies_report(**start | {"TargetId": "r-none"}))[0] == (
        "InvalidParameterValue"
    )


# -- what outlives a restart -----------------------------------------------------------------------------------------


def test_everything_outlives_a_restart(make_offline: Any, tmp_path: Path) -> None:
    def seen(org: Org) -> list[Any]:
        api = org.api
        [root] = api.list_roots()["Roots"]
        units = api.list_organizational_units_for_parent(ParentId=org.root)["OrganizationalUnits"]
        ec2 = org.offline.client("ec2", org.member)
        return [
            root,
            units,
            [api.list_accounts_for_parent(ParentId=unit["Id"])["Accounts"] for unit in units],
            api.list_create_account_status()["CreateAccountStatuses"],
            *(api.list_policies(Filter=kind)["Policies"] for kind in (SCP, DECLARATIVE)),
            *(org.attached(target, kind) for target in (org.root, org.member) for kind in (SCP, DECLARATIVE)),
            api.describe_effective_policy(PolicyType=DECLARATIVE, TargetId=org.member)["EffectivePolicy"],
            api.list_tags_for_resource(ResourceId=org.root)["Tags"],
            api.list_delegated_administrators()["DelegatedAdministrators"],
            ec2.get_instance_metadata_defaults()["AccountLevel"],
            [
                {name: value for name, value in summary.items() if name != "ResponseMetadata"}
                for each in org.offline.client("ec2").describe_declarative_policies_reports()["Reports"]
                for summary in [
                    org.offline.client("ec2").get_declarative_policies_report_summary(ReportId=each["ReportId"])
                ]
            ],
        ]

    org = Org(make_offline(tmp_path))
    unit = org.unit()
    [parent] = org.api.list_parents(ChildId=org.member)["Parents"]
    org.api.move_account(AccountId=org.member, SourceParentId=parent["Id"], DestinationParentId=unit)
    org.api.create_account(Email="new@example.org", AccountName="new")
    org.api.attach_policy(PolicyId=org.policy(DENY), TargetId=org.member)
    org.declare(declared(MESSAGE, http_tokens="required"))
    org.api.tag_resource(ResourceId=org.root, Tags=[{"Key": "a", "Value": "b"}])
    report(org, org.root)
    org.api.register_delegated_administrator(AccountId=org.member, ServicePrincipal="ec2.amazonaws.com")
    before = seen(org)
    assert seen(Org(make_offline(tmp_path))) == before
