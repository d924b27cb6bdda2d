"""Container hosts by what their tags say: one look at many resources says what a look at each of them would."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from imdsctl.domain.containers import CONTAINER_WORDS, container_evidence, evidence_anywhere

keys = st.sampled_from(["Name", "name", "team", "kubernetes.io/cluster/a", "KubernetesCluster", "aws:ecs:x", ""])
values = st.lists(st.sampled_from([*sorted(CONTAINER_WORDS), "web", "-", "\n", " ", "7", "K8S", "Σ", "İ"])).map("".join)
tags = st.lists(st.tuples(keys, values), max_size=3).map(tuple)


@given(st.lists(tags, max_size=5))
@example([(("Name", "e"),), (("Name", "ks"),)])
@example([(("Name", "x-eks"),), (("team", "eks"),)])
def test_one_look_at_all_finds_what_a_look_at_each_finds(tags_of_each: list[tuple[tuple[str, str], ...]]) -> None:
    assert evidence_anywhere(tags_of_each) == any(container_evidence(each) for each in tags_of_each)


@pytest.mark.parametrize("name", ["eks", "prod-ECS-1", "a.k8s.b"])
def test_a_word_in_a_name_says_containers(name: str) -> None:
    assert evidence_anywhere([(("Name", "web"),), (("Name", name),)])
