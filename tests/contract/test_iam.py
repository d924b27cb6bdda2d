"""botocore as the client of IAM and STS: what is made is really there, authenticates, and outlives a restart."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
ROLE_NAME = "OrganizationAccountAccessRole"
NOT_VALID = ("InvalidClientTokenId", 403)


def allow(action: Any = "ec2:Describe*", resource: Any = "*", **more: Any) -> str:
    statement = {"Effect": "Allow", "Action": action, "Resource": resource, **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def trust(principal: Any, action: Any = "sts:AssumeRole", **more: Any) -> str:
    statement = {"Effect": "Allow", "Principal": principal, "Action": action, **more}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def root(account: str) -> dict[str, str]:
    return {"AWS": f"arn:aws:iam::{account}:root"}


# -- users and access keys -------------------------------------------------------------------------------------------


def test_a_user_from_creation_to_deletion(offline: Any) -> None:
    iam = offline.client("iam")
    made = iam.create_user(UserName="ann", Path="/team/", Tags=[{"Key": "a", "Value": "b"}])["User"]
    assert made["Arn"] == f"arn:aws:iam::{offline.management}:user/team/ann"
    assert made["UserId"].startswith("AIDA")
    assert len(made["UserId"]) == 21
    assert iam.get_user(UserName="ann")["User"] == made
    iam.update_user(UserName="ann", NewUserName="anna", NewPath="/")
    assert iam.get_user(UserName="anna")["User"]["UserId"] == made["UserId"]
    assert offline.refused(lambda: iam.get_user(UserName="ann")) == (
        "NoSuchEntity",
        404,
        "The user with name ann cannot be found.",
    )
    iam.delete_user(UserName="anna")
    assert [each["UserName"] for each in iam.list_users()["Users"]] == ["imdsctl-admin"]


def test_a_name_is_taken_whatever_its_case(offline: Any) -> None:
    iam = offline.client("iam")
    iam.create_user(UserName="Ann")
    refusal = offline.refused(lambda: iam.create_user(UserName="ann"))
    assert refusal == ("EntityAlreadyExists", 409, "User with name ann already exists.")


def test_new_keys_authenticate_until_they_are_off_or_gone(offline: Any) -> None:
    iam = offline.client("iam")
    iam.create_user(UserName="ann")
    key = iam.create_access_key(UserName="ann")["AccessKey"]
    assert key["AccessKeyId"].startswith("AKIA")
    sts = offline.client("sts", credentials=key)
    identity = sts.get_caller_identity()
    assert identity["Arn"] == f"arn:aws:iam::{offline.management}:user/ann"
    assert identity["UserId"] == iam.get_user(UserName="ann")["User"]["UserId"]
    iam.update_access_key(UserName="ann", AccessKeyId=key["AccessKeyId"], Status="Inactive")
    code, status, message = offline.refused(sts.get_caller_identity)
    assert (code, status) == NOT_VALID
    assert message == "The security token included in the request is invalid."
    ec2 = offline.client("ec2", credentials=key)
    assert offline.refused(ec2.describe_regions)[:2] == ("AuthFailure", 401)
    iam.update_access_key(UserName="ann", AccessKeyId=key["AccessKeyId"], Status="Active")
    assert sts.get_caller_identity() is not None
    iam.update_user(UserName="ann", NewUserName="anna")
    assert sts.get_caller_identity()["Arn"].endswith(":user/anna")
    iam.delete_access_key(UserName="anna", AccessKeyId=key["AccessKeyId"])
    assert offline.refused(sts.get_caller_identity)[:2] == NOT_VALID


def test_a_user_has_two_keys_at_most(offline: Any) -> None:
    iam = offline.client("iam")
    iam.create_user(UserName="ann")
    keys = [iam.create_access_key(UserName="ann")["AccessKey"]["AccessKeyId"] for _ in range(2)]
    refusal = offline.refused(lambda: iam.create_access_key(UserName="ann"))
    assert refusal == ("LimitExceeded", 409, "Cannot exceed quota for AccessKeysPerUser: 2")
    listed = iam.list_access_keys(UserName="ann")["AccessKeyMetadata"]
    assert [each["AccessKeyId"] for each in listed] == keys
    assert {each["Status"] for each in listed} == {"Active"}


def test_the_administrator_is_a_user_like_any_other(offline: Any) -> None:
    iam = offline.client("iam", offline.member)
    me = iam.get_user()["User"]
    assert me["UserName"] == "imdsctl-admin"
    assert me["UserId"] == offline.client("sts", offline.member).get_caller_identity()["UserId"]
    [attached] = iam.list_attached_user_policies(UserName="imdsctl-admin")["AttachedPolicies"]
    assert attached["PolicyArn"] == ADMINISTRATOR
    [key] = iam.list_access_keys()["AccessKeyMetadata"]
    assert key["AccessKeyId"] == offline.world.admin_credentials(offline.member).access_key_id
    # Even this one can lock itself out.
    iam.update_access_key(AccessKeyId=key["AccessKeyId"], Status="Inactive")
    assert offline.refused(iam.get_user)[:2] == NOT_VALID


def test_accounts_do_not_see_each_other(offline: Any) -> None:
    offline.client("iam").create_user(UserName="ann")
    there = offline.client("iam", offline.member)
    assert offline.refused(lambda: there.get_user(UserName="ann"))[0] == "NoSuchEntity"


def test_a_user_that_still_has_something_is_not_deleted(offline: Any) -> None:
    iam = offline.client("iam")
    iam.create_user(UserName="ann")
    key = iam.create_access_key(UserName="ann")["AccessKey"]["AccessKeyId"]
    iam.put_user_policy(UserName="ann", PolicyName="p", PolicyDocument=allow())
    iam.attach_user_policy(UserName="ann", PolicyArn=ADMINISTRATOR)
    for sentence, remove in (
        ("must detach all policies first", lambda: iam.detach_user_policy(UserName="ann", PolicyArn=ADMINISTRATOR)),
        ("must delete policies first", lambda: iam.delete_user_policy(UserName="ann", PolicyName="p")),
        ("must delete access keys first", lambda: iam.delete_access_key(UserName="ann", AccessKeyId=key)),
    ):
        code, status, message = offline.refused(lambda: iam.delete_user(UserName="ann"))
        assert (code, status) == ("DeleteConflict", 409)
        assert sentence in message
        remove()
    iam.delete_user(UserName="ann")


# -- roles -----------------------------------------------------------------------------------------------------------


def test_a_role_comes_back_as_it_was_made(offline: Any) -> None:
    iam = offline.client("iam")
    document = trust(root(offline.management))
    made = iam.create_role(
        RoleName="deploy",
        Path="/ci/",
        AssumeRolePolicyDocument=document,
        Description="it deploys",
        MaxSessionDuration=7200,
        PermissionsBoundary=ADMINISTRATOR,
        Tags=[{"Key": "team", "Value": "ünï"}],
    )["Role"]
    assert made["Arn"] == f"arn:aws:iam::{offline.management}:role/ci/deploy"
    assert made["RoleId"].startswith("AROA")
    found = iam.get_role(RoleName="deploy")["Role"]
    assert found.items() >= made.items()
    assert found["AssumeRolePolicyDocument"] == json.loads(document)
    assert found["MaxSessionDuration"] == 7200
    assert found["PermissionsBoundary"]["PermissionsBoundaryArn"] == ADMINISTRATOR
    assert found["Tags"] == [{"Key": "team", "Value": "ünï"}]
    iam.update_role(RoleName="deploy", MaxSessionDuration=3600)
    assert iam.get_role(RoleName="deploy")["Role"]["Description"] == "it deploys"
    iam.delete_role_permissions_boundary(RoleName="deploy")
    iam.untag_role(RoleName="deploy", TagKeys=["TEAM"])
    found = iam.get_role(RoleName="deploy")["Role"]
    assert not {"PermissionsBoundary", "Tags"} & found.keys()
    iam.delete_role(RoleName="deploy")
    assert offline.refused(lambda: iam.get_role(RoleName="deploy")) == (
        "NoSuchEntity",
        404,
        "The role with name deploy cannot be found.",
    )


def test_the_role_of_organizations_is_a_role_like_any_other(offline: Any) -> None:
    iam = offline.client("iam", offline.member)
    role = iam.get_role(RoleName=ROLE_NAME)["Role"]
    [statement] = role["AssumeRolePolicyDocument"]["Statement"]
    assert statement["Principal"] == root(offline.management)
    policy = iam.get_role_policy(RoleName=ROLE_NAME, PolicyName="AdministratorAccess")["PolicyDocument"]
    assert policy["Statement"] == [{"Effect": "Allow", "Action": "*", "Resource": "*"}]
    sts = offline.client("sts")
    session = sts.assume_role(RoleArn=role["Arn"], RoleSessionName="me")
    assert session["AssumedRoleUser"]["AssumedRoleId"] == f"{role['RoleId']}:me"
    iam.update_assume_role_policy(RoleName=ROLE_NAME, PolicyDocument=trust(root(offline.member)))
    code, status, _ = offline.refused(lambda: sts.assume_role(RoleArn=role["Arn"], RoleSessionName="me"))
    assert (code, status) == ("AccessDenied", 403)


def test_whom_a_trust_policy_lets_in(offline: Any) -> None:
    owner, other = offline.member, offline.management
    iam = offline.client("iam", owner)
    offline.client("iam").create_user(UserName="ann")
    # Across accounts both sides must agree: the role's trust policy, and a policy of the user.
    offline.client("iam").put_user_policy(UserName="ann", PolicyName="sts", PolicyDocument=allow("sts:*"))
    ann = offline.client("iam").create_access_key(UserName="ann")["AccessKey"]
    administrator, user = f"arn:aws:iam::{other}:user/imdsctl-admin", f"arn:aws:iam::{other}:user/ann"
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=trust("*"))
    arn = f"arn:aws:iam::{owner}:role/r"

    def let_in(document: str) -> tuple[bool, bool]:
        """Whether the other account's administrator and its user ann may assume the role."""
        iam.update_assume_role_policy(RoleName="r", PolicyDocument=document)
        answers = []
        for credentials in (None, ann):
            sts = offline.client("sts", credentials=credentials)
            try:
                sts.assume_role(RoleArn=arn, RoleSessionName="me")
                answers.append("")
            except ClientError as error:
                answers.append(error.response["Error"]["Code"])
        assert set(answers) <= {"", "AccessDenied"}
        return not answers[0], not answers[1]

    assert let_in(trust("*")) == (True, True)
    assert let_in(trust({"AWS": "*"})) == (True, True)
    assert let_in(trust({"AWS": other})) == (True, True)
    assert let_in(trust(root(other))) == (True, True)
    assert let_in(trust({"AWS": [user]})) == (False, True)
    assert let_in(trust({"AWS": [administrator]}, "sts:*")) == (True, False)
    assert let_in(trust(root(owner))) == (False, False)
    assert let_in(trust({"Service": "ec2.amazonaws.com"})) == (False, False)
    assert let_in(trust(root(other), "sts:TagSession")) == (False, False)
    denied = json.loads(trust(root(other)))
    denied["Statement"].append({"Effect": "Deny", "Principal": {"AWS": user}, "Action": "sts:AssumeRole"})
    assert let_in(json.dumps(denied)) == (True, False)


