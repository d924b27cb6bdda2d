"""botocore as the client of Organizations: the tree, its accounts, its policies and what they are attached to."""

from __future__ import annotations

import json
from datetime import timedelta
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
REQUIRED = json.dumps({"ec2_attributes": {"instance_metadata_defaults": {"http_tokens": {"@@assign": "required"}}}})


# -- units -----------------------------------------------------------------------------------------------------------


def test_a_unit_from_creation_to_deletion(org: Any) -> None:
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


def test_the_name_of_a_unit_is_unique_under_its_parent_only(org: Any) -> None:
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


def test_units_are_at_most_five_deep(org: Any) -> None:
    parent = org.root
    for depth in range(5):
        parent = org.unit(f"level {depth}", parent)
    assert org.refused("create_organizational_unit", ParentId=parent, Name="too deep") == (
        "ConstraintViolationException",
        "OU_DEPTH_LIMIT_EXCEEDED",
    )


# -- accounts --------------------------------------------------------------------------------------------------------


def test_an_account_is_made_in_the_background_with_its_role(make_org: Any) -> None:
    org = make_org(settle_seconds=30.0)
    offline = org.offline
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


def test_an_address_that_is_taken_makes_the_creation_fail(org: Any) -> None:
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


def test_an_account_moves(org: Any) -> None:
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


def test_a_closed_account_is_served_no_more(make_org: Any) -> None:
    org = make_org(settle_seconds=30.0)
    offline = org.offline
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


def test_tags_are_added_replaced_and_taken_away(org: Any) -> None:
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


def test_a_delegated_administrator_reads_the_organization(org: Any) -> None:
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


def test_a_delegated_administrator_of_account_management_sees_the_regions_of_others(org: Any) -> None:
    service, other = "account.amazonaws.com", list(org.offline.world.accounts)[2]
    theirs = org.offline.client("account", org.member)
    assert org.offline.refused(lambda: theirs.list_regions(AccountId=other))[0] == "AccessDeniedException"
    org.api.enable_aws_service_access(ServicePrincipal=service)
    org.api.register_delegated_administrator(AccountId=org.member, ServicePrincipal=service)
    assert theirs.list_regions(AccountId=other)["Regions"]


# -- policies --------------------------------------------------------------------------------------------------------


def test_a_policy_from_creation_to_deletion(org: Any) -> None:
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


def test_full_access_is_attached_everywhere_and_is_nobody_s_to_change(org: Any) -> None:
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
        (DECLARATIVE, REQUIRED.replace("required", "sometimes")),
        (DECLARATIVE, REQUIRED.replace("http_tokens", "http_password")),
    ],
)
def test_a_malformed_document_is_refused(org: Any, kind: str, content: str) -> None:
    refusal = org.refused("create_policy", Name="p", Description="", Type=kind, Content=content)
    assert refusal[0] == "MalformedPolicyDocumentException"


@pytest.mark.parametrize(("kind", "content", "most"), [(SCP, DENY, 5_120), (DECLARATIVE, REQUIRED, 10_000)])
def test_a_document_has_a_greatest_size_white_space_included(org: Any, kind: str, content: str, most: int) -> None:
    org.policy(content.ljust(most), "fits", kind)
    refusal = org.refused("create_policy", Name="p", Description="", Type=kind, Content=content.ljust(most + 1))
    assert refusal == ("ConstraintViolationException", "POLICY_CONTENT_LIMIT_EXCEEDED")


@pytest.mark.parametrize(("kind", "most"), [(SCP, 5), (DECLARATIVE, 10)])
def test_so_many_policies_can_be_at_one_place(org: Any, kind: str, most: int) -> None:
    if kind == DECLARATIVE:
        org.api.enable_policy_type(RootId=org.root, PolicyType=DECLARATIVE)
    content = DENY if kind == SCP else REQUIRED
    policies = [org.policy(content, f"p{number}", kind) for number in range(most + 1)]
    for policy in policies[len(org.attached(org.member, kind)) : most]:
        org.api.attach_policy(PolicyId=policy, TargetId=org.member)
    assert org.refused("attach_policy", PolicyId=policies[most], TargetId=org.member) == (
        "ConstraintViolationException",
        "MAX_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED",
    )


def test_the_last_scp_stays(org: Any) -> None:
    assert org.refused("detach_policy", PolicyId=FULL, TargetId=org.member) == (
        "ConstraintViolationException",
        "MIN_POLICY_TYPE_ATTACHMENT_LIMIT_EXCEEDED",
    )
    allow_list = org.policy(DENY.replace("Deny", "Allow"))
    org.api.attach_policy(PolicyId=allow_list, TargetId=org.member)
    org.api.detach_policy(PolicyId=FULL, TargetId=org.member)
    assert org.attached(org.member) == [allow_list]


def test_disabling_scps_detaches_all_and_enabling_them_starts_with_full_access(org: Any) -> None:
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


def test_types_that_are_not_here_are_not_available(org: Any) -> None:
    unavailable = "PolicyTypeNotAvailableForOrganizationException"
    assert org.refused("enable_policy_type", RootId=org.root, PolicyType="TAG_POLICY")[0] == unavailable
    assert org.refused("create_policy", Name="p", Description="", Type="TAG_POLICY", Content="{}")[0] == unavailable
    assert org.refused("list_policies", Filter="NOT_A_TYPE") == ("InvalidInputException", "INVALID_ENUM_POLICY_TYPE")
    assert org.api.list_policies(Filter="TAG_POLICY")["Policies"] == []


def test_the_levels_of_scps_follow_the_tree(org: Any) -> None:
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


def test_only_the_management_account_writes_policies(org: Any) -> None:
    theirs = org.offline.client("organizations", org.member)
    for call in (
        lambda: theirs.create_policy(Name="p", Description="", Type=SCP, Content=DENY),
        lambda: theirs.attach_policy(PolicyId=FULL, TargetId=org.member),
        lambda: theirs.list_policies(Filter=SCP),
        lambda: theirs.enable_policy_type(RootId=org.root, PolicyType=DECLARATIVE),
    ):
        assert org.offline.refused(call)[0] == "AccessDeniedException"
