"""From scan and intent to a plan. Each test is a sentence of the specification."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imdsctl.domain.intent import Images, Intent, Wanted
from imdsctl.domain.observations import (
    Account,
    AccountUnseen,
    GroupSeen,
    ImageSeen,
    InstanceSeen,
    LaunchSource,
    RegionSeen,
    Scan,
    Target,
    TemplateVersionSeen,
    Unseen,
)
from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions, Switch
from imdsctl.domain.plan import Change, Plan, Stage, Surface, plan_from_plain, plan_to_plain
from imdsctl.domain.planner import make_plan
from imdsctl.domain.verdicts import REGION_NOT_ENABLED

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
HERE = Target("111122223333", "eu-west-1")
V1 = MetadataOptions(HttpTokens.OPTIONAL, 1, Switch.ENABLED, Switch.DISABLED, Switch.DISABLED)
V2 = replace(V1, http_tokens=HttpTokens.REQUIRED)
UNSET = MetadataOptions()
RIGHT = AccountDefaults(HttpTokens.REQUIRED, 2, http_tokens_enforced=Switch.ENABLED)
KUBERNETES = (("kubernetes.io/cluster/prod", "owned"),)


def scan(*regions: RegionSeen, unseen: tuple[AccountUnseen, ...] = ()) -> Scan:
    return Scan("s1", NOON, NOON, (Account(HERE.account_id, "prod"),), regions, unseen)


def region(defaults: AccountDefaults | None = RIGHT, **parts: Any) -> RegionSeen:
    return RegionSeen(HERE, defaults, **parts)


def instance(options: MetadataOptions = V1, **more: Any) -> InstanceSeen:
    return InstanceSeen(more.pop("id", "i-0000000000000000a"), more.pop("state", "running"), options, **more)


def version(number: int, options: MetadataOptions = UNSET, role: str = "both", **more: Any) -> TemplateVersionSeen:
    return TemplateVersionSeen(
        "lt-0a",
        more.pop("name", "web"),
        number,
        is_default=role in ("both", "default"),
        is_latest=role in ("both", "latest"),
        options=options,
        **more,
    )


def planned(seen: RegionSeen, intent: Intent = Intent()) -> Plan:  # noqa: B008 (an immutable value)
    return make_plan(scan(seen), intent, made_at=NOON)


def only(plan: Plan) -> Change:
    (change,) = plan.changes
    return change


# Region defaults and enforcement


def test_a_region_that_says_nothing_gets_a_default_first_and_enforcement_last() -> None:
    first, last = planned(region(AccountDefaults(instance_metadata_tags=Switch.ENABLED))).changes
    assert first.stage is Stage.REGION_DEFAULTS
    assert first.before == {"InstanceMetadataTags": "enabled", "ManagedBy": "account"}
    assert first.after == {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}
    assert last.stage is Stage.ENFORCEMENT
    assert last.before == {**first.before, **first.after}
    assert last.after == {"HttpTokensEnforced": "enabled"}


def test_a_region_that_is_right_needs_nothing() -> None:
    assert planned(region()).changes == ()


def test_only_what_differs_is_planned() -> None:
    assert only(planned(region(replace(RIGHT, http_tokens=HttpTokens.OPTIONAL)))).after == {"HttpTokens": "required"}


def test_a_higher_hop_limit_is_never_lowered() -> None:
    assert planned(region(replace(RIGHT, http_put_response_hop_limit=3))).changes == ()


def test_a_region_default_of_a_declarative_policy_is_deferred_and_so_is_its_enforcement() -> None:
    plan = planned(region(AccountDefaults(managed_by="declarative-policy")))
    assert plan.ready == ()
    assert [change.stage for change in plan.deferred] == [Stage.REGION_DEFAULTS, Stage.ENFORCEMENT]
    assert all("Organizations" in change.held for change in plan.deferred)


def test_enforcement_is_not_planned_when_the_intent_does_not_ask_for_it() -> None:
    plan = planned(region(AccountDefaults()), Intent(enforce=False))
    assert [change.stage for change in plan.changes] == [Stage.REGION_DEFAULTS]


# Instances


def test_an_instance_that_answers_v1_is_changed_and_keeps_its_hop_limit() -> None:
    change = only(planned(region(instances=(instance(),))))
    assert change.before == V1.to_aws()
    assert change.after == {"HttpTokens": "required"}
    assert change.id == "111122223333/eu-west-1/instance/i-0000000000000000a"


def test_a_container_host_at_hop_limit_1_gets_2_in_the_same_change_and_a_wave_of_its_own() -> None:
    change = only(planned(region(instances=(instance(tags=KUBERNETES),))))
    assert change.stage is Stage.CONTAINER_HOSTS
    assert change.after == {"HttpTokens": "required", "HttpPutResponseHopLimit": 2}
    assert "kubernetes.io/cluster/prod" in change.reason


def test_a_container_host_at_hop_limit_5_keeps_it() -> None:
    host = instance(replace(V1, http_put_response_hop_limit=5), tags=KUBERNETES)
    assert only(planned(region(instances=(host,)))).after == {"HttpTokens": "required"}


def test_an_instance_with_its_endpoint_off_is_left_alone() -> None:
    off = replace(V1, http_endpoint=Switch.DISABLED, http_put_response_hop_limit=5)
    assert planned(region(instances=(instance(off),))).changes == ()


def test_setting_the_hop_limit_does_not_touch_the_tokens() -> None:
    """A runbook of a peer defaults to `optional`: used for the hop limit alone, it opens the instance."""
    intent = Intent(instances=Wanted(MetadataOptions(), 2))
    assert only(planned(region(instances=(instance(V2),)), intent)).after == {"HttpPutResponseHopLimit": 2}


def test_the_endpoint_is_switched_off_only_on_purpose_and_alone() -> None:
    intent = Intent(instances=Wanted(MetadataOptions(HttpTokens.REQUIRED, http_endpoint=Switch.DISABLED)))
    assert only(planned(region(instances=(instance(),)), intent)).after == {"HttpEndpoint": "disabled"}


@pytest.mark.parametrize(
    ("seen", "why"),
    [
        (instance(managed_by="eks.amazonaws.com"), "only its operator"),
        (instance(MetadataOptions()), "unknown"),
        (instance(state="pending"), "it is pending"),
        (instance(state="stopping"), "it is stopping"),
        (instance(options_pending=True), "still pending"),
    ],
)
def test_what_cannot_be_changed_now_is_deferred_with_the_reason(seen: InstanceSeen, why: str) -> None:
    plan = planned(region(instances=(seen,)))
    assert plan.ready == ()
    assert why in only(plan).held


def test_a_stopped_instance_is_changed() -> None:
    assert len(planned(region(instances=(instance(state="stopped"),))).ready) == 1


option = st.builds(
    MetadataOptions,
    st.sampled_from([None, *HttpTokens]),
    st.sampled_from([None, 1, 2, 64]),
    st.sampled_from([None, *Switch]),
    st.sampled_from([None, *Switch]),
    st.sampled_from([None, *Switch]),
)


@given(option, st.booleans(), st.booleans())
def test_whatever_is_seen_nothing_is_opened(options: MetadataOptions, container: bool, explicit: bool) -> None:
    tags = KUBERNETES if container else ()
    seen = region(
        AccountDefaults(),
        instances=(instance(options, tags=tags),),
        templates=(version(1, options, "default", tags=tags), version(2, options, "latest", tags=tags)),
    )
    for change in planned(seen, Intent(explicit_templates=explicit)).changes:
        parts = change.after.values() if change.surface is Surface.LAUNCH_TEMPLATE and "Default" in change.after else ()
        for after in [change.after, *parts]:
            assert "HttpEndpoint" not in after
            assert after.get("HttpTokens", "required") == "required"


@given(option, option)
def test_a_plan_that_was_carried_out_leaves_nothing_to_plan(one: MetadataOptions, other: MetadataOptions) -> None:
    seen = region(
        AccountDefaults(),
        instances=(instance(one),),
        templates=(version(1, one, "default"), version(2, other, "latest")),
    )
    defaults, instances, templates = AccountDefaults(), seen.instances, seen.templates
    for change in planned(seen).ready:
        match change.surface:
            case Surface.REGION_DEFAULT:
                defaults = defaults.updated(change.after)
            case Surface.INSTANCE:
                instances = (replace(instances[0], options=MetadataOptions.from_aws(change.after).over(one)),)
            case _:
                templates = tuple(
                    replace(
                        each,
                        options=MetadataOptions.from_aws(
                            change.after.get("Default" if each.is_default else "Latest")
                        ).over(each.options),
                    )
                    for each in templates
                )
    assert planned(replace(seen, defaults=defaults, instances=instances, templates=templates)).ready == ()


# Launch templates


def test_a_template_that_says_nothing_is_fixed_by_the_region_default_alone() -> None:
    plan = planned(region(AccountDefaults(), templates=(version(1),)))
    assert {change.surface for change in plan.changes} == {Surface.REGION_DEFAULT}


def test_an_explicit_intent_makes_the_template_say_it_too() -> None:
    change = only(planned(region(templates=(version(1),)), Intent(explicit_templates=True)))
    assert change.after == {"Default": {"HttpTokens": "required"}}


def test_a_template_that_says_optional_has_to_change_though_the_region_is_enforced() -> None:
    change = only(planned(region(templates=(version(3, V1),))))
    assert change.before == {"DefaultVersion": 3, "LatestVersion": 3, "Default": V1.to_aws()}
    assert change.after == {"Default": {"HttpTokens": "required"}}


def test_a_template_that_says_nothing_has_to_change_where_the_region_default_cannot() -> None:
    managed = AccountDefaults(managed_by="declarative-policy")
    plan = planned(region(managed, templates=(version(1),)))
    assert [change.surface for change in plan.ready] == [Surface.LAUNCH_TEMPLATE]


def test_an_image_with_v2_support_is_reason_enough_to_leave_a_template() -> None:
    managed = AccountDefaults(managed_by="declarative-policy")
    al2023 = ImageSeen("ami-1", imds_support="v2.0")
    plan = planned(region(managed, templates=(version(1, image_id="ami-1"),), images=(al2023,)))
    assert plan.ready == ()


def test_when_default_and_latest_differ_the_latest_is_made_again_after_the_default() -> None:
    """A peer passes a template if any version requires v2; and a new version becomes `$Latest`."""
    seen = region(templates=(version(1, V1, "default"), version(4, V2, "latest")))
    change = only(planned(seen))
    assert list(change.after) == ["Default", "Latest"]
    assert change.after == {"Default": {"HttpTokens": "required"}, "Latest": {}}
    assert "stays the latest" in change.reason


KEEPING = Intent(move_default=False)


def test_an_intent_that_keeps_the_default_makes_a_version_and_says_what_remains() -> None:
    plan = planned(region(templates=(version(3, V1),)), KEEPING)
    (made,) = plan.ready
    assert made.before == {
        "DefaultVersion": 3,
        "LatestVersion": 3,
        "Default": V1.to_aws(),
        "Latest": V1.to_aws(),
    }
    assert made.after == {"Latest": {"HttpTokens": "required"}}
    assert "$Default stays version 3" in made.risk
    (kept,) = (change for change in plan.changes if change.held)
    assert kept.id.endswith("/default")
    assert "the intent keeps $Default at version 3" in kept.held


def test_a_newest_version_that_is_right_is_not_made_again_where_the_default_is_kept() -> None:
    seen = region(templates=(version(3, V1, "default"), version(4, V2, "latest")))
    kept = only(planned(seen, KEEPING))
    assert "now version 4" in kept.held


def test_a_default_that_is_right_is_kept_without_a_word() -> None:
    seen = region(templates=(version(3, V2, "default"), version(4, V1, "latest")))
    change = only(planned(seen, KEEPING))
    assert (change.held, change.after) == ("", {"Latest": {"HttpTokens": "required"}})


def test_enforcement_waits_for_a_group_that_launches_from_a_default_that_is_kept() -> None:
    group = GroupSeen("web", sources=(LaunchSource("lt-0a", version="$Default"),))
    seen = region(replace(RIGHT, http_tokens_enforced=None), templates=(version(3, V1),), groups=(group,))
    held = {change.stage for change in planned(seen, KEEPING).changes if change.held}
    assert Stage.ENFORCEMENT in held
    assert Stage.ENFORCEMENT not in {change.stage for change in planned(seen).changes if change.held}


def test_a_latest_version_that_says_nothing_is_made_again_saying_something() -> None:
    change = only(planned(region(templates=(version(1, V1, "default"), version(2, UNSET, "latest")))))
    assert change.after["Latest"] == {"HttpTokens": "required"}


def test_when_only_the_latest_is_wrong_the_default_is_left() -> None:
    change = only(planned(region(templates=(version(1, V2, "default"), version(2, V1, "latest")))))
    assert change.after == {"Latest": {"HttpTokens": "required"}}


def test_a_version_in_use_that_is_neither_is_deferred_and_its_refusal_foretold() -> None:
    pinned = version(2, V1, "neither", in_use=True)
    plan = planned(region(AccountDefaults(), templates=(version(1, V2, "default"), pinned, version(3, V2, "latest"))))
    held = plan.deferred[0]
    assert held.id.endswith("launch-template/lt-0a/version-2")
    assert "cannot be changed" in held.held
    assert "lt-0a version 2" in plan.changes[-1].risk


def test_a_pinned_version_is_settled_once_the_region_refuses_it() -> None:
    pinned = version(2, V1, "neither", in_use=True)
    assert planned(region(templates=(version(1, V2, "default"), pinned, version(3, V2, "latest")))).changes == ()


def test_a_container_template_whose_tokens_the_region_default_requires_gets_its_hop_limit() -> None:
    seen = region(AccountDefaults(), templates=(version(1, MetadataOptions(None, 1), name="eks-nodes"),))
    change = next(each for each in planned(seen).changes if each.surface is Surface.LAUNCH_TEMPLATE)
    assert change.after == {"Default": {"HttpPutResponseHopLimit": 2}}


def test_a_template_with_its_endpoint_off_is_left_alone() -> None:
    off = MetadataOptions(HttpTokens.OPTIONAL, http_endpoint=Switch.DISABLED)
    assert planned(region(templates=(version(1, off),))).changes == ()


# Images, exclusions, unknowns


def test_images_are_left_unless_asked_for() -> None:
    seen = region(images=(ImageSeen("ami-1", owned=True), ImageSeen("ami-2", owned=False)))
    assert planned(seen).changes == ()
    change = only(planned(seen, Intent(images=Images.V2)))
    assert (change.resource, change.stage) == ("ami-1", Stage.IMAGES)
    assert "cannot be undone" in change.risk


@pytest.mark.parametrize(
    "intent",
    [
        Intent(exclude_accounts=frozenset({HERE.account_id})),
        Intent(exclude_regions=frozenset({HERE.region})),
        Intent(exclude_resources=frozenset({"i-0000000000000000a"})),
    ],
)
def test_what_is_excluded_is_left_alone(intent: Intent) -> None:
    assert planned(region(instances=(instance(),)), intent).changes == ()


def test_an_account_that_refuses_makes_the_plan_incomplete_not_smaller() -> None:
    refused = AccountUnseen("999988887777", None, Unseen("account", "not authorized", "AccessDenied"))
    plan = make_plan(scan(region(AccountDefaults()), unseen=(refused,)), Intent(), made_at=NOON)
    assert not plan.complete
    assert plan.unknown[0].subject == "999988887777"
    assert len(plan.ready) == 2


def test_a_region_default_that_was_not_read_is_unknown_and_not_changed() -> None:
    plan = planned(region(None, unseen=(Unseen("defaults", "denied"),)))
    assert [gap.what for gap in plan.unknown] == ["defaults"]
    assert plan.changes == ()


def test_a_region_that_is_not_enabled_does_not_make_the_plan_incomplete() -> None:
    off = AccountUnseen(HERE.account_id, "af-south-1", Unseen("Region", "not enabled", REGION_NOT_ENABLED))
    assert make_plan(scan(region(), unseen=(off,)), Intent(), made_at=NOON).complete


def test_an_excluded_account_is_not_unknown() -> None:
    refused = AccountUnseen("999988887777", None, Unseen("account", "not authorized"))
    intent = Intent(exclude_accounts=frozenset({"999988887777"}))
    assert make_plan(scan(region(), unseen=(refused,)), intent, made_at=NOON).complete


# The plan as a value


def test_the_same_scan_and_intent_give_the_same_plan() -> None:
    seen = scan(region(AccountDefaults(), instances=(instance(),), templates=(version(1, V1),)))
    one, other = (plan_to_plain(make_plan(seen, Intent(), made_at=NOON)) for _ in range(2))
    assert one == other


def test_waves_come_in_order() -> None:
    hosts = (instance(id="i-b", tags=KUBERNETES), instance(id="i-a"))
    plan = planned(region(AccountDefaults(), instances=hosts, templates=(version(1, V1),)))
    assert [stage for _, stage, _ in plan.steps()] == [
        stage for stage in Stage if stage not in (Stage.IMAGES, Stage.REFRESHES)
    ]


def test_a_plan_can_be_read_back() -> None:
    seen = region(
        AccountDefaults(), instances=(instance(),), templates=(version(1, V1, "default"), version(2, V1, "latest"))
    )
    plan = planned(seen)
    plain = plan_to_plain(plan)
    assert plan_from_plain(plain) == plan
    assert plan_from_plain(plain).digest == plain["digest"]