def test_a_session_may_go_on_to_another_role_for_an_hour(offline: Any) -> None:
    iam = offline.client("iam")
    me = f"arn:aws:iam::{offline.management}:user/imdsctl-admin"
    first = iam.create_role(RoleName="first", Path="/a/", AssumeRolePolicyDocument=trust({"AWS": me}))["Role"]
    second = iam.create_role(
        RoleName="second", AssumeRolePolicyDocument=trust({"AWS": first["Arn"]}), MaxSessionDuration=43200
    )["Role"]
    session = offline.client("sts").assume_role(RoleArn=first["Arn"], RoleSessionName="me")["Credentials"]
    there = offline.client("sts", credentials=session)
    assert there.get_caller_identity()["Arn"].endswith(":assumed-role/first/me")
    assert there.assume_role(RoleArn=second["Arn"], RoleSessionName="on")["AssumedRoleUser"]["Arn"].endswith(
        "second/on"
    )
    code, _, message = offline.refused(
        lambda: there.assume_role(RoleArn=second["Arn"], RoleSessionName="on", DurationSeconds=3601)
    )
    assert code == "ValidationError"
    assert "role chaining" in message
    assert offline.refused(lambda: offline.client("sts").assume_role(RoleArn=second["Arn"], RoleSessionName="on"))[
        0
    ] == ("AccessDenied")


