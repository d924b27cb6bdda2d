"""What an organization remembers: its tree, its policies with what they are attached to, and small tables.

The generator's organization is the first state; every write of Organizations evolves it. `scp_levels` and
`effective_declarative_policy` are asked by nearly every request of the local AWS, so they are kept until something
changes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TYPE_CHECKING

from imdsctl.policy.declarative import NOTHING_DECLARED, DeclarativePolicy, EffectivePolicy, effective_policy
from imdsctl.policy.document import Policy, PolicyKind, parse_policy

if TYPE_CHECKING:
    from imdsctl.local.organizations.reports import Report
    from imdsctl.local.world import Account, Organization, OrganizationalUnit

SCP = "SERVICE_CONTROL_POLICY"
DECLARATIVE = "DECLARATIVE_POLICY_EC2"
SERVED = (SCP, DECLARATIVE)
"""The policy types that are here; AWS has more."""

FULL_ACCESS_ID = "p-FullAWSAccess"
FULL_ACCESS_ARN = f"arn:aws:organizations::aws:policy/service_control_policy/{FULL_ACCESS_ID}"


@dataclass(slots=True)
class OrganizationPolicy:
    """A policy with its text as it was written, and compiled. `updated` is when its content last changed."""

    id: str
    arn: str
    name: str
    description: str
    type: str
    content: str
    compiled: Policy | DeclarativePolicy
    updated: datetime
    aws_managed: bool = False


@dataclass(slots=True)
class Creation:
    """A CreateAccount request. It is `done` at a time; `failure` is AWS's reason, None when the account was made."""

    id: str
    account_name: str
    requested: datetime
    done: datetime
    account_id: str | None
    failure: str | None = None


