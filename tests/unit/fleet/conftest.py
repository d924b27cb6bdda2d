"""A fake AWS for the fleet: answers by operation, and a record of what was asked."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import pytest

from imdsctl.fleet.ports import Credentials

CALLER = "111111111111"
MEMBER = "222222222222"
QUIET: Mapping[str, Any] = {
    "GetCallerIdentity": {"Account": CALLER, "Arn": f"arn:aws:iam::{CALLER}:user/me"},
    "ListAccounts": {
        "Accounts": [
            {"Id": CALLER, "Name": "management", "State": "ACTIVE"},
            {"Id": MEMBER, "Name": "shop", "State": "ACTIVE"},
        ]
    },
    "ListRoots": {"Roots": []},
    "ListAccountsForParent": {},
    "ListOrganizationalUnitsForParent": {},
    "ListRegions": {
        "Regions": [
            {"RegionName": "eu-west-1", "RegionOptStatus": "ENABLED_BY_DEFAULT"},
            {"RegionName": "us-east-1", "RegionOptStatus": "ENABLED_BY_DEFAULT"},
        ]
    },
    "DescribeRegions": {
        "Regions": [
            {"RegionName": "eu-west-1", "OptInStatus": "opt-in-not-required"},
            {"RegionName": "us-east-1", "OptInStatus": "opt-in-not-required"},
            {"RegionName": "af-south-1", "OptInStatus": "not-opted-in"},
        ]
    },
    "GetInstanceMetadataDefaults": {"AccountLevel": {"ManagedBy": "account"}},
    "DescribeInstances": {},
    "DescribeLaunchTemplateVersions": {},
    "DescribeLaunchTemplates": {},
    "DescribeImages": {},
    "DescribeLaunchConfigurations": {},
    "DescribeAutoScalingGroups": {},
    "DescribeFleets": {},
    "DescribeSpotFleetRequests": {},
    "DescribeSpotInstanceRequests": {},
    "ListPolicies": {},
}
"""An organization of two accounts with two Regions each and nothing in them."""


class FakeAws:
    """`answers[key]` is a result, a list of pages, an exception, or a function of the parameters.

    A key is an operation, or `account/region operation` for one place. Whose credentials a call has is told by the
    access key: the fake AssumeRole puts the account's id there.
    """

    default_region: str | None = "us-east-1"

    def __init__(self, **answers: Any) -> None:
        self.answers: dict[str, Any] = {**QUIET, **answers}
        self.asked: list[tuple[str, str, str, Mapping[str, Any]]] = []

    async def call(
        self,
        credentials: Credentials | None,
        service: str,
        region: str,
        operation: str,
        params: Mapping[str, Any],
        projection: Any = None,
    ) -> Any:
        account = credentials.access_key if credentials else CALLER
        self.asked.append((account, region, operation, params))
        if operation == "AssumeRole" and "AssumeRole" not in self.answers:
            account = params["RoleArn"].split(":")[4]
            answer = self.answers.get(f"{account} AssumeRole")
            if answer is None:
                keys = {"AccessKeyId": account, "SecretAccessKey": "secret", "SessionToken": "token"}
                return {"Credentials": keys}
        else:
            answer = self.answers.get(f"{account}/{region} {operation}")
            if answer is None:
                answer = self.answers.get(f"{account} {operation}", self.answers[operation])
        if callable(answer) and not isinstance(answer, Exception):
            answer = answer(params)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def paginate(self, *args: Any) -> AsyncIterator[Any]:
        answer = await self.call(*args)
        for page in answer if isinstance(answer, list) else [answer]:
            if isinstance(page, Exception):
                raise page
            yield page

    def places(self, operation: str) -> list[str]:
        """Where an operation was asked, as `account/region`, in order of place."""
        return sorted(f"{account}/{region}" for account, region, asked, _ in self.asked if asked == operation)


@pytest.fixture
def fake_aws() -> Callable[..., FakeAws]:
    return FakeAws