def test_a_session_ends_with_its_role(offline: Any) -> None:
    iam = offline.client("iam")
    arn = iam.create_role(RoleName="r", AssumeRolePolicyDocument=trust(root(offline.management)))["Role"]["Arn"]
    session = offline.client("sts").assume_role(RoleArn=arn, RoleSessionName="me")["Credentials"]
    sts = offline.client("sts", credentials=session)
    assert sts.get_caller_identity()["Account"] == offline.management
    iam.delete_role(RoleName="r")
    assert offline.refused(sts.get_caller_identity)[:2] == NOT_VALID
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=trust(root(offline.management)))
    assert offline.refused(sts.get_caller_identity)[:2] == NOT_VALID


def test_a_role_that_is_used_is_not_deleted(offline: Any) -> None:
    iam = offline.client("iam")
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=trust({"Service": "ec2.amazonaws.com"}))
    iam.put_role_policy(RoleName="r", PolicyName="p", PolicyDocument=allow())
    iam.attach_role_policy(RoleName="r", PolicyArn=ADMINISTRATOR)
    iam.create_instance_profile(InstanceProfileName="i")
    iam.add_role_to_instance_profile(InstanceProfileName="i", RoleName="r")
    for sentence, remove in (
        ("must detach all policies first", lambda: iam.detach_role_policy(RoleName="r", PolicyArn=ADMINISTRATOR)),
        ("must delete policies first", lambda: iam.delete_role_policy(RoleName="r", PolicyName="p")),
        (
            "must remove roles from instance profile first",
            lambda: iam.remove_role_from_instance_profile(InstanceProfileName="i", RoleName="r"),
        ),
    ):
        code, status, message = offline.refused(lambda: iam.delete_role(RoleName="r"))
        assert (code, status) == ("DeleteConflict", 409)
        assert sentence in message
        remove()
    iam.delete_role(RoleName="r")


