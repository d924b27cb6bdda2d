"""Declarative policies merged: whatever is right by itself merges, and what contradicts is told."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from imdsctl.domain.options import AccountDefaults
from imdsctl.policy.declarative import effective_policy, parse_declarative_policy
from imdsctl.policy.problems import MalformedPolicy

VALUES = st.one_of(st.integers(), st.booleans(), st.sampled_from(["enabled", "1", "required"]), st.lists(st.text()))
SETTERS = st.dictionaries(st.sampled_from(["@@assign", "@@append", "@@remove"]), VALUES, min_size=1, max_size=2)
CONTROL = st.fixed_dictionaries(
    {}, optional={"@@operators_allowed_for_child_policies": st.sampled_from([["@@all"], ["@@none"], ["@@append"]])}
)
NODES = st.recursive(
    SETTERS, lambda inner: st.dictionaries(st.sampled_from(["state", "criteria"]), inner, min_size=1), max_leaves=4
)
GROUPS = st.sampled_from(["allowed_images_settings", "image_block_public_access"])
ATTRIBUTES = st.tuples(st.dictionaries(GROUPS, NODES, min_size=1), CONTROL).map(lambda both: both[0] | both[1])


def policy(attributes: dict[str, Any], name: str) -> Any:
    return parse_declarative_policy({"ec2_attributes": attributes}, name=name)


@given(st.lists(st.lists(ATTRIBUTES, max_size=2), max_size=4))
def test_policies_that_are_right_by_themselves_always_merge(levels: list[list[dict[str, Any]]]) -> None:
    read: list[list[Any]] = []
    for number, level in enumerate(levels):
        read.append([])
        for position, attributes in enumerate(level):
            try:
                read[-1].append(policy(attributes, f"{number}.{position}"))
            except MalformedPolicy:
                continue
    effective = effective_policy(read)
    leaves: dict[tuple[str, ...], Any] = {}

    def walk(node: Any, path: tuple[str, ...]) -> None:
        if isinstance(node, dict):
            for name, inner in node.items():
                walk(inner, (*path, name))
        else:
            leaves[path] = node

    walk(effective.document, ())
    assert leaves == {path: setting.value for path, setting in effective.settings.items()}
    assert effective.over(AccountDefaults()) == AccountDefaults()


def test_a_value_does_not_become_a_group_further_down() -> None:
    above = policy({"image_block_public_access": {"state": {"@@assign": "unblocked"}}}, "above")
    below = policy({"image_block_public_access": {"@@assign": "x"}}, "below")
    effective = effective_policy([[above], [below]])
    [conflict] = effective.conflicts
    assert conflict.policies == ("above", "below")
    assert effective.document == {"ec2_attributes": {"image_block_public_access": {"state": "unblocked"}}}


def test_a_list_operator_needs_a_list() -> None:
    above = policy({"allowed_images_settings": {"state": {"@@assign": True}}}, "above")
    below = policy({"allowed_images_settings": {"state": {"@@append": ["x"]}}}, "below")
    effective = effective_policy([[above], [below]])
    assert [conflict.path for conflict in effective.conflicts] == ["ec2_attributes.allowed_images_settings.state"]
    assert effective.document == {"ec2_attributes": {"allowed_images_settings": {"state": True}}}
