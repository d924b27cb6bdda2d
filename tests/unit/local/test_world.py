"""An organization and its fleet from a seed: the same everywhere, and as untidy as a real one."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from imdsctl.domain.options import AccountDefaults, HttpTokens, Switch
from imdsctl.domain.regions import COMMERCIAL_REGIONS, DEFAULT_REGIONS
from imdsctl.local.ec2.state import RegionState
from imdsctl.local.generator import make_world
from imdsctl.local.organization_generator import AccountNumbers
from imdsctl.local.sessions import Session
from imdsctl.local.spec import WorldSpec
from imdsctl.local.world import ROLE_NAME, Credentials, World

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)


def world(**spec: Any) -> World:
    return make_world(WorldSpec(**{"seed": 7, "created": NOON, **spec}))


def snapshot(state: RegionState) -> list[Any]:
    """Everything of a Region that a client could see of its instances, images and templates."""
    return [
        state.defaults,
        [(i.id, i.state, i.options, i.launch_time, i.image_id, i.private_ip) for i in state.instances.values()],
        list(state.images.values()),
        [(t.id, t.name, t.versions, t.default_version) for t in state.templates.values()],
        state.tags,
    ]


def fleet(world: World) -> list[RegionState]:
    return [world.region(account, region) for account in world.accounts for region in world.spec.regions]


def test_one_seed_makes_one_organization_on_every_machine() -> None:
    one = world()
    assert list(one.accounts)[:3] == ["536640426524", "783412080231", "130183733938"]
    assert one.management.access_key_id == "AKIAXZ4SDCION75QVC74"
    assert next(iter(one.region(one.management.id, "us-east-1").instances)) == "i-0b27e9681cd7a1d83"
    assert one.organization == world().organization
    assert world().organization != world(seed=8).organization


def test_an_account_of_the_largest_organization_is_found_without_making_the_others() -> None:
    large = world(accounts=50_000)
    assert len(large.accounts) == 50_000
    last = AccountNumbers(7).at(49_999)
    assert last in large.accounts
    assert large.credentials(large.accounts[last].access_key_id, None) == large.admin_credentials(last)
    assert AccountNumbers(7).at(50_000) not in large.accounts
    for stranger in ("", "1", "012345678901", "\u0661" * 12, "12345678901x"):
        assert stranger not in large.accounts


def test_account_ids_are_distinct_and_lead_back_to_their_position() -> None:
    numbers = AccountNumbers(2019)
    ids = [numbers.at(position) for position in range(50_000)]
    assert len(set(ids)) == 50_000
    assert all(len(each) == 12 for each in ids)
    assert [numbers.position(each) for each in ids[:100]] == list(range(100))


def test_an_account_that_joins_comes_last_and_is_of_the_table() -> None:
    accounts = world(accounts=3).accounts
    joined = replace(accounts[next(iter(accounts))], id="999999999999")
    accounts[joined.id] = joined
    assert (len(accounts), list(accounts)[-1], accounts[joined.id]) == (4, joined.id, joined)


def test_a_region_does_not_depend_on_which_was_touched_first() -> None:
    one, other = world(), world()
    first, second = list(one.accounts)[:2]
    other.region(second, "eu-west-1")
    assert snapshot(one.region(first, "us-east-1")) == snapshot(other.region(first, "us-east-1"))
    assert snapshot(one.region(second, "eu-west-1")) == snapshot(other.region(second, "eu-west-1"))


def test_ids_are_never_given_twice() -> None:
    states = fleet(world(accounts=5))
    ids = [each for state in states for each in (*state.instances, *state.images, *state.templates, *state.volumes)]
    assert len(ids) == len(set(ids))


def test_the_average_number_of_instances_is_the_one_asked_for() -> None:
    states = fleet(world(accounts=8, instances=20))
    assert 18 < sum(len(state.instances) for state in states) / len(states) < 22


def test_a_fleet_has_every_finding_that_a_real_one_has() -> None:
    states = fleet(world())
    instances = [each for state in states for each in state.instances.values()]
    tokens = Counter(each.options.http_tokens for each in instances)
    assert tokens[HttpTokens.OPTIONAL] > len(instances) / 4
    assert tokens[HttpTokens.REQUIRED] > len(instances) / 4
    assert {each.state for each in instances} == {"running", "stopped", "terminated"}
    assert any(each.options.http_endpoint is Switch.DISABLED for each in instances)
    assert {1, 2, 5} <= {each.options.http_put_response_hop_limit for each in instances}
    ages = [(NOON - each.launch_time).days for each in instances]
    assert min(ages) < 60
    assert max(ages) > 3 * 365
    defaults = Counter(state.defaults for state in states)
    assert defaults[AccountDefaults()] > len(states) / 2
    assert any(default.enforced for default in defaults)
    assert any(not state.instances for state in states)
    assert {image.imds_support for state in states for image in state.images.values()} == {None, "v2.0"}
    versions = [t for state in states for t in state.templates.values() if t.default_version != t.latest_version]
    assert versions
    hosts = [
        each.options.http_put_response_hop_limit
        for state in states
        for each in state.instances.values()
        if "eks:cluster-name" in state.tags.get(each.id, {})
    ]
    assert {1, 2} <= set(hosts)


def test_no_instance_was_launched_after_the_world_was_made() -> None:
    assert all(each.launch_time < NOON for state in fleet(world()) for each in state.instances.values())


def test_a_terminated_instance_is_forgotten_within_the_hour() -> None:
    states = fleet(world())
    for state in states:
        state.settle(NOON + timedelta(hours=1))
    assert "terminated" not in {each.state for state in states for each in state.instances.values()}


def test_one_account_is_suspended_and_one_refuses_its_role() -> None:
    accounts = world().accounts.values()
    assert [each.state for each in accounts].count("SUSPENDED") == 1
    assert [each.refuses_role for each in accounts].count(True) == 1
    assert next(iter(accounts)).id == world().organization.management_id


def test_every_account_hangs_in_the_tree() -> None:
    organization = world().organization
    nodes = {organization.root_id} | {unit.id for unit in organization.units}
    assert {account.parent_id for account in world(accounts=60).accounts.values()} <= nodes
    assert {unit.parent_id for unit in organization.units} <= nodes
    assert {unit.name for unit in organization.units} >= {"Security", "Infrastructure", "Prod", "Dev", "Sandbox"}


def test_account_ids_have_twelve_digits_and_names_are_distinct() -> None:
    accounts = world(accounts=300).accounts
    assert all(len(each) == 12 and each.isdigit() for each in accounts)
    assert len({each.name for each in accounts.values()}) == 300


def test_default_regions_only_unless_asked() -> None:
    one = world()
    assert one.enabled_regions(one.management.id, NOON) == sorted(DEFAULT_REGIONS)
    assert one.region_opt_status(one.management.id, "eu-west-1", NOON) == "ENABLED_BY_DEFAULT"
    assert one.region_opt_status(one.management.id, "af-south-1", NOON) == "DISABLED"


def test_with_all_regions_some_accounts_have_not_opted_in_everywhere() -> None:
    everywhere = world(regions=COMMERCIAL_REGIONS)
    enabled = [len(everywhere.enabled_regions(account, NOON)) for account in everywhere.accounts]
    assert enabled[0] == 34
    assert min(enabled) < 34


def test_opt_in_regions_of_a_list_are_enabled() -> None:
    one = world(regions=("eu-west-1", "mx-central-1"))
    assert one.region_enabled(one.management.id, "mx-central-1", NOON)
    assert not one.region(one.management.id, "us-east-1").instances


def test_enabling_takes_the_settling_time() -> None:
    one = world(settle_seconds=30)
    one.set_region_opt_status(one.management.id, "af-south-1", "ENABLING", NOON)
    assert one.region_opt_status(one.management.id, "af-south-1", NOON) == "ENABLING"
    assert not one.region_enabled(one.management.id, "af-south-1", NOON)
    later = NOON + timedelta(seconds=30)
    assert one.region_opt_status(one.management.id, "af-south-1", later) == "ENABLED"


@pytest.mark.parametrize(("account", "region"), [("000000000000", "us-east-1"), (None, "mars-north-1")])
def test_what_does_not_exist_has_no_state(account: str | None, region: str) -> None:
    one = world()
    with pytest.raises(KeyError):
        one.region(account or one.management.id, region)


def a_session(one: World) -> Credentials:
    """A session of the role that Organizations made in a member account."""
    account = list(one.accounts.values())[2]
    role = one.iam(account.id).role(ROLE_NAME)
    assert role is not None
    expires = int(NOON.timestamp()) + 900
    return one.open_session(Session(account.id, "role", role.name, role.id, "me", expires, "00"))


def test_a_session_outlives_the_world_that_gave_it() -> None:
    session, again = a_session(world()), world()
    assert session.session_token is not None
    assert again.credentials(session.access_key_id, session.session_token) == session
    assert session.access_key_id.startswith("ASIA")
    assert session.caller.arn == f"arn:aws:sts::{session.caller.account_id}:assumed-role/{ROLE_NAME}/me"


def test_a_session_ends_with_its_role() -> None:
    one = world()
    session = a_session(one)
    iam = one.iam(session.caller.account_id)
    role = iam.roles.pop(ROLE_NAME.lower())
    assert one.credentials(session.access_key_id, session.session_token) is None
    # One that is made under the same name is another role.
    iam.roles[ROLE_NAME.lower()] = replace(role, id="AROAANOTHER")
    assert one.credentials(session.access_key_id, session.session_token) is None


def test_a_session_token_that_was_touched_is_nobodys() -> None:
    one = world()
    session = a_session(one)
    token = session.session_token
    assert token is not None
    for bad in (token[:-4], token[:40] + "A" + token[41:] if token[40] != "A" else token[1:], "x", "", token + "AAAA"):
        assert one.credentials(session.access_key_id, bad) is None
    assert one.credentials("ASIAOTHER", token) is None
    assert one.credentials(session.access_key_id, None) is None