# -- policies --------------------------------------------------------------------------------------------------------


def test_a_managed_policy_and_its_five_versions(offline: Any) -> None:
    iam = offline.client("iam")
    policy = iam.create_policy(PolicyName="p", PolicyDocument=allow(), Description="looks", Path="/x/")["Policy"]
    arn = policy["Arn"]
    assert arn == f"arn:aws:iam::{offline.management}:policy/x/p"
    assert policy["PolicyId"].startswith("ANPA")
    assert iam.get_policy(PolicyArn=arn)["Policy"]["Description"] == "looks"
    for number in range(2, 6):
        document = allow(f"ec2:Get{number}*")
        version = iam.create_policy_version(PolicyArn=arn, PolicyDocument=document, SetAsDefault=number == 3)
        assert version["PolicyVersion"]["VersionId"] == f"v{number}"
    code, status, message = offline.refused(lambda: iam.create_policy_version(PolicyArn=arn, PolicyDocument=allow()))
    assert (code, status) == ("LimitExceeded", 409)
    assert "up to 5 versions" in message
    assert iam.get_policy(PolicyArn=arn)["Policy"]["DefaultVersionId"] == "v3"
    assert offline.refused(lambda: iam.delete_policy_version(PolicyArn=arn, VersionId="v3"))[0] == "DeleteConflict"
    iam.set_default_policy_version(PolicyArn=arn, VersionId="v5")
    iam.delete_policy_version(PolicyArn=arn, VersionId="v3")
    made = iam.create_policy_version(PolicyArn=arn, PolicyDocument=allow())["PolicyVersion"]
    assert made["VersionId"] == "v6"
    versions = iam.list_policy_versions(PolicyArn=arn)["Versions"]
    assert [each["VersionId"] for each in versions] == ["v6", "v5", "v4", "v2", "v1"]
    assert [each["VersionId"] for each in versions if each["IsDefaultVersion"]] == ["v5"]
    found = iam.get_policy_version(PolicyArn=arn, VersionId="v2")["PolicyVersion"]
    assert found["Document"] == json.loads(allow("ec2:Get2*"))
    assert offline.refused(lambda: iam.get_policy_version(PolicyArn=arn, VersionId="v3"))[0] == "NoSuchEntity"
    assert offline.refused(lambda: iam.delete_policy(PolicyArn=arn))[0] == "DeleteConflict"


def test_who_has_a_policy(offline: Any) -> None:
    iam = offline.client("iam")
    arn = iam.create_policy(PolicyName="p", PolicyDocument=allow())["Policy"]["Arn"]
    iam.create_user(UserName="ann", PermissionsBoundary=arn)
    iam.create_role(RoleName="r", AssumeRolePolicyDocument=trust(root(offline.management)))
    for _ in range(2):  # the second time changes nothing
        iam.attach_role_policy(RoleName="r", PolicyArn=arn)
    policy = iam.get_policy(PolicyArn=arn)["Policy"]
    assert (policy["AttachmentCount"], policy["PermissionsBoundaryUsageCount"]) == (1, 1)
    entities = iam.list_entities_for_policy(PolicyArn=arn)
    assert [each["RoleName"] for each in entities["PolicyRoles"]] == ["r"]
    assert [each["UserName"] for each in entities["PolicyUsers"]] == ["ann"]
    only = iam.list_entities_for_policy(PolicyArn=arn, PolicyUsageFilter="PermissionsPolicy")
    assert not only["PolicyUsers"]
    assert offline.refused(lambda: iam.delete_policy(PolicyArn=arn)) == (
        "DeleteConflict",
        409,
        "Cannot delete a policy attached to entities.",
    )
    iam.delete_user_permissions_boundary(UserName="ann")
    iam.detach_role_policy(RoleName="r", PolicyArn=arn)
    assert offline.refused(lambda: iam.detach_role_policy(RoleName="r", PolicyArn=arn))[0] == "NoSuchEntity"
    iam.delete_policy(PolicyArn=arn)
    assert offline.refused(lambda: iam.get_policy(PolicyArn=arn))[0] == "NoSuchEntity"


