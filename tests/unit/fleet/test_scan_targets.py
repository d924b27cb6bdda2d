"""Whom a sweep visits: accounts, units and Regions, and one clear diagnostic for each name that does not exist."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from imdsctl.domain.diagnostics import DiagnosticError, Severity
from imdsctl.domain.regions import DEFAULT_REGIONS
from imdsctl.domain.verdicts import ACCOUNT_NOT_ACTIVE, NOT_INSPECTABLE
from imdsctl.fleet.ports import Unreachable
from imdsctl.fleet.scan import header_of
from imdsctl.fleet.selection import ListedAccount, Selection
from imdsctl.fleet.targets import (
    AccountRegions,
    Visit,
    enter,
    find_accounts,
    find_accounts_through,
    go_on,
    regions_of,
)
from imdsctl.wire.errors import ServiceError

NOON = datetime(2026, 11, 3, 12, tzinfo=UTC)
DENIED = ServiceError("AccessDeniedException", "You don't have permissions to access this resource.", 400)
NO_ORGANIZATION = ServiceError("AWSOrganizationsNotInUseException", "Your account is not a member.", 400)
TREE = {
    "ListRoots": {"Roots": [{"Id": "r-1", "Name": "Root"}]},
    "ListOrganizationalUnitsForParent": lambda params: {
        "r-1": {"OrganizationalUnits": [{"Id": "ou-w", "Name": "Workloads"}, {"Id": "ou-s", "Name": "Sandbox"}]},
        "ou-w": {"OrganizationalUnits": [{"Id": "ou-p", "Name": "Prod"}]},
    }.get(params["ParentId"], {}),
    "ListAccountsForParent": lambda params: {
        "r-1": {"Accounts": [{"Id": "111111111111"}]},
        "ou-p": {"Accounts": [{"Id": "222222222222"}]},
    }.get(params["ParentId"], {}),
}


def found(aws: Any, **selection: Any) -> Visit:
    return asyncio.run(find_accounts(aws, Selection(**selection)))


def ids(visit: Visit) -> list[str]:
    return [each.account_id for each in visit.accounts]


def codes(aws: Any, **selection: Any) -> list[str]:
    with pytest.raises(DiagnosticError) as refused:
        found(aws, **selection)
    assert refused.value.exit_code == 2
    assert all(each.hint for each in refused.value.diagnostics)
    return [each.code for each in refused.value.diagnostics]


def regions(aws: Any, **selection: Any) -> AccountRegions:
    return asyncio.run(regions_of(aws, None, "111111111111", Selection(**selection)))


def test_without_options_every_account_of_the_organization_is_visited(fake_aws: Any) -> None:
    assert ids(found(fake_aws(**TREE))) == ["111111111111", "222222222222"]


def test_a_home_region_that_does_not_exist_is_not_blamed_on_the_credentials(fake_aws: Any) -> None:
    refusal = ServiceError("SignatureDoesNotMatch", "Credential should be scoped to a valid region.", 403)
    aws = fake_aws(GetCallerIdentity=refusal)
    aws.default_region = "eu-west-9"
    assert codes(aws) == ["region-unknown"]


def test_an_account_knows_its_place_in_the_tree(fake_aws: Any) -> None:
    assert [each.ou_path for each in found(fake_aws(**TREE)).accounts] == ["Root", "Root/Workloads/Prod"]


@pytest.mark.parametrize("name", ["ou-w", "ou-p", "Root/Workloads", "Workloads/Prod", "/Workloads/Prod/"])
def test_a_unit_is_named_by_id_or_path_and_holds_what_is_below_it(fake_aws: Any, name: str) -> None:
    assert ids(found(fake_aws(**TREE), ous=(name,))) == ["222222222222"]
    assert ids(found(fake_aws(**TREE), exclude_ous=(name,))) == ["111111111111"]


def test_an_account_is_named_by_id_or_name(fake_aws: Any) -> None:
    assert ids(found(fake_aws(), accounts=("shop",))) == ["222222222222"]
    assert ids(found(fake_aws(), exclude_accounts=("222222222222",))) == ["111111111111"]


def test_unknown_accounts_are_reported_together(fake_aws: Any) -> None:
    assert codes(fake_aws(), accounts=("999999999999",), exclude_accounts=("shopp",)) == ["account-unknown"] * 2


def test_an_unknown_name_suggests_the_one_that_was_meant(fake_aws: Any) -> None:
    with pytest.raises(DiagnosticError) as refused:
        found(fake_aws(), accounts=("shopp",))
    assert refused.value.diagnostics[0].hint == "did you mean `shop`?"


def test_an_unknown_unit_is_a_diagnostic(fake_aws: Any) -> None:
    assert codes(fake_aws(**TREE), ous=("Workloads/Production",)) == ["ou-unknown"]


def test_a_region_that_does_not_exist_is_a_diagnostic(fake_aws: Any) -> None:
    assert codes(fake_aws(), regions=("eu-west-1", "eu-west-9")) == ["region-unknown"]
    assert codes(fake_aws(DescribeRegions=DENIED), exclude_regions=("mars-1",)) == ["region-unknown"]


def test_a_selection_that_leaves_nobody_is_a_diagnostic(fake_aws: Any) -> None:
    assert codes(fake_aws(), accounts=("shop",), exclude_accounts=("shop",)) == ["nothing-selected"]
    where = ("eu-west-1", "us-east-1")
    assert codes(fake_aws(), regions=where[:1], exclude_regions=where) == ["nothing-selected"]


def test_a_suspended_account_is_reported_and_not_entered(fake_aws: Any) -> None:
    listed = {
        "Accounts": [
            {"Id": "111111111111", "Name": "management", "State": "ACTIVE"},
            {"Id": "333333333333", "Name": "old", "State": "SUSPENDED"},
        ]
    }
    visit = found(fake_aws(ListAccounts=listed))
    assert ids(visit) == ["111111111111"]
    assert [(each.account_id, each.unseen.code) for each in visit.unseen] == [("333333333333", ACCOUNT_NOT_ACTIVE)]


def test_an_empty_page_of_accounts_does_not_end_the_list(fake_aws: Any) -> None:
    pages = [{"Accounts": []}, {"Accounts": [{"Id": "222222222222", "Name": "shop", "State": "ACTIVE"}]}]
    assert ids(found(fake_aws(ListAccounts=pages))) == ["222222222222"]


@pytest.mark.parametrize("error", [DENIED, NO_ORGANIZATION])
def test_without_an_organization_the_current_account_is_scanned_and_that_is_said(
    fake_aws: Any, error: ServiceError
) -> None:
    visit = found(fake_aws(ListAccounts=error))
    assert ids(visit) == ["111111111111"]
    assert [(each.code, each.severity) for each in visit.notices] == [("current-account-only", Severity.WARNING)]


@pytest.mark.parametrize(
    "error",
    [
        ServiceError("TooManyRequestsException", "AWS Organizations can't complete your request.", 429),
        ServiceError("ServiceException", "AWS Organizations can't complete your request.", 500),
        Unreachable("organizations.us-east-1.amazonaws.com", "timed out", "wait"),
    ],
)
def test_an_organization_that_does_not_answer_now_is_not_taken_for_none(fake_aws: Any, error: Exception) -> None:
    """Else one account would stand for thousands, and be verified."""
    with pytest.raises(DiagnosticError, match="accounts-unlisted: the organization's accounts could not be listed"):
        found(fake_aws(ListAccounts=error))
    assert ids(found(fake_aws(ListAccounts=error), current_account=True)) == ["111111111111"]
    assert ids(found(fake_aws(ListAccounts=error), accounts=("222222222222",))) == ["222222222222"]


def test_a_scan_of_one_account_says_so_and_of_which(fake_aws: Any) -> None:
    def scope(visit: Visit, **narrowed: Any) -> tuple[tuple[str, str], ...]:
        return header_of(Selection(**narrowed), visit, scan_id="s1", started=NOON).scope

    one = (("current-account", "111111111111"),)
    assert scope(found(fake_aws(ListAccounts=DENIED))) == one
    assert scope(found(fake_aws(), current_account=True), current_account=True) == one
    assert scope(found(fake_aws())) == ()
    assert Selection.from_scope(one) == Selection(current_account=True)


@pytest.mark.parametrize("call", ["ListRoots", "ListOrganizationalUnitsForParent", "ListAccountsForParent"])
def test_a_tree_that_could_not_be_read_is_unknown(fake_aws: Any, call: str) -> None:
    visit = found(fake_aws(**{**TREE, call: DENIED}))
    assert [(each.account_id, each.ou_path) for each in visit.accounts] == [("111111111111", ""), ("222222222222", "")]
    (unseen,) = visit.unseen
    assert (unseen.account_id, unseen.unseen.what, unseen.unseen.code) == (
        "111111111111",
        "organizational units",
        DENIED.code,
    )
    denied = {**TREE, call: DENIED}
    gone_on_with = asyncio.run(go_on(fake_aws(**denied), Selection(), visit.accounts))
    assert gone_on_with.unseen == visit.unseen
    through = asyncio.run(find_accounts_through([fake_aws(**denied), fake_aws(**TREE)], Selection()))
    assert through.unseen == visit.unseen


def test_named_accounts_are_entered_without_an_organization(fake_aws: Any) -> None:
    visit = found(fake_aws(ListAccounts=DENIED), accounts=("222222222222", "333333333333"))
    assert ids(visit) == ["222222222222", "333333333333"]
    assert codes(fake_aws(ListAccounts=DENIED), accounts=("shop",)) == ["account-unknown"]


def test_units_need_the_organization(fake_aws: Any) -> None:
    assert codes(fake_aws(ListAccounts=DENIED), ous=("Workloads",)) == ["organization-needed"]
    assert codes(fake_aws(), current_account=True, ous=("Workloads",)) == ["organization-needed"]


def test_the_current_account_asks_no_organization(fake_aws: Any) -> None:
    aws = fake_aws()
    assert ids(found(aws, current_account=True)) == ["111111111111"]
    assert aws.places("ListAccounts") == []
    assert codes(fake_aws(), current_account=True, accounts=("222222222222",)) == ["account-unknown"]


def test_our_own_account_is_entered_with_our_own_credentials(fake_aws: Any) -> None:
    async def run() -> None:
        aws = fake_aws()
        caller = (await find_accounts(aws, Selection())).caller
        assert await enter(aws, caller, "111111111111", "Admin") is None
        held = await enter(aws, caller, "222222222222", "path/Admin")
        assert held is not None
        assert held.access_key == "222222222222"
        (asked,) = [params for _, _, operation, params in aws.asked if operation == "AssumeRole"]
        assert asked["RoleArn"] == "arn:aws:iam::222222222222:role/path/Admin"

    asyncio.run(run())


def test_the_role_is_of_the_callers_partition(fake_aws: Any) -> None:
    async def run() -> None:
        aws = fake_aws(GetCallerIdentity={"Account": "111111111111", "Arn": "arn:aws-cn:iam::111111111111:root"})
        caller = (await find_accounts(aws, Selection())).caller
        await enter(aws, caller, "222222222222", "Admin")
        assert aws.asked[-1][3]["RoleArn"].startswith("arn:aws-cn:iam::")

    asyncio.run(run())


STATUSES = {
    "Regions": [
        {"RegionName": "us-east-1", "RegionOptStatus": "ENABLED_BY_DEFAULT"},
        {"RegionName": "me-south-1", "RegionOptStatus": "ENABLED"},
        {"RegionName": "af-south-1", "RegionOptStatus": "DISABLED"},
        {"RegionName": "ca-west-1", "RegionOptStatus": "DISABLING"},
        {"RegionName": "mx-central-1", "RegionOptStatus": "ENABLING"},
    ]
}


def test_enabled_regions_are_read_and_the_others_are_reported(fake_aws: Any) -> None:
    answer = regions(fake_aws(ListRegions=STATUSES))
    assert answer.enabled == ("me-south-1", "us-east-1")
    assert {each.region: each.unseen.code in NOT_INSPECTABLE for each in answer.unseen} == {
        "af-south-1": True,
        "ca-west-1": False,
        "mx-central-1": False,
    }


def test_regions_that_the_selection_leaves_out_are_not_reported(fake_aws: Any) -> None:
    answer = regions(fake_aws(ListRegions=STATUSES), regions=("us-east-1", "af-south-1"))
    assert (answer.enabled, [each.region for each in answer.unseen]) == (("us-east-1",), ["af-south-1"])
    assert regions(fake_aws(ListRegions=STATUSES), exclude_regions=("us-east-1",)).enabled == ("me-south-1",)


def test_ec2_lists_the_regions_where_account_management_may_not(fake_aws: Any) -> None:
    answer = regions(fake_aws(ListRegions=DENIED))
    assert answer.enabled == ("eu-west-1", "us-east-1")
    assert [each.region for each in answer.unseen] == ["af-south-1"]


def test_when_nobody_lists_the_regions_the_ones_that_always_exist_are_read_and_the_rest_is_unknown(
    fake_aws: Any,
) -> None:
    answer = regions(fake_aws(ListRegions=DENIED, DescribeRegions=DENIED))
    assert answer.enabled == DEFAULT_REGIONS
    (unseen,) = answer.unseen
    assert (unseen.region, unseen.unseen.what) == (None, "Regions")
    assert unseen.unseen.code not in NOT_INSPECTABLE


def test_a_network_that_is_down_names_the_host_and_the_next_step(fake_aws: Any) -> None:
    down = Unreachable("sts.us-east-1.amazonaws.com", "connection refused", "check the proxy settings")
    with pytest.raises(DiagnosticError) as refused:
        found(fake_aws(GetCallerIdentity=down))
    (diagnostic,) = refused.value.diagnostics
    assert (diagnostic.code, diagnostic.hint) == ("aws-unreachable", "check the proxy settings")
    assert "sts.us-east-1.amazonaws.com" in diagnostic.summary


# By file, and through several profiles.


def test_the_accounts_of_a_file_are_visited_and_no_others_known_to_the_organization_or_not(fake_aws: Any) -> None:
    listed = (ListedAccount("333333333333", "partner", "Reader"), ListedAccount("222222222222"))
    visit = asyncio.run(find_accounts(fake_aws(), Selection(listed=listed)))
    assert [(each.account_id, each.name) for each in visit.accounts] == [
        ("333333333333", "partner"),
        ("222222222222", "shop"),
    ]
    assert visit.roles == {"333333333333": "Reader"}


def test_the_accounts_of_a_file_need_no_organization(fake_aws: Any) -> None:
    aws = fake_aws(ListAccounts=ServiceError("AWSOrganizationsNotInUseException", "no", 400))
    visit = asyncio.run(find_accounts(aws, Selection(listed=(ListedAccount("333333333333"),))))
    assert [each.account_id for each in visit.accounts] == ["333333333333"]
    assert visit.notices == ()
    assert not visit.by_organization


def test_each_profile_brings_the_accounts_that_it_finds_and_enters_them(fake_aws: Any) -> None:
    alone = {
        "GetCallerIdentity": {"Account": "999999999999", "Arn": "arn:aws:iam::999999999999:user/me"},
        "ListAccounts": ServiceError("AWSOrganizationsNotInUseException", "no", 400),
    }
    first, second = fake_aws(), fake_aws(**alone)
    visit = asyncio.run(find_accounts_through([first, second], Selection()))
    assert [each.account_id for each in visit.accounts] == ["111111111111", "222222222222", "999999999999"]
    doors = {account: door.aws for account, door in visit.doors.items()}
    assert doors == {"111111111111": first, "222222222222": first, "999999999999": second}


def test_an_account_that_only_one_profile_knows_may_be_named(fake_aws: Any) -> None:
    others = {"Accounts": [{"Id": "444444444444", "Name": "lab", "State": "ACTIVE"}]}
    doors = [fake_aws(), fake_aws(ListAccounts=others)]
    visit = asyncio.run(find_accounts_through(doors, Selection(accounts=("lab", "shop"))))
    assert [each.name for each in visit.accounts] == ["shop", "lab"]
    with pytest.raises(DiagnosticError, match="account-unknown"):
        asyncio.run(find_accounts_through(doors, Selection(accounts=("nowhere",))))
