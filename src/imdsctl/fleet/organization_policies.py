"""The organization's policies that matter to IMDS: service control policies and declarative policies for EC2.

They are read once for an organization. The effective declarative policy is asked for an account only when a
declarative policy is attached above it: where there is none, nothing is in force.

Sources: Organizations API Reference, ListPolicies, DescribePolicy, ListTargetsForPolicy, DescribeEffectivePolicy;
Organizations User Guide, "Declarative policies".
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from imdsctl.domain.observations import AccountUnseen, PolicyKind, PolicySeen, Unseen
from imdsctl.fleet import limits
from imdsctl.fleet.ports import Aws, Unreachable
from imdsctl.fleet.targets import Visit, code_of, home_region, said
from imdsctl.wire.errors import ServiceError

_NOTHING_IN_FORCE = "EffectivePolicyNotFoundException"


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class PoliciesSeen:
    """What an organization's policies say; `effective` is account id and JSON text; `unseen` what was refused."""

    policies: tuple[PolicySeen, ...] = ()
    effective: tuple[tuple[str, str], ...] = ()
    unseen: tuple[AccountUnseen, ...] = ()


async def read_policies(aws: Aws, visit: Visit) -> PoliciesSeen:
    """Every policy of the two kinds with its content and targets, and what is in force in the accounts of `visit`.

    Nothing, when the visit was not found through Organizations. Refusals become `unseen`.
    """
    if not visit.by_organization:
        return PoliciesSeen()
    reader = _Reader(aws, visit.caller.account_id)
    policies = []
    for kind in PolicyKind:
        policies += await reader.policies(kind)
    declarative = {
        each for policy in policies if policy.kind is PolicyKind.DECLARATIVE_POLICY_EC2 for each in policy.targets
    }
    effective: list[tuple[str, str]] = []
    if declarative:
        below = [
            account.account_id
            for account in visit.accounts
            if account.account_id in declarative
            or not declarative.isdisjoint(visit.units.get(account.account_id, ()))
            or account.account_id not in visit.units
        ]
        effective = await reader.effective(below)
    return PoliciesSeen(tuple(policies), tuple(effective), tuple(reader.unseen))


class _Reader:
    def __init__(self, aws: Aws, account_id: str) -> None:
        self._aws = aws
        self._account_id = account_id
        self._turn = asyncio.Semaphore(limits.ORGANIZATION_CALLS_CONCURRENT_MAX)
        self.unseen: list[AccountUnseen] = []

    async def policies(self, kind: PolicyKind) -> list[PolicySeen]:
        what = f"policies of the organization ({kind})"
        listed = await self._read(what, lambda: self._listed("ListPolicies", "Policies", {"Filter": str(kind)}))
        found = await asyncio.gather(*(self._policy(kind, each) for each in listed or ()))
        return [each for each in found if each is not None]

    async def _policy(self, kind: PolicyKind, summary: Mapping[str, Any]) -> PolicySeen | None:
        policy_id = summary["Id"]

        async def read() -> PolicySeen:
            answer = await self._call("DescribePolicy", {"PolicyId": policy_id})
            targets = await self._listed("ListTargetsForPolicy", "Targets", {"PolicyId": policy_id})
            return PolicySeen(
                policy_id,
                summary.get("Name", ""),
                kind,
                answer.get("Policy", {}).get("Content", ""),
                tuple(sorted(each["TargetId"] for each in targets)),
                bool(summary.get("AwsManaged")),
            )

        return await self._read(f"policy {policy_id}", read)

    async def effective(self, account_ids: Sequence[str]) -> list[tuple[str, str]]:
        found = await asyncio.gather(*(self._effective(each) for each in account_ids))
        return [(account_id, text) for account_id, text in zip(account_ids, found, strict=True) if text]

    async def _effective(self, account_id: str) -> str | None:
        params = {"PolicyType": str(PolicyKind.DECLARATIVE_POLICY_EC2), "TargetId": account_id}

        async def read() -> str:
            try:
                answer = await self._call("DescribeEffectivePolicy", params)
            except ServiceError as error:
                if error.code == _NOTHING_IN_FORCE:
                    return ""
                raise
            text: str = answer.get("EffectivePolicy", {}).get("PolicyContent", "")
            return text

        return await self._read("effective declarative policy", read, account_id)

    async def _read(self, what: str, read: Callable[[], Awaitable[T]], account_id: str | None = None) -> T | None:
        try:
            return await read()
        except (ServiceError, Unreachable) as error:
            unseen = Unseen(what, said(error), code_of(error))
            self.unseen.append(AccountUnseen(account_id or self._account_id, None, unseen))
            return None

    async def _call(self, operation: str, params: Mapping[str, Any]) -> dict[str, Any]:
        async with self._turn:
            return await self._aws.call(None, "organizations", home_region(self._aws), operation, params)

    async def _listed(self, operation: str, key: str, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        async with self._turn:
            pages: AsyncIterator[dict[str, Any]] = self._aws.paginate(
                None, "organizations", home_region(self._aws), operation, params
            )
            return [each async for page in pages for each in page.get(key, ())]