def test_policies_of_aws_can_be_attached_and_read_but_not_changed(offline: Any) -> None:
    iam = offline.client("iam")
    names = {each["PolicyName"] for each in iam.list_policies(Scope="AWS")["Policies"]}
    assert {"AdministratorAccess", "ReadOnlyAccess", "AmazonSSMManagedInstanceCore"} <= names
    assert iam.list_policies(Scope="Local")["Policies"] == []
    assert [each["Arn"] for each in iam.list_policies(OnlyAttached=True)["Policies"]] == [ADMINISTRATOR]
    document = iam.get_policy_version(PolicyArn=ADMINISTRATOR, VersionId="v1")["PolicyVersion"]["Document"]
    assert document["Statement"][0]["Action"] == "*"
    assert offline.refused(lambda: iam.delete_policy(PolicyArn=ADMINISTRATOR))[:2] == ("AccessDenied", 403)
    missing = "arn:aws:iam::aws:policy/NoSuchPolicy"
    refusal = offline.refused(lambda: iam.attach_user_policy(UserName="imdsctl-admin", PolicyArn=missing))
    assert refusal == ("NoSuchEntity", 404, f"Policy {missing} does not exist or is not attachable.")


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        ("{", "This policy contains invalid Json"),
        ("[]", "Syntax errors in policy."),
        ('{"Statement": []}', "Syntax errors in policy."),
        ('{"Version": "2020-01-01", "Statement": {}}', "The policy must contain a valid version string"),
        (allow(Effect="Maybe"), "Invalid effect: Maybe"),
        (allow("Describe*"), "Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc."),
        (allow([]), "Policy statement must contain actions."),
        (allow(resource=[]), "Policy statement must contain resources."),
        (allow(resource="instance/*"), 'Resource instance/* must be in ARN format or "*".'),
        (allow(Principal="*"), "Policy document should not specify a principal."),
        (allow(Sid="a b"), "Statement IDs (SID) must be alpha-numeric."),
        (allow(Condition={"StringIs": {"aws:a": "b"}}), "Invalid Condition type : StringIs."),
        (allow(NotAction="*"), "Syntax errors in policy."),
        (allow(Extra="*"), "Syntax errors in policy."),
    ],
)
def test_what_is_no_policy_document(make_offline: Any, document: str, sentence: str) -> None:
    offline = make_offline(accounts=1)
    iam = offline.client("iam")
    for refuse in (
        partial(iam.create_policy, PolicyName="p"),
        partial(iam.put_user_policy, UserName="imdsctl-admin", PolicyName="p"),
    ):
        code, status, message = offline.refused(partial(refuse, PolicyDocument=document))
        assert (code, status) == ("MalformedPolicyDocument", 400)
        assert sentence in message
    assert iam.list_policies(Scope="Local")["Policies"] == []


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (allow(), "Missing required field Principal"),
        (trust({"AWS": "arn:aws:iam::{member}:user/nobody"}), "Invalid principal in policy"),
        (trust({"AWS": "ann"}), 'Invalid principal in policy: "AWS":"ann"'),
        (trust({"Everybody": "*"}), "Invalid principal in policy"),
        (trust("*", "ec2:RunInstances"), "AssumeRole policy may only specify STS AssumeRole actions."),
        (trust("*", Resource="*"), "Has prohibited field Resource"),
    ],
)
def test_what_is_no_trust_policy(offline: Any, document: str, sentence: str) -> None:
    document = document.replace("{member}", offline.member)
    iam = offline.client("iam")
    code, _, message = offline.refused(partial(iam.create_role, RoleName="r", AssumeRolePolicyDocument=document))
    assert code == "MalformedPolicyDocument"
    assert sentence in message


def test_sizes_are_counted_without_white_space(offline: Any) -> None:
    iam = offline.client("iam")
    wide = json.dumps(json.loads(allow([f"ec2:Action{number:04d}" for number in range(300)])), indent=8)
    assert len(wide) > 6144
    arn = iam.create_policy(PolicyName="p", PolicyDocument=wide)["Policy"]["Arn"]
    assert arn.endswith("/p")
    long = allow([f"ec2:Action{number:04d}" for number in range(400)])
    refusal = offline.refused(lambda: iam.create_policy(PolicyName="q", PolicyDocument=long))
    assert refusal == ("LimitExceeded", 409, "Cannot exceed quota for PolicySize: 6144")
    refusal = offline.refused(
        lambda: iam.put_user_policy(UserName="imdsctl-admin", PolicyName="p", PolicyDocument=long)
    )
    assert refusal == ("LimitExceeded", 409, "Maximum policy size of 2048 bytes exceeded for user imdsctl-admin")


