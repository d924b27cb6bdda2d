"""SCPs and declarative policies bind: botocore as the client that wants to do what they forbid."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

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


# -- SCPs bind -------------------------------------------------------------------------------------------------------


def test_an_scp_binds_the_accounts_below_it_at_once_and_nobody_else(org: Any) -> None:
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


def test_what_no_scp_allows_at_one_level_is_denied(org: Any) -> None:
    allowed = org.policy(DENY.replace("Deny", "Allow").replace("ec2:ModifyInstanceMetadataDefaults", "ec2:Get*"))
    org.api.attach_policy(PolicyId=allowed, TargetId=org.member)
    org.api.detach_policy(PolicyId=FULL, TargetId=org.member)
    theirs = org.offline.client("ec2", org.member)
    theirs.get_instance_metadata_defaults()
    assert org.offline.refused(theirs.describe_instances)[0] == "UnauthorizedOperation"
    org.api.disable_policy_type(RootId=org.root, PolicyType=SCP)
    theirs.describe_instances()


# -- declarative policies bind ---------------------------------------------------------------------------------------


def test_a_declarative_policy_manages_the_defaults_until_it_is_detached(org: Any) -> None:
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
    policy = org.declare(org.declared(MESSAGE, http_tokens="required", http_put_response_hop_limit="1"))
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


def test_the_management_account_is_bound_as_well(org: Any) -> None:
    org.declare(org.declared(http_endpoint="enabled"))
    ec2 = org.offline.client("ec2")
    code, _, message = org.offline.refused(lambda: ec2.modify_instance_metadata_defaults(HttpTokens="required"))
    assert (code, message) == (
        "UnsupportedOperation",
        "This action is denied due to an organizational policy in effect",
    )


def test_launches_and_modifications_obey_the_policy(org: Any) -> None:
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
    policy = org.declare(org.declared(http_tokens="required", instance_metadata_tags="enabled"))
    [after] = ec2.run_instances(**launch)["Instances"]
    assert after["MetadataOptions"]["HttpTokens"] == "required"
    assert after["MetadataOptions"]["InstanceMetadataTags"] == "enabled"
    org.api.update_policy(PolicyId=policy, Content=org.declared(http_tokens_enforced="enabled"))
    code, _, message = org.offline.refused(lambda: ec2.run_instances(**launch))
    assert code == "UnsupportedOperation"
    assert "httpTokensEnforced" in message
    ec2.run_instances(**launch, MetadataOptions={"HttpTokens": "required"})
    modify = {"InstanceId": after["InstanceId"], "HttpTokens": "optional"}
    assert org.offline.refused(lambda: ec2.modify_instance_metadata_options(**modify))[0] == "UnsupportedOperation"
    org.api.disable_policy_type(RootId=org.root, PolicyType=DECLARATIVE)
    ec2.run_instances(**launch)
    ec2.modify_instance_metadata_options(**modify)


def test_policies_bind_what_is_below_them_only_and_the_nearest_wins(org: Any) -> None:
    unit = org.unit()
    [parent] = org.api.list_parents(ChildId=org.member)["Parents"]
    org.declare(org.declared(http_tokens="required", http_endpoint="enabled"), unit, "outer")
    ec2 = org.offline.client("ec2", org.member)
    assert ec2.get_instance_metadata_defaults()["AccountLevel"]["ManagedBy"] == "account"
    org.api.move_account(AccountId=org.member, SourceParentId=parent["Id"], DestinationParentId=unit)
    org.declare(org.declared(http_tokens="optional"), org.member, "inner")
    level = ec2.get_instance_metadata_defaults()["AccountLevel"]
    assert (level["HttpTokens"], level["HttpEndpoint"]) == ("optional", "enabled")
    effective = org.offline.client("organizations", org.member).describe_effective_policy(PolicyType=DECLARATIVE)
    assert effective["EffectivePolicy"]["TargetId"] == org.member
    assert json.loads(effective["EffectivePolicy"]["PolicyContent"]) == {
        "ec2_attributes": {"instance_metadata_defaults": {"http_tokens": "optional", "http_endpoint": "enabled"}}
    }


def test_who_may_ask_for_an_effective_policy(org: Any) -> None:
    ask = {"PolicyType": DECLARATIVE, "TargetId": org.member}
    assert org.refused("describe_effective_policy", **ask)[0] == "EffectivePolicyNotFoundException"
    org.declare(org.declared(http_tokens="required"), org.member)
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


def test_policies_that_contradict_each_other_are_listed(org: Any) -> None:
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


def report(org: Any, target: str, **more: Any) -> tuple[Any, str]:
    org.api.enable_aws_service_access(ServicePrincipal="ec2.amazonaws.com")
    ec2 = org.offline.client("ec2")
    started = ec2.start_declarative_policies_report(S3Bucket="reports", TargetId=target, **more)
    return ec2, started["ReportId"]


def test_a_report_counts_what_the_accounts_have(org: Any) -> None:
    org.declare(org.declared(http_tokens="required"))
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


def test_a_report_says_what_the_regions_themselves_say(org: Any) -> None:
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


def test_one_report_at_a_time_and_a_running_one_can_be_cancelled(make_org: Any) -> None:
    org = make_org(settle_seconds=600.0)
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


def test_reports_are_for_the_organization_s_administrators(org: Any) -> None:
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


def test_everything_outlives_a_restart(make_org: Any, tmp_path: Path) -> None:
    def seen(org: Any) -> list[Any]:
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

    org = make_org(tmp_path)
    unit = org.unit()
    [parent] = org.api.list_parents(ChildId=org.member)["Parents"]
    org.api.move_account(AccountId=org.member, SourceParentId=parent["Id"], DestinationParentId=unit)
    org.api.create_account(Email="new@example.org", AccountName="new")
    org.api.attach_policy(PolicyId=org.policy(DENY), TargetId=org.member)
    org.declare(org.declared(MESSAGE, http_tokens="required"))
    org.api.tag_resource(ResourceId=org.root, Tags=[{"Key": "a", "Value": "b"}])
    report(org, org.root)
    org.api.register_delegated_administrator(AccountId=org.member, ServicePrincipal="ec2.amazonaws.com")
    before = seen(org)
    assert seen(make_org(tmp_path)) == before
