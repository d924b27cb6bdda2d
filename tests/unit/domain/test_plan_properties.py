"""What holds of every plan, whatever fleet and intent: carried out, it leaves nothing; it opens nothing; it does not
depend on the order in which things were seen; and after it no launch that is known fails."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.domain.plan_cases import NOON, scan_of

from imdsctl.domain.intent import Intent, parse_intent
from imdsctl.domain.observations import InstanceSeen, RegionSeen, Scan, TemplateVersionSeen
from imdsctl.domain.options import AccountDefaults, HttpTokens, MetadataOptions, Switch
from imdsctl.domain.plan import Change, Plan, Stage, Surface, plan_from_plain, plan_to_plain
from imdsctl.domain.planner import make_plan
from imdsctl.domain.planner_launches import Launches, State, would_fail

IDS = [f"i-{n}" for n in range(6)]
TEMPLATES = ["lt-0a", "lt-0b", "lt-0c"]
says = st.fixed_dictionaries(
    {},
    optional={
        "HttpTokens": st.sampled_from(["optional", "required"]),
        "HttpPutResponseHopLimit": st.sampled_from([1, 2, 64]),
        "HttpEndpoint": st.sampled_from(["enabled", "disabled"]),
    },
)
tags = st.sampled_from([{}, {"env": "dev"}, {"env": "prod"}, {"app": "billing"}, {"kubernetes.io/cluster/x": "owned"}])
whole = st.fixed_dictionaries(
    {
        "HttpTokens": st.sampled_from(["optional", "required"]),
        "HttpPutResponseHopLimit": st.sampled_from([1, 2, 64]),
        "HttpEndpoint": st.sampled_from(["enabled", "enabled", "disabled"]),
    }
)


@st.composite
def regions(draw: st.DrawFn) -> dict[str, Any]:
    """A small Region in which anything may be wrong."""
    templates: list[dict[str, Any]] = []
    for template in draw(st.lists(st.sampled_from(TEMPLATES), unique=True, max_size=3)):
        shared = {"id": template, "tags": draw(tags), "image": draw(st.sampled_from([None, "ami-1", "ami-2", "ami-3"]))}
        if draw(st.booleans()):
            templates.append({**shared, "options": draw(says)})
        else:
            for number, role in ((1, "in use"), (2, "$Default"), (3, "$Latest")):
                templates.append({**shared, "version": number, "is": role, "options": draw(says)})
    source = st.one_of(
        st.fixed_dictionaries(
            {"template": st.sampled_from(TEMPLATES), "version": st.sampled_from([None, "$Default", "$Latest", "1"])}
        ),
        st.just({"configuration": "old"}),
        st.fixed_dictionaries({"image": st.sampled_from(["ami-1", "ami-2", "ami-3"])}),
    )
    instances = draw(st.lists(st.sampled_from(IDS), unique=True, max_size=6))
    split = draw(st.integers(0, len(instances)))
    return {
        "defaults": draw(says)
        | draw(st.sampled_from([{}, {"ManagedBy": "declarative-policy"}, {"HttpTokensEnforced": "enabled"}])),
        "templates": templates,
        "instances": [
            {
                "id": each,
                "options": draw(whole),
                "tags": draw(tags),
                "template": draw(st.sampled_from([None, *TEMPLATES])),
            }
            for each in instances
        ],
        "groups": [
            {
                "name": "web",
                "instances": instances[:split],
                "launches": draw(st.lists(source, max_size=2)),
                "tags": draw(tags),
            }
        ],
        "fleets": [{"id": "f-1", "kind": "spot-fleet", "launches": draw(st.lists(source, max_size=1))}],
        "configurations": draw(
            st.sampled_from([[], [{"name": "old", "in-use": True, "options": {"HttpTokens": "optional"}}]])
        ),
        "images": [{"id": "ami-1"}, {"id": "ami-2", "imds-support": "v2.0"}],
    }


EXEMPT = "[[exception]]\nmatch.tag = 'app=billing'\nowner = 'b'\nreason = 'r'\nexpires = 2027-01-01"
INTENTS = [
    "",
    "enforce = false",
    "images.imds-support = 'v2.0'",
    "groups.refresh = true",
    "launch-templates.explicit = true",
    "instances.hop-limit-at-least = 'auto'\nlaunch-templates.hop-limit-at-least = 'auto'",
    "[[wave]]\nname = 'dev'\nmatch.tag = 'env=dev'\n[[wave]]\nname = 'rest'",
    EXEMPT,
    f"images.imds-support = 'v2.0'\n{EXEMPT}",
    "[[scope]]\nmatch.tag = 'env=prod'\ninstances.hop-limit-at-least = 2",
]
intents = st.sampled_from([parse_intent(f"version = 1\n{text}") for text in INTENTS])


def planned(scan: Scan, intent: Intent) -> Plan:
    return make_plan(scan, intent, made_at=NOON)


def carried_out(scan: Scan, plan: Plan) -> Scan:
    """The Region once every change that is not deferred is made."""
    (region,) = scan.regions
    for change in plan.ready:
        region = made(region, change)
    return replace(scan, regions=(region,))


def made(region: RegionSeen, change: Change) -> RegionSeen:
    match change.surface:
        case Surface.REGION_DEFAULT:
            return replace(region, defaults=(region.defaults or AccountDefaults()).updated(change.after))
        case Surface.INSTANCE:
            return replace(region, instances=tuple(_instance(each, change) for each in region.instances))
        case Surface.IMAGE:
            marked = (replace(e, imds_support="v2.0") if e.image_id == change.resource else e for e in region.images)
            return replace(region, images=tuple(marked))
        case Surface.LAUNCH_TEMPLATE:
            return replace(region, templates=tuple(_versions(region, change)))
        case Surface.AUTO_SCALING_GROUP:
            # What is launched anew gets what its source gives: IMDSv2, and enough hops.
            new = MetadataOptions(HttpTokens.REQUIRED, 2)
            gone = change.before["Instances"]
            fresh = (replace(e, options=new.over(e.options)) if e.instance_id in gone else e for e in region.instances)
            return replace(region, instances=tuple(fresh))
        case _:
            raise AssertionError(f"{change.surface} is never changed")


def _instance(seen: InstanceSeen, change: Change) -> InstanceSeen:
    if seen.instance_id != change.resource:
        return seen
    assert seen.options.to_aws() == change.before
    return replace(seen, options=MetadataOptions.from_aws(change.after).over(seen.options))


def _versions(region: RegionSeen, change: Change) -> list[TemplateVersionSeen]:
    """The template's versions after it: what had a role and changed stays as a version in use."""
    mine = [each for each in region.templates if each.template_id == change.resource]
    others = [each for each in region.templates if each.template_id != change.resource]
    default = next(each for each in mine if each.is_default)
    latest = next(each for each in mine if each.is_latest)
    number = max(each.version for each in mine)
    roles = {"Default": default, "Latest": latest}
    for part in change.after:
        number += 1
        says = MetadataOptions.from_aws(change.after[part]).over(roles[part].options)
        roles[part] = replace(roles[part], version=number, options=says, in_use=False)
    if default is latest:
        roles["Latest"] = roles["Default"]
    current = {id(each): each for each in roles.values()}.values()
    old = [replace(each, is_default=False, is_latest=False, in_use=True) for each in mine if each not in current]
    new = [replace(each, is_default=each is roles["Default"], is_latest=each is roles["Latest"]) for each in current]
    return [*others, *old, *new]