# -- instance profiles -----------------------------------------------------------------------------------------------


def test_an_instance_profile_holds_one_role(offline: Any) -> None:
    iam = offline.client("iam")
    for name in ("r", "s"):
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=trust({"Service": "ec2.amazonaws.com"}))
    made = iam.create_instance_profile(InstanceProfileName="i", Path="/web/")["InstanceProfile"]
    assert made["Arn"] == f"arn:aws:iam::{offline.management}:instance-profile/web/i"
    assert made["InstanceProfileId"].startswith("AIPA")
    iam.add_role_to_instance_profile(InstanceProfileName="i", RoleName="r")
    refusal = offline.refused(lambda: iam.add_role_to_instance_profile(InstanceProfileName="i", RoleName="s"))
    assert refusal == ("LimitExceeded", 409, "Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1")
    [found] = iam.list_instance_profiles_for_role(RoleName="r")["InstanceProfiles"]
    assert [role["RoleName"] for role in found["Roles"]] == ["r"]
    assert iam.list_instance_profiles_for_role(RoleName="s")["InstanceProfiles"] == []
    assert offline.refused(lambda: iam.delete_instance_profile(InstanceProfileName="i"))[0] == "DeleteConflict"
    iam.remove_role_from_instance_profile(InstanceProfileName="i", RoleName="r")
    iam.delete_instance_profile(InstanceProfileName="i")
    assert offline.refused(lambda: iam.get_instance_profile(InstanceProfileName="i")) == (
        "NoSuchEntity",
        404,
        "Instance Profile i cannot be found.",
    )
    waiter = iam.get_waiter("instance_profile_exists")
    iam.create_instance_profile(InstanceProfileName="i")
    waiter.wait(InstanceProfileName="i")


# -- lists and limits ------------------------------------------------------------------------------------------------


def test_lists_come_in_pages_by_name(offline: Any) -> None:
    iam = offline.client("iam")
    names = [f"u{number:02d}" for number in range(12)]
    for name in reversed(names):
        iam.create_user(UserName=name, Path="/many/")
    pages = list(iam.get_paginator("list_users").paginate(PathPrefix="/many/", PaginationConfig={"PageSize": 5}))
    assert [len(page["Users"]) for page in pages] == [5, 5, 2]
    assert [page["IsTruncated"] for page in pages] == [True, True, False]
    assert [user["UserName"] for page in pages for user in page["Users"]] == names
    marker = pages[0]["Marker"]
    assert offline.refused(lambda: iam.list_roles(Marker=marker))[0] == "ValidationError"


@pytest.mark.parametrize(
    ("operation", "params", "sentence"),
    [
        ("create_user", {}, "Value null at 'userName' failed to satisfy constraint: Member must not be null"),
        ("create_user", {"UserName": "a b"}, "The specified value for userName is invalid."),
        ("create_user", {"UserName": "a" * 65}, "Member must have length less than or equal to 64"),
        ("create_user", {"UserName": "a", "Path": "x"}, "Member must satisfy regular expression pattern"),
        ("list_users", {"MaxItems": 1001}, "Member must have value less than or equal to 1000"),
        ("get_role", {"RoleName": ""}, "Member must have length greater than or equal to 1"),
        ("tag_role", {"RoleName": "r"}, "at 'tags' failed to satisfy constraint: Member must not be null"),
        ("update_access_key", {"AccessKeyId": "A" * 20, "Status": "On"}, "Member must satisfy enum value set"),
    ],
)
def test_the_limits_of_parameters(make_offline: Any, operation: str, params: dict[str, Any], sentence: str) -> None:
    offline = make_offline(accounts=1)
    iam = offline.client("iam", checked=False)
    code, status, message = offline.refused(lambda: getattr(iam, operation)(**params))
    assert (code, status) == ("ValidationError", 400)
    assert sentence in message


# -- sts -------------------------------------------------------------------------------------------------------------


