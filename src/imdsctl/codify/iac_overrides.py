"""Terraform's override files: `override.tf` and `*_override.tf`, whose blocks go over the like-named of their folder.

Source: Terraform, "Override Files": arguments replace arguments, a nested block replaces all blocks of its type;
`variable` and `module` blocks likewise; files are taken in the order of their names.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from imdsctl.codify.iac_tree import Node, entries, members

_NAME = re.compile(r"(?:.*_)?override\.tf(?:\.json)?")
_OPTIONS = ("metadata", "http_", "configuration", "imds_support", "setting")
"""What arguments and blocks that say something of IMDS have in their names."""


@dataclass(frozen=True, slots=True)
class TerraformFile:
    """A file of a folder. Not `judged`: it only says what names mean."""

    file: str
    folder: str
    root: Node
    judged: bool = True


def overrides(file: str) -> bool:
    """Is it an override file, by its name?"""
    return _NAME.fullmatch(posixpath.basename(file)) is not None


def over(base: Node, other: Node) -> Node:
    """A block with what another says over it; it stands where the other does."""
    return replace(other, value={**base.value, **other.value})


def overridden(files: Sequence[TerraformFile]) -> list[TerraformFile]:
    """The files with each resource once: where an override says something of IMDS, in its file, for that is the place
    to correct; else where it stood, with what the override says."""
    above = sorted((each for each in files if overrides(each.file)), key=lambda each: each.file)
    if not above:
        return list(files)
    told: dict[tuple[str, str, str], list[tuple[str, Node]]] = {}
    for each in above:
        for kind, name, body in _resources(each.root):
            told.setdefault((each.folder, kind, name), []).append((each.file, body))
    places: dict[tuple[str, str, str], tuple[str, Node]] = {}
    for each in files:
        for kind, name, body in () if overrides(each.file) else _resources(each.root):
            key = (each.folder, kind, name)
            if key not in told:
                continue
            merged, where, at = body, each.file, body
            for file, said in told[key]:
                merged = over(merged, said)
                if any(word in argument for argument in said.value for word in _OPTIONS):
                    where, at = file, said
            places[key] = where, replace(merged, line=at.line, column=at.column)
    made = []
    for each in files:
        kept: list[Node] = []
        for kind, name, body in _resources(each.root):
            key = (each.folder, kind, name)
            where, merged = places.get(key, (each.file, body))
            if where == each.file:
                kept.append(Node({kind: Node({name: merged})}, body.line, body.column))
        made.append(replace(each, root=replace(each.root, value={**each.root.value, "resource": Node(tuple(kept))})))
    return made


def _resources(root: Node) -> list[tuple[str, str, Node]]:
    blocks = root.value.get("resource") if isinstance(root.value, dict) else None
    return [
        (kind, name, body)
        for block in entries(blocks)
        for kind, by_name in members(block)
        for name, bodies in members(by_name)
        for body in entries(bodies)
        if isinstance(body.value, dict)
    ]
