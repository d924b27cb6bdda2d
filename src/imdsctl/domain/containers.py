"""Does this look like a container host? Its containers sit one network hop further from the metadata service."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from itertools import chain

CONTAINER_TAG_PREFIXES = (
    "kubernetes.io/",
    "k8s.io/",
    "eks:",
    "aws:eks:",
    "aws:ecs:",
    "karpenter.sh/",
    "karpenter.k8s.aws/",
    "alpha.eksctl.io/",
)
"""Tag keys that EKS, ECS, kops, Karpenter and eksctl put on the hosts that they launch."""

CONTAINER_TAG_KEYS = frozenset({"kubernetescluster", "amazonecsmanaged"})
CONTAINER_WORDS = frozenset(
    {"eks", "ecs", "k8s", "kube", "kubernetes", "kops", "docker", "containers", "nomad", "rancher", "openshift", "ocp"}
)
"""Words that in a name say "containers run here". A heuristic: the cost of a false yes is one hop more."""

_CONTAINER_WORD = re.compile(rf"(?<![a-z0-9])({'|'.join(sorted(CONTAINER_WORDS))})(?![a-z0-9])")
KEYS_REMEMBERED_MAX = 4096
"""A million instances have few tag keys between them."""


def container_evidence(tags: Iterable[tuple[str, str]], *names: str) -> str | None:
    """Why a resource with these tags and names is taken for a container host; None when nothing says so.

    A container behind a bridge network is one hop away from its host: with HttpPutResponseHopLimit 1 the answer to
    its PUT (the token) is dropped (EC2 User Guide, "Considerations for using the IMDS", container environments).
    """
    for key, value in tags:
        kind = _tag_kind(key)
        if kind is None:
            continue
        if kind:
            return kind
        if word := _container_word(value):
            return f"`{word}` in its name"
    for name in names:
        if word := _container_word(name):
            return f"`{word}` in its name"
    return None


def evidence_anywhere(tags_of_each: Iterable[Iterable[tuple[str, str]]]) -> bool:
    """Whether `container_evidence` can say anything of any of these: one look at what is different among them."""
    names = []
    for key, value in set(chain.from_iterable(tags_of_each)):
        kind = _tag_kind(key)
        if kind:
            return True
        if kind is not None:
            names.append(value)
    return _container_word("\n".join(names)) is not None


@lru_cache(maxsize=KEYS_REMEMBERED_MAX)
def _tag_kind(key: str) -> str | None:
    """Why a tag of this key means containers; an empty text for `Name`, whose value may; None for all others."""
    lowered = key.lower()
    if lowered.startswith(CONTAINER_TAG_PREFIXES) or lowered in CONTAINER_TAG_KEYS:
        return f"tag {key}"
    return "" if lowered == "name" else None


def _container_word(name: str) -> str | None:
    found = _CONTAINER_WORD.search(name.lower())
    return found[1] if found else None