def test_a_session_token_is_of_the_user_that_asked(offline: Any) -> None:
    sts = offline.client("sts")
    credentials = sts.get_session_token(DurationSeconds=900)["Credentials"]
    assert credentials["AccessKeyId"].startswith("ASIA")
    there = offline.client("sts", credentials=credentials)
    mine, its = sts.get_caller_identity(), there.get_caller_identity()
    assert {name: mine[name] for name in ("Arn", "UserId")} == {name: its[name] for name in ("Arn", "UserId")}
    code, status, message = offline.refused(there.get_session_token)
    assert (code, status) == ("AccessDenied", 403)
    assert message == "Cannot call GetSessionToken with session credentials"
    # Without MFA such a token does not work for IAM.
    assert offline.refused(offline.client("iam", credentials=credentials).list_users)[:2] == NOT_VALID
    offline.offset = timedelta(seconds=901)
    assert offline.refused(there.get_caller_identity)[:2] == ("ExpiredToken", 403)


def test_every_access_key_says_whose_it_is(offline: Any) -> None:
    sts = offline.client("sts")
    iam = offline.client("iam", offline.member)
    iam.create_user(UserName="ann")
    key = iam.create_access_key(UserName="ann")["AccessKey"]["AccessKeyId"]
    session = offline.client("sts", offline.member).get_session_token()["Credentials"]["AccessKeyId"]
    first = offline.world.admin_credentials(offline.member).access_key_id
    for each in (key, session, first):
        assert sts.get_access_key_info(AccessKeyId=each)["Account"] == offline.member
    iam.delete_access_key(UserName="ann", AccessKeyId=key)
    assert sts.get_access_key_info(AccessKeyId=key)["Account"] == offline.member
    assert offline.refused(lambda: sts.get_access_key_info(AccessKeyId="1" * 20))[0] == "ValidationError"


def test_session_policies_and_tags_are_kept_in_the_session(offline: Any) -> None:
    iam = offline.client("iam", offline.member)
    document = trust(root(offline.management), ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"])
    arn = iam.create_role(RoleName="r", AssumeRolePolicyDocument=document)["Role"]["Arn"]
    made = offline.client("sts").assume_role(
        RoleArn=arn,
        RoleSessionName="me",
        Policy=allow(),
        PolicyArns=[{"arn": ADMINISTRATOR}],
        Tags=[{"Key": "team", "Value": "blue"}],
        TransitiveTagKeys=["team"],
        SourceIdentity="ann",
    )
    assert 0 < made["PackedPolicySize"] < 100
    assert made["SourceIdentity"] == "ann"
    credentials = made["Credentials"]
    found = offline.world.credentials(credentials["AccessKeyId"], credentials["SessionToken"])
    assert found is not None
    assert found.session is not None
    assert found.session.policy == allow()
    assert found.session.policy_arns == (ADMINISTRATOR,)
    assert found.session.tags == (("team", "blue"),)
    assert found.session.transitive_tag_keys == ("team",)
    assert found.session.source_identity == "ann"


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"Policy": "{}"}, "MalformedPolicyDocument"),
        ({"Policy": allow(["ec2:" + "A" * 100] * 30)}, "ValidationError"),
        ({"Policy": allow(["ec2:" + "A" * 100] * 18), "PolicyArns": [{"arn": ADMINISTRATOR}]}, "PackedPolicyTooLarge"),
        ({"PolicyArns": [{"arn": "arn:aws:iam::aws:policy/NoSuchPolicy"}]}, "ValidationError"),
        ({"PolicyArns": [{"arn": ADMINISTRATOR}] * 11}, "ValidationError"),
        ({"Tags": [{"Key": "a", "Value": "b"}]}, "AccessDenied"),
        ({"SourceIdentity": "ann"}, "AccessDenied"),
        ({"TransitiveTagKeys": ["a"]}, "InvalidParameterValue"),
    ],
)
def test_what_no_session_may_have(make_offline: Any, params: dict[str, Any], code: str) -> None:
    offline = make_offline(accounts=4)
    arn = f"arn:aws:iam::{offline.member}:role/{ROLE_NAME}"
    sts = offline.client("sts", checked=False)
    assert offline.refused(partial(sts.assume_role, RoleArn=arn, RoleSessionName="me", **params))[0] == code


def test_tags_go_on_along_a_chain_when_they_are_transitive(offline: Any) -> None:
    iam = offline.client("iam")
    document = trust(root(offline.management), ["sts:AssumeRole", "sts:TagSession"])
    first, second = (
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=document)["Role"]["Arn"] for name in ("first", "second")
    )
    iam.put_role_policy(RoleName="first", PolicyName="chain", PolicyDocument=allow("sts:*", second))
    tags = [{"Key": "team", "Value": "blue"}, {"Key": "mood", "Value": "calm"}]
    asked = {"RoleArn": first, "RoleSessionName": "me", "Tags": tags, "TransitiveTagKeys": ["team"]}
    session = offline.client("sts").assume_role(**asked)["Credentials"]
    there = offline.client("sts", credentials=session)
    last = there.assume_role(RoleArn=second, RoleSessionName="me")["Credentials"]
    found = offline.world.credentials(last["AccessKeyId"], last["SessionToken"])
    assert found is not None
    assert found.session is not None
    assert found.session.tags == (("team", "blue"),)
    again = [{"Key": "Team", "Value": "red"}]
    refusal = offline.refused(lambda: there.assume_role(RoleArn=second, RoleSessionName="me", Tags=again))
    assert refusal[0] == "InvalidParameterValue"