@dataclass(slots=True)
class OrganizationState:
    """The organization of a world, evolving. `accounts` is the world's own table."""

    organization: Organization
    accounts: MutableMapping[str, Account]
    created: datetime
    units: dict[str, OrganizationalUnit] = field(init=False)
    policies: dict[str, OrganizationPolicy] = field(init=False)
    enabled: dict[str, datetime] = field(init=False)  # policy type to since when
    tags: dict[str, dict[str, str]] = field(default_factory=dict)  # by root, unit, account or policy
    services: dict[str, datetime] = field(default_factory=dict)  # trusted access: service principal to since when
    delegated: dict[str, dict[str, datetime]] = field(default_factory=dict)  # account to its service principals
    creations: dict[str, Creation] = field(default_factory=dict)
    activating: dict[str, datetime] = field(default_factory=dict)  # account: when it is active
    closed: dict[str, tuple[datetime, datetime]] = field(default_factory=dict)  # account to (asked, final)
    reports: dict[str, Report] = field(default_factory=dict)
    # What is attached where it is not the default: (policy type, target) to policy ids in the order of attachment.
    _attached: dict[tuple[str, str], tuple[str, ...]] = field(default_factory=dict)
    _declared: dict[str, datetime] = field(default_factory=dict)  # target: when declarative policies there changed
    _scps: dict[str, tuple[tuple[Policy, ...], ...]] = field(default_factory=dict)
    _effective: dict[str, EffectivePolicy] = field(default_factory=dict)
    _merged: dict[tuple[tuple[str, ...], ...], EffectivePolicy] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.units = {unit.id: unit for unit in self.organization.units}
        # A new organization has all features, and SCPs are what everybody turns on first.
        self.enabled = {SCP: self.created}
        full = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
        self.policies = {
            FULL_ACCESS_ID: OrganizationPolicy(
                id=FULL_ACCESS_ID,
                arn=FULL_ACCESS_ARN,
                name="FullAWSAccess",
                description="Allows access to every operation",
                type=SCP,
                content=json.dumps(full, indent=2),
                compiled=parse_policy(full, name=FULL_ACCESS_ARN, kind=PolicyKind.SCP),
                updated=self.created,
                aws_managed=True,
            )
        }

    # -- the tree ----------------------------------------------------------------------------------------------------

    def is_target(self, entity: str) -> bool:
        """Whether this is the root, a unit or an account of the organization."""
        return entity == self.organization.root_id or entity in self.units or entity in self.accounts

    def targets(self) -> Iterator[str]:
        """Everything that policies can be attached to: the root, the units, the accounts."""
        yield self.organization.root_id
        yield from self.units
        yield from self.accounts

    def parent_of(self, entity: str) -> str | None:
        """The root or unit above a unit or an account; None for the root. Raises KeyError for anything else."""
        if entity == self.organization.root_id:
            return None
        unit = self.units.get(entity)
        return unit.parent_id if unit is not None else self.accounts[entity].parent_id

    def path(self, entity: str) -> list[str]:
        """The entities from the root down to this one."""
        steps: list[str] = []
        step: str | None = entity
        while step is not None:
            steps.append(step)
            step = self.parent_of(step)
        return steps[::-1]

    def put_unit(self, unit: OrganizationalUnit) -> None:
        """Add a unit, or replace the one of its id."""
        self.units[unit.id] = unit
        self._tree_changed()

    def remove_unit(self, unit_id: str) -> None:
        """Forget a unit with its tags and what was attached to it."""
        del self.units[unit_id]
        for kind in SERVED:
            self._attached.pop((kind, unit_id), None)
        self.tags.pop(unit_id, None)
        self._declared.pop(unit_id, None)
        self._tree_changed()

    def move(self, account: Account, parent_id: str, now: datetime) -> None:
        """Put an account under another root or unit."""
        account.parent_id = parent_id
        self._declared[account.id] = now
        self._forget()

    def add_account(self, account: Account, active: datetime) -> None:
        """Take a new account in; it tells that it is active from a time on."""
        self.accounts[account.id] = account
        self.activating[account.id] = active
        self._forget()

    def account_state(self, account: Account, now: datetime) -> str:
        """An account's `State` as Organizations tells it now."""
        if account.id in self.closed:
            return "PENDING_CLOSURE" if now < self.closed[account.id][1] else "CLOSED"
        if account.id in self.activating and now < self.activating[account.id]:
            return "PENDING_ACTIVATION"
        return account.state

    def _tree_changed(self) -> None:
        self.organization = replace(self.organization, units=tuple(self.units.values()))
        self._forget()

    # -- what is attached --------------------------------------------------------------------------------------------

    def attached(self, kind: str, target: str) -> tuple[str, ...]:
        """The ids of what is attached to a target itself, in the order of attachment.

        While SCPs are enabled everything has FullAWSAccess, until somebody detaches it.
        """
        default = (FULL_ACCESS_ID,) if kind == SCP and SCP in self.enabled else ()
        return self._attached.get((kind, target), default)

    def attach(self, kind: str, target: str, policies: tuple[str, ...], now: datetime) -> None:
        """Let exactly these policies of a type be attached to a target."""
        self._attached[kind, target] = policies
        if kind == DECLARATIVE:
            self._declared[target] = now
        self._forget()

    def targets_of(self, policy: OrganizationPolicy) -> list[str]:
        """What a policy is attached to."""
        if policy.id == FULL_ACCESS_ID:
            return [target for target in self.targets() if policy.id in self.attached(SCP, target)]
        places = {where for (_, where), ids in self._attached.items() if policy.id in ids}
        return [target for target in self.targets() if target in places] if places else []

    def enable(self, kind: str, now: datetime) -> None:
        """Let policies of a type bind."""
        self.enabled[kind] = now
        self._forget()

    def disable(self, kind: str) -> None:
        """Detach every policy of a type (User Guide, "Disabling a policy type"); the policies themselves stay."""
        del self.enabled[kind]
        for key in [key for key in self._attached if key[0] == kind]:
            del self._attached[key]
        self._forget()

    def policy_changed(self) -> None:
        """A policy's content is another now."""
        self._forget()

    # -- what binds an account ---------------------------------------------------------------------------------------

    def scp_levels(self, account_id: str) -> Sequence[Sequence[Policy]] | None:
        """The SCPs from the root (first) down to the account (last); None while SCPs are disabled.

        Raises KeyError for an account that is not of the organization.
        """
        if SCP not in self.enabled:
            return None
        levels = self._scps.get(account_id)
        if levels is None:
            levels = self._scps[account_id] = tuple(
                tuple(policy for policy in compiled if isinstance(policy, Policy))
                for compiled in self._compiled(self._levels(SCP, account_id))
            )
        return levels

    def effective_declarative_policy(self, account_id: str) -> EffectivePolicy:
        """What declarative policies for EC2 set for an account; empty while the type is disabled.

        Raises KeyError for an account that is not of the organization.
        """
        if DECLARATIVE not in self.enabled:
            return NOTHING_DECLARED
        found = self._effective.get(account_id)
        if found is None:
            ids = self._levels(DECLARATIVE, account_id)
            found = self._merged.get(ids)
            if found is None:
                found = self._merged[ids] = effective_policy(
                    [
                        [policy for policy in compiled if isinstance(policy, DeclarativePolicy)]
                        for compiled in self._compiled(ids)
                    ]
                )
            self._effective[account_id] = found
        return found

    def declared_at(self, account_id: str) -> datetime:
        """When what may change an account's effective declarative policy last changed."""
        path = self.path(account_id)
        changes = [self._declared[each] for each in path if each in self._declared]
        changes += [self.policies[each].updated for where in path for each in self.attached(DECLARATIVE, where)]
        return max(changes, default=self.enabled.get(DECLARATIVE, self.created))

    def _levels(self, kind: str, account_id: str) -> tuple[tuple[str, ...], ...]:
        return tuple(self.attached(kind, each) for each in self.path(account_id))

    def _compiled(self, levels: tuple[tuple[str, ...], ...]) -> list[list[Policy | DeclarativePolicy]]:
        return [[self.policies[each].compiled for each in level] for level in levels]

    def _forget(self) -> None:
        self._scps.clear()
        self._effective.clear()
        self._merged.clear()

    # -- trusted access ----------------------------------------------------------------------------------------------

    def administers(self, account_id: str, service: str) -> bool:
        """Whether an account is the management account, or a delegated administrator of the service."""
        return account_id == self.organization.management_id or service in self.delegated.get(account_id, {})

    def accounts_under(self, target: str) -> Mapping[str, Account]:
        """The accounts at or under a root, unit or account."""
        if target in self.accounts:
            return {target: self.accounts[target]}
        below = {target}
        for unit_id in self.units:
            path = self.path(unit_id)
            if target in path:
                below.add(unit_id)
        return {each.id: each for each in self.accounts.values() if each.parent_id in below}
