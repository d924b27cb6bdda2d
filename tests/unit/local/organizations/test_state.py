"""What an organization remembers, and that what it keeps to be quick never outlives a change."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from imdsctl.local.generator import make_world
from imdsctl.local.organizations.state import DECLARATIVE, FULL_ACCESS_ID, SCP, OrganizationPolicy
from imdsctl.local.spec import WorldSpec
from imdsctl.local.world import OrganizationalUnit, World
from imdsctl.policy.declarative import NOTHING_DECLARED, parse_declarative_policy

NOON = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
DOCUMENT = {"ec2_attributes": {"instance_metadata_defaults": {"http_tokens": {"@@assign": "required"}}}}


@pytest.fixture
def world() -> World:
    return make_world(WorldSpec(seed=3, created=NOON, accounts=12))


def some_member(world: World) -> str:
    return list(world.accounts)[3]


def declare(world: World, target: str) -> str:
    state = world.organizations
    policy = OrganizationPolicy(
        "p-1", "arn", "p", "", DECLARATIVE, "", parse_declarative_policy(DOCUMENT, name="p-1"), NOON
    )
    state.policies[policy.id] = policy
    state.enable(DECLARATIVE, NOON)
    state.attach(DECLARATIVE, target, (policy.id,), NOON)
    return policy.id


def test_the_first_state_is_the_generator_s(world: World) -> None:
    again = make_world(world.spec)
    assert world.organization == again.organization
    assert world.organizations.path(some_member(world))[0] == world.organization.root_id
    assert [len(level) for level in world.scp_levels(some_member(world)) or ()] == [1] * len(
        world.organizations.path(some_member(world))
    )


def test_a_new_unit_is_in_the_organization_and_a_removed_one_takes_its_attachments_along(world: World) -> None:
    state = world.organizations
    state.put_unit(OrganizationalUnit("ou-1", "one", world.organization.root_id))
    assert world.organization.units[-1].id == "ou-1"
    assert state.attached(SCP, "ou-1") == (FULL_ACCESS_ID,)
    declare(world, "ou-1")
    state.remove_unit("ou-1")
    assert all(unit.id != "ou-1" for unit in world.organization.units)
    assert state.attached(DECLARATIVE, "ou-1") == ()


def test_what_binds_an_account_is_kept_until_it_changes(world: World) -> None:
    member = some_member(world)
    assert world.scp_levels(member) is world.scp_levels(member)
    assert world.effective_declarative_policy(member) is NOTHING_DECLARED
    declare(world, member)
    first = world.effective_declarative_policy(member)
    assert first.manages_metadata_defaults
    assert world.effective_declarative_policy(member) is first
    world.organizations.disable(DECLARATIVE)
    assert world.effective_declarative_policy(member) is NOTHING_DECLARED


def test_accounts_with_the_same_policies_share_what_was_merged(world: World) -> None:
    declare(world, world.organization.root_id)
    effective = {id(world.effective_declarative_policy(account)) for account in world.accounts}
    depths = {len(world.organizations.path(account)) for account in world.accounts}
    assert len(effective) == len(depths)


def test_the_accounts_under_a_unit_are_those_of_its_units_as_well(world: World) -> None:
    state = world.organizations
    [workloads] = [unit for unit in world.organization.units if unit.name == "Workloads"]
    below = state.accounts_under(workloads.id)
    assert below
    assert all(workloads.id in state.path(account) for account in below)
    assert set(state.accounts_under(world.organization.root_id)) == set(world.accounts)
    assert list(state.accounts_under(some_member(world))) == [some_member(world)]


def test_the_first_defaults_are_those_of_the_region_itself(world: World) -> None:
    for account in list(world.accounts)[:6]:
        assert world.first_defaults(account, "us-east-1") == world.region(account, "us-east-1").own_defaults