# -- what outlives a restart -----------------------------------------------------------------------------------------


def everything(offline: Any) -> list[Any]:
    """All that a client sees of an account's IAM."""
    iam = offline.client("iam")
    users = iam.list_users()["Users"]
    roles = iam.list_roles()["Roles"]
    policies = iam.list_policies(Scope="Local")["Policies"]
    return [
        [iam.get_user(UserName=each["UserName"])["User"] for each in users],
        [iam.list_access_keys(UserName=each["UserName"])["AccessKeyMetadata"] for each in users],
        [iam.get_role(RoleName=each["RoleName"])["Role"] for each in roles],
        [iam.list_attached_role_policies(RoleName=each["RoleName"])["AttachedPolicies"] for each in roles],
        [iam.list_role_policies(RoleName=each["RoleName"])["PolicyNames"] for each in roles],
        [iam.get_policy(PolicyArn=each["Arn"])["Policy"] for each in policies],
        [iam.list_policy_versions(PolicyArn=each["Arn"])["Versions"] for each in policies],
        iam.list_instance_profiles()["InstanceProfiles"],
    ]


def test_iam_outlives_a_restart(make_offline: Any, tmp_path: Path) -> None:
    offline = make_offline(tmp_path)
    iam = offline.client("iam")
    iam.create_user(UserName="ann", Tags=[{"Key": "team", "Value": "ünï"}])
    iam.put_user_policy(UserName="ann", PolicyName="assume", PolicyDocument=allow("sts:AssumeRole"))
    keys = [iam.create_access_key(UserName="ann")["AccessKey"] for _ in range(2)]
    iam.update_access_key(UserName="ann", AccessKeyId=keys[1]["AccessKeyId"], Status="Inactive")
    arn = iam.create_policy(PolicyName="p", PolicyDocument=allow())["Policy"]["Arn"]
    iam.create_policy_version(PolicyArn=arn, PolicyDocument=allow("ec2:*"), SetAsDefault=True)
    role = iam.create_role(RoleName="r", AssumeRolePolicyDocument=trust(root(offline.management)))["Role"]
    iam.put_role_policy(RoleName="r", PolicyName="inline", PolicyDocument=allow())
    iam.attach_role_policy(RoleName="r", PolicyArn=arn)
    iam.create_instance_profile(InstanceProfileName="i")
    iam.add_role_to_instance_profile(InstanceProfileName="i", RoleName="r")
    ann = offline.client("sts", credentials=keys[0])
    session = ann.assume_role(RoleArn=role["Arn"], RoleSessionName="me", Policy=allow())["Credentials"]
    token = ann.get_session_token()["Credentials"]
    before = everything(offline)

    again = make_offline(tmp_path)
    assert everything(again) == before
    assert again.world.sequence == offline.world.sequence == 12
    for credentials, who in ((keys[0], "user/ann"), (session, "assumed-role/r/me"), (token, "user/ann")):
        assert again.client("sts", credentials=credentials).get_caller_identity()["Arn"].endswith(who)
    off = again.client("sts", credentials=keys[1])
    assert again.refused(off.get_caller_identity)[:2] == NOT_VALID


def test_what_iam_refused_is_not_in_the_log(make_offline: Any, tmp_path: Path) -> None:
    offline = make_offline(tmp_path)
    iam = offline.client("iam")
    too_many = [{"Key": str(number), "Value": ""} for number in range(51)]
    for attempt in (
        partial(iam.delete_user, UserName="nobody"),
        partial(iam.create_role, RoleName="r", AssumeRolePolicyDocument="{"),
        partial(iam.create_user, UserName="ann", PermissionsBoundary="arn:aws:iam::aws:policy/NoSuchPolicy"),
        partial(iam.create_user, UserName="ann", Tags=too_many),
        partial(iam.create_policy, PolicyName="p", PolicyDocument=allow(), Tags=too_many),
        partial(iam.create_instance_profile, InstanceProfileName="i", Tags=too_many),
    ):
        offline.refused(attempt)
    assert offline.world.sequence == 0
    assert everything(offline) == everything(make_offline())
