"""Declarative policies: what may be written, how it is inherited, and what an account gets.

Source: Organizations User Guide, "Inheritance operators", "Inheritance examples", "EC2 policy syntax and examples".
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from imdsctl.domain.options import AccountDefaults, HttpTokens, Switch
from imdsctl.policy.declarative import (
    DEFAULT_EXCEPTION_MESSAGE,
    DeclarativePolicy,
    EffectivePolicy,
    Ignored,
    effective_policy,
    parse_declarative_policy,
)
from imdsctl.policy.problems import MalformedPolicy

TOKENS = ("ec2_attributes", "instance_metadata_defaults", "http_tokens")
PUBLIC = "image_block_public_access"


def setting(name: str, value: Any, **controls: Any) -> dict[str, Any]:
    """A policy for one setting of the metadata defaults."""
    return defaults({name: {"@@assign": value, **{f"@@{key}": each for key, each in controls.items()}}})


def defaults(settings: dict[str, Any], **around: Any) -> dict[str, Any]:
    return {"ec2_attributes": {"instance_metadata_defaults": settings, **around}}


def listed(**operators: Any) -> dict[str, Any]:
    """A policy for an attribute whose value is a list."""
    operators = {f"@@{name}": value for name, value in operators.items()}
    return {"ec2_attributes": {"allowed_images_settings": {"image_providers": operators}}}


def parsed(document: dict[str, Any], name: str = "p") -> DeclarativePolicy:
    return parse_declarative_policy(json.dumps(document), name=name)


def merged(*levels: list[dict[str, Any]]) -> EffectivePolicy:
    """Policies by place, named `0.0`, `0.1`, `1.0`, ... by place and order of attachment."""
    return effective_policy(
        [
            [parsed(document, f"{place}.{order}") for order, document in enumerate(level)]
            for place, level in enumerate(levels)
        ]
    )


def tokens(effective: EffectivePolicy) -> Any:
    found = effective.settings.get(TOKENS)
    return None if found is None else found.value


# -- inheritance -----------------------------------------------------------------------------------------------------


def test_the_policy_nearest_to_the_account_assigns_last() -> None:
    effective = merged(
        [setting("http_tokens", "required")],
        [setting("http_tokens", "optional")],
        [],
        [setting("http_tokens", "no_preference")],
    )
    assert tokens(effective) == "no_preference"
    assert effective.settings[TOKENS].policies == ("3.0",)
    assert effective.ignored == ()


def test_what_a_child_does_not_name_stays_inherited() -> None:
    effective = merged([setting("http_tokens", "required")], [setting("http_endpoint", "enabled")])
    assert effective.document == defaults({"http_tokens": "required", "http_endpoint": "enabled"})


def test_of_policies_at_one_place_the_first_attached_wins() -> None:
    """Inheritance examples, Example 5."""
    effective = merged([setting("http_tokens", "required"), setting("http_tokens", "optional")])
    assert tokens(effective) == "required"
    assert effective.ignored == (Ignored("0.1", ".".join(TOKENS), "@@assign"),)


def test_at_one_place_a_second_policy_still_sets_what_the_first_does_not() -> None:
    effective = merged([setting("http_tokens", "required"), setting("http_put_response_hop_limit", "2")])
    assert effective.document == defaults({"http_tokens": "required", "http_put_response_hop_limit": "2"})


def test_the_first_attached_wins_below_an_inherited_value_too() -> None:
    effective = merged(
        [setting("http_tokens", "no_preference")],
        [setting("http_tokens", "required"), setting("http_tokens", "optional")],
    )
    assert tokens(effective) == "required"


def test_a_prohibition_does_not_hold_at_its_own_place() -> None:
    """Inheritance examples, Example 6: child controls are for policies further down."""
    locked = setting("http_tokens", "required", operators_allowed_for_child_policies=["@@none"])
    effective = merged([setting("http_tokens", "optional"), locked])
    assert tokens(effective) == "optional"
    assert [each.policy for each in effective.ignored] == ["0.1"], "as the later one, not as a child"


def test_a_prohibition_holds_for_every_place_below() -> None:
    locked = setting("http_tokens", "required", operators_allowed_for_child_policies=["@@none"])
    effective = merged([locked], [], [setting("http_tokens", "optional")], [setting("http_tokens", "optional")])
    assert tokens(effective) == "required"
    assert [each.policy for each in effective.ignored] == ["2.0", "3.0"]


def test_a_prohibition_cannot_be_lifted_further_down() -> None:
    locked = setting("http_tokens", "required", operators_allowed_for_child_policies=["@@none"])
    lifted = defaults({"http_tokens": {"@@operators_allowed_for_child_policies": ["@@all"]}})
    effective = merged([locked], [lifted], [setting("http_tokens", "optional")])
    assert tokens(effective) == "required"


def test_a_child_may_narrow_what_its_parent_allows() -> None:
    narrowed = defaults({"http_tokens": {"@@operators_allowed_for_child_policies": ["@@none"]}})
    effective = merged([setting("http_tokens", "required")], [narrowed], [setting("http_tokens", "optional")])
    assert tokens(effective) == "required"


def test_what_policies_at_one_place_allow_below_is_the_intersection() -> None:
    allow = "operators_allowed_for_child_policies"
    effective = merged(
        [
            listed(assign=["amazon"], **{allow: ["@@append", "@@assign"]}),
            listed(append=["marketplace"], **{allow: ["@@append", "@@remove"]}),
        ],
        [listed(append=["111122223333"])],
        [listed(remove=["amazon"]), listed(assign=["none"])],
    )
    (found,) = effective.settings.values()
    assert found.value == ["amazon", "marketplace", "111122223333"]
    assert found.policies == ("0.0", "0.1", "1.0")
    assert [(each.policy, each.operator) for each in effective.ignored] == [("2.0", "@@remove"), ("2.1", "@@assign")]


@pytest.mark.parametrize("group", [("ec2_attributes",), ("ec2_attributes", "instance_metadata_defaults")])
def test_a_prohibition_on_a_group_covers_everything_in_it(group: tuple[str, ...]) -> None:
    document = setting("http_tokens", "required")
    inner = document
    for name in group:
        inner = inner[name]
    inner["@@operators_allowed_for_child_policies"] = ["@@none"]
    child = defaults({"http_tokens": {"@@assign": "optional"}, "http_endpoint": {"@@assign": "enabled"}})
    effective = merged([document], [child])
    assert effective.document == defaults({"http_tokens": "required"})
    assert len(effective.ignored) == 2


def test_a_prohibition_covers_nothing_beside_it() -> None:
    locked = setting("http_tokens", "required", operators_allowed_for_child_policies=["@@none"])
    effective = merged([locked], [setting("http_endpoint", "disabled")])
    assert effective.document == defaults({"http_tokens": "required", "http_endpoint": "disabled"})


def test_lists_are_appended_to_and_removed_from() -> None:
    effective = merged([listed(assign=["a", "b"])], [listed(append=["b", "c"])], [listed(remove=["a", "x"])])
    assert [found.value for found in effective.settings.values()] == [["b", "c"]]


def test_a_list_from_which_all_is_removed_is_not_set() -> None:
    assert merged([listed(assign=["a"])], [listed(remove=["a"])]).document == {}


def attribute(inner: Any) -> dict[str, Any]:
    return {"ec2_attributes": {PUBLIC: inner}}


def test_nothing_is_appended_to_a_value_that_is_no_list() -> None:
    effective = merged([attribute({"state": {"@@assign": "x"}})], [attribute({"state": {"@@append": ["y"]}})])
    assert effective.document == attribute({"state": "x"})
    assert [each.operator for each in effective.ignored] == ["@@append"]


@pytest.mark.parametrize("turned", [False, True])
def test_a_name_that_is_a_value_above_and_a_group_below_stays_what_it_was(turned: bool) -> None:
    value, group = attribute({"@@assign": "x"}), attribute({"state": {"@@assign": "y"}})
    first, second = (group, value) if turned else (value, group)
    effective = merged([first], [second])
    assert effective.document == attribute({"state": "y"} if turned else "x")
    assert [each.policy for each in effective.ignored] == ["1.0"]


# -- what an account gets --------------------------------------------------------------------------------------------

OWN = AccountDefaults(http_tokens=HttpTokens.OPTIONAL, http_put_response_hop_limit=2, http_endpoint=Switch.ENABLED)


def test_without_a_policy_an_account_keeps_its_own() -> None:
    effective = merged([], [])
    assert effective.document == {}
    assert not effective.manages_metadata_defaults
    assert effective.over(OWN) is OWN


def test_a_policy_about_something_else_does_not_manage_the_defaults() -> None:
    effective = merged([{"ec2_attributes": {PUBLIC: {"state": {"@@assign": "block_new_sharing"}}}}])
    assert not effective.manages_metadata_defaults
    assert effective.over(OWN) is OWN


def test_a_policy_lies_over_the_accounts_own_and_leaves_the_rest() -> None:
    over = merged([setting("http_tokens", "required")]).over(OWN)
    assert over.http_tokens is HttpTokens.REQUIRED
    assert over.http_put_response_hop_limit == 2
    assert over.http_endpoint is Switch.ENABLED
    assert over.managed_by == "declarative-policy"
    assert over.managed_exception_message == DEFAULT_EXCEPTION_MESSAGE


@pytest.mark.parametrize("hop_limit", ["4", 4])
def test_every_setting_reaches_the_account(hop_limit: Any) -> None:
    everything = {
        "http_tokens": "required",
        "http_put_response_hop_limit": hop_limit,
        "http_endpoint": "disabled",
        "instance_metadata_tags": "enabled",
        "http_tokens_enforced": "enabled",
    }
    over = merged([defaults({name: {"@@assign": value} for name, value in everything.items()})]).over(OWN)
    assert over.http_tokens is HttpTokens.REQUIRED
    assert over.http_put_response_hop_limit == 4
    assert over.http_endpoint is Switch.DISABLED
    assert over.instance_metadata_tags is Switch.ENABLED
    assert over.http_tokens_enforced is Switch.ENABLED


def test_no_preference_takes_the_accounts_own_away() -> None:
    silent = {"http_tokens": "no_preference", "http_put_response_hop_limit": "-1", "http_endpoint": "no_preference"}
    over = merged([defaults({name: {"@@assign": value} for name, value in silent.items()})]).over(OWN)
    assert (over.http_tokens, over.http_put_response_hop_limit, over.http_endpoint) == (None, None, None)


def test_detaching_rolls_back_to_what_the_account_had() -> None:
    before = AccountDefaults(http_tokens=HttpTokens.OPTIONAL, http_put_response_hop_limit=2)
    assert merged([setting("http_tokens", "required")]).over(before) != before
    assert merged([]).over(before) == before, "what lay over it left no trace"


def test_the_exception_message_is_inherited_like_a_setting() -> None:
    message = {"exception_message": {"@@assign": "Ask platform@example.com"}}
    effective = merged([defaults({"http_tokens": {"@@assign": "required"}}, **message)], [])
    assert effective.exception_message == "Ask platform@example.com"
    assert effective.over(OWN).managed_exception_message == "Ask platform@example.com"


# -- what may be written ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "code", "path"),
    [
        ({}, "missing-element", ""),
        ({"tags": {}}, "unknown-element", "tags"),
        ({"ec2_attributes": {}}, "missing-element", "ec2_attributes"),
        ({"ec2_attributes": []}, "wrong-type", "ec2_attributes"),
        ({"ec2_attributes": {"other": {"@@assign": "x"}}}, "unknown-element", "ec2_attributes.other"),
        ({"ec2_attributes": {"@@assign": "x"}}, "wrong-type", "ec2_attributes.@@assign"),
        (defaults({}), "missing-element", "ec2_attributes.instance_metadata_defaults"),
        (defaults({"http_tokens": "required"}), "wrong-type", ".".join(TOKENS)),
        (defaults({"http_port": {"@@assign": "x"}}), "unknown-element", f"{'.'.join(TOKENS[:2])}.http_port"),
        (defaults({"http_tokens": {"@@set": "x"}}), "unknown-operator", f"{'.'.join(TOKENS)}.@@set"),
        (defaults({"http_tokens": {"@@append": ["required"]}}), "wrong-operator", f"{'.'.join(TOKENS)}.@@append"),
        (setting("http_tokens", "no-preference"), "invalid-value", f"{'.'.join(TOKENS)}.@@assign"),
        (setting("http_tokens", True), "invalid-value", f"{'.'.join(TOKENS)}.@@assign"),
        (listed(append="a"), "wrong-type", "ec2_attributes.allowed_images_settings.image_providers.@@append"),
        (
            setting("http_tokens", "required", operators_allowed_for_child_policies=["@@none", "@@assign"]),
            "conflicting-elements",
            f"{'.'.join(TOKENS)}.@@operators_allowed_for_child_policies",
        ),
        (
            setting("http_tokens", "required", operators_allowed_for_child_policies=["@@set"]),
            "unknown-operator",
            f"{'.'.join(TOKENS)}.@@operators_allowed_for_child_policies",
        ),
        (
            setting("http_tokens", "required", operators_allowed_for_child_policies="@@none"),
            "wrong-type",
            f"{'.'.join(TOKENS)}.@@operators_allowed_for_child_policies",
        ),
        (
            {"ec2_attributes": {"exception_message": {"@@assign": 7}}},
            "invalid-value",
            "ec2_attributes.exception_message.@@assign",
        ),
    ],
)  # fmt: skip
def test_a_malformed_policy_names_the_place(document: dict[str, Any], code: str, path: str) -> None:
    with pytest.raises(MalformedPolicy) as caught:
        parsed(document)
    assert (caught.value.problems[0].code, caught.value.problems[0].path) == (code, path)


@pytest.mark.parametrize("value", ["0", "65", "-2", "4.0", "", " 4", "four", 0, 65, 2.5, True, None, "\u0664"])
def test_a_hop_limit_is_a_whole_number_from_1_to_64_or_minus_1(value: Any) -> None:
    with pytest.raises(MalformedPolicy):
        parsed(setting("http_put_response_hop_limit", value))


@pytest.mark.parametrize("value", ["-1", "1", "64", -1, 1, 64])
def test_a_hop_limit_at_its_bounds(value: Any) -> None:
    parsed(setting("http_put_response_hop_limit", value))


def test_every_problem_is_reported_at_once() -> None:
    with pytest.raises(MalformedPolicy) as caught:
        parsed(defaults({"http_tokens": {"@@assign": "v2"}, "http_endpoint": {"@@assign": "on"}}))
    assert [problem.path.split(".")[2] for problem in caught.value.problems] == ["http_tokens", "http_endpoint"]