@given(regions(), intents)
@settings(max_examples=60, deadline=None)
def test_carried_out_it_leaves_nothing_to_change(region: dict[str, Any], intent: Intent) -> None:
    scan = scan_of(region)
    after = carried_out(scan, planned(scan, intent))
    left = planned(after, intent).ready
    assert [change.id for change in left] == []


@given(regions(), intents)
@settings(max_examples=60, deadline=None)
def test_it_opens_nothing(region: dict[str, Any], intent: Intent) -> None:
    for change in planned(scan_of(region), intent).changes:
        values = [change.after, *(each for each in change.after.values() if isinstance(each, dict))]
        for value in values:
            assert value.get("HttpTokens", "required") == "required"
            assert value.get("HttpEndpoint", "disabled") == "disabled"
            assert value.get("HttpTokensEnforced", "enabled") == "enabled"
            if "HttpPutResponseHopLimit" in value and change.surface is Surface.INSTANCE:
                assert value["HttpPutResponseHopLimit"] > change.before["HttpPutResponseHopLimit"]


@given(regions(), intents, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_in_which_things_were_seen_does_not_matter(
    region: dict[str, Any], intent: Intent, chance: random.Random
) -> None:
    shuffled = {
        key: chance.sample(value, len(value)) if isinstance(value, list) else value for key, value in region.items()
    }
    here, there = {**region, "region": "eu-west-1"}, {**region, "region": "us-east-1"}
    one = planned(scan_of(here, there), intent)
    other = planned(scan_of({**shuffled, "region": "us-east-1"}, {**shuffled, "region": "eu-west-1"}), intent)
    assert (one.changes, one.exempt, one.unknown) == (other.changes, other.exempt, other.unknown)


@given(regions(), intents)
@settings(max_examples=60, deadline=None)
def test_where_it_enforces_no_known_launch_fails(region: dict[str, Any], intent: Intent) -> None:
    scan = scan_of(region)
    plan = planned(scan, intent)
    if not any(change.stage is Stage.ENFORCEMENT for change in plan.ready):
        return
    (after,) = carried_out(scan, plan).regions
    launches = Launches(after)
    state = State(after.defaults or AccountDefaults())
    for launcher in launches.all():
        resolution = launches.resolution(launcher.source, state)
        assert resolution is not None
        assert not would_fail(resolution), launcher.title


@given(regions(), intents)
@settings(max_examples=80, deadline=None)
def test_what_an_exception_covers_is_not_changed(region: dict[str, Any], intent: Intent) -> None:
    if not intent.exemptions:
        return
    scan = scan_of(region)
    plan = planned(scan, intent)
    (seen,) = scan.regions
    covered = {each.instance_id for each in seen.instances if ("app", "billing") in each.tags}
    covered |= {each.template_id for each in seen.templates if each.is_default and ("app", "billing") in each.tags}
    assert not covered & {change.resource for change in plan.changes}
    # Nor is it changed from below: what an exempt template, group or fleet launches with IMDSv1 today, it still does.
    (after,) = carried_out(scan, plan).regions
    of_group = {each: group.name for group in seen.groups for each in group.instance_ids}
    exempt = {of_group.get(each.instance_id) for each in seen.instances if ("app", "billing") in each.tags}
    for launcher in Launches(seen).all():
        if ("app", "billing") in launcher.tags or launcher.group in exempt:
            now = Launches(seen).resolution(launcher.source, State(seen.defaults or AccountDefaults()))
            then = Launches(after).resolution(launcher.source, State(after.defaults or AccountDefaults()))
            if now is not None:
                assert then is not None
                allowed = now.http_tokens.value is HttpTokens.OPTIONAL and now.http_endpoint.value is Switch.ENABLED
                assert not allowed or then.http_tokens.value is HttpTokens.OPTIONAL, launcher.title


@given(regions(), intents)
@settings(max_examples=40, deadline=None)
def test_it_can_be_read_back(region: dict[str, Any], intent: Intent) -> None:
    plan = planned(scan_of(region), intent)
    assert plan_from_plain(plan_to_plain(plan)) == plan
